//! Handles of runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::{Stream, stream};
use kf_core::artifact::{ArtifactRef, Metadata};
use kf_core::metadata::RunState;
use kf_core::{CancellationToken, RunId};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::RunEvent;
use super::under_way::UnderWay;
use crate::component::Param;
use crate::mutex::locked;
use crate::scheduler::Values;
use crate::{Decision, Error, Result};

/// How many events a listener may be behind before it misses some.
pub(super) const EVENT_BUFFER: usize = 1024;

/// A run that this engine carries, or that has ended. Clones are handles of the same run; dropping them all changes
/// nothing for the run.
#[derive(Clone, Debug)]
pub struct RunHandle {
    id: RunId,
    events: broadcast::Sender<RunEvent>,
    /// Listens from before the run begins, for whoever asks first.
    first: Arc<Mutex<Option<broadcast::Receiver<RunEvent>>>>,
    outcome: watch::Receiver<Option<Ending>>,
    control: mpsc::Sender<Control>,
    draining: CancellationToken,
    under_way: Arc<UnderWay>,
}

/// What a run's driver is asked.
#[derive(Debug)]
pub(super) enum Control {
    Cancel(String),
    Decide(String, Box<Decision>, Answer),
    Drain,
}

/// Where whoever decided hears that this is committed, or why not.
pub(super) type Answer = oneshot::Sender<std::result::Result<(), String>>;

/// How a run left its driver.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Ended(Arc<RunOutcome>),
    Stopped(String),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunOutcome {
    /// The run.
    pub run: RunId,
    /// Its state.
    pub state: RunState,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// What became of its tasks.
    pub tasks: TaskCounts,
    /// What the pipeline gave, where it succeeded and its outermost DAG has outputs.
    pub outputs: RunOutputs,
}

impl RunOutcome {
    /// A parameter that the pipeline gave, as the type that it was [given](crate::Scope::output) as.
    ///
    /// # Errors
    /// [`Error::Run`] where it gave none of this name, or one of another type.
    pub fn output<T: Param>(&self, name: &str) -> Result<T> {
        let refuse = |problem: String| Error::Run { run: self.run.to_string(), problem };
        let value = self.outputs.parameters.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.outputs.parameters.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            refuse(format!("it is {} and gave no parameter `{name}`; it gave: {known}", self.state))
        })?;
        T::from_json(value).map_err(|problem| refuse(format!("output `{name}`: {problem}")))
    }
}

/// What a pipeline gave.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RunOutputs {
    /// Parameters by name.
    pub parameters: Metadata,
    /// Artifacts by name; one each, but for lists.
    pub artifacts: BTreeMap<String, Vec<ArtifactRef>>,
}

impl From<&Values> for RunOutputs {
    fn from(values: &Values) -> Self {
        let parameters = values.named_parameters().map(|(name, value)| (name.to_owned(), value.clone()));
        let artifacts = values.artifacts().iter().map(|(name, list)| (name.to_string(), list.to_vec()));
        Self { parameters: parameters.collect(), artifacts: artifacts.collect() }
    }
}

/// How many of a run's tasks ended how. Loops and branches are not counted, the tasks inside of them are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskCounts {
    /// Ran and succeeded.
    pub succeeded: u64,
    /// Were taken from the cache.
    pub cached: u64,
    /// Failed.
    pub failed: u64,
    /// Were under way when they were cancelled; those that had not begun are not counted.
    pub canceled: u64,
}

/// The driver's end of a [`RunHandle`].
pub(super) struct DriverEnd {
    pub(super) events: broadcast::Sender<RunEvent>,
    pub(super) outcome: watch::Sender<Option<Ending>>,
    pub(super) control: mpsc::Receiver<Control>,
    /// Fires when nothing new is to begin.
    pub(super) draining: CancellationToken,
}

