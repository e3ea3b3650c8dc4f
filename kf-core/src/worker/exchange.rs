//! What a starter and its worker hand each other: a file without a name, which begins with the request and goes on
//! with the answer. It is the worker's standard input until the request is read.
//!
//! Nobody else can open it, and nothing of it is left behind, whichever of the two is killed when.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::Arc;

/// The longest answer.
const LONGEST: u64 = 1 << 30;

/// The starter's side.
#[derive(Debug)]
pub(crate) struct Exchange {
    file: File,
    /// Where the answer begins.
    answer: u64,
}

impl Exchange {
    pub(crate) fn of(request: &str) -> io::Result<Self> {
        let mut file = without_name()?;
        file.write_all(request.as_bytes())?;
        file.rewind()?;
        Ok(Self { file, answer: request.len() as u64 })
    }

    /// What becomes the worker's standard input.
    pub(crate) fn stdin(&self) -> io::Result<Stdio> {
        Ok(self.file.try_clone()?.into())
    }

    /// What the worker has answered so far; empty where it has not.
    pub(crate) fn answer(&self) -> io::Result<Vec<u8>> {
        let length = self.file.metadata()?.len().saturating_sub(self.answer);
        if length > LONGEST {
            let problem = format!("an answer of {length} bytes; at most {LONGEST} are taken");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let mut answer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut answer, self.answer)?;
        Ok(answer)
    }
}

/// The worker's side: where its answer goes.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    file: Arc<File>,
    at: u64,
}

impl Answer {
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // Of an earlier answer that was longer.
        self.file.set_len(self.at)?;
        self.file.write_all_at(bytes, self.at)
    }
}

/// Reads the request from standard input, which is empty from then on.
pub(super) fn read() -> io::Result<(String, Answer)> {
    let mut file = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let mut request = String::new();
    file.read_to_string(&mut request)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let at = request.len() as u64;
    Ok((request, Answer { file: Arc::new(file), at }))
}

fn without_name() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    if let Ok(file) = rustix::fs::memfd_create("kf-request", rustix::fs::MemfdFlags::CLOEXEC) {
        return Ok(file.into());
    }
    tempfile::tempfile()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_is_read_and_a_huge_one_refused() {
        let exchange = Exchange::of("[1]").unwrap();
        assert_eq!(exchange.answer().unwrap(), b"");
        let mut file = exchange.file.try_clone().unwrap();
        let mut request = String::new();
        file.read_to_string(&mut request).unwrap();
        assert_eq!(request, "[1]");
        let answer = Answer { file: Arc::new(file), at: 3 };
        for text in ["a long answer", "short"] {
            answer.write(text.as_bytes()).unwrap();
            assert_eq!(exchange.answer().unwrap(), text.as_bytes());
        }
        exchange.file.set_len(LONGEST + 4).unwrap();
        let error = exchange.answer().unwrap_err().to_string();
        assert!(error.contains("at most"), "{error}");
    }
}
