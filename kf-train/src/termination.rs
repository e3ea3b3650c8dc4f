//! SIGTERM, for functions that may save what they have before they end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGTERM;
use signal_hook::flag;

/// With what a process ends that was asked to: as shells tell of SIGTERM.
const EXIT: i32 = 128 + SIGTERM;

/// That the process was sent SIGTERM.
#[derive(Debug)]
pub(crate) struct Termination {
    asked: Arc<AtomicBool>,
    /// Nobody has asked for it so far.
    unheard: Arc<AtomicBool>,
}

impl Termination {
    /// From now on SIGTERM ends the process where nobody has asked for it before, and is noted otherwise.
    pub(crate) fn listen() -> io::Result<Self> {
        let (asked, unheard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        flag::register_conditional_shutdown(SIGTERM, EXIT, Arc::clone(&unheard))?;
        flag::register(SIGTERM, Arc::clone(&asked))?;
        Ok(Self { asked, unheard })
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.unheard.store(false, Ordering::Relaxed);
        self.asked.load(Ordering::Relaxed)
    }
}
