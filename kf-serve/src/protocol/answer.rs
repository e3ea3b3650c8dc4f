use bytes::Bytes;

use super::{
    elements::{self, write_json},
    request::Outputs,
};
use crate::{Result, Tensor};

/// An inference answer's body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) json: Bytes,
    /// The binary tensors that follow the JSON; `None` where all of the answer is JSON.
    pub(crate) blobs: Option<Vec<Bytes>>,
}

/// Writes an answer: `start`, the JSON of model and version without its closing brace, then what was asked for of
/// `tensors`, which are all of the model's outputs.
pub(crate) fn write_answer(
    start: &[u8],
    id: Option<&str>,
    outputs: &Outputs,
    tensors: Vec<Tensor>,
) -> Result<Answer> {
    let mut json = Vec::with_capacity(start.len() + 256);
    json.extend_from_slice(start);
    if let Some(id) = id {
        json.extend_from_slice(br#","id":"#);
        write_json(id, &mut json);
    }
    json.extend_from_slice(br#","outputs":["#);
    let mut blobs = None;
    let mut write = |tensor: &Tensor, binary: bool| {
        json.extend_from_slice(br#"{"name":"#);
        write_json(tensor.name(), &mut json);
        json.extend_from_slice(br#","datatype":""#);
        json.extend_from_slice(tensor.datatype().name().as_bytes());
        json.extend_from_slice(br#"","shape":"#);
        write_json(tensor.shape(), &mut json);
        if binary {
            json.extend_from_slice(br#","parameters":{"binary_data_size":"#);
            write_json(&tensor.data().len(), &mut json);
            json.extend_from_slice(b"}},");
            blobs.get_or_insert_with(Vec::new).push(tensor.data().clone());
        } else {
            json.extend_from_slice(br#","data":"#);
            elements::write(tensor, &mut json)?;
            json.extend_from_slice(b"},");
        }
        Ok::<(), crate::Error>(())
    };
    match outputs {
        Outputs::All { binary } => tensors.iter().try_for_each(|tensor| write(tensor, *binary))?,
        Outputs::These(these) => {
            for (name, binary) in these {
                // That the model gave all of its outputs was checked before.
                if let Some(tensor) = tensors.iter().find(|tensor| tensor.name() == name) {
                    write(tensor, *binary)?;
                }
            }
        }
    }
    if json.last() == Some(&b',') {
        json.pop();
    }
    json.extend_from_slice(b"]}");
    Ok(Answer { json: json.into(), blobs })
}
