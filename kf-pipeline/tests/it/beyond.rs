//! What Kubeflow Pipelines has no field for: fallbacks, maps some of whose items may fail, people who decide, mutexes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kf_core::Home;
use kf_core::metadata::RunState;
use kf_core::testing::{FaultyMetadata, MetadataCall};
use kf_pipeline::prelude::*;
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{
    Components, Decision, Export, ItemFailure, Pipeline, Question, RunEvent, RunOutcome, StartOptions,
    TaskState,
};
use libtest_mimic::Trial;
use serde_json::{Value as Json, json};

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("some_items_of_a_map_may_fail_and_the_next_step_hears_which", min_success),
        test("a_fallback_stands_for_what_failed", fallback),
        test("what_a_fallback_may_not_be_is_refused", bad_fallbacks),
        test("a_person_decides_also_after_a_restart", approval),
        test("what_a_person_answers_is_of_the_type_that_is_asked_for", answers_are_of_their_type),
        test("a_decision_that_does_not_fit_is_refused_and_the_task_waits_on", bad_decisions),
        test("nobody_decides_in_time", undecided),
        test("the_builder_says_all_of_it", builder),
        test("mutexes_hold_across_runs_and_semaphores_have_places", mutexes),
    ]
}

/// Fails on negative numbers.
#[component]
fn positive(number: i64) -> Result<i64, TaskError> {
    match number < 0 {
        true => Err(TaskError::permanent(format!("{number} is negative"))),
        false => Ok(number),
    }
}

#[component]
fn describe(numbers: Vec<i64>, failures: Vec<serde_json::Value>) -> String {
    format!("{numbers:?} {}", serde_json::Value::from(failures))
}

#[component]
fn say(what: String) -> String {
    what
}

#[component]
fn number(number: i64) -> i64 {
    number
}

fn components() -> Components {
    Components::new().with::<positive>().with::<describe>().with::<say>().with::<number>().with::<alone>()
}

fn executor(component: &str) -> Json {
    json!({"container": {"image": "self", "args": [component]}})
}

fn integer() -> Json {
    json!({"parameterType": "NUMBER_INTEGER"})
}

/// A pipeline of these tasks over `positive`, `describe`, `say` and `number`.
fn file(tasks: &Json, kf: &Json) -> Json {
    let text = json!({"parameterType": "STRING"});
    let list = json!({"parameterType": "LIST"});
    let mut kf = kf.clone();
    for name in ["positive", "describe", "say", "number", "alone"] {
        kf["executors"][format!("exec-{name}")]["component"] = name.into();
    }
    if kf["executors"]["exec-ask"].is_null() {
        kf["executors"]["exec-ask"] = json!({"approval": {"message": "?"}});
    }
    json!({
        "pipeline_spec": {
            "pipelineInfo": {"name": "beyond"},
            "deploymentSpec": {"executors": {
                "exec-positive": executor("positive"), "exec-describe": executor("describe"),
                "exec-say": executor("say"), "exec-number": executor("number"), "exec-alone": executor("alone"),
                "exec-ask": {"container": {"image": "self"}},
            }},
            "components": {
                "comp-positive": {"executorLabel": "exec-positive",
                    "inputDefinitions": {"parameters": {"number": integer()}},
                    "outputDefinitions": {"parameters": {"Output": integer()}}},
                "comp-number": {"executorLabel": "exec-number",
                    "inputDefinitions": {"parameters": {"number": integer()}},
                    "outputDefinitions": {"parameters": {"Output": integer()}}},
                "comp-describe": {"executorLabel": "exec-describe",
                    "inputDefinitions": {"parameters": {"numbers": list, "failures": list}},
                    "outputDefinitions": {"parameters": {"Output": text}}},
                "comp-say": {"executorLabel": "exec-say",
                    "inputDefinitions": {"parameters": {"what": text}},
                    "outputDefinitions": {"parameters": {"Output": text}}},
                "comp-alone": {"executorLabel": "exec-alone",
                    "inputDefinitions": {"parameters": {"folder": text, "name": text, "most": integer()}}},
                "comp-ask": {"executorLabel": "exec-ask",
                    "inputDefinitions": {"parameters": {"accuracy": {"parameterType": "NUMBER_DOUBLE"}}},
                    "outputDefinitions": {"parameters": {"by": text, "value": integer()}}},
            },
            "root": {"dag": {"tasks": tasks}},
        },
        "platform_spec": {"platforms": {"kf": kf}},
    })
}

