//! A store of one's own, as c10d calls it.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ffi::{self, KfBytes, KfGive, KfKeyValue, KfRequest};

/// What a store of one's own does for c10d; see [`Store::of`](crate::Store::of). Calls come from any thread, and several
/// at a time; each must end in its time.
pub trait KeyValue: Send + Sync + 'static {
    /// Sets keys, all at once.
    ///
    /// # Errors
    /// Every call's: where the store can't be reached, and [timed out](Error::out_of_time) where time has run out.
    fn set(&self, entries: &[(&str, &[u8])]) -> Result<()>;

    /// Waits for all keys to be set, and gives their values in order.
    ///
    /// # Errors
    /// Every call's.
    fn get(&self, keys: &[&str], timeout: Duration) -> Result<Vec<Vec<u8>>>;

    /// Waits for all keys to be set.
    ///
    /// # Errors
    /// Every call's.
    fn wait(&self, keys: &[&str], timeout: Duration) -> Result<()>;

    /// Whether all keys are set.
    ///
    /// # Errors
    /// Every call's.
    fn check(&self, keys: &[&str]) -> Result<bool>;

    /// Adds to the number at a key, 0 where it is not set, and gives the sum.
    ///
    /// # Errors
    /// Every call's.
    fn add(&self, key: &str, amount: i64) -> Result<i64>;

    /// Sets a key to `desired` where it holds `expected`, or where it is not set and `expected` is empty; gives what it
    /// holds then.
    ///
    /// # Errors
    /// Every call's.
    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>>;

    /// Appends to a key's value, an empty one where it is not set.
    ///
    /// # Errors
    /// Every call's.
    fn append(&self, key: &str, more: &[u8]) -> Result<()>;

    /// Deletes a key; whether it was set.
    ///
    /// # Errors
    /// Every call's.
    fn delete(&self, key: &str) -> Result<bool>;

    /// How many keys there are.
    ///
    /// # Errors
    /// Every call's.
    fn num_keys(&self) -> Result<u64>;

    /// Another connection to the same store, whose calls don't wait for this one's.
    ///
    /// # Errors
    /// Every call's.
    fn connect_again(&self) -> Result<Arc<dyn KeyValue>>;
}

pub(crate) const CALLS: KfKeyValue = KfKeyValue { call, again, drop: release };

/// What the shim's store holds, until it calls [`release`].
type Context = Arc<dyn KeyValue>;

pub(crate) fn context(store: Context) -> *mut c_void {
    Box::into_raw(Box::new(store)).cast()
}

extern "C" fn call(
    context: *mut c_void,
    request: *const KfRequest,
    number: *mut i64,
    sink: *mut c_void,
    give: KfGive,
) -> c_int {
    // SAFETY: the shim's store holds the context, and its request and number outlive the call.
    let (store, request, number) = unsafe { (&*context.cast::<Context>(), &*request, &mut *number) };
    // SAFETY: the request's keys and values outlive the call.
    let answer = caught(|| unsafe { answer(store.as_ref(), request) });
    match answer {
        Ok(Answer { number: told, values }) => {
            *number = told;
            for value in values {
                give_bytes(sink, give, &value);
            }
            ffi::OK
        }
        Err(error) => {
            give_bytes(sink, give, error.marked().as_bytes());
            ffi::FAILED
        }
    }
}

extern "C" fn again(context_: *mut c_void, sink: *mut c_void, give: KfGive) -> *mut c_void {
    // SAFETY: the shim's store holds the context.
    let store = unsafe { &*context_.cast::<Context>() };
    match caught(|| store.connect_again()) {
        Ok(store) => context(store),
        Err(error) => {
            give_bytes(sink, give, error.marked().as_bytes());
            std::ptr::null_mut()
        }
    }
}

extern "C" fn release(context: *mut c_void) {
    // SAFETY: the context came from `context`, and this is called once.
    let store = unsafe { Box::from_raw(context.cast::<Context>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(store)));
}

/// The store is foreign code, and the caller C++.
fn caught<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err(Error::new("the store has panicked")))
}

fn give_bytes(sink: *mut c_void, give: KfGive, bytes: &[u8]) {
    // SAFETY: the shim's sink lives as long as its call, and copies the bytes.
    unsafe { give(sink, bytes.as_ptr(), bytes.len()) }
}

#[derive(Default)]
struct Answer {
    number: i64,
    values: Vec<Vec<u8>>,
}

