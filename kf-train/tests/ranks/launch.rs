//! The launcher and its jobs, with no libtorch in them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kf_core::CancellationToken;
use kf_core::process::{Command, Exit, Spawner};
use kf_core::worker::{WorkerError, Workers, entry};
use kf_train::{
    Error, Job, JobEnd, JobEvent, Launcher, LocalLauncher, Progress, Rank, RankEnd, Result, ranks,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use super::{HANG, lives, pids, trial, until};

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("echo", echo))
        .with(ranks("misbehave", misbehave))
        .with(ranks("report", report))
        .with(ranks("nan", |_: &Rank, (): ()| Ok::<_, Error>(f64::NAN)))
        .with(ranks("leave", |_: &Rank, (): ()| -> Result<()> { std::process::exit(0) }))
        .with(ranks("witness", witness))
        .with(entry("launch-and-wait", launch_and_wait))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("launch::result_and_environment", result_and_environment),
        trial("launch::foreign_program", foreign_program),
        trial("launch::a_rank_exits", a_rank_exits),
        trial("launch::a_rank_returns_an_error", a_rank_returns_an_error),
        trial("launch::a_rank_panics", a_rank_panics),
        trial("launch::a_rank_is_killed", a_rank_is_killed),
        trial("launch::a_rank_hangs_before_its_function", a_rank_hangs_before_its_function),
        trial("launch::a_program_that_does_not_exist", a_program_that_does_not_exist),
        trial("launch::an_unknown_entry", an_unknown_entry),
        trial("launch::wrong_jobs", wrong_jobs),
        trial("launch::timeout", timeout),
        trial("launch::cancel", cancel),
        trial("launch::dropped_run", dropped_run),
        trial("launch::dropped_launcher", dropped_launcher),
        trial("launch::progress_and_lines", progress_and_lines),
        trial("launch::same_attempt_is_the_same_job", same_attempt_is_the_same_job),
        trial("launch::results_that_are_not_json", results_that_are_not_json),
        trial("launch::no_result", no_result),
        trial("launch::foreign_progress", foreign_progress),
        trial("launch::no_orphan_after_sigkill", no_orphan_after_sigkill),
        trial("launch::restarts", restarts),
        trial("launch::stderr_apart", stderr_apart),
        trial("launch::several_nodes", several_nodes),
    ]
}

type Echo = (BTreeMap<String, i64>, Vec<Option<String>>);

fn echo(rank: &Rank, args: BTreeMap<String, i64>) -> Result<Echo> {
    println!("rank {} speaks", rank.rank());
    let names = ["WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID", "MINE"];
    Ok((args, names.map(|name| std::env::var(name).ok()).into()))
}

#[derive(Debug, Serialize, Deserialize)]
struct Misdeed {
    rank: usize,
    how: String,
    witness: Option<PathBuf>,
}

fn misbehave(
    rank: &Rank,
    deed: Misdeed,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if let Some(path) = &deed.witness {
        // In one write: several ranks do so at once.
        let line = format!("{}\n", std::process::id());
        std::fs::File::options().append(true).create(true).open(path)?.write_all(line.as_bytes())?;
    }
    if rank.rank() != deed.rank {
        std::thread::sleep(Duration::from_secs(600));
    }
    println!("about to {}", deed.how);
    match deed.how.as_str() {
        "exit" => std::process::exit(3),
        "error" => Err("no more memory for `layer3`".into()),
        "panic" => panic!("the middle was empty"),
        "kill" => {
            let pid = rustix::process::getpid();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            Ok(())
        }
        _ => {
            std::thread::sleep(Duration::from_secs(600));
            Ok(())
        }
    }
}

fn deed(rank: usize, how: &str) -> Misdeed {
    Misdeed { rank, how: how.into(), witness: None }
}

fn report(rank: &Rank, (): ()) -> Result<u64> {
    for epoch in 0..5 {
        rank.report(Progress::new().epoch(epoch).fraction(epoch as f64 / 4.0).metric("loss", f64::NAN));
    }
    println!("reported");
    Ok(7)
}

fn witness(rank: &Rank, path: PathBuf) -> Result<()> {
    let _ = misbehave(rank, Misdeed { rank: 0, how: "sleep".into(), witness: Some(path) });
    Ok(())
}

