//! What a store holds, and what each request does to it. No I/O, no clock.

#[cfg(test)]
mod tests;
mod wait;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::wire::{Answer, Refused, Request, VALUE_BYTES, refused};
use wait::Waiting;

/// A connection's number, never used twice.
pub(super) type Connection = u64;

/// The most keys and queued values that a table holds.
const ITEMS: usize = 1 << 20;
/// The most bytes that keys, values and waits may take.
const BYTES: usize = 1 << 30;
/// What each of them takes besides its own bytes, about.
const OVERHEAD: usize = 128;

/// A key's value, and how it came there.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    pub(super) revision: u64,
    pub(super) set_at: Instant,
    pub(super) setter: Connection,
}

/// What a request brought about.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// For the connection itself.
    pub(super) answer: Option<Answer>,
    /// Other connections whose waits are over.
    pub(super) woken: Vec<Connection>,
    /// Keys whose value, or the state of whose connection, is another now.
    pub(super) changed: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<Arc<str>, Entry>,
    queues: HashMap<Arc<str>, VecDeque<Bytes>>,
    /// The connections, with the keys that each was the last to set.
    connections: HashMap<Connection, HashSet<Arc<str>>>,
    waiting: Waiting,
    queued: usize,
    bytes: usize,
    revision: u64,
}

impl Table {
    /// A connection has come.
    pub(super) fn connect(&mut self, connection: Connection) {
        self.connections.insert(connection, HashSet::new());
    }

    /// A connection has ended. What it set stays.
    pub(super) fn disconnect(&mut self, connection: Connection) -> Effects {
        let mut effects = Effects::default();
        self.end_wait(connection, &mut effects);
        effects.changed = self.connections.remove(&connection).unwrap_or_default().into_iter().collect();
        if !effects.changed.is_empty() {
            self.revision += 1;
        }
        effects
    }

    /// Whether a wait of this connection is over and it was not told. It counts as told from now on.
    pub(super) fn take_stop(&mut self, connection: Connection) -> bool {
        self.waiting.take_stop(connection)
    }

