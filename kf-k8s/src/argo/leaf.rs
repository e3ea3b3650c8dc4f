//! A component that is no DAG as a template: a container, or a step that waits for a person.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, EnvVar, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kf_pipeline::spec::{ComponentSpec, ContainerSpec, ExecutorSpec, KfExecutor};
use serde_json::json;

use super::command::Command;
use super::exporter::{Exporter, Variant};
use super::text::{Reference, Text};
use super::{Error, Options, Result, approval, inputs, kubernetes, names, resources, retry};
use crate::manifests::PodSecurity;
use crate::objects::argo::{
    Artifact, Inputs, Mutex, Outputs, Parameter, Synchronization, Template, ValueFrom,
};
use crate::pod::{container_security, env_from, pod_security};

/// Where a container finds the artifacts that it takes.
pub(super) const IN: &str = "/kf/in";
/// Where it leaves what it gives: a volume of its own, so that the folder is there and can be written by anybody.
pub(super) const OUT: &str = "/kf/out";
/// Carries out what lightweight Python components leave to KFP's launcher.
const UNPACK: &str = include_str!("unpack.py");
/// Kinds of artifacts that are what is said of them, with no content.
const SAID_ONLY: [&str; 3] =
    ["system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics"];

pub(super) fn template(
    exporter: &Exporter<'_>,
    place: &str,
    variant: &Variant,
    component: &ComponentSpec,
    label: &str,
) -> Result<Template> {
    let refuse = |problem: String| Error::unsupported(place, problem);
    let kf = exporter.kf_executor(label);
    let spec = exporter.spec.deployment_spec.executors.get(label).map(|executor| &executor.spec);
    let container = match spec {
        Some(ExecutorSpec::Container(container)) => container.as_ref(),
        Some(ExecutorSpec::Importer(_)) => {
            return Err(refuse(
                "it imports an artifact, which Argo has no step for: give it to the pipeline".into(),
            ));
        }
        _ => return Err(refuse("it is carried by neither a container nor an importer".into())),
    };
    refuse_what_argo_has_not(&kf).map_err(refuse)?;
    if kf.approval.is_some() {
        return approval::template(place, variant, component, &kf);
    }
    if container.lifecycle.is_some() {
        return Err(refuse("it has a command to run before the cache is asked".into()));
    }
    let typed = !kf.component.is_empty();
    let container = match typed {
        true => own(exporter, container).map_err(refuse)?,
        false => container.clone(),
    };
    if container.image.starts_with("argostub/") {
        let image = &container.image;
        return Err(refuse(format!(
            "its image `{image}` stands for something that KFP's backend does itself"
        )));
    }
    let command = Command::new(component, variant).map_err(refuse)?;
    let mut template = Template {
        inputs: taken(place, component, &variant.absent)?,
        outputs: given(component, &command, typed).map_err(refuse)?,
        synchronization: held(&command, &kf, variant).map_err(refuse)?,
        retry_strategy: variant
            .retry
            .as_deref()
            .map(|policy| retry::strategy(policy, &kf))
            .transpose()
            .map_err(refuse)?,
        active_deadline_seconds: kf.timeout.map(seconds).transpose().map_err(refuse)?,
        ..Template::default()
    };
    let mut made = self::container(&command, &container).map_err(refuse)?;
    if typed {
        // What components are told of the run.
        let value = Text::from(Reference::Other("workflow.uid")).template().map_err(refuse)?;
        let variable = EnvVar { name: "KFP_RUN_ID".into(), value: Some(value), ..EnvVar::default() };
        made.env.get_or_insert_default().push(variable);
        equip(&mut made, exporter.options).map_err(refuse)?;
        made.resources = resources::of_component(&kf.resources);
    } else if let Some(asked) = &container.resources {
        let asked = resources::of_container(asked, &|text| command.text(text)).map_err(refuse)?;
        made.resources = asked.known;
        template.pod_spec_patch = asked.patch;
    }
    for name in &variant.undeclared {
        template.inputs.parameters.push(Parameter { name: command.port(name), ..Parameter::default() });
    }
    // Without outputs, too: KFP's executor output goes there, whose folder only root could make.
    let name = "kf-out".to_owned();
    let mount = VolumeMount { name: name.clone(), mount_path: OUT.into(), ..VolumeMount::default() };
    made.volume_mounts.get_or_insert_default().push(mount);
    let empty_dir = Some(EmptyDirVolumeSource::default());
    template.volumes.push(Volume { name, empty_dir, ..Volume::default() });
    if exporter.options.pod_security == PodSecurity::Restricted {
        made.security_context = Some(container_security());
        template.security_context = Some(pod_security(exporter.options.user));
    }
    template.container = Some(made);
    if let Some(config) = exporter.kubernetes(label) {
        let parameters = exporter.kubernetes_parameters(place, label)?;
        for (_, port, _) in &parameters {
            template.inputs.parameters.push(Parameter { name: port.clone(), ..Parameter::default() });
        }
        kubernetes::apply(config, &parameters, &mut template).map_err(refuse)?;
    }
    Ok(template)
}

