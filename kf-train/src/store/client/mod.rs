//! The client.

mod connect;
mod exchange;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::wire::{Answer, KEY_BYTES, KEYS, Request, VALUE_BYTES};
use crate::{Error, LONGEST, Result};
use connect::Connection;

/// A client of a store: of a [`StoreServer`](super::StoreServer), or of any TCPStore of PyTorch 2.11.
///
/// Clones share one connection, where one call comes after the other: **a call that waits blocks those behind it**,
/// until they run out of their own time. Who waits long and wants to go on meanwhile takes a connection of its own, by
/// [`connect_again`](Self::connect_again). Every call ends within its time; a call that gives up or is dropped leaves
/// the connection in order. Once the connection is lost, every call fails at once.
///
/// A call that changes something returns when the server has done so. A key has at most 8 KiB with its prefixes, a value
/// at most 64 MiB (8 MiB where libtorch serves); where the server can't do what it is asked, such as adding to what
/// is no number, it ends the connection.
#[derive(Debug, Clone)]
pub struct StoreClient {
    connection: Arc<Connection>,
    prefix: String,
    timeout: Duration,
}

impl StoreClient {
    /// Connects to a store at `host:port`, trying until `timeout` is over. The same time then holds for every call that
    /// names none.
    ///
    /// # Errors
    /// [`Error::Store`] when no store answers there in time.
    pub async fn connect(address: impl ToString, timeout: Duration) -> Result<Self> {
        let connection = Connection::open(address.to_string(), timeout).await?;
        Ok(Self { connection: Arc::new(connection), prefix: String::new(), timeout })
    }

    /// Like [`connect`](Self::connect), but tries only once: where nobody listens there, that is told at once.
    ///
    /// # Errors
    /// [`Error::Store`] when no store answers there just now.
    pub async fn connect_once(address: impl ToString, timeout: Duration) -> Result<Self> {
        let connection = Connection::open_once(address.to_string(), timeout).await?;
        Ok(Self { connection: Arc::new(connection), prefix: String::new(), timeout })
    }

    pub(super) fn within(
        server: std::sync::Weak<super::server::Shared>,
        address: std::net::SocketAddr,
        timeout: Duration,
    ) -> Self {
        let connection = Arc::new(Connection::within(server, address));
        Self { connection, prefix: String::new(), timeout }
    }

