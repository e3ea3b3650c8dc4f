//! This node's ranks, from round to round.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kf_core::process::Spawner;
use serde_json::Value;

use super::messages::master;
use super::round::Round;
use crate::launch::{Gang, GangEnd, Place, Tell};
use crate::store::{StoreClient, StoreServer};
use crate::{Error, JobSpec, Program, Result};

/// How long the first node of a round may take to serve its ranks' store.
const SERVED: Duration = Duration::from_secs(60);

/// What stays the same from round to round.
pub(super) struct LocalRanks {
    pub(super) spec: JobSpec,
    pub(super) run_id: String,
    /// This node's id and host.
    pub(super) id: String,
    pub(super) host: String,
    pub(super) max_restarts: u64,
    pub(super) folder: PathBuf,
    pub(super) spawner: Arc<Spawner>,
    pub(super) tell: Tell,
    /// Counts the starts.
    pub(super) attempt: u64,
    running: Option<Running>,
}

/// The ranks of one round.
struct Running {
    round: u64,
    gang: Gang,
    /// The store that the ranks meet at, on the round's first node. A new one for each round: no key of another is in it.
    _store: Option<StoreServer>,
    leave: PathBuf,
}

impl LocalRanks {
    #[expect(clippy::too_many_arguments, reason = "each is another thing")]
    pub(super) fn new(
        spec: JobSpec,
        run_id: String,
        id: String,
        host: String,
        max_restarts: u64,
        folder: PathBuf,
        spawner: Arc<Spawner>,
        tell: Tell,
    ) -> Self {
        Self { spec, run_id, id, host, max_restarts, folder, spawner, tell, attempt: 0, running: None }
    }

    /// Starts this node's ranks of a round. Where the future is dropped, none are left.
    pub(super) async fn start(&mut self, round: &Round, client: &StoreClient) -> Result<()> {
        let Some((node, first_rank)) = round.place(&self.id) else { return Ok(()) };
        let (store, address) = self.meeting_place(round, node, client).await?;
        let place = Place {
            run_id: self.run_id.clone(),
            node,
            nodes: round.nodes.len(),
            first_rank,
            local_world_size: self.spec.ranks_per_node,
            world_size: round.world_size(),
            master_addr: address.ip().to_string(),
            master_port: address.port(),
            agent_store: true,
            host: (round.nodes.len() > 1).then(|| self.host.clone()),
            restarts: round.restarts,
            max_restarts: self.max_restarts,
            attempt: self.attempt,
            folder: self.folder.clone(),
        };
        self.attempt += 1;
        let leave = place.leave_file();
        let result = self.folder.join("result.json");
        let gang =
            Gang::start(&self.spec, &[place], &result, &self.spawner, self.tell.clone()).await.map_err(
                |error| Error::Spawn { job: self.spec.name.clone(), rank: error.rank, source: error.source },
            )?;
        self.running = Some(Running { round: round.number, gang, _store: store, leave });
        Ok(())
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
        let address =
            tokio::net::lookup_host((self.host.as_str(), 0)).await.ok().and_then(|mut all| all.next());
        let address = address.ok_or_else(|| Error::Endpoint {
            endpoint: self.host.clone(),
            reason: "this node's own host has no address".into(),
        })?;
        let store = StoreServer::bind(address).await?;
        let address = store.local_addr();
        client.set(&key, address.to_string()).await?;
        Ok((Some(store), address))
    }

    /// The round whose ranks run here.
    pub(super) fn round(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.round)
    }

    /// Waits for the end of the ranks that run; for ever where there are none. May be dropped and called again.
    pub(super) async fn watch(&mut self) -> (u64, GangEnd) {
        match &mut self.running {
            Some(running) => (running.round, running.gang.watch().await),
            None => std::future::pending().await,
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
        let result = std::fs::read(self.folder.join("result.json"));
        result.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
    }
}
