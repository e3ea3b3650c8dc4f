//! How jobs are made on a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Toleration;

use super::gang::Gang;

/// What all pods of a launcher have in common.
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
            keep: Duration::from_secs(24 * 3600),
        }
    }
}
