//! Rows per second of the data loader: 200,000 rows of 256 f32, in batches of 256, from memory, Parquet and Arrow IPC;
//! beside PyTorch's DataLoader over a tensor in memory, and beside copying as much memory.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field};
use benches::{Measured, Table};
use kf_train::{DataLoader, Dataset, DistributedSampler};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::Value as Json;

type Outcome<T> = Result<T, Box<dyn Error>>;

const ROWS: usize = 200_000;
const WIDTH: usize = 256;
const BATCH: usize = 256;
const BLOCK: usize = 4096;
const WINDOW: u64 = 32_768;
const RUNS: usize = 5;

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let arrow = folder.path().join("rows.arrow");
    let parquet = folder.path().join("rows.parquet");
    write(&arrow, &parquet)?;
    let peer = torch();
    let mut table = Table::default();

    let open = || Dataset::open([&arrow], ["x", "y"])?.in_memory();
    let mut loads = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        drop(open()?);
        loads.push(ROWS as f64 / began.elapsed().as_secs_f64());
    }
    table.add(Measured::new("Arrow IPC into memory", "rows/s", loads), None, "");
    let data = open()?;

    let sampler = DistributedSampler::of(data.rows(), 0, 1).shuffle(42);
    let loader = DataLoader::new(&data, sampler)?.batch_size(BATCH);
    for (threads, target, workers) in [(1, "≥ 1500000", "workers_0"), (2, "≥ 1500000", "workers_2")] {
        let loader = loader.clone().threads(threads);
        let ours =
            Measured::new(format!("in memory, shuffled, threads={threads}"), "rows/s", epochs(&loader)?);
        table.add(ours, peer.as_ref().and_then(|peer| rates_of(peer, workers)), target);
    }
    table.add(Measured::new("  copying the same rows, one thread", "rows/s", copies(&data)?), None, "");

    let data = Dataset::open([&arrow], ["x", "y"])?.in_place()?;
    for threads in [1, 2] {
        let sampler = DistributedSampler::of(data.rows(), 0, 1).shuffle(42);
        let loader = DataLoader::new(&data, sampler)?.batch_size(BATCH).threads(threads);
        let name = format!("Arrow IPC in place, shuffled, threads={threads}");
        table.add(Measured::new(name, "rows/s", epochs(&loader)?), None, "");
    }
    for (name, path) in [("Arrow IPC", &arrow), ("Parquet, uncompressed", &parquet)] {
        let data = Dataset::open([path], ["x", "y"])?;
        let sampler = DistributedSampler::of(data.rows(), 0, 1);
        let windowed = sampler.clone().shuffle_within(42, data.blocks(), WINDOW);
        for (order, sampler) in [("in order", sampler), ("windows of 32768", windowed)] {
            let loader = DataLoader::new(&data, sampler)?.batch_size(BATCH);
            let name = format!("{name} from the file, {order}");
            table.add(Measured::new(name, "rows/s", epochs(&loader)?), None, "");
        }
    }
    match &peer {
        Some(peer) => table.note(format!("PyTorch {}, Python {}", peer["torch"], peer["python"])),
        None => table.note("without PyTorch: no Python at KF_TORCH_PYTHON or KF_TEST_PYTHON that has it"),
    }
    table.print();
    Ok(())
}

/// The same rows as a file of each kind.
fn write(arrow: &Path, parquet: &Path) -> Outcome<()> {
    let block = |start: usize| {
        let rows = BLOCK.min(ROWS - start);
        let values: Float32Array = (0..rows * WIDTH).map(|at| ((start * WIDTH + at) as f32).sin()).collect();
        let item = Arc::new(Field::new_list_field(DataType::Float32, false));
        let x = FixedSizeListArray::new(item, WIDTH as i32, Arc::new(values), None);
        let y = Int64Array::from_iter_values(start as i64..(start + rows) as i64);
        RecordBatch::try_from_iter([("x", Arc::new(x) as ArrayRef), ("y", Arc::new(y) as ArrayRef)])
    };
    let schema = block(0)?.schema();
    let mut ipc = FileWriter::try_new(File::create(arrow)?, &schema)?;
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(BLOCK))
        .build();
    let mut groups = ArrowWriter::try_new(File::create(parquet)?, schema, Some(properties))?;
    for start in (0..ROWS).step_by(BLOCK) {
        let block = block(start)?;
        ipc.write(&block)?;
        groups.write(&block)?;
    }
    ipc.finish()?;
    groups.close()?;
    Ok(())
}

/// Each epoch's rows per second; the first epoch is not counted.
fn epochs(loader: &DataLoader) -> Outcome<Vec<f64>> {
    let mut rates = Vec::new();
    for epoch in 0..=RUNS as u64 {
        let began = Instant::now();
        let (mut rows, mut labels) = (0, 0);
        for batch in loader.batches(epoch)? {
            let batch = batch?;
            let y = batch.rows().column(1).as_any().downcast_ref::<Int64Array>().ok_or("no labels")?;
            labels += y.values().iter().sum::<i64>();
            rows += batch.len();
        }
        rates.push(rows as f64 / began.elapsed().as_secs_f64());
        assert_eq!((rows, labels), (ROWS, (ROWS as i64 - 1) * ROWS as i64 / 2), "rows are missing");
    }
    Ok(rates.split_off(1))
}

/// The least that a shuffled epoch can cost one thread: rows copied in a random order into one buffer that stays.
fn copies(data: &Dataset) -> Outcome<Vec<f64>> {
    let order = DistributedSampler::of(data.rows(), 0, 1).shuffle(42).indices(0);
    let source: Vec<f32> = (0..ROWS * WIDTH).map(|at| at as f32).collect();
    let mut batch = vec![0_f32; BATCH * WIDTH];
    let runs = (0..RUNS).map(|_| {
        let began = Instant::now();
        for rows in order.chunks(BATCH) {
            for (to, row) in batch.chunks_exact_mut(WIDTH).zip(rows) {
                let start = *row as usize * WIDTH;
                to.copy_from_slice(&source[start..start + WIDTH]);
            }
            std::hint::black_box(&mut batch);
        }
        ROWS as f64 / began.elapsed().as_secs_f64()
    });
    Ok(runs.collect())
}

/// The peer's figures, where there is a Python that has PyTorch.
fn torch() -> Option<Json> {
    let python = ["KF_TORCH_PYTHON", "KF_TEST_PYTHON"].into_iter().find_map(std::env::var_os)?;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/torch_loader.py");
    let output = std::process::Command::new(python).arg(script).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn rates_of(peer: &Json, workers: &str) -> Option<Measured> {
    let rates = peer[workers]["rows_per_second"].as_array()?.iter().filter_map(Json::as_f64).collect();
    Some(Measured::new(format!("  PyTorch DataLoader, {workers}"), "rows/s", rates))
}
