//! The short programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn pipeline_runs_and_comes_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let output =
            Command::new(env!("CARGO_BIN_EXE_pipeline")).current_dir(folder.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let first = run();
    assert!(first.contains("3 (183 of them)"), "{first}");
    assert!(first.contains("SUCCEEDED: 5 tasks ran, 0 came from the cache"), "{first}");
    let second = run();
    assert!(second.contains("SUCCEEDED: 1 tasks ran, 4 came from the cache"), "{second}");
}

#[test]
fn an_environment_variable_that_is_no_text_stops_nobody() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pipeline"))
        .current_dir(folder.path())
        .env("ODD", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn serving_answers() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_serving")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.split("http://").nth(1).unwrap().split(';').next().unwrap();
    let body = r#"{"inputs":[{"name":"celsius","datatype":"FP32","shape":[2],"data":[0,100]}]}"#;
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /v2/models/temperature/infer HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("[32") && answer.contains("212"), "{answer}");
}

#[cfg(feature = "torch")]
#[test]
fn training_finds_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_training")).current_dir(folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().last().unwrap().trim_start_matches("y = ").replace("x +", "");
    let found: Vec<f64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!((found[0] - 3.0).abs() < 0.1 && (found[1] + 1.0).abs() < 0.1, "{text}");
}

fn run_ir(home: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_run_ir"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--json").arg("--home").arg(home).args(args);
    command
}

#[test]
fn compiled_pipelines_run_and_say_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = run_ir(&folder.path().join("home"), args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let json: serde_json::Value = serde_json::from_str(text.lines().last().unwrap_or("null")).unwrap();
        (output.status.code(), json, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, json, errors) = run(&["data/hello.yaml"]);
    assert_eq!((code, &json["state"]), (Some(0), &"SUCCEEDED".into()), "{json} {errors}");
    assert_eq!(json["outputs"], serde_json::json!({"Output": 5}));
    let names: Vec<&str> =
        json["tasks"].as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"for-loop-1[1]/greet") && names.contains(&"longest"), "{names:?}");
    let (code, json, _) = run(&["data/hello.yaml", "--param", "names=[\"Ada\"]"]);
    assert_eq!((code, &json["outputs"]["Output"]), (Some(0), &3.into()), "{json}");

    let hello = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/hello.yaml")).unwrap();
    let dangling = folder.path().join("dangling.yaml");
    std::fs::write(&dangling, hello.replace("name: comp-longest", "name: comp-gone")).unwrap();
    for (args, says) in [
        (&["data/hello.yaml", "--param", "names=1"][..], "argument `names`: expected a list"),
        (&["data/hello.yaml", "--param", "other=1"], "has no such parameter"),
        (&["data/README.md"], "data/README.md: pipeline file"),
        (&[dangling.to_str().unwrap()], "dangling.yaml: pipeline, line "),
        (&["data/absent.yaml"], "data/absent.yaml: "),
    ] {
        let (code, json, errors) = run(args);
        assert_eq!((code, &json["state"]), (Some(2), &"INVALID".into()), "{json}");
        assert!(errors.contains(says) && json["error"].as_str().unwrap().contains(says), "{errors}");
    }
    let fails = hello.replace("return max(lengths)", "raise OSError('no lengths')");
    std::fs::write(folder.path().join("fails.yaml"), fails).unwrap();
    let (code, json, _) = run(&[folder.path().join("fails.yaml").to_str().unwrap()]);
    assert_eq!((code, &json["state"]), (Some(1), &"FAILED".into()), "{json}");
    assert!(json["error"].as_str().unwrap().contains("OSError: no lengths"), "{json}");
}

#[test]
fn no_step_outlives_a_killed_program() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/hello.yaml")).unwrap();
    let sleeps = format!(
        "import os, time\\n    open('{}', 'a').write(f'{{os.getpid()}} {{os.getppid()}}\\\\n')\\n    time.sleep(100)\\n    return len(name)",
        pids.display()
    );
    assert!(text.contains("return len(name)"));
    std::fs::write(folder.path().join("sleeps.yaml"), text.replace("return len(name)", &sleeps)).unwrap();
    let file = folder.path().join("sleeps.yaml");
    let mut child = run_ir(&folder.path().join("home"), &[file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(&pids).unwrap_or_default();
    for _ in 0..600 {
        if read().lines().count() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(read().lines().count(), 2, "the steps did not start");
    child.kill().unwrap();
    child.wait().unwrap();
    let alive = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    for pid in read().split_whitespace() {
        for _ in 0..100 {
            if !alive(pid) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(!alive(pid), "process {pid} is still there");
    }
}

#[cfg(feature = "pods")]
#[test]
fn pods_prints_what_its_namespace_needs() {
    let pods = |words: &[&str]| Command::new(env!("CARGO_BIN_EXE_k8s_tasks")).args(words).output().unwrap();
    let output = pods(&["manifests", "10.20.0.7/32", "9000"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["name: team-a", "name: kf-engine", "name: kf-task", "10.20.0.7/32", "port: 9000"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // It launches no jobs.
    assert!(!text.contains("- jobs"), "{text}");
    let output = pods(&["manifests"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("`run IMAGE HOME`"), "{text}");
}
