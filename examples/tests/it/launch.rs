//! The example `launch`, as somebody uses it who has scripts written for torchrun.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kf_train::elastic::RoundNote;

/// Runs `launch` on a script of these lines.
fn launch(folder: &Path, script: &str, options: &[&str], args: &[&str]) -> Output {
    command(folder, script, options, args).output().unwrap()
}

fn command(folder: &Path, script: &str, options: &[&str], args: &[&str]) -> Command {
    let path = folder.join("script.py");
    std::fs::write(&path, script).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_launch"));
    command.args(options).arg(&path).args(args).stdin(Stdio::null()).current_dir(folder);
    command
}

fn free_endpoint() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The variables of torchrun's contract, as PyTorch's documentation lists them.
const ENVIRONMENT: &str = r#"
import os, sys
names = """LOCAL_RANK RANK GROUP_RANK ROLE_RANK LOCAL_WORLD_SIZE WORLD_SIZE ROLE_WORLD_SIZE GROUP_WORLD_SIZE ROLE_NAME
MASTER_ADDR TORCHELASTIC_RESTART_COUNT TORCHELASTIC_MAX_RESTARTS TORCHELASTIC_RUN_ID TORCHELASTIC_USE_AGENT_STORE
TORCH_NCCL_ASYNC_ERROR_HANDLING OMP_NUM_THREADS""".split()
assert int(os.environ["MASTER_PORT"]) > 0
print(" ".join(f"{name}={os.environ[name]}" for name in names), *sys.argv[1:])
print("to stderr", file=sys.stderr)
"#;

