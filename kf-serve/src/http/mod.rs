//! The protocol's REST routes.

mod body;
mod health;
mod infer;
mod metadata;
mod model_path;
mod reply;
mod repository;

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    response::Response,
    routing::{get, post},
};

use crate::server::ServerState;

pub(crate) fn routes(state: Arc<ServerState>) -> Router {
    Router::new()
        .route("/v2", get(metadata::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/{model}", get(metadata::model))
        .route("/v2/models/{model}/versions/{version}", get(metadata::model))
        .route("/v2/models/{model}/ready", get(health::model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(health::model_ready))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload))
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

pub(crate) async fn unknown_path(uri: Uri) -> Response {
    reply::problem(StatusCode::NOT_FOUND, &format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} doesn't take {method}", uri.path());
    reply::problem(axum::http::StatusCode::METHOD_NOT_ALLOWED, &message)
}
