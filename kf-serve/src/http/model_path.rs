use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
    response::Response,
};

use super::reply::refusal;
use crate::Error;

/// The model that a path names, and its version where it names one.
pub(super) struct ModelPath {
    pub(super) model: String,
    pub(super) version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| refusal(&Error::InvalidInput(format!("the path can't be read: {error}"))))?;
        let mut path = Self { model: String::new(), version: None };
        for (name, value) in &params {
            match name {
                "model" => value.clone_into(&mut path.model),
                "version" => path.version = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(path)
    }
}
