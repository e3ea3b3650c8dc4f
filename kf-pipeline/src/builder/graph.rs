//! What the builder collects before it becomes a [`PipelineFile`](crate::spec::PipelineFile).

use super::outputs::RunOutput;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use serde_json::Value as Json;

use super::arg::ArgKind;
use super::beyond::Asked;
use super::{Arg, ArtifactArg, CallOptions, Condition};
use crate::Problem;
use crate::component::ComponentDef;
use crate::spec::{ArtifactType, KfMinSuccess, ParameterType};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ScopeId(pub(crate) u32);

/// Where a handle's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The pipeline's parameter of this index.
    Parameter(u32),
    /// The item of a loop.
    Item(ScopeId),
    /// An output of a task.
    Output { node: NodeId, port: &'static str },
    /// How a task or group ended.
    Status(NodeId),
    /// What a loop, a branch or a group gives of what is inside: an index into [`Graph::given`].
    Given(u32),
    /// What a recursion is called with, counted from 0.
    Slot { scope: ScopeId, slot: u32 },
    /// What a call of a recursion from within it gives, counted from 0.
    Again { node: NodeId, slot: u32 },
    /// A handle of something that could not be added.
    Nothing,
}

/// The output of a loop that lists its failed iterations.
pub(crate) const FAILURES: &str = "kf-failures";
/// The outermost scope: it holds exit handlers, and around everything else the group that they wait for.
pub(crate) const OUTERMOST: ScopeId = ScopeId(0);
/// The scope that the pipeline's closure adds to.
pub(crate) const BODY: ScopeId = ScopeId(1);

#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) parameters: Vec<PipelineParameter>,
    pub(crate) scopes: Vec<ScopeData>,
    /// The scope whose closure is being run.
    pub(crate) current: ScopeId,
    pub(crate) nodes: Vec<Node>,
    pub(crate) given: Vec<Given>,
    /// What the whole pipeline gives.
    pub(crate) outputs: Vec<RunOutput>,
    /// How many tasks of a run are under way at once, where that is limited.
    pub(crate) max_tasks: Option<u32>,
    pub(crate) problems: Vec<Problem>,
    /// Where each component was declared.
    declared: HashMap<&'static str, &'static str>,
    /// Names that are taken, each with the number that was tried last after it.
    names: HashMap<String, u32>,
}

#[derive(Debug)]
pub(crate) struct PipelineParameter {
    pub(crate) name: String,
    pub(crate) kind: ParameterType,
    pub(crate) default: Option<Json>,
    pub(crate) optional: bool,
    /// Whether a value is one of the parameter's Rust type.
    pub(crate) check: ArgCheck,
}

pub(crate) use crate::plan::ArgCheck;

#[derive(Debug)]
pub(crate) struct ScopeData {
    /// The node that stands for it in the scope around it.
    pub(crate) node: Option<NodeId>,
    pub(crate) kind: ScopeKind,
    pub(crate) at: &'static Location<'static>,
    pub(crate) nodes: Vec<NodeId>,
    /// How it calls itself, where it does.
    pub(crate) recursion: Option<Box<Recursion>>,
}

/// A scope that may be called from within it.
#[derive(Debug)]
pub(crate) struct Recursion {
    pub(crate) max_depth: u32,
    /// What it is called with from outside.
    pub(crate) starts: Vec<Source>,
    pub(crate) takes: Vec<SlotKind>,
    pub(crate) gives: Vec<SlotKind>,
    /// What it gives to the scope around it.
    pub(crate) given: Vec<Source>,
}

/// Of what type something is that a recursion takes or gives.
#[derive(Clone, Debug)]
pub(crate) enum SlotKind {
    Parameter { kind: ParameterType, optional: bool },
    Artifact { kind: ArtifactType, list: bool },
}

