//! One data file: what it was when it was opened, and its blocks.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
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
        let path = &self.path;
        let file = File::open(path).map_err(Error::io("can't open", path))?;
        self.identity.check(path, &file)?;
        let read = guarded(path, || match &self.format {
            Format::Parquet(format) => format.read(path, &file, block, columns, limit),
            Format::Ipc(format) => format.read(path, &file, block, columns, limit),
        });
        // What a file gave that was written to meanwhile is neither data nor what is wrong with it.
        self.identity.check(path, &file)?;
        let batch = read?;
        let rows = self.blocks()[block].min(limit as u64);
        if batch.num_rows() as u64 != rows {
            let found = format!("{} rows in block {block}", batch.num_rows());
            return Err(unfit(path, found, format!("{rows}, as the file's end says")));
        }
        Ok(batch)
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
