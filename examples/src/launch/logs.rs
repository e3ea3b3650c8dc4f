//! The folder of a run's logs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How many runs of one id a folder has at most.
const MOST_RUNS: usize = 10_000;
/// How long an id may be, in bytes, so that a folder's name has room for it.
const LONGEST_ID: usize = 200;

/// Refuses an id that is no plain name of a folder, since the logs would go elsewhere.
///
/// # Errors
/// What is wrong with the id, and which ones are allowed.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    let plain = !matches!(id, "" | "." | "..") && !id.contains(|c: char| c == '/' || c.is_control());
    if plain && id.len() <= LONGEST_ID {
        return Ok(());
    }
    Err(format!(
        "--rdzv-id {id:?} can't name the folder of its logs in --log-dir; expected 1 to {LONGEST_ID} bytes without `/` and \
         control characters, and not `.` or `..`"
    ))
}

/// Makes the folder of a new run: `base/id`, and `base/id_1`, `base/id_2` … where runs before have taken that.
///
/// # Errors
/// What can't be made, and why.
pub(super) fn new_folder(base: &Path, id: &str) -> Result<PathBuf, String> {
    let wrong = |path: &Path, error| format!("--log-dir: {} can't be made: {error}", path.display());
    std::fs::create_dir_all(base).map_err(|error| wrong(base, error))?;
    for run in 0..MOST_RUNS {
        let folder = base.join(if run == 0 { id.to_owned() } else { format!("{id}_{run}") });
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(wrong(&folder, error)),
        }
    }
    Err(format!(
        "--log-dir {}: it has the logs of {MOST_RUNS} runs of {id}; take them away, or give another --rdzv-id",
        base.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_that_lead_elsewhere_are_refused() {
        for id in ["", ".", "..", "../../x y", "/etc", "a/b", "a\nb", &"x".repeat(201)] {
            let error = check_id(id).unwrap_err();
            assert!(error.contains("without `/`"), "{error}");
        }
        for id in ["none", "x y", "...", "job-1", "größer"] {
            check_id(id).unwrap();
        }
    }

    #[test]
    fn runs_at_once_have_folders_of_their_own() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().join("a/b");
        let folders: BTreeSet<_> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| new_folder(&base, "j").unwrap())).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(folders.len(), 8);
        assert!(folders.contains(&base.join("j")) && folders.contains(&base.join("j_7")), "{folders:?}");
        let error = new_folder(Path::new("/proc/no"), "j").unwrap_err();
        assert!(error.contains("/proc/no can't be made"), "{error}");
    }
}
