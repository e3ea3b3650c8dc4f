//! One attempt from the making of its pod to its end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kf_core::CancellationToken;
use kf_core::process::{Log, LogWriter};
use kf_pipeline::{AttemptEnd, AttemptHandle, AttemptStatus, remote};
use kube::Resource;
use kube::api::{DeleteParams, PostParams};
use kube::core::Request;
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::create::{Again, Refusal, refusal, with_causes};
use super::executor::Shared;
use super::informer::{Follower, Sight};
use super::pod::{ATTEMPT, CONTAINER};
use super::problem::{Came, Known, PodProblem, came_to, last_lines};
use crate::facts::PodFacts;
use crate::log::{Followed, Kept};

/// How long a pod may wait for what won't come by waiting.
const HOPELESS_AFTER: Duration = Duration::from_secs(20);
/// How long it takes until a quota is asked again.
const QUOTA_AGAIN: Duration = Duration::from_secs(3);
/// How often a pod is looked at of which nothing is heard.
const LOOK: Duration = Duration::from_secs(300);
/// How long the rest of a log is waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How many of the last lines are told.
const TAIL_LINES: usize = 20;
/// How many lines may wait to be written.
const LINES: usize = 1024;

/// What ends an attempt before its time.
#[derive(Debug, Default)]
pub(super) struct Canceling {
    pub(super) asked: CancellationToken,
    /// How long it may take to end.
    pub(super) grace: Mutex<Duration>,
}

/// What an attempt begins with.
pub(super) enum Start {
    /// Its pod is to be made, of this JSON: as an object it is ten times as large, and thousands may wait for their turn.
    Make(Vec<u8>),
    /// Its pod is there.
    There(Box<Pod>),
}

/// An attempt under way.
pub(super) struct Carrying {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: AttemptHandle,
    pub(super) name: String,
    pub(super) known: Known,
    /// Where its log is kept; nowhere where not known.
    pub(super) log: Option<PathBuf>,
    pub(super) canceling: Arc<Canceling>,
    pub(super) tell: mpsc::Sender<AttemptStatus>,
    /// Whether it is a command, whose last lines say what its exit code does not.
    pub(super) command: bool,
}

impl Carrying {
    /// Carries it to its end.
    pub(super) async fn carry(self, start: Start) -> AttemptEnd {
        let mut follower = self.shared.informer().follow(&self.name);
        let canceling = Arc::clone(&self.canceling);
        // A request to make it that is under way comes to its end: the pod could be there after it was removed.
        let made = match start {
            // Requests are large while they are made, and are not to be kept room for while the pod runs.
            Start::Make(pod) => Box::pin(self.make(&pod, &follower)).await,
            Start::There(pod) => {
                follower.hear(&pod);
                Ok(())
            }
        };
        if let Err(problem) = made {
            return problem.end();
        }
        let came = tokio::select! {
            biased;
            () = canceling.asked.cancelled() => None,
            came = self.come(&mut follower) => Some(came),
        };
        match came {
            Some(end) => end,
            None => {
                Box::pin(self.remove(&mut follower)).await;
                AttemptEnd::Canceled
            }
        }
    }

    async fn come(&self, follower: &mut Follower) -> AttemptEnd {
        let mut log = Logging::default();
        let (came, facts) = self.follow(follower, &mut log).await;
        let tail = Box::pin(log.end(self, &facts.uid)).await;
        Box::pin(self.end(came, &facts, tail)).await
    }

    async fn waits(&self, reason: impl Into<String>) {
        let _ = self.tell.send(AttemptStatus::Pending { reason: reason.into() }).await;
    }

