//! Paths inside an image.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// The beginning of names that mean a deletion in a layer.
const WHITEOUT: &str = ".wh.";

/// A path inside an image: absolute, made of plain names, so that it can't lead out of the image. Sorted, a folder
/// comes before what is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(String);

impl Place {
    /// The place that an absolute path of an image, or of this machine, names.
    ///
    /// # Errors
    /// Where the path is relative, has `..`, is not UTF-8, or has a name that a layer can't hold.
    pub(crate) fn new(path: impl AsRef<Path>) -> Result<Self, String> {
        let path = path.as_ref();
        let shown = path.display();
        if !path.is_absolute() {
            return Err(format!("`{shown}` is no path of an image: it must begin with `/`"));
        }
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let name =
                        name.to_str().ok_or_else(|| format!("`{shown}` is not UTF-8; rename the file"))?;
                    if name.starts_with(WHITEOUT) {
                        return Err(format!(
                            "`{shown}`: in an image, a name that begins with `{WHITEOUT}` deletes a file; rename it"
                        ));
                    }
                    if name.contains(char::is_control) {
                        return Err(format!("`{shown}` has a control character in it; rename the file"));
                    }
                    names.push(name);
                }
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(format!(
                        "`{shown}` has `..` in it, which may lead out of the image; write it without"
                    ));
                }
            }
        }
        Ok(Self(names.join("/")))
    }

    /// The place of something below this one, by a relative path.
    ///
    /// # Errors
    /// As [`Place::new`].
    pub(crate) fn below(&self, path: &Path) -> Result<Self, String> {
        Self::new(Path::new("/").join(&self.0).join(path))
    }

    /// The folder it is in; `None` for the root, and `/` for what is in it.
    pub(crate) fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some((parent, _)) => Some(Self(parent.to_owned())),
            None if self.is_root() => None,
            None => Some(Self(String::new())),
        }
    }

    /// Whether it is `/`.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// How many folders it is below the root; 0 for the root.
    pub(crate) fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.split('/').count() }
    }

    /// As a layer names it: without the first `/`.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

/// The absolute path of a file of this machine without `..`, its own last name kept where it is a link.
///
/// # Errors
/// Where its folder is not there.
pub(crate) fn own_path(path: &Path) -> Result<PathBuf, String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let absolute = std::path::absolute(path).map_err(said)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(folder), Some(name)) => Ok(folder.canonicalize().map_err(said)?.join(name)),
        _ => absolute.canonicalize().map_err(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_order_puts_folders_first() {
        let place = Place::new("//usr/./lib/x.so").unwrap();
        assert_eq!((place.name(), place.to_string().as_str()), ("usr/lib/x.so", "/usr/lib/x.so"));
        assert_eq!(place.parent().unwrap().to_string(), "/usr/lib");
        assert_eq!(place.depth(), 3);
        let root = Place::new("/").unwrap();
        assert!(root.is_root() && root.parent().is_none());
        assert_eq!(Place::new("/a").unwrap().parent(), Some(root.clone()));
        assert_eq!(root.below(Path::new("a/b")).unwrap().to_string(), "/a/b");

        let mut places = ["/a/b", "/a-b", "/a", "/"].map(|path| Place::new(path).unwrap());
        places.sort();
        assert_eq!(places.map(|place| place.to_string()), ["/", "/a", "/a-b", "/a/b"]);
    }

    #[test]
    fn what_may_lead_out_or_delete_is_refused() {
        let cases = [
            ("relative", "must begin"),
            ("/a/../../etc/shadow", "`..`"),
            ("/..", "`..`"),
            ("/a/.wh.b", "deletes"),
            ("/a\nb", "control"),
            ("", "must begin"),
        ];
        for (path, why) in cases {
            let message = Place::new(path).unwrap_err();
            assert!(message.contains(why), "{path}: {message}");
        }
        assert!(Place::new("/a").unwrap().below(Path::new("../b")).is_err());
    }

    #[test]
    fn a_files_own_path_keeps_the_last_name() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("one")).unwrap();
        std::fs::write(real.join("x.so.1.2"), "").unwrap();
        std::os::unix::fs::symlink("x.so.1.2", real.join("x.so.1")).unwrap();
        assert_eq!(own_path(&real.join("one/../x.so.1")).unwrap(), real.join("x.so.1"));
        assert!(own_path(&real.join("none/x")).unwrap_err().contains("none/x"));
    }
}
