//! Trainings in which one thing after another goes wrong, and that go on each time.
//!
//! Every scenario has a seed, from which comes what is left to chance. `KF_RELIABILITY_SEED` runs just one, and `KF_LONG=1`
//! 200 of them.

mod field;
mod scenario;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use kf_train::LocalLauncher;
use libtest_mimic::Trial;

use self::field::{Field, Outcome};
use self::scenario::{KINDS, Kind, Scenario};
use crate::elastic::disk::SmallDisk;
use crate::elastic::network;
use crate::trial;

/// How many things go wrong with the same agents, one after another.
const TOGETHER: usize = 11;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("reliability::of_restarts", |launcher| all(launcher, false)),
        trial("reliability::of_healing", |launcher| all(launcher, true)),
    ]
}

/// The scenarios of this run.
fn scenarios(heals: bool) -> Vec<Scenario> {
    let seed: Option<u64> = std::env::var("KF_RELIABILITY_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = match seed {
        Some(seed) => seed..seed + 1,
        None if std::env::var_os("KF_LONG").is_some() => 0..200,
        None => 0..20,
    };
    seeds.map(Scenario::of).filter(|scenario| scenario.heals == heals).collect()
}

async fn all(_: LocalLauncher, heals: bool) {
    let no_network = network::missing();
    let no_disk = SmallDisk::mount(64).err();
    let (mut left, skipped): (Vec<_>, Vec<_>) = scenarios(heals).into_iter().partition(|scenario| {
        let network = no_network.is_none() || !scenario.kind.takes_network();
        network && (no_disk.is_none() || scenario.kind != Kind::DiskFull)
    });
    let (with_network, with_disk) = (no_network.is_none(), no_disk.is_none());
    let (mut outcomes, mut failed) = (BTreeMap::<Kind, Vec<Outcome>>::new(), Vec::new());
    left.reverse();
    while !left.is_empty() {
        let together = left.split_off(left.len().saturating_sub(TOGETHER));
        let mut scenarios = together.into_iter().rev();
        let mut field = Field::start(heals, with_network, with_disk).await;
        let (mut passed, mut broken) = (Vec::new(), None);
        for scenario in scenarios.by_ref() {
            let outcome = match caught(scenario, field.endure(scenario)).await {
                Ok(outcome) => outcome,
                Err(why) => {
                    broken = Some((scenario, why));
                    break;
                }
            };
            println!("{scenario:?}: paused {:.0} ms, whole in {:.0} ms", outcome.pause, outcome.whole);
            passed.push((scenario, outcome));
        }
        if broken.is_none()
            && let Some((last, _)) = passed.last()
            && let Err(why) = caught(*last, field.ends()).await
        {
            broken = passed.pop().map(|(last, _)| (last, why));
        }
        if broken.is_some() {
            println!("{}", field.training.fleet.logs());
        }
        failed.extend(broken);
        for (scenario, outcome) in passed {
            outcomes.entry(scenario.kind).or_default().push(outcome);
        }
        left.extend(scenarios.rev());
    }
    tell(heals, &outcomes, skipped.len());
    let needed = |kind: fn(Kind) -> bool| {
        outcomes.keys().copied().any(kind) || failed.iter().any(|(scenario, _)| kind(scenario.kind))
    };
    let judges = [
        ("netns", no_network, needed(Kind::takes_network)),
        ("disk-full", no_disk, needed(|kind| kind == Kind::DiskFull)),
    ];
    for (judge, missing, was_asked) in judges {
        match missing {
            Some(why) => println!("JUDGE {judge} skipped: {why}"),
            None if !was_asked => {}
            None if failed.is_empty() => println!("JUDGE {judge} passed"),
            None => println!("JUDGE {judge} failed: see the scenarios that failed"),
        }
    }
    let told: String = failed.iter().map(|(scenario, why)| format!("\n{scenario:?}: {why}")).collect();
    assert!(failed.is_empty(), "failed, each to be run alone by KF_RELIABILITY_SEED: {told}");
}

/// What comes of it, or what it panics with.
async fn caught<T>(scenario: Scenario, run: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(run).catch_unwind().await.map_err(|panic| {
        println!("KF_RELIABILITY_SEED={} failed: {scenario:?}", scenario.seed);
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

fn tell(heals: bool, outcomes: &BTreeMap<Kind, Vec<Outcome>>, skipped: usize) {
    let how = if heals { "healed" } else { "restarted" };
    for kind in KINDS {
        let Some(all) = outcomes.get(&kind) else { continue };
        let pauses: Vec<_> = all.iter().map(|outcome| outcome.pause).collect();
        let wholes: Vec<_> = all.iter().map(|outcome| outcome.whole).collect();
        println!(
            "{how}: {:>3} of {kind:?}: paused {:.0} ms, at most {:.0}; whole in {:.0} ms, at most {:.0}",
            all.len(),
            median(&pauses),
            pauses.iter().copied().fold(0.0, f64::max),
            median(&wholes),
            wholes.iter().copied().fold(0.0, f64::max),
        );
    }
    let all: usize = outcomes.values().map(Vec::len).sum();
    let compared = outcomes.values().flatten().filter(|outcome| outcome.compared).count();
    println!("{how}: {all} in all, {compared} compared with an undisturbed run, {skipped} skipped");
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
