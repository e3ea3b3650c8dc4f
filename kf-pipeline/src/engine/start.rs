//! How a run is started.

use kf_core::RunId;
use kf_core::telemetry::TraceContext;

/// How a run is started.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    pub(super) id: Option<RunId>,
    pub(super) resume: bool,
    pub(super) no_cache: bool,
    pub(super) trace: Option<TraceContext>,
}

impl StartOptions {
    /// A new run with an id of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The run's id. Starting a run of this id again finds it: under way, ended, or left by an engine that died, in
    /// which case it goes on.
    #[must_use]
    pub fn id(mut self, id: RunId) -> Self {
        self.id = Some(id);
        self
    }

    /// Goes on with the newest run of this pipeline and these arguments that was left before its end, where there is
    /// one.
    #[must_use]
    pub fn resume_unfinished(mut self) -> Self {
        self.resume = true;
        self
    }

    /// The place in a trace that the run comes after, such as an incoming request's; the span that the run is started
    /// in where not given. It is not kept: a run that is started again goes on in the trace given then.
    #[must_use]
    pub fn trace(mut self, parent: TraceContext) -> Self {
        self.trace = Some(parent);
        self
    }

    /// Runs every task, whatever was run before.
    #[must_use]
    pub fn no_cache(mut self) -> Self {
        self.no_cache = true;
        self
    }
}
