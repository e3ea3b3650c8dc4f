//! What Kubeflow Pipelines has no word for: fallbacks, loops some of whose iterations may fail, people who decide.

use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;

use super::arg::ArgKind;
use super::graph::{ArgCheck, FAILURES, NodeId, NodeKind, ScopeKind, Source};
use super::handle::Brand;
use super::{Arg, Call, Each, IntoValue, Scope, TaskRef, Value};
use crate::component::{ItemFailure, Param};
use crate::spec::{KfMinSuccess, ParameterType};

impl<'p, R> Each<'p, R> {
    /// Lets the loop succeed where at least this share of its iterations does, 0 to 1. What it collects is of those that
    /// succeeded, in the items' order; [`failures`](Self::failures) tells of the others.
    ///
    /// ```
    /// # use kf_pipeline::prelude::*;
    /// # use kf_pipeline::ItemFailure;
    /// # #[component]
    /// # fn fetch(url: String) -> TaskResult<i64> { Ok(1) }
    /// #[component]
    /// fn sum(sizes: Vec<i64>, failed: Vec<ItemFailure>) -> i64 {
    ///     failed.iter().for_each(|failure| eprintln!("{}: {}", failure.item, failure.error));
    ///     sizes.iter().sum()
    /// }
    ///
    /// let pipeline = Pipeline::build("sizes", |p| {
    ///     let urls = p.required_param::<Vec<String>>("urls");
    ///     let fetched = p.parallel_for(urls, |p, url| p.add(fetch(url))).min_success_ratio(0.9);
    ///     let failed = fetched.failures();
    ///     p.add(sum(fetched.collect().output, failed));
    /// })?;
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    #[track_caller]
    pub fn min_success_ratio(self, ratio: f64) -> Self {
        if !(0.0..=1.0).contains(&ratio) {
            let message = format!("a ratio of iterations: expected 0 to 1, found {ratio}");
            self.scope.graph.borrow_mut().problem(Location::caller(), message);
        }
        self.min(KfMinSuccess::Ratio(ratio))
    }

    /// As [`min_success_ratio`](Self::min_success_ratio), with a number of iterations; all must succeed where there are
    /// fewer.
    pub fn min_success(self, count: u64) -> Self {
        self.min(KfMinSuccess::Count(count))
    }

    fn min(self, min: KfMinSuccess) -> Self {
        let mut graph = self.scope.graph.borrow_mut();
        if let ScopeKind::Loop { min_success, .. } = &mut graph.scopes[self.scope.scope.0 as usize].kind {
            *min_success = Some(min);
        }
        drop(graph);
        self
    }

    /// The iterations that failed, in the items' order.
    pub fn failures(&self) -> Value<'p, Vec<ItemFailure>> {
        let mut graph = self.scope.graph.borrow_mut();
        if let ScopeKind::Loop { failures, .. } = &mut graph.scopes[self.scope.scope.0 as usize].kind {
            *failures = true;
        }
        let node = graph.scope(self.scope.scope).node.unwrap_or(NodeId(0));
        Value::new(Source::Output { node, port: FAILURES })
    }
}

/// What a person is asked.
#[derive(Clone, Debug)]
pub struct Question<'p> {
    asked: Asked,
    name: Option<String>,
    brand: Brand<'p>,
}

/// A question without its pipeline's lifetime.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) message: String,
    pub(crate) shown: Vec<(String, Arg)>,
    pub(crate) timeout: Option<Duration>,
}

impl<'p> Question<'p> {
    /// A question such as `Publish the model?`.
    pub fn new(message: impl Into<String>) -> Self {
        let asked = Asked { message: message.into(), shown: Vec::new(), timeout: None };
        Self { asked, name: None, brand: PhantomData }
    }

    /// Shows a value below the question, under this name.
    #[must_use]
    pub fn show<T: Param>(mut self, name: impl Into<String>, value: Value<'p, T>) -> Self {
        self.asked.shown.push((name.into(), IntoValue::<T>::into_value(value)));
        self
    }

    /// How long an answer is waited for, over restarts too; without end where not said. Past it the task fails.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.asked.timeout = Some(timeout);
        self
    }

    /// Calls the task so, instead of `approval`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// What a person answered.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'p, T> {
    /// What was asked for; nothing where it was a yes.
    pub value: Value<'p, T>,
    /// Who answered.
    pub by: Value<'p, String>,
    /// What they said to it.
    pub comment: Value<'p, String>,
    task: TaskRef<'p>,
}

