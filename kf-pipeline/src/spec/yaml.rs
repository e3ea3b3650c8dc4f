//! Pipeline files as KFP's compiler writes them: YAML, of which JSON is a part.

use serde::Deserialize;
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, MergeKeyPolicy};

use super::{
    ComponentSpec, DeploymentSpec, Extra, Named, PipelineFile, PipelineInfo, PipelineSpec, Platforms,
    SCHEMA_VERSION, is_default,
};
use crate::deep::on_stack_of;
use crate::{Error, Result};

/// Larger files are refused before they are read. Upstream's database takes about 4 MiB.
pub(crate) const LARGEST: usize = 64 << 20;
/// How many lists and objects may lie in one another. A task's values begin at 10.
const DEEPEST: usize = 64;
/// The stack that files are read on: the deepest takes more than 1 MiB where nothing is optimised.
const STACK: usize = 16 << 20;
/// Lists, objects and single values in one file; one of 10,000 tasks has about half a million.
const MOST_NODES: usize = 2_000_000;
const TOO_MANY: &str = "expected one pipeline and at most one document for platforms after it";

impl PipelineFile {
    /// Reads a file as KFP's compiler writes it: a document that is the pipeline, and perhaps a second one that says
    /// `platforms`. A request's `{"pipeline_spec": …, "platform_spec": …}` is understood too. Everything is kept that
    /// the file says, also what this version doesn't know.
    ///
    /// ```
    /// use kf_pipeline::spec::PipelineFile;
    ///
    /// let file = PipelineFile::from_yaml("pipelineInfo: {name: hello}\nroot: {dag: {tasks: {}}}\n")?;
    /// assert_eq!(file.pipeline_spec.pipeline_info.name, "hello");
    /// assert_eq!(PipelineFile::from_yaml(file.to_yaml()?)?, file);
    /// # Ok::<(), kf_pipeline::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] names the line of what is not YAML, not UTF-8, given twice, of the wrong type or missing. Files
    /// above 64 MiB, nested deeper than 64, or that aliases blow up are refused as well.
    pub fn from_yaml(text: impl AsRef<[u8]>) -> Result<Self> {
        let text = text.as_ref();
        if text.len() > LARGEST {
            return Err(Error::file(None, format!("{} bytes; at most {LARGEST} are read", text.len())));
        }
        let text = std::str::from_utf8(text).map_err(|error| {
            let line = 1 + text[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64;
            Error::file(Some(line), "not UTF-8 text")
        })?;
        assemble(on_stack_of(STACK, || documents(text)).map_err(|problem| Error::file(None, problem))??)
    }

    /// The file as YAML that KFP's own tools read: the pipeline, and a second document where there is something to say
    /// for platforms.
    ///
    /// # Errors
    /// [`Error::File`] where a value has no form in YAML.
    pub fn to_yaml(&self) -> Result<String> {
        let write = |error: serde_saphyr::ser::Error| Error::file(None, error.to_string());
        let mut text = serde_saphyr::to_string(&self.pipeline_spec).map_err(write)?;
        if !is_default(&self.platform_spec) {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(&self.platform_spec).map_err(write)?);
        }
        Ok(text)
    }
}

fn documents(text: &str) -> Result<Vec<Document>> {
    serde_saphyr::from_multiple_with_options::<Document>(text, options()).map_err(refused)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 3,
            max_depth: DEEPEST,
            flow_nesting_limit: DEEPEST,
            max_nodes: MOST_NODES,
            max_recorded_anchor_events: MOST_NODES / 10,
            max_events: 2 * MOST_NODES,
        },
        alias_limits: AliasLimits::default(),
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn refused(error: serde_saphyr::Error) -> Error {
    let location = error.location().filter(|location| location.line() > 0);
    let problem = error.without_snippet().to_string();
    let Some(location) = location else { return Error::file(None, in_words(&problem)) };
    let (line, column) = (location.line(), location.column());
    let place = format!(" at line {line}, column {column}");
    let problem = in_words(problem.strip_suffix(&place).unwrap_or(&problem));
    Error::file(Some(line), format!("{problem}, at column {column}"))
}

