//! One watch over the warnings that a namespace's pods are given, for whoever follows one of them.
//!
//! A pod's status tells why no node takes it and why its images can't be had. What keeps its volumes from being mounted, its
//! network from being made or its probes from passing is told by events alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::runtime::watcher::{self, Event as Seen};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::watching::watched;

/// The warnings that are watched.
const WARNINGS: &str = "involvedObject.kind=Pod,type=Warning";
/// How many different warnings of a pod wait to be taken notice of: the last ones.
const MOST: usize = 20;
/// Reasons whose matter the pod's own status tells, in more words.
const IN_STATUS: [&str; 5] = ["FailedScheduling", "Failed", "BackOff", "InspectFailed", "ErrImageNeverPull"];

/// What a pod was warned of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Warning {
    /// The pod's, which another of its name does not have.
    pub(super) uid: String,
    /// In words, with the reason before them.
    pub(super) words: String,
}

/// Watches as long as it is there.
#[derive(Debug)]
pub(super) struct Warnings {
    followed: Arc<Followed>,
    _watching: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Followed(Mutex<HashMap<String, watch::Sender<VecDeque<Warning>>>>);

/// The warnings of the pods of one name.
#[derive(Debug)]
pub(super) struct Warned {
    told: watch::Receiver<VecDeque<Warning>>,
    /// What was given out of them.
    given: VecDeque<Warning>,
    name: String,
    followed: Arc<Followed>,
}

impl Drop for Warned {
    fn drop(&mut self) {
        let mut followed = self.followed.lock();
        // This one's own receiver is still there.
        if followed.get(&self.name).is_some_and(|sender| sender.receiver_count() <= 1) {
            followed.remove(&self.name);
        }
    }
}

impl Warned {
    /// Waits for more of them.
    pub(super) async fn more(&mut self) {
        if self.told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Those of this pod that were not given before.
    pub(super) fn news(&mut self, uid: &str) -> Vec<String> {
        let told = self.told.borrow_and_update();
        let new: Vec<_> = told
            .iter()
            .filter(|warning| warning.uid == uid && !self.given.contains(warning))
            .cloned()
            .collect();
        drop(told);
        new.into_iter()
            .map(|warning| {
                let words = warning.words.clone();
                push(&mut self.given, warning);
                words
            })
            .collect()
    }
}

impl Warnings {
    pub(super) fn start(events: Api<Event>) -> Self {
        let followed = Arc::<Followed>::default();
        let watching = tokio::spawn(run(events, Arc::clone(&followed)));
        Self { followed, _watching: AbortOnDropHandle::new(watching) }
    }

