//! Loading, replacing and unloading, under requests.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use kf_serve::{
    BoxError, Datatype, Error, FnRuntime, ModelMetadata, ModelRepository, ModelState, Runtime, Server, Tensor,
};
use serde_json::json;

use crate::{
    client::{Client, get, post},
    models::{Gate, NO_INPUTS, constant, gated, serve},
};

/// A model that is the number in a file, and panics where the file says so.
fn load_number(folder: &Path) -> Result<Box<dyn Runtime>, BoxError> {
    let text = fs::read_to_string(folder.join("number"))?;
    assert!(text.trim() != "panic", "what a file");
    Ok(Box::new(constant(text.trim().parse()?)))
}

fn write_number(root: &Path, model: &str, version: &str, text: &str) {
    let folder = root.join(model).join(version);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("number"), text).unwrap();
}

async fn answer(addr: std::net::SocketAddr, path: &str) -> i64 {
    let answer = post(addr, &format!("/v2/models/{path}/infer"), NO_INPUTS).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["outputs"][0]["data"][0].as_i64().unwrap()
}

#[tokio::test]
async fn the_latest_version_answers_unless_one_is_named() {
    let models = ModelRepository::new();
    models.insert("m", "9", constant(9)).unwrap();
    models.insert("m", "10", constant(10)).unwrap();
    models.insert("m", "canary", constant(0)).unwrap();
    let server = serve(&models).await;
    assert_eq!(models.versions("m"), ["canary", "9", "10"]);
    assert_eq!(answer(server.addr(), "m").await, 10);
    assert_eq!(answer(server.addr(), "m/versions/9").await, 9);
    assert_eq!(answer(server.addr(), "m/versions/canary").await, 0);
    models.unload("m", Some("10")).await.unwrap();
    assert_eq!(answer(server.addr(), "m").await, 9);
    models.unload("m", None).await.unwrap();
    assert!(!models.is_ready("m", None));
    assert_eq!(get(server.addr(), "/v2/models/m").await.status, 404);
    assert!(matches!(models.unload("m", None).await, Err(Error::UnknownModel { .. })));
}

#[tokio::test]
async fn a_failed_reload_keeps_the_old_model() {
    let folder = tempfile::tempdir().unwrap();
    let models = ModelRepository::open(folder.path(), load_number).unwrap();
    write_number(folder.path(), "m", "1", "1");
    write_number(folder.path(), "m", "2", "2");
    assert_eq!(models.index().len(), 2);
    assert_eq!(models.load("m", None).await.unwrap(), "2");
    let server = serve(&models).await;
    assert_eq!(answer(server.addr(), "m").await, 2);
    for (text, message) in [("no number", "invalid digit"), ("panic", "the loader panicked: what a file")] {
        write_number(folder.path(), "m", "2", text);
        let error = models.load("m", Some("2")).await.unwrap_err();
        assert!(matches!(error, Error::Load { .. }));
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(answer(server.addr(), "m").await, 2);
        let status = models.index().into_iter().find(|status| status.version == "2").unwrap();
        assert_eq!(status.state, ModelState::Ready);
        assert!(status.reason.contains(message), "{}", status.reason);
    }
    // A newer version that can't be loaded doesn't take over either.
    write_number(folder.path(), "m", "3", "no number");
    assert!(models.load("m", None).await.is_err());
    assert_eq!(answer(server.addr(), "m").await, 2);
    assert_eq!(get(server.addr(), "/v2/models/m/versions/3/ready").await.status, 503);
    assert_eq!(get(server.addr(), "/v2/health/ready").await.status, 200);
    write_number(folder.path(), "m", "3", "3");
    models.load("m", None).await.unwrap();
    assert_eq!(answer(server.addr(), "m").await, 3);
}

