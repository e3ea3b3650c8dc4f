//! Elastic jobs: pods come and go, and the ranks meet anew.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kf_k8s::elastic::{ElasticJob, ElasticJobs, ElasticKind, ElasticState, ElasticStatus};
use kf_k8s::train::{Gang, Kind};
use kf_train::elastic::torchrun::ranks_from_env;
use kf_train::elastic::{Agent, AgentOptions, RoundNote};
use kf_train::{Error, Job, JobEvent};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::cluster::carried;
use super::{Given, launches, trial_with};

/// What the pods run: this program, which is the image's entrypoint.
const AGENT: &str = "agent";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, kind) in carried(runtime, client) {
        let elastic = match kind {
            Kind::Job => ElasticKind::Job,
            Kind::PyTorchJob => ElasticKind::PyTorchJob,
            _ => continue,
        };
        let mut add = |test: &str, of: fn(Given, ElasticKind) -> Boxed| {
            let name = format!("elastic::{name}::{test}");
            trials.push(trial_with(runtime, client, &name, launches(kind), move |given| of(given, elastic)));
        };
        add("pods_come_and_go", |given, kind| Box::pin(pods_come_and_go(given, kind)));
        add("failed_ranks_use_restarts", |given, kind| Box::pin(failed_ranks_use_restarts(given, kind)));
        add("the_first_pod_may_go", |given, kind| Box::pin(the_first_pod_may_go(given, kind)));
    }
    trials
}

type Boxed = futures::future::LocalBoxFuture<'static, ()>;

