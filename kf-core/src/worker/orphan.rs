//! A worker ends with the process that started it.

use super::{HANDED, REQUEST, STDIN, WorkerError};

/// Whether the variables of a worker are here only because a worker has started this process, and left them to it.
pub(super) fn is_inherited(expected: &str) -> bool {
    let is_request = |stat: rustix::fs::Stat| {
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        match std::env::var(REQUEST).as_deref() {
            // A file without a name.
            Ok(STDIN) => kind.is_file() && stat.st_nlink == 0,
            Ok(HANDED) => kind.is_socket(),
            _ => true,
        }
    };
    !is_parent(expected) && !rustix::fs::fstat(rustix::stdio::stdin()).is_ok_and(is_request)
}

fn parent() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

fn is_parent(expected: &str) -> bool {
    expected.trim().parse() == Ok(parent())
}

/// Asks to be killed when the parent ends, then makes sure that the parent is still the one that started us.
///
/// The kernel tells only of ends that come after the request, hence the check after it.
pub(super) fn die_with_parent(expected: &str) -> Result<(), WorkerError> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| WorkerError::failed(std::io::Error::from(error)))?;
    match is_parent(expected) {
        true => Ok(()),
        false => Err(WorkerError::Orphaned { expected: expected.to_owned(), found: parent().to_string() }),
    }
}
