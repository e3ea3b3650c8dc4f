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

#[cfg(test)]
mod tests {
    use super::*;

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
