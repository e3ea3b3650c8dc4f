//! Logs that are followed while children write them.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kf_core::process::{Command, Exit, Log, LogChunk, LogStream, Spawner, log_lines, read_log};

/// How much of a log came, how much was missed, and the last bytes.
async fn read(mut log: LogStream, pause: Duration) -> (u64, u64, Vec<u8>) {
    let (mut came, mut missed, mut last) = (0, 0, Vec::new());
    while let Some(chunk) = log.next().await {
        match chunk.unwrap() {
            LogChunk::Missed(bytes) => missed += bytes,
            LogChunk::Bytes(bytes) => {
                came += bytes.len() as u64;
                last = bytes.to_vec();
            }
        }
        tokio::time::sleep(pause).await;
    }
    (came, missed, last)
}

/// This process's memory, in MB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() >> 10
}

pub(crate) async fn four_hundred_megabytes() {
    const FLOOD: u64 = 400_000_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flood.log");
    let before = memory();
    let began = Instant::now();
    let spawner = Spawner::new().unwrap();
    let child = spawner.spawn(Command::entry("flood", &FLOOD).unwrap().log(Log::to(&path))).await.unwrap();
    let feed = child.log().unwrap();
    let fast = tokio::spawn(read(feed.follow(), Duration::ZERO));
    let slow = tokio::spawn(read(feed.follow(), Duration::from_millis(20)));
    let deaf = feed.follow();
    let mut peak = 0;
    let exit = loop {
        tokio::select! {
            exit = child.wait() => break exit,
            () = tokio::time::sleep(Duration::from_millis(20)) => peak = peak.max(memory()),
        }
    };
    let took = began.elapsed();
    assert_eq!(exit, Exit::Code(0));
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!(peak.saturating_sub(before) < 64, "{before} MB before, then up to {peak} MB");
    let total = FLOOD + "first line\nlast line\n".len() as u64;
    for (name, log) in [("fast", fast.await.unwrap()), ("slow", slow.await.unwrap())] {
        let (came, missed, last) = log;
        println!("{name}: {came} bytes came, {missed} were missed");
        assert_eq!(came + missed, total, "{name}");
        assert!(last.ends_with(b"xxx\nlast line\n"), "{name}");
    }
    let (came, missed, _) = read(deaf, Duration::ZERO).await;
    assert_eq!((came, came + missed), (5 << 20, total), "who never read gets what the file keeps");
    let (kept, _, last) = read(read_log(&path).await.unwrap(), Duration::ZERO).await;
    assert!(kept > 5 << 20 && last.ends_with(b"last line\n"));
}

pub(crate) async fn killed_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo one; echo two >&2; sleep 600";
    let spawner = Spawner::new().unwrap();
    let command = Command::program("sh", ["-c", script]).log(Log::to(dir.path().join("x.log")));
    let child = spawner.spawn(command).await.unwrap();
    let mut lines = log_lines(child.log().unwrap().follow());
    assert_eq!(lines.next().await.unwrap().unwrap(), "one");
    assert_eq!(lines.next().await.unwrap().unwrap(), "two");
    child.kill();
    assert!(lines.next().await.is_none());
    assert_eq!(child.wait().await, Exit::Signal(9));
    let again: Vec<_> = log_lines(child.log().unwrap().follow()).map(Result::unwrap).collect().await;
    assert_eq!(again, ["one", "two"], "who comes late gets what was kept");
}
