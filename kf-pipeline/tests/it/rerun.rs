//! A new run does again a part of what another did.

use std::path::PathBuf;

use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::{Pipeline, RerunOptions, RunHandle, StartOptions};
use libtest_mimic::Trial;

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("what_failed_runs_again_and_nothing_else", failed),
        test("chosen_tasks_run_again_with_what_comes_after", chosen),
        test("what_cannot_be_run_again_is_said", refused),
        test("a_run_whose_pipeline_was_changed_is_abandoned_and_run_again", abandoned),
        test("the_names_of_mutexes_are_checked", mutex_names),
    ]
}

/// Notes that it runs; fails where a file says so.
fn note(folder: &str, name: &str) -> Result<(), TaskError> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(format!("{folder}/witness"))?;
    file.write_all(format!("{name}\n").as_bytes())?;
    if std::path::Path::new(&format!("{folder}/fail-{name}")).exists() {
        return Err(TaskError::permanent("it was told to"));
    }
    Ok(())
}

#[component]
fn step(folder: String, name: String, after: Option<String>) -> Result<String, TaskError> {
    note(&folder, &name)?;
    Ok(format!("{}{name}", after.unwrap_or_default()))
}

#[component]
fn join_all(folder: String, words: Vec<String>) -> Result<String, TaskError> {
    let name = words.join("+");
    note(&folder, &name)?;
    Ok(name)
}

/// a, then a loop over x, y and z of two steps each, then all of it joined; b beside it; an exit handler.
fn pipeline(folder: String) -> Result<Pipeline, kf_pipeline::Error> {
    Pipeline::build("again", move |p| {
        let items = p.param::<Vec<String>>("items", ["x", "y", "z"].map(str::to_owned).to_vec());
        let a = p.add(step(folder.clone(), "a", None).named("a"));
        p.add(step(folder.clone(), "b", None).named("b"));
        let each = p.parallel_for(items, |p, item| {
            let one = p.add(step(folder.clone(), item, a.output).named("one"));
            p.add(step(folder.clone(), "two", one.output).named("two"))
        });
        p.add(join_all(folder.clone(), each.collect().output).named("join"));
        p.on_exit(step(folder, "exit", None).named("exit").cache(false));
    })
}

/// What an exit handler is for makes a group.
fn inside(task: &str) -> String {
    format!("exit-handler-1/{task}")
}

struct Place {
    dir: tempfile::TempDir,
    engine: Engine,
    pipeline: Pipeline,
}

impl Place {
    async fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let engine = Engine::open(dir.path().join("home")).await?;
        let pipeline = pipeline(dir.path().display().to_string())?;
        Ok(Self { dir, engine, pipeline })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What ran since it was asked last, in order of names.
    fn ran(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file("witness")).unwrap_or_default();
        let _ = std::fs::remove_file(self.file("witness"));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    async fn start(&self) -> Result<RunHandle, Box<dyn std::error::Error>> {
        Ok(self.engine.start(&self.pipeline, args! {}).await?)
    }

    async fn rerun(
        &self,
        run: &RunHandle,
        options: RerunOptions,
    ) -> Result<RunHandle, Box<dyn std::error::Error>> {
        Ok(self.engine.rerun(&self.pipeline, run.id(), options).await?)
    }
}

async fn failed() -> Done {
    let place = Place::new().await?;
    std::fs::write(place.file("fail-y"), "")?;
    let run = place.start().await?;
    assert_eq!(run.wait().await?.state, RunState::Failed);
    assert_eq!(place.ran(), ["a", "b", "exit", "two", "two", "x", "y", "z"]);
    // It fails again, and what was kept is kept on.
    let again = place.rerun(&run, RerunOptions::failed()).await?;
    assert_eq!(again.wait().await?.state, RunState::Failed);
    assert_eq!(place.ran(), ["exit", "y"]);
    std::fs::remove_file(place.file("fail-y"))?;
    let again = place.rerun(&again, RerunOptions::failed()).await?;
    let outcome = again.wait().await?;
    assert_eq!((outcome.state, outcome.tasks.cached, outcome.tasks.succeeded), (RunState::Succeeded, 6, 4));
    assert_eq!(place.ran(), ["axtwo+aytwo+aztwo", "exit", "two", "y"]);
    let report = place.engine.report(again.id()).await?;
    assert_eq!(report.task(&inside("for-loop-1[0]/two")).unwrap().output::<String>("Output")?, "axtwo");
    assert_eq!(report.task(&inside("a")).unwrap().state, kf_pipeline::TaskState::Cached);
    Ok(())
}

