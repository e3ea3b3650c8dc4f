//! Conditions, as Kubernetes has them.

use std::fmt;

use kf_core::Timestamp;
use serde::{Deserialize, Serialize};

/// One thing that is so of a job, or is not. In JSON as Kubernetes writes it: `{"type": "Running", "status": "True",
/// "reason": "RanksStarted", "message": "…", "lastTransitionTime": "2026-11-26T05:00:00.000Z"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Condition {
    /// What it tells.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether that is so.
    pub status: ConditionStatus,
    /// Why, in one word for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// When `status` last became another one.
    #[serde(with = "rfc3339")]
    pub last_transition_time: Timestamp,
}

/// What a [`Condition`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConditionType {
    /// The job was taken on.
    Created,
    /// All its ranks were started, and it has not ended. Of an elastic job, all those of the node that tells it.
    Running,
    /// A rank failed, and all of them are about to be started anew.
    Restarting,
    /// It waits until somebody lets it go on. Local jobs never do.
    Suspended,
    /// It has succeeded.
    Complete,
    /// It has failed, has run out of time, or was cancelled.
    Failed,
}

/// Whether a [`Condition`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Kubernetes takes no longer messages; in bytes.
const MESSAGE: usize = 32_768;

/// Sets a condition, which keeps its time where it was so already.
pub(super) fn set(
    conditions: &mut Vec<Condition>,
    now: Timestamp,
    kind: ConditionType,
    holds: bool,
    reason: &str,
    message: &str,
) {
    let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
    let condition = Condition {
        kind,
        status,
        reason: reason.to_owned(),
        message: message[..message.floor_char_boundary(MESSAGE)].to_owned(),
        last_transition_time: now,
    };
    match conditions.iter_mut().find(|condition| condition.kind == kind) {
        Some(old) if old.status == status => {
            *old = Condition { last_transition_time: old.last_transition_time, ..condition };
        }
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

/// Times as Kubernetes writes them.
pub(super) mod rfc3339 {
    use kf_core::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in super::super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }

    /// Where there may be none.
    pub(in super::super) mod option {
        use super::*;

        pub(in super::super::super) fn serialize<S: Serializer>(
            time: &Option<Timestamp>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub(in super::super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
        }
    }
}
