//! A worker ends with the process that started it.

use super::WorkerError;

/// Asks to be killed when the parent ends, then makes sure that the parent is still the one that started us.
///
/// The kernel tells only of ends that come after the request, hence the check after it.
pub(super) fn die_with_parent(expected: &str) -> Result<(), WorkerError> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| WorkerError::failed(std::io::Error::from(error)))?;
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if expected.trim().parse() == Ok(parent) {
        return Ok(());
    }
    Err(WorkerError::Orphaned { expected: expected.to_owned(), found: parent.to_string() })
}
