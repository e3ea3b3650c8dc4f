//! Key-value stores that ranks meet at.

use std::ffi::{CString, c_char};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Result, c_string, call, millis};
use crate::ffi;
use crate::key_value::{self, KeyValue};

/// A key-value store that ranks share. Clones are not needed: all calls take `&self`, from any thread, one at a time.
#[derive(Debug)]
pub struct Store {
    raw: NonNull<ffi::KfStore>,
}

// SAFETY: c10d's stores lock around each call, and have no ties to the thread that made them.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Serves a TCP store on a socket that listens already, and connects to it. The server ends with this value.
    ///
    /// # Errors
    /// c10d's, when it can't take the socket over or connect within `timeout`.
    pub fn serve(listener: TcpListener, timeout: Duration) -> Result<Self> {
        let address = listener.local_addr().map_err(|error| crate::Error::new(error.to_string()))?;
        // The server owns the socket from here on, and closes it when it can't be started, too.
        Self::tcp(&address.ip().to_string(), address.port(), true, listener.into_raw_fd(), timeout)
    }

    /// Connects to a TCP store, trying until `timeout` is over. The same time then holds for every call.
    ///
    /// # Errors
    /// c10d's, when nobody serves there in time.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        Self::tcp(host, port, false, -1, timeout)
    }

    /// A store of one's own. `timeout` is the time that c10d's calls have which name none.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn of(store: Arc<dyn KeyValue>, timeout: Duration) -> Result<Self> {
        let context = key_value::context(store);
        // SAFETY: the functions outlive the call, which takes the context over; the shim writes `out` when it answers OK.
        Self::made(|out, message| unsafe {
            ffi::kf_store_of(&key_value::CALLS, context, millis(timeout), out, message)
        })
    }

    fn tcp(host: &str, port: u16, serve: bool, listener: i32, timeout: Duration) -> Result<Self> {
        let host = c_string(host)?;
        // SAFETY: the strings outlive the call; the shim writes `out` when it answers OK.
        Self::made(|out, message| unsafe {
            ffi::kf_store_tcp(host.as_ptr(), port, serve.into(), listener, millis(timeout), out, message)
        })
    }

    /// A view of this store in which every key begins with `prefix/`.
    ///
    /// # Errors
    /// Where the prefix holds a zero byte.
    pub fn prefixed(&self, prefix: &str) -> Result<Self> {
        let prefix = c_string(prefix)?;
        // SAFETY: the store is alive, the string outlives the call, and the view holds the store itself.
        Self::made(|out, message| unsafe {
            ffi::kf_store_prefixed(self.raw.as_ptr(), prefix.as_ptr(), out, message)
        })
    }

    fn made(body: impl FnOnce(*mut *mut ffi::KfStore, *mut *mut c_char) -> i32) -> Result<Self> {
        let mut out = std::ptr::null_mut();
        call(|message| body(&mut out, message))?;
        let raw = NonNull::new(out).ok_or_else(|| crate::Error::new("no store was made"))?;
        Ok(Self { raw })
    }

    /// Sets a key.
    ///
    /// # Errors
    /// c10d's, when the store can't be reached.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = c_string(key)?;
        // SAFETY: the key and the bytes outlive the call.
        call(|message| unsafe {
            ffi::kf_store_set(self.raw.as_ptr(), key.as_ptr(), value.as_ptr(), value.len(), message)
        })
    }

    /// Waits for a key to be set, and returns its value.
    ///
    /// # Errors
    /// c10d's, timed out where the key was not set within `timeout`.
    pub fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        let key = c_string(key)?;
        let (mut bytes, mut length) = (std::ptr::null_mut(), 0);
        // SAFETY: the key outlives the call; the shim writes `bytes` and `length` when it answers OK.
        call(|message| unsafe {
            ffi::kf_store_get(
                self.raw.as_ptr(),
                key.as_ptr(),
                millis(timeout),
                &mut bytes,
                &mut length,
                message,
            )
        })?;
        // SAFETY: `bytes` holds `length` bytes that the shim has made for us to free.
        Ok(unsafe {
            let value = std::slice::from_raw_parts(bytes, length).to_vec();
            ffi::kf_bytes_free(bytes);
            value
        })
    }

    /// Whether a key is set.
    ///
    /// # Errors
    /// c10d's, when the store can't be reached.
    pub fn check(&self, key: &str) -> Result<bool> {
        let key: CString = c_string(key)?;
        let mut exists = 0;
        // SAFETY: the key outlives the call.
        call(|message| unsafe {
            ffi::kf_store_check(self.raw.as_ptr(), key.as_ptr(), &mut exists, message)
        })?;
        Ok(exists != 0)
    }

    /// Adds to the number at a key, 0 where it is not set, and returns the sum.
    ///
    /// # Errors
    /// c10d's, when the store can't be reached.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64> {
        let key = c_string(key)?;
        let mut sum = 0;
        // SAFETY: the key outlives the call.
        call(|message| unsafe {
            ffi::kf_store_add(self.raw.as_ptr(), key.as_ptr(), amount, &mut sum, message)
        })?;
        Ok(sum)
    }

    pub(crate) fn raw(&self) -> *const ffi::KfStore {
        self.raw.as_ptr()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by the shim and freed once.
        unsafe { ffi::kf_store_free(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(200);

    fn served() -> (Store, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (Store::serve(listener, LONG).unwrap(), port)
    }

    #[test]
    fn clients_share_keys() {
        let (server, port) = served();
        let client = Store::connect("127.0.0.1", port, LONG).unwrap();
        client.set("a", b"one\0two").unwrap();
        client.set("empty", b"").unwrap();
        assert_eq!(server.get("a", LONG).unwrap(), b"one\0two");
        assert_eq!(server.get("empty", LONG).unwrap(), b"");
        assert_eq!((client.add("n", 2).unwrap(), server.add("n", 3).unwrap()), (2, 5));
        assert!(server.check("a").unwrap() && !server.check("b").unwrap());
        let view = server.prefixed("deep").unwrap();
        assert!(!view.check("a").unwrap());
        view.set("a", b"other").unwrap();
        assert_eq!(client.get("a", LONG).unwrap(), b"one\0two");
        // The view outlives the value that it was made from.
        drop(server);
        assert!(view.check("a").unwrap());
    }

    #[test]
    fn waiting_ends_with_an_error() {
        let (server, _) = served();
        let began = Instant::now();
        let error = server.get("never", SHORT).unwrap_err();
        assert!(error.timed_out(), "{error}");
        assert!(began.elapsed() < LONG);
        assert!(server.set("zero\0byte", b"").is_err());
    }

    #[test]
    fn a_server_that_is_gone_is_an_error() {
        let (server, port) = served();
        let client = Store::connect("127.0.0.1", port, LONG).unwrap();
        drop(server);
        assert!(client.set("a", b"").is_err() || client.get("a", SHORT).is_err());
        let error = Store::connect("127.0.0.1", port, SHORT).unwrap_err();
        assert!(error.timed_out(), "{error}");
    }

    /// How a launcher keeps a port for a program whose rank 0 serves by PyTorch's own means.
    #[test]
    fn torchs_own_server_takes_a_port_that_is_bound_and_not_listening() {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&held, true).unwrap();
        bind(&held, &std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = std::net::SocketAddrV4::try_from(getsockname(&held).unwrap()).unwrap().port();
        let server = Store::tcp("127.0.0.1", port, true, -1, LONG).unwrap();
        server.set("a", b"x").unwrap();
        assert_eq!(Store::connect("127.0.0.1", port, LONG).unwrap().get("a", LONG).unwrap(), b"x");
    }
}
