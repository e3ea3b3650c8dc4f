//! Looks after a search from outside: an input that hangs, takes all memory or overflows the stack can't be caught, so
//! it is on disk before it is tried.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::mutex::locked;

const HANGS: Duration = Duration::from_secs(60);
/// So much memory, in KiB, is never needed for inputs of less than a megabyte.
const MOST_MEMORY: u64 = 4 << 20;

pub(super) struct Watch {
    input: PathBuf,
    since: Arc<Mutex<Option<Instant>>>,
}

impl Watch {
    pub(super) fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join("kf-fuzz");
        fs::create_dir_all(&folder).unwrap();
        let input = folder.join(format!("{name}-{}", std::process::id()));
        let since = Arc::<Mutex<Option<Instant>>>::default();
        let watched = Arc::downgrade(&since);
        let path = input.clone();
        std::thread::spawn(move || {
            while let Some(since) = watched.upgrade() {
                let hangs = locked(&since).is_some_and(|since| since.elapsed() > HANGS);
                let memory = resident();
                if hangs || (memory > MOST_MEMORY && locked(&since).is_some()) {
                    eprintln!("hangs: {hangs}, {memory} KiB of memory: KF_FUZZ_INPUT={}", path.display());
                    std::process::abort();
                }
                drop(since);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { input, since }
    }

    /// The input is being tried as long as the value lives.
    pub(super) fn trying(&self, input: &[u8]) -> Trying<'_> {
        fs::write(&self.input, input).unwrap();
        *locked(&self.since) = Some(Instant::now());
        Trying(self)
    }

    /// Where the input is kept that was refused.
    pub(super) fn keep(&self, input: &[u8]) -> PathBuf {
        let digest = kf_core::Digest::of(input).to_hex();
        let kept = self.input.with_file_name(format!("found-{}", &digest[..12]));
        fs::write(&kept, input).unwrap();
        kept
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.input);
    }
}

pub(super) struct Trying<'a>(&'a Watch);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        *locked(&self.0.since) = None;
    }
}

/// KiB of memory that this process has; 0 where the system doesn't say.
fn resident() -> u64 {
    let status = fs::read_to_string(Path::new("/proc/self/statm")).unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * 4)
}
