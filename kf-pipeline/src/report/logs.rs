//! The ends of the logs that tasks left in the run's folder.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::TaskReport;
use crate::TaskState;
use crate::task_folder::task_folder;

/// Of how many tasks the log is read, and how many bytes of each.
const LOGS: usize = 400;
const TAIL: u64 = 8 * 1024;

/// The end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTail {
    /// Its last lines; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// Where the whole log lies.
    pub path: PathBuf,
    /// How many bytes the whole log has.
    pub size: u64,
}

fn ran(task: &TaskReport) -> bool {
    task.attempts > 0 && task.state != TaskState::Cached
}

/// Reads the logs of the last attempts, of failed tasks first. What can't be read is left out.
pub(super) fn read(run_dir: &Path, tasks: &mut [TaskReport]) {
    let mut order: Vec<usize> = (0..tasks.len()).filter(|index| ran(&tasks[*index])).collect();
    order.sort_by_key(|index| tasks[*index].state != TaskState::Failed);
    let mut left = LOGS;
    for index in order {
        if left == 0 {
            break;
        }
        let task = &mut tasks[index];
        task.log = tail(run_dir, &task.path, task.attempts);
        left -= usize::from(task.log.is_some());
    }
}

fn tail(run_dir: &Path, task: &str, attempt: u32) -> Option<LogTail> {
    let inside = Path::new(task).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        return None;
    }
    let path = task_folder(run_dir, task).join(attempt.to_string()).join("log.txt");
    let mut file = File::open(&path).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() == 0 {
        return None;
    }
    let start = meta.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    // Begins with a whole line where there is one.
    let line = bytes.iter().position(|byte| *byte == b'\n').filter(|_| start > 0).map_or(0, |end| end + 1);
    let from = if line < bytes.len() { line } else { 0 };
    Some(LogTail { text: String::from_utf8_lossy(&bytes[from..]).into_owned(), path, size: meta.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &[u8]) -> Option<LogTail> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("for-loop-1[2]/fit/3");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("log.txt"), text).unwrap();
        tail(dir.path(), "for-loop-1[2]/fit", 3)
    }

    #[test]
    fn a_log_ends_with_whole_lines() {
        assert_eq!(log(b"one\ntwo \xff").unwrap().text, "one\ntwo \u{fffd}");
        let long = log("a line of text\n".repeat(10_000).as_bytes()).unwrap();
        assert!(long.text.starts_with("a line") && long.text.len() as u64 <= TAIL, "{}", long.text.len());
        assert_eq!(long.size, 150_000);
        assert_eq!(log(&[b'x'; 20_000]).unwrap().text.len() as u64, TAIL, "one line without an end");
    }

    #[test]
    fn there_may_be_none() {
        assert_eq!(log(b""), None);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run/1/log.txt")).unwrap();
        assert_eq!(tail(dir.path(), "run", 1), None, "a folder");
        std::fs::write(dir.path().join("log.txt"), "not a task's").unwrap();
        std::fs::create_dir_all(dir.path().join("1")).unwrap();
        std::fs::write(dir.path().join("1/log.txt"), "not a task's").unwrap();
        assert_eq!(tail(&dir.path().join("run"), "..", 1), None, "outside of the run");
    }
}
