//! Keeping what an attempt gave.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kf_core::artifact::{
    ArtifactKind, ArtifactRef, ArtifactStore, ClassificationMetrics, Metadata, Metrics, Stored,
};

use super::executor::{AttemptOutputs, GivenArtifact};
use super::links::Links;
use crate::component::{Memory, Written};
use crate::deep::refuse_deep;
use crate::error::shown;
use crate::plan::Name;
use crate::scheduler::{Failure, Values};
use crate::spec::{ArtifactOutput, OutputDefinitions};

/// What outputs a component must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// All that it declares, and a file or folder for each artifact.
    All,
    /// What it likes: upstream's containers may leave out any, and the paths that they were given stay what they are.
    Any,
}

/// Where what an attempt gave is to be kept.
pub(super) struct Keeping<'a> {
    pub(super) store: &'a ArtifactStore,
    /// Where its output artifacts were to be written.
    pub(super) paths: &'a BTreeMap<String, PathBuf>,
    /// The content of its input artifacts.
    pub(super) inputs: &'a [PathBuf],
    pub(super) strictness: Strictness,
    pub(super) memory: &'a Memory,
}

/// Checks what an attempt gave against what its component declares, and keeps its artifacts.
pub(super) async fn keep(
    keeping: &Keeping<'_>,
    declared: &OutputDefinitions,
    given: AttemptOutputs,
) -> Result<Values, Failure> {
    let strictness = keeping.strictness;
    let mut parameters = Vec::with_capacity(declared.parameters.len());
    let mut values = given.parameters;
    for (name, output) in &declared.parameters {
        let Some(value) = values.remove(name) else {
            if strictness == Strictness::Any {
                continue;
            }
            return Err(Failure::task(format!("gave no output `{name}`")));
        };
        if !value.is_null() && !output.kind().accepts(&value) {
            let (wanted, found) = (output.kind(), shown(&value));
            return Err(Failure::task(format!("output `{name}`: expected {wanted}, found {found}")));
        }
        refuse_deep([&value]).map_err(|problem| Failure::task(format!("output `{name}`: {problem}")))?;
        parameters.push((Arc::from(name.as_str()), Arc::new(value)));
    }
    let artifacts = match declared.artifacts.is_empty() {
        true => Vec::new(),
        false => Box::pin(keep_artifacts(keeping, declared, given.artifacts)).await?,
    };
    Ok(Values::new(parameters, artifacts))
}

async fn keep_artifacts(
    keeping: &Keeping<'_>,
    declared: &OutputDefinitions,
    said: BTreeMap<String, Vec<GivenArtifact>>,
) -> Result<Vec<(Name, Arc<[ArtifactRef]>)>, Failure> {
    let (strictness, mut said) = (keeping.strictness, said);
    let mut artifacts = Vec::with_capacity(declared.artifacts.len());
    for (name, output) in &declared.artifacts {
        let keeper = Keeper {
            store: keeping.store,
            name,
            output,
            path: keeping.paths.get(name).map(PathBuf::as_path),
            inputs: keeping.inputs,
            strictness,
            memory: keeping.memory,
        };
        let said =
            said.remove(name).filter(|list| !list.is_empty()).unwrap_or_else(|| vec![Default::default()]);
        let mut list = Vec::with_capacity(said.len());
        for given in said {
            let refused = |problem| Failure::task(format!("output `{name}`, its metadata: {problem}"));
            refuse_deep(given.metadata.values()).map_err(refused)?;
            list.push(keeper.keep(given).await?);
        }
        artifacts.push((Arc::from(name.as_str()), Arc::from(list)));
    }
    Ok(artifacts)
}

/// Keeps the artifacts of one output.
struct Keeper<'a> {
    store: &'a ArtifactStore,
    name: &'a str,
    output: &'a ArtifactOutput,
    /// Where it was to be written.
    path: Option<&'a Path>,
    inputs: &'a [PathBuf],
    strictness: Strictness,
    memory: &'a Memory,
}

