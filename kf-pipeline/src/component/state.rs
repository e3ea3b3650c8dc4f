//! Injected state: what components need beside their inputs.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use super::TaskError;

/// A value that the program gave to the engine ([`EngineBuilder::state`](crate::EngineBuilder::state)) or to the
/// workers ([`Components::state`](crate::Components::state)), such as a database pool or a client.
#[derive(Debug)]
pub struct State<T>(Arc<T>);

impl<T> State<T> {
    /// State made by hand, as a unit test does.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[derive(Clone, Default)]
pub(crate) struct StateMap(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl StateMap {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Result<State<T>, TaskError> {
        let value = self.0.get(&TypeId::of::<T>()).cloned().and_then(|value| value.downcast::<T>().ok());
        value.map(State).ok_or_else(|| {
            TaskError::permanent(format!(
                "the component asks for the state `{}`, which nobody gave: add `.state(…)` where the engine is \
                 built, and to the workers where the task runs as a process",
                std::any::type_name::<T>()
            ))
        })
    }
}

impl std::fmt::Debug for StateMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateMap({})", self.0.len())
    }
}
