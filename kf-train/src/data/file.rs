//! One data file: what it was when it was opened, and its blocks.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_schema::{ArrowError, SchemaRef};

use super::ipc::IpcFile;
use super::parquet::ParquetFile;
use super::unfit;
use crate::{Error, Result};

/// A file whose end has been read. It is not held open: a data set may have more files than a process may open.
#[derive(Debug)]
pub(super) struct DataFile {
    path: PathBuf,
    identity: Identity,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Parquet(ParquetFile),
    Ipc(IpcFile),
}

/// What tells whether a file is still the one that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(path: &Path, file: &File) -> Result<Self> {
        let metadata = file.metadata().map_err(Error::io("can't read", path))?;
        if !metadata.is_file() {
            return Err(unfit(path, "no regular file", "a Parquet or Arrow IPC file"));
        }
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), bytes: metadata.size(), modified })
    }

    fn check(self, path: &Path, file: &File) -> Result<()> {
        let now = Self::of(path, file)?;
        if now == self {
            return Ok(());
        }
        let found = match now.bytes {
            bytes if bytes != self.bytes => format!("{bytes} bytes"),
            _ => "another file, or one written to since".to_owned(),
        };
        Err(unfit(path, found, format!("the file of {} bytes that was opened, unchanged", self.bytes)))
    }
}

impl DataFile {
    /// Reads what a file says of itself.
    pub(super) fn open(path: &Path) -> Result<Self> {
        // Looked at first, since opening a pipe would wait for its other end.
        let metadata = std::fs::metadata(path).map_err(Error::io("can't open", path))?;
        if !metadata.is_file() {
            return Err(unfit(path, "no regular file", "a Parquet or Arrow IPC file"));
        }
        let mut file = File::open(path).map_err(Error::io("can't open", path))?;
        let identity = Identity::of(path, &file)?;
        let mut mark = Vec::new();
        Read::by_ref(&mut file).take(8).read_to_end(&mut mark).map_err(Error::io("can't read", path))?;
        let format = if mark.starts_with(b"PAR1") {
            Format::Parquet(guarded(path, || ParquetFile::open(path, &file))?)
        } else if mark.starts_with(b"ARROW1") {
            Format::Ipc(guarded(path, || IpcFile::open(path, &file, identity.bytes))?)
        } else {
            let found = match (mark.is_empty(), mark.starts_with(&[0xff; 4])) {
                (true, _) => "an empty file".to_owned(),
                (_, true) => "a stream in Arrow's IPC format".to_owned(),
                _ => format!("a file that begins with {:?}", String::from_utf8_lossy(&mark)),
            };
            return Err(unfit(path, found, "a Parquet file or one in Arrow's IPC file format"));
        };
        identity.check(path, &file)?;
        Ok(Self { path: path.to_owned(), identity, format })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        match &self.format {
            Format::Parquet(file) => file.schema(),
            Format::Ipc(file) => file.schema(),
        }
    }

    /// How many rows each block has: a row group of Parquet, a record batch of Arrow IPC.
    pub(super) fn blocks(&self) -> &[u64] {
        match &self.format {
            Format::Parquet(file) => file.blocks(),
            Format::Ipc(file) => file.blocks(),
        }
    }

    /// Reads the first `limit` rows of a block, and of them the columns at these places of the schema, in this order.
    pub(super) fn read(&self, block: usize, columns: &[usize], limit: usize) -> Result<RecordBatch> {
        let (path, kept) = (&self.path, self.keep()?);
        let read = guarded(path, || match &self.format {
            Format::Parquet(format) => format.read(path, &kept.file, block, columns, limit),
            Format::Ipc(format) => format.read(path, &kept.file, block, columns, limit),
        });
        // What a file gave that was written to meanwhile is neither data nor what is wrong with it.
        kept.check()?;
        self.counted(block, limit, read?)
    }

    /// Reads a block; gives also the bytes that its arrays lie in, and where in the file these begin.
    pub(super) fn read_whole(&self, block: usize, columns: &[usize]) -> Result<(RecordBatch, Buffer, u64)> {
        let (path, kept) = (&self.path, self.keep()?);
        let Format::Ipc(format) = &self.format else {
            return Err(unfit(path, "a Parquet file", "Arrow's IPC file format for rows that stay in place"));
        };
        let read = guarded(path, || format.read_whole(path, &kept.file, block, columns));
        kept.check()?;
        let (batch, bytes, start) = read?;
        Ok((self.counted(block, usize::MAX, batch)?, bytes, start))
    }

    /// Opens the file again.
    pub(super) fn keep(&self) -> Result<Kept> {
        let path = self.path.clone();
        let file = File::open(&path).map_err(Error::io("can't open", &path))?;
        let kept = Kept { path, file, identity: self.identity };
        kept.check()?;
        Ok(kept)
    }

    fn counted(&self, block: usize, limit: usize, batch: RecordBatch) -> Result<RecordBatch> {
        let path = &self.path;
        let rows = self.blocks()[block].min(limit as u64);
        if batch.num_rows() as u64 != rows {
            let found = format!("{} rows in block {block}", batch.num_rows());
            return Err(unfit(path, found, format!("{rows}, as the file's end says")));
        }
        Ok(batch)
    }
}

/// A file that is held open.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    file: File,
    identity: Identity,
}

impl Kept {
    /// Whether it is as it was.
    pub(super) fn check(&self) -> Result<()> {
        self.identity.check(&self.path, &self.file)
    }

    pub(super) fn read_at(&self, start: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, start).or_else(|error| {
            self.check()?;
            Err(Error::io("can't read", &self.path)(error))
        })
    }
}

/// Damaged files make the format's crates panic here and there.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(unfit(path, format!("damage ({said})"), "a whole file"))
    })
}

const CODECS: &str =
    "no compression, Snappy (Parquet) or LZ4; Zstandard needs the feature `zstd` of kf-train";

/// What a format's crate says of a file.
pub(super) fn damaged(path: &Path) -> impl Fn(ArrowError) -> Error {
    let path = path.to_owned();
    move |error| match error {
        ArrowError::IoError(_, source) => Error::Io { what: "can't read", path: path.clone(), source },
        error => match error.to_string() {
            // So say the crates of the formats where a codec is not compiled in.
            said if said.to_lowercase().contains("feature") => unfit(&path, said, CODECS),
            said => unfit(&path, said, "a whole file"),
        },
    }
}
