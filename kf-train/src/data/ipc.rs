//! Files in Arrow's IPC file format: a block is a record batch.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_footer_length, read_record_batch};
use arrow_ipc::{Block, Message, root_as_footer, root_as_message};
use arrow_schema::SchemaRef;

use super::file::damaged;
use super::unfit;
use crate::{Error, Result};

/// How a file ends: the footer's length and the format's mark.
const TRAILER: u64 = 10;

#[derive(Debug)]
pub(super) struct IpcFile {
    schema: SchemaRef,
    dictionaries: HashMap<i64, ArrayRef>,
    places: Vec<Block>,
    blocks: Vec<u64>,
    /// Where the footer begins.
    end: u64,
}

impl IpcFile {
    pub(super) fn open(path: &Path, file: &File, bytes: u64) -> Result<Self> {
        let cut = || unfit(path, "a file that was cut", "a whole file in Arrow's IPC file format");
        let end = bytes.checked_sub(TRAILER).ok_or_else(cut)?;
        let trailer = piece(path, file, end, TRAILER)?;
        let trailer = trailer.as_slice().try_into().map_err(|_| cut())?;
        let length = read_footer_length(trailer).map_err(|_| cut())? as u64;
        let start = end.checked_sub(length).ok_or_else(cut)?;
        let footer = piece(path, file, start, length)?;
        let footer = root_as_footer(&footer)
            .map_err(|error| unfit(path, format!("a damaged footer ({error})"), "a whole file"))?;
        let schema = footer.schema().ok_or_else(|| unfit(path, "no schema", "a whole file"))?;
        if !schema.endianness().equals_to_target_endianness() {
            return Err(unfit(path, "numbers of the other byte order", "this machine's"));
        }
        let schema = Arc::new(fb_to_schema(schema));
        let mut dictionaries = HashMap::new();
        for place in footer.dictionaries().iter().flatten() {
            let header = header(path, file, place, start)?;
            let message = message(path, &header)?;
            let batch = message
                .header_as_dictionary_batch()
                .ok_or_else(|| unfit(path, "a block that is no dictionary", "a whole file"))?;
            let (_, body) = body(path, file, place)?;
            read_dictionary(&body, batch, &schema, &mut dictionaries, &message.version())
                .map_err(damaged(path))?;
        }
        let places: Vec<_> = footer.recordBatches().iter().flatten().copied().collect();
        let mut blocks = Vec::with_capacity(places.len());
        for place in &places {
            let header = header(path, file, place, start)?;
            let batch = record_batch(path, &message(path, &header)?)?;
            let rows = u64::try_from(batch.length());
            blocks.push(rows.map_err(|_| unfit(path, "a block of less than 0 rows", "a whole file"))?);
        }
        Ok(Self { schema, dictionaries, places, blocks, end: start })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
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
        let (batch, ..) = self.read_whole(path, file, block, columns)?;
        Ok(batch.slice(0, limit.min(batch.num_rows())))
    }

    /// Reads a block; gives also the bytes that its arrays lie in, and where in the file these begin.
    pub(super) fn read_whole(
        &self,
        path: &Path,
        file: &File,
        block: usize,
        columns: &[usize],
    ) -> Result<(RecordBatch, Buffer, u64)> {
        let place = &self.places[block];
        let header = header(path, file, place, self.end)?;
        let message = message(path, &header)?;
        let batch = record_batch(path, &message)?;
        let (start, body) = body(path, file, place)?;
        let schema = Arc::clone(&self.schema);
        let batch =
            read_record_batch(&body, batch, schema, &self.dictionaries, Some(columns), &message.version())
                .map_err(damaged(path))?;
        Ok((batch, body, start))
    }
}

/// A block's header, where the block lies before the file's footer.
fn header(path: &Path, file: &File, place: &Block, end: u64) -> Result<Vec<u8>> {
    let (start, header, body) = (place.offset(), i64::from(place.metaDataLength()), place.bodyLength());
    let reach = start.checked_add(header).and_then(|reach| reach.checked_add(body));
    let lies_within = start >= 0 && header >= 8 && body >= 0;
    match reach {
        Some(reach) if lies_within && reach as u64 <= end => piece(path, file, start as u64, header as u64),
        _ => Err(unfit(path, "a block beyond the file's end", "a whole file")),
    }
}

/// A message behind its length, which is behind a mark in all but old files.
fn message<'a>(path: &Path, header: &'a [u8]) -> Result<Message<'a>> {
    let start = if header.starts_with(&[0xff; 4]) { 8 } else { 4 };
    root_as_message(header.get(start..).unwrap_or_default())
        .map_err(|error| unfit(path, format!("a damaged block ({error})"), "a whole file"))
}

fn record_batch<'a>(path: &Path, message: &Message<'a>) -> Result<arrow_ipc::RecordBatch<'a>> {
    message
        .header_as_record_batch()
        .ok_or_else(|| unfit(path, "a block that is no record batch", "a whole file"))
}

/// A block's buffers, in one piece, in which the arrays then lie.
fn body(path: &Path, file: &File, place: &Block) -> Result<(u64, Buffer)> {
    let mut body = MutableBuffer::from_len_zeroed(place.bodyLength() as usize);
    let start = place.offset() as u64 + place.metaDataLength() as u64;
    file.read_exact_at(body.as_slice_mut(), start).map_err(Error::io("can't read", path))?;
    Ok((start, body.into()))
}

fn piece(path: &Path, file: &File, start: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, start).map_err(Error::io("can't read", path))?;
    Ok(bytes)
}
