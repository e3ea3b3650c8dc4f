//! What a child prints: to its log, to the last-lines memory, to whoever listens.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::command::LineSink;
use super::lines::{Lines, Recent};
use super::log::LogWriter;
use crate::mutex::locked;

pub(super) struct Output {
    pub(super) pipe: pipe::Receiver,
    pub(super) log: Option<LogWriter>,
    pub(super) on_line: Option<LineSink>,
    pub(super) recent: Arc<Mutex<Recent>>,
}

impl Output {
    /// Reads until every process that holds the pipe's other end has ended, or `abandon` says that it was enough.
    pub(super) async fn pump(mut self, abandon: impl Future<Output = ()>) -> io::Result<()> {
        let mut abandon = std::pin::pin!(abandon);
        let mut lines = Lines::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = tokio::select! {
                biased;
                read = self.pipe.read(&mut buffer) => read,
                () = &mut abandon => break,
            };
            match read {
                Ok(0) | Err(_) => break,
                Ok(read) => self.take(&buffer[..read], &mut lines),
            }
        }
        if let Some(sink) = &self.on_line {
            lines.finish(|line| sink(line));
        }
        match self.log {
            None => Ok(()),
            Some(log) if log.is_in_order() => log.finish(),
            Some(log) => tokio::task::spawn_blocking(|| log.finish()).await.map_err(io::Error::other)?,
        }
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Lines) {
        if let Some(log) = &mut self.log {
            log.write(bytes);
        }
        locked(&self.recent).feed(bytes);
        if let Some(sink) = &self.on_line {
            lines.feed(bytes, |line| sink(line));
        }
    }
}
