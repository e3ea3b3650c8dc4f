//! Upstream's compiled pipelines: how many become workflows, and why others don't.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kf_k8s::argo::{Error, Given, Options, workflow};
use kf_k8s::objects::Workflow;
use kf_k8s::objects::argo::RawArtifact;
use kf_pipeline::spec::PipelineFile;

use super::walk;
use crate::objects::{crds, schema_of};

/// Files that a workflow can't carry, each with words of the reason.
const REFUSED: [(&str, &str); 15] = [
    ("artifacts_complex", "`root/add-two-lists-of-datasets`"),
    ("critical__modelcar", "`root/importer`"),
    ("critical__pipeline_with_placeholders", "its pod alone knows"),
    ("critical__pipeline_with_volume_long_name", "`argostub/createpvc`"),
    ("critical__pipeline_with_workspace", "`pipelineConfig`"),
    ("local_execution__pipeline_with_collected_artifacts", "Argo collects none"),
    ("pipeline_with_condition_dynamic_task_output_custom_training_job", "pipeline_google_cloud_location"),
    ("pipeline_with_dynamic_importer_metadata", "`root/importer`"),
    ("pipeline_with_dynamic_task_output_custom_training_job", "pipeline_google_cloud_project_id"),
    ("pipeline_with_google_artifact_type", "`root/importer`"),
    ("pipeline_with_importer", "`comp-condition-1/importer-2`"),
    ("pipeline_with_importer_and_gcpc_types", "`root/importer`"),
    ("pipeline_with_parallelfor_pipeline_param", "`root/for-loop-4`"),
    ("pipeline_with_volume", "`argostub/createpvc`"),
    ("pythonic_artifacts_with_list_of_artifacts", "`root/join-datasets`"),
];
/// How many there are, but for those that are no pipelines.
const FILES: usize = 95;

/// The folder's pipelines by name; none where they are not at hand, which is said.
fn files() -> Option<Vec<(String, PipelineFile)>> {
    let folder: PathBuf = crds()?.parent()?.join("kfp");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "yaml") && !name.starts_with("invalid__") {
            found.push((name, PipelineFile::from_yaml(std::fs::read(&path).unwrap()).unwrap()));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Some(found)
}

fn export(file: &PipelineFile) -> Result<Workflow, Error> {
    let mut options = Options::default();
    for name in file.pipeline_spec.root.input_definitions.artifacts.keys() {
        options.artifacts.insert(name.clone(), Given::Raw(RawArtifact { data: "x".into() }));
    }
    workflow(file, &options)
}

#[test]
fn every_upstream_file_is_a_workflow_or_refused_with_its_reason() {
    let Some(files) = files() else { return };
    let mut refused = BTreeMap::new();
    let (_, schema) = schema_of::<Workflow>(&crds().unwrap());
    for (name, file) in &files {
        match export(file) {
            Err(error) => {
                assert!(matches!(error, Error::Unsupported { .. }), "{name}: {error}");
                refused.insert(name.as_str(), error.to_string());
            }
            Ok(workflow) => {
                assert_eq!(walk::problems(&workflow), [""; 0], "{name}");
                let written = serde_json::to_value(&workflow).unwrap();
                assert_eq!(schema.problems(&written), [""; 0], "{name}");
                assert_eq!(serde_json::from_value::<Workflow>(written).unwrap(), workflow, "{name}");
            }
        }
    }
    let expected: Vec<_> = REFUSED.iter().map(|(name, _)| *name).collect();
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), expected, "{refused:#?}");
    for (name, reason) in REFUSED {
        assert!(refused[name].contains(reason), "{name}: {}", refused[name]);
    }
    assert_eq!(files.len(), FILES);
    println!("JUDGE argo-files passed: {} of {FILES} files are workflows", FILES - refused.len());
}
