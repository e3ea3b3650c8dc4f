//! What the protocol says, asked over HTTP.

use kf_serve::{Datatype, FnRuntime, ModelMetadata, ModelRepository, ServerHandle, Tensor};
use serde_json::{Value, json};

use crate::{
    client::{Client, get, post},
    models::{ECHO, constant, echo, identity, serve, simple},
};

async fn server() -> ServerHandle {
    let models = ModelRepository::new();
    models.insert("echo", "1", echo()).unwrap();
    models.insert("simple", "1", simple()).unwrap();
    models.insert("simple", "2", simple()).unwrap();
    for datatype in Datatype::ALL {
        models.insert(datatype.name(), "1", identity(datatype, &[-1])).unwrap();
    }
    serve(&models).await
}

#[tokio::test]
async fn health_and_metadata() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    assert_eq!(client.get("/v2/health/live").await.json(), json!({"live": true}));
    assert_eq!(client.get("/v2/health/ready").await.json(), json!({"ready": true}));
    let about = client.get("/v2").await.json();
    assert_eq!(about["name"], "kf-serve");
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert!(about["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));

    let metadata = client.get("/v2/models/simple").await.json();
    assert_eq!(metadata["name"], "simple");
    assert_eq!(metadata["versions"], json!(["1", "2"]));
    assert_eq!(metadata["platform"], "rust");
    assert_eq!(metadata["inputs"][1], json!({"name": "INPUT1", "datatype": "INT32", "shape": [-1, 16]}));
    assert_eq!(client.get("/v2/models/simple/versions/1").await.json()["versions"], json!(["1"]));
    for path in ["/v2/models/simple/ready", "/v2/models/simple/versions/2/ready"] {
        assert_eq!(client.get(path).await.json(), json!({"name": "simple", "ready": true}));
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_says_what_is() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    for (method, path, message) in [
        ("GET", "/v2/models/none", "echo"),
        ("GET", "/v2/models/none/ready", "echo"),
        ("POST", "/v2/models/none/infer", "echo"),
        ("POST", "/v2/models/simple/versions/3/infer", "its versions are 1, 2"),
        ("GET", "/v2/models/simple/versions/x", "its versions are 1, 2"),
        ("GET", "/v2/none", "/v2/none"),
        ("GET", "/", "there is nothing at /"),
        ("GET", "/v2/models/a%2Fb", "a/b"),
    ] {
        let answer = client.request(method, path, &[], ECHO).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().contains(message), "{path}: {}", answer.error());
    }
    for (method, path, allowed) in [
        ("GET", "/v2/models/echo/infer", "POST"),
        ("POST", "/v2/models/echo", "GET"),
        ("DELETE", "/v2/health/live", "GET"),
        ("GET", "/v2/repository/index", "POST"),
    ] {
        let answer = client.request(method, path, &[], "").await;
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.error().contains(method));
        assert!(answer.header("allow").is_some_and(|allow| allow.contains(allowed)), "{answer:?}");
    }
    assert_eq!(client.get("/v2/models/%ff").await.status, 400);
}

#[tokio::test]
async fn json_in_and_out() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    let answer = client.post("/v2/models/echo/infer", ECHO).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        json!({"model_name": "echo", "model_version": "1", "outputs": [
            {"name": "OUT", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.5, -3.0, 4.0]}]})
    );

    let row = |from: i32| (from..from + 16).collect::<Vec<_>>();
    let request = json!({"id": "a \"b\"", "parameters": {"anything": 1.5, "text": "a", "none": null}, "unknown": 1,
        "inputs": [
            {"data": [row(10)], "datatype": "INT32", "shape": [1, 16], "name": "INPUT1"},
            {"name": "INPUT0", "shape": [1, 16], "datatype": "INT32", "data": row(0), "parameters": {}}],
        "outputs": [{"name": "OUTPUT1"}]});
    let answer = client.post("/v2/models/simple/infer", request.to_string()).await.json();
    assert_eq!(answer["id"], "a \"b\"");
    assert_eq!(answer["model_version"], "2");
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(answer["outputs"][0]["data"], json!(vec![-10; 16]));
    let answer = client.post("/v2/models/simple/versions/1/infer", request.to_string()).await.json();
    assert_eq!(answer["model_version"], "1");
}

