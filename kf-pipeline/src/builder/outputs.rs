//! What the whole pipeline gives.

use std::panic::Location;

use kf_core::artifact::ArtifactKind;

use super::arg::ArgKind;
use super::graph::{BODY, Source, TaskArg};
use super::{Arg, Artifact, ArtifactArg, ArtifactList, Scope, Value};
use crate::component::Param;
use crate::spec::ArtifactType;

/// An output of the pipeline.
#[derive(Debug)]
pub(crate) struct RunOutput {
    pub(crate) name: String,
    pub(crate) from: TaskArg,
}

/// What an output of a pipeline may be: a [`Value`], an [`Artifact`] or an [`ArtifactList`].
#[diagnostic::on_unimplemented(
    message = "a pipeline can't give `{Self}`",
    label = "expected a `Value`, an `Artifact` or an `ArtifactList`",
    note = "of a task with several outputs, name one: `p.output(\"loss\", fitted.loss)`"
)]
pub trait IntoOutput<'p> {
    /// Where it comes from.
    fn into_output(self) -> OutputArg;
}

/// Where an output of a pipeline comes from.
#[derive(Debug)]
pub struct OutputArg(TaskArg);

impl<'p, T: Param> IntoOutput<'p> for Value<'p, T> {
    fn into_output(self) -> OutputArg {
        OutputArg(TaskArg::Parameter(Arg(ArgKind::Source(self.source, T::TYPE))))
    }
}

impl<'p, K: ArtifactKind> IntoOutput<'p> for Artifact<'p, K> {
    fn into_output(self) -> OutputArg {
        artifacts(self.source, ArtifactType::of::<K>(), false)
    }
}

impl<'p, K: ArtifactKind> IntoOutput<'p> for ArtifactList<'p, K> {
    fn into_output(self) -> OutputArg {
        artifacts(self.source, ArtifactType::of::<K>(), true)
    }
}

fn artifacts(source: Source, kind: ArtifactType, list: bool) -> OutputArg {
    OutputArg(TaskArg::Artifact(ArtifactArg { sources: vec![source], kind, list }))
}

impl<'p> Scope<'p> {
    /// Makes what a task gives an output of the pipeline, which a run's
    /// [outcome](crate::RunOutcome::output) has under this name.
    ///
    /// ```
    /// # use kf_pipeline::prelude::*;
    /// # #[component]
    /// # fn double(number: u32) -> u32 { 2 * number }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pipeline = Pipeline::build("doubles", |p| {
    ///     let number = p.required_param::<u32>("number");
    ///     p.output("doubled", p.add(double(number)).output);
    /// })?;
    /// # let folder = tempfile::tempdir()?;
    /// let engine = Engine::open(folder.path()).await?;
    /// let outcome = engine.start(&pipeline, args! { "number" => 21 }).await?.wait().await?;
    /// assert_eq!(outcome.output::<u32>("doubled")?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It belongs to the whole pipeline: what a loop, a branch or a group has is to be returned from its closure first.
    #[track_caller]
    pub fn output(&self, name: &str, from: impl IntoOutput<'p>) {
        let at = Location::caller();
        let OutputArg(from) = from.into_output();
        let mut graph = self.graph.borrow_mut();
        if self.id != BODY || graph.current != BODY {
            let message = format!(
                "output `{name}` is the whole pipeline's: return the value from the closure, and give it outside of loops, \
                 branches and groups"
            );
            return graph.problem(at, message);
        }
        if !graph.check_name("output", name, at) {
            return;
        }
        if graph.outputs.iter().any(|output| output.name == name) {
            return graph.problem(at, format!("the pipeline has an output `{name}` already"));
        }
        for source in from.sources() {
            graph.refuse_escape(BODY, source, at);
            if matches!(source, Source::Parameter(_) | Source::Status(_)) {
                let found = graph.describe(source);
                graph.problem(at, format!("output `{name}`: expected what a task gives, found {found}"));
            }
        }
        graph.outputs.push(RunOutput { name: name.to_owned(), from });
    }
}
