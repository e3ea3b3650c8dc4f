//! A walk over a workflow that checks its references. It runs nothing: no controller of Argo is at hand.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kf_k8s::objects::Workflow;
use kf_k8s::objects::argo::{Arguments, DagTask, Template};
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

    fn dag(&mut self, template: &'a Template, mut known: Known<'a>) {
        let at = template.name.as_str();
        let Some(dag) = &template.dag else { return };
        let all: BTreeMap<&str, &DagTask> = dag.tasks.iter().map(|task| (task.name.as_str(), task)).collect();
        if all.len() != dag.tasks.len() || all.is_empty() {
            self.wrong(at, "two tasks are called the same, or there are none");
        }
        for target in dag.target.iter().flat_map(|targets| targets.split(' ')) {
            if !all.contains_key(target) {
                self.wrong(at, format!("target `{target}` is no task"));
            }
        }
        for task in &dag.tasks {
            let at = format!("{at}/{}", task.name);
            if !is_name(&task.name, false) {
                self.wrong(&at, "a task can't be called so");
            }
            let before = self.before(&at, task, &all);
            known.tasks = before
                .iter()
                .filter_map(|name| Some((*name, *self.templates.get(all.get(name)?.template.as_str())?)))
                .collect();
            known.item = !task.with_items.is_empty() || task.with_param.is_some();
            self.arguments(&at, &task.arguments, &known);
            for text in task.when.iter().chain(&task.with_param) {
                self.text(&at, text, &known);
            }
            for item in &task.with_items {
                self.texts(&at, item, &Known::default());
            }
            if let Some(called) = self.templates.get(task.template.as_str()).copied() {
                self.call(&at, &task.arguments, called);
                self.required(&at, &task.arguments, called);
            }
        }
        known.item = false;
        known.tasks = all
            .values()
            .filter_map(|task| Some((task.name.as_str(), *self.templates.get(task.template.as_str())?)))
            .collect();
        for output in &template.outputs.parameters {
            match output.value_from.as_ref().map(|from| (&from.parameter, &from.expression)) {
                Some((Some(tag), None)) => self.text(at, tag, &known),
                Some((None, Some(code))) => self.code(at, code, &known),
                _ => self.wrong(at, format!("output `{}` comes from nowhere", output.name)),
            }
        }
        for output in &template.outputs.artifacts {
            match (&output.from, &output.from_expression) {
                (Some(tag), None) => self.text(at, tag, &known),
                (None, Some(code)) => self.code(at, code, &known),
                _ => self.wrong(at, format!("output artifact `{}` comes from nowhere", output.name)),
            }
        }
        let synchronization = serde_json::to_value(&template.synchronization).unwrap();
        self.texts(at, &synchronization, &known);
    }

    /// The tasks that have ended when this one begins.
    fn before(
        &mut self,
        at: &str,
        task: &DagTask,
        all: &BTreeMap<&'a str, &'a DagTask>,
    ) -> BTreeSet<&'a str> {
        let (mut before, mut left) = (BTreeSet::new(), vec![task]);
        while let Some(next) = left.pop() {
            for word in next.depends.iter().flat_map(|depends| depends.split([' ', '(', ')', '&', '|'])) {
                if word.is_empty() {
                    continue;
                }
                let ends = ["Succeeded", "Failed", "Errored", "Skipped", "Omitted"];
                let Some((name, end)) = word.split_once('.').filter(|(_, end)| ends.contains(end)) else {
                    self.wrong(at, format!("`{word}` in `depends` is no end of a task"));
                    continue;
                };
                match all.get_key_value(name) {
                    None => self.wrong(at, format!("it depends on `{name}`, which is no task ({end})")),
                    Some((name, _)) if *name == task.name => self.wrong(at, "it depends on itself"),
                    Some((name, other)) => {
                        if before.insert(*name) {
                            left.push(other);
                        }
                    }
                }
            }
        }
        before
    }

    fn arguments(&mut self, at: &str, arguments: &Arguments, known: &Known<'_>) {
        for parameter in &arguments.parameters {
            match &parameter.value {
                Some(value) => self.text(at, value, known),
                None => self.wrong(at, format!("argument `{}` has no value", parameter.name)),
            }
        }
        for artifact in &arguments.artifacts {
            match &artifact.from {
                Some(from) => self.text(at, from, known),
                None => self.wrong(at, format!("argument `{}` is no artifact", artifact.name)),
            }
        }
    }

    /// That a template takes what it is called with.
    fn call(&mut self, at: &str, arguments: &Arguments, called: &Template) {
        self.names_given(at, called, arguments.parameters.iter().map(|one| one.name.as_str()), false);
        self.names_given(at, called, arguments.artifacts.iter().map(|one| one.name.as_str()), true);
    }

    fn names_given<'n>(
        &mut self,
        at: &str,
        called: &Template,
        names: impl Iterator<Item = &'n str>,
        artifacts: bool,
    ) {
        let mut seen = HashSet::new();
        for name in names {
            let takes = match artifacts {
                true => called.inputs.artifacts.iter().any(|input| input.name == name),
                false => called.inputs.parameters.iter().any(|input| input.name == name),
            };
            if !takes {
                self.wrong(at, format!("template `{}` has no input `{name}`", called.name));
            }
            if !seen.insert(name) {
                self.wrong(at, format!("`{name}` is given twice"));
            }
        }
    }

    /// That a template is called with all that it can't do without.
    fn required(&mut self, at: &str, arguments: &Arguments, called: &Template) {
        let parameters =
            called.inputs.parameters.iter().filter(|input| input.value.is_none() && input.default.is_none());
        for input in parameters {
            if !arguments.parameters.iter().any(|given| given.name == input.name) {
                self.wrong(at, format!("template `{}` is not given `{}`", called.name, input.name));
            }
        }
        for input in called.inputs.artifacts.iter().filter(|input| input.optional != Some(true)) {
            if !arguments.artifacts.iter().any(|given| given.name == input.name) {
                self.wrong(at, format!("template `{}` is not given artifact `{}`", called.name, input.name));
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
