//! Which of several failed ranks is to blame.

use std::fmt;
use std::path::PathBuf;

use kf_core::process::Exit;
use serde::{Deserialize, Serialize};

use crate::Progress;

/// The rank that failed first, and what it left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The rank.
    pub rank: usize,
    /// How many ranks the job has.
    pub world_size: usize,
    /// How it ended.
    pub end: RankEnd,
    /// What it wrote to its error file.
    pub message: Option<String>,
    /// The last progress that it told.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// The last lines that it printed.
    pub last_lines: Vec<String>,
    /// All that it printed; to standard output alone, where standard error is kept
    /// [apart](crate::JobSpec::stderr_apart).
    pub log: PathBuf,
    /// All that it printed to standard error, where that is kept apart.
    #[serde(default)]
    pub stderr_log: Option<PathBuf>,
}

/// How a failed rank ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RankEnd {
    /// Its process ended.
    Exited(Exit),
    /// Its process ran, but did not reach its function in this many seconds, and was ended.
    NotStarted(f64),
    /// It told no progress for this many seconds, and was ended.
    Hung(f64),
    /// It had more memory than it asked for, and was ended.
    OutOfMemory {
        /// Bytes that it had.
        used: u64,
        /// Bytes that it asked for.
        limit: u64,
    },
}

impl Failure {
    /// Which rank, how, and what it said, without its last lines.
    pub fn summary(&self) -> String {
        let mut text = format!("rank {} of {} {}", self.rank, self.world_size, self.end);
        if let (RankEnd::Hung(_), Some(progress)) = (self.end, &self.progress) {
            text += &match (progress.to_string(), progress.fraction) {
                (told, Some(fraction)) if told.is_empty() => format!(" after {:.0} %", fraction * 100.0),
                (told, _) => format!(" after {told}"),
            };
        }
        match &self.message {
            Some(message) => text + ": " + message,
            None => text,
        }
    }
}

impl fmt::Display for RankEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up, so that what is above a limit is shown so.
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        match *self {
            Self::Exited(exit) => write!(f, "ended with {exit}"),
            Self::NotStarted(seconds) => write!(f, "did not start within {seconds} s"),
            Self::Hung(seconds) => write!(f, "told no progress for {seconds} s"),
            Self::OutOfMemory { used, limit } => {
                write!(f, "had {} MiB of memory, and asked for {}", mebibytes(used), mebibytes(limit))
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        if !self.last_lines.is_empty() {
            write!(f, "; its last lines:")?;
            for line in &self.last_lines {
                write!(f, "\n  {line}")?;
            }
        }
        match &self.stderr_log {
            // Kept where no path leads to.
            _ if self.log.as_os_str().is_empty() => Ok(()),
            Some(stderr) => write!(f, "\n(logs: {} and {})", self.log.display(), stderr.display()),
            None => write!(f, "\n(log: {})", self.log.display()),
        }
    }
}

/// A rank that failed by itself, before the others were told to end.
#[derive(Debug, Clone)]
pub struct Suspect<T> {
    /// The rank.
    pub rank: usize,
    /// How it ended.
    pub exit: Exit,
    /// When.
    pub at: T,
    /// It says itself that another rank is the cause.
    pub of_another_rank: bool,
}

/// The cause among ranks that failed at about the same time: not one that was hit by another's end, and then the
/// earliest.
pub fn culprit<T: Ord + Copy>(suspects: &[Suspect<T>]) -> Option<&Suspect<T>> {
    suspects.iter().min_by_key(|suspect| (suspect.of_another_rank, suspect.at, suspect.rank))
}

impl Failure {
    /// What a failed rank left, as far as its launcher knows.
    pub fn new(rank: usize, world_size: usize, end: RankEnd) -> Self {
        Self {
            rank,
            world_size,
            end,
            message: None,
            progress: None,
            last_lines: Vec::new(),
            log: PathBuf::new(),
            stderr_log: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_cause_comes_before_what_it_caused() {
        let now = Instant::now();
        let suspect = |rank, ms, of_another_rank| Suspect {
            rank,
            exit: Exit::Code(1),
            at: now + Duration::from_millis(ms),
            of_another_rank,
        };
        let blamed = |suspects: &[Suspect<Instant>]| culprit(suspects).map(|suspect| suspect.rank);
        assert_eq!(blamed(&[]), None);
        assert_eq!(blamed(&[suspect(0, 0, true), suspect(1, 5, false)]), Some(1));
        assert_eq!(blamed(&[suspect(2, 9, false), suspect(0, 3, false)]), Some(0));
        assert_eq!(blamed(&[suspect(1, 7, true), suspect(0, 6, true)]), Some(0));
    }

    #[test]
    fn the_text_names_rank_end_and_last_lines() {
        let failure = Failure {
            rank: 1,
            world_size: 2,
            end: RankEnd::Exited(Exit::Signal(9)),
            message: None,
            progress: None,
            last_lines: vec!["a".into(), "b".into()],
            log: "x/rank-1.log".into(),
            stderr_log: None,
        };
        assert_eq!(
            failure.to_string(),
            "rank 1 of 2 ended with signal 9 (SIGKILL); its last lines:\n  a\n  b\n(log: x/rank-1.log)"
        );
        let apart = Failure { stderr_log: Some("x/stderr.log".into()), ..failure.clone() };
        assert!(apart.to_string().ends_with("\n(logs: x/rank-1.log and x/stderr.log)"), "{apart}");
        let text = |end, progress| {
            let failure = Failure { end, progress, last_lines: vec![], ..failure.clone() };
            failure.to_string()
        };
        for (end, progress, expected) in [
            (RankEnd::NotStarted(2.0), None, "did not start within 2 s"),
            (RankEnd::Hung(60.0), None, "told no progress for 60 s"),
            (
                RankEnd::Hung(1.5),
                Some(Progress::new().epoch(3).step(7)),
                "told no progress for 1.5 s after epoch 3, step 7",
            ),
            (
                RankEnd::Hung(1.5),
                Some(Progress::new().fraction(0.25)),
                "told no progress for 1.5 s after 25 %",
            ),
            (
                RankEnd::OutOfMemory { used: (2 << 30) + 1, limit: 2 << 30 },
                Some(Progress::new().epoch(3)),
                "had 2049 MiB of memory, and asked for 2048",
            ),
        ] {
            assert_eq!(text(end, progress), format!("rank 1 of 2 {expected}\n(log: x/rank-1.log)"));
        }
    }
}
