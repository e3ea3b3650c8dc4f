use std::{
    fmt, fs,
    io::ErrorKind,
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use serde::{Deserialize, Serialize};
use tch::{CModule, Device, IValue, Kind};

use crate::{
    BoxError, Datatype, Execution, Inputs, ModelMetadata, Runtime, Tensor, TensorSpec,
    panic_message::panic_message,
};

const MODULE: &str = "model.pt";
const SIGNATURE: &str = "model.json";
const PLATFORM: &str = "pytorch_torchscript";

/// A TorchScript module on the CPU: a folder with the module as `model.pt`, and its inputs and outputs in `model.json`.
///
/// `forward` gets the inputs in the order of `model.json` and returns a tensor, or a tuple or list of tensors in the
/// order of its outputs. UINT16, UINT32, UINT64 and BYTES have no counterpart in TorchScript.
///
/// ```json
/// {
///   "inputs": [{ "name": "pixels", "datatype": "FP32", "shape": [-1, 64] }],
///   "outputs": [{ "name": "logits", "datatype": "FP32", "shape": [-1, 10] }]
/// }
/// ```
pub struct TorchScript {
    module: CModule,
    metadata: ModelMetadata,
    execution: Execution,
}

/// What `model.json` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl TorchScript {
    /// Loads the module in `folder`.
    ///
    /// # Errors
    /// When a file is missing or can't be read, or the signature has a datatype that TorchScript lacks.
    pub fn load(folder: &Path) -> Result<Self, BoxError> {
        let signature = read(&folder.join(SIGNATURE))?;
        let Signature { inputs, outputs } = serde_json::from_slice(&signature)
            .map_err(|error| format!("{SIGNATURE} can't be read: {error}"))?;
        let module = CModule::load_data(&mut &*read(&folder.join(MODULE))?).map_err(|error| {
            format!("{MODULE} is no TorchScript module: {}", first_line(&error.to_string()))
        })?;
        Self::new(module, inputs, outputs)
    }

    /// A runtime of a module that is loaded already.
    ///
    /// # Errors
    /// When a datatype has no counterpart in TorchScript.
    pub fn new(
        mut module: CModule,
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
    ) -> Result<Self, BoxError> {
        for spec in inputs.iter().chain(&outputs) {
            if kind(spec.datatype).is_none() {
                return Err(format!("`{}`: TorchScript has no {}", spec.name, spec.datatype).into());
            }
        }
        module.f_set_eval()?;
        let metadata = ModelMetadata { platform: PLATFORM.to_owned(), inputs, outputs };
        Ok(Self { module, metadata, execution: Execution::Blocking })
    }

    /// A runtime of what `forward` computes, written down as it runs once over `samples`, one for each input. What it
    /// does must not depend on their values, nor on the lengths that the inputs' shapes leave open.
    ///
    /// The weights that it uses become part of the module and must not want gradients: freeze their `VarStore` before.
    ///
    /// # Errors
    /// When `forward` can't be traced, or a datatype has no counterpart in TorchScript.
    pub fn trace(
        inputs: Vec<TensorSpec>,
        outputs: Vec<TensorSpec>,
        samples: &[tch::Tensor],
        mut forward: impl FnMut(&[tch::Tensor]) -> Vec<tch::Tensor>,
    ) -> Result<Self, BoxError> {
        let mut panicked = None;
        // A panic must not leave the thread tracing, so that what is traced then ends as something else and is dropped.
        let mut traced = |samples: &[tch::Tensor]| {
            panic::catch_unwind(AssertUnwindSafe(|| forward(samples))).unwrap_or_else(|panic| {
                panicked = Some(panic_message(&*panic).to_owned());
                samples.iter().map(tch::Tensor::shallow_clone).collect()
            })
        };
        let module = CModule::create_by_tracing("Model", "forward", samples, &mut traced);
        match (panicked, module) {
            (None, Ok(module)) => Self::new(module, inputs, outputs),
            (Some(message), _) => Err(format!("the model can't be traced: {}", first_line(&message)).into()),
            (None, Err(error)) => {
                Err(format!("the model can't be traced: {}", first_line(&error.to_string())).into())
            }
        }
    }

    /// Writes `model.pt` and `model.json` into `folder`, to be read by [`load`](Self::load).
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn save(&self, folder: &Path) -> Result<(), BoxError> {
        fs::create_dir_all(folder)?;
        self.module.save(folder.join(MODULE))?;
        let ModelMetadata { inputs, outputs, .. } = self.metadata.clone();
        fs::write(folder.join(SIGNATURE), serde_json::to_vec_pretty(&Signature { inputs, outputs })?)?;
        Ok(())
    }

    /// Runs the module on the server's own threads: only for one that is over within microseconds.
    #[must_use]
    pub fn inline(mut self) -> Self {
        self.execution = Execution::Inline;
        self
    }
}

