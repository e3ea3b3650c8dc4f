//! Several tasks and processes on one file, and processes that are killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use kf_core::Digest;
use kf_registry::{
    AliasChange, Error, Expected, ModelName, NewVersion, PageRequest, Registry, SqliteRegistry,
};

fn name() -> ModelName {
    "m".parse().unwrap()
}

fn new(text: &str) -> NewVersion {
    NewVersion::new(name(), Digest::of(text), format!("memory:{text}"), 1).made_by("run", text)
}

async fn numbers(registry: &SqliteRegistry) -> Vec<u32> {
    let mut request = PageRequest::first(1000);
    let mut numbers = Vec::new();
    loop {
        let page = registry.versions(&name(), request.clone()).await.unwrap();
        numbers.extend(page.items.iter().map(|version| version.number));
        let Some(token) = page.next else { break };
        request = request.after(token);
    }
    numbers.reverse();
    numbers
}

/// The body of a child process: registers `KF_REGISTRY_TEXTS` texts from `KF_REGISTRY_FIRST` on, and says
/// each number once it is given.
#[tokio::test]
#[ignore = "the body of a child process that other tests start"]
async fn child() {
    let Ok(path) = std::env::var("KF_REGISTRY_FILE") else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u32>().unwrap();
    let registry = SqliteRegistry::open(path).await.unwrap();
    let first = number("KF_REGISTRY_FIRST");
    for text in first..first + number("KF_REGISTRY_TEXTS") {
        match registry.register(new(&text.to_string())).await {
            Ok(made) => println!("registered {text} {} {}", made.version.number, made.created),
            Err(error) => {
                println!("stopped retryable={} {error}", error.is_retryable());
                return;
            }
        }
    }
}

fn start(path: &Path, first: u32, texts: u32) -> Child {
    start_by(Command::new(std::env::current_exe().unwrap()), path, first, texts)
}

