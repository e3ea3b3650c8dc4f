//! Journals in a metadata store that fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kf_core::metadata::RunState;
use kf_core::testing::{FaultyMetadata, MetadataCall, MetadataFault};
use kf_core::{Home, RunId};
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use super::end;
use crate::bad::{Stage, stand};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_run_waits_for_a_store_that_comes_back", away),
        test("a_commit_whose_answer_is_lost_is_made_once", lost),
        test("a_commit_that_is_never_answered_is_made_once", unanswered),
        test("a_store_that_stays_away_ends_the_run_which_goes_on_later", stays_away),
        test("a_broken_store_ends_the_run_which_goes_on_later", broken),
        test("a_lease_is_renewed_in_spite_of_failures", renewed),
        test("a_lease_that_can_not_be_renewed_ends_the_run", not_renewed),
        test("a_store_that_does_not_take_the_lease_back_holds_nobody_up", not_released),
    ]
}

const TASKS: usize = 6;

/// Tasks one after another, each behind the same gate.
fn chain(gate: &str) -> kf_pipeline::Result<Pipeline> {
    Pipeline::build("chain", |p| {
        let mut last = p.add(stand("task", gate).named("task-0"));
        for n in 1..TASKS {
            last = p.add(stand("task", gate).named(format!("task-{n}")).after(last));
        }
    })
}

struct Bench {
    _folder: tempfile::TempDir,
    store: Arc<FaultyMetadata>,
    stage: Stage,
    engine: Engine,
}

impl Bench {
    async fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let home = Home::open(folder.path()).await?;
        let store = Arc::new(FaultyMetadata::new(home.metadata()));
        let stage = Stage::default();
        let engine = Engine::builder().metadata(store.clone()).state(stage.clone()).open_home(home).await?;
        Ok(Self { _folder: folder, store, stage, engine })
    }

    async fn start(&self) -> kf_pipeline::Result<kf_pipeline::RunHandle> {
        let id: RunId = "run".parse()?;
        self.engine.start_with(&chain("gate")?, args! {}, StartOptions::new().id(id)).await
    }

    /// That the run has ended well, each of its tasks having begun so often.
    async fn ended(&self, run: &kf_pipeline::RunHandle, starts: usize) -> Done {
        let outcome = end(run).await?;
        assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
        assert_eq!(outcome.tasks.succeeded, TASKS as u64);
        assert_eq!(self.stage.count("start task"), starts);
        Ok(())
    }
}

async fn away() -> Done {
    let bench = Bench::new().await?;
    let run = bench.start().await?;
    bench.stage.seen("start task", 1).await;
    bench.store.away_for(Duration::from_secs(4));
    let began = Instant::now();
    bench.stage.open("gate");
    bench.ended(&run, TASKS).await?;
    assert!(began.elapsed() >= Duration::from_secs(4));
    Ok(())
}

async fn lost() -> Done {
    for seed in 0..10 {
        let bench = Bench::new().await?;
        bench.stage.open("gate");
        let run = bench.start().await?;
        bench.store.at_random(seed, 2, vec![MetadataFault::AnswerLost, MetadataFault::Away]);
        bench.ended(&run, TASKS).await?;
        let journal = bench.engine.metadata();
        bench.store.heal();
        let entries = journal.journal(run.id(), 0, 1000).await?;
        assert!(entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq), "{entries:?}");
        let ends: usize = entries.iter().map(|entry| entry.events.matches(r#""event":"task""#).count()).sum();
        assert_eq!(ends, TASKS, "{entries:?}");
    }
    Ok(())
}

async fn unanswered() -> Done {
    let bench = Bench::new().await?;
    let run = bench.start().await?;
    bench.stage.seen("start task", 1).await;
    bench.store.next(MetadataCall::Commit, MetadataFault::AnswerHangs, 1);
    bench.stage.open("gate");
    bench.ended(&run, TASKS).await
}

async fn stays_away() -> Done {
    let bench = Bench::new().await?;
    let run = bench.start().await?;
    bench.stage.seen("start task", 1).await;
    bench.store.away_for(Duration::from_secs(3600));
    bench.stage.open("gate");
    let error = end(&run).await.expect_err("its end can't be written").to_string();
    assert!(
        ["`run`", "the store is away", "start it again"].iter().all(|part| error.contains(part)),
        "{error}"
    );
    let error = bench.start().await.expect_err("it is away still");
    assert!(error.is_retryable(), "{error}");
    bench.store.heal();
    // The end of the first was never written.
    bench.ended(&bench.start().await?, TASKS + 1).await
}

async fn broken() -> Done {
    let bench = Bench::new().await?;
    let run = bench.start().await?;
    bench.stage.seen("start task", 1).await;
    bench.store.next(MetadataCall::Commit, MetadataFault::Refuses, 1);
    bench.stage.open("gate");
    let began = Instant::now();
    let error = end(&run).await.expect_err("its end can't be written").to_string();
    assert!(error.contains("the store is broken") && error.contains("start it again"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "what does not pass is not tried again");
    bench.ended(&bench.start().await?, TASKS + 1).await
}

async fn renewed() -> Done {
    let bench = Bench::new().await?;
    bench.store.expire_leases();
    bench.store.next(MetadataCall::Renew, MetadataFault::Away, 2);
    bench.store.next(MetadataCall::Renew, MetadataFault::AnswerLost, 1);
    let run = bench.start().await?;
    bench.stage.seen("start task", 1).await;
    while bench.store.calls(MetadataCall::Renew) < 5 {
        assert!(bench.engine.handle(run.id()).is_some(), "{:?}", run.wait().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bench.stage.open("gate");
    bench.ended(&run, TASKS).await
}

async fn not_renewed() -> Done {
    for (fault, word) in [
        (MetadataFault::Hangs, "no answer"),
        (MetadataFault::Away, "the store is away"),
        (MetadataFault::Refuses, "the store is broken"),
    ] {
        let bench = Bench::new().await?;
        bench.store.expire_leases();
        bench.store.next(MetadataCall::Renew, fault.clone(), 1000);
        let (run, began) = (bench.start().await?, Instant::now());
        let error = end(&run).await.expect_err("another engine may have it").to_string();
        assert!(error.contains(word) && error.contains("start it again"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(17), "{fault:?}: {:?}", began.elapsed());
        bench.stage.seen("dropped task", 1).await;
        bench.store.heal();
        bench.stage.open("gate");
        bench.ended(&bench.start().await?, TASKS + 1).await?;
    }
    Ok(())
}

async fn not_released() -> Done {
    let bench = Bench::new().await?;
    bench.store.next(MetadataCall::Release, MetadataFault::Hangs, 1);
    bench.stage.open("gate");
    bench.ended(&bench.start().await?, TASKS).await
}
