//! The pipeline's components.

use std::sync::Arc;

use kf_pipeline::prelude::*;
use kf_registry::{AliasChange, NewVersion, Registry, SqliteRegistry};
use kf_train::{Job, Launcher, run};
use tch::CModule;

use super::fit::{EPOCHS, FitArgs, Fitted};
use crate::digits::Digits;

/// How many ranks a fit has.
pub const RANKS: usize = 2;

/// Checks the schema and parts the rows: 70 % to fit, 15 % to choose by, 15 % to test with.
#[component]
pub(crate) fn split(
    digits: Input<Dataset>,
    seed: i64,
    train: Output<Dataset>,
    valid: Output<Dataset>,
    test: Output<Dataset>,
) -> TaskResult {
    let parts = Digits::load(digits.path()?)?.split(&[0.70, 0.15, 0.15], seed as u64);
    for (part, output) in parts.iter().zip([train, valid, test]) {
        part.save(output.path())?;
    }
    Ok(())
}

/// Fits an MLP by data-parallel training on two ranks.
#[component(retries = 1)]
pub(crate) async fn fit(
    train: Input<Dataset>,
    rate: f64,
    seed: i64,
    launcher: State<Arc<dyn Launcher>>,
    context: Context,
    model: Output<Model>,
) -> TaskResult<f64> {
    let (dir, cancel) = (context.dir()?.to_owned(), context.cancellation().clone());
    let (train, model) = (train.path()?.into(), model.path().into());
    let job = Job::ranks("fit", RANKS)
        .args(&FitArgs { train, model, dir, rate, seed, epochs: EPOCHS })
        .max_restarts(2)
        .cancel_with(cancel)
        .on_progress(move |progress| context.progress(progress.fraction, progress.to_string()));
    let fitted: Fitted = run(&**launcher, job).await?;
    Ok(fitted.loss)
}

/// Picks the model that reads most of the validation digits, and gives its learning rate.
#[component]
pub(crate) fn pick_best(
    models: Vec<Input<Model>>,
    rates: Vec<f64>,
    valid: Input<Dataset>,
    best: Output<Model>,
) -> TaskResult<f64> {
    let scores = models.iter().map(|model| accuracy(model, &valid)).collect::<TaskResult<Vec<_>>>()?;
    let at = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let at = at.ok_or_else(|| TaskError::permanent("there is no model: give at least one rate"))?;
    best.copy_from(&models[at])?;
    Ok(rates[at])
}

/// The accuracy on digits that no choice has seen.
#[component]
pub(crate) fn evaluate(model: Input<Model>, test: Input<Dataset>) -> TaskResult<f64> {
    accuracy(&model, &test)
}

/// The share of digits that a model reads rightly.
fn accuracy(model: &Input<Model>, data: &Input<Dataset>) -> TaskResult<f64> {
    let (pixels, labels) = Digits::load(data.path()?)?.tensors();
    let logits = CModule::load(model.path()?.join("model.pt"))?.forward_ts(&[pixels])?;
    Ok(logits.accuracy_for_logits(&labels).double_value(&[]))
}

/// Registers the model and makes it the champion.
#[component(cache = false)]
pub(crate) async fn register(
    model: Input<Model>,
    train: Input<Dataset>,
    rate: f64,
    accuracy: f64,
    registry: State<Arc<SqliteRegistry>>,
    context: Context,
) -> TaskResult<u32> {
    let new = NewVersion::of_artifact("digits".parse()?, model.artifact())?
        .made_by(context.run(), context.task())
        .made_from_artifact("train", train.artifact())?
        .parameter("rate", rate)
        .metric("accuracy", accuracy)
        .author("quickstart");
    let version = registry.register(new).await?.version.number;
    let champion = AliasChange::set("digits".parse()?, "champion".parse()?, version, "quickstart");
    registry.change_alias(champion.because(format!("accuracy {accuracy:.4}"))).await?;
    Ok(version)
}
