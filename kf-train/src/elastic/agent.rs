//! The agent of one node.

use std::io::Write;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use kf_core::process::Spawner;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::coordinator::{Lead, coordinate};
use super::meeting::{Found, Known, Meeting};
use super::messages::{Coordinator, News, Report, TICKETS, address, news, node};
use super::options::AgentOptions;
use super::quorum::Phase;
use super::ranks::{LocalRanks, Watched};
use super::round::{Node, Round};
use crate::launch::{GangEnd, Tell, gpus_for, result_of};
use crate::store::StoreClient;
use crate::{Error, Job, JobEnd, JobEvent, JobSpec, Result};

/// Runs one node's ranks of a job, together with the agents of the job's other nodes.
///
/// The agents meet at their endpoints, agree on rounds, and start their ranks in each: see the
/// [module's guide](super). Dropped, or when its process ends in any way, its ranks end.
#[derive(Debug, Clone)]
pub struct Agent {
    options: AgentOptions,
}

impl Agent {
    /// An agent.
    pub fn new(options: AgentOptions) -> Self {
        Self { options }
    }

    /// Runs this node's part of a job to the job's end, and returns what rank 0 returned (`()` for a foreign program).
    ///
    /// The job is the same on all nodes, but for the number of its ranks, which is that of this node. Its own numbers of
    /// nodes and restarts count for nothing: those of [`QuorumOptions`](super::QuorumOptions) do.
    ///
    /// # Errors
    /// [`Error::RankFailed`] when a rank failed, here or elsewhere, and no restart was left; [`Error::Left`] when this node
    /// was told to leave; [`Error::NoCoordinator`] and [`Error::Endpoint`] when the others can't be met; [`Error::TimedOut`],
    /// [`Error::Canceled`], [`Error::Result`] as [`run`](crate::run).
    pub async fn run<R: DeserializeOwned>(&self, job: Job) -> Result<R> {
        let spec = job.spec()?.clone();
        self.options.check(&spec)?;
        let name = spec.name.clone();
        let run_id = match self.options.run_id.as_str() {
            "" => uuid::Uuid::now_v7().to_string(),
            id => id.to_owned(),
        };
        let spawner = Spawner::new().map_err(|source| Error::Spawn { job: name.clone(), rank: 0, source })?;
        let sinks = job.on_event.clone();
        let tell: Tell = Arc::new(move |event| sinks.iter().for_each(|sink| sink(&event)));
        let mut works = self.works(&spec, &run_id, &Arc::new(spawner), &tell).await?;
        let end = {
            let mut all: FuturesUnordered<_> = works.iter_mut().map(Work::work).collect();
            let mut end = Ok(Over::Left);
            loop {
                let next = tokio::select! {
                    next = all.next() => next,
                    () = job.cancel.cancelled() => Some(Ok(Over::Ended(JobEnd::Canceled))),
                };
                match next {
                    // The others end by themselves, having learned of the same end.
                    Some(Ok(Over::Ended(JobEnd::Canceled)) | Err(_)) => {
                        end = next.unwrap_or(Ok(Over::Left));
                        break;
                    }
                    Some(Ok(Over::Left)) => {}
                    Some(Ok(over)) => end = Ok(over),
                    None => break,
                }
            }
            end
        };
        join_all(works.iter_mut().map(|work| work.ranks.stop())).await;
        match end? {
            Over::Left => Err(Error::Left { job: name }),
            Over::Ended(end) => {
                tell(JobEvent::Ended(end.clone()));
                result_of(name, end)
            }
        }
    }

