use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;

use super::{
    model_path::ModelPath,
    reply::{json, refusal},
};
use crate::{ModelMetadata, server::ServerState};

#[derive(Serialize)]
struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 2],
}

#[derive(Serialize)]
struct NamedMetadata<'a> {
    name: &'a str,
    versions: Vec<String>,
    #[serde(flatten)]
    metadata: &'a ModelMetadata,
}

pub(super) async fn server() -> Response {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    json(
        StatusCode::OK,
        &ServerMetadata { name, version, extensions: ["binary_tensor_data", "model_repository"] },
    )
}

pub(super) async fn model(State(state): State<Arc<ServerState>>, path: ModelPath) -> Response {
    match state.models.get(&path.model, path.version.as_deref()) {
        Ok(served) => {
            let versions =
                path.version.map_or_else(|| state.models.versions(&path.model), |version| vec![version]);
            let metadata = served.runtime.metadata();
            json(StatusCode::OK, &NamedMetadata { name: &served.model, versions, metadata })
        }
        Err(error) => refusal(&error),
    }
}
