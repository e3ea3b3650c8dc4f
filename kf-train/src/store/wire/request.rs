//! What a client asks.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    KEYS, MAGIC, NAMES_BYTES, Query, REQUEST_BYTES, Refused, VALUE_BYTES, put_bytes, refused, take_bytes,
    take_count, take_i64, take_key, take_u8, take_u32,
};

/// A request. Keys are as on the wire, where TCPStore's clients begin each with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Request {
    Validate(u32),
    Ping(u32),
    Set { key: Arc<str>, value: Bytes },
    CompareSet { key: Arc<str>, expected: Bytes, desired: Bytes },
    Get { key: Arc<str> },
    Add { key: Arc<str>, amount: i64 },
    Check { keys: Vec<Arc<str>> },
    Wait { keys: Vec<Arc<str>> },
    CancelWait,
    GetNumKeys,
    DeleteKey { key: Arc<str> },
    Append { key: Arc<str>, value: Bytes },
    MultiGet { keys: Vec<Arc<str>> },
    MultiSet { entries: Vec<(Arc<str>, Bytes)> },
    QueuePush { queue: Arc<str>, value: Bytes },
    QueuePop { queue: Arc<str> },
    QueueLen { queue: Arc<str> },
    ListKeys,
}

impl Request {
    pub(in crate::store) fn encode(&self, out: &mut BytesMut) {
        let (query, keys, values): (_, &[Arc<str>], [Option<&Bytes>; 2]) = match self {
            Self::Validate(number) | Self::Ping(number) => {
                let query = if matches!(self, Self::Ping(_)) { Query::Ping } else { Query::Validate };
                out.put_u8(query as u8);
                return out.put_u32_ne(*number);
            }
            Self::Add { key, amount } => {
                out.put_u8(Query::Add as u8);
                put_bytes(out, key.as_bytes());
                return out.put_i64_ne(*amount);
            }
            Self::Check { keys } => return Self::encode_names(out, Query::Check, keys),
            Self::Wait { keys } => return Self::encode_names(out, Query::Wait, keys),
            Self::MultiGet { keys } => return Self::encode_names(out, Query::MultiGet, keys),
            Self::MultiSet { entries } => {
                out.put_u8(Query::MultiSet as u8);
                out.put_u64_ne(entries.len() as u64);
                for (key, value) in entries {
                    put_bytes(out, key.as_bytes());
                    put_bytes(out, value);
                }
                return;
            }
            Self::CancelWait => (Query::CancelWait, &[], [None, None]),
            Self::GetNumKeys => (Query::GetNumKeys, &[], [None, None]),
            Self::ListKeys => (Query::ListKeys, &[], [None, None]),
            Self::Get { key } => (Query::Get, std::slice::from_ref(key), [None, None]),
            Self::DeleteKey { key } => (Query::DeleteKey, std::slice::from_ref(key), [None, None]),
            Self::QueuePop { queue } => (Query::QueuePop, std::slice::from_ref(queue), [None, None]),
            Self::QueueLen { queue } => (Query::QueueLen, std::slice::from_ref(queue), [None, None]),
            Self::Set { key, value } => (Query::Set, std::slice::from_ref(key), [Some(value), None]),
            Self::Append { key, value } => (Query::Append, std::slice::from_ref(key), [Some(value), None]),
            Self::QueuePush { queue, value } => {
                (Query::QueuePush, std::slice::from_ref(queue), [Some(value), None])
            }
            Self::CompareSet { key, expected, desired } => {
                (Query::CompareSet, std::slice::from_ref(key), [Some(expected), Some(desired)])
            }
        };
        out.put_u8(query as u8);
        keys.iter().for_each(|key| put_bytes(out, key.as_bytes()));
        values.into_iter().flatten().for_each(|value| put_bytes(out, value));
    }

    fn encode_names(out: &mut BytesMut, query: Query, keys: &[Arc<str>]) {
        out.put_u8(query as u8);
        out.put_u64_ne(keys.len() as u64);
        keys.iter().for_each(|key| put_bytes(out, key.as_bytes()));
    }
}

/// Reads a client's requests as their bytes arrive, each byte once.
#[derive(Debug, Default)]
pub(in crate::store) struct RequestReader {
    validated: bool,
    partial: Option<Partial>,
}

/// The fields of a request that have arrived.
#[derive(Debug)]
struct Partial {
    query: Query,
    count: Option<usize>,
    keys: Vec<Arc<str>>,
    values: Vec<Bytes>,
    bytes: usize,
}

