//! What trains with libtorch, on a real cluster: in the image of `k8s_quickstart`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests, in a binary of their own main")]

mod cluster;
mod image;
mod life;
mod train;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use self::cluster::Namespace;

const JUDGE: &str = "kubernetes-torch";

fn main() -> ExitCode {
    // A launcher in this process has ranks of its own to start.
    if let Some(code) = kf_core::worker::run_if_asked(&examples::quickstart::workers()) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Each trains on all cores.
    arguments.test_threads.get_or_insert(2);
    // Who runs all tests does so once the others have ended.
    if std::env::var_os("KF_PODS").is_some() {
        return ExitCode::SUCCESS;
    }
    let runtime = Arc::new(Runtime::new().unwrap());
    let client = match runtime.block_on(cluster::client()).and_then(|client| image::import().map(|()| client))
    {
        Ok(client) if !arguments.list => client,
        Ok(_) => return ExitCode::SUCCESS,
        Err(why) => {
            println!("JUDGE {JUDGE} skipped: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let kinds = runtime.block_on(cluster::carried(&client));
    let trials = [train::trials(&runtime, &client, &kinds), life::trials(&runtime, &client, &kinds)];
    let ended = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    if !ended.has_failed() {
        println!("JUDGE {JUDGE} passed");
    }
    ended.exit_code()
}

/// A test in a namespace of its own, which goes afterwards.
fn trial<F>(
    runtime: &Arc<Runtime>,
    client: &kube::Client,
    name: &str,
    test: impl FnOnce(Namespace) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    let (runtime, client) = (runtime.clone(), client.clone());
    let namespace = format!("kf-{}-{}", name.replace("::", "-").replace('_', "-"), std::process::id());
    Trial::test(name, move || {
        runtime.block_on(async {
            let given = Namespace::new(&client, &namespace).await;
            // A panic is the test's end, and the namespace goes all the same.
            let local = tokio::task::LocalSet::new();
            let ended = local.run_until(async { tokio::task::spawn_local(test(given)).await }).await;
            cluster::remove(&client, &namespace).await;
            ended.map_err(|error| Failed::from(error.to_string()))
        })
    })
}
