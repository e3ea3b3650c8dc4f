//! How much runs at once.

use kf_core::metadata::RunState;
use kf_core::resources::{Capacity, Resources};
use kf_pipeline::EngineBuilder;
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use super::Stage;
use super::components::metered;
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    let two_cores = || Capacity::new(Resources::none().cpu(2.0));
    vec![
        test("two_cores_carry_two_tasks", move || {
            at_most(2, Engine::builder().capacity(two_cores()), None, 1.0)
        }),
        test("half_a_core_each", move || at_most(4, Engine::builder().capacity(two_cores()), None, 0.5)),
        test("a_limited_loop", || at_most(3, Engine::builder(), Some(3), 0.0)),
        test("at_most_so_many_tasks", || at_most(2, Engine::builder().max_tasks(2), None, 0.0)),
        test("no_limit", || at_most(12, Engine::builder(), None, 0.0)),
    ]
}

/// Of 12 tasks, no more than `most` run at once.
async fn at_most(most: usize, engine: EngineBuilder, limit: Option<u32>, cpu: f64) -> Done {
    let (home, stage) = (tempfile::tempdir()?, Stage::default());
    let engine = engine.state(stage.clone()).open(home.path()).await?;
    let pipeline = Pipeline::build("limits", |p| {
        let items: Vec<i64> = (0..12).collect();
        let _ = match limit {
            Some(limit) => p.parallel_for_limited(items, limit, |p, item| p.add(metered(item).cpu(cpu))),
            None => p.parallel_for(items, |p, item| p.add(metered(item).cpu(cpu))),
        };
    })?;
    let outcome = engine.start(&pipeline, args! {}).await?.wait().await?;
    assert_eq!((outcome.state, outcome.tasks.succeeded), (RunState::Succeeded, 12));
    // Fewer would be right too, but where there are 12 for so few places, they are taken.
    assert!(stage.most() <= most && stage.most() > 1, "{} at once", stage.most());
    Ok(())
}
