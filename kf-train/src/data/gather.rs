//! Rows from here and there, put together to a batch.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType};
use arrow_select::interleave::interleave;

use super::chunk::{Chunk, Values};
use super::column::{Layout, item};
use super::dataset::Files;
use super::file::Kept;
use super::unfit;
use crate::Result;

/// A row of a chunk.
pub(super) type Row<'a> = (&'a Chunk, usize);

/// A batch of these rows.
pub(super) fn gather(files: &Files, rows: &[Row<'_>]) -> Result<RecordBatch> {
    let refused = |error: ArrowError| unfit(files.path(), error.to_string(), "columns that fit together");
    let arrays = files.columns.iter().enumerate().map(|(number, column)| match &column.layout {
        Layout::Scalar(kind) => numbers(kind, rows.len(), dense(number, rows)?).map_err(refused),
        Layout::Vector(kind, width) => {
            let bytes = dense(number, rows)?;
            vectors(kind, *width, rows.len(), bytes).map_err(refused)
        }
        Layout::Other(_) => other(number, rows).map_err(refused),
    });
    let arrays = arrays.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(&files.schema), arrays, &options).map_err(refused)
}

/// The hot path: a row's bytes after another's.
fn dense(column: usize, rows: &[Row<'_>]) -> Result<Buffer> {
    let width = rows.first().map_or(0, |(chunk, _)| chunk.columns[column].width());
    let mut files: Vec<&Arc<Kept>> = Vec::new();
    let mut gathered = MutableBuffer::with_capacity(rows.len() * width);
    for &(chunk, row) in rows {
        match &chunk.columns[column] {
            Values::Dense { bytes, width } => gathered.extend_from_slice(&bytes[row * width..][..*width]),
            Values::Kept { file, start, width } => {
                let place = gathered.len();
                gathered.resize(place + width, 0);
                file.read_at(start + (row * width) as u64, &mut gathered.as_slice_mut()[place..])?;
                files.push(file);
            }
            // Its layout is gathered by `other`.
            Values::Arrow(_) => {}
        }
    }
    // Not before: a file that was written to while it was read is no data.
    files.sort_unstable_by_key(|file| Arc::as_ptr(file).addr());
    files.dedup_by(|one, other| Arc::ptr_eq(one, other));
    files.into_iter().try_for_each(|file| file.check())?;
    Ok(gathered.into())
}

fn vectors(kind: &DataType, width: usize, length: usize, bytes: Buffer) -> Result<ArrayRef, ArrowError> {
    let values = numbers(kind, length * width, bytes)?;
    let width = i32::try_from(width).map_err(|error| ArrowError::ExternalError(error.into()))?;
    let list = FixedSizeListArray::try_new_with_length(item(kind), width, values, None, length)?;
    Ok(Arc::new(list))
}

fn numbers(kind: &DataType, length: usize, bytes: Buffer) -> Result<ArrayRef, ArrowError> {
    let data = ArrayData::builder(kind.clone()).len(length).add_buffer(bytes).build()?;
    Ok(make_array(data))
}

/// Whatever Arrow's own kernel puts together.
fn other(column: usize, rows: &[Row<'_>]) -> Result<ArrayRef, ArrowError> {
    let mut sources: Vec<&dyn Array> = Vec::new();
    let mut numbers = HashMap::new();
    let mut indices = Vec::with_capacity(rows.len());
    for &(chunk, row) in rows {
        let Values::Arrow(array) = &chunk.columns[column] else {
            return Err(ArrowError::SchemaError("numbers where there were none".to_owned()));
        };
        let number = *numbers.entry(std::ptr::from_ref(array).addr()).or_insert_with(|| {
            sources.push(array);
            sources.len() - 1
        });
        indices.push((number, row));
    }
    interleave(&sources, &indices)
}
