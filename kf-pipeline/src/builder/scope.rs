//! Scopes: what the builder's closures add tasks to.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::Location;
use std::rc::Rc;

use kf_core::artifact::ArtifactKind;
use serde_json::Value as Json;

use super::arg::ArgKind;
use super::graph::{Graph, NodeId, NodeKind, OUTERMOST, PipelineParameter, ScopeId, Source, TaskArg};
use super::handle::Brand;
use super::{Arg, Artifact, Call, IntoValue, TaskRef, Value};
use crate::component::Param;
use crate::spec::ArtifactType;

/// A pipeline being built, or a loop or branch of it.
#[derive(Debug)]
pub struct Scope<'p> {
    pub(super) graph: Rc<RefCell<Graph>>,
    pub(super) id: ScopeId,
    pub(super) brand: Brand<'p>,
}

impl<'p> Scope<'p> {
    /// A parameter of the pipeline, with the value it has where a run gives none.
    #[track_caller]
    pub fn param<T: Param>(&self, name: &str, default: impl Into<T>) -> Value<'p, T> {
        let default: T = default.into();
        match default.to_json() {
            Ok(json) => self.parameter::<T>(name, Some(json), Location::caller()),
            Err(problem) => {
                self.graph.borrow_mut().problem(Location::caller(), format!("parameter `{name}`: {problem}"));
                Value::new(Source::Nothing)
            }
        }
    }

    /// A parameter of the pipeline that every run must give.
    #[track_caller]
    pub fn required_param<T: Param>(&self, name: &str) -> Value<'p, T> {
        self.parameter::<T>(name, None, Location::caller())
    }

    fn parameter<T: Param>(
        &self,
        name: &str,
        default: Option<Json>,
        at: &'static Location<'static>,
    ) -> Value<'p, T> {
        let mut graph = self.graph.borrow_mut();
        if !graph.check_name("parameter name", name, at) {
            return Value::new(Source::Nothing);
        }
        if graph.parameters.iter().any(|parameter| parameter.name == name) {
            graph.problem(at, format!("the pipeline has a parameter `{name}` already"));
            return Value::new(Source::Nothing);
        }
        let index = u32::try_from(graph.parameters.len()).unwrap_or(u32::MAX);
        let parameter = PipelineParameter {
            name: name.to_owned(),
            kind: T::TYPE,
            default,
            optional: T::OPTIONAL,
            check: |json| T::from_json(json).map(drop),
        };
        graph.parameters.push(parameter);
        Value::new(Source::Parameter(index))
    }

    /// Lets at most `tasks` tasks of a run be under way at once, whatever the engine's own
    /// [`max_tasks`](crate::EngineBuilder::max_tasks) allows; loops have
    /// [limits of their own](Self::parallel_for_limited). It is said once for the whole pipeline.
    #[track_caller]
    pub fn max_tasks(&self, tasks: u32) {
        let mut graph = self.graph.borrow_mut();
        if tasks == 0 {
            graph.problem(
                Location::caller(),
                "with at most 0 tasks at once nothing would run: allow at least 1",
            );
        } else if graph.max_tasks.replace(tasks).is_some() {
            graph.problem(Location::caller(), "the pipeline's `max_tasks` is said twice");
        }
    }

    /// Adds a task and gives the handles of its outputs.
    #[track_caller]
    pub fn add<H>(&self, call: Call<'p, H>) -> H {
        let handles = call.handles;
        handles(TaskRef::new(self.add_call(self.id, call, Location::caller())))
    }

    pub(super) fn add_call<H>(
        &self,
        scope: ScopeId,
        call: Call<'p, H>,
        at: &'static Location<'static>,
    ) -> NodeId {
        let mut graph = self.graph.borrow_mut();
        let Call { definition, args, options, after, at_any_end, .. } = call;
        let wanted = options.name.as_deref().unwrap_or(definition.name);
        let name = graph.fresh_name(wanted);
        if scope != OUTERMOST {
            graph.refuse_outer(scope, &format!("task `{name}`"), at);
        }
        graph.refuse_namesake(&definition, at);
        if let Some(problem) = &options.problem {
            graph.problem(at, format!("task `{name}`: {problem}"));
        }
        graph.check_task_name(wanted, at);
        let mut at_any_end = at_any_end;
        for (input, arg) in &args {
            if let TaskArg::Parameter(Arg(ArgKind::Constant(Err(problem)))) = arg {
                graph.problem(at, format!("task `{name}`, input `{input}`: {problem}"));
            }
            for source in arg.sources() {
                graph.refuse_escape(scope, source, at);
                at_any_end |= matches!(source, Source::Status(_));
            }
        }
        if at_any_end {
            graph.refuse_required(scope, &name, &definition, &args, at);
        }
        let kind = NodeKind::Task { definition, args, options: Box::new(options) };
        let node = graph.add(scope, name, kind);
        graph.nodes[node.0 as usize].at_any_end = at_any_end;
        for other in after {
            graph.wait(node, other.node, at);
        }
        node
    }

    /// Takes in an artifact that is there already, at a URI such as `file:///data/digits.parquet`: a copy of the file or
    /// folder is kept. Of any other URI, such as `s3://…`, the artifact holds the URI alone, which a component reads with a
    /// client of its own: it has no [`path`](crate::Input::path).
    #[track_caller]
    pub fn import<K: ArtifactKind>(&self, uri: impl IntoValue<'p, String>) -> Artifact<'p, K> {
        let uri = uri.into_value();
        let at = Location::caller();
        let mut graph = self.graph.borrow_mut();
        if let Arg(ArgKind::Source(source, _)) = &uri {
            graph.refuse_escape(self.id, *source, at);
        }
        graph.refuse_outer(self.id, "an import", at);
        let name = graph.fresh_name("importer");
        let node = graph.add(self.id, name, NodeKind::Import { uri, kind: ArtifactType::of::<K>() });
        TaskRef::new(node).artifact("artifact")
    }

    /// What the closure of an inner scope gives.
    pub(super) fn within<R>(&self, id: ScopeId, body: impl FnOnce(&Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.graph.borrow_mut().current, id);
        let gave = body(&self.inner(id));
        self.graph.borrow_mut().current = outer;
        gave
    }

    /// As [`Graph::refuse_outer`].
    pub(super) fn refuse_outer(&self, what: &str, at: &Location<'_>) {
        self.graph.borrow_mut().refuse_outer(self.id, what, at);
    }

    pub(super) fn inner(&self, id: ScopeId) -> Self {
        Self { graph: Rc::clone(&self.graph), id, brand: PhantomData }
    }
}
