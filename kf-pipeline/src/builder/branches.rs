//! Branches: what runs only where a condition holds, and what one of several gives.

use std::panic::Location;

use super::arg::ArgKind;
use super::condition::Expr;
use super::graph::{NodeId, ScopeId, ScopeKind, Source};
use super::handles::Relocation;
use super::{Collect, Condition, Handles, IntoCondition, LoopRef, Scope, TaskRef};

/// What [`Scope::when`] opened. It may go on with [`or_when`](Self::or_when) and [`otherwise`](Self::otherwise), which
/// gives what the branch that is taken gave.
#[derive(Debug)]
pub struct When<'p, R> {
    around: Scope<'p>,
    /// The scope around several branches.
    group: Option<ScopeId>,
    branches: Vec<Branch<R>>,
    at: &'static Location<'static>,
}

#[derive(Debug)]
struct Branch<R> {
    scope: ScopeId,
    condition: Option<Expr>,
    gave: R,
    at: &'static Location<'static>,
}

impl<'p> Scope<'p> {
    /// Runs what the closure adds only where the condition holds. Like Rust's `if`, it is an expression once every case
    /// is covered:
    ///
    /// ```
    /// # use kf_pipeline::prelude::*;
    /// # #[component]
    /// # fn measure() -> f64 { 0.5 }
    /// # #[component]
    /// # fn fit(depth: u32, model: Output<Model>) -> TaskResult { model.write(depth.to_string()) }
    /// # #[component]
    /// # fn publish(model: Input<Model>) {}
    /// let pipeline = Pipeline::build("sizes", |p| {
    ///     let difficulty = p.add(measure()).output;
    ///     let model = p
    ///         .when(difficulty.gt(0.9), |p| p.add(fit(12)).model)
    ///         .or_when(difficulty.gt(0.4), |p| p.add(fit(6)).model)
    ///         .otherwise(|p| p.add(fit(2)).model);
    ///     p.add(publish(model));
    /// })?;
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    ///
    /// The first branch whose condition holds is taken, and no other. Branches that give something all give the same
    /// type; end the closures with `;` where nothing is to be given.
    ///
    /// In a loop, [`Each::collect`](super::Each::collect) takes what a `when` gives too: the lists then hold the
    /// iterations that took a branch.
    #[track_caller]
    pub fn when<R>(
        &self,
        condition: impl IntoCondition<'p>,
        body: impl FnOnce(&Scope<'p>) -> R,
    ) -> When<'p, R> {
        let at = Location::caller();
        let condition = condition.into_condition().expr;
        self.refuse_outer("a branch", at);
        self.check_condition(&condition, at);
        let branch = self.branch(self.id, condition.clone(), Some(condition), body, at);
        When { around: self.inner(self.id), group: None, branches: vec![branch], at }
    }

    fn check_condition(&self, condition: &Expr, at: &'static Location<'static>) {
        let mut graph = self.graph.borrow_mut();
        for arg in condition.args() {
            match &arg.0 {
                ArgKind::Source(Source::Status(_), _) => {
                    graph.problem(at, "a final status has no value to compare: a component can look into it");
                }
                ArgKind::Source(source, _) => graph.refuse_escape(self.id, *source, at),
                ArgKind::Constant(Err(problem)) => graph.problem(at, format!("the condition: {problem}")),
                ArgKind::Constant(Ok(_)) => {}
            }
        }
    }

    /// Opens a branch in `around` that is taken where `runs` holds.
    fn branch<R>(
        &self,
        around: ScopeId,
        runs: Expr,
        condition: Option<Expr>,
        body: impl FnOnce(&Scope<'p>) -> R,
        at: &'static Location<'static>,
    ) -> Branch<R> {
        let kind = ScopeKind::When(Condition::new(runs));
        let scope = self.graph.borrow_mut().open_scope(around, "condition", kind, at);
        Branch { scope, condition, gave: self.within(scope, body), at }
    }
}

impl<'p, R> When<'p, R> {
    /// Runs what this closure adds where no earlier condition holds, and this one does.
    #[track_caller]
    pub fn or_when(mut self, condition: impl IntoCondition<'p>, body: impl FnOnce(&Scope<'p>) -> R) -> Self {
        let at = Location::caller();
        let condition = condition.into_condition().expr;
        self.around.check_condition(&condition, at);
        self.add(Some(condition), body, at);
        self
    }

