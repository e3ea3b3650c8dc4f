//! How jobs are made on a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Toleration;

use super::gang::Gang;

/// What all pods of a launcher, or of an executor of tasks, have in common.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PodOptions {
    /// The image of the ranks. Of a job that runs functions of this program, an image whose entrypoint is this program.
    pub image: String,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`; the cluster's rule where not given.
    pub image_pull_policy: Option<String>,
    /// The service account that pods run under; that of the namespace where not given. They get no token of it.
    pub service_account: Option<String>,
    /// The user and group that ranks run as, not 0; as the image says where not given.
    pub user: Option<i64>,
    /// Labels of nodes that pods go to.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that keep these pods off no more, such as those of spot machines and of nodes with accelerators.
    pub tolerations: Vec<Toleration>,
    /// The class that says which pods go before which.
    pub priority_class: Option<String>,
    /// Further labels of the job's objects and pods, such as the queue's name for Kueue.
    pub labels: BTreeMap<String, String>,
    /// Who gives a job's pods their places, all at once or not at all; the cluster's scheduler, one by one, where not given.
    pub gang: Option<Gang>,
    /// Volume claims of the namespace that all pods have mounted, such as one for checkpoints.
    pub claims: Vec<ClaimMount>,
    /// Secrets of the namespace whose keys are environment variables of the pods, such as the credentials of an object
    /// store.
    pub secrets: Vec<String>,
    /// How long an ended job's objects stay; a day where not given.
    pub keep: Duration,
}

impl PodOptions {
    /// Of an image.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            image_pull_policy: None,
            service_account: None,
            user: Some(65_532),
            node_selector: BTreeMap::new(),
            priority_class: None,
            labels: BTreeMap::new(),
            tolerations: Vec::new(),
            gang: None,
            claims: Vec::new(),
            secrets: Vec::new(),
            keep: Duration::from_secs(24 * 3600),
        }
    }
}

/// A volume claim as a folder of pods.
///
/// Pods run as [`PodOptions::user`], and write where the claim's volume lets that user's group: most kinds of volumes are given
/// to it when they are mounted. Folders of a node (`hostPath`) are not; whoever makes such a volume sets its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimMount {
    /// The claim's name.
    pub claim: String,
    /// Where it is mounted: an absolute path, and none of `/kf`, `/kf-program` and `/etc/kf`, which pods have for their own.
    pub path: String,
    /// Whether pods can't write there.
    pub read_only: bool,
}

impl ClaimMount {
    /// A claim that pods write to.
    pub fn new(claim: impl Into<String>, path: impl Into<String>) -> Self {
        Self { claim: claim.into(), path: path.into(), read_only: false }
    }

    /// The same, and pods can't write there.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}