fn launch_and_wait(request: kf_core::worker::Request) -> Result<(), WorkerError> {
    let (folder, path): (PathBuf, PathBuf) = request.parse()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(WorkerError::failed)?;
    let launcher = LocalLauncher::new(folder);
    let job = Job::ranks("witness", 2).args(&path);
    runtime.block_on(launcher.run::<()>(job)).map_err(WorkerError::failed)
}

async fn result_and_environment(launcher: LocalLauncher) {
    let args = BTreeMap::from([("a".to_owned(), 1_i64)]);
    let job = Job::ranks("echo", 3).args(&args).env("MINE", "yes").attempt_id("echo-1").threads_per_rank(2);
    let (back, env): Echo = launcher.run(job).await.unwrap();
    assert_eq!(back, args);
    assert_eq!(env, ["3", "0", "0", "2", "echo-1", "yes"].map(|value| Some(value.to_owned())));
}

async fn foreign_program(launcher: LocalLauncher) {
    let script = "echo $RANK/$WORLD_SIZE $MASTER_ADDR worker=${KF_WORKER:-none}; test $MASTER_PORT -gt 0";
    let job = Job::command("sh", ["-c", script], 2).attempt_id("sh");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = lines.clone();
    launcher.run::<()>(job.on_line(move |line| heard.lock().unwrap().push(line.to_owned()))).await.unwrap();
    let mut lines = lines.lock().unwrap().clone();
    lines.sort();
    assert_eq!(lines, ["[rank 0] 0/2 127.0.0.1 worker=none", "[rank 1] 1/2 127.0.0.1 worker=none"]);
    // torch.distributed.elastic's way of telling an error is understood from any program.
    let script = r#"if [ $RANK = 1 ]; then
        echo '{"message": {"message": "ValueError: bad", "extraInfo": {}}}' > "$TORCHELASTIC_ERROR_FILE"; exit 1
    fi; sleep 600"#;
    let error = launcher.run::<()>(Job::command("sh", ["-c", script], 2)).await.unwrap_err();
    assert!(error.to_string().contains("rank 1 of 2 ended with exit code 1: ValueError: bad"), "{error}");
}

async fn failure(launcher: &LocalLauncher, job: Job) -> (kf_train::Failure, String, Duration) {
    let began = Instant::now();
    let error = launcher.run::<()>(job).await.unwrap_err();
    let took = began.elapsed();
    let text = error.to_string();
    assert!(error.is_retryable());
    let Error::RankFailed { failure, .. } = error else { panic!("{text}") };
    (*failure, text, took)
}

async fn a_rank_exits(launcher: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witness");
    let misdeed = Misdeed { witness: Some(path.clone()), ..deed(1, "exit") };
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = ends.clone();
    let job = Job::ranks("misbehave", 3).args(&misdeed).on_event(move |event| {
        if let JobEvent::RankEnded { rank, exit } = event {
            seen.lock().unwrap().push((*rank, *exit, Instant::now()));
        }
    });
    let (failure, text, _) = failure(&launcher, job).await;
    assert_eq!((failure.rank, failure.end), (1, RankEnd::Exited(Exit::Code(3))));
    assert_eq!(failure.last_lines, ["about to exit"]);
    assert!(
        text.starts_with(
            "job `misbehave`: rank 1 of 3 ended with exit code 3; its last lines:\n  about to exit"
        ),
        "{text}"
    );
    let ends = ends.lock().unwrap().clone();
    assert_eq!(ends.len(), 3, "{ends:?}");
    assert_eq!(ends[0].0, 1);
    assert!(ends[1..].iter().all(|(_, exit, _)| *exit == Exit::Signal(15)), "{ends:?}");
    let took = ends[2].2 - ends[0].2;
    assert!(took < Duration::from_secs(10), "the others took {took:?} to end");
    assert!(pids(&path).into_iter().all(|pid| !lives(pid)));
}

async fn a_rank_returns_an_error(launcher: LocalLauncher) {
    let (failure, text, _) = failure(&launcher, Job::ranks("misbehave", 2).args(&deed(0, "error"))).await;
    assert_eq!(failure.message.as_deref(), Some("no more memory for `layer3`"));
    assert!(text.contains("rank 0 of 2 ended with exit code 1: no more memory for `layer3`"), "{text}");
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(failure.log.with_file_name("error.json")).unwrap()).unwrap();
    assert_eq!(file["message"]["message"], "no more memory for `layer3`");
}

