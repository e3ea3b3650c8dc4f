//! The logs of attempts: followed while they run, read afterwards.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use kf_core::RunId;
use kf_core::metadata::{LineageQuery, RunRecord};
use kf_core::process::{LogStream, read_log};

use super::under_way::{Stage, UnderWay};
use super::{Engine, IN_PROCESS};
use crate::plan::{self, Plan};
use crate::scheduler::JournalEvent;
use crate::spec::PipelineFile;
use crate::task_folder::attempt_folder;
use crate::{Error, Result, TaskState};

/// The file in an attempt's folder that its output is kept in.
pub(crate) const LOG: &str = "log.txt";

/// How many executions are read at once.
const PAGE: usize = 1000;

impl Engine {
    /// What an attempt printed or wrote with [`Context::log`](crate::Context::log); the task's newest attempt where no
    /// number is given. A task is named by its path, such as `for-loop-1[2]/fit`.
    ///
    /// Of an attempt under way in this engine the stream gives what was kept so far, in order, and then what comes, until
    /// the attempt ends; one that has not begun to run yet is waited for. Of an ended one it gives what its file keeps.
    /// [`log_lines`](crate::log_lines) makes lines of it.
    ///
    /// Any number may follow, at no cost for the task. Whoever is slow by more than the log keeps, its last 4 MiB, misses
    /// bytes and is told how many.
    ///
    /// # Errors
    /// [`Error::Run`] where there is no such run. [`Error::Log`] where there is no such task or attempt, where it has no
    /// log, as one that printed nothing has none, and where that is not on this machine.
    pub async fn logs(&self, run: &RunId, task: &str, attempt: impl Into<Option<u32>>) -> Result<LogStream> {
        let asked = attempt.into();
        let log = Asked { engine: self, run, task };
        let Some(under_way) = self.handle(run).map(|handle| handle.under_way()) else {
            return log.ended(asked).await;
        };
        match under_way.newest(task) {
            None => log.ended(asked).await,
            Some((newest, stage)) => {
                let number = asked.unwrap_or(newest);
                if number == 0 || number > newest {
                    return Err(log.error(number, newest));
                }
                match stage {
                    Stage::Preparing if number == newest => Ok(log.later(under_way, number)),
                    Stage::Carried(executor, handle) if number == newest => {
                        let refuse = |problem: String| log.refuse(problem);
                        match executor.logs(&handle).await.map_err(|error| refuse(error.to_string()))? {
                            Some(stream) => Ok(stream),
                            None => log.kept(number).await,
                        }
                    }
                    _ => log.kept(number).await,
                }
            }
        }
    }
}

/// Whose log is asked for.
struct Asked<'a> {
    engine: &'a Engine,
    run: &'a RunId,
    task: &'a str,
}

