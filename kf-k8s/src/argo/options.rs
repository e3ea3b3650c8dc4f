//! What a workflow says that its pipeline does not.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::manifests::PodSecurity;
use crate::objects::argo::{PodGc, RawArtifact, S3Artifact, TtlStrategy};

/// What a workflow says that its pipeline does not.
///
/// ```
/// use kf_k8s::argo::{Given, Options};
/// use kf_k8s::objects::argo::S3Artifact;
///
/// let mut options = Options::new("registry.example/team/program:7", "/program");
/// options.arguments.insert("epochs".into(), 3.into());
/// let key = S3Artifact { key: "raw/digits.parquet".into(), ..Default::default() };
/// options.artifacts.insert("digits".into(), Given::S3(key));
/// options.service_account = Some("kf-workflow".into());
/// options.secrets = vec!["mail".into()];
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The workflow's name. Where there is none, the cluster makes one for each that begins with the pipeline's.
    pub name: Option<String>,
    /// The image of the program that has the pipeline's components, which calls
    /// [`run_if_asked`](kf_core::worker::run_if_asked) first thing in `main`.
    ///
    /// Its containers ask for components by name, which [`Components`](kf_pipeline::Components) answer. Where the same
    /// program's tasks are pods as well, its workers are both:
    /// `Workers::new().with(components()).with(RemoteTasks::new(components(), store))`.
    /// [`RemoteTasks`](kf_pipeline::remote::RemoteTasks) alone answer an engine, and know no name.
    pub image: Option<String>,
    /// When that image is pulled: `Always`, `IfNotPresent` or `Never`; the cluster's rule where not given.
    pub image_pull_policy: Option<String>,
    /// The program in that image, and what comes before its own arguments.
    pub command: Vec<String>,
    /// Environment variables of the program's components. Other containers of the pipeline don't get them.
    pub env: Vec<(String, String)>,
    /// Secrets of the namespace whose keys are environment variables of the program's components, and of no other container.
    pub secrets: Vec<String>,
    /// What all containers keep to: under `Restricted`, the default, they run in a namespace that
    /// [`manifests`](mod@crate::manifests) made; under another level nothing is said of it, for images that need root.
    pub pod_security: PodSecurity,
    /// The user and group that restricted containers run as, not 0, but for those to which the pipeline gives another; as the
    /// image says where not given. 65532 by default.
    pub user: Option<i64>,
    /// Values of the pipeline's parameters. Those without one have their default, or are asked for when the workflow is
    /// submitted (`argo submit -p name=value`); optional ones with neither are left out for good.
    pub arguments: BTreeMap<String, Json>,
    /// The artifacts that the pipeline takes.
    pub artifacts: BTreeMap<String, Given>,
    /// The account that pods run as; it needs Argo's right to write `workflowtaskresults`, which
    /// [`workflow`](crate::manifests::Options::workflow) of the manifests' options gives one. The containers of steps see its
    /// token.
    pub service_account: Option<String>,
    /// When the workflow is deleted after its end.
    pub ttl: Option<TtlStrategy>,
    /// When its pods are deleted.
    pub pod_gc: Option<PodGc>,
    /// Seconds that the whole may take.
    pub deadline: Option<i64>,
}

impl Options {
    /// Components run in `program` of `image`, and nothing else is said.
    pub fn new(image: impl Into<String>, program: impl Into<String>) -> Self {
        Self { image: Some(image.into()), command: vec![program.into()], ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            image: None,
            image_pull_policy: None,
            command: Vec::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            pod_security: PodSecurity::default(),
            user: Some(65_532),
            arguments: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            service_account: None,
            ttl: None,
            pod_gc: None,
            deadline: None,
        }
    }
}

/// An artifact that a pipeline is given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Given {
    /// An object of an S3 store, or of the cluster's artifact repository.
    S3(S3Artifact),
    /// The content itself.
    Raw(RawArtifact),
}
