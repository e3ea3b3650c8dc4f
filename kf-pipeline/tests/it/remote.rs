//! What runs attempts away from the engine, here in processes that know the artifact store alone.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kf_core::Digest;
use kf_core::artifact::{ArtifactStore, Stored};
use kf_core::metadata::RunState;
use kf_core::process::{Child, Command, Log, LogFeed, LogStream, Spawner, Usage};
use kf_core::worker::{ENTRY, Entry, REQUEST};
use kf_pipeline::prelude::*;
use kf_pipeline::remote::{self, RemoteTasks};
use kf_pipeline::testing::{Setup, executor_conformance};
use kf_pipeline::{
    Attempt, AttemptEnd, AttemptEvent, AttemptHandle, AttemptOutputs, AttemptStatus, Executor, ExecutorError,
    GivenArtifact, RunEvent, Submission, Work,
};
use libtest_mimic::Trial;

use crate::containers::shell;
use crate::{Done, test};

/// Where the processes find the store.
const STORE: &str = "KF_TEST_STORE";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("attempts_in_other_places_conform", conforms),
        test("commands_run_in_other_places", commands),
        test("a_store_that_can_t_be_opened_is_no_fault_of_the_task", no_store),
        test("what_is_said_to_be_stored_must_be_there", not_stored),
        test("lost_attempts_are_tried_again_at_no_task_s_cost", lost),
        test("what_an_attempt_saved_elsewhere_the_next_one_finds", saved),
    ]
}

pub(crate) fn worker() -> impl Entry {
    RemoteTasks::new(crate::components::all(), || {
        ArtifactStore::local(std::env::var(STORE).unwrap_or_default())
    })
}

/// Runs each attempt in a process that shares nothing but a store with its engine.
struct Elsewhere {
    store: ArtifactStore,
    folder: PathBuf,
    spawner: Spawner,
    running: Mutex<HashMap<AttemptHandle, Arc<Child>>>,
    /// How many attempts are lost before one is carried.
    loses: Mutex<u32>,
    /// Where its processes look for the store.
    looks: PathBuf,
    /// Whether it says of artifacts that they are stored, and runs nothing.
    lies: bool,
    released: Mutex<Vec<AttemptHandle>>,
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Elsewhere")
    }
}

impl Elsewhere {
    fn new(folder: &std::path::Path, loses: u32) -> Self {
        Self {
            store: ArtifactStore::local(folder.join("store")).unwrap(),
            folder: folder.to_owned(),
            spawner: Spawner::new().unwrap(),
            running: Mutex::default(),
            loses: Mutex::new(loses),
            looks: folder.join("store"),
            lies: false,
            released: Mutex::default(),
        }
    }
}

#[async_trait]
impl Executor for Elsewhere {
    fn outlives_engine(&self) -> bool {
        true
    }

    fn on_this_machine(&self) -> bool {
        false
    }

    fn accepts(&self, _: &Work) -> Result<(), String> {
        Ok(())
    }

