//! What the example programs share: the digits, and progress on a terminal.

pub mod digits;
pub mod progress;
