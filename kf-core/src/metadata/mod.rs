//! Runs, their journals and the lineage of artifacts, behind [`MetadataStore`].

mod lineage;
mod run;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use lineage::{ExecutionRecord, ExecutionState, Io, Lineage, LineageQuery};
pub use run::{NewRun, Page, RunQuery, RunRecord, RunState};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteMetadata;
#[cfg(feature = "sqlite")]
pub(crate) use sqlite::is_retryable;
pub use store::{Commit, Created, JournalEntry, Lease, MetadataStore};
