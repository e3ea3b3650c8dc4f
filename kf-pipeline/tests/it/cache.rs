//! What an earlier execution may stand for, and what it may not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{
    Args, CacheKeys, Components, EngineBuilder, Export, LocalContainers, Pipeline, RunHandle, RunOutcome,
    Runner, StartOptions,
};
use libtest_mimic::Trial;
use serde_json::{Value as Json, json};

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("what_two_runs_need_at_once_is_run_once", at_once),
        test("who_waits_for_another_run_takes_over_when_that_fails", takes_over),
        test("who_waits_for_another_run_can_be_cancelled_and_drained", waits_no_more),
        test("equal_tasks_of_one_run_are_two_also_beside_another_run", equal_tasks),
        test("runs_that_need_the_same_in_another_order_do_not_wait_for_each_other", crossed),
        test("a_run_without_the_cache_stays_so_when_it_goes_on", stays_uncached),
        test("what_is_too_old_runs_again", too_old),
        test("a_named_key_stands_for_all_else_within_its_pipeline", named),
        test("the_environment_of_a_container_counts", environment),
        test("upstreams_keys_count_names_and_not_content", upstreams),
    ]
}

/// Writes a line, waits for a file, and fails where that says so.
#[component]
async fn slow(witness: String, gate: String) -> Result<String, TaskError> {
    append(&witness)?;
    for _ in 0..2000 {
        match std::fs::read_to_string(&gate) {
            Ok(text) if text == "fail" => {
                std::fs::remove_file(&gate)?;
                return Err(TaskError::permanent("it was told to"));
            }
            Ok(_) => return Ok("done".to_owned()),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    Err(TaskError::permanent("the gate stayed shut"))
}

fn append(witness: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(witness)?;
    file.write_all(b"x\n")
}

struct Place {
    dir: tempfile::TempDir,
    witness: PathBuf,
    gate: PathBuf,
    engine: Engine,
}

impl Place {
    async fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let (witness, gate) = (dir.path().join("witness"), dir.path().join("gate"));
        let engine = Engine::open(dir.path().join("home")).await?;
        Ok(Self { dir, witness, gate, engine })
    }

    fn pipeline(&self) -> Result<Pipeline, kf_pipeline::Error> {
        let (witness, gate) = (self.witness.display().to_string(), self.gate.display().to_string());
        Pipeline::build("slow", move |p| {
            p.add(slow(witness, gate));
        })
    }

    async fn start(&self) -> Result<RunHandle, Box<dyn std::error::Error>> {
        Ok(self.engine.start(&self.pipeline()?, args! {}).await?)
    }

    fn witnessed(&self) -> usize {
        std::fs::read_to_string(&self.witness).map_or(0, |text| text.lines().count())
    }

    async fn until_witnessed(&self, count: usize) {
        for _ in 0..1000 {
            if self.witnessed() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing ran");
    }
}

async fn at_once() -> Done {
    let place = Place::new().await?;
    let first = place.start().await?;
    place.until_witnessed(1).await;
    let others = [place.start().await?, place.start().await?];
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(place.witnessed(), 1, "the others wait");
    std::fs::write(&place.gate, "go")?;
    assert_eq!(first.wait().await?.tasks.succeeded, 1);
    for other in others {
        let outcome = other.wait().await?;
        assert_eq!((outcome.state, outcome.tasks.cached), (RunState::Succeeded, 1));
    }
    assert_eq!(place.witnessed(), 1);
    Ok(())
}

async fn takes_over() -> Done {
    let place = Place::new().await?;
    let first = place.start().await?;
    place.until_witnessed(1).await;
    let others = [place.start().await?, place.start().await?];
    std::fs::write(&place.gate, "fail")?;
    assert_eq!(first.wait().await?.state, RunState::Failed);
    place.until_witnessed(2).await;
    std::fs::write(&place.gate, "go")?;
    let mut cached = 0;
    for other in others {
        let outcome = other.wait().await?;
        assert_eq!(outcome.state, RunState::Succeeded);
        cached += outcome.tasks.cached;
    }
    assert_eq!((cached, place.witnessed()), (1, 2), "one runs it, one waits for that");
    drop(place.dir);
    Ok(())
}

async fn waits_no_more() -> Done {
    let place = Place::new().await?;
    let first = place.start().await?;
    place.until_witnessed(1).await;
    let other = place.start().await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.cancel("enough").await;
    let outcome = tokio::time::timeout(Duration::from_secs(5), other.wait()).await??;
    assert_eq!(outcome.state, RunState::Canceled);
    let third = place.start().await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let drained = {
        let engine = place.engine.clone();
        tokio::spawn(async move { engine.drain().await })
    };
    let stopped = tokio::time::timeout(Duration::from_secs(5), third.wait()).await?;
    assert!(stopped.unwrap_err().to_string().contains("drained"));
    std::fs::write(&place.gate, "go")?;
    drained.await?;
    first.wait().await.ok();
    assert_eq!(place.witnessed(), 1);
    Ok(())
}

async fn equal_tasks() -> Done {
    let place = Place::new().await?;
    std::fs::write(&place.gate, "go")?;
    let (witness, gate) = (place.witness.display().to_string(), place.gate.display().to_string());
    let pipeline = Pipeline::build("twins", move |p| {
        let one = p.add(slow(witness.clone(), gate.clone()));
        p.add(slow(witness, gate).after(one));
    })?;
    for (ran, cached) in [(2, 0), (0, 2)] {
        let outcome = place.engine.start(&pipeline, args! {}).await?.wait().await?;
        assert_eq!((outcome.tasks.succeeded, outcome.tasks.cached), (ran, cached));
    }
    // The run's own end of the first is newer than the others', which stand for the second all the same.
    let uncached = place.engine.start_with(&pipeline, args! {}, StartOptions::new().no_cache()).await?;
    assert_eq!(uncached.wait().await?.tasks.succeeded, 2);
    Ok(())
}

/// Fails the first time.
#[component]
fn second_time(file: String) -> Result<(), TaskError> {
    append(&file)?;
    match std::fs::read_to_string(&file)?.lines().count() {
        1 => Err(TaskError::new("not yet")),
        _ => Ok(()),
    }
}

async fn crossed() -> Done {
    let place = Place::new().await?;
    let file = |name: &str| place.dir.path().join(name).display().to_string();
    let pipeline = |first: String, second: String| {
        Pipeline::build("crossed", move |p| {
            p.max_tasks(1);
            let wait =
                kf_core::backoff::Backoff { initial: Duration::from_millis(300), ..Default::default() };
            for file in [first, second] {
                p.add(second_time(file).retries(3).backoff(wait));
            }
        })
    };
    let (x, y) = (file("x"), file("y"));
    let (one, other) = (pipeline(x.clone(), y.clone())?, pipeline(y, x)?);
    let runs = [place.engine.start(&one, args! {}).await?, place.engine.start(&other, args! {}).await?];
    for run in runs {
        let outcome = tokio::time::timeout(Duration::from_secs(20), run.wait()).await??;
        assert_eq!(outcome.state, RunState::Succeeded);
    }
    Ok(())
}

async fn stays_uncached() -> Done {
    let place = Place::new().await?;
    let (witness, gate) = (place.witness.display().to_string(), place.gate.display().to_string());
    let pipeline = Pipeline::build("uncached", move |p| {
        let first = p.add(slow(witness, gate));
        p.add(constant().after(first));
    })?;
    std::fs::write(&place.gate, "go")?;
    place.engine.start(&pipeline, args! {}).await?.wait().await?;
    std::fs::remove_file(&place.gate)?;
    let id = || StartOptions::new().id("uncached".parse().unwrap());
    let run = place.engine.start_with(&pipeline, args! {}, id().no_cache()).await?;
    place.until_witnessed(2).await;
    let engine = place.engine.clone();
    let drained = tokio::spawn(async move { engine.drain().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::write(&place.gate, "go")?;
    drained.await?;
    assert!(run.wait().await.is_err());
    drop((run, place.engine));
    let engine = Engine::open(place.dir.path().join("home")).await?;
    let outcome = engine.start_with(&pipeline, args! {}, id()).await?.wait().await?;
    assert_eq!((outcome.tasks.succeeded, outcome.tasks.cached), (2, 0));
    Ok(())
}

#[component]
fn constant() -> i64 {
    1
}

async fn too_old() -> Done {
    let ttl = Duration::from_millis(300);
    let pipelines = [
        Pipeline::build("a", |p| {
            p.add(constant());
        })?,
        Pipeline::build("b", move |p| {
            p.add(constant().cache_ttl(ttl));
        })?,
    ];
    for (pipeline, builder) in pipelines.iter().zip([Engine::builder().cache_ttl(ttl), Engine::builder()]) {
        let home = tempfile::tempdir()?;
        let engine = builder.open(home.path()).await?;
        let cached = async || -> Result<u64, Box<dyn std::error::Error>> {
            Ok(engine.start(pipeline, args! {}).await?.wait().await?.tasks.cached)
        };
        assert_eq!(cached().await?, 0);
        assert_eq!(cached().await?, 1);
        tokio::time::sleep(ttl).await;
        assert_eq!(cached().await?, 0, "the hit did not make it younger");
        assert_eq!(cached().await?, 1);
    }
    let refused = pipelines[1].to_ir(&Export::new("image", "/program")).unwrap_err().to_string();
    assert!(refused.contains("root/constant") && refused.contains("age"), "{refused}");
    Ok(())
}

#[component]
fn echo(text: String) -> String {
    text
}

async fn named() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run =
        async |name: &str, text: &'static str, key: &'static str| -> Result<_, Box<dyn std::error::Error>> {
            let pipeline = Pipeline::build(name, move |p| {
                p.add(echo(text).cache_key(key));
            })?;
            let run = engine.start(&pipeline, args! {}).await?;
            let cached = run.wait().await?.tasks.cached;
            let output = engine.report(run.id()).await?.task("echo").unwrap().output::<String>("Output")?;
            Ok((cached, output))
        };
    assert_eq!(run("p", "one", "k").await?, (0, "one".to_owned()));
    assert_eq!(run("p", "two", "k").await?, (1, "one".to_owned()));
    assert_eq!(run("p", "two", "other").await?, (0, "two".to_owned()));
    assert_eq!(run("q", "two", "k").await?, (0, "two".to_owned()));
    Ok(())
}

fn container(env: &str, kubernetes: &Json) -> Result<Pipeline, kf_pipeline::Error> {
    let file = json!({
        "pipeline_spec": {
            "pipelineInfo": {"name": "p"},
            "deploymentSpec": {"executors": {"exec-a": {"container": {
                "image": "alpine",
                "command": ["sh", "-c", "mkdir -p $(dirname $0); printf %s \"$WORD\" > $0", "{{$.outputs.parameters['o'].output_file}}"],
                "env": [{"name": "WORD", "value": env}],
            }}}},
            "components": {"comp-a": {
                "executorLabel": "exec-a",
                "outputDefinitions": {"parameters": {"o": {"parameterType": "STRING"}}},
            }},
            "root": {"dag": {
                "tasks": {"a": {"componentRef": {"name": "comp-a"}, "cachingOptions": {"enableCache": true}}},
                "outputs": {"parameters": {"o": {"valueFromParameter": {"producerSubtask": "a", "outputParameterKey": "o"}}}},
            }, "outputDefinitions": {"parameters": {"o": {"parameterType": "STRING"}}}},
        },
        "platform_spec": {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-a": kubernetes}}}}},
    });
    Pipeline::from_file(serde_json::from_value::<PipelineFile>(file).unwrap(), Components::new())
}

async fn open(builder: EngineBuilder, home: &Path) -> Result<Engine, kf_pipeline::Error> {
    let containers =
        LocalContainers::new().rule("alpine*", Runner::Local).config_map("c", "k", "from the map");
    builder.containers(containers).open(home).await
}

async fn ran(engine: &Engine, pipeline: &Pipeline) -> Result<(u64, Json), Box<dyn std::error::Error>> {
    let outcome: RunOutcome = engine.start(pipeline, Args::new()).await?.wait().await?;
    assert_eq!(outcome.error, None);
    Ok((outcome.tasks.cached, outcome.outputs.parameters.get("o").cloned().unwrap_or_default()))
}

async fn environment() -> Done {
    let home = tempfile::tempdir()?;
    let engine = open(Engine::builder(), home.path()).await?;
    let none = json!({});
    let map = json!({"configMapAsEnv": [{"configMapName": "c", "keyToEnv": [{"configMapKey": "k", "envVar": "WORD"}]}]});
    assert_eq!(ran(&engine, &container("one", &none)?).await?, (0, json!("one")));
    assert_eq!(ran(&engine, &container("two", &none)?).await?, (0, json!("two")));
    assert_eq!(ran(&engine, &container("one", &map)?).await?, (0, json!("from the map")));
    assert_eq!(ran(&engine, &container("one", &none)?).await?, (1, json!("one")));
    Ok(())
}

async fn upstreams() -> Done {
    let home = tempfile::tempdir()?;
    let engine = open(Engine::builder().cache_keys(CacheKeys::Kfp), home.path()).await?;
    let none = json!({});
    assert_eq!(ran(&engine, &container("one", &none)?).await?, (0, json!("one")));
    assert_eq!(ran(&engine, &container("two", &none)?).await?, (1, json!("one")), "as upstream has it");
    Ok(())
}
