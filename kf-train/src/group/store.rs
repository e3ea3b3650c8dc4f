//! The store of a group, as libtorch calls it: this crate's, which asks for no names of addresses. c10d's own client
//! does that at every connection, for the text of a log, and waits for a name server that does not answer.

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use c10d_sys::{KeyValue, Store};
use tokio::runtime::{Builder, Runtime};

use crate::store::{StoreClient, StoreServer};
use crate::{Error, Result};

/// Connects to a store that another process serves, trying until `timeout` is over. The same time then holds for calls
/// that name none.
pub(super) fn connect(host: &str, port: u16, timeout: Duration) -> Result<Store> {
    let runtime = Running::start()?;
    let client = runtime.block_on(StoreClient::connect(format!("{host}:{port}"), timeout))?;
    made(Blocking { client, runtime: Arc::new(runtime), _server: None }, timeout)
}

/// Connects to a store that is there already, or is there no more, which is told at once.
pub(super) fn connect_once(host: &str, port: u16, timeout: Duration) -> Result<Store> {
    let runtime = Running::start()?;
    let client = runtime.block_on(StoreClient::connect_once(format!("{host}:{port}"), timeout.min(ONCE)))?;
    made(
        Blocking { client: client.with_timeout(timeout), runtime: Arc::new(runtime), _server: None },
        timeout,
    )
}

/// How long a host may take to answer that is there or gone.
const ONCE: Duration = Duration::from_secs(3);

/// Serves a store on a socket that listens already; it ends with the store that this gives, and the views of it.
pub(super) fn serve(listener: TcpListener, timeout: Duration) -> Result<Store> {
    let runtime = Running::start()?;
    let server = runtime.block_on(async { StoreServer::from_listener(listener) })?;
    let client = runtime.block_on(async { server.client(timeout) });
    made(Blocking { client, runtime: Arc::new(runtime), _server: Some(Arc::new(server)) }, timeout)
}

fn made(store: Blocking, timeout: Duration) -> Result<Store> {
    let refused =
        |error: c10d_sys::Error| Error::Torch { what: "store".into(), message: error.message().into() };
    Store::of(Arc::new(store), timeout).map_err(refused)
}

/// How long its end may take.
const END: Duration = Duration::from_secs(1);

/// A thread that carries what a store's connections send.
#[derive(Debug)]
struct Running(Option<Runtime>);

impl Running {
    fn start() -> Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("kf-store").enable_all().build();
        Ok(Self(Some(runtime.map_err(Error::io("can't start a thread for", "a group's store"))?)))
    }

    /// Also where the caller is within a runtime or an executor itself: the thread waits, and this runtime's wakes it.
    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let _within = self.0.as_ref().map(Runtime::enter);
        // What the caller's own task may still do at a stretch is no matter of this work.
        let mut work = pin!(tokio::task::unconstrained(work));
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut context = Context::from_waker(&waker);
        loop {
            match work.as_mut().poll(&mut context) {
                Poll::Ready(done) => return done,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

/// Wakes a thread that waits.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Blocks until a server's port is free again, which no thread within a runtime may do by itself.
        let Some(runtime) = self.0.take() else { return };
        let end = std::thread::Builder::new().name("kf-store-end".into());
        if let Ok(ending) = end.spawn(move || runtime.shutdown_timeout(END)) {
            let _ = ending.join();
        }
    }
}

/// The client for those who wait for its answers.
#[derive(Debug)]
struct Blocking {
    client: StoreClient,
    _server: Option<Arc<StoreServer>>,
    runtime: Arc<Running>,
}

impl Blocking {
    fn wait_for<T>(&self, work: impl Future<Output = Result<T>>) -> c10d_sys::Result<T> {
        self.runtime.block_on(work).map_err(|error| match error {
            Error::StoreTimedOut { .. } => c10d_sys::Error::out_of_time(error.to_string()),
            error => c10d_sys::Error::new(error.to_string()),
        })
    }
}

impl KeyValue for Blocking {
    fn set(&self, entries: &[(&str, &[u8])]) -> c10d_sys::Result<()> {
        match entries {
            [(key, value)] => self.wait_for(self.client.set(key, value)),
            entries => self.wait_for(self.client.multi_set(entries)),
        }
    }

    fn get(&self, keys: &[&str], timeout: Duration) -> c10d_sys::Result<Vec<Vec<u8>>> {
        match keys {
            [key] => self.wait_for(self.client.get(key, timeout)).map(|value| vec![value]),
            keys => self.wait_for(self.client.multi_get(keys, timeout)),
        }
    }

    fn wait(&self, keys: &[&str], timeout: Duration) -> c10d_sys::Result<()> {
        self.wait_for(self.client.wait(keys, timeout))
    }

    fn check(&self, keys: &[&str]) -> c10d_sys::Result<bool> {
        self.wait_for(self.client.check(keys))
    }

    fn add(&self, key: &str, amount: i64) -> c10d_sys::Result<i64> {
        self.wait_for(self.client.add(key, amount))
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> c10d_sys::Result<Vec<u8>> {
        self.wait_for(self.client.compare_set(key, expected, desired))
    }

    fn append(&self, key: &str, more: &[u8]) -> c10d_sys::Result<()> {
        self.wait_for(self.client.append(key, more))
    }

    fn delete(&self, key: &str) -> c10d_sys::Result<bool> {
        self.wait_for(self.client.delete(key))
    }

    fn num_keys(&self) -> c10d_sys::Result<u64> {
        self.wait_for(self.client.num_keys())
    }

    fn connect_again(&self) -> c10d_sys::Result<Arc<dyn KeyValue>> {
        let client = self.wait_for(self.client.connect_again())?;
        let (runtime, _server) = (Arc::clone(&self.runtime), self._server.clone());
        Ok(Arc::new(Self { client, _server, runtime }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(20);

    /// As many calls as no task of a runtime may make at a stretch.
    fn calls() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = serve(listener, TIME).unwrap();
        let client = connect("127.0.0.1", port, TIME).unwrap();
        for i in 0..500_i64 {
            assert_eq!(client.add("n", 1).unwrap(), i + 1);
        }
        drop(client);
        drop(server);
        // The port is free again.
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn calls_are_made_within_runtimes_too() {
        calls();
        futures::executor::block_on(async { calls() });
        let flavors = [Builder::new_current_thread(), Builder::new_multi_thread()];
        for mut flavor in flavors {
            let runtime = flavor.enable_all().build().unwrap();
            runtime.block_on(async { calls() });
            runtime.block_on(async { tokio::spawn(async { calls() }).await.unwrap() });
        }
    }
}