fn pipeline(tasks: &Json, kf: &Json) -> Result<Pipeline, kf_pipeline::Error> {
    Pipeline::from_file(serde_json::from_value::<PipelineFile>(file(tasks, kf)).unwrap(), components())
}

fn constant(value: impl Into<Json>) -> Json {
    json!({"runtimeValue": {"constant": value.into()}})
}

fn output(task: &str, key: &str) -> Json {
    json!({"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}})
}

fn task(component: &str, parameters: &Json) -> Json {
    json!({"componentRef": {"name": format!("comp-{component}")}, "inputs": {"parameters": parameters}})
}

async fn run(
    pipeline: &Pipeline,
) -> Result<(RunOutcome, kf_pipeline::report::Report), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(pipeline, args! {}).await?;
    let outcome = run.wait().await?;
    Ok((outcome, engine.report(run.id()).await?))
}

async fn min_success() -> Done {
    let mut each = task("positive", &json!({}));
    each["parameterIterator"] = json!({"items": {"raw": "[1, -2, 3, -4]"}, "itemInput": "number"});
    let tasks = json!({
        "each": each,
        "tell": task("describe", &json!({"numbers": output("each", "Output"), "failures": output("each", "bad")})),
    });
    let kf = |min: Json| json!({"components": {"root": {"tasks": {"each": {"minSuccess": min, "failures": "bad"}}}}});
    for (min, goes_on) in [
        (json!({"count": 2}), true),
        (json!({"ratio": 0.5}), true),
        (json!({"count": 0}), true),
        (json!({"count": 3}), false),
        (json!({"ratio": 0.51}), false),
        (json!({"count": 99}), false),
    ] {
        let (outcome, report) = run(&pipeline(&tasks, &kf(min.clone()))?).await?;
        if goes_on {
            assert_eq!(
                (outcome.state, outcome.error, outcome.tasks.failed),
                (RunState::Succeeded, None, 2),
                "{min}"
            );
            let told: String = report.task("tell").unwrap().output("Output")?;
            assert_eq!(
                told,
                "[1, 3] [{\"iteration\":1,\"item\":-2,\"error\":\"-2 is negative\"},\
                 {\"iteration\":3,\"item\":-4,\"error\":\"-4 is negative\"}]"
            );
        } else {
            assert_eq!(outcome.state, RunState::Failed, "{min}");
            let error = outcome.error.unwrap();
            assert!(
                error.contains("task `each`: 2 of 4 iterations failed") && error.contains("iteration 1"),
                "{error}"
            );
        }
    }
    let error = pipeline(&tasks, &kf(json!({"ratio": 1.5}))).unwrap_err().to_string();
    assert!(error.contains("root/each") && error.contains("from 0 to 1"), "{error}");
    let none = json!({"components": {"root": {"tasks": {"tell": {"minSuccess": {"count": 1}}}}}});
    let error = pipeline(&json!({"tell": task("say", &json!({"what": constant("x")}))}), &none)
        .unwrap_err()
        .to_string();
    assert!(error.contains("which are for loops"), "{error}");
    Ok(())
}

/// `first`, which fails where it takes a negative number, its fallbacks, and what takes its output.
fn with_fallbacks(first: i64, second: i64) -> (Json, Json) {
    let number = |value: i64| json!({"number": constant(value)});
    let tasks = json!({
        "first": task("positive", &number(first)),
        "second": task("positive", &number(second)),
        "third": task("number", &json!({"number": output("source", "Output")})),
        "source": task("number", &number(7)),
        "use": task("number", &json!({"number": output("first", "Output")})),
    });
    let kf = json!({"components": {"root": {"tasks": {"first": {"fallback": "second"}, "second": {"fallback": "third"}}}}});
    (tasks, kf)
}

async fn fallback() -> Done {
    for (first, second, used, states) in [
        (1, 2, 1, [TaskState::Succeeded, TaskState::Skipped, TaskState::Skipped]),
        (-1, 2, 2, [TaskState::Failed, TaskState::Succeeded, TaskState::Skipped]),
        (-1, -2, 7, [TaskState::Failed, TaskState::Failed, TaskState::Succeeded]),
    ] {
        let (tasks, kf) = with_fallbacks(first, second);
        let (outcome, report) = run(&pipeline(&tasks, &kf)?).await?;
        assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None), "{first} {second}");
        assert_eq!(report.task("use").unwrap().output::<i64>("Output")?, used);
        let found = ["first", "second", "third"].map(|name| report.task(name).unwrap().state);
        assert_eq!(found, states);
    }
    let (mut tasks, kf) = with_fallbacks(-1, -2);
    tasks["third"] = task("positive", &json!({"number": constant(-3)}));
    let (outcome, report) = run(&pipeline(&tasks, &kf)?).await?;
    assert_eq!(outcome.state, RunState::Failed);
    assert!(outcome.error.unwrap().contains("task `third`: -3 is negative"));
    assert_eq!(report.task("use").unwrap().state, TaskState::Skipped);
    Ok(())
}

