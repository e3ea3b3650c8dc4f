//! What the example `launch` is made of.

mod console;
mod logs;
mod options;
mod torchrun;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use kf_train::elastic::Agent;
use kf_train::{Error, JobEvent};
use tokio::signal::unix::{SignalKind, signal};

use console::Console;
pub use options::{Options, unknown_option};

/// Runs this node's part of the job to its end.
///
/// # Errors
/// What the command line got wrong.
pub async fn launch(options: Options) -> Result<ExitCode, String> {
    let (job, mut agent) = options.resolve()?;
    for note in options.notes() {
        eprintln!("launch: {note}");
    }
    let aside = match &options.log_dir {
        Some(base) => {
            agent.folder = logs::new_folder(base, &options.rdzv_id)?;
            if agent.folder != base.join(&options.rdzv_id) {
                eprintln!("launch: the logs go to {}", agent.folder.display());
            }
            None
        }
        None => {
            let aside = tempfile::Builder::new().prefix("kf-launch-").tempdir();
            let aside = aside.map_err(|error| format!("no folder for the logs can be made: {error}"))?;
            agent.folder = aside.path().to_owned();
            Some(aside)
        }
    };
    let leave = agent.leave.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let code = Arc::new(AtomicU8::new(1));
    let left = code.clone();
    let _signals = tokio::spawn(async move {
        let (told, code) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", 128 + 15),
            _ = interrupt.recv() => ("SIGINT", 128 + 2),
        };
        left.store(code, Ordering::Relaxed);
        eprintln!("launch: {told}: this node's ranks are asked to end, and it leaves");
        leave.cancel();
        // Whoever asks again means now.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(code.into());
    });
    // What is printed nowhere else is kept.
    let redirects = options.console.redirects.is_some();
    let console = options.console.clone();
    let first = Mutex::new(First::default());
    let job = job.on_event(move |event| print(event, &console, &first));
    let end = Agent::new(agent).run::<()>(job).await;
    if let Err(error) = &end {
        eprintln!("launch: {error}");
    }
    if let Some(aside) = aside.filter(|_| redirects || matches!(end, Err(Error::RankFailed { .. }))) {
        eprintln!("launch: the logs are kept in {}", aside.keep().display());
    }
    Ok(match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Endpoint { .. } | Error::Job { .. } | Error::Spawn { .. }) => ExitCode::from(2),
        Err(Error::Left { .. }) => ExitCode::from(code.load(Ordering::Relaxed)),
        Err(_) => ExitCode::FAILURE,
    })
}

/// The first rank of this node.
#[derive(Debug, Default)]
struct First {
    now: usize,
    /// In the round that begins.
    next: usize,
}

