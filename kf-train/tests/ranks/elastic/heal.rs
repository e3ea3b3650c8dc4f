//! Ranks that train on while others are killed, freeze, and come back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kf_core::worker::Workers;
use kf_train::{
    Backend, DdpOptions, DistributedDataParallel, GroupOptions, LocalLauncher, Rank, Result, Team, ranks,
};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

use super::fleet::Fleet;
use super::{fleet, kill};
use crate::{lives, trial, until};

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(ranks("elastic-train", train))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("heal::ranks_are_killed", ranks_are_killed),
        trial("heal::a_rank_freezes", a_rank_freezes),
        trial("heal::agents_are_killed", agents_are_killed),
        trial("heal::ranks_are_started_anew", ranks_are_started_anew),
        trial("heal::a_rank_that_always_fails", a_rank_that_always_fails),
        trial("heal::under_a_launcher_without_rounds", under_a_launcher_without_rounds),
    ]
}

const SIZE: i64 = 16;
const BATCH: i64 = 4;
const RATE: f64 = 0.05;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Train {
    folder: PathBuf,
    /// For calls of the group, in seconds.
    timeout: f64,
    /// The number of the start, of all ranks, that fails after this many steps.
    fails: Option<u64>,
}

/// A step that a rank has taken over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Done {
    step: u64,
    world_size: usize,
    /// How many samples were used before it.
    used: i64,
    rank: usize,
    pid: u32,
    /// Milliseconds since 1970.
    at: f64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3
}

/// Samples of a data set without end: shape [batch, SIZE], and what is to be found for each.
fn samples(first: i64) -> (Tensor, Tensor) {
    let i = Tensor::arange_start(first, first + BATCH, (Kind::Double, Device::Cpu)).view([-1, 1]);
    let j = Tensor::arange(SIZE, (Kind::Double, Device::Cpu)).view([1, -1]) + 1.0;
    let x = (i * j).sin();
    let y = x.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    (x, y)
}

fn loss(w: &Tensor, first: i64) -> Tensor {
    let (x, y) = samples(first);
    (x.mv(w) - y).square().mean(Kind::Double)
}

fn model() -> (VarStore, Tensor) {
    let mut vs = VarStore::new(Device::Cpu);
    let w = vs.root().f_var("w", &[SIZE], Init::Const(0.0)).unwrap();
    vs.double();
    let w = vs.variables().remove("w").unwrap_or(w);
    (vs, w)
}

fn descend(w: &Tensor, gradient: &Tensor) {
    let _ = no_grad(|| w.detach().g_sub_(&(gradient * RATE)));
}

/// Trains until the file `target` names the present step, which it must do ahead of it.
fn train(rank: &Rank, args: Train) -> Result<Vec<f64>> {
    let options = GroupOptions {
        timeout: Duration::from_secs_f64(args.timeout),
        join_timeout: Duration::from_secs(30),
        verify: false,
        ..GroupOptions::default()
    };
    let team = Team::join(rank, Backend::Gloo, options)?;
    let (vs, w) = model();
    let ddp = DistributedDataParallel::in_team(&vs, &team, DdpOptions::default())?;
    let used = Tensor::zeros([1], (Kind::Int64, Device::Cpu));
    let state = [w.shallow_clone(), used.shallow_clone()];
    let mut log = std::fs::File::options().append(true).create(true).open(args.folder.join("steps")).unwrap();
    let (mut step, mut own) = (0, 0);
    let target =
        || std::fs::read_to_string(args.folder.join("target")).ok().and_then(|text| text.parse().ok());
    while target().is_none_or(|target: u64| step < target) {
        team.begin(&mut step, &state)?;
        let before = used.int64_value(&[0]);
        let first = before + team.rank() as i64 * BATCH;
        ddp.zero_grad();
        let done = ddp.backward(&loss(&w, first));
        std::thread::sleep(Duration::from_millis(3));
        if team.commit(done)? {
            descend(&w, &w.grad());
            let world_size = team.world_size();
            let _ = used.shallow_clone().g_add_scalar_(world_size as i64 * BATCH);
            let (rank, pid) = (team.rank(), std::process::id());
            let done = Done { step, world_size, used: before, rank, pid, at: now() };
            log.write_all(format!("{}\n", serde_json::json!(done)).as_bytes()).unwrap();
            step += 1;
            own += 1;
        }
        if args.fails.is_some_and(|fails| own >= fails) {
            std::process::exit(9);
        }
    }
    let w = Vec::<f64>::try_from(&w).unwrap();
    std::fs::write(
        args.folder.join(format!("final-{}", std::process::id())),
        serde_json::json!(w).to_string(),
    )
    .unwrap();
    Ok(w)
}

