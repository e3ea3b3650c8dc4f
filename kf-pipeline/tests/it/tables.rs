//! Arrow tables go from task to task: the same buffers in one process, a file to others.

use std::sync::Arc;

use arrow_array::{Array, Int64Array, RecordBatch};
use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use kf_pipeline::{EngineBuilder, Pipeline, Table};
use libtest_mimic::Trial;

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_task_of_the_same_process_gets_the_same_buffers", || {
            handed_on(Engine::builder(), "in-process", "in-process", true)
        }),
        test("without_room_a_table_is_read_from_its_file", || {
            handed_on(Engine::builder().in_memory(0), "in-process", "in-process", false)
        }),
        test("a_table_goes_to_a_subprocess", || {
            handed_on(Engine::builder(), "in-process", "subprocess", false)
        }),
        test("a_table_comes_from_a_subprocess", || {
            handed_on(Engine::builder(), "subprocess", "in-process", false)
        }),
        test("a_file_that_was_changed_after_the_table_counts_as_it_is", changed),
        test("what_is_no_table_is_said", no_table),
    ]
}

const ROWS: i64 = 10_000;

fn numbers() -> Table {
    let column = Arc::new(Int64Array::from_iter_values(0..ROWS)) as Arc<dyn Array>;
    RecordBatch::try_from_iter([("n", column)]).unwrap().into()
}

/// Where the first column's values lie in memory.
fn place(table: &Table) -> String {
    format!("{:?}", table.batches()[0].column(0).to_data().buffers()[0].as_ptr())
}

#[component(cache = false)]
pub(crate) fn make_table(table: Output<Dataset>) -> Result<String, TaskError> {
    let made = numbers();
    table.write_table(made.clone())?;
    Ok(place(&made))
}

#[derive(Outputs)]
pub(crate) struct Taken {
    place: String,
    rows: i64,
    sum: i64,
}

#[component(cache = false)]
pub(crate) fn take_table(table: Input<Dataset>) -> Result<Taken, TaskError> {
    let table = table.table()?;
    let column = |batch: &RecordBatch| batch.column(0).as_any().downcast_ref::<Int64Array>().cloned();
    let sum = table.batches().iter().filter_map(column).flat_map(|column| column.values().to_vec()).sum();
    Ok(Taken { place: place(&table), rows: i64::try_from(table.rows())?, sum })
}

async fn handed_on(builder: EngineBuilder, maker: &'static str, taker: &'static str, same: bool) -> Done {
    let pipeline = Pipeline::build("tables", |p| {
        let made = p.add(make_table().executor(maker));
        p.add(take_table(made.table).executor(taker));
    })?;
    let home = tempfile::tempdir()?;
    let engine = builder.open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    let outcome = run.wait().await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    let report = engine.report(run.id()).await?;
    let (made, taken) = (report.task("make-table").unwrap(), report.task("take-table").unwrap());
    assert_eq!(taken.output::<i64>("rows")?, ROWS);
    assert_eq!(taken.output::<i64>("sum")?, ROWS * (ROWS - 1) / 2);
    assert_eq!(made.output::<String>("Output")? == taken.output::<String>("place")?, same);
    // The artifact is what its digest says.
    let kept = &made.output_artifacts[0].artifact;
    let path = engine.home().artifacts().fetch(&kept.digest.unwrap()).await?;
    assert_eq!(kf_core::Digest::of(std::fs::read(path)?), kept.digest.unwrap());
    Ok(())
}

#[component(cache = false)]
fn overwrite(table: Output<Dataset>) -> Result<(), TaskError> {
    table.write_table(numbers())?;
    table.write("something else")
}

#[component(cache = false)]
fn size(table: Input<Dataset>) -> Result<i64, TaskError> {
    Ok(i64::try_from(std::fs::read(table.path()?)?.len())?)
}

async fn changed() -> Done {
    let pipeline = Pipeline::build("changed", |p| {
        let made = p.add(overwrite());
        p.add(size(made.table));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let run = engine.start(&pipeline, args! {}).await?;
    run.wait().await?;
    assert_eq!(engine.report(run.id()).await?.task("size").unwrap().output::<i64>("Output")?, 14);
    Ok(())
}

async fn no_table() -> Done {
    let pipeline = Pipeline::build("no-table", |p| {
        let made = p.add(overwrite());
        p.add(take_table(made.table));
    })?;
    let home = tempfile::tempdir()?;
    let engine = Engine::open(home.path()).await?;
    let error = engine.start(&pipeline, args! {}).await?.wait().await?.error.unwrap();
    assert!(error.contains("read table") && error.contains("expected an Arrow IPC file"), "{error}");
    Ok(())
}
