//! `cargo xtask`: what a person or CI does with the checkout, from nothing.
//!
//! `quickstart` runs the example, `test` runs every check, `bench` measures, `libtorch` fetches what training
//! links with, `image` puts a program into a container image, `cluster` starts a Kubernetes to run it in. Each says
//! what it does, and which tool is missing.

mod bench;
mod cargo;
mod cluster;
mod image;
mod libtorch;
mod quickstart;
mod step;
mod table;
mod test;
mod tools;
mod venv;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::libtorch::Flavor;

/// KF's development tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetches a fitting CPU libtorch into the user's cache folder, once, and links it as `.libtorch`.
    Libtorch {
        /// Instead, one with CUDA and NCCL, and the headers to build with: 2.5 GB. No GPU is needed to build.
        #[arg(long)]
        nccl: bool,
    },
    /// Runs the life of a model end to end on real data; further arguments go to the example.
    #[command(disable_help_flag = true)]
    Quickstart {
        /// Arguments of the example, such as `--rates 0.03,0.1`; `--help` tells them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs every check: formatting, lints, docs, features, packages, tests, judges.
    Test {
        /// Only this crate's.
        #[arg(long, value_name = "CRATE")]
        only: Option<String>,
        /// Lets the tests that can run longer do so.
        #[arg(long)]
        long: bool,
    },
    /// Runs the benches side by side with their peers.
    Bench {
        /// Only this one.
        name: Option<String>,
        /// Asks each for one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes a container image of a program, its shared libraries and files, without Docker; pushes or imports it.
    Image(Box<image::Options>),
    /// Starts, ends and tells of a Kubernetes to try things in.
    #[command(subcommand)]
    Cluster(cluster::Task),
}

fn main() -> ExitCode {
    let root = root();
    let done = match Arguments::parse().task {
        Task::Libtorch { nccl } => {
            let flavor = if nccl { Flavor::Cuda } else { Flavor::Cpu };
            libtorch::ensure(&root, flavor).map(|link| println!("{}", link.display()))
        }
        Task::Quickstart { arguments } => quickstart::run(&root, &arguments),
        Task::Test { only, long } => test::run(&root, only.as_deref(), long),
        Task::Bench { name, json } => bench::run(&root, name.as_deref(), json),
        Task::Image(options) => image::run(&root, &options),
        Task::Cluster(task) => cluster::run(&root, &task),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The checkout. Asked for at run time, since a built program may have been moved with it.
fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), PathBuf::from)
}