/// Runs an agent whose ranks are the command behind `agent`; none where this process is asked for something else.
pub(crate) fn agent() -> Option<ExitCode> {
    let mut words = std::env::args().skip(1);
    if words.next()? != AGENT {
        return None;
    }
    let runtime = Runtime::new().unwrap();
    let ended = runtime.block_on(async {
        let options = AgentOptions::from_env("/tmp/agent")?;
        let leave = options.leave.clone();
        let mut told = signal(SignalKind::terminate()).unwrap();
        tokio::spawn(async move {
            told.recv().await;
            leave.cancel();
        });
        let program = words.next().unwrap();
        let job = Job::command(program, words, ranks_from_env()?).on_event(|event| match event {
            JobEvent::Line { line, .. } => println!("{line}"),
            JobEvent::Waiting { reason } => println!("waiting: {reason}"),
            _ => {}
        });
        Agent::new(options).run::<()>(job).await
    });
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Left { .. }) => {
            println!("{error}");
            ExitCode::from(143)
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn jobs(given: &Given, kind: ElasticKind) -> ElasticJobs {
    ElasticJobs::new(given.engine.clone(), &given.namespace, kind, given.options())
}

/// A job of 1 to 3 nodes whose ranks run this script.
fn job(script: &str) -> ElasticJob {
    let mut job = ElasticJob::new("elastic", 1..=3);
    job.args = [AGENT, "sh", "-c", script].map(String::from).into();
    job.start = 2;
    job.last_call = Duration::from_secs(20);
    job.stop_grace = Duration::from_secs(20);
    job
}

async fn until(jobs: &ElasticJobs, what: &str, holds: impl Fn(&ElasticStatus) -> bool) -> ElasticStatus {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = jobs.status("elastic").await.unwrap();
        if holds(&status) {
            return status;
        }
        if status.state.is_over() || Instant::now() > end {
            for node in 0..3 {
                println!("--- node {node}\n{}", jobs.logs("elastic", node).await.unwrap_or_default());
            }
            panic!("not seen: {what}; last: {status:?}");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Waits for a round of so many nodes, later than another.
async fn round(jobs: &ElasticJobs, nodes: usize, after: u64) -> RoundNote {
    let is = |round: &RoundNote| round.nodes == nodes && round.number > after;
    let what = format!("a round of {nodes} nodes after round {after}");
    let status = until(jobs, &what, |status| status.round.as_ref().is_some_and(is)).await;
    status.round.unwrap()
}

async fn uid(pods: &Api<Pod>, node: usize, kind: ElasticKind) -> (String, Option<String>) {
    let label = match kind {
        ElasticKind::PyTorchJob => "training.kubeflow.org/replica-index",
        _ => "batch.kubernetes.io/job-completion-index",
    };
    let list = ListParams::default().labels(&format!("kf.dev/job=elastic,{label}={node}"));
    let pod = pods.list(&list).await.unwrap().items.swap_remove(0);
    (pod.metadata.name.unwrap(), pod.metadata.uid)
}

async fn pods_come_and_go(given: Given, kind: ElasticKind) {
    // What is alone, at the end, is done soon.
    let script = r#"echo "rank $RANK of $WORLD_SIZE, restarts $TORCHELASTIC_RESTART_COUNT"
        trap 'echo "rank $RANK saves"; exit 0' TERM
        if [ "$WORLD_SIZE" = 1 ]; then sleep 3; echo done; exit 0; fi
        sleep 600 & wait"#;
    let (jobs, job) = (jobs(&given, kind), job(script));
    jobs.create(&job).await.unwrap();
    jobs.create(&job).await.unwrap();
    let mut other = job.clone();
    other.max_restarts = 7;
    let conflict = jobs.create(&other).await;
    assert!(matches!(conflict, Err(Error::Conflict { .. })), "{conflict:?}");

    let two = round(&jobs, 2, 0).await;
    for nodes in [0, 4] {
        let refused = jobs.scale("elastic", nodes).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("it can't have {nodes} nodes: it is of 1 to 3")), "{refused}");
    }
    jobs.scale("elastic", 3).await.unwrap();
    let three = round(&jobs, 3, two.number).await;
    assert_eq!((three.world_size, three.restarts), (3, 0), "{three:?}");
    let status = until(&jobs, "all run", |status| status.running == 3).await;
    assert_eq!((status.wanted, status.nodes), (3, 1..=3));

    // Made again, it stays as it is.
    jobs.create(&job).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let (name, before) = uid(&pods, 1, kind).await;
    pods.delete(&name, &DeleteParams::default()).await.unwrap();
    let replaced = round(&jobs, 3, three.number).await;
    assert_eq!(replaced.restarts, 0, "{replaced:?}");
    assert_ne!(uid(&pods, 1, kind).await.1, before);

    // Rounds are told before their ranks begin.
    let begun = async {
        while !jobs.logs("elastic", 2).await.unwrap().contains(" of 3, restarts 0") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
    // Who leaves has the time to save.
    jobs.scale("elastic", 1).await.unwrap();
    let status = jobs.wait("elastic").await.unwrap();
    let log = jobs.logs("elastic", 0).await.unwrap();
    assert_eq!(status.state, ElasticState::Succeeded, "{status:?}\n{log}");
    let one = status.round.unwrap();
    assert_eq!((one.nodes, one.restarts), (1, 0), "{one:?}");
    assert!(log.contains("rank 0 saves") && log.contains("done"), "{log}");
    let refused = jobs.scale("elastic", 2).await.unwrap_err().to_string();
    assert!(refused.contains("it has ended"), "{refused}");
    super::manifests::hold_for_all_pods(&given).await;

    jobs.delete("elastic").await.unwrap();
    jobs.delete("elastic").await.unwrap();
    let gone = async {
        while !pods.list(&ListParams::default()).await.unwrap().items.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    let unknown = jobs.status("elastic").await.unwrap_err().to_string();
    assert!(unknown.contains("of this name"), "{unknown}");
}

async fn failed_ranks_use_restarts(given: Given, kind: ElasticKind) {
    let script = r#"if [ "$RANK" = 1 ]; then echo "of no use" >&2; exit 5; fi; sleep 600"#;
    let mut job = job(script);
    (job.nodes, job.max_restarts) = (2..=2, 1);
    let mut options = given.options();
    options.gang = Some(Gang::Coscheduling { scheduler: "s".into(), timeout: Duration::from_secs(9) });
    let gang = ElasticJobs::new(given.engine.clone(), &given.namespace, kind, options);
    let refused = gang.create(&job).await.unwrap_err().to_string();
    assert!(refused.contains("`gang`"), "{refused}");

    let jobs = jobs(&given, kind);
    jobs.create(&job).await.unwrap();
    let status = tokio::time::timeout(PATIENCE, jobs.wait("elastic")).await.unwrap().unwrap();
    let ElasticState::Failed { reason } = &status.state else { panic!("{status:?}") };
    assert!(reason.contains("rank 1") && reason.contains("exit code 5"), "{reason}");
    let last = status.round.unwrap();
    assert_eq!((last.number, last.nodes, last.restarts), (2, 2, 1), "{last:?}");
}

/// The others meet at the next, and the one that comes in its place finds them there.
async fn the_first_pod_may_go(given: Given, kind: ElasticKind) {
    let jobs = jobs(&given, kind);
    let script = r#"echo "rank $RANK of $WORLD_SIZE"; trap 'exit 0' TERM; sleep 600 & wait"#;
    jobs.create(&job(script)).await.unwrap();
    let first = round(&jobs, 2, 0).await;
    let pods: Api<Pod> = Api::namespaced(given.admin.clone(), &given.namespace);
    let (name, _) = uid(&pods, 0, kind).await;
    // Without a grace, which leaves no time for a word; but two pods of one name must not run at once.
    let params = match kind {
        ElasticKind::PyTorchJob => DeleteParams::default(),
        _ => DeleteParams::default().grace_period(0),
    };
    pods.delete(&name, &params).await.unwrap();
    let again = round(&jobs, 2, first.number).await;
    assert_eq!(again.restarts, 0, "{again:?}");
    // The one in its place has begun no job of its own. The cluster may not have heard yet that it runs.
    until(&jobs, "both run", |status| status.running == 2).await;
    let end = Instant::now() + PATIENCE;
    let log = loop {
        let log = jobs.logs("elastic", 0).await.unwrap();
        if log.contains(" of 2") {
            break log;
        }
        assert!(Instant::now() < end, "{log}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    assert!(!log.contains(" of 1\n"), "{log}");
    assert!(jobs.logs("elastic", 1).await.unwrap().contains("rank 0 of 1\n"));
}