    /// Runs what this closure adds where no earlier condition holds, and gives what the branch that is taken gave.
    /// What the branches give is made in them: a handle from outside of a branch is refused by `build`.
    #[track_caller]
    pub fn otherwise(mut self, body: impl FnOnce(&Scope<'p>) -> R) -> R
    where
        R: Handles<'p>,
    {
        self.add(None, body, Location::caller());
        self.merged()
    }

    fn add(
        &mut self,
        condition: Option<Expr>,
        body: impl FnOnce(&Scope<'p>) -> R,
        at: &'static Location<'static>,
    ) {
        self.around.refuse_outer("a branch", at);
        let group = self.group();
        let not = self.branches.iter().filter_map(|branch| branch.condition.clone());
        let not = not.map(|condition| Expr::Not(Box::new(condition)));
        let and = |left, right| Expr::And(Box::new(left), Box::new(right));
        let Some(runs) = not.chain(condition.clone()).reduce(and) else { return };
        let branch = self.around.branch(group, runs, condition, body, at);
        self.branches.push(branch);
    }

    /// The scope around the branches, made when the second comes.
    fn group(&mut self) -> ScopeId {
        if let Some(group) = self.group {
            return group;
        }
        let mut graph = self.around.graph.borrow_mut();
        let group = graph.open_scope(self.around.id, "condition-branches", ScopeKind::Branches, self.at);
        for branch in &self.branches {
            graph.move_into(branch.scope, group);
        }
        drop(graph);
        self.group = Some(group);
        group
    }

    fn node(&self) -> NodeId {
        let scope = self.group.unwrap_or(self.branches[0].scope);
        self.around.graph.borrow().scope(scope).node.unwrap_or(NodeId(0))
    }
}

impl<'p, R: Handles<'p>> When<'p, R> {
    /// What the branch that is taken gives.
    fn merged(self) -> R {
        let node = self.node();
        let Self { around, group, branches, at } = self;
        let mut lifted: Vec<Vec<Source>> = Vec::new();
        let mut last = None;
        for branch in branches {
            let mut sources = Vec::new();
            let mut lift = |source| {
                sources.push(around.lift_from_branch(branch.scope, source, branch.at));
                source
            };
            last = Some(branch.gave.relocate(&mut Relocation::new(node, &mut lift)));
            lifted.push(sources);
        }
        // The closures of a `when` and its `otherwise` are of one type, but vectors in it may differ in length.
        if lifted.iter().any(|sources| sources.len() != lifted[0].len()) {
            let lengths: Vec<_> = lifted.iter().map(|sources| sources.len().to_string()).collect();
            let message = format!("the branches give different numbers of handles: {}", lengths.join(", "));
            around.graph.borrow_mut().problem(at, message);
        }
        let mut index = 0;
        let mut choose = |_| {
            let from: Option<Vec<Source>> =
                lifted.iter().map(|sources| sources.get(index).copied()).collect();
            index += 1;
            match (from, group) {
                (Some(from), _) if from.contains(&Source::Nothing) => Source::Nothing,
                (Some(from), Some(group)) => around.graph.borrow_mut().give(group, from),
                (Some(from), None) => from[0],
                (None, _) => Source::Nothing,
            }
        };
        let last = last.expect("a `when` has a branch");
        last.relocate(&mut Relocation::new(node, &mut choose))
    }
}

impl<'p> Scope<'p> {
    /// What a branch gives of a source.
    fn lift_from_branch(&self, branch: ScopeId, source: Source, at: &'static Location<'static>) -> Source {
        let mut graph = self.graph.borrow_mut();
        let Some(home) = graph.home(source) else { return Source::Nothing };
        if home == branch {
            return graph.give(branch, vec![source]);
        }
        if graph.lies_in(home, branch) {
            graph.refuse_escape(branch, source, at);
        } else {
            let what = graph.describe(source);
            let message = format!(
                "a branch gives {what}, which comes from outside of it: a branch gives what tasks inside of it made, \
                 so add one that takes this and gives it on"
            );
            graph.problem(at, message);
        }
        Source::Nothing
    }
}

/// The lists of those iterations that took a branch.
impl<'p, R: Handles<'p> + Collect<'p>> Collect<'p> for When<'p, R> {
    type Lists = R::Lists;

    fn collect_in(self, from: LoopRef<'p>) -> Self::Lists {
        self.merged().collect_in(from)
    }
}

/// After the branches, whichever is taken. Where none is, neither is what comes after.
impl<'p, R> From<&When<'p, R>> for TaskRef<'p> {
    fn from(when: &When<'p, R>) -> Self {
        Self::new(when.node())
    }
}
