//! Jobs as pods of a real cluster: this program is the image of their ranks.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests, in a binary of their own main")]

mod cluster;
mod conformance;
mod image;
mod jobs;
mod trouble;
#[cfg(feature = "argo")]
mod workflows;

use std::process::ExitCode;
use std::sync::Arc;

use kf_core::worker::{Workers, run_if_asked};
use kf_k8s::train::{Kind, KubeLauncher, PodOptions};
use kf_train::{Rank, ranks};
use kube::Client;
use libtest_mimic::{Arguments, Failed, Trial};

use self::cluster::TestNamespace;

/// What every test gets: a launcher for a namespace of its own.
struct Given {
    client: Client,
    namespace: String,
}

impl Given {
    fn launcher(&self, kind: Kind) -> Arc<KubeLauncher> {
        Arc::new(self.launcher_of(kind, self.options()))
    }

    fn launcher_of(&self, kind: Kind, options: PodOptions) -> KubeLauncher {
        KubeLauncher::new(self.client.clone(), &self.namespace, kind, options)
    }

    fn options(&self) -> PodOptions {
        let mut options = PodOptions::new(image::NAME);
        options.image_pull_policy = Some("IfNotPresent".into());
        options
    }
}

fn main() -> ExitCode {
    let double = |_: &Rank, number: u64| Ok::<_, String>(number * 2);
    let workers = Workers::new().with(ranks("double", double));
    #[cfg(feature = "argo")]
    let workers = workers.with(workflows::components());
    if let Some(code) = run_if_asked(&workers) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // They wait for the cluster most of the time.
    arguments.test_threads.get_or_insert(6);
    // Who runs all tests does so once the others have ended.
    if std::env::var("KF_PODS").is_ok_and(|when| when == "later") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(cluster::client());
    let ready = found.and_then(|client| image::import().map(|()| client));
    let client = match ready {
        Ok(client) if !arguments.list => client,
        Ok(_) => return ExitCode::SUCCESS,
        Err(why) => {
            println!("JUDGE kubernetes skipped: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let runtime = Arc::new(runtime);
    let trials = [conformance::trials, jobs::trials, trouble::trials];
    let trials = trials.into_iter().flat_map(|of| of(&runtime, &client));
    #[cfg(feature = "argo")]
    let trials = trials.chain(workflows::trials(&runtime, &client));
    let trials = trials.collect();
    let ended = libtest_mimic::run(&arguments, trials);
    if !ended.has_failed() {
        println!("JUDGE kubernetes passed");
    }
    ended.exit_code()
}

/// A test in a namespace of its own, which goes afterwards.
fn trial<F>(
    runtime: &Arc<tokio::runtime::Runtime>,
    client: &Client,
    name: &str,
    test: impl FnOnce(Given) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    let (runtime, client) = (runtime.clone(), client.clone());
    let of = name.rsplit("::").next().unwrap_or(name).replace('_', "-");
    Trial::test(name, move || {
        runtime.block_on(async {
            let namespace = TestNamespace::new(&client, &of).await;
            let given = Given { client, namespace: namespace.name.clone() };
            // A panic is the test's end, and the namespace goes all the same.
            let local = tokio::task::LocalSet::new();
            let ended = local.run_until(async { tokio::task::spawn_local(test(given)).await }).await;
            namespace.remove().await;
            ended.map_err(|error| Failed::from(error.to_string()))
        })
    })
}
