//! A client that has the cluster refuse what it would drop.

use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use tower::{Layer, Service};

/// Has what is created and changed checked as strictly as the cluster can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strict {
    /// Whether nothing of it is kept.
    pub(crate) dry: bool,
}

impl<S> Layer<S> for Strict {
    type Service = Strictly<S>;

    fn layer(&self, inner: S) -> Strictly<S> {
        Strictly { inner, asks: *self }
    }
}

/// A service that is asked so.
pub(crate) struct Strictly<S> {
    inner: S,
    asks: Strict,
}

impl<S, A> Service<Request<A>> for Strictly<S>
where
    S: Service<Request<A>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        if matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
            *request.uri_mut() = self.asks.of(request.uri());
        }
        self.inner.call(request)
    }
}

impl Strict {
    /// The same, asked so.
    fn of(self, uri: &Uri) -> Uri {
        let mut query: Vec<_> = uri.query().unwrap_or_default().split('&').collect();
        query.retain(|pair| !pair.is_empty() && !pair.starts_with("fieldValidation="));
        query.push("fieldValidation=Strict");
        if self.dry {
            query.push("dryRun=All");
        }
        let mut parts = uri.clone().into_parts();
        let path = format!("{}?{}", uri.path(), query.join("&"));
        parts.path_and_query = Some(PathAndQuery::try_from(path).unwrap());
        Uri::from_parts(parts).unwrap()
    }
}
