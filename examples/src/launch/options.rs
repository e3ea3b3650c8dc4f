//! The command line of `launch`, which is torchrun's.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use kf_train::Job;
use kf_train::elastic::{AgentOptions, QuorumOptions};

/// Where torchrun's agents meet when an endpoint names no port.
const PORT: u16 = 29400;

/// Runs a script that was written for torchrun on one node of a job or on several, and keeps its ranks together.
///
/// Exits with 0 when all ranks succeeded, with 1 when one failed and no restart was left or this node was told to leave
/// (SIGTERM, Ctrl-C), and with 2 when the job could not begin.
#[derive(Debug, Parser)]
#[command(name = "launch")]
pub struct Options {
    /// A job of this node alone, which needs no endpoint.
    #[arg(long)]
    pub standalone: bool,
    /// How many nodes: N, or MIN:MAX for a job that nodes may join and leave.
    #[arg(long, default_value = "1", value_name = "MIN:MAX")]
    pub nnodes: String,
    /// How many ranks this node has: a number, `gpu`, `cpu`, or `auto` (one a GPU, and without GPUs one a core).
    #[arg(long, alias = "nproc_per_node", default_value = "1", value_name = "N")]
    pub nproc_per_node: String,
    /// How many times failed ranks have all ranks started anew.
    #[arg(long, alias = "max_restarts", default_value_t = 0, value_name = "K")]
    pub max_restarts: u64,
    /// This node's number, from 0, for a fixed number of nodes. Where not given, nodes are numbered as they come.
    #[arg(long, alias = "node_rank", value_name = "R")]
    pub node_rank: Option<usize>,
    /// Where the agents meet: HOST or HOST:PORT of a node, or several, with commas between them.
    #[arg(long, alias = "rdzv_endpoint", value_name = "H:P", value_delimiter = ',')]
    pub rdzv_endpoint: Vec<String>,
    /// The job's name among all that meet at the same endpoint.
    #[arg(long, alias = "rdzv_id", default_value = "none", value_name = "ID")]
    pub rdzv_id: String,
    /// `c10d` or `static`, which are the same here: the agents' own store.
    #[arg(long, alias = "rdzv_backend", default_value = "c10d", value_parser = ["c10d", "static"])]
    pub rdzv_backend: String,
    /// The host of the endpoint, for scripts that start torchrun with it.
    #[arg(long, alias = "master_addr", value_name = "HOST")]
    pub master_addr: Option<String>,
    /// The port of the endpoint, for scripts that start torchrun with it.
    #[arg(long, alias = "master_port", value_name = "PORT")]
    pub master_port: Option<u16>,
    /// The address that other nodes reach this one by.
    #[arg(long, alias = "local_addr", value_name = "HOST")]
    pub local_addr: Option<String>,
    /// Where what the ranks print goes as well: D/ID/attempt_0/0/stdout.log, stderr.log and error.json.
    #[arg(long, alias = "log_dir", value_name = "D")]
    pub log_dir: Option<PathBuf>,
    /// Print nothing of what the ranks print; it is in the logs.
    #[arg(long)]
    pub quiet: bool,
    /// Run the script as a module, as `python -m` does.
    #[arg(short, long)]
    pub module: bool,
    /// Run the script itself, not with Python.
    #[arg(long, alias = "no_python")]
    pub no_python: bool,
    /// How long a node looks for the others, in seconds.
    #[arg(long, default_value_t = 600.0, value_name = "S")]
    pub join_timeout: f64,
    /// How long a node that is not heard of counts as alive, in seconds.
    #[arg(long, default_value_t = 5.0, value_name = "S")]
    pub heartbeat_timeout: f64,
    /// How long the first round waits for more nodes once there are MIN, in seconds.
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    pub last_call: f64,
    /// The script, and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "SCRIPT")]
    pub script: Vec<String>,
}

