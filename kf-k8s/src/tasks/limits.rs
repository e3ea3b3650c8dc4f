//! How long a pod may be in a state that it does not leave by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::problem::PodProblem;
use crate::facts::PodFacts;

/// How long a pod may wait for what won't come by waiting.
const HOPELESS_AFTER: Duration = Duration::from_secs(20);
/// How long a node may take to tell that a pod has ended whose time to go is over.
const NODE_TELLS: Duration = Duration::from_secs(20);

/// When such a state has lasted for too long, by this machine's clock alone.
#[derive(Debug, Default)]
pub(super) struct Limits {
    hopeless: Option<Instant>,
    leaves: Option<Instant>,
}

impl Limits {
    /// What is wrong with a pod that is seen so, and has not ended.
    pub(super) fn see(&mut self, pod: &PodFacts) -> Option<PodProblem> {
        let now = Instant::now();
        let since = |there: Option<Instant>, lasts: Duration| there.or_else(|| now.checked_add(lasts));
        let hopeless = pod.waits.as_ref().filter(|wait| wait.hopeless);
        self.hopeless = hopeless.and_then(|_| since(self.hopeless, HOPELESS_AFTER));
        // A shorter time to go may be given to one that goes already.
        let until = |grace: Duration| now.checked_add(grace + NODE_TELLS);
        self.leaves = match (pod.leaves, self.leaves) {
            (false, _) => None,
            (true, there) => there.into_iter().chain(until(pod.grace.unwrap_or_default())).min(),
        };
        let over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if over(self.leaves) {
            let why = pod.evicted.as_ref().map_or("it was told to go".into(), ToString::to_string);
            let reason = format!("{why}, and its node does not tell that it has ended");
            return Some(PodProblem::NodeLost { pod: pod.name.clone(), reason });
        }
        let wait = hopeless.filter(|_| over(self.hopeless))?;
        Some(PodProblem::Start { pod: pod.name.clone(), reason: wait.reason.clone() })
    }

    /// When it is to be looked at again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.hopeless.into_iter().chain(self.leaves).min()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tasks::informer::facts_of;

    fn seen(metadata: Value, status: Value) -> PodFacts {
        let mut pod = json!({"metadata": {"name": "p"}, "status": status});
        pod["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        facts_of(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    /// The cluster's times are those of 1970 here, which nobody is to take notice of.
    #[tokio::test(start_paused = true)]
    async fn a_pod_that_does_not_go_in_its_time_is_lost() {
        let mut limits = Limits::default();
        let leaves = json!({"deletionTimestamp": "1970-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30});
        let leaves = seen(leaves, json!({"phase": "Running"}));
        assert_eq!(limits.see(&leaves), None);
        tokio::time::advance(Duration::from_secs(49)).await;
        assert_eq!(limits.see(&leaves), None);
        assert_eq!(limits.next().map(|at| at - Instant::now()), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        let lost = limits.see(&leaves).unwrap().to_string();
        assert!(lost.contains("the node of pod `p` is lost: it was told to go"), "{lost}");
        // Told anew, and with less time.
        let mut limits = Limits::default();
        assert_eq!(limits.see(&leaves), None);
        let soon = PodFacts { grace: Some(Duration::from_secs(1)), ..leaves };
        assert_eq!(limits.see(&soon), None);
        assert_eq!(limits.next().map(|at| at - Instant::now()), Some(Duration::from_secs(21)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_can_t_start_is_waited_for_as_long_as_it_may_yet() {
        let mut limits = Limits::default();
        let stuck = json!({"phase": "Pending", "containerStatuses": [{"name": "task", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}}]});
        let (stuck, well) = (seen(json!({}), stuck), seen(json!({}), json!({"phase": "Pending"})));
        assert_eq!(limits.see(&stuck), None);
        tokio::time::advance(HOPELESS_AFTER - Duration::from_secs(1)).await;
        assert_eq!(limits.see(&well), None);
        assert_eq!(limits.see(&stuck), None);
        tokio::time::advance(HOPELESS_AFTER - Duration::from_secs(1)).await;
        assert_eq!(limits.see(&stuck), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(limits.see(&stuck), Some(PodProblem::Start { .. })));
    }
}
