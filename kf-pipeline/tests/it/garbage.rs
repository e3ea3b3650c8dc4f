//! Artifacts that no run needs any more are removed; what a run needs, or takes up again meanwhile, stays.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kf_core::artifact::{ArtifactStore, Pile};
use kf_core::metadata::RunState;
use kf_core::testing::{FaultyMetadata, MetadataCall, MetadataFault};
use kf_core::{Digest, Home, RunId};
use kf_pipeline::prelude::*;
use kf_pipeline::{Pipeline, RerunOptions, Retention, RunHandle};
use libtest_mimic::Trial;
use tokio::task::JoinSet;

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("what_no_kept_run_names_is_removed", unnamed),
        test("what_is_gone_is_made_again_or_said", gone),
        test("what_is_taken_up_again_after_a_collection_has_looked_stays", taken_up),
        test("what_is_collected_beside_runs_is_none_of_theirs", race_here),
        test("what_is_collected_beside_runs_is_none_of_theirs_in_an_object_store", race_remote),
    ]
}

/// A folder of two files, of which one is the same each time.
#[component]
fn make(item: i64, out: Output<Dataset>) -> TaskResult {
    std::fs::create_dir(out.path())?;
    std::fs::write(out.path().join("own"), format!("item {item}"))?;
    std::fs::write(out.path().join("shared"), "shared")?;
    Ok(())
}

/// Takes its time between what it needs first and last.
#[component]
async fn total(inputs: Vec<Input<Dataset>>, wait_ms: u64, out: Output<Model>) -> TaskResult<String> {
    let (mut own, mut shared) = (Vec::new(), 0);
    for input in &inputs {
        own.push(std::fs::read_to_string(input.path()?.join("own"))?);
    }
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    for input in &inputs {
        shared += std::fs::read(input.path()?.join("shared"))?.len();
    }
    let text = format!("{} and {shared} bytes", own.join(", "));
    out.write(&text)?;
    Ok(text)
}

#[component(cache = false)]
fn check(model: Input<Model>, text: String) -> TaskResult<String> {
    let found = std::fs::read_to_string(model.path()?)?;
    if found == text { Ok(found) } else { Err(TaskError::new(format!("expected {text}, found {found}"))) }
}

fn pipeline() -> Result<Pipeline, kf_pipeline::Error> {
    Pipeline::build("sets", |p| {
        let items = p.param::<Vec<i64>>("items", vec![1, 2]);
        let wait_ms = p.param::<u64>("wait_ms", 0_u64);
        let sets = p.parallel_for(items, |p, item| p.add(make(item).named("make")));
        let total = p.add(total(sets.collect().out, wait_ms).named("total"));
        p.add(check(total.out, total.output).named("check"));
    })
}

/// What is removed here was put at least so long ago.
const LITTLE: Duration = Duration::from_millis(50);

/// Longer ago than that.
async fn old() {
    tokio::time::sleep(2 * LITTLE).await;
}

async fn start(
    engine: &Engine,
    items: Vec<i64>,
    wait_ms: u64,
) -> Result<RunHandle, Box<dyn std::error::Error>> {
    Ok(engine.start(&pipeline()?, args! { "items" => items, "wait_ms" => wait_ms }).await?)
}

async fn succeeds(run: &RunHandle) -> Done {
    let outcome = run.wait().await?;
    match outcome.state {
        RunState::Succeeded => Ok(()),
        _ => Err(format!("{outcome:?}").into()),
    }
}