async fn bad_fallbacks() -> Done {
    let refused = |tasks: &Json, kf: &Json| pipeline(tasks, kf).unwrap_err().to_string();
    let (tasks, _) = with_fallbacks(1, 2);
    let kf = |pairs: &[(&str, &str)]| {
        let tasks: serde_json::Map<_, _> =
            pairs.iter().map(|(of, by)| ((*of).to_owned(), json!({"fallback": by}))).collect();
        json!({"components": {"root": {"tasks": tasks}}})
    };
    assert!(refused(&tasks, &kf(&[("first", "nobody")])).contains("names task `nobody`"));
    assert!(refused(&tasks, &kf(&[("nobody", "first")])).contains("names task `nobody`"));
    assert!(
        refused(&tasks, &kf(&[("first", "second"), ("source", "second")]))
            .contains("`second` is that of `first`")
    );
    assert!(refused(&tasks, &kf(&[("second", "first")])).contains("`use` waits for its fallback `first`"));
    assert!(refused(&tasks, &kf(&[("source", "third")])).contains("takes something from it"));
    assert!(refused(&tasks, &kf(&[("second", "second")])).contains("wait for one another"));
    let mut other = tasks.clone();
    other["second"] = task("say", &json!({"what": constant("x")}));
    assert!(refused(&other, &kf(&[("first", "second")])).contains("no output `Output` of the same type"));
    let mut looped = tasks.clone();
    looped["second"]["parameterIterator"] = json!({"items": {"raw": "[1]"}, "itemInput": "number"});
    assert!(refused(&looped, &kf(&[("first", "second")])).contains("is a loop"));
    Ok(())
}

fn asking(timeout: Option<u64>) -> Result<Pipeline, kf_pipeline::Error> {
    let tasks = json!({
        "ask": task("ask", &json!({"accuracy": constant(0.97)})),
        "go": task("say", &json!({"what": output("ask", "by")})),
    });
    let mut ask = json!({"approval": {"message": "Publish {{$.inputs.parameters['accuracy']}}?"}});
    if let Some(millis) = timeout {
        ask["timeout"] = json!({"secs": 0, "nanos": millis * 1_000_000});
    }
    pipeline(&tasks, &json!({"executors": {"exec-ask": ask}}))
}

/// Waits until a person is asked.
async fn asked(run: &kf_pipeline::RunHandle) -> String {
    let mut events = run.events();
    while let Some(event) = events.next().await {
        if let RunEvent::ApprovalAsked { message, .. } = event {
            return message;
        }
    }
    panic!("nobody was asked");
}

