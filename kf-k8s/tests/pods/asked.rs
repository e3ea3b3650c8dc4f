//! What a client asks of the cluster, in the words of its rights.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode, Uri};
use tower::{Layer, Service};

/// What was asked within namespaces: `list batch/jobs`, `get /pods/log`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    all: BTreeSet<String>,
    granted: BTreeSet<String>,
}

impl Asked {
    pub(crate) fn all(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().all.clone()
    }

    /// What was not refused at least once.
    pub(crate) fn granted(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().granted.clone()
    }
}

/// None for what is asked of no namespace.
pub(crate) fn right(method: &Method, uri: &Uri) -> Option<String> {
    let words: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let (group, words) = match words.as_slice() {
        ["api", _, "namespaces", _, rest @ ..] => ("", rest),
        ["apis", group, _, "namespaces", _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (resource, named) = match words {
        [resource] => ((*resource).to_owned(), false),
        [resource, _] => ((*resource).to_owned(), true),
        [resource, _, below] => (format!("{resource}/{below}"), true),
        _ => return None,
    };
    let watches = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    let verb = match (method.as_str(), named) {
        ("GET", true) => "get",
        ("GET", false) if watches => "watch",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return Some(format!("{method} {uri}")),
    };
    Some(format!("{verb} {group}/{resource}"))
}

impl<S> Layer<S> for Asked {
    type Service = Recorded<S>;

    fn layer(&self, inner: S) -> Recorded<S> {
        Recorded { inner, asked: self.clone() }
    }
}

/// A service whose requests are told.
pub(crate) struct Recorded<S> {
    inner: S,
    asked: Asked,
}

impl<S, A, B> Service<Request<A>> for Recorded<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let asked = self.asked.clone();
        let right = right(request.method(), request.uri());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(right) = right {
                let mut told = asked.0.lock().unwrap();
                if answer.status() != StatusCode::FORBIDDEN {
                    told.granted.insert(right.clone());
                }
                told.all.insert(right);
            }
            Ok(answer)
        })
    }
}
