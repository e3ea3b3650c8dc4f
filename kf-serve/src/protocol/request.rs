use std::str::FromStr;

use bytes::Bytes;
use serde_json::Value;

use super::{
    elements,
    envelope::{Envelope, Input, Object},
};
use crate::{Datatype, Error, ModelMetadata, Result, Tensor, runtime::Parameters};

const MOST_DIMENSIONS: usize = 64;

/// How a request's body is laid out, as the header `Inference-Header-Content-Length` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// JSON alone: no such header.
    Json,
    /// So many bytes of JSON, then the binary tensors in their order.
    Binary(usize),
    /// The bytes of the model's one input alone: header 0.
    Raw,
}

/// An inference request, fitted to the model that is to answer it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Option<String>,
    pub(crate) parameters: Parameters,
    /// The model's inputs, in its order.
    pub(crate) inputs: Vec<Tensor>,
    /// The outputs to answer with, in this order.
    pub(crate) outputs: Outputs,
}

/// Which outputs are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outputs {
    /// All of the model's.
    All {
        /// Whether in binary.
        binary: bool,
    },
    /// These, each with whether in binary.
    These(Vec<(String, bool)>),
}

/// Reads a request's body.
pub(crate) fn read_request(metadata: &ModelMetadata, body: &Bytes, layout: Layout) -> Result<Request> {
    let json = match layout {
        Layout::Raw => return read_raw(metadata, body.clone()),
        Layout::Json => &body[..],
        Layout::Binary(length) => body.get(..length).ok_or_else(|| {
            invalid(format!(
                "Inference-Header-Content-Length is {length}, but the body has {} bytes",
                body.len()
            ))
        })?,
    };
    let Object(envelope): Object<Envelope<'_>> = serde_json::from_slice(json)
        .map_err(|error| invalid(format!("the body is no inference request: {error}")))?;

    let mut blobs = Blobs { body, layout, at: json.len() };
    let tensors = envelope
        .inputs
        .into_iter()
        .map(|Object(input)| read_input(input, &mut blobs))
        .collect::<Result<Vec<_>>>()?;
    blobs.finish()?;

    let parameters = envelope.parameters.unwrap_or_default();
    let binary = match parameters.get("binary_data_output") {
        None => false,
        Some(&Value::Bool(binary)) => binary,
        Some(other) => {
            return Err(invalid(format!("the parameter binary_data_output is true or false, found {other}")));
        }
    };
    let outputs = match envelope.outputs {
        Some(outputs) if !outputs.is_empty() => {
            let mut these: Vec<(String, bool)> = Vec::with_capacity(outputs.len());
            for Object(output) in outputs {
                let name = output.name.into_owned();
                if !metadata.outputs.iter().any(|spec| spec.name == name) {
                    return Err(invalid(format!("the model has no output `{}`", shortened(&name))));
                }
                if these.iter().any(|(other, _)| *other == name) {
                    return Err(invalid(format!("output `{name}` is asked for twice")));
                }
                let mut in_binary = binary;
                if let Some(Object(parameters)) = output.parameters {
                    if parameters.classification.is_some() || parameters.shared_memory_region.is_some() {
                        return Err(invalid(format!(
                            "output `{name}`: classification and shared memory aren't supported here"
                        )));
                    }
                    in_binary = parameters.binary_data.unwrap_or(binary);
                }
                these.push((name, in_binary));
            }
            Outputs::These(these)
        }
        _ => Outputs::All { binary },
    };
    Ok(Request { id: envelope.id, parameters, inputs: metadata.take_inputs(tensors)?, outputs })
}