#[derive(Debug)]
pub(crate) enum ScopeKind {
    /// The pipeline itself.
    Pipeline,
    /// Tasks under a name of their own.
    Group,
    When(Condition<'static>),
    /// Branches of which one is taken.
    Branches,
    Loop {
        items: LoopItems,
        limit: u32,
        /// How many iterations must succeed; all where absent.
        min_success: Option<KfMinSuccess>,
        /// Whether somebody takes the list of those that failed.
        failures: bool,
    },
}

#[derive(Debug)]
pub(crate) enum LoopItems {
    Values { list: Arg, item: ParameterType, optional: bool },
    Artifacts { list: Source, item: ArtifactType },
}

/// What a scope gives to the one around it.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) scope: ScopeId,
    /// Sources that are at home in the scope: one, or several of which the first that there is counts.
    pub(crate) from: Vec<Source>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) scope: ScopeId,
    pub(crate) name: String,
    pub(crate) kind: NodeKind,
    /// What it waits for though it takes nothing from it.
    pub(crate) after: Vec<NodeId>,
    /// Whether it runs however the tasks before it ended.
    pub(crate) at_any_end: bool,
    /// What runs where it has failed, and stands for it.
    pub(crate) fallback: Option<NodeId>,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Task {
        definition: Arc<ComponentDef>,
        args: Vec<(&'static str, TaskArg)>,
        options: Box<CallOptions>,
    },
    Import {
        uri: Arg,
        kind: ArtifactType,
    },
    /// A person is asked, for a value where it has a type.
    Question {
        asked: Box<Asked>,
        value: Option<ParameterType>,
        /// Whether a value is one of the Rust type that is asked for.
        check: Option<ArgCheck>,
    },
    Group(ScopeId),
    /// A recursion called from within it.
    Again {
        scope: ScopeId,
        args: Vec<Source>,
    },
}

#[derive(Debug)]
pub(crate) enum TaskArg {
    Parameter(Arg),
    Artifact(ArtifactArg),
}

impl TaskArg {
    /// Where it comes from.
    pub(crate) fn sources(&self) -> Vec<Source> {
        match self {
            Self::Parameter(Arg(ArgKind::Source(source, _))) => vec![*source],
            Self::Parameter(Arg(ArgKind::Constant(_))) => Vec::new(),
            Self::Artifact(artifact) => artifact.sources.clone(),
        }
    }
}

impl Graph {
    pub(crate) fn new(at: &'static Location<'static>) -> Self {
        let mut graph = Self::default();
        let scope =
            |node| ScopeData { node, kind: ScopeKind::Pipeline, at, nodes: Vec::new(), recursion: None };
        graph.scopes.push(scope(None));
        graph.scopes.push(scope(None));
        let name = graph.numbered_name("exit-handler");
        let group = graph.add(OUTERMOST, name, NodeKind::Group(BODY));
        graph.scopes[BODY.0 as usize].node = Some(group);
        graph.current = BODY;
        graph
    }

