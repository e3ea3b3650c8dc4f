//! Columns as tensors.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use tch::{Kind, Tensor};

use crate::{Error, Result};

pub(super) fn tensor(rows: &RecordBatch, column: &str) -> Result<Tensor> {
    let refused = |found: String, expected: &str| Error::Tensor {
        what: format!("column `{column}`"),
        found,
        expected: expected.to_owned(),
    };
    let Some(array) = rows.column_by_name(column) else {
        let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        return Err(refused("none of that name".to_owned(), &format!("one of {}", names.join(", "))));
    };
    let mut shape = vec![array.len() as i64];
    let values = match array.data_type() {
        DataType::FixedSizeList(_, width) => {
            shape.push(i64::from(*width));
            array.as_fixed_size_list().values()
        }
        _ => array,
    };
    let failed = |error: tch::TchError| Error::Torch {
        what: format!("column `{column}`"),
        message: error.to_string(),
    };
    if let Some(flags) = values.as_boolean_opt() {
        let flags: Vec<bool> = flags.values().iter().collect();
        return Tensor::f_from_slice(&flags).and_then(|tensor| tensor.f_reshape(shape)).map_err(failed);
    }
    let kind = match values.data_type() {
        DataType::Float16 => Kind::Half,
        DataType::Float32 => Kind::Float,
        DataType::Float64 => Kind::Double,
        DataType::UInt8 => Kind::Uint8,
        DataType::Int8 => Kind::Int8,
        DataType::Int16 => Kind::Int16,
        DataType::Int32 => Kind::Int,
        DataType::Int64 => Kind::Int64,
        other => {
            return Err(refused(
                other.to_string(),
                "booleans, signed integers, bytes or floating-point numbers, or lists of them",
            ));
        }
    };
    let data = values.to_data();
    let width = values.data_type().primitive_width().unwrap_or(0);
    let bytes = data.buffers().first().map(|buffer| {
        let start = data.offset() * width;
        &buffer.as_slice()[start..start + data.len() * width]
    });
    Tensor::f_from_data_size(bytes.unwrap_or_default(), &shape, kind).map_err(failed)
}
