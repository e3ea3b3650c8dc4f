//! Finding an earlier execution that may stand for a task.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use kf_core::artifact::ArtifactStore;
use kf_core::metadata::{ExecutionRecord, MetadataStore};
use kf_core::{Digest, Hasher, RunId};
use serde_json::json;

use super::Inner;
use crate::plan::{Executor, Work};
use crate::scheduler::{Launch, Values};

/// Looks for an execution of an earlier run that may stand for the task; also gives the key that it is looked for under.
/// Two tasks of one run that are the same in all are two tasks: they may draw lots.
pub(crate) async fn look_up(
    engine: &Inner,
    run: &RunId,
    launch: &Launch,
) -> (Option<Values>, Option<Digest>) {
    let key = key(&launch.executor, &launch.inputs, &engine.program);
    let Some(wanted) = &key else { return (None, None) };
    let hit = match find(engine.metadata.as_ref(), engine.home.artifacts(), run, wanted).await {
        Ok(hit) => hit,
        Err(error) => {
            tracing::warn!(task = %launch.task, %error, "the cache can't be read; the task runs");
            None
        }
    };
    (hit, key)
}

/// What a task must have in common with an earlier execution: its code, its parameters, its inputs' content and
/// what it declares to give. None where its code or its inputs' content is not known.
fn key(executor: &Executor, inputs: &Values, program: &Digest) -> Option<Digest> {
    let (component, container) = match &executor.work {
        Work::Component { name, container } => (Some(name.as_ref()), container.as_ref()),
        Work::Container(task) => (None, &task.container),
        Work::Importer(_) => return None,
    };
    // What was named and never read may have changed since.
    let mut named = inputs.artifacts().iter().flat_map(|(_, list)| list.iter());
    if named.any(|artifact| artifact.digest.is_none() && !artifact.uri.is_empty()) {
        return None;
    }
    let code = match (&executor.version, component) {
        (Some(version), _) => json!({"version": version}),
        (None, Some(_)) => json!({"program": program}),
        (None, None) => {
            json!({"image": container.image, "command": container.command, "args": container.args})
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
    let outputs: Vec<_> =
        executor.outputs.parameters.iter().map(|(name, output)| (name, output.kind())).collect();
    let kinds: Vec<_> = executor
        .outputs
        .artifacts
        .iter()
        .map(|(name, output)| (name, &output.artifact_type.schema_title))
        .collect();
    let text = json!({
        "format": 1,
        "component": [executor.module.as_str(), component.unwrap_or_default()],
        "code": code,
        "parameters": parameters,
        "artifacts": artifacts,
        "outputs": [json!(outputs), json!(kinds)],
    });
    Some(Digest::of(text.to_string()))
}

/// The outputs of an earlier execution under this key, where all of them still exist unchanged.
async fn find(
    metadata: &dyn MetadataStore,
    artifacts: &ArtifactStore,
    run: &RunId,
    key: &Digest,
) -> kf_core::Result<Option<Values>> {
    let found = metadata.cached(key).await?.filter(|execution| execution.run != *run);
    let Some(execution) = found else { return Ok(None) };
    for output in &execution.output_artifacts {
        if let Some(digest) = &output.artifact.digest
            && let Err(error) = artifacts.verify(digest).await
        {
            tracing::warn!(task = execution.task, run = %execution.run, %error, "a cached output is gone or was changed; the task runs again");
            return Ok(None);
        }
    }
    Ok(Some(outputs_of(execution)))
}

fn outputs_of(execution: ExecutionRecord) -> Values {
    let parameters = execution.outputs.into_iter().map(|(name, value)| (Arc::from(name), Arc::new(value)));
    let mut artifacts: Vec<(Arc<str>, Vec<_>)> = Vec::new();
    for output in execution.output_artifacts {
        match artifacts.iter_mut().find(|(port, _)| port.as_ref() == output.port) {
            Some((_, list)) => list.push(output.artifact),
            None => artifacts.push((Arc::from(output.port), vec![output.artifact])),
        }
    }
    let artifacts = artifacts.into_iter().map(|(port, list)| (port, Arc::from(list)));
    Values::new(parameters.collect(), artifacts.collect())
}

/// The digest of this program's file. Kept in `folder` as long as the file is the same.
pub(crate) fn program_digest(folder: &Path) -> std::io::Result<Digest> {
    let path = std::env::current_exe()?;
    // The program that runs, also where its file was replaced since.
    let itself = Path::new("/proc/self/exe");
    let mut file = File::open(if itself.exists() { itself } else { &path })?;
    let about = file.metadata()?;
    let modified = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let identity = Digest::of(format!("{} {} {modified}", path.display(), about.len()));
    let kept = folder.join(format!("program-{}", &identity.to_hex()[..16]));
    if let Some(digest) = std::fs::read_to_string(&kept).ok().and_then(|text| text.parse().ok()) {
        return Ok(digest);
    }
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    let digest = hasher.finish();
    // Only spares the next start some time.
    let aside = kept.with_extension(std::process::id().to_string());
    if std::fs::write(&aside, digest.to_string()).is_ok() {
        let _ = std::fs::rename(&aside, &kept);
    }
    Ok(digest)
}
