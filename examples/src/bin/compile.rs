//! Prints an example's pipeline as the IR of Kubeflow Pipelines.
//!
//! `cargo run -p examples --bin compile -- means --image registry.example/app:1 --program /app/pipeline`

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use examples::{means, reader};
use kf_core::worker::{Workers, run_if_asked};
use kf_pipeline::{Export, Pipeline};

/// Prints an example's pipeline as the IR of Kubeflow Pipelines.
#[derive(Debug, Parser)]
#[command(name = "compile")]
struct Options {
    /// The pipeline.
    name: Name,
    /// The image that has the program with the components.
    #[arg(long, default_value = "kf.local/examples:latest")]
    image: String,
    /// The program in the image.
    #[arg(long, default_value = "/app/compile")]
    program: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    Means,
    Reader,
    #[cfg(feature = "torch")]
    Quickstart,
}

fn main() -> ExitCode {
    // The containers of what it prints may run this very program.
    if let Some(code) = run_if_asked(&Workers::new().with(means::components()).with(reader::components())) {
        return code;
    }
    let options = Options::parse();
    let pipeline: Result<Pipeline, _> = match options.name {
        Name::Means => means::pipeline(),
        Name::Reader => reader::pipeline(),
        #[cfg(feature = "torch")]
        Name::Quickstart => examples::quickstart::pipeline(),
    };
    let ir = pipeline.and_then(|pipeline| pipeline.to_ir(&Export::new(&options.image, &options.program)));
    match ir {
        Ok(ir) => {
            print!("{ir}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