    /// Makes the pod, unless it is there.
    async fn make(&self, pod: &[u8], follower: &Follower) -> Result<(), PodProblem> {
        let Shared { pods, pace, namespace, .. } = &*self.shared;
        let (namespace, mut again) = (|| namespace.clone(), Again::default());
        while !self.canceling.asked.is_cancelled() {
            let error = match pace.send(async { Box::pin(self.create(pod)).await }).await {
                Ok(()) => {
                    self.shared.is_ours(&self.handle);
                    return Ok(());
                }
                Err(error) => error,
            };
            match refusal(&error) {
                Refusal::There => match pods.get_opt(&self.name).await {
                    Ok(Some(there)) => {
                        let of = there.metadata.annotations.as_ref().and_then(|all| all.get(ATTEMPT));
                        if of != Some(&self.handle.0) {
                            let attempt = self.handle.0.clone();
                            let pod = self.name.clone();
                            return Err(PodProblem::NameTaken { namespace: namespace(), pod, attempt });
                        }
                        tracing::debug!(pod = %self.name, "it is there already");
                        self.shared.is_ours(&self.handle);
                        follower.hear(&there);
                        return Ok(());
                    }
                    Ok(None) => {}
                    Err(error) => {
                        self.waits(format!("the API server can't be asked: {}", with_causes(&error))).await
                    }
                },
                Refusal::Quota(reason) => {
                    self.waits(format!("the namespace's quota is used up: {reason}")).await;
                    self.unless_canceled(tokio::time::sleep(QUOTA_AGAIN)).await;
                    continue;
                }
                Refusal::Forbidden(reason) => {
                    return Err(PodProblem::Forbidden { namespace: namespace(), reason });
                }
                Refusal::Refused(reason) => {
                    return Err(PodProblem::Refused {
                        namespace: namespace(),
                        pod: self.name.clone(),
                        reason,
                    });
                }
                Refusal::Later(reason) => {
                    self.waits(format!("the API server can't be asked: {reason}")).await
                }
            }
            self.unless_canceled(again.wait()).await;
        }
        Ok(())
    }

    async fn create(&self, pod: &[u8]) -> kube::Result<()> {
        let params = PostParams { field_manager: Some("kf".into()), ..PostParams::default() };
        let path = Pod::url_path(&(), Some(&self.shared.namespace));
        let request = Request::new(path).create(&params, pod.to_vec()).map_err(kube::Error::BuildRequest)?;
        self.shared.client.request::<IgnoredAny>(request).await.map(drop)
    }

    async fn unless_canceled(&self, wait: impl Future<Output = ()>) {
        let _ = self.canceling.asked.run_until_cancelled(wait).await;
    }

