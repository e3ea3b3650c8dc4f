//! Which of several failed ranks is to blame.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use kf_core::process::Exit;
use serde::{Deserialize, Serialize};

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
    /// The last lines that it printed.
    pub last_lines: Vec<String>,
    /// All that it printed.
    pub log: PathBuf,
}

/// How a failed rank ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankEnd {
    /// Its process ended.
    Exited(Exit),
    /// Its process ran, but did not reach its function in this many seconds, and was ended.
    NotStarted(f64),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {} ", self.rank, self.world_size)?;
        match self.end {
            RankEnd::Exited(exit) => write!(f, "ended with {exit}")?,
            RankEnd::NotStarted(seconds) => write!(f, "did not start within {seconds} s")?,
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if !self.last_lines.is_empty() {
            write!(f, "; its last lines:")?;
            for line in &self.last_lines {
                write!(f, "\n  {line}")?;
            }
        }
        write!(f, "\n(log: {})", self.log.display())
    }
}

/// A rank that failed by itself, before the others were told to end.
#[derive(Debug, Clone)]
pub(super) struct Suspect {
    pub(super) rank: usize,
    pub(super) exit: Exit,
    pub(super) at: Instant,
    /// It says itself that another rank is the cause.
    pub(super) of_another_rank: bool,
}

/// The cause among ranks that failed at about the same time: not one that was hit by another's end, and then the
/// earliest.
pub(super) fn culprit(suspects: &[Suspect]) -> Option<&Suspect> {
    suspects.iter().min_by_key(|suspect| (suspect.of_another_rank, suspect.at, suspect.rank))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let blamed = |suspects: &[Suspect]| culprit(suspects).map(|suspect| suspect.rank);
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
            last_lines: vec!["a".into(), "b".into()],
            log: "x/rank-1.log".into(),
        };
        assert_eq!(
            failure.to_string(),
            "rank 1 of 2 ended with signal 9 (SIGKILL); its last lines:\n  a\n  b\n(log: x/rank-1.log)"
        );
        let failure = Failure { end: RankEnd::NotStarted(2.0), last_lines: vec![], ..failure };
        assert_eq!(failure.to_string(), "rank 1 of 2 did not start within 2 s\n(log: x/rank-1.log)");
    }
}
