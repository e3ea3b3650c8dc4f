//! Between an [`Attempt`] and a component's body.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::executor::{Attempt, AttemptEnd, AttemptOutputs, GivenArtifact};
use crate::component::checkpoint::Checkpoints;
use crate::component::{Context, InputArtifact, LogSink, OutputArtifact, TaskIo, TaskIoParts, TaskOutputs};
use crate::mutex::locked;

/// The output artifacts, which the body fills.
pub(super) type BodyOutputs = BTreeMap<String, OutputArtifact>;

/// What the body of an attempt's component is handed.
pub(super) fn task_io(attempt: &Attempt, log: LogSink) -> (TaskIo, BodyOutputs) {
    let outputs = attempt.outputs.iter().map(|(name, path)| (name.clone(), OutputArtifact::at(path.clone())));
    let outputs: BodyOutputs = outputs.collect();
    let artifacts = attempt.artifacts.iter().map(|(name, list)| {
        let list = list.iter().map(|(artifact, path)| {
            let (artifact, path) = (artifact.clone(), path.clone());
            InputArtifact { artifact, path }
        });
        (name.clone(), list.collect())
    });
    let parts = TaskIoParts {
        parameters: attempt.parameters.clone(),
        artifacts: artifacts.collect(),
        outputs: outputs.clone(),
        context: Context {
            run: attempt.run.clone(),
            task: Arc::clone(&attempt.task),
            attempt: attempt.number,
            dir: attempt.dir.clone(),
            cancel: attempt.cancel.clone(),
            progress: attempt.progress.clone(),
            log,
            report: attempt.report.clone(),
            checkpoints: Checkpoints::of(attempt.checkpoint.clone()),
        },
        state: Arc::clone(&attempt.state),
        memory: attempt.memory.clone(),
    };
    (TaskIo(parts), outputs)
}

/// How an attempt ended whose body gave `result`.
pub(super) fn end_of(result: Result<TaskOutputs, AttemptEnd>, outputs: BodyOutputs) -> AttemptEnd {
    let parameters = match result {
        Ok(TaskOutputs(parameters)) => parameters,
        Err(end) => return end,
    };
    let artifacts = outputs.into_iter().map(|(name, output)| {
        let given = GivenArtifact {
            metadata: locked(&output.metadata).clone(),
            written: locked(&output.written).take(),
            ..GivenArtifact::default()
        };
        (name, vec![given])
    });
    AttemptEnd::Succeeded(AttemptOutputs { parameters, artifacts: artifacts.collect() })
}

/// What a body's panic says.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}
