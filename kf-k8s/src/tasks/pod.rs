//! The pod of an attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, Pod, PodSpec, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kf_core::RunId;
use kf_core::resources::Resources;
use kf_core::worker::{ENTRY, REQUEST};
use kf_pipeline::AttemptHandle;
use kf_pipeline::remote::{self, INSTALL_ENTRY, INSTALLED};
use sha2::{Digest, Sha256};

use super::options::TaskOptions;
use super::platform::{KubernetesConfig, Lookup, PlatformError};
use crate::pod::{
    annotation_volume, claim_volumes, container_security, env_from, mount, pod_security, resources,
    whole_seconds,
};

/// The container that does the work.
pub(super) const CONTAINER: &str = "task";
/// Label: the run.
pub(super) const RUN: &str = "kf.dev/run";
/// Annotation: the attempt.
pub(super) const ATTEMPT: &str = "kf.dev/attempt";
/// Variable of the worker's container: the attempt. Unlike an annotation, nobody can change it.
const OF: &str = "KF_ATTEMPT";
/// The same: what tells it from attempts of other runs of the same id.
const FINGERPRINT: &str = "KF_ATTEMPT_FINGERPRINT";
/// Annotation: what the worker in the pod is asked.
const ASKED: &str = "kf.dev/request";
/// Annotation: where the program is laid.
const LAID: &str = "kf.dev/install";
/// Where the annotations are files.
const ASKED_FOLDER: &str = "/etc/kf";
const ASKED_FILE: &str = "request.json";
const LAID_FILE: &str = "install.json";
/// The folder that an attempt works in.
const FOLDER: &str = "/kf";
/// Where the program lies in pods of other images.
const PROGRAM: &str = "/kf-program";
/// The most that the request may take of an object that may have 256 KiB of annotations.
pub(super) const MOST_REQUEST: usize = 64 << 10;

/// What a pod is made of.
pub(super) struct Draft<'a> {
    pub(super) handle: &'a AttemptHandle,
    pub(super) run: &'a RunId,
    /// The image of the task itself, where it is not the program's.
    pub(super) image: Option<&'a str>,
    pub(super) request: String,
    pub(super) fingerprint: &'a str,
    pub(super) resources: &'a Resources,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) options: &'a TaskOptions,
    /// What the platform document asks for, and what its parameters are.
    pub(super) platform: Option<(&'a KubernetesConfig, &'a Lookup<'a>)>,
}

/// The name of an attempt's pod: the same for the same attempt.
pub(super) fn pod_name(handle: &AttemptHandle) -> String {
    let digest = Sha256::digest(&handle.0);
    let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("kf-{hex}")
}

/// The pod of an attempt.
///
/// # Errors
/// What the platform document asks for and can't be had.
pub(super) fn pod(draft: Draft<'_>) -> Result<Pod, PlatformError> {
    let options = draft.options;
    let mut annotations =
        BTreeMap::from([(ATTEMPT.to_owned(), draft.handle.0.clone()), (ASKED.to_owned(), draft.request)]);
    let mut files = vec![(ASKED, ASKED_FILE)];
    let (mut volumes, mut mounts) = claim_volumes(&options.pod.claims);
    volumes.push(folder("work"));
    mounts.extend([mount("request", ASKED_FOLDER), mount("work", FOLDER)]);
    let mut before = None;
    let mut task = Container {
        name: CONTAINER.into(),
        image: Some(draft.image.unwrap_or(&options.pod.image).to_owned()),
        ..Default::default()
    };
    if draft.image.is_some() {
        annotations.insert(LAID.to_owned(), format!("{PROGRAM:?}"));
        files.push((LAID, LAID_FILE));
        volumes.push(folder("program"));
        mounts.push(mount("program", PROGRAM));
        let [run, libraries, program] = INSTALLED.map(|name| format!("{PROGRAM}{name}"));
        task.command = Some(vec![run, "--library-path".into(), libraries, program]);
        before = Some(vec![Container {
            name: "program".into(),
            image: Some(options.pod.image.clone()),
            image_pull_policy: options.pod.image_pull_policy.clone(),
            env: Some(asked(INSTALL_ENTRY, LAID_FILE)),
            volume_mounts: Some(vec![mount("request", ASKED_FOLDER), mount("program", PROGRAM)]),
            security_context: Some(container_security()),
            ..Default::default()
        }]);
    }
    volumes.push(annotation_volume("request", &files));
    task.image_pull_policy = options.pod.image_pull_policy.clone();
    task.env_from = env_from(&options.pod.secrets);
    task.resources = resources(draft.resources);
    task.volume_mounts = Some(mounts);
    task.security_context = Some(container_security());
    let mut labels = options.pod.labels.clone();
    labels.insert("app.kubernetes.io/managed-by".into(), "kf".into());
    labels.insert(RUN.into(), draft.run.to_string());
    let mut made = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..Default::default()
        }),
        spec: Some(PodSpec {
            init_containers: before,
            containers: vec![task],
            volumes: Some(volumes),
            restart_policy: Some("Never".into()),
            active_deadline_seconds: draft.timeout.map(|timeout| whole_seconds(timeout).max(1)),
            termination_grace_period_seconds: Some(whole_seconds(draft.grace)),
            service_account_name: options.pod.service_account.clone(),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            node_selector: Some(options.pod.node_selector.clone()).filter(|labels| !labels.is_empty()),
            tolerations: Some(options.pod.tolerations.clone()).filter(|taints| !taints.is_empty()),
            priority_class_name: options.pod.priority_class.clone(),
            security_context: Some(pod_security(options.pod.user)),
            ..Default::default()
        }),
    };
    if let Some((platform, lookup)) = draft.platform {
        for note in platform.apply(lookup, &mut made, CONTAINER)? {
            tracing::warn!(attempt = %draft.handle.0, "{note}");
        }
    }
    let mut spec = made.spec.unwrap_or_default();
    for container in spec.containers.iter_mut().filter(|container| container.name == CONTAINER) {
        // Last, so that no pipeline has its say in them.
        let env = container.env.get_or_insert_default();
        env.extend(options.env.iter().map(|(name, value)| variable(name, value)));
        env.extend(asked(remote::ENTRY, ASKED_FILE));
        env.push(variable(OF, &draft.handle.0));
        env.push(variable(FINGERPRINT, draft.fingerprint));
        env.push(variable(remote::FOLDER, FOLDER));
        env.push(variable(remote::REPLY, "/dev/termination-log"));
    }
    let metadata = ObjectMeta { name: Some(pod_name(draft.handle)), ..made.metadata.unwrap_or_default() };
    Ok(Pod { metadata, spec: Some(spec), status: None })
}

