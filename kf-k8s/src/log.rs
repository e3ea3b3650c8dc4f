//! A rank's log, followed while it comes.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncReadExt};
use k8s_openapi::api::core::v1::Pod;
use kf_core::CancellationToken;
use kube::Api;
use kube::api::LogParams;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::answer::{in_time, said};

/// Longer lines come in pieces.
const LONGEST_LINE: u64 = 64 << 10;
/// How long a broken connection waits before it is made again; longer each time that nothing comes of it, up to the second.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// How often in a row what an ended container has printed can't be read before it is left unread.
const TRIES: u32 = 6;

/// What is read of a rank's log.
#[derive(Debug)]
pub(crate) struct Read {
    /// The number of this reading among all of its job.
    pub(crate) turn: u64,
    pub(crate) rank: usize,
    /// A line without its end; none at the end of the log. Where the log can't be read, a line in brackets says so.
    pub(crate) line: Option<String>,
    /// Why the log can't be read, where that is so.
    pub(crate) unread: Option<String>,
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
        let mut last = String::new();
        let (mut wait, mut tries) = (AGAIN[0], 0);
        let (mut unread, mut refused_before) = (None, false);
        loop {
            let (at, before) = (self.at().await, last.clone());
            let over = matches!(at, Ok(At::Ended));
            let read = match at {
                Ok(At::Gone) => break,
                // What is read after its end is all there is.
                Ok(_) => self.read_once(&mut last, !over).await,
                Err(error) => Err(error),
            };
            match read {
                // Nobody listens any more.
                Ok(false) => return,
                Ok(true) if over => break,
                Ok(true) => wait = AGAIN[0],
                Err(error) => {
                    debug!(pod = %self.pod, %error, "its log is not read");
                    (wait, tries) = match last == before {
                        true => ((wait * 2).min(AGAIN[1]), tries + 1),
                        false => (AGAIN[0], 0),
                    };
                    // Not to be had, such as of a container that never ran; or not any more, such as with its node.
                    let refused = matches!(&error, kube::Error::Api(status) if status.code < 429);
                    let why = said(&error);
                    // Whoever listens should hear of it while the work goes on.
                    if is_forbidden(&error) && !std::mem::replace(&mut refused_before, true) {
                        warn!(pod = %self.pod, "its log can't be read: {why}");
                        if !self.tell(Some(unread_line(&why)), Some(why.clone())).await {
                            return;
                        }
                    }
                    if over && (refused || tries > TRIES) {
                        unread = Some(why);
                        break;
                    }
                }
            }
            let _ = tokio::time::timeout(wait, self.ended()).await;
        }
        let _ = self.tell(None, unread).await;
    }

    /// Waits until it is heard that the container has ended, which need not be waited for twice.
    async fn ended(&self) {
        match self.over.is_cancelled() {
            true => std::future::pending().await,
            false => self.over.cancelled().await,
        }
    }

    /// Where the container is.
    async fn at(&self) -> Result<At, kube::Error> {
        if self.over.is_cancelled() {
            return Ok(At::Ended);
        }
        let pod = in_time(self.pods.get_opt(&self.pod)).await?;
        let ours = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(self.uid.as_str()));
        let Some(status) = ours.and_then(|pod| pod.status) else { return Ok(At::Gone) };
        let mut containers = status.container_statuses.into_iter().flatten();
        let state = containers.find(|container| container.name == self.container);
        match state.and_then(|container| container.state?.terminated) {
            Some(_) => Ok(At::Ended),
            None => Ok(At::Work),
        }
    }

    /// Reads what comes after the line of this time; false where nobody listens.
    async fn read_once(&self, last: &mut String, follow: bool) -> Result<bool, kube::Error> {
        let params = LogParams {
            container: Some(self.container.clone()),
            follow,
            timestamps: true,
            since_time: second(last).and_then(|time| time.parse().ok()),
            ..LogParams::default()
        };
        let mut stream = Box::pin(in_time(self.pods.log_stream(&self.pod, &params)).await?);
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
                Err(error) => return Err(kube::Error::Service(error.into())),
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
            if !self.tell(Some(line.to_owned()), None).await {
                return Ok(false);
            }
        }
    }

    async fn tell(&self, line: Option<String>, unread: Option<String>) -> bool {
        let read = Read { turn: self.turn, rank: self.rank, line, unread };
        self.told.send(read).await.is_ok()
    }
}

/// Whether this program may not do what it has asked for.
fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// What stands where a log can't be read.
fn unread_line(why: &str) -> String {
    format!("[… the log can't be read: {why} …]")
}

/// The second that a time is in: a request takes no part of one, and would round it up.
fn second(time: &str) -> Option<String> {
    time.get(..19).map(|time| format!("{time}Z"))
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
    /// How many bytes came before those.
    left_out: usize,
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
            self.left_out += first.len() + 1;
        }
    }

    /// All that is kept, after a line that says what is left out.
    pub(crate) fn text(&self) -> String {
        let left_out = match self.left_out {
            0 => String::new(),
            bytes => format!("[… {bytes} bytes left out …]\n"),
        };
        [left_out.as_str()]
            .into_iter()
            .chain(self.lines.iter().flat_map(|line| [line.as_str(), "\n"]))
            .collect()
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
        assert!(Kept::default().text().is_empty());
        kept.add("the last");
        let text = kept.text();
        let (mark, rest) = text.split_once('\n').unwrap();
        assert!(rest.len() <= Kept::MOST && rest.len() > Kept::MOST - 2000);
        assert_eq!(mark, format!("[… {} bytes left out …]", 2000 * 1001 + "the last\n".len() - rest.len()));
        assert_eq!(kept.last(1), ["the last"]);
        assert_eq!(second("2026-01-01T00:00:00.923456789Z").as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(second(""), None);
        assert!(is_time("2026-01-01T00:00:00.123456789Z") && !is_time("hello") && !is_time(&"T".repeat(30)));
    }
}
