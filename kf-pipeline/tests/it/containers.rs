//! Container steps on this machine: what they see, how they end, what they leave behind.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kf_core::metadata::RunState;
use kf_core::process::{Command, Spawner};
use kf_core::worker::{Entry, WorkerError, entry};
use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{Args, Components, Engine, Error, LocalContainers, Pipeline, RunEvent, RunOutcome, Runner};
use libtest_mimic::Trial;
use serde_json::{Map, Value as Json, json};

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("images_without_a_rule_are_refused_before_anything_runs", refused),
        test("nothing_leaks_from_step_to_step", leaks),
        test("a_steps_end_is_told_in_words", ends),
        test("a_cancelled_step_is_gone_and_so_is_what_it_started", canceled),
        test("what_steps_started_ends_with_a_killed_engine_and_a_killed_server", orphans),
        test("a_killed_server_fails_its_steps_and_the_next_one_gets_another", killed_server),
        test("an_environment_is_made_once", environments),
        test("what_cannot_be_installed_is_said", uninstallable),
        test("volumes_are_seen_by_the_step_alone", volumes),
        test("links_are_followed_within_the_attempts_folder", links),
        test("a_path_that_was_given_out_leads_to_the_content", paths),
        test("parallel_steps_do_not_wait_for_one_another", parallel),
    ]
}

const INSTALL: &str = "PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet 'kfp==2.14.3' '--no-deps' && \"$0\" \"$@\"";
const RUN: &str = "program_path=$(mktemp -d)\n\nprintf \"%s\" \"$0\" > \"$program_path/ephemeral_component.py\"\n\
    _KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path \
    \"$program_path/ephemeral_component.py\" \"$@\"\n";

/// A lightweight Python component with these packages, whose function `f` is this source.
pub(crate) fn python(packages: &str, source: &str) -> Json {
    let install = match packages {
        "" => INSTALL.to_owned(),
        packages => {
            INSTALL.replace("&& \"$0\"", &format!("&& python3 -m pip install --quiet '{packages}' && \"$0\""))
        }
    };
    let source =
        format!("import kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\n{source}");
    json!({"container": {
        "image": "python:3.11",
        "command": ["sh", "-c", install, "sh", "-ec", RUN, source],
        "args": ["--executor_input", "{{$}}", "--function_to_execute", "f"],
    }})
}

pub(crate) fn shell(script: &str) -> Json {
    json!({"container": {"image": "alpine:3", "command": ["sh", "-c", script]}})
}

/// A pipeline of these executors one after another, each with a text `Output` where it likes.
pub(crate) fn chain(executors: &[Json]) -> Json {
    let (mut all, mut components, mut tasks) = (Map::new(), Map::new(), Map::new());
    for (index, executor) in executors.iter().enumerate() {
        all.insert(format!("exec-{index}"), executor.clone());
        components.insert(
            format!("comp-{index}"),
            json!({
                "executorLabel": format!("exec-{index}"),
                "outputDefinitions": {"parameters": {"Output": {"parameterType": "STRING"}}},
            }),
        );
        let after: Vec<String> = (0..index).rev().take(1).map(|before| format!("step-{before}")).collect();
        tasks.insert(
            format!("step-{index}"),
            json!({"componentRef": {"name": format!("comp-{index}")}, "dependentTasks": after}),
        );
    }
    json!({
        "pipelineInfo": {"name": "chain"},
        "deploymentSpec": {"executors": all},
        "components": components,
        "root": {"dag": {"tasks": tasks}},
    })
}

pub(crate) fn pipeline(spec: &Json) -> Result<Pipeline, Error> {
    let file = PipelineFile::from_yaml(spec.to_string())?;
    Pipeline::from_file(file, Components::new())
}

/// Where environments are kept for all of these tests.
pub(crate) fn cache() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("kf-test-python-{}", std::process::id()))
}

fn containers() -> LocalContainers {
    LocalContainers::new().rule("alpine*", Runner::Local).rule("python*", Runner::Python).cache(cache())
}

