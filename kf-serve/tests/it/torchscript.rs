//! TorchScript modules from a folder.

use std::{fs, path::Path};

use kf_serve::{
    Datatype, Inputs, ModelRepository, Runtime, Tensor, TensorSpec, TorchScript, testing::runtime_conforms,
};
use serde_json::json;
use tch::{CModule, Kind};

use crate::{client::post, models::serve};

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.into() }
}

fn traced(kind: Kind, mut forward: impl FnMut(&tch::Tensor) -> tch::Tensor) -> CModule {
    let sample = tch::Tensor::zeros([1, 2], (kind, tch::Device::Cpu));
    CModule::create_by_tracing("Test", "forward", &[sample], &mut |inputs: &[tch::Tensor]| {
        vec![forward(&inputs[0])]
    })
    .unwrap()
}

fn save_doubling(root: &Path, version: &str) {
    let folder = root.join("double").join(version);
    fs::create_dir_all(&folder).unwrap();
    let (inputs, outputs) =
        (vec![spec("x", Datatype::Fp32, &[-1, 2])], vec![spec("y", Datatype::Fp32, &[-1, 2])]);
    TorchScript::new(traced(Kind::Float, |x| x * 2), inputs, outputs).unwrap().save(&folder).unwrap();
}

#[tokio::test]
async fn a_saved_module_is_served_and_a_broken_one_is_not() {
    let root = tempfile::tempdir().unwrap();
    save_doubling(root.path(), "1");
    let models = ModelRepository::open(root.path(), TorchScript::load).unwrap();
    models.load("double", None).await.unwrap();
    let server = serve(&models).await;
    let request =
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 2], "data": [1, 2, 3, 4, 5, 6.5]}]});
    let ask = || post(server.addr(), "/v2/models/double/infer", request.to_string());
    let answer = ask().await.json();
    assert_eq!(answer["outputs"][0]["shape"], json!([3, 2]));
    assert_eq!(answer["outputs"][0]["data"], json!([2.0, 4.0, 6.0, 8.0, 10.0, 13.0]));

    save_doubling(root.path(), "2");
    let folder = root.path().join("double/2");
    for (file, content, message) in [
        ("model.json", &b"{"[..], "model.json can't be read"),
        ("model.json", br#"{"inputs":[],"outputs":[],"more":1}"#, "unknown field"),
        (
            "model.json",
            br#"{"inputs":[{"name":"x","datatype":"BYTES","shape":[1]}],"outputs":[]}"#,
            "no BYTES",
        ),
        ("model.pt", b"no module", "no TorchScript module"),
        ("model.pt", b"", "no TorchScript module"),
    ] {
        save_doubling(root.path(), "2");
        fs::write(folder.join(file), content).unwrap();
        let error = models.load("double", None).await.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    fs::remove_file(folder.join("model.pt")).unwrap();
    assert!(models.load("double", None).await.unwrap_err().to_string().contains("model.pt is missing"));
    assert_eq!(ask().await.json()["model_version"], "1");
}

#[test]
fn datatypes_cross_unchanged() {
    for (kind, tensor) in [
        (Kind::Bool, Tensor::from_vec("x", [1, 2], vec![true, false])),
        (Kind::Uint8, Tensor::from_vec("x", [1, 2], vec![1_u8, 255])),
        (Kind::Int8, Tensor::from_vec("x", [1, 2], vec![-128_i8, 1])),
        (Kind::Int16, Tensor::from_vec("x", [1, 2], vec![i16::MIN, 1])),
        (Kind::Int, Tensor::from_vec("x", [1, 2], vec![i32::MIN, 1])),
        (Kind::Int64, Tensor::from_vec("x", [1, 2], vec![i64::MIN, 1])),
        (Kind::Half, Tensor::from_vec("x", [1, 2], vec![kf_serve::f16::from_f32(0.5), kf_serve::f16::MAX])),
        (
            Kind::BFloat16,
            Tensor::from_vec("x", [1, 2], vec![kf_serve::bf16::from_f32(0.5), kf_serve::bf16::MAX]),
        ),
        (Kind::Float, Tensor::from_vec("x", [1, 2], vec![0.1_f32, f32::NAN])),
        (Kind::Double, Tensor::from_vec("x", [1, 2], vec![0.1_f64, f64::INFINITY])),
    ] {
        let tensor = tensor.unwrap();
        let datatype = tensor.datatype();
        let module = traced(kind, |x| x.transpose(0, 1).contiguous().transpose(0, 1));
        let specs = |name: &str| vec![spec(name, datatype, &[-1, 2])];
        let runtime = TorchScript::new(module, specs("x"), specs("y")).unwrap();
        runtime_conforms(&runtime, vec![tensor.clone()]).unwrap();
        let given = runtime.infer(Inputs::new(vec![tensor.clone()])).unwrap();
        assert_eq!(given, [tensor.renamed("y")], "{datatype}");
    }
}

#[test]
fn a_trained_network_is_traced_and_read_back() {
    use tch::nn::{self, Module};
    let folder = tempfile::tempdir().unwrap();
    let mut variables = nn::VarStore::new(tch::Device::Cpu);
    let net = nn::seq()
        .add(nn::linear(variables.root() / "hidden", 2, 8, nn::LinearConfig::default()))
        .add_fn(|x| x.relu())
        .add(nn::linear(variables.root() / "out", 8, 3, nn::LinearConfig::default()));
    let sample = [tch::Tensor::rand([1, 2], (Kind::Float, tch::Device::Cpu))];
    let (inputs, outputs) =
        (vec![spec("x", Datatype::Fp32, &[-1, 2])], vec![spec("y", Datatype::Fp32, &[-1, 3])]);
    let trace = || TorchScript::trace(inputs.clone(), outputs.clone(), &sample, |x| vec![net.forward(&x[0])]);
    let error = trace().unwrap_err().to_string();
    assert!(error.contains("can't be traced") && error.contains("grad"), "{error}");
    variables.freeze();
    trace().unwrap().save(folder.path()).unwrap();
    let served = TorchScript::load(folder.path()).unwrap();
    let values = [0.5_f32, -1.0, 2.0, 0.0, 1.0, 1.0, -3.0, 0.25];
    let expected = net.forward(&tch::Tensor::from_slice(&values).view([4, 2]));
    let given =
        served.infer(Inputs::new(vec![Tensor::from_vec("x", [4, 2], values.to_vec()).unwrap()])).unwrap();
    let expected = Vec::<f32>::try_from(expected.flatten(0, -1)).unwrap();
    for (given, expected) in given[0].values::<f32>().unwrap().iter().zip(&expected) {
        assert!((given - expected).abs() < 1e-6, "{given} instead of {expected}");
    }
}

#[test]
fn a_modules_failure_is_an_error_that_says_why() {
    let weights = tch::Tensor::ones([2, 3], (Kind::Float, tch::Device::Cpu));
    let module = traced(Kind::Float, |x| x.matmul(&weights));
    let specs = |name: &str, shape: &[i64]| vec![spec(name, Datatype::Fp32, shape)];
    let runtime = TorchScript::new(module, specs("x", &[-1, -1]), specs("y", &[-1, 3])).unwrap();
    let wide = Tensor::from_vec("x", [1, 4], vec![0.0_f32; 4]).unwrap();
    let error = runtime.infer(Inputs::new(vec![wide])).unwrap_err().to_string();
    assert!(!error.is_empty() && !error.contains('\n'), "{error}");
}
