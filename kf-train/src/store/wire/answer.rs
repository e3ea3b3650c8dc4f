//! What a server answers.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    KEYS, Refused, Request, VALUE_BYTES, put_bytes, refused, take_bytes, take_count, take_i64, take_key,
    take_u8, take_u32,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Answer {
    Pong(u32),
    Value(Bytes),
    Values(Vec<Bytes>),
    Number(i64),
    Ready(bool),
    /// A wait is over: all its keys are there.
    Stopped,
    /// A wait is over: it was cancelled.
    Canceled,
    /// How many a queue held, and the first of them.
    Popped(i64, Option<Bytes>),
    Keys(Vec<Arc<str>>),
}

/// Values from this size on are sent from where they are, not copied together first.
const LARGE: usize = 16 << 10;

impl Answer {
    /// The answer in pieces, to be sent one after the other. Values are shared, so that an answer needs little memory
    /// however large it is.
    pub(in crate::store) fn encode(self) -> Vec<Bytes> {
        let mut out = Pieces::default();
        match self {
            Self::Pong(nonce) => out.small.put_u32_ne(nonce),
            Self::Value(value) => out.value(value),
            Self::Values(values) => values.into_iter().for_each(|value| out.value(value)),
            Self::Number(number) => out.small.put_i64_ne(number),
            Self::Ready(ready) => out.small.put_u8(u8::from(!ready)),
            Self::Stopped => out.small.put_u8(0),
            Self::Canceled => out.small.put_u8(1),
            Self::Popped(held, value) => {
                out.small.put_i64_ne(held);
                value.into_iter().for_each(|value| out.value(value));
            }
            Self::Keys(keys) => {
                out.small.put_i64_ne(keys.len() as i64);
                keys.iter().for_each(|key| put_bytes(&mut out.small, key.as_bytes()));
            }
        }
        out.end()
    }
}

#[derive(Default)]
struct Pieces {
    whole: Vec<Bytes>,
    small: BytesMut,
}

impl Pieces {
    fn value(&mut self, value: Bytes) {
        if value.len() < LARGE {
            return put_bytes(&mut self.small, &value);
        }
        self.small.put_u64_ne(value.len() as u64);
        self.whole.push(self.small.split().freeze());
        self.whole.push(value);
    }

    fn end(mut self) -> Vec<Bytes> {
        if !self.small.is_empty() {
            self.whole.push(self.small.freeze());
        }
        self.whole
    }
}

/// Reads the answer to one request as its bytes arrive.
#[derive(Debug)]
pub(in crate::store) struct AnswerReader {
    expected: Expected,
    values: Vec<Bytes>,
    keys: Vec<Arc<str>>,
    count: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    Pong,
    Value,
    Values,
    Number,
    Ready,
    Waited,
    Popped,
    Keys,
}

impl AnswerReader {
    /// None where the request has no answer.
    pub(in crate::store) fn of(request: &Request) -> Option<Self> {
        let mut count = None;
        let expected = match request {
            Request::Validate(_)
            | Request::Set { .. }
            | Request::Append { .. }
            | Request::MultiSet { .. }
            | Request::QueuePush { .. } => return None,
            Request::Ping(_) => Expected::Pong,
            Request::Get { .. } | Request::CompareSet { .. } => Expected::Value,
            Request::MultiGet { keys } => {
                count = Some(keys.len());
                Expected::Values
            }
            Request::Add { .. }
            | Request::GetNumKeys
            | Request::DeleteKey { .. }
            | Request::QueueLen { .. } => Expected::Number,
            Request::Check { .. } => Expected::Ready,
            Request::Wait { .. } | Request::CancelWait => Expected::Waited,
            Request::QueuePop { .. } => Expected::Popped,
            Request::ListKeys => Expected::Keys,
        };
        Some(Self { expected, values: Vec::new(), keys: Vec::new(), count })
    }

    /// The answer, once all of it has arrived.
    ///
    /// # Errors
    /// What is no such answer, or too large.
    pub(in crate::store) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Answer>, Refused> {
        Ok(match self.expected {
            Expected::Pong => take_u32(buffer).map(Answer::Pong),
            Expected::Value => take_value(buffer)?.map(Answer::Value),
            Expected::Number => take_i64(buffer).map(Answer::Number),
            Expected::Ready => take_flag(buffer)?.map(|flag| Answer::Ready(!flag)),
            Expected::Waited => {
                take_flag(buffer)?.map(|flag| if flag { Answer::Canceled } else { Answer::Stopped })
            }
            Expected::Values => {
                while Some(self.values.len()) < self.count {
                    let Some(value) = take_value(buffer)? else { return Ok(None) };
                    self.values.push(value);
                }
                Some(Answer::Values(std::mem::take(&mut self.values)))
            }
            Expected::Popped => {
                let Some(held) = self.count_in(buffer, usize::MAX)? else { return Ok(None) };
                let value = match held {
                    0 => None,
                    _ => match take_value(buffer)? {
                        Some(value) => Some(value),
                        None => return Ok(None),
                    },
                };
                Some(Answer::Popped(held as i64, value))
            }
            Expected::Keys => {
                let Some(count) = self.count_in(buffer, 8 * KEYS)? else { return Ok(None) };
                while self.keys.len() < count {
                    let Some(key) = take_key(buffer)? else { return Ok(None) };
                    self.keys.push(key);
                }
                Some(Answer::Keys(std::mem::take(&mut self.keys)))
            }
        })
    }

    fn count_in(&mut self, buffer: &mut BytesMut, most: usize) -> Result<Option<usize>, Refused> {
        if self.count.is_none() {
            self.count = take_count(buffer, "items", most)?;
        }
        Ok(self.count)
    }
}

fn take_value(buffer: &mut BytesMut) -> Result<Option<Bytes>, Refused> {
    take_bytes(buffer, "bytes of a value", VALUE_BYTES)
}

fn take_flag(buffer: &mut BytesMut) -> Result<Option<bool>, Refused> {
    match take_u8(buffer) {
        None => Ok(None),
        Some(0) => Ok(Some(false)),
        Some(1) => Ok(Some(true)),
        Some(other) => Err(refused(format!("{other} in an answer, expected 0 or 1"))),
    }
}
