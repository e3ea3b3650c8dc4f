//! A pipeline of one's own whose tasks are pods and whose artifacts are in S3. `docs/kubernetes.md` says how it is run.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use kf_core::artifact::{ArtifactStore, S3Options};
use kf_core::worker::{Workers, run_if_asked};
use kf_k8s::manifests::{self, Endpoint};
use kf_k8s::tasks::{PodExecutor, TaskOptions};
use kf_pipeline::prelude::*;
use kf_pipeline::remote::RemoteTasks;

const NAMESPACE: &str = "team-a";

#[component]
async fn squares(upto: i64, table: Output<Dataset>) -> TaskResult {
    let lines: Vec<String> = (1..=upto).map(|number| (number * number).to_string()).collect();
    table.write(lines.join("\n"))
}

#[component(memory = "256Mi", retries = 1)]
async fn total(table: Input<Dataset>) -> TaskResult<i64> {
    let text = std::fs::read_to_string(table.path()?)?;
    Ok(text.lines().map(str::parse::<i64>).sum::<Result<_, _>>()?)
}

fn components() -> Components {
    Components::new().with::<squares>().with::<total>()
}

/// The same store for the engine and in pods, by the variables `AWS_…`. Of a pod, only `/tmp` can be written.
fn store() -> kf_core::Result<ArtifactStore> {
    ArtifactStore::s3("s3://models/team-a", "/tmp/kf-scratch", S3Options::from_env())
}

fn main() -> ExitCode {
    // In a pod: a task of an engine's, or a container of an exported pipeline.
    let workers = Workers::new().with(RemoteTasks::new(components(), store)).with(components());
    if let Some(code) = run_if_asked(&workers) {
        return code;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["manifests", cidr, port] => print_manifests(cidr, port),
        ["run", image, home] => run(image, home),
        _ => Err("expected `manifests CIDR PORT` of the S3 server, or `run IMAGE HOME`".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_manifests(cidr: &str, port: &str) -> Result<(), Box<dyn Error>> {
    let mut options = manifests::Options::new(NAMESPACE);
    options.kinds.clear(); // no training jobs
    options.egress = vec![Endpoint::tcp(cidr, port.parse()?)];
    print!("{}", kf_k8s::manifests(&options)?.to_yaml()?);
    Ok(())
}

#[tokio::main]
async fn run(image: &str, home: &str) -> Result<(), Box<dyn Error>> {
    let mut options = TaskOptions::new(image);
    options.pod.image_pull_policy = Some("IfNotPresent".into());
    options.pod.service_account = Some("kf-task".into());
    options.pod.secrets = vec!["s3-keys".into()]; // AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
    let told = ["AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ALLOW_HTTP"];
    options.env =
        told.iter().filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?))).collect();
    let pods = PodExecutor::new(kube::Client::try_default().await?, NAMESPACE, store()?, options);
    let engine = Engine::builder().artifacts(store()?).default_executor(Arc::new(pods)).open(home).await?;

    let pipeline = Pipeline::build("squares", |p| {
        let made = p.add(squares(p.param("upto", 100)));
        p.output("total", p.add(total(made.table)).output);
    })?;
    let run = engine.start(&pipeline, args! {}).await?;
    let outcome = run.wait().await?;
    if let Some(error) = &outcome.error {
        return Err(error.as_str().into());
    }
    println!("run {}: the total is {}", run.id(), outcome.output::<i64>("total")?);
    Ok(())
}