pub(crate) async fn engine(home: &Path) -> Result<Engine, Error> {
    let grace = Duration::from_millis(300);
    Engine::builder().containers(containers()).grace(grace).open(home).await
}

async fn run(executors: &[Json]) -> Result<(RunOutcome, Vec<Json>), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let engine = engine(home.path()).await?;
    let run = engine.start(&pipeline(&chain(executors))?, Args::new()).await?;
    let outcome = run.wait().await?;
    let report = engine.report(run.id()).await?;
    let output =
        |index| report.task(&format!("step-{index}")).and_then(|task| task.outputs.get("Output").cloned());
    let outputs = (0..executors.len()).map(|index| output(index).unwrap_or_default()).collect();
    Ok((outcome, outputs))
}

async fn refused() -> Done {
    let home = tempfile::tempdir()?;
    let engine = Engine::builder().open(home.path()).await?;
    let error =
        engine.start(&pipeline(&chain(&[shell("echo")]))?, Args::new()).await.unwrap_err().to_string();
    assert!(error.contains("component `0`") && error.contains("a command of image `alpine:3`"), "{error}");
    assert!(error.contains("LocalContainers::new().rule("), "{error}");
    let only_python = Engine::builder().containers(LocalContainers::new().rule("*", Runner::Python));
    let only_python = only_python.open(home.path()).await?;
    assert!(only_python.start(&pipeline(&chain(&[shell("echo")]))?, Args::new()).await.is_err());
    assert!(engine.runs(&Default::default()).await?.items.is_empty());
    Ok(())
}

async fn leaks() -> Done {
    let leave = "import os, sys, atexit, logging\ndef f() -> str:\n    os.environ['LEFT'] = '1'\n    os.chdir('/')\n    \
                 sys.modules['left'] = sys\n    logging.getLogger().setLevel(50)\n    kfp.left = 1\n    \
                 atexit.register(lambda: print('atexit ran', flush=True))\n    open('/dev/stdout', 'w').write('x')\n    return 'left'\n";
    let look = "import os, sys, logging\ndef f() -> str:\n    \
                found = [os.environ.get('LEFT'), 'left' in sys.modules, logging.getLogger().level, hasattr(kfp, 'left'),\
                 os.getcwd() == '/', os.environ.get('CARGO_MANIFEST_DIR'), sys.argv[0].endswith('executor_main.py'),\
                 os.getpid() == os.getpgid(0)]\n    return repr(found)\n";
    let (outcome, outputs) = run(&[python("", leave), python("", look)]).await?;
    assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    assert_eq!(outputs[0], "left");
    assert_eq!(outputs[1], "[None, False, 20, False, False, None, True, True]");
    Ok(())
}

async fn ends() -> Done {
    let error_of = async |executor: Json| -> Result<String, Box<dyn std::error::Error>> {
        let (outcome, _) = run(&[executor]).await?;
        Ok(outcome.error.ok_or("it did not fail")?)
    };
    let error = error_of(python("", "import sys\ndef f():\n    sys.exit(3)\n")).await?;
    assert!(error.contains("exit code 3"), "{error}");
    let error = error_of(python("", "import os\ndef f():\n    os.kill(os.getpid(), 9)\n")).await?;
    assert!(error.contains("signal 9 (SIGKILL)"), "{error}");
    let error = error_of(python("", "def f():\n    raise ValueError('what is wrong')\n")).await?;
    assert!(error.contains(": ValueError: what is wrong; its command ended with exit code 1;"), "{error}");
    assert!(
        error.contains("log.txt") && error.trim_end().ends_with("\nValueError: what is wrong"),
        "{error}"
    );
    assert!(!error.contains("executor_input") && !error.contains("outputFile"), "{error}");
    // One that was caught tells nothing of the end.
    let caught = "import logging, sys\ndef f():\n    try:\n        {}['a']\n    except KeyError:\n        logging.exception('no a')\n    \
                  print('b\\n' * 30)\n    sys.exit('what was asked for is bad')\n";
    let error = error_of(python("", caught)).await?;
    assert!(error.contains("what was asked for is bad") && error.contains(": its command ended"), "{error}");
    let error = error_of(python("", "def f(:\n")).await?;
    assert!(error.contains("SyntaxError"), "{error}");
    let error = error_of(shell("echo said; exit 7")).await?;
    assert!(error.contains("exit code 7") && error.contains("said"), "{error}");
    let absent = json!({"container": {"image": "alpine", "command": ["no-such-program"]}});
    let error = error_of(absent).await?;
    assert!(error.contains("no-such-program"), "{error}");
    let asks = json!({"container": {"image": "alpine", "command": ["echo", "{{$.inputs.parameters['x']}}"]}});
    let error = error_of(asks).await?;
    assert!(error.contains("asks for input `x`, which has no value"), "{error}");
    Ok(())
}

