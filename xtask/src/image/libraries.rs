//! The shared libraries that programs need, found as the loader finds them: by asking it, through `ldd`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::place::{Place, own_path};

/// How many files `ldd` is asked for at once.
const AT_ONCE: usize = 100;

/// A library that a file needs, itself or through another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// The loader seeks `path`, and finds there what `file` has.
    Found { path: PathBuf, file: PathBuf },
    /// The loader finds no library of this name.
    Missing(String),
}

/// The libraries that each of some programs and libraries needs; none for one that is linked statically.
///
/// `search` is the value of `LD_LIBRARY_PATH` with which they run on this machine.
///
/// # Errors
/// Where `ldd` does not run, or tells of a library that is too old.
pub(crate) fn needed(files: &[PathBuf], search: &OsStr) -> Result<Vec<(PathBuf, Vec<Needed>)>, String> {
    let mut all = Vec::new();
    for files in files.chunks(AT_ONCE) {
        let mut command = Command::new("ldd");
        command.args(files).env("LD_LIBRARY_PATH", search).env("LC_ALL", "C").stdin(Stdio::null());
        let output = command.output().map_err(|error| {
            format!("`ldd` does not run: {error}. It comes with the C library (Debian, Ubuntu: libc-bin)")
        })?;
        // What is linked statically makes it fail, though it is as good as what needs nothing.
        let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if let Some(line) =
            text.lines().chain(told.lines()).find(|line| line.contains("' not found (required by"))
        {
            return Err(format!("a library is too old for what needs it: {}", line.trim()));
        }
        all.extend(parse(files, &text));
    }
    Ok(all)
}

/// What `ldd` printed about files; a line `FILE:` goes before what belongs to each, where they are more than one.
fn parse(files: &[PathBuf], text: &str) -> Vec<(PathBuf, Vec<Needed>)> {
    let mut all: Vec<_> = files.iter().map(|file| (file.clone(), Vec::new())).collect();
    let mut current = 0;
    for line in text.lines() {
        if !line.starts_with(char::is_whitespace) {
            let named = line.strip_suffix(':').map(Path::new);
            current = files.iter().position(|file| Some(file.as_path()) == named).unwrap_or(current);
        } else if let (Some(needed), Some((_, list))) = (parse_line(line.trim()), all.get_mut(current)) {
            list.push(needed);
        }
    }
    all
}

/// `NAME => PATH (ADDRESS)`, `NAME => not found`, or `PATH (ADDRESS)` of the loader itself. The kernel's own library
/// has no path, and other lines are remarks.
fn parse_line(line: &str) -> Option<Needed> {
    let without_address = || Some(line.rsplit_once(" (0x")?.0);
    match line.split_once(" => ") {
        Some((name, "not found")) => Some(Needed::Missing(name.to_owned())),
        Some((name, _)) => {
            let (_, file) = without_address()?.split_once(" => ")?;
            // A loader that is found elsewhere is still sought where the program says.
            let path = if name.starts_with('/') { name } else { file };
            file.starts_with('/').then(|| Needed::Found { path: path.into(), file: file.into() })
        }
        None => {
            let file = without_address()?;
            file.starts_with('/').then(|| Needed::Found { path: file.into(), file: file.into() })
        }
    }
}

/// Libraries for an image: what is put in, and in which folders the loader has to look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Libraries {
    /// Each place, with the file here that goes there.
    pub(crate) files: Vec<(Place, PathBuf)>,
    /// The folders that a loader does not search by itself, in the order of their first use.
    pub(crate) folders: Vec<String>,
}

/// Libraries at their own paths, but those among the given files, `moved`, from where they lie here to their places.
///
/// # Errors
/// Where a library's path can't be one of an image.
pub(crate) fn place(
    needed: impl IntoIterator<Item = (PathBuf, PathBuf)>,
    moved: &HashMap<PathBuf, Place>,
) -> Result<Libraries, String> {
    let mut libraries = Libraries::default();
    for (path, file) in needed {
        let real = own_path(&path)?;
        let place = match moved.get(&real) {
            Some(place) => place.clone(),
            None => {
                // `..` behind a link leads elsewhere than it reads; the folder is in the search path then.
                let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
                let place = Place::new(if climbs { &real } else { &path })?;
                if !libraries.files.iter().any(|(at, _)| *at == place) {
                    libraries.files.push((place.clone(), file));
                }
                place
            }
        };
        if let Some(folder) = place.parent().filter(|folder| !is_searched(folder)) {
            let folder = folder.to_string();
            if !libraries.folders.contains(&folder) {
                libraries.folders.push(folder);
            }
        }
    }
    Ok(libraries)
}

