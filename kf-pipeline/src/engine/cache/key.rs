//! The cache key over content.

use kf_core::Digest;
use serde_json::json;

use crate::plan::{Executor, Work};
use crate::scheduler::Values;

/// What a task must have in common with an earlier execution: its code, its parameters, its inputs' content and
/// what it declares to give. None where its code or its inputs' content is not known.
pub(super) fn of(executor: &Executor, inputs: &Values, program: &Digest) -> Option<Digest> {
    let (component, container, kubernetes) = match &executor.work {
        Work::Component { name, container } => (Some(name.as_ref()), container.as_ref(), None),
        Work::Container(task) => (None, &task.container, Some(&task.kubernetes)),
        Work::Importer(_) | Work::Approval(_) => return None,
    };
    // What was named and never read may have changed since. Where a container was to write and wrote nothing, a path of
    // this machine is named, and there is nothing to read.
    let mut named = inputs.artifacts().iter().flat_map(|(_, list)| list.iter());
    if named.any(|artifact| artifact.digest.is_none() && artifact.uri.contains("://")) {
        return None;
    }
    let code = match (&executor.version, component) {
        (Some(version), _) => json!({"version": version}),
        (None, Some(_)) => json!({"program": program}),
        (None, None) => {
            json!({
                "image": container.image,
                "command": container.command,
                "args": container.args,
                "env": container.env,
                "kubernetes": kubernetes,
            })
        }
    };
    let mut artifacts: Vec<_> = inputs
        .artifacts()
        .iter()
        .map(|(name, list)| {
            let content = list.iter().map(|artifact| match artifact.digest {
                Some(digest) => json!({"digest": digest, "metadata": artifact.metadata}),
                None => json!({"metadata": artifact.metadata}),
            });
            (name.as_ref(), content.collect::<Vec<_>>())
        })
        .collect();
    artifacts.sort_by_key(|(name, _)| *name);
    let mut parameters: Vec<_> = inputs.named_parameters().collect();
    parameters.sort_by_key(|(name, _)| *name);
    let text = json!({
        "format": 2,
        "component": [executor.module.as_str(), component.unwrap_or_default()],
        "code": code,
        "parameters": parameters,
        "artifacts": artifacts,
        "outputs": executor.outputs.kinds(),
    });
    Some(Digest::of(text.to_string()))
}
