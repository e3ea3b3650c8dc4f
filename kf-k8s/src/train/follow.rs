//! A job that is followed: what its pods and their logs tell, until it has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kf_core::Timestamp;
use kf_core::process::Exit;
use kf_train::carrier::{ErrorFile, JobFeed, Note, Suspect, culprit};
use kf_train::{Failure, JobEnd, JobEvent, JobSpec, Program, Progress, RankEnd};
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::cluster::Cluster;
use super::facts::{PodFacts, RankFactEnd, Wait, facts};
use super::kinds::State;
use super::log::{Followed, Kept, Read};
use super::names::{VERDICT, object_name, restart_of, selector};

/// How often limits are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How many lines of logs may wait to be told.
const LINES: usize = 1024;
/// How many of a failed rank's last lines are told.
const LAST_LINES: usize = 20;
/// How long an operator may take to see that a job's time is over before it is told again.
const WAKE_AGAIN: Duration = Duration::from_secs(5);
/// How long a pod may wait for what won't come by waiting.
const HOPELESS_AFTER: Duration = Duration::from_secs(20);

/// What a launcher has decided about a start of a job; written on its object, so that another launcher knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Somebody has asked for it.
    Canceled,
    /// A rank has broken its limits.
    Failed(Box<Failure>),
    /// It can't be carried.
    Broken { reason: String, retryable: bool },
}

/// A job as the launcher keeps it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) spec: JobSpec,
    pub(super) attempt_id: String,
    /// Its name on the cluster.
    pub(super) name: String,
    pub(super) feed: JobFeed,
    logs: Mutex<BTreeMap<usize, Kept>>,
}

impl Job {
    pub(super) fn new(spec: JobSpec, attempt_id: &str, name: String) -> Self {
        let feed = JobFeed::new(spec.world_size());
        Self { spec, attempt_id: attempt_id.to_owned(), name, feed, logs: Mutex::default() }
    }

    /// What a rank has printed since it was last started.
    pub(super) fn log(&self, rank: usize) -> String {
        self.logs().get(&rank).map_or(String::new(), Kept::text)
    }

