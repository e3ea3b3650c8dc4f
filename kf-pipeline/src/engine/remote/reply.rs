//! What an attempt that ran elsewhere replies.

use std::collections::BTreeMap;

use kf_core::Digest;
use kf_core::artifact::{ArtifactStore, Metadata, Stored};
use kf_core::process::Usage;
use serde::{Deserialize, Serialize};

use super::attempt::Problem;
use super::parcel::{pack, unpack, whole};
use crate::engine::{AttemptEnd, AttemptOutputs, GivenArtifact};
use crate::scheduler::{Failure, FailureKind, Values};

/// How an attempt ended, as data.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Succeeded { parameters: Metadata, artifacts: BTreeMap<String, Vec<Given>> },
    Failed { message: String, permanent: bool },
    Lost { message: String },
    Canceled {},
}

/// A reply, and what was used for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    pub(super) reply: Reply,
    #[serde(default, skip_serializing_if = "Usage::is_unknown")]
    pub(super) usage: Usage,
}

/// An artifact, which is in the store, or named by its URI.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Given {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default)]
    size: u64,
    uri: String,
    #[serde(default)]
    metadata: Metadata,
}

impl Reply {
    /// Of what was kept.
    pub(super) fn of(kept: &Values) -> Self {
        let parameters = kept.named_parameters().map(|(name, value)| (name.to_owned(), value.clone()));
        let artifacts = kept.artifacts().iter().map(|(name, list)| {
            let list = list.iter().map(|artifact| Given {
                digest: artifact.digest,
                size: artifact.size,
                uri: artifact.uri.clone(),
                metadata: artifact.metadata.clone(),
            });
            (name.to_string(), list.collect())
        });
        Self::Succeeded { parameters: parameters.collect(), artifacts: artifacts.collect() }
    }
}

impl Answer {
    /// As text, where there is no store.
    pub(super) fn whole(&self) -> Result<String, String> {
        whole(self)
    }

    /// As text of at most so many bytes.
    pub(super) async fn pack(&self, most: usize, store: &ArtifactStore) -> Result<String, String> {
        pack(self, most, store).await
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Carrier | FailureKind::Lost if failure.retryable => {
                Self::Lost { message: failure.message }
            }
            _ => Self::Failed { message: failure.message, permanent: !failure.retryable },
        }
    }
}

impl From<Problem> for Reply {
    fn from(Problem { problem: message, permanent, lost }: Problem) -> Self {
        if lost { Self::Lost { message } } else { Self::Failed { message, permanent } }
    }
}

/// The end of an attempt that replied so, and what it used: the text that [`RemoteTasks`](super::RemoteTasks) wrote to the
/// file [`REPLY`](super::REPLY).
///
/// # Errors
/// Where the text is no such reply, or what it refers to can't be had of the store.
pub async fn end_of(reply: &str, store: &ArtifactStore) -> Result<(AttemptEnd, Usage), String> {
    let Answer { reply, usage } = unpack(reply, store).await?;
    let end = match reply {
        Reply::Failed { message, permanent } => AttemptEnd::Failed { message, permanent },
        Reply::Lost { message } => AttemptEnd::Lost { message },
        Reply::Canceled {} => AttemptEnd::Canceled,
        Reply::Succeeded { parameters, artifacts } => {
            let artifacts = artifacts.into_iter().map(|(name, list)| {
                let list = list.into_iter().map(|given| {
                    let Given { digest, size, uri, metadata } = given;
                    let stored = digest.map(|digest| Stored { digest, size, folder: false });
                    let uri = stored.is_none().then_some(uri);
                    GivenArtifact { metadata, uri, stored, ..GivenArtifact::default() }
                });
                (name, list.collect())
            });
            AttemptEnd::Succeeded(AttemptOutputs { parameters, artifacts: artifacts.collect() })
        }
    };
    Ok((end, usage))
}
