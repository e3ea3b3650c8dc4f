//! What a scope's closure captured: which inputs and outputs its component has, and what they are called.

use super::{Kind, Lowering};
use crate::builder::Arg;
use crate::builder::arg::ArgKind;
use crate::builder::graph::{
    BODY, FAILURES, Given, LoopItems, NodeKind, ScopeId, ScopeKind, SlotKind, Source, TaskArg,
};
use crate::spec::{ArtifactSource, ParameterSource, ParameterType};

impl Lowering<'_> {
    /// Finds out for every scope what it takes and what it gives.
    pub(super) fn demand_all(&mut self) {
        let graph = self.graph;
        for node in &graph.nodes {
            match &node.kind {
                NodeKind::Task { args, .. } => {
                    for (_, arg) in args {
                        self.demand_all_of(node.scope, arg);
                    }
                }
                NodeKind::Import { uri, .. } => self.demand_arg(node.scope, uri),
                NodeKind::Question { asked, .. } => {
                    for (_, arg) in &asked.shown {
                        self.demand_arg(node.scope, arg);
                    }
                }
                NodeKind::Again { scope, args } => {
                    let takes = graph.recursion(*scope).map_or(&[][..], |recursion| &recursion.takes);
                    for (source, kind) in args.iter().zip(takes) {
                        self.demand(node.scope, *source, &kind.into());
                    }
                }
                NodeKind::Group(scope) => match &graph.scope(*scope).kind {
                    ScopeKind::Pipeline | ScopeKind::Branches => {}
                    ScopeKind::Group => {
                        let recursion = graph.recursion(*scope);
                        for (source, kind) in
                            recursion.iter().flat_map(|own| own.starts.iter().zip(&own.takes))
                        {
                            self.demand(node.scope, *source, &kind.into());
                        }
                    }
                    ScopeKind::Loop { items: LoopItems::Values { list, .. }, .. } => {
                        self.demand_arg(*scope, list);
                    }
                    ScopeKind::Loop { items: LoopItems::Artifacts { list, item }, .. } => {
                        self.demand(*scope, *list, &Kind::Artifact { kind: item.clone(), list: true });
                    }
                    ScopeKind::When(condition) => {
                        for arg in condition.expr.args() {
                            self.demand_arg(*scope, arg);
                        }
                    }
                },
            }
        }
        self.demand_for_recursions();
    }

    /// What the pipeline gives comes from the tasks of its body.
    pub(super) fn demand_outputs(&mut self) {
        let graph = self.graph;
        for output in &graph.outputs {
            self.demand_all_of(BODY, &output.from);
            let given = (output.from.sources(), Kind::from(&output.from));
            self.scopes.entry(BODY).or_default().outputs.insert(output.name.clone(), given);
        }
    }

    /// What a recursion captured from around it goes on to its calls from within.
    fn demand_for_recursions(&mut self) {
        let graph = self.graph;
        loop {
            let mut lacking = Vec::new();
            for node in &graph.nodes {
                let NodeKind::Again { scope, .. } = node.kind else { continue };
                let has = self.scopes.get(&node.scope).map(|io| &io.inputs);
                let captured = self.scopes.get(&scope).into_iter().flat_map(|io| &io.inputs);
                let missing = captured.filter(|(name, _)| !has.is_some_and(|has| has.contains_key(*name)));
                lacking.extend(missing.map(|(_, (source, kind))| (node.scope, *source, kind.clone())));
            }
            if lacking.is_empty() {
                return;
            }
            for (scope, source, kind) in lacking {
                self.demand(scope, source, &kind);
            }
        }
    }

    fn demand_all_of(&mut self, scope: ScopeId, arg: &TaskArg) {
        for source in arg.sources() {
            self.demand(scope, source, &Kind::from(arg));
        }
    }

    pub(super) fn demand_arg(&mut self, scope: ScopeId, arg: &Arg) {
        if let ArgKind::Source(source, kind) = &arg.0 {
            self.demand(scope, *source, &Kind::Parameter(*kind));
        }
    }

    pub(super) fn demand(&mut self, scope: ScopeId, source: Source, kind: &Kind) {
        let mut scope = scope;
        while !self.is_home(scope, source) {
            let name = self.channel(source);
            self.scopes.entry(scope).or_default().inputs.insert(name, (source, kind.clone()));
            match self.graph.parent(scope) {
                Some(parent) => scope = parent,
                None => break,
            }
        }
        if let Source::Again { node, slot } = source
            && let Some(recursion) = self.graph.called_again(node)
            && let Some(given) = recursion.given.get(slot as usize)
            && let Some(home) = self.graph.home(*given)
        {
            self.demand(home, *given, kind);
        }
        if let Source::Given(index) = source {
            let Given { scope: inside, from } = &self.graph.given[index as usize];
            let element = match kind {
                Kind::Parameter(_) => Kind::Parameter(self.parameter_type_of(from[0])),
                Kind::Artifact { kind, .. } => {
                    Kind::Artifact { kind: kind.clone(), list: self.is_list(from[0]) }
                }
            };
            let name = self.output_key(source);
            let outputs = &mut self.scopes.entry(*inside).or_default().outputs;
            if outputs.insert(name, (from.clone(), element.clone())).is_some() {
                // A recursion gives what its calls from within give.
                return;
            }
            for inner in from {
                self.demand(*inside, *inner, &element);
            }
        }
    }

    pub(super) fn is_home(&self, scope: ScopeId, source: Source) -> bool {
        scope == self.root && matches!(source, Source::Parameter(_)) || self.graph.home(source) == Some(scope)
    }

    pub(super) fn is_optional(&self, source: Source) -> bool {
        match source {
            Source::Parameter(index) => self.graph.parameters[index as usize].optional,
            Source::Item(scope) => {
                let kind = &self.graph.scope(scope).kind;
                matches!(kind, ScopeKind::Loop { items: LoopItems::Values { optional: true, .. }, .. })
            }
            source => {
                matches!(self.graph.slot_kind(source), Some(SlotKind::Parameter { optional: true, .. }))
            }
        }
    }

    pub(super) fn parameter_type_of(&self, source: Source) -> ParameterType {
        match source {
            Source::Output { node, port } => match &self.graph.node(node).kind {
                NodeKind::Task { definition, .. } => definition
                    .output_parameters
                    .iter()
                    .find(|(name, _)| *name == port)
                    .map_or(ParameterType::Struct, |(_, kind)| *kind),
                NodeKind::Question { value: Some(kind), .. } if port == "value" => *kind,
                NodeKind::Question { .. } => ParameterType::String,
                NodeKind::Group(_) if port == FAILURES => ParameterType::List,
                _ => ParameterType::Struct,
            },
            Source::Given(index) => {
                let Given { scope, from } = &self.graph.given[index as usize];
                match self.graph.scope(*scope).kind {
                    ScopeKind::Loop { .. } => ParameterType::List,
                    _ => self.parameter_type_of(from[0]),
                }
            }
            Source::Parameter(index) => self.graph.parameters[index as usize].kind,
            Source::Status(_) => ParameterType::TaskFinalStatus,
            Source::Slot { .. } | Source::Again { .. } => match self.graph.slot_kind(source) {
                Some(SlotKind::Parameter { kind, .. }) => *kind,
                _ => ParameterType::Struct,
            },
            Source::Item(_) | Source::Nothing => ParameterType::Struct,
        }
    }

    /// Whether a source of artifacts gives a list of them.
    fn is_list(&self, source: Source) -> bool {
        let Source::Given(index) = source else {
            return matches!(self.graph.slot_kind(source), Some(SlotKind::Artifact { list: true, .. }));
        };
        let Given { scope, from } = &self.graph.given[index as usize];
        matches!(self.graph.scope(*scope).kind, ScopeKind::Loop { .. }) || self.is_list(from[0])
    }

    /// The name under which a source goes into scopes and out of them.
    pub(super) fn channel(&self, source: Source) -> String {
        match source {
            Source::Parameter(index) => {
                format!("pipelinechannel--{}", self.graph.parameters[index as usize].name)
            }
            Source::Item(scope) => format!("pipelinechannel--{}-item", self.name_of(scope)),
            Source::Output { node, port } => {
                format!("pipelinechannel--{}-{port}", self.graph.node(node).name)
            }
            // No name has two dashes in a row, so that no task's output is called the same.
            Source::Status(node) => format!("pipelinechannel--{}--status", self.graph.node(node).name),
            Source::Given(index) => {
                let Given { scope, from } = &self.graph.given[index as usize];
                let (scope, key) = (self.name_of(*scope), self.output_key(source));
                match from.len() {
                    1 => format!("pipelinechannel--{scope}--{}", key.trim_start_matches("pipelinechannel--")),
                    _ => key,
                }
            }
            Source::Slot { scope, slot } => format!("pipelinechannel--{}--{slot}", self.name_of(scope)),
            Source::Again { node, slot } => {
                format!("pipelinechannel--{}--{slot}", self.graph.node(node).name)
            }
            Source::Nothing => "pipelinechannel--nothing".to_owned(),
        }
    }

    /// The name under which a scope gives a source.
    fn output_key(&self, source: Source) -> String {
        let Source::Given(index) = source else { return String::new() };
        let Given { scope, from } = &self.graph.given[index as usize];
        match from.as_slice() {
            [inner] => self.channel(*inner),
            // A number, since two choices may begin with the same source.
            _ => format!("pipelinechannel--{}-oneof-{index}", self.name_of(*scope)),
        }
    }

    pub(super) fn name_of(&self, scope: ScopeId) -> &str {
        self.graph.scope(scope).node.map_or("root", |node| self.graph.node(node).name.as_str())
    }

    pub(super) fn parameter_source(&self, scope: ScopeId, source: Source) -> ParameterSource {
        if !self.is_home(scope, source) {
            return ParameterSource::ComponentInputParameter(self.channel(source));
        }
        match source {
            Source::Parameter(index) => {
                ParameterSource::ComponentInputParameter(self.graph.parameters[index as usize].name.clone())
            }
            Source::Item(_) | Source::Slot { .. } | Source::Nothing => {
                ParameterSource::ComponentInputParameter(self.channel(source))
            }
            Source::Status(node) => {
                ParameterSource::TaskFinalStatus { producer_task: self.graph.node(node).name.clone() }
            }
            Source::Output { .. } | Source::Given(_) | Source::Again { .. } => {
                let (producer_task, output_parameter_key) = self.produced(source);
                ParameterSource::TaskOutputParameter { producer_task, output_parameter_key }
            }
        }
    }

    pub(super) fn artifact_source(&self, scope: ScopeId, source: Source) -> ArtifactSource {
        if !self.is_home(scope, source) || matches!(source, Source::Item(_) | Source::Slot { .. }) {
            return ArtifactSource::ComponentInputArtifact(self.channel(source));
        }
        let (producer_task, output_artifact_key) = self.produced(source);
        ArtifactSource::TaskOutputArtifact { producer_task, output_artifact_key }
    }

    /// The task that gives a source at its home, and under which name.
    pub(super) fn produced(&self, source: Source) -> (String, String) {
        match source {
            Source::Output { node, port } => (self.graph.node(node).name.clone(), port.to_owned()),
            Source::Given(index) => {
                let scope = self.graph.given[index as usize].scope;
                (self.name_of(scope).to_owned(), self.output_key(source))
            }
            Source::Again { node, slot } => {
                let given = self.graph.called_again(node).and_then(|again| again.given.get(slot as usize));
                let key = given.map(|given| self.output_key(*given)).unwrap_or_default();
                (self.graph.node(node).name.clone(), key)
            }
            _ => (String::new(), String::new()),
        }
    }
}
