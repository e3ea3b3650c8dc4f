//! What there is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use super::Resources;

/// What a machine has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity(Resources);

impl Capacity {
    /// Exactly these.
    pub fn new(resources: Resources) -> Self {
        Self(resources)
    }

    /// The cores and the memory that this process may use: CPU affinity and the limits of its control groups
    /// (version 1 and 2) are taken into account. No accelerators; name them with
    /// [`accelerator`](Self::accelerator). Where the system does not say how much memory there is, there is no
    /// limit.
    pub fn of_this_machine() -> Self {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        let memory = [physical_memory(), cgroup_memory(Path::new("/"))].into_iter().flatten().min();
        Self(Resources {
            cpu: (cores as u64).saturating_mul(1000),
            memory: memory.unwrap_or(u64::MAX),
            ..Resources::none()
        })
    }

    /// Adds accelerators of a name such as `nvidia.com/gpu`.
    #[must_use]
    pub fn accelerator(self, name: impl Into<String>, count: f64) -> Self {
        Self(self.0.accelerator(name, count))
    }

    /// The amounts.
    pub fn resources(&self) -> &Resources {
        &self.0
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn physical_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    mem_total(&text)
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest limit of the process's control group and those above it. `system` is `/`, or a copy in a test.
fn cgroup_memory(system: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(system.join("proc/self/cgroup")).ok()?;
    let mut least = None;
    for line in groups.lines() {
        // hierarchy:controllers:path; version 2 has no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path).ancestors() {
            let inside: PathBuf =
                group.components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect();
            let text = std::fs::read_to_string(system.join(mount).join(inside).join(file));
            let limit = text.ok().and_then(|text| text.trim().parse::<u64>().ok());
            least = [least, limit].into_iter().flatten().min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_machine_has_something() {
        let capacity = Capacity::of_this_machine();
        assert!(capacity.resources().cpu >= 1000 && capacity.resources().memory > 1 << 20, "{capacity}");
    }

    #[test]
    fn meminfo_is_in_kibibytes() {
        assert_eq!(mem_total("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(mem_total("MemTotal: many\n"), None);
    }

    #[test]
    fn the_smallest_limit_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(cgroup_memory(root.path()), None);
        write("proc/self/cgroup", "5:cpu,memory:/a\n0::/pod/box\n");
        write("sys/fs/cgroup/pod/box/memory.max", "max\n");
        write("sys/fs/cgroup/pod/memory.max", "3000\n");
        assert_eq!(cgroup_memory(root.path()), Some(3000));
        write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000\n");
        assert_eq!(cgroup_memory(root.path()), Some(2000));
    }
}