fn refuse_what_argo_has_not(kf: &KfExecutor) -> Result<(), String> {
    if let Some(carrier) = kf.executor.as_deref().filter(|name| !["in-process", "subprocess"].contains(name))
    {
        return Err(format!("it is carried by executor `{carrier}`, which Argo does not have"));
    }
    if kf.cache_ttl.is_some() {
        return Err(
            "what stands for it may be of some age only, and Argo's memory of earlier runs is another".into(),
        );
    }
    Ok(())
}

/// The container of a component of the program.
fn own(exporter: &Exporter<'_>, container: &ContainerSpec) -> Result<ContainerSpec, String> {
    let (Some(image), false) = (&exporter.options.image, exporter.options.command.is_empty()) else {
        return Err(
            "it runs a component of the program: say in which image that is, and its path there".into()
        );
    };
    let mut container = container.clone();
    container.image.clone_from(image);
    container.command.clone_from(&exporter.options.command);
    container.resources = None;
    Ok(container)
}

/// What the options say of the program's containers alone.
fn equip(container: &mut Container, options: &Options) -> Result<(), String> {
    container.image_pull_policy.clone_from(&options.image_pull_policy);
    container.env_from = env_from(&options.secrets);
    for (name, value) in &options.env {
        // Kubernetes replaces `$(NAME)`, and takes `$$` for `$`.
        let value = Text::literal(value.replace('$', "$$")).template();
        let value = value.map_err(|problem| format!("variable `{name}` of the options: {problem}"))?;
        let variable = EnvVar { name: name.clone(), value: Some(value), ..EnvVar::default() };
        container.env.get_or_insert_default().push(variable);
    }
    Ok(())
}

fn seconds(timeout: std::time::Duration) -> Result<IntOrString, String> {
    let seconds = i32::try_from(timeout.as_secs().max(1));
    seconds
        .map(IntOrString::Int)
        .map_err(|_| format!("its timeout is {timeout:?}, longer than a pod's may be"))
}

fn taken(place: &str, component: &ComponentSpec, absent: &BTreeSet<String>) -> Result<Inputs> {
    let declared = &component.input_definitions.artifacts;
    let ports = names::parameters(declared.keys());
    let mut artifacts = Vec::new();
    for (name, input) in declared.iter().filter(|(name, _)| !absent.contains(*name)) {
        if input.is_artifact_list {
            return Err(inputs::a_list(place, name));
        }
        let kind = &input.artifact_type.schema_title;
        if SAID_ONLY.contains(&kind.as_str()) {
            let what = format!(
                "input `{name}` is of {kind}, all of which is said of it, and Argo hands on content alone"
            );
            return Err(Error::unsupported(place, what));
        }
        let port = ports.get(name).cloned().unwrap_or_default();
        let path = Some(format!("{IN}/{port}"));
        artifacts.push(Artifact { name: port, path, ..Artifact::default() });
    }
    Ok(Inputs { parameters: inputs::parameters(place, component, absent)?, artifacts })
}

