//! So many requests a second, and no more.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Spreads calls evenly once the first second's worth is used up.
#[derive(Debug)]
pub(super) struct Pace {
    each: Duration,
    burst: Duration,
    /// When the next may go, if none had ever waited.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        Self {
            each: Duration::from_secs(1) / per_second,
            burst: Duration::from_secs(1),
            next: Mutex::new(None),
        }
    }

    /// Waits for its turn.
    pub(super) async fn turn(&self) {
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // An idle time is saved up for, up to the burst.
            let earliest = now.checked_sub(self.burst).unwrap_or(now);
            let at = next.map_or(earliest, |next| next.max(earliest));
            *next = Some(at + self.each);
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_evenly() {
        let pace = Pace::new(10);
        let began = Instant::now();
        for _ in 0..10 {
            pace.turn().await;
        }
        assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
        for _ in 0..20 {
            pace.turn().await;
        }
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1800) && took < Duration::from_millis(2200), "{took:?}");
    }
}
