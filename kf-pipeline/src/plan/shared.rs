//! What is equal in many places of a plan, kept once.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::spec::{ContainerSpec, InputDefinitions, OutputDefinitions};

#[derive(Default)]
pub(super) struct Shared {
    pub(super) names: Once<str>,
    pub(super) inputs: Once<InputDefinitions>,
    pub(super) outputs: Once<OutputDefinitions>,
    pub(super) containers: Once<ContainerSpec>,
}

pub(super) struct Once<T: ?Sized>(RefCell<HashSet<Arc<T>>>);

impl<T: ?Sized> Default for Once<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: ?Sized + Eq + Hash + ToOwned> Once<T>
where
    Arc<T>: From<T::Owned> + Borrow<T>,
{
    pub(super) fn of(&self, value: &T) -> Arc<T> {
        let mut known = self.0.borrow_mut();
        if let Some(same) = known.get(value) {
            return Arc::clone(same);
        }
        let new = Arc::<T>::from(value.to_owned());
        known.insert(Arc::clone(&new));
        new
    }
}
