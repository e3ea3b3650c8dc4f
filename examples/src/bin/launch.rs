//! Runs scripts that were written for torchrun.
//!
//! `cargo run -p examples --bin launch -- --standalone --nproc-per-node 2 train.py`

use std::process::ExitCode;

use clap::Parser;
use examples::launch::{Options, launch, unknown_option};
use kf_core::worker::{Workers, run_if_asked};

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new()) {
        return code;
    }
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let Some(unknown) = unknown_option(&error) else { error.exit() };
            eprintln!("launch: {unknown}");
            return ExitCode::from(2);
        }
    };
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
