//! Three nodes that train, and all that can go wrong with them.

use std::time::Duration;

use kf_train::{Job, LocalLauncher};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::scenario::{Choices, Kind, Scenario};
use crate::elastic::disk::SmallDisk;
use crate::elastic::fleet::{Fleet, free_port};
use crate::elastic::kill;
use crate::elastic::network::{Network, address};
use crate::elastic::training::{
    Done, Final, GO_ON, Model, Train, Training, checkpoints, finals, newest_good, now,
};
use crate::{lives, until};

pub(super) const NODES: usize = 3;
/// For calls of the ranks' group, in seconds.
const TIMEOUT: f64 = 2.0;
/// How much later than that a frozen rank may be named: the others look for it for 1.3 s, and its node may be lost.
const NAMED: f64 = 6.0;

/// Nodes of one rank each.
pub(super) struct Field {
    // Ended first, so that nothing runs in the network and on the disk any more.
    pub(super) training: Training,
    network: Option<Network>,
    disk: Option<SmallDisk>,
    launcher: LocalLauncher,
    compared: usize,
    _folder: TempDir,
}

/// What a scenario came to.
pub(super) struct Outcome {
    /// The longest time without a step, in milliseconds.
    pub(super) pause: f64,
    /// From the fault, or from when what it had taken was back, until all train together again, in milliseconds.
    pub(super) whole: f64,
    /// Whether an undisturbed run has come to the same.
    pub(super) compared: bool,
}

impl Field {
    /// Starts all nodes, with what this machine has of networks and disks.
    pub(super) async fn start(heals: bool, with_network: bool, with_disk: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let network = with_network.then(|| Network::new(NODES).unwrap());
        let disk = with_disk.then(|| SmallDisk::mount(2048).unwrap());
        let endpoints: Vec<_> = match &network {
            Some(_) => (0..2).map(|node| format!("{}:29400", address(node))).collect(),
            None => (0..2).map(|_| format!("127.0.0.1:{}", free_port())).collect(),
        };
        let mut fleet = Fleet::new(folder.path(), &endpoints, (1, NODES), 1);
        if let Some(network) = &network {
            fleet.within = Box::new(network.within());
        }
        fleet.setup.max_restarts = 1_000_000;
        fleet.setup.heal = heals;
        let saved = match &disk {
            Some(disk) => disk.path().join("checkpoints"),
            None => folder.path().join("checkpoints"),
        };
        let args = Train { folder: folder.path().into(), checkpoints: saved, timeout: TIMEOUT, fails: None };
        let mut training = Training::of(fleet, args);
        (0..NODES).for_each(|node| training.fleet.start(node));
        training.world_of(NODES).await;
        let launcher = LocalLauncher::new(folder.path().join("undisturbed"));
        Self { training, network, disk, launcher, compared: 0, _folder: folder }
    }

    /// Lets it happen, waits until all train on together, and looks whether all is as it should be.
    pub(super) async fn endure(&mut self, scenario: Scenario) -> Outcome {
        let mut choices = Choices::of(scenario.seed);
        let mut ranks = self.training.world_of(NODES).await;
        if scenario.kind == Kind::LinkSlow {
            ranks = self.calm().await;
        }
        tokio::time::sleep(choices.millis(0..60)).await;
        let first = self.training.log.done.len() - 1;
        let at = match scenario.kind {
            Kind::RankKilled => self.rank_killed(&ranks, &mut choices),
            Kind::AgentKilled => self.agent_killed(&mut choices).await,
            Kind::RankFrozen => self.rank_frozen(&ranks, &mut choices, scenario.heals).await,
            Kind::LinkCut => self.link_cut(&mut choices).await,
            Kind::LinkSlow => self.link_slow(&ranks, &mut choices).await,
            Kind::DiskFull => self.disk_full(scenario.goes_on()).await,
            Kind::KilledWhileJoining => self.killed_while_joining(&mut choices).await,
            Kind::TwoAtOnce => self.two_at_once(&ranks, &mut choices).await,
            Kind::StoreHostGone => self.store_host_gone(&ranks).await,
        };
        let whole = self.whole(at).await;
        self.training.fleet.no_process_is_left_over().await;
        let steps = self.training.log.done[first..].iter().take_while(|done| done.at <= whole);
        let times: Vec<_> = steps.map(|done| done.at).collect();
        let pause = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        // Ranks that outlive rounds go on without a checkpoint.
        let copy = if scenario.heals { None } else { self.copied() };
        let saved = self.training.checkpoint_is_right().await;
        let compared = copy.is_some();
        if let Some(copy) = copy {
            self.undisturbed(&copy, &saved).await;
        }
        Outcome { pause, whole: whole - at, compared }
    }

