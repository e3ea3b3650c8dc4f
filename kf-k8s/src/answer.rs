//! Requests that are not waited for without end, and what comes of them in words.

use std::time::Duration;

/// How long an answer of the API server is waited for. Its webhooks may take 30 seconds of it.
const ANSWER: Duration = Duration::from_secs(40);

/// The answer to a request, which must come in its time: a connection that was cut without a word is never told so.
///
/// # Errors
/// What the request's are; [`kube::Error::Service`] where it took too long. It may have been carried out then.
pub(crate) async fn in_time<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(kube::Error::Service(format!("the API server has not answered within {ANSWER:?}").into()))
        }
    }
}

/// An error with its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
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

/// What an error of a request says, and what to do about it where that is known.
pub(crate) fn said(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return with_causes(error) };
    let advice = advice(status.code, &status.message).map_or(String::new(), |advice| format!("; {advice}"));
    format!("{} ({}): {}{advice}", status.reason, status.code, status.message.trim_end())
}

/// Whether what is forbidden is a matter of rights: so RBAC is told, and quotas and webhooks in other words.
pub(crate) fn lacks_right(message: &str) -> bool {
    message.contains("cannot ") && message.contains("in API group")
}

/// Whether what was not found is the namespace.
pub(crate) fn lacks_namespace(message: &str) -> bool {
    message.starts_with("namespaces ")
}

fn advice(code: u16, message: &str) -> Option<&'static str> {
    match code {
        403 if lacks_right(message) => {
            Some("this program's account lacks that right: `kf_k8s::manifests` has those that it needs")
        }
        404 if lacks_namespace(message) => {
            Some("make the namespace first, such as with `kf_k8s::manifests`, or name another one")
        }
        404 if message.contains("page not found") || message.contains("the requested resource") => Some(
            "the cluster has no such objects: install what defines them, or take the kind that `KubeLauncher::discover` finds",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn refusals_come_with_what_to_do() {
        let said = |code: u16, message: &str| {
            let status = Status { code, reason: "R".into(), message: message.into(), ..Status::default() };
            said(&kube::Error::Api(status.boxed()))
        };
        let right = r#"pods is forbidden: User "u" cannot list resource "pods" in API group """#;
        for (code, message, advice) in [
            (403, right, Some("`kf_k8s::manifests` has those")),
            (403, "pods \"p\" is forbidden: exceeded quota: q", None),
            (404, "namespaces \"n\" not found", Some("make the namespace first")),
            (404, "404 page not found\n", Some("install what defines them")),
            (404, "pods \"p\" not found", None),
        ] {
            let text = said(code, message);
            let plain = format!("R ({code}): {}", message.trim_end());
            match advice {
                Some(advice) => assert!(text.starts_with(&plain) && text.contains(advice), "{text}"),
                None => assert_eq!(text, plain),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_an_error() {
        assert_eq!(in_time(async { Ok(1) }).await.unwrap(), 1);
        let never = in_time(std::future::pending::<Result<(), _>>()).await;
        assert_eq!(
            never.unwrap_err().to_string(),
            "ServiceError: the API server has not answered within 40s"
        );
    }
}
