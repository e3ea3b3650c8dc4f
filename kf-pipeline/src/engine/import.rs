//! Importers, which the engine carries itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use kf_core::artifact::{ArtifactRef, ArtifactStore, Metadata};
use serde_json::Value as Json;

use crate::placeholder::{self, Placeholder, RunNames};
use crate::scheduler::{Failure, Launch, Values};
use crate::spec::{ArtifactType, ImporterSpec, RuntimeValue};

/// The output of an importer.
const OUTPUT: &str = "artifact";

/// Takes in what an importer names.
pub(super) async fn import(
    store: &ArtifactStore,
    importer: &ImporterSpec,
    launch: &Launch,
    names: &RunNames,
) -> Result<Values, Failure> {
    let lookup = |placeholder: Placeholder<'_>| {
        let Placeholder::InputParameter(name) = placeholder else {
            return Ok(names.look_up(&launch.task, placeholder));
        };
        let value = launch.inputs.parameter(name).map(|value| value.as_ref().clone());
        let missing = || format!("its placeholder asks for input `{name}`, which has no value");
        value.map(Some).ok_or_else(missing)
    };
    let permanent = |problem: String| Failure::task(problem).permanent();
    let uri = match &importer.artifact_uri {
        RuntimeValue::Constant(uri) => Some(placeholder::replace(uri, &lookup).map_err(permanent)?),
        RuntimeValue::RuntimeParameter(name) => {
            launch.inputs.parameter(name).map(|value| value.as_ref().clone())
        }
        RuntimeValue::ConstantValue(value) => Some(value.to_json().map_err(permanent)?),
    };
    let uri = uri.as_ref().and_then(Json::as_str);
    let uri = uri.ok_or_else(|| Failure::task("the URI is not a text").permanent())?;
    let metadata = placeholder::replace_fields(&importer.metadata, &lookup).map_err(permanent)?;
    let artifact = take(store, OUTPUT, uri, &importer.type_schema, metadata).await;
    let artifact = artifact.map_err(|problem| Failure::task(format!("import {problem}")))?;
    Ok(Values::new(Vec::new(), vec![(Arc::from(OUTPUT), Arc::from([artifact]))]))
}

/// Takes in an artifact that lies outside of the store. Local content is copied and hashed; what lies elsewhere is
/// named, not read.
///
/// # Errors
/// Names the URI, and says what is wrong.
pub(super) async fn take(
    store: &ArtifactStore,
    name: &str,
    uri: &str,
    kind: &ArtifactType,
    metadata: Metadata,
) -> Result<ArtifactRef, String> {
    let mut artifact = ArtifactRef {
        name: name.to_owned(),
        schema_title: kind.schema_title.clone(),
        uri: uri.to_owned(),
        digest: None,
        size: 0,
        metadata,
    };
    if let Some(path) = local_path(uri).map_err(|problem| format!("`{uri}`: {problem}"))? {
        // What an engine has given out itself is a link into the store.
        let real = path.canonicalize().unwrap_or(path);
        let stored = store.put_path(&real).await.map_err(|error| format!("`{uri}`: {error}"))?;
        artifact.digest = Some(stored.digest);
        artifact.size = stored.size;
    }
    Ok(artifact)
}

/// The path that a `file` URI (RFC 8089) or a plain path names; none for what lies elsewhere.
fn local_path(uri: &str) -> Result<Option<PathBuf>, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let scheme = uri.split_once(':').filter(|(scheme, _)| scheme.len() > 1 && scheme.chars().all(word));
    let Some((scheme, rest)) = scheme.filter(|(scheme, rest)| {
        // Without slashes it is a scheme only where it is one that has a meaning here.
        rest.starts_with("//") || scheme.eq_ignore_ascii_case("file")
    }) else {
        return Ok(Some(PathBuf::from(uri)));
    };
    if !scheme.eq_ignore_ascii_case("file") {
        return Ok(None);
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err(format!(
                    "names the machine `{host}`; for a local file write `file:///…` or a path"
                ));
            }
            path
        }
    };
    Ok(Some(PathBuf::from(OsString::from_vec(decoded(path)))))
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
        let path = |uri| local_path(uri).unwrap().map(|path| path.display().to_string());
        assert_eq!(path("file:///a%20b/%C3%A9%2").as_deref(), Some("/a b/é%2"));
        assert_eq!(path("file://localhost/a").as_deref(), Some("/a"));
        assert_eq!(path("FILE://LOCALHOST/a").as_deref(), Some("/a"));
        assert_eq!(path("file:/a%20b").as_deref(), Some("/a b"));
        assert_eq!(path("a:b").as_deref(), Some("a:b"));
        assert!(local_path("file://data/digits").unwrap_err().contains("`data`"));
        assert_eq!(path("a%20b").as_deref(), Some("a%20b"));
        assert_eq!(path("100%/+%+f").as_deref(), Some("100%/+%+f"));
        assert_eq!(path("s3://bucket/a"), None);
    }
}