fn print(event: &JobEvent, console: &Console, first: &Mutex<First>) {
    let mut first = first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match event {
        JobEvent::Line { rank, line, stderr } if console.prints(rank.saturating_sub(first.now), *stderr) => {
            // Somebody who stops listening is no reason to stop.
            let _ = match stderr {
                false => writeln!(std::io::stdout(), "{line}"),
                true => writeln!(std::io::stderr(), "{line}"),
            };
        }
        JobEvent::RankStarted { .. } => first.now = first.next,
        JobEvent::Round { number, nodes, world_size, starts, reason, .. } => {
            first.next = starts.start;
            let counted =
                |count: &usize, what| format!("{count} {what}{}", if *count == 1 { "" } else { "s" });
            let (ranks, nodes) = (counted(world_size, "rank"), counted(nodes, "node"));
            eprintln!("launch: round {number}: {ranks} on {nodes}: {reason}");
        }
        JobEvent::Waiting { reason } => eprintln!("launch: waiting: {reason}"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kf_train::Job;

    use super::*;

    fn resolved(args: &[&str]) -> Result<(Job, kf_train::elastic::AgentOptions), String> {
        let options =
            Options::try_parse_from([&["launch"], args].concat()).map_err(|error| error.to_string())?;
        options.resolve()
    }

    #[test]
    fn torchruns_command_lines_are_understood() {
        let line = "--nnodes 1:4 --nproc_per_node=2 --max-restarts=3 --rdzv-endpoint a:1,b --rdzv-id j --no-python sh -c x";
        let args: Vec<_> = line.split(' ').collect();
        let (job, agent) = resolved(&args).unwrap();
        assert_eq!((agent.quorum.min_nodes, agent.quorum.max_nodes, agent.quorum.max_restarts), (1, 4, 3));
        assert_eq!(agent.endpoints, ["a:1", "b:29400"]);
        let kf_train::Program::Command { program, args } = job.spec().unwrap().program.clone() else {
            unreachable!()
        };
        assert_eq!((program.as_str(), args), ("sh", vec!["-c".to_owned(), "x".to_owned()]));
        assert_eq!(job.spec().unwrap().ranks_per_node, 2);
    }

    #[test]
    fn nodes_may_be_given_their_numbers_as_torchrun_has_it() {
        let line = "--nnodes=2 --node_rank=1 --master_addr a --master_port 1 --no-python sh";
        let (_, agent) = resolved(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!((agent.node_rank, agent.endpoints), (Some(1), vec!["a:1".to_owned()]));
    }

    #[test]
    fn wrong_command_lines_are_told() {
        for (args, expected) in [
            (&["--nnodes", "3:2", "x"][..], "expected N or MIN:MAX"),
            (&["--standalone", "--nnodes", "2", "x"], "--standalone is for one node"),
            (&["--nnodes", "2", "--no-python", "sh"], "needs --rdzv-endpoint"),
            (&["--nnodes", "1:4", "--node-rank", "0", "--rdzv-endpoint", "a", "x"], "leave it out, or give"),
            (&["--nnodes", "2", "--node-rank=2", "--rdzv-endpoint", "a", "x"], "it must be below 2"),
            (&["--node-rank", "one", "x"], "invalid value 'one'"),
            (&["--max-restarts", "-1", "x"], "invalid value '-1'"),
            (&["--nproc-per-node", "0", "--no-python", "sh"], "expected a number above 0"),
            (&["no/such/script.py"], "there is no script `no/such/script.py`"),
            (&["--last-call=-1", "--no-python", "sh"], "--last-call -1"),
            (
                &["--join-timeout", "-1", "--no-python", "sh"],
                "--join-timeout -1: expected a number of seconds",
            ),
            (&["--join-timeout=NaN", "--no-python", "sh"], "--join-timeout NaN"),
            (&["--rdzv-conf=timeout=-3", "--no-python", "sh"], "--join-timeout -3"),
            (&["--heartbeat-timeout=0", "--no-python", "sh"], "--heartbeat-timeout 0: expected at least 0.1"),
            (&["--rdzv-endpoint=127.0.0.1:99999", "--no-python", "sh"], "`99999` is no port"),
            (&["--nnodes=2", "--rdzv-endpoint=a:0", "--no-python", "sh"], "port 0 is any free one"),
            (
                &["--log-dir=logs", "--rdzv-id=../../x y", "--no-python", "sh"],
                "can't name the folder of its logs",
            ),
            (&["--no-python", "-m", "sh"], "exclude each other"),
            (
                &["--numa-binding=node", "x"],
                "torchrun's --numa-binding is not supported by launch: leave it out",
            ),
            (&["--rdzv-backend=etcd", "x"], "torchrun's --rdzv-backend etcd is not supported by launch"),
            (&["--signals-to-handle=SIGTERM,SIGUSR1", "x"], "--signals-to-handle SIGUSR1 is not supported"),
            (&["--redirects=7", "x"], "expected 0 for none"),
            (&[], "required arguments were not provided"),
        ] {
            let error = resolved(args).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn times_beyond_ten_years_are_ten_years() {
        for time in ["1e19", "1e300", "inf"] {
            let args = [
                "--join-timeout",
                time,
                "--heartbeat-timeout",
                time,
                "--last-call",
                time,
                "--no-python",
                "sh",
            ];
            let (_, agent) = resolved(&args).unwrap();
            let ten_years = std::time::Duration::from_secs(10 * 365 * 24 * 3600);
            let quorum = &agent.quorum;
            let times = [agent.join_timeout, quorum.heartbeat_timeout, quorum.last_call];
            assert_eq!(times, [ten_years; 3], "{time}");
        }
    }

    #[test]
    fn options_of_torchrun_without_effect_are_told() {
        let line = "-t 3 --role trainer --monitor_interval=1 --start-method fork --run-path --no-python \
                    --rdzv-conf timeout=9,is_host=1 --rdzv_endpoint= --nnodes 2 --nnodes 1 Cargo.toml --version -x -- --tee";
        let args: Vec<_> = ["launch"].into_iter().chain(line.split_whitespace()).collect();
        let options = Options::try_parse_from(args).unwrap();
        let notes = options.notes();
        for option in ["--tee", "--role", "--monitor-interval", "--start-method", "--run-path", "is_host"] {
            assert_eq!(notes.iter().filter(|note| note.contains(option)).count(), 1, "{notes:?}");
        }
        assert_eq!(notes.len(), 6, "{notes:?}");
        let (job, agent) = options.resolve().unwrap();
        assert_eq!(agent.join_timeout.as_secs(), 9);
        assert!(agent.endpoints.is_empty());
        let kf_train::Program::Command { args, .. } = job.spec().unwrap().program.clone() else {
            unreachable!()
        };
        assert_eq!(args, ["-u", "Cargo.toml", "--version", "-x", "--", "--tee"]);
    }

    #[test]
    fn unknown_options_are_no_scripts() {
        for (args, expected) in [
            (["--bogus", "x"], "unknown option '--bogus'; see launch --help"),
            (["--nodes=2", "x"], "unknown option '--nodes', is it --nnodes?; see launch --help"),
            (["-z", "x"], "unknown option '-z'; see launch --help"),
        ] {
            let error = Options::try_parse_from([&["launch"], &args[..]].concat()).unwrap_err();
            assert_eq!(unknown_option(&error).unwrap(), expected);
        }
        let none = Options::try_parse_from(["launch"]).unwrap_err();
        assert_eq!(unknown_option(&none), None);
    }
}