impl Runtime for TorchScript {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn infer(&self, inputs: Inputs) -> Result<Vec<Tensor>, BoxError> {
        let inputs =
            inputs.iter().map(|input| to_torch(input).map(IValue::Tensor)).collect::<Result<Vec<_>, _>>()?;
        let output = tch::no_grad(|| self.module.forward_is(&inputs))
            .map_err(|error| first_line(&error.to_string()).to_owned())?;
        let outputs = flatten(output)?;
        if outputs.len() != self.metadata.outputs.len() {
            return Err(format!(
                "forward returned {} tensors, {SIGNATURE} names {}",
                outputs.len(),
                self.metadata.outputs.len()
            )
            .into());
        }
        self.metadata
            .outputs
            .iter()
            .zip(&outputs)
            .map(|(spec, output)| from_torch(&spec.name, output))
            .collect()
    }

    fn execution(&self) -> Execution {
        self.execution
    }
}

impl fmt::Debug for TorchScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorchScript").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BoxError> {
    fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{} is missing", path.display()).into(),
        _ => format!("{} can't be read: {error}", path.display()).into(),
    })
}

/// What libtorch says first; a C++ stack trace follows.
fn first_line(error: &str) -> &str {
    error.split(['\n', '\\']).next().unwrap_or(error)
}

fn kind(datatype: Datatype) -> Option<Kind> {
    match datatype {
        Datatype::Bool => Some(Kind::Bool),
        Datatype::Uint8 => Some(Kind::Uint8),
        Datatype::Int8 => Some(Kind::Int8),
        Datatype::Int16 => Some(Kind::Int16),
        Datatype::Int32 => Some(Kind::Int),
        Datatype::Int64 => Some(Kind::Int64),
        Datatype::Fp16 => Some(Kind::Half),
        Datatype::Fp32 => Some(Kind::Float),
        Datatype::Fp64 => Some(Kind::Double),
        Datatype::Bf16 => Some(Kind::BFloat16),
        Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64 | Datatype::Bytes => None,
    }
}

fn to_torch(tensor: &Tensor) -> Result<tch::Tensor, BoxError> {
    let kind = kind(tensor.datatype()).ok_or_else(|| format!("TorchScript has no {}", tensor.datatype()))?;
    let shape =
        tensor.shape().iter().map(|dimension| i64::try_from(*dimension)).collect::<Result<Vec<_>, _>>()?;
    Ok(tch::Tensor::f_from_data_size(tensor.data(), &shape, kind)?)
}

fn from_torch(name: &str, tensor: &tch::Tensor) -> Result<Tensor, BoxError> {
    let kind_found = tensor.f_kind()?;
    let datatype =
        Datatype::ALL.into_iter().find(|datatype| kind(*datatype) == Some(kind_found)).ok_or_else(|| {
            format!("output `{name}` is of {kind_found:?}, which the protocol has no datatype for")
        })?;
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let shape = tensor.size().into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>()?;
    let count = tensor.numel();
    let mut data = vec![0; count * datatype.size().unwrap_or(0)];
    tensor.f_copy_data_u8(&mut data, count)?;
    Ok(Tensor::new(name, datatype, shape, data)?)
}

fn flatten(value: IValue) -> Result<Vec<tch::Tensor>, BoxError> {
    match value {
        IValue::Tensor(tensor) => Ok(vec![tensor]),
        IValue::TensorList(tensors) => Ok(tensors),
        IValue::Tuple(values) | IValue::GenericList(values) => {
            let mut tensors = Vec::new();
            for value in values {
                match value {
                    IValue::Tensor(tensor) => tensors.push(tensor),
                    other => {
                        return Err(
                            format!("forward returned {other:?} among its outputs, not a tensor").into()
                        );
                    }
                }
            }
            Ok(tensors)
        }
        other => Err(format!("forward returned {other:?}, not tensors").into()),
    }
}
