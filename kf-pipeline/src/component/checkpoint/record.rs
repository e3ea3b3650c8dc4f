//! A value that was saved, as a line: 16 hexadecimal digits of the SHA-256 of the rest, a space, `{"key":…,"value":…}`.

use std::sync::Arc;

use kf_core::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const DIGITS: usize = 16;

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// The line, with its end. `value` is JSON.
pub(super) fn encode(key: &str, value: &str) -> serde_json::Result<String> {
    let value = serde_json::from_str(value)?;
    let record = serde_json::to_string(&Record { key: key.to_owned(), value })?;
    Ok(format!("{} {record}\n", checksum(&record)))
}

/// Key and value of a line without its end; none where it is not whole.
pub(super) fn decode(line: &[u8]) -> Option<(String, Arc<str>)> {
    let (sum, record) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if sum != checksum(record) {
        return None;
    }
    let record: Record<'_> = serde_json::from_str(record).ok()?;
    Some((record.key, record.value.get().into()))
}

fn checksum(record: &str) -> String {
    let mut sum = Digest::of(record).to_hex();
    sum.truncate(DIGITS);
    sum
}
