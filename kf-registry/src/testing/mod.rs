//! The conformance suite of [`Registry`]: one function per behaviour. Each wants an empty registry and panics
//! with what it found where the implementation does otherwise.
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use kf_registry::{Registry, SqliteRegistry};
//! use std::sync::Arc;
//!
//! kf_registry::testing::suite(async || {
//!     let registry = SqliteRegistry::in_memory().await.expect("memory");
//!     Arc::new(registry) as Arc<dyn Registry>
//! })
//! .await;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```

mod aliases;
mod lineage;
mod models;
mod versions;

use std::sync::Arc;

use kf_core::Digest;

use crate::{AliasName, ModelName, NewVersion, Registry};

pub use aliases::*;
pub use lineage::*;
pub use models::*;
pub use versions::*;

/// Runs every behaviour, each over a fresh registry from `empty`.
///
/// # Panics
/// Where the implementation does not conform.
pub async fn suite(empty: impl AsyncFn() -> Arc<dyn Registry>) {
    macro_rules! each {
        ($($behaviour:ident)*) => { $( Box::pin($behaviour(&*empty().await)).await; )* };
    }
    each! {
        a_model_is_created_once
        models_are_listed_in_pages
        a_model_is_updated
        versions_are_numbered_without_gaps
        the_same_content_is_one_version
        concurrent_registration_of_the_same_content_is_one_version
        concurrent_registration_leaves_no_gaps
        everything_registered_comes_back
        an_idempotency_key_stays_with_its_content
        only_the_mutable_part_changes
        a_stale_revision_is_refused
        versions_are_listed_in_pages
        what_is_not_there_is_not_found
        bad_requests_are_refused_and_leave_nothing
        an_alias_moves_and_keeps_its_history
        an_alias_is_compared_before_it_is_set
        of_concurrent_changes_one_wins
        an_alias_is_deleted_and_set_again
        an_alias_holds_versions_that_exist
        aliases_of_models_are_apart
        lineage_is_followed_both_ways
        each_registration_adds_its_lineage
        lineage_is_listed_in_pages
    }
}

fn model(name: &str) -> ModelName {
    ModelName::new(name).expect("the suite's names are valid")
}

fn alias(name: &str) -> AliasName {
    AliasName::new(name).expect("the suite's names are valid")
}

fn content(model_name: &str, text: &str) -> NewVersion {
    NewVersion::new(model(model_name), Digest::of(text), format!("memory:{text}"), text.len() as u64)
}
