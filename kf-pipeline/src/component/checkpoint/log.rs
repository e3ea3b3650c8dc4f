//! The files of one task's checkpoints.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Place, record};

/// How much of no use may lie on the disk, beside as much as is of use, before the files are written anew.
pub(super) const SLACK: u64 = 1 << 20;
/// No file of ours is larger.
pub(super) const LARGEST_FILE: u64 = 256 << 20;
const SUFFIX: &str = "log";

/// A file's place in the order: lease, attempt, and a number for each file that an attempt makes.
pub(super) type Order = (u64, u32, u32);

#[derive(Debug)]
pub(super) struct Log {
    place: Place,
    values: HashMap<String, Value>,
    /// The bytes of the records that are of use, and of all files.
    live: u64,
    on_disk: u64,
    /// The files read, and then those written to; the last of these is open.
    files: Vec<PathBuf>,
    file: Option<File>,
    /// How much may be of no use before the files are written anew.
    slack: u64,
    /// Whether the open file may end in half a record.
    torn: bool,
}

#[derive(Debug)]
struct Value {
    text: Arc<str>,
    /// The record's bytes.
    size: u64,
}

#[derive(Debug)]
pub(super) enum PutError {
    /// So many bytes would be saved then.
    TooMuch(u64),
    Io(io::Error),
}

impl From<io::Error> for PutError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Log {
    /// Reads what the attempts up to this one have saved.
    pub(super) fn open(place: &Place) -> io::Result<Self> {
        let mut log = Self {
            place: place.clone(),
            values: HashMap::new(),
            live: 0,
            on_disk: 0,
            files: Vec::new(),
            file: None,
            slack: SLACK,
            torn: false,
        };
        for (_, path) in files(&place.folder, (place.epoch, place.attempt))? {
            log.read(path)?;
        }
        Ok(log)
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<str>> {
        self.values.get(key).map(|value| Arc::clone(&value.text))
    }

    /// The bytes of the records that are of use.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// The record of a value, unless more than `most` bytes would be saved with it.
    pub(super) fn record(&self, key: &str, text: &str, most: u64) -> Result<String, PutError> {
        let line = record::encode(key, text).map_err(io::Error::from)?;
        let live = self.live - self.values.get(key).map_or(0, |value| value.size) + line.len() as u64;
        if live > most { Err(PutError::TooMuch(live)) } else { Ok(line) }
    }

    /// Saves a value by its record.
    pub(super) fn put(&mut self, key: &str, text: &str, line: &str) -> io::Result<()> {
        let size = line.len() as u64;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.create()?,
        };
        let written = append(&mut file, line, self.torn);
        self.file = Some(file);
        self.torn = written.is_err();
        written?;
        self.on_disk += size;
        self.insert(key.to_owned(), text.into(), size);
        if self.on_disk > 2 * self.live + self.slack
            && let Err(error) = self.rewrite()
        {
            self.slack *= 4;
            tracing::warn!(folder = %self.place.folder.display(), %error, "a checkpoint's files were not written anew");
        }
        Ok(())
    }

    fn insert(&mut self, key: String, text: Arc<str>, size: u64) {
        let before = self.values.insert(key, Value { text, size });
        self.live = self.live + size - before.map_or(0, |value| value.size);
    }

    /// Takes in the whole records of a file. What else is in it, such as a record whose writer was killed, is left out:
    /// those items are done again.
    fn read(&mut self, path: PathBuf) -> io::Result<()> {
        // By the name's own kind: what is no file may block whoever opens it.
        let found = fs::symlink_metadata(&path)?;
        if !found.is_file() || found.len() > LARGEST_FILE {
            tracing::warn!(path = %path.display(), bytes = found.len(), "is no checkpoint, and left out");
            return Ok(());
        }
        let mut reader = BufReader::new(File::open(&path)?);
        let (mut line, mut damaged) = (Vec::new(), 0_usize);
        while reader.read_until(b'\n', &mut line)? > 0 {
            let size = line.len() as u64;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            match record::decode(text) {
                Some((key, text)) => self.insert(key, text, size),
                None => damaged += usize::from(!text.is_empty()),
            }
            line.clear();
        }
        if damaged > 0 {
            tracing::warn!(path = %path.display(), damaged, "records of a checkpoint are not whole, and left out");
        }
        self.on_disk += found.len();
        self.files.push(path);
        Ok(())
    }

    /// Makes a file of this attempt's own, which nobody else writes to.
    fn create(&mut self) -> io::Result<File> {
        fs::create_dir_all(&self.place.folder)?;
        let own = (self.place.epoch, self.place.attempt);
        let mut number = files(&self.place.folder, own)?.last().map_or(0, |((epoch, attempt, number), _)| {
            if (*epoch, *attempt) == own { number.saturating_add(1) } else { 0 }
        });
        let (file, path) = loop {
            let path = self.place.folder.join(file_name((own.0, own.1, number)));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => {
                    number += 1
                }
                file => break (file?, path),
            }
        };
        for folder in self.place.folder.ancestors().take(self.place.depth) {
            sync(folder)?;
        }
        self.files.push(path);
        Ok(file)
    }

    /// Writes what is of use to a new file, and removes all others.
    fn rewrite(&mut self) -> io::Result<()> {
        let old = self.files.len();
        let mut file = self.create()?;
        let written = self.write_all(&mut file);
        let cleared = if written.is_err() { file.set_len(0) } else { Ok(()) };
        // In any case: what is newest lies in the newest file.
        (self.file, self.torn) = (Some(file), cleared.is_err());
        self.on_disk = written?;
        for path in self.files.drain(..old) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// All records that are of use.
    pub(super) fn text(&self) -> io::Result<String> {
        self.lines().collect()
    }

    fn lines(&self) -> impl Iterator<Item = io::Result<String>> {
        self.values.iter().map(|(key, value)| Ok(record::encode(key, &value.text)?))
    }

    fn write_all(&self, file: &mut File) -> io::Result<u64> {
        let mut size = 0;
        for line in self.lines() {
            let line = line?;
            size += line.len() as u64;
            file.write_all(line.as_bytes())?;
        }
        file.sync_data()?;
        Ok(size)
    }
}

fn append(file: &mut File, line: &str, torn: bool) -> io::Result<()> {
    if torn {
        file.write_all(b"\n")?;
    }
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

/// Makes a folder's entries durable, where its file system has a way to.
fn sync(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        done => done,
    }
}

/// The files of leases and attempts up to these, in order.
fn files(folder: &Path, up_to: (u64, u32)) -> io::Result<Vec<(Order, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(order) = order(&entry.file_name().to_string_lossy())
            && (order.0, order.1) <= up_to
        {
            files.push((order, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn file_name((epoch, attempt, number): Order) -> String {
    format!("{epoch:010}-{attempt:05}-{number:05}.{SUFFIX}")
}

pub(super) fn order(name: &str) -> Option<Order> {
    let mut parts = name.strip_suffix(SUFFIX)?.strip_suffix('.')?.split('-');
    let (epoch, attempt, number) = (parts.next()?, parts.next()?, parts.next()?);
    let order = (epoch.parse().ok()?, attempt.parse().ok()?, number.parse().ok()?);
    parts.next().is_none().then_some(order)
}