    async fn submit(&self, attempt: Arc<Attempt>) -> Result<Submission, ExecutorError> {
        let handle = attempt.handle();
        assert!(attempt.artifacts.values().flatten().all(|(_, path)| path.is_none()), "nothing was fetched");
        {
            let mut loses = self.loses.lock().unwrap();
            if *loses > 0 {
                *loses -= 1;
                let told = [
                    AttemptStatus::Pending { reason: "for a place".into() },
                    AttemptStatus::Running,
                    AttemptStatus::Warned { message: "it is cold here".into() },
                    AttemptStatus::Pending { reason: "for a place".into() },
                    AttemptStatus::Ended(AttemptEnd::Lost { message: "the place is gone".into() }),
                ];
                return Ok(Submission { handle, status: stream::iter(told).boxed() });
            }
        }
        if self.lies {
            let stored = Stored { digest: Digest::of("nothing"), size: 7, folder: false };
            let mut given = GivenArtifact::default();
            given.stored = Some(stored);
            let mut outputs = AttemptOutputs::default();
            outputs.artifacts.insert("out".into(), vec![given]);
            let told = AttemptStatus::Ended(AttemptEnd::Succeeded(outputs));
            return Ok(Submission { handle, status: stream::iter([told]).boxed() });
        }
        let place = self.folder.join(handle.0.replace(['/', '#'], "-"));
        std::fs::create_dir_all(&place).unwrap();
        let (request, reply) = (place.join("request.json"), place.join("reply"));
        // Some go by reference.
        std::fs::write(&request, attempt.to_request(2000, &self.store).await?).unwrap();
        let env = [
            (ENTRY, remote::ENTRY.to_owned()),
            (REQUEST, request.display().to_string()),
            (remote::FOLDER, place.join("work").display().to_string()),
            (remote::REPLY, reply.display().to_string()),
            (STORE, self.looks.display().to_string()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let env: BTreeMap<String, String> = std::env::vars().chain(env).collect();
        let program = std::env::current_exe().unwrap().display().to_string();
        let command = Command::program_with_env(program, Vec::<String>::new(), env);
        let log = Log::to(attempt.dir.join("log.txt")).on_demand();
        let child = Arc::new(self.spawner.spawn(command.log(log)).await.unwrap());
        self.running.lock().unwrap().insert(handle.clone(), Arc::clone(&child));
        let store = self.store.clone();
        let end = async move {
            child.wait().await;
            let (end, used) = match std::fs::read_to_string(&reply) {
                Ok(reply) => remote::end_of(&reply, &store).await.unwrap(),
                Err(error) => {
                    let message = format!("no reply: {error}");
                    (AttemptEnd::Failed { message, permanent: false }, Usage::default())
                }
            };
            [AttemptStatus::Used(used), AttemptStatus::Ended(end)]
        };
        Ok(Submission { handle, status: stream::once(end).flat_map(stream::iter).boxed() })
    }

    async fn attach(&self, handle: &AttemptHandle) -> Result<Submission, ExecutorError> {
        Err(ExecutorError::Gone(handle.clone()))
    }

    async fn release(&self, handle: &AttemptHandle) {
        self.released.lock().unwrap().push(handle.clone());
    }

    async fn cancel(&self, handle: &AttemptHandle, grace: Duration) {
        let child = self.running.lock().unwrap().get(handle).cloned();
        if let Some(child) = child {
            child.terminate(grace).await;
        }
    }

    async fn logs(&self, handle: &AttemptHandle) -> Result<Option<LogStream>, ExecutorError> {
        let running = self.running.lock().unwrap();
        Ok(running.get(handle).and_then(|child| child.log()).map(LogFeed::follow))
    }
}

async fn engine(
    folder: &std::path::Path,
    loses: u32,
) -> Result<(Engine, Arc<Elsewhere>), kf_pipeline::Error> {
    let executor = Arc::new(Elsewhere::new(folder, loses));
    let builder = Engine::builder().artifacts(executor.store.clone()).grace(Duration::from_secs(2));
    let builder = builder.default_executor(executor.clone()).executor("elsewhere", executor.clone());
    Ok((builder.open(folder.join("home")).await?, executor))
}

async fn conforms() -> Done {
    let folder = tempfile::tempdir()?;
    let (engine, executor) = engine(folder.path(), 0).await?;
    executor_conformance(&Setup::new(engine, "elsewhere")).await;
    // Each attempt of the suite, once: 11 behaviours, one of which has eight tasks and two of which have two attempts or tasks.
    let mut released = executor.released.lock().unwrap().clone();
    let all = released.len();
    released.sort_by(|one, other| one.0.cmp(&other.0));
    released.dedup();
    assert_eq!((all, released.len()), (20, 20));
    Ok(())
}

/// With the files and placeholders of Kubeflow Pipelines.
async fn commands() -> Done {
    let artifact =
        serde_json::json!({"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}});
    let make = shell(
        "echo hello > {{$.outputs.artifacts['said'].path}}; printf 42 > {{$.outputs.parameters['number'].output_file}}",
    );
    let take = shell(
        "read text < {{$.inputs.artifacts['heard'].path}}; \
        printf '%s %s' \"$text\" \"{{$.inputs.parameters['number']}}\" > {{$.outputs.parameters['all'].output_file}}; \
        echo '{\"x\": 1}' > /dev/null",
    );
    let file = serde_json::from_value(serde_json::json!({"pipeline_spec": {
        "pipelineInfo": {"name": "commands"},
        "deploymentSpec": {"executors": {"make": make, "take": take, "fail": shell("exit 7")}},
        "components": {
            "make": {"executorLabel": "make", "outputDefinitions": {
                "parameters": {"number": {"parameterType": "NUMBER_INTEGER"}}, "artifacts": {"said": artifact}}},
            "take": {"executorLabel": "take",
                "inputDefinitions": {"parameters": {"number": {"parameterType": "NUMBER_INTEGER"}}, "artifacts": {"heard": artifact}},
                "outputDefinitions": {"parameters": {"all": {"parameterType": "STRING"}}}},
            "fail": {"executorLabel": "fail"},
        },
        "root": {"dag": {"tasks": {
            "make": {"componentRef": {"name": "make"}},
            "take": {"componentRef": {"name": "take"}, "inputs": {
                "parameters": {"number": {"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "number"}}},
                "artifacts": {"heard": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "said"}}}}},
            "fail": {"componentRef": {"name": "fail"}, "dependentTasks": ["take"]},
        }}},
    }}))?;
    let pipeline = Pipeline::from_file(file, Components::new())?;
    let folder = tempfile::tempdir()?;
    let (engine, _) = engine(folder.path(), 0).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    let outcome = run.wait().await?;
    let report = engine.report(run.id()).await?;
    assert_eq!(report.task("take").unwrap().output::<String>("all")?, "hello 42");
    assert!(outcome.error.unwrap().contains("its command ended with exit code 7"));
    // Its memory is the command's own affair.
    let used = report.task("fail").unwrap().usage;
    assert!(used.wall.is_some() && used.cpu.is_some() && used.peak_memory.is_none(), "{used:?}");
    Ok(())
}

#[component(cache = false)]
pub(crate) async fn counts(context: Context) -> i64 {
    context.attempt().into()
}

/// Says for each of three items which attempt did it; each attempt fails or ends once it has done one.
#[component(cache = false, retries = 5)]
pub(crate) fn saves(context: Context) -> TaskResult<Vec<u32>> {
    let mut by = Vec::new();
    for item in 0..3 {
        by.push(context.once(&item.to_string(), || Ok(context.attempt()))?);
        match (context.attempt(), item) {
            (1, 0) => return Err(TaskError::new("after one item")),
            (2, 1) => std::process::exit(3),
            _ => {}
        }
    }
    Ok(by)
}

async fn saved() -> Done {
    let folder = tempfile::tempdir()?;
    let (engine, executor) = engine(folder.path(), 0).await?;
    let pipeline = Pipeline::build("saved", |p| {
        let by = p.add(saves());
        p.output("by", by.output);
    })?;
    let outcome = engine.start(&pipeline, args! {}).await?.wait().await?;
    assert_eq!(outcome.output::<Vec<u32>>("by")?, [1, 2, 3]);
    // Once it has succeeded, nothing of it is left.
    let left = executor.store.beside("checkpoints")?.list(None).count().await;
    assert_eq!(left, 0);
    Ok(())
}

/// It is tried again, and told in words.
async fn no_store() -> Done {
    let folder = tempfile::tempdir()?;
    let mut executor = Elsewhere::new(folder.path(), 0);
    std::fs::write(folder.path().join("file"), "")?;
    executor.looks = folder.path().join("file/none");
    let builder = Engine::builder().artifacts(executor.store.clone()).default_executor(Arc::new(executor));
    let engine = builder.max_lost(1).open(folder.path().join("home")).await?;
    let pipeline = Pipeline::build("no-store", |p| {
        p.add(counts());
    })?;
    let run = engine.start(&pipeline, args! {}).await?;
    let error = run.wait().await?.error.unwrap();
    assert!(error.contains("artifact store can't be opened where the task is to run"), "{error}");
    assert_eq!(engine.report(run.id()).await?.task("counts").unwrap().attempts, 2);
    Ok(())
}

async fn not_stored() -> Done {
    let folder = tempfile::tempdir()?;
    let mut executor = Elsewhere::new(folder.path(), 0);
    executor.lies = true;
    let builder = Engine::builder().artifacts(executor.store.clone()).default_executor(Arc::new(executor));
    let engine = builder.open(folder.path().join("home")).await?;
    let pipeline = Pipeline::build("lies", |p| {
        p.add(crate::components::make(1));
    })?;
    let error = engine.start(&pipeline, args! {}).await?.wait().await?.error.unwrap();
    assert!(
        error.contains("output `out`") && error.contains("is not in the engine's artifact store"),
        "{error}"
    );
    Ok(())
}

async fn lost() -> Done {
    let pipeline = Pipeline::build("lost", |p| {
        let told = p.add(counts());
        p.output("attempt", told.output);
    })?;
    for (loses, succeeds) in [(1, true), (9, false)] {
        let folder = tempfile::tempdir()?;
        let executor = Arc::new(Elsewhere::new(folder.path(), loses));
        let builder = Engine::builder().artifacts(executor.store.clone()).default_executor(executor);
        let engine = builder.max_lost(1).open(folder.path().join("home")).await?;
        let run = engine.start(&pipeline, args! {}).await?;
        let events: Vec<RunEvent> = run.events().collect().await;
        let waits = |event: &&RunEvent| matches!(event, RunEvent::TaskWaiting { reason, .. } if reason == "for a place");
        let warns = |event: &&RunEvent| matches!(event, RunEvent::TaskWarned { message, .. } if message == "it is cold here");
        let times = if succeeds { 1 } else { 2 };
        assert_eq!(events.iter().filter(waits).count(), 2 * times);
        assert_eq!(events.iter().filter(warns).count(), times);
        let outcome = run.wait().await?;
        if succeeds {
            assert_eq!(outcome.output::<i64>("attempt")?, 2);
        } else {
            assert_eq!(outcome.state, RunState::Failed);
            assert!(outcome.error.unwrap().contains("the place is gone"));
        }
        let report = engine.report(run.id()).await?;
        let task = report.task("counts").unwrap();
        assert_eq!(task.attempts, 2);
        let words =
            |events: &[AttemptEvent]| events.iter().map(|event| event.message.clone()).collect::<Vec<_>>();
        let told = ["for a place", "it is cold here"];
        assert_eq!(words(&task.failed_attempts[0].events), told);
        assert_eq!(words(&task.events), if succeeds { &told[..0] } else { &told });
        // It waited when it was lost, so that nobody knows how long it ran.
        assert_eq!(task.failed_attempts[0].usage.wall, None);
        let used = task.usage;
        let known =
            (used.wall.is_some(), used.cpu.is_some(), used.peak_memory.is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(known, (succeeds, succeeds, succeeds), "{used:?}");
    }
    Ok(())
}
