//! Pods that a job lacks.

use std::time::{Duration, Instant};

use super::super::refusals::{Refusal, Said};

/// How long pods may be missing before it is asked why.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// How long it is before that is asked again, at first and once nothing new has come of it for long.
const ASK_AGAIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(120)];
/// How long pods may be missing before that is told though nobody says why.
const TELL_AFTER: Duration = Duration::from_secs(15);

/// That a job has fewer pods than it is to have.
#[derive(Debug)]
pub(super) struct Missing {
    since: Instant,
    asked: Option<Instant>,
    again: Duration,
    /// What was told of it, without what is another for each try.
    told: Option<String>,
}

/// What is known of a job's pods, for words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pods<'a> {
    pub(super) there: usize,
    pub(super) wanted: usize,
    /// The kind of the job's object, and its name.
    pub(super) kind: &'a str,
    pub(super) object: &'a str,
    pub(super) namespace: &'a str,
}

impl Missing {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, asked: None, again: ASK_AGAIN[0], told: None }
    }

    /// Whether it is time to ask why.
    pub(super) fn asks(&self, now: Instant) -> bool {
        match self.asked {
            Some(asked) => now - asked > self.again,
            None => now - self.since > ASK_AFTER,
        }
    }

    /// Takes up what was said; what to tell, where that is another than before.
    pub(super) fn said(&mut self, now: Instant, said: &Said, pods: Pods<'_>) -> Option<String> {
        self.asked = Some(now);
        let silent = !matches!(said, Said::Refused(_));
        if silent && self.told.is_some() {
            self.again = (self.again * 2).min(ASK_AGAIN[1]);
            return None;
        }
        if silent && now - self.since < TELL_AFTER {
            return None;
        }
        let key = match said {
            Said::Refused(refusal) => refusal.key(),
            Said::Nothing | Said::Unknown(_) => String::new(),
        };
        if self.told.as_ref() == Some(&key) {
            self.again = (self.again * 2).min(ASK_AGAIN[1]);
            return None;
        }
        (self.told, self.again) = (Some(key), ASK_AGAIN[0]);
        Some(words(said, pods))
    }
}

fn words(said: &Said, pods: Pods<'_>) -> String {
    let Pods { there, wanted, kind, object, namespace } = pods;
    let are = if there == 1 { "is" } else { "are" };
    let there = format!("{there} of {wanted} pods {are} there");
    match said {
        Said::Refused(Refusal { kind, name, reason, message }) => {
            let advice = advice(message);
            format!("{there}: {reason} of {kind} `{name}` in namespace `{namespace}`: {message}{advice}")
        }
        Said::Nothing => {
            format!(
                "{there}, and no event of {kind} `{object}` says why: does the controller of {kind}s run?"
            )
        }
        Said::Unknown(why) => {
            format!(
                "{there}, and why is not known, since the events of {kind} `{object}` can't be read: {why}"
            )
        }
    }
}

/// What to do about a refusal.
fn advice(message: &str) -> &'static str {
    match message {
        _ if message.contains("serviceaccount") && message.contains("not found") => {
            "; make that service account, such as with `kf_k8s::manifests`, or name another one as \
             `PodOptions::service_account`"
        }
        _ if message.contains("exceeded quota") => {
            "; it goes on when others' pods have gone, or the quota allows for more"
        }
        _ if message.contains("violates PodSecurity") => {
            "; run what keeps to that, or have the namespace's level changed"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: Pods<'_> = Pods { there: 0, wanted: 2, kind: "TrainJob", object: "kf-a", namespace: "team" };

    fn refused(message: &str) -> Said {
        Said::Refused(Refusal {
            kind: "Job".into(),
            name: "kf-a-node-0".into(),
            reason: "FailedCreate".into(),
            message: message.into(),
        })
    }

    #[test]
    fn it_is_asked_after_a_while_and_every_now_and_then() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut missing = Missing::new(start);
        assert!(!missing.asks(after(4)) && missing.asks(after(6)));
        assert_eq!(missing.said(after(6), &Said::Nothing, PODS), None);
        assert!(!missing.asks(after(15)) && missing.asks(after(17)));
        // Each time that nothing new comes of it, later.
        assert!(missing.said(after(17), &refused("x"), PODS).is_some());
        for (asked, next) in [(30, 50), (60, 100), (110, 190), (200, 320), (330, 450)] {
            assert_eq!(missing.said(after(asked), &refused("x"), PODS), None);
            assert!(!missing.asks(after(next)) && missing.asks(after(next + 1)), "{next}");
        }
    }

    #[test]
    fn a_refusal_is_told_once_and_another_one_anew() {
        let start = Instant::now();
        let mut missing = Missing::new(start);
        let mut told = |message: &str| missing.said(start, &refused(message), PODS);
        let of = |pod: &str| {
            format!(
                r#"Error creating: pods "{pod}" is forbidden: error looking up it: serviceaccount "x" not found"#
            )
        };
        let first = told(&of("kf-a-0-abcde")).unwrap();
        for expected in ["0 of 2 pods are there", "FailedCreate of Job `kf-a-node-0`", "service_account`"] {
            assert!(first.contains(expected), "{first}");
        }
        assert_eq!(told(&of("kf-a-0-fghij")), None);
        let quota = told(r#"Error creating: pods "p" is forbidden: exceeded quota: q"#).unwrap();
        assert!(quota.contains("the quota allows for more"), "{quota}");
    }

    #[test]
    fn silence_is_told_after_a_longer_while() {
        let start = Instant::now();
        let late = start + Duration::from_secs(16);
        let mut missing = Missing::new(start);
        let told = missing.said(late, &Said::Nothing, PODS).unwrap();
        assert!(told.contains("does the controller of TrainJobs run?"), "{told}");
        assert_eq!(missing.said(late, &Said::Unknown("no".into()), PODS), None);
        assert!(missing.said(late, &refused("x"), PODS).unwrap().ends_with("`team`: x"));
        let told = Missing::new(start).said(late, &Said::Unknown("no".into()), PODS).unwrap();
        assert!(told.ends_with("can't be read: no"), "{told}");
    }
}
