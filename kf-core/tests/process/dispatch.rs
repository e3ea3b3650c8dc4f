//! From the environment to the entry that was asked for.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use kf_core::process::{Command, Exit, Spawner};
use kf_core::worker::{EXIT_FAILED, EXIT_PANIC, EXIT_REFUSED, Request, WorkerError, Workers, entry};

/// What the workers' setup is to do.
const SETUP: &str = "KF_TEST_SETUP";

/// Says when it goes.
struct Kept;

impl Drop for Kept {
    fn drop(&mut self) {
        println!("put away");
    }
}

pub(crate) fn workers() -> Workers {
    let ahead = super::ahead::ENTRIES.map(|name| entry(name, greet_and_answer));
    ahead
        .into_iter()
        .fold(Workers::new(), Workers::with)
        .setup(|| match std::env::var(SETUP).as_deref() {
            Ok("fails") => Err(WorkerError::failed("nothing to set up")),
            Ok(_) => {
                println!("set up");
                Ok(Some(Kept))
            }
            Err(_) => Ok(None),
        })
        .with(entry("greet", |request| {
            println!("hello, {}", request.parse::<String>()?);
            Ok(())
        }))
        .with(entry("fail", |_| {
            Err(WorkerError::failed(std::io::Error::other("the middle").to_string() + " went wrong"))
        }))
        .with(entry("panic", |_| panic!("deliberately")))
        .with(entry("twice", |_| Ok(())))
        .with(entry("twice", |_| Ok(())))
        .with(entry("runtime", |_| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(WorkerError::failed)?.block_on(async {});
            println!("ran");
            Ok(())
        }))
        .with(entry("answer", |request| {
            let mut input = String::new();
            std::io::stdin().read_to_string(&mut input).map_err(WorkerError::failed)?;
            request.answer(&"an earlier and longer answer")?;
            request.answer(&(request.parse::<String>()?, input))?;
            // What it starts itself gets nothing of either.
            let cat = std::process::Command::new("cat").output().map_err(WorkerError::failed)?;
            println!("{} bytes", cat.stdout.len());
            Ok(())
        }))
        .with(entry("flood", |request| {
            let bytes: usize = request.parse()?;
            let mut out = std::io::stdout().lock();
            let line = [&[b'x'; 99][..], b"\n"].concat();
            writeln!(out, "first line").map_err(WorkerError::failed)?;
            for _ in 0..bytes / line.len() {
                out.write_all(&line).map_err(WorkerError::failed)?;
            }
            writeln!(out, "last line").map_err(WorkerError::failed)
        }))
        .with(entry("sleep", |_| {
            println!("asleep");
            std::thread::sleep(Duration::from_secs(600));
            Ok(())
        }))
        .with(entry("environment", |_| {
            let cwd = std::env::current_dir().map_err(WorkerError::failed)?;
            println!("cwd {}", cwd.display());
            println!("A {:?} HOME {:?}", std::env::var("KF_TEST_A"), std::env::var("HOME"));
            Ok(())
        }))
        .with(entry("itself", |_| {
            // Its variables are inherited.
            let program = std::env::current_exe().map_err(WorkerError::failed)?;
            let listed = std::process::Command::new(program).arg("--list").output();
            let listed = listed.map_err(WorkerError::failed)?;
            let text = String::from_utf8_lossy(&listed.stdout);
            println!("{}: {}", listed.status, text.contains("dispatch::itself: test"));
            Ok(())
        }))
        .with(entry("parent", |request| {
            let (witness, kill_guard): (PathBuf, bool) = request.parse()?;
            super::orphans::parent(&witness, kill_guard)
        }))
}

fn greet_and_answer(request: Request) -> Result<(), WorkerError> {
    let (name, mut input) = (request.parse::<String>()?, String::new());
    std::io::stdin().read_to_string(&mut input).map_err(WorkerError::failed)?;
    println!("hello, {name}; {} bytes", input.len());
    request.answer(&name)
}

async fn run(command: Command) -> (Exit, String) {
    let spawner = Spawner::new().unwrap();
    let child = spawner.spawn(command).await.unwrap();
    let exit = child.wait().await;
    assert_eq!(child.exit(), Some(exit));
    (exit, child.tail(50).join("\n"))
}

fn code(code: u8) -> Exit {
    Exit::Code(code.into())
}

pub(crate) async fn success_and_failure() {
    let (exit, said) = run(Command::entry("greet", &"Ada").unwrap()).await;
    assert_eq!((exit, said.as_str()), (Exit::Code(0), "hello, Ada"));
    let (exit, said) = run(Command::entry("fail", &()).unwrap()).await;
    assert_eq!((exit, said.as_str()), (code(EXIT_FAILED), "error: the middle went wrong"));
}

