//! What a loader gives.

use arrow_array::RecordBatch;

use crate::Position;

/// Some rows, and the position after them.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) rows: RecordBatch,
    pub(super) position: Position,
}

impl Batch {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are none; a loader gives no such batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, by columns.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The position after this batch, from which a [`DataLoader`](super::DataLoader) goes on.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// A column as a tensor on the CPU: `[rows]` for numbers, `[rows, n]` for lists of n. It is a copy.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) for a column that was not asked for, or of a type that tensors don't have;
    /// [`Error::Torch`](crate::Error::Torch).
    #[cfg(feature = "torch")]
    pub fn tensor(&self, column: &str) -> crate::Result<tch::Tensor> {
        super::tensor::tensor(&self.rows, column)
    }
}
