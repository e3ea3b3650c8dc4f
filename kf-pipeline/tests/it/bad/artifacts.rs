//! Artifacts that are changed on disk behind the store's back.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use kf_core::metadata::RunState;
use kf_pipeline::TaskState;
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;
use tracing::span;

use super::components::{overwrite, spoil};
use super::says;
use crate::Done;
use crate::components::{double, make};

pub(crate) fn tests() -> Vec<Trial> {
    vec![Trial::test("changed_artifacts_are_refused_and_made_again", || {
        // On one thread, so that what is logged can be listened to.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let warnings = Warnings::default();
        let _guard = tracing::subscriber::set_default(warnings.clone());
        runtime.block_on(changed(&warnings)).map_err(|error| error.to_string().into())
    })]
}

async fn changed(warnings: &Warnings) -> Done {
    let pipeline = Pipeline::build("changed", |p| {
        let really = p.required_param::<bool>("really");
        let made = p.add(make(7));
        let spoiled = p.add(spoil(made.out, really));
        p.add(double(made.out).after(spoiled));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let outcome = engine.start(&pipeline, args! {"really" => true}).await?.wait().await?;
    assert_eq!(outcome.state, RunState::Failed);
    let digest = kf_core::Digest::of("7").to_string();
    let spoiled = kf_core::Digest::of("spoiled").to_string();
    says(
        outcome.error.as_deref(),
        &["double", "input `input`", "was changed", &digest, &spoiled, "a new run"],
    );

    // What is changed does not stand for the task any more; it runs again, and says why.
    for round in 1..3 {
        let run = engine.start(&pipeline, args! {"really" => false}).await?;
        let outcome = run.wait().await?;
        assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
        let report = engine.report(run.id()).await?;
        let made = report.task("make").unwrap();
        assert_eq!(made.state, TaskState::Succeeded, "round {round}");
        let made = made.output_artifacts[0].artifact.digest.unwrap();
        assert_eq!(std::fs::read_to_string(engine.home().artifacts().fetch(&made).await?)?, "7");
        assert_eq!(warnings.about("runs again"), round, "{warnings:?}");
        overwrite(&engine.home().artifacts().fetch(&made).await?)?;
    }
    Ok(())
}

/// Keeps what is logged as a warning.
#[derive(Clone, Debug, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn about(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|warning| warning.contains(text)).count()
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
