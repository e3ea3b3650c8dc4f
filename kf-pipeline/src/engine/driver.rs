//! Drives one run: events go into the scheduler, its records into the store, its commands to executors.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kf_core::CancellationToken;
use kf_core::metadata::RunState;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::attempt::{self, Carried};
use super::attempts::Attempts;
use super::cache::{Flight, LookedUp};
use super::commit::{NotedAttempts, Writing};
use super::handle::{Answer, Control, DriverEnd, Ending};
use super::lease::Keeper;
use super::{Inner, Noted, RunEvent, RunOutcome, RunOutputs, RunSetup, TaskCounts, cache};
use crate::TaskState;
use crate::component::checkpoint;
use crate::plan;
use crate::scheduler::{Command, Event, Failure, Launch, LeafId, Outcome, Record, Scheduler};

/// How many events are taken in before their records are written.
const BATCH: usize = 512;
/// For how long records are gathered where tasks start before the ends of others are written.
const GATHER: Duration = Duration::from_millis(1);
/// So many records take long enough to write that it is done beside the driver.
const MANY: usize = 16;

type Committing = Pin<Box<dyn Future<Output = kf_core::Result<u64>> + Send>>;

pub(super) struct Driver {
    engine: Arc<Inner>,
    setup: Arc<RunSetup>,
    lease: Keeper,
    seq: u64,
    scheduler: Scheduler,
    end: DriverEnd,
    attempts: Attempts<Message>,
    cancels: HashMap<LeafId, CancellationToken>,
    /// What keeps other runs from running the same tasks too.
    flights: HashMap<Arc<str>, Flight>,
    /// The spans of tasks that have begun, where anybody wants spans.
    spans: HashMap<Arc<str>, Span>,
    /// What was noted of attempts whose records are not written yet.
    noted: NotedAttempts,
    /// Records that are not written yet, and the commands that wait for them.
    records: Vec<Record>,
    /// Since when there are some that may wait for more.
    gathering: Option<Instant>,
    /// Who waits for these records to be written.
    answers: Vec<Answer>,
    held: Vec<Command>,
    counts: TaskCounts,
    outputs: RunOutputs,
    finished: Option<(RunState, Option<String>)>,
}

