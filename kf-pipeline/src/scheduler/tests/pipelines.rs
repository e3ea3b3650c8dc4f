//! Generated pipelines.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::spec::PipelineFile;

/// A task. Which of the tasks before it it takes from and comes after is said by numbers that are taken modulo
/// their count.
#[derive(Clone, Debug)]
pub(super) struct Task {
    kind: Kind,
    takes: Vec<u8>,
    after: Option<u8>,
    /// Whether it fails where its first input is absent.
    strict: bool,
    at_any_end: bool,
    retries: u32,
    cache: bool,
    condition: Option<Condition>,
}

#[derive(Clone, Debug)]
enum Kind {
    Leaf,
    Group(Vec<Task>),
    /// Without a body it goes over a leaf.
    Loop {
        items: u8,
        limit: u8,
        body: Vec<Task>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Condition {
    Constant(bool),
    /// On the first input's value.
    Input,
}

#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    tasks: Vec<Task>,
    exit_handler: bool,
}

pub(super) fn pipelines() -> impl Strategy<Value = Pipeline> {
    (vec(task(), 1..6), any::<bool>()).prop_map(|(tasks, exit_handler)| Pipeline { tasks, exit_handler })
}

fn task() -> impl Strategy<Value = Task> {
    with_kind(Just(Kind::Leaf).boxed()).prop_recursive(3, 24, 4, |inner| {
        let group = vec(inner.clone(), 1..4).prop_map(Kind::Group);
        let over = (0_u8..5, 0_u8..4, vec(inner, 0..3)).prop_map(|(items, limit, body)| Kind::Loop {
            items,
            limit,
            body,
        });
        with_kind(prop_oneof![group, over].boxed())
    })
}

fn with_kind(kind: BoxedStrategy<Kind>) -> BoxedStrategy<Task> {
    let condition = prop_oneof![
        3 => any::<bool>().prop_map(Condition::Constant),
        2 => Just(Condition::Input),
    ];
    let rare = || prop::bool::weighted(0.15);
    let flags = (any::<bool>(), rare(), 0_u32..3, any::<bool>());
    (
        kind,
        vec(any::<u8>(), 0..3),
        option::weighted(0.2, any::<u8>()),
        flags,
        option::weighted(0.2, condition),
    )
        .prop_map(|(kind, takes, after, (strict, at_any_end, retries, cache), condition)| Task {
            kind,
            takes,
            after,
            strict,
            at_any_end,
            retries,
            cache,
            condition,
        })
        .boxed()
}

impl Pipeline {
    pub(super) fn has_exit_handler(&self) -> bool {
        self.exit_handler
    }

    pub(super) fn file(&self) -> PipelineFile {
        let mut writer = Writer::default();
        let body = writer.dag(&self.tasks);
        let root = if self.exit_handler {
            let body = writer.add(body);
            let exit = json!({
                "componentRef": {"name": "leaf"},
                "inputs": {"parameters": {"status": {"taskFinalStatus": {"producerTask": "body"}}}},
                "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
                "retryPolicy": {"maxRetryCount": 1},
            });
            json!({"dag": {"tasks": {"body": {"componentRef": {"name": body}}, "exit": exit}}})
        } else {
            body
        };
        let inputs = |required: bool| {
            json!({"parameters": {
                "in0": {"parameterType": "STRUCT", "isOptional": !required},
                "in1": {"parameterType": "STRUCT", "isOptional": true},
                "item": {"parameterType": "NUMBER_INTEGER", "isOptional": true},
                "c": {"parameterType": "BOOLEAN", "isOptional": true},
                "status": {"parameterType": "TASK_FINAL_STATUS", "isOptional": true},
            }})
        };
        for (name, required) in [("leaf", false), ("strict", true)] {
            writer.components.insert(
                name.to_owned(),
                json!({
                    "executorLabel": "exec",
                    "inputDefinitions": inputs(required),
                    "outputDefinitions": {"parameters": {"out": {"parameterType": "NUMBER_INTEGER"}}},
                }),
            );
        }
        serde_json::from_value(json!({"pipeline_spec": {
            "pipelineInfo": {"name": "generated"},
            "deploymentSpec": {"executors": {"exec": {"container": {"image": "none"}}}},
            "components": writer.components,
            "root": root,
        }}))
        .unwrap()
    }
}

#[derive(Default)]
struct Writer {
    components: BTreeMap<String, Json>,
    depth: u32,
}

impl Writer {
    fn add(&mut self, mut dag: Json) -> String {
        let name = format!("group-{}", self.components.len());
        let optional = |kind: &str| json!({"parameterType": kind, "isOptional": true});
        dag["inputDefinitions"] = json!({"parameters": {
            "in0": optional("STRUCT"), "in1": optional("STRUCT"), "item": optional("NUMBER_INTEGER"),
            "c": optional("BOOLEAN"),
        }});
        dag["outputDefinitions"] = json!({"parameters": {"out": {"parameterType": "STRUCT"}}});
        self.components.insert(name.clone(), dag);
        name
    }

