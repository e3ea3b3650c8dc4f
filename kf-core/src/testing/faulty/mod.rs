//! Stores that fail as stores do: late, not at all, half-way, or after having done what they were asked.

mod metadata;
mod objects;
mod script;

pub use metadata::{FaultyMetadata, MetadataCall, MetadataFault};
pub use objects::{FaultyObjects, ObjectCall, ObjectFault};
