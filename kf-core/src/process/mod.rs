//! Child processes that end with their owner.
//!
//! A [`Spawner`] starts copies of this program to run a [worker entry](crate::worker), or other programs under the same
//! protection. Each child has a process group of its own, its output goes to a bounded log file, and it dies when
//! its [`Child`] handle or its `Spawner` is dropped, and, on Linux, when this process ends in any way, SIGKILL
//! included.
//!
//! ```no_run
//! # use kf_core::process::{Command, Log, Spawner};
//! # async fn doc() -> Result<(), Box<dyn std::error::Error>> {
//! let spawner = Spawner::new()?;
//! let greet = Command::entry("greet", &"Ada")?.log(Log::to("logs/greet.log"));
//! let child = spawner.spawn(greet).await?;
//! let exit = child.wait().await;
//! if !exit.success() {
//!     eprintln!("greet ended with {exit}; its last lines:\n{}", child.tail(10).join("\n"));
//! }
//! # Ok(()) }
//! ```
//!
//! A log can be followed while it is written, by any number of followers that cost the child nothing:
//!
//! ```no_run
//! # use futures::StreamExt;
//! # use kf_core::process::{Child, log_lines};
//! # async fn doc(child: Child) -> Result<(), Box<dyn std::error::Error>> {
//! let log = child.log().ok_or("it was started without a log")?;
//! let mut lines = log_lines(log.follow());
//! while let Some(line) = lines.next().await {
//!     println!("{}", line?);
//! }
//! # Ok(()) }
//! ```
//!
//! # Limits
//! - The program must call [`run_if_asked`](crate::worker::run_if_asked) first thing in `main`; without it, starting
//!   is refused.
//! - What `main` does before that, copies do too: each child, one that waits for its request, and one that ends what the
//!   others leave behind. From there on, and not before, a copy ends with this process.
//! - Processes that a foreign program starts itself are ended with its process group, also after a SIGKILL of this
//!   process: a copy of this program waits beside it for that. What leaves its group (`setsid`) is not ended.
//! - Needs a tokio runtime with I/O and time enabled.

mod capture;
mod child;
mod command;
mod copy;
mod error;
mod exit;
mod follow;
pub(crate) mod guard;
mod lines;
mod log;
mod output;
mod spawner;
mod usage;

pub use capture::Capture;
pub use child::Child;
pub use command::{Command, Log};
pub use error::SpawnError;
pub use exit::Exit;
pub use follow::{LogChunk, LogStream, log_lines, read_log};
pub use guard::{Guarded, Guards};
pub use log::{LogFeed, LogWriter};
pub use spawner::Spawner;
pub use usage::Usage;
