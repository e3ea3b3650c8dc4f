//! The marks of states: a colour class, a word and a drawn icon each.

use kf_core::metadata::RunState;

use crate::TaskState;
use crate::report::text::put;

/// The drawings, once, for `<use>`.
pub(super) const SYMBOLS: &str = concat!(
    "<svg width=0 height=0 class=symbols aria-hidden=true>",
    "<symbol id=i-succeeded viewBox=\"0 0 16 16\"><circle cx=8 cy=8 r=8 fill=\"var(--c)\" />",
    "<path d=\"M4.6 8.3l2.4 2.4 4.5-5\" class=glyph /></symbol>",
    "<symbol id=i-cached viewBox=\"0 0 16 16\"><circle cx=8 cy=8 r=8 fill=\"var(--c)\" />",
    "<path d=\"M9.2 2.9 4.7 9h2.9l-.9 4.2L11.3 7H8.2z\" fill=\"var(--page)\" /></symbol>",
    "<symbol id=i-failed viewBox=\"0 0 16 16\"><circle cx=8 cy=8 r=8 fill=\"var(--c)\" />",
    "<path d=\"M5.3 5.3l5.4 5.4m0-5.4l-5.4 5.4\" class=glyph /></symbol>",
    "<symbol id=i-canceled viewBox=\"0 0 16 16\"><circle cx=8 cy=8 r=8 fill=\"var(--c)\" />",
    "<rect x=5.3 y=5.3 width=5.4 height=5.4 rx=1 fill=\"var(--page)\" /></symbol>",
    "<symbol id=i-skipped viewBox=\"0 0 16 16\"><circle cx=8 cy=8 r=7.1 fill=none stroke=\"var(--c)\" stroke-width=1.6 />",
    "<path d=\"M5 5.4L7.6 8 5 10.6M8.4 5.4L11 8l-2.6 2.6\" fill=none stroke=\"var(--c)\" stroke-width=1.5 /></symbol>",
    "<symbol id=i-running viewBox=\"0 0 16 16\"><circle cx=8 cy=8 r=6.8 fill=none stroke=\"var(--line)\" stroke-width=2.4 />",
    "<path d=\"M8 1.2A6.8 6.8 0 0 1 14.8 8\" fill=none stroke=\"var(--c)\" stroke-width=2.4 stroke-linecap=round /></symbol>",
    "<symbol id=i-pending viewBox=\"0 0 16 16\"><circle cx=8 cy=8 r=6.9 fill=none stroke=\"var(--c)\" ",
    "stroke-width=1.6 stroke-dasharray=\"2.6 2\" /></symbol></svg>\n",
);

/// The state in lower case; it is the class's and the icon's name as well.
pub(super) fn word(state: TaskState) -> &'static str {
    match state {
        TaskState::Succeeded => "succeeded",
        TaskState::Cached => "cached",
        TaskState::Failed => "failed",
        TaskState::Canceled => "canceled",
        TaskState::Skipped => "skipped",
        TaskState::Running => "running",
        TaskState::Pending => "pending",
    }
}

pub(super) fn of_run(state: RunState) -> TaskState {
    match state {
        RunState::Succeeded => TaskState::Succeeded,
        RunState::Failed => TaskState::Failed,
        RunState::Canceled => TaskState::Canceled,
        RunState::Running => TaskState::Running,
        _ => TaskState::Pending,
    }
}

/// An icon within text.
pub(super) fn icon(out: &mut String, state: TaskState) {
    let word = word(state);
    put!(out, "<svg class=\"icon s-{word}\" role=img aria-label={word}><use href=\"#i-{word}\" /></svg>");
}
