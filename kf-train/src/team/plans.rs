//! What a rank's agent tells it of rounds, heard by a thread of its own, so that a call under way can be ended.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kf_core::CancellationToken;

use crate::Aborter;
use crate::elastic::messages::{Plan, RankPlan, WARM, plan, stuck};
use crate::store::StoreClient;
use crate::{Error, Rank, Result};

/// How long the agent, which is on the same machine, may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// The plans of a rank's agent. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Plans {
    shared: Arc<Shared>,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Condvar,
    /// Rounds that the rank is stuck in, and the ranks that it misses there.
    stuck: Mutex<Option<(u64, Vec<usize>)>>,
    tell: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Heard {
    /// The last plan, and its number.
    plan: Option<(u64, Plan)>,
    /// Why no more will come.
    broken: Option<String>,
    /// The round that the rank is in: whose ranks, and what gives its group up.
    present: Option<(Vec<String>, Aborter)>,
}

impl Heard {
    /// Gives the present group up where the plan goes on without some of its ranks.
    fn abort(&mut self, plan: &Plan) {
        let Some((nodes, _)) = &self.present else { return };
        let Some(reason) = why_without(nodes, plan) else { return };
        if let Some((_, aborter)) = self.present.take() {
            // A reason without zero bytes.
            let _ = aborter.abort(&reason.replace('\0', " "));
        }
    }
}

/// Why a plan has no more need of all of these; none where it has. Who joins waits for the step's end.
fn why_without(nodes: &[String], plan: &Plan) -> Option<String> {
    match plan {
        Plan::Over { reason } => Some(reason.clone()),
        Plan::Round(next) if nodes.iter().any(|node| !next.nodes.contains(node)) => {
            Some(format!("round {} goes on without some of its ranks", next.round))
        }
        Plan::Round(_) => None,
    }
}

impl Plans {
    /// Tells the agent that this rank is ready, and listens.
    pub(super) fn follow(rank: &Rank) -> Result<Option<Self>> {
        let Some((agent, keys)) = rank.agent() else { return Ok(None) };
        let (agent, keys) = (agent.to_owned(), keys.trim_end_matches('/').to_owned());
        let shared = Arc::new(Shared::default());
        let end = CancellationToken::new();
        let (of_thread, ended) = (shared.clone(), end.clone());
        let failed =
            |source| Error::Io { what: "can't listen to the agent at", path: agent.clone().into(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let at = agent.clone();
        let listen = move || {
            let heard = runtime.block_on(async {
                tokio::select! {
                    () = ended.cancelled() => Ok(()),
                    heard = of_thread.listen(&at, &keys) => heard,
                }
            });
            if let Err(error) = heard {
                of_thread.heard().broken = Some(error.to_string());
                of_thread.changed.notify_all();
            }
        };
        let thread = std::thread::Builder::new().name("kf-plans".into()).spawn(listen).map_err(failed)?;
        Ok(Some(Self { shared, end, thread: Some(thread) }))
    }

    /// The number of the last plan; 0 before the first.
    pub(super) fn last(&self) -> u64 {
        self.shared.heard().plan.as_ref().map_or(0, |(number, _)| *number)
    }

    /// Whether a later plan than the one of this number goes on without some of its ranks.
    pub(super) fn leaves_behind(&self, number: u64, plan: &RankPlan) -> bool {
        match &self.shared.heard().plan {
            Some((last, later)) if *last > number => why_without(&plan.nodes, later).is_some(),
            _ => false,
        }
    }

    /// Waits for a round planned after the plan of this number.
    pub(super) fn after(&self, number: u64, timeout: Duration) -> Result<(u64, RankPlan)> {
        let deadline = Instant::now() + timeout;
        let mut heard = self.shared.heard();
        loop {
            if let Some((last, Plan::Round(plan))) = &heard.plan
                && *last > number
            {
                return Ok((*last, plan.clone()));
            }
            if let Some(reason) = &heard.broken {
                return Err(Error::NoPlan { reason: format!("its agent is lost: {reason}") });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = match &heard.plan {
                    Some((_, Plan::Over { reason })) => format!(": {reason}"),
                    _ => String::new(),
                };
                return Err(Error::NoPlan { reason: format!("none came within {timeout:?}{why}") });
            }
            heard = self.shared.changed.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes which group is to be given up when ranks of it are lost; at once, where that is known already.
    pub(super) fn present(&self, number: u64, plan: &RankPlan, aborter: Aborter) {
        let mut heard = self.shared.heard();
        heard.present = Some((plan.nodes.clone(), aborter));
        if let Some((last, newer)) = heard.plan.clone()
            && last > number
        {
            heard.abort(&newer);
        }
    }

    /// Tells the agent that this rank can't go on in a round, and which ranks it misses.
    pub(super) fn stuck(&self, round: u64, missing: Vec<usize>) {
        *self.shared.stuck.lock().unwrap_or_else(PoisonError::into_inner) = Some((round, missing));
        self.shared.tell.notify_one();
    }
}

impl Drop for Plans {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but the agent, and has been told to end.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(&self, agent: &str, keys: &str) -> Result<()> {
        let client = StoreClient::connect(agent, ANSWER).await?.prefixed(keys);
        client.set(WARM, b"").await?;
        let teller = client.connect_again().await?;
        tokio::try_join!(self.hear(&client), self.tell_stuck(&teller)).map(drop)
    }

    async fn hear(&self, client: &StoreClient) -> Result<()> {
        let mut number = 0;
        loop {
            let told = match client.get(&plan(number), Duration::from_secs(3600)).await {
                Err(Error::StoreTimedOut { .. }) => continue,
                told => told?,
            };
            let told: Plan = serde_json::from_slice(&told)
                .map_err(|error| Error::NoPlan { reason: format!("its agent says rubbish: {error}") })?;
            number += 1;
            let mut heard = self.heard();
            heard.abort(&told);
            heard.plan = Some((number, told));
            self.changed.notify_all();
        }
    }

    async fn tell_stuck(&self, client: &StoreClient) -> Result<()> {
        loop {
            self.tell.notified().await;
            let told = self.stuck.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((round, missing)) = told {
                client.set(&stuck(round), serde_json::json!(missing).to_string()).await?;
            }
        }
    }
}
