//! One artifact as it is passed from task to task.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// An artifact's metadata: JSON values by name.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// A named, typed pointer to content. This, not the bytes, goes along a pipeline's edges and into lineage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// The name its producer gave it.
    pub name: String,
    /// The kind, as a KFP schema title such as `system.Model`.
    pub schema_title: String,
    /// Where the bytes lie.
    pub uri: String,
    /// The content's digest; none where an importer points at something that was never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Bytes of the content; a folder's files added up.
    #[serde(default)]
    pub size: u64,
    /// What the producer said about it.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: Metadata,
}
