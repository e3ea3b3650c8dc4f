//! How long agents and their ranks take.

use std::path::PathBuf;
use std::time::Duration;

use benches::fleet::{Fleet, Setup, What, kill, now, say, took};
use benches::{Measured, Table};
use kf_core::worker::Workers;
use kf_train::{Rank, ranks};

use crate::Outcome;

pub(crate) fn workers() -> Workers {
    Workers::new().with(ranks("hold", hold))
}

/// Says that it has begun, and waits for the end.
fn hold(rank: &Rank, folder: PathBuf) -> kf_train::Result<()> {
    say(&folder, What::Begun, rank.world_size());
    while !folder.join("done").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn fleet(nodes: (usize, usize), ranks: usize, meets: bool) -> Outcome<Fleet> {
    Fleet::new(Setup { entry: "hold".into(), nodes, ranks, meets, heal: false })
}

pub(crate) fn measure(table: &mut Table) -> Outcome<()> {
    let mut launches = Vec::new();
    for _ in 0..5 {
        let mut fleet = fleet((1, 1), 2, false)?;
        let from = now();
        fleet.start()?;
        launches.push(took(from, &fleet.lines.after(from, What::Begun, 2, 2)?));
    }
    table.add(Measured::new("launch of 2 ranks to their functions", "s", launches), None, "≤ 1");

    let mut one = fleet((1, 1), 2, false)?;
    one.start()?;
    let mut ranks = one.lines.after(0.0, What::Begun, 2, 2)?;
    let mut restarts = Vec::new();
    for _ in 0..50 {
        let from = now();
        kill(ranks.last().map_or(0, |rank| rank.pid))?;
        ranks = one.lines.after(from, What::Begun, 2, 2)?;
        restarts.push(took(from, &ranks));
    }
    drop(one);
    table.add(Measured::new("rank killed to all ranks begun again", "s", restarts), None, "≤ 0.5");

    let (mut joins, mut losses) = (Vec::new(), Vec::new());
    let mut three = fleet((1, 3), 1, true)?;
    three.start()?;
    three.lines.after(0.0, What::Begun, 1, 1)?;
    three.start()?;
    three.lines.after(0.0, What::Begun, 2, 2)?;
    for _ in 0..5 {
        let from = now();
        three.start()?;
        joins.push(took(from, &three.lines.after(from, What::Begun, 3, 3)?));
        let from = now();
        three.lose()?;
        losses.push(took(from, &three.lines.after(from, What::Begun, 2, 2)?));
    }
    drop(three);
    table.add(Measured::new("node started to all ranks begun with it", "s", joins), None, "≤ 1");
    table.add(Measured::new("agent killed to the others' ranks begun again", "s", losses), None, "≤ 1");

    let mut meetings = Vec::new();
    for _ in 0..3 {
        let mut fleet = fleet((64, 64), 1, true)?;
        let from = now();
        for _ in 0..64 {
            fleet.start()?;
        }
        meetings.push(took(from, &fleet.lines.after(from, What::Round, 64, 64)?));
    }
    table.add(Measured::new("64 agents started to all knowing their round", "s", meetings), None, "≤ 3");
    Ok(())
}
