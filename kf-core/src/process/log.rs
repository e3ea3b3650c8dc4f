//! The bounded log file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::command::Log;

/// A file that keeps the first `head` and the last `tail` bytes written to it.
pub(super) struct BoundedLog {
    file: File,
    head: u64,
    tail: u64,
    written: u64,
    failed: Option<io::Error>,
}

impl BoundedLog {
    pub(super) fn create(options: &Log) -> io::Result<Self> {
        if let Some(folder) = options.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&options.path)?;
        Ok(Self { file, head: options.head, tail: options.tail, written: 0, failed: None })
    }

    /// Adds bytes. After a failed write (a full disk), nothing more is kept: the child goes on.
    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        // What the ring would overwrite in this same call need not be written.
        let ring_bytes = bytes.len() as u64;
        if self.written >= self.head && ring_bytes > self.tail {
            let skip = ring_bytes - self.tail;
            self.written += skip;
            bytes = &bytes[skip as usize..];
        }
        while !bytes.is_empty() {
            let (offset, room) = self.place();
            let now = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if self.failed.is_none() {
                self.failed = self.file.write_all_at(&bytes[..now], offset).err();
            }
            self.written += now as u64;
            bytes = &bytes[now..];
        }
    }

    /// Where the next byte goes, and how many fit there in a row.
    fn place(&self) -> (u64, u64) {
        match self.head.checked_sub(self.written) {
            Some(room) if room > 0 => (self.written, room),
            _ => {
                let at = (self.written - self.head) % self.tail;
                (self.head + at, self.tail - at)
            }
        }
    }

    /// Puts the ring in order, with the line that says what is missing.
    pub(super) fn finish(self) -> io::Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let left_out = self.written.saturating_sub(self.head + self.tail);
        if left_out == 0 {
            return Ok(());
        }
        let start = usize::try_from((self.written - self.head) % self.tail).map_err(io::Error::other)?;
        let mut ring = vec![0; usize::try_from(self.tail).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut ring, self.head)?;
        ring.rotate_left(start);
        let line = format!("\n[… {left_out} bytes left out …]\n");
        self.file.write_all_at(line.as_bytes(), self.head)?;
        self.file.write_all_at(&ring, self.head + line.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(head: u64, tail: u64, chunks: &[&[u8]]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/x.log");
        let mut log = BoundedLog::create(&Log { path: path.clone(), head, tail }).unwrap();
        for chunk in chunks {
            log.write(chunk);
        }
        log.finish().unwrap();
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
}