    pub(crate) fn scope(&self, id: ScopeId) -> &ScopeData {
        &self.scopes[id.0 as usize]
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The scope around a scope.
    pub(crate) fn parent(&self, id: ScopeId) -> Option<ScopeId> {
        self.scope(id).node.map(|node| self.node(node).scope)
    }

    /// The scope in which a source is at home.
    pub(crate) fn home(&self, source: Source) -> Option<ScopeId> {
        match source {
            Source::Parameter(_) => Some(OUTERMOST),
            Source::Item(scope) | Source::Slot { scope, .. } => Some(scope),
            Source::Output { node, .. } | Source::Status(node) | Source::Again { node, .. } => {
                Some(self.node(node).scope)
            }
            Source::Given(index) => self.parent(self.given[index as usize].scope),
            Source::Nothing => None,
        }
    }

    /// Whether `inner` is `outer` or lies in it.
    pub(crate) fn lies_in(&self, inner: ScopeId, outer: ScopeId) -> bool {
        let mut scope = Some(inner);
        while let Some(id) = scope {
            if id == outer {
                return true;
            }
            scope = self.parent(id);
        }
        false
    }

    pub(crate) fn add(&mut self, scope: ScopeId, name: String, kind: NodeKind) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { scope, name, kind, after: Vec::new(), at_any_end: false, fallback: None });
        self.scopes[scope.0 as usize].nodes.push(id);
        id
    }

    /// Opens a scope whose name is `name` and a number.
    pub(crate) fn open_scope(
        &mut self,
        outer: ScopeId,
        name: &str,
        kind: ScopeKind,
        at: &'static Location<'static>,
    ) -> ScopeId {
        let name = self.numbered_name(name);
        self.open_named_scope(outer, name, kind, at)
    }

    pub(crate) fn open_named_scope(
        &mut self,
        outer: ScopeId,
        name: String,
        kind: ScopeKind,
        at: &'static Location<'static>,
    ) -> ScopeId {
        let id = ScopeId(u32::try_from(self.scopes.len()).unwrap_or(u32::MAX));
        self.scopes.push(ScopeData { node: None, kind, at, nodes: Vec::new(), recursion: None });
        let node = self.add(outer, name, NodeKind::Group(id));
        self.scopes[id.0 as usize].node = Some(node);
        id
    }

    /// How a scope calls itself.
    pub(crate) fn recursion(&self, scope: ScopeId) -> Option<&Recursion> {
        self.scope(scope).recursion.as_deref()
    }

    /// The recursion that a node calls from within.
    pub(crate) fn called_again(&self, node: NodeId) -> Option<&Recursion> {
        match self.node(node).kind {
            NodeKind::Again { scope, .. } => self.recursion(scope),
            _ => None,
        }
    }

    /// Of what type something is that a recursion takes, or gives to a call from within.
    pub(crate) fn slot_kind(&self, source: Source) -> Option<&SlotKind> {
        match source {
            Source::Slot { scope, slot } => self.recursion(scope)?.takes.get(slot as usize),
            Source::Again { node, slot } => self.called_again(node)?.gives.get(slot as usize),
            _ => None,
        }
    }

    /// What `scope` gives of `from`, sources that are at home in it.
    pub(crate) fn give(&mut self, scope: ScopeId, from: Vec<Source>) -> Source {
        let index = u32::try_from(self.given.len()).unwrap_or(u32::MAX);
        self.given.push(Given { scope, from });
        Source::Given(index)
    }

    /// Puts `inner`, which lies in the same scope as `outer`, into `outer`.
    pub(crate) fn move_into(&mut self, inner: ScopeId, outer: ScopeId) {
        let (Some(node), Some(around)) = (self.scope(inner).node, self.parent(inner)) else { return };
        // Most often the last.
        let siblings = &mut self.scopes[around.0 as usize].nodes;
        if let Some(index) = siblings.iter().rposition(|other| *other == node) {
            siblings.remove(index);
        }
        self.scopes[outer.0 as usize].nodes.push(node);
        self.nodes[node.0 as usize].scope = outer;
    }

    /// `name` in the form of KFP's task names (lower-case letters and digits, with single `-` between them), with a
    /// number where it is taken.
    pub(crate) fn fresh_name(&mut self, name: &str) -> String {
        let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let mut name = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
        name.truncate(100);
        if name.is_empty() {
            name.push_str("task");
        }
        if self.names.contains_key(&name) {
            return self.numbered_name(&name);
        }
        self.names.insert(name.clone(), 1);
        name
    }

    /// `name` with the first number that is free.
    fn numbered_name(&mut self, name: &str) -> String {
        let mut number = self.names.get(name).copied().unwrap_or(0);
        let numbered = loop {
            number += 1;
            let numbered = format!("{name}-{number}");
            if !self.names.contains_key(&numbered) {
                break numbered;
            }
        };
        self.names.insert(numbered.clone(), 1);
        self.names.insert(name.to_owned(), number);
        numbered
    }

    /// Notes a second component of the same name: a run finds components by name.
    pub(crate) fn refuse_namesake(&mut self, definition: &ComponentDef, at: &Location<'_>) {
        let first = *self.declared.entry(definition.name).or_insert(definition.declared_at);
        if first != definition.declared_at {
            let (name, second) = (definition.name, definition.declared_at);
            let message =
                format!("two components are called `{name}`, at {first} and at {second}: rename one");
            self.problem(at, message);
        }
    }

    pub(crate) fn problem(&mut self, at: &Location<'_>, message: impl Into<String>) {
        self.problems.push(Problem::new(at, message));
    }

    /// Whether a name of what the pipeline takes or gives is in order; notes where it is not.
    pub(crate) fn check_name(&mut self, what: &str, name: &str, at: &Location<'_>) -> bool {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_word =
            !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit());
        if !is_word {
            self.problem(at, format!("{what} `{name}`: expected letters, digits and _, no digit first"));
        }
        is_word
    }

    pub(crate) fn check_task_name(&mut self, name: &str, at: &Location<'_>) {
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') || name.is_empty() {
            self.problem(at, format!("task name `{name}`: expected letters, digits, - and _"));
        }
    }

    /// Lets what stands for `node` in `scope` wait for `other`, which is in a scope around it or the same.
    pub(crate) fn wait(&mut self, node: NodeId, other: NodeId, at: &Location<'_>) {
        let around = self.node(other).scope;
        let mut waiting = node;
        while self.node(waiting).scope != around {
            match self.scope(self.node(waiting).scope).node {
                Some(group) => waiting = group,
                None => {
                    let (name, other) = (&self.node(node).name, &self.node(other).name);
                    let message = format!(
                        "task `{name}` comes `.after` `{other}`, which is in a loop, branch or group that `{name}` is \
                         not in: let it come after all of that"
                    );
                    return self.problem(at, message);
                }
            }
        }
        let after = &mut self.nodes[waiting.0 as usize].after;
        if !after.contains(&other) {
            after.push(other);
        }
    }
}
