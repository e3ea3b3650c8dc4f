//! What this process takes.

use super::Outcome;

/// How many ticks a second of processor time has, as Linux tells it to programs.
const TICKS: f64 = 100.0;

/// Memory and processor time so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Held now, in MB.
    pub(crate) held: f64,
    /// The most that was ever held, in MB.
    pub(crate) peak: f64,
    /// Seconds of processor time.
    pub(crate) cpu: f64,
}

impl Taken {
    pub(crate) fn now() -> Outcome<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let megabytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
            kib.map(|kib| kib * 1.024e-3).ok_or_else(|| format!("/proc/self/status has no {name}"))
        };
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // The name before them may have spaces.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
        Ok(Self { held: megabytes("VmRSS")?, peak: megabytes("VmHWM")?, cpu: ticks / TICKS })
    }
}
