//! Importers, which the engine carries itself.

use std::path::Path;
use std::sync::Arc;

use kf_core::artifact::{ArtifactRef, ArtifactStore, Metadata};
use serde_json::Value as Json;

use crate::scheduler::{Failure, Values};
use crate::spec::ArtifactType;

/// Takes in an artifact that lies outside of the store. Local content is copied and hashed; what lies elsewhere is
/// named, not read.
pub(super) async fn import(
    store: &ArtifactStore,
    uri: Option<&Json>,
    kind: &ArtifactType,
) -> Result<Values, Failure> {
    let uri = uri.and_then(Json::as_str).ok_or_else(|| Failure::task("the URI is not a text").permanent())?;
    let mut artifact = ArtifactRef {
        name: "artifact".to_owned(),
        schema_title: kind.schema_title.clone(),
        uri: uri.to_owned(),
        digest: None,
        size: 0,
        metadata: Metadata::new(),
    };
    let local = match uri.split_once("://") {
        Some(("file", path)) => Some(path),
        Some(_) => None,
        None => Some(uri),
    };
    if let Some(path) = local {
        let stored = store.put_path(Path::new(path)).await;
        let stored = stored.map_err(|error| Failure::task(format!("import `{uri}`: {error}")))?;
        artifact.digest = Some(stored.digest);
        artifact.size = stored.size;
    }
    Ok(Values::new(Vec::new(), vec![(Arc::from("artifact"), Arc::from([artifact]))]))
}