async fn unnamed() -> Done {
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(folder.path()).await?;
    let artifacts = engine.home().artifacts();
    let first = start(&engine, vec![1], 0).await?;
    succeeds(&first).await?;
    let orphan = artifacts.put_bytes("of an attempt whose engine was killed".into()).await?;
    let named = artifacts.put_bytes("by a program".into()).await?;
    old().await;

    // Of the first run: a folder's list and two files, and the model.
    let retention = Retention::all_runs().artifact(named.digest);
    let garbage = engine.collect_garbage(&retention).await?;
    assert_eq!(garbage.artifacts.removed.objects, 0, "all is younger than a day");
    assert_eq!(garbage.artifacts.young, Pile { objects: 1, bytes: orphan.size });
    let retention = retention.min_age(LITTLE);
    let would = engine.collect_garbage(&retention.clone().dry_run()).await?;
    assert!(artifacts.contains(&orphan.digest).await?);
    let garbage = engine.collect_garbage(&retention).await?;
    assert_eq!(garbage, would);
    assert_eq!(garbage.artifacts.removed, Pile { objects: 1, bytes: orphan.size });
    assert_eq!((garbage.runs, garbage.runs_kept, garbage.artifacts.kept.objects), (1, 1, 5));
    assert!(!artifacts.contains(&orphan.digest).await?);
    artifacts.verify(&named.digest).await?;

    // What two runs name stays as long as one of them is kept.
    let second = start(&engine, vec![1, 2], 0).await?;
    succeeds(&second).await?;
    old().await;
    let last = Retention::runs_of(Duration::ZERO).last_succeeded(1).min_age(LITTLE);
    let garbage = engine.collect_garbage(&last).await?;
    assert_eq!((garbage.runs, garbage.runs_kept), (2, 1));
    assert_eq!(garbage.artifacts.removed.objects, 2, "the first run's model, and what a program named");
    let report = engine.report(second.id()).await?;
    for task in report.tasks.iter().flat_map(|task| &task.output_artifacts) {
        artifacts.verify(&task.artifact.digest.ok_or("a digest")?).await?;
    }

    // An argument names content as well as a journal does; so does a run that was chosen.
    let garbage = engine
        .collect_garbage(&Retention::runs_of(Duration::ZERO).run(second.id().clone()).min_age(LITTLE))
        .await?;
    assert_eq!((garbage.artifacts.removed.objects, garbage.runs_kept), (0, 1));
    let given = artifacts.put_bytes("given".into()).await?;
    let mention = Pipeline::build("mention", |p| {
        let text = p.param::<String>("text", String::new());
        let made = p.parallel_for(vec![1], |p, item| p.add(make(item).named("make")));
        let total = p.add(total(made.collect().out, 0_u64).named("total"));
        p.add(check(total.out, text).named("check"));
    })?;
    let failed = engine.start(&mention, args! { "text" => artifacts.uri(&given.digest) }).await?;
    assert_eq!(failed.wait().await?.state, RunState::Failed);
    old().await;
    let retention = Retention::runs_of(Duration::ZERO).min_age(LITTLE);
    engine.collect_garbage(&retention.clone().run(failed.id().clone())).await?;
    artifacts.verify(&given.digest).await?;
    let garbage = engine.collect_garbage(&retention).await?;
    assert_eq!((garbage.artifacts.kept.objects, garbage.runs_kept), (0, 0));
    assert!(!artifacts.contains(&given.digest).await?);
    Ok(())
}

async fn gone() -> Done {
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(folder.path()).await?;
    let run = start(&engine, vec![1], 0).await?;
    succeeds(&run).await?;
    let again = start(&engine, vec![1], 0).await?.wait().await?;
    assert_eq!((again.tasks.cached, again.tasks.succeeded), (2, 1));
    old().await;
    engine.collect_garbage(&Retention::runs_of(Duration::ZERO).min_age(LITTLE)).await?;

    let options = RerunOptions::from_tasks(["check"]);
    let refused = engine.rerun(&pipeline()?, run.id(), options).await.unwrap_err().to_string();
    let all =
        "choose them to run again too: `for-loop-1[0]/make`, `total`; output `out` of `for-loop-1[0]/make`: ";
    assert!(refused.contains(all), "{refused}");
    let options = RerunOptions::from_tasks(["check", "for-loop-1[0]/make", "total"]);
    succeeds(&engine.rerun(&pipeline()?, run.id(), options).await?).await?;
    old().await;
    engine.collect_garbage(&Retention::runs_of(Duration::ZERO).min_age(LITTLE)).await?;
    engine.report(run.id()).await?;

    let anew = start(&engine, vec![1], 0).await?.wait().await?;
    assert_eq!((anew.state, anew.tasks.cached, anew.tasks.succeeded), (RunState::Succeeded, 0, 3));
    let options = RerunOptions::from_tasks(["check"]);
    succeeds(&engine.rerun(&pipeline()?, &anew.run, options).await?).await
}

/// A collection that takes long between looking what runs name and removing what they don't.
async fn taken_up() -> Done {
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(folder.path()).await?;
    let collected = [start(&engine, vec![1], 0).await?, start(&engine, vec![2], 0).await?];
    succeeds(&collected[0]).await?;
    succeeds(&collected[1]).await?;
    let kept = start(&engine, vec![7], 0).await?;
    succeeds(&kept).await?;
    let age = Duration::from_secs(3);
    tokio::time::sleep(age + LITTLE).await;

    let home = Home::open(folder.path()).await?;
    let slow = Arc::new(FaultyMetadata::new(home.metadata()));
    let collector = Engine::builder().metadata(slow.clone()).open_home(home).await?;
    // The list of runs comes at once, and then the run that is kept is read.
    slow.next(MetadataCall::Read, MetadataFault::Late(Duration::ZERO), 1);
    slow.next(MetadataCall::Read, MetadataFault::Late(Duration::from_secs(3)), 1);
    let retention = Retention::runs_of(Duration::ZERO).run(kept.id().clone()).min_age(age);
    let collection = tokio::spawn(async move { collector.collect_garbage(&retention).await });
    while slow.calls(MetadataCall::Read) < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let taken = start(&engine, vec![1], 0).await?;
    succeeds(&taken).await?;
    assert_eq!(taken.wait().await?.tasks.cached, 2);
    let rerun = engine.rerun(&pipeline()?, collected[1].id(), RerunOptions::from_tasks(["check"])).await?;
    succeeds(&rerun).await?;
    assert!(!collection.is_finished(), "both came after it had looked");
    let garbage = collection.await??;
    assert_eq!((garbage.runs, garbage.runs_kept), (3, 1));
    for run in [taken.id(), rerun.id(), kept.id()] {
        let rerun = engine.rerun(&pipeline()?, run, RerunOptions::from_tasks(["check"])).await?;
        succeeds(&rerun).await?;
    }
    Ok(())
}

