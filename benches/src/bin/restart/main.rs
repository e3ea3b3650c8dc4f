//! How long ranks take to train again, libtorch's start among it, when one of them is killed: where all are started anew,
//! beside torchrun, and where the others go on. And how long they take to their first all-reduce.

mod heal;
mod restart;

use std::error::Error;
use std::process::ExitCode;

use benches::Table;
use benches::torchrun;
use kf_core::worker::{Workers, run_if_asked};
use kf_train::ranks;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn measure() -> Outcome<Table> {
    let mut table = Table::default();
    let python = torchrun::python();
    restart::measure(&mut table, python.as_deref())?;
    heal::measure(&mut table)?;
    if python.is_none() {
        table.note("without torchrun: no Python at KF_TORCH_PYTHON or KF_TEST_PYTHON that has PyTorch");
    }
    Ok(table)
}

fn main() -> ExitCode {
    let workers = Workers::new().with(ranks("reduce", restart::reduce)).with(ranks("heal", heal::train));
    if let Some(code) = run_if_asked(&workers).or_else(benches::fleet::run_if_asked) {
        return code;
    }
    match measure() {
        Ok(table) => {
            table.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("restart: {error}");
            ExitCode::FAILURE
        }
    }
}
