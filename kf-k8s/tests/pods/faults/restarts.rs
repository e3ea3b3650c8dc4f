//! An API server that ends, and is started again, while tasks and jobs are under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job as KubeJob;
use kf_k8s::manifests::Options;
use kf_k8s::train::Kind;
use kf_pipeline::{Pipeline, args};
use kf_train::{Job, JobEnd, JobEvent, JobHandle, Launcher};
use kube::api::ListParams;
use kube::{Api, Client};
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::super::cluster::carried;
use super::super::{judge, trial_with};
use super::Given;
use super::server::ApiServer;
use super::tasks::Fixture;
use super::tasks::components::{total, witnessed};
use super::tasks::witness::Witness;
use super::work::{all_once, until};

/// How many tasks there are, how many at once, and how long each lasts.
const TASKS: i64 = 12;
const AT_ONCE: i64 = 3;
const SECONDS: f64 = 10.0;
/// How many lines each rank prints, two a second.
const LINES: usize = 300;

pub(crate) fn trials(runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
    if let Err(why) = ApiServer::find() {
        judge("kubernetes", &format!("skipped: {why}"));
        return Vec::new();
    }
    let there: Vec<Kind> = carried(runtime, client).into_iter().map(|(_, kind)| kind).collect();
    let kinds: Vec<_> = [Kind::Job, Kind::TrainJob].into_iter().filter(|kind| there.contains(kind)).collect();
    let options = |kinds: Vec<Kind>| move |options: &mut Options| options.kinds = kinds;
    let name = "faults::restarts::tasks_and_jobs_go_on";
    vec![trial_with(runtime, client, name, options(kinds.clone()), move |given| go_on(given, kinds))]
}

/// Once asked to end, and once killed; each time some tasks have ended, some run, and some are to come.
async fn go_on(given: Given, kinds: Vec<Kind>) {
    let server = Arc::new(ApiServer::find().unwrap());
    let witness = Witness::listen(&given).await;
    let fixture = Fixture::new(&given).await;
    let run = fixture.engine.start(&pipeline(&witness), args! {}).await.unwrap();
    let mut jobs = Vec::new();
    for kind in kinds {
        let launcher = given.launcher(kind);
        let job = counts().name(format!("{kind:?}"));
        let handle = launcher.submit(job.spec().unwrap().clone(), &format!("counts-{kind:?}")).await.unwrap();
        let events = launcher.events(&handle).await.unwrap();
        let told = tokio::spawn(events.collect::<Vec<_>>());
        jobs.push((launcher, handle, told));
    }
    for (launcher, handle, _) in &jobs {
        until("a job does not begin", async || {
            !launcher.logs(handle, 0).await.unwrap().is_empty()
                && !launcher.logs(handle, 1).await.unwrap().is_empty()
        })
        .await;
    }
    for (round, signal) in ["TERM", "KILL"].into_iter().enumerate() {
        let before = usize::try_from(AT_ONCE).unwrap() * round;
        until("no task is under way", async || witness.seen().len() > before).await;
        let begun = witness.seen().len();
        assert!(begun < usize::try_from(TASKS).unwrap(), "all tasks have begun: the machine is too fast");
        assert!(jobs.iter().all(|(_, _, told)| !told.is_finished()), "a job has ended already");
        let process = server.process();
        let began = Instant::now();
        let ends = server.clone();
        tokio::task::spawn_blocking(move || ends.end(signal)).await.unwrap();
        let ended = began.elapsed();
        assert!(given.admin.apiserver_version().await.is_err(), "it answers");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let starts = server.clone();
        tokio::task::spawn_blocking(move || starts.start()).await.unwrap();
        assert!(server.process().is_some() && server.process() != process);
        given.admin.apiserver_version().await.unwrap();
        println!(
            "{signal} with {begun} of {TASKS} tasks begun; ended after {ended:?}, back after {:?}",
            began.elapsed()
        );
    }
    all_once(&run, &witness, TASKS).await;
    for (launcher, handle, told) in jobs {
        let events = tokio::time::timeout(Duration::from_secs(120), told).await.unwrap().unwrap();
        went_well(&*launcher, &handle, &events).await;
    }
    let objects: Api<KubeJob> = Api::namespaced(given.admin.clone(), &given.namespace);
    let objects = objects.list(&ListParams::default()).await.unwrap().items;
    let names: Vec<_> = objects.iter().filter_map(|job| job.metadata.name.as_deref()).collect();
    assert!(names.iter().all(|name| !name.contains("-r")), "{names:?}");
}

fn pipeline(witness: &Witness) -> Pipeline {
    let witness = witness.address().to_string();
    Pipeline::build("restarts", |p| {
        let numbers = p.param::<Vec<i64>>("numbers", (0..TASKS).collect::<Vec<_>>());
        let at_once = AT_ONCE.try_into().unwrap();
        let each =
            p.parallel_for_limited(numbers, at_once, |p, number| p.add(witnessed(number, witness, SECONDS)));
        let sum = p.add(total(each.collect().output));
        p.output("total", sum.output);
    })
    .unwrap()
}

fn counts() -> Job {
    let script =
        format!(r#"i=0; while [ $i -lt {LINES} ]; do echo "line $i of $RANK"; i=$((i+1)); sleep 0.5; done"#);
    Job::command("sh", ["-c", &script], 1).nodes(2)
}

/// Each rank started once, and each line came once, in order.
async fn went_well(launcher: &dyn Launcher, handle: &JobHandle, events: &[JobEvent]) {
    let started = events.iter().filter(|event| matches!(event, JobEvent::RankStarted { .. })).count();
    assert_eq!(started, 2, "{events:?}");
    let again = events.iter().any(|event| matches!(event, JobEvent::Restarting { .. }));
    assert!(!again, "{events:?}");
    assert!(matches!(events.last(), Some(JobEvent::Ended(JobEnd::Succeeded { .. }))), "{events:?}");
    for of in 0..2 {
        let expected: Vec<_> = (0..LINES).map(|line| format!("line {line} of {of}")).collect();
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                JobEvent::Line { rank, line, .. } if *rank == of => Some(line.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(told, expected);
        assert_eq!(launcher.logs(handle, of).await.unwrap(), format!("{}\n", expected.join("\n")));
    }
}
