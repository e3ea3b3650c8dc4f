//! Templates made once for each way in which a component is called.

use std::collections::{BTreeSet, HashMap, HashSet};

use kf_pipeline::spec::{ComponentSpec, KfExecutor, KfPlatform, PipelineFile, PipelineSpec, TaskParameter};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{Error, Options, Result, dag, leaf, names};
use crate::objects::argo::Template;

/// How deep DAGs may lie in one another.
const DEEPEST: usize = 100;
/// How many templates a workflow may have; the cluster keeps it in one object of some 1.5 MiB.
const MOST: usize = 10_000;

/// A component, and what its template has been made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub(super) component: String,
    /// The optional inputs without a default that it is not given.
    pub(super) absent: BTreeSet<String>,
    /// Inputs that its command asks for though the component does not declare them.
    pub(super) undeclared: BTreeSet<String>,
    /// The retry policy as JSON, since Argo has it with the template.
    pub(super) retry: Option<String>,
    /// The task, where the command asks for its name.
    pub(super) task: Option<String>,
    /// What it holds so that only one runs at a time.
    pub(super) serial: Option<String>,
}

pub(super) struct Exporter<'a> {
    pub(super) spec: &'a PipelineSpec,
    pub(super) kf: KfPlatform,
    pub(super) options: &'a Options,
    /// What the platform `kubernetes` adds to executors.
    kubernetes: Option<&'a Map<String, Json>>,
    templates: Vec<Template>,
    made: HashMap<Variant, String>,
    taken: HashSet<String>,
    depth: usize,
}

impl<'a> Exporter<'a> {
    pub(super) fn new(file: &'a PipelineFile, options: &'a Options) -> Result<Self> {
        let platforms = &file.platform_spec.platforms;
        let kf = platforms.get("kf").map(KfPlatform::deserialize).transpose();
        let kf = kf.map_err(|error| Error::unsupported("platforms.kf", error.to_string()))?;
        if let Some(name) = platforms.keys().find(|name| !["kf", "kubernetes"].contains(&name.as_str())) {
            return Err(Error::unsupported("root", format!("the platform `{name}` says something of it")));
        }
        let kubernetes = platforms.get("kubernetes").and_then(Json::as_object);
        if let Some(key) = kubernetes.into_iter().flat_map(Map::keys).find(|key| *key != "deploymentSpec") {
            return Err(Error::unsupported(
                "root",
                format!("the platform `kubernetes` says `{key}` of the pipeline, which is not carried over"),
            ));
        }
        let executors =
            |platform: &'a Map<String, Json>| platform.get("deploymentSpec")?.get("executors")?.as_object();
        Ok(Self {
            spec: &file.pipeline_spec,
            kf: kf.unwrap_or_default(),
            options,
            kubernetes: kubernetes.and_then(executors),
            templates: Vec::new(),
            made: HashMap::new(),
            taken: HashSet::new(),
            depth: 0,
        })
    }

    /// The component of this name; `root` is the outermost.
    pub(super) fn component(&self, name: &str) -> Result<&'a ComponentSpec> {
        match name {
            "root" => Ok(&self.spec.root),
            name => {
                let unknown = || Error::unsupported(name, "there is no such component");
                self.spec.components.get(name).ok_or_else(unknown)
            }
        }
    }

    /// What the platform `kf` adds to an executor.
    pub(super) fn kf_executor(&self, label: &str) -> KfExecutor {
        self.kf.executors.get(label).cloned().unwrap_or_default()
    }

    /// What the platform `kubernetes` adds to an executor.
    pub(super) fn kubernetes(&self, label: &str) -> Option<&'a Json> {
        self.kubernetes?.get(label)
    }

    /// What an executor takes from parameters for the platform `kubernetes` alone: the JSON pointer of each, what it is
    /// called here, and where it comes from.
    pub(super) fn kubernetes_parameters(
        &self,
        place: &str,
        label: &str,
    ) -> Result<Vec<(String, String, TaskParameter)>> {
        let mut found = Vec::new();
        if let Some(config) = self.kubernetes(label) {
            find_parameters(config, "", &mut found);
        }
        let named = found.into_iter().enumerate().map(|(index, (pointer, value))| {
            let given = TaskParameter::deserialize(value).map_err(|error| {
                Error::unsupported(place, format!("platform kubernetes, `{pointer}`: {error}"))
            })?;
            Ok((pointer, format!("kubernetes-{}", index + 1), given))
        });
        named.collect()
    }

    /// The name of a component's template, which is made where it is not there yet.
    pub(super) fn template(&mut self, place: &str, variant: Variant) -> Result<String> {
        if let Some(name) = self.made.get(&variant) {
            return Ok(name.clone());
        }
        if self.depth == DEEPEST || self.made.len() == MOST {
            return Err(Error::unsupported(
                place,
                format!(
                    "with it there are more than {MOST} templates, or DAGs more than {DEEPEST} deep in one another"
                ),
            ));
        }
        let component = self.component(&variant.component)?;
        let base = variant.component.strip_prefix("comp-").unwrap_or(&variant.component);
        let name = names::template(base, &self.taken);
        self.taken.insert(name.clone());
        self.made.insert(variant.clone(), name.clone());
        self.depth += 1;
        let mut template = match (&component.dag, &component.executor_label) {
            (Some(dag), _) => dag::template(self, &variant, component, dag, &HashSet::new())?,
            (None, Some(label)) => leaf::template(self, place, &variant, component, label)?,
            (None, None) => return Err(Error::unsupported(place, "it has neither tasks nor an executor")),
        };
        self.depth -= 1;
        template.name.clone_from(&name);
        self.templates.push(template);
        Ok(name)
    }

    /// A name for a template beside those of components.
    pub(super) fn add(&mut self, base: &str, mut template: Template) -> String {
        template.name = names::template(base, &self.taken);
        self.taken.insert(template.name.clone());
        let name = template.name.clone();
        self.templates.push(template);
        name
    }

    /// All templates, those that call others before these.
    pub(super) fn finish(mut self) -> Vec<Template> {
        self.templates.reverse();
        self.templates
    }
}

/// Finds the objects that say where a parameter comes from, each with its JSON pointer.
fn find_parameters<'a>(value: &'a Json, pointer: &str, found: &mut Vec<(String, &'a Json)>) {
    match value {
        Json::Object(fields) => {
            let sources = ["taskOutputParameter", "runtimeValue", "componentInputParameter"];
            if sources.iter().any(|source| fields.contains_key(*source)) {
                found.push((pointer.to_owned(), value));
                return;
            }
            for (key, child) in fields {
                find_parameters(child, &format!("{pointer}/{key}"), found);
            }
        }
        Json::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                find_parameters(child, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}
