//! What follows a failed attempt.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kf_pipeline::spec::{KfExecutor, RetryPolicy};

use crate::objects::argo::{Backoff, RetryStrategy};

/// What waits are at most where the policy does not say.
const LONGEST: &str = "3600s";

/// A task's retry policy, which is given as JSON.
pub(super) fn strategy(policy: &str, kf: &KfExecutor) -> Result<RetryStrategy, String> {
    let policy: RetryPolicy = serde_json::from_str(policy).map_err(|error| error.to_string())?;
    if kf.backoff_jitter.is_some_and(|jitter| jitter > 0.0) {
        return Err("its waits between attempts have jitter, and Argo's have none".to_owned());
    }
    let limit =
        i32::try_from(policy.max_retry_count).map_err(|_| "it is tried again too often".to_owned())?;
    let mut strategy = RetryStrategy {
        limit: Some(IntOrString::Int(limit)),
        // Whatever it was that ended an attempt.
        retry_policy: Some("Always".to_owned()),
        backoff: None,
    };
    let Some(first) =
        policy.backoff_duration.as_deref().map(duration).transpose()?.filter(|wait| !wait.is_zero())
    else {
        return Ok(strategy);
    };
    let factor = policy.backoff_factor.filter(|factor| *factor != 0.0).unwrap_or(2.0).max(1.0);
    if factor.fract() != 0.0 || factor > f64::from(i32::MAX) {
        return Err(format!(
            "each of its waits is {factor} times the one before, and Argo takes whole numbers"
        ));
    }
    let cap = policy.backoff_max_duration.as_deref().unwrap_or(LONGEST);
    strategy.backoff = Some(Backoff {
        duration: Some(shown(first)),
        factor: Some(IntOrString::Int(factor as i32)),
        cap: Some(shown(duration(cap)?)),
        max_duration: None,
    });
    Ok(strategy)
}

/// Seconds with an `s`, as protobuf's JSON has them.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("`{text}` is not a duration such as `1.5s`"))
}

/// As Go reads it.
fn shown(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_as_far_as_they_may() {
        let policy = r#"{"maxRetryCount": 3, "backoffDuration": "1.5s", "backoffFactor": 3, "backoffMaxDuration": "60s"}"#;
        let found = strategy(policy, &KfExecutor::default()).unwrap();
        assert_eq!(
            serde_json::to_value(found).unwrap(),
            serde_json::json!({"limit": 3, "retryPolicy": "Always",
                "backoff": {"duration": "1500ms", "factor": 3, "cap": "60s"}})
        );
        assert_eq!(strategy(r#"{"maxRetryCount": 1}"#, &KfExecutor::default()).unwrap().backoff, None);
    }

    #[test]
    fn what_argo_does_not_wait_like_is_refused() {
        let half = r#"{"maxRetryCount": 3, "backoffDuration": "1s", "backoffFactor": 1.5}"#;
        assert!(strategy(half, &KfExecutor::default()).unwrap_err().contains("1.5 times"));
        let jitter = KfExecutor { backoff_jitter: Some(0.5), ..KfExecutor::default() };
        assert!(strategy(r#"{"maxRetryCount": 3}"#, &jitter).unwrap_err().contains("jitter"));
    }
}
