//! The components of the tests.

use kf_pipeline::prelude::*;

pub(crate) fn all() -> Components {
    let components = kf_pipeline::testing::components()
        .with::<make>()
        .with::<double>()
        .with::<join>()
        .with::<measure>()
        .with::<flaky>()
        .with::<fail>()
        .with::<witness>()
        .with::<talker>()
        .with::<crate::logs::speak>()
        .with::<crate::remote::counts>()
        .with::<crate::remote::saves>()
        .with::<crate::report::works>()
        .with::<crate::spans::emits>()
        .with::<crate::spans::panics>()
        .with::<crate::logs::says_its_number>()
        .with::<crate::logs::floods>();
    #[cfg(feature = "arrow")]
    let components = components.with::<crate::tables::make_table>().with::<crate::tables::take_table>();
    components
}

/// Writes a number.
#[component]
pub(crate) async fn make(number: i64, out: Output<Dataset>) -> TaskResult {
    out.set_metadata("number", number)?;
    out.write(number.to_string())
}

#[component]
pub(crate) async fn double(input: Input<Dataset>, out: Output<Model>) -> TaskResult<i64> {
    let number: i64 = std::fs::read_to_string(input.path()?)?.parse()?;
    out.write((2 * number).to_string())?;
    Ok(2 * number)
}

#[component]
pub(crate) fn join(models: Vec<Input<Model>>, numbers: Vec<i64>) -> TaskResult<String> {
    let mut text = Vec::new();
    for model in &models {
        text.push(std::fs::read_to_string(model.path()?)?);
    }
    Ok(format!("{} {numbers:?}", text.join(",")))
}

#[derive(Outputs)]
pub(crate) struct Measured {
    pub(crate) score: f64,
    pub(crate) label: String,
}

#[component]
pub(crate) async fn measure(score: f64) -> Measured {
    Measured { score, label: format!("s{score}") }
}

/// Fails until its third attempt.
#[component(retries = 2)]
pub(crate) async fn flaky(context: Context) -> TaskResult<u32> {
    if context.attempt() < 3 {
        return Err(TaskError::new(format!("attempt {}", context.attempt())));
    }
    Ok(context.attempt())
}

/// Says a lot, and on the first attempt fails.
#[component(retries = 1)]
pub(crate) async fn talker(context: Context, lines: i64) -> TaskResult<i64> {
    for line in 0..lines {
        println!("attempt {} line {line} </script>", context.attempt());
    }
    if context.attempt() == 1 {
        return Err(TaskError::new("the first attempt never does"));
    }
    Ok(lines)
}

#[component]
pub(crate) async fn fail(message: String) -> TaskResult {
    Err(TaskError::permanent(message))
}

/// Writes a line into a file.
#[component(cache = false)]
pub(crate) async fn witness(file: String, line: String) -> TaskResult {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}
