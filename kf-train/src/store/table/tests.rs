use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What a store is, put as simply as can be.
#[derive(Default)]
struct Model {
    values: BTreeMap<String, (Vec<u8>, Connection)>,
    queues: BTreeMap<String, Vec<Vec<u8>>>,
    /// Who waits, for what, oldest first.
    waits: Vec<(Connection, Vec<String>)>,
    /// Who was woken for a queue's value and has not come for it.
    owed: Vec<(Connection, String)>,
}

impl Model {
    fn has(&self, key: &str) -> bool {
        self.values.contains_key(key) || self.queues.get(key).is_some_and(|queue| !queue.is_empty())
    }

    /// A key has come: who waits for nothing more. For a queue's value only the first.
    fn arrived(&mut self, key: &str, one: bool) -> Vec<Connection> {
        let mut woken = Vec::new();
        for (connection, missing) in &mut self.waits {
            let before = missing.len();
            missing.retain(|other| other != key);
            if missing.is_empty() && before > 0 {
                woken.push(*connection);
                if one {
                    self.owed.push((*connection, key.to_owned()));
                    break;
                }
            }
        }
        self.waits.retain(|(_, missing)| !missing.is_empty());
        woken
    }

    fn set(&mut self, by: Connection, key: &str, value: &[u8]) -> Vec<Connection> {
        self.values.insert(key.to_owned(), (value.to_vec(), by));
        self.arrived(key, false)
    }

    fn end_wait(&mut self, by: Connection) -> Vec<Connection> {
        self.waits.retain(|(connection, _)| *connection != by);
        let owed = self.owed.iter().position(|(connection, _)| *connection == by);
        match owed.map(|at| self.owed.remove(at).1) {
            Some(queue) if self.queues.get(&queue).is_some_and(|queue| !queue.is_empty()) => {
                self.arrived(&queue, true)
            }
            _ => Vec::new(),
        }
    }

    fn value(&self, key: &str) -> Bytes {
        self.values.get(key).map(|(value, _)| value.clone().into()).unwrap_or_default()
    }

    /// The answer and who is woken; none where it can't be done.
    fn apply(&mut self, by: Connection, request: &Request) -> Option<(Option<Answer>, Vec<Connection>)> {
        let none = Vec::new();
        Some(match request {
            Request::Set { key, value } => (None, self.set(by, key, value)),
            Request::Append { key, value } => {
                let whole = [&self.value(key)[..], value].concat();
                (None, self.set(by, key, &whole))
            }
            Request::MultiSet { entries } => {
                (None, entries.iter().flat_map(|(key, value)| self.set(by, key, value)).collect())
            }
            Request::CompareSet { key, expected, desired } => {
                let fits = match self.values.get(&**key) {
                    Some((held, _)) => held == expected,
                    None if expected.is_empty() => true,
                    None => return Some((Some(Answer::Value(expected.clone())), none)),
                };
                let woken = if fits { self.set(by, key, desired) } else { none };
                (Some(Answer::Value(self.value(key))), woken)
            }
            Request::Add { key, amount } => {
                let held = match self.values.get(&**key) {
                    Some((held, _)) => {
                        let number = held.iter().enumerate();
                        let number =
                            number.take_while(|(at, c)| c.is_ascii_digit() || *at == 0 && **c == b'-');
                        let number: String = number.map(|(_, c)| *c as char).collect();
                        number.parse().ok()?
                    }
                    None => 0i64,
                };
                let sum = held.checked_add(*amount)?;
                (Some(Answer::Number(sum)), self.set(by, key, sum.to_string().as_bytes()))
            }
            Request::Get { key } => (Some(Answer::Value(self.value(key))), none),
            Request::MultiGet { keys } => {
                (Some(Answer::Values(keys.iter().map(|key| self.value(key)).collect())), none)
            }
            Request::Check { keys } => (Some(Answer::Ready(keys.iter().all(|key| self.has(key)))), none),
            Request::Wait { keys } => {
                let woken = self.end_wait(by);
                let mut missing: Vec<_> =
                    keys.iter().filter(|key| !self.has(key)).map(|key| key.to_string()).collect();
                missing.dedup();
                match missing.is_empty() {
                    true => (Some(Answer::Stopped), woken),
                    false => {
                        self.waits.push((by, missing));
                        (None, woken)
                    }
                }
            }
            Request::CancelWait => (Some(Answer::Canceled), self.end_wait(by)),
            Request::GetNumKeys => (Some(Answer::Number(self.values.len() as i64)), none),
            Request::DeleteKey { key } => {
                (Some(Answer::Number(self.values.remove(&**key).is_some().into())), none)
            }
            Request::QueuePush { queue, value } => {
                self.queues.entry(queue.to_string()).or_default().push(value.to_vec());
                (None, self.arrived(queue, true))
            }
            Request::QueuePop { queue } => {
                self.owed.retain(|owed| *owed != (by, queue.to_string()));
                let values = self.queues.entry(queue.to_string()).or_default();
                let held = values.len() as i64;
                let value = (held > 0).then(|| values.remove(0).into());
                (Some(Answer::Popped(held, value)), none)
            }
            Request::QueueLen { queue } => {
                let held = self.queues.get(&**queue).map_or(0, Vec::len);
                (Some(Answer::Number(held as i64)), none)
            }
            Request::ListKeys => {
                (Some(Answer::Keys(self.values.keys().map(|key| key.as_str().into()).collect())), none)
            }
            Request::Ping(nonce) => (Some(Answer::Pong(*nonce)), none),
            Request::Validate(_) => (None, none),
        })
    }
}

