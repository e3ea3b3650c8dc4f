//! The others go on, and the one that takes the killed one's place gets their state.

use std::path::PathBuf;
use std::time::Duration;

use benches::fleet::{Fleet, Line, Setup, What, kill, now, say};
use benches::{Measured, Table};
use kf_train::optim::Sgd;
use kf_train::{Backend, DdpOptions, DistributedDataParallel, GroupOptions, Rank, Team};
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};

use crate::Outcome;

const RANKS: usize = 3;
const KILLS: usize = 20;

/// Trains a network of 9,610 parameters, and tells of each step that was committed.
pub(crate) fn train(rank: &Rank, folder: PathBuf) -> kf_train::Result<()> {
    tch::set_num_threads(1);
    let team = Team::join(rank, Backend::Gloo, GroupOptions::default())?;
    let vs = VarStore::new(Device::Cpu);
    let root = vs.root();
    let net = nn::seq()
        .add(nn::linear(&root / "hidden", 64, 128, Default::default()))
        .add_fn(|x| x.relu())
        .add(nn::linear(&root / "logits", 128, 10, Default::default()));
    let ddp = DistributedDataParallel::in_team(&vs, &team, DdpOptions::default())?;
    let mut optimizer = Sgd::default().build(&vs, 0.1)?;
    let state = vs.trainable_variables();
    let x = Tensor::randn([32, 64], (Kind::Float, Device::Cpu));
    let y = Tensor::randint(10, [32], (Kind::Int64, Device::Cpu));
    let mut step = 0;
    while !folder.join("done").exists() {
        team.begin(&mut step, &state)?;
        let loss = net.forward(&x).cross_entropy_for_logits(&y);
        ddp.zero_grad();
        let done = ddp.backward(&loss);
        std::thread::sleep(Duration::from_millis(3));
        if team.commit(done)? {
            optimizer.step()?;
            step += 1;
            say(&folder, What::Step, team.world_size());
        }
    }
    Ok(())
}

pub(crate) fn measure(table: &mut Table) -> Outcome<()> {
    let setup = Setup { entry: "heal".into(), nodes: (1, RANKS), ranks: RANKS, meets: false, heal: true };
    let mut fleet = Fleet::new(setup)?;
    fleet.start()?;
    let (mut pauses, mut joins, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let mut ranks = fleet.lines.after(0.0, What::Step, RANKS, RANKS)?;
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(300));
        let from = now();
        let victim = ranks.pop().ok_or("no rank")?;
        kill(victim.pid)?;
        fleet.lines.after(from, What::Step, RANKS - 1, RANKS - 1)?;
        // Those that come after the one that joins.
        let again = fleet.lines.after(from, What::Step, RANKS, RANKS)?;
        let all = fleet.lines.all()?;
        let each = ranks.iter().map(|survivor| pauses_of(&all, survivor, from));
        let each = each.collect::<Option<Vec<_>>>().ok_or("a survivor did not go on")?;
        pauses.push(each.iter().map(|pauses| pauses.0).fold(0.0, f64::max));
        joins.push(each.iter().map(|pauses| pauses.1).fold(0.0, f64::max));
        whole.push(benches::fleet::took(from, &again));
        // The new one comes last, and is not killed the next time.
        let survivors: Vec<u32> = ranks.iter().map(|rank| rank.pid).collect();
        ranks = again;
        ranks.sort_by_key(|rank| survivors.contains(&rank.pid));
    }
    drop(fleet);
    let name = |what: &str| format!("healing: {what}");
    table.add(Measured::new(name("rank killed to the others' next step"), "s", pauses), None, "≤ 0.1");
    table.add(Measured::new(name("the others' pause for the new one"), "s", joins), None, "≤ 0.1");
    table.add(Measured::new(name("rank killed to all ranks' next step"), "s", whole), None, "");
    Ok(())
}

/// How long a survivor of a kill paused, and how long when the new rank joined.
fn pauses_of(lines: &[Line], survivor: &Line, from: f64) -> Option<(f64, f64)> {
    let steps: Vec<_> =
        lines.iter().filter(|line| line.what == What::Step && line.pid == survivor.pid).collect();
    let fewer = steps.iter().find(|step| step.at > from && step.world == RANKS - 1)?;
    let joined = steps.iter().position(|step| step.at > fewer.at && step.world == RANKS)?;
    Some((fewer.at - from, steps[joined].at - steps[joined - 1].at))
}
