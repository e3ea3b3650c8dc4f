//! Typed machine-learning pipelines, and an engine that survives its own death.
//!
//! A **component** is a function with an attribute; a **pipeline** is built by a closure that adds tasks and passes
//! typed handles along; an [`Engine`] carries **runs** of it, in the program's own process or in copies of it.
//!
//! ```
//! use kf_pipeline::prelude::*;
//!
//! /// Writes the numbers below `limit`, one a line.
//! #[component]
//! async fn count(limit: u32, numbers: Output<Dataset>) -> TaskResult {
//!     let lines: Vec<String> = (0..limit).map(|number| number.to_string()).collect();
//!     numbers.write(lines.join("\n"))
//! }
//!
//! #[derive(Outputs)]
//! struct Summary {
//!     sum: u32,
//! }
//!
//! #[component(retries = 2, cpu = 1)]
//! fn add_up(numbers: Input<Dataset>) -> TaskResult<Summary> {
//!     let text = std::fs::read_to_string(numbers.path()?)?;
//!     Ok(Summary { sum: text.lines().map(str::parse::<u32>).sum::<Result<_, _>>()? })
//! }
//!
//! #[component]
//! async fn largest(sums: Vec<u32>) -> u32 {
//!     sums.into_iter().max().unwrap_or(0)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pipeline = Pipeline::build("sums", |p| {
//!     let limits = p.param::<Vec<u32>>("limits", vec![3, 5]);
//!     let each = p.parallel_for(limits, |p, limit| {
//!         let counted = p.add(count(limit));
//!         p.add(add_up(counted.numbers))
//!     });
//!     let best = p.add(largest(each.collect().sum));
//!     p.output("largest", best.output);
//!     p.when(best.output.ge(10), |p| {
//!         p.add(largest(vec![1]).named("celebrate"));
//!     });
//! })?;
//!
//! # let folder = tempfile::tempdir()?;
//! # let home = folder.path();
//! let engine = Engine::open(home).await?;
//! let run = engine.start(&pipeline, args! { "limits" => [4, 5] }).await?;
//! let outcome = run.wait().await?;
//! assert_eq!((outcome.tasks.succeeded, outcome.output::<u32>("largest")?), (6, 10));
//!
//! let report = engine.report(run.id()).await?;
//! std::fs::write(home.join("report.html"), report.to_html())?;
//!
//! // Run again, everything comes from the cache.
//! let again = engine.start(&pipeline, args! { "limits" => [4, 5] }).await?;
//! assert_eq!(again.wait().await?.tasks.cached, 6);
//! # Ok(())
//! # }
//! ```
//!
//! # Components
//! A component is an `async fn`, or a `fn` that may block. Its arguments say what it takes and gives:
//!
//! | argument | is |
//! |---|---|
//! | `Input<Dataset>`, `Vec<Input<Model>>`, `Option<Input<Model>>` | input artifacts: verified files or folders, not to be changed |
//! | `Output<Model>` | an output artifact: a file or folder to write |
//! | `f64`, `String`, `Vec<T>`, `Option<T>`, anything with [`#[derive(Serialize, Deserialize, Param)]`](derive@Param) | an input parameter, as JSON |
//! | [`State<T>`](State) | a value that the program gave to the engine: a client, a pool |
//! | [`Context`] | the run, the attempt, cancellation, progress, a log, a key that stays the same over attempts |
//!
//! What it returns, plain or in a `Result`, are its output parameters: one number, text, `bool`, `Vec` or `BTreeMap`,
//! called `Output`; or a struct with [`#[derive(Outputs)]`](derive@Outputs), whose fields may be of any parameter type. The kinds of artifacts are those of [`kf_core::artifact`]; a type of one's
//! own becomes one by implementing [`ArtifactKind`](kf_core::artifact::ArtifactKind).
//!
//! The attribute takes `retries = 2`, `timeout = "5m"`, `cpu = 0.5`, `memory = "2Gi"`, `gpu = 1`, `version = "1"`,
//! `cache = false`, `cache_ttl = "7d"` and `executor = "subprocess"`; each task may say otherwise:
//! `p.add(add_up(numbers).timeout(minute).named("sum"))`. The body stays a plain function: `add_up::call(…)` with
//! [`Input::from_path`] and [`Output::to_path`] is its unit test.
//!
//! # Control flow
//! | written | runs |
//! |---|---|
//! | [`p.parallel_for(items, \|p, item\| …)`](Scope::parallel_for), [`.collect()`](Each::collect) | what the closure adds once for each item of a list of values or artifacts; what the iterations give, as lists |
//! | [`p.when(condition, \|p\| …)`](Scope::when), [`.or_when(…)`](When::or_when), [`.otherwise(\|p\| …)`](When::otherwise) | the first branch whose condition holds; `otherwise` gives what that branch gave |
//! | [`p.nest("name", \|p\| …)`](Scope::nest) | a pipeline in the pipeline, one task to those around it |
//! | [`p.recurse("name", 8, start, \|p, args, again\| …)`](Scope::recurse) | a group that may call itself, at most so deep |
//! | [`p.exit_group(clean_up, \|p\| …)`](Scope::exit_group), [`p.on_exit(call)`](Scope::on_exit) | a task after a group, or after all, however that ended; it may take the [`FinalStatus`] |
//! | [`call.after(task)`](Call::after), [`call.even_if_failed()`](Call::even_if_failed) | a task after another from which it takes nothing; a task though one before it failed |
//! | [`p.parallel_for_limited(…)`](Scope::parallel_for_limited), [`p.max_tasks(…)`](Scope::max_tasks), [`EngineBuilder::max_tasks`] | at most so much at once: of a loop, of this pipeline's runs, of any run |
//! | [`call.mutex("name")`](Call::mutex), [`EngineBuilder::semaphore`] | a task while no other of any run holds the name; or so many |
//! | [`p.add_or(call, fallback)`](Scope::add_or) | a task, and another where it has failed for good |
//! | [`.min_success_ratio(0.9)`](Each::min_success_ratio), [`.failures()`](Each::failures) | a loop some of whose iterations may fail; which did |
//! | [`p.approval(question)`](Scope::approval), [`p.ask_for::<T>(question)`](Scope::ask_for) | nothing until a person answers through [`Engine::decide`] |
//!
//! Closures use the handles from around them. Handles go out of them as what they return: single ones, tuples and `Vec`s
//! of them, the outputs of tasks, structs with [`#[derive(Handles)]`](derive@Handles). A handle that left its loop, branch
//! or group any other way is refused by [`Pipeline::build`], with the file and line where it is used.
//!
//! # Failure
//! An attempt fails when the body gives an error, panics, gives a NaN, doesn't write an output, or takes longer than its
//! timeout. It is tried again as often as `retries` says, at once or after the waits that [`Call::backoff`] gives; an error
//! made with [`TaskError::permanent`] is not. ([`TaskError::new`] makes one of a text, and `?` of any error.) Tasks that need
//! a failed one are skipped, others go on, and what [`Scope::on_exit`] added runs at the end in every case. The run's
//! [outcome](RunOutcome) names the first task that failed.
//!
//! A body in process can't be ended by force: past its timeout it is asked to end and has the engine's
//! [grace](EngineBuilder::grace), 5 seconds, for that; then an `async fn` is dropped where it waits next, but a `fn`
//! runs on, its result ignored and its resources held until it returns. What may hang belongs in a process of its own.
//!
//! # Crashes
//! The end of each task is committed before anything follows from it. When the program dies, starting the run again
//! (with [`StartOptions::id`], or [`StartOptions::resume_unfinished`]) goes on from there: a task whose end is committed
//! never runs again; what was under way does, with the same [`Context::idempotency_key`].
//!
//! Of a run that has ended, [`Engine::rerun`] does again what failed, or chosen tasks, and what comes after them, and keeps
//! the rest. One that is not to go on, such as one whose pipeline was changed since, is ended with [`Engine::abandon`].
//!
//! A long task can remember its items: what [`Context::once`] or [`Context::save`] has saved is on the disk, and the next
//! attempt finds it, whether this one failed or its process or the engine was killed.
//!
//! ```
//! # use kf_pipeline::prelude::*;
//! # async fn embed(_: &str) -> TaskResult<Vec<f32>> { Ok(vec![]) }
//! #[component(retries = 5)]
//! async fn embed_all(texts: Vec<String>, ctx: Context) -> TaskResult<Vec<Vec<f32>>> {
//!     let mut all = Vec::new();
//!     for text in &texts {
//!         all.push(ctx.once_async(text, async { embed(text).await }).await?);
//!     }
//!     Ok(all)
//! }
//! ```
//!
//! # Partitions
//! A pipeline that handles a day's data is run over many days with a [`Backfill`]: a run for each of its [`Partitions`]
//! (hours, days, weeks, months or any keys), so many at once, skipping those that succeeded. Asked for again, after a crash
//! or with a longer range, [`Engine::backfill`] does what is left; [`Engine::partitions`] tells how each stands.
//!
//! ```
//! # use kf_pipeline::prelude::*;
//! # use kf_pipeline::{Backfill, Partitions};
//! # async fn example(engine: Engine, pipeline: Pipeline) -> kf_pipeline::Result<()> {
//! let days = Partitions::daily("2026-01-01", kf_core::Timestamp::now())?;
//! let table = engine.backfill(&pipeline, &Backfill::new(days, "day").at_once(8)).await?.wait().await?;
//! println!("{table}");
//! # Ok(()) }
//! ```
//!
//! # Several machines
//! With metadata in PostgreSQL (feature `postgres`) and artifacts in S3 (feature `s3`), engines of any number of machines
//! share runs, each with a home of its own for logs and scratch:
//!
//! ```no_run
//! # #[cfg(all(feature = "postgres", feature = "s3"))]
//! # async fn open(nightly: kf_pipeline::Pipeline) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use kf_core::artifact::{ArtifactStore, S3Options};
//! use kf_core::metadata::PostgresMetadata;
//! use kf_pipeline::prelude::*;
//!
//! let engine = Engine::builder()
//!     .metadata(Arc::new(PostgresMetadata::connect("postgres://kf@db.internal/platform").await?))
//!     .artifacts(ArtifactStore::s3("s3://models/kf", "/var/cache/kf", S3Options::from_env())?)
//!     .open("/var/lib/kf")
//!     .await?;
//! let _standing_by = engine.stand_by([nightly.clone()])?;
//! let run = engine.start(&nightly, args! {}).await?;
//! # Ok(()) }
//! ```
//!
//! An engine holds a run by a lease that it renews; [`EngineBuilder::lease`] says for how long. Where an engine dies, its
//! runs are taken over by one that [stands by](Engine::stand_by), or asks once with [`Engine::take_over`], when the lease
//! has ended by the database's clock. An engine that was only asleep finds its run
//! [taken over](kf_core::Error::Fenced) and stops it: it can write nothing any more, but what its tasks do outside of
//! the stores is not undone, so such effects want [`Context::idempotency_key`]. While the database is away, tasks under way
//! go on and their ends wait to be written; when the lease would have ended, the run stops with an error, to be started
//! again or taken over. What a task has [saved](Context::save) lies in its engine's home; an engine with another one
//! begins the task afresh.
//!
//! # Garbage
//! Artifacts stay until [`Engine::collect_garbage`] removes those that no run names which is kept: by default all runs
//! are, and what goes are leftovers of attempts that were killed; [`Retention::runs_of`] and
//! [`last_succeeded`](Retention::last_succeeded) keep less. Runs may go on meanwhile, on any machine.
//!
//! # Cache
//! A task's outputs are taken from an earlier execution where component (its module and name), code, parameters and the content of its input
//! artifacts are the same, and everything it gave is still there unchanged. *Code* is the digest of the program's file,
//! or what the component says with `version = "…"`. What a component reads beside its inputs, injected
//! [`State`] above all, is not looked at: such components, and those with effects, want `cache = false`;
//! [`StartOptions::no_cache`] runs everything. [`Call::cache_ttl`] and [`EngineBuilder::cache_ttl`] say how old an execution
//! may be that stands for a task, [`Call::cache_key`] what stands for all else, and [`EngineBuilder::cache_keys`] takes
//! keys as Kubeflow's backend has them. What several runs need at once is run by one of them, whether one engine carries
//! them or several that share a PostgreSQL.
//!
//! # Processes of their own
//! With `executor = "subprocess"` each attempt runs in a copy of the program, which `main` must allow for first thing:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use kf_core::worker::{Workers, run_if_asked};
//! use kf_pipeline::prelude::*;
//!
//! #[component(executor = "subprocess", timeout = "1h")]
//! fn crunch(number: u64) -> u64 {
//!     number.pow(2)
//! }
//!
//! fn main() -> ExitCode {
//!     if let Some(code) = run_if_asked(&Workers::new().with(Components::new().with::<crunch>())) {
//!         return code;
//!     }
//!     // … build pipelines and run them …
//!     ExitCode::SUCCESS
//! }
//! ```
//!
//! The components of a pipeline that is built already do too: `Workers::new().with(pipeline.components().clone())`. State
//! goes to such processes through [`Components::state`], beside [`EngineBuilder::state`] for the engine's own. A body's
//! progress is not passed on there, and its [`Context::cancellation`] never fires: it is ended by a signal.
//! An `async fn` gets a runtime with a thread for each core there; threads and tasks that it has not awaited end with it,
//! and so do processes that it has started, but for those that leave its process group (`setsid`).
//!
//! Each process carries one attempt. The next one is started ahead, and waits in `run_if_asked` for some 10 seconds, so
//! that steps in a row don't wait for a program's start: what `main` does before that call is done there too. Steps that
//! go on with a trace are not started so, since each has another environment.
//!
//! # Logs
//! What an attempt prints in a process of its own, and what any writes with [`Context::log`], is kept in
//! `runs/RUN/TASK/ATTEMPT/log.txt` below the home: the first MiB and the last 4 MiB. [`Engine::logs`] follows it while the
//! attempt runs, and reads it afterwards.
//!
//! ```
//! use futures::StreamExt;
//! use kf_pipeline::log_lines;
//! use kf_pipeline::prelude::*;
//!
//! #[component]
//! async fn greet(name: String, context: Context) {
//!     context.log(format!("hello, {name}"));
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pipeline = Pipeline::build("greeting", |p| {
//!     p.add(greet("Ada"));
//! })?;
//! # let folder = tempfile::tempdir()?;
//! # let home = folder.path();
//! let engine = Engine::open(home).await?;
//! let run = engine.start(&pipeline, args! {}).await?;
//! run.wait().await?;
//! let mut lines = log_lines(engine.logs(run.id(), "greet", None).await?);
//! assert_eq!(lines.next().await.ok_or("a line")??, "hello, Ada");
//! # Ok(())
//! # }
//! ```
//!
//! # Traces
//! The engine makes `tracing` spans of level INFO: `run`, in it a `task` for each task, and in that an `attempt` for each
//! attempt, with `state` and `error` recorded at the end. Bodies in process run within their attempt's span, and workers
//! within one called `worker`. What becomes of spans is up to the program's subscriber.
//!
//! With the feature `otel` and the layer of `kf_core::telemetry::Otlp`, they are exported over OTLP, and each
//! subprocess, Python step and command finds its attempt in `TRACEPARENT`, so that what it traces itself is in the run's
//! trace. Workers set their subscriber in [`Workers::setup`](kf_core::worker::Workers::setup).
//! [`StartOptions::trace`] puts a run into a trace that has begun elsewhere:
//!
//! ```
//! # use kf_pipeline::prelude::*;
//! use kf_core::telemetry::TraceContext;
//!
//! # fn start(header: &str) -> Result<StartOptions, kf_core::Error> {
//! // `header` is `traceparent` of an incoming request.
//! let options = StartOptions::new().trace(TraceContext::new(header, None)?);
//! # Ok(options) }
//! # assert!(start("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_ok());
//! ```

// Generated code names the crate, here too.
#[allow(unused_extern_crates, reason = "the attribute's expansion in `report` needs the name")]
extern crate self as kf_pipeline;

mod args;
mod builder;
mod component;
mod container;
mod deep;
mod engine;
mod error;
#[cfg(test)]
mod fuzz;
mod journal;
mod mutex;
mod partition;
pub mod placeholder;
mod plan;
pub mod report;
mod scheduler;
pub mod spec;
#[cfg(feature = "arrow")]
mod table;
mod task_folder;
#[cfg(feature = "testing")]
pub mod testing;

pub use args::Args;
pub use builder::{
    Answer, Arg, Artifact, ArtifactArg, ArtifactList, Call, CallOptions, Carried, Collect, Condition, Each,
    Export, Handles, IntoArtifact, IntoArtifactList, IntoCondition, IntoOptionalArtifact, IntoOutput,
    IntoValue, Items, LoopRef, OutputArg, Pipeline, Question, Recursion, Relocation, Scope, TaskRef, Value,
    When, Yes,
};
pub use component::{
    ArtifactCount, Body, Component, ComponentDef, Components, Context, Defaults, FinalStatus, Input,
    ItemFailure, Ordered, Output, OutputParameter, Outputs, Param, Progress, Single, SingleLists, State,
    StatusError, TaskError, TaskFuture, TaskIo, TaskOutputs, TaskResult,
};
pub use container::{LocalContainers, Runner};
pub use engine::remote;
pub use engine::{
    Approval, Attempt, AttemptEnd, AttemptEvent, AttemptHandle, AttemptOutputs, AttemptStatus, Backfill,
    BackfillEvent, BackfillHandle, CacheKeys, Engine, EngineBuilder, Executor, ExecutorError, Garbage,
    GivenArtifact, PartitionState, PartitionStatus, PartitionTable, RerunOptions, Retention, RunEvent,
    RunHandle, RunOutcome, RunOutputs, StandBy, StartOptions, Submission, TaskCounts, Work,
};
pub use error::{Error, Problem, Result};
pub use kf_core::artifact::Metadata;
pub use kf_core::process::{LogChunk, LogStream, log_lines};
pub use kf_pipeline_macros::{Handles, Outputs, Param, component};
pub use partition::{Partition, Partitions};
pub use plan::{ContainerTask, Plan};
pub use scheduler::{Decision, TaskState};
#[cfg(feature = "arrow")]
pub use table::Table;

/// What generated code calls.
#[doc(hidden)]
pub mod __private {
    pub use crate::component::{Field, definitions, finish};
}

/// What most programs that build pipelines want: `use kf_pipeline::prelude::*;`.
pub mod prelude {
    pub use kf_core::artifact::{ClassificationMetrics, Dataset, Html, Markdown, Metrics, Model};

    pub use crate::{
        Component, Components, Context, Engine, FinalStatus, Input, Output, Outputs, Param, Pipeline,
        StartOptions, State, TaskError, TaskResult, args, component,
    };
}
