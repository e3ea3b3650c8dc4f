//! Loops: what runs once for each item of a list.

use std::marker::PhantomData;
use std::panic::Location;
use std::rc::Rc;

use kf_core::artifact::ArtifactKind;

use super::arg::ArgKind;
use super::graph::{LoopItems, ScopeKind, Source};
use super::{Arg, Artifact, ArtifactList, Each, IntoValue, LoopRef, Scope, Value};
use crate::component::Param;
use crate::spec::ArtifactType;

/// What a loop can go over: a `Vec`, a [`Value`] of one, or an [`ArtifactList`].
#[diagnostic::on_unimplemented(
    message = "a loop can't go over `{Self}`",
    label = "expected a `Vec`, a `Value` of one, or an `ArtifactList`"
)]
pub trait Items<'p> {
    /// What each iteration is given: a [`Value`] or an [`Artifact`].
    type Item;

    /// The list.
    #[doc(hidden)]
    fn into_items(self) -> LoopOver;

    /// What stands for the item of the loop.
    #[doc(hidden)]
    fn item(source: LoopItem) -> Self::Item;
}

/// The list that a loop goes over.
#[doc(hidden)]
#[derive(Debug)]
pub struct LoopOver(LoopItems);

/// Where the item of a loop comes from.
#[doc(hidden)]
#[derive(Debug)]
pub struct LoopItem(Source);

fn values<T: Param>(list: Arg) -> LoopOver {
    LoopOver(LoopItems::Values { list, item: T::TYPE, optional: T::OPTIONAL })
}

impl<'p, T: Param> Items<'p> for Vec<T> {
    type Item = Value<'p, T>;

    fn into_items(self) -> LoopOver {
        values::<T>(IntoValue::<Vec<T>>::into_value(self))
    }

    fn item(source: LoopItem) -> Self::Item {
        Value::new(source.0)
    }
}

impl<'p, T: Param> Items<'p> for Value<'p, Vec<T>> {
    type Item = Value<'p, T>;

    fn into_items(self) -> LoopOver {
        values::<T>(IntoValue::<Vec<T>>::into_value(self))
    }

    fn item(source: LoopItem) -> Self::Item {
        Value::new(source.0)
    }
}

impl<'p, K: ArtifactKind> Items<'p> for ArtifactList<'p, K> {
    type Item = Artifact<'p, K>;

    fn into_items(self) -> LoopOver {
        LoopOver(LoopItems::Artifacts { list: self.source, item: ArtifactType::of::<K>() })
    }

    fn item(source: LoopItem) -> Self::Item {
        Artifact::new(source.0)
    }
}

impl<'p> Scope<'p> {
    /// Runs what the closure adds once for each of `items`, as many at once as there is room for. Items are values, or
    /// the artifacts that another loop collected:
    ///
    /// ```
    /// # use kf_pipeline::prelude::*;
    /// # #[component]
    /// # fn split(part: u32, data: Output<Dataset>) -> TaskResult { data.write(part.to_string()) }
    /// # #[component]
    /// # fn score(data: Input<Dataset>) -> TaskResult<f64> { Ok(std::fs::metadata(data.path()?)?.len() as f64) }
    /// # #[component]
    /// # fn best(scores: Vec<f64>) {}
    /// let pipeline = Pipeline::build("scores", |p| {
    ///     let parts = p.parallel_for(vec![1_u32, 2, 3], |p, part| p.add(split(part))).collect();
    ///     let scores = p.parallel_for(parts.data, |p, data| p.add(score(data))).collect();
    ///     p.add(best(scores.output));
    /// })?;
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    #[track_caller]
    pub fn parallel_for<I: Items<'p>, R>(
        &self,
        items: I,
        body: impl FnOnce(&Scope<'p>, I::Item) -> R,
    ) -> Each<'p, R> {
        self.loop_over(items, 0, body, Location::caller())
    }

    /// Like [`parallel_for`](Self::parallel_for), with at most `limit` iterations at once, which is at least 1.
    #[track_caller]
    pub fn parallel_for_limited<I: Items<'p>, R>(
        &self,
        items: I,
        limit: u32,
        body: impl FnOnce(&Scope<'p>, I::Item) -> R,
    ) -> Each<'p, R> {
        let at = Location::caller();
        if limit == 0 {
            self.graph
                .borrow_mut()
                .problem(at, "a loop with a limit of 0 would never run: give it at least 1");
        }
        self.loop_over(items, limit, body, at)
    }

    fn loop_over<I: Items<'p>, R>(
        &self,
        items: I,
        limit: u32,
        body: impl FnOnce(&Scope<'p>, I::Item) -> R,
        at: &'static Location<'static>,
    ) -> Each<'p, R> {
        let LoopOver(items) = items.into_items();
        let mut graph = self.graph.borrow_mut();
        graph.refuse_outer(self.id, "a loop", at);
        match &items {
            LoopItems::Artifacts { list: source, .. }
            | LoopItems::Values { list: Arg(ArgKind::Source(source, _)), .. } => {
                graph.refuse_escape(self.id, *source, at);
            }
            LoopItems::Values { list: Arg(ArgKind::Constant(Err(problem))), .. } => {
                graph.problem(at, format!("the loop's items: {problem}"));
            }
            LoopItems::Values { list: Arg(ArgKind::Constant(Ok(_))), .. } => {}
        }
        let id = graph.open_scope(
            self.id,
            "for-loop",
            ScopeKind::Loop { items, limit, min_success: None, failures: false },
            at,
        );
        drop(graph);
        let inner = self.within(id, |p| body(p, I::item(LoopItem(Source::Item(id)))));
        Each { inner, scope: LoopRef { graph: Rc::clone(&self.graph), scope: id, at, brand: PhantomData } }
    }
}
