//! What a workflow has nothing for is refused, with the task and what it does.

use kf_k8s::argo::{Error, Given, Options, workflow};
use kf_pipeline::prelude::*;
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{Pipeline, Scope};
use serde_json::{Value as Json, json};

use super::options;

#[component]
fn number(of: i64) -> i64 {
    of
}

#[component]
fn make(of: i64, model: Output<Model>) -> TaskResult {
    model.write(of.to_string())
}

#[component]
fn count(models: Vec<Input<Model>>) -> i64 {
    models.len() as i64
}

#[component]
fn read(data: Input<Dataset>) {
    let _ = data;
}

#[component]
fn measure(metrics: Output<Metrics>) -> TaskResult {
    metrics.write("{}")
}

#[component]
fn judge(metrics: Input<Metrics>) {
    let _ = metrics;
}

fn refusal(body: impl for<'p> FnOnce(&Scope<'p>)) -> String {
    let pipeline = Pipeline::build("refused", body).unwrap();
    let error = workflow(&pipeline.file().unwrap(), &options()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    error.to_string()
}

#[test]
fn what_argo_has_not_is_refused_with_the_tasks_name() {
    let found = [
        refusal(|p| {
            let each = p.parallel_for(vec![1_i64], |p, of| p.add(make(of)));
            p.add(count(each.collect().model));
        }),
        refusal(|p| {
            let data = p.import::<Dataset>("s3://bucket/data");
            p.add(read(data));
        }),
        refusal(|p| {
            p.parallel_for(vec![1_i64, 2], |p, of| p.add(number(of))).min_success_ratio(0.5);
        }),
        refusal(|p| {
            p.add_or(number(1).named("first"), number(2).named("other"));
        }),
        refusal(|p| {
            p.parallel_for_limited(vec![1_i64, 2], 2, |p, of| {
                p.add(number(of));
            });
        }),
        refusal(|p| {
            p.add(number(1).cache_key("mine"));
        }),
        refusal(|p| {
            p.add(number(1).cache_ttl(std::time::Duration::from_secs(60)));
        }),
        refusal(|p| {
            p.add(number(1).executor("my-cluster"));
        }),
        refusal(|p| {
            p.add(number(1).mutex("a name"));
        }),
        refusal(|p| {
            let measured = p.add(measure());
            p.add(judge(measured.metrics));
        }),
        refusal(|p| {
            p.recurse("deeper", 3, (p.param::<i64>("n", 1),), |p, (n,), again| {
                let next = p.add(number(n)).output;
                p.when(next.gt(0), |p| again.call(p, (next,))).otherwise(|p| p.add(number(n)).output)
            });
        }),
        refusal(|p| {
            let jitter = kf_core::backoff::Backoff { jitter: 0.5, ..Default::default() };
            p.add(number(1).retries(2).backoff(jitter));
        }),
    ];
    let expected = [
        "`root/count` can't be a part of an Argo Workflow: input `models`: the artifacts",
        "it imports an artifact",
        "`root/for-loop-1` can't be a part of an Argo Workflow: some of its iterations may fail",
        "`root/first` can't be a part of an Argo Workflow: `other` stands for it",
        "`root/for-loop-1` can't be a part of an Argo Workflow: 2 iterations may run at once",
        "`root/number` can't be a part of an Argo Workflow: it has the cache key `mine`",
        "may be of some age only",
        "executor `my-cluster`",
        "it holds `a name`",
        "input `metrics` is of system.Metrics",
        "it runs within itself",
        "jitter",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}\n  expected: {expected}");
    }
}

/// A pipeline of one container, changed before it is exported.
fn container(change: impl FnOnce(&mut Json)) -> Result<kf_k8s::objects::Workflow, Error> {
    let mut file = json!({
        "pipeline_spec": {
            "pipelineInfo": {"name": "p"},
            "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "i", "command": ["run"]}}}},
            "components": {"comp-a": {"executorLabel": "exec-a"}},
            "root": {"dag": {"tasks": {"first": {"componentRef": {"name": "comp-a"}}}}},
        },
        "platform_spec": {"platforms": {}},
    });
    change(&mut file);
    let file: PipelineFile = serde_json::from_value(file).unwrap();
    workflow(&file, &Options::default())
}

#[test]
fn what_a_container_asks_for_in_vain_is_refused() {
    let spec = "/pipeline_spec/deploymentSpec/executors/exec-a/container";
    let cases: [(&str, Json, &str); 9] = [
        (spec, json!({"image": "i", "command": ["{{workflow.name}}"]}), "`{{workflow.name}}`"),
        (
            spec,
            json!({"image": "i", "command": ["{{$.inputs.parameters['x']}}"]}),
            "input `x`, which it is not given",
        ),
        (spec, json!({"image": "i", "command": ["{{$.outputs.parameters['x'].output_file}}"]}), "output `x`"),
        (spec, json!({"image": "i", "command": ["{{$.pipeline_root}}"]}), "the run's artifacts"),
        (spec, json!({"image": "i", "command": ["{{$.workspace_path}}"]}), "workspace"),
        (spec, json!({"image": "i", "command": ["{{$.json_escape[1]}}"]}), "inside of another JSON"),
        (
            "/pipeline_spec/components/comp-a",
            json!({"executorLabel": "exec-a", "outputDefinitions": {"parameters": {"x": {"parameterType": "STRING"}}}}),
            "never says where it writes output `x`",
        ),
        (
            "/platform_spec/platforms",
            json!({"kubernetes": {"deploymentSpec": {"executors": {"exec-a": {"nodeAffinity": []}}}}}),
            "nodeAffinity",
        ),
        (
            "/pipeline_spec/root/dag/tasks/first/retryPolicy",
            json!({"maxRetryCount": 2, "backoffDuration": "1s", "backoffFactor": 1.5}),
            "1.5 times",
        ),
    ];
    assert!(container(|_| ()).is_ok());
    for (at, value, expected) in cases {
        let change = |file: &mut Json| {
            let (parent, key) = at.rsplit_once('/').unwrap();
            file.pointer_mut(parent).unwrap()[key] = value.clone();
        };
        let error = container(change).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("root/first"), "{error}\n  expected: {expected}");
    }
}

#[test]
fn what_is_given_fits_the_pipeline() {
    let pipeline = Pipeline::build("given", |p| {
        let of = p.required_param::<i64>("of");
        p.add(number(of));
    })
    .unwrap();
    let file = pipeline.file().unwrap();
    let with = |change: &dyn Fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        workflow(&file, &options)
    };
    let given = with(&|options| drop(options.arguments.insert("of".into(), 3.into()))).unwrap();
    assert_eq!(given.spec.arguments.parameters[0].value.as_deref(), Some("3"));
    let named = with(&|options| options.name = Some("mine".into())).unwrap();
    assert_eq!((named.metadata.name.as_deref(), named.metadata.generate_name), (Some("mine"), None));
    for (change, expected) in [
        (
            &(|options: &mut Options| drop(options.arguments.insert("off".into(), 3.into())))
                as &dyn Fn(&mut Options),
            "no parameter `off`",
        ),
        (&|options| drop(options.arguments.insert("of".into(), "x".into())), "expected an integer"),
        (
            &|options| drop(options.artifacts.insert("a".into(), Given::Raw(Default::default()))),
            "no artifact `a`",
        ),
        (&|options| options.image = None, "in which image"),
    ] {
        let error = with(change).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
