//! The components of the tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kf_pipeline::prelude::*;

pub(crate) fn all() -> Components {
    kf_pipeline::testing::components()
        .with::<vanish>()
        .with::<swell>()
        .with::<witnessed>()
        .with::<total>()
        .with::<last>()
        .with::<who>()
        .with::<length>()
        .with::<chatter>()
        .with::<items>()
        .with::<works>()
}

/// Ends its process without a word to whoever waits.
#[component(cache = false)]
pub(crate) fn vanish() {
    println!("so long");
    std::process::exit(3);
}

/// Takes more and more memory.
#[component(cache = false, memory = "64Mi")]
pub(crate) fn swell() -> i64 {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for round in 1..64_u8 {
        held.push(vec![round; 16 << 20]);
    }
    held.iter().map(|part| i64::from(part[part.len() / 2])).sum()
}

/// Tells a witness outside of the cluster that it runs, and lasts a while.
#[component(cache = false)]
pub(crate) fn witnessed(number: i64, witness: String, seconds: f64, context: Context) -> TaskResult<i64> {
    let mut stream = TcpStream::connect(witness)?;
    write!(stream, "{} {}", context.task(), context.attempt())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_string(&mut String::new())?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(number)
}

#[component(cache = false)]
pub(crate) async fn total(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

/// Lasts for so many seconds in its first attempt.
#[component(cache = false)]
pub(crate) fn last(seconds: f64, context: Context) -> i64 {
    context.log("here");
    if context.attempt() == 1 {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
    context.attempt().into()
}

/// The user that it runs as, and whether it finds a token of a service account.
#[component(cache = false)]
pub(crate) fn who() -> TaskResult<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let token = std::path::Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").exists();
    Ok(format!("{} {token}", user.split_whitespace().next().unwrap_or_default()))
}

/// How many bytes it was given, and the last of them.
#[component(cache = false)]
pub(crate) fn length(text: String) -> String {
    format!("{} {}", text.len(), &text[text.len().saturating_sub(3)..])
}

/// Has 100 MiB of memory, and keeps a processor at work for 300 ms.
#[component(cache = false)]
pub(crate) fn works() -> TaskResult<i64> {
    // Nanoseconds on a processor, by proc(5).
    let worked = || -> TaskResult<u64> {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        Ok(told.split_whitespace().next().unwrap_or_default().parse()?)
    };
    let held = vec![7_u8; 100 << 20];
    let (begin, mut sum) = (worked()?, 0_i64);
    while worked()? - begin < 300_000_000 {
        sum += held.iter().step_by(4096).map(|byte| i64::from(*byte)).sum::<i64>();
    }
    Ok(sum % 7)
}

/// Prints so many lines of so many bytes, numbered, within so many seconds.
#[component(cache = false)]
pub(crate) fn chatter(lines: i64, bytes: i64, seconds: f64) -> TaskResult<i64> {
    let fill = "x".repeat(usize::try_from(bytes)?.saturating_sub(9));
    let (mut out, began) = (std::io::stdout().lock(), std::time::Instant::now());
    for line in 0..lines {
        writeln!(out, "{line:08} {fill}")?;
        let due = Duration::from_secs_f64(seconds * (line as f64) / (lines as f64));
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    out.flush()?;
    Ok(lines)
}

/// Which attempt did each of three items; the first two attempts' processes end after one item.
#[component(cache = false)]
pub(crate) fn items(context: Context) -> TaskResult<Vec<u32>> {
    let mut by = Vec::new();
    for item in 0..3 {
        by.push(context.once(&item.to_string(), || Ok(context.attempt()))?);
        if by.last() == Some(&context.attempt()) && context.attempt() < 3 {
            std::process::exit(3);
        }
    }
    Ok(by)
}
