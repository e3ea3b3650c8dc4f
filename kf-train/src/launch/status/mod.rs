//! How a job fares: a fold over what happens to it.

mod condition;
#[cfg(test)]
mod tests;
mod trainer;

use kf_core::Timestamp;
use kf_core::process::Exit;
use serde::{Deserialize, Serialize};

use super::spec::MOST_RANKS;
use super::{Failure, JobEnd, JobEvent, RankEnd};
use crate::Progress;
use crate::progress::within_bounds;

pub use condition::{Condition, ConditionStatus, ConditionType};
pub use trainer::TrainerStatus;

use condition::rfc3339;
use trainer::Pace;

/// How a job fares: what Kubernetes shows of a job, and of each of its ranks.
///
/// It is a fold over the job's events, so that whoever hears these can keep it:
///
/// ```
/// use kf_core::Timestamp;
/// use kf_train::{ConditionType, JobEnd, JobEvent, JobStatus, Progress, RankState};
///
/// let at = Timestamp::from_millis;
/// let mut status = JobStatus::new(at(0), 1);
/// status.apply(at(1_000), &JobEvent::RankStarted { rank: 0, pid: Some(7) });
/// assert!(status.is(ConditionType::Running));
/// assert_eq!(status.ranks[0].state, RankState::Running { pid: Some(7) });
///
/// for (seconds, done) in [(10, 0.1), (20, 0.2), (30, 0.3)] {
///     let progress = Progress::new().fraction(done).metric("loss", 0.5);
///     status.apply(at(1_000 * seconds), &JobEvent::Progress { rank: 0, progress });
/// }
/// let trainer = status.trainer_status.as_ref().unwrap();
/// assert_eq!((trainer.progress_percentage, trainer.estimated_remaining_seconds), (Some(30), Some(70)));
///
/// status.apply(at(99_000), &JobEvent::Ended(JobEnd::Canceled));
/// let failed = status.condition(ConditionType::Failed).unwrap();
/// assert_eq!((failed.reason.as_str(), failed.message.as_str()), ("Canceled", "the job was cancelled"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JobStatus {
    /// What is so of it, each kind once, in the order in which they were first told.
    pub conditions: Vec<Condition>,
    /// Its ranks, by number.
    pub ranks: Vec<RankStatus>,
    /// How many times a failed rank had all ranks started anew.
    pub restarts: u64,
    /// How far its main rank is; none before that has told something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trainer_status: Option<TrainerStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pace: Option<Pace>,
}

/// How a rank fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RankStatus {
    /// Whether it runs.
    pub state: RankState,
    /// How many times its process was started anew.
    pub restarts: u64,
    /// When its process was last started; none where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::option")]
    pub started: Option<Timestamp>,
    /// The last progress that it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// Whether a rank runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RankState {
    /// It is to be started.
    #[default]
    Pending,
    /// Its process runs.
    Running {
        /// The process, where it is one of this machine.
        pid: Option<u32>,
    },
    /// It ended with code 0.
    Succeeded,
    /// It failed, or was ended.
    Failed {
        /// How its process ended, where that was seen.
        exit: Option<Exit>,
    },
}

impl JobStatus {
    /// A job of so many ranks that was just taken on.
    pub fn new(now: Timestamp, world_size: usize) -> Self {
        let mut status = Self {
            conditions: Vec::new(),
            ranks: vec![RankStatus::default(); world_size.min(MOST_RANKS)],
            restarts: 0,
            trainer_status: None,
            pace: None,
        };
        let message = format!("the job was taken on; it has {}", ranks(world_size));
        status.set(now, ConditionType::Created, true, "JobCreated", &message);
        status
    }

