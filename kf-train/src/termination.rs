//! SIGTERM, for functions that may save what they have before they end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGTERM;
use signal_hook::flag;

/// That the process was sent SIGTERM.
#[derive(Debug)]
pub(crate) struct Termination {
    asked: Arc<AtomicBool>,
    told: AtomicBool,
}

impl Termination {
    /// From now on SIGTERM is noted, beside what else hears of it.
    pub(crate) fn listen() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        flag::register(SIGTERM, Arc::clone(&asked))?;
        Ok(Self { asked, told: AtomicBool::new(false) })
    }

    /// Whether it came; whoever asks knows it then.
    pub(crate) fn tell(&self) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        if asked {
            self.told.store(true, Ordering::Relaxed);
        }
        asked
    }

    /// Whether somebody was told that it came.
    pub(crate) fn was_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}
