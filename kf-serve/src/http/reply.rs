use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde::Serialize;

use crate::Error;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const LONGEST_MESSAGE: usize = 1000;

/// An answer of JSON text.
pub(super) fn json_text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// An answer of a value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_text(
        status,
        serde_json::to_vec(value).expect("plain structs of strings and numbers are always JSON"),
    )
}

/// An answer that says what is wrong. What a caller sent may be part of the message, so its length is limited.
pub(super) fn problem(status: StatusCode, message: &str) -> Response {
    let end = message.char_indices().nth(LONGEST_MESSAGE).map_or(message.len(), |(at, _)| at);
    let dots = if end < message.len() { "…" } else { "" };
    json(status, &serde_json::json!({ "error": format!("{}{dots}", &message[..end]) }))
}

/// The answer to a request that failed.
pub(super) fn refusal(error: &Error) -> Response {
    let status = status(error);
    if status.is_server_error() {
        tracing::warn!(%error, status = status.as_u16(), "a request failed");
    } else {
        tracing::debug!(%error, status = status.as_u16(), "refused a request");
    }
    let mut response = problem(status, &error.to_string());
    let mut add = |name: HeaderName, value: &'static str| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        add(header::RETRY_AFTER, "1");
    }
    if matches!(error, Error::Draining | Error::SlowBody(_)) {
        add(header::CONNECTION, "close");
    }
    response
}

fn status(error: &Error) -> StatusCode {
    match error {
        Error::InvalidInput(_) => StatusCode::BAD_REQUEST,
        Error::Forbidden(_) => StatusCode::FORBIDDEN,
        Error::UnknownModel { .. } => StatusCode::NOT_FOUND,
        Error::NotInJson(_) => StatusCode::NOT_ACCEPTABLE,
        Error::SlowBody(_) => StatusCode::REQUEST_TIMEOUT,
        Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Error::UnsupportedContent(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Error::NotReady { .. } | Error::Busy { .. } | Error::Draining => StatusCode::SERVICE_UNAVAILABLE,
        Error::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
        Error::Model { .. } | Error::Load { .. } | Error::Bind { .. } | Error::DrainDeadline { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
