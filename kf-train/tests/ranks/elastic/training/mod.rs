//! A training that leaves a log of all it did, goes on from checkpoints, and outlives the loss of ranks where its agents
//! heal.

mod log;
mod model;
mod replay;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kf_core::worker::Workers;
use kf_train::{
    Backend, Checkpoints, DdpOptions, DistributedDataParallel, GroupOptions, Position, Rank, Result, Team,
    ranks,
};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub(crate) use self::log::{Done, Log, Point, Record};
pub(crate) use self::model::Model;
use self::model::{batch, start};
pub(crate) use self::replay::Replay;
use super::fleet::Fleet;
use crate::{in_time, lives, until};

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(ranks("elastic-train", train))
}

/// The arguments of the entry `elastic-train`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Train {
    /// Of the log; of `target`, which names the step to end with, and of what ranks end with.
    pub(crate) folder: PathBuf,
    /// Of the checkpoints; none are written or read where it is empty.
    pub(crate) checkpoints: PathBuf,
    /// For calls of the group, in seconds.
    pub(crate) timeout: f64,
    /// The number of the step of each start that fails.
    pub(crate) fails: Option<u64>,
}

/// After so many steps a checkpoint is saved, and so many are kept.
pub(crate) const SAVE_EVERY: u64 = 20;
pub(crate) const KEEP: usize = 12;
/// How long a step takes at least, in milliseconds.
const STEP: u64 = 8;
/// While this file is in the folder, the training goes on where a checkpoint can't be saved.
pub(crate) const GO_ON: &str = "go-on-unsaved";

/// Where a training is, its step aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct At {
    pub(crate) life: u64,
    /// The round that the last step was made in.
    pub(crate) round: u64,
    position: Position,
}

/// What a rank ends with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Final {
    pub(crate) point: Point,
    pub(crate) bits: Vec<u64>,
}

pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3
}

pub(crate) fn checkpoints(folder: &Path) -> Checkpoints {
    Checkpoints::new(folder).keep(KEEP)
}

