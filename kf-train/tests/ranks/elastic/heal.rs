//! Ranks that train on while others are killed, freeze, and come back.

use std::path::PathBuf;
use std::time::Duration;

use kf_core::worker::Workers;
use kf_train::{Backend, Error, GroupOptions, Job, LocalLauncher, Rank, Team, ranks};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, getpid, kill_process};
use tch::{Device, Kind, Tensor};

use super::training::{Final, Log, Train, Training, now};
use super::{fleet, kill};
use crate::{lives, trial};

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(ranks("lost-while-it-gives-its-state", lost_while_it_gives_its_state))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("heal::ranks_are_killed", ranks_are_killed),
        trial("heal::a_rank_freezes", a_rank_freezes),
        trial("heal::agents_are_killed", agents_are_killed),
        trial("heal::ranks_are_started_anew", ranks_are_started_anew),
        trial("heal::a_rank_that_always_fails", a_rank_that_always_fails),
        trial("heal::under_a_launcher_without_rounds", under_a_launcher_without_rounds),
        trial("heal::a_state_comes_whole_or_not_at_all", a_state_comes_whole_or_not_at_all),
    ]
}

/// Without checkpoints.
fn args(folder: PathBuf, timeout: f64) -> Train {
    Train { folder, checkpoints: PathBuf::new(), timeout, fails: None }
}

fn healing(launcher: &LocalLauncher, nodes: (usize, usize), ranks: usize, timeout: f64) -> Training {
    let mut fleet = fleet(launcher, nodes, ranks);
    fleet.setup.heal = true;
    fleet.setup.max_restarts = 20;
    let args = args(fleet.folder.clone(), timeout);
    Training::of(fleet, args)
}

/// Kills the last of so many ranks and waits until as many train again; how long the survivors paused, then and when the new
/// one joined, in milliseconds.
async fn kill_one(training: &mut Training, size: usize) -> (f64, f64) {
    let ranks = training.world_of(size).await;
    let victim = ranks.last().unwrap();
    let at = now();
    kill(victim.pid);
    training.world_of(size).await;
    let steps: Vec<_> = training.log.done.iter().filter(|done| done.pid == ranks[0].pid).collect();
    let fewer = steps.iter().find(|done| done.at > at && done.world_size < size);
    let fewer = fewer.unwrap_or_else(|| panic!("at {at}: {ranks:?}\n{steps:?}"));
    let joined = steps.iter().position(|done| done.at > fewer.at && done.world_size == size).unwrap();
    (fewer.at - at, steps[joined].at - steps[joined - 1].at)
}

async fn ranks_are_killed(launcher: LocalLauncher) {
    let mut training = healing(&launcher, (1, 3), 3, 30.0);
    training.fleet.start(0);
    for _ in 0..3 {
        let (pause, join) = kill_one(&mut training, 3).await;
        println!("killed to next step: {pause:.0} ms; pause for the one that joins: {join:.0} ms");
    }
    training.ends_well(&[Some(0)]).await;
}

async fn a_rank_freezes(launcher: LocalLauncher) {
    let mut training = healing(&launcher, (1, 3), 3, 1.0);
    training.fleet.start(0);
    let ranks = training.world_of(3).await;
    let pid = Pid::from_raw(i32::try_from(ranks[1].pid).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    training.world_of(2).await;
    training.world_of(3).await;
    assert!(!lives(ranks[1].pid), "the frozen rank was ended");
    let said = training.fleet.agent(0).said();
    assert!(said.contains("no word of the ranks of"), "{said}");
    training.ends_well(&[Some(0)]).await;
}

/// The same ranks where they do not outlive rounds: a killed one has all started anew, libtorch and all.
async fn ranks_are_started_anew(launcher: LocalLauncher) {
    let mut training = healing(&launcher, (1, 1), 2, 30.0);
    training.fleet.setup.heal = false;
    training.fleet.start(0);
    for _ in 0..3 {
        let ranks = training.world_of(2).await;
        let at = now();
        kill(ranks[1].pid);
        let again = training.world_of(2).await;
        assert!(again.iter().all(|new| ranks.iter().all(|old| old.pid != new.pid)));
        let first =
            |pid: u32| training.log.done.iter().find(|done| done.pid == pid).map_or(0.0, |done| done.at);
        let took = again.iter().map(|new| first(new.pid) - at).fold(0.0, f64::max);
        println!("killed to all ranks' next step, by a restart: {took:.0} ms");
    }
    assert!(training.fleet.agent(0).said().contains("restart 3 of 20"), "{}", training.fleet.logs());
    training.ends_well(&[Some(0)]).await;
}

async fn agents_are_killed(launcher: LocalLauncher) {
    let mut training = healing(&launcher, (1, 3), 1, 30.0);
    (0..3).for_each(|node| training.fleet.start(node));
    training.world_of(3).await;
    // The coordinator among them.
    for node in 0..2 {
        training.fleet.agent(node).signal(Signal::KILL);
        training.world_of(2).await;
        training.fleet.start(node);
        training.world_of(3).await;
    }
    training.ends_well(&[None, None, Some(0), Some(0), Some(0)]).await;
}

async fn a_rank_that_always_fails(launcher: LocalLauncher) {
    let mut training = healing(&launcher, (1, 1), 1, 30.0);
    training.fleet.setup.max_restarts = 2;
    training.fleet.setup.args["fails"] = 3.into();
    training.fleet.start(0);
    assert_eq!(training.fleet.ended().await, [Some(1)]);
    let said = training.fleet.agent(0).said();
    assert!(said.contains("restart 2 of 2") && said.contains("rank 0 of 1 ended with exit code 9"), "{said}");
}

/// The same function, as an ordinary job.
async fn under_a_launcher_without_rounds(launcher: LocalLauncher) {
    let folder = launcher.folder(&kf_train::JobHandle::new("local", "plain"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("target"), "5").unwrap();
    let args = args(folder.clone(), 30.0);
    let ended: Final = launcher.run(Job::ranks("elastic-train", 2).args(&args)).await.unwrap();
    assert_eq!(ended.point.step, 5);
    let mut log = Log::new(&folder);
    log.read();
    assert_eq!(log.done.len(), 10);
}

/// Rank 0 freezes while rank 1 gets its state, tensor by tensor.
fn lost_while_it_gives_its_state(rank: &Rank, own_is_whole: PathBuf) -> kf_train::Result<()> {
    let options = GroupOptions { timeout: Duration::from_secs(1), ..GroupOptions::default() };
    let team = Team::join(rank, Backend::Gloo, options)?;
    let is_first = rank.is_main();
    let value = if is_first { 1.0 } else { 2.0 };
    let state: Vec<_> = (0..3000).map(|_| Tensor::full([4096], value, (Kind::Float, Device::Cpu))).collect();
    // So that rank 1 takes part from the beginning.
    team.group().barrier()?;
    if is_first {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            let _ = kill_process(getpid(), Signal::STOP);
        });
    }
    let began = team.begin(&mut 0, &state);
    let sum: f64 = state.iter().map(|tensor| tensor.sum(Kind::Double).double_value(&[])).sum();
    std::fs::write(own_is_whole, format!("{} {}", began.is_err(), sum == 3000.0 * 4096.0 * value)).unwrap();
    began
}

async fn a_state_comes_whole_or_not_at_all(launcher: LocalLauncher) {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let job = Job::ranks("lost-while-it-gives-its-state", 2).args(&told);
    let error = launcher.run::<()>(job).await.unwrap_err();
    assert!(matches!(error, Error::RankFailed { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(told).unwrap(), "true true");
}
