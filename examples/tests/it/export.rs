//! Exported pipelines: judged by upstream's SDK, and run as upstream runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

/// Reads the IR as `kfp` does: as a component, and as the message of its specification.
const JUDGE: &str = r#"
import sys, warnings, yaml
warnings.simplefilter("ignore")
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2
text = open(sys.argv[1]).read()
component = components.load_component_from_text(text)
spec = json_format.ParseDict(next(yaml.safe_load_all(text)), pipeline_spec_pb2.PipelineSpec())
print(component.name, len(spec.components), sorted(component.component_spec.inputs or {}))
"#;

/// A Python that has kfp: `KF_TEST_PYTHON`, or the workspace's `.venv-test`.
fn python() -> Result<PathBuf, String> {
    let python = std::env::var_os("KF_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv-test/bin/python"),
        PathBuf::from,
    );
    let found = Command::new(&python).args(["-c", "import kfp.pipeline_spec, yaml"]).output();
    match found {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err(format!("{} has no kfp", python.display())),
    }
}

fn compile(name: &str) -> String {
    let program = env!("CARGO_BIN_EXE_compile");
    let output = Command::new(program).args([name, "--program", program]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn upstreams_sdk_takes_every_exported_pipeline() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            println!("JUDGE kfp-sdk skipped: {reason}");
            let required = std::env::var("KF_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name.trim() == "kfp-sdk"), "{reason}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let expected = [
        ("means", "means 4 ['labels']"),
        ("reader", "reader 17 ['budget', 'seeds']"),
        #[cfg(feature = "torch")]
        ("quickstart", "digits 10 ['rates', 'seed']"),
    ];
    for (name, expected) in expected {
        let file = folder.path().join(name);
        std::fs::write(&file, compile(name)).unwrap();
        let output = Command::new(&python).arg("-c").arg(JUDGE).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let ok = output.status.success() && said.trim() == expected;
        if !ok {
            println!("JUDGE kfp-sdk failed: {name}");
        }
        assert!(ok, "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    println!("JUDGE kfp-sdk passed");
}

/// The outputs of a run's tasks by name.
fn outputs(json: &Json) -> Vec<(String, Json, Vec<Json>)> {
    let mut tasks: Vec<_> = json["tasks"].as_array().unwrap().iter().collect();
    tasks.sort_by_key(|task| task["name"].as_str());
    let digests = |task: &Json| {
        let lists = task["artifacts"].as_object().into_iter().flatten().map(|(_, list)| list);
        lists.flat_map(|list| list.as_array().unwrap()).map(|artifact| artifact["digest"].clone()).collect()
    };
    tasks
        .iter()
        .map(|task| (task["name"].as_str().unwrap().to_owned(), task["outputs"].clone(), digests(task)))
        .collect()
}

#[test]
fn exported_containers_give_what_the_pipeline_gives_in_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("means.yaml");
    std::fs::write(&file, compile("means")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_run_ir"))
        .arg(&file)
        .args(["--json", "--image", "kf.local/*", "--env", "LD_LIBRARY_PATH", "--home"])
        .arg(folder.path().join("containers"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let containers: Json = serde_json::from_str(text.lines().last().unwrap()).unwrap();

    let here = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let engine = kf_pipeline::Engine::open(folder.path().join("here")).await.unwrap();
        let subprocesses = examples::means::pipeline().unwrap().file().unwrap();
        // In process, not in a copy of this test.
        let text = serde_json::to_string(&subprocesses).unwrap().replace("\"subprocess\"", "\"in-process\"");
        let file = serde_json::from_str(&text).unwrap();
        let pipeline = kf_pipeline::Pipeline::from_file(file, examples::means::components()).unwrap();
        let run = engine.start(&pipeline, kf_pipeline::Args::new()).await.unwrap();
        run.wait().await.unwrap();
        engine.report(run.id()).await.unwrap()
    });
    let mut expected: Vec<_> = here
        .tasks
        .iter()
        .map(|task| {
            let digests = task.output_artifacts.iter().map(|io| serde_json::json!(io.artifact.digest));
            (task.path.clone(), Json::Object(task.outputs.clone()), digests.collect::<Vec<_>>())
        })
        .collect();
    expected.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    assert_eq!(outputs(&containers), expected);
    assert!(expected.len() >= 5, "{expected:?}");
}

#[tokio::test]
async fn the_reader_takes_the_branch_that_its_budget_allows() {
    let home = tempfile::tempdir().unwrap();
    let engine = kf_pipeline::Engine::open(home.path()).await.unwrap();
    let pipeline = examples::reader::pipeline().unwrap();
    for (budget, sizes) in [(10, "[10]"), (100, "[100]"), (5000, "[1258]")] {
        let args = kf_pipeline::args! {"budget" => budget, "seeds" => [7]};
        let run = engine.start(&pipeline, args).await.unwrap();
        assert_eq!(run.wait().await.unwrap().error, None);
        let report = engine.report(run.id()).await.unwrap();
        let said: String = report.task("exit-handler-2/compare").unwrap().output("Output").unwrap();
        assert!(said.contains(sizes), "{said}");
        let accuracy: f64 =
            report.task("exit-handler-2/for-loop-1[0]/score").unwrap().output("Output").unwrap();
        // A hundred pictures are not better than ten means.
        assert!(accuracy > 0.75 && (budget != 5000 || accuracy > 0.95), "{budget}: {accuracy}");
        assert_eq!(report.task("tell").unwrap().output::<String>("Output").unwrap(), "SUCCEEDED");
    }
}
