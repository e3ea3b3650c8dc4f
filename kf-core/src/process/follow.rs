//! Reading a log, also while it is being written.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::lines::Lines;
use super::log::{Layout, Mark, left_out_line};

/// How much is read at once.
const CHUNK: u64 = 64 << 10;

/// A log's bytes in order. Ends after an error.
pub type LogStream = BoxStream<'static, io::Result<LogChunk>>;

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogChunk {
    /// What comes next, at most 64 KiB.
    Bytes(Bytes),
    /// So many bytes came next and are not there to be read: the log did not keep them, or the reader was too slow.
    Missed(u64),
}

/// Reads a log that lies in a file and is complete.
///
/// Of a log whose writer was killed the last bytes may be in the wrong order: they are put in order at its end.
///
/// # Errors
/// Where the file can't be opened.
pub async fn read_log(path: impl AsRef<Path>) -> io::Result<LogStream> {
    let file = tokio::fs::File::open(path).await?;
    Ok(stream::try_unfold(file, |mut file| async move {
        let mut buffer = Vec::with_capacity(CHUNK as usize);
        let read = (&mut file).take(CHUNK).read_to_end(&mut buffer).await?;
        Ok((read > 0).then(|| (LogChunk::Bytes(buffer.into()), file)))
    })
    .boxed())
}

/// A log's lines, without their ends. Lines above 8 KiB come in pieces, bytes that are not UTF-8 are replaced, and where
/// bytes are missing there is a line that says how many: `[… 5 bytes left out …]`.
pub fn log_lines(log: LogStream) -> impl Stream<Item = io::Result<String>> + Send + Unpin {
    let start = (Some(log), Lines::default(), VecDeque::new());
    Box::pin(stream::unfold(start, |(mut log, mut lines, mut ready)| async move {
        loop {
            if let Some(line) = ready.pop_front() {
                return Some((line, (log, lines, ready)));
            }
            let mut give = |line: &str| ready.push_back(Ok(line.to_owned()));
            match log.as_mut()?.next().await {
                Some(Ok(LogChunk::Bytes(bytes))) => lines.feed(&bytes, give),
                Some(Ok(LogChunk::Missed(bytes))) => {
                    lines.finish(&mut give);
                    give(&left_out_line(bytes));
                }
                Some(Err(error)) => {
                    lines.finish(give);
                    ready.push_back(Err(error));
                    log = None;
                }
                None => {
                    lines.finish(give);
                    log = None;
                }
            }
        }
    }))
}

/// Reads a log's file while it is written: the head, and of the ring what has not been overwritten.
pub(super) struct Follower {
    file: Arc<OnceLock<File>>,
    mark: watch::Receiver<Mark>,
    layout: Layout,
    /// The position of the next byte.
    at: u64,
}

impl Follower {
    pub(super) fn new(file: Arc<OnceLock<File>>, mark: watch::Receiver<Mark>, layout: Layout) -> Self {
        Self { file, mark, layout, at: 0 }
    }

    pub(super) fn into_stream(self) -> LogStream {
        stream::try_unfold(self, |mut follower| async move {
            Ok(follower.next().await?.map(|chunk| (chunk, follower)))
        })
        .boxed()
    }

    async fn next(&mut self) -> io::Result<Option<LogChunk>> {
        loop {
            // Asked before the mark is read, so that the mark of a closed log is its last.
            let closed = self.mark.has_changed().is_err();
            let mark = *self.mark.borrow_and_update();
            let lost = self.lost(mark);
            if lost > 0 {
                self.at += lost;
                return Ok(Some(LogChunk::Missed(lost)));
            }
            if self.at < mark.done {
                let bytes = self.read(mark.done).await?;
                let overwritten = self.at >= self.layout.head && self.at < self.oldest(*self.mark.borrow());
                if overwritten {
                    continue;
                }
                self.at += bytes.len() as u64;
                return Ok(Some(LogChunk::Bytes(bytes.into())));
            }
            if mark.failed {
                return Err(io::Error::other("the log can't be written any more; more was printed"));
            }
            if closed {
                return Ok(None);
            }
            // An error is the log's end, which the next turn sees.
            let _ = self.mark.changed().await;
        }
    }

    /// The first position after the head that is still there.
    fn oldest(&self, mark: Mark) -> u64 {
        self.layout.head.max(mark.begun.saturating_sub(self.layout.tail))
    }

    /// How many bytes from here on are not there any more.
    fn lost(&self, mark: Mark) -> u64 {
        let oldest = self.oldest(mark);
        if self.at < self.layout.head || self.at >= oldest {
            return 0;
        }
        // Whoever comes out of the head gets all that is left. Whoever was overtaken gets a start of a quarter, or it would be
        // overtaken again at once.
        let start = if self.at == self.layout.head { 0 } else { mark.done.saturating_sub(oldest) / 4 };
        oldest + start - self.at
    }