fn key() -> impl Strategy<Value = Arc<str>> {
    prop_oneof!["a", "b", "c", "d"].prop_map(|key| key.as_str().into())
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof!["", "1", "-20", "9223372036854775807", "x"].prop_map(Bytes::from)
}

fn request() -> impl Strategy<Value = Request> {
    let pair = || (key(), value());
    prop_oneof![
        1 => pair().prop_map(|(key, value)| Request::Set { key, value }),
        1 => pair().prop_map(|(key, value)| Request::Append { key, value }),
        1 => vec(pair(), 0..3).prop_map(|entries| Request::MultiSet { entries }),
        1 => (key(), value(), value()).prop_map(|(key, expected, desired)| Request::CompareSet {
            key,
            expected,
            desired
        }),
        1 => (key(), -5..5i64).prop_map(|(key, amount)| Request::Add { key, amount }),
        1 => key().prop_map(|key| Request::Get { key }),
        1 => vec(key(), 0..3).prop_map(|keys| Request::MultiGet { keys }),
        1 => vec(key(), 0..3).prop_map(|keys| Request::Check { keys }),
        3 => vec(key(), 0..3).prop_map(|keys| Request::Wait { keys }),
        1 => Just(Request::CancelWait),
        1 => Just(Request::GetNumKeys),
        3 => key().prop_map(|key| Request::DeleteKey { key }),
        2 => pair().prop_map(|(queue, value)| Request::QueuePush { queue, value }),
        2 => key().prop_map(|queue| Request::QueuePop { queue }),
        1 => key().prop_map(|queue| Request::QueueLen { queue }),
        1 => Just(Request::ListKeys),
    ]
}

#[derive(Debug, Clone)]
enum Event {
    Asks(Connection, Request),
    /// Is told that its wait is over, where it is.
    Told(Connection),
    /// Ends and comes again.
    Ends(Connection),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..4u64, request()).prop_map(|(connection, request)| Event::Asks(connection, request)),
        4 => (0..4u64).prop_map(Event::Told),
        1 => (0..4u64).prop_map(Event::Ends),
    ]
}

