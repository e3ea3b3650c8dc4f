//! The conformance suite over the executors of this machine.

use kf_pipeline::Engine;
use kf_pipeline::testing::{Setup, executor_conformance};
use libtest_mimic::Trial;

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("executors_in_process_conform", || conforms("in-process")),
        test("executors_as_subprocesses_conform", || conforms("subprocess")),
    ]
}

async fn conforms(executor: &str) -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::builder().grace(std::time::Duration::from_secs(2)).open(home.path()).await?;
    executor_conformance(&Setup::new(engine, executor)).await;
    Ok(())
}
