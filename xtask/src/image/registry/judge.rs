//! Pushing to the registry that Docker and Debian distribute.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use ureq::Agent;

use super::super::config::MANIFEST;
use super::super::layer::Blob;
use super::super::reference::Target;
use super::super::tests::Sample;
use super::{Pushed, push};

/// Its program, of Debian's package of this name.
const PROGRAM: &str = "docker-registry";

/// Runs a program until the standard input closes, as it does when who started it ends, however it ends.
const SUPERVISE: &str = r#""$@" </dev/null & child=$!; read -r _; kill "$child"; wait "$child""#;

/// How long it may take to answer, and to write its log.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry of its own, with everything in a folder that goes with it.
struct Registry {
    shell: Child,
    port: u16,
    folder: TempDir,
}

impl Registry {
    /// Why there is none, where there is none.
    fn start() -> Result<Self, String> {
        let program =
            program().ok_or_else(|| format!("no `{PROGRAM}` on the path (Debian's package of this name)"))?;
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let config = folder.path().join("config.yml");
        let store = folder.path().join("store");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            store.display()
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISE, "sh"]).arg(program).arg("serve").arg(config);
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let this = Self { shell: command.spawn().unwrap(), port, folder };
        let began = Instant::now();
        while this.get("").is_none_or(|answer| answer.0 != 200) {
            assert!(began.elapsed() < PATIENCE, "it does not answer: {}", this.log());
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(this)
    }

    fn target(&self) -> Target {
        format!("127.0.0.1:{}/team/trainer:1", self.port).parse().unwrap()
    }

    /// The status, the digest that the registry tells, and the body, at a path below `/v2/`.
    fn get(&self, path: &str) -> Option<(u16, String, Vec<u8>)> {
        let agent: Agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let url = format!("http://127.0.0.1:{}/v2/{path}", self.port);
        let mut answer = agent.get(url).header("Accept", MANIFEST).call().ok()?;
        let digest =
            answer.headers().get("Docker-Content-Digest").map(|value| value.to_str().unwrap().to_owned());
        Some((
            answer.status().as_u16(),
            digest.unwrap_or_default(),
            answer.body_mut().with_config().limit(u64::MAX).read_to_vec().ok()?,
        ))
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The requests of its access log, as `METHOD PATH`, once it has logged `path`, which is asked for first.
    fn requests(&self, path: &str) -> Vec<String> {
        self.get(path).unwrap();
        let began = Instant::now();
        loop {
            let log = self.log();
            let requests: Vec<_> = log.lines().filter_map(request).collect();
            if requests.iter().any(|request| request.ends_with(path)) {
                return requests;
            }
            assert!(began.elapsed() < PATIENCE, "{log}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// `... "GET /v2/ HTTP/1.1" 200 ...`, the combined format of access logs.
fn request(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, _) = rest.split_once(" HTTP/1.1\" ")?;
    Some(request.to_owned())
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

fn push_to(registry: &Registry, sample: &Sample, work: &str) -> (Vec<(&'static str, Pushed)>, String) {
    let image = sample.image(work);
    let mut told = Vec::new();
    push(&image, &registry.target(), |blob, pushed| told.push((blob.name, pushed))).unwrap();
    (told, image.manifest.digest)
}

#[test]
fn a_registry_takes_an_image_once() {
    let registry = match Registry::start() {
        Ok(registry) => registry,
        Err(why) => {
            println!("JUDGE oci-registry skipped: {why}");
            return;
        }
    };
    let sample = Sample::new();
    let (first, digest) = push_to(&registry, &sample, "first");
    let names = ["base", "libraries", "files", "program", "config"];
    assert_eq!(first, names.map(|name| (name, Pushed::Sent)));

    let before = registry.requests("team/trainer/tags/list?n=1").len();
    let (second, again) = push_to(&registry, &sample, "second");
    assert_eq!((second, &again), (names.map(|name| (name, Pushed::There)).to_vec(), &digest));
    let requests = registry.requests("team/trainer/tags/list?n=2");
    let since = &requests[before..];
    assert_eq!(since.iter().filter(|request| request.starts_with("HEAD ")).count(), names.len(), "{since:?}");
    let changes: Vec<_> = since
        .iter()
        .filter(|request| !request.starts_with("HEAD ") && !request.starts_with("GET "))
        .collect();
    assert_eq!(changes, ["PUT /v2/team/trainer/manifests/1"], "{since:?}");

    let (_, _, tags) = registry.get("team/trainer/tags/list").unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&tags).unwrap()["tags"], serde_json::json!(["1"]));
    for name in [&digest, "1"] {
        let (status, told, manifest) = registry.get(&format!("team/trainer/manifests/{name}")).unwrap();
        assert_eq!((status, &told), (200, &digest));
        assert_eq!(Blob::new("manifest", MANIFEST, manifest).digest, digest);
    }
    let layers =
        serde_json::from_slice::<Value>(&registry.get("team/trainer/manifests/1").unwrap().2).unwrap();
    for layer in layers["layers"].as_array().unwrap() {
        let layer = layer["digest"].as_str().unwrap();
        let (status, _, bytes) = registry.get(&format!("team/trainer/blobs/{layer}")).unwrap();
        assert_eq!((status, Blob::new("layer", "", bytes).digest.as_str()), (200, layer));
    }

    // A new program, and the registry is sent that alone.
    sample.change_program();
    let (third, changed) = push_to(&registry, &sample, "third");
    let sent: Vec<_> =
        third.iter().filter(|(_, pushed)| *pushed == Pushed::Sent).map(|(name, _)| *name).collect();
    assert_eq!(sent, ["program", "config"]);
    assert_ne!(changed, digest);
    println!("JUDGE oci-registry passed");
}