#[tokio::test]
async fn every_datatype_comes_back_as_json_and_binary() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    for datatype in Datatype::ALL {
        let data = match datatype {
            Datatype::Bool => json!([true, false, true]),
            Datatype::Bytes => json!(["", "ä\n", "\"quoted\""]),
            Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => {
                json!([0.5, "NaN", "-Infinity"])
            }
            _ => json!([0, 1, 127]),
        };
        let path = format!("/v2/models/{datatype}/infer");
        let mut request =
            json!({"inputs": [{"name": "IN", "shape": [3], "datatype": datatype.name(), "data": data}]});
        let answer = client.post(&path, request.to_string()).await;
        assert_eq!(answer.status, 200, "{datatype}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json()["outputs"][0]["data"], data, "{datatype}");

        // The same out in binary, and that back in.
        request["parameters"] = json!({"binary_data_output": true});
        let answer = client.post(&path, request.to_string()).await;
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        let (head, blob) = answer.binary();
        assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], blob.len(), "{datatype}");
        assert_eq!(head["outputs"][0].get("data"), None);
        let head = json!({"inputs": [{"name": "IN", "shape": [3], "datatype": datatype.name(),
            "parameters": {"binary_data_size": blob.len()}}]})
        .to_string();
        let length = head.len().to_string();
        let headers = [("Inference-Header-Content-Length", length.as_str())];
        let answer = client.request("POST", &path, &headers, [head.as_bytes(), blob].concat()).await;
        assert_eq!(answer.json()["outputs"][0]["data"], data, "{datatype}");
    }
}

#[tokio::test]
async fn each_output_in_the_form_asked_for() {
    let server = server().await;
    let input =
        |name: &str| json!({"name": name, "shape": [1, 16], "datatype": "INT32", "data": vec![1; 16]});
    let request = json!({"inputs": [input("INPUT0"), input("INPUT1")], "outputs": [
        {"name": "OUTPUT1", "parameters": {"binary_data": true}},
        {"name": "OUTPUT0", "parameters": {"binary_data": false}}]});
    let answer = post(server.addr(), "/v2/models/simple/infer", request.to_string()).await;
    let (head, blob) = answer.binary();
    assert_eq!(head["outputs"][0]["name"], "OUTPUT1");
    assert_eq!(blob, [0; 64]);
    assert_eq!(head["outputs"][1]["data"], json!(vec![2; 16]));
}

#[tokio::test]
async fn a_raw_body_is_the_one_input() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    let raw = [("inference-header-content-length", "0"), ("content-type", "application/octet-stream")];
    let floats: Vec<u8> =
        [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let answer = client.request("POST", "/v2/models/echo/infer", &raw, &floats).await;
    let (head, blob) = answer.binary();
    assert_eq!(head["outputs"][0]["shape"], json!([2, 4]));
    assert_eq!(blob, floats);
    let answer = client.request("POST", "/v2/models/BYTES/infer", &raw, "text").await;
    assert_eq!(answer.binary().1, b"\x04\0\0\0text");
    for (model, body) in [("echo", &floats[..7]), ("simple", &floats), ("BOOL", b"\x02")] {
        let answer = client.request("POST", &format!("/v2/models/{model}/infer"), &raw, body).await;
        assert_eq!(answer.status, 400);
        answer.error();
    }
}