async fn a_rank_panics(launcher: LocalLauncher) {
    let (failure, text, _) = failure(&launcher, Job::ranks("misbehave", 2).args(&deed(1, "panic"))).await;
    assert_eq!(failure.end, RankEnd::Exited(Exit::Code(101)));
    assert!(text.contains("rank 1 of 2 ended with exit code 101: panicked: the middle was empty"), "{text}");
}

async fn a_rank_is_killed(launcher: LocalLauncher) {
    let (failure, text, _) = failure(&launcher, Job::ranks("misbehave", 2).args(&deed(1, "kill"))).await;
    assert_eq!((failure.rank, failure.end), (1, RankEnd::Exited(Exit::Signal(9))));
    assert!(
        text.contains("rank 1 of 2 ended with signal 9 (SIGKILL); its last lines:\n  about to kill"),
        "{text}"
    );
}

async fn a_rank_hangs_before_its_function(launcher: LocalLauncher) {
    let job =
        Job::ranks("misbehave", 2).args(&deed(5, "")).env(HANG, "1").start_timeout(Duration::from_secs(20));
    let (failure, text, _) = failure(&launcher, job).await;
    assert_eq!((failure.rank, failure.end), (1, RankEnd::NotStarted(20.0)));
    assert!(
        text.contains("rank 1 of 2 did not start within 20 s; its last lines:\n  hanging in main"),
        "{text}"
    );
}

async fn a_program_that_does_not_exist(launcher: LocalLauncher) {
    let (_, text, _) = failure(&launcher, Job::command("no-such-program", [""; 0], 2)).await;
    assert!(text.contains("can't start `no-such-program`"), "{text}");
}

async fn an_unknown_entry(launcher: LocalLauncher) {
    let (_, text, _) = failure(&launcher, Job::ranks("ecko", 2)).await;
    assert!(text.contains("no worker entry `ecko`") && text.contains("echo"), "{text}");
}

async fn wrong_jobs(launcher: LocalLauncher) {
    for (job, expected) in [
        (Job::ranks("echo", 0), "it has 0 ranks"),
        (Job::ranks("echo", 1).threads_per_rank(0), "threads_per_rank is 0"),
        (Job::ranks("echo", 1).env("A=B", ""), "can't name an environment variable"),
        (Job::ranks("echo", 1).attempt_id("../up"), "attempt id \"../up\""),
        (Job::command("sh", ["-c"], 1).args(&1), "a foreign program gets its arguments"),
    ] {
        let error = launcher.run::<()>(job).await.unwrap_err();
        assert!(matches!(error, Error::Job { .. }) && !error.is_retryable());
        assert!(error.to_string().contains(expected), "{error}");
    }
    let (_, text, _) = failure(&launcher, Job::ranks("echo", 1).args(&"not a map")).await;
    assert!(text.contains("the job's arguments do not fit `echo`"), "{text}");
}

async fn timeout(launcher: LocalLauncher) {
    let job = Job::ranks("misbehave", 2).args(&deed(0, "sleep")).timeout(Duration::from_secs(1));
    let error = launcher.run::<()>(job).await.unwrap_err();
    assert_eq!(error.to_string(), "job `misbehave` was not done within 1s; its ranks were ended");
}

async fn cancel(launcher: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witness");
    let token = CancellationToken::new();
    let job = Job::ranks("witness", 2).args(&path).cancel_with(token.clone());
    let (result, ()) = tokio::join!(launcher.run::<()>(job), async {
        until("both ranks run", || pids(&path).len() == 2).await;
        token.cancel();
    });
    assert!(matches!(result, Err(Error::Canceled { .. })), "{result:?}");
    assert!(pids(&path).into_iter().all(|pid| !lives(pid)), "no rank is left when `run` returns");
}

async fn dropped_run(launcher: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witness");
    let job = Job::ranks("witness", 2).args(&path);
    tokio::select! {
        result = launcher.run::<()>(job) => panic!("{result:?}"),
        () = until("both ranks run", || pids(&path).len() == 2) => {}
    }
    until("the ranks are gone", || pids(&path).into_iter().all(|pid| !lives(pid))).await;
}

async fn dropped_launcher(launcher: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witness");
    let spec = Job::ranks("witness", 2).args(&path).spec().unwrap().clone();
    let handle = launcher.submit(spec, "dropped").await.unwrap();
    let events = launcher.events(&handle).await.unwrap();
    until("both ranks run", || pids(&path).len() == 2).await;
    drop(launcher);
    let last = events.collect::<Vec<_>>().await.pop();
    assert_eq!(last, Some(JobEvent::Ended(JobEnd::Canceled)));
    assert!(pids(&path).into_iter().all(|pid| !lives(pid)));
}

