//! The command line of `launch`, which is torchrun's.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::FalseyValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use kf_train::Job;
use kf_train::elastic::torchrun::{self, Conf};
use kf_train::elastic::{AgentOptions, QuorumOptions};

use super::console::Console;
use super::logs::check_id;
use super::torchrun::Torchrun;

/// Longer than any job, and what a clock bears.
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Nodes can't be told from lost ones by less.
const LEAST_HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(100);

/// Runs a script that was written for torchrun on one node of a job or on several, and keeps its ranks together.
///
/// Exits with 0 when all ranks succeeded, with 1 when one failed and no restart was left, with 2 when the job could not begin,
/// and, as shells tell it, with 143 or 130 when this node was told to leave (SIGTERM, Ctrl-C).
///
/// torchrun's options may also be given by its environment variables (PET_NNODES for --nnodes, and so on); the command line
/// goes before them. PET_NODE_RANK counts where the number of nodes is fixed.
#[derive(Debug, Parser)]
#[command(name = "launch", version, args_override_self = true, infer_long_args = true)]
pub struct Options {
    /// A job of this node alone, which needs no endpoint.
    #[arg(long, env = "PET_STANDALONE", hide_env = true, value_parser = FalseyValueParser::new())]
    pub standalone: bool,
    /// How many nodes: N, or MIN:MAX for a job that nodes may join and leave.
    #[arg(long, default_value = "1", value_name = "MIN:MAX", env = "PET_NNODES", hide_env = true)]
    pub nnodes: String,
    /// How many ranks this node has: a number, `gpu`, `cpu`, or `auto` (one a GPU, and without GPUs one a core).
    #[arg(
        long,
        alias = "nproc_per_node",
        allow_negative_numbers = true,
        default_value = "1",
        value_name = "N",
        env = "PET_NPROC_PER_NODE",
        hide_env = true
    )]
    pub nproc_per_node: String,
    /// How many times failed ranks have all ranks started anew.
    #[arg(
        long,
        alias = "max_restarts",
        allow_negative_numbers = true,
        default_value_t = 0,
        value_name = "K",
        env = "PET_MAX_RESTARTS",
        hide_env = true
    )]
    pub max_restarts: u64,
    /// This node's number, from 0, for a fixed number of nodes. Where not given, nodes are numbered as they come.
    #[arg(long, alias = "node_rank", allow_negative_numbers = true, value_name = "R")]
    pub node_rank: Option<usize>,
    /// Where the agents meet: HOST or HOST:PORT of a node, or several, with commas between them.
    #[arg(
        long,
        alias = "rdzv_endpoint",
        value_name = "H:P",
        value_delimiter = ',',
        env = "PET_RDZV_ENDPOINT",
        hide_env = true
    )]
    pub rdzv_endpoint: Vec<String>,
    /// The job's name among all that meet at the same endpoint.
    #[arg(
        long,
        alias = "rdzv_id",
        default_value = "none",
        value_name = "ID",
        env = "PET_RDZV_ID",
        hide_env = true
    )]
    pub rdzv_id: String,
    /// `c10d` or `static`, which are the same here: the agents' own store.
    #[arg(
        long,
        alias = "rdzv_backend",
        default_value = "c10d",
        value_name = "BACKEND",
        env = "PET_RDZV_BACKEND",
        hide_env = true
    )]
    pub rdzv_backend: String,
    /// KEY=VALUE,…: `join_timeout` or `timeout`, and `last_call_timeout`, in seconds, stand for --join-timeout and
    /// --last-call.
    #[arg(
        long,
        alias = "rdzv_conf",
        default_value = "",
        hide_default_value = true,
        value_name = "CONF",
        env = "PET_RDZV_CONF",
        hide_env = true
    )]
    pub(super) rdzv_conf: Conf,
    /// The host of the endpoint, for scripts that start torchrun with it.
    #[arg(long, alias = "master_addr", value_name = "HOST", env = "PET_MASTER_ADDR", hide_env = true)]
    pub master_addr: Option<String>,
    /// The port of the endpoint, for scripts that start torchrun with it.
    #[arg(long, alias = "master_port", value_name = "PORT", env = "PET_MASTER_PORT", hide_env = true)]
    pub master_port: Option<u16>,
    /// The address that other nodes reach this one by.
    #[arg(long, alias = "local_addr", value_name = "HOST", env = "PET_LOCAL_ADDR", hide_env = true)]
    pub local_addr: Option<String>,
    /// What this node is called, where a node that is lost is replaced by one of the same name: the host of an endpoint by
    /// this name is this node.
    #[arg(long, value_name = "NAME", env = "KF_TRAIN_NODE", hide_env = true)]
    pub node_name: Option<String>,
    /// A file, such as /dev/stdout, that is told of each round by a line of JSON.
    #[arg(long, value_name = "FILE", env = "KF_TRAIN_ROUNDS", hide_env = true)]
    pub rounds_file: Option<PathBuf>,
    /// Where what the ranks print goes as well: D/ID/attempt_0/0/stdout.log, stderr.log and error.json. A later run with the
    /// same ID has D/ID_1, and so on.
    #[arg(long, alias = "log_dir", value_name = "D", env = "PET_LOG_DIR", hide_env = true)]
    pub log_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) console: Console,
    /// Run the script as a module, as `python -m` does.
    #[arg(short, long, env = "PET_MODULE", hide_env = true, value_parser = FalseyValueParser::new())]
    pub module: bool,
    /// Run the script itself, not with Python.
    #[arg(long, alias = "no_python", env = "PET_NO_PYTHON", hide_env = true, value_parser = FalseyValueParser::new())]
    pub no_python: bool,
    /// How long a node looks for the others, in seconds; 600 where not given.
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    pub join_timeout: Option<f64>,
    /// How long a node that is not heard of counts as alive, in seconds.
    #[arg(long, default_value_t = 5.0, allow_negative_numbers = true, value_name = "S")]
    pub heartbeat_timeout: f64,
    /// How long the first round waits for more nodes once there are MIN, in seconds; 2 where not given.
    #[arg(long, allow_negative_numbers = true, value_name = "S")]
    pub last_call: Option<f64>,
    #[command(flatten)]
    pub(super) torchrun: Torchrun,
    /// The script, and its arguments, which are its own whatever they are.
    #[arg(trailing_var_arg = true, required = true, value_name = "SCRIPT")]
    pub script: Vec<String>,
}

