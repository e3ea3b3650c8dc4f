//! Arrow tables as artifacts: kept as Arrow IPC files, handed on in memory where the next task runs in the same process.

mod ipc;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array as _, RecordBatch};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, SchemaRef};
use kf_core::artifact::ArtifactKind;

use crate::component::memory::{InMemory, Written};
use crate::component::{Input, Output, TaskError};

/// An Arrow table: batches of one schema. Clones share their buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    schema: SchemaRef,
    batches: Arc<[RecordBatch]>,
}

impl Table {
    /// A table of these batches, of which there may be none.
    ///
    /// # Errors
    /// Names the first batch that has another schema.
    pub fn new(schema: SchemaRef, batches: impl Into<Vec<RecordBatch>>) -> Result<Self, TaskError> {
        let batches: Vec<RecordBatch> = batches.into();
        if let Some((index, batch)) = batches.iter().enumerate().find(|(_, batch)| batch.schema() != schema) {
            let found = batch.schema();
            return Err(TaskError::permanent(format!(
                "batch {index} has the schema {found}, expected {schema}"
            )));
        }
        Ok(Self { schema, batches: batches.into() })
    }

    /// The schema of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The batches.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// How many rows all batches have.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// How many bytes its buffers take in memory.
    pub fn bytes(&self) -> usize {
        let mut allocations = HashMap::new();
        for column in self.batches.iter().flat_map(RecordBatch::columns) {
            add_allocations(&column.to_data(), &mut allocations);
        }
        allocations.into_values().sum()
    }
}

/// The allocations that an array's buffers lie in, each with its size: many buffers may share one.
fn add_allocations(data: &ArrayData, allocations: &mut HashMap<usize, usize>) {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    for buffer in data.buffers().iter().chain(nulls) {
        allocations.insert(buffer.data_ptr().as_ptr() as usize, buffer.capacity());
    }
    for child in data.child_data() {
        add_allocations(child, allocations);
    }
}

impl From<RecordBatch> for Table {
    fn from(batch: RecordBatch) -> Self {
        Self { schema: batch.schema(), batches: Arc::from([batch]) }
    }
}

impl From<Table> for InMemory {
    fn from(table: Table) -> Self {
        Self { bytes: table.bytes(), value: Arc::new(table) }
    }
}

impl<K: ArtifactKind> Output<K> {
    /// Writes a table as the whole content, an Arrow IPC file. A task that takes it in this process gets the same
    /// buffers, as long as [there is room](crate::EngineBuilder::in_memory) for them.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn write_table(&self, table: impl Into<Table>) -> Result<(), TaskError> {
        let table = table.into();
        let (digest, meta) = ipc::write(self.path(), &table)
            .map_err(|error| TaskError::new(format!("write table `{}`: {error}", self.path().display())))?;
        self.written(Written::new(digest, &meta, table.into()));
        Ok(())
    }
}

impl<K: ArtifactKind> Input<K> {
    /// The table that the content is: the producer's own buffers where they are still in memory, otherwise read from
    /// its Arrow IPC file in one piece.
    ///
    /// # Errors
    /// Where the content can't be read or is no Arrow IPC file.
    pub fn table(&self) -> Result<Table, TaskError> {
        if let Some(table) = self.in_memory().and_then(|value| value.downcast::<Table>().ok()) {
            return Ok(table.as_ref().clone());
        }
        let table = read(self.path()?)?;
        self.keep_in_memory(table.clone().into());
        Ok(table)
    }
}

fn read(path: &Path) -> Result<Table, TaskError> {
    let refuse = |error: &dyn std::fmt::Display| format!("read table `{}`: {error}", path.display());
    let no_table = |problem: &dyn std::fmt::Display| {
        TaskError::permanent(format!("{}; expected an Arrow IPC file", refuse(problem)))
    };
    // Of a damaged file, Arrow's reader panics at some places.
    match std::panic::catch_unwind(|| ipc::read(path)) {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(ArrowError::IoError(_, error))) => Err(TaskError::new(refuse(&error))),
        Ok(Err(error)) => Err(no_table(&error)),
        Err(_) => Err(no_table(&"the file is damaged")),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, Int64Array};

    use super::*;

    #[test]
    fn memory_that_columns_share_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let column = || Arc::new(Int64Array::from_iter_values(0..10_000)) as Arc<dyn Array>;
        let columns = ["a", "b", "c"].map(|name| (name, column()));
        let table = Table::from(RecordBatch::try_from_iter(columns).unwrap());
        assert!((240_000..300_000).contains(&table.bytes()), "{}", table.bytes());
        ipc::write(&path, &table).unwrap();
        let read = read(&path).unwrap();
        assert!((240_000..300_000).contains(&read.bytes()), "{}", read.bytes());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let column = Arc::new(Int64Array::from_iter_values(0..20)) as Arc<dyn Array>;
        let table = Table::from(RecordBatch::try_from_iter([("n", column)]).unwrap());
        ipc::write(&path, &table).unwrap();
        let content = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for at in (0..content.len()).step_by(13) {
            let mut changed = content.clone();
            changed[at] ^= 0xff;
            std::fs::write(&path, &changed).unwrap();
            // It may be a table still, with another value in it.
            refused += usize::from(read(&path).is_err());
        }
        assert!(refused > 0);
    }
}
