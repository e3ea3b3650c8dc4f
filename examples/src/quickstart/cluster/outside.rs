//! Who starts the engine's pod, and tells what comes of it.

use std::process::ExitCode;
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kf_serve::BoxError;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::{Api, Client};

use super::stage::{Stage, stage};
use super::{CLAIM, ENGINE, Options, objects};

/// How long until the cluster is asked again.
const AGAIN: Duration = Duration::from_millis(300);

/// Makes what is not there yet, starts the engine's pod, passes on what it prints, and prints its summary.
///
/// Where the engine runs already, it is followed. It goes on when this process ends.
///
/// # Errors
/// What the cluster refuses, and why the engine's pod does not start.
pub async fn start(options: &Options) -> Result<ExitCode, BoxError> {
    let client = Client::try_default().await?;
    let made = kf_k8s::manifests::Options::new(&options.namespace);
    kf_k8s::manifests(&made)?.apply(&client).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &options.namespace);
    if claims.get_opt(CLAIM).await?.is_none() {
        claims.create(&PostParams::default(), &objects::claim(options)?).await?;
    }
    let pods: Api<Pod> = Api::namespaced(client, &options.namespace);
    start_engine(&pods, &objects::engine(options, &made.engine)?).await?;
    eprintln!(
        "the engine is pod `{ENGINE}` of namespace `{}`; it goes on without this program",
        options.namespace
    );
    let (code, words) = follow(&pods).await?;
    if !words.starts_with('{') {
        return Err(format!("the engine has ended with code {code} and no summary: {words}").into());
    }
    if options.json {
        println!("{words}");
    }
    Ok(if code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the engine's pod, unless it runs; one that has ended makes room.
async fn start_engine(pods: &Api<Pod>, engine: &Pod) -> Result<(), BoxError> {
    loop {
        let Some(there) = pods.get_opt(ENGINE).await? else {
            match pods.create(&PostParams::default(), engine).await {
                // Another one was faster.
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        };
        let leaves = there.metadata.deletion_timestamp.is_some();
        match stage(&there) {
            _ if leaves => {}
            Stage::Ended { .. } | Stage::Waits { hopeless: true, .. } => {
                pods.delete(ENGINE, &DeleteParams::default()).await?;
            }
            Stage::Waits { .. } | Stage::Runs => {
                eprintln!("there is an engine already, with what it was told when it was started");
                return Ok(());
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Passes on what the engine prints until it has ended, and gives its exit code and its last words.
async fn follow(pods: &Api<Pod>) -> Result<(i32, String), BoxError> {
    let (mut told, mut lines) = (String::new(), 0);
    loop {
        match stage(&pods.get(ENGINE).await?) {
            Stage::Waits { reason, hopeless: true } => {
                return Err(format!("the engine's pod does not start: {reason}").into());
            }
            Stage::Waits { reason, .. } if reason != told => {
                eprintln!("waiting for the engine's pod: {reason}");
                told = reason;
            }
            Stage::Waits { .. } => {}
            Stage::Runs => pass_on(pods, &mut lines).await?,
            Stage::Ended { code, words } => {
                pass_on(pods, &mut lines).await?;
                return Ok((code, words));
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Passes on the lines that were not passed on yet, until there are no more or the connection breaks.
async fn pass_on(pods: &Api<Pod>, lines: &mut usize) -> Result<(), BoxError> {
    let log = LogParams { follow: true, ..LogParams::default() };
    let mut stream = std::pin::pin!(pods.log_stream(ENGINE, &log).await?.lines());
    let mut line = 0;
    while let Ok(Some(text)) = stream.try_next().await {
        line += 1;
        if line > *lines {
            eprintln!("{text}");
            *lines = line;
        }
    }
    Ok(())
}