pub(crate) async fn unknown_entry() {
    let (exit, said) = run(Command::entry("gret", &()).unwrap()).await;
    assert_eq!(exit, code(EXIT_REFUSED));
    assert!(said.contains("no worker entry `gret`"), "{said}");
    assert!(said.contains("greet, itself, panic, parent"), "{said}");
}

pub(crate) async fn duplicate_entry() {
    let (exit, said) = run(Command::entry("twice", &()).unwrap()).await;
    assert_eq!(exit, code(EXIT_REFUSED));
    assert!(said.contains("two worker entries are named `twice`"), "{said}");
}

pub(crate) async fn wrong_request() {
    let (exit, said) = run(Command::entry("greet", &[1, 2]).unwrap()).await;
    assert_eq!(exit, code(EXIT_FAILED));
    assert!(said.contains("bad request for worker entry `greet`"), "{said}");
    let missing = Command::entry("greet", &()).unwrap();
    // The spawner's own variables win over the caller's.
    let (exit, _) = run(missing.env("KF_WORKER_REQUEST", "/nowhere")).await;
    assert_eq!(exit, code(EXIT_FAILED));
}

pub(crate) async fn setup() {
    let (exit, said) = run(Command::entry("greet", &"Ada").unwrap().env(SETUP, "")).await;
    assert_eq!((exit, said.as_str()), (code(0), "set up\nhello, Ada\nput away"));
    let (exit, said) = run(Command::entry("panic", &()).unwrap().env(SETUP, "")).await;
    assert_eq!(exit, code(EXIT_PANIC));
    let (up, down) = (said.find("set up"), said.find("put away"));
    assert!(up < said.find("deliberately") && said.find("deliberately") < down, "{said}");
    let (exit, said) = run(Command::entry("greet", &"Ada").unwrap().env(SETUP, "fails")).await;
    assert_eq!(exit, code(EXIT_REFUSED));
    assert!(said.contains("nothing to set up") && !said.contains("hello"), "{said}");
    let (exit, said) = run(Command::program("echo", ["became"]).env(SETUP, "")).await;
    assert_eq!((exit, said.as_str()), (code(0), "became"), "nothing is set up for another program");
}

pub(crate) async fn panic() {
    let (exit, said) = run(Command::entry("panic", &()).unwrap()).await;
    assert_eq!(exit, code(EXIT_PANIC));
    assert!(said.contains("deliberately"), "{said}");
}

pub(crate) async fn runtime_inside() {
    assert_eq!(run(Command::entry("runtime", &()).unwrap()).await, (Exit::Code(0), "ran".to_owned()));
}

pub(crate) async fn answers() {
    let spawner = Spawner::new().unwrap();
    let long = "x".repeat(1 << 20);
    let child = spawner.spawn(Command::entry("answer", &long).unwrap()).await.unwrap();
    assert_eq!(child.wait().await, Exit::Code(0));
    assert_eq!(child.answer().unwrap(), serde_json::to_vec(&(long, "")).unwrap());
    assert_eq!(child.tail(1), ["0 bytes"]);
    let child = spawner.spawn(Command::entry("greet", &"Ada").unwrap()).await.unwrap();
    child.wait().await;
    assert_eq!(child.answer().unwrap(), b"");
    let (exit, said) = run(Command::program("wc", ["-c"])).await;
    assert_eq!((exit, said.as_str()), (Exit::Code(0), "0"), "another program reads nothing of it");
}

/// A worker may start its own program as a person would.
pub(crate) async fn itself() {
    let spawner = Spawner::new().unwrap();
    for command in [Command::entry("itself", &()).unwrap(), Command::entry("itself", &()).unwrap().ahead()] {
        for _ in 0..2 {
            let child = spawner.spawn(command.clone()).await.unwrap();
            assert_eq!(child.wait().await, Exit::Code(0));
            assert_eq!(child.tail(1), ["exit status: 0: true"]);
        }
    }
}

pub(crate) async fn foreign_program() {
    let script = "echo out; echo err >&2; echo worker=${KF_WORKER:-unset}; exit 7";
    let (exit, said) = run(Command::program("sh", ["-c", script])).await;
    assert_eq!((exit, said.as_str()), (Exit::Code(7), "out\nerr\nworker=unset"));
    let (exit, _) = run(Command::program("sh", ["-c", "kill -SEGV $$"])).await;
    assert_eq!(exit.to_string(), "signal 11 (SIGSEGV)");
}

pub(crate) async fn missing_program() {
    let (exit, said) = run(Command::program("no-such-program-here", [""; 0])).await;
    assert_eq!(exit, code(EXIT_REFUSED));
    assert!(said.contains("can't start `no-such-program-here`"), "{said}");
}

/// A worker that finds another parent than the one that started it ends at once.
pub(crate) async fn wrong_parent() {
    let output = tokio::process::Command::new("/proc/self/exe")
        .env("KF_WORKER", "greet")
        .env("KF_WORKER_PARENT", "1")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(EXIT_REFUSED.into()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the process 1 that started this worker is gone"), "{said}");
}
