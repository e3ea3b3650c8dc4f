//! What the API server says to a pod that is to be made.

use std::time::Duration;

/// Why it was not made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is one of this name.
    There,
    /// There is no room for it in the namespace's quota for now.
    Quota(String),
    /// This program may not do it.
    Forbidden(String),
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
        // So RBAC is told, where all other refusals come from admission.
        403 if message.contains("cannot ") && message.contains("in API group") => Refusal::Forbidden(message),
        401 => Refusal::Forbidden(message),
        400 | 403 | 404 | 405 | 413 | 422 => Refusal::Refused(message),
        code => Refusal::Later(format!("{} ({code}): {message}", status.reason)),
    }
}

/// Waits that double.
#[derive(Debug)]
pub(super) struct Again(Duration);

impl Default for Again {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Again {
    /// Waits, each time longer, up to ten seconds.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(10));
    }
}

/// An error with its causes.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

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
        for code in [429, 500, 503, 504] {
            assert!(matches!(of(code, "Busy", "x"), Refusal::Later(_)));
        }
        assert!(matches!(of(409, "Conflict", "x"), Refusal::Later(_)));
    }
}
