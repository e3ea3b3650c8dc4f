//! How an agent finds who coordinates, or finds that it is the one who does.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tracing::{debug, info};

use super::messages::{Coordinator, Keys, address};
use super::options::AgentOptions;
use super::round::{Node, Round};
use super::serving::{local, own_name, resolve, serve_own};
use crate::store::{StoreClient, StoreServer, StoreWatch};
use crate::{Error, LONGEST, Result};

/// How long one attempt to reach a node takes at most.
const REACH: Duration = Duration::from_secs(1);
/// How often is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long the name of a machine that has just come may take to be known: resolvers remember for a while that it was not.
const NAMED: Duration = Duration::from_secs(10);
/// How often a coordinator looks for another one.
const LOOK: Duration = Duration::from_millis(500);

/// What an agent knows of the job.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) round: Option<Round>,
    /// Nodes of the round that have ended for certain.
    pub(super) ended: BTreeSet<String>,
}

impl Known {
    /// Whether a coordinator is not behind what is known.
    fn may_follow(&self, coordinator: &Coordinator) -> bool {
        let behind = self.round.as_ref().is_some_and(|round| coordinator.round < round.number);
        !behind && !self.ended.contains(&coordinator.node.id)
    }

    /// Notes what came of reaching for a node.
    fn note(&mut self, node: &Node, error: &Error) {
        if has_ended(error) {
            info!(node = %node.host, "its agent has ended");
            self.ended.insert(node.id.clone());
        } else {
            debug!(node = %node.host, %error, "not reached");
        }
    }
}

/// Who coordinates.
pub(super) enum Found {
    /// This node.
    Own,
    /// Another.
    Other(Coordinator, StoreClient),
}

/// An agent's own place to meet.
pub(super) struct Meeting {
    pub(super) node: Node,
    pub(super) server: Arc<StoreServer>,
    pub(super) keys: Keys,
    /// The endpoints that are not this node's.
    seeds: Vec<String>,
    /// How many of them are listed before this node's own.
    before: usize,
    /// Whether one of the endpoints is this node's.
    is_seed: bool,
    opened: Instant,
    join_timeout: Duration,
    /// How long a node that was reached may take to find a coordinator.
    patience: Duration,
    /// Who coordinates, as far as this node goes along with it.
    current: Mutex<Option<Coordinator>>,
}

impl Meeting {
    /// Serves this node's store: at the first endpoint that is this node's, and else at any port.
    pub(super) async fn open(options: &AgentOptions, run_id: &str, id: String, ranks: usize) -> Result<Self> {
        let mut seeds = Vec::new();
        let (mut own, mut before) = (None, 0);
        for endpoint in &options.endpoints {
            if own.is_none() {
                own = serve_own(endpoint, options).await?;
                if own.is_some() {
                    before = seeds.len();
                    continue;
                }
            }
            seeds.push(endpoint.clone());
        }
        let is_seed = own.is_some() || options.endpoints.is_empty();
        let local = match &own {
            Some(server) if !server.local_addr().ip().is_unspecified() => server.local_addr().ip(),
            _ => local(&seeds, options).await?,
        };
        let server = match own {
            Some(server) => server,
            None => StoreServer::bind(SocketAddr::new(local, 0)).await?,
        };
        let node = Node {
            id,
            host: options.host.clone().or_else(|| own_name(options)).unwrap_or_else(|| local.to_string()),
            port: server.local_addr().port(),
            name: options.name.clone(),
            ranks,
            rank: options.node_rank,
        };
        Ok(Self {
            node,
            server: Arc::new(server),
            keys: Keys::of(run_id),
            seeds,
            before,
            is_seed,
            opened: Instant::now(),
            // Which a clock bears.
            join_timeout: options.join_timeout.min(LONGEST),
            patience: options.quorum.heartbeat_timeout.min(LONGEST),
            current: Mutex::default(),
        })
    }

