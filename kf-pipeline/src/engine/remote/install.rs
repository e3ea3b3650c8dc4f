//! This program, laid into a folder so that images which know nothing of it can run it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kf_core::worker::{Entry, Request, WorkerError};

/// The name of the worker entry that lays this program into a folder, which is its request, as a JSON string.
pub const INSTALL_ENTRY: &str = "kf-install";
/// How the program that [`Install`] has laid into a folder is started: words of a command, each beginning with the folder.
pub const INSTALLED: [&str; 3] = ["/run", "/lib", "/program"];

/// A worker entry that lays this program and the libraries that it uses into a folder, from where it runs in any image of
/// the same kind of processor: `FOLDER/run --library-path FOLDER/lib FOLDER/program`. That is how tasks in images of their
/// own are run: an init container of this program's image comes before the task's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Install;

impl Entry for Install {
    fn name(&self) -> &str {
        INSTALL_ENTRY
    }

    fn run(&self, request: Request) -> Result<(), WorkerError> {
        let folder: PathBuf = request.parse()?;
        install(&folder).map_err(|error| {
            WorkerError::failed(format!("lay this program into `{}`: {error}", folder.display()))
        })
    }
}

fn install(folder: &Path) -> io::Result<()> {
    let [run, libraries, program] = INSTALLED.map(|name| folder.join(&name[1..]));
    fs::create_dir_all(&libraries)?;
    fs::copy("/proc/self/exe", &program)?;
    let mut loader = None;
    for library in mapped(&fs::read_to_string("/proc/self/maps")?) {
        let Some(name) = library.file_name() else { continue };
        if name.to_string_lossy().starts_with("ld-") {
            loader = Some(library.clone());
        }
        fs::copy(&library, libraries.join(name))?;
    }
    // A program that needs no loader ignores the words that one is given.
    fs::copy(loader.unwrap_or_else(|| program.clone()), &run)?;
    Ok(())
}

/// The libraries among what a process has mapped, as `/proc/PID/maps` tells it.
fn mapped(maps: &str) -> BTreeSet<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let is_library = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.contains(".so")
    };
    paths.filter(is_library).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_once() {
        let maps = "5600-5700 r--p 0 08:01 1   /bin/program\n\
                    7f00-7f01 r--p 0 08:01 2   /lib/x86_64-linux-gnu/libc.so.6\n\
                    7f01-7f02 r-xp 0 08:01 2   /lib/x86_64-linux-gnu/libc.so.6\n\
                    7f03-7f04 r--p 0 08:01 3   /lib64/ld-linux-x86-64.so.2\n\
                    7ffc-7ffd rw-p 0 00:00 0   [stack]\n";
        let found: Vec<_> = mapped(maps).into_iter().collect();
        assert_eq!(
            found,
            [PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")]
        );
    }

    #[test]
    fn what_is_laid_out_runs() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path()).unwrap();
        let [run, libraries, program] = INSTALLED.map(|name| folder.path().join(&name[1..]));
        let listed = std::process::Command::new(run)
            .arg("--library-path")
            .args([libraries, program])
            .args(["--list", "--exact", "engine::remote::install::tests::what_is_laid_out_runs"])
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&listed.stdout);
        assert!(said.contains("what_is_laid_out_runs: test"), "{listed:?}");
    }
}