/// What the reader of YAML says, without what it says to programmers.
fn in_words(problem: &str) -> String {
    let breached = problem.strip_prefix("budget breached: ");
    match breached.map(|budget| budget.split(' ').next().unwrap_or(budget)) {
        Some("Depth" | "FlowNesting") => too_deep(),
        Some("Nodes" | "Events") => format!("more than {MOST_NODES} lists, maps and single values"),
        Some("RecordedAnchorEvents") => format!("aliases stand for more than {} values", MOST_NODES / 10),
        Some("Documents") => TOO_MANY.to_owned(),
        _ if problem.starts_with("recursion limit exceeded") => too_deep(),
        _ => problem
            .replace(", set DuplicateKeyPolicy in Options if acceptable", "")
            .replace("expected sequence start", "expected a list")
            .replace("expected mapping start", "expected a map")
            .replace("recursive references require weak recursion types", "an alias stands for what it lies in")
            .replace(&of_enum("ExecutorSpec"), "expected `container`, `importer`, `resolver` or `customJob`")
            .replace(
                &of_enum("ParameterSource"),
                "expected `runtimeValue`, `taskOutputParameter`, `componentInputParameter` or `taskFinalStatus`",
            )
            .replace(&of_enum("ArtifactSource"), "expected `taskOutputArtifact` or `componentInputArtifact`")
            .replace(&of_enum("DagOutputSource"), "expected `valueFromParameter` or `valueFromOneof`"),
    }
}

/// What serde says where a map has none of the fields that the variants of an enum are called.
fn of_enum(name: &str) -> String {
    format!("no variant of enum {name} found in flattened data")
}

fn too_deep() -> String {
    format!("lists and maps lie more than {DEEPEST} deep in one another")
}

/// The fields of a pipeline's document that are known.
const OF_PIPELINES: &[&str] = &[
    "pipelineInfo",
    "deploymentSpec",
    "components",
    "root",
    SCHEMA_VERSION,
    "sdkVersion",
    "defaultPipelineRoot",
];
/// The fields that documents of other content are known by.
const OF_OTHERS: &[&str] = &["platforms", "pipeline_spec", "platform_spec"];

/// Either document of a file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    pipeline_info: Option<PipelineInfo>,
    deployment_spec: Option<DeploymentSpec>,
    components: Option<Named<ComponentSpec>>,
    root: Option<ComponentSpec>,
    schema_version: Option<String>,
    sdk_version: Option<String>,
    default_pipeline_root: Option<String>,
    platforms: Option<Named<serde_json::Value>>,
    #[serde(rename = "pipeline_spec")]
    pipeline_spec: Option<PipelineSpec>,
    #[serde(rename = "platform_spec")]
    platform_spec: Option<Platforms>,
    #[serde(flatten)]
    extra: Extra,
}

impl Document {
    fn into_request(self) -> Result<(PipelineSpec, Platforms)> {
        let place = "a request that has `pipeline_spec`";
        self.holds_only(|content| matches!(content, Content::Request), place)?;
        if let Some(name) = self.extra.keys().next() {
            return Err(Error::file(None, format!("`{name}` does not belong into {place}")));
        }
        let spec =
            self.pipeline_spec.ok_or_else(|| Error::file(None, "the request has no `pipeline_spec`"))?;
        Ok((spec, self.platform_spec.unwrap_or_default()))
    }

    fn into_spec(self) -> Result<PipelineSpec> {
        let missing = |field| Error::file(None, format!("the pipeline has no `{field}`"));
        let pipeline_info = self.pipeline_info.ok_or_else(|| missing("pipelineInfo"))?;
        Ok(PipelineSpec {
            pipeline_info,
            deployment_spec: self.deployment_spec.unwrap_or_default(),
            components: self.components.unwrap_or_default(),
            root: self.root.ok_or_else(|| missing("root"))?,
            schema_version: self.schema_version.unwrap_or_default(),
            sdk_version: self.sdk_version.unwrap_or_default(),
            default_pipeline_root: self.default_pipeline_root,
            extra: self.extra,
        })
    }
}

