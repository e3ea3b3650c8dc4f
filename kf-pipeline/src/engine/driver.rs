//! Drives one run: events go into the scheduler, its records into the store, its commands to executors.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kf_core::metadata::{Commit, ExecutionRecord, ExecutionState, Io, Lease, Lineage, RunState};
use kf_core::{CancellationToken, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::handle::{Control, DriverEnd, Ending};
use super::{Inner, LEASE, RunEvent, RunOutcome, RunSetup, TaskCounts, attempt, cache};
use crate::TaskState;
use crate::scheduler::{Command, Event, JournalEvent, Launch, LeafId, Record, Scheduler, TaskEnd};

/// How many events are taken in before their records are written.
const BATCH: usize = 512;
/// How often a commit is tried when the store can't be reached, and how long after the first failure.
const COMMIT_TRIES: u32 = 6;

type Committing = Pin<Box<dyn Future<Output = kf_core::Result<u64>> + Send>>;

pub(super) struct Driver {
    engine: Arc<Inner>,
    setup: Arc<RunSetup>,
    lease: Lease,
    seq: u64,
    scheduler: Scheduler,
    end: DriverEnd,
    sender: mpsc::Sender<Event>,
    receiver: mpsc::Receiver<Event>,
    attempts: JoinSet<()>,
    cancels: HashMap<LeafId, CancellationToken>,
    /// Records that are not written yet, and the commands that wait for them.
    records: Vec<Record>,
    held: Vec<Command>,
    counts: TaskCounts,
    finished: Option<(RunState, Option<String>)>,
    draining: bool,
}

/// Why a driver ends before its run.
enum Stop {
    Shutdown,
    Drained,
    Store(kf_core::Error),
}

impl Driver {
    pub(super) fn new(
        engine: Arc<Inner>,
        setup: Arc<RunSetup>,
        lease: Lease,
        scheduler: Scheduler,
        counts: TaskCounts,
        end: DriverEnd,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(engine.options.max_in_flight.max(1));
        Self {
            seq: lease.seq,
            engine,
            setup,
            lease,
            scheduler,
            end,
            sender,
            receiver,
            attempts: JoinSet::new(),
            cancels: HashMap::new(),
            records: Vec::new(),
            held: Vec::new(),
            counts,
            finished: None,
            draining: false,
        }
    }

    /// Carries the run to its end, and tells its handles.
    pub(super) async fn run(mut self, first: Vec<Command>) {
        let stop = self.drive(first).await;
        self.attempts.shutdown().await;
        let run = self.setup.run.clone();
        let ending = match stop {
            None => {
                let (state, error) = self.finished.take().unwrap_or((RunState::Failed, None));
                let _ = self.end.events.send(RunEvent::RunEnded { state, error: error.clone() });
                Ending::Ended(Arc::new(RunOutcome { run: run.clone(), state, error, tasks: self.counts }))
            }
            Some(stop) => {
                let why = match stop {
                    Stop::Shutdown => "its engine was dropped".to_owned(),
                    Stop::Drained => "its engine was drained".to_owned(),
                    Stop::Store(error) => error.to_string(),
                };
                tracing::warn!(%run, why, "the run stopped before its end");
                Ending::Stopped(format!("stopped before its end: {why}; start it again to go on where it was"))
            }
        };
        self.engine.forget(&run);
        if let Err(error) = self.engine.metadata.release(self.lease).await {
            tracing::warn!(%run, %error, "the lease was not given back");
        }
        self.end.outcome.send_replace(Some(ending));
    }

    async fn drive(&mut self, first: Vec<Command>) -> Option<Stop> {
        self.take(first);
        let engine = Arc::clone(&self.engine);
        let mut committing: Option<(Committing, Vec<Command>)> = None;
        loop {
            if committing.is_none() {
                if self.records.is_empty() {
                    let held = std::mem::take(&mut self.held);
                    self.act(held);
                } else {
                    committing = Some((self.commit(), std::mem::take(&mut self.held)));
                }
            }
            if committing.is_none() {
                if self.finished.is_some() {
                    return None;
                }
                if self.draining && self.cancels.is_empty() {
                    return Some(Stop::Drained);
                }
            }
            let tick = self.scheduler.next_tick();
            let renew = self.lease.expires_at.map(|_| LEASE / 3);
            tokio::select! {
                biased;
                () = engine.shutdown.cancelled() => return Some(Stop::Shutdown),
                committed = committed(&mut committing) => {
                    match committed {
                        Ok((seq, commands)) => {
                            self.seq = seq;
                            self.act(commands);
                        }
                        Err(error) => return Some(Stop::Store(error)),
                    }
                }
                Some(event) = self.receiver.recv() => {
                    self.step(event);
                    for _ in 1..BATCH {
                        let Ok(event) = self.receiver.try_recv() else { break };
                        self.step(event);
                    }
                }
                Some(control) = self.end.control.recv() => self.control(control),
                () = until(tick) => self.step(Event::Tick),
                () = sleep(renew) => {
                    if let Err(error) = self.engine.metadata.renew(&mut self.lease, LEASE).await {
                        return Some(Stop::Store(error));
                    }
                }
            }
            while self.attempts.try_join_next().is_some() {}
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Cancel(reason) => self.step(Event::Cancel { reason }),
            Control::Drain => {
                self.draining = true;
                self.scheduler.pause();
            }
        }
    }

    fn step(&mut self, event: Event) {
        if let Event::Ended { leaf, .. } | Event::Cached { leaf, .. } = &event {
            self.cancels.remove(leaf);
        }
        let commands = self.scheduler.step(Timestamp::now(), event);
        self.take(commands);
    }

    /// Sorts commands: records are to be written, everything else waits for them.
    fn take(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Record(record) => self.records.push(record),
                Command::Launch(launch) if self.engine.options.start_before_commit && self.in_process(&launch) => {
                    self.launch(*launch);
                }
                command => self.held.push(command),
            }
        }
    }

    fn in_process(&self, launch: &Launch) -> bool {
        launch.executor.carrier.as_deref().is_none_or(|carrier| carrier == super::IN_PROCESS)
    }

    fn act(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Record(record) => self.records.push(record),
                Command::Launch(launch) => self.launch(*launch),
                Command::Lookup(launch) => self.look_up(*launch),
                Command::Cancel(leaf) => {
                    if let Some(token) = self.cancels.get(&leaf) {
                        token.cancel();
                    }
                }
                Command::Finished { state, error } => self.finished = Some((state, error)),
            }
        }
    }

    fn launch(&mut self, launch: Launch) {
        let token = CancellationToken::new();
        let leaf = launch.leaf;
        self.cancels.insert(leaf, token.clone());
        let (engine, setup, sender) = (Arc::clone(&self.engine), Arc::clone(&self.setup), self.sender.clone());
        self.attempts.spawn(async move {
            let started_at = Timestamp::now();
            let outcome = attempt::carry(engine, setup, launch, token).await;
            let ended_at = Timestamp::now();
            let _ = sender.send(Event::Ended { leaf, outcome, started_at, ended_at }).await;
        });
    }

    fn look_up(&mut self, launch: Launch) {
        let leaf = launch.leaf;
        self.cancels.insert(leaf, CancellationToken::new());
        let (engine, sender) = (Arc::clone(&self.engine), self.sender.clone());
        self.attempts.spawn(async move {
            let key = cache::key(&launch.executor, &launch.inputs, &engine.program);
            let hit = match &key {
                None => None,
                Some(key) => match cache::find(engine.metadata.as_ref(), engine.home.artifacts(), key).await {
                    Ok(hit) => hit,
                    Err(error) => {
                        tracing::warn!(task = %launch.task, %error, "the cache can't be read; the task runs");
                        None
                    }
                },
            };
            let _ = sender.send(Event::Cached { leaf, hit, key }).await;
        });
    }

    /// Writes everything recorded so far, together.
    fn commit(&mut self) -> Committing {
        let records = std::mem::take(&mut self.records);
        let journal: Vec<JournalEvent> = records.iter().map(JournalEvent::from).collect();
        let finished = self.held.iter().find_map(|command| match command {
            Command::Finished { state, error } => Some((*state, error.clone())),
            _ => None,
        });
        let mut executions = Vec::new();
        let listened = self.end.events.receiver_count() > 0;
        let mut tell = Vec::new();
        for record in records {
            if listened && let Some(event) = event_of(&record) {
                tell.push(event);
            }
            if let Record::Task(end) = record {
                self.count(end.state);
                executions.push(self.execution(*end));
            }
        }
        let commit = Commit {
            run: self.setup.run.clone(),
            epoch: self.lease.epoch,
            expected_seq: self.seq,
            at: Timestamp::now(),
            events: serde_json::to_string(&journal).expect("events are made of names, numbers and JSON"),
            state: finished.or((self.seq == 0).then_some((RunState::Running, None))),
            lineage: Lineage { executions },
        };
        let (engine, events) = (Arc::clone(&self.engine), self.end.events.clone());
        Box::pin(async move {
            let mut wait = Duration::from_millis(50);
            for _ in 1..COMMIT_TRIES {
                match engine.metadata.commit(commit.clone()).await {
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(run = %commit.run, %error, "the commit failed and is tried again");
                        tokio::time::sleep(wait).await;
                        wait *= 3;
                    }
                    done => return told(done, &events, tell),
                }
            }
            told(engine.metadata.commit(commit).await, &events, tell)
        })
    }

    fn count(&mut self, state: TaskState) {
        self.counts.add(state);
    }

    fn execution(&self, end: TaskEnd) -> ExecutionRecord {
        let state = match end.state {
            TaskState::Succeeded => ExecutionState::Complete,
            TaskState::Cached => ExecutionState::Cached,
            TaskState::Canceled => ExecutionState::Canceled,
            _ => ExecutionState::Failed,
        };
        let parameters = |values: &crate::scheduler::Values| {
            values.named_parameters().map(|(name, value)| (name.to_owned(), value.clone())).collect()
        };
        let artifacts = |values: &crate::scheduler::Values| {
            let list = values.artifacts().iter().flat_map(|(port, list)| {
                list.iter().zip(0_u32..).map(move |(artifact, index)| Io {
                    port: port.to_string(),
                    index,
                    artifact: artifact.clone(),
                })
            });
            list.collect()
        };
        ExecutionRecord {
            run: self.setup.run.clone(),
            task: end.task.to_string(),
            component: end.executor.component().to_owned(),
            state,
            cache_key: end.cache_key,
            started_at: end.started_at,
            ended_at: end.ended_at,
            inputs: parameters(&end.inputs),
            outputs: parameters(&end.outputs),
            input_artifacts: artifacts(&end.inputs),
            output_artifacts: artifacts(&end.outputs),
        }
    }
}

