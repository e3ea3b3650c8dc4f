//! The wire format of c10d's TCPStore: requests and answers over byte buffers, no I/O.
//!
//! A request is one byte that names it, and then its fields; most have an answer, and nothing frames either. Numbers are
//! in the machine's own byte order, strings and bytes follow their length as a `u64`. Lengths and counts are checked
//! before anything is kept, and memory grows only by what has arrived.

mod answer;
mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(super) use answer::{Answer, AnswerReader};
pub(super) use request::{Request, RequestReader};

/// What a client says first.
pub(super) const MAGIC: u32 = 0x3C85_F7CE;

/// The longest key, with its prefixes: libtorch's own limit.
pub(super) const KEY_BYTES: usize = 8 << 10;
/// The largest value. libtorch's own server takes an eighth of it.
pub(super) const VALUE_BYTES: usize = 64 << 20;
/// The most keys in one request: libtorch's own limit.
pub(super) const KEYS: usize = 128 << 10;
/// The most bytes of the keys of a request that only names keys.
const NAMES_BYTES: usize = 8 << 20;
/// The most bytes in any request.
const REQUEST_BYTES: usize = 2 * VALUE_BYTES + KEY_BYTES;

/// What was found and can't be taken, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

pub(super) fn refused(reason: impl Into<String>) -> Refused {
    Refused(reason.into())
}

/// The requests, by their byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    Validate,
    Set,
    CompareSet,
    Get,
    Add,
    Check,
    Wait,
    GetNumKeys,
    DeleteKey,
    Append,
    MultiGet,
    MultiSet,
    CancelWait,
    Ping,
    QueuePush,
    QueuePop,
    QueueLen,
    ListKeys,
}

impl Query {
    const ALL: [Self; 18] = [
        Self::Validate,
        Self::Set,
        Self::CompareSet,
        Self::Get,
        Self::Add,
        Self::Check,
        Self::Wait,
        Self::GetNumKeys,
        Self::DeleteKey,
        Self::Append,
        Self::MultiGet,
        Self::MultiSet,
        Self::CancelWait,
        Self::Ping,
        Self::QueuePush,
        Self::QueuePop,
        Self::QueueLen,
        Self::ListKeys,
    ];

    fn of(code: u8) -> Result<Self, Refused> {
        Self::ALL
            .get(usize::from(code))
            .copied()
            .ok_or_else(|| refused(format!("request type {code}, expected one of 0 to 17")))
    }
}

fn take_u8(buffer: &mut BytesMut) -> Option<u8> {
    (!buffer.is_empty()).then(|| buffer.get_u8())
}

fn take_u32(buffer: &mut BytesMut) -> Option<u32> {
    (buffer.len() >= 4).then(|| buffer.get_u32_ne())
}

fn take_i64(buffer: &mut BytesMut) -> Option<i64> {
    (buffer.len() >= 8).then(|| buffer.get_i64_ne())
}

/// A length or count, of what must be at most `most`.
fn take_count(buffer: &mut BytesMut, what: &str, most: usize) -> Result<Option<usize>, Refused> {
    let count = peek_count(buffer, what, most)?;
    if count.is_some() {
        buffer.advance(8);
    }
    Ok(count)
}

fn peek_count(buffer: &BytesMut, what: &str, most: usize) -> Result<Option<usize>, Refused> {
    let Some(head) = buffer.first_chunk() else { return Ok(None) };
    let count = u64::from_ne_bytes(*head);
    match usize::try_from(count) {
        Ok(count) if count <= most => Ok(Some(count)),
        _ => Err(refused(format!("{count} {what}, expected at most {most}"))),
    }
}

/// Bytes behind their length, once all have arrived. They don't hold on to the buffer.
fn take_bytes(buffer: &mut BytesMut, what: &str, most: usize) -> Result<Option<Bytes>, Refused> {
    match peek_count(buffer, what, most)? {
        Some(length) if buffer.len() >= 8 + length => {
            buffer.advance(8);
            let bytes = Bytes::copy_from_slice(&buffer[..length]);
            buffer.advance(length);
            Ok(Some(bytes))
        }
        _ => Ok(None),
    }
}

fn take_key(buffer: &mut BytesMut) -> Result<Option<Arc<str>>, Refused> {
    let Some(bytes) = take_bytes(buffer, "bytes of a key", KEY_BYTES)? else { return Ok(None) };
    match std::str::from_utf8(&bytes) {
        Ok(key) => Ok(Some(key.into())),
        Err(error) => Err(refused(format!("a key that is no UTF-8 text: {error}"))),
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u64_ne(bytes.len() as u64);
    out.put_slice(bytes);
}
