//! What may be given to a component: handles and literals.

use kf_core::artifact::ArtifactKind;
use serde_json::Value as Json;

use super::graph::Source;
use super::{Artifact, ArtifactList, Value};
use crate::component::Param;
use crate::spec::{ArtifactType, ParameterType};

/// A parameter that is given: a value, or where it will come from.
#[derive(Clone, Debug)]
pub struct Arg(pub(crate) ArgKind);

#[derive(Clone, Debug)]
pub(crate) enum ArgKind {
    Constant(Result<Json, String>),
    Source(Source, ParameterType),
}

/// Artifacts that are given: where they will come from.
#[derive(Clone, Debug)]
pub struct ArtifactArg {
    pub(crate) sources: Vec<Source>,
    pub(crate) kind: ArtifactType,
    pub(crate) list: bool,
}

/// What may be given for a parameter of type `T`: a literal, or a [`Value`] of that type.
#[diagnostic::on_unimplemented(
    message = "expected a parameter of type `{T}`, found `{Self}`",
    label = "expected `{T}` or `Value<{T}>`",
    note = "what a task inside of a loop gives is there once for each item: return it from the closure and `.collect()` it to have a list",
    note = "what a branch gives is there once every case is covered: end with `.otherwise(…)`"
)]
pub trait IntoValue<'p, T> {
    /// The argument.
    fn into_value(self) -> Arg;
}

impl<'p, T: Param> IntoValue<'p, T> for T {
    fn into_value(self) -> Arg {
        Arg(ArgKind::Constant(self.to_json()))
    }
}

impl<'p, T: Param> IntoValue<'p, T> for Value<'p, T> {
    fn into_value(self) -> Arg {
        Arg(ArgKind::Source(self.source, T::TYPE))
    }
}

impl<'p, T: Param> IntoValue<'p, Option<T>> for Value<'p, T> {
    fn into_value(self) -> Arg {
        Arg(ArgKind::Source(self.source, T::TYPE))
    }
}

impl<'p> IntoValue<'p, String> for &str {
    fn into_value(self) -> Arg {
        Arg(ArgKind::Constant(Ok(self.into())))
    }
}

/// What may be given for an artifact of kind `K`: an [`Artifact`] of that kind. Where `K` is the generic
/// [`kf_core::artifact::Artifact`], [`Artifact::any`] makes one of any other.
#[diagnostic::on_unimplemented(
    message = "expected an artifact of kind `{K}`, found `{Self}`",
    label = "expected `Artifact<{K}>`",
    note = "a loop's artifacts become a list by returning them from the closure and `.collect()`"
)]
pub trait IntoArtifact<'p, K> {
    /// The argument.
    fn into_artifact(self) -> ArtifactArg;
}

impl<'p, K: ArtifactKind> IntoArtifact<'p, K> for Artifact<'p, K> {
    fn into_artifact(self) -> ArtifactArg {
        ArtifactArg { sources: vec![self.source], kind: ArtifactType::of::<K>(), list: false }
    }
}

impl<'p, K: ArtifactKind> Artifact<'p, K> {
    /// The same artifact as one of no particular kind, for components that take any.
    pub fn any(self) -> Artifact<'p, kf_core::artifact::Artifact> {
        Artifact::new(self.source)
    }
}

/// What may be given for a list of artifacts of kind `K`: an [`ArtifactList`] of that kind.
#[diagnostic::on_unimplemented(
    message = "expected a list of artifacts of kind `{K}`, found `{Self}`",
    label = "expected `ArtifactList<{K}>`",
    note = "return the artifact from the loop's closure and use `.collect()` on what `parallel_for` gives"
)]
pub trait IntoArtifactList<'p, K> {
    /// The argument.
    fn into_artifact_list(self) -> ArtifactArg;
}

impl<'p, K: ArtifactKind> IntoArtifactList<'p, K> for ArtifactList<'p, K> {
    fn into_artifact_list(self) -> ArtifactArg {
        ArtifactArg { sources: vec![self.source], kind: ArtifactType::of::<K>(), list: true }
    }
}

/// What may be given for an artifact of kind `K` that may be absent: an [`Artifact`] of that kind, or `None`.
#[diagnostic::on_unimplemented(
    message = "expected an artifact of kind `{K}` or `None`, found `{Self}`",
    label = "expected `Artifact<{K}>` or `None`"
)]
pub trait IntoOptionalArtifact<'p, K> {
    /// The argument.
    fn into_optional_artifact(self) -> ArtifactArg;
}

impl<'p, K: ArtifactKind> IntoOptionalArtifact<'p, K> for Artifact<'p, K> {
    fn into_optional_artifact(self) -> ArtifactArg {
        self.into_artifact()
    }
}

impl<'p, K: ArtifactKind> IntoOptionalArtifact<'p, K> for Option<Artifact<'p, K>> {
    fn into_optional_artifact(self) -> ArtifactArg {
        let sources = self.into_iter().map(|artifact| artifact.source).collect();
        ArtifactArg { sources, kind: ArtifactType::of::<K>(), list: false }
    }
}
