//! A key-value store that processes meet at: c10d's TCPStore, served and used without libtorch.
//!
//! A [`StoreServer`] speaks the protocol of libtorch 2.11, so that PyTorch's `TCPStore` and libtorch's work against it
//! as clients, and a [`StoreClient`] works against theirs as well. The server's owner also sees, through a
//! [`StoreWatch`], what changes, and at once when the process that set a key is gone:
//!
//! ```
//! use std::time::Duration;
//! use kf_train::store::{StoreClient, StoreServer};
//!
//! # fn main() -> kf_train::Result<()> {
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! const TIME: Duration = Duration::from_secs(30);
//! let server = StoreServer::bind("127.0.0.1:0".parse().unwrap()).await?;
//! let mut agents = server.watch("agents/");
//!
//! // In another process:
//! let client = StoreClient::connect(server.local_addr(), TIME).await?;
//! let agent = client.prefixed("agents");
//! agent.set("0", "ready").await?;
//! assert_eq!(client.add("joined", 1).await?, 1);
//!
//! agents.changed().await?;
//! let seen = &agents.snapshot()["agents/0"];
//! assert!(seen.value == "ready" && seen.connected);
//!
//! // That process ends.
//! drop((client, agent));
//! while agents.snapshot()["agents/0"].connected {
//!     agents.changed().await?;
//! }
//! # Ok(()) }) }
//! ```
//!
//! Keys are UTF-8 text. What the protocol has no answer for (a request that is malformed, too large, or can't be done)
//! ends the connection it came over, and the reason goes to the log of the server.

mod client;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use client::StoreClient;
pub use server::{StoreEntry, StoreServer, StoreWatch};
