//! What a pipeline's graph can't hold, though its types fit: noted with the caller's file and line, and what to do.

use std::panic::Location;

use super::graph::{BODY, Graph, NodeId, NodeKind, ScopeId, ScopeKind, Source, TaskArg};
use crate::component::{ArtifactCount, ComponentDef};

impl Graph {
    /// Notes inputs of a task that runs however those before it ended, which ask for what these may not have given.
    pub(crate) fn refuse_required(
        &mut self,
        scope: ScopeId,
        name: &str,
        definition: &ComponentDef,
        args: &[(&'static str, TaskArg)],
        at: &Location<'_>,
    ) {
        for (input, arg) in args {
            let optional = match arg {
                TaskArg::Parameter(_) => {
                    definition.parameters.iter().any(|(own, _, optional)| own == input && *optional)
                }
                TaskArg::Artifact(_) => definition
                    .artifacts
                    .iter()
                    .any(|(own, _, count)| own == input && *count == ArtifactCount::OneOrNone),
            };
            // What comes from further out was there before this scope began.
            let uncertain = arg.sources().into_iter().find(|source| {
                matches!(source, Source::Output { .. } | Source::Given(_))
                    && self.home(*source) == Some(scope)
            });
            if let Some(source) = uncertain.filter(|_| !optional) {
                let what = self.describe(source);
                let message = format!(
                    "task `{name}` runs however the tasks before it ended, so that its input `{input}`, {what}, may be \
                     absent: make it an `Option`, or add what comes after that in a `p.nest(…)` or branch, which is \
                     begun only where it is there"
                );
                self.problem(at, message);
            }
        }
    }

    /// Notes a final status that is used elsewhere than beside its task.
    fn refuse_status(&mut self, used_in: ScopeId, node: NodeId, at: &Location<'_>) {
        let name = &self.node(node).name;
        let message = match self.node(node).kind {
            _ if self.node(node).scope == used_in => return,
            NodeKind::Group(BODY) => {
                "the run's status is known when all else has ended: give it to what `on_exit` adds".to_owned()
            }
            _ => format!(
                "the final status of `{name}` is known beside it alone: use it in the scope that `{name}` is in"
            ),
        };
        self.problem(at, message);
    }

    /// Notes a handle that is used outside of the loop or branch that it belongs to.
    pub(crate) fn refuse_escape(&mut self, used_in: ScopeId, source: Source, at: &Location<'_>) {
        if let Source::Status(node) = source {
            return self.refuse_status(used_in, node, at);
        }
        let Some(home) = self.home(source) else { return };
        if self.lies_in(used_in, home) {
            return;
        }
        // The outermost scope around the handle's home that the place of use is not in.
        let mut left = home;
        while let Some(parent) = self.parent(left) {
            if self.lies_in(used_in, parent) {
                break;
            }
            left = parent;
        }
        let data = self.scope(left);
        let opened = format!("{}:{}", data.at.file(), data.at.line());
        let what = self.describe(source);
        let message = match data.kind {
            ScopeKind::Loop { .. } => format!(
                "{what} exists only inside of the loop at {opened}, once for each item: return it from the loop's \
                 closure and use `.collect()`"
            ),
            ScopeKind::When(_) | ScopeKind::Branches => format!(
                "{what} exists only where the condition at {opened} holds: use it inside of that branch, or return it \
                 from all branches up to `.otherwise(…)`, which gives it where it is"
            ),
            ScopeKind::Group => format!(
                "{what} exists only inside of the group at {opened}: return it from the group's closure"
            ),
            ScopeKind::Pipeline => format!(
                "{what} is not there for an exit handler, which also runs when that task has failed: give it \
                 parameters, or read the run through its context"
            ),
        };
        self.problem(at, message);
    }

    /// Notes what is added to a scope in the closure of one that lies in it, where it looks as if it belonged to that.
    pub(crate) fn refuse_outer(&mut self, scope: ScopeId, what: &str, at: &Location<'_>) {
        if scope == self.current {
            return;
        }
        if !self.lies_in(self.current, scope) {
            let closed = self.scope(scope).at;
            let message = format!(
                "{what} is added with the builder of {}:{}, whose closure has returned: add it within that closure",
                closed.file(),
                closed.line()
            );
            return self.problem(at, message);
        }
        let inner = self.scope(self.current);
        let (kind, would) = match inner.kind {
            ScopeKind::Loop { .. } => ("loop", "be there once, and not for each item"),
            ScopeKind::When(_) | ScopeKind::Branches => {
                ("branch", "be there whether its condition holds or not")
            }
            ScopeKind::Group | ScopeKind::Pipeline => ("group", "be no part of it"),
        };
        let message = format!(
            "{what} is added in the closure of the {kind} at {}:{}, but with the builder of what is around that, and \
             would {would}: add it with the closure's own `p`, or before the {kind}",
            inner.at.file(),
            inner.at.line()
        );
        self.problem(at, message);
    }

    /// A source as messages call it.
    pub(crate) fn describe(&self, source: Source) -> String {
        match source {
            Source::Item(_) => "the item of a loop".to_owned(),
            Source::Output { node, port } => format!("output `{port}` of task `{}`", self.node(node).name),
            Source::Status(node) => format!("the final status of `{}`", self.node(node).name),
            Source::Slot { .. } => "what a recursion is called with".to_owned(),
            Source::Again { node, .. } => format!("what `{}` gives", self.node(node).name),
            Source::Given(index) => {
                let scope = self.scope(self.given[index as usize].scope);
                match (&scope.kind, scope.node) {
                    (ScopeKind::Loop { .. }, _) | (_, None) => "a collected list".to_owned(),
                    (_, Some(node)) => format!("what `{}` gives", self.node(node).name),
                }
            }
            Source::Parameter(_) | Source::Nothing => "a parameter".to_owned(),
        }
    }
}