impl Options {
    /// The job, and how this node's agent works.
    ///
    /// # Errors
    /// What is wrong with the command line, and what would be right.
    pub fn resolve(&self, folder: PathBuf) -> Result<(Job, AgentOptions), String> {
        let (min_nodes, max_nodes) = self.nodes()?;
        let endpoints = self.endpoints(max_nodes)?;
        let seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value).map_err(|error| format!("--{name} {value}: {error}"))
        };
        let mut options = AgentOptions::new(folder);
        options.run_id.clone_from(&self.rdzv_id);
        options.endpoints = endpoints;
        options.host.clone_from(&self.local_addr);
        options.node_rank = self.node_rank_of(min_nodes, max_nodes)?;
        options.join_timeout = seconds("join-timeout", self.join_timeout)?;
        let heartbeat_timeout = seconds("heartbeat-timeout", self.heartbeat_timeout)?;
        options.heartbeat = heartbeat_timeout / 5;
        options.quorum = QuorumOptions {
            min_nodes,
            max_nodes,
            max_restarts: self.max_restarts,
            heartbeat_timeout,
            last_call: seconds("last-call", self.last_call)?,
            ..QuorumOptions::default()
        };
        let job = self.job()?.stderr_apart().stop_grace(Duration::from_secs(30));
        Ok((job, options))
    }

    fn nodes(&self) -> Result<(usize, usize), String> {
        let wrong = || format!("--nnodes {}: expected N or MIN:MAX, with 1 ≤ MIN ≤ MAX", self.nnodes);
        let (min, max) = self.nnodes.split_once(':').unwrap_or((&self.nnodes, &self.nnodes));
        let (min, max) = (min.parse().map_err(|_| wrong())?, max.parse().map_err(|_| wrong())?);
        if min == 0 || max < min {
            return Err(wrong());
        }
        if self.standalone && max > 1 {
            return Err(format!("--standalone is for one node, and --nnodes is {}", self.nnodes));
        }
        Ok((min, max))
    }

    fn node_rank_of(&self, min_nodes: usize, max_nodes: usize) -> Result<Option<usize>, String> {
        match self.node_rank {
            Some(rank) if min_nodes != max_nodes => Err(format!(
                "--node-rank {rank}: with --nnodes {} nodes come and go, and are numbered as they come; leave it out, or give \
                 --nnodes one number",
                self.nnodes
            )),
            Some(rank) if rank >= max_nodes => {
                Err(format!("--node-rank {rank}: with --nnodes {max_nodes} it must be below {max_nodes}"))
            }
            rank => Ok(rank),
        }
    }

    fn endpoints(&self, max_nodes: usize) -> Result<Vec<String>, String> {
        if self.standalone {
            return Ok(Vec::new());
        }
        let mut endpoints = self.rdzv_endpoint.clone();
        if let (Some(host), true) = (&self.master_addr, endpoints.is_empty()) {
            endpoints.push(format!("{host}:{}", self.master_port.unwrap_or(29500)));
        }
        if endpoints.is_empty() && max_nodes > 1 {
            return Err("a job of several nodes needs --rdzv-endpoint HOST:PORT, the same on each".into());
        }
        let with_port = |endpoint: String| match endpoint.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => endpoint,
            _ => format!("{endpoint}:{PORT}"),
        };
        Ok(endpoints.into_iter().map(with_port).collect())
    }

    fn ranks(&self) -> Result<usize, String> {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        match self.nproc_per_node.as_str() {
            "cpu" => Ok(cores()),
            "auto" => Ok(Some(gpus()).filter(|gpus| *gpus > 0).unwrap_or_else(cores)),
            "gpu" => match gpus() {
                0 => {
                    Err("--nproc-per-node gpu: this machine has no NVIDIA GPU; use a number, or `cpu`".into())
                }
                gpus => Ok(gpus),
            },
            number => number.parse().ok().filter(|ranks| *ranks > 0).ok_or_else(|| {
                format!("--nproc-per-node {number}: expected a number above 0, gpu, cpu or auto")
            }),
        }
    }

    fn job(&self) -> Result<Job, String> {
        let ranks = self.ranks()?;
        let (script, args) = self.script.split_first().ok_or("no script is given")?;
        let args = args.iter().cloned();
        if !self.module && !std::path::Path::new(script).exists() && (!self.no_python || script.contains('/'))
        {
            return Err(format!("there is no script `{script}`"));
        }
        if self.no_python {
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

/// The NVIDIA GPUs of this machine.
fn gpus() -> usize {
    let devices = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let number = |name: std::ffi::OsString| {
        name.to_str()?.strip_prefix("nvidia").filter(|rest| rest.parse::<u32>().is_ok()).map(drop)
    };
    devices.filter(|device| number(device.file_name()).is_some()).count()
}
