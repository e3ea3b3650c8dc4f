//! Where a version came from.

use std::collections::BTreeMap;

use kf_core::Digest;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Version, limits};

/// The run, the task and the data that a version was made by and from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lineage {
    /// The run; any system's id, 1 to 256 bytes.
    pub run_id: Option<String>,
    /// The task in the run, 1 to 256 bytes; only beside a run.
    pub task: Option<String>,
    /// Digests of the data, by role, such as `train`.
    pub data: BTreeMap<String, Digest>,
}

impl Lineage {
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(run) = &self.run_id {
            limits::id("run id", run)?;
        }
        if let Some(task) = &self.task {
            limits::id("task", task)?;
            if self.run_id.is_none() {
                return Err(Error::invalid(
                    "lineage",
                    format!("task `{task}` without a run"),
                    "the run's id too",
                ));
            }
        }
        if self.data.len() > 1000 {
            return Err(Error::invalid(
                "lineage",
                format!("{} data digests", self.data.len()),
                "at most 1,000",
            ));
        }
        self.data.keys().try_for_each(|name| limits::id("name of the data", name))
    }
}

/// What a digest is to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DigestRole {
    /// The version's own content.
    Content,
    /// Data that the version was made from.
    Data,
}

/// A version that a digest has to do with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DigestUse {
    /// What the digest is to the version.
    pub role: DigestRole,
    /// The version.
    pub version: Version,
}

impl DigestUse {
    /// The answer of an implementation.
    pub fn new(role: DigestRole, version: Version) -> Self {
        Self { role, version }
    }
}
