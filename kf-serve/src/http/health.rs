use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::json;

use super::{
    model_path::ModelPath,
    reply::{json, refusal},
};
use crate::{Error, server::ServerState};

pub(super) async fn live() -> Response {
    json(StatusCode::OK, &json!({ "live": true }))
}

/// Ready: not shutting down, and every model has a version that serves.
pub(super) async fn ready(State(state): State<Arc<ServerState>>) -> Response {
    let reason = if state.admission.is_draining() {
        Some(Error::Draining.to_string())
    } else {
        state.models.unready()
    };
    match reason {
        None => json(StatusCode::OK, &json!({ "ready": true })),
        Some(reason) => json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "error": reason })),
    }
}

pub(super) async fn model_ready(State(state): State<Arc<ServerState>>, path: ModelPath) -> Response {
    if state.admission.is_draining() {
        return refusal(&Error::Draining);
    }
    match state.models.get(&path.model, path.version.as_deref()) {
        Ok(_) => json(StatusCode::OK, &json!({ "name": path.model, "ready": true })),
        Err(error) => refusal(&error),
    }
}