async fn chosen() -> Done {
    let place = Place::new().await?;
    let run = place.start().await?;
    assert_eq!(run.wait().await?.state, RunState::Succeeded);
    place.ran();
    for (tasks, ran) in [
        (vec!["b"], vec!["b", "exit"]),
        (vec!["for-loop-1[1]/one"], vec!["axtwo+aytwo+aztwo", "exit", "two", "y"]),
        (vec!["for-loop-1[1]/two", "b"], vec!["axtwo+aytwo+aztwo", "b", "exit", "two"]),
        (vec!["for-loop-1"], vec!["axtwo+aytwo+aztwo", "exit", "two", "two", "two", "x", "y", "z"]),
    ] {
        let paths = tasks.iter().map(|task| inside(task));
        let again = place.rerun(&run, RerunOptions::from_tasks(paths).no_cache()).await?;
        assert_eq!(again.wait().await?.state, RunState::Succeeded);
        assert_eq!(place.ran(), ran, "{tasks:?}");
    }
    // What did not succeed runs again too, and so does what comes after that.
    std::fs::write(place.file("fail-x"), "")?;
    let run = place.engine.start_with(&place.pipeline, args! {}, StartOptions::new().no_cache()).await?;
    assert_eq!(run.wait().await?.state, RunState::Failed);
    std::fs::remove_file(place.file("fail-x"))?;
    place.ran();
    let again = place.rerun(&run, RerunOptions::from_tasks([inside("b")]).no_cache()).await?;
    assert_eq!(again.wait().await?.state, RunState::Succeeded);
    assert_eq!(place.ran(), ["axtwo+aytwo+aztwo", "b", "exit", "two", "x"]);
    let run = again;
    // The cache stands for what comes after and stays the same, not for what was chosen.
    let again = place.rerun(&run, RerunOptions::from_tasks([inside("a")])).await?;
    assert_eq!(again.wait().await?.state, RunState::Succeeded);
    assert_eq!(place.ran(), ["a", "exit"]);
    // The same id finds the run.
    let id: kf_core::RunId = "again".parse()?;
    for _ in 0..2 {
        let options = RerunOptions::from_tasks([inside("b")]).id(id.clone());
        place.rerun(&run, options).await?.wait().await?;
    }
    assert_eq!(place.ran().iter().filter(|name| *name == "b").count(), 1);
    Ok(())
}

