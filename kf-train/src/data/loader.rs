//! Batches in the order of a sampler, made ahead.

use std::sync::Arc;

use super::chunk::Chunk;
use super::dataset::{Dataset, Files, threads};
use super::gather::gather;
use super::ordered::{Ordered, Work};
use super::{Batch, stream, unfit};
use crate::sampler::Epoch;
use crate::{DistributedSampler, Position, Result};

/// Makes batches of a [`Dataset`] in the order of a [`DistributedSampler`], on threads of its own, ahead of who takes
/// them.
///
/// What comes does not depend on the number of threads or their speed. Data in memory
/// ([`Dataset::in_memory`]) or in place ([`Dataset::in_place`]) can come in any order. Other data in files is read block by block: in order, or shuffled
/// [within windows](DistributedSampler::shuffle_within); every rank reads every block, and holds one window and the
/// beginning of the next, two blocks for each thread, and the batches that are ready.
///
/// ```
/// # use std::sync::Arc;
/// # use arrow_array::{ArrayRef, Int64Array, RecordBatch};
/// use kf_train::{DataLoader, Dataset, DistributedSampler};
/// # let folder = tempfile::tempdir().unwrap();
/// # let column = Arc::new(Int64Array::from_iter_values(0..10)) as ArrayRef;
/// # let batch = RecordBatch::try_from_iter([("label", column)]).unwrap();
/// # let file = std::fs::File::create(folder.path().join("a.arrow")).unwrap();
/// # let mut writer = arrow_ipc::writer::FileWriter::try_new(file, &batch.schema()).unwrap();
/// # writer.write(&batch).unwrap();
/// # writer.finish().unwrap();
///
/// let data = Dataset::open([folder.path()], ["label"])?.in_memory()?;
/// let sampler = DistributedSampler::of(data.rows(), 0, 1).shuffle(42);
/// let loader = DataLoader::new(&data, sampler)?.batch_size(4);
/// for batch in loader.batches(0)? {
///     let batch = batch?;
///     assert!(batch.len() <= 4);
///     println!("{:?}", batch.rows().column_by_name("label"));
/// }
/// # Ok::<_, kf_train::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DataLoader {
    data: Dataset,
    sampler: DistributedSampler,
    batch_size: usize,
    threads: usize,
    prefetch: usize,
}

impl DataLoader {
    /// A loader of batches of 32 rows, with up to 4 threads, and 2 batches ahead for each of them.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) for a sampler that is not of as many samples as the data has rows, or is of
    /// other blocks, or that shuffles as a whole what is neither in memory nor in place.
    pub fn new(data: &Dataset, sampler: DistributedSampler) -> Result<Self> {
        let path = data.files.path();
        if sampler.total() != data.rows() {
            let found = format!("{} rows", data.rows());
            return Err(unfit(path, found, format!("{}, of which the sampler is", sampler.total())));
        }
        if sampler.is_of_other_blocks(data.blocks()) {
            let expected = "those that the sampler shuffles, from `Dataset::blocks`";
            return Err(unfit(path, "other blocks", expected));
        }
        if data.memory.is_none() && sampler.windows(0, data.blocks()).is_none() {
            let expected =
                "`Dataset::in_memory` or `in_place` for a shuffle of the whole, or `shuffle_within`";
            return Err(unfit(path, "rows in files", expected));
        }
        let threads = threads();
        Ok(Self { data: data.clone(), sampler, batch_size: 32, threads, prefetch: 2 * threads })
    }

    /// How many rows a batch has, at least 1; an epoch's last batch may have fewer.
    #[must_use]
    pub fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = rows.max(1);
        self
    }

    /// How many threads make batches or decode blocks, at least 1.
    #[must_use]
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = count.max(1);
        self
    }

    /// How many batches are made ahead, at least 1 for each thread.
    #[must_use]
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = batches.max(1);
        self
    }

    /// The beginning of an epoch.
    pub fn start(&self, epoch: u64) -> Position {
        self.sampler.start(epoch)
    }

    /// This rank's batches of an epoch.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) where a thread can't be started.
    pub fn batches(&self, epoch: u64) -> Result<Batches> {
        self.batches_from(&self.start(epoch))
    }

    /// This rank's batches in what is left of the position's epoch.
    ///
    /// # Errors
    /// [`Error::Position`](crate::Error::Position) for one of other data or another order;
    /// [`Error::Io`](crate::Error::Io) where a thread can't be started.
    pub fn batches_from(&self, position: &Position) -> Result<Batches> {
        let epoch = Arc::new(self.sampler.epoch_from(position)?);
        let count = epoch.turns().div_ceil(self.batch_size as u64);
        let files = Arc::clone(&self.data.files);
        let ordered = match &self.data.memory {
            Some(chunks) => {
                let threads = self.threads.min(count.max(1) as usize);
                let works = (0..threads).map(|_| {
                    let (files, chunks) = (Arc::clone(&files), Arc::clone(chunks));
                    from_memory(files, chunks, Arc::clone(&epoch), self.batch_size)
                });
                files.start("kf-data-batch", count, self.prefetch.div_ceil(threads), works.collect())?
            }
            None => {
                // `new` saw to it that there are windows.
                let windows = self.sampler.windows(position.epoch(), self.data.blocks());
                let windows =
                    windows.ok_or_else(|| unfit(files.path(), "rows in files", "rows in memory"))?;
                let work = stream::work(&self.data, epoch, &windows, self.batch_size, self.threads)?;
                files.start("kf-data-batch", count, self.prefetch, vec![work])?
            }
        };
        Ok(Batches { files, ordered })
    }
}

fn from_memory(files: Arc<Files>, chunks: Arc<[Chunk]>, epoch: Arc<Epoch>, batch_size: usize) -> Work<Batch> {
    Box::new(move |number| {
        let turns = epoch.batch(number, batch_size).unwrap_or_default();
        let rows = turns.clone().map(|turn| {
            let (block, row) = files.locate(epoch.index(epoch.place(turn)));
            (&chunks[block], row)
        });
        let rows = gather(&files, &rows.collect::<Vec<_>>())?;
        Ok(Batch { rows, position: epoch.after(turns.end) })
    })
}

/// One rank's batches of one epoch, or of what is left of it. Dropping it ends its threads, after the block or batch that
/// each is at.
///
/// An error comes at its place, after the batches before it, and nothing comes after it: an epoch is never cut short
/// without a word.
/// - [`Error::Data`](crate::Error::Data) for a null, a list of another length, damage, or a file that is not what it was
///   when it was opened;
/// - [`Error::Io`](crate::Error::Io) for a file that can't be read, such as one that is gone.
#[derive(Debug)]
pub struct Batches {
    files: Arc<Files>,
    ordered: Ordered<Batch>,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ordered.next(|| self.files.ended())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.ordered.left() as usize))
    }
}

impl std::iter::FusedIterator for Batches {}