fn healing(launcher: &LocalLauncher, nodes: (usize, usize), ranks: usize, timeout: f64) -> Fleet {
    let mut fleet = fleet(launcher, nodes, ranks);
    let args = Train { folder: fleet.folder.clone(), timeout, fails: None };
    fleet.setup.entry = "elastic-train".into();
    fleet.setup.args = serde_json::json!(args);
    fleet.setup.heal = true;
    fleet.setup.max_restarts = 20;
    fleet
}

fn done(folder: &Path) -> Vec<Done> {
    let text = std::fs::read_to_string(folder.join("steps")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The ranks that did the last steps, of a world of this size; waits for such steps after the present one.
async fn world_of(fleet: &Fleet, size: usize) -> Vec<Done> {
    let after = done(&fleet.folder).len();
    let mut last = Vec::new();
    until(&format!("{size} ranks train"), || {
        let all = done(&fleet.folder);
        let newest = all.iter().skip(after).map(|done| done.step).max().unwrap_or_default();
        last = all
            .into_iter()
            .skip(after)
            .filter(|done| done.step == newest && done.world_size == size)
            .collect();
        last.sort_by_key(|done| done.rank);
        last.len() == size && last.iter().all(|done| lives(done.pid))
    })
    .await;
    last
}

/// Lets the training end some steps from now; checks that all ranks end with the same parameters, and that these are what a
/// single process comes to by the same steps.
async fn ends_well(fleet: &mut Fleet, ends: &[Option<i32>]) {
    let last = done(&fleet.folder).iter().map(|done| done.step).max().unwrap();
    let target = last + 100;
    std::fs::write(fleet.folder.join("target.part"), target.to_string()).unwrap();
    std::fs::rename(fleet.folder.join("target.part"), fleet.folder.join("target")).unwrap();
    assert_eq!(fleet.ended().await, ends, "{}", fleet.logs());
    let finals: Vec<Vec<f64>> = std::fs::read_dir(&fleet.folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("final-"))
        .map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap())
        .collect();
    assert!(!finals.is_empty() && finals.iter().all(|each| *each == finals[0]), "{finals:?}");
    let mut steps = BTreeMap::new();
    for done in done(&fleet.folder) {
        let told = (done.world_size, done.used);
        assert_eq!(*steps.entry(done.step).or_insert(told), told, "step {} was two", done.step);
    }
    assert_eq!(steps.keys().copied().collect::<Vec<_>>(), (0..target).collect::<Vec<_>>());
    let (_vs, w) = model();
    let mut expected = 0;
    for (step, (world_size, used)) in steps {
        assert_eq!(used, expected, "before step {step}");
        expected += world_size as i64 * BATCH;
        let mut gradient = Tensor::zeros([SIZE], (Kind::Double, Device::Cpu));
        for rank in 0..world_size {
            let mut w = w.detach().copy().set_requires_grad(true);
            loss(&w, used + rank as i64 * BATCH).backward();
            gradient += w.grad() / world_size as f64;
            w = w.set_requires_grad(false);
            drop(w);
        }
        descend(&w, &gradient);
    }
    let replayed = Vec::<f64>::try_from(&w).unwrap();
    for (one, other) in replayed.iter().zip(&finals[0]) {
        assert!((one - other).abs() < 1e-9, "{replayed:?} and {:?}", finals[0]);
    }
    assert!(replayed.iter().any(|value| value.abs() > 1e-3));
}

/// Kills the last of so many ranks and waits until as many train again; how long the survivors paused, then and when the new
/// one joined, in milliseconds.
async fn kill_one(fleet: &Fleet, size: usize) -> (f64, f64) {
    let ranks = world_of(fleet, size).await;
    let victim = ranks.last().unwrap();
    let at = now();
    kill(victim.pid);
    world_of(fleet, size).await;
    let survivor = ranks[0].pid;
    let steps: Vec<_> = done(&fleet.folder).into_iter().filter(|done| done.pid == survivor).collect();
    let fewer = steps.iter().find(|done| done.at > at && done.world_size < size);
    let fewer = fewer.unwrap_or_else(|| panic!("at {at}: {:?}\n{steps:?}", ranks));
    let joined = steps.iter().position(|done| done.at > fewer.at && done.world_size == size).unwrap();
    (fewer.at - at, steps[joined].at - steps[joined - 1].at)
}

async fn ranks_are_killed(launcher: LocalLauncher) {
    let mut fleet = healing(&launcher, (1, 3), 3, 30.0);
    fleet.start(0);
    for _ in 0..3 {
        let (pause, join) = kill_one(&fleet, 3).await;
        println!("killed to next step: {pause:.0} ms; pause for the one that joins: {join:.0} ms");
    }
    ends_well(&mut fleet, &[Some(0)]).await;
}

async fn a_rank_freezes(launcher: LocalLauncher) {
    let mut fleet = healing(&launcher, (1, 3), 3, 1.0);
    fleet.start(0);
    let ranks = world_of(&fleet, 3).await;
    let pid = Pid::from_raw(i32::try_from(ranks[1].pid).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    world_of(&fleet, 2).await;
    world_of(&fleet, 3).await;
    assert!(!lives(ranks[1].pid), "the frozen rank was ended");
    assert!(fleet.agent(0).said().contains("no word of the ranks of"), "{}", fleet.logs());
    ends_well(&mut fleet, &[Some(0)]).await;
}

/// The same ranks where they do not outlive rounds: a killed one has all started anew, libtorch and all.
async fn ranks_are_started_anew(launcher: LocalLauncher) {
    let mut fleet = healing(&launcher, (1, 1), 2, 30.0);
    fleet.setup.heal = false;
    fleet.start(0);
    for _ in 0..3 {
        let ranks = world_of(&fleet, 2).await;
        let at = now();
        kill(ranks[1].pid);
        let again = world_of(&fleet, 2).await;
        assert!(again.iter().all(|new| ranks.iter().all(|old| old.pid != new.pid)));
        let all = done(&fleet.folder);
        let first = |pid: u32| all.iter().find(|done| done.pid == pid).map_or(0.0, |done| done.at);
        let took = again.iter().map(|new| first(new.pid) - at).fold(0.0, f64::max);
        println!("killed to all ranks' next step, by a restart: {took:.0} ms");
    }
    assert!(fleet.agent(0).said().contains("restart 3 of 20"), "{}", fleet.logs());
}

async fn agents_are_killed(launcher: LocalLauncher) {
    let mut fleet = healing(&launcher, (1, 3), 1, 30.0);
    (0..3).for_each(|node| fleet.start(node));
    world_of(&fleet, 3).await;
    // The coordinator among them.
    for node in 0..2 {
        fleet.agent(node).signal(Signal::KILL);
        world_of(&fleet, 2).await;
        fleet.start(node);
        world_of(&fleet, 3).await;
    }
    ends_well(&mut fleet, &[None, None, Some(0), Some(0), Some(0)]).await;
}

async fn a_rank_that_always_fails(launcher: LocalLauncher) {
    let mut fleet = healing(&launcher, (1, 1), 1, 30.0);
    fleet.setup.max_restarts = 2;
    fleet.setup.args["fails"] = 3.into();
    fleet.start(0);
    assert_eq!(fleet.ended().await, [Some(1)]);
    let said = fleet.agent(0).said();
    assert!(said.contains("restart 2 of 2") && said.contains("rank 0 of 1 ended with exit code 9"), "{said}");
}

/// The same function, as an ordinary job.
async fn under_a_launcher_without_rounds(launcher: LocalLauncher) {
    let folder = launcher.folder(&kf_train::JobHandle::new("local", "plain"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("target"), "5").unwrap();
    let args = Train { folder: folder.clone(), timeout: 30.0, fails: None };
    let w: Vec<f64> = launcher.run(kf_train::Job::ranks("elastic-train", 2).args(&args)).await.unwrap();
    assert_eq!(w.len(), SIZE as usize);
    assert_eq!(done(&folder).len(), 10);
}