    /// Looks for the coordinator, in the order in which the nodes of the last round succeed one another, so that all come to
    /// the same one: each asks those before itself, and is the one when none of them can be reached.
    pub(super) async fn find(&self, known: &mut Known) -> Result<Found> {
        let deadline = Instant::now() + self.join_timeout;
        loop {
            if let Some(found) = self.look(known, deadline).await? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let after = self.join_timeout;
                return Err(Error::NoCoordinator { endpoints: self.seeds.join(", "), after });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn look(&self, known: &mut Known, deadline: Instant) -> Result<Option<Found>> {
        if let Some(found) = self.follow_record(known).await {
            return Ok(Some(found));
        }
        let nodes: Vec<_> = known.round.iter().flat_map(|round| round.nodes.clone()).collect();
        for node in &nodes {
            if known.ended.contains(&node.id) {
                continue;
            }
            if node.id == self.node.id {
                return Ok(Some(Found::Own));
            }
            match self.ask(&address(node), known, self.patience).await {
                Ok(Some((coordinator, client))) => return Ok(Some(Found::Other(coordinator, client))),
                Ok(None) => {}
                Err(error) => known.note(node, &error),
            }
        }
        let mut unnamed = false;
        for (place, seed) in self.seeds.iter().enumerate() {
            match self.ask(seed, known, Duration::ZERO).await {
                Ok(Some((coordinator, client))) => return Ok(Some(Found::Other(coordinator, client))),
                Ok(None) => {}
                Err(error) => {
                    debug!(%seed, %error, "not reached");
                    unnamed |= place < self.before && resolve(seed).await.is_err();
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
        // One that goes before this node may have started just now.
        if unnamed && self.opened.elapsed() < NAMED {
            return Ok(None);
        }
        // A node that was of no round, and is no endpoint, has nobody to coordinate.
        Ok(self.is_seed.then_some(Found::Own))
    }

    /// The coordinator that this node's own store names: the one before, which may be back, or one that has told this node
    /// that it goes on.
    async fn follow_record(&self, known: &mut Known) -> Option<Found> {
        let recorded = self.recorded().filter(|recorded| recorded.node.id != self.node.id)?;
        if !known.may_follow(&recorded) {
            return None;
        }
        match StoreClient::connect_once(recorded.address(), REACH).await {
            Ok(client) => {
                let present = self.read(&client).await.ok()??;
                (present.node.id == recorded.node.id).then_some(Found::Other(present, client))
            }
            Err(error) => {
                known.note(&recorded.node, &error);
                None
            }
        }
    }

    /// Asks at a node who coordinates, and connects there. None where it knows of nobody who is fit.
    async fn ask(
        &self,
        at: &str,
        known: &Known,
        patience: Duration,
    ) -> Result<Option<(Coordinator, StoreClient)>> {
        let client = StoreClient::connect_once(at, REACH).await?;
        let until = Instant::now() + patience;
        loop {
            if let Some(coordinator) = self.read(&client).await?
                && coordinator.node.id != self.node.id
                && known.may_follow(&coordinator)
            {
                if coordinator.address() == at {
                    return Ok(Some((coordinator, client)));
                }
                // It may know only of one that is lost to it as well.
                if let Ok(there) = StoreClient::connect_once(coordinator.address(), REACH).await
                    && let Some(present) = self.read(&there).await?
                    && present.node.id == coordinator.node.id
                {
                    return Ok(Some((present, there)));
                }
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Who coordinates, as the store of this client has it.
    pub(super) async fn read(&self, client: &StoreClient) -> Result<Option<Coordinator>> {
        let value = client.try_get(&self.keys.coordinator()).await?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Who coordinates, as this node's own store has it: what was written there last, by this node or by a coordinator that
    /// has come by.
    fn recorded(&self) -> Option<Coordinator> {
        let key = self.keys.coordinator();
        let entry = self.server.snapshot(&key).remove(&key)?;
        serde_json::from_slice(&entry.value).ok()
    }

    fn current(&self) -> Option<Coordinator> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes whom this node follows, also for those who ask at its store.
    pub(super) async fn record(&self, coordinator: &Coordinator) -> Result<()> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(coordinator.clone());
        self.write(coordinator).await
    }

    async fn write(&self, coordinator: &Coordinator) -> Result<()> {
        let json = serde_json::json!(coordinator).to_string();
        self.server.client(REACH).set(&self.keys.coordinator(), json).await
    }

    /// Waits until a coordinator has come by to which the one that this node follows has to give way.
    pub(super) async fn gives_way(&self, record: &mut StoreWatch) -> Result<()> {
        loop {
            if let (Some(current), Some(recorded)) = (self.current(), self.recorded())
                && recorded.node.id != current.node.id
            {
                if current.gives_way_to(&recorded) {
                    return Ok(());
                }
                self.write(&current).await?;
            }
            record.changed().await?;
        }
    }

    /// While this node coordinates: looks at the endpoints, and at the nodes that it lost, for another coordinator, of which
    /// only one may go on. Notes the other at this node's store where that is the one, and this one at the other's where
    /// it is not.
    pub(super) async fn look_around(&self, nodes: impl Fn() -> Vec<Node>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let others = nodes().into_iter().filter(|node| node.id != self.node.id);
            let places: BTreeSet<_> =
                self.seeds.iter().cloned().chain(others.map(|node| address(&node))).collect();
            join_all(places.iter().map(|place| async move {
                if let Err(error) = self.compare(place).await {
                    debug!(%place, %error, "no other coordinator is there");
                }
            }))
            .await;
        }
    }

    async fn compare(&self, place: &str) -> Result<()> {
        let client = StoreClient::connect_once(place, REACH / 2).await?;
        let (Some(own), theirs) = (self.current(), self.read(&client).await?) else { return Ok(()) };
        let Some(theirs) = theirs else {
            return client.set(&self.keys.coordinator(), serde_json::json!(own).to_string()).await;
        };
        if own.gives_way_to(&theirs) {
            // What it points to must be there.
            let there = StoreClient::connect_once(theirs.address(), REACH / 2).await?;
            match self.read(&there).await? {
                Some(present) if present.node.id == theirs.node.id => self.write(&present).await,
                _ => Ok(()),
            }
        } else if theirs.gives_way_to(&own) {
            client.set(&self.keys.coordinator(), serde_json::json!(own).to_string()).await
        } else {
            Ok(())
        }
    }
}

/// Whether nobody listens there any more: a process that has ended for certain, and its ranks with it.
pub(super) fn has_ended(error: &Error) -> bool {
    matches!(error, Error::Store { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use kf_core::testing::servers::free_port;

    use super::*;

    async fn opened(options: &AgentOptions) -> Result<Meeting> {
        Meeting::open(options, "job", "id".into(), 1).await
    }

    #[tokio::test]
    async fn a_node_serves_at_the_endpoint_of_its_name_before_that_is_known() {
        let port = free_port().unwrap();
        let mut options = AgentOptions::new("");
        options.endpoints =
            vec!["one.invalid:1".into(), format!("two.invalid:{port}"), "three.invalid:1".into()];
        options.host = Some("127.0.0.1".into());
        options.name = Some("two.invalid".into());
        let meeting = opened(&options).await.unwrap();
        assert_eq!((meeting.node.port, meeting.node.host.as_str()), (port, "127.0.0.1"));
        assert_eq!((meeting.before, meeting.seeds.len(), meeting.is_seed), (1, 2, true));
        // The first may have started just now: this one does not coordinate yet.
        let looked = meeting.look(&mut Known::default(), Instant::now() + NAMED).await.unwrap();
        assert!(looked.is_none());
        // One of no endpoint waits for names as well, and coordinates never.
        options.name = Some("four.invalid".into());
        let meeting = opened(&options).await.unwrap();
        assert_eq!((meeting.seeds.len(), meeting.is_seed), (3, false));
    }

    #[tokio::test]
    async fn a_node_that_none_goes_before_coordinates_at_once() {
        let mut options = AgentOptions::new("");
        options.endpoints = vec![format!("one.invalid:{}", free_port().unwrap()), "two.invalid:1".into()];
        options.host = Some("127.0.0.1".into());
        options.name = Some("one.invalid".into());
        let meeting = opened(&options).await.unwrap();
        let looked = meeting.look(&mut Known::default(), Instant::now() + NAMED).await.unwrap();
        assert!(matches!(looked, Some(Found::Own)));
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_told() {
        let mut options = AgentOptions::new("");
        for endpoints in
            [vec!["one.invalid:1".to_owned()], vec!["one.invalid:1".into(), "two.invalid:1".into()]]
        {
            options.endpoints = endpoints;
            let Err(error) = opened(&options).await else { panic!("it is known") };
            assert!(error.to_string().contains("endpoint `one.invalid:1`"), "{error}");
        }
    }
}
