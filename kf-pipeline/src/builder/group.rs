//! Groups: tasks under a name of their own, and tasks that are cleaned up after.

use std::panic::Location;

use super::graph::{BODY, NodeId, OUTERMOST, ScopeId, ScopeKind, Source};
use super::handles::Relocation;
use super::{Call, Handles, Scope, TaskRef, Value};
use crate::component::FinalStatus;

impl<'p> Scope<'p> {
    /// Makes one task of what the closure adds: a pipeline in the pipeline, which gives what the closure returns. The
    /// closure may use every handle from around it. A part that is used more than once is a function:
    ///
    /// ```
    /// use kf_pipeline::prelude::*;
    /// use kf_pipeline::{Artifact, Handles, Scope, Value};
    ///
    /// #[component]
    /// fn clean(raw: Input<Dataset>, clean: Output<Dataset>) -> TaskResult {
    ///     clean.copy_from(&raw)
    /// }
    ///
    /// #[component]
    /// fn count(data: Input<Dataset>) -> TaskResult<u64> {
    ///     Ok(std::fs::metadata(data.path()?)?.len())
    /// }
    ///
    /// #[derive(Clone, Copy, Handles)]
    /// struct Prepared<'p> {
    ///     data: Artifact<'p, Dataset>,
    ///     rows: Value<'p, u64>,
    /// }
    ///
    /// fn prepare<'p>(p: &Scope<'p>, raw: Artifact<'p, Dataset>) -> Prepared<'p> {
    ///     let data = p.add(clean(raw)).clean;
    ///     Prepared { data, rows: p.add(count(data)).output }
    /// }
    ///
    /// let pipeline = Pipeline::build("twice", |p| {
    ///     let train = p.nest("prepare", |p| prepare(p, p.import("file:///data/train.csv")));
    ///     let test = p.nest("prepare", |p| prepare(p, p.import("file:///data/test.csv")));
    ///     p.when(train.rows.gt(test.rows), |p| p.add(count(test.data)));
    /// })?;
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    #[track_caller]
    pub fn nest<R: Handles<'p>>(&self, name: &str, body: impl FnOnce(&Scope<'p>) -> R) -> R {
        let at = Location::caller();
        let mut graph = self.graph.borrow_mut();
        graph.check_task_name(name, at);
        let name = graph.fresh_name(name);
        graph.refuse_outer(self.id, &format!("group `{name}`"), at);
        let id = graph.open_named_scope(self.id, name, ScopeKind::Group, at);
        drop(graph);
        let gave = self.within(id, body);
        self.lifted(id, gave, at)
    }

    /// Runs what `body` adds, and then, however that ended and also when the run is cancelled, the task that
    /// `clean_up` makes of how it ended. Gives what `body` returns. It may lie in loops and branches and hold them:
    ///
    /// ```
    /// # use kf_pipeline::prelude::*;
    /// # #[component]
    /// # fn fill(folder: String, table: u32) {}
    /// #[component(cache = false)]
    /// fn remove(folder: String, status: FinalStatus) -> TaskResult {
    ///     if let Some(error) = &status.error {
    ///         println!("filling {folder} failed: {}", error.message);
    ///     }
    ///     Ok(std::fs::remove_dir_all(folder)?)
    /// }
    ///
    /// let pipeline = Pipeline::build("tables", |p| {
    ///     let folders = p.param("folders", vec!["/tmp/a".to_owned(), "/tmp/b".to_owned()]);
    ///     p.parallel_for(folders, |p, folder| {
    ///         p.exit_group(|status| remove(folder, status), |p| {
    ///             let _ = p.parallel_for(vec![1_u32, 2], |p, table| p.add(fill(folder, table)));
    ///         });
    ///     });
    /// })?;
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    ///
    /// An output of a task beside the group may be missing by then: the clean-up's input is then an `Option`, see
    /// [`Call::even_if_failed`].
    #[track_caller]
    pub fn exit_group<R: Handles<'p>, H>(
        &self,
        clean_up: impl FnOnce(Value<'p, FinalStatus>) -> Call<'p, H>,
        body: impl FnOnce(&Scope<'p>) -> R,
    ) -> R {
        let at = Location::caller();
        self.refuse_outer("a group", at);
        let id = self.graph.borrow_mut().open_scope(self.id, "exit-handler", ScopeKind::Group, at);
        let gave = self.within(id, body);
        let node = self.node_of(id);
        let call = clean_up(Value::new(Source::Status(node))).even_if_failed().after(TaskRef::new(node));
        self.add_call(self.id, call, at);
        self.lifted(id, gave, at)
    }

    /// Adds a task that runs when all others have ended, however they ended, and also when the run is cancelled. The
    /// paths of the others then begin with `exit-handler-1/`, the group that it waits for. It may take the
    /// [`run_status`](Self::run_status).
    /// It belongs to the whole pipeline: what a loop or a branch has is an [`exit_group`](Self::exit_group).
    #[track_caller]
    pub fn on_exit<H>(&self, call: Call<'p, H>) {
        let at = Location::caller();
        if self.id != BODY || self.graph.borrow().current != BODY {
            let message = "an exit handler is the whole pipeline's: add it outside of loops, branches and groups, or \
                           use `exit_group`";
            self.graph.borrow_mut().problem(at, message);
        }
        let call = call.even_if_failed().after(TaskRef::new(self.node_of(BODY)));
        self.add_call(OUTERMOST, call, at);
    }

    /// How the run ended, for what [`on_exit`](Self::on_exit) adds.
    pub fn run_status(&self) -> Value<'p, FinalStatus> {
        Value::new(Source::Status(self.node_of(BODY)))
    }

    /// How a task ended, for a task beside it that runs [even if it failed](Call::even_if_failed).
    pub fn status_of(&self, task: impl Into<TaskRef<'p>>) -> Value<'p, FinalStatus> {
        Value::new(Source::Status(task.into().node))
    }

    fn node_of(&self, scope: ScopeId) -> NodeId {
        self.graph.borrow().scope(scope).node.unwrap_or(NodeId(0))
    }

    /// What a group gives: what it made itself, lifted out of it, and what comes from around it as it is.
    fn lifted<R: Handles<'p>>(&self, id: ScopeId, gave: R, at: &'static Location<'static>) -> R {
        let node = self.node_of(id);
        let mut lift = |source| {
            let mut graph = self.graph.borrow_mut();
            match graph.home(source) {
                None => Source::Nothing,
                Some(home) if home == id => graph.give(id, vec![source]),
                Some(home) if graph.lies_in(home, id) => {
                    graph.refuse_escape(id, source, at);
                    Source::Nothing
                }
                Some(_) => source,
            }
        };
        gave.relocate(&mut Relocation::new(node, &mut lift))
    }
}
