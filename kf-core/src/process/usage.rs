//! What a process has used.

use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// What a process has used, as far as that is known. What is not known is none, and never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// How long it ran, by a clock on the wall.
    #[serde(default, rename = "wall_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub wall: Option<Duration>,
    /// How long processors worked for it and for the processes that it started and waited for, in their own code and in
    /// the kernel's. Linux counts in steps of 10 ms.
    #[serde(default, rename = "cpu_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Duration>,
    /// The most bytes that the process itself had in memory at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
}

impl Usage {
    /// Of this process so far: processor time and memory on Linux, nothing elsewhere. Read from `/proc`, as proc(5) has
    /// it.
    pub fn of_this_process() -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        Self { wall: None, cpu: cpu_of(&read("stat")), peak_memory: peak_of(&read("status")) }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// This, and of what it does not know the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            wall: self.wall.or(other.wall),
            cpu: self.cpu.or(other.cpu),
            peak_memory: self.peak_memory.or(other.peak_memory),
        }
    }

    /// Waits until a child has ended, which must not be reaped before this is ready; gives what is still known of it then,
    /// its memory not among that. Ready at once where the system does not tell.
    pub(super) async fn at_end(child: Pid) -> Self {
        if wait(child).await.is_err() {
            return Self::default();
        }
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
        Self { cpu: cpu_of(&stat.unwrap_or_default()), ..Self::default() }
    }
}

/// Waits until a child has ended, and does not reap it.
#[cfg(target_os = "linux")]
async fn wait(child: Pid) -> std::io::Result<()> {
    use rustix::process::{PidfdFlags, pidfd_open};
    use tokio::net::unix::pipe::Receiver;

    // It becomes readable as a pipe does, and is not read.
    Receiver::from_owned_fd_unchecked(pidfd_open(child, PidfdFlags::NONBLOCK)?)?.readable().await
}

#[cfg(not(target_os = "linux"))]
async fn wait(_: Pid) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// The processor time that a `/proc/PID/stat` tells: its fields 14 to 17, in ticks of the clock.
fn cpu_of(stat: &str) -> Option<Duration> {
    // The second field is the program's name in brackets, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let times: Vec<u64> =
        fields.split_whitespace().skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let ticks = <[u64; 4]>::try_from(times).ok()?.into_iter().fold(0, u64::saturating_add);
    Some(Duration::from_millis(ticks.saturating_mul(1000) / per_second))
}

/// The most memory that a `/proc/PID/status` tells, in bytes.
fn peak_of(status: &str) -> Option<u64> {
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_tells_is_read() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 200 0 0 130 20 7 3 20 0 1 0 5 1 1 1";
        assert_eq!(
            cpu_of(stat),
            Some(Duration::from_millis(160_000 / rustix::param::clock_ticks_per_second()))
        );
        assert_eq!(cpu_of("12 (a) S 1 2"), None);
        assert_eq!(cpu_of(""), None);
        assert_eq!(peak_of("Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t   1234 kB\nVmRSS:\t 5 kB\n"), Some(1_263_616));
        // That of one that has ended has no such line.
        assert_eq!(peak_of("Name:\tx\nState:\tZ (zombie)\n"), None);
        assert_eq!(peak_of("VmHWM:\t many kB\n"), None);
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        assert_eq!(serde_json::to_string(&Usage::default()).unwrap(), "{}");
        let text = r#"{"wall_ms":1500,"cpu_ms":20,"peak_memory":4096}"#;
        let usage: Usage = serde_json::from_str(text).unwrap();
        assert_eq!(
            (usage.wall, usage.cpu),
            (Some(Duration::from_millis(1500)), Some(Duration::from_millis(20)))
        );
        assert_eq!(serde_json::to_string(&usage).unwrap(), text);
        let told = Usage { cpu: Some(Duration::ZERO), ..Usage::default() };
        assert_eq!(told.or(usage), Usage { cpu: Some(Duration::ZERO), ..usage });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of_this_process();
        assert!(usage.cpu.is_some() && usage.peak_memory.is_some_and(|bytes| bytes > 100_000), "{usage:?}");
    }
}
