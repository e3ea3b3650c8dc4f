//! What engines that share the stores do one at a time, or once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::{Pipeline, RunHandle};
use libtest_mimic::Trial;

use super::Test;
use crate::{Done, test};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("shared_mutexes_and_semaphores_hold_among_engines", exclusion),
        test("shared_runs_of_two_engines_that_need_the_same_run_it_once", once),
    ]
}

/// A place in a folder of so many.
struct Taken(PathBuf);

impl Taken {
    fn one_of(folder: &str, places: u32) -> Result<Self, TaskError> {
        for place in 0..places {
            let path = Path::new(folder).join(place.to_string());
            if std::fs::File::create_new(&path).is_ok() {
                return Ok(Self(path));
            }
        }
        Err(TaskError::permanent(format!("more than {places} are here at once")))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[component(cache = false)]
async fn guarded(item: i64, folder: String, places: u32, wait_ms: u64) -> TaskResult<i64> {
    let _taken = Taken::one_of(&folder, places)?;
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    Ok(item)
}

fn pipeline(folder: &Path, lock: &'static str, places: u32) -> Result<Pipeline, kf_pipeline::Error> {
    let folder = folder.display().to_string();
    Pipeline::build(&format!("guarded-{lock}"), move |p| {
        let wait_ms = p.param::<u64>("wait_ms", 60_u64);
        let _ = p.parallel_for((0..6).collect::<Vec<i64>>(), |p, item| {
            p.add(guarded(item, folder, places, wait_ms).mutex(lock))
        });
    })
}

#[component]
async fn slow(witness: String) -> TaskResult<String> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(witness)?;
    file.write_all(b"x")?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    Ok("done".to_owned())
}

async fn engines(test: &Test) -> Result<[Engine; 2], Box<dyn std::error::Error>> {
    let open = async |name: &str| -> Result<Engine, Box<dyn std::error::Error>> {
        let folder = test.folder.path();
        let engine = Engine::builder()
            .metadata(Arc::new(test.stores.metadata().await?))
            .artifacts(test.stores.artifacts(folder.join(format!("artifacts-{name}")))?)
            .semaphore("two", 2)
            .lease(test.stores.lease);
        Ok(engine.open(folder.join(name)).await?)
    };
    Ok([open("one").await?, open("two").await?])
}

async fn succeeds(runs: &[RunHandle]) -> Done {
    for run in runs {
        let outcome = run.wait().await?;
        assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    }
    Ok(())
}

async fn exclusion() -> Done {
    let lease = Duration::from_secs(3);
    let Some(test) = Test::new("among", lease)? else { return Ok(()) };
    let [one, two] = engines(&test).await?;
    for (lock, places) in [("one", 1), ("two", 2)] {
        let folder = test.folder.path().join(lock);
        std::fs::create_dir_all(&folder)?;
        let pipeline = pipeline(&folder, lock, places)?;
        let began = Instant::now();
        let mut runs = Vec::new();
        for engine in [&one, &two, &one] {
            runs.push(engine.start(&pipeline, args! {}).await?);
        }
        succeeds(&runs).await?;
        let took = began.elapsed();
        println!("18 tasks of 60 ms, {places} at once, of two engines: {:.2} s", took.as_secs_f64());
        assert!(took >= Duration::from_millis(18 * 60 / u64::from(places)), "{took:?}");
    }

    // What an engine holds that is gone is free when its lease is over, or was given back.
    let folder = test.folder.path().join("left");
    std::fs::create_dir_all(&folder)?;
    // A body that is stopped lets go of its file a moment later.
    let pipeline = pipeline(&folder, "one", 2)?;
    let left = one.start(&pipeline, args! { "wait_ms" => 60_000_u64 }).await?;
    while !folder.join("0").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waits = two.start(&pipeline, args! {}).await?;
    let ends = tokio::time::timeout(Duration::from_millis(300), waits.wait()).await;
    assert!(ends.is_err(), "it waits for the other engine");
    drop((left, one));
    let began = Instant::now();
    succeeds(&[waits]).await?;
    println!("all ended {:.2} s after the other engine", began.elapsed().as_secs_f64());
    Ok(())
}

async fn once() -> Done {
    let Some(test) = Test::new("once", Duration::from_secs(5))? else { return Ok(()) };
    let [one, two] = engines(&test).await?;
    for round in 0..3 {
        let witness = test.folder.path().join(format!("witness-{round}"));
        let path = witness.display().to_string();
        let pipeline = Pipeline::build("slow", move |p| {
            p.add(slow(path));
        })?;
        let (first, second) = tokio::join!(one.start(&pipeline, args! {}), two.start(&pipeline, args! {}));
        let runs = [first?, second?];
        succeeds(&runs).await?;
        assert_eq!(std::fs::read(&witness)?.len(), 1, "it ran once");
        let cached = runs[0].wait().await?.tasks.cached + runs[1].wait().await?.tasks.cached;
        assert_eq!(cached, 1);
    }
    Ok(())
}
