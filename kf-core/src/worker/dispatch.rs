//! From the environment to the entry that was asked for.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::{
    ENTRY, ExecRequest, HANDED, PARENT, REQUEST, Request, STDIN, WorkerError, Workers, exchange, orphan,
};
use crate::telemetry::TraceContext;

/// The exit code of a worker whose entry returned an error.
pub const EXIT_FAILED: u8 = 1;
/// The exit code of a worker that could not start what it was asked: unknown entry, bad request, parent gone.
pub const EXIT_REFUSED: u8 = 64;
/// The exit code of a worker whose entry panicked.
pub const EXIT_PANIC: u8 = 101;

/// The built-in entry that becomes another program, under the same protection.
pub(crate) const EXEC_ENTRY: &str = "kf:exec";

/// The built-in entry that ends what another process leaves behind.
pub(crate) const GUARD_ENTRY: &str = "kf:guard";

/// Whether this process has asked; without that, a copy of it would run `main` proper and copy itself again.
static DISPATCHES: AtomicBool = AtomicBool::new(false);

/// Whether [`run_if_asked`] was called in this process, so that copies of it can be started.
pub(crate) fn dispatches() -> bool {
    DISPATCHES.load(Ordering::Acquire)
}

/// Runs the entry that this process was started for, and tells the code to end with; `None` where it was started by
/// a person, or by a worker of its own accord, so that `main` goes on.
///
/// Call it first thing in `main`, before threads, runtimes and arguments:
/// `if let Some(code) = run_if_asked(&workers) { return code }`.
pub fn run_if_asked(workers: &Workers) -> Option<ExitCode> {
    DISPATCHES.store(true, Ordering::Release);
    let parent = std::env::var(PARENT);
    let asked = std::env::var_os(ENTRY).filter(|_| !parent.is_ok_and(|parent| orphan::is_inherited(&parent)));
    let answer = match asked {
        Some(asked) => answer(workers, asked),
        None => {
            let args: Vec<String> =
                std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
            let (function, executor_input) = container(&args)?;
            let function = function.to_owned();
            let executor_input = executor_input.to_owned();
            apart(workers, function.clone(), move |workers| workers.run_container(&function, &executor_input))
        }
    };
    let code = match answer {
        Ok(()) => 0,
        Err(Ended::Refused(error)) => report(&error, EXIT_REFUSED),
        Err(Ended::Failed(error)) => report(&error, EXIT_FAILED),
        // The panic's message was printed by the panic hook.
        Err(Ended::Panicked) => EXIT_PANIC,
    };
    Some(ExitCode::from(code))
}

/// The function and the executor input where these arguments are those that exported pipelines have.
fn container(args: &[String]) -> Option<(&str, &str)> {
    match args {
        [_, input, json, function, name]
            if input == "--executor_input" && function == "--function_to_execute" =>
        {
            Some((name, json))
        }
        _ => None,
    }
}

enum Ended {
    Refused(WorkerError),
    Failed(WorkerError),
    Panicked,
}

fn answer(workers: &Workers, asked: OsString) -> Result<(), Ended> {
    if let Some(parent) = std::env::var_os(PARENT) {
        orphan::die_with_parent(&parent.to_string_lossy()).map_err(Ended::Refused)?;
    }
    let name = asked.to_string_lossy().into_owned();
    if name == GUARD_ENTRY {
        crate::process::guard::run();
        return Ok(());
    }
    if name == EXEC_ENTRY {
        let Some(request) = read_request(&name).map_err(Ended::Refused)? else { return Ok(()) };
        return Err(Ended::Refused(request.parse().map_or_else(|error| error, exec)));
    }
    let entry = workers.find(&name).map_err(Ended::Refused)?.clone();
    let Some(request) = read_request(&name).map_err(Ended::Refused)? else { return Ok(()) };
    apart(workers, name, move |_| entry.run(request))
}

/// How much stack an entry has at least.
const STACK: u64 = 8 << 20;

/// Runs something where a runtime may be started, and a panic ends here. It runs in a span that goes on with the trace of
/// whoever started this process.
fn apart(
    workers: &Workers,
    name: String,
    run: impl FnOnce(&Workers) -> Result<(), WorkerError> + Send + 'static,
) -> Result<(), Ended> {
    let workers = workers.clone();
    let entry = name.clone();
    let ran = move || {
        let kept = workers.set_up().map_err(Ended::Refused)?;
        let span = tracing::info_span!("worker", entry);
        if let Some(trace) = TraceContext::from_env() {
            trace.precedes(&span);
        }
        let ran = catch_unwind(AssertUnwindSafe(|| span.in_scope(|| run(&workers))));
        // The span ends before what exports it.
        drop(span);
        drop(kept);
        ran.map_err(|_| Ended::Panicked)?.map_err(Ended::Failed)
    };
    let stack = rustix::process::getrlimit(rustix::process::Resource::Stack).current;
    // A thread more is dearer than all else that is done here.
    let ran = if Handle::try_current().is_err() && stack.is_none_or(|stack| stack >= STACK) {
        catch_unwind(AssertUnwindSafe(ran))
    } else {
        // A `main` under #[tokio::main] would forbid it a runtime.
        let thread = std::thread::Builder::new().name(name).stack_size(STACK as usize).spawn(ran);
        thread.map_err(|error| Ended::Refused(WorkerError::failed(error)))?.join()
    };
    // A panic of what was set up.
    ran.unwrap_or(Err(Ended::Panicked))
}

/// The request; none where this process was started ahead and is not needed any more.
fn read_request(entry: &str) -> Result<Option<Request>, WorkerError> {
    let bad =
        |source: Box<dyn StdError + Send + Sync>| WorkerError::Request { name: entry.to_owned(), source };
    let Some(path) = std::env::var_os(REQUEST) else {
        return Err(bad(format!("{REQUEST} is not set; it names the JSON file with the request").into()));
    };
    // Where a person has set the variables, nobody waits for an answer.
    let awaited = |(json, answer)| (json, std::env::var_os(PARENT).map(|_| answer));
    let read = match path.to_str() {
        Some(STDIN) => exchange::read().map(awaited).map(Some),
        Some(HANDED) => exchange::read_handed().map(|read| read.map(awaited)),
        _ => std::fs::read_to_string(&path).map(|json| Some((json, None))),
    };
    let read = read.map_err(|error| bad(format!("can't read {}: {error}", path.to_string_lossy()).into()))?;
    let Some((json, answer)) = read else { return Ok(None) };
    serde_json::from_str::<serde::de::IgnoredAny>(&json)
        .map_err(|error| bad(format!("{} is not JSON: {error}", path.to_string_lossy()).into()))?;
    Ok(Some(Request { entry: entry.to_owned(), json, answer }))
}

/// Becomes another program; comes back only with the reason why not.
fn exec(request: ExecRequest) -> WorkerError {
    let mut command = Command::new(&request.program);
    command.args(&request.args);
    match request.env {
        Some(env) => command.env_clear().envs(env),
        None => command.env_remove(ENTRY).env_remove(REQUEST).env_remove(PARENT),
    };
    let source = command.exec();
    WorkerError::Exec { program: request.program, source }
}

/// Prints an error with its causes on standard error; a closed one is no reason to end differently.
fn report(error: &WorkerError, code: u8) -> u8 {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.contains(&line) {
            text.push_str("\ncaused by: ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    let _ = writeln!(std::io::stderr(), "{text}");
    code
}