/// What a document is about, by its fields.
enum Content {
    Pipeline,
    /// A request's body: both in one.
    Request,
    Platforms,
}

impl Document {
    /// Its known fields, each with what it belongs to.
    fn fields(&self) -> impl Iterator<Item = (&'static str, Content)> {
        [
            ("pipelineInfo", self.pipeline_info.is_some(), Content::Pipeline),
            ("deploymentSpec", self.deployment_spec.is_some(), Content::Pipeline),
            ("components", self.components.is_some(), Content::Pipeline),
            ("root", self.root.is_some(), Content::Pipeline),
            (SCHEMA_VERSION, self.schema_version.is_some(), Content::Pipeline),
            ("sdkVersion", self.sdk_version.is_some(), Content::Pipeline),
            ("defaultPipelineRoot", self.default_pipeline_root.is_some(), Content::Pipeline),
            ("platforms", self.platforms.is_some(), Content::Platforms),
            ("pipeline_spec", self.pipeline_spec.is_some(), Content::Request),
            ("platform_spec", self.platform_spec.is_some(), Content::Request),
        ]
        .into_iter()
        .filter_map(|(name, given, content)| given.then_some((name, content)))
    }

    /// Refuses a field that would be lost, since the document is about something else.
    fn holds_only(&self, wanted: fn(&Content) -> bool, what: &str) -> Result<()> {
        match self.fields().find(|(_, content)| !wanted(content)) {
            None => Ok(()),
            Some((name, _)) => Err(Error::file(None, format!("`{name}` does not belong into {what}"))),
        }
    }
}

fn assemble(documents: Vec<Document>) -> Result<PipelineFile> {
    let mut documents = documents.into_iter();
    let Some(first) = documents.next() else {
        return Err(Error::file(None, "empty: expected a pipeline as KFP's compiler writes it"));
    };
    let second = documents.next();
    if documents.next().is_some() {
        return Err(Error::file(None, TOO_MANY));
    }
    let (pipeline_spec, mut platform_spec) = match first {
        request @ Document { pipeline_spec: Some(_), .. } => request.into_request()?,
        Document { platforms: Some(_), pipeline_info: None, root: None, .. } => {
            return Err(Error::file(None, "the first document says `platforms`: expected the pipeline"));
        }
        pipeline => {
            let place = "the document of the pipeline; platforms are a document of their own after it";
            pipeline.holds_only(|content| matches!(content, Content::Pipeline), place)?;
            (pipeline.into_spec()?, Platforms::default())
        }
    };
    if let Some(second) = second {
        second.holds_only(
            |content| matches!(content, Content::Platforms),
            "the second document, which is for `platforms`",
        )?;
        let platforms = second.platforms.filter(|_| is_default(&platform_spec));
        let platforms = platforms.ok_or_else(|| {
            Error::file(None, "expected `platforms` in the second document, and said only once")
        })?;
        platform_spec = Platforms { platforms, extra: second.extra };
    }
    // Written to a document of their own, they would say what that document is about.
    let known = OF_PIPELINES.iter().chain(OF_OTHERS);
    let strays = [
        (known.clone().find(|name| pipeline_spec.extra.contains_key(**name)), "the pipeline"),
        (known.clone().find(|name| platform_spec.extra.contains_key(**name)), "what is for platforms"),
    ];
    for (stray, place) in strays {
        if let Some(name) = stray {
            return Err(Error::file(None, format!("`{name}` does not belong into {place}")));
        }
    }
    if pipeline_spec.schema_version.is_empty() {
        let pipeline = pipeline_spec.pipeline_info.name.as_str();
        tracing::warn!(pipeline, "the file says no `{SCHEMA_VERSION}`; it is read as version 2");
    }
    Ok(PipelineFile { pipeline_spec, platform_spec })
}
