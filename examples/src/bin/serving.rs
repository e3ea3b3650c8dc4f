//! Serving and nothing else: a Rust function behind the Open Inference Protocol, until Ctrl-C.
//!
//! `cargo run -p examples --bin serving -- 127.0.0.1:8000`

use kf_serve::{BoxError, Datatype, FnRuntime, ModelMetadata, ModelRepository, Server, Tensor};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let metadata = ModelMetadata::new("rust").input("celsius", Datatype::Fp32, [-1]).output(
        "fahrenheit",
        Datatype::Fp32,
        [-1],
    );
    let convert = FnRuntime::new(metadata, |inputs| {
        let celsius = inputs.tensor("celsius")?.values::<f32>()?;
        let fahrenheit: Vec<f32> = celsius.iter().map(|celsius| celsius * 1.8 + 32.0).collect();
        Ok(vec![Tensor::from_vec("fahrenheit", [fahrenheit.len()], fahrenheit)?])
    });

    let models = ModelRepository::new();
    models.insert("temperature", "1", convert.inline())?;
    let server = Server::builder(models).bind(&*address).await?;
    let body = r#"{"inputs":[{"name":"celsius","datatype":"FP32","shape":[2],"data":[0,100]}]}"#;
    println!("serving at {}; try:\ncurl -d '{body}' {0}/v2/models/temperature/infer", server.url());
    tokio::signal::ctrl_c().await?;
    println!("draining");
    server.shutdown().await?;
    Ok(())
}
