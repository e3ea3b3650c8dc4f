//! What a component's body gives when it fails.

use std::error::Error as StdError;
use std::fmt;

/// An error of a component's body. Made with `?` from any error; [`TaskError::permanent`] says that trying again
/// is of no use.
pub struct TaskError {
    message: String,
    permanent: bool,
}

/// The result of a component's body.
pub type TaskResult<T = ()> = Result<T, TaskError>;

impl TaskError {
    /// An error with this message.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), permanent: false }
    }

    /// An error with this message that no further attempt would mend.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), permanent: true }
    }

    /// Whether a further attempt is of no use.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// Takes over any error that a body may give, a [`TaskError`] as it is.
    #[doc(hidden)]
    pub fn from_any(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        match error.into().downcast::<Wrapped>() {
            Ok(wrapped) => wrapped.0,
            Err(error) => Self { message: chain(error.as_ref()), permanent: false },
        }
    }
}

/// The error's message and those of its sources that it doesn't repeat.
fn chain(error: &dyn StdError) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = error.source();
    }
    message
}

impl<E: StdError + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self { message: chain(&error), permanent: false }
    }
}

#[derive(Debug)]
struct Wrapped(TaskError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Wrapped {}

impl From<TaskError> for Box<dyn StdError + Send + Sync> {
    fn from(error: TaskError) -> Self {
        Box::new(Wrapped(error))
    }
}

impl From<TaskError> for Box<dyn StdError> {
    fn from(error: TaskError) -> Self {
        Box::new(Wrapped(error))
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
