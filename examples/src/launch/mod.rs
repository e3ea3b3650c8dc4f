//! What the example `launch` is made of.

mod options;

use std::io::Write;
use std::process::ExitCode;

use kf_train::elastic::Agent;
use kf_train::{Error, JobEvent};
use tokio::signal::unix::{SignalKind, signal};

pub use options::Options;

/// Runs this node's part of the job to its end.
///
/// # Errors
/// What the command line got wrong.
pub async fn launch(options: Options) -> Result<ExitCode, String> {
    let aside = tempfile::Builder::new().prefix("kf-launch-").tempdir().map_err(|error| error.to_string())?;
    let folder =
        options.log_dir.as_ref().map_or(aside.path().to_owned(), |folder| folder.join(&options.rdzv_id));
    let (job, agent) = options.resolve(folder)?;
    let leave = agent.leave.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let _signals = tokio::spawn(async move {
        let told = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        eprintln!("launch: {told}: this node's ranks are asked to end, and it leaves");
        leave.cancel();
        // Whoever asks again means now.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(1);
    });
    let quiet = options.quiet;
    let job = job.on_event(move |event| print(event, quiet));
    Ok(match Agent::new(agent).run::<()>(job).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("launch: {error}");
            if options.log_dir.is_none() && matches!(error, Error::RankFailed { .. }) {
                let kept = aside.keep();
                eprintln!("launch: the logs are kept in {}", kept.display());
            }
            match error {
                Error::Endpoint { .. } | Error::Job { .. } | Error::Spawn { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    })
}

fn print(event: &JobEvent, quiet: bool) {
    match event {
        // Somebody who stops listening is no reason to stop.
        JobEvent::Line { line, stderr: false, .. } if !quiet => {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        JobEvent::Line { line, stderr: true, .. } if !quiet => {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        JobEvent::Round { number, nodes, world_size, reason, .. } => {
            let counted =
                |count: &usize, what| format!("{count} {what}{}", if *count == 1 { "" } else { "s" });
            let (ranks, nodes) = (counted(world_size, "rank"), counted(nodes, "node"));
            eprintln!("launch: round {number}: {ranks} on {nodes}: {reason}");
        }
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
        options.resolve("logs".into())
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
            (&["--nproc-per-node", "0", "--no-python", "sh"], "expected a number above 0"),
            (&["no/such/script.py"], "there is no script `no/such/script.py`"),
            (&["--last-call=-1", "--no-python", "sh"], "--last-call -1"),
            (&[], "required arguments were not provided"),
        ] {
            let error = resolved(args).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