/// Whether a pod is this attempt's, whatever became of its labels and annotations.
pub(super) fn is_of(pod: &Pod, handle: &AttemptHandle) -> bool {
    let own = variable(OF, &handle.0);
    env_of(pod).any(|there| *there == own)
}

/// Whether a pod of an attempt's handle is not that attempt's, but one of another run with the same id.
pub(super) fn is_of_another_run(pod: &Pod, fingerprint: &str) -> bool {
    let own = variable(FINGERPRINT, fingerprint);
    env_of(pod).any(|there| there.name == FINGERPRINT && *there != own)
}

fn env_of(pod: &Pod) -> impl Iterator<Item = &EnvVar> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.filter(|container| container.name == CONTAINER).flat_map(|it| it.env.iter().flatten())
}

/// What makes a process the worker of this entry.
fn asked(entry: &str, file: &str) -> Vec<EnvVar> {
    vec![variable(ENTRY, entry), variable(REQUEST, &format!("{ASKED_FOLDER}/{file}"))]
}

/// A variable with this value, in which nothing is replaced.
fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.replace('$', "$$")), value_from: None }
}

fn folder(name: &str) -> Volume {
    let source = EmptyDirVolumeSource::default();
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Toleration;

    use super::*;
    use crate::train::ClaimMount;

    #[test]
    fn a_pod_has_one_container_and_with_an_image_of_its_own_one_before_it() {
        let mut options = TaskOptions::new("kf:1");
        options.pod.tolerations = vec![Toleration { key: Some("gpu".into()), ..Default::default() }];
        options.pod.claims = vec![ClaimMount::new("data", "/data")];
        options.pod.secrets = vec!["keys".into()];
        let run: RunId = "r-1".parse().unwrap();
        let handle = AttemptHandle("r-1/fit#1".into());
        let resources = Resources::default();
        let made = |image| {
            pod(Draft {
                handle: &handle,
                run: &run,
                image,
                request: "{}".into(),
                fingerprint: "0123",
                resources: &resources,
                timeout: Some(Duration::from_millis(1500)),
                grace: Duration::from_secs(5),
                options: &options,
                platform: None,
            })
            .unwrap()
        };
        let mut own = made(None);
        own.metadata.annotations = None;
        assert!(is_of(&own, &handle) && !is_of(&own, &AttemptHandle("r-1/fit#2".into())));
        assert!(!is_of_another_run(&own, "0123") && is_of_another_run(&own, "4567"));
        let spec = own.spec.unwrap();
        assert_eq!(own.metadata.name.as_deref(), Some(pod_name(&handle).as_str()));
        assert_eq!((spec.containers.len(), spec.init_containers), (1, None));
        assert_eq!(spec.containers[0].image.as_deref(), Some("kf:1"));
        assert_eq!(spec.active_deadline_seconds, Some(2));
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.tolerations.as_ref(), Some(&options.pod.tolerations));
        let other = made(Some("busybox")).spec.unwrap();
        assert_eq!(other.containers[0].image.as_deref(), Some("busybox"));
        assert_eq!(other.containers[0].command.as_ref().unwrap()[0], "/kf-program/run");
        for task in [&spec.containers[0], &other.containers[0]] {
            assert_eq!(task.volume_mounts.as_ref().unwrap()[0].mount_path, "/data");
            let secret = task.env_from.as_ref().unwrap()[0].secret_ref.as_ref().unwrap();
            assert_eq!(secret.name, "keys");
        }
        // What lays the program needs neither.
        let first = &other.init_containers.unwrap()[0];
        assert_eq!((first.image.as_deref(), &first.env_from), (Some("kf:1"), &None));
        assert!(first.volume_mounts.as_ref().unwrap().iter().all(|mount| mount.mount_path != "/data"));
    }
}
