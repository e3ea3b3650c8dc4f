//! What a workflow says that its pipeline does not.

use std::collections::BTreeMap;

use serde_json::Value as Json;

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
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The workflow's name. Where there is none, the cluster makes one for each that begins with the pipeline's.
    pub name: Option<String>,
    /// The image of the program that has the pipeline's components, which calls
    /// [`run_if_asked`](kf_core::worker::run_if_asked) first thing in `main`.
    pub image: Option<String>,
    /// The program in that image, and what comes before its own arguments.
    pub command: Vec<String>,
    /// Values of the pipeline's parameters. Those without one have their default, or are asked for when the workflow is
    /// submitted (`argo submit -p name=value`); optional ones with neither are left out for good.
    pub arguments: BTreeMap<String, Json>,
    /// The artifacts that the pipeline takes.
    pub artifacts: BTreeMap<String, Given>,
    /// The account that pods run as; it needs Argo's right to write `workflowtaskresults`.
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

/// An artifact that a pipeline is given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Given {
    /// An object of an S3 store, or of the cluster's artifact repository.
    S3(S3Artifact),
    /// The content itself.
    Raw(RawArtifact),
}
