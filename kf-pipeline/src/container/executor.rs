//! Carries container steps on this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kf_core::process::{Capture, Child, Command, Exit, Log, LogFeed, LogStream, Spawner, Usage};
use kf_core::telemetry::TraceContext;
use tempfile::TempDir;

use super::command::words;
use super::executor_input::{ExecutorInput, work_dir};
use super::executor_output;
use super::kubernetes::{self, Objects};
use super::lightweight::Lightweight;
use super::private::Private;
use super::python::{Requirements, Servers, Step, StepRequest, Venvs};
use super::rules::{Rules, Runner, matches};
use super::traceback::Exception;
use crate::component::Progress;
use crate::engine::local::{Running, gone, last_lines};
use crate::engine::logs::LOG;
use crate::engine::{
    Attempt, AttemptEnd, AttemptHandle, AttemptStatus, Executor, ExecutorError, Submission, Work,
};
use crate::error::shortened;
use crate::mutex::locked;
use crate::placeholder::{Placeholder, as_text, replace_text, task_name};
use crate::plan::ContainerTask;

/// The version of KFP that Python steps import, where they were not compiled with a newer one.
const KFP: &str = "2.17.3";
/// Which of this process's environment variables steps see.
const ENV: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_*",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_*",
    "CUDA_VISIBLE_DEVICES",
];
/// How many of the last lines go into an error.
const TAIL_LINES: usize = 20;
/// Among how many of the last lines an exception is looked for.
const SEARCHED_LINES: usize = 1_000;
/// How many bytes of an exception's line begin an error.
const EXCEPTION_BYTES: usize = 500;
/// How long the output of an ended step is waited for, where a process that left its group still holds the pipe.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Carries the containers of Kubeflow Pipelines on this machine, without a container engine: rules say which images are
/// carried how.
///
/// Lightweight Python components run in a virtual environment of what they install, made once and kept in the home's
/// cache; each step is a fork of a server that has KFP imported. A step sees few of this process's environment
/// variables ([`env`](Self::env) adds to them), and of the platform `kubernetes` what has a meaning here: environment
/// variables and volumes from the secrets, config maps and claims that it was given. Volumes are mounted where the step
/// alone sees them, for which the process must be root.
///
/// ```
/// use kf_pipeline::{Engine, LocalContainers, Runner};
///
/// let containers = LocalContainers::new().rule("*", Runner::Python).rule("alpine*", Runner::Local);
/// let builder = Engine::builder().containers(containers.secret("token", "key", "s3cr3t"));
/// ```
#[derive(Clone, Debug)]
pub struct LocalContainers {
    rules: Rules,
    objects: Objects,
    env: Vec<String>,
    python: String,
    kfp: String,
    cache: Option<PathBuf>,
}

impl Default for LocalContainers {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            objects: Objects::default(),
            env: ENV.map(str::to_owned).to_vec(),
            python: "python3".to_owned(),
            kfp: KFP.to_owned(),
            cache: None,
        }
    }
}

impl LocalContainers {
    /// Without rules: every image is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// How steps of images are carried that fit a pattern, in which `*` stands for anything. Of several rules, the first
    /// that takes a step counts.
    #[must_use]
    pub fn rule(mut self, image: impl Into<String>, runner: Runner) -> Self {
        self.rules.0.push((image.into(), runner));
        self
    }

