//! Pipelines that are built.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::panic::Location;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use super::graph::{ArgCheck, BODY, Graph, NodeKind};
use super::{Scope, lower};
use crate::component::Components;
use crate::plan::Plan;
use crate::spec::{self, PipelineFile};
use crate::{Args, Error, Problem, Result};

/// A pipeline: checked, and with the components that it runs.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The pipeline as data, in the JSON form that its runs are stored with: a parsed one takes several times the room.
    text: Arc<str>,
    plan: Arc<Plan>,
    components: Arc<Components>,
    /// What the parameters' Rust types say of arguments.
    checks: Arc<BTreeMap<String, ArgCheck>>,
}

impl Pipeline {
    /// Builds a pipeline. Its name has lower-case letters, digits and `-`.
    ///
    /// ```
    /// use kf_pipeline::prelude::*;
    ///
    /// #[component]
    /// async fn double(number: i64) -> i64 {
    ///     2 * number
    /// }
    ///
    /// let pipeline = Pipeline::build("quadruple", |p| {
    ///     let number = p.param::<i64>("number", 1);
    ///     let twice = p.add(double(number));
    ///     p.add(double(twice.output));
    /// })?;
    /// assert_eq!(pipeline.name(), "quadruple");
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Build`] lists everything that is wrong with it, each with the caller's file and line.
    #[track_caller]
    pub fn build(name: &str, body: impl for<'p> FnOnce(&Scope<'p>)) -> Result<Self> {
        let at = Location::caller();
        let graph = Rc::new(RefCell::new(Graph::new(at)));
        body(&Scope { graph: Rc::clone(&graph), id: BODY, brand: PhantomData });
        let mut graph = graph.borrow_mut();
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let well =
            name.chars().all(|c| inner(c) || c == '-') && name.starts_with(inner) && name.ends_with(inner);
        if !well || name.len() > 128 {
            let rule = "expected at most 128 lower-case letters, digits and -, no - first or last";
            graph.problem(at, format!("pipeline name `{name}`: {rule}"));
        }
        let mut components = Components::new();
        for node in &graph.nodes {
            if let NodeKind::Task { definition, .. } = &node.kind {
                components.insert(Arc::clone(definition));
            }
        }
        let problems: Vec<Problem> = std::mem::take(&mut graph.problems);
        if !problems.is_empty() {
            return Err(Error::Build { pipeline: name.to_owned(), problems });
        }
        let (file, answers) = lower::lower(name, &graph);
        let mut pipeline = Self::from_file(file, components)?;
        let checks =
            graph.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.check)).collect();
        pipeline.checks = Arc::new(checks);
        if let Some(plan) = Arc::get_mut(&mut pipeline.plan) {
            plan.check_answers(&answers);
        }
        Ok(pipeline)
    }

    /// A pipeline from a file as the compiler of Kubeflow Pipelines writes it: [`PipelineFile::from_yaml`] and
    /// [`from_file`](Self::from_file), and where it can't run, the line is named.
    ///
    /// # Errors
    /// [`Error::File`] where it can't be read, [`Error::Plan`] where it can't run as it stands.
    pub fn from_yaml(text: impl AsRef<[u8]>, components: Components) -> Result<Self> {
        let text = text.as_ref();
        Self::from_file(PipelineFile::from_yaml(text)?, components).map_err(|error| match error {
            Error::Plan { place, problem, .. } => {
                let line = std::str::from_utf8(text).ok().and_then(|text| spec::line_of(text, &place));
                Error::Plan { place, line, problem }
            }
            error => error,
        })
    }

    /// A pipeline from a file on disk, as [`from_yaml`](Self::from_yaml) takes its text.
    ///
    /// ```
    /// use kf_pipeline::{Components, Pipeline};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("broken.yaml");
    /// std::fs::write(&path, "pipelineInfo: {name: broken}\nroot: {dag: {tasks: 7}}\n")?;
    /// let error = Pipeline::open(&path, Components::new()).unwrap_err().to_string();
    /// assert!(error.contains("broken.yaml: pipeline file, line 2"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::In`], which names the file, with what is wrong in it.
    pub fn open(path: impl AsRef<Path>, components: Components) -> Result<Self> {
        let path = path.as_ref();
        // One byte more than is taken tells that there are too many.
        let read = File::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(spec::LARGEST as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
        });
        read.map_err(|error| Error::file(None, format!("it can't be read: {error}")))
            .and_then(|bytes| Self::from_yaml(bytes, components))
            .map_err(|problem| Error::In { path: path.to_owned(), problem: Box::new(problem) })
    }

    /// A pipeline from data: the IR of Kubeflow Pipelines, read with [`PipelineFile::from_yaml`]. Components of this
    /// program that it names are looked for among `components`.
    ///
    /// # Errors
    /// [`Error::Plan`] where it can't run as it stands.
    pub fn from_file(file: PipelineFile, components: Components) -> Result<Self> {
        let text = serde_json::to_string(&file).expect("a pipeline is made of strings, numbers and JSON");
        // Not with what the text has grown beyond its end, for as long as it takes to copy it.
        let text = Arc::from(text.into_boxed_str());
        Ok(Self {
            text,
            plan: Arc::new(Plan::of(file)?),
            components: Arc::new(components),
            checks: Arc::default(),
        })
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        self.plan.name()
    }

    /// The pipeline as data, read from the text that its runs are stored with.
    ///
    /// # Errors
    /// [`Error::File`] where something of it does not come back from JSON: a number that is not finite, or what lies too
    /// deep.
    pub fn file(&self) -> Result<PipelineFile> {
        serde_json::from_str(&self.text).map_err(|error| Error::file(None, error.to_string()))
    }

    /// The pipeline as data, in the JSON form that its runs are stored with.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The components it runs.
    pub fn components(&self) -> &Components {
        &self.components
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// A run's arguments: completed with defaults, and each of its parameter's type.
    pub(crate) fn arguments(&self, args: &Args) -> Result<BTreeMap<String, Json>> {
        self.complete(args.values()?)
    }

    /// As [`arguments`](Self::arguments), from their JSON form.
    pub(crate) fn complete(&self, args: &BTreeMap<String, Json>) -> Result<BTreeMap<String, Json>> {
        let args = self.plan.complete(args)?;
        for (name, value) in &args {
            if let Some(check) = self.checks.get(name) {
                check(value).map_err(|problem| Error::Argument { name: name.clone(), problem })?;
            }
        }
        Ok(args)
    }
}
