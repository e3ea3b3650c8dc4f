//! This node's ranks, from round to round.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kf_core::process::Spawner;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::messages::{Keys, Plan, RankPlan, WARM, address, master, plan, stuck};
use super::round::{Node, Round};
use crate::contract::{self, Address, Placement};
use crate::launch::{Gang, GangEnd, Heal, Place, Tell};
use crate::store::{StoreClient, StoreServer};
use crate::{Error, JobSpec, Program, Result, plain_file};

/// How long the first node of a round may take to serve its ranks' store.
const SERVED: Duration = Duration::from_secs(60);

/// What stays the same from round to round.
pub(super) struct LocalRanks {
    pub(super) spec: JobSpec,
    pub(super) run_id: String,
    pub(super) node: Node,
    pub(super) max_restarts: u64,
    pub(super) folder: PathBuf,
    /// The GPUs for the ranks of this machine.
    pub(super) gpus: Vec<String>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) tell: Tell,
    /// This node's own store, and its number and theirs on the machine, where its rank outlives rounds.
    pub(super) heal: Option<(StoreClient, usize, usize)>,
    /// Counts the starts.
    attempt: u64,
    running: Option<Running>,
}

/// The ranks of one start.
struct Running {
    /// The round that they are of; 0 before the first.
    round: u64,
    /// The last round that they were started for or told of.
    begun: u64,
    gang: Gang,
    /// The store that the ranks meet at, on the round's first node. A new one for each round: no key of another is in it.
    store: Option<StoreServer>,
    leave: PathBuf,
    /// Of a rank that outlives rounds.
    alive: Option<Alive>,
}

/// A rank that outlives rounds, as its agent knows it.
struct Alive {
    /// For what it tells.
    client: StoreClient,
    /// The plans that it is told, in order. The task writes each whole, also where whoever told it goes on to the next.
    plans: mpsc::UnboundedSender<Plan>,
    _tells: AbortOnDropHandle<()>,
    /// Whether it is ready for a round.
    warm: bool,
    /// The last round that it could not go on in.
    stuck: u64,
}

impl LocalRanks {
    pub(super) fn new(
        spec: JobSpec,
        run_id: String,
        node: Node,
        max_restarts: u64,
        folder: PathBuf,
        spawner: Arc<Spawner>,
        tell: Tell,
    ) -> Self {
        let (gpus, heal, attempt, running) = (Vec::new(), None, 0, None);
        Self { spec, run_id, node, max_restarts, folder, gpus, spawner, tell, heal, attempt, running }
    }

    /// Whether the rank outlives rounds.
    pub(super) fn heals(&self) -> bool {
        self.heal.is_some()
    }

    /// Brings this node's ranks into a round. Where the future is dropped, none are left, but for those that outlive rounds.
    pub(super) async fn start(&mut self, round: &Round, client: &StoreClient) -> Result<()> {
        let Some((node, first_rank)) = round.place(&self.node.id) else { return Ok(()) };
        let (store, address) = self.meeting_place(round, node, client).await?;
        if self.heals() {
            return self.adopt(round, first_rank, store, address).await;
        }
        let nodes = round.nodes.iter().map(|node| contract::Node::new(&node.host, node.ranks)).collect();
        let master = Address::new(address.ip().to_string(), address.port());
        let place = self.place(nodes, master, node, round.restarts)?;
        let (gang, leave) = self.spawn(place).await?;
        self.running =
            Some(Running { round: round.number, begun: round.number, gang, store, leave, alive: None });
        Ok(())
    }

    /// The place of this node, which is of this number among these.
    fn place(
        &self,
        nodes: Vec<contract::Node>,
        master: Address,
        node: usize,
        restarts: u64,
    ) -> Result<Place> {
        let placement = Placement::new(&self.spec.name, &self.run_id, nodes, master)?
            // The coordinator may allow more.
            .restarts(restarts, self.max_restarts.max(restarts))?
            .agent_store(true);
        Ok(Place {
            gpus: self.gpus.clone(),
            attempt: self.attempt,
            folder: self.folder.clone(),
            ..Place::of(self.spec.framework, placement.into(), node)?
        })
    }

