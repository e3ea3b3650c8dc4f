//! `cargo xtask cluster`: a Kubernetes to try things in, one that is there or one that scripts start.
//!
//! The scripts are no part of the checkout: a folder with `up`, `down` and `with` beside it, or where `KF_CLUSTER` says.

mod decide;
mod look;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Subcommand;

use self::decide::{Action, Call, Use};

/// What is to be done.
#[derive(Subcommand)]
pub(crate) enum Task {
    /// Starts it, or what of it has ended, and prints how to use it. One that `KUBECONFIG` names is left as it is.
    Up {
        /// Only the API server and its store: no node, so no pods.
        #[arg(long, conflicts_with = "with")]
        api_only: bool,
        /// A controller to run in it, such as `jobset`; may be given several times.
        #[arg(long = "with", value_name = "NAME")]
        with: Vec<String>,
    },
    /// Ends it.
    Down,
    /// Tells which it is, and whether it answers.
    Status,
    /// Prints the line that makes programs use it, for `eval "$(cargo xtask cluster env)"`.
    Env,
}

/// Does it.
///
/// # Errors
/// A message for the user: that there is none and how to get one, or what failed.
pub(crate) fn run(root: &Path, task: &Task) -> Result<(), String> {
    match decide::decide(task, &look::look(root)?)? {
        Action::Tell(cluster) => {
            tell(&cluster);
            Ok(())
        }
        Action::Run { calls, then } => {
            calls.iter().try_for_each(call)?;
            let Some(cluster) = then else { return Ok(()) };
            if !Path::new(&cluster.kubeconfig).is_file() {
                return Err(format!(
                    "the scripts have started a cluster, but written no {}",
                    cluster.kubeconfig
                ));
            }
            tell(&cluster);
            Ok(())
        }
        Action::Ask(cluster) => ask(&cluster),
    }
}

/// A cluster that the tests use. Dropped, it is ended where it was started for them.
pub(crate) struct TestCluster {
    /// For `KUBECONFIG`.
    pub(crate) kubeconfig: String,
    ends: Option<Ends>,
}

/// What ends a cluster that was started for tests.
enum Ends {
    /// That of this checkout.
    Of(PathBuf),
    /// One beside it.
    Beside(Call),
}

impl TestCluster {
    /// The cluster that there is, or one with these controllers that scripts start; none, and why, where neither is to be
    /// had.
    ///
    /// # Errors
    /// That it does not start.
    pub(crate) fn find(root: &Path, with: &[&str]) -> Result<Result<Self, String>, String> {
        let seen = look::look(root)?;
        let task = Task::Up { api_only: false, with: with.iter().map(|&name| name.to_owned()).collect() };
        match decide::decide(&task, &seen) {
            Ok(Action::Run { .. }) if !look::is_root() => {
                Ok(Err("the scripts that start one need root".to_owned()))
            }
            Ok(Action::Run { calls, then: Some(cluster) }) => {
                calls.iter().try_for_each(call)?;
                let ends = (!seen.up).then(|| Ends::Of(root.to_owned()));
                Ok(Ok(Self { kubeconfig: cluster.kubeconfig, ends }))
            }
            Ok(_) => Err("no cluster was started".to_owned()),
            Err(why) => match (seen.kubeconfig, seen.kubeconfig_there) {
                // Somebody's own, with whatever controllers it has.
                (Some(kubeconfig), true) => Ok(Ok(Self { kubeconfig, ends: None })),
                _ => Ok(Err(why)),
            },
        }
    }

    /// One more, that nobody else uses, where these controllers have their own definitions; none, and why, where it is not
    /// to be had.
    ///
    /// # Errors
    /// That it does not start.
    pub(crate) fn beside(root: &Path, with: &[&str]) -> Result<Result<Self, String>, String> {
        let with: Vec<_> = with.iter().map(|&name| name.to_owned()).collect();
        let decide::Beside { starts, ends, kubeconfig } = match decide::beside(&with, &look::look(root)?) {
            Ok(_) if !look::is_root() => return Ok(Err("the scripts that start one need root".to_owned())),
            Ok(beside) => beside,
            Err(why) => return Ok(Err(why)),
        };
        // Dropped, it is ended also where it has started in part.
        let cluster = Self { kubeconfig, ends: Some(Ends::Beside(ends)) };
        starts.iter().try_for_each(call)?;
        Ok(Ok(cluster))
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        let ended = match &self.ends {
            None => Ok(()),
            Some(Ends::Of(root)) => run(root, &Task::Down),
            Some(Ends::Beside(ends)) => call(ends),
        };
        if let Err(error) = ended {
            eprintln!("warning: the tests' cluster is still there: {error}");
        }
    }
}

/// The line on the standard output, for `eval`; the words for who reads.
fn tell(cluster: &Use) {
    if let Some(words) = &cluster.words {
        eprintln!("{words}");
    }
    println!("{}", cluster.line());
}

fn call(call: &Call) -> Result<(), String> {
    let shown = call.program.display();
    let mut command = Command::new(&call.program);
    // What it prints there is the line that is told afterwards.
    command.args(&call.arguments).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(number) = call.cluster {
        command.env("KF_CLUSTER_ID", number.to_string());
    }
    let status = command.status().map_err(|error| format!("{shown} does not start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} {}: {status}", call.arguments.join(" "))) }
}

fn ask(cluster: &Use) -> Result<(), String> {
    let kubectl =
        cluster.programs.as_ref().map(|folder| folder.join("kubectl")).filter(|path| path.is_file());
    let kubectl = kubectl.unwrap_or_else(|| "kubectl".into());
    println!("{}", cluster.kubeconfig);
    let status = Command::new(&kubectl)
        .args(["--request-timeout=5s", "get", "nodes"])
        .env("KUBECONFIG", &cluster.kubeconfig)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{} does not start: {error}; install kubectl", kubectl.display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the cluster of {} does not answer", cluster.kubeconfig))
    }
}
