//! Mutated input for what reads texts that others wrote: pipeline files, placeholders, expressions in CEL.
//!
//! `KF_LONG=1` tries for minutes; `KF_FUZZ_SECONDS` says for how long. `KF_FUZZ_SEED` repeats a search, and
//! `KF_FUZZ_INPUT` one input, a file that a search before has left.

mod expressions;
mod files;
mod mutate;
mod placeholders;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutate::Random;
use watch::Watch;

/// Longer than any input may take where nothing is optimised.
const SLOW: Duration = Duration::from_secs(2);

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tries what `next` makes of random numbers, until the time is over or `check` refuses one.
fn fuzz(
    name: &str,
    mut next: impl FnMut(&mut Random) -> Vec<u8>,
    check: impl Fn(&[u8]) -> Result<(), String>,
) {
    let watch = Watch::start(name);
    let tried = |input: &[u8]| {
        let _trying = watch.trying(input);
        let began = Instant::now();
        let problem = match catch_unwind(AssertUnwindSafe(|| check(input))) {
            Ok(Ok(())) if began.elapsed() < SLOW => return,
            Ok(Ok(())) => format!("took {:?}", began.elapsed()),
            Ok(Err(problem)) => problem,
            Err(_) => "panicked".to_owned(),
        };
        let kept = watch.keep(input);
        panic!("{name}: {problem}\nrepeat it with KF_FUZZ_INPUT={}", kept.display());
    };
    if let Some(path) = variable::<PathBuf>("KF_FUZZ_INPUT") {
        tried(&std::fs::read(path).unwrap());
        return;
    }
    let seed = variable("KF_FUZZ_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ clock());
    let seconds = if std::env::var_os("KF_LONG").is_some() { 120 } else { 4 };
    let end = Instant::now() + Duration::from_secs(variable("KF_FUZZ_SECONDS").unwrap_or(seconds));
    println!("{name}: KF_FUZZ_SEED={seed}");
    let mut inputs: u64 = 0;
    while Instant::now() < end {
        tried(&next(&mut Random::new(seed.wrapping_add(inputs))));
        inputs += 1;
    }
    println!("{name}: {inputs} inputs");
    assert!(inputs > 50, "{name}: only {inputs} inputs in the whole time");
}

fn clock() -> u64 {
    kf_core::Timestamp::now().as_millis().unsigned_abs()
}
