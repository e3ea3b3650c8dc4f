//! Waits between tries.

use std::time::Duration;

/// Waits that double.
#[derive(Debug)]
pub(crate) struct Again {
    next: Duration,
    most: Duration,
}

impl Default for Again {
    fn default() -> Self {
        Self::between([Duration::from_millis(100), Duration::from_secs(10)])
    }
}

impl Again {
    /// Of so long, up to so long.
    pub(crate) fn between([next, most]: [Duration; 2]) -> Self {
        Self { next, most }
    }

    /// Waits, each time longer.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.most);
    }
}
