//! Beginning runs, and taking up again what was begun.

use std::collections::BTreeMap;
use std::sync::Arc;

use kf_core::artifact::ArtifactRef;
use kf_core::metadata::{Created, NewRun, RunQuery, RunRecord, RunState};
use kf_core::telemetry::TraceContext;
use kf_core::{Digest, RunId, Timestamp};
use serde_json::Value as Json;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

use super::clock::Clock;
use super::driver::Driver;
use super::lease::Keeper;
use super::rerun::Seed;
use super::{
    Approval, Inner, RunEvent, RunHandle, RunOutcome, RunOutputs, RunSetup, TaskCounts, Waiting, attempt,
};
use crate::component::checkpoint;
use crate::journal::Journal;
use crate::plan;
use crate::scheduler::{JournalEvent, Limits, Past, Scheduler, Values};
use crate::{Error, Pipeline, Result};

/// How a run is carried on.
pub(super) struct Carry {
    pub(super) cache: bool,
    pub(super) trace: Option<TraceContext>,
    pub(super) seed: Option<Seed>,
}

impl Inner {
    /// Creates a run, or finds it, and carries it where it has not ended. `starting` is held.
    pub(super) async fn begin(
        self: &Arc<Self>,
        new: NewRun,
        pipeline: &Pipeline,
        args: BTreeMap<String, Json>,
        how: Carry,
    ) -> Result<RunHandle> {
        let (id, mut created_at) = (new.id.clone(), new.created_at);
        let created = self.metadata.create_run(new).await.map_err(|error| match error {
            kf_core::Error::Conflict { what, name, difference } => {
                let difference = format!(
                    "{difference}; it goes on with what it was started with, or is ended with `Engine::abandon` and then run \
                     again with `Engine::rerun`"
                );
                kf_core::Error::Conflict { what, name, difference }
            }
            error => error,
        })?;
        if let Created::Existing(record) = created {
            if record.state.is_terminal() {
                return self.ended(&record).await;
            }
            created_at = record.created_at;
        }
        if let Some(handle) = self.lock().active.get(&id).filter(|handle| !handle.is_over()) {
            return Ok(handle.clone());
        }
        self.carry(id, pipeline, args, created_at, how).await
    }

    /// Takes a run and carries it on from where its journal ends.
    pub(super) async fn carry(
        self: &Arc<Self>,
        id: RunId,
        pipeline: &Pipeline,
        args: BTreeMap<String, Json>,
        created_at: Timestamp,
        how: Carry,
    ) -> Result<RunHandle> {
        if self.lock().draining {
            return Err(Error::Draining);
        }
        let (asked, ttl) = (Instant::now(), self.options.lease);
        let lease = self.metadata.acquire(&id, "another engine", ttl).await?;
        let mut lease = Keeper::start(Arc::clone(&self.metadata), lease, ttl, asked);
        let mut history = self.history(&id).await?;
        let seed = match history.past.to_keep() {
            // Who was to write what it keeps died over it.
            Some((of, fresh)) => Some(self.seed(pipeline, of, fresh).await?),
            None => how.seed.filter(|_| lease.seq == 0),
        };
        if let Some(seed) = seed {
            seed.write(self.metadata.as_ref(), &mut lease, &history.past).await?;
            history = self.history(&id).await?;
        }
        let History { past, counts, waiting, .. } = history;
        let clock = Clock::new();
        let (handle, end) = RunHandle::new(id.clone());
        let limits =
            Limits { in_flight: self.options.max_in_flight, cache: how.cache, lost: self.options.lost };
        let names = Arc::new(self.names(&id, pipeline.name(), created_at));
        let args = values(pipeline.plan(), args)?;
        let plan = Arc::clone(pipeline.plan());
        let (scheduler, first) = Scheduler::start(plan, Arc::clone(&names), args, past, limits, clock.now());
        let components = Arc::new(pipeline.components().clone());
        let setup = Arc::new(RunSetup {
            run: id.clone(),
            pipeline: Arc::clone(&pipeline.plan().name),
            components,
            names,
            events: end.events.clone(),
            under_way: handle.under_way(),
            trace: how.trace.or_else(TraceContext::current),
            draining: end.draining.clone(),
            clock,
            outputs: format!("{}{}", attempt::OUTPUTS, lease.epoch),
            scratch: format!("{}{}.work", attempt::OUTPUTS, lease.epoch).into(),
            dir: self.home.run_dir(&id).into(),
            epoch: lease.epoch,
            outliving: self.outliving(pipeline.plan().executors().filter_map(|of| self.executor_of(of).1)),
            shared: lease.until().borrow().is_some(),
        });
        // Not within the span that it is started in, which ends before it.
        let span = tracing::info_span!(
            parent: None,
            "run",
            run = %setup.run,
            pipeline = &*setup.pipeline,
            state = Empty,
            error = Empty,
            otel.status_code = Empty,
        );
        if let Some(trace) = &setup.trace {
            trace.precedes(&span);
        }
        // Who listens from the beginning hears of these as well.
        for Approval { task, message, .. } in waiting.into_list() {
            let _ = end.events.send(RunEvent::ApprovalAsked { task, message });
        }
        let driver = Driver::new(Arc::clone(self), setup, lease, scheduler, counts, end);
        {
            let mut runs = self.lock();
            if runs.draining {
                return Err(Error::Draining);
            }
            runs.active.insert(id, handle.clone());
        }
        tokio::spawn(driver.run(first).instrument(span));
        Ok(handle)
    }