    fn logs(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Kept>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Told that nobody follows a job any more, at the latest when this is dropped.
struct Followers(Arc<Job>);

impl Drop for Followers {
    fn drop(&mut self) {
        let reason = "its launcher was dropped; the job goes on, and another launcher finds it".into();
        self.0.feed.abandon(JobEnd::Broken { reason, retryable: true });
    }
}

/// Follows a job to its end, starting its ranks anew as often as it may.
pub(super) async fn follow(cluster: Arc<Cluster>, job: Arc<Job>, restart: u64) {
    let told = Followers(job.clone());
    let end = Follow::new(cluster, job, restart).run().await;
    told.0.feed.end(end);
}

/// What is known of a rank since it was last started.
#[derive(Debug, Default)]
struct Seen {
    /// The id of the pod that it is in; none before that has told something of it.
    pod: Option<String>,
    /// The number of the reading of its log.
    turn: u64,
    started: Option<Instant>,
    /// Whether its function was reached, or it is a foreign program.
    begun: bool,
    heard: Option<Instant>,
    progress: Option<Progress>,
    /// Whether all of its log was read.
    read: bool,
    end: Option<RankFactEnd>,
    /// How many ends were seen before it.
    order: u64,
    /// Whether it was asked to end.
    asked: bool,
    ended: bool,
}

impl Seen {
    /// Whether it has ended badly, and not because it was asked to end.
    fn failed(&self) -> bool {
        !self.asked && self.end.as_ref().is_some_and(|end| !end.exit.success())
    }

    /// How it ended; of one whose pod went before its end was seen, that it was asked to end.
    fn exit(&self) -> Exit {
        self.end.as_ref().map_or(Exit::Signal(15), |end| end.exit)
    }
}

/// The object of a start.
#[derive(Debug, Clone)]
struct Carrier {
    state: State,
    verdict: Option<Verdict>,
    /// When its time is over, in seconds since 1970, where its operator has to be told.
    due: Option<i64>,
}

struct Follow {
    cluster: Arc<Cluster>,
    job: Arc<Job>,
    restart: u64,
    /// The pods of this start that are there.
    pods: BTreeMap<String, PodFacts>,
    /// Those of a list that is on its way.
    listed: Option<BTreeMap<String, PodFacts>>,
    /// Whether a list of objects is on its way.
    lists_objects: bool,
    /// Whether this start's object was in it.
    there: bool,
    /// How many ends of ranks were seen.
    ends: u64,
    /// How many logs were read.
    turns: u64,
    seen: Vec<Seen>,
    /// The ids of pods whose ranks were started anew in others, by nobody's failure.
    before: BTreeSet<String>,
    /// This start's object; none before it was seen.
    object: Option<Carrier>,
    /// Whether the object was there, and is no more.
    gone: bool,
    result: Option<Value>,
    waits: Option<(Instant, Wait)>,
    /// Whether it was told that the job is suspended, and that its ranks have ended.
    suspended: (bool, bool),
    /// When the operator was last told that the job's time is over.
    woken: Option<Instant>,
    logs: JoinSet<()>,
    tell: mpsc::Sender<Read>,
    told: mpsc::Receiver<Read>,
}

/// What is to be done.
enum Next {
    Nothing,
    End(JobEnd),
    /// Its object is not there any more.
    Gone,
    /// Its operator does not see that its time is over.
    Wake,
    /// No rank is to blame for the object's failure.
    Broken(String),
    Restart(Box<Failure>),
    Suspend(Verdict),
}

impl Follow {
    fn new(cluster: Arc<Cluster>, job: Arc<Job>, restart: u64) -> Self {
        let (tell, told) = mpsc::channel(LINES);
        let mut follow = Self {
            cluster,
            job,
            restart,
            pods: BTreeMap::new(),
            listed: None,
            lists_objects: false,
            there: false,
            ends: 0,
            turns: 0,
            seen: Vec::new(),
            before: BTreeSet::new(),
            object: None,
            gone: false,
            result: None,
            waits: None,
            suspended: (false, false),
            woken: None,
            logs: JoinSet::new(),
            tell,
            told,
        };
        follow.begin(restart);
        follow
    }

    /// Ranks are started anew.
    fn begin(&mut self, restart: u64) {
        self.restart = restart;
        self.pods.clear();
        self.before.clear();
        self.seen = (0..self.job.spec.world_size()).map(|_| Seen::default()).collect();
        (self.object, self.gone, self.result, self.waits) = (None, false, None, None);
        (self.suspended, self.woken) = ((false, false), None);
        self.logs.abort_all();
        if restart > 0 {
            self.job.logs().clear();
        }
    }

    async fn run(mut self) -> JobEnd {
        let mut pods = Box::pin(watched(self.cluster.pods(), &self.job.name));
        let mut objects = Box::pin(watched(self.cluster.objects(), &self.job.name));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(event) = pods.next() => self.pod(event),
                Some(event) = objects.next() => self.object(event),
                Some(read) = self.told.recv() => {
                    self.read(read);
                    // As many as there are: each look at the whole costs more.
                    while let Ok(read) = self.told.try_recv() {
                        self.read(read);
                    }
                }
                _ = tick.tick() => {}
            }
            self.tell_ranks();
            match self.next() {
                Next::Nothing => {}
                Next::End(end) => return end,
                Next::Gone => {
                    // A list may be older than what it lacks.
                    match self.cluster.objects().get_opt(&object_name(&self.job.name, self.restart)).await {
                        Ok(None) => {
                            let reason = "its object was deleted by somebody else".to_owned();
                            return JobEnd::Broken { reason, retryable: true };
                        }
                        Ok(Some(object)) if object.metadata.deletion_timestamp.is_none() => self.gone = false,
                        Ok(Some(_)) => {}
                        Err(error) => debug!(%error, "whether its object is there is not known"),
                    }
                }
                Next::Wake => {
                    self.woken = Some(Instant::now());
                    let name = object_name(&self.job.name, self.restart);
                    if let Err(error) = self.cluster.wake(&name).await {
                        debug!(%error, "its operator is not told that its time is over; that is tried again");
                    }
                }
                Next::Broken(reason) => {
                    let name = object_name(&self.job.name, self.restart);
                    match (self.cluster.is_late(&name).await, self.job.spec.timeout) {
                        (Ok(true), Some(after)) => return JobEnd::TimedOut { after },
                        (Ok(_), _) => return JobEnd::Broken { reason, retryable: true },
                        // It is asked again.
                        (Err(error), _) => debug!(%error, "why it has failed is not known yet"),
                    }
                }
                Next::Restart(failure) => {
                    let restart = self.restart + 1;
                    self.job.feed.tell(JobEvent::Restarting { restarts: restart, failure });
                    if let Err(end) = self.cluster.start_again(&self.job, restart).await {
                        return end;
                    }
                    self.begin(restart);
                }
                Next::Suspend(verdict) => {
                    let name = object_name(&self.job.name, self.restart);
                    if let Err(error) = self.cluster.suspend(&name, &verdict).await {
                        warn!(job = %self.job.spec.name, %error, "it can't be suspended; that is tried again");
                    } else if let Some(object) = &mut self.object {
                        object.verdict = Some(verdict);
                    }
                }
            }
        }
    }