    async fn spawn(&mut self, place: Place) -> Result<(Gang, PathBuf)> {
        self.attempt += 1;
        let leave = place.leave_file();
        let result = self.folder.join("result.json");
        let gang =
            Gang::start(&self.spec, &[place], &result, &self.spawner, self.tell.clone(), &|| true).await?;
        Ok((gang, leave))
    }

    /// Starts a rank that outlives rounds, unless one runs or none does so here.
    pub(super) async fn start_ahead(&mut self) -> Result<()> {
        let Some((server, local_rank, local_world_size)) = self.heal.clone() else { return Ok(()) };
        if self.running.is_some() {
            return Ok(());
        }
        let keys = Keys::of(&self.run_id).local(self.attempt);
        let nodes = vec![contract::Node::new(&self.node.host, 1); local_world_size];
        let master = Address::new(&self.node.host, self.node.port);
        let place = Place {
            host: Some(self.node.host.clone()),
            heal: Some(Heal { agent: address(&self.node), keys: keys.clone(), local_rank, local_world_size }),
            ..self.place(nodes, master, local_rank, 0)?
        };
        let client = server.prefixed(&keys);
        let teller = client.connect_again().await?;
        let (gang, leave) = self.spawn(place).await?;
        let alive = Some(Alive::new(client, teller));
        self.running = Some(Running { round: 0, begun: 0, gang, store: None, leave, alive });
        Ok(())
    }

    /// Whether this node's rank, which outlives rounds, is ready for one.
    pub(super) fn is_warm(&self) -> bool {
        self.running.as_ref().and_then(|running| running.alive.as_ref()).is_some_and(|alive| alive.warm)
    }

    /// Tells a rank that outlives rounds of its place in one, when it is ready.
    async fn adopt(
        &mut self,
        round: &Round,
        rank: usize,
        store: Option<StoreServer>,
        address: SocketAddr,
    ) -> Result<()> {
        self.start_ahead().await?;
        let told = RankPlan {
            round: round.number,
            rank,
            world_size: round.world_size(),
            restarts: round.restarts,
            nodes: round.nodes.iter().map(|node| node.id.clone()).collect(),
            store: address.to_string(),
            host: self.node.host.clone(),
        };
        let Some(running) = &mut self.running else { return Ok(()) };
        running.gang.renumber(rank, round.world_size());
        running.round = round.number;
        // That of the round before is of no use any more.
        running.store = store;
        if let Some(alive) = &mut running.alive {
            tokio::select! {
                warm = alive.until_warm() => warm?,
                // Seen again by whoever watches.
                _ = running.gang.watch() => return Ok(()),
            }
            alive.tell(Plan::Round(told));
            running.begun = round.number;
        }
        Ok(())
    }

    /// Starts a rank that outlives rounds anew, where the round goes on without it: it may have hung.
    pub(super) async fn renew(&mut self) -> Result<()> {
        if self.running.as_ref().is_some_and(|running| running.round > 0) {
            self.stop().await;
        }
        self.start_ahead().await
    }

    /// Tells a rank that outlives rounds that the one that it is of is over.
    pub(super) fn give_up(&self, reason: &str) {
        if let Some(alive) = self.running.as_ref().and_then(|running| running.alive.as_ref())
            && alive.warm
        {
            alive.tell(Plan::Over { reason: reason.to_owned() });
        }
    }

