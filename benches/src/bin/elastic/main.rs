//! Agents without libtorch: how long nodes take to meet, join and leave, ranks to be started anew, and a decision about
//! many nodes.

mod agents;
mod decisions;

use std::error::Error;
use std::process::ExitCode;

use benches::Table;
use kf_core::worker::run_if_asked;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&agents::workers()) {
        return code;
    }
    if let Some(code) = benches::fleet::run_if_asked() {
        return code;
    }
    let mut table = Table::default();
    decisions::measure(&mut table);
    match agents::measure(&mut table) {
        Ok(()) => {
            table.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("elastic: {error}");
            ExitCode::FAILURE
        }
    }
}
