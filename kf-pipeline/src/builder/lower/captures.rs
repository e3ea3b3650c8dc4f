//! What a scope's closure captured: which inputs and outputs its component has, and what they are called.

use super::{Kind, Lowering};
use crate::builder::Arg;
use crate::builder::arg::ArgKind;
use crate::builder::graph::{NodeKind, ScopeId, ScopeKind, Source, TaskArg};
use crate::spec::{ArtifactSource, ParameterSource, ParameterType};

impl Lowering<'_> {
    /// Finds out for every scope what it takes and what it gives.
    pub(super) fn demand_all(&mut self) {
        let graph = self.graph;
        for node in &graph.nodes {
            match &node.kind {
                NodeKind::Task { args, .. } => {
                    for (_, arg) in args {
                        match arg {
                            TaskArg::Parameter(arg) => self.demand_arg(node.scope, arg),
                            TaskArg::Artifact(artifact) => {
                                let kind =
                                    Kind::Artifact { kind: artifact.kind.clone(), list: artifact.list };
                                for source in &artifact.sources {
                                    self.demand(node.scope, *source, &kind);
                                }
                            }
                        }
                    }
                }
                NodeKind::Import { uri, .. } => self.demand_arg(node.scope, uri),
                NodeKind::Group(scope) => match &graph.scope(*scope).kind {
                    ScopeKind::Plain => {}
                    ScopeKind::Loop { items, .. } => self.demand_arg(*scope, items),
                    ScopeKind::When(condition) => {
                        for arg in condition.args() {
                            self.demand_arg(*scope, arg);
                        }
                    }
                },
            }
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
        if let Source::Collected(index) = source {
            let (inside, inner) = self.graph.collected[index as usize];
            let element = match kind {
                Kind::Parameter(_) => Kind::Parameter(self.parameter_type_of(inner)),
                Kind::Artifact { kind, .. } => {
                    Kind::Artifact { kind: kind.clone(), list: matches!(inner, Source::Collected(_)) }
                }
            };
            let name = self.channel(inner);
            self.scopes.entry(inside).or_default().outputs.insert(name, (inner, element.clone()));
            self.demand(inside, inner, &element);
        }
    }

    pub(super) fn is_home(&self, scope: ScopeId, source: Source) -> bool {
        scope == self.root && matches!(source, Source::Parameter(_)) || self.graph.home(source) == Some(scope)
    }

    pub(super) fn is_optional(&self, source: Source) -> bool {
        match source {
            Source::Parameter(index) => self.graph.parameters[index as usize].optional,
            Source::Item(scope) => {
                matches!(self.graph.scope(scope).kind, ScopeKind::Loop { optional: true, .. })
            }
            _ => false,
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
                _ => ParameterType::Struct,
            },
            Source::Collected(_) => ParameterType::List,
            Source::Parameter(index) => self.graph.parameters[index as usize].kind,
            Source::Item(_) | Source::Nothing => ParameterType::Struct,
        }
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
            Source::Collected(index) => {
                let (scope, inner) = self.graph.collected[index as usize];
                let inner = self.channel(inner);
                // No name has two dashes in a row, so that no task's output is called the same.
                format!(
                    "pipelinechannel--{}--{}",
                    self.name_of(scope),
                    inner.trim_start_matches("pipelinechannel--")
                )
            }
            Source::Nothing => "pipelinechannel--nothing".to_owned(),
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
            Source::Item(_) | Source::Nothing => {
                ParameterSource::ComponentInputParameter(self.channel(source))
            }
            Source::Output { .. } | Source::Collected(_) => {
                let (producer_task, output_parameter_key) = self.produced(source);
                ParameterSource::TaskOutputParameter { producer_task, output_parameter_key }
            }
        }
    }

    pub(super) fn artifact_source(&self, scope: ScopeId, source: Source) -> ArtifactSource {
        if !self.is_home(scope, source) {
            return ArtifactSource::ComponentInputArtifact(self.channel(source));
        }
        let (producer_task, output_artifact_key) = self.produced(source);
        ArtifactSource::TaskOutputArtifact { producer_task, output_artifact_key }
    }

    /// The task that gives a source at its home, and under which name.
    pub(super) fn produced(&self, source: Source) -> (String, String) {
        match source {
            Source::Output { node, port } => (self.graph.node(node).name.clone(), port.to_owned()),
            Source::Collected(index) => {
                let (scope, inner) = self.graph.collected[index as usize];
                (self.name_of(scope).to_owned(), self.channel(inner))
            }
            _ => (String::new(), String::new()),
        }
    }
}