impl Keeper<'_> {
    /// Takes a file that was hashed when it was written; none where it was changed since.
    async fn take_written(&self, path: &Path, written: Written) -> Result<Option<Stored>, Failure> {
        if !written.is_still(path) {
            return Ok(None);
        }
        let stored = self.store.put_path_hashed(path, written.digest).await;
        let stored = stored.map_err(|error| Failure::carrier(format!("output `{}`: {error}", self.name)))?;
        self.memory.keep(stored.digest, written.value);
        Ok(Some(stored))
    }

    async fn keep(&self, given: GivenArtifact) -> Result<ArtifactRef, Failure> {
        let mut metadata: Metadata = self.output.metadata.clone();
        metadata.extend(given.metadata);
        let schema_title = &self.output.artifact_type.schema_title;
        let mut artifact = ArtifactRef {
            name: self.name.to_owned(),
            schema_title: schema_title.clone(),
            uri: given.uri.clone().unwrap_or_default(),
            digest: None,
            size: 0,
            metadata,
        };
        if let Some(stored) = given.stored {
            let there = self.store.contains(&stored.digest).await;
            let there =
                there.map_err(|error| Failure::carrier(format!("output `{}`: {error}", self.name)))?;
            if !there {
                let problem = format!(
                    "output `{}`: `{}` is said to be stored, and is not in the engine's artifact store: does whoever ran the \
                     task use the same one?",
                    self.name, stored.digest
                );
                return Err(Failure::carrier(problem));
            }
            artifact.uri = self.store.uri(&stored.digest);
            (artifact.digest, artifact.size) = (Some(stored.digest), stored.size);
            return Ok(artifact);
        }
        if given.uri.is_some() {
            return Ok(artifact);
        }
        let planned = self.path.filter(|path| path.symlink_metadata().is_ok());
        // Where the content is, and whether that is the place that it was given.
        let content = match given.path.as_deref() {
            Some(path) if Some(path) != planned => Some((path, false)),
            _ => planned.map(|path| (path, true)),
        };
        match content {
            Some((path, own)) => {
                let taken = match given.written.filter(|_| own) {
                    Some(written) => self.take_written(path, written).await?,
                    None => None,
                };
                let stored = match taken {
                    Some(stored) => stored,
                    None => self.take(path, own).await?,
                };
                artifact.uri = self.uri(&stored, path);
                if own && self.strictness == Strictness::Any {
                    self.leave_link(&stored, path).await?;
                }
                (artifact.digest, artifact.size) = (Some(stored.digest), stored.size);
            }
            None if self.strictness == Strictness::Any => {
                artifact.uri = self.path.map(|path| path.display().to_string()).unwrap_or_default();
            }
            None if [Metrics::SCHEMA_TITLE, ClassificationMetrics::SCHEMA_TITLE]
                .contains(&schema_title.as_str()) => {}
            None => {
                let problem = format!(
                    "wrote nothing to its output `{}`: expected a file or folder at its path",
                    self.name
                );
                return Err(Failure::task(problem));
            }
        }
        Ok(artifact)
    }

    /// Puts content into the store: away from its place where that is the attempt's own.
    async fn take(&self, path: &Path, own: bool) -> Result<Stored, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::carrier(format!("output `{}`, at `{}`: {error}", self.name, path.display()))
        };
        let real = match own {
            true => {
                let refused = |error: io::Error| Failure::task(format!("output `{}`: {error}", self.name));
                let links = Links::of_output(path, self.inputs).map_err(|error| failed(&error))?;
                let real = links.resolve(path).map_err(refused)?;
                if self.strictness == Strictness::Any && links.owns(&real) && real.is_dir() {
                    let folder = real.clone();
                    let followed = tokio::task::spawn_blocking(move || links.replace(&folder)).await;
                    followed.map_err(|error| failed(&error))?.map_err(refused)?;
                }
                real
            }
            // Named by the task itself, wherever it is.
            false => path.canonicalize().map_err(|error| failed(&error))?,
        };
        let stored = match own && real == path {
            true => self.store.put_path_owned(path).await,
            false => self.store.put_path(&real).await,
        };
        stored.map_err(|error| failed(&error))
    }

    /// What to call it: upstream's containers know their artifacts by the place where they were written.
    fn uri(&self, stored: &Stored, path: &Path) -> String {
        let uri = self.store.uri(&stored.digest);
        match self.strictness == Strictness::Any && uri.starts_with("file:") {
            true => path.display().to_string(),
            false => uri,
        }
    }

    /// Leaves a link to the content where the container wrote it, so that the path which it may have passed on leads
    /// there.
    async fn leave_link(&self, stored: &Stored, path: &Path) -> Result<(), Failure> {
        let failed = |problem: String| Failure::carrier(format!("output `{}`: {problem}", self.name));
        let content = self.store.fetch(&stored.digest).await.map_err(|error| failed(error.to_string()))?;
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(_) => Ok(()),
        }
        .and_then(|()| std::os::unix::fs::symlink(content, path))
        .map_err(|error| failed(format!("leave a link at `{}`: {error}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Named;

    #[tokio::test]
    async fn what_a_journal_could_not_hold_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::in_memory(folder.path()).unwrap();
        let deep = |depth| (0..depth).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
        let output = serde_json::from_str(r#"{"parameterType": "LIST"}"#).unwrap();
        let declared = OutputDefinitions {
            parameters: Named::from([("x".to_owned(), output)]),
            ..OutputDefinitions::default()
        };
        let kept = async |value: serde_json::Value| {
            let parameters = [("x".to_owned(), value)].into_iter().collect();
            let given = AttemptOutputs { parameters, ..AttemptOutputs::default() };
            let (paths, memory) = (BTreeMap::new(), Memory::new(0));
            let keeping = Keeping {
                store: &store,
                paths: &paths,
                inputs: &[],
                strictness: Strictness::All,
                memory: &memory,
            };
            keep(&keeping, &declared, given).await
        };
        let values = kept(deep(100)).await.unwrap();
        let written = serde_json::to_string(&[serde_json::json!({"outputs": values})]).unwrap();
        serde_json::from_str::<serde_json::Value>(&written).unwrap();
        assert!(
            kept(deep(101))
                .await
                .unwrap_err()
                .message
                .contains("output `x`: lists and objects lie more than 100")
        );
        let long = kept(serde_json::json!("x".repeat(1 << 20))).await.unwrap_err();
        assert!(long.message.len() < 500, "{long}");
    }
}
