//! Artifacts in an object store that fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kf_core::artifact::ArtifactStore;
use kf_core::metadata::RunState;
use kf_core::testing::{FaultyObjects, ObjectCall, ObjectFault};
use kf_core::{Digest, Home};
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;
use object_store::memory::InMemory;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use super::end;
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("runs_over_an_object_store_that_fails_at_random_end", random),
        test("a_store_that_lies_never_gives_a_wrong_result", lies),
        test("an_output_that_can_not_be_kept_fails_its_task", refused),
        test("a_run_can_be_cancelled_while_its_store_hangs", hangs),
    ]
}

#[component]
async fn write(number: i64, out: Output<Dataset>) -> TaskResult<i64> {
    out.write(format!("number {number}"))?;
    Ok(number)
}

/// Fails where it reads something else than was written.
#[component]
async fn check(number: i64, input: Input<Dataset>, out: Output<Dataset>) -> TaskResult<i64> {
    let text = std::fs::read_to_string(input.path()?)?;
    if text != format!("number {number}") {
        return Err(TaskError::permanent(format!("read `{text}`")));
    }
    out.write(format!("{text}, checked"))?;
    Ok(number)
}

fn pipeline() -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("faulty", |p| {
        let numbers = p.param::<Vec<i64>>("numbers", (0..8).collect::<Vec<_>>());
        let _ = p.parallel_for(numbers, |p, number| {
            let written = p.add(write(number));
            p.add(check(written.output, written.out))
        });
    })
}

struct Bench {
    real: Arc<InMemory>,
    objects: Arc<FaultyObjects>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> std::io::Result<Self> {
        let real = Arc::new(InMemory::new());
        let objects = Arc::new(FaultyObjects::new(real.clone()));
        Ok(Self { real, objects, folder: tempfile::tempdir()? })
    }

    /// An engine of a machine that has no copy of anything yet.
    async fn engine(&self, machine: &str) -> Result<Engine, Box<dyn std::error::Error>> {
        let artifacts = ArtifactStore::new(self.objects.clone(), self.folder.path().join(machine))?;
        let home = Home::open(self.folder.path().join("home")).await?.with_artifacts(artifacts);
        Ok(Engine::builder().open_home(home).await?)
    }

    /// That every object is what its name says.
    async fn is_sound(&self) -> Done {
        let mut objects = self.real.list(None);
        while let Some(meta) = objects.next().await {
            let key = meta?.location;
            let content = self.real.get(&key).await?.bytes().await?;
            assert_eq!(key.filename(), Some(Digest::of(&content).to_hex().as_str()));
        }
        Ok(())
    }
}

async fn random() -> Done {
    let bench = Bench::new()?;
    let (mut succeeded, mut failed) = (0, 0);
    for seed in 0..12_u64 {
        let late = ObjectFault::Late(Duration::from_millis(5));
        let faults = vec![ObjectFault::Fails, ObjectFault::FailsAfter, ObjectFault::Breaks, late];
        match seed % 4 {
            // No repetition helps.
            3 => bench.objects.at_random(seed, 1, vec![ObjectFault::Fails, ObjectFault::Breaks]),
            _ => bench.objects.at_random(seed, 6, faults),
        }
        let engine = bench.engine(&seed.to_string()).await?;
        let start = seed as i64 * 100;
        let numbers: Vec<i64> = (start..start + 8).collect();
        let run = engine.start(&pipeline()?, args! { "numbers" => numbers }).await?;
        let outcome = end(&run).await?;
        match outcome.state {
            RunState::Succeeded => succeeded += 1,
            state => {
                assert_eq!(state, RunState::Failed);
                let error = outcome.error.unwrap_or_default();
                assert!(error.contains("artifact store") && error.contains("the connection"), "{error}");
                failed += 1;
            }
        }
        bench.is_sound().await?;
    }
    println!("{succeeded} runs succeeded, {failed} failed; {} faults", bench.objects.met());
    assert!(
        succeeded >= 4 && failed >= 3 && bench.objects.met() > 50,
        "{succeeded} succeeded, {failed} failed"
    );
    Ok(())
}

async fn lies() -> Done {
    for seed in 0..8_u64 {
        let bench = Bench::new()?;
        bench.objects.at_random(seed, 8, vec![ObjectFault::Ends, ObjectFault::Changes]);
        let outcome = end(&bench.engine("one").await?.start(&pipeline()?, args! {}).await?).await?;
        // On the machine that wrote it, a copy is at hand.
        assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
        // Another machine finds out what is wrong, and does that again.
        bench.objects.heal();
        let outcome = end(&bench.engine("two").await?.start(&pipeline()?, args! {}).await?).await?;
        assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
        assert_eq!(outcome.tasks.cached + outcome.tasks.succeeded, 16);
        bench.is_sound().await?;
    }
    Ok(())
}

async fn refused() -> Done {
    let bench = Bench::new()?;
    let engine = bench.engine("one").await?;
    bench.objects.next(ObjectCall::Put, ObjectFault::Refuses, 1000);
    let outcome = end(&engine.start(&pipeline()?, args! {}).await?).await?;
    assert_eq!((outcome.state, outcome.tasks.failed), (RunState::Failed, 8));
    let error = outcome.error.unwrap_or_default();
    assert!(["write", "output `out`", "artifact store"].iter().all(|part| error.contains(part)), "{error}");
    bench.objects.heal();
    let outcome = end(&engine.start(&pipeline()?, args! {}).await?).await?;
    assert_eq!((outcome.state, outcome.tasks.succeeded), (RunState::Succeeded, 16));
    bench.is_sound().await
}

async fn hangs() -> Done {
    for call in [ObjectCall::Put, ObjectCall::Head, ObjectCall::Get] {
        let bench = Bench::new()?;
        if call == ObjectCall::Get {
            // Everything is in the store already and is asked for again on another machine.
            let one = Pipeline::build("first", |p| {
                p.add(write(1));
            })?;
            end(&bench.engine("one").await?.start(&one, args! {}).await?).await?;
        }
        bench.objects.next(call, ObjectFault::Hangs, 1000);
        let engine = bench.engine("two").await?;
        let run = engine.start(&pipeline()?, args! {"numbers" => [1]}).await?;
        while bench.objects.calls(call) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let asked = Instant::now();
        run.cancel("enough").await;
        let outcome = end(&run).await?;
        assert_eq!(
            (outcome.state, outcome.error.as_deref()),
            (RunState::Canceled, Some("enough")),
            "{call:?}"
        );
        assert!(asked.elapsed() < Duration::from_secs(10), "{call:?}: {:?}", asked.elapsed());
        bench.is_sound().await?;
    }
    Ok(())
}
