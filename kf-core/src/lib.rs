//! What the KF crates share: artifacts and where their bytes lie, runs and lineage, resources, and how a program
//! starts copies of itself as workers.

pub mod artifact;
pub mod backoff;
mod digest;
mod error;
#[cfg(feature = "sqlite")]
mod home;
mod id;
pub mod json;
mod lock;
pub mod metadata;
pub mod process;
pub mod resources;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
pub mod worker;

pub use digest::{Digest, Hasher};
pub use error::{Error, Result};
#[cfg(feature = "sqlite")]
pub use home::Home;
pub use id::RunId;
pub use time::Timestamp;
pub use tokio_util::sync::CancellationToken;
