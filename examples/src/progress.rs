//! Progress of a run: bars on a terminal, plain lines where there is none.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kf_pipeline::{RunEvent, RunHandle, TaskState};

/// Shows the run's progress on standard error until it ends.
pub async fn watch(run: &RunHandle) {
    let mut events = run.events();
    let mut view = View::new();
    while let Some(event) = events.next().await {
        view.show(event);
    }
}

struct View {
    /// None where standard error is no terminal.
    bars: Option<MultiProgress>,
    running: HashMap<Arc<str>, ProgressBar>,
}

impl View {
    fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new), running: HashMap::new() }
    }

    fn show(&mut self, event: RunEvent) {
        match event {
            RunEvent::TaskStarted { task, attempt } => {
                if attempt > 1 {
                    self.line(&format!("  again  {task} (attempt {attempt})"));
                }
                if let Some(bars) = &self.bars {
                    let style = ProgressStyle::with_template("  {spinner} {prefix:<28} {wide_bar} {msg:<36}");
                    let bar = ProgressBar::new(1000).with_prefix(task.to_string());
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.enable_steady_tick(Duration::from_millis(100));
                    self.running.insert(task, bars.add(bar));
                }
            }
            RunEvent::TaskProgress { task, progress } => match self.running.get(&task) {
                Some(bar) => {
                    bar.set_position((progress.fraction.unwrap_or_default() * 1000.0) as u64);
                    bar.set_message(progress.message);
                }
                None => self.line(&format!("         {task}: {}", progress.message)),
            },
            RunEvent::TaskWaiting { task, reason: why } | RunEvent::TaskWarned { task, message: why } => {
                self.line(&format!("         {task}: {why}"));
            }
            RunEvent::AttemptFailed { task, attempt, error } => {
                self.finish(&task);
                self.line(&format!("  failed {task}, attempt {attempt}: {error}"));
            }
            RunEvent::TaskEnded { task, state, error } => {
                self.finish(&task);
                let word = match state {
                    TaskState::Succeeded => "done  ",
                    TaskState::Cached => "cached",
                    TaskState::Skipped => "skip  ",
                    TaskState::Canceled => "cancel",
                    _ => "FAILED",
                };
                let why = error.map(|error| format!(": {error}")).unwrap_or_default();
                self.line(&format!("  {word} {task}{why}"));
            }
            RunEvent::Missed(events) => self.line(&format!("  … {events} events passed unseen")),
            _ => {}
        }
    }

    fn finish(&mut self, task: &Arc<str>) {
        if let Some(bar) = self.running.remove(task) {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => {
                // Where the terminal is gone there is nobody to tell.
                let _ = bars.println(text);
            }
            None => eprintln!("{text}"),
        }
    }
}
