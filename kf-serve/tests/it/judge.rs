//! Triton's own client as judge.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use kf_serve::{Datatype, FnRuntime, ModelMetadata, ModelRepository, Server, Tensor};

use crate::models::{identity, simple};

/// A Python that has tritonclient: `KF_TEST_PYTHON`, or the workspace's `.venv-test`.
fn python() -> Result<PathBuf, String> {
    let python = env::var_os("KF_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv-test/bin/python"),
        PathBuf::from,
    );
    if !python.exists() {
        return Err(format!("there is no {}", python.display()));
    }
    let found = std::process::Command::new(&python).args(["-c", "import numpy, tritonclient.http"]).output();
    match found {
        Ok(output) if output.status.success() => Ok(python),
        Ok(output) => {
            Err(format!("{} has no tritonclient[http]: {}", python.display(), last_line(&output.stderr)))
        }
        Err(error) => Err(format!("{} can't be run: {error}", python.display())),
    }
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().last().unwrap_or("").to_owned()
}

#[tokio::test]
async fn tritonclient_is_content() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            println!("JUDGE tritonclient skipped: {reason}");
            let required = env::var("KF_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name.trim() == "triton"), "{reason}");
            return;
        }
    };
    let models =
        ModelRepository::open(env!("CARGO_MANIFEST_DIR"), |_: &Path| Ok::<_, kf_serve::BoxError>(simple()))
            .unwrap();
    models.insert("simple", "1", simple()).unwrap();
    for datatype in Datatype::ALL {
        models.insert(&format!("identity_{datatype}"), "1", identity(datatype, &[-1, -1])).unwrap();
    }
    let metadata = ModelMetadata::new("rust").output("OUT", Datatype::Fp32, [3]);
    let not_finite = FnRuntime::new(metadata, |_| {
        Ok(vec![Tensor::from_vec("OUT", [3], vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY])?])
    });
    models.insert("not_finite", "1", not_finite).unwrap();
    let server =
        Server::builder(models).model_control(true).body_limit(4 << 20).bind("127.0.0.1:0").await.unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/tritonclient_http.py");
    let judged = tokio::process::Command::new(python)
        .arg(script)
        .arg(server.addr().to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let judged = tokio::time::timeout(std::time::Duration::from_secs(120), judged)
        .await
        .expect("the judge hangs")
        .unwrap();
    assert!(
        judged.status.success(),
        "{}{}",
        String::from_utf8_lossy(&judged.stdout),
        String::from_utf8_lossy(&judged.stderr)
    );
    println!("JUDGE tritonclient passed");
}