    /// Follows the warnings of a pod of this name, which may not be there yet.
    pub(super) fn follow(&self, name: &str) -> Warned {
        let mut followed = self.followed.lock();
        let sender = followed.entry(name.to_owned()).or_insert_with(|| watch::channel(VecDeque::new()).0);
        let told = sender.subscribe();
        drop(followed);
        Warned { told, given: VecDeque::new(), name: name.to_owned(), followed: Arc::clone(&self.followed) }
    }
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<VecDeque<Warning>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: &Event) {
        let followed = self.lock();
        let Some(sender) = event.involved_object.name.as_ref().and_then(|name| followed.get(name)) else {
            return;
        };
        let Some(warning) = warning(event) else { return };
        sender.send_if_modified(|told| {
            let new = !told.contains(&warning);
            if new {
                push(told, warning);
            }
            new
        });
    }
}

/// Adds it; of too many, the last stay.
fn push(warnings: &mut VecDeque<Warning>, warning: Warning) {
    if warnings.len() == MOST {
        warnings.pop_front();
    }
    warnings.push_back(warning);
}

/// What an event warns a pod of; none where its status tells that too, or there are no words. An event that happens again
/// says the same: what counts it is left out.
fn warning(event: &Event) -> Option<Warning> {
    let reason = event.reason.as_deref().unwrap_or_default();
    let is_warning = event.type_.as_deref() == Some("Warning");
    if !is_warning || IN_STATUS.contains(&reason) {
        return None;
    }
    let message = event.message.as_deref().unwrap_or_default().trim();
    let words = match (reason, message) {
        ("", "") => return None,
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    };
    Some(Warning { uid: event.involved_object.uid.clone()?, words })
}

async fn run(events: Api<Event>, followed: Arc<Followed>) {
    let mut events = std::pin::pin!(watched(events, watcher::Config::default().fields(WARNINGS)));
    let mut said = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Seen::Apply(event) | Seen::InitApply(event)) => followed.tell(&event),
            Ok(Seen::InitDone) => said = false,
            Ok(Seen::Init | Seen::Delete(_)) => {}
            Err(error) if !said => {
                said = true;
                tracing::warn!(%error, "events of pods can't be watched: what keeps a pod from starting may go untold");
            }
            Err(error) => tracing::debug!(%error, "events of pods still can't be watched"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(uid: &str, kind: &str, reason: &str, message: &str) -> Event {
        let event = json!({"metadata": {"name": "e"}, "type": kind, "reason": reason, "message": message, "count": 3,
            "involvedObject": {"kind": "Pod", "name": "p", "uid": uid}});
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn warnings_are_told_that_no_status_tells() {
        let words =
            |kind, reason, message| warning(&event("u", kind, reason, message)).map(|warning| warning.words);
        let table = [
            (
                "Warning",
                "FailedMount",
                " secret \"a\" not found\n",
                Some("FailedMount: secret \"a\" not found"),
            ),
            ("Warning", "FailedAttachVolume", "timed out", Some("FailedAttachVolume: timed out")),
            ("Warning", "FailedCreatePodSandBox", "no address", Some("FailedCreatePodSandBox: no address")),
            ("Warning", "Unhealthy", "", Some("Unhealthy")),
            ("Warning", "", "said", Some("said")),
            ("Warning", "", "", None),
            ("Warning", "FailedScheduling", "0/1 nodes are available", None),
            ("Warning", "Failed", "Error: ErrImagePull", None),
            ("Warning", "BackOff", "Back-off pulling image", None),
            ("Normal", "Pulled", "the image is there", None),
        ];
        for (kind, reason, message, told) in table {
            assert_eq!(words(kind, reason, message).as_deref(), told, "{reason} {message}");
        }
        let mut nobody = event("u", "Warning", "Unhealthy", "x");
        nobody.involved_object.uid = None;
        assert_eq!(warning(&nobody), None);
    }

    #[tokio::test]
    async fn a_follower_hears_each_warning_of_its_pod_once() {
        let followed = Arc::<Followed>::default();
        let watching = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
        let warnings = Warnings { followed: Arc::clone(&followed), _watching: watching };
        // Nobody follows it yet.
        followed.tell(&event("1", "Warning", "Unhealthy", "early"));
        let mut follower = warnings.follow("p");
        for message in ["a", "a", "b"] {
            followed.tell(&event("1", "Warning", "FailedMount", message));
            followed.tell(&event("2", "Warning", "FailedMount", "another of its name"));
        }
        follower.more().await;
        assert_eq!(follower.news("1"), ["FailedMount: a", "FailedMount: b"]);
        // As when all are listed anew.
        followed.tell(&event("1", "Warning", "FailedMount", "a"));
        followed.tell(&event("1", "Warning", "FailedMount", "c"));
        assert_eq!(follower.news("1"), ["FailedMount: c"]);
        assert_eq!(follower.news("2"), ["FailedMount: another of its name"]);
        for number in 0..100 {
            followed.tell(&event("1", "Warning", "FailedMount", &number.to_string()));
        }
        let last = follower.news("1");
        assert_eq!((last.len(), last.last().map(String::as_str)), (MOST, Some("FailedMount: 99")));
        let other = warnings.follow("p");
        drop(follower);
        assert_eq!(followed.lock().len(), 1);
        drop(other);
        assert!(followed.lock().is_empty());
    }
}
