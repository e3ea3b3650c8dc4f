//! The coordinator: one of the agents, which makes the rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::meeting::{Meeting, has_ended};
use super::messages::{Coordinator, News, Report, address, news};
use super::quorum::{NodeState, QuorumOptions, QuorumState, quorum};
use super::reason::Reason;
use super::round::{Node, Round};
use crate::store::{StoreClient, StoreEntry};
use crate::{JobEnd, Result};

/// Decisions are looked for this often where nothing else asks for one.
const TICK: Duration = Duration::from_millis(50);
/// Reports that come this close together are looked at together.
const TOGETHER: Duration = Duration::from_millis(2);
/// How often it is tried to reach a lost node, and for how long.
const PROBE: Duration = Duration::from_millis(500);
/// How often is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a job is told to nodes that have not left yet.
const LINGER: Duration = Duration::from_secs(5);

/// What a coordinator begins with.
pub(super) struct Lead {
    pub(super) own: Coordinator,
    pub(super) round: Option<Round>,
    pub(super) ended: BTreeSet<String>,
    /// How long enough nodes may take to come.
    pub(super) join_timeout: Duration,
    /// When the whole job must be done, and the time that it was given.
    pub(super) deadline: Option<(Instant, Duration)>,
}

/// Makes rounds until the job has ended and all nodes know.
pub(super) async fn coordinate(meeting: Arc<Meeting>, lead: Lead, options: QuorumOptions) -> Result<()> {
    let (keys, number) = (&meeting.keys, lead.own.lead);
    let mut watch = meeting.server.watch(&keys.nodes(number));
    let client = meeting.server.client(Duration::from_secs(60));
    let mut driver = Driver {
        began: Instant::now(),
        state: QuorumState {
            took_over: lead.round.is_some().then_some(Duration::ZERO),
            agreed: lead.round.clone(),
            round: lead.round,
            ended: lead.ended,
            nodes: BTreeMap::new(),
            over: false,
        },
        reports: BTreeMap::new(),
        told: 0,
        last: None,
        too_few: None,
        waits: (Instant::now(), None),
        probes: JoinSet::new(),
        probed: BTreeMap::new(),
        own: lead.own,
        made: false,
        client: client.prefixed(&keys.lead(number)),
        meeting: meeting.clone(),
    };
    meeting.record(&driver.own).await?;
    loop {
        driver.read(&watch.snapshot());
        driver.agree().await?;
        driver.probe();
        let late = lead.deadline.filter(|(deadline, _)| Instant::now() >= *deadline);
        let end = match late {
            Some((_, after)) => Some(JobEnd::TimedOut { after }),
            None => driver.decide(&options).await?,
        };
        let end = end.or_else(|| driver.given_up(lead.join_timeout));
        if let Some(end) = end {
            driver.tell(News::End(end)).await?;
            break;
        }
        tokio::select! {
            changed = watch.changed() => {
                changed?;
                tokio::time::sleep(TOGETHER).await;
            }
            Some(probed) = driver.probes.join_next() => {
                if let Ok(Some(id)) = probed {
                    driver.state.ended.insert(id);
                }
            }
            () = tokio::time::sleep(TICK) => {}
        }
    }
    // The nodes learn it by themselves, and go. One that was lost without a trace never does.
    let until = Instant::now() + LINGER;
    let waits = |entries: BTreeMap<String, StoreEntry>, own: &str| {
        let lives =
            |entry: &StoreEntry| entry.connected && entry.set_at.elapsed() < options.heartbeat_timeout;
        entries.iter().any(|(key, entry)| lives(entry) && !key.ends_with(own))
    };
    while Instant::now() < until && waits(watch.snapshot(), &driver.own.node.id) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

struct Driver {
    began: Instant,
    state: QuorumState,
    /// The last report of each node, with its revision in the store.
    reports: BTreeMap<String, (u64, Report)>,
    /// How many news were told.
    told: u64,
    last: Option<Reason>,
    /// Since when there are too few nodes.
    too_few: Option<Instant>,
    /// Since when nothing was told of a wait, and what was told last.
    waits: (Instant, Option<Reason>),
    /// Attempts to reach lost nodes: the id of one that has ended for certain.
    probes: JoinSet<Option<String>>,
    probed: BTreeMap<String, Duration>,
    own: Coordinator,
    /// Whether it has made a round.
    made: bool,
    client: StoreClient,
    meeting: Arc<Meeting>,
}

impl Driver {
    /// Takes up what the nodes' reports say.
    fn read(&mut self, entries: &BTreeMap<String, StoreEntry>) {
        let now = self.began.elapsed();
        for (key, entry) in entries {
            let known = self.reports.get(key);
            if known.is_none_or(|(revision, _)| *revision != entry.revision) {
                match serde_json::from_slice::<Report>(&entry.value) {
                    Ok(report) => {
                        self.take(&report, now, entry.set_at.saturating_duration_since(self.began));
                        self.reports.insert(key.clone(), (entry.revision, report));
                    }
                    Err(error) => debug!(%key, %error, "a report that can't be read"),
                }
            }
            let Some((_, report)) = self.reports.get(key) else { continue };
            if let Some(node) = self.state.nodes.get_mut(&report.node.id) {
                match (entry.connected, node.disconnected) {
                    (true, _) => node.disconnected = None,
                    (false, None) => node.disconnected = Some(now),
                    (false, Some(_)) => {}
                }
            }
        }
    }

    fn take(&mut self, report: &Report, now: Duration, heard: Duration) {
        // Where the coordinator before told a round to some nodes only, that one counts.
        if let Some(round) = &report.round
            && !self.made
            && self.state.round.as_ref().is_some_and(|own| own.number < round.number)
        {
            self.state.round = Some(round.clone());
            self.state.agreed = Some(round.clone());
            self.state.over = false;
        }
        let node = self.state.nodes.entry(report.node.id.clone()).or_insert_with(|| NodeState {
            node: report.node.clone(),
            phase: report.phase.clone(),
            ticket: report.ticket,
            joined: now,
            since: now,
            heard,
            disconnected: None,
        });
        node.heard = heard;
        if node.phase != report.phase {
            node.phase = report.phase.clone();
            node.since = now;
        }
    }

    /// Notes whether all nodes of the round have taken it up.
    async fn agree(&mut self) -> Result<()> {
        let Some(round) = self.state.round.as_ref().filter(|round| self.state.agreed.as_ref() != Some(round))
        else {
            return Ok(());
        };
        let took_up = |id: &str| self.report(id).is_some_and(|report| report.round.as_ref() == Some(round));
        if round.nodes.iter().all(|node| took_up(&node.id)) {
            self.own.round = round.number;
            self.own.made = self.made;
            self.state.agreed = Some(round.clone());
            self.meeting.record(&self.own).await?;
        }
        Ok(())
    }

    /// Looks whether the agents of lost nodes have ended for certain: now, and again every now and then.
    fn probe(&mut self) {
        let now = self.began.elapsed();
        let voters = self.state.agreed.iter().chain(&self.state.round).flat_map(|round| &round.nodes);
        for node in voters {
            if !self.state.ended.contains(&node.id) && is_replaced(&self.state.nodes, node) {
                info!(node = %node.host, "another has come in its place");
                self.state.ended.insert(node.id.clone());
            }
            let lost = self.state.nodes.get(&node.id).is_none_or(|node| node.disconnected.is_some());
            let soon = self.probed.get(&node.id).is_some_and(|at| now < *at + PROBE);
            if lost && !soon && !self.state.ended.contains(&node.id) {
                self.probed.insert(node.id.clone(), now);
                let node = node.clone();
                self.probes.spawn(async move {
                    let reached = StoreClient::connect_once(address(&node), PROBE).await;
                    reached.is_err_and(|error| has_ended(&error)).then_some(node.id)
                });
            }
        }
    }

    /// Decides, and tells the nodes. The job's end, where it has come.
    async fn decide(&mut self, options: &QuorumOptions) -> Result<Option<JobEnd>> {
        // As one that was over: its nodes make another one as soon as all are here.
        let over = self.state.over;
        self.state.over |= self.is_unbegun();
        let (round, reason) = quorum(self.began.elapsed(), &self.state, options);
        self.state.over = over;
        let is_new = self.last.as_ref().is_none_or(|last| !last.is_like(&reason));
        if is_new {
            info!(round = self.state.round.as_ref().map(|round| round.number), "{reason}");
        }
        let end = self.end(&reason);
        if let Some(round) = round {
            self.state.round = Some(round.clone());
            self.state.over = false;
            // Nodes that ended long ago need not be remembered.
            let agreed = self.state.agreed.as_ref();
            self.state.ended.retain(|id| round.has(id) || agreed.is_some_and(|agreed| agreed.has(id)));
            self.made = true;
            self.tell(News::Round { round, reason: reason.to_string() }).await?;
        } else if let Some(broken) = self.state.round.as_ref().map(|round| round.number)
            && reason.breaks_round()
            && !self.state.over
        {
            self.state.over = true;
            self.tell(News::Over { round: broken, reason: reason.to_string() }).await?;
        }
        self.tell_wait(&reason).await?;
        self.last = Some(reason);
        Ok(end)
    }

    /// Whether the round was taken over and some of its nodes, which are here, have not begun it. They never will: who told
    /// it is gone, with the store where they were to meet.
    fn is_unbegun(&self) -> bool {
        let Some(round) = self.state.round.as_ref().filter(|_| !self.made) else { return false };
        let mut here = round.nodes.iter().filter_map(|node| self.state.nodes.get(&node.id));
        here.any(|node| !node.phase.has_begun(round.number))
    }

    /// Tells what is waited for, where that takes a while.
    async fn tell_wait(&mut self, reason: &Reason) -> Result<()> {
        if !reason.waits() {
            self.waits = (Instant::now(), None);
        } else if self.waits.0.elapsed() >= PATIENCE
            && self.waits.1.as_ref().is_none_or(|told| !told.is_like(reason))
        {
            self.waits = (Instant::now(), Some(reason.clone()));
            let after = self.state.round.as_ref().map_or(0, |round| round.number);
            self.tell(News::Waits { after, reason: reason.to_string() }).await?;
        }
        Ok(())
    }

    /// The job's end where too few nodes have come, or come back, for this long.
    fn given_up(&mut self, after: Duration) -> Option<JobEnd> {
        let Some(reason @ Reason::TooFew { .. }) = &self.last else {
            self.too_few = None;
            return None;
        };
        let since = *self.too_few.get_or_insert_with(Instant::now);
        (since.elapsed() >= after).then(|| JobEnd::Broken {
            reason: format!("{reason} after {after:?}; no more have come"),
            retryable: true,
        })
    }

    fn end(&self, reason: &Reason) -> Option<JobEnd> {
        match reason {
            Reason::Succeeded { .. } => {
                let first = self.state.round.as_ref().and_then(|round| round.nodes.first());
                let report = first.and_then(|node| self.report(&node.id));
                Some(JobEnd::Succeeded { result: report.map_or(Value::Null, |report| report.result.clone()) })
            }
            Reason::Failed { node, failure, .. } => {
                let report = self.report(node).and_then(|report| report.failure.clone());
                Some(match report {
                    Some(failure) => JobEnd::Failed(failure),
                    None => JobEnd::Broken { reason: failure.clone(), retryable: false },
                })
            }
            _ => None,
        }
    }

    fn report(&self, id: &str) -> Option<&Report> {
        self.reports.values().map(|(_, report)| report).find(|report| report.node.id == id)
    }

    async fn tell(&mut self, told: News) -> Result<()> {
        let json = kf_core::json::to_json(&told).map_err(|error| crate::Error::StoreRefused {
            what: "the coordinator's news".into(),
            reason: error.to_string(),
        })?;
        self.client.set(&news(self.told), json.to_string()).await?;
        self.told += 1;
        Ok(())
    }
}

/// Whether a node of the same name has come after it.
fn is_replaced(nodes: &BTreeMap<String, NodeState>, node: &Node) -> bool {
    let ticket = nodes.get(&node.id).map(|node| node.ticket);
    let same = |other: &Node| other.name.is_some() && other.name == node.name && other.id != node.id;
    nodes.values().any(|other| same(&other.node) && ticket.is_none_or(|of| of < other.ticket))
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::super::options::AgentOptions;
    use super::super::quorum::Phase;
    use super::*;

    /// What a coordinator tells first that took round 3 of its only node over, which is in this phase.
    async fn told_after_taking_over(phase: Phase) -> Option<News> {
        let options = AgentOptions::new("");
        let meeting = Arc::new(Meeting::open(&options, "job", "a".into(), 1).await.unwrap());
        let node = meeting.node.clone();
        let round = Round { number: 3, restarts: 1, nodes: vec![node.clone()] };
        let lead = Lead {
            own: Coordinator { node: node.clone(), lead: 1, round: 3, made: false },
            round: Some(round.clone()),
            ended: BTreeSet::new(),
            join_timeout: Duration::from_secs(60),
            deadline: None,
        };
        let client = meeting.server.client(Duration::from_secs(60)).prefixed(&meeting.keys.lead(1));
        let (round, result) = (Some(round), Value::Null);
        let report = Report { node, ticket: 1, phase, round, failure: None, result, beat: 1 };
        client.set(&messages::node("a"), serde_json::json!(report).to_string()).await.unwrap();
        let first = news(0);
        tokio::select! {
            ended = coordinate(meeting.clone(), lead, options.quorum) => panic!("{ended:?}"),
            told = client.get(&first, Duration::from_millis(500)) => {
                told.ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
            }
        }
    }

    #[tokio::test]
    async fn a_round_taken_over_before_all_had_begun_it_is_made_anew() {
        for phase in [Phase::Ready, Phase::Starting, Phase::Running { round: 2 }] {
            let told = told_after_taking_over(phase.clone()).await;
            let Some(News::Round { round, .. }) = &told else { panic!("{phase:?}: {told:?}") };
            assert_eq!((round.number, round.restarts, round.nodes.len()), (4, 1, 1));
        }
        assert_eq!(told_after_taking_over(Phase::Running { round: 3 }).await, None);
    }

    #[test]
    fn a_node_is_replaced_by_a_later_one_of_its_name() {
        let node = |id: &str, name: Option<&str>| Node {
            id: id.into(),
            host: "h".into(),
            port: 1,
            name: name.map(str::to_owned),
            ranks: 1,
            rank: None,
        };
        let state = |node: &Node, ticket| NodeState {
            node: node.clone(),
            phase: Phase::Ready,
            ticket,
            joined: Duration::ZERO,
            since: Duration::ZERO,
            heard: Duration::ZERO,
            disconnected: None,
        };
        let here =
            [node("a", Some("pod-0")), node("b", Some("pod-1")), node("c", Some("pod-0")), node("d", None)];
        let nodes =
            here.iter().zip(1..).map(|(node, ticket)| (node.id.clone(), state(node, ticket))).collect();
        let replaced: Vec<_> =
            here.iter().filter(|node| is_replaced(&nodes, node)).map(|node| &node.id).collect();
        assert_eq!(replaced, ["a"]);
        // Nodes of a round that have never come to this coordinator.
        assert!(is_replaced(&nodes, &node("e", Some("pod-1"))));
        assert!(!is_replaced(&nodes, &node("f", Some("pod-2"))));
        assert!(!is_replaced(&nodes, &node("g", None)));
    }
}