fn given(component: &ComponentSpec, command: &Command<'_>, typed: bool) -> Result<Outputs, String> {
    let declared = &component.output_definitions;
    let parameters = declared.parameters.keys().map(|name| {
        let path = Some(command.output_file(name));
        let value_from = Some(ValueFrom { path, ..ValueFrom::default() });
        Parameter { name: command.output_port(name), value_from, ..Parameter::default() }
    });
    let artifacts = declared.artifacts.iter().map(|(name, output)| {
        if output.is_artifact_list {
            return Err(format!("output `{name}` is a list of artifacts, and Argo hands on single ones"));
        }
        let kind = output.artifact_type.schema_title.as_str();
        // KFP does not mind where nothing was written.
        let optional = (!typed || SAID_ONLY.contains(&kind)).then_some(true);
        let path = Some(command.artifact_path(name));
        Ok(Artifact { name: command.artifact_port(name), path, optional, ..Artifact::default() })
    });
    Ok(Outputs { parameters: parameters.collect(), artifacts: artifacts.collect::<Result<_, _>>()? })
}

fn held(
    command: &Command<'_>,
    kf: &KfExecutor,
    variant: &Variant,
) -> Result<Option<Synchronization>, String> {
    let mut mutexes: Vec<Mutex> = Vec::new();
    for lock in &kf.locks {
        let name = command.text(lock)?.template()?;
        let outside = name.split("{{").map(|part| part.split_once("}}").map_or(part, |(_, rest)| rest));
        if outside.flat_map(str::chars).any(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(c)) {
            return Err(format!(
                "it holds `{lock}`, and Argo's mutexes have letters, digits, `-`, `_` and `.`"
            ));
        }
        mutexes.push(Mutex { name });
    }
    mutexes.extend(variant.serial.clone().map(|name| Mutex { name }));
    Ok((!mutexes.is_empty()).then_some(Synchronization { mutexes }))
}

fn container(command: &Command<'_>, spec: &ContainerSpec) -> Result<Container, String> {
    let words = |words: &[String]| -> Result<Vec<String>, String> {
        command.words(words)?.iter().map(Text::template).collect()
    };
    let (mut program, mut args) = (words(&spec.command)?, words(&spec.args)?);
    let all = || spec.command.iter().chain(&spec.args);
    let is_python = all()
        .any(|word| word.contains("kfp.dsl.executor_main") || word.contains("kfp.components.executor_main"));
    let gives = command.gives();
    if is_python && gives {
        let plan = Text::literal(command.plan().to_string()).template()?;
        args = program.into_iter().chain(args).collect();
        program = ["python3", "-c", UNPACK].map(str::to_owned).into();
        program.push(plan);
    } else if let Some(name) = command.unsaid(&spec.command, &spec.args) {
        return Err(format!(
            "its command never says where it writes output `{name}`, and Argo does not read KFP's executor output"
        ));
    }
    let mut env = Vec::with_capacity(spec.env.len());
    for variable in &spec.env {
        let value = Some(command.text(&variable.value)?.template()?);
        env.push(EnvVar { name: variable.name.clone(), value, ..EnvVar::default() });
    }
    let some = |words: Vec<String>| (!words.is_empty()).then_some(words);
    Ok(Container {
        // Argo calls it so, and asks for a name nowhere; the cluster's schema does.
        name: "main".to_owned(),
        image: Some(spec.image.clone()),
        command: some(program),
        args: some(args),
        env: (!env.is_empty()).then_some(env),
        ..Container::default()
    })
}

impl Command<'_> {
    /// What [`UNPACK`] is told.
    fn plan(&self) -> serde_json::Value {
        let declared = self.outputs();
        let parameters = declared.parameters.iter().map(|(name, output)| {
            let is_text = output.kind() == kf_pipeline::spec::ParameterType::String;
            (name.clone(), json!([self.output_file(name), is_text]))
        });
        let artifacts = declared.artifacts.keys().map(|name| (name.clone(), self.artifact_path(name).into()));
        json!({
            "said": Self::SAID,
            "parameters": parameters.collect::<serde_json::Map<_, _>>(),
            "artifacts": artifacts.collect::<serde_json::Map<_, _>>(),
        })
    }
}