    /// A condition, where it was ever told.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether a condition holds.
    pub fn is(&self, kind: ConditionType) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == ConditionStatus::True)
    }

    /// Whether the job has ended, be it well or badly.
    pub fn is_over(&self) -> bool {
        self.is(ConditionType::Complete) || self.is(ConditionType::Failed)
    }

    /// Takes in what happened. Nothing changes any more after [`JobEvent::Ended`], and nothing for ranks that the job does
    /// not have.
    pub fn apply(&mut self, now: Timestamp, event: &JobEvent) {
        if self.is_over() {
            return;
        }
        match event {
            JobEvent::RankStarted { rank, pid } => self.rank_started(now, *rank, *pid),
            JobEvent::Line { .. } | JobEvent::Missed(_) => {}
            JobEvent::Progress { rank, progress } => self.progress(now, *rank, progress),
            JobEvent::RankEnded { rank, exit } => {
                // The end of one that is to be started is that of the process before.
                if let Some(rank) = self.ranks.get_mut(*rank).filter(|rank| rank.state != RankState::Pending)
                {
                    rank.state = match exit.success() {
                        true => RankState::Succeeded,
                        false => RankState::Failed { exit: Some(*exit) },
                    };
                }
            }
            JobEvent::Round { world_size, restarts, starts, reason, .. } => {
                self.ranks.resize_with((*world_size).min(MOST_RANKS), RankStatus::default);
                for (number, rank) in self.ranks.iter_mut().enumerate() {
                    rank.state = match starts.contains(&number) {
                        true => RankState::Pending,
                        // It is on another node, or runs already, maybe under another number.
                        false => RankState::Running { pid: None },
                    };
                }
                let more = *restarts > std::mem::replace(&mut self.restarts, *restarts);
                if self.all_started() {
                    return self.running(now, "RoundBegan", reason);
                }
                if self.condition(ConditionType::Running).is_some() {
                    self.set(now, ConditionType::Running, false, "RoundBegan", reason);
                }
                if more {
                    self.set(now, ConditionType::Restarting, true, "RankFailed", reason);
                }
            }
            JobEvent::Waiting { reason } => {
                self.set(now, ConditionType::Running, false, "WaitingForNodes", reason);
            }
            JobEvent::Restarting { restarts, failure } => {
                self.restarts = *restarts;
                self.ranks.iter_mut().for_each(|rank| rank.state = RankState::Pending);
                let (reason, message) = (reason(failure), failure.summary());
                self.set(now, ConditionType::Running, false, reason, &message);
                self.set(now, ConditionType::Restarting, true, reason, &message);
            }
            JobEvent::Ended(end) => self.ended(now, end),
        }
    }

    fn rank_started(&mut self, now: Timestamp, rank: usize, pid: Option<u32>) {
        let Some(status) = self.ranks.get_mut(rank) else { return };
        status.restarts += u64::from(status.started.is_some());
        status.started = Some(now);
        status.state = RankState::Running { pid };
        if rank == 0 {
            // Where it goes on from is yet to be told.
            self.pace = None;
            if let Some(trainer) = &mut self.trainer_status {
                trainer.estimated_remaining_seconds = None;
            }
        }
        if self.all_started() {
            let message = format!("{}, all started", ranks(self.ranks.len()));
            self.running(now, "RanksStarted", &message);
        }
    }

    fn all_started(&self) -> bool {
        // One that has failed, or was ended, is yet to be started anew.
        let started = |state: RankState| matches!(state, RankState::Running { .. } | RankState::Succeeded);
        self.ranks.iter().all(|rank| started(rank.state))
    }

    fn progress(&mut self, now: Timestamp, rank: usize, progress: &Progress) {
        let Some(status) = self.ranks.get_mut(rank) else { return };
        let fraction = progress.fraction.and_then(within_bounds);
        let progress = status.progress.insert(Progress { fraction, ..progress.clone() });
        if rank == 0 {
            let trainer = self.trainer_status.get_or_insert_with(|| TrainerStatus::new(now));
            trainer.apply(now, progress, &mut self.pace);
        }
    }

    fn running(&mut self, now: Timestamp, reason: &str, message: &str) {
        self.set(now, ConditionType::Running, true, reason, message);
        self.no_more(now, ConditionType::Restarting, reason, message);
    }

    fn ended(&mut self, now: Timestamp, end: &JobEnd) {
        let succeeded = matches!(end, JobEnd::Succeeded { .. });
        let (reason, message) = match end {
            JobEnd::Succeeded { .. } => ("RanksSucceeded", "all ranks succeeded".to_owned()),
            JobEnd::Failed(failure) => (reason(failure), failure.summary()),
            JobEnd::TimedOut { after } => {
                ("DeadlineExceeded", format!("the job was not done within {after:?}"))
            }
            JobEnd::Canceled => ("Canceled", "the job was cancelled".to_owned()),
            JobEnd::Broken { reason, .. } => ("JobBroken", reason.clone()),
        };
        for rank in &mut self.ranks {
            // Its end was not seen.
            if matches!(rank.state, RankState::Running { .. }) {
                rank.state = if succeeded { RankState::Succeeded } else { RankState::Failed { exit: None } };
            }
        }
        // One whose program could not be started is not told to have been.
        if let JobEnd::Failed(failure) = end
            && let RankEnd::Exited(exit) = failure.end
            && let Some(rank) =
                self.ranks.get_mut(failure.rank).filter(|rank| rank.state == RankState::Pending)
        {
            rank.state = RankState::Failed { exit: Some(exit) };
        }
        if let Some(trainer) = &mut self.trainer_status {
            let told = trainer.progress_percentage.is_some();
            trainer.estimated_remaining_seconds = (succeeded && told).then_some(0);
            if succeeded && told {
                trainer.progress_percentage = Some(100);
            }
        }
        self.no_more(now, ConditionType::Running, reason, &message);
        self.no_more(now, ConditionType::Restarting, reason, &message);
        let kind = if succeeded { ConditionType::Complete } else { ConditionType::Failed };
        self.set(now, kind, true, reason, &message);
    }

    /// Ends a condition that holds.
    fn no_more(&mut self, now: Timestamp, kind: ConditionType, reason: &str, message: &str) {
        if self.is(kind) {
            self.set(now, kind, false, reason, message);
        }
    }

    fn set(&mut self, now: Timestamp, kind: ConditionType, holds: bool, reason: &str, message: &str) {
        condition::set(&mut self.conditions, now, kind, holds, reason, message);
    }
}

/// Why a rank failed, in one word.
fn reason(failure: &Failure) -> &'static str {
    match failure.end {
        RankEnd::Exited(_) => "RankFailed",
        RankEnd::NotStarted(_) => "RankNotStarted",
        RankEnd::Hung(_) => "RankHung",
        RankEnd::OutOfMemory { .. } => "RankOutOfMemory",
    }
}

fn ranks(count: usize) -> String {
    format!("{count} rank{}", if count == 1 { "" } else { "s" })
}
