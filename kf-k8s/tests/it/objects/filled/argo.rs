//! Workflows of Argo.

use k8s_openapi::api::core::v1::{Container, PodSecurityContext};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kf_k8s::objects::argo::{
    Arguments, Artifact, Backoff, ConfigMapKey, Dag, DagTask, Inputs, Mutex, Outputs, Parameter, PodGc,
    RawArtifact, RetryStrategy, S3Artifact, Supplied, Suspend, Synchronization, Template, TemplateMetadata,
    TtlStrategy, ValueFrom, Workflow, WorkflowSpec, WorkflowStatus,
};

use super::trainer::affinity;
use super::{env, labels, mount, named, needs, texts, time, toleration, volume};

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// All sources at once, of which Argo takes only one.
fn parameter(name: &str) -> Parameter {
    Parameter {
        name: name.into(),
        value: some("7"),
        default: some("1"),
        description: some("How often."),
        value_from: Some(ValueFrom {
            path: some("/kf/out/number"),
            parameter: some("{{tasks.first.outputs.parameters.number}}"),
            expression: some("tasks['first'].outputs.parameters.number"),
            supplied: Some(Supplied {}),
            default: some("1"),
            config_map_key_ref: Some(ConfigMapKey { name: "settings".into(), key: "number".into() }),
        }),
    }
}

/// Of an artifact's places a server takes only one.
fn artifacts() -> Vec<Artifact> {
    let s3 =
        S3Artifact { key: "raw/data".into(), bucket: some("data"), endpoint: some("store.example:9000") };
    let raw = RawArtifact { data: "1".into() };
    vec![artifact("data", Some(s3), None), artifact("more", None, Some(raw))]
}

fn artifact(name: &str, s3: Option<S3Artifact>, raw: Option<RawArtifact>) -> Artifact {
    Artifact {
        name: name.into(),
        path: some("/kf/in/data"),
        from: some("{{tasks.first.outputs.artifacts.data}}"),
        from_expression: some("tasks['first'].outputs.artifacts.data"),
        optional: Some(true),
        s3,
        raw,
    }
}

fn arguments() -> Arguments {
    Arguments { parameters: vec![parameter("number")], artifacts: artifacts() }
}

/// What a template may have, whichever it is.
fn template(name: &str) -> Template {
    Template {
        name: name.into(),
        inputs: Inputs { parameters: vec![parameter("number")], artifacts: artifacts() },
        outputs: Outputs { parameters: vec![parameter("number")], artifacts: artifacts() },
        metadata: Some(TemplateMetadata { labels: labels(), annotations: labels() }),
        container: None,
        dag: None,
        suspend: None,
        retry_strategy: Some(RetryStrategy {
            limit: Some(IntOrString::Int(3)),
            retry_policy: some("OnFailure"),
            backoff: Some(Backoff {
                duration: some("2s"),
                factor: Some(IntOrString::Int(2)),
                cap: some("30s"),
                max_duration: some("10m"),
            }),
        }),
        active_deadline_seconds: Some(IntOrString::Int(600)),
        timeout: some("90s"),
        parallelism: Some(4),
        synchronization: Some(Synchronization { mutexes: vec![Mutex { name: "gpu".into() }] }),
        volumes: vec![volume()],
        node_selector: labels(),
        tolerations: vec![toleration()],
        affinity: Some(affinity()),
        security_context: Some(PodSecurityContext { fs_group: Some(100), ..Default::default() }),
        pod_spec_patch: some(r#"{"enableServiceLinks": false}"#),
    }
}

pub(crate) fn workflow() -> Workflow {
    let container = Container {
        name: "main".into(),
        image: some("program:1"),
        command: Some(texts(["/program"])),
        env: Some(env()),
        resources: Some(needs()),
        volume_mounts: Some(vec![mount()]),
        ..Default::default()
    };
    let task = DagTask {
        name: "second".into(),
        template: "work".into(),
        arguments: arguments(),
        depends: some("first.Succeeded"),
        when: some("{{inputs.parameters.number}} > 1"),
        with_items: vec![1.into(), serde_json::json!({"a": "b"})],
        with_param: some("{{inputs.parameters.numbers}}"),
    };
    let dag = Dag { tasks: vec![task], target: some("second"), fail_fast: Some(false) };
    let spec = WorkflowSpec {
        entrypoint: "root".into(),
        arguments: arguments(),
        templates: vec![
            Template { dag: Some(dag), active_deadline_seconds: None, timeout: None, ..template("root") },
            Template { container: Some(container), ..template("work") },
            Template { suspend: Some(Suspend { duration: some("1h") }), ..template("ask") },
        ],
        on_exit: some("work"),
        parallelism: Some(4),
        active_deadline_seconds: Some(3600),
        service_account_name: some("argo"),
        ttl_strategy: Some(TtlStrategy {
            seconds_after_completion: Some(600),
            seconds_after_success: Some(60),
            seconds_after_failure: Some(6000),
        }),
        pod_gc: Some(PodGc { strategy: some("OnPodSuccess"), delete_delay_duration: some("30s") }),
    };
    let status = WorkflowStatus {
        phase: some("Succeeded"),
        message: some("It went well."),
        progress: some("3/3"),
        started_at: Some(time()),
        finished_at: Some(time()),
    };
    Workflow { metadata: named("flow"), spec, status: Some(status) }
}
