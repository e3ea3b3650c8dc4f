//! One attempt from the making of its pod to its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kf_core::CancellationToken;
use kf_core::process::LogWriter;
use kf_pipeline::{AttemptEnd, AttemptHandle, AttemptStatus, remote};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::executor::Shared;
use super::informer::{Follower, Sight, facts_of};
use super::limits::Limits;
use super::logging::Logging;
use super::pod::RUN;
use super::problem::{Came, Known, PodProblem, asked_to_end, came_to, last_lines};
use super::warnings::Warned;
use crate::again::Again;
use crate::answer::in_time;
use crate::facts::PodFacts;

/// How often a pod is looked at of which nothing is heard.
pub(super) const LOOK: Duration = Duration::from_secs(300);
/// How often one is looked at that the watch may not tell of.
pub(super) const UNWATCHED: Duration = Duration::from_secs(5);

/// What ends an attempt before its time.
#[derive(Debug, Default)]
pub(super) struct Canceling {
    pub(super) asked: CancellationToken,
    /// How long it may take to end.
    pub(super) grace: Mutex<Duration>,
}

/// What an attempt begins with.
pub(super) enum Start {
    /// Its pod is to be made.
    Make(Asked),
    /// Its pod is there.
    There(Box<Pod>),
}

/// A pod that is to be made.
pub(super) struct Asked {
    /// As JSON: as an object it is ten times as large, and thousands may wait for their turn.
    pub(super) pod: Vec<u8>,
    pub(super) fingerprint: String,
}

/// An attempt under way.
pub(super) struct Carrying {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: AttemptHandle,
    pub(super) name: String,
    pub(super) known: Known,
    /// What its label says, where that is known.
    pub(super) run: Option<String>,
    /// What keeps its log, until it is followed; none where that is not kept.
    pub(super) log: Mutex<Option<LogWriter>>,
    pub(super) canceling: Arc<Canceling>,
    /// Boxed, since a channel has room for 32 of them from its beginning.
    pub(super) tell: mpsc::Sender<Box<AttemptStatus>>,
    /// Whether it is a command, whose last lines say what its exit code does not.
    pub(super) command: bool,
}

impl Carrying {
    /// Carries it to its end.
    pub(super) async fn carry(self, start: Start) -> AttemptEnd {
        let mut follower = self.shared.informer().follow(&self.name);
        let mut warned = self.shared.warnings().follow(&self.name);
        let canceling = Arc::clone(&self.canceling);
        let made = match start {
            // Requests are large while they are made, and are not to be kept room for while the pod runs.
            Start::Make(asked) => Box::pin(self.make(&asked, &follower)).await,
            Start::There(pod) => {
                follower.hear(facts_of(&pod));
                Ok(UNWATCHED)
            }
        };
        let look = match made {
            Ok(look) => look,
            Err(problem) => return problem.end(),
        };
        let came = tokio::select! {
            biased;
            () = canceling.asked.cancelled() => None,
            came = self.come(&mut follower, &mut warned, look) => Some(came),
        };
        match came {
            Some(end) => end,
            None => {
                Box::pin(self.remove(&mut follower)).await;
                AttemptEnd::Canceled
            }
        }
    }

    async fn come(&self, follower: &mut Follower, warned: &mut Warned, look: Duration) -> AttemptEnd {
        let mut log = Logging::default();
        let (came, facts) = self.follow(follower, warned, look, &mut log).await;
        let tail = Box::pin(log.end(self, &facts.uid)).await;
        Box::pin(self.end(came, &facts, tail)).await
    }

    pub(super) async fn waits(&self, reason: impl Into<String>) {
        self.say(AttemptStatus::Pending { reason: reason.into() }).await;
    }

    async fn say(&self, status: AttemptStatus) {
        let _ = self.tell.send(Box::new(status)).await;
    }

