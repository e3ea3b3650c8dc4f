//! How one binary is a program, its subprocess tasks and its training ranks at once.
//!
//! A program that starts copies of itself lists what those copies can do, and asks first thing in `main` whether it
//! is such a copy:
//!
//! ```
//! use std::process::ExitCode;
//! use kf_core::worker::{self, Workers};
//!
//! fn main() -> ExitCode {
//!     let workers = Workers::new().with(worker::entry("greet", |request| {
//!         let name: String = request.parse()?;
//!         println!("hello, {name}");
//!         Ok(())
//!     }));
//!     if let Some(code) = worker::run_if_asked(&workers) {
//!         return code;
//!     }
//!     // … the program proper, which starts copies through kf_core::process::Spawner …
//!     ExitCode::SUCCESS
//! }
//! ```
//!
//! # The contract
//! [`Spawner`](crate::process::Spawner) sets three variables in a copy's environment; a container's command line may
//! set the same ones.
//!
//! | variable | meaning |
//! |---|---|
//! | [`ENTRY`] | the entry to run; being set is what "asked" means |
//! | [`REQUEST`] | path of a JSON file with the request, or [`STDIN`]; that is the file then, is read and replaced by `/dev/null`, and takes the [answer](Request::answer); or [`HANDED`], of a worker that was started ahead of its request |
//! | [`PARENT`] | process id of the starter; where set, the worker dies with it |
//!
//! Without them, a program whose arguments are `--executor_input JSON --function_to_execute NAME`, as those of an exported
//! pipeline's containers are, is asked for that function: [`Entry::run_container`].
//!
//! A worker whose [`PARENT`] is set asks the kernel to be killed when its parent ends, and then checks that the parent
//! has not gone already. What a worker starts itself inherits the variables, and not the standard input with the request:
//! there they count for nothing. On systems other than Linux only the check is made.
//!
//! An entry runs in a `tracing` span called `worker`, which goes on with the trace that
//! [`TRACEPARENT`](crate::telemetry::TRACEPARENT) names. [`Workers::setup`] is the place to set a subscriber for it.
//!
//! The exit code is 0 for success, and one of [`EXIT_FAILED`], [`EXIT_REFUSED`], [`EXIT_PANIC`] otherwise; what went
//! wrong is on standard error.

mod dispatch;
mod entry;
mod exchange;
mod orphan;

pub(crate) use dispatch::{EXEC_ENTRY, GUARD_ENTRY, dispatches};
pub use dispatch::{EXIT_FAILED, EXIT_PANIC, EXIT_REFUSED, run_if_asked};
pub(crate) use entry::ExecRequest;
pub use entry::{Entry, Request, WorkerError, Workers, entry};
pub(crate) use exchange::{Exchange, hand};

/// The environment variable that names the entry to run.
pub const ENTRY: &str = "KF_WORKER";
/// The environment variable that holds the path of the request, a JSON file, or [`STDIN`].
pub const REQUEST: &str = "KF_WORKER_REQUEST";
/// What [`REQUEST`] is where standard input is the file.
pub const STDIN: &str = "-";
/// What [`REQUEST`] is where standard input is a Unix socket over which the file comes, as an `SCM_RIGHTS` message of one
/// byte; the worker ends at once where the socket is closed instead.
pub const HANDED: &str = "+";
/// The environment variable that holds the starter's process id.
pub const PARENT: &str = "KF_WORKER_PARENT";
