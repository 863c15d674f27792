//! Two clocks, two types: [`Uptime`] orders and times things on one end and starts at zero at each
//! start; [`Timestamp`] is UTC, for people. Both are made from a number, so a test sets the time.

use core::ops::{Add, Sub};
use serde::{Deserialize, Serialize};

/// Milliseconds since this end started. Monotonic.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Uptime(u64);

impl Uptime {
    /// The start itself.
    pub const ZERO: Self = Self(0);

    /// From whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// In whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Milliseconds from `earlier` to this; 0 where `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Uptime {
    type Output = Self;
    /// Later by so many milliseconds; stays at the end of time.
    fn add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From Unix milliseconds.
    pub const fn from_unix_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// As Unix milliseconds.
    pub const fn as_unix_millis(self) -> i64 {
        self.0
    }

    /// To the nearest whole minute, halves up.
    pub const fn rounded_to_minute(self) -> Self {
        Self(
            self.0
                .saturating_add(30_000)
                .div_euclid(60_000)
                .saturating_mul(60_000),
        )
    }
}

impl Add<i64> for Timestamp {
    type Output = Self;
    /// Later by so many milliseconds.
    fn add(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub for Timestamp {
    type Output = i64;
    /// Milliseconds between two instants.
    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

/// The same instant on both clocks of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall time since start: drives resending, link and freshness.
    pub uptime: Uptime,
    /// UTC of the trial: stamps events. Runs faster than the wall in an accelerated trial.
    pub utc: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_rounded_to_the_nearest_also_before_1970() {
        assert_eq!(
            Timestamp::from_unix_millis(89_999)
                .rounded_to_minute()
                .as_unix_millis(),
            60_000
        );
        assert_eq!(
            Timestamp::from_unix_millis(90_000)
                .rounded_to_minute()
                .as_unix_millis(),
            120_000
        );
        assert_eq!(
            Timestamp::from_unix_millis(-89_999)
                .rounded_to_minute()
                .as_unix_millis(),
            -60_000
        );
    }
}
