use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use tokio::time::{self, Instant};

use super::{
    body::{self, Blobs},
    model_path::ModelPath,
    reply::{json_text, refusal},
};
use crate::{
    BoxError, Error, Execution, Inputs, Result, Tensor,
    panic_message::panic_message,
    protocol::{Answer, Layout, read_request, write_answer},
    repository::Served,
    server::ServerState,
};

const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Bodies up to this size are read, and answered by inline runtimes, on the thread that serves the connection.
const INLINE_BODY: usize = 64 << 10;

pub(super) async fn infer(
    State(state): State<Arc<ServerState>>,
    path: ModelPath,
    request: Request,
) -> Response {
    let (parts, mut body) = request.into_parts();
    let answered = match state.admission.enter() {
        Ok(_place) => answer(&state, &path, &parts.headers, &mut body).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(answer) => reply(answer),
        Err(error) => {
            body::discard(&parts.headers, &mut body).await;
            refusal(&error)
        }
    }
}

async fn answer(
    state: &ServerState,
    path: &ModelPath,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Answer> {
    let allowed = state.limits.deadline;
    let deadline = Instant::now() + allowed;
    let layout = layout(headers)?;
    let served = state.models.get(&path.model, path.version.as_deref())?;
    let body = time::timeout_at(deadline, body::read(body, state.limits.body))
        .await
        .map_err(|_| Error::SlowBody(allowed))??;
    let carried_out = async {
        let turn = state.admission.turn().await;
        if served.runtime.execution() == Execution::Inline && body.len() <= INLINE_BODY {
            return run(&served, &body, layout);
        }
        // The turn goes along: a model that runs past the deadline still counts as running.
        let work = tokio::task::spawn_blocking(move || {
            let answer = run(&served, &body, layout);
            drop(turn);
            answer
        });
        match work.await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => panic::resume_unwind(panic),
                // The tokio runtime is on its way out.
                Err(_) => Err(Error::Draining),
            },
        }
    };
    time::timeout_at(deadline, carried_out).await.map_err(|_| Error::Deadline(allowed))?
}

/// From a request's body to its answer's.
fn run(served: &Served, body: &Bytes, layout: Layout) -> Result<Answer> {
    let metadata = served.runtime.metadata();
    let request = read_request(metadata, body, layout)?;
    let inputs = Inputs::new(request.inputs).with_parameters(request.parameters);
    let tensors = call(served, inputs)?;
    metadata.check_outputs(&tensors).map_err(|message| fault(served, message))?;
    write_answer(&served.answer_start, request.id.as_deref(), &request.outputs, tensors)
}

fn call(served: &Served, inputs: Inputs) -> Result<Vec<Tensor>> {
    match panic::catch_unwind(AssertUnwindSafe(|| served.runtime.infer(inputs))) {
        Ok(Ok(tensors)) => Ok(tensors),
        Ok(Err(error)) => Err(blame(served, error)),
        Err(panic) => Err(fault(served, format!("it panicked: {}", panic_message(&*panic)))),
    }
}

/// Whose fault a runtime's error is.
fn blame(served: &Served, error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) if matches!(*error, Error::InvalidInput(_)) => *error,
        Ok(error) => fault(served, error.to_string()),
        Err(error) => fault(served, error.to_string()),
    }
}

fn fault(served: &Served, message: String) -> Error {
    Error::Model { model: format!("{}/{}", served.model, served.version), message }
}

/// What the headers say of the body.
fn layout(headers: &HeaderMap) -> Result<Layout> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Error::UnsupportedContent(format!(
            "the body's Content-Encoding {encoding:?} isn't supported; send it uncompressed"
        )));
    }
    if let Some(content_type) = headers.get(header::CONTENT_TYPE) {
        let essence = content_type.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
        // curl sends the third unless it is told otherwise.
        let taken = ["application/json", "application/octet-stream", "application/x-www-form-urlencoded"];
        if !taken.iter().any(|taken| taken.eq_ignore_ascii_case(essence)) {
            return Err(Error::UnsupportedContent(format!(
                "the body's Content-Type {content_type:?} isn't supported; send application/json or \
                 application/octet-stream"
            )));
        }
    }
    match headers.get(&JSON_LENGTH) {
        None => Ok(Layout::Json),
        Some(length) => match length.to_str().ok().and_then(|length| length.trim().parse().ok()) {
            Some(0) => Ok(Layout::Raw),
            Some(length) => Ok(Layout::Binary(length)),
            None => Err(Error::InvalidInput(format!(
                "Inference-Header-Content-Length is a number of bytes, found {length:?}"
            ))),
        },
    }
}

fn reply(answer: Answer) -> Response {
    let Some(blobs) = answer.blobs else { return json_text(StatusCode::OK, answer.json) };
    let json_length = HeaderValue::from(answer.json.len());
    let mut response = Response::new(Body::new(Blobs::new(answer.json, blobs)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(JSON_LENGTH, json_length);
    response
}
