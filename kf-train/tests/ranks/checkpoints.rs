//! Checkpoints of a process that is killed at any moment.

use std::path::PathBuf;
use std::time::Duration;

use kf_core::process::{Command, Spawner};
use kf_core::worker::{Request, WorkerError, Workers, entry};
use kf_train::{Checkpoints, LocalLauncher};
use libtest_mimic::Trial;
use tch::nn::{self, VarStore};
use tch::{Device, Tensor, no_grad};

use super::{pids, trial, until};

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(entry("save-for-ever", save_for_ever))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("checkpoints::kills_leave_a_loadable_one", kills_leave_a_loadable_one)]
}

fn model() -> (VarStore, Tensor) {
    let vs = VarStore::new(Device::Cpu);
    let weight = vs.root().zeros("weight", &[200_000]);
    let _more = nn::linear(vs.root() / "more", 50, 50, nn::LinearConfig::default());
    (vs, weight)
}

/// Saves on and on, each checkpoint filled with its own number, and notes each one that is done.
fn save_for_ever(request: Request) -> Result<(), WorkerError> {
    use std::io::Write;
    let (folder, witness): (PathBuf, PathBuf) = request.parse()?;
    let checkpoints = Checkpoints::new(folder).keep(3);
    let (mut vs, mut weight) = model();
    let loaded: Option<(u64, u64)> = checkpoints.load_latest(&mut vs).map_err(WorkerError::failed)?;
    let mut file =
        std::fs::File::options().append(true).create(true).open(witness).map_err(WorkerError::failed)?;
    for step in loaded.map_or(0, |(step, _)| step).. {
        // Most numbers are saved twice, which replaces them.
        let step = step + 1;
        for _ in 0..1 + step % 2 {
            let _ = no_grad(|| weight.fill_(step as f64));
            checkpoints.save(step, &vs, &step).map_err(WorkerError::failed)?;
            writeln!(file, "{step}").map_err(WorkerError::failed)?;
        }
    }
    Ok(())
}

async fn kills_leave_a_loadable_one(_: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let (folder, witness) = (dir.path().join("checkpoints"), dir.path().join("witness"));
    let spawner = Spawner::new().unwrap();
    let mut last = 0;
    for round in 0..20_u64 {
        let before = pids(&witness).len();
        let child =
            spawner.spawn(Command::entry("save-for-ever", &(&folder, &witness)).unwrap()).await.unwrap();
        until("it saves", || pids(&witness).len() > before || child.exit().is_some()).await;
        assert_eq!(child.exit(), None, "{:?}", child.tail(5));
        // Spread over the phases of a save.
        tokio::time::sleep(Duration::from_micros(round * 1_700 % 23_000)).await;
        child.kill();
        child.wait().await;
        let noted = u64::from(*pids(&witness).last().unwrap());
        let (mut vs, weight) = model();
        let (step, state): (u64, u64) = Checkpoints::new(&folder).load_latest(&mut vs).unwrap().unwrap();
        // A kill between the two moves of a replacement leaves the one before.
        assert!(step + 1 >= noted && step <= noted + 1, "loaded {step}, the last one noted is {noted}");
        assert!(step >= last, "{step} after {last}");
        assert_eq!(state, step);
        assert_eq!(weight.min().double_value(&[]), step as f64);
        assert_eq!(weight.max().double_value(&[]), step as f64);
        last = step;
    }
    assert!(last >= 5, "{last}");
}
