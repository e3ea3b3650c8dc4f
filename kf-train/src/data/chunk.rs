//! A block's columns, read and checked.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::{ArrowNativeType, Buffer};
use arrow_schema::DataType;

use super::column::{Column, Layout, first_null};
use super::file::Kept;
use super::{unfit, unfit_column};
use crate::{Error, Result};

/// Up to how many bytes a row takes that is not worth a read of its own.
const SMALL: usize = 8;

/// A block's rows.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) columns: Vec<Values>,
}

/// A column's values in a block.
#[derive(Debug, Clone)]
pub(super) enum Values {
    /// Numbers, so many bytes a row.
    Dense { bytes: Buffer, width: usize },
    /// The same, from a place in a file on.
    Kept { file: Arc<Kept>, start: u64, width: usize },
    /// Anything else.
    Arrow(ArrayRef),
}

impl Values {
    /// How many bytes a row takes; 0 for what is not numbers.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Dense { width, .. } | Self::Kept { width, .. } => *width,
            Self::Arrow(_) => 0,
        }
    }
}

impl Chunk {
    /// Takes what was read of a file from its row `first` on, without a copy.
    pub(super) fn new(path: &Path, first: u64, batch: &RecordBatch, columns: &[Column]) -> Result<Self> {
        let taken = batch.columns().iter().zip(columns).map(|(array, column)| {
            let at = At { path, column: &column.name, first };
            if let Some(row) = first_null(array) {
                return Err(at.null(row, "no value"));
            }
            match &column.layout {
                Layout::Scalar(number) => at.dense(array, number, 1),
                Layout::Vector(number, width) => at.vector(array, number, *width),
                Layout::Other(_) => Ok(Values::Arrow(array.clone())),
            }
        });
        Ok(Self { columns: taken.collect::<Result<_>>()? })
    }

    /// Leaves vectors in the file that they were read of; single numbers are so small that they stay in memory, as copies.
    /// `body` is what was read of the file from `start` on.
    pub(super) fn leave(mut self, file: &Arc<Kept>, path: &Path, body: &Buffer, start: u64) -> Result<Self> {
        let within = body.as_slice().as_ptr_range();
        let (begin, end) = (within.start.addr(), within.end.addr());
        for values in &mut self.columns {
            match values {
                Values::Dense { bytes, width } if *width > SMALL => {
                    let at = bytes.as_ptr().addr();
                    if at < begin || at + bytes.len() > end {
                        let expected =
                            "columns without compression, aligned to 8 bytes, for rows that stay in place";
                        return Err(unfit(path, "a column that had to be copied", expected));
                    }
                    let start = start + (at - begin) as u64;
                    *values = Values::Kept { file: Arc::clone(file), start, width: *width };
                }
                Values::Dense { bytes, .. } => *bytes = Buffer::from_slice_ref(bytes.as_slice()),
                Values::Kept { .. } => {}
                Values::Arrow(array) => {
                    let expected = "numbers and lists of numbers, for rows that stay in place";
                    return Err(unfit(path, format!("a column of {}", array.data_type()), expected));
                }
            }
        }
        Ok(self)
    }
}

struct At<'a> {
    path: &'a Path,
    column: &'a str,
    first: u64,
}

impl At<'_> {
    fn null(&self, row: usize, found: &str) -> Error {
        let row = Some(self.first + row as u64);
        unfit_column(self.path, self.column, row, found, "a value in every row, as tensors have no nulls")
    }

    fn vector(&self, array: &ArrayRef, number: &DataType, width: usize) -> Result<Values> {
        let items = match array.data_type() {
            DataType::FixedSizeList(..) => {
                let list = array.as_fixed_size_list();
                let found = list.value_length().as_usize();
                if found != width {
                    return Err(self.wrong_length(0, found, width));
                }
                list.values().slice(0, array.len() * width)
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let start = self.regular(list.value_offsets(), width)?;
                list.values().slice(start, array.len() * width)
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                let start = self.regular(list.value_offsets(), width)?;
                list.values().slice(start, array.len() * width)
            }
            other => {
                return Err(unfit_column(
                    self.path,
                    self.column,
                    None,
                    other.to_string(),
                    "lists of numbers",
                ));
            }
        };
        if let Some(item) = first_null(&items) {
            return Err(self.null(item / width.max(1), "a list with a null in it"));
        }
        self.dense(&items, number, width)
    }

    /// Where the lists' items begin, given that each list is as long as it should be.
    fn regular<O: ArrowNativeType>(&self, offsets: &[O], width: usize) -> Result<usize> {
        for (row, pair) in offsets.windows(2).enumerate() {
            let found = pair[1].as_usize() - pair[0].as_usize();
            if found != width {
                return Err(self.wrong_length(row, found, width));
            }
        }
        Ok(offsets.first().map_or(0, |first| first.as_usize()))
    }

    fn wrong_length(&self, row: usize, found: usize, width: usize) -> Error {
        let row = Some(self.first + row as u64);
        let expected = format!("one of {width}, as in the first row");
        unfit_column(self.path, self.column, row, format!("a list of {found}"), expected)
    }

    fn dense(&self, array: &ArrayRef, number: &DataType, items: usize) -> Result<Values> {
        let size = number.primitive_width().unwrap_or(0);
        let data = array.to_data();
        let (start, length) = (data.offset() * size, data.len() * size);
        match data.buffers().first() {
            Some(buffer) if data.data_type() == number && start + length <= buffer.len() => {
                Ok(Values::Dense { bytes: buffer.slice_with_length(start, length), width: size * items })
            }
            _ => Err(unfit(self.path, data.data_type().to_string(), format!("a column of {number}"))),
        }
    }
}

/// How long a row's list is.
pub(super) fn list_width(array: &ArrayRef, row: usize) -> usize {
    match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value_length(row).as_usize(),
        DataType::LargeList(_) => array.as_list::<i64>().value_length(row).as_usize(),
        DataType::FixedSizeList(_, width) => width.as_usize(),
        _ => 0,
    }
}