#[tokio::test]
async fn requests_under_way_finish_on_the_old_model_which_then_goes() {
    let (gate, models) = (Gate::default(), ModelRepository::new());
    let weights = Arc::new(());
    let held: Weak<()> = Arc::downgrade(&weights);
    let old = gate.clone();
    let metadata = ModelMetadata::new("rust").output("OUT", Datatype::Int32, [1]);
    let old_model = FnRuntime::new(metadata, move |_| {
        let _weights = &weights;
        old.wait();
        Ok(vec![Tensor::from_vec("OUT", [1], vec![1_i32])?])
    });
    models.insert("m", "1", old_model).unwrap();
    let server = Server::builder(models.clone()).max_running(4).bind("127.0.0.1:0").await.unwrap();
    let mut under_way = Client::connect(server.addr()).await;
    under_way.send("POST", "/v2/models/m/infer", &[], NO_INPUTS).await;
    gate.arrivals(1).await;
    models.insert("m", "1", constant(2)).unwrap();
    assert_eq!(answer(server.addr(), "m").await, 2);
    models.unload("m", None).await.unwrap();
    assert!(held.upgrade().is_some());
    gate.open();
    assert_eq!(under_way.answer().await.json()["outputs"][0]["data"], json!([1]));
    let dropped = async {
        while held.strong_count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(crate::client::PATIENCE, dropped).await.expect("the old model stays in memory");
}

#[tokio::test]
async fn a_model_is_loading_until_it_is_loaded_even_if_the_caller_leaves() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("m/1")).unwrap();
    let gate = Gate::default();
    let waits = gate.clone();
    let models = ModelRepository::open(folder.path(), move |_: &Path| {
        waits.wait();
        Ok::<_, BoxError>(constant(1))
    })
    .unwrap();
    let server = serve(&models).await;
    let loading = tokio::spawn({
        let models = models.clone();
        async move { models.load("m", None).await }
    });
    gate.arrivals(1).await;
    assert_eq!(models.index()[0].state, ModelState::Loading);
    let early = post(server.addr(), "/v2/models/m/infer", NO_INPUTS).await;
    assert_eq!(early.status, 503);
    assert!(early.error().contains("first load is under way"), "{}", early.error());
    assert_eq!(get(server.addr(), "/v2/health/ready").await.status, 503);
    loading.abort();
    gate.open();
    // Loads of one model come one after another: this one ends after the first.
    models.load("m", None).await.unwrap();
    assert_eq!(gate.arrived(), 2);
    assert_eq!(answer(server.addr(), "m").await, 1);
}

#[tokio::test]
async fn concurrent_replacing_never_fails_a_request() {
    let models = ModelRepository::new();
    models.insert("m", "1", constant(0)).unwrap();
    let server = Server::builder(models.clone()).max_waiting(1000).bind("127.0.0.1:0").await.unwrap();
    let (addr, stop) = (server.addr(), Arc::new(AtomicBool::new(false)));
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let (mut client, mut last) = (Client::connect(addr).await, 0);
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.post("/v2/models/m/infer", NO_INPUTS).await;
                    assert_eq!(answer.status, 200);
                    let value = answer.json()["outputs"][0]["data"][0].as_i64().unwrap();
                    assert!(value >= last, "went back from {last} to {value}");
                    last = value;
                }
                last
            })
        })
        .collect();
    for value in 1..=200 {
        let model = constant(value);
        models.load_from("m", &value.to_string(), Path::new("/"), one_time(model)).await.unwrap();
        if value > 1 {
            models.unload("m", Some(&(value - 1).to_string())).await.unwrap();
        }
    }
    let settled = answer(addr, "m").await;
    stop.store(true, Ordering::SeqCst);
    for client in asking {
        assert!(client.await.unwrap() > 0);
    }
    assert_eq!((settled, models.versions("m")), (200, vec!["200".to_owned()]));
}

/// A loader that gives this runtime away the first time.
fn one_time(model: impl Runtime) -> impl kf_serve::Loader {
    let model = std::sync::Mutex::new(Some(model));
    move |_: &Path| model.lock().unwrap().take().ok_or("taken already")
}

