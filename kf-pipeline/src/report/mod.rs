//! The run report: what a run did, as data and as one self-contained HTML file.
//!
//! [`Engine::report`](crate::Engine::report) gives it for any run; [`run_report`] is a component that writes it, for
//! [`Scope::on_exit`](crate::Scope::on_exit).

mod html;
mod source;
mod task;

use kf_core::Timestamp;
use kf_core::metadata::RunRecord;

pub(crate) use source::ReportSource;
pub use task::{FailedAttempt, TaskReport};

use crate::component::{Context, Output, TaskResult};
use crate::spec::PipelineFile;

/// A run: what it was to do, and what it has done so far.
#[derive(Clone, Debug)]
pub struct Report {
    /// The run.
    pub run: RunRecord,
    /// The pipeline.
    pub pipeline: PipelineFile,
    /// Every task that has ended, in the order of their ends. Loops, branches and skipped tasks are among them.
    pub tasks: Vec<TaskReport>,
    /// When this was read.
    pub at: Timestamp,
}

impl Report {
    /// The task of this path, such as `for-loop-1[2]/fit`, where it has ended.
    pub fn task(&self, path: &str) -> Option<&TaskReport> {
        self.tasks.iter().find(|task| task.path == path)
    }

    /// The report as one HTML file that needs nothing else.
    pub fn to_html(&self) -> String {
        html::render(self)
    }
}

/// Writes the run report, as an artifact and as `report.html` in the run's folder; meant for
/// [`Scope::on_exit`](crate::Scope::on_exit).
#[crate::component(cache = false)]
pub async fn run_report(context: Context, report: Output<kf_core::artifact::Html>) -> TaskResult {
    report.write(context.report().await?.to_html())
}
