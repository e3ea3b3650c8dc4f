//! Attempts that run elsewhere: what goes there, what is done there, what comes back.
//!
//! An executor that carries attempts to [other machines](crate::Executor::on_this_machine) starts this program there, or has
//! it started in an image: as the worker entry [`ENTRY`], with a [`RemoteAttempt`] as its request. [`RemoteTasks`] is that
//! entry. It fetches the attempt's inputs from the artifact store, runs the component or the container's command, puts what
//! that gave into the store, and replies; [`end_of`] makes the attempt's end of the reply. Content never passes through the
//! engine, and both sides need the store alone.
//!
//! Whoever runs an attempt is the engine's own program, or an image of it: another build gives other results, which would be
//! kept as the engine's own. It is refused where both have a build id, unless the component states a `version`, which says
//! that its code is the same.
//!
//! ```no_run
//! use kf_core::artifact::ArtifactStore;
//! use kf_core::worker::{Workers, run_if_asked};
//! use kf_pipeline::Components;
//! use kf_pipeline::remote::RemoteTasks;
//!
//! fn store() -> kf_core::Result<ArtifactStore> {
//!     ArtifactStore::local("/mnt/shared/artifacts")
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let components = Components::new();
//!     let workers = Workers::new().with(RemoteTasks::new(components, store));
//!     if let Some(code) = run_if_asked(&workers) {
//!         return code;
//!     }
//!     // What the program does when nobody asks it for a task.
//!     std::process::ExitCode::SUCCESS
//! }
//! ```

mod attempt;
mod build;
mod command;
mod install;
mod parcel;
mod reply;
mod worker;

pub use attempt::RemoteAttempt;
pub use install::{INSTALL_ENTRY, INSTALLED, Install};
pub use reply::end_of;
pub use worker::RemoteTasks;

/// The name of the worker entry that runs an attempt.
pub const ENTRY: &str = "kf-remote-task";
/// The environment variable with the folder that an attempt works in, which is its own; a temporary one where not set.
pub const FOLDER: &str = "KF_TASK_FOLDER";
/// The environment variable with the file that the reply is written to; standard output where not set.
pub const REPLY: &str = "KF_TASK_REPLY";
