//! What a long task has saved outlives its attempts, its process and its engine.

mod child;

use std::collections::{BTreeMap, BTreeSet};

use kf_core::RunId;
use kf_core::metadata::RunState;
use kf_core::process::{Command, Exit, Log, Spawner};
use kf_core::worker::{Entry, entry};
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use crate::kill::Kills;
use crate::{Done, test};
use child::ITEMS;

const KILLS: usize = 40;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("checkpoints_survive_kills", survive_kills),
        test("checkpoints_are_of_one_run_and_task", of_one_run_and_task),
    ]
}

/// What the engine's process runs, and what it sends to processes of their own.
pub(crate) fn worker() -> impl Entry {
    entry(child::ENTRY, child::run)
}

pub(crate) fn with_components(components: Components) -> Components {
    components.with::<child::apart>()
}

async fn survive_kills() -> Done {
    let folder = tempfile::tempdir()?;
    let (home, log) = (folder.path().join("home"), folder.path().join("log"));
    let spawner = Spawner::new()?;
    let engine = Engine::open(&home).await?;
    let (mut kills, mut in_the_middle, mut round, mut when) = (0, 0, 0, Kills::default());
    while kills < KILLS || in_the_middle < KILLS / 2 {
        round += 1;
        assert!(round < 40, "{kills} kills, {in_the_middle} of them in the middle");
        let run: RunId = format!("items-{round}").parse()?;
        let witness = folder.path().join(run.as_str());
        let mut did: BTreeMap<(String, u32), usize> = BTreeMap::new();
        let mut saved = BTreeSet::new();
        let (mut seen, mut killed) = (0, 0);
        loop {
            let order = child::Order { home: home.clone(), witness: witness.clone(), run: run.clone() };
            let process = spawner.spawn(Command::entry(child::ENTRY, &order)?.log(Log::to(&log))).await?;
            let exit = when.one(&process, &witness, 35).await;
            let text = std::fs::read_to_string(&witness).unwrap_or_default();
            let mut items = 0;
            for line in text.lines().skip(seen) {
                seen += 1;
                let [task, word, item] = line.split(' ').collect::<Vec<_>>()[..] else {
                    return Err(format!("a torn line: {line}").into());
                };
                let item = (task.to_owned(), item.parse()?);
                match word {
                    "did" => {
                        assert!(!saved.contains(&item), "{item:?} was saved and done again");
                        *did.entry(item).or_default() += 1;
                        items += 1;
                    }
                    "saved" => {
                        saved.insert(item);
                    }
                    _ => killed += 1,
                }
            }
            if exit.success() {
                break;
            }
            assert_eq!(exit, Exit::Signal(9), "{:?}", process.tail(20));
            kills += 1;
            in_the_middle += usize::from(items > 0);
            killed += 2;
        }
        assert_eq!(did.len(), 2 * ITEMS as usize, "{did:?}");
        // Each death may have hit an item in each task between its work and its record.
        let again: usize = did.values().map(|times| times - 1).sum();
        assert!(again <= killed, "{again} items were done again after {killed} deaths: {did:?}");
        let report = engine.report(&run).await?;
        assert_eq!(report.run.state, RunState::Succeeded, "{:?}", report.run.error);
        for task in ["here", "apart"] {
            let task = report.task(task).ok_or("it ran")?;
            assert_eq!(task.output::<u32>("Output")?, (0..ITEMS).sum::<u32>());
            assert!(task.attempts >= 2);
            assert!(
                !engine.home().run_dir(&run).join(&task.path).join("checkpoint").exists(),
                "{}",
                task.path
            );
        }
    }
    println!("{kills} kills in {round} runs, {in_the_middle} of them between items");
    Ok(())
}

/// Saves what it is given, and tells what an attempt before it had saved.
#[component(cache = false, retries = 1)]
fn remember(value: u32, fail: bool, ctx: Context) -> TaskResult<Vec<u32>> {
    let before = ctx.saved::<Vec<u32>>("values")?.unwrap_or_default();
    let mut values = before.clone();
    values.push(value * 10 + ctx.attempt());
    ctx.save("values", &values)?;
    if fail || ctx.attempt() == 1 { Err(TaskError::new("not yet")) } else { Ok(values) }
}

async fn of_one_run_and_task() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let pipeline = Pipeline::build("remember", |p| {
        let fail = p.param::<bool>("fail", false);
        let _ = p
            .parallel_for(p.param::<Vec<u32>>("values", vec![1, 2]), |p, value| p.add(remember(value, fail)));
    })?;
    for fails in [true, false, false] {
        let run = engine.start(&pipeline, args! {"fail" => fails}).await?;
        let outcome = run.wait().await?;
        let report = engine.report(run.id()).await?;
        for (iteration, value) in [(0, 1), (1, 2)] {
            let task = report.task(&format!("for-loop-1[{iteration}]/remember")).ok_or("it ran")?;
            let kept = engine.home().run_dir(run.id()).join(&task.path).join("checkpoint").exists();
            assert_eq!(kept, fails, "kept where the task failed, dropped where it succeeded");
            if !fails {
                assert_eq!(task.output::<Vec<u32>>("Output")?, [value * 10 + 1, value * 10 + 2]);
            }
        }
        assert_eq!(outcome.state == RunState::Failed, fails);
    }
    Ok(())
}
