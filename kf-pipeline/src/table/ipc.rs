//! Tables in files: Apache Arrow's IPC file format, uncompressed, so that buffers are used where they were read to.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::root_as_footer;
use arrow_ipc::writer::FileWriter;
use arrow_schema::ArrowError;
use kf_core::{Digest, Hasher};

use super::Table;

/// How a file ends: the footer's length and the format's mark.
const TRAILER: usize = 10;
/// What goes to the file at once.
const PIECE: usize = 1 << 20;

/// Hashes what goes through.
struct Hashing {
    file: File,
    hasher: Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a file; gives its digest and what it is then.
pub(super) fn write(path: &Path, table: &Table) -> Result<(Digest, std::fs::Metadata), ArrowError> {
    let hashing = Hashing { file: File::create(path)?, hasher: Hasher::new() };
    let buffered = io::BufWriter::with_capacity(PIECE, hashing);
    let mut writer = FileWriter::try_new(buffered, &table.schema)?;
    for batch in table.batches.iter() {
        writer.write(batch)?;
    }
    let buffered = writer.into_inner()?;
    let hashing = buffered.into_inner().map_err(|error| ArrowError::from(error.into_error()))?;
    Ok((hashing.hasher.finish(), hashing.file.metadata()?))
}

/// Reads a file in one piece, in which the table's buffers then lie.
pub(super) fn read(path: &Path) -> Result<Table, ArrowError> {
    let buffer = Buffer::from(std::fs::read(path)?);
    let cut = || ArrowError::IpcError("the file is cut".to_owned());
    let end = buffer.len().checked_sub(TRAILER).ok_or_else(cut)?;
    let trailer: [u8; TRAILER] = buffer[end..].try_into().map_err(|_| cut())?;
    let footer_start = end.checked_sub(read_footer_length(trailer)?).ok_or_else(cut)?;
    let footer = root_as_footer(&buffer[footer_start..end])
        .map_err(|error| ArrowError::IpcError(format!("the footer is not understood: {error}")))?;
    let missing = || ArrowError::IpcError("the footer has no schema".to_owned());
    let schema = Arc::new(fb_to_schema(footer.schema().ok_or_else(missing)?));
    let mut decoder = FileDecoder::new(Arc::clone(&schema), footer.version());
    let slice = |offset: i64, length: usize| {
        let start = usize::try_from(offset).map_err(|_| cut())?;
        let fits = start.checked_add(length).is_some_and(|end| end <= buffer.len());
        fits.then(|| buffer.slice_with_length(start, length)).ok_or_else(cut)
    };
    let whole = |block: &arrow_ipc::Block| -> Result<Buffer, ArrowError> {
        let length = |length: i64| usize::try_from(length).map_err(|_| cut());
        let total = length(block.metaDataLength().into())?.checked_add(length(block.bodyLength())?);
        slice(block.offset(), total.ok_or_else(cut)?)
    };
    for block in footer.dictionaries().iter().flatten() {
        decoder.read_dictionary(block, &whole(block)?)?;
    }
    let mut batches = Vec::new();
    for block in footer.recordBatches().iter().flatten() {
        batches.extend(decoder.read_record_batch(block, &whole(block)?)?);
    }
    Ok(Table { schema, batches: batches.into() })
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int32Type;
    use arrow_array::{Array, DictionaryArray, Float64Array, RecordBatch, StringArray};

    use super::*;

    fn table(rows: usize, batches: usize) -> Table {
        let batch = |from: usize| {
            let numbers: Float64Array =
                (from..from + rows).map(|n| (n % 3 > 0).then_some(n as f64)).collect();
            let words: StringArray = (from..from + rows).map(|n| Some(format!("row {n}"))).collect();
            let kinds: DictionaryArray<Int32Type> = (from..from + rows).map(|n| ["a", "b"][n % 2]).collect();
            RecordBatch::try_from_iter([
                ("number", Arc::new(numbers) as Arc<dyn Array>),
                ("word", Arc::new(words)),
                ("kind", Arc::new(kinds)),
            ])
            .unwrap()
        };
        let list: Vec<_> = (0..batches).map(|index| batch(index * rows)).collect();
        Table::new(batch(0).schema(), list).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_was_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        for (rows, batches) in [(0, 0), (0, 1), (5, 1), (1000, 3)] {
            let table = table(rows, batches);
            let (digest, _) = write(&path, &table).unwrap();
            assert_eq!(digest, Digest::of(std::fs::read(&path).unwrap()));
            assert_eq!(read(&path).unwrap(), table);
        }
        let content = std::fs::read(&path).unwrap();
        for length in (0..content.len()).step_by(97) {
            std::fs::write(&path, &content[..length]).unwrap();
            assert!(read(&path).is_err(), "cut at {length}");
        }
        std::fs::write(&path, "other").unwrap();
        assert!(read(&path).is_err());
    }
}
