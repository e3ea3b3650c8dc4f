//! Pipelines for a Kubeflow that is already there.

use std::collections::BTreeSet;

use kf_core::resources::Resources;
use serde_json::{Map, Value as Json, json};

use super::Pipeline;
use crate::engine::{IN_PROCESS, SUBPROCESS};
use crate::plan::kf_platform;
use crate::spec::{
    Accelerator, ArtifactSource, ContainerResources, ExecutorSpec, KfExecutor, ParameterSource, PipelineFile,
    PipelineSpec,
};
use crate::{Error, Result};

/// What the containers of an exported pipeline run: an image with the program that has the components, which calls
/// [`run_if_asked`](kf_core::worker::run_if_asked) first thing in `main`.
#[derive(Clone, Debug)]
pub struct Export {
    image: String,
    command: Vec<String>,
}

impl Export {
    /// The image, and the program in it.
    pub fn new(image: impl Into<String>, program: impl Into<String>) -> Self {
        Self { image: image.into(), command: vec![program.into()] }
    }
}

impl Pipeline {
    /// The pipeline as IR that upstream's SDK and backend take. Resources become the containers' requests and limits, a
    /// timeout the deadline of the pod.
    ///
    /// # Errors
    /// [`Error::Plan`] names the first task, or the pipeline itself, with something that upstream has no field for and would silently drop.
    pub fn to_ir(&self, export: &Export) -> Result<String> {
        exported(self.file()?, export)?.to_yaml()
    }
}

fn exported(file: PipelineFile, export: &Export) -> Result<PipelineFile> {
    let mut file = file;
    let kf = kf_platform(&file)?;
    if let Some(tasks) = kf.max_tasks {
        let problem = format!(
            "the pipeline runs at most {tasks} tasks at once, for which upstream has no field: limit its loops"
        );
        return Err(Error::plan("root", problem));
    }
    name_upstream_tasks(&mut file.pipeline_spec);
    file.platform_spec.platforms.remove("kf");
    if let Some(name) =
        kf.components.iter().find_map(|(name, added)| added.max_depth.is_some().then_some(name))
    {
        let problem = "runs within itself to a `maxDepth`, for which upstream has no field";
        return Err(Error::plan(name, problem));
    }
    if let Some((component, task)) =
        kf.components.iter().find_map(|(name, added)| Some((name, added.tasks.keys().next()?)))
    {
        let problem =
            "has a fallback or a number of iterations that must succeed, for which upstream has no field";
        return Err(Error::plan(format!("{component}/{task}"), problem));
    }
    let mut deadlines = Map::new();
    for (label, kf) in &kf.executors {
        let place = || place(&file.pipeline_spec, label);
        refuse(kf).map_err(|problem| Error::plan(place(), problem))?;
        let resources = resources(&kf.resources).map_err(|problem| Error::plan(place(), problem))?;
        if let Some(timeout) = kf.timeout {
            deadlines.insert(label.clone(), json!({"activeDeadlineSeconds": timeout.as_secs().max(1)}));
        }
        let executor = file.pipeline_spec.deployment_spec.executors.get_mut(label);
        if let Some(ExecutorSpec::Container(container)) = executor.map(|executor| &mut executor.spec)
            && !kf.component.is_empty()
        {
            container.image.clone_from(&export.image);
            container.command.clone_from(&export.command);
            container.resources = resources.map(Box::new);
        }
    }
    if !deadlines.is_empty() {
        let kubernetes = file.platform_spec.platforms.get_or_insert_with("kubernetes", || json!({}));
        merge(kubernetes, json!({"deploymentSpec": {"executors": deadlines}}));
    }
    Ok(file)
}

