//! Recursion: a group that calls itself.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;

use kf_core::artifact::ArtifactKind;

use super::graph::{self, Graph, NodeId, NodeKind, ScopeId, ScopeKind, SlotKind, Source};
use super::handle::Brand;
use super::handles::Relocation;
use super::{Artifact, ArtifactList, Handles, Scope, Value};
use crate::component::Param;
use crate::spec::ArtifactType;

/// What a recursion is called with and what it gives: handles, and tuples of them.
#[diagnostic::on_unimplemented(
    message = "a recursion can't be called with `{Self}`, nor give it",
    label = "expected a handle, or a tuple of handles"
)]
pub trait Carried<'p>: Handles<'p> {
    /// Handles of what `source` gives for each.
    #[doc(hidden)]
    fn carried(source: &mut Carrying<'_>) -> Self;
}

/// Gives a source for each handle.
#[doc(hidden)]
pub struct Carrying<'a>(&'a mut dyn FnMut(SlotKind) -> Source);

impl fmt::Debug for Carrying<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrying")
    }
}

impl<'p, T: Param> Carried<'p> for Value<'p, T> {
    fn carried(source: &mut Carrying<'_>) -> Self {
        Self::new((source.0)(SlotKind::Parameter { kind: T::TYPE, optional: T::OPTIONAL }))
    }
}

impl<'p, K: ArtifactKind> Carried<'p> for Artifact<'p, K> {
    fn carried(source: &mut Carrying<'_>) -> Self {
        Self::new((source.0)(SlotKind::Artifact { kind: ArtifactType::of::<K>(), list: false }))
    }
}

impl<'p, K: ArtifactKind> Carried<'p> for ArtifactList<'p, K> {
    fn carried(source: &mut Carrying<'_>) -> Self {
        Self::new((source.0)(SlotKind::Artifact { kind: ArtifactType::of::<K>(), list: true }))
    }
}

impl<'p> Carried<'p> for () {
    fn carried(_: &mut Carrying<'_>) {}
}

macro_rules! carried {
    ($($name:ident)+) => {
        impl<'p, $($name: Carried<'p>),+> Carried<'p> for ($($name,)+) {
            fn carried(source: &mut Carrying<'_>) -> Self {
                ($($name::carried(source),)+)
            }
        }
    };
}

for_tuples!(carried);

/// A group that may call itself, for [`Scope::recurse`].
pub struct Recursion<'p, A, R> {
    scope: ScopeId,
    brand: Brand<'p>,
    carries: PhantomData<fn(A) -> R>,
}

