//! The part of the walk that is about DAGs: what tasks are called with, and after which.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kf_k8s::objects::argo::{Arguments, DagTask, Template};

use super::{Known, Walk, is_name};

impl<'a> Walk<'a> {
    pub(super) fn dag(&mut self, template: &'a Template, mut known: Known<'a>) {
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
    pub(super) fn call(&mut self, at: &str, arguments: &Arguments, called: &Template) {
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
}