    /// The work of this process: one node's, or one for each rank, where they outlive rounds.
    async fn works(
        &self,
        spec: &JobSpec,
        run_id: &str,
        spawner: &Arc<Spawner>,
        tell: &Tell,
    ) -> Result<Vec<Work>> {
        let heal = self.options.heal;
        let gpus = gpus_for(spec, spec.ranks_per_node)?;
        let (count, ranks) = if heal { (spec.ranks_per_node, 1) } else { (1, spec.ranks_per_node) };
        let spec = JobSpec { ranks_per_node: ranks, ..spec.clone() };
        let folder =
            std::path::absolute(&self.options.folder).unwrap_or_else(|_| self.options.folder.clone());
        let mut options = self.options.clone();
        options.quorum.heal = heal;
        let mut works = Vec::with_capacity(count);
        for number in 0..count {
            let id = uuid::Uuid::now_v7().simple().to_string();
            let meeting = Meeting::open(&options, run_id, id, ranks).await?;
            let node = meeting.node.clone();
            if options.endpoints.is_empty() {
                // The others on this machine come to the first.
                options.endpoints.push(address(&node));
            }
            let folder = if heal { folder.join(format!("rank_{number}")) } else { folder.clone() };
            let mut local = LocalRanks::new(
                spec.clone(),
                run_id.to_owned(),
                node.clone(),
                options.quorum.max_restarts,
                folder,
                spawner.clone(),
                tell.clone(),
            );
            local.gpus.clone_from(&gpus);
            local.heal = heal.then(|| (meeting.server.client(HEAL), number, count));
            let phase = if heal { Phase::Starting } else { Phase::Ready };
            let (round, failure, result) = (None, None, Value::Null);
            let report = Report { node, ticket: 0, phase, round, failure, result, beat: 0 };
            works.push(Work {
                options: options.clone(),
                // One beyond all time is none.
                deadline: spec.timeout.and_then(|after| Some((Instant::now().checked_add(after)?, after))),
                meeting: Arc::new(meeting),
                ranks: local,
                known: Known::default(),
                report: watch::Sender::new(report),
                lead: 0,
                tell: tell.clone(),
                tells_rounds: number == 0,
            });
        }
        Ok(works)
    }
}

/// How long a coordinator is looked for until that is told.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who comes late hears all news from the beginning: what is waited for is told when no other news has come for so long.
const LIVE: Duration = Duration::from_millis(100);
/// How long this node's own store may take.
const HEAL: Duration = Duration::from_secs(60);

/// How an agent's work ends.
enum Over {
    Ended(JobEnd),
    Left,
}

/// How the time under one coordinator ends.
enum Session {
    Over(Over),
    /// The coordinator is lost, or has given way to another one.
    Lost,
}

struct Work {
    options: AgentOptions,
    deadline: Option<(Instant, Duration)>,
    meeting: Arc<Meeting>,
    ranks: LocalRanks,
    known: Known,
    report: watch::Sender<Report>,
    /// How often this node has coordinated.
    lead: u64,
    tell: Tell,
    /// Whether the rounds are told as events: of several agents in a process, one does.
    tells_rounds: bool,
}

