//! Batches from files.

mod batch;
mod chunk;
mod column;
mod dataset;
mod file;
mod find;
mod gather;
mod ipc;
mod loader;
mod ordered;
mod parquet;
mod stream;
#[cfg(feature = "torch")]
mod tensor;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::Error;

pub use batch::Batch;
pub use dataset::Dataset;
pub use loader::{Batches, DataLoader};

fn unfit(path: &Path, found: impl Into<String>, expected: impl Into<String>) -> Error {
    let (path, found, expected) = (path.to_owned(), found.into(), expected.into());
    Error::Data { path, column: None, row: None, found, expected }
}

fn unfit_column(
    path: &Path,
    column: &str,
    row: Option<u64>,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    let (path, found, expected) = (path.to_owned(), found.into(), expected.into());
    Error::Data { path, column: Some(column.to_owned()), row, found, expected }
}