    /// The same over a connection of its own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_again(&self) -> Result<Self> {
        let connection = Arc::new(self.connection.again(self.timeout).await?);
        Ok(Self { connection, ..self.clone() })
    }

    /// A view in which every key begins with `prefix/`, as c10d's PrefixStore does it.
    pub fn prefixed(&self, prefix: &str) -> Self {
        Self { prefix: format!("{}{prefix}/", self.prefix), ..self.clone() }
    }

    /// The same with another time for the calls that name none.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Sets a key.
    ///
    /// # Errors
    /// Every call's: [`Error::Store`] when the connection is lost, [`Error::StoreTimedOut`], and [`Error::StoreRefused`]
    /// for what is too large.
    pub async fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        let what = || format!("set `{key}`");
        let request = Request::Set { key: self.key(key)?, value: bytes(key, value)? };
        self.change(what, request).await
    }

    /// Sets several keys at once.
    ///
    /// # Errors
    /// Every call's.
    pub async fn multi_set<K: AsRef<str>, V: AsRef<[u8]>>(&self, entries: &[(K, V)]) -> Result<()> {
        let what = || format!("set {} keys", entries.len());
        counted(entries.len())?;
        let entry = |(key, value): &(K, V)| Ok((self.key(key.as_ref())?, bytes(key.as_ref(), value)?));
        let entries = entries.iter().map(entry).collect::<Result<Vec<_>>>()?;
        let size: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > VALUE_BYTES {
            return Err(Error::StoreRefused {
                what: what(),
                reason: format!("{size} bytes, expected at most {VALUE_BYTES}"),
            });
        }
        self.change(what, Request::MultiSet { entries }).await
    }

    /// Waits for a key to be set, and returns its value.
    ///
    /// # Errors
    /// Every call's; timed out where the key was not set within `timeout`.
    pub async fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        let key_on_wire = self.key(key)?;
        let wait = Request::Wait { keys: vec![key_on_wire.clone()] };
        let what = || format!("get `{key}`");
        match &self.call(what, Some(wait), vec![Request::Get { key: key_on_wire }], timeout).await?[..] {
            [Answer::Value(value)] => Ok(value.to_vec()),
            other => Err(self.unexpected(what, other)),
        }
    }

    /// Waits for all keys to be set, and returns their values in order.
    ///
    /// # Errors
    /// Every call's; timed out where one was not set within `timeout`.
    pub async fn multi_get(&self, keys: &[impl AsRef<str>], timeout: Duration) -> Result<Vec<Vec<u8>>> {
        let what = || format!("get {}", named(keys));
        let keys = self.keys(keys)?;
        let wait = Request::Wait { keys: keys.clone() };
        match &self.call(what, Some(wait), vec![Request::MultiGet { keys }], timeout).await?[..] {
            [Answer::Values(values)] => Ok(values.iter().map(|value| value.to_vec()).collect()),
            other => Err(self.unexpected(what, other)),
        }
    }

    /// A key's value, none where it is not set just now.
    ///
    /// # Errors
    /// Every call's.
    pub async fn try_get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let what = || format!("get `{key}`");
        let key = self.key(key)?;
        // A value that is empty may be none: then the key is there if it was before and after.
        let check = Request::Check { keys: vec![key.clone()] };
        let requests = vec![check.clone(), Request::Get { key }, check];
        match &self.call(what, None, requests, self.timeout).await?[..] {
            [Answer::Ready(before), Answer::Value(value), Answer::Ready(after)] => {
                Ok((!value.is_empty() || *before && *after).then(|| value.to_vec()))
            }
            other => Err(self.unexpected(what, other)),
        }
    }

    /// Whether all keys are set.
    ///
    /// # Errors
    /// Every call's.
    pub async fn check(&self, keys: &[impl AsRef<str>]) -> Result<bool> {
        let what = || format!("check {}", named(keys));
        match &self.call(what, None, vec![Request::Check { keys: self.keys(keys)? }], self.timeout).await?[..]
        {
            [Answer::Ready(ready)] => Ok(*ready),
            other => Err(self.unexpected(what, other)),
        }
    }

    /// Waits for all keys to be set.
    ///
    /// # Errors
    /// Every call's; timed out where one was not set within `timeout`.
    pub async fn wait(&self, keys: &[impl AsRef<str>], timeout: Duration) -> Result<()> {
        let what = || format!("wait for {}", named(keys));
        let wait = Request::Wait { keys: self.keys(keys)? };
        self.call(what, Some(wait), Vec::new(), timeout).await.map(drop)
    }

    /// Adds to the number at a key, 0 where it is not set, and returns the sum.
    ///
    /// # Errors
    /// Every call's; lost where the key holds no number.
    pub async fn add(&self, key: &str, amount: i64) -> Result<i64> {
        self.number(|| format!("add to `{key}`"), Request::Add { key: self.key(key)?, amount }).await
    }

    /// Sets a key to `desired` where it holds `expected`, or where it is not set and `expected` is empty. Returns what
    /// the key holds then; where it is not set and `expected` is not empty, c10d returns `expected`.
    ///
    /// # Errors
    /// Every call's.
    pub async fn compare_set(
        &self,
        key: &str,
        expected: impl AsRef<[u8]>,
        desired: impl AsRef<[u8]>,
    ) -> Result<Vec<u8>> {
        let what = || format!("compare and set `{key}`");
        let (expected, desired) = (bytes(key, expected)?, bytes(key, desired)?);
        let request = Request::CompareSet { key: self.key(key)?, expected, desired };
        match &self.call(what, None, vec![request], self.timeout).await?[..] {
            [Answer::Value(value)] => Ok(value.to_vec()),
            other => Err(self.unexpected(what, other)),
        }
    }

    /// Appends to a key's value, an empty one where it is not set.
    ///
    /// # Errors
    /// Every call's.
    pub async fn append(&self, key: &str, more: impl AsRef<[u8]>) -> Result<()> {
        let request = Request::Append { key: self.key(key)?, value: bytes(key, more)? };
        self.change(|| format!("append to `{key}`"), request).await
    }

    /// Deletes a key; whether it was set.
    ///
    /// # Errors
    /// Every call's.
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let request = Request::DeleteKey { key: self.key(key)? };
        Ok(self.number(|| format!("delete `{key}`"), request).await? > 0)
    }

    /// How many keys the store holds, whatever their prefix.
    ///
    /// # Errors
    /// Every call's.
    pub async fn num_keys(&self) -> Result<u64> {
        Ok(self.number(|| "count the keys".into(), Request::GetNumKeys).await?.max(0) as u64)
    }

    /// The keys that are set in this view, in no order.
    ///
    /// # Errors
    /// Every call's.
    pub async fn list_keys(&self) -> Result<Vec<String>> {
        let what = || "list the keys".to_owned();
        let prefix = format!("/{}", self.prefix);
        match &self.call(what, None, vec![Request::ListKeys], self.timeout).await?[..] {
            [Answer::Keys(keys)] => {
                Ok(keys.iter().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect())
            }
            other => Err(self.unexpected(what, other)),
        }
    }

    /// Puts a value at the end of a queue.
    ///
    /// # Errors
    /// Every call's.
    pub async fn queue_push(&self, queue: &str, value: impl AsRef<[u8]>) -> Result<()> {
        let request = Request::QueuePush { queue: self.key(queue)?, value: bytes(queue, value)? };
        self.change(|| format!("push to the queue `{queue}`"), request).await
    }

    /// Waits for a queue to hold something, and takes the first value; none where another was faster.
    ///
    /// # Errors
    /// Every call's; timed out where the queue stayed empty for `timeout`.
    pub async fn queue_pop(&self, queue: &str, timeout: Duration) -> Result<Option<Vec<u8>>> {
        let what = || format!("pop from the queue `{queue}`");
        let queue = self.key(queue)?;
        let wait = Request::Wait { keys: vec![queue.clone()] };
        match &self.call(what, Some(wait), vec![Request::QueuePop { queue }], timeout).await?[..] {
            [Answer::Popped(_, value)] => Ok(value.as_ref().map(|value| value.to_vec())),
            other => Err(self.unexpected(what, other)),
        }
    }

    /// How many values a queue holds.
    ///
    /// # Errors
    /// Every call's.
    pub async fn queue_len(&self, queue: &str) -> Result<u64> {
        let request = Request::QueueLen { queue: self.key(queue)? };
        Ok(self.number(|| format!("count the queue `{queue}`"), request).await?.max(0) as u64)
    }

    /// A request without an answer, and a ping behind it that is answered once the request was done.
    async fn change(&self, what: impl Fn() -> String, request: Request) -> Result<()> {
        const NONCE: u32 = 0x6B66;
        match &self.call(&what, None, vec![request, Request::Ping(NONCE)], self.timeout).await?[..] {
            [Answer::Pong(NONCE)] => Ok(()),
            other => Err(self.unexpected(what, other)),
        }
    }

    async fn number(&self, what: impl Fn() -> String, request: Request) -> Result<i64> {
        match &self.call(&what, None, vec![request], self.timeout).await?[..] {
            [Answer::Number(number)] => Ok(*number),
            other => Err(self.unexpected(what, other)),
        }
    }

    async fn call(
        &self,
        what: impl Fn() -> String,
        wait: Option<Request>,
        requests: Vec<Request>,
        timeout: Duration,
    ) -> Result<Vec<Answer>> {
        // No time is too long.
        let now = Instant::now();
        let deadline = now + timeout.min(LONGEST);
        self.connection.call(what, wait, requests, deadline, timeout).await
    }

    fn unexpected(&self, what: impl Fn() -> String, answers: &[Answer]) -> Error {
        let reason =
            std::io::Error::new(std::io::ErrorKind::InvalidData, format!("the server answered {answers:?}"));
        Error::store(what(), self.connection.address(), reason)
    }

    fn key(&self, key: &str) -> Result<Arc<str>> {
        let key = format!("/{}{key}", self.prefix);
        if key.len() > KEY_BYTES {
            let start: String = key.chars().take(60).collect();
            return Err(Error::StoreRefused {
                what: format!("key `{start}…`"),
                reason: format!("{} bytes with its prefixes, expected at most {KEY_BYTES}", key.len()),
            });
        }
        Ok(key.into())
    }

    fn keys(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Arc<str>>> {
        counted(keys.len())?;
        keys.iter().map(|key| self.key(key.as_ref())).collect()
    }
}

fn counted(keys: usize) -> Result<()> {
    match keys <= KEYS {
        true => Ok(()),
        false => Err(Error::StoreRefused {
            what: format!("{keys} keys in one call"),
            reason: format!("expected at most {KEYS}"),
        }),
    }
}

fn bytes(key: &str, value: impl AsRef<[u8]>) -> Result<Bytes> {
    let value = value.as_ref();
    match value.len() <= VALUE_BYTES {
        true => Ok(Bytes::copy_from_slice(value)),
        false => Err(Error::StoreRefused {
            what: format!("value for `{key}`"),
            reason: format!("{} bytes, expected at most {VALUE_BYTES}", value.len()),
        }),
    }
}

/// `a`, `b` and 3 more.
fn named(keys: &[impl AsRef<str>]) -> String {
    const NAMED: usize = 3;
    let names: Vec<_> = keys.iter().take(NAMED).map(|key| format!("`{}`", key.as_ref())).collect();
    match keys.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
