//! Indexed Jobs.

use k8s_openapi::api::batch::v1::JobSpec;

use super::Draft;

/// A Job whose pods start together, and end together when one fails.
pub(super) fn spec(draft: Draft<'_>) -> JobSpec {
    let nodes = nodes(&draft);
    JobSpec {
        completion_mode: Some("Indexed".into()),
        completions: Some(nodes),
        parallelism: Some(nodes),
        backoff_limit: Some(0),
        active_deadline_seconds: draft.seconds,
        ttl_seconds_after_finished: Some(keep(&draft)),
        template: draft.template,
        ..JobSpec::default()
    }
}

pub(super) fn nodes(draft: &Draft<'_>) -> i32 {
    i32::try_from(draft.spec.nodes).unwrap_or(i32::MAX)
}

pub(super) fn keep(draft: &Draft<'_>) -> i32 {
    i32::try_from(draft.options.keep.as_secs()).unwrap_or(i32::MAX)
}