proptest! {
    #[test]
    fn does_as_the_model(events in vec(event(), 1..120)) {
        let now = Instant::now();
        let (mut table, mut model) = (Table::default(), Model::default());
        let mut untold = HashSet::new();
        (0..4).for_each(|connection| table.connect(connection));
        let mut revision = 0;
        for event in events {
            let woken = match event {
                Event::Asks(by, request) => {
                    let ends_wait = matches!(request, Request::Wait { .. } | Request::CancelWait);
                    let expected = model.apply(by, &request);
                    let found = table.apply(by, request.clone(), now);
                    let Some((answer, woken)) = expected else {
                        prop_assert!(found.is_err());
                        continue;
                    };
                    let effects = found.unwrap();
                    prop_assert_eq!(&effects.answer, &answer, "{:?}", request);
                    if ends_wait {
                        untold.remove(&by);
                    }
                    for key in &effects.changed {
                        prop_assert_eq!(table.entries.contains_key(key), model.values.contains_key(&**key));
                    }
                    prop_assert_eq!(table.revision() > revision, !effects.changed.is_empty());
                    (effects.woken, woken)
                }
                Event::Told(by) => {
                    prop_assert_eq!(table.take_stop(by), untold.remove(&by));
                    (Vec::new(), Vec::new())
                }
                Event::Ends(by) => {
                    let set: HashSet<Arc<str>> = model.values.iter()
                        .filter(|(_, (_, setter))| *setter == by).map(|(key, _)| key.as_str().into()).collect();
                    let woken = model.end_wait(by);
                    let effects = table.disconnect(by);
                    prop_assert_eq!(effects.changed.into_iter().collect::<HashSet<_>>(), set);
                    prop_assert!(!table.is_open(by));
                    // The model's next connection of this number has set nothing.
                    model.values.values_mut().filter(|(_, setter)| *setter == by).for_each(|(_, setter)| *setter = 99);
                    table.entries.values_mut().filter(|entry| entry.setter == by).for_each(|entry| entry.setter = 99);
                    table.connect(by);
                    untold.remove(&by);
                    (effects.woken, woken)
                }
            };
            prop_assert_eq!(&woken.0, &woken.1);
            untold.extend(woken.0);
            revision = table.revision();

            let held: BTreeMap<_, _> = table.entries.iter()
                .map(|(key, entry)| (key.to_string(), (entry.value.to_vec(), entry.setter))).collect();
            prop_assert_eq!(&held, &model.values);
            for (connection, keys) in &table.connections {
                prop_assert!(keys.iter().all(|key| table.entries[key].setter == *connection));
            }
            let bytes: usize = table.entries.iter().map(|(key, entry)| size(key, &entry.value))
                .chain(table.queues.iter().flat_map(|(key, values)| values.iter().map(|value| size(key, value)))).sum();
            prop_assert_eq!(table.bytes, bytes);
            prop_assert_eq!(table.queued, table.queues.values().map(VecDeque::len).sum::<usize>());
            let waited: usize = model.waits.iter().flat_map(|(_, keys)| keys).map(|key| size(key, &[])).sum();
            prop_assert_eq!(table.waiting.bytes(), waited);
        }
    }
}

#[test]
fn numbers_are_read_as_c_does() {
    for (text, expected) in
        [("12", 12), (" \t-7", -7), ("+3", 3), ("12abc", 12), ("9223372036854775807", i64::MAX)]
    {
        assert_eq!(number("n", text.as_bytes()).unwrap(), expected, "{text}");
    }
    for text in ["", "abc", "-", " ", "9223372036854775808", "\u{e9}1"] {
        assert!(number("n", text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_full_table_takes_no_more() {
    let now = Instant::now();
    let mut table = Table::default();
    table.connect(1);
    let value = Bytes::from(vec![0; VALUE_BYTES]);
    let set = |key: usize| Request::Set { key: key.to_string().into(), value: value.clone() };
    let most = BYTES / VALUE_BYTES - 1;
    (0..most).for_each(|key| drop(table.apply(1, set(key), now).unwrap()));
    let error = table.apply(1, set(most), now).unwrap_err();
    assert!(error.to_string().contains("the store is full"), "{error}");
    let wait = Request::Wait { keys: vec!["k".repeat(VALUE_BYTES).into()] };
    assert!(table.apply(1, wait, now).unwrap_err().to_string().contains("the store is full"));
    let append = Request::Append { key: "0".into(), value: "more".into() };
    assert!(table.apply(1, append, now).unwrap_err().to_string().contains("expected at most 67108864"));
    table.apply(1, Request::DeleteKey { key: "0".into() }, now).unwrap();
    table.apply(1, set(most), now).unwrap();
}