/// What became of an attempt, or of a look into the cache.
enum Message {
    Event(Event),
    /// An attempt ended, of which this was noted.
    Noted(Event, (Arc<str>, u32), Box<Noted>),
    /// The cache was asked for a task.
    LookedUp(LeafId, Arc<str>, LookedUp),
    /// The attempt was not begun, since the engine drains.
    Withdrawn(LeafId),
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
        lease: Keeper,
        scheduler: Scheduler,
        counts: TaskCounts,
        end: DriverEnd,
    ) -> Self {
        Self {
            seq: lease.seq,
            lease,
            engine,
            setup,
            scheduler,
            end,
            attempts: Attempts::new(),
            cancels: HashMap::new(),
            flights: HashMap::new(),
            spans: HashMap::new(),
            noted: NotedAttempts::new(),
            records: Vec::new(),
            gathering: None,
            answers: Vec::new(),
            held: Vec::new(),
            counts,
            outputs: RunOutputs::default(),
            finished: None,
        }
    }

    /// Carries the run to its end, and tells its handles.
    pub(super) async fn run(mut self, first: Vec<Command>) {
        let stop = self.drive(first).await;
        self.attempts.shutdown().await;
        let run = self.setup.run.clone();
        // Before anybody hears of the end, so that who then starts the run again gets it.
        if let Err(error) = self.lease.release(self.engine.metadata.as_ref()).await {
            tracing::warn!(%run, %error, "the lease was not given back");
        }
        if stop.is_none() {
            self.engine.end_run(&self.setup.outliving, &run).await;
        }
        self.engine.forget(&run);
        let ending = match stop {
            None => {
                let (state, error) = self.finished.take().unwrap_or((RunState::Failed, None));
                record_end(&Span::current(), state.as_str(), error.as_deref());
                let _ = self.end.events.send(RunEvent::RunEnded { state, error: error.clone() });
                Ending::Ended(Arc::new(RunOutcome {
                    run,
                    state,
                    error,
                    tasks: self.counts,
                    outputs: self.outputs,
                }))
            }
            Some(stop) => {
                let mut elsewhere = false;
                let why = match stop {
                    Stop::Shutdown => "its engine was dropped".to_owned(),
                    Stop::Drained => "its engine was drained".to_owned(),
                    Stop::Store(error) => {
                        elsewhere = matches!(error, kf_core::Error::Fenced { .. });
                        error.to_string()
                    }
                };
                tracing::warn!(%run, why, "the run stopped before its end");
                let then = match elsewhere {
                    true => "it goes on there",
                    false => "start it again to go on where it was",
                };
                Ending::Stopped(format!("stopped before its end: {why}; {then}"))
            }
        };
        self.end.outcome.send_replace(Some(ending));
    }

    async fn drive(&mut self, first: Vec<Command>) -> Option<Stop> {
        self.take(first);
        let shutdown = self.engine.shutdown.clone();
        let mut shutdown = std::pin::pin!(shutdown.cancelled());
        let mut timer = std::pin::pin!(tokio::time::sleep_until(Instant::now()));
        let mut committing: Option<(Committing, Vec<Command>)> = None;
        loop {
            let mut gathers = false;
            if committing.is_none() {
                let ends = self.held.iter().any(|command| matches!(command, Command::Finished { .. }));
                if self.records.is_empty() && !ends {
                    let held = std::mem::take(&mut self.held);
                    self.act(held);
                } else if let Some(until) = self.gather() {
                    gathers = true;
                    if timer.deadline() != until {
                        timer.as_mut().reset(until);
                    }
                } else {
                    committing = Some((self.commit(), std::mem::take(&mut self.held)));
                }
            }
            if committing.is_none() && !gathers {
                if self.finished.is_some() {
                    return None;
                }
                if self.setup.draining.is_cancelled() && self.cancels.is_empty() {
                    return Some(Stop::Drained);
                }
            }
            let tick = self.scheduler.next_tick().map(|at| at.since(self.setup.clock.now()));
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return Some(Stop::Shutdown),
                Some(control) = self.end.control.recv() => self.control(control),
                error = self.lease.lost() => return Some(Stop::Store(error)),
                committed = committed(&mut committing) => {
                    match committed {
                        Ok((seq, commands)) => {
                            self.seq = seq;
                            self.act(commands);
                        }
                        Err(error) => return Some(Stop::Store(error)),
                    }
                }
                Some(message) = self.attempts.next() => {
                    self.hear(message);
                    for _ in 1..BATCH {
                        let Some(message) = self.attempts.ready().await else { break };
                        self.hear(message);
                    }
                }
                () = sleep(tick) => self.step(Event::Tick),
                () = timer.as_mut(), if gathers => {}
            }
        }
    }

    /// Until when records wait for those of other tasks: a commit of many costs little more than one of a few. Only where
    /// nothing waits for them, and where there may be more soon.
    fn gather(&mut self) -> Option<Instant> {
        let waits = self.engine.options.start_before_commit
            && self.held.is_empty()
            && self.answers.is_empty()
            && !self.cancels.is_empty()
            && self.records.len() < BATCH;
        let until = *self.gathering.get_or_insert_with(Instant::now) + GATHER;
        (waits && Instant::now() < until).then_some(until)
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Cancel(reason) => self.step(Event::Cancel { reason }),
            Control::Decide(task, decision, answer) => {
                match self.scheduler.decided(self.setup.clock.now(), &task, &decision) {
                    Err(problem) => {
                        let _ = answer.send(Err(problem));
                    }
                    Ok(commands) => {
                        self.answers.push(answer);
                        self.take(commands);
                    }
                }
            }
            Control::Drain => self.scheduler.pause(),
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                if let Event::Ended { leaf, .. } = &event {
                    self.cancels.remove(leaf);
                }
                self.step(event);
            }
            Message::Noted(event, attempt, noted) => {
                self.noted.insert(attempt, noted);
                self.hear(Message::Event(event));
            }
            Message::LookedUp(leaf, task, LookedUp { hit, key, flight }) => {
                let canceled = self.cancels.remove(&leaf).is_some_and(|token| token.is_cancelled());
                self.flights.extend(flight.filter(|_| !canceled).map(|flight| (task, flight)));
                self.step(Event::Cached { leaf, hit, key });
            }
            Message::Withdrawn(leaf) => {
                self.cancels.remove(&leaf);
            }
        }
    }

    fn step(&mut self, event: Event) {
        let commands = self.scheduler.step(self.setup.clock.now(), event);
        self.take(commands);
    }

    /// Sorts commands: records are to be written, everything else waits for them.
    fn take(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Record(record) => self.records.push(record),
                Command::Launch(launch)
                    if self.engine.options.start_before_commit && self.in_process(&launch) =>
                {
                    self.launch(*launch);
                }
                command => self.held.push(command),
            }
        }
    }

    fn in_process(&self, launch: &Launch) -> bool {
        let component = matches!(launch.executor.work, plan::Work::Component { .. });
        component && self.engine.executor_of(&launch.executor).0 == super::IN_PROCESS
    }

    /// Whether all that an attempt costs beside its body, which has a task or thread of its own, is a few microseconds: no
    /// files are fetched or kept, and no other's executor is asked.
    fn is_brief(&self, launch: &Launch) -> bool {
        let files = !launch.inputs.artifacts().is_empty() || !launch.executor.outputs.artifacts.is_empty();
        !files && self.engine.own_in_process && self.in_process(launch)
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

    /// The span of a task, from its first attempt or look into the cache to the commit of its end.
    fn span(&mut self, task: &Arc<str>) -> Span {
        if let Some(span) = self.spans.get(task) {
            return span.clone();
        }
        let span = tracing::info_span!(
            "task",
            task = &**task,
            state = Empty,
            error = Empty,
            otel.status_code = Empty,
        );
        if !span.is_disabled() {
            self.spans.insert(Arc::clone(task), span.clone());
        }
        span
    }

    fn launch(&mut self, launch: Launch) {
        if self.setup.draining.is_cancelled() {
            return;
        }
        let token = CancellationToken::new();
        let leaf = launch.leaf;
        self.cancels.insert(leaf, token.clone());
        let span = self.span(&launch.task);
        let (engine, setup) = (Arc::clone(&self.engine), Arc::clone(&self.setup));
        let here = self.is_brief(&launch);
        let carrying = async move {
            let timed = Arc::clone(&setup);
            let asked_at = timed.clock.now();
            let attempt = (Arc::clone(&launch.task), launch.attempt);
            let carried = AssertUnwindSafe(attempt::carry(engine, setup, launch, token)).catch_unwind().await;
            let (outcome, started_at, noted) = match carried {
                Ok(Carried::Ended { outcome, started_at, noted }) => (outcome, started_at, noted),
                Ok(Carried::Withdrawn) => return Message::Withdrawn(leaf),
                // A component's panic ends in its executor; this is the executor's own.
                Err(_) => (Outcome::Failed(Failure::carrier("its executor panicked")), asked_at, None),
            };
            let ended_at = timed.clock.now();
            let event = Event::Ended { leaf, outcome, started_at, ended_at };
            match noted {
                Some(noted) => Message::Noted(event, attempt, noted),
                None => Message::Event(event),
            }
        };
        let carrying = carrying.instrument(span);
        match here {
            true => self.attempts.carry_here(carrying),
            false => self.attempts.spawn(carrying),
        }
    }

    fn look_up(&mut self, launch: Launch) {
        if self.setup.draining.is_cancelled() {
            return;
        }
        let leaf = launch.leaf;
        let token = CancellationToken::new();
        self.cancels.insert(leaf, token.clone());
        let span = self.span(&launch.task);
        let (engine, setup) = (Arc::clone(&self.engine), Arc::clone(&self.setup));
        self.attempts.spawn(
            async move {
                let looking =
                    AssertUnwindSafe(cache::look_up(&engine, &setup, &launch, &token)).catch_unwind();
                let looked = tokio::select! {
                    looked = looking => looked,
                    // What is cached may be anywhere, and take as long as it likes to be verified.
                    () = token.cancelled() => Ok(None),
                };
                match looked {
                    Ok(None) if !token.is_cancelled() => Message::Withdrawn(leaf),
                    Ok(looked) => Message::LookedUp(leaf, launch.task, looked.unwrap_or_default()),
                    Err(_) => Message::LookedUp(leaf, launch.task, LookedUp::default()),
                }
            }
            .instrument(span),
        );
    }

    /// Writes everything recorded so far, together.
    fn commit(&mut self) -> Committing {
        let records = std::mem::take(&mut self.records);
        self.gathering = None;
        let (mut flights, mut succeeded, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for record in &records {
            match record {
                Record::Task(end) => {
                    self.counts.add(end.state);
                    flights.extend(self.flights.remove(&end.task));
                    if end.state == TaskState::Succeeded {
                        succeeded.push(Arc::clone(&end.task));
                    }
                    over.push((Arc::clone(&end.task), end.attempts));
                    if let Some(span) = self.spans.remove(&end.task) {
                        record_end(&span, end.state.as_str(), end.error.as_deref());
                    }
                }
                Record::AttemptFailed { task, attempt, .. } => {
                    over.push((Arc::clone(task), *attempt));
                    // Whoever waits runs it themselves: this one may not come to it before long.
                    flights.extend(self.flights.remove(task));
                }
                // It did not run.
                Record::Group { task, .. } => flights.extend(self.flights.remove(task)),
                Record::Outputs { outputs } => self.outputs = outputs.as_ref().into(),
                _ => {}
            }
        }
        let ended = self.held.iter().find_map(|command| match command {
            Command::Finished { state, error } => Some((*state, error.clone())),
            _ => None,
        });
        let many = records.len() >= MANY;
        let events = self.end.events.clone();
        let (store, until) = (Arc::clone(&self.engine.metadata), self.lease.until());
        let (epoch, seq, at) = (self.lease.epoch, self.seq, self.setup.clock.now());
        let answers = std::mem::take(&mut self.answers);
        let setup = Arc::clone(&self.setup);
        let noted = std::mem::take(&mut self.noted);
        let writing = async move {
            let listened = events.receiver_count() > 0;
            let writing = Writing::new(&setup.run, epoch, seq, at, (records, noted), ended, listened);
            let written = writing.write(store, until, events).await;
            if written.is_ok() {
                setup.under_way.forget(over).await;
                answers.into_iter().for_each(|answer| drop(answer.send(Ok(()))));
                checkpoint::remove(&setup.dir, &succeeded);
            }
            // Who waited for these tasks finds their ends in the store now.
            drop(flights);
            written
        };
        if !many {
            return Box::pin(writing);
        }
        let writing = AbortOnDropHandle::new(tokio::spawn(writing.in_current_span()));
        Box::pin(async move {
            let ended = |error| kf_core::Error::Process(format!("a commit was not made: {error}"));
            writing.await.unwrap_or_else(|error| Err(ended(error)))
        })
    }
}

/// Says in a span how what it stands for has ended.
pub(super) fn record_end(span: &Span, state: &str, error: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    span.record("state", state);
    if let Some(error) = error {
        span.record("error", error);
        span.record("otel.status_code", "ERROR");
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

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
