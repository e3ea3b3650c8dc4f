//! What ranks may do at most, and what they get: time without progress, memory, GPUs, a framework's environment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kf_core::CancellationToken;
use kf_core::process::Exit;
use kf_core::resources::Resources;
use kf_core::worker::Workers;
use kf_train::contract::Framework;
use kf_train::elastic::{Agent, AgentOptions};
use kf_train::{
    Error, Failure, Job, JobEvent, JobHandle, Launcher, LocalLauncher, Progress, Rank, RankEnd, Result, ranks,
};
use libtest_mimic::Trial;

use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(ranks("fall-silent", fall_silent)).with(ranks("fill-memory", fill_memory))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("limits::a_rank_that_falls_silent", a_rank_that_falls_silent),
        trial("limits::a_rank_that_never_tells", a_rank_that_never_tells),
        trial("limits::time_to_begin_is_no_silence", time_to_begin_is_no_silence),
        trial("limits::silence_on_a_node", silence_on_a_node),
        trial("limits::files_that_are_none", files_that_are_none),
        trial("limits::nodes_that_never_come", nodes_that_never_come),
        trial("limits::ranks_that_join_no_team", ranks_that_join_no_team),
        trial("limits::many_ranks_that_are_still_being_started", many_that_are_being_started),
        trial("limits::memory", memory),
        trial("limits::limits_that_are_too_large", limits_that_are_too_large),
        trial("limits::gpus", gpus),
        trial("limits::more_than_the_machine_has", more_than_the_machine_has),
        trial("limits::environments_of_frameworks", environments_of_frameworks),
        trial("limits::frameworks_that_launch_all_at_once", frameworks_that_launch_all_at_once),
        trial("limits::frameworks_that_agents_do_not_serve", frameworks_that_agents_do_not_serve),
    ]
}