/// What to print about a command line that can't be read, where clap has no better words.
pub fn unknown_option(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let option = text(ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument)?;
    let like = text(ContextKind::SuggestedArg).map_or(String::new(), |like| format!(", is it {like}?"));
    Some(format!("unknown option '{option}'{like}; see launch --help"))
}

impl Options {
    /// The job, and how this node's agent works.
    ///
    /// # Errors
    /// What is wrong with the command line, and what would be right.
    pub fn resolve(&self) -> Result<(Job, AgentOptions), String> {
        self.torchrun.check()?;
        if !["c10d", "static"].contains(&self.rdzv_backend.as_str()) {
            return Err(format!(
                "torchrun's --rdzv-backend {} is not supported by launch: leave it out, or give `c10d`; the agents meet at \
                 their own store",
                self.rdzv_backend
            ));
        }
        if self.log_dir.is_some() {
            check_id(&self.rdzv_id)?;
        }
        let (min_nodes, max_nodes) = self.nodes()?;
        let endpoints = self.endpoints(max_nodes)?;
        let mut options = AgentOptions::new("");
        options.run_id.clone_from(&self.rdzv_id);
        options.endpoints = endpoints;
        options.host.clone_from(&self.local_addr);
        options.name.clone_from(&self.node_name);
        options.rounds.clone_from(&self.rounds_file);
        options.node_rank = self.node_rank_of(min_nodes, max_nodes)?;
        let join_timeout = self.join_timeout.or(self.rdzv_conf.join_timeout).unwrap_or(600.0);
        options.join_timeout = seconds("join-timeout", join_timeout)?;
        let heartbeat_timeout = seconds("heartbeat-timeout", self.heartbeat_timeout)?;
        if heartbeat_timeout < LEAST_HEARTBEAT_TIMEOUT {
            return Err(format!(
                "--heartbeat-timeout {}: expected at least {} seconds",
                self.heartbeat_timeout,
                LEAST_HEARTBEAT_TIMEOUT.as_secs_f64()
            ));
        }
        options.heartbeat = heartbeat_timeout / 5;
        options.quorum = QuorumOptions {
            min_nodes,
            max_nodes,
            max_restarts: self.max_restarts,
            heartbeat_timeout,
            last_call: seconds("last-call", self.last_call.or(self.rdzv_conf.last_call).unwrap_or(2.0))?,
            ..QuorumOptions::default()
        };
        let job = self.job()?.stderr_apart().stop_grace(Duration::from_secs(30));
        Ok((job, options))
    }

