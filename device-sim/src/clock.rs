//! The only file here that reads a clock: wall time for the line, and the pace of a trial.
//!
//! A trial's time runs at most `speed` times as fast as the wall and never catches up what it was
//! held back, so `speed` is a ceiling.

use core::time::Duration;
use protocol::time::Uptime;
use std::time::Instant;

/// Wall time since this was made. Monotonic.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    started: Instant,
}

impl Default for Wall {
    fn default() -> Self {
        Self::start()
    }
}

impl Wall {
    /// Zero is now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this file reads the clock for the crate"
    )]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Since the start.
    #[expect(
        clippy::disallowed_methods,
        reason = "this file reads the clock for the crate"
    )]
    pub fn uptime(&self) -> Uptime {
        let since = Instant::now().saturating_duration_since(self.started);
        Uptime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Lets this thread rest.
pub fn rest(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// How far a trial may be at some wall time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    speed: u32,
    looked: Uptime,
}

/// The most wall time that one look gives, so that a pump that was held up does not rush.
const LONGEST_LOOK_MS: u64 = 50;

impl Pace {
    /// Starts now at `speed` times the wall; 0 counts as 1.
    pub fn new(speed: u32, now: Uptime) -> Self {
        Self {
            speed: speed.max(1),
            looked: now,
        }
    }

    /// Trial milliseconds that may pass since the last look.
    pub fn allowance_ms(&mut self, now: Uptime) -> u64 {
        let passed = now.millis_since(self.looked).min(LONGEST_LOOK_MS);
        self.looked = now;
        passed.saturating_mul(u64::from(self.speed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_a_ceiling_and_a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(1_000, Uptime::from_millis(100));
        assert_eq!(pace.allowance_ms(Uptime::from_millis(105)), 5_000);
        assert_eq!(pace.allowance_ms(Uptime::from_millis(105)), 0);
        assert_eq!(pace.allowance_ms(Uptime::from_millis(99_105)), 50_000);
    }
}
