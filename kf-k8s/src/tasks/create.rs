//! What the API server says to a pod that is to be made.

use std::time::Duration;

use tokio::time::Instant;

use crate::answer::{lacks_namespace, lacks_right, with_causes};

/// Why it was not made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is one of this name.
    There,
    /// There is no room for it in the namespace's quota for now.
    Quota(String),
    /// This program may not do it.
    Forbidden(String),
    /// There is no such namespace.
    NoNamespace,
    /// It is not taken as it is.
    Refused(String),
    /// It is worth trying again.
    Later(String),
}

/// What a failed request to make a pod means.
pub(super) fn refusal(error: &kube::Error) -> Refusal {
    let kube::Error::Api(status) = error else { return Refusal::Later(with_causes(error)) };
    let message = status.message.clone();
    match status.code {
        409 if status.reason == "AlreadyExists" => Refusal::There,
        // So quota is told: only by these words.
        403 if message.contains("exceeded quota") => Refusal::Quota(message),
        // All other refusals come from admission.
        403 if lacks_right(&message) => Refusal::Forbidden(message),
        401 => Refusal::Forbidden(message),
        404 if lacks_namespace(&message) => Refusal::NoNamespace,
        400 | 403 | 404 | 405 | 413 | 422 => Refusal::Refused(message),
        code => Refusal::Later(format!("{} ({code}): {message}", status.reason)),
    }
}

/// Whether what was asked may have been done all the same: the answer was lost, or is none.
pub(super) fn may_be_done(error: &kube::Error) -> bool {
    !matches!(error, kube::Error::Api(status) if status.code < 500)
}

/// How long rights that are missing are waited for.
const RIGHTS: Duration = Duration::from_secs(20);

/// How long something is refused that may be allowed again.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<Instant>);

impl Patience {
    /// Whether it has lasted for too long by now.
    pub(super) fn is_over(&mut self) -> bool {
        self.0.get_or_insert_with(Instant::now).elapsed() >= RIGHTS
    }

    /// It was not refused.
    pub(super) fn renew(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rights_are_waited_for_anew_each_time_they_are_missing() {
        let mut patience = Patience::default();
        for _ in 0..3 {
            assert!(!patience.is_over());
            tokio::time::advance(RIGHTS / 2).await;
            assert!(!patience.is_over());
            patience.renew();
        }
        assert!(!patience.is_over());
        tokio::time::advance(RIGHTS).await;
        assert!(patience.is_over());
    }

    #[test]
    fn refusals_are_told_apart() {
        let of = |code, reason: &str, message: &str| {
            refusal(&kube::Error::Api(Box::new(Status {
                code,
                reason: reason.into(),
                message: message.into(),
                ..Default::default()
            })))
        };
        assert_eq!(of(409, "AlreadyExists", ""), Refusal::There);
        let quota =
            "pods \"a\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
        assert_eq!(of(403, "Forbidden", quota), Refusal::Quota(quota.into()));
        let rbac = "pods is forbidden: User \"u\" cannot create resource \"pods\" in API group \"\" in the namespace \"n\"";
        assert_eq!(of(403, "Forbidden", rbac), Refusal::Forbidden(rbac.into()));
        let security = "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\": privileged";
        assert_eq!(of(403, "Forbidden", security), Refusal::Refused(security.into()));
        assert!(matches!(of(422, "Invalid", "x"), Refusal::Refused(_)));
        assert_eq!(of(404, "NotFound", "namespaces \"n\" not found"), Refusal::NoNamespace);
        for code in [429, 500, 503, 504] {
            assert!(matches!(of(code, "Busy", "x"), Refusal::Later(_)));
        }
        assert!(matches!(of(409, "Conflict", "x"), Refusal::Later(_)));
        let lost = |code| may_be_done(&kube::Error::Api(Box::new(Status { code, ..Default::default() })));
        assert_eq!([409, 429, 500, 504].map(lost), [false, false, true, true]);
        assert!(may_be_done(&kube::Error::Service("broken".into())));
    }
}
