//! A job that is followed: what its pods and their logs tell, until it has ended.

mod decide;
mod missing;
mod seen;
mod take;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kf_train::carrier::JobFeed;
use kf_train::{Failure, JobEnd, JobEvent, JobSpec};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use self::decide::Next;
use self::missing::Missing;
use self::seen::Seen;
use super::cluster::Cluster;
use super::kinds::State;
use super::names::{object_name, selector};
use super::node::NodeFacts;
use super::refusals::Said;
use crate::answer::in_time;
use crate::clock::Clock;
use crate::facts::Wait;
use crate::log::{Kept, Read};

/// How often limits are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How many lines of logs may wait to be told.
const LINES: usize = 1024;
/// How long events may take to be read.
const REFUSAL: Duration = Duration::from_secs(5);

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

/// The object of a start.
#[derive(Debug, Clone)]
struct Carrier {
    state: State,
    verdict: Option<Verdict>,
    /// When its time is over, in seconds since 1970, where its operator has to be told.
    due: Option<i64>,
    /// When it was made, in seconds since 1970.
    made: i64,
}

struct Follow {
    cluster: Arc<Cluster>,
    job: Arc<Job>,
    restart: u64,
    /// The pods of this start that are there.
    pods: BTreeMap<String, NodeFacts>,
    /// Those of a list that is on its way.
    listed: Option<BTreeMap<String, NodeFacts>>,
    /// Whether a list of objects is on its way.
    lists_objects: bool,
    /// Whether this start's object was in it.
    there: bool,
    /// How many ends of ranks were seen.
    ends: u64,
    /// How many ranks were seen to be asked to go.
    left: u64,
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
    /// That pods are missing, while that is so.
    missing: Option<Missing>,
    /// Whether it was told that the job is suspended, and that its pods have gone.
    suspended: (bool, bool),
    /// The cluster's, where it is needed.
    clock: Option<Clock>,
    /// When the operator was last told that the job's time is over.
    woken: Option<Instant>,
    logs: JoinSet<()>,
    tell: mpsc::Sender<Read>,
    told: mpsc::Receiver<Read>,
}

impl Follow {
    fn new(cluster: Arc<Cluster>, job: Arc<Job>, restart: u64) -> Self {
        let (tell, told) = mpsc::channel(LINES);
        let mut follow = Self {
            cluster,
            job,
            restart,
            pods: BTreeMap::new(),
            // The first one is waited for.
            listed: Some(BTreeMap::new()),
            lists_objects: false,
            there: false,
            ends: 0,
            left: 0,
            turns: 0,
            seen: Vec::new(),
            before: BTreeSet::new(),
            object: None,
            gone: false,
            result: None,
            waits: None,
            missing: None,
            suspended: (false, false),
            clock: None,
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
        (self.suspended, self.woken, self.missing) = ((false, false), None, None);
        self.logs.abort_all();
        if restart > 0 {
            self.job.logs().clear();
        }
    }

    async fn start_again(&mut self, failure: Box<Failure>) -> Result<(), JobEnd> {
        let restart = self.restart + 1;
        self.job.feed.tell(JobEvent::Restarting { restarts: restart, failure });
        self.cluster.start_again(&self.job, restart).await?;
        self.begin(restart);
        Ok(())
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
            if self.clock.is_none() && self.object.as_ref().is_some_and(|object| object.due.is_some()) {
                self.clock = Some(Clock::ask_or_own(&self.cluster.client).await);
            }
            match self.next() {
                Next::Nothing => {}
                Next::End(end) => return end,
                Next::Gone => {
                    // A list may be older than what it lacks.
                    let name = object_name(&self.job.name, self.restart);
                    match in_time(self.cluster.objects().get_opt(&name)).await {
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
                Next::AskForPods { there, made } => {
                    let name = object_name(&self.job.name, self.restart);
                    // Nothing else is heard meanwhile.
                    let asked = tokio::time::timeout(REFUSAL, self.cluster.refusal(&name, made)).await;
                    let said = asked.unwrap_or_else(|_| Said::Unknown("there is no answer".into()));
                    self.tell_missing(there, &name, &said);
                }
                Next::Broken(reason, lost) => {
                    let name = object_name(&self.job.name, self.restart);
                    match (self.cluster.has_late_job(&name).await, self.job.spec.timeout, lost) {
                        (Ok(true), Some(after), _) => return JobEnd::TimedOut { after },
                        (Ok(_), _, None) => return JobEnd::Broken { reason, retryable: true },
                        (Ok(_), _, Some(failure)) => {
                            if let Err(end) = self.start_again(failure).await {
                                return end;
                            }
                        }
                        // It is asked again.
                        (Err(error), ..) => debug!(%error, "why it has failed is not known yet"),
                    }
                }
                Next::Restart(failure) => {
                    if let Err(end) = self.start_again(failure).await {
                        return end;
                    }
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
}

/// What is told of the objects of a job.
fn watched<K>(api: Api<K>, job: &str) -> impl Stream<Item = Event<K>> + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(&selector(job));
    crate::watching::watched(api, config)
        .filter_map(async |event| event.inspect_err(|error| debug!(%error, "a watch is made again")).ok())
}