#[tokio::test]
async fn the_index_lists_versions_and_filters() {
    let models = ModelRepository::new();
    models.insert("a", "2", constant(2)).unwrap();
    models.insert("a", "10", constant(10)).unwrap();
    let failed = models.load_from("b", "1", std::path::Path::new("/"), |_: &std::path::Path| {
        Err::<FnRuntime<fn(kf_serve::Inputs) -> _>, _>("no such model")
    });
    assert!(failed.await.is_err());
    let server = serve(&models).await;
    let index = post(server.addr(), "/v2/repository/index", "").await.json();
    let list = |index: &Value| -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entries = index.as_array().unwrap().iter();
        entries.map(|entry| (text(&entry["name"]), text(&entry["version"]), text(&entry["state"]))).collect()
    };
    let expected = |entries: &[(&str, &str, &str)]| -> Vec<(String, String, String)> {
        entries.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
    };
    assert_eq!(
        list(&index),
        expected(&[("a", "2", "READY"), ("a", "10", "READY"), ("b", "1", "UNAVAILABLE")])
    );
    assert!(index[2]["reason"].as_str().unwrap().contains("no such model"));
    let ready = post(server.addr(), "/v2/repository/index", r#"{"ready": true}"#).await.json();
    assert_eq!(list(&ready), expected(&[("a", "2", "READY"), ("a", "10", "READY")]));
    assert_eq!(post(server.addr(), "/v2/repository/index", "{").await.status, 400);

    // A model of which no version serves keeps the server from being ready.
    let ready = get(server.addr(), "/v2/health/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.error().contains("no such model"), "{}", ready.error());
    let answer = post(server.addr(), "/v2/models/b/infer", r#"{"inputs":[]}"#).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.error().contains("no such model"));
}

#[tokio::test]
async fn a_models_own_faults_are_500_and_the_server_goes_on() {
    let models = ModelRepository::new();
    let metadata = || ModelMetadata::new("rust").output("OUT", Datatype::Fp32, [1]);
    let out = |name: &str, values: Vec<f32>| Tensor::from_vec(name, [values.len()], values);
    models.insert("panics", "1", FnRuntime::new(metadata(), |_| panic!("out of luck"))).unwrap();
    models
        .insert("panics-inline", "1", FnRuntime::new(metadata(), |_| panic!("out of luck")).inline())
        .unwrap();
    models.insert("fails", "1", FnRuntime::new(metadata(), |_| Err("no such weight".into()))).unwrap();
    models
        .insert("other-name", "1", FnRuntime::new(metadata(), move |_| Ok(vec![out("X", vec![1.0])?])))
        .unwrap();
    models
        .insert("other-shape", "1", FnRuntime::new(metadata(), move |_| Ok(vec![out("OUT", vec![1.0; 2])?])))
        .unwrap();
    models.insert("nothing", "1", FnRuntime::new(metadata(), |_| Ok(vec![]))).unwrap();
    models
        .insert("busy", "1", FnRuntime::new(metadata(), |_| Err(kf_serve::Error::Draining.into())))
        .unwrap();
    models
        .insert(
            "picky",
            "1",
            FnRuntime::new(metadata(), |_| Err(kf_serve::Error::invalid_input("not that value").into())),
        )
        .unwrap();
    models
        .insert("nan", "1", FnRuntime::new(metadata(), move |_| Ok(vec![out("OUT", vec![f32::NAN])?])))
        .unwrap();
    let server = serve(&models).await;
    let mut client = Client::connect(server.addr()).await;
    for (model, status, message) in [
        ("panics", 500, "model `panics/1` failed: it panicked: out of luck"),
        ("panics-inline", 500, "out of luck"),
        ("fails", 500, "no such weight"),
        ("other-name", 500, "no output `OUT`"),
        ("other-shape", 500, "FP32[2] instead of FP32[1]"),
        ("nothing", 500, "0 outputs instead of 1"),
        ("busy", 500, "shutting down"),
        ("picky", 400, "not that value"),
    ] {
        let answer = client.post(&format!("/v2/models/{model}/infer"), r#"{"inputs":[]}"#).await;
        assert_eq!(answer.status, status, "{model}");
        assert!(answer.error().contains(message), "{model}: {}", answer.error());
    }
    let answer = client.post("/v2/models/nan/infer", r#"{"inputs":[]}"#).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!(["NaN"]));
}

#[tokio::test]
async fn bytes_that_are_no_text_need_binary() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    let raw = [("inference-header-content-length", "0")];
    let answer = client.request("POST", "/v2/models/BYTES/infer", &raw, b"\xff").await;
    assert_eq!(answer.binary().1, b"\x01\0\0\0\xff");
    let head =
        r#"{"inputs":[{"name":"IN","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}"#;
    let length = head.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let body = [head.as_bytes(), b"\x01\0\0\0\xff"].concat();
    let answer = client.request("POST", "/v2/models/BYTES/infer", &headers, body).await;
    assert_eq!(answer.status, 406);
    assert!(answer.error().contains("binary_data"), "{}", answer.error());
}
