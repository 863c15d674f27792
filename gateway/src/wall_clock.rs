//! Steps of the machine's clock, and how far they put its time in doubt. Pure.
//!
//! Somebody, or a time service, sets the clock; which of two times was right nobody here can know.
//! So the gateway follows its clock, tells the pump's ticks in the new time, and states the step
//! as doubt. A clock that says a time before this program was written is not followed at all: a
//! battery failed, and what the exchanges said before still holds.

use protocol::time::Timestamp;

/// 2020-01-01T00:00:00Z. Clocks that lost their battery say 1970, 1980, 2000 or 2008.
const NOT_BEFORE: Timestamp = Timestamp::from_unix_millis(1_577_836_800_000);
/// What a time service does in small pieces is no step.
const STEP_MS: i64 = 500;

/// Whether a clock that says so can be believed.
pub fn is_plausible(utc: Timestamp) -> bool {
    utc >= NOT_BEFORE
}

/// A step that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// By how much the clock was set; later is positive.
    pub by_ms: i64,
    /// By how much what is known of the pump's time is to be shifted: 0 while the clock says what
    /// cannot be, then all that came together.
    pub shift_ms: i64,
}

/// The machine's clock as it was set since the start.
#[derive(Clone, Debug, Default)]
pub struct WallClock {
    seen_ms: i64,
    pending_ms: i64,
    net_ms: i64,
    believed: bool,
}

impl WallClock {
    /// What the clock says now, and how far it was set since the start against the monotonic one.
    pub fn observe(&mut self, utc: Timestamp, stepped_ms: i64) -> Option<Step> {
        let by_ms = stepped_ms.saturating_sub(self.seen_ms);
        let plausible = is_plausible(utc);
        if by_ms.saturating_abs() < STEP_MS {
            self.believed |= plausible;
            return None;
        }
        self.seen_ms = stepped_ms;
        self.pending_ms = self.pending_ms.saturating_add(by_ms);
        let mut shift_ms = 0;
        if plausible {
            shift_ms = std::mem::take(&mut self.pending_ms);
            // The first time that can be believed contradicts nothing that was.
            if self.believed {
                self.net_ms = self.net_ms.saturating_add(shift_ms);
            }
            self.believed = true;
        }
        Some(Step { by_ms, shift_ms })
    }

    /// The newest row on disk was received later than the clock says now: it was set back while
    /// this program did not run.
    pub fn note_stored(&mut self, now: Timestamp, received: Timestamp) {
        let back = received - now;
        if is_plausible(received) && back > 0 {
            self.net_ms = self.net_ms.min(-back);
        }
    }

    /// How far the time may be off because of steps, milliseconds.
    pub fn doubt_ms(&self) -> u64 {
        self.net_ms.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const NOW: Timestamp = Timestamp::from_unix_millis(1_772_352_000_000);

    /// Feeds steps in order; gives the shifts and the doubt after each.
    fn after(start: Timestamp, steps: &[i64]) -> Vec<(i64, u64)> {
        let mut clock = WallClock::default();
        assert_eq!(clock.observe(start, 3), None);
        let mut sum = 0;
        let one = |by: &i64| {
            sum += by;
            let step = clock.observe(start + sum, sum).unwrap();
            assert_eq!(step.by_ms, *by);
            (step.shift_ms, clock.doubt_ms())
        };
        steps.iter().map(one).collect()
    }

    #[test]
    fn steps_between_times_that_can_be_are_followed_and_put_the_time_in_doubt() {
        let day = 24 * HOUR;
        assert_eq!(after(NOW, &[HOUR]), [(HOUR, 3_600_000)]);
        assert_eq!(after(NOW, &[-day]), [(-day, 86_400_000)]);
        assert_eq!(
            after(NOW, &[HOUR, -HOUR]),
            [(HOUR, 3_600_000), (-HOUR, 0)],
            "set back to where it was"
        );
    }

    #[test]
    fn a_reset_to_1970_or_2008_is_not_followed_and_its_end_is_one_step() {
        for reset in [0, 1_199_145_600_000] {
            let away = reset - NOW.as_unix_millis();
            assert_eq!(after(NOW, &[away, -away]), [(0, 0), (0, 0)]);
            assert_eq!(after(NOW, &[away, -away + 5_000]), [(0, 0), (5_000, 5_000)]);
        }
    }

    #[test]
    fn a_machine_that_starts_without_a_time_is_believed_from_its_first_one_on() {
        let start = Timestamp::from_unix_millis(40_000);
        let to_now = NOW - start;
        assert_eq!(after(start, &[to_now]), [(to_now, 0)]);
        assert_eq!(
            after(start, &[to_now, HOUR]),
            [(to_now, 0), (HOUR, 3_600_000)]
        );
    }

    #[test]
    fn small_changes_are_no_steps_until_they_add_up() {
        let mut clock = WallClock::default();
        assert_eq!(clock.observe(NOW, 200), None);
        assert_eq!(clock.observe(NOW, 499), None);
        assert_eq!(clock.observe(NOW, 501).unwrap().by_ms, 501);
        assert_eq!(clock.observe(NOW, 700), None);
    }

    #[test]
    fn a_clock_that_was_set_back_between_two_runs_is_in_doubt() {
        let mut clock = WallClock::default();
        clock.note_stored(NOW, NOW + (-5));
        assert_eq!(clock.doubt_ms(), 0);
        clock.note_stored(NOW, NOW + HOUR);
        assert_eq!(clock.doubt_ms(), 3_600_000);
    }
}
