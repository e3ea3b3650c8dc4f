//! Pipeline files: read, written, read again, planned, and begun.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kf_core::Timestamp;
use serde_json::{Value as Json, json};

use super::fuzz;
use super::mutate::{self, Random};
use crate::plan::{Executor, Plan};
use crate::scheduler::{Command, Event, Failure, Limits, Outcome, Past, Scheduler, Values};
use crate::spec::{ParameterType, PipelineFile};

/// Messages name what is wrong; they don't repeat it at any length.
const LONGEST_MESSAGE: usize = 4_000;
/// How many attempts of a run are carried.
const ATTEMPTS: usize = 300;

const TOKENS: &[&str] = &[
    "\0",
    "\u{FEFF}",
    "\t",
    "\r",
    "\n",
    "\n\n",
    "  ",
    "- ",
    "? ",
    ": ",
    ":",
    "#",
    " #",
    "&a ",
    "*a",
    "<<: *a\n",
    "!!binary ",
    "!!float ",
    "!x ",
    "!<",
    "---\n",
    "\n---\n",
    "\n...\n",
    "%YAML 1.2\n",
    "%TAG ! x\n",
    "|\n",
    ">-\n",
    "|2\n",
    "'",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\\",
    "\\x",
    "\\uD800",
    "\u{85}",
    "\u{2028}",
    ".nan",
    "-.inf",
    "1e999",
    "0x",
    "null",
    "~",
    "é",
    "\u{1F600}",
    "9007199254740993",
    "-0",
    "a: b\n",
    "{}",
    "[]",
    "root",
    "pipelineInfo:\n  name: b\n",
    "platforms:\n",
];

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        [include_str!("../../tests/it/ir/rare.yaml"), SMALL].map(|text| text.as_bytes().to_vec()).into();
    if let Some(folder) = std::env::var_os("KF_CONFORMANCE") {
        let mut files: Vec<_> = std::fs::read_dir(std::path::Path::new(&folder).join("kfp"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        files.sort();
        seeds.extend(files.iter().filter_map(|path| std::fs::read(path).ok()));
    }
    seeds
}

/// A loop, a condition, a selector, a retry, an exit handler and a collected output.
const SMALL: &str = r#"
pipelineInfo: {name: small}
components:
  comp-make:
    executorLabel: exec-make
    inputDefinitions: {parameters: {n: {parameterType: NUMBER_INTEGER, defaultValue: 1.0}, s: {parameterType: STRING, isOptional: true}}}
    outputDefinitions: {parameters: {Output: {parameterType: NUMBER_INTEGER}}, artifacts: {data: {artifactType: {schemaTitle: system.Dataset}}}}
  comp-use:
    executorLabel: exec-use
    inputDefinitions: {parameters: {numbers: {parameterType: LIST}}, artifacts: {data: {artifactType: {schemaTitle: system.Dataset}, isArtifactList: true}}}
  comp-group:
    inputDefinitions: {parameters: {item: {parameterType: STRUCT}}}
    outputDefinitions: {parameters: {each: {parameterType: LIST}}, artifacts: {data: {artifactType: {schemaTitle: system.Dataset}}}}
    dag:
      tasks:
        make:
          componentRef: {name: comp-make}
          inputs: {parameters: {n: {componentInputParameter: item, parameterExpressionSelector: 'parseJson(string_value)["n"]'}}}
          retryPolicy: {maxRetryCount: 2, backoffDuration: 1s, backoffFactor: 2.0}
          triggerPolicy: {condition: "int(inputs.parameter_values['n']) > 0"}
      outputs:
        parameters: {each: {valueFromParameter: {producerSubtask: make, outputParameterKey: Output}}}
        artifacts: {data: {artifactSelectors: [{producerSubtask: make, outputArtifactKey: data}]}}
deploymentSpec:
  executors:
    exec-make: {container: {image: a, command: [sh, -c, "{{$.inputs.parameters['n']}}"]}}
    exec-use: {container: {image: a}}
root:
  inputDefinitions: {parameters: {start: {parameterType: NUMBER_DOUBLE, defaultValue: 0.5}}}
  dag:
    tasks:
      loop:
        componentRef: {name: comp-group}
        parameterIterator: {itemInput: item, items: {raw: '[{"n": 1}, {"n": 2}, {"m": 3}]'}}
        iteratorPolicy: {parallelismLimit: 2}
      use:
        componentRef: {name: comp-use}
        inputs:
          parameters: {numbers: {taskOutputParameter: {producerTask: loop, outputParameterKey: each}}}
          artifacts: {data: {taskOutputArtifact: {producerTask: loop, outputArtifactKey: data}}}
      bye:
        componentRef: {name: comp-make}
        inputs: {parameters: {s: {taskFinalStatus: {producerTask: use}}, n: {runtimeValue: {constant: "{{$.inputs.parameters['s']}}"}}}}
        dependentTasks: [use]
        triggerPolicy: {strategy: ALL_UPSTREAM_TASKS_COMPLETED}
        cachingOptions: {enableCache: true}
"#;

fn check(input: &[u8]) -> Result<(), String> {
    let Some(file) = taken(PipelineFile::from_yaml(input))? else { return Ok(()) };
    let written = file.to_yaml().map_err(|error| format!("can't be written: {error}"))?;
    let again = PipelineFile::from_yaml(&written).map_err(|error| format!("{error} in\n{written}"))?;
    if again != file {
        return Err(format!("is another when written and read again:\n{file:?}\n{again:?}"));
    }
    let stored = serde_json::to_string(&file).map_err(|error| format!("can't be stored: {error}"))?;
    let again: PipelineFile = serde_json::from_str(&stored).map_err(|error| format!("stored: {error}"))?;
    if again != file {
        return Err(format!("is another when stored and read again:\n{file:?}\n{again:?}"));
    }
    match taken(Plan::new(&file))? {
        Some(plan) => begin(Arc::new(plan)),
        None => Ok(()),
    }
}

/// What was not refused; a refusal is in few words.
fn taken<T>(result: crate::Result<T>) -> Result<Option<T>, String> {
    match result.map_err(|error| error.to_string().len()) {
        Ok(taken) => Ok(Some(taken)),
        Err(length) if length > LONGEST_MESSAGE => Err(format!("a message of {length} bytes")),
        Err(_) => Ok(None),
    }
}

/// Carries a run for a while: some attempts succeed with values of the declared types, some fail.
fn begin(plan: Arc<Plan>) -> Result<(), String> {
    let args = match plan.complete(&BTreeMap::new()) {
        Ok(args) => args,
        Err(_) => plan.components[plan.root]
            .inputs
            .parameters
            .iter()
            .map(|(name, input)| (name.clone(), some(input.kind())))
            .collect(),
    };
    let args = Values::of_parameters(args.into_iter().map(|(name, value)| (name.into(), Arc::new(value))));
    let mut now = Timestamp::from_millis(0);
    let limits = Limits { in_flight: 8, cache: true, lost: 2 };
    let (mut scheduler, first) = Scheduler::start(plan, Arc::default(), args, Past::default(), limits, now);
    let mut todo = VecDeque::from(first);
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        let event = match todo.pop_front() {
            Some(Command::Finished { .. }) => return Ok(()),
            Some(Command::Launch(launch)) => {
                attempts += 1;
                let outcome = match attempts % 5 {
                    4 => Outcome::Failed(Failure::task("bad luck")),
                    _ => Outcome::Succeeded(given(&launch.executor)),
                };
                Event::Ended { leaf: launch.leaf, outcome, started_at: now, ended_at: now }
            }
            Some(Command::Lookup(launch)) => Event::Cached { leaf: launch.leaf, hit: None, key: None },
            Some(Command::Record(_) | Command::Cancel(_)) => continue,
            None => match scheduler.next_tick() {
                Some(at) => {
                    now = at;
                    Event::Tick
                }
                None => return Err("the run waits for nothing".to_owned()),
            },
        };
        todo.extend(scheduler.step(now, event));
    }
    todo.extend(scheduler.step(now, Event::Cancel { reason: "enough".to_owned() }));
    Ok(())
}

