//! What c10d answers when it can't.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;

use crate::ffi;

/// An error of c10d, with its own message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
    timed_out: bool,
}

/// The result of a call into c10d.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), timed_out: false }
    }

    /// An error that says that the time given was not enough.
    pub fn out_of_time(message: impl Into<String>) -> Self {
        Self { message: message.into(), timed_out: true }
    }

    /// The message, such that what is left of the error after C++ still tells whether time ran out.
    pub(crate) fn marked(&self) -> String {
        match self.timed_out && !Self::from_message(self.message.clone()).timed_out {
            true => format!("timed out: {}", self.message),
            false => self.message.clone(),
        }
    }

    /// An error that was kept as its message.
    pub(crate) fn from_message(message: String) -> Self {
        let timed_out = ["imed out", "imeout"].iter().any(|mark| message.contains(mark));
        Self { message, timed_out }
    }

    /// Whether the time given was not enough, as far as the message tells.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// c10d's message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Makes a call that returns a code and, unless that is OK, a message.
pub(crate) fn call(body: impl FnOnce(*mut *mut c_char) -> c_int) -> Result<()> {
    let mut message = std::ptr::null_mut();
    let code = body(&mut message);
    if code == ffi::OK {
        return Ok(());
    }
    let text = if message.is_null() {
        "no message".to_owned()
    } else {
        // SAFETY: a message that is not null is a C string that the shim has made for us to free.
        unsafe {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            ffi::kf_message_free(message);
            text
        }
    };
    Err(Error { message: text.trim().to_owned(), timed_out: code == ffi::TIMED_OUT })
}

pub(crate) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(format!("{text:?} holds a zero byte")))
}

/// Milliseconds for c10d: at least one, and at most ten years of them, which its clocks bear to be added to them.
pub(crate) fn millis(time: std::time::Duration) -> i64 {
    const LONGEST: i64 = 10 * 365 * 24 * 3600 * 1000;
    i64::try_from(time.as_millis()).unwrap_or(LONGEST).clamp(1, LONGEST)
}
