//! The bounded log file, and the handle that followers come from.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::command::Log;
use super::follow::{Follower, LogStream};

/// Writes a [`Log`]: a file that keeps the first and the last bytes written to it, and that others can
/// [follow](Self::feed) meanwhile.
///
/// A child's output is written by its [`Spawner`](super::Spawner); this is for what this process has to log itself.
/// When it is dropped its followers come to their end, and what was left out stays unsaid in the file:
/// [`finish`](Self::finish) completes it.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    layout: Layout,
    file: Arc<OnceLock<File>>,
    written: u64,
    failed: Option<io::Error>,
    mark: watch::Sender<Mark>,
}

/// How far a log is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// Where the write ends that is under way; what the ring had in its place is no more.
    pub(super) begun: u64,
    /// Up to here the bytes are in the file.
    pub(super) done: u64,
    /// Nothing more is kept.
    pub(super) failed: bool,
}

/// How many bytes are kept of the beginning, and how many after these, as a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) head: u64,
    pub(super) tail: u64,
}

impl Layout {
    /// Where in the file the byte of this position lies, and how many fit there in a row.
    pub(super) fn place(self, position: u64) -> (u64, u64) {
        match self.head.checked_sub(position) {
            Some(room) if room > 0 => (position, room),
            _ => {
                let at = (position - self.head) % self.tail;
                (self.head + at, self.tail - at)
            }
        }
    }
}

impl LogWriter {
    /// A log whose file is made with its first byte.
    pub fn new(log: &Log) -> Self {
        Self {
            path: log.path.clone(),
            layout: Layout { head: log.head, tail: log.tail },
            file: Arc::default(),
            written: 0,
            failed: None,
            mark: watch::Sender::default(),
        }
    }

    /// A log whose file is made now, unless it is wanted [on demand](Log::on_demand); it is emptied where there is one.
    ///
    /// # Errors
    /// Where the file or its folder can't be made.
    pub fn create(log: &Log) -> io::Result<Self> {
        let writer = Self::new(log);
        if !log.on_demand {
            writer.open()?;
        }
        Ok(writer)
    }

    fn open(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let open = || File::options().read(true).write(true).create(true).truncate(true).open(&self.path);
        let file = match (open(), self.path.parent()) {
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                open()?
            }
            (opened, _) => opened?,
        };
        Ok(self.file.get_or_init(|| file))
    }

    /// Where followers come from, as many as are wanted, at any time.
    pub fn feed(&self) -> LogFeed {
        LogFeed { file: Arc::clone(&self.file), mark: self.mark.subscribe(), layout: self.layout }
    }

    /// Adds bytes. After a failed write, such as on a full disk, nothing more is kept: whoever writes goes on,
    /// followers end with an error, and [`finish`](Self::finish) gives the reason.
    pub fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.failed.is_some() {
            return;
        }
        let end = self.written + bytes.len() as u64;
        // Before the first byte is overwritten, and no reason to wake anybody.
        self.mark.send_if_modified(|mark| {
            mark.begun = end;
            false
        });
        self.failed = self.put(bytes).err();
        self.written = end;
        let failed = self.failed.is_some();
        self.mark.send_modify(|mark| match failed {
            true => mark.failed = true,
            false => mark.done = end,
        });
    }

    fn put(&self, mut bytes: &[u8]) -> io::Result<()> {
        let file = self.open()?;
        let mut position = self.written;
        while !bytes.is_empty() {
            // What the ring would overwrite in this same call need not be written.
            let skip = (bytes.len() as u64).saturating_sub(self.layout.tail);
            if position >= self.layout.head && skip > 0 {
                position += skip;
                bytes = &bytes[skip as usize..];
            }
            let (offset, room) = self.layout.place(position);
            let now = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            file.write_all_at(&bytes[..now], offset)?;
            position += now as u64;
            bytes = &bytes[now..];
        }
        Ok(())
    }

    /// Whether nothing was left out, so that [`finish`](Self::finish) is quick.
    pub(super) fn is_in_order(&self) -> bool {
        self.written <= self.layout.head + self.layout.tail
    }

    /// Puts the last bytes in order, with the line that says what is missing before them. Followers come to their end,
    /// each at its own pace. A log that nothing was written to and that has no file gets none.
    ///
    /// # Errors
    /// Where the file holds less than it should.
    pub fn finish(self) -> io::Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Layout { head, tail } = self.layout;
        let left_out = self.written.saturating_sub(head + tail);
        let Some(file) = self.file.get().filter(|_| left_out > 0) else { return Ok(()) };
        // Into another file, since followers may still be reading this one.
        let mut aside = OsString::from(&self.path);
        aside.push(".part");
        let aside = PathBuf::from(aside);
        let ordered = order(file, &aside, self.layout, self.written, left_out);
        ordered.and_then(|()| std::fs::rename(&aside, &self.path)).inspect_err(|_| {
            let _ = std::fs::remove_file(&aside);
        })
    }
}

