//! What an artifact is: the type that flows along a pipeline's edges.

/// A kind of artifact. The seven below are those of Kubeflow Pipelines; a crate adds its own by implementing
/// this trait for a marker type:
///
/// ```
/// struct Tokenizer;
/// impl kf_core::artifact::ArtifactKind for Tokenizer {
///     const SCHEMA_TITLE: &'static str = "acme.Tokenizer";
/// }
/// ```
pub trait ArtifactKind: Send + Sync + 'static {
    /// The schema title as KFP writes it, `namespace.Name`.
    const SCHEMA_TITLE: &'static str;
    /// The schema's version.
    const SCHEMA_VERSION: &'static str = "0.0.1";
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $title:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl ArtifactKind for $name {
            const SCHEMA_TITLE: &'static str = $title;
        }
    )*};
}

kinds! {
    /// Anything that has no better kind.
    Artifact = "system.Artifact";
    /// Data to learn from, test with or predict on.
    Dataset = "system.Dataset";
    /// A trained model.
    Model = "system.Model";
    /// Scalar metrics, kept in the artifact's metadata.
    Metrics = "system.Metrics";
    /// ROC curve and confusion matrix, kept in the artifact's metadata.
    ClassificationMetrics = "system.ClassificationMetrics";
    /// A page for the run report.
    Html = "system.HTML";
    /// Text for the run report.
    Markdown = "system.Markdown";
}
