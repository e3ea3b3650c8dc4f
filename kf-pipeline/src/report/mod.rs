//! The run report: what a run did, as data and as one self-contained HTML file.
//!
//! [`Engine::report`](crate::Engine::report) gives it for any run; [`run_report`](fn@run_report) is a component that writes it, for
//! [`Scope::on_exit`](crate::Scope::on_exit).
//!
//! The file shows the pipeline with the state of each task, the critical path, what tasks came to (metrics of a loop's
//! iterations in one table, curves and confusion matrices drawn, Markdown and HTML artifacts), and all tasks as a tree on
//! a time axis, with each one's attempts, what these used and waited for, parameters, artifacts, errors and the end of its
//! log. It loads nothing from anywhere, and its Content-Security-Policy lets no script run but its own: what tasks, files and users wrote stays
//! text, and pages that tasks made are shown in frames without scripts. What is long is shortened and says so; a run of
//! 10,000 tasks makes a file of some MB.

mod html;
mod logs;
mod model;
mod source;
mod task;
mod text;

use std::collections::BTreeMap;

use kf_core::metadata::RunRecord;
use kf_core::{Digest, RunId, Timestamp};

pub use logs::LogTail;
pub(crate) use source::ReportSource;
pub use task::{CachedFrom, FailedAttempt, TaskReport};

use crate::Approval;
use crate::component::{Context, Output, TaskResult};
use crate::spec::PipelineFile;

/// A run: what it was to do, and what it has done so far.
#[derive(Clone, Debug)]
pub struct Report {
    /// The run.
    pub run: RunRecord,
    /// The run that it does again, where it does; tasks that it keeps of that are cached and ended before it began.
    pub rerun_of: Option<RunId>,
    /// The tasks that wait for a person.
    pub waiting: Vec<Approval>,
    /// The pipeline.
    pub pipeline: PipelineFile,
    /// Every task that has ended, in the order of their ends. Loops, branches and skipped tasks are among them.
    pub tasks: Vec<TaskReport>,
    /// The text of small HTML and Markdown artifacts, to be shown with the tasks that made them.
    pub contents: BTreeMap<Digest, String>,
    /// When this was read.
    pub at: Timestamp,
}

impl Report {
    /// The task of this path, such as `for-loop-1[2]/fit`, where it has ended. The end of the path will do where no
    /// other task has it, so that `fit` is found in whichever branch or group it is.
    pub fn task(&self, path: &str) -> Option<&TaskReport> {
        if let Some(task) = self.tasks.iter().find(|task| task.path == path) {
            return Some(task);
        }
        let ends_so =
            |task: &&TaskReport| task.path.strip_suffix(path).is_some_and(|start| start.ends_with('/'));
        let mut found = self.tasks.iter().filter(ends_so);
        found.next().filter(|_| found.next().is_none())
    }

    /// The report as one HTML file that needs nothing else.
    pub fn to_html(&self) -> String {
        html::render(self)
    }
}

/// Writes the run report as an artifact; meant for
/// [`Scope::on_exit`](crate::Scope::on_exit).
#[crate::component(cache = false)]
pub async fn run_report(context: Context, report: Output<kf_core::artifact::Html>) -> TaskResult {
    report.write(context.report().await?.to_html())
}