async fn refused() -> Done {
    let place = Place::new().await?;
    let run = place.start().await?;
    run.wait().await?;
    for (path, says) in [
        ("a", "there is no `a`; there are: exit, exit-handler-1; did you mean `exit-handler-1/a`?"),
        ("exit-handler-2/a", "did you mean `exit-handler-1/a`?"),
        ("exit-handler-1/c", "there is no `c`; there are: a, b, "),
        ("exit-handler-1/for-loop-1/one", "say which iteration"),
        ("two", "did you mean `exit-handler-1/for-loop-1[0]/two`?"),
        ("exit-handler-1/a[0]", "`a` is no loop"),
        ("exit-handler-1/a/b", "lie in is no group"),
        ("", "there is no ``"),
    ] {
        let error = place.rerun(&run, RerunOptions::from_tasks([path])).await.err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
    // An id asks for one thing.
    let again = inside("b");
    let options = |id: &kf_core::RunId, task: &str| RerunOptions::from_tasks([task]).id(id.clone());
    let second = place.rerun(&run, options(&"second".parse()?, &again)).await?;
    second.wait().await?;
    for (id, task, fits) in
        [(second.id(), again.clone(), true), (second.id(), inside("a"), false), (run.id(), again, false)]
    {
        match place.rerun(&run, options(id, &task)).await {
            Ok(found) => assert!(fits && found.id() == id),
            Err(error) => assert!(!fits && error.to_string().contains("give another id"), "{error}"),
        }
    }
    let nobody: kf_core::RunId = "nobody".parse()?;
    let error = place.engine.rerun(&place.pipeline, &nobody, RerunOptions::failed()).await.unwrap_err();
    assert!(error.to_string().contains("there is no such run"), "{error}");
    let other = Pipeline::build("other", |_| {})?;
    let error = place.engine.rerun(&other, run.id(), RerunOptions::failed()).await.unwrap_err();
    assert!(error.to_string().contains("it is a run of `again`"), "{error}");
    Ok(())
}

/// A step, then a question, then what `last` makes of the answer.
fn asking(last: &str) -> Result<Pipeline, kf_pipeline::Error> {
    Pipeline::build("asking", |p| {
        let dir = p.param::<String>("dir", String::new());
        let first = p.add(step(dir, "first", None).named("first"));
        let go = p.approval(kf_pipeline::Question::new("Go on?"));
        p.add(step(dir, last, first.output).named(last).after(go));
    })
}

async fn abandoned() -> Done {
    let place = Place::new().await?;
    let args = || args! { "dir" => place.dir.path().display().to_string() };
    let options = || StartOptions::new().id("asks".parse().unwrap());
    let (old, new) = (asking("old")?, asking("new")?);
    let engine = Engine::open(place.dir.path().join("other")).await?;
    let run = engine.start_with(&old, args(), options()).await?;
    while engine.approvals(run.id()).await?.is_empty() || !place.file("witness").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let error = engine.abandon(run.id(), "changed").await.unwrap_err().to_string();
    assert!(error.contains("cancel it by its handle"), "{error}");
    engine.drain().await;
    drop(engine);

    let engine = Engine::open(place.dir.path().join("other")).await?;
    let stuck = engine.start_with(&new, args(), options()).await.unwrap_err().to_string();
    assert!(stuck.contains("Engine::abandon"), "{stuck}");
    let stuck = engine.rerun(&new, run.id(), RerunOptions::failed()).await.unwrap_err().to_string();
    assert!(stuck.contains("Engine::abandon"), "{stuck}");
    for _ in 0..2 {
        engine.abandon(run.id(), "its pipeline was changed").await?;
    }
    let record = engine.run(run.id()).await?.ok_or("no run")?;
    assert_eq!(record.state, RunState::Canceled);
    assert_eq!(record.error.as_deref(), Some("abandoned: its pipeline was changed"));
    let nobody = engine.abandon(&"nobody".parse()?, "x").await.unwrap_err().to_string();
    assert!(nobody.contains("there is no such run"), "{nobody}");

    let again = engine.rerun(&new, run.id(), RerunOptions::failed()).await?;
    while engine.approvals(again.id()).await?.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    again.decide("approval", kf_pipeline::Decision::approve()).await?;
    let outcome = again.wait().await?;
    assert_eq!((outcome.state, outcome.tasks.cached), (RunState::Succeeded, 1));
    assert_eq!(place.ran(), ["first", "new"]);
    Ok(())
}

async fn mutex_names() -> Done {
    let build = |name: String| {
        Pipeline::build("named", |p| {
            p.add(step("x", "y", None).mutex(name));
        })
    };
    for good in ["m", "m-{{$.inputs.parameters['name']}}", "{{$.pipeline_job_uuid}}", "{ {$"] {
        build(good.to_owned())?;
    }
    for (bad, says) in [
        ("m-{{$.inputs.parameters['nmae']}}".to_owned(), "names input `nmae`"),
        ("m-{{$.inputs.parameters['name'".to_owned(), "cut off"),
        ("m-{{$.inputs.artifacts['name']}}".to_owned(), "stands for nothing here"),
        (" ".to_owned(), "1 to 500 bytes"),
        ("m".repeat(501), "1 to 500 bytes"),
    ] {
        let error = build(bad).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    Ok(())
}