async fn progress_and_lines(launcher: LocalLauncher) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let job = Job::ranks("report", 2)
        .attempt_id("r")
        .on_event(move |event| seen.lock().unwrap().push(event.clone()));
    assert_eq!(launcher.run::<u64>(job).await.unwrap(), 7);
    let events = events.lock().unwrap().clone();
    for wanted in 0..2 {
        let epochs: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                JobEvent::Progress { rank, progress } if *rank == wanted => {
                    assert!(progress.metrics["loss"].is_nan());
                    progress.epoch
                }
                _ => None,
            })
            .collect();
        assert_eq!(epochs, [0, 1, 2, 3, 4]);
        let started = |event: &JobEvent| matches!(event, JobEvent::RankStarted { rank, pid: Some(_) } if *rank == wanted);
        assert!(events.iter().any(started));
        assert!(events.contains(&JobEvent::Line { rank: wanted, line: "reported".into(), stderr: false }));
        assert!(events.contains(&JobEvent::RankEnded { rank: wanted, exit: Exit::Code(0) }));
    }
    assert_eq!(events.last(), Some(&JobEvent::Ended(JobEnd::Succeeded { result: 7.into() })));
    let handle = kf_train::JobHandle::new("local", "r");
    assert_eq!(launcher.logs(&handle, 1).await.unwrap(), "reported\n");
    assert!(matches!(launcher.logs(&handle, 2).await, Err(Error::Job { .. })));
}

async fn same_attempt_is_the_same_job(launcher: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witness");
    let spec = Job::ranks("witness", 2).args(&path).spec().unwrap().clone();
    let first = launcher.submit(spec.clone(), "one").await.unwrap();
    let second = launcher.submit(spec.clone(), "one").await.unwrap();
    assert_eq!(first, second);
    let stored = serde_json::to_string(&first).unwrap();
    launcher.attach(&serde_json::from_str(&stored).unwrap()).await.unwrap();
    until("both ranks run", || pids(&path).len() == 2).await;
    let other = Job::ranks("witness", 3).args(&path).spec().unwrap().clone();
    assert!(matches!(launcher.submit(other, "one").await, Err(Error::Conflict { .. })));
    let unknown = kf_train::JobHandle::new("local", "two");
    assert!(matches!(launcher.attach(&unknown).await, Err(Error::Unknown { .. })));
    assert!(!launcher.jobs_outlive_caller());
    let events = launcher.events(&first).await.unwrap();
    launcher.cancel(&first).await.unwrap();
    assert_eq!(events.collect::<Vec<_>>().await.pop(), Some(JobEvent::Ended(JobEnd::Canceled)));
    // Who comes late learns the end.
    let late = launcher.events(&first).await.unwrap().collect::<Vec<_>>().await;
    assert_eq!(late, [JobEvent::Ended(JobEnd::Canceled)]);
    assert_eq!(pids(&path).len(), 2, "nothing was started twice");
}

/// A rank that ends well but never comes back from its function.
async fn no_result(launcher: LocalLauncher) {
    let error = launcher.run::<()>(Job::ranks("leave", 2)).await.unwrap_err();
    assert!(matches!(error, Error::Broken { retryable: false, .. }), "{error}");
    assert!(error.to_string().contains("rank 0 ended with exit code 0 but left no result"), "{error}");
}

/// A program that has no libtorch of ours tells its progress, too.
async fn foreign_progress(launcher: LocalLauncher) {
    let script = r#"echo '{"progress":{"epoch":3,"metrics":{"loss":0.5}}}' >> "$KF_TRAIN_PROGRESS""#;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let job = Job::command("sh", ["-c", script], 1).on_event(move |event| {
        if let JobEvent::Progress { progress, .. } = event {
            sink.lock().unwrap().push(progress.clone());
        }
    });
    launcher.run::<()>(job).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [Progress::new().epoch(3).metric("loss", 0.5)]);
}

async fn results_that_are_not_json(launcher: LocalLauncher) {
    let error = launcher.run::<String>(Job::ranks("report", 1)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Result { reason, .. } if reason.contains("expected a string")),
        "{error}"
    );
    let error = launcher.run::<f64>(Job::ranks("nan", 1)).await.unwrap_err();
    assert!(error.to_string().contains("what `nan` returned is not JSON"), "{error}");
}

