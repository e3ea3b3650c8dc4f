//! Handles: what a task will give, or what a run is given.

use std::fmt;
use std::marker::PhantomData;

use super::graph::{NodeId, Source};

/// Ties a handle to its pipeline: invariant in `'p`.
pub(crate) type Brand<'p> = PhantomData<fn(&'p ()) -> &'p ()>;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<'p, T> {
            pub(crate) source: Source,
            brand: Brand<'p>,
            kind: PhantomData<fn() -> T>,
        }

        impl<T> $name<'_, T> {
            pub(crate) fn new(source: Source) -> Self {
                Self { source, brand: PhantomData, kind: PhantomData }
            }
        }

        impl<T> Clone for $name<'_, T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $name<'_, T> {}

        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}<{}>({:?})", stringify!($name), std::any::type_name::<T>(), self.source)
            }
        }
    };
}

handle! {
    /// A parameter: of the run, of a loop's item, or given by a task.
    Value
}
handle! {
    /// An artifact that a task will give or that was imported.
    Artifact
}
handle! {
    /// A list of artifacts: what a loop collects.
    ArtifactList
}

/// A task that was added.
#[derive(Clone, Copy, Debug)]
pub struct TaskRef<'p> {
    pub(crate) node: NodeId,
    brand: Brand<'p>,
}

impl<'p> TaskRef<'p> {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, brand: PhantomData }
    }

    /// The handle of an output parameter.
    #[doc(hidden)]
    pub fn parameter<T>(self, port: &'static str) -> Value<'p, T> {
        Value::new(Source::Output { node: self.node, port })
    }

    /// The handle of an output artifact.
    #[doc(hidden)]
    pub fn artifact<K>(self, port: &'static str) -> Artifact<'p, K> {
        Artifact::new(Source::Output { node: self.node, port })
    }
}
