//! The components of the tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kf_pipeline::prelude::*;

pub(super) fn all() -> Components {
    kf_pipeline::testing::components()
        .with::<vanish>()
        .with::<swell>()
        .with::<witnessed>()
        .with::<total>()
        .with::<last>()
        .with::<who>()
}

/// Ends its process without a word to whoever waits.
#[component(cache = false)]
pub(super) fn vanish() {
    println!("so long");
    std::process::exit(3);
}

/// Takes more and more memory.
#[component(cache = false, memory = "64Mi")]
pub(super) fn swell() -> i64 {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for round in 1..64_u8 {
        held.push(vec![round; 16 << 20]);
    }
    held.iter().map(|part| i64::from(part[part.len() / 2])).sum()
}

/// Tells a witness outside of the cluster that it runs, and lasts a while.
#[component(cache = false)]
pub(super) fn witnessed(number: i64, witness: String, seconds: f64, context: Context) -> TaskResult<i64> {
    let mut stream = TcpStream::connect(witness)?;
    write!(stream, "{} {}", context.task(), context.attempt())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_string(&mut String::new())?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(number)
}

#[component(cache = false)]
pub(super) async fn total(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

/// Lasts for so many seconds in its first attempt.
#[component(cache = false)]
pub(super) fn last(seconds: f64, context: Context) -> i64 {
    context.log("here");
    if context.attempt() == 1 {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
    context.attempt().into()
}

/// The user that it runs as, and whether it finds a token of a service account.
#[component(cache = false)]
pub(super) fn who() -> TaskResult<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let token = std::path::Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").exists();
    Ok(format!("{} {token}", user.split_whitespace().next().unwrap_or_default()))
}
