//! Who runs, as seen from outside of the cluster.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use super::super::Given;
use super::store;

/// Counts who says that it runs.
pub(crate) struct Witness {
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    address: SocketAddr,
}

impl Witness {
    /// Listens where pods reach it.
    pub(crate) async fn listen(given: &Given) -> Self {
        let listener = TcpListener::bind((store::address(&given.admin).await.unwrap(), 0)).unwrap();
        let (seen, address) = (Arc::<Mutex<BTreeMap<_, _>>>::default(), listener.local_addr().unwrap());
        let witness = Self { seen: Arc::clone(&seen), address };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut said = String::new();
                if stream.read_to_string(&mut said).is_ok() {
                    *seen.lock().unwrap().entry(said).or_default() += 1;
                    let _ = stream.write_all(b"ok");
                }
            }
        });
        witness
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often each has said so, by its task and its attempt.
    pub(crate) fn seen(&self) -> BTreeMap<String, usize> {
        self.seen.lock().unwrap().clone()
    }

    /// How often each attempt of this number has said so.
    pub(crate) fn attempts(&self, attempt: u32) -> Vec<usize> {
        let end = format!(" {attempt}");
        let seen = self.seen().into_iter();
        seen.filter(|(who, _)| who.ends_with(&end)).map(|(_, times)| times).collect()
    }
}