/// # Safety
/// The request's keys and values must be alive.
unsafe fn answer(store: &dyn KeyValue, request: &KfRequest) -> Result<Answer> {
    let timeout = Duration::from_millis(request.timeout_ms.max(1).unsigned_abs());
    // SAFETY: as promised by the caller.
    let (keys, values) =
        unsafe { (slices(request.keys, request.keys_count), slices(request.values, request.values_count)) };
    let keys = keys.into_iter().map(text).collect::<Result<Vec<_>>>()?;
    let number = |number: i64| Ok(Answer { number, values: Vec::new() });
    let given = |values| Ok(Answer { number: 0, values });
    match (request.kind, &keys[..], &values[..]) {
        (ffi::STORE_SET, keys, values) if keys.len() == values.len() => {
            let entries: Vec<_> = keys.iter().copied().zip(values.iter().copied()).collect();
            store.set(&entries).map(|()| Answer::default())
        }
        (ffi::STORE_GET, keys, []) => store.get(keys, timeout).and_then(given),
        (ffi::STORE_WAIT, keys, []) => store.wait(keys, timeout).map(|()| Answer::default()),
        (ffi::STORE_CHECK, keys, []) => store.check(keys).and_then(|there| number(there.into())),
        (ffi::STORE_ADD, [key], []) => store.add(key, request.amount).and_then(number),
        (ffi::STORE_COMPARE_SET, [key], [expected, desired]) => {
            store.compare_set(key, expected, desired).and_then(|value| given(vec![value]))
        }
        (ffi::STORE_APPEND, [key], [more]) => store.append(key, more).map(|()| Answer::default()),
        (ffi::STORE_DELETE, [key], []) => store.delete(key).and_then(|there| number(there.into())),
        (ffi::STORE_COUNT, [], []) => {
            store.num_keys().and_then(|count| number(count.try_into().unwrap_or(i64::MAX)))
        }
        (kind, ..) => Err(Error::new(format!("a store has no call of kind {kind} with such arguments"))),
    }
}

/// # Safety
/// All bytes must be alive.
unsafe fn slices<'a>(at: *const KfBytes, count: usize) -> Vec<&'a [u8]> {
    let of = |bytes: &KfBytes| match bytes.length {
        // An empty vector of C++ may have no address.
        0 => &[],
        // SAFETY: as promised by the caller.
        length => unsafe { std::slice::from_raw_parts(bytes.at, length) },
    };
    match count {
        0 => Vec::new(),
        // SAFETY: as promised by the caller.
        _ => unsafe { std::slice::from_raw_parts(at, count) }.iter().map(of).collect(),
    }
}

fn text(key: &[u8]) -> Result<&str> {
    std::str::from_utf8(key).map_err(|_| Error::new(format!("the key {key:?} is no UTF-8")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::Store;

    const SHORT: Duration = Duration::from_millis(50);

    /// Keys in memory; a wait for what is not there ends at once.
    #[derive(Default)]
    struct Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

    impl KeyValue for Memory {
        fn set(&self, entries: &[(&str, &[u8])]) -> Result<()> {
            let entries = entries.iter().map(|(key, value)| (key.to_string(), value.to_vec()));
            self.0.lock().unwrap().extend(entries);
            Ok(())
        }

        fn get(&self, keys: &[&str], _timeout: Duration) -> Result<Vec<Vec<u8>>> {
            let map = self.0.lock().unwrap();
            let of =
                |key: &&str| map.get(*key).cloned().ok_or_else(|| Error::out_of_time(format!("no `{key}`")));
            keys.iter().map(of).collect()
        }

        fn wait(&self, keys: &[&str], timeout: Duration) -> Result<()> {
            assert_eq!(timeout, SHORT);
            self.get(keys, timeout).map(drop)
        }

        fn check(&self, keys: &[&str]) -> Result<bool> {
            let map = self.0.lock().unwrap();
            Ok(keys.iter().all(|key| map.contains_key(*key)))
        }

        fn add(&self, _key: &str, _amount: i64) -> Result<i64> {
            panic!("nobody adds here");
        }

        fn compare_set(&self, _key: &str, _expected: &[u8], _desired: &[u8]) -> Result<Vec<u8>> {
            Err(Error::new("it never compares"))
        }

        fn append(&self, _key: &str, _more: &[u8]) -> Result<()> {
            Err(Error::new("it never appends"))
        }

        fn delete(&self, key: &str) -> Result<bool> {
            Ok(self.0.lock().unwrap().remove(key).is_some())
        }

        fn num_keys(&self) -> Result<u64> {
            Ok(self.0.lock().unwrap().len() as u64)
        }

        fn connect_again(&self) -> Result<Arc<dyn KeyValue>> {
            Ok(Arc::new(Self(Arc::clone(&self.0))))
        }
    }

    #[test]
    fn a_store_of_ones_own_is_called() {
        let memory = Memory::default();
        let map = Arc::clone(&memory.0);
        let store = Store::of(Arc::new(memory), SHORT).unwrap();
        let view = store.prefixed("deep").unwrap();
        view.set("a", b"one\0two").unwrap();
        view.set("empty", b"").unwrap();
        assert_eq!(view.get("a", SHORT).unwrap(), b"one\0two");
        assert_eq!(view.get("empty", SHORT).unwrap(), b"");
        assert_eq!(map.lock().unwrap()["deep/a"], b"one\0two");
        assert!(view.check("a").unwrap() && !view.check("b").unwrap() && !store.check("a").unwrap());
        assert_eq!(Arc::strong_count(&map), 2);
        drop((store, view));
        assert_eq!(Arc::strong_count(&map), 1, "it is not freed");
    }

    #[test]
    fn its_errors_come_back() {
        let store = Store::of(Arc::new(Memory::default()), SHORT).unwrap();
        let error = store.get("never", SHORT).unwrap_err();
        assert!(error.timed_out() && error.message().contains("no `never`"), "{error}");
        let error = store.add("n", 1).unwrap_err();
        assert!(!error.timed_out() && error.message().contains("panicked"), "{error}");
    }
}
