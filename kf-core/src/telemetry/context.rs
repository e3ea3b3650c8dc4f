//! A place in a trace.

use std::fmt;

use tracing::Span;

use super::link;
use crate::{Error, Result};

/// The environment variable, and in lower case the HTTP header, that holds the trace and the parent span.
pub const TRACEPARENT: &str = "TRACEPARENT";
/// The environment variable, and in lower case the HTTP header, that holds what tracing systems add.
pub const TRACESTATE: &str = "TRACESTATE";

/// How long a state may be; the standard asks for 512 characters at least.
const LONGEST_STATE: usize = 8 << 10;

/// A span of a trace, perhaps of another process, in the form of W3C Trace Context.
///
/// ```
/// use kf_core::telemetry::TraceContext;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// assert_eq!(TraceContext::new(header, None)?.traceparent(), header);
/// assert!(TraceContext::new("00-0-0-01", None).is_err());
/// # Ok::<_, kf_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    parent: String,
    state: Option<String>,
}

impl TraceContext {
    /// The values of the headers `traceparent` and `tracestate` of a request, or of the variables [`TRACEPARENT`] and
    /// [`TRACESTATE`].
    ///
    /// # Errors
    /// [`Error::Invalid`] where they are not what the standard says.
    pub fn new(traceparent: impl Into<String>, tracestate: Option<String>) -> Result<Self> {
        let parent = traceparent.into();
        if !is_parent(&parent) {
            return Err(Error::Invalid {
                what: "traceparent",
                found: start(&parent),
                expected: "`00-TRACE-SPAN-FLAGS` in 2, 32, 16 and 2 lower-case hexadecimal digits, neither id all zeros",
            });
        }
        let state = tracestate.filter(|state| !state.trim().is_empty());
        if let Some(state) = &state
            && (state.len() > LONGEST_STATE || !state.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')))
        {
            return Err(Error::Invalid {
                what: "tracestate",
                found: start(state),
                expected: "at most 8 KiB of printable ASCII",
            });
        }
        Ok(Self { parent, state })
    }

    /// What the environment of this process says; none where it says nothing, or nothing valid.
    pub fn from_env() -> Option<Self> {
        let parent = std::env::var(TRACEPARENT).ok()?;
        let state = std::env::var(TRACESTATE).ok();
        Self::new(parent.clone(), state).or_else(|_| Self::new(parent, None)).ok()
    }

    /// The place of a span; none where it is in no trace: without the feature `otel`, or without its layer.
    pub fn of(span: &Span) -> Option<Self> {
        link::of(span)
    }

    /// The place of the span that this is called in; none where it is in no trace.
    pub fn current() -> Option<Self> {
        link::of(&Span::current())
    }

    /// Makes a span, which must not have been entered yet, one that comes after this. Without the feature `otel` or
    /// its layer, nothing happens.
    pub fn precedes(&self, span: &Span) {
        link::set_parent(span, self);
    }

    /// The value of `traceparent`.
    pub fn traceparent(&self) -> &str {
        &self.parent
    }

    /// The value of `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The environment variables of a process that is to go on with the trace; one without a value is to be absent.
    pub fn env(&self) -> [(&'static str, Option<&str>); 2] {
        [(TRACEPARENT, Some(self.traceparent())), (TRACESTATE, self.tracestate())]
    }
}

/// The value of `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parent)
    }
}

/// Whether it is `VERSION-TRACE-SPAN-FLAGS`. Later versions may have more behind that.
fn is_parent(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let mut part = |length: usize| {
        parts.next().filter(|part| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let zeros = |id: &str| id.bytes().all(|byte| byte == b'0');
    let (Some(version), Some(trace), Some(span), Some(_)) = (part(2), part(32), part(16), part(2)) else {
        return false;
    };
    let more = parts.next();
    version != "ff"
        && !zeros(trace)
        && !zeros(span)
        && more.is_none_or(|more| version != "00" && more.bytes().all(|byte| byte.is_ascii_graphic()))
        && text.len() <= LONGEST_STATE
}

fn start(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_standard_says_is_taken() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let new = |text: &str| TraceContext::new(text, None);
        for good in [format!("00-{trace}-{span}-00"), format!("cc-{trace}-{span}-01-what-comes")] {
            assert_eq!(new(&good).unwrap().traceparent(), good);
        }
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{zeros}-{span}-01"),
            format!("00-{trace}-{}-01", &zeros[..16]),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}-01\n"),
            format!("00-{trace}-{span}-0é"),
            "-".repeat(100_000),
        ] {
            let error = new(&bad).unwrap_err().to_string();
            assert!(error.contains("traceparent") && error.len() < 400, "{error}");
        }
        let state = |state: &str| TraceContext::new(format!("00-{trace}-{span}-01"), Some(state.to_owned()));
        assert_eq!(state("a=1,b=2").unwrap().tracestate(), Some("a=1,b=2"));
        assert_eq!(state(" ").unwrap().tracestate(), None);
        assert!(state("a=\n").is_err() && state(&"a".repeat(10_000)).is_err());
    }
}
