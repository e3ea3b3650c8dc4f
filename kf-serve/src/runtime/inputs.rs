use std::ops::Deref;

use crate::{Error, Result, Tensor};

/// Parameters of a request: whatever JSON object the caller sent.
pub type Parameters = serde_json::Map<String, serde_json::Value>;

/// The tensors of one request, in the order of the model's inputs, and the request's parameters.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    tensors: Vec<Tensor>,
    parameters: Parameters,
}

impl Inputs {
    /// Inputs of `tensors`, without parameters.
    pub fn new(tensors: Vec<Tensor>) -> Self {
        Self { tensors, parameters: Parameters::new() }
    }

    /// The same tensors with these parameters.
    #[must_use]
    pub fn with_parameters(mut self, parameters: Parameters) -> Self {
        self.parameters = parameters;
        self
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors
            .iter()
            .find(|tensor| tensor.name() == name)
            .ok_or_else(|| Error::InvalidInput(format!("there is no input `{name}`")))
    }

    /// The parameters that came with the request.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The tensors, owned.
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.tensors
    }
}

impl Deref for Inputs {
    type Target = [Tensor];

    fn deref(&self) -> &[Tensor] {
        &self.tensors
    }
}