    /// The store that the ranks of a round meet at: served by its first node, which tells the others where.
    async fn meeting_place(
        &self,
        round: &Round,
        node: usize,
        client: &StoreClient,
    ) -> Result<(Option<StoreServer>, SocketAddr)> {
        let key = master(round.number);
        if node > 0 {
            let told = client.get(&key, SERVED).await?;
            let told = String::from_utf8_lossy(&told);
            let address = told.parse().map_err(|_| Error::StoreRefused {
                what: format!("`{key}`"),
                reason: format!("found `{told}`, expected an address"),
            })?;
            return Ok((None, address));
        }
        let host = self.node.host.as_str();
        let address = tokio::net::lookup_host((host, 0)).await.ok().and_then(|mut all| all.next());
        let address = address.ok_or_else(|| Error::Endpoint {
            endpoint: host.to_owned(),
            reason: "this node's own host has no address".into(),
        })?;
        let store = StoreServer::bind(address).await?;
        let address = store.local_addr();
        client.set(&key, address.to_string()).await?;
        Ok((Some(store), address))
    }

    /// The round that the ranks here were started for or told of.
    pub(super) fn round(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.begun)
    }

    /// Waits for the end of the ranks that run, or for one that outlives rounds to be ready; for ever where there are none.
    /// May be dropped and called again.
    pub(super) async fn watch(&mut self) -> Watched {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let round = running.round;
        let told = async {
            // Where this node's own store fails, nothing is told.
            let told = match &mut running.alive {
                Some(alive) if !alive.warm => alive.until_warm().await.map(|()| Watched::Warm),
                Some(alive) if alive.stuck < round => alive.until_stuck(round).await,
                _ => std::future::pending().await,
            };
            match told {
                Ok(watched) => watched,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            end = running.gang.watch() => Watched::Ended(running.round, end),
            watched = told => watched,
        }
    }

    /// Ends the ranks, if any run.
    pub(super) async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.gang.stop(self.spec.stop_grace).await;
        }
    }

    /// Asks the ranks to end in good order, and ends them when the grace is over.
    pub(super) async fn leave(&mut self, grace: Duration) {
        let Some(mut running) = self.running.take() else { return };
        // Functions of this program look for the file; a signal would end them at once.
        let noted = std::fs::write(&running.leave, b"").is_ok();
        if noted && matches!(self.spec.program, Program::Ranks { .. }) {
            let _ = tokio::time::timeout(grace, running.gang.ended()).await;
        }
        running.gang.stop(grace).await;
    }

    /// What rank 0 returned, where it ran here.
    pub(super) fn result(&self) -> Value {
        plain_file::read_result(&self.folder.join("result.json")).unwrap_or(Value::Null)
    }
}

/// What comes of watching ranks.
pub(super) enum Watched {
    /// They ended, or one failed.
    Ended(u64, GangEnd),
    /// The one that outlives rounds is ready for one.
    Warm,
    /// It can't go on in this round, and misses these ranks.
    Stuck(u64, Vec<usize>),
}

impl Alive {
    /// The rank of these keys, by two connections to its agent's store.
    fn new(client: StoreClient, teller: StoreClient) -> Self {
        let (plans, told) = mpsc::unbounded_channel();
        let tells = tokio::spawn(tell(teller, told));
        Self { client, plans, _tells: AbortOnDropHandle::new(tells), warm: false, stuck: 0 }
    }

    async fn until_warm(&mut self) -> Result<()> {
        if !self.warm {
            self.client.get(WARM, Duration::from_secs(24 * 3600)).await?;
            self.warm = true;
        }
        Ok(())
    }

    async fn until_stuck(&mut self, round: u64) -> Result<Watched> {
        let missing = self.client.get(&stuck(round), Duration::from_secs(24 * 3600)).await?;
        self.stuck = round;
        Ok(Watched::Stuck(round, serde_json::from_slice(&missing).unwrap_or_default()))
    }

    fn tell(&self, told: Plan) {
        // The task ends with this node's own store alone.
        let _ = self.plans.send(told);
    }
}

async fn tell(client: StoreClient, mut plans: mpsc::UnboundedReceiver<Plan>) {
    let mut number = 0;
    while let Some(told) = plans.recv().await {
        if let Err(error) = client.set(&plan(number), serde_json::json!(told).to_string()).await {
            warn!(%error, "this node's own store is lost");
            return;
        }
        number += 1;
    }
}
