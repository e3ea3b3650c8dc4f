//! How much memory a process has.

/// Bytes of memory that a process alone has to answer for: what it has written, in memory and swapped out. What is
/// mapped from files, such as a program's libraries, does not count. None where the system does not say, or there is no such
/// process.
pub(super) fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    of_status(&status)
}

fn of_status(status: &str) -> Option<u64> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let parts = ["RssAnon", "RssShmem", "VmSwap"].map(field);
    // The last is missing where there is no swap.
    Some((parts[0]? + parts[1]? + parts[2].unwrap_or(0)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_written_counts() {
        let status = "Name:\tRssAnon: 5 kB\nVmRSS:\t   900 kB\nRssAnon:\t     100 kB\nRssFile:\t 700 kB\n\
                      RssShmem:\t     20 kB\n";
        assert_eq!(of_status(status), Some(120 << 10));
        assert_eq!(of_status(&format!("{status}VmSwap:\t  7 kB\n")), Some(127 << 10));
        for odd in ["", "RssAnon:\t 1 kB", "RssAnon:\t -1 kB\nRssShmem:\t 1 kB", "RssAnon: 1\nRssShmem: 1"] {
            assert_eq!(of_status(odd), None, "{odd:?}");
        }
        assert_eq!(memory_of(0), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_what_it_wrote() {
        let before = memory_of(std::process::id()).unwrap();
        let written = vec![1_u8; 64 << 20];
        let after = memory_of(std::process::id()).unwrap();
        assert!(after > before + (48 << 20), "{before} {after} {}", written.len());
    }
}