async fn canceled() -> Done {
    let witness = tempfile::tempdir()?;
    let file = witness.path().join("pids");
    let source = format!(
        "import os, signal, subprocess, time\ndef f():\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    \
         child = subprocess.Popen(['sleep', '100'])\n    \
         open({0:?}, 'w').write(f'{{os.getpid()}} {{child.pid}} .')\n    time.sleep(100)\n",
        file.display().to_string()
    );
    let home = tempfile::tempdir()?;
    let engine = engine(home.path()).await?;
    let run = engine.start(&pipeline(&chain(&[python("", &source)]))?, Args::new()).await?;
    let pids = loop {
        match std::fs::read_to_string(&file) {
            Ok(text) if text.ends_with('.') => break text,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    run.cancel("enough").await;
    let began = Instant::now();
    assert_eq!(run.wait().await?.state, RunState::Canceled);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for pid in pids.split(' ').filter_map(|pid| pid.parse::<u32>().ok()) {
        gone(pid).await?;
    }
    Ok(())
}

/// Two steps at once that start a process each and note both ids in a file of this folder.
fn starters(folder: &Path) -> Json {
    let file = |name: &str| folder.join(name).display().to_string();
    let source = format!(
        "import os, subprocess, time\ndef f():\n    child = subprocess.Popen(['sleep', '600'])\n    \
         open({0:?}, 'w').write(f'{{os.getppid()}} {{os.getpid()}} {{child.pid}} .')\n    time.sleep(600)\n",
        file("python")
    );
    let script = format!("sleep 600 & echo \"$$ $! .\" > {}; wait", file("shell"));
    let mut spec = chain(&[python("", &source), shell(&script)]);
    spec["root"]["dag"]["tasks"]["step-1"]["dependentTasks"] = json!([]);
    spec
}

/// What they have noted: the process ids, of the server first.
async fn started(folder: &Path) -> Vec<u32> {
    for _ in 0..3000 {
        let texts =
            ["python", "shell"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap_or_default());
        if texts.iter().all(|text| text.trim_end().ends_with('.')) {
            return texts.join(" ").split_whitespace().filter_map(|word| word.parse().ok()).collect();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the steps did not start");
}

/// An engine in a process of its own.
pub(crate) const STARTERS: &str = "starters";

pub(crate) fn worker() -> impl Entry {
    entry(STARTERS, |request| {
        let folder: std::path::PathBuf = request.parse()?;
        let runtime = tokio::runtime::Runtime::new().map_err(WorkerError::failed)?;
        runtime.block_on(async {
            let engine = engine(&folder.join("home")).await.map_err(WorkerError::failed)?;
            let pipeline = pipeline(&starters(&folder)).map_err(WorkerError::failed)?;
            let run = engine.start(&pipeline, Args::new()).await.map_err(WorkerError::failed)?;
            run.wait().await.map(drop).map_err(WorkerError::failed)
        })
    })
}

async fn orphans() -> Done {
    let folder = tempfile::tempdir()?;
    let spawner = Spawner::new()?;
    let child = spawner.spawn(Command::entry(STARTERS, &folder.path())?).await?;
    let pids = started(folder.path()).await;
    assert_eq!(pids.len(), 5);
    child.kill();
    for pid in pids {
        gone(pid).await?;
    }
    // Only the server is killed: its step's child goes with it, the other step goes on.
    let folder = tempfile::tempdir()?;
    let engine = engine(&folder.path().join("home")).await?;
    let run = engine.start(&pipeline(&starters(folder.path()))?, Args::new()).await?;
    let pids = started(folder.path()).await;
    std::process::Command::new("kill").args(["-9", &pids[0].to_string()]).status()?;
    for pid in &pids[..3] {
        gone(*pid).await?;
    }
    assert!(Path::new(&format!("/proc/{}", pids[4])).exists());
    run.cancel("enough").await;
    run.wait().await?;
    gone(pids[4]).await
}

/// That a process ends soon.
async fn gone(pid: u32) -> Done {
    for _ in 0..300 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        if stat.map_or(true, |stat| stat.contains(") Z ")) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("process {pid} is still there").into())
}

async fn killed_server() -> Done {
    let kill = "import os\ndef f():\n    os.kill(os.getppid(), 9)\n    import time; time.sleep(100)\n";
    let (outcome, _) = run(&[python("", kill)]).await?;
    let error = outcome.error.ok_or("it did not fail")?;
    assert!(error.contains("the Python server that ran it has ended"), "{error}");
    // The engine's next step runs in another server.
    let home = tempfile::tempdir()?;
    let engine = engine(home.path()).await?;
    let killer = pipeline(&chain(&[python("", kill)]))?;
    assert_eq!(engine.start(&killer, Args::new()).await?.wait().await?.state, RunState::Failed);
    let next = pipeline(&chain(&[python("", "def f():\n    pass\n")]))?;
    assert_eq!(engine.start(&next, Args::new()).await?.wait().await?.state, RunState::Succeeded);
    Ok(())
}

async fn environments() -> Done {
    let folder = tempfile::tempdir()?;
    let spec = pipeline(&chain(&[python("", "import sys\ndef f() -> str:\n    return sys.prefix\n")]))?;
    let one = |home: &'static str| {
        let (home, cache, spec) = (folder.path().join(home), folder.path().join("python"), spec.clone());
        async move {
            let containers = LocalContainers::new().rule("*", Runner::Python).cache(&cache);
            let engine = Engine::builder().containers(containers).open(home).await?;
            let run = engine.start(&spec, Args::new()).await?;
            let mut made = 0;
            let mut events = run.events();
            while let Some(event) = events.next().await {
                if let RunEvent::TaskProgress { progress, .. } = event {
                    made += usize::from(progress.message.contains("making a Python environment"));
                }
            }
            let report = engine.report(run.id()).await?;
            let prefix = report.task("step-0").and_then(|task| task.outputs.get("Output").cloned());
            Ok::<_, Error>((made, prefix))
        }
    };
    let (first, second) = tokio::join!(one("a"), one("b"));
    let ((first, here), (second, there)) = (first?, second?);
    assert_eq!(first + second, 1);
    assert!(here.is_some() && here == there, "{here:?} {there:?}");
    // Half of one, as a maker leaves it that was killed.
    let made = std::path::PathBuf::from(here.unwrap_or_default().as_str().unwrap_or_default());
    std::fs::remove_file(made.join("kf-ready"))?;
    std::fs::remove_file(made.join("bin").join("python3"))?;
    assert_eq!(one("c").await?.0, 1);
    assert_eq!(one("d").await?.0, 0);
    Ok(())
}

async fn uninstallable() -> Done {
    let step = python("kf-no-such-package-at-all==1.2.3", "def f():\n    pass\n");
    let (outcome, _) = run(&[step]).await?;
    let error = outcome.error.ok_or("it did not fail")?;
    assert!(
        error.contains("environment could not be made") && error.contains("kf-no-such-package"),
        "{error}"
    );
    Ok(())
}

async fn volumes() -> Done {
    if !is_root() {
        println!("skipped: only root may mount");
        return Ok(());
    }
    let claim = tempfile::tempdir()?;
    let place = tempfile::tempdir()?;
    let place = place.path().join("mounted");
    let seen = place.display();
    let write = python(
        "",
        &format!("def f() -> str:\n    open('{seen}/from-python', 'w').write('p')\n    return 'ok'\n"),
    );
    let read = shell(&format!(
        "test -f {seen}/from-python && echo s > {seen}/from-shell && cat {seen}/../mounted/from-python"
    ));
    let mut spec = chain(&[write, read]);
    let mount = json!({"pvcMount": [{"mountPath": seen.to_string(), "pvcNameParameter": {"runtimeValue": {"constant": "data"}}}]});
    let platforms =
        json!({"kubernetes": {"deploymentSpec": {"executors": {"exec-0": mount.clone(), "exec-1": mount}}}});
    spec = json!({"pipeline_spec": spec, "platform_spec": {"platforms": platforms}});
    let home = tempfile::tempdir()?;
    let containers = containers().claim("data", claim.path());
    let engine = Engine::builder().containers(containers).open(home.path()).await?;
    let outcome = engine.start(&pipeline(&spec)?, Args::new()).await?.wait().await?;
    assert_eq!(outcome.state, RunState::Succeeded, "{outcome:?}");
    assert_eq!(std::fs::read_to_string(claim.path().join("from-shell"))?, "s\n");
    assert!(std::fs::read_dir(&place)?.next().is_none(), "others see the volume too");
    // Without a folder for the claim the task says what it lacks.
    let engine = self::engine(home.path()).await?;
    let error = engine.start(&pipeline(&spec)?, Args::new()).await?.wait().await?.error.unwrap_or_default();
    assert!(error.contains("volume claim `data`"), "{error}");
    Ok(())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A pipeline of a step that writes the artifact `out`, and one that reads it as `d`.
fn hand_over(write: Json, read: Json, parameter: bool) -> Json {
    let dataset = json!({"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}});
    let text = json!({"parameterType": "STRING"});
    let mut inputs = json!({"artifacts": {"d": {"taskOutputArtifact": {"producerTask": "write", "outputArtifactKey": "out"}}}});
    let mut declared = json!({"artifacts": {"d": dataset}});
    if parameter {
        inputs = json!({"parameters": {"uri": {"taskOutputParameter": {"producerTask": "write", "outputParameterKey": "Output"}}}});
        declared = json!({"parameters": {"uri": text}});
    }
    json!({
        "pipelineInfo": {"name": "hand-over"},
        "deploymentSpec": {"executors": {"write": write, "read": read}},
        "components": {
            "write": {"executorLabel": "write", "outputDefinitions": {
                "artifacts": {"out": dataset}, "parameters": {"Output": text}}},
            "read": {"executorLabel": "read", "inputDefinitions": declared,
                "outputDefinitions": {"parameters": {"Output": text}}},
        },
        "root": {"dag": {"tasks": {
            "write": {"componentRef": {"name": "write"}},
            "read": {"componentRef": {"name": "read"}, "inputs": inputs},
        }}},
    })
}

async fn outcome_of(spec: &Json) -> Result<(RunOutcome, Json), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let engine = engine(home.path()).await?;
    let run = engine.start(&pipeline(spec)?, Args::new()).await?;
    let outcome = run.wait().await?;
    let report = engine.report(run.id()).await?;
    let output = report.task("read").and_then(|task| task.outputs.get("Output").cloned());
    Ok((outcome, output.unwrap_or_default()))
}

async fn links() -> Done {
    let write = "import os\ndef f(out: Output[Dataset]) -> str:\n    os.makedirs(out.path + '/a/b')\n    \
                 open(out.path + '/a/b/x', 'w').write('x')\n    os.symlink('a/b', out.path + '/folder')\n    \
                 os.symlink('a/b/x', out.path + '/file')\n    return 'ok'\n";
    let read = "import os\ndef f(d: Input[Dataset]) -> str:\n    \
                return open(d.path + '/folder/x').read() + open(d.path + '/file').read()\n";
    let (outcome, output) = outcome_of(&hand_over(python("", write), python("", read), false)).await?;
    assert_eq!((outcome.state, output), (RunState::Succeeded, json!("xx")), "{:?}", outcome.error);
    let around = "import os\ndef f(out: Output[Dataset]) -> str:\n    os.makedirs(out.path + '/a')\n    \
                  os.symlink('..', out.path + '/a/up')\n    return 'ok'\n";
    let (outcome, _) = outcome_of(&hand_over(python("", around), python("", read), false)).await?;
    let error = outcome.error.unwrap_or_default();
    assert!(error.contains("leads around it"), "{error}");
    // What lies elsewhere is not the step's, though the engine may be able to read it.
    let outside = tempfile::tempdir()?;
    let secret = outside.path().canonicalize()?.join("secret");
    std::fs::write(&secret, "secret")?;
    let says = format!("leads to `{}`, outside of the attempt's folder", secret.display());
    for body in ["os.symlink(SECRET, out.path)", "os.mkdir(out.path); os.symlink(SECRET, out.path + '/x')"] {
        let body = body.replace("SECRET", &format!("{:?}", secret.display().to_string()));
        let step = format!("import os\ndef f(out: Output[Dataset]) -> str:\n    {body}\n    return 'ok'\n");
        let (outcome, _) = outcome_of(&hand_over(python("", &step), python("", read), false)).await?;
        let error = outcome.error.unwrap_or_default();
        assert!(error.contains("output `out`: the link `") && error.contains(&says), "{error}");
    }
    let file = "{{$.outputs.parameters['Output'].output_file}}";
    let (outcome, _) = run(&[shell(&format!("ln -s {} {file}", secret.display()))]).await?;
    let error = outcome.error.unwrap_or_default();
    assert!(error.contains("it is a link to `") && error.contains("secret`; write a file"), "{error}");
    let elsewhere = outside.path().canonicalize()?;
    std::fs::write(elsewhere.join("Output"), "secret")?;
    let replace = format!("folder=$(dirname {file}); rm -r $folder; ln -s {} $folder", elsewhere.display());
    let (outcome, _) = run(&[shell(&replace)]).await?;
    let error = outcome.error.unwrap_or_default();
    assert!(error.contains("its folder was replaced by a link"), "{error}");
    Ok(())
}

async fn paths() -> Done {
    let write =
        "def f(out: Output[Dataset]) -> str:\n    open(out.path, 'w').write('content')\n    return out.uri\n";
    let read = "def f(uri: str) -> str:\n    return open(uri).read()\n";
    let (outcome, output) = outcome_of(&hand_over(python("", write), python("", read), true)).await?;
    assert_eq!((outcome.state, output), (RunState::Succeeded, json!("content")), "{:?}", outcome.error);
    Ok(())
}

async fn parallel() -> Done {
    let sleeps = python("", "import time\ndef f(s: float):\n    time.sleep(s)\n");
    let spec = json!({
        "pipelineInfo": {"name": "sleeps"},
        "deploymentSpec": {"executors": {"exec": sleeps}},
        "components": {"sleep": {"executorLabel": "exec", "inputDefinitions": {"parameters": {"s": {"parameterType": "NUMBER_DOUBLE"}}}}},
        "root": {"dag": {"tasks": {"sleep": {
            "componentRef": {"name": "sleep"},
            "parameterIterator": {"itemInput": "s", "items": {"raw": "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"}},
        }}}},
    });
    let home = tempfile::tempdir()?;
    let engine = engine(home.path()).await?;
    let warm = engine.start(&pipeline(&chain(&[python("", "def f():\n    pass\n")]))?, Args::new()).await?;
    warm.wait().await?;
    let began = Instant::now();
    let outcome = engine.start(&pipeline(&spec)?, Args::new()).await?.wait().await?;
    assert_eq!(outcome.tasks.succeeded, 12, "{outcome:?}");
    // One after another they take 12 s.
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    Ok(())
}
