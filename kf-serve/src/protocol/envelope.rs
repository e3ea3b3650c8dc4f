use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::runtime::Parameters;

/// A request's JSON, its tensors' data still text.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    pub(super) id: Option<String>,
    #[serde(default, deserialize_with = "super::parameters::read")]
    pub(super) parameters: Option<Parameters>,
    #[serde(borrow)]
    pub(super) inputs: Vec<Input<'a>>,
    #[serde(borrow, default)]
    pub(super) outputs: Option<Vec<Output<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Input<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    pub(super) shape: Vec<usize>,
    #[serde(borrow)]
    pub(super) datatype: Cow<'a, str>,
    #[serde(default)]
    pub(super) parameters: Option<InputParameters>,
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct InputParameters {
    pub(super) binary_data_size: Option<usize>,
    pub(super) shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Output<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(default)]
    pub(super) parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
pub(super) struct OutputParameters {
    pub(super) binary_data: Option<bool>,
    pub(super) classification: Option<IgnoredAny>,
    pub(super) shared_memory_region: Option<IgnoredAny>,
}
