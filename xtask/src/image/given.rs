//! The files and folders of this machine that are put into an image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::options::Given;
use super::place::{Place, own_path};
use super::plan::{FOLDER, Node, Source};

/// Something that is put into an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Where it lies in the image.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) node: Node,
    /// Where it lies here, with no link among the folders above it.
    pub(crate) origin: PathBuf,
    /// Whether it was asked for by itself, and not with its folder.
    pub(crate) by_name: bool,
}

/// A file under its own name.
///
/// # Errors
/// Where there is none.
pub(crate) fn file(given: &Given) -> Result<Item, String> {
    let Given { source, place } = given;
    let metadata = fs::metadata(source).map_err(|error| at(source, &error))?;
    if !metadata.is_file() {
        return Err(format!("{} is no file; a folder is given with --dir", source.display()));
    }
    let node = Node::File { source: Source::File(source.clone()), program: is_program(&metadata) };
    Ok(Item { place: place.clone(), node, origin: own_path(source)?, by_name: true })
}

/// A folder and all that is in it. Links in it stay links, and are not followed.
///
/// # Errors
/// Where there is none, where something in it can't be read or is neither file, folder nor link, or where a link
/// climbs out of the image.
pub(crate) fn folder(given: &Given) -> Result<Vec<Item>, String> {
    let Given { source, place } = given;
    let real = source.canonicalize().map_err(|error| at(source, &error))?;
    if !real.is_dir() {
        return Err(format!("{} is no folder; a file is given with --file", source.display()));
    }
    let mut items = vec![item(place.clone(), Node::Folder(FOLDER), real.clone())];
    let mut open = vec![(real, place.clone())];
    while let Some((folder, place)) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| at(&folder, &error))? {
            let entry = entry.map_err(|error| at(&folder, &error))?;
            let (path, place) = (entry.path(), place.below(entry.file_name().as_ref())?);
            let node = node(&path, &place)?;
            if matches!(node, Node::Folder(_)) {
                open.push((path.clone(), place.clone()));
            }
            items.push(item(place, node, path));
        }
    }
    Ok(items)
}

fn item(place: Place, node: Node, origin: PathBuf) -> Item {
    Item { place, node, origin, by_name: false }
}

fn node(path: &Path, place: &Place) -> Result<Node, String> {
    let metadata = fs::symlink_metadata(path).map_err(|error| at(path, &error))?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        Ok(Node::Folder(FOLDER))
    } else if kind.is_file() {
        Ok(Node::File { source: Source::File(path.to_owned()), program: is_program(&metadata) })
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(|error| at(path, &error))?;
        link(path, &target, place)
    } else {
        Err(format!("{} is neither file, folder nor link; an image can't hold it", path.display()))
    }
}

fn link(path: &Path, target: &Path, place: &Place) -> Result<Node, String> {
    let mut depth = if target.is_absolute() { 0 } else { place.depth().saturating_sub(1) };
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => {
                return Err(format!(
                    "the link {} points to {}, which from {place} leads out of the image; put its folder deeper, or \
                     replace the link",
                    path.display(),
                    target.display()
                ));
            }
            Component::ParentDir => depth -= 1,
            _ => {}
        }
    }
    let target = target.to_str();
    target
        .map(|target| Node::Link(target.to_owned()))
        .ok_or_else(|| format!("the link {} points to what is not UTF-8", path.display()))
}

fn is_program(metadata: &fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn given(source: &Path, place: &str) -> Given {
        Given { source: source.to_owned(), place: Place::new(place).unwrap() }
    }

    fn shown(items: &[Item]) -> Vec<(String, Node)> {
        let mut shown: Vec<_> =
            items.iter().map(|item| (item.place.to_string(), item.node.clone())).collect();
        shown.sort_by(|one, other| one.0.cmp(&other.0));
        shown
    }

    #[test]
    fn a_folder_is_taken_whole_with_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("bin/empty")).unwrap();
        fs::write(real.join("bin/run"), "x").unwrap();
        fs::set_permissions(real.join("bin/run"), fs::Permissions::from_mode(0o4710)).unwrap();
        fs::write(real.join("data"), "y").unwrap();
        symlink("../data", real.join("bin/link")).unwrap();

        let items = super::folder(&given(&real, "/opt/x")).unwrap();
        let file = |path: &str, program| Node::File { source: Source::File(real.join(path)), program };
        let expected = [
            ("/opt/x", Node::Folder(FOLDER)),
            ("/opt/x/bin", Node::Folder(FOLDER)),
            ("/opt/x/bin/empty", Node::Folder(FOLDER)),
            ("/opt/x/bin/link", Node::Link("../data".to_owned())),
            ("/opt/x/bin/run", file("bin/run", true)),
            ("/opt/x/data", file("data", false)),
        ];
        assert_eq!(shown(&items), expected.map(|(path, node)| (path.to_owned(), node)));
    }

    #[test]
    fn links_may_climb_within_the_image_alone() {
        let folder = tempfile::tempdir().unwrap();
        symlink("../../a", folder.path().join("link")).unwrap();
        assert!(super::folder(&given(folder.path(), "/one/two")).is_ok());
        let message = super::folder(&given(folder.path(), "/one")).unwrap_err();
        assert!(message.contains("leads out of the image") && message.contains("../../a"), "{message}");

        let absolute = |target: &str| link(Path::new("x"), Path::new(target), &Place::new("/a/b/c").unwrap());
        assert_eq!(absolute("/usr/../lib").unwrap(), Node::Link("/usr/../lib".to_owned()));
        assert!(absolute("/../lib").is_err());
    }

    #[test]
    fn what_is_of_another_kind_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let message = super::folder(&given(folder.path(), "/x")).unwrap_err();
        assert!(message.contains("socket is neither"), "{message}");
        assert!(file(&given(folder.path(), "/x")).unwrap_err().contains("--dir"));
        let none = folder.path().join("none");
        assert!(file(&given(&none, "/x")).unwrap_err().contains("none"));
        assert!(super::folder(&given(&none, "/x")).unwrap_err().contains("none"));
    }
}