async fn approval() -> Done {
    let home = tempfile::tempdir()?;
    let id: kf_core::RunId = "asks".parse()?;
    let options = || StartOptions::new().id("asks".parse().unwrap());
    let engine = Engine::open(home.path()).await?;
    let pipeline = asking(None)?;
    let run = engine.start_with(&pipeline, args! {}, options()).await?;
    assert_eq!(asked(&run).await, "Publish 0.97?");
    let first = engine.approvals(&id).await?;
    let report = engine.report(&id).await?;
    assert_eq!(report.waiting, first);
    assert!(report.to_html().contains("A task waits for a person"));
    engine.drain().await;
    assert!(run.wait().await.unwrap_err().to_string().contains("drained"));
    drop(engine);
    let store = Home::open(home.path()).await?;
    let counted = Arc::new(FaultyMetadata::new(store.metadata()));
    let engine = Engine::builder().metadata(counted.clone()).open_home(store).await?;
    assert_eq!(engine.approvals(&id).await?, first, "it waits on, asked then");
    let decision = || Decision::approve().by("ann").value(3);
    let error = engine.decide(&id, "ask", decision()).await.unwrap_err().to_string();
    assert!(error.contains("start it again"), "{error}");
    let before = counted.calls(MetadataCall::Read);
    let run = engine.start_with(&pipeline, args! {}, options()).await?;
    let reads = counted.calls(MetadataCall::Read) - before;
    assert!(reads <= 2, "{reads} reads: a page of the journal, and that there is none after it");
    assert_eq!(asked(&run).await, "Publish 0.97?", "who listens hears it again");
    engine.decide(&id, "ask", decision()).await?;
    assert!(engine.approvals(&id).await?.is_empty());
    assert!(engine.report(&id).await?.waiting.is_empty());
    let outcome = run.wait().await?;
    assert_eq!(outcome.state, RunState::Succeeded);
    let report = engine.report(&id).await?;
    assert_eq!(report.task("go").unwrap().output::<String>("Output")?, "ann");
    assert_eq!(report.task("ask").unwrap().output::<i64>("value")?, 3);
    // The cache never decides.
    let again = engine.start(&pipeline, args! {}).await?;
    asked(&again).await;
    engine.decide(again.id(), "ask", Decision::reject().by("bob").comment("too late")).await?;
    let outcome = again.wait().await?;
    assert_eq!(outcome.error.as_deref(), Some("task `ask`: was rejected by bob: too late"));
    Ok(())
}

async fn bad_decisions() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&asking(None)?, args! {}).await?;
    asked(&run).await;
    let refused = async |task: &str, decision| run.decide(task, decision).await.unwrap_err().to_string();
    assert!(refused("go", Decision::approve()).await.contains("waits for no decision; these do: ask"));
    assert!(refused("ask", Decision::approve()).await.contains("asks for a value"));
    assert!(refused("ask", Decision::approve().value("three")).await.contains("found \"three\""));
    run.cancel("enough").await;
    assert_eq!(run.wait().await?.state, RunState::Canceled);
    assert!(refused("ask", Decision::approve().value(3)).await.contains("has ended"));
    Ok(())
}

#[component]
fn tell(numbers: Vec<i64>, failed: Vec<ItemFailure>, limit: f64, by: String) -> String {
    let failed: Vec<_> = failed.iter().map(|failure| (failure.iteration, failure.item.to_string())).collect();
    format!("{numbers:?} {failed:?} {limit} {by}")
}

