//! Work on a stack of its own: what it goes through may be nested deeper than the caller's can bear.

/// Does something on a thread with so many bytes of stack.
///
/// # Errors
/// Where there is no thread to be had, or the work panics.
pub(crate) fn on_stack_of<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let cannot = |problem: &str| format!("can't be read on a thread of its own: {problem}");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("kf-read".to_owned()).stack_size(bytes);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| cannot(&error.to_string()))?;
        thread.join().map_err(|_| cannot("it panicked"))
    })
}