    /// A key of a Kubernetes secret.
    #[must_use]
    pub fn secret(mut self, name: &str, key: &str, value: &str) -> Self {
        self.objects.secrets.entry(name.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// A key of a Kubernetes config map.
    #[must_use]
    pub fn config_map(mut self, name: &str, key: &str, value: &str) -> Self {
        self.objects.config_maps.entry(name.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// The folder that stands for a persistent volume claim.
    #[must_use]
    pub fn claim(mut self, name: &str, folder: impl Into<PathBuf>) -> Self {
        self.objects.claims.insert(name.to_owned(), folder.into());
        self
    }

    /// A further environment variable of this process that steps see; `*` stands for anything.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>) -> Self {
        self.env.push(name.into());
        self
    }

    /// The Python that environments are made with; `python3` in `PATH` where not given.
    #[must_use]
    pub fn python(mut self, program: impl Into<String>) -> Self {
        self.python = program.into();
        self
    }

    /// The version of KFP that Python steps import; 2.17.3 where not given. A step that was compiled with a newer one
    /// gets that.
    #[must_use]
    pub fn kfp(mut self, version: impl Into<String>) -> Self {
        self.kfp = version.into();
        self
    }

    /// The folder that environments are kept in; in the engine's home where not given.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    pub(crate) fn executor(self, cache: &Path) -> Containers {
        let folder = self.cache.clone().unwrap_or_else(|| cache.join("python"));
        let seen = |name: &str| self.env.iter().any(|pattern| matches(pattern, name));
        // What is no text can't be handed on as one.
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let env = std::env::vars_os().filter_map(text).filter(|(name, _)| seen(name)).collect();
        let venvs = Venvs::new(folder, self.python.clone());
        Containers {
            options: self,
            env,
            spawner: OnceLock::new(),
            private: OnceLock::new(),
            venvs,
            servers: Servers::default(),
            running: Arc::default(),
        }
    }
}

/// The executor that [`LocalContainers`] makes.
pub(crate) struct Containers {
    options: LocalContainers,
    env: BTreeMap<String, String>,
    /// Made when the first step starts, since it holds a thread.
    spawner: OnceLock<Spawner>,
    /// Made when the first step has a secret as a volume.
    private: OnceLock<Private>,
    venvs: Venvs,
    servers: Servers,
    running: Arc<Running<(Process, Option<LogFeed>)>>,
}

impl std::fmt::Debug for Containers {
    /// Leaves out the environment's values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Containers").field("options", &self.options).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Process {
    /// A command of its own.
    Child(Arc<Child>),
    /// A step of a server.
    Step(Arc<Step>),
}

/// A process under way. Dropped, it is killed.
struct Under {
    handle: AttemptHandle,
    running: Arc<Running<(Process, Option<LogFeed>)>>,
}

impl Drop for Under {
    fn drop(&mut self) {
        locked(&self.running).remove(&self.handle);
    }
}

#[async_trait]
impl Executor for Containers {
    fn outlives_engine(&self) -> bool {
        false
    }

    fn accepts(&self, work: &Work) -> Result<(), String> {
        let Work::Container(task) = work else { return Err("is not a container".to_owned()) };
        let container = &task.container;
        let lightweight = Lightweight::recognise(&container.command, &container.args).is_some();
        if self.options.rules.find(&container.image, lightweight).is_none() {
            if self.options.rules.find(&container.image, true).is_some() {
                return Err(format!(
                    "is a command of image `{}`, whose rule runs lightweight Python alone; give one with `Runner::Local`",
                    container.image
                ));
            }
            let kind = if lightweight { "a lightweight Python component" } else { "a command" };
            return Err(format!(
                "is {kind} of image `{}`, for which there is no rule; give one, such as \
                 `LocalContainers::new().rule(\"{}\", Runner::Local)`",
                container.image, container.image
            ));
        }
        if container.command.is_empty() {
            return Err(format!(
                "has no command, and what image `{}` runs by itself is not known here",
                container.image
            ));
        }
        Ok(())
    }

    async fn submit(&self, attempt: Arc<Attempt>) -> Result<Submission, ExecutorError> {
        let Work::Container(task) = &attempt.work else {
            return Err(ExecutorError::Start("it is not a container".to_owned()));
        };
        let task = Arc::clone(task);
        let handle = attempt.handle();
        let log = attempt.dir.join(LOG);
        let lightweight = Lightweight::recognise(&task.container.command, &task.container.args);
        let mut prepared =
            self.prepare(&attempt, &task, lightweight.as_ref()).map_err(ExecutorError::Start)?;
        let secrets = std::mem::take(&mut prepared.secrets);
        let started = match lightweight {
            Some(lightweight) => self.start_python(&attempt, &task, lightweight, prepared, &log).await,
            None => self.start_command(&attempt, &task, prepared, &log).await,
        };
        let (process, feed, exit) = started.map_err(ExecutorError::Start)?;
        locked(&self.running).insert(handle.clone(), (process, feed));
        let under = Under { handle: handle.clone(), running: Arc::clone(&self.running) };
        let end = async move {
            let (exit, tail, used) = exit.await;
            drop((under, secrets));
            let end = end_of(&attempt, &task, exit, &tail, &log);
            [AttemptStatus::Used(used), AttemptStatus::Ended(end)]
        };
        Ok(Submission { handle, status: stream::once(end).flat_map(stream::iter).boxed() })
    }

    async fn attach(&self, handle: &AttemptHandle) -> Result<Submission, ExecutorError> {
        Err(ExecutorError::Gone(handle.clone()))
    }

    async fn cancel(&self, handle: &AttemptHandle, grace: Duration) {
        let process = locked(&self.running).get(handle).map(|(process, _)| process.clone());
        match process {
            Some(Process::Child(child)) => {
                child.terminate(grace).await;
            }
            Some(Process::Step(step)) => {
                step.terminate().await;
                gone(&self.running, handle, grace).await;
                step.kill().await;
            }
            None => {}
        }
    }

    async fn logs(&self, handle: &AttemptHandle) -> Result<Option<LogStream>, ExecutorError> {
        let running = locked(&self.running);
        Ok(running.get(handle).and_then(|(_, feed)| feed.as_ref()).map(LogFeed::follow))
    }
}

/// How a process ended, with its last lines and what it used.
type Ended = futures::future::BoxFuture<'static, (Result<Exit, String>, Vec<String>, Usage)>;

/// What a process is started with.
struct Prepared {
    words: Vec<String>,
    env: BTreeMap<String, String>,
    cwd: PathBuf,
    mounts: Vec<(PathBuf, PathBuf)>,
    /// The files of its secrets, which go when this is dropped.
    secrets: Vec<TempDir>,
}

impl Containers {
    fn private(&self) -> std::io::Result<&Private> {
        if let Some(private) = self.private.get() {
            return Ok(private);
        }
        let private = Private::new()?;
        Ok(self.private.get_or_init(|| private))
    }

    fn spawner(&self) -> Result<&Spawner, String> {
        if let Some(spawner) = self.spawner.get() {
            return Ok(spawner);
        }
        let spawner = Spawner::new().map_err(|error| error.to_string())?;
        Ok(self.spawner.get_or_init(|| spawner))
    }

    /// Replaces placeholders, and lays out files.
    fn prepare(
        &self,
        attempt: &Attempt,
        task: &ContainerTask,
        lightweight: Option<&Lightweight>,
    ) -> Result<Prepared, String> {
        let cwd = work_dir(attempt);
        let failed = |error: std::io::Error| format!("lay out `{}`: {error}", attempt.scratch().display());
        std::fs::create_dir_all(&cwd).map_err(failed)?;
        let input = ExecutorInput::lay_out(attempt, task).map_err(failed)?;
        let container = &task.container;
        let lookup = |placeholder: Placeholder<'_>| input.look_up(placeholder);
        let present = |name: &str| input.is_present(name);
        let words = match lightweight {
            Some(lightweight) => words(&lightweight.args, &lookup, &present)?,
            None => {
                let command: Vec<String> = [container.command.as_slice(), &container.args].concat();
                words(&command, &lookup, &present)?
            }
        };
        let parameter = |name: &str| {
            let found = attempt.parameters.iter().find(|(given, _)| given.as_ref() == name);
            found.map(|(_, value)| value.as_ref().clone())
        };
        let pod = format!("{}-{}", attempt.names.resource_name, task_name(&attempt.task));
        let platform =
            kubernetes::platform(task, parameter, &self.options.objects, &pod, &attempt.scratch(), || {
                self.private()?.step()
            })?;
        let mut env = self.env.clone();
        for (name, value) in attempt.trace.iter().flat_map(TraceContext::env) {
            match value {
                Some(value) => env.insert(name.to_owned(), value.to_owned()),
                None => env.remove(name),
            };
        }
        for variable in &container.env {
            let value = replace_text(&variable.value, &lookup)?;
            env.insert(variable.name.clone(), value);
        }
        env.extend(platform.env);
        let workspace = &attempt.names.workspace;
        let named = attempt.parameters.iter().any(|(_, value)| as_text(value).contains(workspace.as_str()))
            || words.iter().any(|word| word.contains(workspace.as_str()));
        if named {
            std::fs::create_dir_all(workspace).map_err(|error| format!("make `{workspace}`: {error}"))?;
        }
        Ok(Prepared { words, env, cwd, mounts: platform.mounts, secrets: platform.secrets })
    }

    async fn start_python(
        &self,
        attempt: &Attempt,
        task: &ContainerTask,
        lightweight: Lightweight,
        prepared: Prepared,
        log: &Path,
    ) -> Result<(Process, Option<LogFeed>, Ended), String> {
        let requirements = Requirements {
            kfp: newest(lightweight.kfp.as_deref(), &self.options.kfp).to_owned(),
            installs: lightweight.installs,
        };
        let spawner = self.spawner()?;
        let making = || {
            let message = format!("making a Python environment with {requirements}");
            attempt.progress(Progress { fraction: None, message });
        };
        let venv = self.venvs.get(spawner, &requirements, &self.env, making).await?;
        let server = self.servers.get(spawner, &venv, &self.env).await?;
        let module = attempt.scratch().join("ephemeral_component.py");
        std::fs::write(&module, &lightweight.source)
            .map_err(|error| format!("write `{}`: {error}", module.display()))?;
        let mut env = prepared.env;
        let bin = venv.join("bin").display().to_string();
        // A command's own PATH, as its image's would, comes before everything.
        let own = task.container.env.iter().any(|variable| variable.name == "PATH");
        if !own {
            let path = env.get("PATH").map_or_else(|| bin.clone(), |path| format!("{bin}:{path}"));
            env.insert("PATH".to_owned(), path);
        }
        env.insert("VIRTUAL_ENV".to_owned(), venv.display().to_string());
        env.insert("_KFP_RUNTIME".to_owned(), "true".to_owned());
        let step =
            StepRequest { module, args: prepared.words, env, cwd: prepared.cwd, mounts: prepared.mounts };
        let opened = Capture::open(&Log::to(log));
        let (capture, output) = opened.map_err(|error| format!("open `{}`: {error}", log.display()))?;
        let feed = capture.log().cloned();
        let (step, exit) = server.run(step, output).await?;
        let ended = async move {
            let ended = exit.await.map_err(|_| "the Python server that ran it has ended".to_owned());
            let (exit, used) =
                ended.map_or_else(|gone| (Err(gone), Usage::default()), |(exit, used)| (Ok(exit), used));
            let lines = searched(&exit);
            (exit, capture.finish(LAST_WORDS, lines).await, used)
        };
        Ok((Process::Step(Arc::new(step)), feed, Box::pin(ended)))
    }

    async fn start_command(
        &self,
        attempt: &Attempt,
        task: &ContainerTask,
        prepared: Prepared,
        log: &Path,
    ) -> Result<(Process, Option<LogFeed>, Ended), String> {
        let mut words = prepared.words;
        if !prepared.mounts.is_empty() {
            words = [mounting(&prepared.mounts), words].concat();
        }
        let mut words = words.into_iter();
        let Some(program) = words.next() else {
            return Err(format!("nothing is left of its command, of image `{}`", task.container.image));
        };
        std::fs::create_dir_all(&attempt.dir)
            .map_err(|error| format!("make folder `{}`: {error}", attempt.dir.display()))?;
        let command = Command::program_with_env(program, words, prepared.env).cwd(&prepared.cwd);
        let spawner = self.spawner()?;
        let child = spawner.spawn(command.log(Log::to(log))).await.map_err(|error| error.to_string())?;
        let child = Arc::new(child);
        let waits = Arc::clone(&child);
        let ended = async move {
            let exit = Ok(waits.wait().await);
            let lines = searched(&exit);
            (exit, waits.tail(lines), waits.usage())
        };
        let feed = child.log().cloned();
        Ok((Process::Child(child), feed, Box::pin(ended)))
    }
}

/// A command that sees folders elsewhere and runs what follows it; util-linux has the programs.
fn mounting(mounts: &[(PathBuf, PathBuf)]) -> Vec<String> {
    let script = "n=$1; shift; while [ \"$n\" -gt 0 ]; do mkdir -p \"$2\" && mount --bind \"$1\" \"$2\" || exit 1; \
                  shift 2; n=$((n - 1)); done; exec \"$@\"";
    let mut words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        .map(str::to_owned)
        .to_vec();
    words.push(mounts.len().to_string());
    for (from, to) in mounts {
        words.extend([from.display().to_string(), to.display().to_string()]);
    }
    words
}

fn end_of(
    attempt: &Attempt,
    task: &ContainerTask,
    exit: Result<Exit, String>,
    tail: &[String],
    log: &Path,
) -> AttemptEnd {
    let problem = match exit {
        Ok(exit) if exit.success() => match executor_output::read(attempt, task) {
            Ok(outputs) => return AttemptEnd::Succeeded(outputs),
            Err(problem) => problem,
        },
        _ if attempt.cancel.is_cancelled() => return AttemptEnd::Canceled,
        Ok(exit) => ended_badly(exit, tail, log),
        Err(problem) => format!("{problem}{}", last_lines(last(tail), log)),
    };
    AttemptEnd::Failed { message: problem, permanent: false }
}

/// How many of the last lines the end of a step is told from: none of one that went well.
fn searched(exit: &Result<Exit, String>) -> usize {
    if exit.as_ref().is_ok_and(|exit| exit.success()) { 0 } else { SEARCHED_LINES }
}

fn last(lines: &[String]) -> &[String] {
    &lines[lines.len().saturating_sub(TAIL_LINES)..]
}

/// Begins with the exception where Python ended with one, since what it printed before may fill the screen.
fn ended_badly(exit: Exit, tail: &[String], log: &Path) -> String {
    let ended = format!("its command ended with {exit}");
    // As Python ends after an exception that nobody caught. One far from the end was caught, and may tell nothing.
    let exception = (exit == Exit::Code(1)).then(|| Exception::last(tail)).flatten();
    match exception.filter(|exception| exception.at + TAIL_LINES >= tail.len()) {
        Some(Exception { begin, text, .. }) => {
            let lines = last_lines(last(&tail[begin..]), log);
            format!("{}; {ended}{lines}", shortened(text, EXCEPTION_BYTES))
        }
        None => format!("{ended}{}", last_lines(last(tail), log)),
    }
}

/// The newer of two versions.
fn newest<'a>(compiled: Option<&'a str>, least: &'a str) -> &'a str {
    let numbers = |version: &str| -> Vec<u64> {
        let parts =
            version.split('.').map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>());
        parts.map(|part| part.parse().unwrap_or(0)).collect()
    };
    compiled.filter(|compiled| numbers(compiled) > numbers(least)).unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(newest(Some("2.9.0"), "2.17.3"), "2.17.3");
        assert_eq!(newest(Some("2.18.0"), "2.17.3"), "2.18.0");
        assert_eq!(newest(None, "2.17.3"), "2.17.3");
    }
}
