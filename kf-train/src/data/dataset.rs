//! Files that are one set of samples.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};

use super::chunk::Chunk;
use super::column::{self, Column};
use super::file::{DataFile, Kept};
use super::find::find;
use super::ordered::{Ordered, Work};
use super::unfit;
use crate::{Error, Result};

/// Parquet and Arrow IPC files that are one set of samples, and the columns that are asked of them.
///
/// Files are told apart by how they begin, and may be of both kinds. All must have each column, of one type:
/// - numbers, one a row: a tensor of `[rows]`;
/// - lists of numbers, all of one length n, fixed by the type or not: `[rows, n]`;
/// - anything else, such as text: in the batch as Arrow has it, but no tensor.
///
/// There are no nulls: the first one met is an error with its file, column and row. NaN is a number.
///
/// A file is what it was when it was opened: one that is gone, shorter, another or written to by the time it is read is an
/// error. Clones share everything.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub(super) files: Arc<Files>,
    pub(super) memory: Option<Arc<[Chunk]>>,
}

#[derive(Debug)]
pub(super) struct Files {
    files: Vec<DataFile>,
    /// Each column's place in each file's schema.
    places: Vec<Vec<usize>>,
    pub(super) columns: Vec<Column>,
    pub(super) schema: SchemaRef,
    blocks: Vec<BlockOf>,
    sizes: Vec<u64>,
    /// At which row each block begins.
    starts: Vec<u64>,
    rows: usize,
}

/// Where a block is.
#[derive(Debug)]
struct BlockOf {
    file: usize,
    block: usize,
    /// Its first row within its file.
    first: u64,
}

impl Dataset {
    /// Opens files and looks at what they say of themselves; their rows stay where they are. A path is a file, a folder,
    /// of which it takes all `.parquet`, `.arrow`, `.feather`, `.ipc` files in order of name, or a pattern: `train/*.parquet`.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that is empty, cut or of another format, for columns that are not there or not the
    /// same everywhere, for paths that name nothing, or a file twice; [`Error::Io`].
    pub fn open(
        paths: impl IntoIterator<Item = impl AsRef<Path>>,
        columns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self> {
        let paths: Vec<PathBuf> = find(paths)?;
        let files = paths.iter().map(|path| DataFile::open(path)).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = columns.into_iter().map(Into::into).collect();
        let (columns, places) = column::choose(&files, &names)?;
        let schema = Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>());
        let (mut blocks, mut sizes, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let mut rows = 0_u64;
        for (number, file) in files.iter().enumerate() {
            let mut first = 0;
            for (block, &size) in file.blocks().iter().enumerate() {
                blocks.push(BlockOf { file: number, block, first });
                sizes.push(size);
                starts.push(rows);
                first += size;
                rows = rows.checked_add(size).filter(|rows| *rows <= i64::MAX as u64).ok_or_else(|| {
                    unfit(file.path(), format!("{size} rows in a block"), "less than 2⁶³ in all")
                })?;
            }
        }
        let rows = rows as usize;
        let schema = Arc::new(schema);
        let files = Files { files, places, columns, schema, blocks, sizes, starts, rows };
        Ok(Self { files: Arc::new(files), memory: None })
    }

    /// Reads all rows of its columns into memory, so that they can be shuffled as a whole. What Arrow IPC holds stays as
    /// it was read; what Parquet holds is decoded once.
    ///
    /// # Errors
    /// Those of a [`DataLoader`](super::DataLoader)'s batches.
    pub fn in_memory(mut self) -> Result<Self> {
        if self.memory.is_none() {
            let threads = threads();
            let chunks = self.read((0..self.files.blocks.len()).collect(), threads)?;
            self.memory = Some(self.files.all(chunks)?);
        }
        Ok(self)
    }

    /// Leaves rows in their files, uncompressed Arrow IPC that is held open, from which any row can be read at any time:
    /// what is in the system's cache comes a third to half as fast as from memory, and little memory is needed. All is read
    /// once now, to see that it fits. Columns are numbers, which are kept in memory, and lists of numbers, which are not.
    ///
    /// Not a memory map: that would end the process where a file is cut, which is an error here.
    ///
    /// # Errors
    /// [`Error::Data`] for Parquet, compression or text; and those of a [`DataLoader`](super::DataLoader)'s batches.
    pub fn in_place(mut self) -> Result<Self> {
        if self.memory.is_none() {
            let kept = self.files.files.iter().map(|file| file.keep().map(Arc::new));
            let kept: Arc<[_]> = kept.collect::<Result<_>>()?;
            let works = (0..threads()).map(|_| {
                let (files, kept) = (Arc::clone(&self.files), Arc::clone(&kept));
                Box::new(move |block: u64| files.left(block as usize, &kept)) as Work<Chunk>
            });
            let count = self.files.blocks.len() as u64;
            self.memory =
                Some(self.files.all(self.files.start("kf-data-read", count, 1, works.collect())?)?);
        }
        Ok(self)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.files.rows
    }

    /// How many rows each block has, which is what files are read by: a row group of Parquet, a record batch of Arrow
    /// IPC.
    pub fn blocks(&self) -> &[u64] {
        &self.files.sizes
    }

    /// The schema of a batch: the columns in the order asked for, lists as lists of a fixed size, nothing nullable.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.files.schema)
    }

