//! An Arrow table of 1 GiB from task to task: to one in the same process, and to a subprocess beside one bare read of
//! the file; and what hashing costs while it is written, beside a bare write.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow_array::{Array, Float64Array, RecordBatch};
use benches::{Measured, Table};
use kf_core::worker::{Workers, run_if_asked};
use kf_pipeline::prelude::*;
use kf_pipeline::{Components, Pipeline};

const RUNS: usize = 5;
const BATCHES: usize = 64;
/// 16 MiB.
const ROWS: usize = 2 << 20;

fn table() -> Result<kf_pipeline::Table, TaskError> {
    let batch = |batch: usize| {
        let column: Float64Array = (0..ROWS).map(|row| Some((batch * ROWS + row) as f64)).collect();
        RecordBatch::try_from_iter([("x", Arc::new(column) as Arc<dyn Array>)])
    };
    let batches = (0..BATCHES).map(batch).collect::<Result<Vec<_>, _>>()?;
    kf_pipeline::Table::new(batches[0].schema(), batches)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64() * 1e3
}

fn place(table: &kf_pipeline::Table) -> String {
    format!("{:?}", table.batches()[0].column(0).to_data().buffers()[0].as_ptr())
}

#[derive(Outputs)]
struct Made {
    place: String,
    /// Milliseconds.
    hashed: f64,
    bare: f64,
    at: f64,
}

#[component(cache = false)]
fn produce(table: Output<Dataset>) -> Result<Made, TaskError> {
    let made = self::table()?;
    // The same file without its digest.
    let aside = table.path().with_extension("bare");
    let began = Instant::now();
    let file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&aside)?);
    let mut writer = arrow_ipc::writer::FileWriter::try_new(file, made.schema())?;
    made.batches().iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    let bare = millis(began);
    std::fs::remove_file(&aside)?;
    let began = Instant::now();
    table.write_table(made.clone())?;
    Ok(Made { place: place(&made), hashed: millis(began), bare, at: now() })
}

#[derive(Outputs)]
struct Taken {
    place: String,
    /// Milliseconds.
    took: f64,
    bare: f64,
    at: f64,
}

#[component(cache = false)]
fn consume(table: Input<Dataset>) -> Result<Taken, TaskError> {
    let at = now();
    let began = Instant::now();
    let taken = table.table()?;
    let took = millis(began);
    let began = Instant::now();
    let bare = std::fs::read(table.path()?)?;
    let bare_took = millis(began);
    if taken.rows() != BATCHES * ROWS || bare.len() < 1 << 30 {
        return Err(TaskError::new("the table is another"));
    }
    Ok(Taken { place: place(&taken), took, bare: bare_took, at })
}

fn main() -> ExitCode {
    let components = Components::new().with::<produce>().with::<consume>();
    if let Some(code) = run_if_asked(&Workers::new().with(components)) {
        return code;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn bench() -> Result<(), Box<dyn Error>> {
    let mut table = Table::default();
    let row = |name: &str, runs| Measured::new(name, "ms", runs);
    let (mut hashed, mut written) = (Vec::new(), Vec::new());
    let mut figures = Vec::new();
    for executor in ["in-process", "subprocess"] {
        let pipeline = Pipeline::build("table", |p| {
            let made = p.add(produce());
            p.add(consume(made.table).executor(executor));
        })?;
        let (mut took, mut bare, mut between) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let home = tempfile::tempdir_in(".")?;
            let engine = Engine::open(home.path()).await?;
            let run = engine.start(&pipeline, args! {}).await?;
            if let Some(error) = run.wait().await?.error {
                return Err(error.into());
            }
            let report = engine.report(run.id()).await?;
            let task = |name: &str| report.task(name).ok_or_else(|| format!("there is no task `{name}`"));
            let of =
                |name: &str, output: &str| -> Result<f64, Box<dyn Error>> { Ok(task(name)?.output(output)?) };
            let place = |name: &str| -> Result<String, Box<dyn Error>> { Ok(task(name)?.output("place")?) };
            if (executor == "in-process") != (place("produce")? == place("consume")?) {
                return Err(format!("{executor}: the buffers are not where they should be").into());
            }
            hashed.push(of("produce", "hashed")?);
            written.push(of("produce", "bare")?);
            took.push(of("consume", "took")?);
            bare.push(of("consume", "bare")?);
            between.push(of("consume", "at")? - of("produce", "at")?);
        }
        figures.push((took, bare, between));
    }
    let [(same, _, soon), (read, bare, later)] = figures.try_into().map_err(|_| "two executors")?;
    table.add(row("1 GiB to a task of the same process, same buffers", same), None, "");
    table.add(
        row("1 GiB to a subprocess: read as a table", read),
        Some(row("  one read of the file", bare)),
        "ratio ≤ 1.2",
    );
    table.add(row("1 GiB written, hashed meanwhile", hashed), Some(row("  written", written)), "");
    table.add(row("end of one task to start of the next, in process", soon), None, "");
    table.add(row("end of one task to start of the next, a subprocess", later), None, "");
    table.note(format!(
        "kf-pipeline {}; between tasks, the file goes to disk (fdatasync)",
        env!("CARGO_PKG_VERSION")
    ));
    table.print();
    Ok(())
}
