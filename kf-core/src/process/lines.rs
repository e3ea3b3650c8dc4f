//! Lines out of a stream of bytes, and the last of them.

/// A line longer than this is handed on in pieces.
const LONGEST: usize = 8 << 10;

/// Cuts a stream of bytes into lines.
#[derive(Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes and hands on every line that is complete with them.
    pub(super) fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            for piece in piece.chunks(LONGEST) {
                self.partial.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.partial.len() >= LONGEST {
                    self.flush(&mut sink);
                }
            }
        }
    }

    /// Hands on what is left, a line without its end.
    pub(super) fn finish(&mut self, mut sink: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.flush(&mut sink);
        }
    }

    fn flush(&mut self, sink: &mut impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.partial);
        sink(line.trim_end_matches(['\n', '\r']));
        self.partial.clear();
    }
}

/// The last bytes of a stream, for the last lines in an error message.
#[derive(Default, Debug)]
pub(super) struct Recent {
    bytes: Vec<u8>,
}

impl Recent {
    /// How much is kept.
    const KEPT: usize = 64 << 10;

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(Self::KEPT)..];
        // Twice the room, so that old bytes are moved away rarely.
        if self.bytes.len() + bytes.len() > 2 * Self::KEPT {
            let keep = Self::KEPT - bytes.len();
            self.bytes.drain(..self.bytes.len().saturating_sub(keep));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The last `count` lines.
    pub(super) fn last(&self, count: usize) -> Vec<String> {
        let mut lines: Vec<_> = self
            .bytes
            .trim_ascii_end()
            .rsplit(|&byte| byte == b'\n')
            .take(count)
            .map(String::from_utf8_lossy)
            .map(|line| line.trim_end_matches('\r').to_owned())
            .collect();
        lines.reverse();
        if lines.len() == 1 && lines[0].is_empty() {
            lines.clear();
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut got) = (Lines::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk, |line| got.push(line.to_owned()));
        }
        splitter.finish(|line| got.push(line.to_owned()));
        got
    }

    #[test]
    fn lines_are_cut_wherever_the_chunks_end() {
        assert_eq!(lines(&[b"a\nb", b"c\r\n\n", b"d"]), ["a", "bc", "", "d"]);
        assert_eq!(lines(&[b"a\xff\n"]), ["a\u{fffd}"]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn an_endless_line_does_not_gather_in_memory() {
        let got = lines(&[&vec![b'x'; 3 * LONGEST + 5], b"y\n"]);
        assert_eq!(got.iter().map(String::len).collect::<Vec<_>>(), [LONGEST, LONGEST, LONGEST, 6]);
    }

    #[test]
    fn recent_keeps_the_last_lines() {
        let mut recent = Recent::default();
        assert!(recent.last(3).is_empty());
        for i in 0..100_000 {
            recent.feed(format!("line {i}\n").as_bytes());
        }
        assert_eq!(recent.last(2), ["line 99998", "line 99999"]);
        assert!(recent.bytes.len() <= 2 * Recent::KEPT);
        recent.feed(&vec![b'z'; 10 << 20]);
        assert!(recent.bytes.len() <= 2 * Recent::KEPT);
    }
}
