//! The two documents that make layers an image: its configuration and its manifest, as the OCI image specification
//! (version 1.1) has them.

use serde_json::{Value, json};

use super::layer::Blob;
use super::options::{User, Variable};

/// The media type of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The variable of the loader's search path.
const SEARCH: &str = "LD_LIBRARY_PATH";

/// How the program of an image is started.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The architecture, by its name in images.
    pub(crate) architecture: &'static str,
    /// The program's path in the image.
    pub(crate) program: String,
    /// Its variables, each as `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    /// As whom it runs.
    pub(crate) user: User,
}

/// The variables of the program's environment: a search path for programs, one for the libraries in `folders`, and
/// those that are given, of which the last of a name counts. A search path that is given goes before ours.
pub(crate) fn environment(folders: &[String], given: &[Variable]) -> Vec<String> {
    let mut all = vec![("PATH", "/app:/usr/local/bin:/usr/bin:/bin".to_owned())];
    if !folders.is_empty() {
        all.push((SEARCH, folders.join(":")));
    }
    for Variable { name, value } in given {
        match all.iter_mut().find(|(before, _)| before == name) {
            Some((_, before)) if name == SEARCH && !folders.is_empty() => {
                *before = format!("{value}:{}", folders.join(":"));
            }
            Some((_, before)) => before.clone_from(value),
            None => all.push((name, value.clone())),
        }
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// An image: its layers from the lowest, and what joins them.
#[derive(Debug)]
pub(crate) struct Image {
    /// The layers.
    pub(crate) layers: Vec<Blob>,
    /// How it is run.
    pub(crate) config: Blob,
    /// What it is made of; its digest is the image's.
    pub(crate) manifest: Blob,
}

impl Image {
    /// An image of layers.
    pub(crate) fn new(layers: Vec<Blob>, settings: &Settings) -> Self {
        let User { uid, gid } = settings.user;
        // Layers are not compressed, so that their digests are those of their contents, too.
        let contents: Vec<_> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": settings.architecture,
            "os": "linux",
            "config": {
                "User": format!("{uid}:{gid}"),
                "Env": settings.env,
                "Entrypoint": [settings.program],
            },
            "rootfs": { "type": "layers", "diff_ids": contents },
        });
        let config = Blob::new("config", CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(&config),
            "layers": layers.iter().map(descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::new("manifest", MANIFEST, manifest.to_string().into_bytes());
        Self { layers, config, manifest }
    }

    /// The blobs that the manifest names.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config])
    }
}

/// What another document says of a blob.
pub(crate) fn descriptor(blob: &Blob) -> Value {
    json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_given_win_but_libraries_stay_found() {
        let given =
            |pairs: &[&str]| -> Vec<Variable> { pairs.iter().map(|pair| pair.parse().unwrap()).collect() };
        let path = "PATH=/app:/usr/local/bin:/usr/bin:/bin";
        assert_eq!(environment(&[], &[]), [path]);
        let folders = ["/one".to_owned(), "/two".to_owned()];
        assert_eq!(
            environment(&folders, &given(&["A=1", "LD_LIBRARY_PATH=/mine", "A=2"])),
            [path, "LD_LIBRARY_PATH=/mine:/one:/two", "A=2"]
        );
        assert_eq!(
            environment(&[], &given(&["LD_LIBRARY_PATH=/a", "LD_LIBRARY_PATH=/b", "PATH=/x"])),
            ["PATH=/x", "LD_LIBRARY_PATH=/b"]
        );
    }
}
