use serde::Serialize;

/// Where a version of a model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum ModelState {
    /// It answers requests.
    Ready,
    /// Its first load runs.
    Loading,
    /// It isn't loaded, or couldn't be.
    Unavailable,
}

/// One version of a model, as the repository's index lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelStatus {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it stands.
    pub state: ModelState,
    /// Why it isn't ready, or why its last reload failed; empty otherwise.
    pub reason: String,
}