#[test]
fn options_come_from_torchruns_variables_and_may_be_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let script = "import os; print(os.environ['WORLD_SIZE'], os.environ['TORCHELASTIC_MAX_RESTARTS'])";
    let run = |options: &[&str]| {
        let mut command = command(folder.path(), script, options, &[]);
        command.envs([("PET_STANDALONE", "1"), ("PET_NPROC_PER_NODE", "2"), ("PET_MAX_RESTARTS", "3")]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(run(&[]), "2 3\n2 3\n");
    assert_eq!(run(&["--nproc", "1"]), "1 3\n");
    assert_eq!(run(&["--max_res=4", "--nproc_per=1"]), "1 4\n");
    let here = free_endpoint();
    let options = ["--nnodes=1:2", "--last-call=0", "--rdzv-endpoint", &here];
    let mut elastic = command(folder.path(), script, &options, &[]);
    // As pods of elastic jobs have it.
    elastic.env("PET_NODE_RANK", "1");
    let output = elastic.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut fixed = command(folder.path(), script, &["--nnodes=1", "--rdzv-endpoint=127.0.0.1:0"], &[]);
    let output = fixed.env("PET_NODE_RANK", "1").output().unwrap();
    let told = text(&output.stderr);
    assert!(told.contains("PET_NODE_RANK 1: with --nnodes 1 it must be below 1"), "{told}");
}

#[test]
fn what_is_waited_for_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let alone = |options: &[&str]| {
        let output = launch(folder.path(), "print('never')", options, &[]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    let here = free_endpoint();
    let told = alone(&["--nnodes=2", "--rdzv-endpoint", &here, "--join-timeout=2.5"]);
    assert!(told.contains("launch: waiting: 1 of at least 2 nodes are here\n"), "{told}");
    // Somebody listens there, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = silent.local_addr().unwrap().to_string();
    let told = alone(&["--nnodes=2", "--rdzv-endpoint", &there, "--join-timeout=2.5"]);
    assert!(told.contains(&format!("launch: waiting: no other node is found yet at {there}\n")), "{told}");
}

#[test]
fn the_environment_is_torchruns() {
    let folder = tempfile::tempdir().unwrap();
    let options = [
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "3",
        "--rdzv-id",
        "j",
        "--log-dir",
        "logs",
    ];
    let output = launch(folder.path(), ENVIRONMENT, &options, &["--lr", "0.1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut lines: Vec<_> = text(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    let expected = |rank: usize| {
        format!(
            "LOCAL_RANK={rank} RANK={rank} GROUP_RANK=0 ROLE_RANK={rank} LOCAL_WORLD_SIZE=2 WORLD_SIZE=2 \
             ROLE_WORLD_SIZE=2 GROUP_WORLD_SIZE=1 ROLE_NAME=default MASTER_ADDR=127.0.0.1 \
             TORCHELASTIC_RESTART_COUNT=0 TORCHELASTIC_MAX_RESTARTS=3 TORCHELASTIC_RUN_ID=j \
             TORCHELASTIC_USE_AGENT_STORE=True TORCH_NCCL_ASYNC_ERROR_HANDLING=1 OMP_NUM_THREADS=1 --lr 0.1"
        )
    };
    assert_eq!(lines, [expected(0), expected(1)]);
    assert_eq!(text(&output.stderr).matches("to stderr").count(), 2);
    for rank in 0..2 {
        let logs = folder.path().join("logs/j/attempt_0").join(rank.to_string());
        assert_eq!(std::fs::read_to_string(logs.join("stdout.log")).unwrap().trim(), expected(rank));
        assert_eq!(std::fs::read_to_string(logs.join("stderr.log")).unwrap(), "to stderr\n");
    }
}

/// Fails once, as torch.distributed.elastic's `record` writes it.
const FAILS: &str = r#"
import json, os, sys, time
if os.environ["RANK"] == "1" and int(os.environ["TORCHELASTIC_RESTART_COUNT"]) < int(sys.argv[1]):
    error = {"message": "ValueError: too large", "extraInfo": {"py_callstack": "…", "timestamp": "1"}}
    json.dump({"message": error}, open(os.environ["TORCHELASTIC_ERROR_FILE"], "w"))
    sys.exit(17)
if int(os.environ["TORCHELASTIC_RESTART_COUNT"]) < int(sys.argv[1]):
    time.sleep(600)
print("done after", os.environ["TORCHELASTIC_RESTART_COUNT"])
"#;

#[test]
fn failed_ranks_are_started_anew_and_errors_told() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--standalone", "--nproc_per_node=2", "--max_restarts=2"];
    let output = launch(folder.path(), FAILS, &options, &["2"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "done after 2\ndone after 2\n");
    let output = launch(folder.path(), FAILS, &options, &["3"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("rank 1 of 2 ended with exit code 17: ValueError: too large"), "{told}");
}

#[test]
fn wrong_uses_are_told_and_start_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_launch"))
        .args(["--standalone", "no/such.py"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no script `no/such.py`"), "{}", text(&output.stderr));
    if !Path::new("/dev/nvidia0").exists() {
        let output = launch(folder.path(), "", &["--standalone", "--nproc-per-node", "gpu"], &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("no NVIDIA GPU"), "{}", text(&output.stderr));
    }
}

/// A script whose children have children, which must not be left when the job is told to end.
const FORKS: &str = r#"
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\n{child.pid}\n")
time.sleep(600)
"#;

#[test]
fn nothing_is_left_when_it_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let pids = || -> Vec<u32> {
        let text = std::fs::read_to_string(&witness).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let rounds = folder.path().join("rounds");
    for (signal, code) in [("-TERM", Some(143)), ("-KILL", None)] {
        let _ = std::fs::remove_file(&witness);
        let options = ["--standalone", "--nproc-per-node", "2", "--rounds-file", rounds.to_str().unwrap()];
        let mut process = command(folder.path(), FORKS, &options, &[witness.to_str().unwrap()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while pids().len() < 4 {
            assert!(Instant::now() < deadline, "the script does not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
        let status = process.wait().unwrap();
        assert_eq!(status.code(), code, "{signal}");
        let lives = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
        };
        while pids().iter().any(lives) {
            assert!(Instant::now() < deadline, "{signal}: of {:?} some are left", pids());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let told = std::fs::read_to_string(&rounds).unwrap();
    let told: Vec<_> = told.lines().map(|line| RoundNote::of_line(line).unwrap()).collect();
    let told: Vec<_> = told.iter().map(|round| (round.number, round.nodes, round.world_size)).collect();
    assert_eq!(told, [(1, 1, 2), (1, 1, 2)]);
}

/// Prints its rank on both streams.
const PRINTS: &str = r#"
import os, sys
print("out", os.environ["LOCAL_RANK"], *sys.argv[1:])
print("err", os.environ["LOCAL_RANK"], file=sys.stderr)
"#;

#[test]
fn torchruns_options_are_known_and_others_are_no_scripts() {
    let folder = tempfile::tempdir().unwrap();
    let line = "--standalone --nproc-per-node 2 --role trainer --rdzv-backend c10d --rdzv-conf timeout=30 --monitor-interval 1 \
                --start-method spawn -t 0:2 -r 0:3,1:2 --log-dir logs";
    let options: Vec<_> = line.split_whitespace().collect();
    let output = launch(folder.path(), PRINTS, &options, &["--tee", "--", "-h"]);
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(text(&output.stdout), "out 1 --tee -- -h\n");
    assert!(told.contains("--role has no effect here") && told.contains("err 0"), "{told}");
    assert!(!told.contains("err 1"), "{told}");
    let log = |name: &str| std::fs::read_to_string(folder.path().join("logs/none/attempt_0").join(name));
    assert_eq!(log("0/stdout.log").unwrap(), "out 0 --tee -- -h\n");
    assert_eq!(log("1/stderr.log").unwrap(), "err 1\n");
    let options = ["--standalone", "--nproc-per-node=2", "--local-ranks-filter", "1"];
    assert_eq!(text(&launch(folder.path(), PRINTS, &options, &[]).stdout), "out 1\n");
    let output = launch(folder.path(), PRINTS, &["--standalone", "--bogus"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "launch: unknown option '--bogus'; see launch --help\n");
    let output = launch(folder.path(), PRINTS, &["--version"], &[]);
    assert!(output.status.success() && text(&output.stdout).starts_with("launch "), "{output:?}");
}

#[test]
fn modules_run_as_python_runs_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("module.py"), PRINTS).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_launch"))
        .args(["--standalone", "-m", "module", "-m"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "out 0 -m\n", "{}", text(&output.stderr));
}

#[test]
fn each_run_has_logs_of_its_own_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    std::fs::create_dir_all(&inner).unwrap();
    let options = ["--standalone", "--log-dir", "logs", "--rdzv-id", "../../x y"];
    let output = launch(&inner, PRINTS, &options, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("can't name the folder"), "{}", text(&output.stderr));
    assert!(!inner.join("logs").exists() && !folder.path().join("a/x y").exists());
    let options = ["--standalone", "--log-dir", "logs", "--rdzv-id", "j"];
    // The script is written before the first of them reads it.
    let commands: Vec<_> = (0..3).map(|run| command(&inner, PRINTS, &options, &[&run.to_string()])).collect();
    let runs: Vec<_> = commands
        .into_iter()
        .map(|mut run| run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut told = Vec::new();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        told.extend(
            text(&output.stderr).lines().filter(|line| line.contains("logs go to")).map(str::to_owned),
        );
    }
    told.sort();
    assert_eq!(told, ["launch: the logs go to logs/j_1", "launch: the logs go to logs/j_2"]);
    let log =
        |id| std::fs::read_to_string(inner.join("logs").join(id).join("attempt_0/0/stdout.log")).unwrap();
    let mut logs = ["j", "j_1", "j_2"].map(log);
    logs.sort();
    assert_eq!(logs, ["out 0 0\n", "out 0 1\n", "out 0 2\n"]);
}

#[test]
fn endless_times_are_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        "--rdzv-endpoint localhost:0 --join-timeout 1e300 --heartbeat-timeout 1e19 --last-call 1e300";
    let output = launch(folder.path(), PRINTS, &options.split(' ').collect::<Vec<_>>(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "out 0\n");
}
