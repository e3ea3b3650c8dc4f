//! What lies where in an image, and in which of its layers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::place::Place;

/// The mode of a folder that nothing else is said about.
pub(crate) const FOLDER: u32 = 0o755;

/// Where bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// They are here.
    Bytes(Vec<u8>),
    /// They are read from a file of this machine when they are needed.
    File(PathBuf),
}

/// What lies at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A folder, with its mode.
    Folder(u32),
    /// A file, which all may read, and all may run where it is a program.
    File { source: Source, program: bool },
    /// A symbolic link, with what it points to.
    Link(String),
}

impl Node {
    fn is_folder(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    /// In words, for errors.
    fn told(&self) -> String {
        match self {
            Self::Folder(_) => "a folder".to_owned(),
            Self::File { source: Source::Bytes(_), .. } => "a file that every image has".to_owned(),
            Self::File { source: Source::File(path), .. } => format!("the file {}", path.display()),
            Self::Link(target) => format!("a link to {target}"),
        }
    }
}

/// A layer: what it adds, in the order in which it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// What it is for, such as `libraries`.
    pub(crate) name: &'static str,
    /// Each place with what lies there, the folders above it among them.
    pub(crate) nodes: BTreeMap<Place, Node>,
}

/// The layers of an image, from the lowest, out of what each is to hold; one that would hold nothing is left out.
///
/// A layer may put another file at a place where a lower one has one, and then hides it.
///
/// # Errors
/// Where two things are to lie at one place, or something below what is no folder.
pub(crate) fn plan(parts: Vec<(&'static str, Vec<(Place, Node)>)>) -> Result<Vec<Layer>, String> {
    let mut layers = Vec::new();
    let mut whole: BTreeMap<Place, Node> = BTreeMap::new();
    for (name, part) in parts {
        let mut nodes: BTreeMap<Place, Node> = BTreeMap::new();
        for (place, node) in part {
            if let Some(before) = nodes.get(&place)
                && *before != node
                && !(before.is_folder() && node.is_folder())
            {
                return Err(twice(&place, before, &node));
            }
            if let Some(before) = whole.get(&place)
                && before.is_folder() != node.is_folder()
            {
                return Err(twice(&place, before, &node));
            }
            if place.is_root() {
                if !node.is_folder() {
                    return Err(format!("{} can't lie at `/`, which is a folder", node.told()));
                }
                continue;
            }
            if !(node.is_folder() && whole.contains_key(&place)) {
                whole.insert(place.clone(), node.clone());
            }
            nodes.insert(place, node);
        }
        if !nodes.is_empty() {
            layers.push(Layer { name, nodes });
        }
    }
    for layer in &mut layers {
        add_folders(&mut layer.nodes, &whole)?;
    }
    Ok(layers)
}

/// Adds the folders above each place, with the modes that they have in the whole image.
fn add_folders(nodes: &mut BTreeMap<Place, Node>, whole: &BTreeMap<Place, Node>) -> Result<(), String> {
    let places: Vec<_> = nodes.keys().cloned().collect();
    for place in places {
        if let (Some(Node::Folder(mode)), Some(Node::Folder(first))) =
            (nodes.get_mut(&place), whole.get(&place))
        {
            *mode = *first;
        }
        let mut above = place.parent();
        while let Some(folder) = above.filter(|folder| !folder.is_root()) {
            let mode = match whole.get(&folder) {
                None => FOLDER,
                Some(Node::Folder(mode)) => *mode,
                Some(other) => {
                    return Err(format!("{place} can't lie below {folder}, which is {}", other.told()));
                }
            };
            nodes.entry(folder.clone()).or_insert(Node::Folder(mode));
            above = folder.parent();
        }
    }
    Ok(())
}

fn twice(place: &Place, before: &Node, after: &Node) -> String {
    format!("{place} can't be both {} and {}; give one of them another place", before.told(), after.told())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place::new(path).unwrap()
    }

    fn file(path: &str) -> Node {
        Node::File { source: Source::File(path.into()), program: false }
    }

    fn shown(layer: &Layer) -> Vec<(String, Node)> {
        layer.nodes.iter().map(|(place, node)| (place.to_string(), node.clone())).collect()
    }

    #[test]
    fn each_layer_has_the_folders_above_what_it_holds_with_the_modes_of_the_whole() {
        let layers = plan(vec![
            ("base", vec![(place("/tmp"), Node::Folder(0o1777))]),
            ("none", vec![]),
            ("files", vec![(place("/tmp/a/b"), file("b")), (place("/tmp"), Node::Folder(FOLDER))]),
        ])
        .unwrap();
        assert_eq!(layers.iter().map(|layer| layer.name).collect::<Vec<_>>(), ["base", "files"]);
        let expected = [
            ("/tmp".to_owned(), Node::Folder(0o1777)),
            ("/tmp/a".to_owned(), Node::Folder(FOLDER)),
            ("/tmp/a/b".to_owned(), file("b")),
        ];
        assert_eq!(shown(&layers[1]), expected);
    }

    #[test]
    fn a_file_hides_that_of_a_lower_layer() {
        let layers = plan(vec![
            ("base", vec![(place("/etc/group"), file("one"))]),
            ("files", vec![(place("/etc/group"), file("two")), (place("/etc/group"), file("two"))]),
        ])
        .unwrap();
        assert_eq!(layers[0].nodes[&place("/etc/group")], file("one"));
        assert_eq!(layers[1].nodes[&place("/etc/group")], file("two"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let link = || Node::Link("/etc".to_owned());
        type Part = Vec<(Place, Node)>;
        let cases: [(Part, Part, &str); 6] = [
            (
                vec![(place("/a"), file("one")), (place("/a"), file("two"))],
                vec![],
                "the file one and the file two",
            ),
            (vec![(place("/a"), file("one"))], vec![(place("/a"), Node::Folder(FOLDER))], "/a can't be both"),
            (
                vec![(place("/a"), link())],
                vec![(place("/a/passwd"), file("x"))],
                "/a/passwd can't lie below /a",
            ),
            (vec![(place("/a/passwd"), file("x"))], vec![(place("/a"), link())], "can't lie below /a"),
            (
                vec![(place("/a"), file("x")), (place("/a/b/c"), file("y"))],
                vec![],
                "/a/b/c can't lie below /a",
            ),
            (vec![(place("/"), file("x"))], vec![], "can't lie at `/`"),
        ];
        for (lower, upper, why) in cases {
            let message = plan(vec![("lower", lower), ("upper", upper)]).unwrap_err();
            assert!(message.contains(why), "{why}: {message}");
        }
    }
}
