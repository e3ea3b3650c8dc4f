//! Runs, their journals and the lineage of artifacts, behind [`MetadataStore`].

mod lineage;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod page;
#[cfg(feature = "postgres")]
mod postgres;
mod run;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod same;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;

pub use lineage::{ExecutionRecord, ExecutionState, Io, Lineage, LineageQuery};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresMetadata, PostgresOptions};
pub use run::{NewRun, Page, RunQuery, RunRecord, RunState};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteMetadata;
pub use store::{Commit, Created, Hold, JournalEntry, Lease, MetadataStore};

/// Whether the call of a store that failed with this may go through later.
pub(crate) fn is_retryable(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    #[cfg(feature = "sqlite")]
    if sqlite::is_retryable(source) {
        return true;
    }
    #[cfg(feature = "postgres")]
    if source.downcast_ref().is_some_and(postgres::is_retryable) {
        return true;
    }
    let _ = source;
    false
}
