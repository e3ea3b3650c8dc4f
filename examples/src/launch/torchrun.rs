//! Options of torchrun that mean nothing here, and those that `launch` can't obey.

use clap::Args;
use clap::builder::FalseyValueParser;

const HEADING: &str = "Options of torchrun without effect here";
/// The signals that torchrun hands on.
const SIGNALS: [&str; 4] = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"];

/// What torchrun knows and `launch` has nothing to do for.
#[derive(Debug, Args)]
pub(super) struct Torchrun {
    /// The ranks' role, which is `default`.
    #[arg(long, help_heading = HEADING)]
    role: Option<String>,
    /// How often ranks are looked at, in seconds: their ends are learned of at once.
    #[arg(long, alias = "monitor_interval", help_heading = HEADING, value_name = "S")]
    monitor_interval: Option<f64>,
    /// How functions are started: ranks are programs.
    #[arg(long, alias = "start_method", help_heading = HEADING, value_parser = ["spawn", "fork", "forkserver"])]
    start_method: Option<String>,
    /// Run the script in the interpreter that runs already: each rank has its own.
    #[arg(long, alias = "run_path", help_heading = HEADING, env = "PET_RUN_PATH", hide_env = true, value_parser = FalseyValueParser::new())]
    pub run_path: bool,
    /// Where torchrun's events go: nowhere (`null`).
    #[arg(long, alias = "event_log_handler", help_heading = HEADING, value_name = "NAME", env = "PET_EVENT_LOG_HANDLER", hide_env = true)]
    event_log_handler: Option<String>,
    /// Signals that are handed on: SIGTERM and SIGINT end the ranks in good order, any other that ends `launch` kills them.
    #[arg(long, alias = "signals_to_handle", help_heading = HEADING, value_delimiter = ',', env = "PET_SIGNALS_TO_HANDLE", hide_env = true)]
    signals_to_handle: Vec<String>,
    #[arg(long, alias = "logs_specs", hide = true)]
    logs_specs: Option<String>,
    #[arg(long, alias = "numa_binding", hide = true, env = "PET_NUMA_BINDING")]
    numa_binding: Option<String>,
    #[arg(long, alias = "virtual_local_rank", hide = true, env = "PET_VIRTUAL_LOCAL_RANK", value_parser = FalseyValueParser::new())]
    virtual_local_rank: bool,
}

impl Torchrun {
    /// Refuses what would change what the job does.
    ///
    /// # Errors
    /// The option, and what to do.
    pub(super) fn check(&self) -> Result<(), String> {
        let refused = |option: &str, instead: &str| {
            Err(format!("torchrun's --{option} is not supported by launch: {instead}"))
        };
        if self.logs_specs.is_some() {
            return refused("logs-specs", "leave it out; --log-dir says where the logs go");
        }
        if self.numa_binding.is_some() {
            return refused("numa-binding", "leave it out, and have the script bind its process (numactl)");
        }
        if self.virtual_local_rank {
            return refused("virtual-local-rank", "leave it out; LOCAL_RANK is a rank's number on its node");
        }
        if self.event_log_handler.as_ref().is_some_and(|handler| handler != "null") {
            return refused("event-log-handler", "leave it out, or give `null`");
        }
        match self.signals_to_handle.iter().find(|signal| !SIGNALS.contains(&signal.trim())) {
            Some(signal) => refused(
                &format!("signals-to-handle {signal}"),
                "leave it out, and send the signal to the ranks; SIGTERM and SIGINT are handed on",
            ),
            None => Ok(()),
        }
    }

    /// Which options have no effect, and why.
    pub(super) fn notes(&self) -> Vec<String> {
        let given = [
            (self.role.is_some(), "role", "ROLE_NAME is `default`"),
            (self.monitor_interval.is_some(), "monitor-interval", "the end of a rank is learned of at once"),
            (self.start_method.is_some(), "start-method", "ranks are programs"),
            (self.run_path, "run-path", "the script runs with Python, in a process for each rank"),
            (self.event_log_handler.is_some(), "event-log-handler", "there are no such events"),
            (
                !self.signals_to_handle.is_empty(),
                "signals-to-handle",
                "SIGTERM and SIGINT end the ranks in good order, others that end launch kill them",
            ),
        ];
        let told = |(_, option, why): (bool, &str, &str)| format!("--{option} has no effect here: {why}");
        given.into_iter().filter(|(given, ..)| *given).map(told).collect()
    }
}