/// What stands where bytes were left out.
pub(super) fn left_out_line(bytes: u64) -> String {
    format!("[… {bytes} bytes left out …]")
}

fn order(file: &File, to: &Path, layout: Layout, written: u64, left_out: u64) -> io::Result<()> {
    let Layout { head, tail } = layout;
    let (start, _) = layout.place(written);
    let mut whole = File::create(to)?;
    copy(file, 0..head, &mut whole)?;
    write!(whole, "\n{}\n", left_out_line(left_out))?;
    copy(file, start..head + tail, &mut whole)?;
    copy(file, head..start, &mut whole)
}

fn copy(from: &File, range: std::ops::Range<u64>, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut at = range.start;
    while at < range.end {
        let now = buffer.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
        from.read_exact_at(&mut buffer[..now], at)?;
        to.write_all(&buffer[..now])?;
        at += now as u64;
    }
    Ok(())
}

/// A log that is being written: where its followers come from.
///
/// Following costs the writer nothing: followers read the log's own file. One that is slower than the writer, by more than
/// the log keeps of its end, misses bytes and is told how many.
#[derive(Clone, Debug)]
pub struct LogFeed {
    file: Arc<OnceLock<File>>,
    mark: watch::Receiver<Mark>,
    layout: Layout,
}

impl LogFeed {
    /// What the log has kept so far, then what comes, in order; ends with the log. An error is the last item: the
    /// log can't be read, or can't be written any more.
    ///
    /// To be polled within a tokio runtime.
    pub fn follow(&self) -> LogStream {
        Follower::new(Arc::clone(&self.file), self.mark.clone(), self.layout).into_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(head: u64, tail: u64, chunks: &[&[u8]]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/x.log");
        let mut log = LogWriter::create(&Log { path: path.clone(), head, tail, on_demand: false }).unwrap();
        for chunk in chunks {
            log.write(chunk);
        }
        log.finish().unwrap();
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn what_fits_is_kept_whole() {
        assert_eq!(kept(4, 8, &[]), "");
        assert_eq!(kept(4, 8, &[b"abc", b"defghijk", b"l"]), "abcdefghijkl");
    }

    #[test]
    fn first_and_last_bytes_are_kept_in_order() {
        let expected = "abcd\n[… 5 bytes left out …]\njklmnopq";
        assert_eq!(kept(4, 8, &[b"abcdefghijklmnopq"]), expected);
        assert_eq!(kept(4, 8, &[b"ab", b"cdefgh", b"ijklmno", b"pq"]), expected);
        let single: Vec<&[u8]> = b"abcdefghijklmnopq".chunks(1).collect();
        assert_eq!(kept(4, 8, &single), expected);
        assert_eq!(kept(0, 3, &[b"abcd", b"efghijkl", b"m"]), "\n[… 10 bytes left out …]\nklm");
    }

    #[test]
    fn a_log_that_nobody_writes_to_makes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::to(dir.path().join("deep/x.log"));
        LogWriter::new(&log).finish().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut writer = LogWriter::new(&log);
        writer.write(b"a");
        writer.finish().unwrap();
        assert_eq!(std::fs::read(dir.path().join("deep/x.log")).unwrap(), b"a");
    }
}
