//! Arguments of a run.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value as Json;

use crate::{Error, Result};

/// The arguments of a run, by parameter. [`args!`](crate::args) makes them.
#[derive(Clone, Debug, Default)]
pub struct Args {
    values: BTreeMap<String, Json>,
    artifacts: BTreeMap<String, String>,
    problem: Option<(String, String)>,
}

impl Args {
    /// No arguments: every parameter has its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more. A value that JSON can't hold, such as a NaN, is refused when the run is started.
    #[must_use]
    pub fn with<T: Serialize + ?Sized>(mut self, name: impl Into<String>, value: &T) -> Self {
        let name = name.into();
        match kf_core::json::to_json(value) {
            Ok(value) => {
                self.values.insert(name, value);
            }
            Err(problem) => self.problem = Some((name, problem.to_string())),
        }
        self
    }

    /// These and an artifact, by URI or local path. What lies on this machine is taken into the store when the run is
    /// started.
    #[must_use]
    pub fn artifact(mut self, name: impl Into<String>, uri: impl Into<String>) -> Self {
        self.artifacts.insert(name.into(), uri.into());
        self
    }

    pub(crate) fn artifacts(&self) -> &BTreeMap<String, String> {
        &self.artifacts
    }

    pub(crate) fn values(&self) -> Result<&BTreeMap<String, Json>> {
        match &self.problem {
            None => Ok(&self.values),
            Some((name, problem)) => Err(Error::Argument { name: name.clone(), problem: problem.clone() }),
        }
    }
}

impl From<BTreeMap<String, Json>> for Args {
    fn from(values: BTreeMap<String, Json>) -> Self {
        Self { values, ..Self::default() }
    }
}

/// The arguments of a run: `args! { "rates" => [0.03, 0.1], "seed" => 7 }`.
#[macro_export]
macro_rules! args {
    ($($name:expr => $value:expr),* $(,)?) => {
        $crate::Args::new()$(.with($name, &$value))*
    };
}
