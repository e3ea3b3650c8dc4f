//! So many requests a second and at once, and no more.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How many requests are under way at once: each takes a connection, and more than these wait for the API server alone.
const AT_ONCE: usize = 32;

/// Spreads requests evenly once the first second's worth is used up.
#[derive(Debug)]
pub(super) struct Pace {
    places: Semaphore,
    each: Duration,
    burst: Duration,
    /// When the next may go, if none had ever waited.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        Self {
            places: Semaphore::new(AT_ONCE),
            each: Duration::from_secs(1) / per_second,
            burst: Duration::from_secs(1),
            next: Mutex::new(None),
        }
    }

    /// Sends a request in its turn.
    pub(super) async fn send<T>(&self, request: impl Future<Output = T>) -> T {
        // There are places as long as this is there.
        let _place = self.places.acquire().await;
        self.turn().await;
        request.await
    }

    async fn turn(&self) {
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

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_under_way() {
        let (pace, second) = (Pace::new(1_000_000), Duration::from_secs(1));
        let began = Instant::now();
        futures::future::join_all(
            (0..3 * AT_ONCE).map(|_| pace.send(async { tokio::time::sleep(second).await })),
        )
        .await;
        let took = began.elapsed();
        assert!(took >= 3 * second && took < 4 * second, "{took:?}");
    }
}