    /// Takes up what is told of pods.
    fn pod(&mut self, event: Event<Pod>) {
        let (kind, ranks) = (self.cluster.kind, self.job.spec.ranks_per_node);
        let fact = |pod: &Pod| facts(pod, kind, ranks);
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                let Some(pod) = fact(&pod).filter(|pod| pod.restart == self.restart) else { return };
                self.take(&pod);
                self.listed.as_mut().unwrap_or(&mut self.pods).insert(pod.name.clone(), pod);
            }
            Event::Delete(pod) => {
                let Some(pod) = fact(&pod) else { return };
                if pod.restart == self.restart {
                    self.take(&pod);
                }
                self.pods.remove(&pod.name);
            }
            // What is not listed anew is gone.
            Event::Init => self.listed = Some(BTreeMap::new()),
            Event::InitDone => {
                if let Some(listed) = self.listed.take() {
                    self.pods = listed;
                }
            }
        }
    }

    fn take(&mut self, pod: &PodFacts) {
        let first = pod.node * self.job.spec.ranks_per_node;
        for (local_rank, fact) in pod.ranks.iter().enumerate() {
            let rank = first + local_rank;
            if (fact.started || fact.end.is_some()) && !self.is_in(rank, &pod.uid) {
                continue;
            }
            let Some(seen) = self.seen.get_mut(rank) else { continue };
            if fact.started && seen.started.is_none() {
                let now = Instant::now();
                (seen.started, seen.heard) = (Some(now), Some(now));
                seen.begun = matches!(self.job.spec.program, Program::Command { .. });
                self.job.feed.tell(JobEvent::RankStarted { rank, pid: None });
                self.turns += 1;
                seen.turn = self.turns;
                let followed = Followed {
                    pods: self.cluster.pods(),
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    container: self.cluster.kind.container(local_rank),
                    turn: seen.turn,
                    rank,
                    told: self.tell.clone(),
                };
                self.logs.spawn(followed.read());
            }
            if seen.end.is_none() && fact.end.is_some() {
                seen.end.clone_from(&fact.end);
                (seen.order, seen.asked) = (self.ends, pod.leaves);
                self.ends += 1;
            }
        }
    }

    /// Whether what a pod tells of a rank is to be taken up. A rank whose pod has gone without its failure is then in another
    /// one, where that has come: the job was suspended, and goes on.
    fn is_in(&mut self, rank: usize, pod: &str) -> bool {
        let Some(seen) = self.seen.get_mut(rank).filter(|_| !self.before.contains(pod)) else { return false };
        match &seen.pod {
            None => seen.pod = Some(pod.to_owned()),
            Some(there) if there == pod => {}
            Some(_) if seen.failed() => return false,
            Some(there) => {
                self.before.insert(there.clone());
                if seen.started.is_some() && !seen.ended {
                    self.job.feed.tell(JobEvent::RankEnded { rank, exit: seen.exit() });
                }
                *seen = Seen { pod: Some(pod.to_owned()), ..Seen::default() };
                self.job.logs().remove(&rank);
                if rank == 0 {
                    self.result = None;
                }
            }
        }
        true
    }

    /// Takes up what is told of the job's objects.
    fn object(&mut self, event: Event<DynamicObject>) {
        let of = |object: &DynamicObject| restart_of(&object.metadata);
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                if of(&object) != Some(self.restart) {
                    return;
                }
                let written = object.metadata.annotations.as_ref().and_then(|all| all.get(VERDICT));
                let verdict = written.and_then(|text| match serde_json::from_str(text) {
                    Ok(verdict) => Some(verdict),
                    Err(error) => {
                        debug!(%error, "a verdict that can't be read");
                        None
                    }
                });
                self.gone = object.metadata.deletion_timestamp.is_some();
                self.there = true;
                let kind = self.cluster.kind;
                self.object = Some(Carrier { state: kind.state(&object), verdict, due: kind.due(&object) });
            }
            Event::Delete(object) => self.gone |= of(&object) == Some(self.restart),
            Event::Init => (self.lists_objects, self.there) = (true, false),
            Event::InitDone => {
                self.lists_objects = false;
                if !self.there {
                    self.gone = true;
                    self.object.get_or_insert(Carrier { state: State::Active, verdict: None, due: None });
                }
            }
        }
    }

    /// Takes up a line of a log.
    fn read(&mut self, read: Read) {
        let Read { turn, rank, line } = read;
        let Some(seen) = self.seen.get_mut(rank).filter(|seen| seen.turn == turn) else { return };
        let Some(line) = line else {
            seen.read = true;
            return;
        };
        match Note::parse(line.as_bytes()) {
            Some(Note::Started) => {
                seen.begun = true;
                seen.heard = Some(Instant::now());
            }
            Some(Note::Progress(progress)) => {
                seen.heard = Some(Instant::now());
                seen.progress = Some(progress.clone());
                self.job.feed.tell(JobEvent::Progress { rank, progress });
            }
            Some(Note::Result(result)) => {
                if rank == 0 {
                    self.result = Some(result);
                }
            }
            _ => {
                self.job.logs().entry(rank).or_default().add(&line);
                self.job.feed.tell(JobEvent::Line { rank, line, stderr: false });
            }
        }
    }

    /// Tells the ends of ranks of which everything was read.
    fn tell_ranks(&mut self) {
        if self.listed.is_some() {
            return;
        }
        let alive = |rank: usize| {
            let node = rank / self.job.spec.ranks_per_node;
            self.pods.values().any(|pod| pod.node == node)
        };
        let ended: Vec<_> = (0..self.seen.len())
            .filter(|&rank| {
                let seen = &self.seen[rank];
                seen.started.is_some() && seen.read && !seen.ended && (seen.end.is_some() || !alive(rank))
            })
            .collect();
        for rank in ended {
            let seen = &mut self.seen[rank];
            seen.ended = true;
            self.job.feed.tell(JobEvent::RankEnded { rank, exit: seen.exit() });
        }
    }

    /// Decides.
    fn next(&mut self) -> Next {
        if self.listed.is_some() || self.lists_objects {
            return Next::Nothing;
        }
        let Some(Carrier { state, verdict, due }) = self.object.clone() else { return Next::Nothing };
        let ended = self.seen.iter().all(|seen| seen.ended || seen.started.is_none());
        let quiet = ended && self.pods.values().all(|pod| pod.over);
        if self.gone {
            return match (quiet, verdict) {
                (false, _) => Next::Nothing,
                (true, Some(Verdict::Canceled)) => Next::End(JobEnd::Canceled),
                (true, _) => Next::Gone,
            };
        }
        if let Some(verdict) = verdict {
            return match verdict {
                _ if !quiet => Next::Nothing,
                Verdict::Canceled => Next::End(JobEnd::Canceled),
                Verdict::Broken { reason, retryable } => Next::End(JobEnd::Broken { reason, retryable }),
                Verdict::Failed(failure) => self.failed(failure),
            };
        }
        match state {
            State::Succeeded if ended => Next::End(self.succeeded()),
            State::Failed { late, message } if quiet => {
                if let (true, Some(after)) = (late, self.job.spec.timeout) {
                    return Next::End(JobEnd::TimedOut { after });
                }
                match self.blame() {
                    Some(failure) => self.failed(Box::new(failure)),
                    None => {
                        let evicted = self.pods.values().find_map(|pod| pod.evicted.clone());
                        Next::Broken(evicted.unwrap_or(message))
                    }
                }
            }
            State::Succeeded | State::Failed { .. } => Next::Nothing,
            State::Suspended { field } => {
                self.tell_suspended(field, quiet);
                Next::Nothing
            }
            State::Active => {
                self.suspended = (false, false);
                let late = due.is_some_and(|due| Timestamp::now().as_millis() / 1000 > due);
                match late && self.woken.is_none_or(|at| at.elapsed() > WAKE_AGAIN) {
                    true => Next::Wake,
                    false => self.limits(),
                }
            }
        }
    }

    /// Tells that somebody has suspended the job, and again when all its ranks have ended.
    fn tell_suspended(&mut self, field: &str, quiet: bool) {
        if self.suspended == (true, quiet) {
            return;
        }
        // What its pods have waited for.
        self.waits = None;
        self.suspended = (true, quiet);
        let kind = self.cluster.kind.resource().kind;
        let name = object_name(&self.job.name, self.restart);
        let then = if quiet { "it goes on when that is false" } else { "its ranks are ended" };
        let reason = format!("it is suspended: {field} of the {kind} `{name}` is true; {then}");
        self.job.feed.tell(JobEvent::Waiting { reason });
    }

    fn failed(&self, failure: Box<Failure>) -> Next {
        match self.restart < self.job.spec.max_restarts {
            true => Next::Restart(failure),
            false => Next::End(JobEnd::Failed(failure)),
        }
    }

    fn succeeded(&mut self) -> JobEnd {
        match (&self.job.spec.program, self.result.take()) {
            (Program::Ranks { .. }, None) => JobEnd::Broken {
                reason: "rank 0 ended with exit code 0 but its log holds no result of it".into(),
                retryable: false,
            },
            (_, result) => JobEnd::Succeeded { result: result.unwrap_or(Value::Null) },
        }
    }

    /// The rank that failed first.
    fn blame(&self) -> Option<Failure> {
        let message =
            |end: &RankFactEnd| end.message.as_ref().and_then(|text| ErrorFile::parse(text.as_bytes()));
        let suspects = self.seen.iter().enumerate().filter_map(|(rank, seen)| {
            let end = seen.end.as_ref().filter(|_| seen.failed())?;
            let of_another_rank = message(end).is_some_and(|file| file.of_another_rank);
            // Of a second's length, in which the others may have been asked to end.
            let at = (end.at / 1_000_000_000, matches!(end.exit, Exit::Signal(_)), seen.order);
            Some(Suspect { rank, exit: end.exit, at, of_another_rank })
        });
        let suspects: Vec<_> = suspects.collect();
        let rank = culprit(&suspects)?.rank;
        let end = self.seen.get(rank)?.end.as_ref()?;
        let limit = self.job.spec.resources.memory;
        let how = match end.out_of_memory {
            true => RankEnd::OutOfMemory { used: limit, limit },
            false => RankEnd::Exited(end.exit),
        };
        let mut failure = self.failure(rank, how);
        failure.message = message(end).map(|file| file.message);
        Some(failure)
    }

    fn failure(&self, rank: usize, end: RankEnd) -> Failure {
        let mut failure = Failure::new(rank, self.job.spec.world_size(), end);
        failure.progress = self.seen.get(rank).and_then(|seen| seen.progress.clone());
        failure.last_lines = self.job.logs().get(&rank).map_or_else(Vec::new, |kept| kept.last(LAST_LINES));
        failure
    }

    /// What breaks the job's limits, or keeps it from running.
    fn limits(&mut self) -> Next {
        let now = Instant::now();
        let waits = self.pods.values().filter_map(|pod| pod.waits.clone()).min_by_key(|wait| !wait.hopeless);
        match (waits, &mut self.waits) {
            (Some(wait), Some((since, told))) if wait.hopeless == told.hopeless => {
                if wait.hopeless && now - *since > HOPELESS_AFTER {
                    return Next::Suspend(Verdict::Broken { reason: wait.reason, retryable: false });
                }
            }
            (Some(wait), told) => {
                self.job.feed.tell(JobEvent::Waiting { reason: wait.reason.clone() });
                *told = Some((now, wait));
            }
            (None, told) => *told = None,
        }
        let spec = &self.job.spec;
        // A pod goes on until all its containers have ended.
        let failed = |seen: &Seen| seen.read && seen.failed();
        if spec.ranks_per_node > 1
            && self.seen.iter().any(failed)
            && let Some(failure) = self.blame()
        {
            return Next::Suspend(Verdict::Failed(Box::new(failure)));
        }
        for (rank, seen) in self.seen.iter().enumerate().filter(|(_, seen)| !seen.ended) {
            let (Some(started), Some(heard), None) = (seen.started, seen.heard, &seen.end) else { continue };
            if !seen.begun && now - started > spec.start_timeout {
                let end = RankEnd::NotStarted(spec.start_timeout.as_secs_f64());
                return Next::Suspend(Verdict::Failed(Box::new(self.failure(rank, end))));
            }
            if let Some(limit) = spec.progress_timeout.filter(|limit| seen.begun && now - heard > *limit) {
                let end = RankEnd::Hung(limit.as_secs_f64());
                return Next::Suspend(Verdict::Failed(Box::new(self.failure(rank, end))));
            }
        }
        Next::Nothing
    }
}

/// What is told of objects, over broken watches.
fn watched<K>(api: Api<K>, job: &str) -> impl Stream<Item = Event<K>> + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(&selector(job));
    watch(api, config)
        .default_backoff()
        .filter_map(async |event| event.inspect_err(|error| debug!(%error, "a watch is made again")).ok())
}
