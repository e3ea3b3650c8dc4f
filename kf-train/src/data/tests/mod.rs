//! The loader over real files.

mod damage;
mod order;
mod refused;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, LargeListBuilder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::FileWriter;

use super::*;

/// How a file holds its vectors.
#[derive(Debug, Clone, Copy)]
enum Lists {
    Fixed,
    Small,
    Large,
}

/// Rows numbered from `start`: the number, the vector [number, number / 2, −number], and the number as text.
fn rows(start: usize, count: usize, lists: Lists) -> RecordBatch {
    let numbers = || start..start + count;
    let vector = |number: usize| [number as f32, number as f32 / 2.0, -(number as f32)];
    let x: ArrayRef = match lists {
        Lists::Fixed => {
            let mut list = FixedSizeListBuilder::new(Float32Builder::new(), 3);
            numbers().for_each(|number| {
                list.values().append_slice(&vector(number));
                list.append(true);
            });
            Arc::new(list.finish())
        }
        Lists::Small => {
            let mut list = ListBuilder::new(Float32Builder::new());
            numbers().for_each(|number| {
                list.values().append_slice(&vector(number));
                list.append(true);
            });
            Arc::new(list.finish())
        }
        Lists::Large => {
            let mut list = LargeListBuilder::new(Float32Builder::new());
            numbers().for_each(|number| {
                list.values().append_slice(&vector(number));
                list.append(true);
            });
            Arc::new(list.finish())
        }
    };
    let y: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers().map(|number| number as i64)));
    let name: ArrayRef = Arc::new(StringArray::from_iter_values(numbers().map(|number| number.to_string())));
    RecordBatch::try_from_iter([("x", x), ("y", y), ("name", name)]).unwrap()
}

/// Writes batches to a file of the kind that its name says; each is a block, empty ones too for Arrow.
fn write(path: &Path, batches: &[RecordBatch]) {
    let file = File::create(path).unwrap();
    let schema = batches[0].schema();
    if path.extension().is_some_and(|end| end == "parquet") {
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1 << 20)).build();
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
    } else {
        let mut writer = FileWriter::try_new(file, &schema).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
    }
}

/// Three files of both kinds and all kinds of lists, of 100 rows in blocks of 0 to 30.
fn mixed(folder: &Path) -> Dataset {
    let blocks = |start: usize, sizes: &[usize], lists| {
        let mut start = start;
        let made: Vec<_> = sizes
            .iter()
            .map(|&size| {
                start += size;
                rows(start - size, size, lists)
            })
            .collect();
        made
    };
    write(&folder.join("a.parquet"), &blocks(0, &[10, 30, 1], Lists::Small));
    write(&folder.join("b.arrow"), &blocks(41, &[9, 0, 25], Lists::Fixed));
    write(&folder.join("c.parquet"), &blocks(75, &[20, 5], Lists::Large));
    Dataset::open([folder], ["y", "x", "name"]).unwrap()
}

/// A batch's row numbers, once its columns were found to fit them.
fn numbers(batch: &Batch) -> Vec<i64> {
    let y = batch.rows().column(0).as_primitive::<Int64Type>().values().to_vec();
    let x = batch.rows().column(1).as_fixed_size_list();
    let names = batch.rows().column(2).as_string::<i32>();
    for (row, &number) in y.iter().enumerate() {
        let vector = x.value(row).as_primitive::<Float32Type>().values().to_vec();
        assert_eq!(vector, [number as f32, number as f32 / 2.0, -(number as f32)]);
        assert_eq!(names.value(row), number.to_string());
    }
    y
}
