//! The routes inside an application's own router.

use axum::{Router, routing::get};
use kf_serve::{ModelRepository, Server};

use crate::{
    client::{self, post},
    models::{ECHO, echo},
};

#[tokio::test]
async fn routes_merge_into_an_application() {
    let models = ModelRepository::new();
    models.insert("echo", "1", echo()).unwrap();
    let server = Server::builder(models).build();
    let app = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .merge(server.router())
        .fallback(|| async { "mine" });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    assert_eq!(client::get(addr, "/hello").await.body, b"hello");
    assert_eq!(client::get(addr, "/other").await.body, b"mine");
    assert_eq!(post(addr, "/v2/models/echo/infer", ECHO).await.status, 200);
    assert_eq!(server.drain().await, 0);
    assert_eq!(client::get(addr, "/v2/health/ready").await.status, 503);
    assert_eq!(post(addr, "/v2/models/echo/infer", ECHO).await.status, 503);
    serving.abort();
}
