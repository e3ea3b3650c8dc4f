//! Control flow in one pipeline: a part with a name of its own, branches of which one gives the model, loops over values
//! and over artifacts, and a task that is told how it all ended.
//!
//! A reader of digits holds labelled pictures, and reads a digit as what the nearest of them is.

use kf_pipeline::prelude::*;
use kf_pipeline::{Artifact, Handles, Scope, Value};

use crate::digits::{self, Digits, PIXELS};

/// Splits the digits at random.
#[component]
fn split(digits: Input<Dataset>, seed: u64, train: Output<Dataset>, test: Output<Dataset>) -> TaskResult {
    let parts = Digits::load(digits.path()?)?.split(&[0.7, 0.3], seed);
    parts[0].save(train.path())?;
    Ok(parts[1].save(test.path())?)
}

/// Holds each digit's mean picture.
#[component]
fn hold_means(train: Input<Dataset>, reader: Output<Model>) -> TaskResult {
    let train = Digits::load(train.path()?)?;
    let mut means = Digits::default();
    for label in 0..10 {
        let rows: Vec<usize> = (0..train.len()).filter(|&row| train.labels[row] == label).collect();
        let sum =
            |pixel| rows.iter().map(|row| usize::from(train.pixels[row * PIXELS + pixel])).sum::<usize>();
        means.pixels.extend((0..PIXELS).map(|pixel| (sum(pixel) / rows.len().max(1)) as u8));
        means.labels.push(label);
    }
    Ok(means.save(reader.path())?)
}

/// Holds the first pictures.
#[component]
fn hold_some(train: Input<Dataset>, count: usize, reader: Output<Model>) -> TaskResult {
    let mut train = Digits::load(train.path()?)?;
    train.labels.truncate(count);
    train.pixels.truncate(count * PIXELS);
    Ok(train.save(reader.path())?)
}

/// Holds all pictures.
#[component]
fn hold_all(train: Input<Dataset>, reader: Output<Model>) -> TaskResult {
    Ok(Digits::load(train.path()?)?.save(reader.path())?)
}

/// The share of digits that a reader reads well.
#[component]
fn score(reader: Input<Model>, test: Input<Dataset>) -> TaskResult<f64> {
    let (reader, test) = (Digits::load(reader.path()?)?, Digits::load(test.path()?)?);
    let picture = |of: &Digits, row: usize| of.pixels[row * PIXELS..][..PIXELS].to_vec();
    let far = |one: &[u8], other: &[u8]| -> u32 {
        one.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(*b)).pow(2)).sum()
    };
    let read = |row: &usize| {
        let seen = picture(&test, *row);
        let nearest = (0..reader.len()).min_by_key(|&held| far(&seen, &picture(&reader, held)));
        nearest.is_some_and(|held| reader.labels[held] == test.labels[*row])
    };
    Ok((0..test.len()).filter(read).count() as f64 / test.len().max(1) as f64)
}

/// How many pictures a reader holds.
#[component]
fn size(reader: Input<Model>) -> TaskResult<usize> {
    Ok(Digits::load(reader.path()?)?.len())
}

/// The mean accuracy, and what the readers hold.
#[component]
fn compare(accuracies: Vec<f64>, sizes: Vec<usize>) -> String {
    let mean = accuracies.iter().sum::<f64>() / accuracies.len().max(1) as f64;
    format!("{mean:.3} with {sizes:?} pictures")
}

/// Says how it went.
#[component(cache = false)]
fn tell(status: FinalStatus) -> String {
    match &status.error {
        Some(error) => format!("{}: {}", status.state, error.message),
        None => status.state,
    }
}

#[derive(Clone, Copy, Handles)]
struct Parts<'p> {
    train: Artifact<'p, Dataset>,
    test: Artifact<'p, Dataset>,
}

/// A part of a pipeline is a function.
fn prepare<'p>(p: &Scope<'p>, seed: Value<'p, u64>) -> Parts<'p> {
    let raw = p.import::<Dataset>(digits::FILE);
    let parts = p.add(split(raw, seed));
    Parts { train: parts.train, test: parts.test }
}

/// The components, for copies of a program that run them.
pub fn components() -> Components {
    let holds = Components::new().with::<hold_means>().with::<hold_some>().with::<hold_all>();
    holds.with::<split>().with::<score>().with::<size>().with::<compare>().with::<tell>()
}

/// The pipeline: `budget` is how many pictures a reader may hold.
///
/// # Errors
/// Never, unless this file is wrong.
pub fn pipeline() -> Result<Pipeline, kf_pipeline::Error> {
    Pipeline::build("reader", |p| {
        let seeds = p.param::<Vec<u64>>("seeds", vec![1, 2]);
        let budget = p.param::<usize>("budget", 100_usize);
        let compared = p.exit_group(tell, |p| {
            let each = p.parallel_for(seeds, |p, seed| {
                let parts = p.nest("prepare", |p| prepare(p, seed));
                let reader = p
                    .when(budget.lt(50), |p| p.add(hold_means(parts.train)).reader)
                    .or_when(budget.lt(1000), |p| p.add(hold_some(parts.train, budget)).reader)
                    .otherwise(|p| p.add(hold_all(parts.train)).reader);
                (reader, p.add(score(reader, parts.test)).output)
            });
            let (readers, accuracies) = each.collect();
            let sizes = p.parallel_for(readers, |p, reader| p.add(size(reader))).collect();
            p.add(compare(accuracies, sizes.output)).output
        });
        p.output("compared", compared);
    })
}
