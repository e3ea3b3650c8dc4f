//! A walk over a workflow that checks its references. It runs nothing: no controller of Argo is at hand.

mod dag;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kf_k8s::objects::Workflow;
use kf_k8s::objects::argo::Template;
use serde_json::Value as Json;

use super::expression::{Name, names_in, tags_in};

/// All that refers to nothing, is never used, or has no name that Argo takes.
pub(crate) fn problems(workflow: &Workflow) -> Vec<String> {
    let mut walk = Walk { problems: Vec::new(), templates: HashMap::new(), workflow };
    walk.all();
    walk.problems
}

struct Walk<'a> {
    problems: Vec<String>,
    templates: HashMap<&'a str, &'a Template>,
    workflow: &'a Workflow,
}

/// What a text may refer to.
#[derive(Default)]
struct Known<'a> {
    inputs: BTreeSet<&'a str>,
    input_artifacts: BTreeSet<&'a str>,
    /// Tasks that have ended before, with the templates that they call.
    tasks: BTreeMap<&'a str, &'a Template>,
    item: bool,
    pod: bool,
    at_exit: bool,
}

fn is_name(name: &str, underscore: bool) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || (underscore && c == '_');
    !name.is_empty() && name.len() <= 128 && name.chars().all(inner) && (underscore || !name.starts_with('-'))
}

impl<'a> Walk<'a> {
    fn wrong(&mut self, at: &str, what: impl std::fmt::Display) {
        self.problems.push(format!("{at}: {what}"));
    }

    fn all(&mut self) {
        let spec = &self.workflow.spec;
        for template in &spec.templates {
            if !is_name(&template.name, false) {
                self.wrong(&template.name, "a template can't be called so");
            }
            if self.templates.insert(&template.name, template).is_some() {
                self.wrong(&template.name, "two templates are called so");
            }
        }
        let mut used = HashSet::new();
        let mut left: Vec<&str> =
            std::iter::once(spec.entrypoint.as_str()).chain(spec.on_exit.as_deref()).collect();
        while let Some(name) = left.pop() {
            if !used.insert(name) {
                continue;
            }
            match self.templates.get(name) {
                None => self.wrong(name, "there is no such template"),
                Some(template) => {
                    left.extend(
                        template.dag.iter().flat_map(|dag| &dag.tasks).map(|task| task.template.as_str()),
                    );
                }
            }
        }
        for template in &spec.templates {
            if !used.contains(template.name.as_str()) {
                self.wrong(&template.name, "no task calls the template");
            }
            self.template(template);
        }
        if let Some(root) = self.templates.get(spec.entrypoint.as_str()).copied() {
            // A parameter without a value is asked for when the workflow is submitted.
            self.call("the workflow", &spec.arguments, root);
        }
    }

    fn template(&mut self, template: &'a Template) {
        let at = template.name.as_str();
        let kinds = [template.container.is_some(), template.dag.is_some(), template.suspend.is_some()];
        if kinds.iter().filter(|is| **is).count() != 1 {
            self.wrong(at, "it is not one of a container, a DAG and a wait");
        }
        let outputs = template.outputs.parameters.iter().map(|parameter| parameter.name.as_str());
        let inputs = template.inputs.parameters.iter().map(|parameter| parameter.name.as_str());
        let (input_artifacts, output_artifacts) = (&template.inputs.artifacts, &template.outputs.artifacts);
        self.names(at, "input", inputs.clone());
        self.names(at, "output", outputs);
        self.names(at, "input artifact", input_artifacts.iter().map(|artifact| artifact.name.as_str()));
        self.names(at, "output artifact", output_artifacts.iter().map(|artifact| artifact.name.as_str()));
        let known = Known {
            inputs: inputs.collect(),
            input_artifacts: input_artifacts.iter().map(|artifact| artifact.name.as_str()).collect(),
            pod: template.container.is_some(),
            at_exit: self.workflow.spec.on_exit.as_deref() == Some(at),
            ..Known::default()
        };
        match &template.dag {
            Some(_) => self.dag(template, known),
            None => {
                // All of its text, wherever it stands.
                let text = serde_json::to_value(template).unwrap();
                self.texts(at, &text, &known);
                self.files(template);
            }
        }
    }