impl RunHandle {
    pub(super) fn new(id: RunId) -> (Self, DriverEnd) {
        let (events, first) = broadcast::channel(EVENT_BUFFER);
        let (outcome_sender, outcome) = watch::channel(None);
        let (control, control_receiver) = mpsc::channel(8);
        let draining = CancellationToken::new();
        let driver = DriverEnd {
            events: events.clone(),
            outcome: outcome_sender,
            control: control_receiver,
            draining: draining.clone(),
        };
        let first = Arc::new(Mutex::new(Some(first)));
        (Self { id, events, first, outcome, control, draining, under_way: Arc::default() }, driver)
    }

    /// The handle of a run that has ended.
    pub(super) fn ended(outcome: RunOutcome) -> Self {
        let (handle, driver) = Self::new(outcome.run.clone());
        driver.outcome.send_replace(Some(Ending::Ended(Arc::new(outcome))));
        handle
    }

    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// What happens in the run. The first listener hears it from the run's beginning, others from now on. Ends with the
    /// run; a listener that is more than 1,024 events behind is told how many it missed.
    pub fn events(&self) -> impl Stream<Item = RunEvent> + Send + Unpin + use<> {
        let first = locked(&self.first).take();
        let (events, over) = (first.unwrap_or_else(|| self.events.subscribe()), self.outcome.clone());
        Box::pin(stream::unfold((events, over), |(mut events, mut over)| async move {
            let event = tokio::select! {
                biased;
                event = events.recv() => event,
                // What was sent before the end is there by now, and still delivered.
                _ = over.wait_for(Option::is_some) => match events.try_recv() {
                    Ok(event) => Ok(event),
                    Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
                },
            };
            match event {
                Ok(event) => Some((event, (events, over))),
                Err(RecvError::Lagged(missed)) => Some((RunEvent::Missed(missed), (events, over))),
                Err(RecvError::Closed) => None,
            }
        }))
    }

    /// Waits for the run's end.
    ///
    /// # Errors
    /// [`Error::Run`] where the engine stopped or lost the run before its end; it can be started again and goes on
    /// where it was.
    pub async fn wait(&self) -> Result<RunOutcome> {
        let mut outcome = self.outcome.clone();
        let stopped = |problem: String| Error::Run { run: self.id.to_string(), problem };
        let ending = match outcome.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone(),
            Err(_) => None,
        };
        match ending {
            Some(Ending::Ended(outcome)) => Ok(outcome.as_ref().clone()),
            Some(Ending::Stopped(problem)) => Err(stopped(problem)),
            None => Err(stopped("its engine is gone; start it again to go on where it was".to_owned())),
        }
    }

    /// Cancels the run: tasks under way are ended, further ones don't begin, exit handlers still run. Asked for a
    /// second time, exit handlers are ended too.
    pub async fn cancel(&self, reason: impl Into<String>) {
        // Where the run has ended, nobody listens, and that is fine.
        let _ = self.control.send(Control::Cancel(reason.into())).await;
    }

    /// Decides what a task waits for; returns when that is committed.
    ///
    /// # Errors
    /// [`Error::Run`] where the task waits for nothing or asks for another kind of value, and where the run has ended.
    pub async fn decide(&self, task: &str, decision: Decision) -> Result<()> {
        let refuse = |problem: String| Error::Run { run: self.id.to_string(), problem };
        let (answer, answered) = oneshot::channel();
        let sent = self.control.send(Control::Decide(task.to_owned(), Box::new(decision), answer)).await;
        let answered = match sent {
            Ok(()) => answered.await.ok(),
            Err(_) => None,
        };
        let over = || Err("it has ended or was stopped before the decision was committed".to_owned());
        answered.unwrap_or_else(over).map_err(refuse)
    }

    pub(super) fn under_way(&self) -> Arc<UnderWay> {
        Arc::clone(&self.under_way)
    }

    pub(super) async fn drain(&self) {
        self.draining.cancel();
        let _ = self.control.send(Control::Drain).await;
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcome.borrow().is_some() || self.outcome.has_changed().is_err()
    }
}