    /// Decodes blocks ahead.
    pub(super) fn read(&self, blocks: Vec<usize>, threads: usize) -> Result<Ordered<Chunk>> {
        let blocks: Arc<[usize]> = blocks.into();
        let works = (0..threads.max(1)).map(|_| {
            let (files, blocks) = (Arc::clone(&self.files), Arc::clone(&blocks));
            Box::new(move |item: u64| files.chunk(blocks[item as usize])) as Work<Chunk>
        });
        self.files.start("kf-data-read", blocks.len() as u64, 1, works.collect())
    }
}

impl Files {
    fn chunk(&self, block: usize) -> Result<Chunk> {
        let place = &self.blocks[block];
        let file = &self.files[place.file];
        let batch = file.read(place.block, &self.places[place.file], usize::MAX)?;
        Chunk::new(file.path(), place.first, &batch, &self.columns)
    }

    fn left(&self, block: usize, kept: &[Arc<Kept>]) -> Result<Chunk> {
        let place = &self.blocks[block];
        let file = &self.files[place.file];
        let (batch, body, start) = file.read_whole(place.block, &self.places[place.file])?;
        let chunk = Chunk::new(file.path(), place.first, &batch, &self.columns)?;
        chunk.leave(&kept[place.file], file.path(), &body, start)
    }

    fn all(&self, mut chunks: Ordered<Chunk>) -> Result<Arc<[Chunk]>> {
        let mut all = Vec::with_capacity(self.blocks.len());
        while let Some(chunk) = chunks.next(|| self.ended()) {
            all.push(chunk?);
        }
        Ok(all.into())
    }

    /// The block that a row is in, and where in it.
    pub(super) fn locate(&self, row: u64) -> (usize, usize) {
        let block = self.starts.partition_point(|start| *start <= row) - 1;
        (block, (row - self.starts[block]) as usize)
    }

    /// The first file's path, for errors that are not of one file.
    pub(super) fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), DataFile::path)
    }

    /// Starts threads.
    pub(super) fn start<T: Send + 'static>(
        &self,
        name: &str,
        count: u64,
        queue: usize,
        works: Vec<Work<T>>,
    ) -> Result<Ordered<T>> {
        Ordered::start(name, count, queue, works)
            .map_err(Error::io("can't start a thread to read", self.path()))
    }

    /// The error for a thread that ended without a word, having panicked.
    pub(super) fn ended(&self) -> Error {
        unfit(
            self.path(),
            "a thread that panicked while it made a batch",
            "a batch; this is a fault of kf-train",
        )
    }
}

/// As many as can run at once, up to 4: more than that the memory's bandwidth rarely feeds.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}
