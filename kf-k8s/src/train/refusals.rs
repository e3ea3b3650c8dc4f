//! Why pods of a job are not made, by the events of what makes them.

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::cluster::Cluster;
use crate::answer::{in_time, said};

/// What the cluster says of pods that are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Refused(Refusal),
    /// No event tells of it.
    Nothing,
    /// Events can't be read, and why.
    Unknown(String),
}

/// A warning of an object that is to make pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: String,
    pub(super) name: String,
    /// In a word, such as `FailedCreate`.
    pub(super) reason: String,
    pub(super) message: String,
}

impl Refusal {
    /// What tells it from others: each try may have another pod's name before this.
    pub(super) fn key(&self) -> String {
        let (_, why) = self.message.split_once("is forbidden: ").unwrap_or(("", &self.message));
        format!("{}: {why}", self.reason)
    }
}

impl Cluster {
    /// What the cluster says of a start's pods that are missing, whose object was made then, in seconds since 1970.
    pub(super) async fn refusal(&self, object: &str, made: i64) -> Said {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut all = Vec::new();
        for name in self.kind.makers(object) {
            let fields = format!("involvedObject.name={name},type=Warning");
            match in_time(events.list(&ListParams::default().fields(&fields))).await {
                Ok(found) => all.extend(found.items),
                Err(error) => return Said::Unknown(said(&error)),
            }
        }
        latest(all, made).map_or(Said::Nothing, Said::Refused)
    }
}

/// The latest of events that are not from before: an object of the same name may have been there.
fn latest(events: Vec<Event>, made: i64) -> Option<Refusal> {
    let of = events.into_iter().filter_map(|event| {
        let at = at(&event).filter(|at| *at >= made)?;
        let message = event.message.filter(|message| !message.is_empty())?;
        let object = event.involved_object;
        let refusal = Refusal {
            kind: object.kind.unwrap_or_default(),
            name: object.name.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            message,
        };
        Some((at, refusal))
    });
    of.max_by_key(|(at, _)| *at).map(|(_, refusal)| refusal)
}

/// When an event happened last, in seconds since 1970.
fn at(event: &Event) -> Option<i64> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let exact = series.or(event.event_time.as_ref()).map(|time| time.0.as_second());
    let last = event.last_timestamp.as_ref().or(event.metadata.creation_timestamp.as_ref());
    last.map(|time| time.0.as_second()).max(exact)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(message: &str, times: &Value) -> Event {
        let mut event = json!({"metadata": {}, "reason": "FailedCreate", "message": message,
            "involvedObject": {"kind": "Job", "name": "kf-a"}});
        event.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn the_latest_warning_since_the_object_was_made_counts() {
        let at = |second: u32| format!("2026-01-01T00:00:{second:02}Z");
        let made = 1_767_225_600 + 10;
        let before = event("before", &json!({"lastTimestamp": at(9)}));
        assert_eq!(latest(vec![before.clone()], made), None);
        let old = event("old", &json!({"lastTimestamp": at(11)}));
        let exact = event("exact", &json!({"eventTime": "2026-01-01T00:00:12.500000Z"}));
        let refusal = latest(vec![before, exact, old.clone()], made).unwrap();
        assert_eq!((refusal.message.as_str(), refusal.name.as_str()), ("exact", "kf-a"));
        let again = event(
            "again",
            &json!({"eventTime": "2026-01-01T00:00:10.000000Z",
                "series": {"count": 3, "lastObservedTime": "2026-01-01T00:00:20.000000Z"}}),
        );
        assert_eq!(latest(vec![again, old], made).unwrap().message, "again");
    }
}
