//! Loops: what each iteration gives, and all of it as lists.

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;

use super::graph::{Graph, NodeId, ScopeId, Source};
use super::handle::Brand;
use super::{Artifact, ArtifactList, Handles, TaskRef, Value};
use kf_core::artifact::ArtifactKind;

/// What a loop's closure returned, once for each iteration. It has no outputs itself: [`Each::collect`] turns it into
/// lists, which do.
#[derive(Debug)]
pub struct Each<'p, R> {
    pub(super) inner: R,
    pub(super) scope: LoopRef<'p>,
}

impl<'p, R: Collect<'p>> Each<'p, R> {
    /// Everything the iterations gave, as lists in the items' order. A task's outputs become fields of the same names:
    /// `p.parallel_for(rates, |p, rate| p.add(fit(rate))).collect().model`.
    ///
    /// Where loops nest, the outer closure returns the handles that it wants from the inner lists, one or a tuple:
    /// `let inner = p.parallel_for(…).collect(); (inner.loss, inner.model)`. Parameters then become lists of lists,
    /// artifacts one list.
    #[track_caller]
    pub fn collect(self) -> R::Lists {
        let Self { inner, mut scope } = self;
        scope.at = Location::caller();
        inner.collect_in(scope)
    }
}

/// After all iterations.
impl<'p, R> From<&Each<'p, R>> for TaskRef<'p> {
    fn from(each: &Each<'p, R>) -> Self {
        Self::new(each.scope.graph.borrow().scope(each.scope.scope).node.unwrap_or(NodeId(0)))
    }
}

/// A loop whose outputs are being collected.
#[derive(Clone, Debug)]
pub struct LoopRef<'p> {
    pub(super) graph: Rc<RefCell<Graph>>,
    pub(super) scope: ScopeId,
    pub(super) at: &'static Location<'static>,
    pub(super) brand: Brand<'p>,
}

impl LoopRef<'_> {
    fn collected(&self, source: Source) -> Source {
        let mut graph = self.graph.borrow_mut();
        let inside = graph.home(source).is_some_and(|home| graph.lies_in(home, self.scope));
        // What comes from outside of the loop is the same in each iteration; only lists of what is made inside are
        // collected, and only where the loop itself can see it.
        if !inside {
            if source != Source::Nothing {
                let message =
                    "what the loop's closure returned comes from outside of the loop: nothing to collect";
                graph.problem(self.at, message);
            }
            return Source::Nothing;
        }
        if matches!(source, Source::Item(_)) {
            graph.problem(
                self.at,
                "the loop's closure returned the item itself: use the list that the loop goes over",
            );
            return Source::Nothing;
        }
        graph.refuse_escape(self.scope, source, self.at);
        graph.give(self.scope, vec![source])
    }
}

/// What a loop can collect: handles, tuples of them, and the outputs of tasks.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be collected from a loop",
    label = "not a handle, a tuple of handles, or a task's outputs"
)]
pub trait Collect<'p> {
    /// The same as lists.
    type Lists: Copy + Handles<'p>;

    /// The lists of what each iteration of a loop gives.
    #[doc(hidden)]
    fn collect_in(self, from: LoopRef<'p>) -> Self::Lists;
}

impl<'p, T> Collect<'p> for Value<'p, T> {
    type Lists = Value<'p, Vec<T>>;

    fn collect_in(self, from: LoopRef<'p>) -> Self::Lists {
        Value::new(from.collected(self.source))
    }
}

impl<'p, K: ArtifactKind> Collect<'p> for Artifact<'p, K> {
    type Lists = ArtifactList<'p, K>;

    fn collect_in(self, from: LoopRef<'p>) -> Self::Lists {
        ArtifactList::new(from.collected(self.source))
    }
}

/// Lists of lists are joined to one list.
impl<'p, K: ArtifactKind> Collect<'p> for ArtifactList<'p, K> {
    type Lists = ArtifactList<'p, K>;

    fn collect_in(self, from: LoopRef<'p>) -> Self::Lists {
        ArtifactList::new(from.collected(self.source))
    }
}

impl<'p> Collect<'p> for () {
    type Lists = ();

    fn collect_in(self, _: LoopRef<'p>) {}
}

macro_rules! collect {
    ($($name:ident)+) => {
        impl<'p, $($name: Collect<'p>),+> Collect<'p> for ($($name,)+) {
            type Lists = ($($name::Lists,)+);

            #[expect(non_snake_case, reason = "the tuple's elements are named after their types")]
            fn collect_in(self, from: LoopRef<'p>) -> Self::Lists {
                let ($($name,)+) = self;
                ($($name.collect_in(from.clone()),)+)
            }
        }
    };
}

for_tuples!(collect);
