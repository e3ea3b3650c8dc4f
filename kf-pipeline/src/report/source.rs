//! Reads a report from the stores.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kf_core::artifact::{ArtifactKind as _, Html, Markdown, Metadata};
use kf_core::metadata::{ExecutionRecord, LineageQuery, MetadataStore};
use kf_core::process::Usage;
use kf_core::{Digest, Home, RunId, Timestamp};

use super::{CachedFrom, FailedAttempt, Report, TaskReport, logs};
use crate::engine::{Noted, Waiting};
use crate::journal::Journal;
use crate::scheduler::JournalEvent;
use crate::{Error, Result, TaskState};

const PAGE: usize = 1000;
/// How large an artifact is shown at most, and how many are.
const SHOWN_BYTES: u64 = 256 * 1024;
const SHOWN: usize = 24;
/// Of how many cached tasks it is looked up where their outputs come from.
const TRACED: usize = 1_000;

/// Where reports are read from.
#[derive(Clone, Debug)]
pub(crate) struct ReportSource {
    metadata: Arc<dyn MetadataStore>,
    home: Home,
}

impl ReportSource {
    pub(crate) fn new(metadata: Arc<dyn MetadataStore>, home: Home) -> Self {
        Self { metadata, home }
    }

    pub(crate) async fn report(&self, run: &RunId) -> Result<Report> {
        let record = self.metadata.run(run).await?;
        let record = record.ok_or_else(|| kf_core::Error::NotFound { what: "run", name: run.to_string() })?;
        let pipeline = serde_json::from_str(&record.spec).map_err(|source| Error::Journal {
            run: run.to_string(),
            seq: 0,
            source,
        })?;
        let mut executions = self.executions(run).await?;
        let mut failed: HashMap<Arc<str>, Vec<FailedAttempt>> = HashMap::new();
        let (mut waiting, mut journal) = (Waiting::default(), Journal::new(self.metadata.as_ref(), run));
        let (mut tasks, mut traced, mut rerun_of) = (Vec::new(), 0, None);
        while let Some(events) = journal.next().await? {
            for event in events {
                waiting.add(&event);
                match event {
                    JournalEvent::Task {
                        task, state, attempts, started_at, ended_at, error, noted, ..
                    } => {
                        let execution = executions.remove(task.as_ref());
                        let mut report = blank(&task, state, ended_at, error.as_deref());
                        report.attempts = attempts;
                        report.started_at = Some(started_at);
                        report.failed_attempts = failed.remove(&task).unwrap_or_default();
                        (report.usage, report.events) = Noted::parts(noted);
                        if let Some(execution) = execution {
                            if state == TaskState::Cached && traced < TRACED {
                                traced += 1;
                                report.cached_from = match &rerun_of {
                                    Some(of) if ended_at < record.created_at => {
                                        Some(CachedFrom { run: RunId::clone(of), task: task.to_string() })
                                    }
                                    _ => self.cached_from(run, &execution).await?,
                                };
                            }
                            report.component = execution.component;
                            report.inputs = execution.inputs;
                            report.outputs = execution.outputs;
                            report.input_artifacts = execution.input_artifacts;
                            report.output_artifacts = execution.output_artifacts;
                        }
                        tasks.push(report);
                    }
                    JournalEvent::AttemptFailed {
                        task, attempt, started_at, ended_at, error, noted, ..
                    } => {
                        let error = error.to_string();
                        let (usage, events) = Noted::parts(noted);
                        let attempt = FailedAttempt { attempt, started_at, ended_at, error, usage, events };
                        failed.entry(task).or_default().push(attempt);
                    }
                    JournalEvent::Group { task, state, at, error } => {
                        tasks.push(blank(&task, state, at, error.as_deref()));
                    }
                    JournalEvent::Rerun { of, .. } => rerun_of = Some(of),
                    JournalEvent::Asked { .. }
                    | JournalEvent::CancelAsked { .. }
                    | JournalEvent::Outputs { .. }
                    | JournalEvent::NoCache
                    | JournalEvent::Kept => {}
                }
            }
        }
        let run_dir = self.home.run_dir(run);
        let read = tokio::task::spawn_blocking(move || {
            logs::read(&run_dir, &mut tasks);
            tasks
        });
        let tasks = read
            .await
            .map_err(std::io::Error::from)
            .map_err(kf_core::Error::io("read the logs in", self.home.run_dir(run)))?;
        let contents = self.contents(&tasks).await;
        let over = record.state.is_terminal();
        let waiting = if over { Vec::new() } else { waiting.into_list() };
        Ok(Report { run: record, rerun_of, waiting, pipeline, tasks, contents, at: Timestamp::now() })
    }

    /// The text of small HTML and Markdown artifacts; what is gone or no text is left out.
    async fn contents(&self, tasks: &[TaskReport]) -> BTreeMap<Digest, String> {
        let shown = tasks
            .iter()
            .filter(|task| task.component != "run_report")
            .flat_map(|task| &task.output_artifacts);
        let digests = shown.map(|io| &io.artifact).filter(|artifact| {
            [Html::SCHEMA_TITLE, Markdown::SCHEMA_TITLE].contains(&artifact.schema_title.as_str())
                && artifact.size <= SHOWN_BYTES
        });
        let mut contents = BTreeMap::new();
        for digest in digests.filter_map(|artifact| artifact.digest).take(SHOWN) {
            if let Ok(bytes) = self.home.artifacts().read(&digest).await
                && let Ok(text) = String::from_utf8(bytes.to_vec())
            {
                contents.insert(digest, text);
            }
        }
        contents
    }

    /// The execution that a cached one stands for: the newest of its key, unless it ended later.
    async fn cached_from(&self, run: &RunId, cached: &ExecutionRecord) -> Result<Option<CachedFrom>> {
        let Some(key) = &cached.cache_key else { return Ok(None) };
        let found = self.metadata.cached(key, run).await?;
        let earlier = found.filter(|found| found.ended_at <= cached.ended_at);
        Ok(earlier.map(|found| CachedFrom { run: found.run, task: found.task }))
    }

    async fn executions(&self, run: &RunId) -> Result<HashMap<String, ExecutionRecord>> {
        let mut query = LineageQuery { run: Some(run.clone()), limit: PAGE, ..LineageQuery::default() };
        let mut executions = HashMap::new();
        loop {
            let page = self.metadata.executions(&query).await?;
            executions.extend(page.items.into_iter().map(|execution| (execution.task.clone(), execution)));
            query.after = page.next;
            if query.after.is_none() {
                return Ok(executions);
            }
        }
    }
}

fn blank(task: &str, state: crate::TaskState, ended_at: Timestamp, error: Option<&str>) -> TaskReport {
    TaskReport {
        path: task.to_owned(),
        component: String::new(),
        state,
        attempts: 0,
        started_at: None,
        ended_at,
        error: error.map(str::to_owned),
        failed_attempts: Vec::new(),
        usage: Usage::default(),
        events: Vec::new(),
        cached_from: None,
        log: None,
        inputs: Metadata::new(),
        outputs: Metadata::new(),
        input_artifacts: Vec::new(),
        output_artifacts: Vec::new(),
    }
}