    /// What of the command line has no effect, and why.
    pub fn notes(&self) -> Vec<String> {
        let conf = self.rdzv_conf.others.iter();
        let conf = conf.map(|key| format!("--rdzv-conf: {key} has no effect here"));
        self.torchrun.notes().into_iter().chain(self.console.note()).chain(conf).collect()
    }

    fn nodes(&self) -> Result<(usize, usize), String> {
        let wrong = |reason| format!("--nnodes {}: {reason}", self.nnodes);
        let (min, max) = torchrun::nodes(&self.nnodes).map_err(wrong)?;
        if self.standalone && max > 1 {
            return Err(format!("--standalone is for one node, and --nnodes is {}", self.nnodes));
        }
        Ok((min, max))
    }

    fn node_rank_of(&self, min_nodes: usize, max_nodes: usize) -> Result<Option<usize>, String> {
        let fixed = min_nodes == max_nodes;
        // Pods have it, of elastic jobs too, for which it means nothing.
        let named = std::env::var("PET_NODE_RANK").ok().filter(|_| fixed && !self.standalone);
        let (name, rank) = match (self.node_rank, named.filter(|rank| !rank.is_empty())) {
            (Some(rank), _) => ("--node-rank", rank),
            (None, Some(text)) => {
                let rank = text.trim().parse();
                (
                    "PET_NODE_RANK",
                    rank.map_err(|_| format!("PET_NODE_RANK {text}: expected a number, from 0"))?,
                )
            }
            (None, None) => return Ok(None),
        };
        if !fixed {
            return Err(format!(
                "{name} {rank}: with --nnodes {} nodes come and go, and are numbered as they come; leave it out, or give \
                 --nnodes one number",
                self.nnodes
            ));
        }
        match rank < max_nodes {
            true => Ok(Some(rank)),
            false => Err(format!("{name} {rank}: with --nnodes {max_nodes} it must be below {max_nodes}")),
        }
    }

    fn endpoints(&self, max_nodes: usize) -> Result<Vec<String>, String> {
        if self.standalone {
            return Ok(Vec::new());
        }
        let master = self.master_addr.as_deref().map(|host| (host, self.master_port));
        let endpoints = torchrun::endpoints(&self.rdzv_endpoint, master, max_nodes)?;
        if endpoints.is_empty() && max_nodes > 1 {
            return Err("a job of several nodes needs --rdzv-endpoint HOST:PORT, the same on each".into());
        }
        Ok(endpoints)
    }

    fn ranks(&self) -> Result<usize, String> {
        let wrong = |reason| format!("--nproc-per-node {}: {reason}", self.nproc_per_node);
        torchrun::ranks(&self.nproc_per_node).map_err(wrong)
    }

    fn job(&self) -> Result<Job, String> {
        let ranks = self.ranks()?;
        let (script, args) = self.script.split_first().ok_or("no script is given")?;
        let args = args.iter().cloned();
        if !self.module && !std::path::Path::new(script).exists() && (!self.no_python || script.contains('/'))
        {
            return Err(format!("there is no script `{script}`"));
        }
        if self.no_python && self.module {
            return Err("--no-python and --module exclude each other: give one of them".into());
        }
        if self.no_python && !self.torchrun.run_path {
            return Ok(Job::command(script, args, ranks));
        }
        let python = std::env::var("PYTHON_EXEC").unwrap_or_else(|_| "python3".into());
        let mut all = vec!["-u".to_owned()];
        all.extend(self.module.then(|| "-m".to_owned()));
        all.push(script.clone());
        all.extend(args);
        Ok(Job::command(python, all, ranks).name(script.clone()))
    }
}

/// A time of the command line; longer ones are cut to ten years.
fn seconds(name: &str, value: f64) -> Result<Duration, String> {
    if value.is_nan() || value < 0.0 {
        return Err(format!("--{name} {value}: expected a number of seconds, from 0"));
    }
    Ok(Duration::try_from_secs_f64(value).map_or(TEN_YEARS, |time| time.min(TEN_YEARS)))
}