    /// Lets the training end, and checks what it came to.
    pub(super) async fn ends(&mut self) {
        let agents = self.training.fleet.agents.iter_mut();
        let ends: Vec<_> = agents.map(|agent| agent.exit().is_none().then_some(0)).collect();
        self.training.ends_well(&ends).await;
    }

    /// Waits until all train together, and do so for a while; since when they do.
    async fn whole(&mut self, at: f64) -> f64 {
        loop {
            let ranks = self.training.world_of(NODES).await;
            let group = ranks[0].group();
            let since = self.training.log.done.iter().find(|done| done.group() == group && done.at > at);
            let since = since.unwrap().at;
            // What is not seen yet may break it up again.
            tokio::time::sleep(Duration::from_millis(200)).await;
            if self.training.world_of(NODES).await[0].group() == group {
                return since;
            }
        }
    }

    /// Waits until no round was made for as long as one that comes of what went wrong before may take.
    async fn calm(&mut self) -> Vec<Done> {
        loop {
            let ranks = self.training.world_of(NODES).await;
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let after = self.training.world_of(NODES).await;
            if after[0].group() == ranks[0].group() {
                return after;
            }
        }
    }

    fn rank_killed(&mut self, ranks: &[Done], choices: &mut Choices) -> f64 {
        let at = now();
        kill(ranks[choices.below(NODES)].pid);
        at
    }

    async fn agent_killed(&mut self, choices: &mut Choices) -> f64 {
        let node = choices.below(NODES);
        self.training.fleet.agent(node).signal(Signal::KILL);
        self.training.world_of(NODES - 1).await;
        self.training.fleet.start(node);
        now()
    }

    async fn rank_frozen(&mut self, ranks: &[Done], choices: &mut Choices, heals: bool) -> f64 {
        let victim = &ranks[choices.below(NODES)];
        let before: Vec<_> = self.said().iter().map(String::len).collect();
        let at = now();
        kill_process(Pid::from_raw(i32::try_from(victim.pid).unwrap()).unwrap(), Signal::STOP).unwrap();
        let host = match &self.network {
            Some(_) => address(victim.node),
            None => "127.0.0.1".into(),
        };
        let named = match heals {
            true => format!("no word of the ranks of node {host}"),
            false => format!("rank {} was ", victim.rank),
        };
        let what = format!("it is said that `{named}`");
        until(&what, || {
            self.said().iter().zip(&before).any(|(said, before)| said[*before..].contains(&named))
        })
        .await;
        let took = (now() - at) / 1e3;
        assert!(took < TIMEOUT + NAMED, "it took {took} s to name it");
        self.training.world_of(NODES).await;
        assert!(!lives(victim.pid), "the frozen rank was ended");
        at
    }

    async fn link_cut(&mut self, choices: &mut Choices) -> f64 {
        let (node, network) = (choices.below(NODES), self.network.as_ref().unwrap());
        network.cut(node);
        tokio::time::sleep(choices.millis(200..5000)).await;
        network.mend(node);
        now()
    }

    async fn link_slow(&mut self, ranks: &[Done], choices: &mut Choices) -> f64 {
        let node = choices.below(NODES);
        let rate = format!("{}kbit", 100 + choices.below(200));
        let network = self.network.as_ref().unwrap();
        network.slow(node, &rate);
        let at = now();
        tokio::time::sleep(choices.millis(1500..3000)).await;
        let slowed = self.training.world_of(NODES).await;
        network.unslow(node);
        assert_eq!(
            slowed[0].group(),
            ranks[0].group(),
            "a slow link is no cut one, but a round was made since {at:.0}, when that of node {node} became slow"
        );
        at
    }

