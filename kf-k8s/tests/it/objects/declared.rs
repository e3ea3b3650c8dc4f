//! What the crate's sources declare, so that a list in a test can't fall behind them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every kind that `objects` defines, as `group/Kind`.
pub(crate) fn kinds() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&crate_folder().join("src/objects"), &mut files);
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.lines().filter_map(kind).collect::<Vec<_>>()).collect()
}

/// The kind of a line such as `JobSet is "jobsets" of "jobset.x-k8s.io" "v1alpha2" in NamespaceResourceScope {`.
fn kind(line: &str) -> Option<String> {
    match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [name, "is", _, "of", group, _, "in", _, "{"] if group.starts_with('"') => {
            Some(format!("{}/{name}", group.trim_matches('"')))
        }
        _ => None,
    }
}

/// The variants of an enum of a file, but for one that stands for all others.
pub(crate) fn variants(file: &str, name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(crate_folder().join(file)).unwrap();
    let head = format!("pub enum {name} {{\n");
    let (_, body) = text.split_once(&head).unwrap_or_else(|| panic!("{file} has no `pub enum {name}`"));
    let body = body.split("\n}").next().unwrap();
    // As rustfmt has it: variants are indented by four spaces, their fields by more.
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    let names = variants.map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned());
    names.filter(|name| name != "Other").collect()
}

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, files),
            false => files.push(path),
        }
    }
}
