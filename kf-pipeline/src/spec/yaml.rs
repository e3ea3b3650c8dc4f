//! Pipeline files as KFP's compiler writes them: YAML, of which JSON is a part.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, MergeKeyPolicy};

use super::{
    ComponentSpec, DeploymentSpec, Extra, PipelineFile, PipelineInfo, PipelineSpec, Platforms, is_default,
};
use crate::{Error, Result};

/// Larger files are refused before they are read. Upstream's database takes about 4 MiB.
const LARGEST: usize = 64 << 20;
/// How many lists and objects may lie in one another. A task's values begin at 10.
const DEEPEST: usize = 64;
/// The stack that files are read on: the deepest takes more than 1 MiB where nothing is optimised.
const STACK: usize = 16 << 20;
/// Lists, objects and single values in one file; one of 10,000 tasks has about half a million.
const MOST_NODES: usize = 2_000_000;

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
        assemble(with_stack(|| documents(text))??)
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

/// Does something on a thread of its own: what it reads may be nested deeper than the caller's stack can bear.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    let cannot =
        |problem: &str| Error::file(None, format!("can't be read on a thread of its own: {problem}"));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("kf-read".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| cannot(&error.to_string()))?;
        thread.join().map_err(|_| cannot("it panicked"))
    })
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
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn refused(error: serde_saphyr::Error) -> Error {
    let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
    Error::file(line, error.without_snippet().to_string())
}

/// Either document of a file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    pipeline_info: Option<PipelineInfo>,
    deployment_spec: Option<DeploymentSpec>,
    components: Option<BTreeMap<String, ComponentSpec>>,
    root: Option<ComponentSpec>,
    schema_version: Option<String>,
    sdk_version: Option<String>,
    default_pipeline_root: Option<String>,
    platforms: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(rename = "pipeline_spec")]
    pipeline_spec: Option<PipelineSpec>,
    #[serde(rename = "platform_spec")]
    platform_spec: Option<Platforms>,
    #[serde(flatten)]
    extra: Extra,
}

impl Document {
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

fn assemble(documents: Vec<Document>) -> Result<PipelineFile> {
    let mut documents = documents.into_iter();
    let Some(first) = documents.next() else {
        return Err(Error::file(None, "empty: expected a pipeline as KFP's compiler writes it"));
    };
    let second = documents.next();
    if documents.next().is_some() {
        return Err(Error::file(
            None,
            "expected one pipeline and at most one document for platforms after it",
        ));
    }
    let (pipeline_spec, mut platform_spec) = match first {
        Document { pipeline_spec: Some(spec), platform_spec, .. } => {
            (spec, platform_spec.unwrap_or_default())
        }
        Document { platforms: Some(_), pipeline_info: None, root: None, .. } => {
            return Err(Error::file(None, "the first document says `platforms`: expected the pipeline"));
        }
        first => (first.into_spec()?, Platforms::default()),
    };
    if let Some(second) = second {
        let platforms = second.platforms.filter(|_| is_default(&platform_spec));
        let platforms = platforms.ok_or_else(|| {
            Error::file(None, "expected `platforms` in the second document, and said only once")
        })?;
        platform_spec = Platforms { platforms, extra: second.extra };
    }
    Ok(PipelineFile { pipeline_spec, platform_spec })
}
