//! Whole images, read back.

mod linked;

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::image::options::Given;

/// What an image is made of, in a folder of its own: this test program, which is a program of this machine like any
/// other, certificates, and a folder.
pub(crate) struct Sample {
    folder: TempDir,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        fs::copy(std::env::current_exe().unwrap(), this.at("trainer")).unwrap();
        fs::write(this.at("certificates.crt"), "a certificate").unwrap();
        this.fill(&["one", "two", "three"]);
        this
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes the folder anew, its files in the given order, on which the order of reading may depend.
    fn fill(&self, names: &[&str]) {
        let _ = fs::remove_dir_all(self.at("data"));
        fs::create_dir_all(self.at("data/inner")).unwrap();
        for name in names {
            fs::write(self.at("data").join(name), format!("{name}\n")).unwrap();
        }
        symlink("../one", self.at("data/inner/link")).unwrap();
    }

    /// Adds a byte behind what the loader reads.
    pub(crate) fn change_program(&self) {
        let mut bytes = fs::read(self.at("trainer")).unwrap();
        bytes.push(0);
        fs::write(self.at("trainer"), bytes).unwrap();
    }

    /// The image, its layers in a new folder of the given name.
    pub(crate) fn image(&self, work: &str) -> Image {
        let work = self.at(work);
        fs::create_dir(&work).unwrap();
        let (binary, certificates) = (self.at("trainer"), self.at("certificates.crt"));
        let given = Given { source: self.at("data"), place: Place::new("/data").unwrap() };
        let contents = Contents {
            binary: &binary,
            items: given::folder(&given).unwrap(),
            certificates: &certificates,
            user: "65532".parse().unwrap(),
        };
        let env = ["MODE=fast".parse().unwrap()];
        make(contents, &env, OsStr::new(""), &work).unwrap()
    }
}

fn digests(image: &Image) -> Vec<(&'static str, String)> {
    image.parts().map(|blob| (blob.name, blob.digest.clone())).collect()
}

/// The files of a tar archive, by name, each checked to be there once.
fn files(bytes: &[u8]) -> HashMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let mut files = HashMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = entry.path().unwrap().display().to_string();
        assert!(files.insert(name.clone(), bytes).is_none(), "{name} is there twice");
    }
    files
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    let sample = Sample::new();
    let name: Reference = "trainer:1".parse().unwrap();
    let first = sample.image("first");
    layout::write(&first, &name, &sample.at("first.tar")).unwrap();

    sample.fill(&["three", "two", "one"]);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for file in ["trainer", "data/two", "data", "certificates.crt"] {
        File::open(sample.at(file)).unwrap().set_modified(old).unwrap();
    }
    fs::set_permissions(sample.at("data/two"), Permissions::from_mode(0o600)).unwrap();
    let second = sample.image("second");
    layout::write(&second, &name, &sample.at("second.tar")).unwrap();
    let read = |name: &str| fs::read(sample.at(name)).unwrap();
    assert!(read("first.tar") == read("second.tar"));
}

#[test]
fn a_change_is_one_of_its_own_layer() {
    let sample = Sample::new();
    let before = digests(&sample.image("before"));
    let changed = |after: &Image| -> Vec<_> {
        let after = digests(after);
        before.iter().zip(&after).filter(|(one, other)| one != other).map(|(one, _)| one.0).collect()
    };
    sample.change_program();
    assert_eq!(changed(&sample.image("program")), ["program", "config"]);

    let sample = Sample::new();
    fs::write(sample.at("data/two"), "other").unwrap();
    let image = sample.image("after");
    assert_eq!(changed(&image), ["files", "config"]);
}

#[test]
fn the_layout_is_read_back_and_every_digest_is_right() {
    let sample = Sample::new();
    let image = sample.image("work");
    let output = sample.at("new/folder/image.tar");
    layout::write(&image, &"team/trainer:1".parse().unwrap(), &output).unwrap();
    let files = files(&fs::read(&output).unwrap());
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let blob = |descriptor: &Value| -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(Blob::new("", "", bytes.clone()).digest, digest);
        assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().unwrap());
        bytes.clone()
    };
    assert_eq!(json(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
    let index = json(&files["index.json"]);
    let annotations = &index["manifests"][0]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], "kf.local/team/trainer:1");
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1");
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    let layers = manifest["layers"].as_array().unwrap();
    let contents: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    assert_eq!(config["rootfs"]["diff_ids"], Value::Array(contents));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/app/trainer"]));
    assert!(config["config"]["Env"].as_array().unwrap().contains(&"MODE=fast".into()));
    assert_eq!(files.len(), 2 + 2 + layers.len());

    let layers: Vec<_> = layers.iter().map(|layer| self::files(&blob(layer))).collect();
    let [base, libraries, given, program] = layers.as_slice() else { panic!("{} layers", layers.len()) };
    assert!(base["etc/passwd"].windows(6).any(|part| part == b":65532"));
    assert!(base.contains_key("tmp/"));
    assert_eq!(libraries["etc/ssl/certs/ca-certificates.crt"], b"a certificate");
    let libc = libraries.keys().filter(|name| name.contains("/libc.")).count();
    assert_eq!(libc, 1, "{:?}", libraries.keys());
    assert_eq!(given["data/two"], b"two\n");
    assert!(given.contains_key("data/inner/link"));
    let names: Vec<_> = program.keys().filter(|name| !name.ends_with('/')).collect();
    assert_eq!(names, ["app/trainer"]);
    assert!(program["app/trainer"] == fs::read(sample.at("trainer")).unwrap());
}

#[test]
fn an_image_that_can_not_be_written_leaves_nothing() {
    let sample = Sample::new();
    let image = sample.image("work");
    fs::remove_file(sample.at("work/files.tar")).unwrap();
    fs::create_dir(sample.at("out")).unwrap();
    let message = layout::write(&image, &"x".parse().unwrap(), &sample.at("out/image.tar")).unwrap_err();
    assert!(message.contains("files.tar"), "{message}");
    assert_eq!(fs::read_dir(sample.at("out")).unwrap().count(), 0);
}
