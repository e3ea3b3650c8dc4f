//! How many requests a client sends, by what they ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Method, Request, Uri};
use tower::{Layer, Service};

/// Requests by verb and resource, such as `create pods` or `get pods/log`.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Counts what goes through it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<Mutex<Counts>>);

impl Counter {
    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a request asks, in the words of its rights.
fn asks(method: &Method, uri: &Uri) -> String {
    let words: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let within = words.iter().position(|word| *word == "namespaces").map_or(words.len(), |at| at + 2);
    let (resource, named) = match words.get(within..).unwrap_or_default() {
        [resource] => ((*resource).to_owned(), false),
        [resource, _] => ((*resource).to_owned(), true),
        [resource, _, below, ..] => (format!("{resource}/{below}"), true),
        [] => (uri.path().to_owned(), true),
    };
    let watches = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    let verb = match (method.as_str(), named) {
        ("GET", true) => "get",
        ("GET", false) if watches => "watch",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("PUT", _) => "update",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        (other, _) => other,
    };
    format!("{verb} {resource}")
}

/// Those that change something.
pub(crate) fn writes(counts: &Counts) -> u64 {
    let reads = ["get ", "list ", "watch "];
    counts.iter().filter(|(what, _)| !reads.iter().any(|verb| what.starts_with(verb))).map(|(_, n)| n).sum()
}

impl<S> Layer<S> for Counter {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, counter: self.clone() }
    }
}

/// A service whose requests are counted.
pub(crate) struct Counted<S> {
    inner: S,
    counter: Counter,
}

impl<S, A> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let asked = asks(request.method(), request.uri());
        *self.counter.0.lock().unwrap_or_else(PoisonError::into_inner).entry(asked).or_default() += 1;
        self.inner.call(request)
    }
}
