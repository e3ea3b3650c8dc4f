//! One watch over all pods of tasks in a namespace, for whoever follows one of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::pod::{CONTAINER, RUN};
use super::told::Told;
use crate::facts::{PodFacts, facts};
use crate::watching::watched;

/// What is known of a pod.
#[derive(Clone, Debug, Default)]
pub(super) enum Sight {
    /// Nothing yet.
    #[default]
    Unseen,
    /// It is there.
    Pod(Arc<PodFacts>),
    /// It was there, and was this when it was seen last.
    Gone(Arc<PodFacts>),
}

/// Watches as long as it is there.
#[derive(Debug)]
pub(super) struct Informer {
    followers: Arc<Followers>,
    _watching: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Followers(Mutex<HashMap<String, watch::Sender<Sight>>>);

/// Follows one pod.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) sight: watch::Receiver<Sight>,
    name: String,
    followers: Arc<Followers>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followers = self.followers.lock();
        // This one's own receiver is still there.
        if followers.get(&self.name).is_some_and(|sender| sender.receiver_count() <= 1) {
            followers.remove(&self.name);
        }
    }
}

impl Follower {
    /// Tells it what was heard elsewhere, where it knows nothing yet.
    pub(super) fn hear(&self, pod: Option<PodFacts>) {
        self.followers.tell(pod, true);
    }

    /// Tells it what the API server says of the pod itself, or that there is none; unless something else was told since it
    /// was looked at last, which may be newer.
    pub(super) fn look(&self, pod: Option<&Pod>) {
        let followers = self.followers.lock();
        let Some(sender) = followers.get(&self.name) else { return };
        if self.sight.has_changed().unwrap_or(true) {
            return;
        }
        sender.send_if_modified(|sight| {
            match (pod.and_then(facts_of), &*sight) {
                (Some(facts), _) => *sight = Sight::Pod(Arc::new(facts)),
                (None, Sight::Pod(last)) => *sight = Sight::Gone(Arc::clone(last)),
                (None, _) => return false,
            }
            true
        });
    }
}

/// What the worker's container tells of a pod.
pub(super) fn facts_of(pod: &Pod) -> Option<PodFacts> {
    facts(pod, &[CONTAINER.to_owned()])
}

impl Informer {
    pub(super) fn start(pods: Api<Told>) -> Self {
        let followers = Arc::<Followers>::default();
        let watching = tokio::spawn(run(pods, Arc::clone(&followers)));
        Self { followers, _watching: AbortOnDropHandle::new(watching) }
    }

    /// Follows a pod of this name, which may not be there yet.
    pub(super) fn follow(&self, name: &str) -> Follower {
        let mut followers = self.followers.lock();
        let sender = followers.entry(name.to_owned()).or_insert_with(|| watch::channel(Sight::Unseen).0);
        let sight = sender.subscribe();
        drop(followers);
        Follower { sight, name: name.to_owned(), followers: Arc::clone(&self.followers) }
    }
}

impl Followers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Sight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, pod: Option<PodFacts>, only_first: bool) {
        let Some(facts) = pod else { return };
        let followers = self.lock();
        let Some(sender) = followers.get(&facts.name) else { return };
        sender.send_if_modified(|sight| {
            if only_first && !matches!(sight, Sight::Unseen) {
                return false;
            }
            *sight = Sight::Pod(Arc::new(facts));
            true
        });
    }

    fn gone(&self, pod: Option<PodFacts>) {
        let Some(facts) = pod else { return };
        if let Some(sender) = self.lock().get(&facts.name) {
            sender.send_replace(Sight::Gone(Arc::new(facts)));
        }
    }

    /// Those are all that are there: what was seen and is not among them is gone.
    fn all(&self, listed: &HashSet<String>) {
        for (_, sender) in self.lock().iter().filter(|(name, _)| !listed.contains(*name)) {
            sender.send_if_modified(|sight| {
                let Sight::Pod(last) = sight else { return false };
                *sight = Sight::Gone(Arc::clone(last));
                true
            });
        }
    }
}

async fn run(pods: Api<Told>, followers: Arc<Followers>) {
    let mut events = std::pin::pin!(watched(pods, watcher::Config::default().labels(RUN)));
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod)) => followers.tell(pod.facts, false),
            Ok(Event::Delete(pod)) => followers.gone(pod.facts),
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.facts.as_ref().map(|facts| facts.name.clone()));
                followers.tell(pod.facts, false);
            }
            Ok(Event::InitDone) => followers.all(&std::mem::take(&mut listed)),
            // It goes on by itself, later and later.
            Err(error) => tracing::warn!(%error, "pods are not watched for now; it is tried again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"phase": phase}})).unwrap()
    }

    fn facts(name: &str, phase: &str) -> Option<PodFacts> {
        facts_of(&pod(name, phase))
    }

    #[tokio::test]
    async fn followers_hear_of_their_own_pod_and_of_its_end() {
        let followers = Arc::<Followers>::default();
        let watching = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
        let informer = Informer { followers: Arc::clone(&followers), _watching: watching };
        let follower = informer.follow("a");
        followers.tell(facts("b", "Running"), false);
        // One that was not seen yet may not be there yet.
        followers.all(&HashSet::new());
        assert!(matches!(&*follower.sight.borrow(), Sight::Unseen));
        follower.hear(facts("a", "Pending"));
        followers.tell(facts("a", "Running"), false);
        // Older than what was seen.
        follower.hear(facts("a", "Failed"));
        assert!(matches!(&*follower.sight.borrow(), Sight::Pod(pod) if !pod.over));
        followers.all(&HashSet::from(["a".to_owned()]));
        assert!(matches!(&*follower.sight.borrow(), Sight::Pod(_)));
        followers.all(&HashSet::new());
        assert!(matches!(&*follower.sight.borrow(), Sight::Gone(_)));
        // It is there all the same.
        let mut follower = follower;
        follower.sight.borrow_and_update();
        follower.look(Some(&pod("a", "Running")));
        assert!(matches!(&*follower.sight.borrow_and_update(), Sight::Pod(pod) if !pod.over));
        followers.tell(facts("a", "Failed"), false);
        // Asked before that was told.
        follower.look(Some(&pod("a", "Running")));
        assert!(matches!(&*follower.sight.borrow_and_update(), Sight::Pod(pod) if pod.over));
        follower.look(None);
        assert!(matches!(&*follower.sight.borrow(), Sight::Gone(pod) if pod.over));
        // Another follower of the same pod knows what is known, and outlives the first.
        let other = informer.follow("a");
        assert!(matches!(&*other.sight.borrow(), Sight::Gone(_)));
        drop(follower);
        followers.tell(facts("a", "Running"), false);
        assert!(matches!(&*other.sight.borrow(), Sight::Pod(_)));
        drop(other);
        assert!(followers.lock().is_empty());
    }
}
