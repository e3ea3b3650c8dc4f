//! Parquet files: a block is a row group.

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::file::damaged;
use super::unfit;
use crate::{Error, Result};

/// How many rows are decoded at once, at most: what a file says of its rows is not believed beforehand.
const PIECE: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct ParquetFile {
    metadata: ArrowReaderMetadata,
    blocks: Vec<u64>,
}

impl ParquetFile {
    pub(super) fn open(path: &Path, file: &File) -> Result<Self> {
        let file = file.try_clone().map_err(Error::io("can't read", path))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|error| damaged(path)(error.into()))?;
        let groups = metadata.metadata().row_groups();
        let rows = groups.iter().map(|group| u64::try_from(group.num_rows()));
        let blocks = rows
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| unfit(path, "a row group of less than 0 rows", "a whole file"))?;
        Ok(Self { metadata, blocks })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    pub(super) fn blocks(&self) -> &[u64] {
        &self.blocks
    }

    pub(super) fn read(
        &self,
        path: &Path,
        file: &File,
        block: usize,
        columns: &[usize],
        limit: usize,
    ) -> Result<RecordBatch> {
        let file = file.try_clone().map_err(Error::io("can't read", path))?;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), columns.iter().copied());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![block])
            .with_projection(mask)
            .with_batch_size(PIECE.min(limit).max(1))
            .with_limit(limit)
            .build()
            .map_err(|error| damaged(path)(error.into()))?;
        let mut pieces = Vec::new();
        for piece in reader {
            pieces.push(piece.map_err(damaged(path))?);
        }
        let whole = match pieces.as_slice() {
            [] => {
                let schema = self.schema().project(&sorted(columns)).map_err(damaged(path))?;
                RecordBatch::new_empty(schema.into())
            }
            [one] => one.clone(),
            several => concat_batches(&several[0].schema(), several).map_err(damaged(path))?,
        };
        // The reader gives them in the file's order.
        let order = sorted(columns);
        let places: Vec<_> =
            columns.iter().map(|column| order.partition_point(|other| other < column)).collect();
        whole.project(&places).map_err(damaged(path))
    }
}

fn sorted(columns: &[usize]) -> Vec<usize> {
    let mut columns = columns.to_vec();
    columns.sort_unstable();
    columns
}