    /// Follows the pod until it has ended, and looks at it by itself after so long.
    async fn follow(
        &self,
        follower: &mut Follower,
        warned: &mut Warned,
        look: Duration,
        log: &mut Logging,
    ) -> (Came, Arc<PodFacts>) {
        let (mut told, mut running) = (String::new(), false);
        let (mut limits, mut every) = (Limits::default(), look);
        loop {
            let sight = follower.sight.borrow_and_update().clone();
            match sight {
                Sight::Unseen => {}
                Sight::Gone(last) => {
                    if let Some(came) = came_to(&last, &self.known) {
                        return (came, last);
                    }
                    every = match Box::pin(self.is_there(&last, follower)).await {
                        Some(every) => every,
                        None => {
                            let deleted = PodProblem::Deleted { pod: self.name.clone() };
                            return (Came::Problem(deleted), last);
                        }
                    };
                    continue;
                }
                Sight::Pod(pod) => {
                    if let Some(came) = came_to(&pod, &self.known) {
                        return (came, pod);
                    }
                    if let Some(wait) = pod.waits.as_ref().filter(|wait| wait.reason != told) {
                        told.clone_from(&wait.reason);
                        self.waits(&wait.reason).await;
                    }
                    let begun = running || pod.containers.iter().any(|container| container.started);
                    for message in warned.news(&pod.uid) {
                        match begun {
                            true => self.say(AttemptStatus::Warned { message }).await,
                            false => self.waits(message).await,
                        }
                    }
                    if let Some(problem) = limits.see(&pod) {
                        return (Came::Problem(problem), pod);
                    }
                    if !running && pod.containers.first().is_some_and(|container| container.started) {
                        running = true;
                        self.say(AttemptStatus::Running).await;
                        log.follow(self, &pod.uid);
                    }
                }
            }
            tokio::select! {
                changed = follower.sight.changed() => {
                    if changed.is_err() {
                        // The executor goes, and this with it.
                        std::future::pending::<()>().await;
                    }
                }
                () = warned.more() => {}
                () = wait_until(limits.next()) => {}
                () = tokio::time::sleep(every) => every = Box::pin(self.look(follower)).await,
            }
        }
    }

    /// Whether a pod is there of which the watch says that it is gone, and when to look at it next: it tells so too of one
    /// that has lost its label.
    async fn is_there(&self, last: &PodFacts, follower: &Follower) -> Option<Duration> {
        let mut again = Again::default();
        loop {
            match in_time(self.shared.pods.get_opt(&self.name)).await {
                Ok(Some(pod)) if pod.metadata.uid.as_deref().unwrap_or_default() == last.uid => {
                    follower.look(Some(&pod));
                    return Some(self.watched(&pod).await);
                }
                Ok(_) => return None,
                Err(error) => {
                    tracing::debug!(pod = %self.name, %error, "whether it is there is not known yet")
                }
            }
            again.wait().await;
        }
    }

    /// Asks for the pod itself, in case the watch has missed something; gives when to look again.
    async fn look(&self, follower: &Follower) -> Duration {
        match in_time(self.shared.pods.get_opt(&self.name)).await {
            Ok(pod) => {
                follower.look(pod.as_ref());
                match pod {
                    Some(pod) => self.watched(&pod).await,
                    None => LOOK,
                }
            }
            Err(error) => {
                tracing::debug!(pod = %self.name, %error, "it can't be looked at");
                UNWATCHED
            }
        }
    }

    /// Sees that the watch tells of a pod, which it does by its label; gives when to look at the pod itself.
    async fn watched(&self, pod: &Pod) -> Duration {
        if pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(RUN)) {
            return LOOK;
        }
        if let Some(run) = &self.run {
            // Of this pod, not of another that has its name by now.
            let patch = json!({"metadata": {"uid": pod.metadata.uid, "labels": {RUN: run}}});
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            let patching = in_time(self.shared.pods.patch(&self.name, &params, &patch));
            match self.shared.pace.send(patching).await {
                Ok(_) => tracing::warn!(pod = %self.name, "its label {RUN} was taken away: it has it again"),
                Err(error) => {
                    tracing::warn!(pod = %self.name, %error, "its label {RUN} was taken away, and can't be given back")
                }
            }
        }
        UNWATCHED
    }

    async fn end(&self, came: Came, facts: &PodFacts, tail: Vec<String>) -> AttemptEnd {
        let reply = match came {
            Came::Reply(reply) => reply,
            Came::Problem(PodProblem::Exit { pod, exit, .. }) => {
                return PodProblem::Exit { pod, exit, lines: tail }.end();
            }
            Came::Problem(problem) => return problem.end(),
        };
        let (mut again, mut tries) = (Again::default(), 0);
        let (end, used) = loop {
            match remote::end_of(&reply, &self.shared.store).await {
                Ok(told) => break told,
                Err(_) if tries < 5 => {
                    tries += 1;
                    again.wait().await;
                }
                Err(reason) => {
                    return PodProblem::Reply { pod: self.name.clone(), reason, lines: tail }.end();
                }
            }
        };
        self.say(AttemptStatus::Used(used)).await;
        match end {
            // It was asked to end, and not by this.
            AttemptEnd::Canceled => asked_to_end(facts, &self.known).end(),
            AttemptEnd::Failed { message, permanent } if self.command => {
                AttemptEnd::Failed { message: format!("{message}{}", last_lines(&tail)), permanent }
            }
            end => end,
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