    /// The newest run of this pipeline and these arguments that has not ended.
    pub(super) async fn unfinished(&self, new: &NewRun) -> Result<Option<RunId>> {
        for state in [RunState::Running, RunState::Pending] {
            let mut query = RunQuery {
                pipeline: Some(new.pipeline.clone()),
                state: Some(state),
                brief: true,
                ..RunQuery::default()
            };
            loop {
                let page = self.metadata.runs(&query).await?;
                let found = page
                    .items
                    .into_iter()
                    .find(|run| run.spec_digest == new.spec_digest && run.args == new.args);
                if let Some(run) = found {
                    return Ok(Some(run.id));
                }
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
        }
        Ok(None)
    }

    pub(super) async fn ended(&self, record: &RunRecord) -> Result<RunHandle> {
        let History { counts: tasks, outputs, .. } = self.history(&record.id).await?;
        let outcome = RunOutcome {
            run: record.id.clone(),
            state: record.state,
            error: record.error.clone(),
            tasks,
            outputs,
        };
        Ok(RunHandle::ended(outcome))
    }

    /// Reads what of a run has happened already, and removes what an engine that was killed right after a commit has left
    /// of it.
    async fn history(&self, run: &RunId) -> Result<History> {
        let mut history = History::default();
        let mut journal = Journal::new(self.metadata.as_ref(), run);
        while let Some(events) = journal.next().await? {
            for event in events {
                match &event {
                    JournalEvent::Task { state, .. } => history.counts.add(*state),
                    JournalEvent::Outputs { outputs } => history.outputs = outputs.as_ref().into(),
                    _ => {}
                }
                history.waiting.add(&event);
                history.past.add(event);
            }
        }
        let run_dir = self.home.run_dir(run);
        checkpoint::remove(&run_dir, &history.past.succeeded().collect::<Vec<_>>());
        Ok(history)
    }
}

/// What a run's journal tells.
#[derive(Default)]
struct History {
    past: Past,
    counts: TaskCounts,
    outputs: RunOutputs,
    waiting: Waiting,
}

/// A run of this pipeline, to be created; with an id of its own where none is given.
pub(super) fn new_run(id: Option<RunId>, pipeline: &Pipeline, args: &BTreeMap<String, Json>) -> NewRun {
    let spec = pipeline.text();
    NewRun {
        id: id.unwrap_or_else(RunId::random),
        pipeline: pipeline.name().to_owned(),
        spec_digest: Digest::of(spec.as_bytes()),
        spec: Arc::clone(spec),
        args: serde_json::to_string(args).expect("arguments are JSON"),
        created_at: Timestamp::now(),
    }
}

/// A run's arguments as what goes into the outermost DAG.
pub(super) fn values(plan: &plan::Plan, args: BTreeMap<String, Json>) -> Result<Values> {
    let (mut parameters, mut artifacts) = (Vec::new(), Vec::new());
    for (name, value) in args {
        if plan.takes_artifact(&name) {
            let list: Vec<ArtifactRef> = serde_json::from_value(value).map_err(|error| Error::Argument {
                name: name.clone(),
                problem: format!("what is stored of it is not understood: {error}"),
            })?;
            artifacts.push((name.into(), list.into()));
        } else {
            parameters.push((name.into(), Arc::new(value)));
        }
    }
    Ok(Values::new(parameters, artifacts))
}
