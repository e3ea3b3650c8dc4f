//! TrainJobs of Kubeflow Trainer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Draft, job, jobset};
use crate::objects::training_runtime::{
    ANCESTOR_STEP_LABEL, JobSetTemplate, MlPolicy, TRAINER_STEP, TrainingRuntimeSpec,
};
use crate::objects::trainjob::{RuntimeRef, TrainJobSpec};

/// The runtime of one job. It names no framework, since the ranks find all that they need in their environment.
pub(super) fn runtime(draft: Draft<'_>) -> TrainingRuntimeSpec {
    let nodes = job::nodes(&draft);
    let labels = [(ANCESTOR_STEP_LABEL.to_owned(), TRAINER_STEP.to_owned())];
    let metadata = ObjectMeta { labels: Some(labels.into()), ..ObjectMeta::default() };
    let jobs = jobset::of_one(draft, Some(metadata));
    TrainingRuntimeSpec {
        ml_policy: Some(MlPolicy { num_nodes: Some(nodes), ..MlPolicy::default() }),
        pod_group_policy: None,
        template: JobSetTemplate { metadata: None, spec: jobs },
    }
}

/// A TrainJob of the runtime of its name.
pub(super) fn spec(name: &str) -> TrainJobSpec {
    TrainJobSpec {
        runtime_ref: RuntimeRef {
            name: name.to_owned(),
            api_group: Some("trainer.kubeflow.org".into()),
            kind: Some("TrainingRuntime".into()),
        },
        ..TrainJobSpec::default()
    }
}
