//! Runs scripts that were written for torchrun.
//!
//! `cargo run -p examples --bin launch -- --standalone --nproc-per-node 2 train.py`

use std::process::ExitCode;

use clap::Parser;
use examples::launch::{Options, launch};
use kf_core::worker::{Workers, run_if_asked};

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new()) {
        return code;
    }
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("launch: {error}");
            return ExitCode::from(2);
        }
    };
    runtime.block_on(launch(options)).unwrap_or_else(|wrong| {
        eprintln!("launch: {wrong}");
        ExitCode::from(2)
    })
}
