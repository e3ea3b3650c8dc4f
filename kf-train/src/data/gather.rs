//! Rows from here and there, put together to a batch.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::interleave::interleave;

use super::chunk::{Chunk, Values};
use super::column::{Column, Layout, item};

/// A batch of these rows: each a chunk's number and a row in it.
pub(super) fn gather(
    columns: &[Column],
    schema: &SchemaRef,
    chunks: &[&Chunk],
    rows: &[(usize, usize)],
) -> Result<RecordBatch, ArrowError> {
    let arrays = columns.iter().enumerate().map(|(number, column)| match &column.layout {
        Layout::Scalar(kind) => numbers(kind, rows.len(), dense(chunks, number, rows)?),
        Layout::Vector(kind, width) => {
            let values = numbers(kind, rows.len() * width, dense(chunks, number, rows)?)?;
            let width = i32::try_from(*width).map_err(|error| ArrowError::ExternalError(error.into()))?;
            let list = FixedSizeListArray::try_new_with_length(item(kind), width, values, None, rows.len())?;
            Ok(Arc::new(list) as ArrayRef)
        }
        Layout::Other(_) => other(chunks, number, rows),
    });
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
}

/// The hot path: a row's bytes after another's.
fn dense(chunks: &[&Chunk], column: usize, rows: &[(usize, usize)]) -> Result<Buffer, ArrowError> {
    let sources = chunks.iter().map(|chunk| match &chunk.columns[column] {
        Values::Dense { bytes, width } => Ok((bytes.as_slice(), *width)),
        Values::Arrow(array) => Err(ArrowError::SchemaError(format!("{} is not dense", array.data_type()))),
    });
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let width = sources.first().map_or(0, |source| source.1);
    let mut gathered = MutableBuffer::with_capacity(rows.len() * width);
    for &(chunk, row) in rows {
        let (bytes, width) = sources[chunk];
        gathered.extend_from_slice(&bytes[row * width..(row + 1) * width]);
    }
    Ok(gathered.into())
}

fn numbers(kind: &DataType, length: usize, bytes: Buffer) -> Result<ArrayRef, ArrowError> {
    let data = ArrayData::builder(kind.clone()).len(length).add_buffer(bytes).build()?;
    Ok(make_array(data))
}

fn other(chunks: &[&Chunk], column: usize, rows: &[(usize, usize)]) -> Result<ArrayRef, ArrowError> {
    let sources = chunks.iter().map(|chunk| match &chunk.columns[column] {
        Values::Arrow(array) => Ok(array.as_ref()),
        Values::Dense { .. } => Err(ArrowError::SchemaError("dense where it should not be".to_owned())),
    });
    let sources: Vec<&dyn Array> = sources.collect::<Result<_, _>>()?;
    interleave(&sources, rows)
}
