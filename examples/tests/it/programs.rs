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