/// Whether loaders search a folder without being told: `/lib`, `/usr/lib`, those for 64 bits and, in Debian's way, of
/// the machine. What `ld.so.conf` names is not searched in an image, which has no cache of it.
fn is_searched(folder: &Place) -> bool {
    let name = folder.name();
    let name = name.strip_prefix("usr/").unwrap_or(name);
    let of_machine = |name: &str| !name.contains('/') && name.contains("-linux-");
    matches!(name, "lib" | "lib64") || name.strip_prefix("lib/").is_some_and(of_machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Needed {
        Needed::Found { path: path.into(), file: path.into() }
    }

    #[test]
    fn the_lines_of_ldd() {
        let cases = [
            ("linux-vdso.so.1 (0x00007ffd1)", None),
            (
                "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
                Some(found("/lib/x86_64-linux-gnu/libc.so.6")),
            ),
            ("libtorch.so => not found", Some(Needed::Missing("libtorch.so".to_owned()))),
            ("/lib64/ld-linux-x86-64.so.2 (0x00007f)", Some(found("/lib64/ld-linux-x86-64.so.2"))),
            (
                "/lib64/ld.so => /nix/store/x/ld.so (0x00007f)",
                Some(Needed::Found { path: "/lib64/ld.so".into(), file: "/nix/store/x/ld.so".into() }),
            ),
            ("liba.so => /a folder (0x1)/liba.so (0x00007f)", Some(found("/a folder (0x1)/liba.so"))),
            ("statically linked", None),
            ("not a dynamic executable", None),
        ];
        for (line, needed) in cases {
            assert_eq!(parse_line(line), needed, "{line}");
        }
    }

    #[test]
    fn what_is_told_belongs_to_the_file_named_before() {
        let files = ["/a", "/b", "/c"].map(PathBuf::from);
        let text =
            "/a:\n\tlibx.so => not found\n/b:\n\tstatically linked\n/c:\n\tlibc.so => /lib/libc.so (0x1)\n";
        let missing = Needed::Missing("libx.so".to_owned());
        assert_eq!(
            parse(&files, text),
            [
                ("/a".into(), vec![missing.clone()]),
                ("/b".into(), vec![]),
                ("/c".into(), vec![found("/lib/libc.so")])
            ]
        );
        let one = parse(&files[..1], "\tlibx.so => not found\n");
        assert_eq!(one, [("/a".into(), vec![missing])]);
    }

    #[test]
    fn libraries_keep_their_paths_and_given_ones_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for path in ["own/one.so", "given/two.so", "own/bin/x"] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), "").unwrap();
        }
        let moved = HashMap::from([(root.join("given/two.so"), Place::new("/app/lib/two.so").unwrap())]);
        let paths = [root.join("own/bin/../one.so"), root.join("own/one.so"), root.join("given/two.so")];
        let libraries = place(paths.map(|path| (path.clone(), path)), &moved).unwrap();
        let own = root.join("own");
        let one = Place::new(own.join("one.so")).unwrap();
        assert_eq!(libraries.files, [(one, root.join("own/bin/../one.so"))]);
        assert_eq!(libraries.folders, [own.display().to_string(), "/app/lib".to_owned()]);
    }

    #[test]
    fn which_folders_a_loader_searches_by_itself() {
        let searched = |path: &str| is_searched(&Place::new(path).unwrap());
        for path in ["/lib", "/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"] {
            assert!(searched(path), "{path}");
        }
        for path in ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu/blas", "/opt/lib", "/usr/lib/llvm", "/"] {
            assert!(!searched(path), "{path}");
        }
    }

    #[test]
    fn this_program_needs_its_c_library() {
        let program = std::env::current_exe().unwrap();
        let text = std::env::temp_dir();
        let all = needed(&[program.clone(), text.join("none")], OsStr::new("")).unwrap();
        let of_program = &all.iter().find(|(file, _)| *file == program).unwrap().1;
        let libc = |needed: &&Needed| matches!(needed, Needed::Found { path, .. } if path.to_string_lossy().contains("libc."));
        assert_eq!(of_program.iter().filter(libc).count(), 1, "{of_program:?}");
    }
}