    /// Follows the pod until it has ended.
    async fn follow(&self, follower: &mut Follower, log: &mut Logging) -> (Came, Arc<PodFacts>) {
        let (mut told, mut running) = (String::new(), false);
        let mut hopeless: Option<Instant> = None;
        loop {
            let sight = follower.sight.borrow_and_update().clone();
            match sight {
                Sight::Unseen => {}
                Sight::Gone(last) => {
                    let came = came_to(&last, &self.known)
                        .unwrap_or_else(|| Came::Problem(PodProblem::Deleted { pod: self.name.clone() }));
                    return (came, last);
                }
                Sight::Pod(pod) => {
                    if let Some(came) = came_to(&pod, &self.known) {
                        return (came, pod);
                    }
                    let waits = pod.waits.as_ref();
                    if let Some(wait) = waits.filter(|wait| wait.reason != told) {
                        told.clone_from(&wait.reason);
                        self.waits(&wait.reason).await;
                    }
                    hopeless = match waits.filter(|wait| wait.hopeless) {
                        Some(_) => hopeless.or_else(|| Instant::now().checked_add(HOPELESS_AFTER)),
                        None => None,
                    };
                    if let (Some(at), Some(wait)) = (hopeless, waits)
                        && Instant::now() >= at
                    {
                        let (pod_name, reason) = (self.name.clone(), wait.reason.clone());
                        return (Came::Problem(PodProblem::Start { pod: pod_name, reason }), pod);
                    }
                    if !running && pod.containers.first().is_some_and(|container| container.started) {
                        running = true;
                        let _ = self.tell.send(AttemptStatus::Running).await;
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
                () = wait_until(hopeless) => {}
                () = tokio::time::sleep(LOOK) => Box::pin(self.look(follower)).await,
            }
        }
    }

    /// Asks for the pod itself, in case the watch has missed something.
    async fn look(&self, follower: &Follower) {
        match self.shared.pods.get_opt(&self.name).await {
            Ok(Some(pod)) => follower.hear(&pod),
            Ok(None) => tracing::debug!(pod = %self.name, "it is not there"),
            Err(error) => tracing::debug!(pod = %self.name, %error, "it can't be looked at"),
        }
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
        let end = loop {
            match remote::end_of(&reply, &self.shared.store).await {
                Ok(end) => break end,
                Err(_) if tries < 5 => {
                    tries += 1;
                    again.wait().await;
                }
                Err(reason) => {
                    return PodProblem::Reply { pod: self.name.clone(), reason, lines: tail }.end();
                }
            }
        };
        match end {
            // It was asked to end, and not by this.
            AttemptEnd::Canceled => {
                let pod = self.name.clone();
                let reason = facts.evicted.as_ref().map(ToString::to_string);
                match reason {
                    Some(reason) => PodProblem::Evicted { pod, reason },
                    None => PodProblem::Deleted { pod },
                }
                .end()
            }
            AttemptEnd::Failed { message, permanent } if self.command => {
                AttemptEnd::Failed { message: format!("{message}{}", last_lines(&tail)), permanent }
            }
            end => end,
        }
    }

    /// Removes the pod, and waits until it is gone.
    async fn remove(&self, follower: &mut Follower) {
        let grace = *self.canceling.grace.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = u32::try_from(crate::pod::whole_seconds(grace)).unwrap_or(u32::MAX);
        let until = Instant::now() + grace + Duration::from_secs(10);
        if !self.shared.was_ours(&self.handle) {
            return;
        }
        let removed = async {
            remove_pod(&self.shared, &self.name, Some(seconds)).await;
            let mut poll = tokio::time::interval(Duration::from_secs(1));
            loop {
                if let Sight::Gone(_) = &*follower.sight.borrow_and_update() {
                    return;
                }
                tokio::select! {
                    _ = follower.sight.changed() => {}
                    _ = poll.tick() => {
                        if let Ok(None) = self.shared.pods.get_opt(&self.name).await {
                            return;
                        }
                    }
                }
            }
        };
        if tokio::time::timeout_at(until, removed).await.is_err() {
            tracing::warn!(pod = %self.name, "it was not seen to go in its time");
        }
    }
}

/// Removes a pod, over failures; one that is not there is removed.
pub(super) async fn remove_pod(shared: &Shared, name: &str, grace: Option<u32>) {
    let mut params = DeleteParams::background();
    params.grace_period_seconds = grace;
    let mut again = Again::default();
    for _ in 0..20 {
        match shared.pace.send(shared.pods.delete(name, &params)).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => tracing::debug!(pod = name, %error, "it can't be removed yet"),
        }
        again.wait().await;
    }
    tracing::warn!(pod = name, "it was not removed");
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The log of an attempt, kept while it comes.
#[derive(Default)]
struct Logging {
    following: Option<AbortOnDropHandle<Kept>>,
    followed: bool,
    /// Fires when the container has ended.
    over: CancellationToken,
}

impl Logging {
    /// Follows the log from here on, where there is room for one more.
    fn follow(&mut self, carrying: &Carrying, uid: &str) {
        if self.followed {
            return;
        }
        let Ok(room) = Arc::clone(&carrying.shared.logs).try_acquire_owned() else { return };
        self.followed = true;
        self.start(carrying, uid, Some(room));
    }

    fn start(&mut self, carrying: &Carrying, uid: &str, room: Option<tokio::sync::OwnedSemaphorePermit>) {
        let (told, mut lines) = mpsc::channel(LINES);
        let followed = Followed {
            pods: carrying.shared.pods.clone(),
            pod: carrying.name.clone(),
            container: CONTAINER.into(),
            uid: uid.to_owned(),
            turn: 0,
            rank: 0,
            told,
            over: self.over.clone(),
        };
        let writer = carrying.log.as_ref().map(|path| LogWriter::new(&Log::to(path)));
        if let Some(writer) = &writer {
            carrying.shared.feed(&carrying.handle, writer.feed());
        }
        let reading = async move {
            let (mut writer, mut kept) = (writer, Kept::default());
            let read = async {
                while let Some(read) = lines.recv().await {
                    let Some(line) = read.line else { break };
                    if let Some(writer) = &mut writer {
                        writer.write([&line, "\n"].concat().as_bytes());
                    }
                    kept.add(&line);
                }
            };
            tokio::join!(followed.read(), read);
            if let Some(Err(error)) = writer.map(LogWriter::finish) {
                tracing::warn!(%error, "a log is incomplete");
            }
            drop(room);
            kept
        };
        self.following = Some(AbortOnDropHandle::new(tokio::spawn(reading)));
    }

    /// The last lines, once all of it is kept.
    async fn end(mut self, carrying: &Carrying, uid: &str) -> Vec<String> {
        self.over.cancel();
        if self.following.is_none() {
            let room = Arc::clone(&carrying.shared.last_logs).acquire_owned().await.ok();
            self.start(carrying, uid, room);
        }
        match self.following {
            Some(following) => match tokio::time::timeout(LAST_WORDS, following).await {
                Ok(Ok(kept)) => kept.last(TAIL_LINES),
                _ => Vec::new(),
            },
            None => Vec::new(),
        }
    }
}
