//! Jobs as pods of a real cluster: this program is the image of their ranks.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests, in a binary of their own main")]

mod asked;
mod attempts;
mod chosen;
mod cluster;
mod conformance;
mod elastic;
mod faults;
mod functions;
mod gangs;
mod image;
mod jobs;
mod manifests;
mod reasons;
mod rights;
mod strict;
mod suspended;
mod tasks;
mod trouble;
mod workflows;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kf_core::worker::{Workers, run_if_asked};
use kf_k8s::manifests::Options;
use kf_k8s::train::{Kind, KubeLauncher, PodOptions};
use kf_train::{Rank, ranks};
use kube::api::PostParams;
use kube::{Api, Client};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;

use self::asked::Asked;
use self::chosen::{Chosen, judge};
use self::cluster::TestNamespace;

/// What every test gets: a launcher for a namespace of its own, with the rights that a platform team gives it.
#[derive(Clone)]
struct Given {
    /// With all rights, for what a test looks at from outside.
    admin: Client,
    /// With the rights of who launches, and of these kinds alone.
    engine: Client,
    /// What was asked with those.
    asked: Asked,
    namespace: String,
}

impl Given {
    fn launcher(&self, kind: Kind) -> Arc<KubeLauncher> {
        Arc::new(self.launcher_of(kind, self.options()))
    }

    fn launcher_of(&self, kind: Kind, options: PodOptions) -> KubeLauncher {
        KubeLauncher::new(self.engine.clone(), &self.namespace, kind, options)
    }

    /// A quota of the namespace, by these limits, from when it holds.
    async fn quota(&self, name: &str, hard: serde_json::Value) -> Api<ResourceQuota> {
        let quotas: Api<ResourceQuota> = Api::namespaced(self.admin.clone(), &self.namespace);
        let quota = json!({"metadata": {"name": name}, "spec": {"hard": hard}});
        quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
        // It counts from when its first count is made.
        while quotas.get(name).await.unwrap().status.and_then(|status| status.hard).is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        quotas
    }

    fn options(&self) -> PodOptions {
        let mut options = PodOptions::new(image::NAME);
        options.image_pull_policy = Some("IfNotPresent".into());
        options.service_account = Some("kf-task".into());
        options
    }
}

fn main() -> ExitCode {
    let double = |_: &Rank, number: u64| Ok::<_, String>(number * 2);
    let workers = functions::add_to(
        Workers::new()
            .with(ranks("double", double))
            .with(ranks("meet", gangs::meet))
            .with(workflows::components()),
    );
    if let Some(code) = run_if_asked(&tasks::workers(workers)) {
        return code;
    }
    if let Some(code) = elastic::agent() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    let chosen = match Chosen::of_environment() {
        Ok(Some(chosen)) => chosen,
        // Who runs all tests does so once the others have ended.
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    // They wait for the cluster most of the time.
    arguments.test_threads.get_or_insert(if chosen == Chosen::Restarts { 1 } else { 6 });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(cluster::client());
    let ready = found.and_then(|client| image::import().map(|()| client));
    let ready = ready.and_then(|client| runtime.block_on(tasks::store::start(&client)).map(|()| client));
    let client = match ready {
        Ok(client) if !arguments.list => client,
        Ok(_) => return ExitCode::SUCCESS,
        Err(why) => {
            judge("kubernetes", &format!("skipped: {why}"));
            return ExitCode::SUCCESS;
        }
    };
    let runtime = Arc::new(runtime);
    let there = cluster::carried(&runtime, &client);
    for name in ["jobsets", "trainjobs", "pytorchjobs"] {
        match there.iter().any(|(there, _)| *there == name) {
            true => judge(name, "passed"),
            false => judge(name, "skipped: the cluster has no such controller"),
        }
    }
    let trials = chosen.trials(&runtime, &client);
    let ended = libtest_mimic::run(&arguments, trials);
    if !ended.has_failed() {
        judge("kubernetes", "passed");
    }
    ended.exit_code()
}

/// A test of Jobs, in a namespace of its own, which goes afterwards.
fn trial<F>(
    runtime: &Arc<tokio::runtime::Runtime>,
    admin: &Client,
    name: &str,
    test: impl FnOnce(Given) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    trial_with(runtime, admin, name, launches(Kind::Job), test)
}

/// Options of a namespace in which jobs of one kind are launched, and nothing else is done.
fn launches(kind: Kind) -> impl FnOnce(&mut Options) + Send + 'static {
    move |options| (options.kinds, options.single_pods) = (vec![kind], false)
}

/// A test in a namespace by these options.
fn trial_with<F>(
    runtime: &Arc<tokio::runtime::Runtime>,
    admin: &Client,
    name: &str,
    options: impl FnOnce(&mut Options) + Send + 'static,
    test: impl FnOnce(Given) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    let (runtime, admin) = (runtime.clone(), admin.clone());
    let of = name.replace("::", "-").replace('_', "-");
    Trial::test(name, move || {
        runtime.block_on(async {
            let namespace = TestNamespace::new(&admin, &of, options).await;
            let (engine, asked) = namespace.engine().await;
            let given = Given { admin, engine, asked, namespace: namespace.name.clone() };
            // A panic is the test's end, and the namespace goes all the same.
            let local = tokio::task::LocalSet::new();
            let ended = local.run_until(async { tokio::task::spawn_local(test(given)).await }).await;
            namespace.remove().await;
            ended.map_err(|error| Failed::from(error.to_string()))
        })
    })
}
