//! What closures give out of their branches and groups.

use super::graph::{NodeId, Source};
use super::{Artifact, ArtifactList, TaskRef, Value};

/// What a closure can give out of its branch or group: handles, tuples and `Vec`s of them, the outputs of tasks, and
/// structs of such with [`#[derive(Handles)]`](derive@crate::Handles).
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be given out of a branch or group",
    label = "not a handle, a tuple or `Vec` of handles, or a task's outputs",
    note = "a struct of handles needs `#[derive(Clone, Copy, kf_pipeline::Handles)]`"
)]
pub trait Handles<'p>: Sized {
    /// The same handles, each of what `to` says.
    #[doc(hidden)]
    fn relocate(self, to: &mut Relocation<'_>) -> Self;
}

/// Where handles go: what each means outside of the scope that it comes from.
#[doc(hidden)]
pub struct Relocation<'a> {
    source: &'a mut dyn FnMut(Source) -> Source,
    /// What stands for the tasks inside.
    node: NodeId,
}

impl std::fmt::Debug for Relocation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relocation").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<'a> Relocation<'a> {
    pub(super) fn new(node: NodeId, source: &'a mut dyn FnMut(Source) -> Source) -> Self {
        Self { source, node }
    }
}

macro_rules! one_source {
    ($($handle:ident)*) => {$(
        impl<'p, T> Handles<'p> for $handle<'p, T> {
            fn relocate(self, to: &mut Relocation<'_>) -> Self {
                Self::new((to.source)(self.source))
            }
        }
    )*};
}

one_source!(Value Artifact ArtifactList);

/// After a task inside means after all of the branches or the group.
impl<'p> Handles<'p> for TaskRef<'p> {
    fn relocate(self, to: &mut Relocation<'_>) -> Self {
        Self::new(to.node)
    }
}

impl<'p, H: Handles<'p>> Handles<'p> for Vec<H> {
    fn relocate(self, to: &mut Relocation<'_>) -> Self {
        self.into_iter().map(|handle| handle.relocate(to)).collect()
    }
}

impl<'p> Handles<'p> for () {
    fn relocate(self, _: &mut Relocation<'_>) {}
}

macro_rules! handles {
    ($($name:ident)+) => {
        impl<'p, $($name: Handles<'p>),+> Handles<'p> for ($($name,)+) {
            #[expect(non_snake_case, reason = "the tuple's elements are named after their types")]
            fn relocate(self, to: &mut Relocation<'_>) -> Self {
                let ($($name,)+) = self;
                ($($name.relocate(to),)+)
            }
        }
    };
}

for_tuples!(handles);
