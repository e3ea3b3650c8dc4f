//! Where in a run's folder a task has its own.

use std::path::{Path, PathBuf};

use kf_core::Digest;

/// Longer paths of tasks, such as those deep in a recursion, would not leave room for what lies below them: systems take
/// paths of 4,096 bytes.
const LONGEST: usize = 1500;
/// Where the folders of such tasks lie, by digest. No task's name begins so.
const DEEP: &str = ".deep";

/// The folder of a task, below that of its run: its path, as in `prepare/split`.
pub(crate) fn task_folder(run: &Path, task: &str) -> PathBuf {
    if task.len() > LONGEST {
        return run.join(DEEP).join(Digest::of(task).to_hex());
    }
    // With room for what lies below.
    let mut folder = PathBuf::with_capacity(run.as_os_str().len() + task.len() + 16);
    folder.push(run);
    folder.push(task);
    folder
}

/// The folder of one of a task's attempts.
pub(crate) fn attempt_folder(run: &Path, task: &str, attempt: u32) -> PathBuf {
    let mut folder = task_folder(run, task);
    folder.push(attempt.to_string());
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_have_short_folders_of_their_own() {
        let run = Path::new("run");
        assert_eq!(task_folder(run, "a/b"), Path::new("run/a/b"));
        let long = |last: &str| task_folder(run, &format!("{}{last}", "again/".repeat(1000)));
        assert!(long("a").as_os_str().len() < 100);
        assert_ne!(long("a"), long("b"));
    }
}