    fn names(&mut self, at: &str, what: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = HashSet::new();
        for name in names {
            if !is_name(name, true) {
                self.wrong(at, format!("{what} `{name}` can't be called so"));
            }
            if !seen.insert(name) {
                self.wrong(at, format!("two are called {what} `{name}`"));
            }
        }
    }

    /// That what a container gives lies in a folder that is there, and mounts have volumes.
    fn files(&mut self, template: &Template) {
        let at = template.name.as_str();
        let Some(container) = &template.container else { return };
        let volumes: HashSet<&str> = template.volumes.iter().map(|volume| volume.name.as_str()).collect();
        let mounts = container.volume_mounts.iter().flatten();
        for mount in mounts.clone().filter(|mount| !volumes.contains(mount.name.as_str())) {
            self.wrong(at, format!("no volume for mount `{}`", mount.name));
        }
        let parameters =
            template.outputs.parameters.iter().filter_map(|output| output.value_from.as_ref()?.path.as_ref());
        let paths: Vec<_> = parameters
            .chain(template.outputs.artifacts.iter().filter_map(|output| output.path.as_ref()))
            .collect();
        if paths.len() != template.outputs.parameters.len() + template.outputs.artifacts.len() {
            self.wrong(at, "an output has no path");
        }
        if paths.iter().collect::<HashSet<_>>().len() != paths.len() {
            self.wrong(at, "two outputs have one path");
        }
        for path in paths {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            if !mounts.clone().any(|mount| mount.mount_path == folder) {
                self.wrong(at, format!("no volume is mounted at `{folder}`"));
            }
        }
    }

    fn texts(&mut self, at: &str, value: &Json, known: &Known<'_>) {
        match value {
            Json::String(text) => self.text(at, text, known),
            Json::Array(items) => items.iter().for_each(|item| self.texts(at, item, known)),
            Json::Object(fields) => fields.values().for_each(|field| self.texts(at, field, known)),
            _ => {}
        }
    }

    fn text(&mut self, at: &str, text: &str, known: &Known<'_>) {
        for tag in tags_in(text) {
            match tag {
                Err(problem) => self.wrong(at, problem),
                Ok(tag) => match tag.strip_prefix('=') {
                    Some(code) => self.code(at, code, known),
                    None => self.name(at, &tag.split('.').map(str::to_owned).collect::<Vec<_>>(), known),
                },
            }
        }
    }

    fn code(&mut self, at: &str, code: &str, known: &Known<'_>) {
        match names_in(code) {
            Err(problem) => self.wrong(at, format!("`{code}`: {problem}")),
            Ok(names) => names.iter().for_each(|name| self.name(at, name, known)),
        }
    }

    fn name(&mut self, at: &str, name: &Name, known: &Known<'_>) {
        let path: Vec<&str> = name.iter().map(String::as_str).collect();
        let given = |task: &str, kind: &str, output: &str| match (known.tasks.get(task), kind) {
            (Some(called), "parameters") => called.outputs.parameters.iter().any(|one| one.name == output),
            (Some(called), "artifacts") => called.outputs.artifacts.iter().any(|one| one.name == output),
            _ => false,
        };
        let is_known = match path.as_slice() {
            ["inputs", "parameters", input] => known.inputs.contains(input),
            ["inputs", "artifacts", input] => known.input_artifacts.contains(input),
            ["tasks", task, "outputs", kind, output] => given(task, kind, output),
            ["tasks", task, "status"] => known.tasks.contains_key(task),
            ["item"] => known.item,
            ["pod", "name"] => known.pod,
            ["workflow", "name" | "uid"] | ["workflow", "creationTimestamp", "RFC3339"] => true,
            ["workflow", "status"] => known.at_exit,
            ["workflow", "parameters", name] => {
                known.at_exit
                    && self.workflow.spec.arguments.parameters.iter().any(|given| given.name == *name)
            }
            _ => false,
        };
        if !is_known {
            self.wrong(at, format!("`{}` refers to nothing", path.join(".")));
        }
    }
}
