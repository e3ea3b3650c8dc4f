use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{Datatype, Error, Result, Tensor};

/// A tensor that a model takes or gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// The tensor's name.
    pub name: String,
    /// Its elements' type.
    pub datatype: Datatype,
    /// Its dimensions, outermost first; −1 stands for any length.
    pub shape: Vec<i64>,
}

impl TensorSpec {
    /// Whether a tensor of `shape` is one of these.
    fn takes(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(wanted, found)| *wanted == -1 || usize::try_from(*wanted) == Ok(*found))
    }

    fn describe(&self) -> String {
        format!("{}{:?}", self.datatype, self.shape)
    }
}

/// What a model says about itself: where it runs, what it takes and what it gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// The framework that runs it, as `pytorch_torchscript` or `rust`.
    pub platform: String,
    /// The tensors it takes, all of them required.
    pub inputs: Vec<TensorSpec>,
    /// The tensors it gives.
    pub outputs: Vec<TensorSpec>,
}

impl ModelMetadata {
    /// Metadata of a model without inputs and outputs yet.
    pub fn new(platform: impl Into<String>) -> Self {
        Self { platform: platform.into(), inputs: Vec::new(), outputs: Vec::new() }
    }

    /// With one more input; −1 in `shape` stands for any length.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, datatype: Datatype, shape: impl Into<Vec<i64>>) -> Self {
        self.inputs.push(TensorSpec { name: name.into(), datatype, shape: shape.into() });
        self
    }

    /// With one more output; −1 in `shape` stands for any length.
    #[must_use]
    pub fn output(mut self, name: impl Into<String>, datatype: Datatype, shape: impl Into<Vec<i64>>) -> Self {
        self.outputs.push(TensorSpec { name: name.into(), datatype, shape: shape.into() });
        self
    }

    /// Refuses metadata that no tensor could ever meet.
    pub(crate) fn check(&self) -> Result<()> {
        for (kind, specs) in [("input", &self.inputs), ("output", &self.outputs)] {
            let mut names = HashSet::new();
            for spec in specs {
                if spec.name.is_empty() || !names.insert(&spec.name) {
                    return Err(Error::InvalidInput(format!(
                        "{kind} `{}`: names must differ and not be empty",
                        spec.name
                    )));
                }
                if let Some(dimension) = spec.shape.iter().find(|dimension| **dimension < -1) {
                    return Err(Error::InvalidInput(format!(
                        "{kind} `{}`: a dimension is −1 or a length, found {dimension}",
                        spec.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// The request's tensors in the order of this model's inputs, once they are exactly those.
    pub(crate) fn take_inputs(&self, mut tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
        for (at, spec) in self.inputs.iter().enumerate() {
            let found = tensors[at.min(tensors.len())..].iter().position(|tensor| tensor.name() == spec.name);
            let Some(found) = found else {
                return Err(Error::InvalidInput(format!(
                    "input `{}` ({}) is missing; the model takes {}",
                    spec.name,
                    spec.describe(),
                    list(&self.inputs)
                )));
            };
            tensors.swap(at, at + found);
            let tensor = &tensors[at];
            if tensor.datatype() != spec.datatype || !spec.takes(tensor.shape()) {
                return Err(Error::InvalidInput(format!(
                    "input `{}` must be {}, found {}{:?}",
                    spec.name,
                    spec.describe(),
                    tensor.datatype(),
                    tensor.shape()
                )));
            }
        }
        match tensors.get(self.inputs.len()) {
            None => Ok(tensors),
            Some(extra) => {
                Err(Error::InvalidInput(if self.inputs.iter().any(|spec| spec.name == extra.name()) {
                    format!("input `{}` is given twice", extra.name())
                } else {
                    let name: String = extra.name().chars().take(80).collect();
                    format!("the model has no input `{name}`; it takes {}", list(&self.inputs))
                }))
            }
        }
    }

    /// What is wrong with a model's outputs, where they aren't the tensors promised.
    pub(crate) fn check_outputs(&self, tensors: &[Tensor]) -> Result<(), String> {
        if tensors.len() != self.outputs.len() {
            return Err(format!("it gave {} outputs instead of {}", tensors.len(), self.outputs.len()));
        }
        for spec in &self.outputs {
            let Some(tensor) = tensors.iter().find(|tensor| tensor.name() == spec.name) else {
                return Err(format!("it gave no output `{}`", spec.name));
            };
            if tensor.datatype() != spec.datatype || !spec.takes(tensor.shape()) {
                return Err(format!(
                    "its output `{}` is {}{:?} instead of {}",
                    spec.name,
                    tensor.datatype(),
                    tensor.shape(),
                    spec.describe()
                ));
            }
        }
        Ok(())
    }
}

fn list(specs: &[TensorSpec]) -> String {
    if specs.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add() -> ModelMetadata {
        ModelMetadata::new("test")
            .input("a", Datatype::Int32, [-1, 2])
            .input("b", Datatype::Int32, [-1, 2])
            .output("sum", Datatype::Int32, [-1, 2])
    }

    fn tensor(name: &str, shape: [usize; 2]) -> Tensor {
        Tensor::from_vec(name, shape, vec![0_i32; shape[0] * shape[1]]).unwrap()
    }

    #[test]
    fn inputs_come_in_the_models_order() {
        let inputs = add().take_inputs(vec![tensor("b", [3, 2]), tensor("a", [3, 2])]).unwrap();
        assert_eq!(inputs[0].name(), "a");
        assert_eq!(inputs[1].name(), "b");
    }

    #[test]
    fn other_inputs_are_refused_by_name() {
        let long = Tensor::from_vec("a", [1, 2], vec![0_i64; 2]).unwrap();
        for (inputs, message) in [
            (vec![], "input `a` (INT32[-1, 2]) is missing"),
            (vec![tensor("a", [1, 2])], "input `b`"),
            (
                vec![tensor("a", [1, 3]), tensor("b", [1, 2])],
                "input `a` must be INT32[-1, 2], found INT32[1, 3]",
            ),
            (vec![long, tensor("b", [1, 2])], "found INT64[1, 2]"),
            (vec![tensor("a", [1, 2]), tensor("b", [1, 2]), tensor("c", [1, 2])], "no input `c`"),
            (vec![tensor("a", [1, 2]), tensor("b", [1, 2]), tensor("a", [1, 2])], "`a` is given twice"),
        ] {
            let error = add().take_inputs(inputs).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn metadata_that_cannot_be_met_is_refused() {
        assert!(add().check().is_ok());
        assert!(add().input("a", Datatype::Bool, []).check().is_err());
        assert!(add().output("x", Datatype::Bool, [-2]).check().is_err());
        assert!(add().output("", Datatype::Bool, [1]).check().is_err());
    }
}
