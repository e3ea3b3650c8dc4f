//! Keeping what an attempt gave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kf_core::artifact::{ArtifactKind, ArtifactRef, ArtifactStore, ClassificationMetrics, Metadata, Metrics};

use super::executor::AttemptOutputs;
use crate::plan;
use crate::scheduler::{Failure, Values};
use crate::spec::ArtifactType;

/// Checks what an attempt gave against what its component declares, and keeps its artifacts.
pub(super) async fn keep(
    store: &ArtifactStore,
    declared: &plan::Outputs,
    given: AttemptOutputs,
    paths: &BTreeMap<String, PathBuf>,
) -> Result<Values, Failure> {
    let mut parameters = Vec::with_capacity(declared.parameters.len());
    let mut values = given.parameters;
    for (name, output) in &declared.parameters {
        let Some(value) = values.remove(name) else {
            return Err(Failure::task(format!("gave no output `{name}`")));
        };
        if !value.is_null() && !output.kind().accepts(&value) {
            let wanted = output.kind();
            return Err(Failure::task(format!("output `{name}`: expected {wanted:?}, found {value}")));
        }
        parameters.push((Arc::from(name.as_str()), Arc::new(value)));
    }
    let mut said = given.artifacts;
    let mut artifacts = Vec::with_capacity(declared.artifacts.len());
    for (name, output) in &declared.artifacts {
        let metadata = said.remove(name).unwrap_or_default();
        let path = paths.get(name).map(PathBuf::as_path);
        let artifact = keep_one(store, name, &output.artifact_type, path, metadata).await?;
        artifacts.push((Arc::from(name.as_str()), Arc::from([artifact])));
    }
    Ok(Values::new(parameters, artifacts))
}

async fn keep_one(
    store: &ArtifactStore,
    name: &str,
    kind: &ArtifactType,
    path: Option<&Path>,
    metadata: Metadata,
) -> Result<ArtifactRef, Failure> {
    let mut artifact = ArtifactRef {
        name: name.to_owned(),
        schema_title: kind.schema_title.clone(),
        uri: String::new(),
        digest: None,
        size: 0,
        metadata,
    };
    match path.filter(|path| path.symlink_metadata().is_ok()) {
        Some(path) => {
            let stored = store.put_path_owned(path).await;
            let stored = stored.map_err(|error| Failure::carrier(format!("output `{name}`: {error}")))?;
            artifact.uri = store.uri(&stored.digest);
            artifact.digest = Some(stored.digest);
            artifact.size = stored.size;
        }
        None if [Metrics::SCHEMA_TITLE, ClassificationMetrics::SCHEMA_TITLE]
            .contains(&kind.schema_title.as_str()) => {}
        None => {
            let problem =
                format!("wrote nothing to its output `{name}`: expected a file or folder at its path");
            return Err(Failure::task(problem));
        }
    }
    Ok(artifact)
}
