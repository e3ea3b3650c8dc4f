//! The time that a run goes by.

use std::sync::Mutex;

use kf_core::Timestamp;
use tokio::time::Instant;

use crate::mutex::locked;

/// The system's time, which never goes back: while the system's clock is behind what was said before, it goes on from
/// there as time goes by. Waits then end when they should, whatever the clock is set to.
#[derive(Debug)]
pub(super) struct Clock(Mutex<Said>);

#[derive(Debug)]
struct Said {
    time: Timestamp,
    at: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Said { time: Timestamp::now(), at: Instant::now() }))
    }

    pub(super) fn now(&self) -> Timestamp {
        let mut said = locked(&self.0);
        said.read(Timestamp::now(), Instant::now())
    }
}

impl Said {
    fn read(&mut self, system: Timestamp, instant: Instant) -> Timestamp {
        let steady = self.time.after(instant.saturating_duration_since(self.at));
        if system > steady {
            (self.time, self.at) = (system, instant);
        }
        system.max(steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_goes_on_whatever_the_system_says() {
        let (start, began) = (Timestamp::from_millis(10_000_000), Instant::now());
        let mut clock = Said { time: start, at: began };
        let mut read = |system: i64, micros: u64| {
            let system = Timestamp::from_millis(10_000_000 + system);
            clock.read(system, began + Duration::from_micros(micros)).as_millis() - 10_000_000
        };
        assert_eq!(read(5, 5_000), 5);
        // An hour back: on it goes, without losing what is less than a millisecond.
        let behind: Vec<i64> = (1..=40).map(|n| read(-3_600_000, 5_000 + n * 250)).collect();
        assert_eq!((behind[0], behind[39]), (5, 15));
        // An hour ahead, and back.
        assert_eq!(read(3_600_000, 20_000), 3_600_000);
        assert_eq!(read(25, 25_000), 3_600_005);
    }
}
