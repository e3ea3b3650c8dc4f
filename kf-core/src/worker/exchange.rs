//! What a starter and its worker hand each other: a file without a name, which begins with the request and goes on
//! with the answer. It is the worker's standard input until the request is read; a worker that was started ahead has a
//! socket there, over which the file comes.
//!
//! Nobody else can open it, and nothing of it is left behind, whichever of the two is killed when.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// No signal where the other side is closed, and no file for what this process starts, on systems that can be told so. On
/// others Rust's programs ignore that signal.
#[cfg(not(target_vendor = "apple"))]
const SEND: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND: SendFlags = SendFlags::empty();
#[cfg(not(target_vendor = "apple"))]
const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const RECEIVE: RecvFlags = RecvFlags::empty();

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
    /// The starter's side, and the file that the worker gets.
    pub(crate) fn of(request: &str) -> io::Result<(Self, File)> {
        let mut file = without_name()?;
        file.write_all(request.as_bytes())?;
        file.rewind()?;
        let theirs = file.try_clone()?;
        Ok((Self { file, answer: request.len() as u64 }, theirs))
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

/// Gives a worker that was started ahead its file.
pub(crate) fn hand(socket: &UnixStream, file: &File) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut files = SendAncillaryBuffer::new(&mut space);
    let handed = [file.as_fd()];
    files.push(SendAncillaryMessage::ScmRights(&handed));
    rustix::net::sendmsg(socket, &[IoSlice::new(b"+")], &mut files, SEND)?;
    Ok(())
}

/// Waits for the file that comes over the socket at standard input; none where its other side was closed.
fn handed(socket: &OwnedFd) -> io::Result<Option<File>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut files = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut files, RECEIVE)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let file = files.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let file = file.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no file came with it"))?;
    // Where the system does not do it on receiving.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::CLOEXEC)?;
    Ok(Some(file.into()))
}

/// Reads the request from standard input, which is empty from then on.
pub(super) fn read() -> io::Result<(String, Answer)> {
    read_from(stdin()?.into())
}

/// As [`read`], of a worker that was started ahead; none where it is not needed any more.
pub(super) fn read_handed() -> io::Result<Option<(String, Answer)>> {
    handed(&stdin()?)?.map(read_from).transpose()
}

fn stdin() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)
}

fn read_from(mut file: File) -> io::Result<(String, Answer)> {
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
        let (exchange, mut file) = Exchange::of("[1]").unwrap();
        assert_eq!(exchange.answer().unwrap(), b"");
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