    async fn disk_full(&mut self, goes_on: bool) -> f64 {
        let policy = self.training.args.folder.join(GO_ON);
        if goes_on {
            std::fs::write(&policy, b"").unwrap();
        }
        let disk = self.disk.as_ref().unwrap();
        let checkpoints = checkpoints(&self.training.args.checkpoints);
        until("a checkpoint is saved", || !checkpoints.steps().unwrap().is_empty()).await;
        let before: Vec<_> = self.said().iter().map(String::len).collect();
        disk.fill();
        let newest = checkpoints.steps().unwrap().last().copied().unwrap();
        let log = &mut self.training.log;
        log.read();
        let known = log.not_saved.len();
        let names_it = |text: &str| {
            text.contains(&*self.training.args.checkpoints.to_string_lossy())
                && text.contains("No space left")
        };
        if goes_on {
            until("a checkpoint is not saved", || {
                log.read();
                log.not_saved.len() > known
            })
            .await;
            let (_, error) = &log.not_saved[known];
            assert!(names_it(error), "{error}");
        } else {
            let agents = &self.training.fleet.agents;
            until("a rank fails for the full disk", || {
                agents.iter().zip(&before).any(|(agent, before)| names_it(&agent.said()[*before..]))
            })
            .await;
        }
        let mut model = Model::new().unwrap();
        let (loaded, _) = newest_good(&checkpoints, &mut model).unwrap().unwrap();
        assert_eq!(loaded, newest, "the checkpoint before can be loaded");
        disk.free();
        let at = now();
        until("a checkpoint is saved again", || checkpoints.steps().unwrap().last() > Some(&newest)).await;
        if goes_on {
            std::fs::remove_file(&policy).unwrap();
        }
        at
    }

    async fn killed_while_joining(&mut self, choices: &mut Choices) -> f64 {
        let node = choices.below(NODES);
        let fleet = &mut self.training.fleet;
        fleet.agent(node).signal(Signal::KILL);
        for _ in 0..1 + choices.below(3) {
            fleet.start(node);
            tokio::time::sleep(choices.millis(0..1200)).await;
            fleet.agent(node).signal(Signal::KILL);
        }
        self.training.world_of(NODES - 1).await;
        self.training.fleet.start(node);
        now()
    }

    async fn two_at_once(&mut self, ranks: &[Done], choices: &mut Choices) -> f64 {
        let spared = choices.below(NODES);
        let (mut ended, mut at) = (Vec::new(), now());
        for victim in ranks.iter().filter(|done| done.node != spared) {
            match choices.below(2) {
                0 => kill(victim.pid),
                _ => {
                    self.training.fleet.agent(victim.node).signal(Signal::KILL);
                    ended.push(victim.node);
                }
            }
        }
        if !ended.is_empty() {
            self.training.world_of(NODES - ended.len()).await;
            at = now();
        }
        ended.into_iter().for_each(|node| self.training.fleet.start(node));
        at
    }

    /// The first rank's, without a trace: nobody there says that its programs have ended.
    async fn store_host_gone(&mut self, ranks: &[Done]) -> f64 {
        let (node, network) = (ranks[0].node, self.network.as_ref().unwrap());
        network.cut(node);
        self.training.fleet.agent(node).signal(Signal::KILL);
        self.training.world_of(NODES - 1).await;
        network.mend(node);
        self.training.fleet.start(node);
        now()
    }

    fn said(&self) -> Vec<String> {
        self.training.fleet.agents.iter().map(|agent| agent.said()).collect()
    }

    /// The checkpoint that the present start of the ranks goes on from, in a folder of its own; none where it is gone.
    fn copied(&mut self) -> Option<Train> {
        let folder = self.training.args.folder.join(format!("undisturbed-{}", self.compared));
        self.compared += 1;
        let saved = folder.join("checkpoints");
        std::fs::create_dir_all(&saved).unwrap();
        let log = &self.training.log;
        if let Some(point) = log.began_from(log.done.last().unwrap().life) {
            let name = format!("step-{:010}", point.step);
            let (from, to) = (self.training.args.checkpoints.join(&name), saved.join(&name));
            std::fs::create_dir(&to).unwrap();
            for entry in std::fs::read_dir(from).ok()?.flatten() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).ok()?;
            }
        }
        Some(Train { folder, checkpoints: saved, timeout: 30.0, fails: None })
    }

    /// Checks that ranks to which nothing happens come from the same checkpoint to the same state.
    async fn undisturbed(&self, args: &Train, saved: &Final) {
        std::fs::write(args.folder.join("target"), saved.point.step.to_string()).unwrap();
        let job = Job::ranks("elastic-train", NODES).args(args);
        let ended: Final = self.launcher.run(job).await.unwrap();
        assert_eq!(ended.point.step, saved.point.step);
        let all = finals(&args.folder);
        assert_eq!(all.len(), NODES);
        assert!(all.iter().all(|each| each.bits == saved.bits), "an undisturbed run comes to another state");
    }
}
