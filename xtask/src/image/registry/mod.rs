//! Pushing to a registry, by the OCI distribution specification 1.1 over plain HTTP.
//!
//! Without TLS and without a login: it is for registries on loopback or in a cluster. For others, the errors name a
//! tool that takes the image as a file.

#[cfg(test)]
mod fake;
#[cfg(test)]
mod judge;

use std::fs::File;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

use super::config::Image;
use super::layer::Blob;
use super::plan::Source;
use super::reference::Target;

/// How long a registry may take to be reached, and to answer a request once it has all of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The registry had it.
    There,
    /// It was sent.
    Sent,
}

/// Pushes the blobs of an image that the registry has not, then the manifest under its tag, and tells of each blob.
/// The image is in the registry whole, or not at all under that tag.
///
/// # Errors
/// What the registry refused, and what to do.
pub(crate) fn push(
    image: &Image,
    target: &Target,
    mut told: impl FnMut(&Blob, Pushed),
) -> Result<(), String> {
    let registry = Registry::new(target);
    for blob in image.parts() {
        let pushed = if registry.has(blob)? {
            Pushed::There
        } else {
            registry.send(blob)?;
            Pushed::Sent
        };
        told(blob, pushed);
    }
    registry.tag(&image.manifest)
}

struct Registry<'a> {
    agent: Agent,
    target: &'a Target,
}

impl<'a> Registry<'a> {
    fn new(target: &'a Target) -> Self {
        let config = Agent::config_builder()
            // What is not there is an answer here.
            .http_status_as_error(false)
            // A proxy for the world would not reach a registry in the cluster.
            .proxy(None)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .build();
        Self { agent: config.into(), target }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{}/{path}", self.target.host, self.target.name)
    }

    fn has(&self, blob: &Blob) -> Result<bool, String> {
        let what = format!("asking for {}", blob.name);
        let mut answer =
            self.answered(&what, self.agent.head(self.url(&format!("blobs/{}", blob.digest))).call())?;
        match answer.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refused(&what, &mut answer)),
        }
    }

    /// In two steps: the registry names a place for the upload, then takes all of it in one request.
    fn send(&self, blob: &Blob) -> Result<(), String> {
        let what = format!("pushing {}", blob.name);
        let mut answer = self.answered(&what, self.agent.post(self.url("blobs/uploads/")).send_empty())?;
        if answer.status() != 202 {
            return Err(self.refused(&what, &mut answer));
        }
        let location = answer.headers().get("Location").and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| {
            format!("{what} to {}: it names no place for it (no header `Location`)", self.target)
        })?;
        let put = self
            .agent
            .put(upload(&self.target.host, location, &blob.digest))
            .header("Content-Type", "application/octet-stream");
        let sent = match &blob.source {
            Source::Bytes(bytes) => put.send(bytes.as_slice()),
            Source::File(path) => {
                put.send(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?)
            }
        };
        let mut answer = self.answered(&what, sent)?;
        if answer.status() == 201 { Ok(()) } else { Err(self.refused(&what, &mut answer)) }
    }

    fn tag(&self, manifest: &Blob) -> Result<(), String> {
        let Source::Bytes(bytes) = &manifest.source else {
            return Err("a manifest that is not in memory".to_owned());
        };
        let what = "pushing the manifest";
        let put = self.agent.put(self.url(&format!("manifests/{}", self.target.tag)));
        let sent = put.header("Content-Type", manifest.media_type).send(bytes.as_slice());
        let mut answer = self.answered(what, sent)?;
        if answer.status() == 201 { Ok(()) } else { Err(self.refused(what, &mut answer)) }
    }

    fn answered(
        &self,
        what: &str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, String> {
        answer.map_err(|error| {
            format!(
                "{what} to {}: {error}; does a registry listen at {}, without TLS?",
                self.target, self.target.host
            )
        })
    }

    /// An answer that is none of those expected, with the first lines of what it says.
    fn refused(&self, what: &str, answer: &mut Response<Body>) -> String {
        let status = answer.status();
        let said = answer.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
        let said: String = said.trim().chars().take(300).collect();
        let hint = match status.as_u16() {
            401 | 403 => {
                "; it wants a login, for which write the image with --output, and \
                 `skopeo copy oci-archive:FILE docker://NAME:TAG`"
            }
            _ => "",
        };
        let said = if said.is_empty() { said } else { format!(": {said}") };
        format!("{what} to {}: the registry answers {status}{said}{hint}", self.target)
    }
}

/// The URL of an upload: the place that the registry named, which may be relative to the host or have a query, with
/// the digest of what comes.
fn upload(host: &str, location: &str, digest: &str) -> String {
    let base =
        if location.starts_with('/') { format!("http://{host}{location}") } else { location.to_owned() };
    let joint = if base.contains('?') { '&' } else { '?' };
    format!("{base}{joint}digest={digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_upload() {
        let cases = [
            ("/v2/a/blobs/uploads/1", "http://h:1/v2/a/blobs/uploads/1?digest=sha256:0"),
            ("http://h:2/up?state=x", "http://h:2/up?state=x&digest=sha256:0"),
        ];
        for (location, url) in cases {
            assert_eq!(upload("h:1", location, "sha256:0"), url);
        }
    }
}