/// Starts runs over few items, one after the other, so that each finds some in the cache, some old, some just removed;
/// some are rerun.
async fn runs(engine: Engine, seed: i64, end: Instant) -> Result<(u64, u64), String> {
    let carry = async {
        let (mut cached, mut ran) = (0, 0);
        for n in 0.. {
            if Instant::now() >= end {
                break;
            }
            let items = vec![(seed + n) % 3, 3 + (n % 5)];
            let run = start(&engine, items, 150 * (n as u64 % 3)).await?;
            succeeds(&run).await?;
            let outcome = run.wait().await?;
            (cached, ran) = (cached + outcome.tasks.cached, ran + outcome.tasks.succeeded);
            if n % 3 == 1 {
                match engine.rerun(&pipeline()?, &outcome.run, RerunOptions::from_tasks(["check"])).await {
                    Ok(rerun) => succeeds(&rerun).await?,
                    // Its run has ended, and may be collected at once when it was cached.
                    Err(error) if error.to_string().contains("to run again") => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if n % 2 == 0 {
                // Everything grows old.
                tokio::time::sleep(OLD.mul_f64(0.45 * ((seed + n) % 4) as f64)).await;
            }
        }
        Ok::<_, Box<dyn std::error::Error>>((cached, ran))
    };
    carry.await.map_err(|error| error.to_string())
}

/// Longer than a machine that does much else takes from storing an artifact to its commit.
const OLD: Duration = Duration::from_secs(3);

async fn race(engines: Vec<Engine>) -> Done {
    let end = Instant::now() + Duration::from_secs(18);
    let mut all = JoinSet::new();
    for (n, engine) in (0..).zip(engines.iter().cycle().take(4)) {
        let engine = engine.clone();
        // Their futures hold what stays on one thread.
        all.spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(runs(engine, n, end))
        });
    }
    let (mut removed, mut collections) = (0, 0);
    let retention = Retention::runs_of(Duration::ZERO).min_age(OLD);
    while Instant::now() < end {
        let garbage = engines[collections % engines.len()].collect_garbage(&retention).await?;
        removed += garbage.artifacts.removed.objects;
        collections += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (mut cached, mut ran) = (0, 0);
    while let Some(done) = all.join_next().await {
        let done = done??;
        (cached, ran) = (cached + done.0, ran + done.1);
    }
    println!("{collections} collections removed {removed} objects; {ran} tasks ran, {cached} were cached");
    assert!(removed > 5 && cached > 5 && ran > 20, "it was no race");

    // In the end all of it goes.
    let outcome: RunId = engines[0].runs(&Default::default()).await?.items.remove(0).id;
    tokio::time::sleep(OLD + LITTLE).await;
    let garbage = engines[0].collect_garbage(&retention).await?;
    assert_eq!(
        (garbage.runs_kept, garbage.artifacts.kept.objects, garbage.artifacts.young.objects),
        (0, 0, 0)
    );
    engines[0].report(&outcome).await?;
    assert!(!engines[0].home().artifacts().contains(&Digest::of("shared")).await?);
    Ok(())
}

async fn race_here() -> Done {
    let folder = tempfile::tempdir()?;
    let home = folder.path().join("home");
    race(vec![Engine::open(&home).await?, Engine::open(&home).await?]).await?;
    assert_eq!(files(&home.join("artifacts/sha256"))?, 0);
    assert_eq!(files(&home.join("artifacts/folders"))?, 0);
    Ok(())
}

async fn race_remote() -> Done {
    let folder = tempfile::tempdir()?;
    let scratch = folder.path().join("scratch");
    let store = ArtifactStore::in_memory(&scratch)?.renew_after(OLD / 2);
    let engine = Engine::builder().artifacts(store).open(folder.path().join("home")).await?;
    race(vec![engine]).await?;
    assert_eq!(files(&scratch.join("sha256"))?, 0, "the copies");
    Ok(())
}

fn files(folder: &Path) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        count += if path.is_dir() { files(&path)? } else { 1 };
    }
    Ok(count)
}
