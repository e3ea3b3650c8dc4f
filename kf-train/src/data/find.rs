//! From paths, folders and patterns to files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::unfit;
use crate::{Error, Result};

/// How deep folders are looked into.
const DEPTH: usize = 16;
/// The ends of names that are taken from a folder.
const ENDS: [&str; 5] = ["parquet", "arrow", "feather", "ipc", "arrows"];

/// The files that the paths name: a file, the data files within a folder, or those that a pattern with `*`, `?`, `[…]`
/// or `**` matches; each path's files by name.
pub(super) fn find(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let before = found.len();
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => within(path, DEPTH, &mut found)?,
            Ok(_) => found.push(path.to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_pattern(path) => {
                matching(path, &mut found)?;
            }
            Err(error) => return Err(Error::io("can't open data", path)(error)),
        }
        if found.len() == before {
            return Err(unfit(path, "no data files", format!("files that end in {}", ENDS.join(", "))));
        }
    }
    let mut distinct = BTreeSet::new();
    for path in &found {
        let real = fs::canonicalize(path).map_err(Error::io("can't open data", path))?;
        if !distinct.insert(real) {
            return Err(unfit(path, "the same file twice", "each file once, or its rows count twice"));
        }
    }
    match found.first() {
        Some(_) => Ok(found),
        None => Err(unfit(Path::new(""), "no paths", "files, folders or patterns")),
    }
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn matching(pattern: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let text = pattern.to_str().ok_or_else(|| unfit(pattern, "no UTF-8", "a pattern in UTF-8"))?;
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let paths = glob::glob_with(text, options)
        .map_err(|error| unfit(pattern, error.to_string(), "a pattern with `*`, `?`, `[…]` or `**`"))?;
    for path in paths {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            Error::io("can't look into", path)(error.into())
        })?;
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Names that begin with a dot or an underscore are left out, as what other programs put beside data.
fn within(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if depth == 0 {
        return Err(unfit(folder, "a folder too deep", format!("at most {DEPTH} within one another")));
    }
    let failed = || Error::io("can't look into", folder);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        paths.push(entry.map_err(failed())?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            within(&path, depth - 1, found)?;
        } else if path.extension().is_some_and(|end| ENDS.iter().any(|known| end == *known)) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &[PathBuf]) -> Vec<String> {
        found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn files_folders_and_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("deep/er")).unwrap();
        for name in ["b.parquet", "a.arrow", "_SUCCESS", ".hidden.parquet", "notes.txt", "deep/er/c.parquet"]
        {
            fs::write(at(name), "").unwrap();
        }
        assert_eq!(names(&find([folder.path()]).unwrap()), ["a.arrow", "b.parquet", "c.parquet"]);
        assert_eq!(names(&find([at("*.parquet"), at("notes.txt")]).unwrap()), ["b.parquet", "notes.txt"]);
        assert_eq!(names(&find([at("**/*.parquet")]).unwrap()).len(), 2);
        let failed = |path: PathBuf| find([path]).unwrap_err().to_string();
        assert!(failed(at("none.parquet")).contains("none.parquet"));
        assert!(failed(at("*.csv")).contains("no data files"));
        assert!(failed(at("[")).contains("pattern"));
        assert!(find([at("b.parquet"), at("*.parquet")]).unwrap_err().to_string().contains("twice"));
        assert!(find(Vec::<PathBuf>::new()).is_err());
        std::os::unix::fs::symlink(folder.path(), at("deep/round")).unwrap();
        assert!(find([folder.path()]).is_err());
    }
}
