//! Executors: how components that are not DAGs are carried out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ArtifactType, Constant};

/// Executors by label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// The executors.
    #[serde(default)]
    pub executors: BTreeMap<String, ExecutorSpec>,
}

/// How a component is carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExecutorSpec {
    /// By a command in an image.
    Container(ContainerSpec),
    /// By naming an artifact that is there already.
    Importer(ImporterSpec),
}

/// A command in an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    /// The image.
    pub image: String,
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Further arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// An artifact that is there already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImporterSpec {
    /// Where it is.
    pub artifact_uri: ImporterUri,
    /// What it is.
    pub type_schema: ArtifactType,
}

/// Where an imported artifact is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ImporterUri {
    /// At a place known beforehand.
    Constant(serde_json::Value),
    /// Where the importer's input parameter of this name says.
    RuntimeParameter(String),
}

impl From<Constant> for ImporterUri {
    fn from(constant: Constant) -> Self {
        Self::Constant(constant.constant)
    }
}
