//! The components of the killed pipelines. Each attempt lies between two lines of the witness, whose path is `at`: it
//! differs from run to run, so that none of these is taken from the cache, but for [`word`].

use std::time::Duration;

use kf_pipeline::ItemFailure;
use kf_pipeline::prelude::*;

use super::phase::{Phase, in_task};
use super::witness::Witness;

/// What runs in processes of their own.
pub(crate) fn with_components(components: Components) -> Components {
    components.with::<alone>().with::<long>().with::<stubborn>()
}

/// How many items the long tasks have.
pub(crate) const ITEMS: i64 = 8;

/// An attempt begins.
fn begins(witness: &Witness, context: &Context) -> TaskResult {
    witness.of(context, "start")?;
    witness.reached(in_task(context.task()));
    Ok(())
}

/// An attempt under the witness's eyes.
async fn attend<T>(at: &str, context: &Context, work: impl FnOnce() -> TaskResult<T>) -> TaskResult<T> {
    let witness = Witness::of_task(at)?;
    begins(&witness, context)?;
    tokio::time::sleep(Duration::from_millis(8)).await;
    let result = work();
    witness.of(context, "end")?;
    result
}

#[component]
pub(crate) async fn seed(
    at: String,
    from: Input<Dataset>,
    context: Context,
    out: Output<Dataset>,
) -> TaskResult<Vec<i64>> {
    attend(&at, &context, || {
        out.copy_from(&from)?;
        Ok(vec![1, 2, 3])
    })
    .await
}

/// Writes what [`seed`] takes in.
#[component]
pub(crate) async fn first(at: String, context: Context, out: Output<Dataset>) -> TaskResult {
    attend(&at, &context, || out.write(super::pipeline::SEED)).await
}

#[component]
pub(crate) async fn make(
    at: String,
    row: i64,
    column: i64,
    seed: Input<Dataset>,
    context: Context,
    out: Output<Model>,
) -> TaskResult<i64> {
    attend(&at, &context, || {
        let text = std::fs::read_to_string(seed.path()?)?;
        out.write(format!("{row}-{column} of {text}"))?;
        Ok(10 * row + column)
    })
    .await
}

/// Blocks.
#[component]
pub(crate) fn check(at: String, model: Input<Model>, number: i64, context: Context) -> TaskResult<i64> {
    let witness = Witness::of_task(&at)?;
    begins(&witness, &context)?;
    std::thread::sleep(Duration::from_millis(8));
    let text = std::fs::read_to_string(model.path()?)?;
    if !text.starts_with(&format!("{}-{} of a seed", number / 10, number % 10)) {
        return Err(TaskError::permanent(format!("found `{text}`")));
    }
    witness.of(&context, "end")?;
    Ok(number + 100)
}

#[component]
pub(crate) async fn read(at: String, model: Input<Model>, context: Context) -> TaskResult<String> {
    attend(&at, &context, || Ok(std::fs::read_to_string(model.path()?)?)).await
}

#[component]
pub(crate) async fn grid(
    at: String,
    numbers: Vec<Vec<i64>>,
    texts: Vec<String>,
    context: Context,
) -> TaskResult<String> {
    attend(&at, &context, || Ok(format!("{numbers:?} {}", texts.join(",")))).await
}

#[component]
pub(crate) async fn say(at: String, word: String, number: i64, context: Context) -> TaskResult<String> {
    attend(&at, &context, || Ok(format!("{word} {number}"))).await
}

#[component]
pub(crate) async fn join(at: String, words: Vec<String>, context: Context) -> TaskResult<String> {
    attend(&at, &context, || Ok(words.join(","))).await
}

#[component]
pub(crate) async fn list(at: String, one: i64, two: i64, context: Context) -> TaskResult<Vec<i64>> {
    attend(&at, &context, || Ok(vec![one, two])).await
}

#[component]
pub(crate) async fn pair(at: String, one: String, two: String, context: Context) -> TaskResult<String> {
    attend(&at, &context, || Ok(format!("{one}; {two}"))).await
}

#[component]
pub(crate) async fn answers(
    at: String,
    values: Vec<i64>,
    by: Vec<String>,
    held: Vec<i64>,
    items: Vec<i64>,
    context: Context,
) -> TaskResult<String> {
    attend(&at, &context, || match by.len() == values.len() {
        true => Ok(format!("{values:?} {held:?} {items:?}")),
        false => Err(TaskError::permanent(format!("{values:?} by {by:?}"))),
    })
    .await
}