/// Loads the newest checkpoint that can be loaded: its step, and where the training was.
pub(crate) fn newest_good(checkpoints: &Checkpoints, model: &mut Model) -> Result<Option<(u64, At)>> {
    for tries in 0.. {
        let steps = checkpoints.steps()?;
        let mut failed = None;
        for step in steps.into_iter().rev() {
            match checkpoints.load_training(step, &mut model.vs, &mut model.optimizer) {
                Ok(at) => return Ok(Some((step, at))),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            // Another rank may have removed what was listed.
            Some(error) if tries == 3 => return Err(error),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Where a training is as a tensor, for the team.
struct Told(Tensor);

impl Told {
    fn new() -> Self {
        Self(Tensor::zeros([512], (Kind::Uint8, Device::Cpu)))
    }

    fn set(&self, at: &At) {
        let mut bytes = serde_json::to_vec(at).unwrap();
        assert!(bytes.len() <= 512);
        bytes.resize(512, b' ');
        self.0.shallow_clone().copy_(&Tensor::from_slice(&bytes));
    }

    fn get(&self) -> At {
        serde_json::from_slice(&Vec::<u8>::try_from(&self.0).unwrap()).unwrap()
    }
}

/// Trains until the file `target` names the present step, which it must do ahead of it.
fn train(rank: &Rank, args: Train) -> Result<Final> {
    let options = GroupOptions {
        timeout: Duration::from_secs_f64(args.timeout),
        join_timeout: Duration::from_secs(30),
        verify: false,
        ..GroupOptions::default()
    };
    let team = Team::join(rank, Backend::Gloo, options)?;
    let mut model = Model::new()?;
    let saves = !args.checkpoints.as_os_str().is_empty();
    let checkpoints = checkpoints(&args.checkpoints);
    let loaded = if saves { newest_good(&checkpoints, &mut model)? } else { None };
    let life = u64::from(std::process::id()) << 24 | (now() as u64 & 0xff_ffff);
    let log = log::Writer::new(&args.folder);
    let (mut step, from, position) = match loaded {
        Some((step, at)) => (step, Some(Point { life: at.life, round: at.round, step }), at.position),
        None => (0, None, start()),
    };
    log.write(&Record::Begun { life, from });
    let told = Told::new();
    told.set(&At { life, round: 0, position });
    let ddp = DistributedDataParallel::in_team(&model.vs, &team, DdpOptions::default())?;
    let node = std::env::var("KF_TEST_NODE").ok().and_then(|node| node.parse().ok()).unwrap_or(0);
    let target =
        || std::fs::read_to_string(args.folder.join("target")).ok().and_then(|text| text.parse().ok());
    let mut own = 0;
    while target().is_none_or(|target: u64| step < target) {
        let moments = model.optimizer.state();
        let state: Vec<_> = model.state(&moments).into_iter().chain([told.0.shallow_clone()]).collect();
        team.begin(&mut step, &state)?;
        model.optimizer.load_state(&moments)?;
        let at = told.get();
        let (number, world_size, round) = (team.rank(), team.world_size(), team.round());
        let (samples, position) = batch(number, world_size, &at.position)?;
        log.write(&Record::Samples {
            life: at.life,
            round,
            step,
            rank: number,
            world_size,
            samples: samples.clone(),
        });
        ddp.zero_grad();
        let done = ddp.backward(&model.loss(&samples));
        std::thread::sleep(Duration::from_millis(STEP));
        if team.commit(done)? {
            let (pid, at) = (std::process::id(), At { round, position, ..at });
            let done = Done { life: at.life, round, step, rank: number, world_size, node, pid, at: now() };
            log.write(&Record::Done(done));
            model.optimizer.step()?;
            told.set(&at);
            step += 1;
            own += 1;
            if saves && number == 0 && step % SAVE_EVERY == 0 {
                match checkpoints.save_training(step, &model.vs, &model.optimizer, &at) {
                    Err(error) if args.folder.join(GO_ON).exists() => {
                        log.write(&Record::NotSaved { step, error: error.to_string() });
                    }
                    saved => drop(saved?),
                }
            }
        }
        if args.fails.is_some_and(|fails| own >= fails) {
            std::process::exit(9);
        }
    }
    let at = told.get();
    let ended = Final { point: Point { life: at.life, round: at.round, step }, bits: model.bits() };
    std::fs::write(
        args.folder.join(format!("final-{}", std::process::id())),
        serde_json::json!(ended).to_string(),
    )
    .unwrap();
    Ok(ended)
}

/// A fleet that trains, and what is known of its training.
pub(crate) struct Training {
    pub(crate) fleet: Fleet,
    pub(crate) log: Log,
    pub(crate) args: Train,
    replay: Replay,
}

impl Training {
    /// Of this fleet, whose agents may not have been started yet.
    pub(crate) fn of(mut fleet: Fleet, args: Train) -> Self {
        fleet.setup.entry = "elastic-train".into();
        fleet.setup.args = serde_json::json!(args);
        let log = Log::new(&args.folder);
        Self { fleet, log, args, replay: Replay::start() }
    }

    /// The ranks of a step that is made from now on by a world of this size; waits for it.
    pub(crate) async fn world_of(&mut self, size: usize) -> Vec<Done> {
        self.log.read();
        let after = self.log.done.len();
        let mut last = Vec::new();
        let log = &mut self.log;
        let trains = in_time(|| {
            log.read();
            last = log.last_step(after, size);
            !last.is_empty() && last.iter().all(|done| lives(done.pid))
        })
        .await;
        assert!(trains, "not within 30 s: {size} ranks train\n{}", self.fleet.logs());
        last
    }

    /// Waits for a checkpoint that is newer than what is done by now, and checks it.
    pub(crate) async fn checkpoint_is_right(&mut self) -> Final {
        self.log.read();
        let done = self.log.done.last().map_or(0, |done| done.step);
        let checkpoints = checkpoints(&self.args.checkpoints);
        let newest = || checkpoints.steps().unwrap().last().copied();
        until("a checkpoint is saved", || newest().is_some_and(|newest| newest > done)).await;
        let mut model = Model::new().unwrap();
        let (step, at) = newest_good(&checkpoints, &mut model).unwrap().unwrap();
        let saved = Final { point: Point { life: at.life, round: at.round, step }, bits: model.bits() };
        self.is_right(&saved);
        saved
    }

    /// Checks that this is what a single process comes to by the steps that the log tells of.
    fn is_right(&mut self, ended: &Final) {
        self.log.read();
        self.replay.go(&self.log, &ended.point).unwrap();
        let replayed = self.replay.bits();
        let differ = replayed.iter().zip(&ended.bits).filter(|(one, other)| one != other).count();
        assert!(
            replayed == ended.bits,
            "{differ} of {} values at {:?} are not those of the replay",
            replayed.len(),
            ended.point
        );
    }

    /// Lets the training end some steps from now; checks that all ranks end with the same parameters, and that these are
    /// what a single process comes to by the same steps.
    pub(crate) async fn ends_well(&mut self, ends: &[Option<i32>]) {
        self.log.read();
        let target = self.log.done.iter().map(|done| done.step).max().unwrap() + 60;
        let folder = &self.args.folder;
        std::fs::write(folder.join("target.part"), target.to_string()).unwrap();
        std::fs::rename(folder.join("target.part"), folder.join("target")).unwrap();
        assert_eq!(self.fleet.ended().await, ends, "{}", self.fleet.logs());
        self.log.read();
        let last = self.log.done.last().unwrap();
        println!("all had ended {:.0} ms after the last step", now() - last.at);
        let finals = finals(folder);
        assert!(!finals.is_empty() && finals.iter().all(|each| *each == finals[0]));
        assert_eq!(finals[0].point.step, target);
        assert_ne!(finals[0].bits, Model::new().unwrap().bits());
        self.is_right(&finals[0]);
    }
}

/// What the ranks have ended with.
pub(crate) fn finals(folder: &Path) -> Vec<Final> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let of_ranks = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("final-"));
    of_ranks.map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap()).collect()
}
