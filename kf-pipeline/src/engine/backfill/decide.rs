//! Which partition is run, and as which attempt.

use kf_core::Timestamp;

use super::{PartitionState, PartitionStatus};

/// More attempts than anybody waits for.
pub(super) const MOST_ATTEMPTS: u32 = 1000;

/// The attempt to carry next; none where the partition is left as it is. `made` is how many attempts this call has made
/// already.
pub(super) fn next_attempt(
    status: &PartitionStatus,
    made: u32,
    retries: u32,
    rerun_before: Option<Timestamp>,
) -> Option<u32> {
    let first = made == 0;
    let attempt = match status.state {
        PartitionState::Missing => 1,
        // A run that this call has lost is left to the next.
        PartitionState::Running if first => status.attempts.max(1),
        PartitionState::Succeeded if first && rerun_before > status.ended_at => status.attempts + 1,
        PartitionState::Failed if made <= retries => status.attempts + 1,
        // Somebody asked for its end; the next call is somebody asking for it again.
        PartitionState::Canceled if first => status.attempts + 1,
        _ => return None,
    };
    (attempt <= MOST_ATTEMPTS).then_some(attempt)
}

#[cfg(test)]
mod tests {
    use PartitionState::{Canceled, Failed, Missing, Running, Succeeded};

    use super::*;
    use crate::Partitions;

    fn next(
        state: PartitionState,
        attempts: u32,
        made: u32,
        retries: u32,
        rerun: Option<i64>,
    ) -> Option<u32> {
        let partition = Partitions::of_keys(["a"]).unwrap().iter().next().unwrap().clone();
        let ended_at = matches!(state, Succeeded | Failed | Canceled).then(|| Timestamp::from_millis(100));
        let status = PartitionStatus { state, attempts, ended_at, ..PartitionStatus::missing(partition) };
        next_attempt(&status, made, retries, rerun.map(Timestamp::from_millis))
    }

    #[test]
    fn what_is_done_next() {
        assert_eq!(next(Missing, 0, 0, 0, None), Some(1));
        assert_eq!(next(Running, 3, 0, 0, None), Some(3));
        assert_eq!(next(Succeeded, 1, 0, 5, None), None);
        assert_eq!(next(Succeeded, 1, 0, 0, Some(101)), Some(2));
        assert_eq!(next(Succeeded, 2, 0, 0, Some(100)), None, "it was run again already");
        assert_eq!(
            next(Succeeded, 2, 1, 0, Some(101)),
            None,
            "a time in the future does not run it for ever"
        );
        assert_eq!(next(Failed, 1, 0, 0, None), Some(2));
        assert_eq!(next(Failed, 2, 1, 0, None), None);
        assert_eq!(next(Failed, 2, 1, 1, None), Some(3));
        assert_eq!(next(Failed, 3, 2, 1, None), None);
        assert_eq!(next(Canceled, 1, 0, 0, None), Some(2));
        assert_eq!(next(Canceled, 2, 1, 9, None), None);
        assert_eq!(next(Running, 2, 1, 9, None), None);
        assert_eq!(next(Failed, MOST_ATTEMPTS, 0, 0, None), None);
    }
}
