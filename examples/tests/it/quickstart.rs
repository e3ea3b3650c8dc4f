//! The quickstart: run, run again, run otherwise, killed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

fn command(home: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.arg("--home").arg(home).arg("--json").args(more);
    command
}

fn run(home: &Path, more: &[&str]) -> Json {
    let output = command(home, more).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn the_second_run_comes_from_the_cache_and_other_rates_run_what_depends_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &["--rates", "0.03,0.1"]);
    assert_eq!((&first["state"], &first["ranks"]), (&Json::from("SUCCEEDED"), &Json::from(2)));
    assert!(first["accuracy"].as_f64().unwrap() >= 0.95, "{first}");
    let over_http = first["endpoint_accuracy"].as_f64().unwrap();
    assert!((over_http - first["accuracy"].as_f64().unwrap()).abs() < 1e-6, "{first}");
    assert_eq!(first["version"], 1);
    // Importer, split, two fits, the choice, evaluation, registration and report.
    assert_eq!((&first["tasks"]["succeeded"], &first["tasks"]["cached"]), (&8.into(), &0.into()));
    let report = std::fs::read_to_string(first["report"].as_str().unwrap()).unwrap();
    assert!(report.contains("pick-best") && report.contains("<svg"));

    // Importing, registering and reporting are done anew; everything else is known.
    let second = run(folder.path(), &["--rates", "0.03,0.1"]);
    assert_eq!((&second["tasks"]["succeeded"], &second["tasks"]["cached"]), (&3.into(), &5.into()));
    assert_eq!((&second["version"], &second["accuracy"]), (&first["version"], &first["accuracy"]));

    // One fit more, and what follows from it.
    let third = run(folder.path(), &["--rates", "0.03,0.1,0.0001"]);
    assert_eq!(third["state"], "SUCCEEDED");
    let cached = third["tasks"]["cached"].as_u64().unwrap();
    assert!((3..=4).contains(&cached), "{third}");
}

#[test]
fn killed_at_any_moment_it_goes_on_and_registers_one_version() {
    let folder = tempfile::tempdir().unwrap();
    let rates = ["--rates", "0.03,0.1"];
    // About as long as a run takes, in steps that fall on different parts of it.
    for step in 1..=8_u64 {
        let mut child =
            command(folder.path(), &rates).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(300 * step);
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let last = run(folder.path(), &rates);
    let elsewhere = tempfile::tempdir().unwrap();
    let undisturbed = run(elsewhere.path(), &rates);
    for same in ["state", "accuracy", "version"] {
        assert_eq!(last[same], undisturbed[same], "{same}: {last} is not {undisturbed}");
    }
    assert_eq!((&last["state"], &last["version"]), (&Json::from("SUCCEEDED"), &Json::from(1)));
    let again = run(folder.path(), &rates);
    assert_eq!(again["version"], 1);
    let versions = versions(folder.path());
    assert_eq!(versions, 1);
}

fn versions(home: &Path) -> usize {
    use kf_registry::Registry;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let registry = kf_registry::SqliteRegistry::open(home.join("registry.sqlite")).await.unwrap();
        registry.versions(&"digits".parse().unwrap(), Default::default()).await.unwrap().items.len()
    })
}