fn read_input(input: Input<'_>, blobs: &mut Blobs<'_>) -> Result<Tensor> {
    let wrong = |what: String| invalid(format!("input `{}`: {what}", shortened(&input.name)));
    let datatype = Datatype::from_str(&input.datatype).map_err(|error| wrong(error.to_string()))?;
    if input.shape.len() > MOST_DIMENSIONS {
        return Err(wrong(format!(
            "a shape may have {MOST_DIMENSIONS} dimensions, found {}",
            input.shape.len()
        )));
    }
    let parameters = input.parameters.as_ref().map(|Object(parameters)| parameters);
    let size = parameters.and_then(|parameters| parameters.binary_data_size);
    if parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some()) {
        return Err(wrong("shared memory isn't supported here; send the data".into()));
    }
    let data = match (input.data, size) {
        (Some(data), None) => elements::read(data.get(), datatype, &input.shape).map_err(wrong)?.into(),
        (None, Some(size)) => blobs.take(size).map_err(wrong)?,
        (None, None) => return Err(wrong("it has neither data nor the parameter binary_data_size".into())),
        (Some(_), Some(_)) => {
            return Err(wrong("it has both data and the parameter binary_data_size".into()));
        }
    };
    Tensor::new(input.name, datatype, input.shape, data)
}

/// The binary tensors behind the JSON.
struct Blobs<'a> {
    body: &'a Bytes,
    layout: Layout,
    at: usize,
}

impl Blobs<'_> {
    fn take(&mut self, size: usize) -> Result<Bytes, String> {
        if self.layout == Layout::Json {
            return Err("binary data needs the header Inference-Header-Content-Length".into());
        }
        let rest = self.body.len() - self.at;
        if size > rest {
            return Err(format!(
                "its binary_data_size is {size}, but only {rest} bytes are left in the body"
            ));
        }
        let blob = self.body.slice(self.at..self.at + size);
        self.at += size;
        Ok(blob)
    }

    fn finish(self) -> Result<()> {
        match self.body.len() - self.at {
            0 => Ok(()),
            rest => Err(invalid(format!("{rest} bytes are left in the body after the last binary tensor"))),
        }
    }
}

/// The whole body as the one input. Where the shape leaves one dimension open, the body's size gives it; where it
/// leaves more, the first is a batch of 1. A BYTES input is a single element without its length.
fn read_raw(metadata: &ModelMetadata, body: Bytes) -> Result<Request> {
    let [spec] = &metadata.inputs[..] else {
        return Err(invalid(format!(
            "a raw request (Inference-Header-Content-Length: 0) needs a model with one input, this one has {}",
            metadata.inputs.len()
        )));
    };
    let mut shape: Vec<Option<usize>> =
        spec.shape.iter().map(|dimension| usize::try_from(*dimension).ok()).collect();
    if shape.iter().filter(|dimension| dimension.is_none()).count() > 1
        && let Some(first @ None) = shape.first_mut()
    {
        *first = Some(1);
    }
    let open = shape.iter().filter(|dimension| dimension.is_none()).count();
    let fixed =
        shape.iter().flatten().try_fold(1_usize, |product, dimension| product.checked_mul(*dimension));
    let length = match (open, fixed, spec.datatype.size()) {
        (0, ..) => 0,
        (1, Some(_), None) => 1,
        (1, Some(fixed), Some(size)) if fixed > 0 => body.len() / fixed.saturating_mul(size),
        _ => {
            return Err(invalid(format!(
                "the shape {:?} of input `{}` can't be told from a raw request's size; send it with its shape",
                spec.shape, spec.name
            )));
        }
    };
    let shape: Vec<usize> = shape.into_iter().map(|dimension| dimension.unwrap_or(length)).collect();
    let tensor = if spec.datatype == Datatype::Bytes {
        Tensor::from_strings(&*spec.name, shape, [body])?
    } else {
        Tensor::new(&*spec.name, spec.datatype, shape, body)?
    };
    let inputs = metadata.take_inputs(vec![tensor])?;
    Ok(Request { id: None, parameters: Parameters::new(), inputs, outputs: Outputs::All { binary: true } })
}

fn invalid(message: String) -> Error {
    Error::InvalidInput(message)
}

fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}
