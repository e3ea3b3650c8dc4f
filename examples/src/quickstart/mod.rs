//! The quickstart's pipeline: read, check and split data; fit an MLP on two ranks for each learning rate; pick, evaluate
//! and register the best; write the run report.

#[cfg(feature = "kubernetes")]
pub mod cluster;
mod fit;
mod life;
mod steps;

pub use fit::{EPOCHS, FitArgs, Fitted};
use kf_core::worker::Workers;
use kf_pipeline::prelude::*;
use kf_pipeline::report::run_report;
pub use life::{end, live};
pub use steps::RANKS;

use crate::digits;

/// The pipeline.
///
/// # Errors
/// Never, unless this file is wrong.
pub fn pipeline() -> Result<Pipeline, kf_pipeline::Error> {
    Pipeline::build("digits", |p| {
        let rates = p.required_param::<Vec<f64>>("rates");
        let seed = p.required_param::<i64>("seed");
        let raw = p.import::<Dataset>(digits::FILE);
        let parts = p.add(steps::split(raw, seed));
        let fits = p.parallel_for(rates, |p, rate| {
            p.add(steps::fit(parts.train, rate, seed).cpu(1.0).executor(HERE))
        });
        let best = p.add(steps::pick_best(fits.collect().model, rates, parts.valid));
        let quality = p.add(steps::evaluate(best.best, parts.test));
        p.when(quality.output.ge(0.95), |p| {
            p.add(steps::register(best.best, parts.train, best.output, quality.output).executor(HERE));
        });
        p.on_exit(run_report().executor(HERE));
    })
}

/// What carries tasks that need something of the engine's process: its launcher, its registry, its runs.
const HERE: &str = "in-process";

/// What may run anywhere.
pub fn components() -> Components {
    Components::new().with::<steps::split>().with::<steps::pick_best>().with::<steps::evaluate>()
}

/// What copies of the program run: the ranks of a fit.
pub fn workers() -> Workers {
    Workers::new().with(kf_train::ranks("fit", fit::fit))
}