/// After a person has answered.
impl<'p, T> From<Answer<'p, T>> for TaskRef<'p> {
    fn from(answer: Answer<'p, T>) -> Self {
        answer.task
    }
}

/// What stands for the value of a yes: nothing can take it.
#[derive(Clone, Copy, Debug)]
pub enum Yes {}

impl<'p> Scope<'p> {
    /// Adds a task that waits for a person, over restarts and as long as it takes. [`Engine::decide`](crate::Engine::decide)
    /// answers; what was rejected fails, and what comes [after](crate::Call::after) it does not run.
    ///
    /// ```
    /// # use kf_pipeline::prelude::*;
    /// use kf_pipeline::Question;
    /// # #[component]
    /// # fn fit(model: Output<Model>) -> TaskResult<f64> { model.write("")?; Ok(0.97) }
    /// # #[component]
    /// # fn publish(model: Input<Model>, by: String) {}
    ///
    /// let pipeline = Pipeline::build("publish", |p| {
    ///     let fitted = p.add(fit());
    ///     let yes = p.approval(Question::new("Publish the model?").show("accuracy", fitted.output));
    ///     p.add(publish(fitted.model, yes.by));
    /// })?;
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    #[track_caller]
    pub fn approval(&self, question: Question<'p>) -> Answer<'p, Yes> {
        self.question(question, None, None, Location::caller())
    }

    /// As [`approval`](Self::approval), and the person gives a value, which is one of the type that is asked for: another
    /// is refused, and the task waits on.
    #[track_caller]
    pub fn ask_for<T: Param>(&self, question: Question<'p>) -> Answer<'p, T> {
        let check: ArgCheck = |json| T::from_json(json).map(drop);
        self.question(question, Some(T::TYPE), Some(check), Location::caller())
    }

    fn question<T>(
        &self,
        question: Question<'p>,
        value: Option<ParameterType>,
        check: Option<ArgCheck>,
        at: &'static Location<'static>,
    ) -> Answer<'p, T> {
        let mut graph = self.graph.borrow_mut();
        let wanted = question.name.as_deref().unwrap_or("approval");
        graph.check_task_name(wanted, at);
        let name = graph.fresh_name(wanted);
        graph.refuse_outer(self.id, &format!("question `{name}`"), at);
        for (shown, arg) in &question.asked.shown {
            if shown.is_empty() || !shown.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
                graph.problem(
                    at,
                    format!("what `{name}` shows, `{shown}`: expected letters, digits, - and _"),
                );
            }
            match &arg.0 {
                ArgKind::Source(source, _) => graph.refuse_escape(self.id, *source, at),
                ArgKind::Constant(Err(problem)) => {
                    graph.problem(at, format!("what `{name}` shows, `{shown}`: {problem}"));
                }
                ArgKind::Constant(Ok(_)) => {}
            }
        }
        let asked = Box::new(question.asked);
        let node = graph.add(self.id, name, NodeKind::Question { asked, value, check });
        let output = |port| Source::Output { node, port };
        Answer {
            value: Value::new(output("value")),
            by: Value::new(output("by")),
            comment: Value::new(output("comment")),
            task: TaskRef::new(node),
        }
    }

    /// Adds a task, and another that runs where it has failed for good and stands for it: the handles are of whichever
    /// succeeded. The fallback has all outputs that the task has, of the same types.
    ///
    /// ```
    /// # use kf_pipeline::prelude::*;
    /// # #[component]
    /// # fn fetch(url: String, data: Output<Dataset>) -> TaskResult { data.write("") }
    /// # #[component]
    /// # fn last_known(data: Output<Dataset>) -> TaskResult { data.write("") }
    /// # #[component]
    /// # fn fit(data: Input<Dataset>) {}
    /// let pipeline = Pipeline::build("fit", |p| {
    ///     let fetched = p.add_or(fetch("https://example.com/data.csv").retries(3), last_known());
    ///     p.add(fit(fetched.data));
    /// })?;
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    #[track_caller]
    pub fn add_or<H, F>(&self, call: Call<'p, H>, fallback: Call<'p, F>) -> H {
        let at = Location::caller();
        let handles = call.handles;
        let node = self.add_call(self.id, call, at);
        let stands_in = self.add_call(self.id, fallback, at);
        self.graph.borrow_mut().nodes[node.0 as usize].fallback = Some(stands_in);
        handles(TaskRef::new(node))
    }
}
