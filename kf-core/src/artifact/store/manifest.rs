//! A folder as content: the list of its files, in one canonical form, so that equal folders have equal digests.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Result};

/// How every manifest begins.
const MAGIC: &[u8] = br#"{"kf_folder":1,"#;

/// A folder's files, by path, and its empty folders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    kf_folder: u32,
    pub(super) files: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) empty: Vec<String>,
}

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Relative, with `/` between its parts.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) digest: Digest,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) executable: bool,
}

impl Manifest {
    pub(super) fn new(mut files: Vec<Entry>, mut empty: Vec<String>) -> Self {
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        empty.sort_unstable();
        Self { kf_folder: 1, files, empty }
    }

    /// The canonical text.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always make JSON")
    }

    /// Whether content that begins so may be a manifest.
    pub(super) fn may_begin(content: &[u8]) -> bool {
        content.starts_with(MAGIC)
    }

    /// The manifest, where `content` is one in canonical form whose paths stay inside the folder.
    pub(super) fn parse(content: &[u8]) -> Option<Self> {
        if !Self::may_begin(content) {
            return None;
        }
        let manifest: Self = serde_json::from_slice(content).ok()?;
        let mut seen = HashSet::new();
        let mut paths = manifest.files.iter().map(|file| &file.path).chain(&manifest.empty);
        let sound = paths.all(|path| is_inside(path) && seen.insert(path.as_str()))
            // Nor may a file be another's folder.
            && seen.iter().all(|path| parents(path).all(|parent| !seen.contains(parent)));
        (sound
            && Self::new(manifest.files.clone(), manifest.empty.clone()) == manifest
            && manifest.to_bytes() == content)
            .then_some(manifest)
    }

    /// The files' sizes added up.
    pub(super) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

fn is_inside(path: &str) -> bool {
    path.split('/').all(is_plain_name)
}

fn is_plain_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// What is in a folder on disk.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<Listed>,
    pub(super) empty: Vec<String>,
}

/// A file in a folder on disk.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) path: String,
    pub(super) full: PathBuf,
    pub(super) executable: bool,
}

/// Lists a folder.
///
/// # Errors
/// [`Error::Invalid`] for anything that is neither a file nor a folder, and for names that not every store can
/// keep.
pub(super) fn list(root: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut left = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = left.pop() {
        let mut any = false;
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            any = true;
            let full = entry.map_err(Error::io("list", &folder))?.path();
            let name = full.file_name().and_then(|name| name.to_str()).filter(|name| is_plain_name(name));
            let Some(name) = name else {
                return Err(refuse(&full, "a UTF-8 file name without control characters and backslashes"));
            };
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let meta = fs::symlink_metadata(&full).map_err(Error::io("look at", &full))?;
            if meta.is_dir() {
                left.push((full, path));
            } else if meta.is_file() {
                let executable = meta.permissions().mode() & 0o100 != 0;
                listing.files.push(Listed { path, full, executable });
            } else {
                return Err(refuse(&full, kind_expected(&meta)));
            }
        }
        if !any && !prefix.is_empty() {
            listing.empty.push(prefix);
        }
    }
    Ok(listing)
}

/// What to say of something that is neither file nor folder.
pub(super) fn kind_expected(meta: &fs::Metadata) -> &'static str {
    if meta.is_symlink() {
        "a file or a folder of files, not a symbolic link; copy what it leads to"
    } else {
        "a file or a folder of files, not a device, pipe or socket"
    }
}

pub(super) fn refuse(path: &Path, expected: &'static str) -> Error {
    Error::Invalid { what: "artifact path", found: path.display().to_string(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry { path: path.to_owned(), size: 1, digest: Digest::of("x"), executable: false }
    }

    #[test]
    fn order_of_listing_does_not_matter() {
        let one = Manifest::new(vec![entry("b"), entry("a/c")], vec!["z".into(), "d".into()]);
        let two = Manifest::new(vec![entry("a/c"), entry("b")], vec!["d".into(), "z".into()]);
        assert_eq!(one.to_bytes(), two.to_bytes());
        assert_eq!(Manifest::parse(&one.to_bytes()), Some(one));
    }

    #[test]
    fn paths_that_lead_out_or_clash_make_no_manifest() {
        for paths in [
            &["../x"][..],
            &["/x"],
            &["a//b"],
            &["."],
            &["a/./b"],
            &["a", "a"],
            &["a", "a/b"],
            &["a\\b"],
            &[""],
        ] {
            let files = paths.iter().map(|path| entry(path)).collect();
            assert_eq!(Manifest::parse(&Manifest::new(files, vec![]).to_bytes()), None, "{paths:?}");
        }
        let mut text = Manifest::new(vec![entry("a")], vec![]).to_bytes();
        text.push(b'\n');
        assert_eq!(Manifest::parse(&text), None, "not canonical");
        assert_eq!(Manifest::parse(br#"{"kf_folder":1,"files":"#), None, "truncated");
    }
}