#[component]
pub(crate) async fn add_up(at: String, numbers: Vec<i64>, context: Context) -> TaskResult<i64> {
    attend(&at, &context, || Ok(numbers.iter().sum())).await
}

/// Fails on negative numbers.
#[component]
pub(crate) async fn positive(at: String, number: i64, context: Context) -> TaskResult<i64> {
    let fails = || Err(TaskError::permanent(format!("{number} is negative")));
    attend(&at, &context, || if number < 0 { fails() } else { Ok(number) }).await
}

/// Fails before this attempt.
#[component]
pub(crate) async fn stubborn(at: String, attempt: i64, context: Context) -> TaskResult<String> {
    let reached = i64::from(context.attempt()) >= attempt;
    attend(&at, &context, || match reached {
        true => Ok(format!("attempt {attempt}")),
        false => Err(TaskError::new("not yet")),
    })
    .await
}

/// Tells how something ended.
#[component]
pub(crate) async fn tell(
    at: String,
    number: Option<i64>,
    status: FinalStatus,
    context: Context,
) -> TaskResult<String> {
    attend(&at, &context, || Ok(format!("{} {number:?}", status.state))).await
}

#[component]
pub(crate) async fn survivors(
    at: String,
    numbers: Vec<i64>,
    failed: Vec<ItemFailure>,
    context: Context,
) -> TaskResult<String> {
    let failed: Vec<_> = failed.iter().map(|failure| format!("{} {}", failure.item, failure.error)).collect();
    attend(&at, &context, || Ok(format!("{numbers:?} without {failed:?}"))).await
}

/// Fails where another holds what it holds.
#[component]
pub(crate) fn alone(at: String, number: i64, context: Context) -> TaskResult<i64> {
    let witness = Witness::of_task(&at)?;
    begins(&witness, &context)?;
    let held = witness.alone(&context)?;
    witness.reached(Phase::HoldingMutex);
    std::thread::sleep(Duration::from_millis(8));
    drop(held);
    witness.of(&context, "end")?;
    Ok(number)
}

/// Does its items one after the other, and fails once in the middle.
#[component(retries = 1)]
pub(crate) async fn long(at: String, context: Context) -> TaskResult<i64> {
    let witness = Witness::of_task(&at)?;
    begins(&witness, &context)?;
    let mut sum = 0;
    for item in 0..ITEMS {
        if item == ITEMS / 2 && context.attempt() == 1 {
            witness.of(&context, "end")?;
            return Err(TaskError::new("not yet"));
        }
        let name = format!("item-{item}");
        let work = async {
            witness.note("did", context.task(), &name, context.attempt())?;
            tokio::time::sleep(Duration::from_millis(4)).await;
            Ok(item)
        };
        sum += context.once_async(&name, work).await?;
        witness.note("saved", context.task(), &name, context.attempt())?;
        witness.reached(Phase::BetweenItems);
    }
    witness.of(&context, "end")?;
    Ok(sum)
}

/// From the cache in every run but the first.
#[component(version = "1")]
pub(crate) async fn word(word: String, context: Context, out: Output<Dataset>) -> TaskResult {
    let witness = Witness::here()?;
    begins(&witness, &context)?;
    out.write(format!("the word {word}"))?;
    witness.of(&context, "end")?;
    Ok(())
}

#[component]
pub(crate) async fn read_all(at: String, words: Vec<Input<Dataset>>, context: Context) -> TaskResult<String> {
    attend(&at, &context, || {
        let read = |input: &Input<Dataset>| Ok(std::fs::read_to_string(input.path()?)?);
        Ok(words.iter().map(read).collect::<TaskResult<Vec<_>>>()?.join(","))
    })
    .await
}

/// Writes a folder with a file for each of the parts.
#[component]
pub(crate) async fn whole(
    at: String,
    grid: String,
    branches: String,
    words: String,
    survivors: String,
    tried: String,
    answers: String,
    context: Context,
    out: Output<Dataset>,
) -> TaskResult {
    attend(&at, &context, || {
        std::fs::create_dir_all(out.path())?;
        let parts = [grid, branches, words, survivors, tried, answers];
        for (name, part) in PARTS.iter().zip(parts) {
            std::fs::write(out.path().join(name), part)?;
        }
        Ok(())
    })
    .await
}

/// The files of what [`whole`] writes.
const PARTS: [&str; 6] = ["grid", "branches", "words", "survivors", "tried", "answers"];