fn start_by(mut command: Command, path: &Path, first: u32, texts: u32) -> Child {
    command
        .args(["processes::child", "--exact", "--ignored", "--nocapture"])
        .env("KF_REGISTRY_FILE", path)
        .env("KF_REGISTRY_FIRST", first.to_string())
        .env("KF_REGISTRY_TEXTS", texts.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A child's answer: text, number, whether it made the version.
fn answer(line: &str) -> Option<(u32, u32, bool)> {
    // The harness may have put its own words before the first answer.
    let mut words = line.split_once("registered ")?.1.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_and_handles_register_the_same_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let path = path.clone();
        tasks.spawn(async move {
            // Opened at once: creating and migrating race too.
            let registry = Arc::new(SqliteRegistry::open(path).await.unwrap());
            let mut inner = tokio::task::JoinSet::new();
            for i in 0..40 {
                let registry = registry.clone();
                inner.spawn(
                    async move { registry.register(new(&(i % 10).to_string())).await.unwrap().created },
                );
            }
            inner.join_all().await.into_iter().filter(|created| *created).count()
        });
    }
    let created: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(created, 10);
    let registry = SqliteRegistry::open(&path).await.unwrap();
    assert_eq!(numbers(&registry).await, (1..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_register_the_same_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    let children = [start(&path, 0, 40), start(&path, 0, 40)];
    let mut answers = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        answers.push(text.lines().filter_map(answer).collect::<Vec<_>>());
    }
    assert_eq!((answers[0].len(), answers[1].len()), (40, 40));
    for (one, other) in answers[0].iter().zip(&answers[1]) {
        assert_eq!((one.0, one.1), (other.0, other.1), "the same text has two numbers");
        assert!(one.2 != other.2, "text {} was made by both, or by neither", one.0);
    }
    let registry = SqliteRegistry::open(&path).await.unwrap();
    assert_eq!(numbers(&registry).await, (1..=40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_at_any_moment_leaves_a_consistent_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    let mut told = BTreeSet::new();
    let mut killed_half_way = 0;
    for round in 0..12_u32 {
        // Each round starts a little before where the last one was killed, as a program that resumes does.
        let first = u32::try_from(told.len()).unwrap().saturating_sub(3);
        let mut child = start(&path, first, 100_000);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut answers = Vec::new();
        if round < 4 {
            // While the file is made and migrated, or soon after.
            std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 15));
        } else {
            while answers.len() < 5 + 2 * round as usize {
                answers.extend(answer(&lines.next().unwrap().unwrap()));
            }
            std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 300));
        }
        child.kill().unwrap();
        answers.extend(lines.map_while(Result::ok).filter_map(|line| answer(&line)));
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it ended by itself");
        killed_half_way += u32::from(!answers.is_empty());
        told.extend(answers.iter().map(|(text, number, _)| (*text, *number)));

        let registry = SqliteRegistry::open(&path).await.unwrap();
        let there = match registry.model(&name()).await {
            Ok(model) => model.versions,
            Err(Error::NotFound { .. }) => 0,
            Err(error) => panic!("{error}"),
        };
        if there > 0 {
            assert_eq!(numbers(&registry).await, (1..=there).collect::<Vec<_>>(), "round {round}");
        }
        for (text, number) in &told {
            let version = registry.version(&name(), *number).await.unwrap();
            assert_eq!(version.digest, Digest::of(text.to_string()), "version {number} holds other content");
        }
        // Nothing is half there: every version has its link to the run.
        let mut linked = 0;
        let mut request = PageRequest::first(1000);
        loop {
            let page = registry.versions_of_run("run", request.clone()).await.unwrap();
            linked += page.items.len();
            let Some(token) = page.next else { break };
            request = request.after(token);
        }
        assert_eq!(linked, there as usize, "round {round}");
        registry.close().await;
    }
    assert!(killed_half_way >= 8, "{killed_half_way} kills hit a process that was registering");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_handles_that_move_an_alias_one_wins_each_round() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    let mut handles = Vec::new();
    for _ in 0..3 {
        handles.push(Arc::new(SqliteRegistry::open(&path).await.unwrap()));
    }
    for i in 0..20 {
        handles[0].register(new(&i.to_string())).await.unwrap();
    }
    let mut holds = None;
    for round in 0..4 {
        let expected = holds.map_or(Expected::Unset, Expected::Version);
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..12_u32 {
            let registry = handles[task as usize % 3].clone();
            // Every task of every round wants a version of its own, never the one that is held.
            let to = 1 + (task + round * 12) % 20;
            if Some(to) == holds {
                continue;
            }
            let change = AliasChange::set(name(), "champion".parse().unwrap(), to, format!("task-{task}"));
            tasks.spawn(async move { registry.change_alias(change.expecting(expected)).await });
        }
        let mut winners = Vec::new();
        for answer in tasks.join_all().await {
            match answer {
                Ok(changed) => winners.push(changed),
                Err(error) => assert!(matches!(error, Error::AliasConflict(_)), "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert!(winners[0].changed && winners[0].event.from == holds);
        holds = winners[0].event.to;
    }
    let alias = "champion".parse().unwrap();
    let history = handles[1].alias_history(&name(), &alias, PageRequest::default()).await.unwrap();
    assert_eq!(history.items.len(), 4);
    assert!(history.items.windows(2).all(|pair| pair[0].from == pair[1].to), "the log is a chain");
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    // Files may grow no further than this many blocks, as on a disk that is full.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap());
    let output = start_by(command, &path, 0, 100_000).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let told: Vec<_> = text.lines().filter_map(answer).collect();
    let stopped = text.lines().find(|line| line.contains("stopped ")).unwrap_or("it never stopped");
    assert!(stopped.contains("retryable=true") && stopped.contains("r.sqlite"), "{stopped}");
    assert!(told.len() > 10, "only {} versions fitted", told.len());

    // There is space again: all that was told is there, and it goes on.
    let registry = SqliteRegistry::open(&path).await.unwrap();
    let there = registry.model(&name()).await.unwrap().versions;
    assert_eq!(numbers(&registry).await, (1..=there).collect::<Vec<_>>());
    for (text, number, _) in &told {
        let version = registry.version(&name(), *number).await.unwrap();
        assert_eq!(version.digest, Digest::of(text.to_string()));
    }
    assert!(there as usize - told.len() <= 1, "{there} versions, and {} were told", told.len());
    assert!(registry.register(new("after")).await.unwrap().created);
}

#[tokio::test]
async fn another_processs_long_write_is_waited_for() {
    use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.sqlite");
    let registry = SqliteRegistry::open(&path).await.unwrap();
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let waiting = registry.register(new("x"));
    let release = async {
        // Longer than SQLite's own patience of five seconds.
        tokio::time::sleep(std::time::Duration::from_millis(5600)).await;
        held.rollback().await.unwrap();
    };
    let (made, ()) = futures::join!(waiting, release);
    assert!(made.unwrap().created);
}