impl<A, R> fmt::Debug for Recursion<'_, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recursion").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<'p> Scope<'p> {
    /// Makes one task of what the closure adds, as [`nest`](Self::nest) does, that may call itself: with other arguments,
    /// under a condition, and at most `max_depth` deep. A call that would go deeper fails. Gives what the closure returns,
    /// which tasks in it made.
    ///
    /// ```
    /// use kf_pipeline::prelude::*;
    /// use kf_pipeline::Pipeline;
    ///
    /// #[component]
    /// fn train(rounds: u32, model: Output<Model>) -> TaskResult<f64> {
    ///     model.write(rounds.to_string())?;
    ///     Ok(1.0 / f64::from(rounds))
    /// }
    ///
    /// #[component]
    /// fn twice(rounds: u32) -> u32 {
    ///     2 * rounds
    /// }
    ///
    /// #[component]
    /// fn publish(model: Input<Model>) {}
    ///
    /// // Trains with twice as many rounds until the loss is small, at most 8 times.
    /// let pipeline = Pipeline::build("until-good", |p| {
    ///     let rounds = p.param::<u32>("rounds", 1_u32);
    ///     let model = p.recurse("attempt", 8, rounds, |p, rounds, attempt| {
    ///         let trained = p.add(train(rounds));
    ///         p.when(trained.output.gt(0.1), |p| attempt.call(p, p.add(twice(rounds)).output))
    ///             .otherwise(|p| p.add(keep(trained.model)).kept)
    ///     });
    ///     p.add(publish(model));
    /// })?;
    /// # #[component]
    /// # fn keep(model: Input<Model>, kept: Output<Model>) -> TaskResult { kept.copy_from(&model) }
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    ///
    /// Kubeflow Pipelines has no field for the depth: [`Pipeline::to_ir`](crate::Pipeline::to_ir) refuses it.
    #[track_caller]
    pub fn recurse<A: Carried<'p>, R: Carried<'p>>(
        &self,
        name: &str,
        max_depth: u32,
        start: A,
        body: impl FnOnce(&Scope<'p>, A, &Recursion<'p, A, R>) -> R,
    ) -> R {
        let at = Location::caller();
        let starts = sources(start);
        let mut graph = self.graph.borrow_mut();
        graph.check_task_name(name, at);
        for source in &starts {
            graph.refuse_escape(self.id, *source, at);
        }
        refuse_statuses(&mut graph, &starts, at);
        if max_depth == 0 {
            graph.problem(
                at,
                format!("recursion `{name}` of a depth of 0 would never run: give it at least 1"),
            );
        }
        let name = graph.fresh_name(name);
        graph.refuse_outer(self.id, &format!("recursion `{name}`"), at);
        let id = graph.open_named_scope(self.id, name, ScopeKind::Group, at);
        let (mut takes, mut gives) = (Vec::new(), Vec::new());
        let args = A::carried(&mut Carrying(&mut |kind| {
            let slot = u32::try_from(takes.len()).unwrap_or(u32::MAX);
            takes.push(kind);
            Source::Slot { scope: id, slot }
        }));
        R::carried(&mut Carrying(&mut |kind| {
            gives.push(kind);
            Source::Nothing
        }));
        let recursion = graph::Recursion { max_depth, starts, takes, gives, given: Vec::new() };
        graph.scopes[id.0 as usize].recursion = Some(Box::new(recursion));
        drop(graph);

        let recursion = Recursion { scope: id, brand: PhantomData, carries: PhantomData };
        let gave = self.within(id, |p| body(p, args, &recursion));
        let node = self.graph.borrow().scope(id).node.unwrap_or(NodeId(0));
        let mut given = Vec::new();
        let mut lift = |source| {
            let lifted = self.lift_from_recursion(id, source, at);
            given.push(lifted);
            lifted
        };
        let lifted = gave.relocate(&mut Relocation::new(node, &mut lift));
        if let Some(recursion) = &mut self.graph.borrow_mut().scopes[id.0 as usize].recursion {
            recursion.given = given;
        }
        lifted
    }

    fn lift_from_recursion(&self, id: ScopeId, source: Source, at: &'static Location<'static>) -> Source {
        let mut graph = self.graph.borrow_mut();
        refuse_statuses(&mut graph, &[source], at);
        match graph.home(source) {
            None => return Source::Nothing,
            Some(home) if home == id && !matches!(source, Source::Slot { .. }) => {
                return graph.give(id, vec![source]);
            }
            Some(home) if home != id && graph.lies_in(home, id) => graph.refuse_escape(id, source, at),
            Some(_) => {
                let what = graph.describe(source);
                let message = format!(
                    "a recursion gives {what}, which comes from outside of it: it gives what tasks inside of it made, so \
                     add one that takes this and gives it on"
                );
                graph.problem(at, message);
            }
        }
        Source::Nothing
    }
}

impl<'p, A: Carried<'p>, R: Carried<'p>> Recursion<'p, A, R> {
    /// Calls the group from within, in a branch or a loop of it, with these arguments. Gives what that call gives.
    #[track_caller]
    pub fn call(&self, p: &Scope<'p>, with: A) -> R {
        let at = Location::caller();
        let mut graph = p.graph.borrow_mut();
        let args = sources(with);
        for source in &args {
            graph.refuse_escape(p.id, *source, at);
        }
        refuse_statuses(&mut graph, &args, at);
        let name =
            graph.scope(self.scope).node.map_or_else(String::new, |node| graph.node(node).name.clone());
        graph.refuse_outer(p.id, &format!("a call of recursion `{name}`"), at);
        let (mut scope, mut may_end) = (p.id, false);
        while scope != self.scope {
            may_end |= matches!(graph.scope(scope).kind, ScopeKind::When(_) | ScopeKind::Loop { .. });
            let Some(parent) = graph.parent(scope) else {
                let message = format!("recursion `{name}` is called outside of it, where it has ended");
                graph.problem(at, message);
                return R::carried(&mut Carrying(&mut |_| Source::Nothing));
            };
            scope = parent;
        }
        if !may_end {
            let message = format!(
                "recursion `{name}` calls itself each time, until it is too deep: call it in a `p.when(…)` or a loop"
            );
            graph.problem(at, message);
        }
        let own = graph.fresh_name(&format!("{name}-again"));
        let node = graph.add(p.id, own, NodeKind::Again { scope: self.scope, args });
        drop(graph);
        let mut slot = 0;
        R::carried(&mut Carrying(&mut |_| {
            let source = Source::Again { node, slot };
            slot += 1;
            source
        }))
    }
}

/// Notes final statuses, which are known beside their tasks alone.
fn refuse_statuses(graph: &mut Graph, sources: &[Source], at: &'static Location<'static>) {
    if let Some(source) = sources.iter().find(|source| matches!(source, Source::Status(_))) {
        let what = graph.describe(*source);
        let message = format!(
            "a recursion can't carry {what}: give that to a task beside it, and carry what that gives"
        );
        graph.problem(at, message);
    }
}

/// What handles stand for.
fn sources<'p>(handles: impl Handles<'p>) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut note = |source| {
        sources.push(source);
        source
    };
    let _ = handles.relocate(&mut Relocation::new(NodeId(0), &mut note));
    sources
}