    /// What lies in a row from here on.
    async fn read(&self, done: u64) -> io::Result<Vec<u8>> {
        let (offset, room) = self.layout.place(self.at);
        let length = room.min(done - self.at).min(CHUNK);
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let file = file.get().ok_or_else(|| io::Error::other("the log has no file"))?;
            let mut buffer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut buffer, offset)?;
            Ok(buffer)
        });
        read.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::{Log, LogWriter};
    use super::*;

    fn writer(folder: &Path, head: u64, tail: u64) -> LogWriter {
        LogWriter::create(&Log { path: folder.join("x.log"), head, tail, on_demand: false }).unwrap()
    }

    /// What comes until the follower would wait, or until the end.
    async fn now(log: &mut LogStream) -> (String, bool) {
        let mut text = String::new();
        loop {
            match tokio::time::timeout(std::time::Duration::from_millis(50), log.next()).await {
                Ok(Some(Ok(LogChunk::Bytes(bytes)))) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Ok(Some(Ok(LogChunk::Missed(bytes)))) => text.push_str(&format!("<{bytes}>")),
                Ok(Some(Err(error))) => text.push_str(&error.to_string()),
                Ok(None) => return (text, true),
                Err(_) => return (text, false),
            }
        }
    }

    #[tokio::test]
    async fn followers_get_what_was_kept_and_then_what_comes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 4, 8);
        let mut early = log.feed().follow();
        assert!(early.next().now_or_never().is_none());
        log.write(b"abc");
        assert_eq!(now(&mut early).await, ("abc".to_owned(), false));
        log.write(b"defgh");
        let mut later = log.feed().follow();
        assert_eq!(now(&mut early).await, ("defgh".to_owned(), false));
        // The ring wraps: seventeen bytes, of which four and eight are kept.
        log.write(b"ijklmno");
        log.write(b"pq");
        let mut late = log.feed().follow();
        assert_eq!(now(&mut late).await, ("abcd<5>jklmnopq".to_owned(), false));
        assert_eq!(now(&mut early).await.0, "<3>lmnopq", "eight had come, of nine more it gets a start");
        assert_eq!(now(&mut later).await, ("abcd<5>jklmnopq".to_owned(), false));
        // The end puts the file in order, for none of those who follow.
        log.write(b"rs");
        log.finish().unwrap();
        assert_eq!(now(&mut late).await, ("rs".to_owned(), true));
        assert_eq!(now(&mut early).await, ("rs".to_owned(), true));
        let kept = read_log(dir.path().join("x.log")).await.unwrap();
        let lines: Vec<_> = log_lines(kept).map(Result::unwrap).collect().await;
        assert_eq!(lines, ["abcd", "[… 7 bytes left out …]", "lmnopqrs"]);
    }

    #[tokio::test]
    async fn a_follower_behind_the_end_reads_on_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 4, 8);
        let mut behind = log.feed().follow();
        log.write(b"abcdefghijklmnopq");
        log.finish().unwrap();
        assert_eq!(now(&mut behind).await, ("abcd<5>jklmnopq".to_owned(), true));
        let mut dropped = writer(dir.path(), 4, 8);
        dropped.write(b"ab");
        let mut follows = dropped.feed().follow();
        drop(dropped);
        assert_eq!(now(&mut follows).await, ("ab".to_owned(), true));
    }

    #[tokio::test]
    async fn lines_are_joined_over_chunks_and_say_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 8, 16);
        let mut lines = log_lines(log.feed().follow());
        log.write(b"one\ntw");
        assert_eq!(lines.next().await.unwrap().unwrap(), "one");
        assert!(lines.next().now_or_never().is_none());
        log.write(b"o\nthree and so on and so forth\nlast");
        drop(log);
        let rest: Vec<_> = lines.map(Result::unwrap).collect().await;
        assert_eq!(rest, ["two", "[… 17 bytes left out …]", "nd so forth", "last"]);
    }

    #[tokio::test]
    async fn a_full_disk_ends_followers_with_an_error() {
        let mut log = LogWriter::create(&Log::to("/dev/full")).unwrap();
        let mut follows = log.feed().follow();
        log.write(b"a");
        log.write(b"b");
        assert!(follows.next().await.unwrap().is_err());
        assert!(follows.next().await.is_none());
        assert!(log.finish().is_err());
    }

    /// A writer as fast as it can be and followers of all speeds: what they get and what they are told to have missed is
    /// everything, and each byte is the one of its position.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_gets_a_byte_that_was_overwritten() {
        const TOTAL: u64 = 24 << 20;
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 10_000, 300_000);
        let byte = |position: u64| (position % 251) as u8;
        let followers: Vec<_> = [0, 0, 1, 20]
            .into_iter()
            .map(|millis| {
                let mut log = log.feed().follow();
                tokio::spawn(async move {
                    let (mut at, mut missed) = (0, 0);
                    while let Some(chunk) = log.next().await {
                        match chunk.unwrap() {
                            LogChunk::Missed(bytes) => {
                                at += bytes;
                                missed += bytes;
                            }
                            LogChunk::Bytes(bytes) => {
                                assert!(bytes.iter().zip(at..).all(|(found, at)| *found == byte(at)));
                                at += bytes.len() as u64;
                            }
                        }
                        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
                    }
                    (at, missed)
                })
            })
            .collect();
        let writes = tokio::task::spawn_blocking(move || {
            let mut at = 0;
            while at < TOTAL {
                let length = (at % 70_000 + 1).min(TOTAL - at);
                log.write(&(at..at + length).map(byte).collect::<Vec<_>>());
                at += length;
            }
            log.finish().unwrap();
        });
        writes.await.unwrap();
        let mut slowest = 0;
        for follower in followers {
            let (at, missed) = follower.await.unwrap();
            assert_eq!(at, TOTAL);
            slowest = slowest.max(missed);
        }
        assert!(slowest > 0, "nobody was slow");
    }
}
