//! Layers as tar archives that come out the same, byte for byte, for the same contents.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::place::Place;
use super::plan::{Layer, Node, Source};

/// The media type of a layer, of the OCI image specification. It is not compressed: what a cluster of one machine would
/// save in room, it would lose in time.
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Bytes under their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    /// What it is in the image, such as `libraries`.
    pub(crate) name: &'static str,
    /// Its media type.
    pub(crate) media_type: &'static str,
    /// `sha256:` and 64 hexadecimal digits.
    pub(crate) digest: String,
    /// Its length, in bytes.
    pub(crate) size: u64,
    /// The bytes.
    pub(crate) source: Source,
}

impl Blob {
    /// A blob of bytes that are here.
    pub(crate) fn new(name: &'static str, media_type: &'static str, bytes: Vec<u8>) -> Self {
        let digest = digest(&Sha256::digest(&bytes));
        Self { name, media_type, digest, size: bytes.len() as u64, source: Source::Bytes(bytes) }
    }

    /// Its path in an image layout.
    pub(crate) fn path(&self) -> String {
        format!("blobs/{}", self.digest.replacen(':', "/", 1))
    }
}

/// Writes a layer into a new file.
///
/// # Errors
/// Which file can't be read or written, or has changed under way.
pub(crate) fn write(layer: &Layer, to: &Path) -> Result<Blob, String> {
    let said = |error: io::Error| format!("{}: {error}", to.display());
    let file = File::create_new(to).map_err(said)?;
    let mut tar = Builder::new(Hashing { to: BufWriter::new(file), hash: Sha256::new(), size: 0 });
    for (place, node) in &layer.nodes {
        append(&mut tar, place, node)?;
    }
    let mut hashing = tar.into_inner().map_err(said)?;
    hashing.to.flush().map_err(said)?;
    Ok(Blob {
        name: layer.name,
        media_type: LAYER,
        digest: digest(&hashing.hash.finalize()),
        size: hashing.size,
        source: Source::File(to.to_owned()),
    })
}

/// Adds what lies at a place: owned by root, of the year 1970, its mode decided by what it is alone.
fn append(tar: &mut Builder<impl Write>, place: &Place, node: &Node) -> Result<(), String> {
    let said = |error: io::Error| format!("{place}: {error}");
    match node {
        Node::Folder(mode) => {
            let mut header = header(EntryType::Directory, *mode, 0);
            tar.append_data(&mut header, format!("{}/", place.name()), io::empty()).map_err(said)
        }
        Node::Link(target) => {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, place.name(), target).map_err(said)
        }
        Node::File { source, program } => {
            let mode = if *program { 0o755 } else { 0o644 };
            append_file(tar, place.name(), mode, source).map_err(|error| format!("{place}: {error}"))
        }
    }
}

/// Adds a file to an archive.
///
/// # Errors
/// Which file can't be read, or has changed under way; what the archive says.
pub(crate) fn append_file(
    tar: &mut Builder<impl Write>,
    name: &str,
    mode: u32,
    source: &Source,
) -> Result<(), String> {
    match source {
        Source::Bytes(bytes) => {
            let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_slice()).map_err(|error| error.to_string())
        }
        Source::File(path) => {
            let said = |error: io::Error| format!("{}: {error}", path.display());
            let file = File::open(path).map_err(said)?;
            let size = file.metadata().map_err(said)?.len();
            let mut header = header(EntryType::Regular, mode, size);
            // The header is written before the bytes, so that they must be as many as it tells.
            let mut rest = file.take(size);
            tar.append_data(&mut header, name, &mut rest).map_err(said)?;
            match rest.limit() {
                0 => Ok(()),
                short => {
                    Err(format!("{} has become {short} bytes shorter while it was read", path.display()))
                }
            }
        }
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn digest(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Counts and hashes what goes through it.
struct Hashing<W> {
    to: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_of_any_length_and_modes_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("/{}/{}", "d".repeat(90), "f".repeat(120));
        let target = "t".repeat(130);
        let nodes = BTreeMap::from([
            (Place::new("/tmp").unwrap(), Node::Folder(0o1777)),
            (Place::new(&long).unwrap(), Node::File { source: Source::Bytes(b"x".to_vec()), program: true }),
            (Place::new("/z").unwrap(), Node::Link(format!("../{target}"))),
        ]);
        let path = folder.path().join("layer.tar");
        let blob = write(&Layer { name: "files", nodes }, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((blob.size, &blob.digest), (bytes.len() as u64, &Blob::new("", "", bytes.clone()).digest));

        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut read = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            read.push((entry.path().unwrap().display().to_string(), header.mode().unwrap(), link));
        }
        let expected = [
            (long[1..].to_owned(), 0o755, None),
            ("tmp/".to_owned(), 0o1777, None),
            ("z".to_owned(), 0o777, Some(format!("../{target}"))),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn the_digest_is_that_of_sha256() {
        // The digest of "abc" in FIPS 180-4's examples.
        let blob = Blob::new("config", "x", b"abc".to_vec());
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(blob.digest, format!("sha256:{hex}"));
        assert_eq!(blob.path(), format!("blobs/sha256/{hex}"));
    }

    #[test]
    fn a_file_that_is_gone_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::File(folder.path().join("gone"));
        let nodes = BTreeMap::from([(Place::new("/x").unwrap(), Node::File { source, program: false })]);
        let message = write(&Layer { name: "files", nodes }, &folder.path().join("layer")).unwrap_err();
        assert!(message.contains("/x: ") && message.contains("gone"), "{message}");
    }
}
