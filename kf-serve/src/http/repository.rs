use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time;

use super::{
    body,
    model_path::ModelPath,
    reply::{json, refusal},
};
use crate::{Error, ModelState, Result, runtime::Parameters, server::ServerState};

const BODY_LIMIT: usize = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(10);

#[derive(Default, Deserialize)]
struct IndexRequest {
    /// Only the versions that serve.
    #[serde(default)]
    ready: bool,
}

#[derive(Default, Deserialize)]
struct ControlRequest {
    #[serde(default)]
    parameters: Parameters,
}

pub(super) async fn index(State(state): State<Arc<ServerState>>, request: Request) -> Response {
    let wanted: IndexRequest = match read(request.into_body()).await {
        Ok(wanted) => wanted,
        Err(error) => return refusal(&error),
    };
    let models = state.models.clone();
    match tokio::task::spawn_blocking(move || models.index()).await {
        Ok(mut index) => {
            index.retain(|status| !wanted.ready || status.state == ModelState::Ready);
            json(StatusCode::OK, &index)
        }
        Err(_) => refusal(&Error::Draining),
    }
}

pub(super) async fn load(
    State(state): State<Arc<ServerState>>,
    path: ModelPath,
    request: Request,
) -> Response {
    let loaded = async {
        check_control(&state, request.into_body()).await?;
        state.models.load(&path.model, None).await
    };
    done(loaded.await.map(drop))
}

pub(super) async fn unload(
    State(state): State<Arc<ServerState>>,
    path: ModelPath,
    request: Request,
) -> Response {
    let unloaded = async {
        check_control(&state, request.into_body()).await?;
        state.models.unload(&path.model, None).await
    };
    done(unloaded.await)
}

async fn check_control(state: &ServerState, body: Body) -> Result<()> {
    if !state.model_control {
        return Err(Error::Forbidden("this server doesn't let callers load and unload models".into()));
    }
    let request: ControlRequest = read(body).await?;
    match request.parameters.keys().find(|name| *name == "config" || name.starts_with("file:")) {
        Some(name) => Err(Error::InvalidInput(format!(
            "the parameter {name:?} isn't supported; put the files in place"
        ))),
        None => Ok(()),
    }
}

async fn read<T: DeserializeOwned + Default>(mut body: Body) -> Result<T> {
    let body = time::timeout(BODY_TIME, body::read(&mut body, BODY_LIMIT))
        .await
        .map_err(|_| Error::SlowBody(BODY_TIME))??;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body)
        .map_err(|error| Error::InvalidInput(format!("the body can't be read: {error}")))
}

fn done(result: Result<()>) -> Response {
    match result {
        Ok(()) => json(StatusCode::OK, &json!({})),
        Err(error) => refusal(&error),
    }
}