/// Rank 1 falls silent after its third step; the others go on for so many seconds.
fn fall_silent(rank: &Rank, seconds: u64) -> Result<()> {
    for step in 1..=seconds * 5 {
        rank.report(Progress::new().step(step).metric("loss", 0.5));
        if rank.rank() == 1 && step == 3 && rank.restart_count() == 0 {
            println!("I wait for ever");
            std::thread::sleep(Duration::from_secs(600));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

async fn failure(launcher: &LocalLauncher, job: Job) -> (Failure, String) {
    let error = launcher.run::<()>(job).await.unwrap_err();
    let text = error.to_string();
    let Error::RankFailed { failure, .. } = error else { panic!("{text}") };
    (*failure, text)
}

/// A rank puts pipes and devices where the launcher looks, which waits for none of them.
async fn files_that_are_none(launcher: LocalLauncher) {
    let scripts = [
        "mkfifo $TORCHELASTIC_ERROR_FILE; exit 4",
        "ln -s /dev/zero $TORCHELASTIC_ERROR_FILE; exit 4",
        "rm -f $KF_TRAIN_PROGRESS; mkfifo $KF_TRAIN_PROGRESS; sleep 0.5; exit 4",
        "rm -f $KF_TRAIN_PROGRESS; ln -s /dev/zero $KF_TRAIN_PROGRESS; sleep 0.5; exit 4",
    ];
    for script in scripts {
        let job = Job::command("sh", ["-c", script], 1).timeout(Duration::from_secs(20));
        let (failure, text) = failure(&launcher, job).await;
        assert_eq!((failure.rank, failure.end), (0, RankEnd::Exited(Exit::Code(4))), "{script}: {text}");
    }
}

async fn nodes_that_never_come(launcher: LocalLauncher) {
    let mut options = AgentOptions::new(launcher.folder(&JobHandle::new("local", "agent")));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    options.endpoints = vec![format!("127.0.0.1:{port}")];
    (options.quorum.min_nodes, options.quorum.max_nodes) = (2, 2);
    options.join_timeout = Duration::from_secs(2);
    let run = |options: &AgentOptions| {
        let agent = Agent::new(options.clone());
        async move { agent.run::<()>(Job::command("true", [""; 0], 1)).await.unwrap_err().to_string() }
    };
    let text = run(&options).await;
    assert!(text.contains("1 of at least 2 nodes are here after 2s"), "{text}");
    options.quorum.max_nodes = 1;
    assert!(run(&options).await.contains("it needs 2 nodes, and takes at most 1"));
    options.quorum.max_nodes = 2;
    options.endpoints.clear();
    assert!(run(&options).await.contains("name where the agents meet"));
    options.quorum.min_nodes = 1;
    options.quorum.heartbeat_timeout = Duration::ZERO;
    assert!(run(&options).await.contains("must be longer than the heartbeat"));
    // No time is too long.
    options.join_timeout = Duration::MAX;
    (options.quorum.heartbeat_timeout, options.quorum.last_call) = (Duration::MAX, Duration::MAX);
    options.quorum.max_nodes = 1;
    Agent::new(options).run::<()>(Job::command("true", [""; 0], 1)).await.unwrap();
}

/// The time holds, and a job can be cancelled, while its ranks are yet to be started.
async fn many_that_are_being_started(launcher: LocalLauncher) {
    const RANKS: usize = 2000;
    let started = Arc::new(AtomicUsize::new(0));
    let job = || {
        let started = started.clone();
        Job::command("sleep", ["600"], RANKS).on_event(move |event| {
            if matches!(event, JobEvent::RankStarted { .. }) {
                started.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let after = Duration::from_millis(100);
    let error = launcher.run::<()>(job().timeout(after)).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    let cancel = CancellationToken::new();
    let (error, ()) = tokio::join!(launcher.run::<()>(job().cancel_with(cancel.clone())), async {
        tokio::time::sleep(after).await;
        cancel.cancel();
    });
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Canceled { .. }), "{error}");
    for job in [Job::command("sleep", ["600"], 1), Job::command("true", [""; 0], 3)] {
        let error = launcher.run::<()>(job.timeout(Duration::ZERO)).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { after: Duration::ZERO, .. }), "{error}");
    }
    let started = started.load(Ordering::Relaxed);
    assert!(started < RANKS, "{started} were started all the same");
}

async fn ranks_that_join_no_team(launcher: LocalLauncher) {
    let mut options = AgentOptions::new(launcher.folder(&JobHandle::new("local", "agent")));
    options.heal = true;
    let error = Agent::new(options).run::<()>(Job::command("true", [""; 0], 1)).await.unwrap_err();
    assert!(error.to_string().contains("ended before its first round"), "{error}");
}

async fn a_rank_that_falls_silent(launcher: LocalLauncher) {
    let job = || Job::ranks("fall-silent", 3).progress_timeout(Duration::from_secs(3));
    let (failure, text) = failure(&launcher, job().args(&60)).await;
    assert_eq!((failure.rank, failure.end), (1, RankEnd::Hung(3.0)), "{text}");
    assert_eq!(failure.progress, Some(Progress::new().step(3).metric("loss", 0.5)));
    let expected = "job `fall-silent`: rank 1 of 3 told no progress for 3 s after step 3, loss 0.5000; its last lines:\n  \
                    I wait for ever\n";
    assert!(text.starts_with(expected), "{text}");
    // Started anew, it goes on.
    launcher.run::<()>(job().args(&2).max_restarts(1)).await.unwrap();
}

async fn a_rank_that_never_tells(launcher: LocalLauncher) {
    let job = Job::command("sleep", ["600"], 1).progress_timeout(Duration::from_secs(1));
    let (failure, text) = failure(&launcher, job).await;
    assert_eq!((failure.rank, failure.end, failure.progress), (0, RankEnd::Hung(1.0), None));
    assert!(text.starts_with("job `sleep`: rank 0 of 1 told no progress for 1 s\n(log: "), "{text}");
}

/// Until its function is reached, it is the start that is limited.
async fn time_to_begin_is_no_silence(launcher: LocalLauncher) {
    let job = Job::ranks("fall-silent", 2).args(&60).env(super::HANG, "1");
    let job = job.progress_timeout(Duration::from_secs(2)).start_timeout(Duration::from_secs(5));
    let (failure, text) = failure(&launcher, job).await;
    assert_eq!((failure.rank, failure.end), (1, RankEnd::NotStarted(5.0)), "{text}");
}

/// An agent's ranks have the same limit.
async fn silence_on_a_node(_: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let job = || Job::ranks("fall-silent", 2).progress_timeout(Duration::from_secs(2));
    let mut options = AgentOptions::new(dir.path());
    let error = Agent::new(options.clone()).run::<()>(job().args(&60)).await.unwrap_err();
    assert!(error.to_string().contains("rank 1 of 2 told no progress for 2 s after step 3"), "{error}");
    options.quorum.max_restarts = 1;
    Agent::new(options.clone()).run::<()>(job().args(&2)).await.unwrap();
    options.heal = true;
    let error = Agent::new(options).run::<()>(job().args(&2)).await.unwrap_err();
    assert!(error.to_string().contains("a progress_timeout is not for them"), "{error}");
}

/// Rank 1 takes so many MiB, and keeps them.
fn fill_memory(rank: &Rank, mebibytes: usize) -> Result<()> {
    if rank.rank() == 1 {
        let all: Vec<_> = (0..mebibytes).map(|_| vec![1_u8; 1 << 20]).collect();
        println!("I have {}", all.len());
        std::thread::sleep(Duration::from_secs(2));
    }
    Ok(())
}

async fn memory(launcher: LocalLauncher) {
    let job = |mebibytes: usize| {
        let each = Resources::none().memory("128Mi").unwrap();
        Job::ranks("fill-memory", 2).args(&mebibytes).resources(each)
    };
    launcher.run::<()>(job(32)).await.unwrap();
    if !cfg!(target_os = "linux") {
        return;
    }
    let (failed, text) = failure(&launcher, job(256)).await;
    assert_eq!(failed.rank, 1, "{text}");
    let RankEnd::OutOfMemory { used, limit } = failed.end else { panic!("{text}") };
    assert!(limit == 128 << 20 && used > limit && used < 512 << 20, "{used} of {limit}");
    assert!(text.contains("MiB of memory, and asked for 128"), "{text}");
    // Before its function is reached, too.
    let hangs = job(0).env(super::HANG, "1").env(super::FILL, "256");
    let (failed, text) = failure(&launcher, hangs).await;
    assert!(failed.rank == 1 && matches!(failed.end, RankEnd::OutOfMemory { .. }), "{text}");
}

/// A limit beyond all time is none, and one beyond all ports is told.
async fn limits_that_are_too_large(launcher: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let job = || Job::command("true", [""; 0], 1).timeout(Duration::MAX);
    launcher.run::<()>(job()).await.unwrap();
    Agent::new(AgentOptions::new(dir.path())).run::<()>(job()).await.unwrap();
    let job = Job::command("true", [""; 0], 70_000).framework(Framework::TensorFlow);
    let error = launcher.run::<()>(job).await.unwrap_err();
    assert!(matches!(error, Error::Job { .. }), "{error}");
    assert!(
        error.to_string().contains("each of its 70000 ranks is to listen at a port of its own"),
        "{error}"
    );
}

/// GPUs are shared out to nodes, whoever has them: the numbers are all that a launcher needs.
async fn gpus(launcher: LocalLauncher) {
    let job = Job::command("sh", ["-c", r#"echo "$CUDA_VISIBLE_DEVICES $LOCAL_RANK""#], 2).nodes(2);
    let each = Resources::none().accelerator("nvidia.com/gpu", 1.0);
    let job = job.resources(each).env("CUDA_VISIBLE_DEVICES", "7,5,3,GPU-8a").attempt_id("gpus");
    launcher.run::<()>(job).await.unwrap();
    let handle = JobHandle::new("local", "gpus");
    for (rank, sees) in ["7,5 0", "7,5 1", "3,GPU-8a 0", "3,GPU-8a 1"].into_iter().enumerate() {
        assert_eq!(launcher.logs(&handle, rank).await.unwrap().trim(), sees);
    }
}

async fn more_than_the_machine_has(launcher: LocalLauncher) {
    let gpu = |count| Resources::none().accelerator("nvidia.com/gpu", count);
    for (each, visible, expected) in [
        (
            gpu(1.0),
            "",
            "its ranks on this machine, 2, ask for 1 nvidia.com/gpu each, 2 in all, and it has none",
        ),
        (gpu(1.0), "0", "ask for 1 nvidia.com/gpu each, 2 in all, and it has 1: 0"),
        (
            Resources::none().cpu(1e6),
            "",
            "ask for cpu 1000000 each, cpu 2000000 in all, and the machine has cpu",
        ),
        (Resources::none().memory("1Pi").unwrap(), "", "memory 2Pi in all, and the machine has memory"),
    ] {
        let job = Job::command("true", [""; 0], 2).resources(each).env("CUDA_VISIBLE_DEVICES", visible);
        let dir = tempfile::tempdir().unwrap();
        for error in [
            launcher.run::<()>(job.clone()).await.unwrap_err(),
            Agent::new(AgentOptions::new(dir.path())).run::<()>(job).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Job { .. }) && error.to_string().contains(expected), "{error}");
        }
    }
}

/// What ranks of each framework find, but for ports, which are another each time.
async fn environments_of_frameworks(launcher: LocalLauncher) {
    let has = |framework: Framework, rank: usize| -> Vec<(&str, &str)> {
        let number = ["0", "1"][rank];
        match framework {
            Framework::Torchrun => vec![("RANK", number), ("WORLD_SIZE", "2"), ("MASTER_PORT", "PORT")],
            Framework::TensorFlow => vec![(
                "TF_CONFIG",
                [
                    r#"{"cluster":{"worker":["127.0.0.1:PORT","127.0.0.1:PORT"]},"task":{"type":"worker","index":0}}"#,
                    r#"{"cluster":{"worker":["127.0.0.1:PORT","127.0.0.1:PORT"]},"task":{"type":"worker","index":1}}"#,
                ][rank],
            )],
            Framework::Jax => vec![
                ("JAX_PROCESS_ID", number),
                ("JAX_NUM_PROCESSES", "2"),
                ("JAX_COORDINATOR_ADDRESS", "127.0.0.1:PORT"),
            ],
            Framework::XgBoost => {
                vec![("DMLC_TASK_ID", number), ("DMLC_NUM_WORKER", "2"), ("DMLC_TRACKER_PORT", "PORT")]
            }
            Framework::Paddle => vec![
                ("PADDLE_TRAINER_ID", number),
                ("PADDLE_CURRENT_ENDPOINT", "127.0.0.1:PORT"),
                ("PADDLE_TRAINER_ENDPOINTS", "127.0.0.1:PORT,127.0.0.1:PORT"),
            ],
            Framework::DeepSpeed => vec![("RANK", number), ("CROSS_SIZE", "1"), ("LOCAL_SIZE", "2")],
            Framework::OpenMpi | Framework::IntelMpi | Framework::Mpich => unreachable!("{framework}"),
        }
    };
    let ours = ["RANK", "TF_CONFIG", "JAX_PROCESS_ID", "DMLC_TASK_ID", "PADDLE_TRAINER_ID", "CROSS_RANK"];
    for framework in Framework::ALL.into_iter().filter(|framework| launched_by_rank(*framework)) {
        let id = format!("env-{framework}");
        let job = Job::command("sh", ["-c", "env"], 2).framework(framework).attempt_id(&id);
        launcher.run::<()>(job).await.unwrap();
        let mut of_framework = Vec::new();
        for rank in 0..2 {
            let log = launcher.logs(&JobHandle::new("local", &id), rank).await.unwrap();
            let env: BTreeMap<_, _> = log.lines().filter_map(|line| line.split_once('=')).collect();
            for (name, expected) in has(framework, rank) {
                let found = env.get(name).map(|value| without_ports(value));
                assert_eq!(found.as_deref(), Some(expected), "{name} of rank {rank}, {framework}");
            }
            for name in ["TORCHELASTIC_ERROR_FILE", "KF_TRAIN_PROGRESS"] {
                assert!(env.contains_key(name), "{name} of {framework}");
            }
            of_framework = ours.into_iter().filter(|name| env.contains_key(name)).collect();
        }
        let expected = match framework {
            Framework::Torchrun => vec!["RANK"],
            Framework::DeepSpeed => vec!["RANK", "CROSS_RANK"],
            other => vec![has(other, 0)[0].0].into_iter().filter(|name| ours.contains(name)).collect(),
        };
        assert_eq!(of_framework, expected, "of {framework}, and of no other");
    }
}

fn launched_by_rank(framework: Framework) -> bool {
    !matches!(framework, Framework::OpenMpi | Framework::IntelMpi | Framework::Mpich)
}

/// A text with `PORT` for each number that may be one.
fn without_ports(text: &str) -> String {
    let mut numbers = text.split_inclusive(|c: char| !c.is_ascii_digit());
    let mut shown = String::new();
    for part in &mut numbers {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        shown += if digits.len() >= 4 { "PORT" } else { digits };
        shown += &part[digits.len()..];
    }
    shown
}

async fn frameworks_that_launch_all_at_once(launcher: LocalLauncher) {
    for framework in Framework::ALL.into_iter().filter(|framework| !launched_by_rank(*framework)) {
        let job = Job::command("program", [""; 0], 2).framework(framework);
        let error = launcher.run::<()>(job).await.unwrap_err();
        let expected = format!("ranks of {framework} are started by `mpirun`, all at once");
        assert!(matches!(error, Error::Job { .. }) && error.to_string().contains(&expected), "{error}");
        assert!(error.to_string().contains("run `mpirun` as a job of one rank"), "{error}");
    }
}

async fn frameworks_that_agents_do_not_serve(_: LocalLauncher) {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::command("true", [""; 0], 1).framework(Framework::Jax);
    let error = Agent::new(AgentOptions::new(dir.path())).run::<()>(job).await.unwrap_err();
    assert!(error.to_string().contains("agents give their ranks torchrun's environment"), "{error}");
}
