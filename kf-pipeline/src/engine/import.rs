//! Importers, which the engine carries itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
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
    if let Some(path) = local_path(uri) {
        let stored = store.put_path(&path).await;
        let stored = stored.map_err(|error| Failure::task(format!("import `{uri}`: {error}")))?;
        artifact.digest = Some(stored.digest);
        artifact.size = stored.size;
    }
    Ok(Values::new(Vec::new(), vec![(Arc::from("artifact"), Arc::from([artifact]))]))
}

/// The path that a `file` URI (RFC 8089) or a plain path names; none for what lies elsewhere.
fn local_path(uri: &str) -> Option<PathBuf> {
    match uri.split_once("://") {
        None => Some(PathBuf::from(uri)),
        Some(("file", rest)) => {
            let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
            Some(PathBuf::from(OsString::from_vec(decoded(path))))
        }
        Some(_) => None,
    }
}

/// Text with `%41` as `A`; a `%` before anything else stays what it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte = after.get(..2).filter(|_| first == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_paths() {
        let path = |uri| local_path(uri).map(|path| path.display().to_string());
        assert_eq!(path("file:///a%20b/%C3%A9%2").as_deref(), Some("/a b/é%2"));
        assert_eq!(path("file://localhost/a").as_deref(), Some("/a"));
        assert_eq!(path("a%20b").as_deref(), Some("a%20b"));
        assert_eq!(path("100%/+%+f").as_deref(), Some("100%/+%+f"));
        assert_eq!(path("s3://bucket/a"), None);
    }
}
