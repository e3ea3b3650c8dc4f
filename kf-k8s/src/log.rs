//! A rank's log, followed while it comes.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncReadExt};
use k8s_openapi::api::core::v1::Pod;
use kf_core::CancellationToken;
use kube::Api;
use kube::api::LogParams;
use tokio::sync::mpsc;
use tracing::debug;

/// Longer lines come in pieces.
const LONGEST_LINE: u64 = 64 << 10;
/// How long a broken connection waits before it is made again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long it waits at most where the log can't be had.
const LATEST: Duration = Duration::from_secs(5);

/// What is read of a rank's log.
#[derive(Debug)]
pub(crate) struct Read {
    /// The number of this reading among all of its job.
    pub(crate) turn: u64,
    pub(crate) rank: usize,
    /// A line without its end; none at the end of the log.
    pub(crate) line: Option<String>,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Work,
    Ended,
    /// Its pod is not there any more.
    Gone,
}

/// The log of one container.
pub(crate) struct Followed {
    pub(crate) pods: Api<Pod>,
    pub(crate) pod: String,
    /// The pod's own id: another may come with its name.
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) turn: u64,
    pub(crate) rank: usize,
    pub(crate) told: mpsc::Sender<Read>,
    /// Fires when the container is known to have ended, where whoever reads hears of that.
    pub(crate) over: CancellationToken,
}

impl Followed {
    /// Reads to the end of a container's log, over connections that break.
    pub(crate) async fn read(self) {
        let (mut last, mut wait) = (String::new(), AGAIN);
        loop {
            let at = self.at().await;
            if at == At::Gone {
                break;
            }
            // What is read after its end is all there is.
            let over = at == At::Ended;
            match self.read_once(&mut last, !over).await {
                Ok(true) => wait = AGAIN,
                // Nobody listens any more.
                Ok(false) => return,
                Err(error) => {
                    debug!(pod = %self.pod, %error, "its log is not read");
                    wait = (wait * 2).min(LATEST);
                }
            }
            if over {
                break;
            }
            let _ = tokio::time::timeout(wait, self.over.cancelled()).await;
        }
        let _ = self.tell(None).await;
    }

    /// Where the container is.
    async fn at(&self) -> At {
        if self.over.is_cancelled() {
            return At::Ended;
        }
        let Ok(pod) = self.pods.get_opt(&self.pod).await else { return At::Work };
        let ours = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(self.uid.as_str()));
        let Some(status) = ours.and_then(|pod| pod.status) else { return At::Gone };
        let mut containers = status.container_statuses.into_iter().flatten();
        let state = containers.find(|container| container.name == self.container);
        match state.and_then(|container| container.state?.terminated) {
            Some(_) => At::Ended,
            None => At::Work,
        }
    }

    /// Reads what comes after the line of this time; false where nobody listens.
    async fn read_once(&self, last: &mut String, follow: bool) -> Result<bool, kube::Error> {
        let params = LogParams {
            container: Some(self.container.clone()),
            follow,
            timestamps: true,
            since_time: last.parse().ok(),
            ..LogParams::default()
        };
        let mut stream = Box::pin(self.pods.log_stream(&self.pod, &params).await?);
        let mut bytes = Vec::new();
        // Only an earlier connection has told lines before: the two outputs' times may cross.
        let told = last.clone();
        // Whether a line is not at its end yet, and whether it was told before.
        let (mut goes_on, mut known) = (false, false);
        loop {
            bytes.clear();
            let read = (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut bytes).await;
            match read {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) => {
                    debug!(pod = %self.pod, %error, "its log has broken off");
                    return Ok(true);
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let within = std::mem::replace(&mut goes_on, !bytes.ends_with(b"\n"));
            // Times of one form and zone, which are ordered as text.
            let line = match text.split_once(' ') {
                _ if within && known => continue,
                _ if within => text,
                Some((time, line)) if is_time(time) => {
                    known = time <= told.as_str();
                    if known {
                        continue;
                    }
                    if time > last.as_str() {
                        time.clone_into(last);
                    }
                    line
                }
                // What the node says itself, such as that the container is gone.
                _ => {
                    debug!(pod = %self.pod, "the node says: {text}");
                    known = true;
                    continue;
                }
            };
            if !self.tell(Some(line.to_owned())).await {
                return Ok(false);
            }
        }
    }

    async fn tell(&self, line: Option<String>) -> bool {
        let read = Read { turn: self.turn, rank: self.rank, line };
        self.told.send(read).await.is_ok()
    }
}

/// Whether it is such a time as Kubernetes writes before each line.
fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T')
}

/// The last lines of a rank, up to some bytes.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Kept {
    /// How many bytes are kept of each rank.
    const MOST: usize = 256 << 10;

    pub(crate) fn add(&mut self, line: &str) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > Self::MOST {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len() + 1;
        }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// The last ones.
    pub(crate) fn last(&self, count: usize) -> Vec<String> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_kept() {
        let mut kept = Kept::default();
        let line = "x".repeat(1000);
        for _ in 0..2000 {
            kept.add(&line);
        }
        kept.add("the last");
        assert!(kept.text().len() <= Kept::MOST && kept.text().len() > Kept::MOST - 2000);
        assert_eq!(kept.last(1), ["the last"]);
        assert!(is_time("2026-01-01T00:00:00.123456789Z") && !is_time("hello") && !is_time(&"T".repeat(30)));
    }
}