async fn builder() -> Done {
    let pipeline = Pipeline::build("built", |p| {
        let start = p.add_or(positive(-7).named("start"), number(1).named("known"));
        // In a group, so that what is added under the platform belongs to its component.
        let (numbers, failed) = p.nest("inner", |p| {
            let items = p.param::<Vec<i64>>("items", vec![5, -6, 7]);
            let each =
                p.parallel_for(items, |p, item| p.add(positive(item).after(start))).min_success_ratio(0.5);
            let failed = each.failures();
            (each.collect().output, failed)
        });
        let yes = p.approval(Question::new("Go on?").show("start", start.output));
        let limit =
            p.ask_for::<f64>(Question::new("Which limit?").named("limit").timeout(Duration::from_secs(60)));
        p.add(tell(numbers, failed, limit.value, limit.by).after(yes).mutex("tell"));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    let mut messages = Vec::new();
    while messages.len() < 2 {
        let asked = engine.approvals(run.id()).await?;
        messages = asked.into_iter().map(|approval| (approval.task.to_string(), approval.message)).collect();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(messages[0], ("approval".to_owned(), "Go on?\nstart: 1".to_owned()));
    assert_eq!(messages[1], ("limit".to_owned(), "Which limit?".to_owned()));
    run.decide("limit", Decision::approve().by("ann").value(2.5)).await?;
    run.decide("approval", Decision::approve()).await?;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    let told: String = engine.report(run.id()).await?.task("tell").unwrap().output("Output")?;
    assert_eq!(told, "[5, 7] [(1, \"-6\")] 2.5 ann");
    // Upstream would drop it.
    let refused = pipeline.to_ir(&Export::new("image", "/program")).unwrap_err().to_string();
    assert!(refused.contains("has a fallback or a number of iterations"), "{refused}");
    let error = Pipeline::build("bad", |p| {
        let each = p.parallel_for(vec![1_i64], |p, item| p.add(number(item)));
        let _ = each.min_success_ratio(f64::NAN).collect();
        let one = p.param::<i64>("one", 1);
        p.approval(Question::new("?").show("it's", one));
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("expected 0 to 1, found NaN") && error.contains("`it's`: expected letters"),
        "{error}"
    );
    let error = Pipeline::build("bad", |p| {
        p.add_or(positive(1), say("x"));
    });
    assert!(error.unwrap_err().to_string().contains("no output `Output` of the same type"));
    Ok(())
}

async fn answers_are_of_their_type() -> Done {
    #[component]
    fn twice(number: u8) -> u16 {
        2 * u16::from(number)
    }
    let pipeline = Pipeline::build("asks", |p| {
        let answer = p.ask_for::<u8>(Question::new("How many?").named("ask"));
        p.add(twice(answer.value).named("twice"));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    asked(&run).await;
    for wrong in [json!(-1), json!(256), json!("7"), json!(1.5), json!(null)] {
        let error =
            run.decide("ask", Decision::approve().value(wrong.clone())).await.unwrap_err().to_string();
        assert!(error.contains("it asks for"), "{wrong}: {error}");
    }
    run.decide("ask", Decision::approve().value(200)).await?;
    assert_eq!(run.wait().await?.state, RunState::Succeeded);
    let report = engine.report(run.id()).await?;
    assert_eq!(report.task("twice").unwrap().output::<i64>("Output")?, 400);
    Ok(())
}

async fn undecided() -> Done {
    let (outcome, _) = run(&asking(Some(100))?).await?;
    assert_eq!(outcome.error.as_deref(), Some("task `ask`: nobody decided within 100ms"));
    Ok(())
}

/// Fails where more than `most` run at once.
#[component(cache = false)]
fn alone(folder: String, name: String, most: i64) -> Result<(), TaskError> {
    let own = format!("{folder}/{name}-{}", uuid());
    std::fs::write(&own, "")?;
    let at_once = std::fs::read_dir(&folder)?.count();
    std::thread::sleep(Duration::from_millis(20));
    std::fs::remove_file(&own)?;
    match at_once > usize::try_from(most)? {
        true => Err(TaskError::permanent(format!("{at_once} at once"))),
        false => Ok(()),
    }
}

fn uuid() -> String {
    kf_core::RunId::random().to_string()
}

async fn mutexes() -> Done {
    for places in [1, 3] {
        let (home, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let engine = Engine::builder().semaphore("door-a", places).open(home.path()).await?;
        let mut each = task(
            "alone",
            &json!({"folder": constant(folder.path().display().to_string()), "most": constant(places)}),
        );
        each["parameterIterator"] =
            json!({"items": {"raw": "[\"1\", \"2\", \"3\", \"4\", \"5\"]"}, "itemInput": "name"});
        each["inputs"]["parameters"]["way"] = constant("a");
        let mut file = file(
            &json!({"each": each}),
            &json!({"executors": {"exec-alone": {"locks": ["door-{{$.inputs.parameters['way']}}"]}}}),
        );
        let component = &mut file["pipeline_spec"]["components"]["comp-alone"];
        component["inputDefinitions"]["parameters"]["way"] = json!({"parameterType": "STRING"});
        let pipeline = Pipeline::from_file(serde_json::from_value::<PipelineFile>(file)?, components())?;
        let runs = [engine.start(&pipeline, args! {}).await?, engine.start(&pipeline, args! {}).await?];
        for run in runs {
            assert_eq!(run.wait().await?.error, None);
        }
    }
    Ok(())
}