    fn dag(&mut self, tasks: &[Task]) -> Json {
        self.depth += 1;
        let written: serde_json::Map<String, Json> = tasks
            .iter()
            .enumerate()
            .map(|(index, task)| (format!("t{index}"), self.task(index, task)))
            .collect();
        self.depth -= 1;
        let last = format!("t{}", tasks.len() - 1);
        json!({"dag": {
            "tasks": written,
            "outputs": {"parameters": {
                "out": {"valueFromParameter": {"producerSubtask": last, "outputParameterKey": "out"}},
            }},
        }})
    }

    fn task(&mut self, index: usize, task: &Task) -> Json {
        let before = |number: u8| (index > 0).then(|| format!("t{}", usize::from(number) % index.max(1)));
        let mut inputs = serde_json::Map::new();
        for (number, input) in task.takes.iter().zip(["in0", "in1"]) {
            if let Some(producer) = before(*number) {
                let source = json!({"producerTask": producer, "outputParameterKey": "out"});
                inputs.insert(input.to_owned(), json!({"taskOutputParameter": source}));
            } else if self.depth > 1 {
                let of_group = if number % 2 == 0 { "in0" } else { "item" };
                inputs.insert(input.to_owned(), json!({"componentInputParameter": of_group}));
            }
        }
        let strict = task.strict && inputs.contains_key("in0");
        let condition = match task.condition {
            Some(Condition::Constant(holds)) => {
                inputs.insert("c".to_owned(), json!({"runtimeValue": {"constant": holds}}));
                Some("inputs.parameter_values['c'] == true")
            }
            Some(Condition::Input) if inputs.contains_key("in0") => {
                Some("int(inputs.parameter_values['in0']) >= 40")
            }
            _ => None,
        };
        let leaf = if strict { "strict" } else { "leaf" }.to_owned();
        let component = match &task.kind {
            Kind::Leaf => leaf,
            Kind::Loop { body, .. } if body.is_empty() => leaf,
            Kind::Group(body) | Kind::Loop { body, .. } => {
                let dag = self.dag(body);
                self.add(dag)
            }
        };
        let mut written = json!({
            "componentRef": {"name": component},
            "inputs": {"parameters": inputs},
            "cachingOptions": {"enableCache": task.cache},
            "retryPolicy": {"maxRetryCount": task.retries, "backoffDuration": "0.01s"},
        });
        if let Some(other) = task.after.and_then(before) {
            written["dependentTasks"] = json!([other]);
        }
        if task.at_any_end {
            written["triggerPolicy"]["strategy"] = json!("ALL_UPSTREAM_TASKS_COMPLETED");
        }
        if let Some(condition) = condition {
            written["triggerPolicy"]["condition"] = json!(condition);
        }
        if let Kind::Loop { items, limit, .. } = task.kind {
            let items: Vec<u8> = (0..items).collect();
            written["parameterIterator"] =
                json!({"items": {"raw": json!(items).to_string()}, "itemInput": "item"});
            written["iteratorPolicy"] = json!({"parallelismLimit": limit});
        }
        written
    }
}
