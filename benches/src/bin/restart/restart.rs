//! All ranks started anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use benches::fleet::{Fleet, Lines, Setup, What, kill, now, say, took};
use benches::torchrun::Torchrun;
use benches::{Measured, Table};
use kf_train::{Backend, ProcessGroup, Rank, ReduceOp};
use tch::{Device, Kind, Tensor};

use crate::Outcome;

const KILLS: usize = 50;
const PEERS_KILLS: usize = 5;
const LAUNCHES: usize = 5;

/// Says that the first all-reduce is done, and makes more of them; in `peers/torch_restart.py` it is the same.
pub(crate) fn reduce(rank: &Rank, folder: PathBuf) -> kf_train::Result<()> {
    tch::set_num_threads(1);
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let mut sum = Tensor::ones([1], (Kind::Float, Device::Cpu));
    group.all_reduce(&mut sum, ReduceOp::Sum)?;
    say(&folder, What::Begun, rank.world_size());
    while !folder.join("done").exists() {
        std::thread::sleep(Duration::from_millis(5));
        group.all_reduce(&mut sum, ReduceOp::Avg)?;
    }
    Ok(())
}

fn ours() -> Outcome<Fleet> {
    Fleet::new(Setup { entry: "reduce".into(), nodes: (1, 1), ranks: 2, meets: false, heal: false })
}

/// Kills one of two ranks so often; how long both then take to their first all-reduce.
fn kills(lines: &Lines, count: usize) -> Outcome<Vec<f64>> {
    let mut ranks = lines.after(0.0, What::Begun, 2, 2)?;
    let mut restarts = Vec::new();
    for _ in 0..count {
        // In the middle of training.
        std::thread::sleep(Duration::from_millis(100));
        let from = now();
        kill(ranks.last().map_or(0, |rank| rank.pid))?;
        ranks = lines.after(from, What::Begun, 2, 2)?;
        restarts.push(took(from, &ranks));
    }
    Ok(restarts)
}

pub(crate) fn measure(table: &mut Table, python: Option<&Path>) -> Outcome<()> {
    let (mut launches, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..LAUNCHES {
        let mut fleet = ours()?;
        let from = now();
        fleet.start()?;
        launches.push(took(from, &fleet.lines.after(from, What::Begun, 2, 2)?));
        let Some(python) = python else { continue };
        let (_torchrun, lines, from, _folder) = theirs(python)?;
        peers.push(took(from, &lines.after(from, What::Begun, 2, 2)?));
    }
    let peer = python.map(|_| Measured::new("  torchrun", "s", peers));
    table.add(Measured::new("launch of 2 ranks to their first all-reduce", "s", launches), peer, "≤ 1");

    let mut fleet = ours()?;
    fleet.start()?;
    let restarts = kills(&fleet.lines, KILLS)?;
    drop(fleet);
    let mut peer = None;
    if let Some(python) = python {
        let (_torchrun, lines, _from, _folder) = theirs(python)?;
        peer = Some(Measured::new("  torchrun, its shared store off", "s", kills(&lines, PEERS_KILLS)?));
    }
    table.add(Measured::new("rank killed to all ranks' first all-reduce", "s", restarts), peer, "≤ 0.5");
    Ok(())
}

/// The peer's ranks, their lines, when they were started, and the folder.
fn theirs(python: &Path) -> Outcome<(Torchrun, Lines, f64, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let lines = Lines::of(folder.path())?;
    let path = folder.path().join("lines");
    let path = path.to_str().ok_or("the folder for temporary files has no name in UTF-8")?;
    let restarts = (PEERS_KILLS + 1).to_string();
    let from = now();
    let torchrun = Torchrun::start(python, "torch_restart.py", &["--max-restarts", &restarts], &[path])?;
    Ok((torchrun, lines, from, folder))
}