impl TaskCounts {
    pub(super) fn add(&mut self, state: TaskState) {
        match state {
            TaskState::Succeeded => self.succeeded += 1,
            TaskState::Cached => self.cached += 1,
            TaskState::Failed => self.failed += 1,
            TaskState::Canceled => self.canceled += 1,
            TaskState::Pending | TaskState::Running | TaskState::Skipped => {}
        }
    }
}

/// Tells listeners what is committed.
fn told(
    done: kf_core::Result<u64>,
    events: &tokio::sync::broadcast::Sender<RunEvent>,
    tell: Vec<RunEvent>,
) -> kf_core::Result<u64> {
    if done.is_ok() {
        for event in tell {
            let _ = events.send(event);
        }
    }
    done
}

fn event_of(record: &Record) -> Option<RunEvent> {
    match record {
        Record::Task(end) => {
            Some(RunEvent::TaskEnded { task: Arc::clone(&end.task), state: end.state, error: end.error.clone() })
        }
        Record::AttemptFailed { task, attempt, error, .. } => Some(RunEvent::AttemptFailed {
            task: Arc::clone(task),
            attempt: *attempt,
            error: Arc::clone(error),
        }),
        Record::Group { task, state, error, .. } => {
            Some(RunEvent::TaskEnded { task: Arc::clone(task), state: *state, error: error.clone() })
        }
        Record::CancelAsked { .. } => None,
    }
}

async fn committed(
    committing: &mut Option<(Committing, Vec<Command>)>,
) -> kf_core::Result<(u64, Vec<Command>)> {
    let done = match committing {
        Some((committing, _)) => committing.await,
        None => std::future::pending().await,
    };
    let commands = committing.take().map(|(_, commands)| commands).unwrap_or_default();
    done.map(|seq| (seq, commands))
}

async fn until(at: Option<Timestamp>) {
    sleep(at.map(|at| at.since(Timestamp::now()))).await;
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