fn given(executor: &Executor) -> Values {
    let outputs = executor.outputs.parameters.iter();
    Values::of_parameters(outputs.map(|(name, output)| (name.as_str().into(), Arc::new(some(output.kind())))))
}

fn some(kind: ParameterType) -> Json {
    match kind {
        ParameterType::NumberDouble => json!(1.5),
        ParameterType::NumberInteger => json!(2),
        ParameterType::String => json!("text"),
        ParameterType::Boolean => json!(true),
        ParameterType::List => json!([1, "a"]),
        _ => json!({"a": 1}),
    }
}

fn next(random: &mut Random, seeds: &[Vec<u8>], trees: &[Json]) -> Vec<u8> {
    let other = &seeds[random.below(seeds.len())];
    let mut text = match random.below(4) {
        0 => seeds[random.below(seeds.len())].clone(),
        kind => {
            let mut tree = trees[random.below(trees.len())].clone();
            mutate::tree(random, &mut tree);
            let yaml = if kind == 1 { serde_saphyr::to_string(&tree).ok() } else { None };
            let text = yaml.unwrap_or_else(|| tree.to_string());
            if !random.one_in(3) {
                return text.into_bytes();
            }
            text.into_bytes()
        }
    };
    mutate::bytes(random, &mut text, TOKENS, other);
    text
}

#[test]
fn pipeline_files_bear_any_text() {
    let seeds = seeds();
    let trees: Vec<Json> = seeds
        .iter()
        .filter_map(|seed| serde_json::to_value(PipelineFile::from_yaml(seed).ok()?).ok())
        .collect();
    assert!(trees.len() >= 2);
    fuzz("files", |random| next(random, &seeds, &trees), check);
}