impl Work {
    async fn work(&mut self) -> Result<Over> {
        self.ranks.start_ahead().await?;
        loop {
            let found = {
                let mut known = std::mem::take(&mut self.known);
                let found = self.find(&mut known).await;
                self.known = known;
                match found? {
                    Some(found) => found,
                    None => return Ok(Over::Left),
                }
            };
            let session = match found {
                Found::Own => self.coordinate().await,
                Found::Other(coordinator, client) => self.follow(&coordinator, client, None).await,
            };
            match session {
                Ok(Session::Over(over)) => return Ok(over),
                Ok(Session::Lost) => info!("the coordinator is lost"),
                Err(error @ (Error::Store { .. } | Error::StoreTimedOut { .. } | Error::StoreEnded)) => {
                    info!(%error, "the coordinator is lost");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks for the coordinator; the ranks run on meanwhile. None when this node is to leave.
    async fn find(&mut self, known: &mut Known) -> Result<Option<Found>> {
        let meeting = self.meeting.clone();
        // Of a round, the ranks go on.
        let mut waits = known
            .round
            .is_none()
            .then(|| format!("no other node is found yet at {}", self.options.endpoints.join(", ")));
        let mut find = pin!(meeting.find(known));
        let mut patience = pin!(tokio::time::sleep(PATIENCE));
        loop {
            tokio::select! {
                found = &mut find => return found.map(Some),
                () = &mut patience, if waits.is_some() => self.tell_wait(waits.take().unwrap_or_default()),
                watched = self.ranks.watch() => self.watched(watched).await?,
                () = self.options.leave.cancelled() => {
                    self.ranks.leave(self.options.leave_grace).await;
                    return Ok(None);
                }
            }
        }
    }

    /// Coordinates, and follows itself.
    async fn coordinate(&mut self) -> Result<Session> {
        self.lead += 1;
        info!(node = %self.meeting.node.host, "this node coordinates");
        let coordinator = Coordinator {
            node: self.meeting.node.clone(),
            lead: self.lead,
            round: self.known.round.as_ref().map_or(0, |round| round.number),
            made: false,
        };
        let lead = Lead {
            own: coordinator.clone(),
            round: self.known.round.clone(),
            ended: self.known.ended.clone(),
            join_timeout: self.options.join_timeout,
            deadline: self.deadline,
        };
        self.meeting.record(&coordinator).await?;
        let (meeting, options) = (self.meeting.clone(), self.options.quorum.clone());
        let nodes = Arc::new(Mutex::new(
            self.known.round.as_ref().map_or_else(Vec::new, |round| round.nodes.clone()),
        ));
        let around = nodes.clone();
        let looking = self.meeting.clone();
        let _looks = AbortOnDropHandle::new(tokio::spawn(async move {
            let nodes = || around.lock().unwrap_or_else(PoisonError::into_inner).clone();
            looking.look_around(nodes).await;
        }));
        let mut coordinates =
            AbortOnDropHandle::new(tokio::spawn(async move { coordinate(meeting, lead, options).await }));
        let client = self.meeting.server.client(self.options.quorum.heartbeat_timeout);
        let job = self.ranks.spec.name.clone();
        let session = {
            let mut follow = pin!(self.follow(&coordinator, client, Some(&nodes)));
            tokio::select! {
                biased;
                session = &mut follow => session?,
                ended = &mut coordinates => match ended {
                    // It has told the end.
                    Ok(Ok(())) => follow.await?,
                    Ok(Err(error)) => return Err(error),
                    Err(error) => {
                        let reason = format!("its coordinator has ended from within: {error}");
                        return Err(Error::Broken { job, reason, retryable: false });
                    }
                },
            }
        };
        if matches!(session, Session::Over(Over::Ended(_))) && !coordinates.is_finished() {
            // The others are told first. One that leaves coordinates no more: another takes over.
            let _ = coordinates.await;
        }
        Ok(session)
    }

    /// Does what a coordinator says, until it is lost, gives way, or says that the job has ended.
    async fn follow(
        &mut self,
        coordinator: &Coordinator,
        client: StoreClient,
        nodes: Option<&Mutex<Vec<Node>>>,
    ) -> Result<Session> {
        if nodes.is_none() {
            info!(coordinator = %coordinator.node.host, "this node follows");
            self.meeting.record(coordinator).await?;
        }
        let lead = self.meeting.keys.lead(coordinator.lead);
        let client = client.with_timeout(self.options.quorum.heartbeat_timeout);
        let reporter = client.connect_again().await?;
        let client = client.prefixed(&lead);
        let ticket = client.add(TICKETS, 1).await?.unsigned_abs();
        self.report.send_modify(|report| {
            report.ticket = ticket;
            report.round.clone_from(&self.known.round);
        });
        let reports = self.report.subscribe();
        let (every, key) = (self.options.heartbeat, self.meeting.keys.coordinator());
        let (of_other, around, follows) = (coordinator.clone(), self.meeting.clone(), nodes.is_none());
        // On its own: the end of ranks may take longer than a node may be silent.
        let mut reporting = AbortOnDropHandle::new(tokio::spawn(async move {
            // One that coordinates itself is told by its own store.
            let gave_way = async {
                match follows {
                    true => gave_way(&around, &reporter, &of_other, every).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                error = report(reporter.prefixed(&lead), reports, every) => error,
                error = gave_way => error,
            }
        }));
        let (told, mut news) = mpsc::channel(64);
        let _reads = AbortOnDropHandle::new(tokio::spawn(read(client.connect_again().await?, told)));
        let mut record = self.meeting.server.watch(&key);
        let meeting = self.meeting.clone();
        let mut next: Option<Round> = None;
        let mut waits: Option<(Instant, String)> = None;
        loop {
            let local = async {
                match &next {
                    Some(round) => Step::Started(self.ranks.start(round, &client).await),
                    None => Step::Ranks(self.ranks.watch().await),
                }
            };
            let step = tokio::select! {
                biased;
                told = news.recv() => Step::News(told),
                error = &mut reporting => return Err(error.unwrap_or(Error::StoreEnded)),
                gives_way = meeting.gives_way(&mut record) => {
                    gives_way?;
                    info!("another coordinator goes on");
                    return Ok(Session::Lost);
                }
                () = self.options.leave.cancelled() => Step::Leave,
                step = local => step,
                () = until(waits.as_ref().map(|(at, _)| *at)) => Step::Waits,
            };
            match step {
                Step::News(None) => return Ok(Session::Lost),
                Step::News(Some(News::End(end))) => {
                    self.ranks.stop().await;
                    return Ok(Session::Over(Over::Ended(end)));
                }
                // Who comes back to a coordinator hears all from the beginning.
                Step::News(Some(
                    News::Over { round, .. }
                    | News::Waits { after: round, .. }
                    | News::Round { round: Round { number: round, .. }, .. },
                )) if self.known.round.as_ref().is_some_and(|known| round < known.number) => {}
                Step::News(Some(News::Waits { reason, .. })) => {
                    waits = Some((Instant::now() + LIVE, reason));
                }
                Step::Waits => {
                    if let Some((_, reason)) = waits.take() {
                        self.tell_wait(reason);
                    }
                }
                Step::News(Some(News::Over { round, reason })) => {
                    waits = None;
                    warn!(round, "the round is over: {reason}");
                    next = None;
                    self.stop(&reason).await;
                }
                Step::News(Some(News::Round { round, reason })) => {
                    waits = None;
                    if let Some(nodes) = nodes {
                        nodes.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&round.nodes);
                    } else {
                        let coordinator =
                            Coordinator { round: round.number, made: true, ..coordinator.clone() };
                        self.meeting.record(&coordinator).await?;
                    }
                    next = self.begin(round, reason).await?;
                }
                Step::Started(started) => {
                    let round = next.take().map_or(0, |round| round.number);
                    self.started(round, started);
                }
                Step::Leave => {
                    info!("this node leaves");
                    let mut leave = pin!(self.ranks.leave(self.options.leave_grace));
                    tokio::select! {
                        () = &mut leave => {}
                        _ = &mut reporting => {
                            info!("the coordinator is lost");
                            leave.await;
                        }
                    }
                    self.report.send_modify(|report| report.phase = Phase::Leaving);
                    // Until it is written, or the coordinator is gone as well.
                    if !reporting.is_finished() {
                        let _ = tokio::time::timeout(self.options.heartbeat, &mut reporting).await;
                    }
                    return Ok(Session::Over(Over::Left));
                }
                Step::Ranks(watched) => self.watched(watched).await?,
            }
        }
    }

    fn tell_wait(&self, reason: String) {
        if self.tells_rounds {
            (self.tell)(JobEvent::Waiting { reason });
        }
    }

    /// A round begins: whether this node is to start ranks of it.
    async fn begin(&mut self, round: Round, reason: String) -> Result<Option<Round>> {
        if let (Some((place, _)), Some(rank)) = (round.place(&self.meeting.node.id), self.options.node_rank)
            && place != rank
        {
            let reason = format!(
                "this node was given number {rank}, and is number {place} of {}: each node must be given another number",
                round.nodes.len()
            );
            return Err(Error::Job { job: self.ranks.spec.name.clone(), reason });
        }
        let before = self.known.round.replace(round.clone());
        self.known.ended.clear();
        let runs = !matches!(self.report.borrow().phase, Phase::Starting | Phase::Ready);
        if runs && before.as_ref() == Some(&round) && self.ranks.round() == Some(round.number) {
            return Ok(None);
        }
        info!(round = round.number, nodes = round.nodes.len(), "{reason}");
        // Taken up from now on, whatever time the end of the ranks takes.
        self.report.send_modify(|report| report.round.clone_from(&self.known.round));
        let place = round.place(&self.meeting.node.id).filter(|_| !self.ranks.heals());
        let starts = place.map_or(0..0, |(node, first)| first..first + round.nodes[node].ranks);
        if self.tells_rounds {
            if let Some(path) = &self.options.rounds {
                write_round(path, &round, &reason);
            }
            (self.tell)(JobEvent::Round {
                number: round.number,
                nodes: round.nodes.len(),
                world_size: round.world_size(),
                restarts: round.restarts,
                starts,
                reason: reason.clone(),
            });
        }
        let has = round.has(&self.meeting.node.id);
        // Ranks that outlive rounds are told when the next one's store is there.
        if !(has && self.ranks.heals()) {
            if self.ranks.heals() {
                self.ranks.renew().await?;
            }
            self.stop(&reason).await;
        }
        Ok(has.then_some(round))
    }

    /// The round is over for this node's ranks.
    async fn stop(&mut self, reason: &str) {
        match self.ranks.heals() {
            true => self.ranks.give_up(reason),
            false => self.ranks.stop().await,
        }
        let phase = match self.ranks.heals() && !self.ranks.is_warm() {
            true => Phase::Starting,
            false => Phase::Ready,
        };
        self.report.send_modify(|report| {
            report.phase = phase;
            report.failure = None;
        });
    }

    fn started(&mut self, round: u64, started: Result<()>) {
        let phase = match started {
            Ok(()) => Phase::Running { round },
            Err(error) => Phase::Failed { round, text: error.to_string(), of_another_rank: false },
        };
        self.report.send_modify(|report| report.phase = phase);
    }

    async fn watched(&mut self, watched: Watched) -> Result<()> {
        match watched {
            Watched::Ended(0, GangEnd::Succeeded) => {
                let job = self.ranks.spec.name.clone();
                let reason =
                    "a rank ended before its first round; with `heal`, ranks train in a `Team`".into();
                return Err(Error::Broken { job, reason, retryable: false });
            }
            Watched::Ended(round, GangEnd::Succeeded) => {
                let result = self.ranks.result();
                self.ranks.stop().await;
                self.report.send_modify(|report| {
                    report.phase = Phase::Succeeded { round };
                    report.result = result;
                });
            }
            Watched::Ended(round, GangEnd::Failed(failed)) => {
                let (text, of_another_rank) = (failed.failure.to_string(), failed.of_another_rank);
                warn!(round, "{text}");
                if round == 0 {
                    // It was of no round yet, in which its failure would count.
                    return Err(Error::RankFailed {
                        job: self.ranks.spec.name.clone(),
                        failure: Box::new(failed.failure),
                    });
                }
                // Told before the others are ended, which may take a while.
                self.report.send_modify(|report| {
                    report.phase = Phase::Failed { round, text, of_another_rank };
                    report.failure = Some(Box::new(failed.failure));
                });
                self.ranks.stop().await;
                self.ranks.start_ahead().await?;
            }
            Watched::Stuck(round, missing) => {
                self.report.send_modify(|report| report.phase = Phase::Stuck { round, missing });
            }
            Watched::Warm => {
                self.report.send_if_modified(|report| {
                    let starting = report.phase == Phase::Starting;
                    if starting {
                        report.phase = Phase::Ready;
                    }
                    starting
                });
            }
        }
        Ok(())
    }
}

enum Step {
    News(Option<News>),
    /// What was waited for a moment ago still is.
    Waits,
    Started(Result<()>),
    Leave,
    Ranks(Watched),
}

/// Tells of a round by a line of a file. That nobody can be told is no reason to stop.
fn write_round(path: &std::path::Path, round: &Round, reason: &str) {
    let write = || {
        let line = round.note(reason).line()?;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(format!("{line}\n").as_bytes())
    };
    if let Err(error) = write() {
        warn!(path = %path.display(), %error, "the round is not written");
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells the coordinator of this node, when something changes and every now and then. Ends when that fails.
async fn report(client: StoreClient, mut reports: watch::Receiver<Report>, every: Duration) -> Error {
    let mut beat = 0;
    loop {
        let mut report = reports.borrow_and_update().clone();
        beat += 1;
        report.beat = beat;
        let json = match kf_core::json::to_json(&report) {
            Ok(json) => json.to_string(),
            Err(error) => {
                return Error::StoreRefused { what: "this node's report".into(), reason: error.to_string() };
            }
        };
        if let Err(error) = client.set(&node(&report.node.id), json).await {
            return error;
        }
        tokio::select! {
            changed = reports.changed() => if changed.is_err() { std::future::pending::<()>().await },
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// Looks every now and then whether a coordinator has given way to another, which may not know of its nodes. Ends then,
/// and when it is lost.
async fn gave_way(
    meeting: &Meeting,
    client: &StoreClient,
    coordinator: &Coordinator,
    every: Duration,
) -> Error {
    loop {
        tokio::time::sleep(every).await;
        let present = match meeting.read(client).await {
            Ok(present) => present,
            Err(error) => return error,
        };
        if present.is_some_and(|present| present.node.id != coordinator.node.id) {
            let (what, address) = ("follow".to_owned(), coordinator.address());
            let source = std::io::Error::other("it has given way to another coordinator");
            return Error::Store { what, address, source };
        }
    }
}

/// Reads the coordinator's news in order, until it is lost.
async fn read(client: StoreClient, told: mpsc::Sender<News>) {
    let mut number = 0;
    loop {
        match client.get(&news(number), Duration::from_secs(3600)).await {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(news) => {
                    if told.send(news).await.is_err() {
                        return;
                    }
                    number += 1;
                }
                Err(error) => {
                    warn!(%error, "the coordinator's news can't be read: are all nodes of one version?");
                    return;
                }
            },
            Err(Error::StoreTimedOut { .. }) => {}
            Err(_) => return,
        }
    }
}
