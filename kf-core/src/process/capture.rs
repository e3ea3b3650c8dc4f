//! What processes print that somebody else starts.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Log;
use super::lines::Recent;
use super::log::{LogFeed, LogWriter};
use super::output::Output;
use crate::mutex::locked;

/// Keeps what comes out of a pipe, as a [`Child`](super::Child)'s output is kept. Dropped, it stops reading.
#[derive(Debug)]
pub struct Capture {
    recent: Arc<Mutex<Recent>>,
    log: Option<LogFeed>,
    enough: CancellationToken,
    pump: JoinHandle<io::Result<()>>,
}

impl Capture {
    /// Begins to read, and gives the end to write to: it is for the process, and is to be closed here.
    ///
    /// # Errors
    /// Where the log can't be made or there is no room for a pipe.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(log: &Log) -> io::Result<(Self, io::PipeWriter)> {
        let (read, write) = io::pipe()?;
        let output = Output {
            pipe: pipe::Receiver::from_owned_fd(read.into())?,
            log: Some(LogWriter::create(log)?),
            on_line: None,
            recent: Arc::default(),
        };
        let recent = Arc::clone(&output.recent);
        let log = output.log.as_ref().map(LogWriter::feed);
        let enough = CancellationToken::new();
        let pump = tokio::spawn(output.pump(enough.clone().cancelled_owned()));
        Ok((Self { recent, log, enough, pump }, write))
    }

    /// The log, to be followed.
    pub fn log(&self) -> Option<&LogFeed> {
        self.log.as_ref()
    }

    /// Reads what is left, for at most this long, and completes the log.
    ///
    /// # Errors
    /// Where the log is incomplete.
    async fn complete(&mut self, within: Duration) -> io::Result<()> {
        let read = match tokio::time::timeout(within, &mut self.pump).await {
            Ok(read) => read,
            Err(_) => {
                self.enough.cancel();
                (&mut self.pump).await
            }
        };
        read.map_err(io::Error::other)?
    }

    /// Reads what is left, for at most this long, completes the log and gives the last `lines` lines.
    pub async fn finish(mut self, within: Duration, lines: usize) -> Vec<String> {
        if let Err(error) = self.complete(within).await {
            tracing::warn!(%error, "a log is incomplete");
        }
        locked(&self.recent).last(lines)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.enough.cancel();
    }
}