impl Asked<'_> {
    fn refuse(&self, problem: impl Into<String>) -> Error {
        Error::Log { run: self.run.to_string(), task: self.task.to_owned(), problem: problem.into() }
    }

    fn error(&self, number: u32, newest: u32) -> Error {
        self.refuse(match newest {
            1 => format!("there is no attempt {number}, only the first"),
            newest => format!("there is no attempt {number}; they count from 1 to {newest}"),
        })
    }

    /// The log of an attempt that its executor does not have yet.
    fn later(&self, under_way: Arc<UnderWay>, number: u32) -> LogStream {
        let (engine, run, task) = (self.engine.clone(), self.run.clone(), self.task.to_owned());
        let follow = async move {
            if let Some((executor, handle)) = under_way.carried(&task, number).await
                && let Some(log) = executor.logs(&handle).await.map_err(io::Error::other)?
            {
                return Ok(log);
            }
            // It has ended meanwhile.
            match read_log(file(&engine, &run, &task, number)).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(stream::empty().boxed()),
                log => log,
            }
        };
        stream::once(follow).try_flatten().boxed()
    }

    /// The log of an attempt whose end is committed.
    async fn ended(&self, asked: Option<u32>) -> Result<LogStream> {
        self.record().await?;
        let mut newest = None;
        for event in self.engine.inner.journal(self.run).await? {
            match event {
                JournalEvent::Task { task, state: TaskState::Cached, .. } if *task == *self.task => {
                    return Err(self.refuse("it did not run: its outputs are those of an earlier execution"));
                }
                JournalEvent::Task { task, attempts, .. } if *task == *self.task => newest = Some(attempts),
                JournalEvent::AttemptFailed { task, attempt, .. } if *task == *self.task => {
                    newest = Some(attempt);
                }
                JournalEvent::Group { task, state, .. } if *task == *self.task => {
                    return Err(self.refuse(match state {
                        TaskState::Skipped => "it was skipped",
                        _ => "it is a loop or a group; the tasks inside of it have logs",
                    }));
                }
                _ => {}
            }
        }
        let Some(newest) = newest.filter(|newest| *newest > 0) else {
            return Err(self.refuse(
                "no such task has ended in this run, and none is under way in this engine; a task is named by its path, as \
                 in the run's report",
            ));
        };
        match asked.unwrap_or(newest) {
            number if number == 0 || number > newest => Err(self.error(number, newest)),
            number => self.kept(number).await,
        }
    }

    /// What is kept of an attempt that has ended.
    async fn kept(&self, number: u32) -> Result<LogStream> {
        let path = file(self.engine, self.run, self.task, number);
        let error = match read_log(&path).await {
            Ok(log) => return Ok(log),
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::NotFound {
            return Err(kf_core::Error::io("open", path)(error).into());
        }
        Err(self.refuse(match self.carrier().await? {
            Some(Carrier::Engine) => {
                format!("attempt {number} ran in the engine's process and wrote no log; `Context::log` does")
            }
            Some(Carrier::Nothing) => "nothing runs for it that could have a log".to_owned(),
            Some(Carrier::Process(name)) => format!(
                "attempt {number} was carried by executor `{name}`, and `{}` is not there: it printed nothing, or this lies on \
                 another machine, or was removed",
                path.display()
            ),
            None => format!("`{}` is not there; it may lie on another machine", path.display()),
        }))
    }

    async fn record(&self) -> Result<RunRecord> {
        let record = self.engine.run(self.run).await?;
        let problem = || "there is no such run".to_owned();
        record.ok_or_else(|| Error::Run { run: self.run.to_string(), problem: problem() })
    }

    /// What carried the task, where that can still be said.
    async fn carrier(&self) -> Result<Option<Carrier>> {
        let record = self.record().await?;
        let plan = serde_json::from_str::<PipelineFile>(&record.spec).ok();
        let Some(plan) = plan.and_then(|file| Plan::of(file).ok()) else { return Ok(None) };
        let Some(component) = self.component().await? else { return Ok(None) };
        let executor = plan.executors().find(|executor| executor.component() == component);
        Ok(executor.map(|executor| match (&executor.work, executor.carrier.as_deref()) {
            (plan::Work::Importer(_) | plan::Work::Approval(_), _) => Carrier::Nothing,
            (plan::Work::Component { .. }, _) if self.engine.inner.executor_of(executor).0 == IN_PROCESS => {
                Carrier::Engine
            }
            _ => Carrier::Process(self.engine.inner.executor_of(executor).0.to_owned()),
        }))
    }

    async fn component(&self) -> Result<Option<String>> {
        let mut query = LineageQuery { run: Some(self.run.clone()), limit: PAGE, ..LineageQuery::default() };
        loop {
            let page = self.engine.metadata().executions(&query).await?;
            let found = page.items.into_iter().find(|execution| execution.task == self.task);
            query.after = page.next;
            if found.is_some() || query.after.is_none() {
                return Ok(found.map(|execution| execution.component));
            }
        }
    }
}

/// What carried a task.
enum Carrier {
    /// The engine's process.
    Engine,
    /// An executor with processes of its own.
    Process(String),
    /// An importer, or a person.
    Nothing,
}

/// Where an attempt's output is kept.
fn file(engine: &Engine, run: &RunId, task: &str, number: u32) -> PathBuf {
    attempt_folder(&engine.home().run_dir(run), task, number).join(LOG)
}
