//! What a value is worth: its age on our own monotonic clock, and nothing else.
//!
//! Age is what the sender said of the line at its sending, plus the time since our receipt, plus
//! what the payload spent on the way longer than the quickest one did. LIVE to 2 s, LATE to 10 s,
//! STALE to 60 s, then LOST (`design.md` §4). A payload that the broker kept is STALE at best,
//! and so is everything heard before the machine slept, until a live payload comes.

use protocol::time::Uptime;

/// To this age a value is live.
pub const LIVE_MS: u64 = 2_000;
/// To this age a value is late.
pub const LATE_MS: u64 = 10_000;
/// To this age a value is stale; beyond it is lost.
pub const STALE_MS: u64 = 60_000;

/// What a value is worth, with its age in wall milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As good as now.
    Live(u64),
    /// Good, with its age beside it.
    Late(u64),
    /// Not to be relied on.
    Stale(u64),
    /// No value any more.
    Lost(u64),
    /// There never was one.
    NeverHeard,
}

impl Freshness {
    /// Of an age. `fresh` is false for what can be stale at best.
    pub const fn of_age(age_ms: u64, fresh: bool) -> Self {
        match age_ms {
            0..=LIVE_MS if fresh => Self::Live(age_ms),
            0..=LATE_MS if fresh => Self::Late(age_ms),
            0..=STALE_MS => Self::Stale(age_ms),
            _ => Self::Lost(age_ms),
        }
    }

    /// Whether a number may be printed plain.
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::Live(_) | Self::Late(_))
    }

    /// The age, where anything was ever heard.
    pub const fn age_ms(self) -> Option<u64> {
        match self {
            Self::Live(age) | Self::Late(age) | Self::Stale(age) | Self::Lost(age) => Some(age),
            Self::NeverHeard => None,
        }
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live(_) => "live",
            Self::Late(_) => "late",
            Self::Stale(_) => "STALE",
            Self::Lost(_) => "LOST",
            Self::NeverHeard => "NEVER HEARD",
        }
    }
}

/// How a payload came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// As it was sent.
    Live,
    /// From the broker's memory.
    Retained,
    /// Before the machine slept.
    BeforeSleep,
}

/// A payload's receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When, by our clock.
    pub at: Uptime,
    /// What it spent on the way beyond the quickest one, wall milliseconds.
    pub delay_ms: u64,
    /// How.
    pub came: Came,
}

impl Heard {
    /// What a value is worth that was `age_at_sending_ms` old when it was sent. `kept_ms` is how
    /// long ago that was by the trial's clock, where it is known: it counts for kept payloads only.
    pub fn freshness(
        &self,
        age_at_sending_ms: u64,
        kept_ms: Option<u64>,
        now: Uptime,
    ) -> Freshness {
        let since_receipt = now.millis_since(self.at);
        let since_sending = match self.came {
            Came::Live => since_receipt.saturating_add(self.delay_ms),
            Came::Retained | Came::BeforeSleep => since_receipt.max(kept_ms.unwrap_or(0)),
        };
        Freshness::of_age(
            age_at_sending_ms.saturating_add(since_sending),
            self.came == Came::Live,
        )
    }
}

/// Finds payloads that waited somewhere between the sender and us.
///
/// The quickest payload sets the difference of the two clocks; who comes later than that waited.
/// The difference may grow by 1 in 2000, so that a slow clock does not look like a long way, and
/// it is taken anew where the sender's clock goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    last: Option<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    at: Uptime,
    sent_wall_ms: i64,
    least_difference_us: i64,
}

impl Pace {
    /// What this live payload spent on the way, wall milliseconds. `sent_at_utc_ms` is of a clock
    /// that runs `speed` times as fast as ours.
    pub fn delay_ms(&mut self, at: Uptime, sent_at_utc_ms: i64, speed: u32) -> u64 {
        let sent_wall_ms = sent_at_utc_ms / i64::from(speed.max(1));
        let at_ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        let difference_us = at_ms.saturating_sub(sent_wall_ms).saturating_mul(1_000);
        let least = match self.last {
            Some(last) if sent_wall_ms >= last.sent_wall_ms => {
                let drift_us = i64::try_from(at.millis_since(last.at) / 2).unwrap_or(i64::MAX);
                let floor = last.least_difference_us.saturating_add(drift_us);
                floor.min(difference_us)
            }
            Some(_) | None => difference_us,
        };
        self.last = Some(Step {
            at,
            sent_wall_ms,
            least_difference_us: least,
        });
        u64::try_from(difference_us.saturating_sub(least) / 1_000).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(delay_ms: u64) -> Heard {
        Heard {
            at: Uptime::from_millis(100_000),
            delay_ms,
            came: Came::Live,
        }
    }

    #[test]
    fn a_live_value_falls_through_the_states_at_2_10_and_60_seconds() {
        let heard = live(0);
        let at = |ms: u64| heard.freshness(500, None, Uptime::from_millis(100_000 + ms));
        assert_eq!(at(0), Freshness::Live(500));
        assert_eq!(at(1_500), Freshness::Live(2_000));
        assert_eq!(at(1_501), Freshness::Late(2_001));
        assert_eq!(at(9_500), Freshness::Late(10_000));
        assert_eq!(at(9_501), Freshness::Stale(10_001));
        assert_eq!(at(59_500), Freshness::Stale(60_000));
        assert_eq!(at(59_501), Freshness::Lost(60_001));
    }

    #[test]
    fn a_kept_value_is_stale_at_best_and_ages_by_its_own_time() {
        for came in [Came::Retained, Came::BeforeSleep] {
            let heard = Heard { came, ..live(0) };
            let now = Uptime::from_millis(100_000);
            assert_eq!(heard.freshness(0, Some(0), now), Freshness::Stale(0));
            assert_eq!(heard.freshness(0, None, now), Freshness::Stale(0));
            assert_eq!(
                heard.freshness(0, Some(3_600_000), now),
                Freshness::Lost(3_600_000)
            );
            assert_eq!(
                heard.freshness(1_000, None, Uptime::from_millis(160_000)),
                Freshness::Lost(61_000)
            );
        }
    }

    #[test]
    fn a_payload_that_waited_is_as_old_as_it_is() {
        let mut pace = Pace::default();
        let mut heard = |at: u64, sent: i64| pace.delay_ms(Uptime::from_millis(at), sent, 1);
        assert_eq!(heard(1_000, 70_000), 0);
        assert_eq!(heard(2_000, 71_000), 0);
        assert_eq!(
            heard(32_000, 72_000),
            28_985,
            "a stalled line, then a burst"
        );
        assert_eq!(heard(32_000, 101_000), 0, "the newest of the burst");
        assert_eq!(heard(33_000, 40_000), 0, "a clock that was set back");
    }

    #[test]
    fn a_clock_that_is_200_ppm_slow_looks_like_a_clock_and_not_like_a_long_way() {
        let mut pace = Pace::default();
        for second in 0..86_400_u64 {
            let sent = i64::try_from(second * 1_000 - second / 5).unwrap();
            let delay = pace.delay_ms(Uptime::from_millis(second * 1_000), sent, 1);
            assert!(delay <= 1, "{delay} ms at {second} s");
        }
    }
}