async fn no_orphan_after_sigkill(_: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let path = dir.path().join(format!("witness-{round}"));
        let request = (dir.path().join("jobs"), &path);
        let spawner = Spawner::new().unwrap();
        let parent = spawner.spawn(Command::entry("launch-and-wait", &request).unwrap()).await.unwrap();
        until("both ranks run", || pids(&path).len() == 2).await;
        assert!(pids(&path).iter().all(|&pid| lives(pid)));
        parent.kill();
        assert_eq!(parent.wait().await, Exit::Signal(9));
        until("the ranks are gone", || pids(&path).into_iter().all(|pid| !lives(pid))).await;
    }
}

async fn restarts(launcher: LocalLauncher) {
    let script = r#"echo "start $TORCHELASTIC_RESTART_COUNT of $TORCHELASTIC_MAX_RESTARTS"
        if [ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT -lt $FAILURES ]; then exit 5; fi"#;
    let job = |failures: &str| {
        Job::command("sh", ["-c", script], 2).env("FAILURES", failures).max_restarts(2).attempt_id("again")
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let listening = job("2").on_event(move |event| {
        if let JobEvent::Restarting { restarts, failure } = event {
            sink.lock().unwrap().push((*restarts, failure.rank, failure.end));
        }
    });
    launcher.run::<()>(listening).await.unwrap();
    let five = RankEnd::Exited(Exit::Code(5));
    assert_eq!(*seen.lock().unwrap(), [(1, 1, five), (2, 1, five)]);
    let handle = kf_train::JobHandle::new("local", "again");
    assert_eq!(launcher.logs(&handle, 1).await.unwrap(), "start 2 of 2\n");
    let first = launcher.folder(&handle).join("attempt_0/1/output.log");
    assert_eq!(std::fs::read_to_string(first).unwrap(), "start 0 of 2\n");
    let (failure, text, _) = failure(&launcher, job("3").attempt_id("too-often")).await;
    assert_eq!((failure.rank, failure.end), (1, five), "{text}");
}

async fn several_nodes(launcher: LocalLauncher) {
    let script =
        "echo $RANK/$WORLD_SIZE is $LOCAL_RANK/$LOCAL_WORLD_SIZE of node $GROUP_RANK/$GROUP_WORLD_SIZE";
    let job = Job::command("sh", ["-c", script], 2).nodes(2).attempt_id("nodes");
    launcher.run::<()>(job).await.unwrap();
    let handle = kf_train::JobHandle::new("local", "nodes");
    for (rank, said) in
        ["0/4 is 0/2 of node 0/2", "1/4 is 1/2 of node 0/2", "2/4 is 0/2 of node 1/2"].iter().enumerate()
    {
        assert_eq!(launcher.logs(&handle, rank).await.unwrap().trim_end(), *said);
    }
    let error = launcher.run::<()>(Job::ranks("echo", 1 << 11).nodes(1 << 11)).await.unwrap_err();
    assert!(error.to_string().contains("it has 4194304 ranks; at most 1048576"), "{error}");
}

async fn stderr_apart(launcher: LocalLauncher) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = lines.clone();
    let job =
        Job::command("sh", ["-c", "echo out; echo err >&2; exit 3"], 1).stderr_apart().attempt_id("apart");
    let job = job.on_event(move |event| {
        if let JobEvent::Line { line, stderr, .. } = event {
            heard.lock().unwrap().push((line.clone(), *stderr));
        }
    });
    let (failure, text, _) = failure(&launcher, job).await;
    let mut lines = lines.lock().unwrap().clone();
    lines.sort();
    assert_eq!(lines, [("err".to_owned(), true), ("out".to_owned(), false)]);
    let folder = launcher.folder(&kf_train::JobHandle::new("local", "apart")).join("attempt_0/0");
    assert_eq!(failure.log, folder.join("stdout.log"));
    assert_eq!(failure.stderr_log, Some(folder.join("stderr.log")));
    assert!(text.contains("stderr.log)"), "{text}");
    assert_eq!(std::fs::read_to_string(failure.log).unwrap(), "out\n");
    assert_eq!(std::fs::read_to_string(folder.join("stderr.log")).unwrap(), "err\n");
    let mut last = failure.last_lines.clone();
    last.sort();
    assert_eq!(last, ["err", "out"]);
}
