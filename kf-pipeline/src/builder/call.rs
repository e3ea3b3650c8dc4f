//! Calls: a component with its arguments, not yet added to a pipeline.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use kf_core::resources::Resources;

use super::graph::TaskArg;
use super::{Arg, ArtifactArg, TaskRef};
use crate::component::ComponentDef;

/// A component with its arguments. [`Scope::add`](super::Scope::add) makes a task of it.
#[must_use = "a call does nothing until it is added to a pipeline: `p.add(…)`"]
pub struct Call<'p, H> {
    pub(super) definition: Arc<ComponentDef>,
    pub(super) args: Vec<(&'static str, TaskArg)>,
    pub(super) options: CallOptions,
    pub(super) after: Vec<TaskRef<'p>>,
    pub(super) at_any_end: bool,
    pub(super) handles: fn(TaskRef<'p>) -> H,
    brand: PhantomData<fn(&'p ()) -> &'p ()>,
}

impl<H> std::fmt::Debug for Call<'_, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("component", &self.definition.name).finish_non_exhaustive()
    }
}

/// What is said of one task, over the component's defaults.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    pub(crate) name: Option<String>,
    pub(crate) retries: u32,
    pub(crate) backoff: Option<kf_core::backoff::Backoff>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) resources: Resources,
    pub(crate) cache: bool,
    pub(crate) cache_key: Option<String>,
    pub(crate) cache_ttl: Option<Duration>,
    pub(crate) executor: Option<String>,
    pub(crate) locks: Vec<String>,
    pub(crate) problem: Option<String>,
}

impl<'p, H> Call<'p, H> {
    /// A call without arguments yet.
    #[doc(hidden)]
    pub fn new(definition: ComponentDef, handles: fn(TaskRef<'p>) -> H) -> Self {
        let defaults = &definition.defaults;
        let options = CallOptions {
            retries: defaults.retries,
            timeout: defaults.timeout,
            resources: defaults.resources.clone(),
            cache: !defaults.no_cache,
            cache_ttl: defaults.cache_ttl,
            executor: defaults.executor.map(str::to_owned),
            ..CallOptions::default()
        };
        let definition = Arc::new(definition);
        Self {
            definition,
            args: Vec::new(),
            options,
            after: Vec::new(),
            at_any_end: false,
            handles,
            brand: PhantomData,
        }
    }

    /// Gives a parameter.
    #[doc(hidden)]
    pub fn parameter(mut self, name: &'static str, arg: Arg) -> Self {
        self.args.push((name, TaskArg::Parameter(arg)));
        self
    }

    /// Gives an artifact.
    #[doc(hidden)]
    pub fn artifact(mut self, name: &'static str, arg: ArtifactArg) -> Self {
        self.args.push((name, TaskArg::Artifact(arg)));
        self
    }

    /// Calls the task so, instead of after its component. A name that is taken gets a number, as in `fit-2`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// How many attempts may follow a failed first.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// How long to wait between attempts.
    pub fn backoff(mut self, backoff: kf_core::backoff::Backoff) -> Self {
        self.options.backoff = Some(backoff);
        self
    }

    /// How long an attempt may take. Past it the body is asked to end ([`Context::cancellation`](crate::Context::cancellation))
    /// and has the engine's [grace](crate::EngineBuilder::grace) for that; then a subprocess is killed and an `async fn`
    /// dropped where it waits, while a `fn` in process runs on until it returns, its result ignored.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// How many processor cores it needs.
    pub fn cpu(mut self, cores: f64) -> Self {
        if cores.is_finite() && cores >= 0.0 {
            self.options.resources = self.options.resources.cpu(cores);
        } else {
            self.options.problem = Some(format!("cpu: expected a number of cores, found {cores}"));
        }
        self
    }

    /// How much memory it needs, as a Kubernetes quantity such as `2Gi`.
    pub fn memory(mut self, quantity: &str) -> Self {
        match self.options.resources.clone().memory(quantity) {
            Ok(resources) => self.options.resources = resources,
            Err(error) => self.options.problem = Some(error.to_string()),
        }
        self
    }

    /// How many accelerators it needs, fractions too.
    pub fn accelerator(mut self, name: &str, count: f64) -> Self {
        if count.is_finite() && count >= 0.0 {
            self.options.resources = self.options.resources.accelerator(name, count);
        } else {
            self.options.problem = Some(format!("accelerator `{name}`: expected a count, found {count}"));
        }
        self
    }

    /// Whether an earlier execution may stand for it.
    pub fn cache(mut self, cache: bool) -> Self {
        self.options.cache = cache;
        self
    }

    /// Lets an earlier execution of its component in a pipeline of this name stand for it that has the same key, whatever
    /// else is the same or not.
    pub fn cache_key(mut self, key: impl Into<String>) -> Self {
        self.options.cache_key = Some(key.into());
        self
    }

    /// How old an execution may be that stands for it.
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.options.cache_ttl = Some(ttl);
        self
    }

    /// Which of the engine's executors carries it, such as `subprocess`.
    pub fn executor(mut self, name: impl Into<String>) -> Self {
        self.options.executor = Some(name.into());
        self
    }

    /// Runs only while it holds the mutex of this name, over all runs of all engines that share a metadata store; or one of
    /// the places of a semaphore, where the [engine](crate::EngineBuilder::semaphore) gives the name more than one.
    /// Placeholders such as `{{$.inputs.parameters['region']}}` stand for its inputs.
    ///
    /// Of the tasks of one engine the first that waits comes first; between engines that share a database there is no such
    /// order. A place ends with the lease under which its run is carried, and with the engine's process, also where a body
    /// past its timeout still runs, or a subprocess of an engine that was killed a moment ago.
    pub fn mutex(mut self, name: impl Into<String>) -> Self {
        self.options.locks.push(name.into());
        self
    }

    /// Starts it only after `task` has succeeded, though it takes nothing from it. A task from around the loop, branch or
    /// group that this one is in holds up all of that.
    pub fn after(mut self, task: impl Into<TaskRef<'p>>) -> Self {
        self.after.push(task.into());
        self
    }

    /// Runs it once the tasks before it have ended, however they ended, and also when the run is cancelled. What they
    /// give may then be absent, so that the inputs which take it are an `Option`, or a
    /// [`FinalStatus`](crate::FinalStatus), which says how one of them ended:
    ///
    /// ```
    /// # use kf_pipeline::prelude::*;
    /// # #[component]
    /// # fn fit(model: Output<Model>) -> TaskResult<f64> { Ok(1.0) }
    /// #[component]
    /// fn tell(status: FinalStatus, accuracy: Option<f64>, model: Option<Input<Model>>) -> String {
    ///     match (accuracy, model) {
    ///         (Some(accuracy), Some(model)) => format!("{accuracy} by {}", model.uri()),
    ///         _ => format!("{}: {:?}", status.state, status.error),
    ///     }
    /// }
    ///
    /// let pipeline = Pipeline::build("told", |p| {
    ///     let fitted = p.add(fit());
    ///     p.add(tell(p.status_of(fitted), fitted.output, fitted.model).even_if_failed());
    /// })?;
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    ///
    /// The run fails all the same where a task did.
    pub fn even_if_failed(mut self) -> Self {
        self.at_any_end = true;
        self
    }
}