/// Puts the fields of one object into another, those of objects inside one by one.
fn merge(into: &mut Json, from: Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Json::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Names the tasks that others take something from among those that they depend on: upstream's backend orders tasks by
/// these alone.
fn name_upstream_tasks(spec: &mut PipelineSpec) {
    let components = spec.components.values_mut().chain([&mut spec.root]);
    for task in
        components.filter_map(|component| component.dag.as_mut()).flat_map(|dag| dag.tasks.values_mut())
    {
        let parameters = task.inputs.parameters.values().filter_map(|given| match &given.source {
            ParameterSource::TaskOutputParameter { producer_task, .. }
            | ParameterSource::TaskFinalStatus { producer_task } => Some(producer_task),
            ParameterSource::RuntimeValue(_) | ParameterSource::ComponentInputParameter(_) => None,
        });
        let artifacts = task.inputs.artifacts.values().filter_map(|given| match &given.source {
            ArtifactSource::TaskOutputArtifact { producer_task, .. } => Some(producer_task),
            ArtifactSource::ComponentInputArtifact(_) => None,
        });
        let mut all: BTreeSet<String> = parameters.chain(artifacts).cloned().collect();
        all.extend(std::mem::take(&mut task.dependent_tasks));
        task.dependent_tasks = all.into_iter().collect();
    }
}

/// Refuses what upstream has no field for.
fn refuse(kf: &KfExecutor) -> Result<(), String> {
    if let Some(executor) = kf.executor.as_deref().filter(|name| ![IN_PROCESS, SUBPROCESS].contains(name)) {
        return Err(format!("is carried by executor `{executor}`, which upstream does not have"));
    }
    if kf.approval.is_some() {
        return Err("waits for a person, for which upstream has nothing".to_owned());
    }
    if let Some(name) = kf.locks.first() {
        return Err(format!("holds `{name}` while it runs, and upstream has no mutexes or semaphores"));
    }
    if kf.cache_ttl.is_some() {
        return Err("what stands for it may be of some age only, for which upstream has no field".to_owned());
    }
    if kf.backoff_jitter.is_some() {
        return Err("its backoff has jitter, for which upstream has no field".to_owned());
    }
    Ok(())
}

fn resources(asked: &Resources) -> Result<Option<ContainerResources>, String> {
    if asked.is_none() {
        return Ok(None);
    }
    let mut resources = ContainerResources::default();
    if asked.cpu > 0 {
        let cpu = format!("{}m", asked.cpu);
        (resources.resource_cpu_request, resources.resource_cpu_limit) = (Some(cpu.clone()), Some(cpu));
    }
    if asked.memory > 0 {
        let memory = asked.memory.to_string();
        (resources.resource_memory_request, resources.resource_memory_limit) =
            (Some(memory.clone()), Some(memory));
    }
    let accelerators: Vec<_> = asked.accelerators.iter().filter(|(_, count)| **count > 0).collect();
    match accelerators.as_slice() {
        [] => {}
        [(kind, count)] if **count % 1000 == 0 => {
            resources.accelerator = Some(Accelerator {
                resource_type: Some((*kind).clone()),
                resource_count: Some((**count / 1000).to_string()),
                ..Accelerator::default()
            });
        }
        [(kind, _)] => {
            return Err(format!("asks for a fraction of `{kind}`, for which upstream has no field"));
        }
        several => return Err(format!("asks for {} kinds of accelerators; upstream has one", several.len())),
    }
    Ok(Some(resources))
}

/// The first task whose executor this is, as a path of component and task.
fn place(spec: &PipelineSpec, label: &str) -> String {
    let of_label = |name: &str| {
        spec.components.get(name).is_some_and(|component| component.executor_label.as_deref() == Some(label))
    };
    let all = spec.components.iter().map(|(name, component)| (name.as_str(), component));
    let found = all.chain([("root", &spec.root)]).find_map(|(name, component)| {
        let (task, _) =
            component.dag.as_ref()?.tasks.iter().find(|(_, task)| of_label(&task.component_ref.name))?;
        Some(format!("{name}/{task}"))
    });
    found.unwrap_or_else(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kf: Json) -> PipelineFile {
        serde_json::from_value(json!({
            "pipeline_spec": {
                "pipelineInfo": {"name": "p"},
                "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "self"}}}},
                "components": {"comp-a": {"executorLabel": "exec-a"}},
                "root": {"dag": {"tasks": {"first": {"componentRef": {"name": "comp-a"}}}}},
            },
            "platform_spec": {"platforms": {"kf": {"executors": {"exec-a": kf}}}},
        }))
        .unwrap()
    }

    fn export(kf: Json) -> Result<Json> {
        exported(file(kf), &Export::new("i", "/p")).map(|file| serde_json::to_value(file).unwrap())
    }

    #[test]
    fn what_upstream_has_a_field_for_is_said_there() {
        let kf = json!({"component": "a", "timeout": {"secs": 90, "nanos": 0},
            "resources": {"cpu": "500m", "memory": "1Gi", "accelerators": {"nvidia.com/gpu": "2"}}});
        let file = export(kf).unwrap();
        let container = &file["pipeline_spec"]["deploymentSpec"]["executors"]["exec-a"]["container"];
        assert_eq!((&container["image"], &container["command"]), (&json!("i"), &json!(["/p"])));
        let resources = &container["resources"];
        assert_eq!(
            (&resources["resourceCpuLimit"], &resources["resourceMemoryLimit"]),
            (&json!("500m"), &json!("1073741824"))
        );
        assert_eq!(resources["accelerator"], json!({"resourceType": "nvidia.com/gpu", "resourceCount": "2"}));
        let platforms = &file["platform_spec"]["platforms"];
        assert_eq!(
            platforms["kubernetes"]["deploymentSpec"]["executors"]["exec-a"]["activeDeadlineSeconds"],
            90
        );
        assert!(platforms.get("kf").is_none());
    }

    #[test]
    fn what_a_file_says_for_the_cluster_stays() {
        let mut file = file(json!({"timeout": {"secs": 90, "nanos": 0}}));
        let own = json!({"deploymentSpec": {"executors": {"exec-a": {"nodeSelector": {}}, "exec-b": {}}}});
        file.platform_spec.platforms.insert("kubernetes".to_owned(), own);
        let file = serde_json::to_value(exported(file.clone(), &Export::new("i", "/p")).unwrap()).unwrap();
        let executors = &file["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"];
        assert_eq!(executors["exec-a"], json!({"nodeSelector": {}, "activeDeadlineSeconds": 90}));
        assert_eq!(executors["exec-b"], json!({}));
        // A container that is none of this program's stays what it is.
        assert_eq!(
            file["pipeline_spec"]["deploymentSpec"]["executors"]["exec-a"]["container"]["image"],
            "self"
        );
    }

    #[test]
    fn tasks_depend_by_name_on_those_they_take_from() {
        let mut file = file(json!({"component": "a"}));
        let tasks = json!({
            "first": {"componentRef": {"name": "comp-a"}},
            "second": {"componentRef": {"name": "comp-a"}, "dependentTasks": ["third"], "inputs": {
                "parameters": {
                    "x": {"taskOutputParameter": {"producerTask": "first", "outputParameterKey": "x"}},
                    "y": {"taskFinalStatus": {"producerTask": "fourth"}},
                    "z": {"componentInputParameter": "z"},
                },
                "artifacts": {"d": {"taskOutputArtifact": {"producerTask": "third", "outputArtifactKey": "d"}}},
            }},
        });
        file.pipeline_spec.root.dag.as_mut().unwrap().tasks = serde_json::from_value(tasks).unwrap();
        let file = exported(file.clone(), &Export::new("i", "/p")).unwrap();
        let tasks = &file.pipeline_spec.root.dag.unwrap().tasks;
        assert_eq!(tasks["second"].dependent_tasks, ["first", "fourth", "third"]);
        assert!(tasks["first"].dependent_tasks.is_empty());
    }

    #[test]
    fn recursion_is_refused() {
        let mut file = file(json!({"component": "a"}));
        file.platform_spec.platforms.get_mut("kf").unwrap()["components"] =
            json!({"comp-b": {"maxDepth": 3}});
        let error = exported(file.clone(), &Export::new("i", "/p")).unwrap_err().to_string();
        assert!(error.contains("comp-b") && error.contains("within itself"), "{error}");
    }

    #[test]
    fn a_limit_that_upstream_has_not_is_refused() {
        let mut file = file(json!({"component": "a"}));
        file.platform_spec.platforms.get_mut("kf").unwrap()["maxTasks"] = json!(3);
        let error = exported(file.clone(), &Export::new("i", "/p")).unwrap_err().to_string();
        assert!(error.contains("root") && error.contains("at most 3 tasks"), "{error}");
    }

    #[test]
    fn what_upstream_would_drop_is_refused_with_the_tasks_name() {
        for (kf, says) in [
            (json!({"component": "a", "backoffJitter": 0.5}), "jitter"),
            (json!({"component": "a", "executor": "my-cluster"}), "`my-cluster`"),
            (json!({"component": "a", "locks": ["m"]}), "holds `m`"),
            (json!({"approval": {"message": "?"}}), "waits for a person"),
            (json!({"component": "a", "cacheTtl": {"secs": 9, "nanos": 0}}), "of some age"),
            (json!({"component": "a", "resources": {"accelerators": {"gpu": "500m"}}}), "fraction of `gpu`"),
        ] {
            let error = export(kf).unwrap_err().to_string();
            assert!(error.contains("root/first") && error.contains(says), "{error}");
        }
    }
}