#[tokio::test]
async fn callers_load_and_unload_where_they_may() {
    let folder = tempfile::tempdir().unwrap();
    write_number(folder.path(), "m", "1", "1");
    write_number(folder.path(), "broken", "1", "x");
    fs::create_dir_all(folder.path().join("empty")).unwrap();
    let models = ModelRepository::open(folder.path(), load_number).unwrap();
    let closed = serve(&models).await;
    let answer_ = post(closed.addr(), "/v2/repository/models/m/load", "").await;
    assert_eq!(answer_.status, 403);
    answer_.error();

    let server = Server::builder(models.clone()).model_control(true).bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::connect(server.addr()).await;
    assert_eq!(client.post("/v2/repository/models/m/load", "").await.status, 200);
    assert_eq!(answer(server.addr(), "m").await, 1);
    assert_eq!(client.post("/v2/repository/models/m/unload", r#"{"parameters":{}}"#).await.status, 200);
    for (path, body, status, message) in [
        ("m/unload", "", 404, "m"),
        ("none/load", "", 404, "broken, empty, m"),
        ("empty/load", "", 404, "empty"),
        ("broken/load", "", 500, "invalid digit"),
        ("m/load", "{", 400, "can't be read"),
        ("m/load", r#"{"parameters":{"config":"{}"}}"#, 400, "config"),
        ("..%2F..%2Fetc/load", "", 400, "single part of a path"),
        ("%2E%2E/load", "", 400, "single part of a path"),
        ("a%00b/load", "", 400, "control character"),
    ] {
        let answer = client.post(&format!("/v2/repository/models/{path}"), body).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.error().contains(message), "{path}: {}", answer.error());
    }
}

#[test]
fn runtimes_conform_or_are_told_what_they_did() {
    use kf_serve::testing::runtime_conforms;
    let row = |name: &str| Tensor::from_vec(name, [1, 16], vec![1_i32; 16]).unwrap();
    runtime_conforms(&crate::models::simple(), vec![row("INPUT1"), row("INPUT0")]).unwrap();
    assert!(runtime_conforms(&crate::models::simple(), vec![row("INPUT1")]).is_err());
    let metadata = || ModelMetadata::new("rust").output("OUT", Datatype::Int32, [1]);
    assert!(runtime_conforms(&FnRuntime::new(metadata(), |_| Ok(vec![])), vec![]).is_err());
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let tires = FnRuntime::new(metadata(), move |_| {
        assert!(calls.fetch_add(1, Ordering::SeqCst) < 5, "tired");
        Ok(vec![Tensor::from_vec("OUT", [1], vec![1_i32])?])
    });
    let error = runtime_conforms(&tires, vec![]).unwrap_err().to_string();
    assert!(error.contains("panicked"), "{error}");
}

#[tokio::test]
async fn names_and_metadata_that_cannot_be_are_refused() {
    let models = ModelRepository::new();
    let long = "x".repeat(256);
    for name in ["", ".", "..", "a/b", "a\\b", "a\nb", &long] {
        assert!(matches!(models.insert(name, "1", constant(1)), Err(Error::InvalidInput(_))), "{name:?}");
        assert!(matches!(models.insert("m", name, constant(1)), Err(Error::InvalidInput(_))), "{name:?}");
    }
    let twice =
        ModelMetadata::new("rust").output("OUT", Datatype::Int32, [1]).output("OUT", Datatype::Int32, [1]);
    assert!(models.insert("m", "1", FnRuntime::new(twice, |_| Ok(vec![]))).is_err());
    assert!(models.index().is_empty());
    assert!(ModelRepository::open("/no/such/folder", load_number).is_err());
    assert!(models.load("m", None).await.is_err());
    let _ = gated(&Gate::default(), 1);
}