    pub(super) fn is_open(&self, connection: Connection) -> bool {
        self.connections.contains_key(&connection)
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The entries whose keys begin so, in order.
    pub(super) fn under(&self, prefix: &str) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.entries
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Does what a connection asks.
    ///
    /// # Errors
    /// What can't be done; nothing was changed then.
    pub(super) fn apply(
        &mut self,
        connection: Connection,
        request: Request,
        now: Instant,
    ) -> Result<Effects, Refused> {
        let mut effects = Effects::default();
        effects.answer = match request {
            Request::Validate(_) => None,
            Request::Ping(nonce) => Some(Answer::Pong(nonce)),
            Request::Set { key, value } => {
                self.room(1, key.len() + value.len())?;
                self.put(connection, key, value, now, &mut effects);
                None
            }
            Request::MultiSet { entries } => {
                let size = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
                self.room(entries.len(), size)?;
                for (key, value) in entries {
                    self.put(connection, key, value, now, &mut effects);
                }
                None
            }
            Request::Append { key, value } => {
                self.append(connection, key, &value, now, &mut effects)?;
                None
            }
            Request::CompareSet { key, expected, desired } => {
                self.room(1, key.len() + desired.len())?;
                // Where there is no such key, c10d takes none for an empty one, and answers what was expected.
                let held = self.entries.get(&key).map_or(&expected, |entry| &entry.value);
                let fits = *held == expected && (expected.is_empty() || self.entries.contains_key(&key));
                Some(Answer::Value(if fits {
                    self.put(connection, key, desired.clone(), now, &mut effects);
                    desired
                } else {
                    held.clone()
                }))
            }
            Request::Add { key, amount } => {
                let held = self.entries.get(&key).map_or(Ok(0), |entry| number(&key, &entry.value))?;
                let sum = held.checked_add(amount).ok_or_else(|| {
                    refused(format!("`{key}` is {held}, and {amount} more is no 64-bit number"))
                })?;
                self.room(1, key.len() + 20)?;
                self.put(connection, key, sum.to_string().into(), now, &mut effects);
                Some(Answer::Number(sum))
            }
            Request::Get { key } => Some(Answer::Value(self.value(&key))),
            Request::MultiGet { keys } => {
                Some(Answer::Values(keys.iter().map(|key| self.value(key)).collect()))
            }
            Request::Check { keys } => Some(Answer::Ready(keys.iter().all(|key| self.has(key)))),
            Request::Wait { keys } => self.wait(connection, keys, &mut effects)?,
            Request::CancelWait => {
                self.end_wait(connection, &mut effects);
                Some(Answer::Canceled)
            }
            Request::GetNumKeys => Some(Answer::Number(self.entries.len() as i64)),
            Request::DeleteKey { key } => Some(Answer::Number(self.delete(key, &mut effects))),
            Request::QueuePush { queue, value } => {
                self.room(1, queue.len() + value.len())?;
                self.queued += 1;
                self.bytes += size(&queue, &value);
                self.queues.entry(queue.clone()).or_default().push_back(value);
                effects.woken.extend(self.waiting.wake_one(&queue));
                None
            }
            Request::QueuePop { queue } => Some(self.pop(connection, &queue)),
            Request::QueueLen { queue } => {
                Some(Answer::Number(self.queues.get(&queue).map_or(0, VecDeque::len) as i64))
            }
            Request::ListKeys => Some(Answer::Keys(self.entries.keys().cloned().collect())),
        };
        Ok(effects)
    }

    fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key) || self.queues.contains_key(key)
    }

    fn value(&self, key: &str) -> Bytes {
        self.entries.get(key).map(|entry| entry.value.clone()).unwrap_or_default()
    }

    /// Whether so much more fits.
    fn room(&self, items: usize, bytes: usize) -> Result<(), Refused> {
        if self.entries.len() + self.queued + items > ITEMS {
            return Err(refused(format!(
                "the store is full: it holds at most {ITEMS} keys and queued values"
            )));
        }
        if self.bytes + self.waiting.bytes() + bytes + items * OVERHEAD > BYTES {
            return Err(refused(format!("the store is full: it holds at most {BYTES} bytes")));
        }
        Ok(())
    }

    fn put(&mut self, setter: Connection, key: Arc<str>, value: Bytes, now: Instant, effects: &mut Effects) {
        self.revision += 1;
        self.bytes += size(&key, &value);
        let entry = Entry { value, revision: self.revision, set_at: now, setter };
        if let Some(old) = self.entries.insert(key.clone(), entry) {
            self.bytes -= size(&key, &old.value);
            if old.setter != setter {
                self.disown(old.setter, &key);
            }
        }
        if let Some(keys) = self.connections.get_mut(&setter) {
            keys.insert(key.clone());
        }
        effects.woken.extend(self.waiting.wake_all(&key));
        effects.changed.push(key);
    }

    fn disown(&mut self, setter: Connection, key: &str) {
        if let Some(keys) = self.connections.get_mut(&setter) {
            keys.remove(key);
        }
    }

    fn append(
        &mut self,
        connection: Connection,
        key: Arc<str>,
        more: &Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        self.room(1, key.len() + more.len())?;
        let length = self.entries.get(&key).map_or(0, |entry| entry.value.len()) + more.len();
        if length > VALUE_BYTES {
            return Err(refused(format!(
                "`{key}` would have {length} bytes, expected at most {VALUE_BYTES}"
            )));
        }
        let mut value = match self.entries.get_mut(&key) {
            Some(entry) => {
                self.bytes -= entry.value.len();
                // In place, unless someone is just reading it.
                std::mem::take(&mut entry.value).try_into_mut().unwrap_or_else(|held| held.as_ref().into())
            }
            None => BytesMut::new(),
        };
        value.extend_from_slice(more);
        self.put(connection, key, value.freeze(), now, effects);
        Ok(())
    }

    fn delete(&mut self, key: Arc<str>, effects: &mut Effects) -> i64 {
        let Some(old) = self.entries.remove(&key) else { return 0 };
        self.revision += 1;
        self.bytes -= size(&key, &old.value);
        self.disown(old.setter, &key);
        effects.changed.push(key);
        1
    }

    fn pop(&mut self, connection: Connection, queue: &str) -> Answer {
        self.waiting.came_for(connection, queue);
        let Some(values) = self.queues.get_mut(queue) else { return Answer::Popped(0, None) };
        let held = values.len() as i64;
        let value = values.pop_front();
        if values.is_empty() {
            self.queues.remove(queue);
        }
        if let Some(value) = &value {
            self.queued -= 1;
            self.bytes -= size(queue, value);
        }
        Answer::Popped(held, value)
    }

    fn wait(
        &mut self,
        connection: Connection,
        keys: Vec<Arc<str>>,
        effects: &mut Effects,
    ) -> Result<Option<Answer>, Refused> {
        self.end_wait(connection, effects);
        let missing: HashSet<_> = keys.into_iter().filter(|key| !self.has(key)).collect();
        if missing.is_empty() {
            return Ok(Some(Answer::Stopped));
        }
        self.room(0, missing.iter().map(|key| size(key, &[])).sum())?;
        self.waiting.wait(connection, missing);
        Ok(None)
    }

    /// Ends a connection's wait. Where it had been woken for a queued value, that value is another's.
    fn end_wait(&mut self, connection: Connection, effects: &mut Effects) {
        if let Some(queue) = self.waiting.end(connection)
            && self.queues.contains_key(&queue)
        {
            effects.woken.extend(self.waiting.wake_one(&queue));
        }
    }
}

fn size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD
}

/// A decimal number as C's `strtoll` reads it: blanks and a sign may come first, and what follows the digits is ignored.
fn number(key: &str, value: &[u8]) -> Result<i64, Refused> {
    let text = String::from_utf8_lossy(value);
    let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let signs = usize::from(text.starts_with(['+', '-']));
    let end = text[signs..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| end + signs);
    text[..end].parse().map_err(|_| {
        let start: String = text.chars().take(40).collect();
        refused(format!("`{key}` is {start:?}, expected a 64-bit number to add to"))
    })
}