impl RequestReader {
    /// The next request, once all of it has arrived. The first must be the right `Validate`, which is not returned.
    ///
    /// # Errors
    /// What is no request or too large. Nothing after it can be read.
    pub(in crate::store) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, Refused> {
        loop {
            let partial = match &mut self.partial {
                Some(partial) => partial,
                None => {
                    let Some(code) = take_u8(buffer) else { return Ok(None) };
                    let query = Query::of(code)?;
                    if (query == Query::Validate) == self.validated {
                        return Err(refused(match self.validated {
                            true => "a second VALIDATE".into(),
                            false => format!("{query:?} first, expected VALIDATE: no client of a TCPStore"),
                        }));
                    }
                    self.partial.insert(Partial::of(query))
                }
            };
            let Some(request) = partial.next(buffer)? else { return Ok(None) };
            self.partial = None;
            match request {
                Request::Validate(MAGIC) => self.validated = true,
                Request::Validate(other) => {
                    return Err(refused(format!("the number {other:#x} in VALIDATE, expected {MAGIC:#x}")));
                }
                request => return Ok(Some(request)),
            }
        }
    }

    /// Whether the client has said the right thing first.
    pub(in crate::store) fn is_validated(&self) -> bool {
        self.validated
    }

    /// Whether part of a request has arrived.
    pub(in crate::store) fn is_within(&self) -> bool {
        self.partial.is_some()
    }

    /// What the fields of the request under way take that have arrived, about.
    pub(in crate::store) fn kept(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes + 64 * partial.keys.len())
    }
}

impl Partial {
    fn of(query: Query) -> Self {
        Self { query, count: None, keys: Vec::new(), values: Vec::new(), bytes: 0 }
    }

    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, Refused> {
        let Some(count) = self.count(buffer)? else { return Ok(None) };
        let each = match self.query {
            Query::Set | Query::Append | Query::MultiSet | Query::QueuePush => 1,
            Query::CompareSet => 2,
            _ => 0,
        };
        while self.keys.len() < count || self.values.len() < count * each {
            let size = if self.values.len() == self.keys.len() * each {
                let Some(key) = take_key(buffer)? else { return Ok(None) };
                self.keys.push(key);
                self.keys.last().map_or(0, |key| key.len())
            } else {
                let Some(value) = take_bytes(buffer, "bytes of a value", VALUE_BYTES)? else {
                    return Ok(None);
                };
                self.values.push(value);
                self.values.last().map_or(0, Bytes::len)
            };
            self.bytes += size;
            let most = if each == 0 { NAMES_BYTES } else { REQUEST_BYTES };
            if self.bytes > most {
                return Err(refused(format!("{:?} of more than {most} bytes", self.query)));
            }
        }
        let number = match self.query {
            Query::Validate | Query::Ping => take_u32(buffer).map(i64::from),
            Query::Add => take_i64(buffer),
            _ => Some(0),
        };
        let Some(number) = number else { return Ok(None) };
        self.whole(number).map(Some)
    }

    /// How many keys there are to be.
    fn count(&mut self, buffer: &mut BytesMut) -> Result<Option<usize>, Refused> {
        if self.count.is_none() {
            self.count = match self.query {
                Query::Check | Query::Wait | Query::MultiGet | Query::MultiSet => {
                    take_count(buffer, "keys", KEYS)?
                }
                Query::Validate | Query::Ping | Query::GetNumKeys | Query::CancelWait | Query::ListKeys => {
                    Some(0)
                }
                _ => Some(1),
            };
        }
        Ok(self.count)
    }

    fn whole(&mut self, number: i64) -> Result<Request, Refused> {
        let keys = std::mem::take(&mut self.keys);
        let mut values = std::mem::take(&mut self.values).into_iter();
        let mut value = || values.next().ok_or_else(|| refused("a request without its value"));
        let key = || keys.first().cloned().ok_or_else(|| refused("a request without its key"));
        Ok(match self.query {
            Query::Validate => Request::Validate(number as u32),
            Query::Ping => Request::Ping(number as u32),
            Query::Set => Request::Set { key: key()?, value: value()? },
            Query::CompareSet => Request::CompareSet { key: key()?, expected: value()?, desired: value()? },
            Query::Get => Request::Get { key: key()? },
            Query::Add => Request::Add { key: key()?, amount: number },
            Query::Check => Request::Check { keys },
            Query::Wait => Request::Wait { keys },
            Query::CancelWait => Request::CancelWait,
            Query::GetNumKeys => Request::GetNumKeys,
            Query::DeleteKey => Request::DeleteKey { key: key()? },
            Query::Append => Request::Append { key: key()?, value: value()? },
            Query::MultiGet => Request::MultiGet { keys },
            Query::MultiSet => Request::MultiSet { entries: keys.into_iter().zip(values).collect() },
            Query::QueuePush => Request::QueuePush { queue: key()?, value: value()? },
            Query::QueuePop => Request::QueuePop { queue: key()? },
            Query::QueueLen => Request::QueueLen { queue: key()? },
            Query::ListKeys => Request::ListKeys,
        })
    }
}
