//! The only file of the bedside that reads a clock. Trial time is wall time, or an origin plus
//! wall time at a multiple of its speed.

use protocol::time::{Now, Timestamp, Uptime};
use std::fmt;
use std::str::FromStr;
use std::time::{Instant, SystemTime};

/// Which clock a trial runs by: `wall`, or `RFC3339@N` from the start of the program, or
/// `RFC3339@N@UNIX_MS` from that instant of the wall clock, so that programs that start later
/// agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Trial time is wall time.
    #[default]
    Wall,
    /// Trial time runs faster.
    Accelerated {
        /// Trial time at the anchor.
        origin: Timestamp,
        /// Trial seconds a wall second.
        speed: u32,
        /// Wall time at which it was `origin`; the start of the program where it is none.
        anchor: Option<Timestamp>,
    },
}

impl Mode {
    /// Trial seconds a wall second.
    pub fn speed(&self) -> u32 {
        match self {
            Self::Wall => 1,
            Self::Accelerated { speed, .. } => *speed,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wall => f.write_str("wall"),
            Self::Accelerated {
                origin,
                speed,
                anchor,
            } => {
                let at = jiff::Timestamp::from_millisecond(origin.as_unix_millis())
                    .map_err(|_| fmt::Error)?;
                write!(f, "{at}@{speed}")?;
                anchor.map_or(Ok(()), |a| write!(f, "@{}", a.as_unix_millis()))
            }
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "wall" {
            return Ok(Self::Wall);
        }
        let wanted = || {
            format!("{text:?} is neither `wall` nor `RFC3339@N`, such as `2026-03-02T08:00:00Z@60`")
        };
        let mut parts = text.split('@');
        let origin: jiff::Timestamp = parts
            .next()
            .and_then(|t| t.parse().ok())
            .ok_or_else(wanted)?;
        let speed = parts
            .next()
            .and_then(|n| n.parse().ok())
            .filter(|n| (1..=100_000).contains(n));
        let speed = speed.ok_or_else(|| format!("{}; the speed is 1 to 100000", wanted()))?;
        let anchor = match parts.next() {
            Some(ms) => Some(Timestamp::from_unix_millis(
                ms.parse().map_err(|_| wanted())?,
            )),
            None => None,
        };
        if parts.next().is_some() {
            return Err(wanted());
        }
        Ok(Self::Accelerated {
            origin: Timestamp::from_unix_millis(origin.as_millisecond()),
            speed,
            anchor,
        })
    }
}

/// Reads the time. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_utc: Timestamp,
    mode: Mode,
}

impl Clock {
    /// From now on.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the file that reads the clock"
    )]
    pub fn start(mode: Mode) -> Self {
        Self {
            started: Instant::now(),
            started_utc: wall_utc(),
            mode,
        }
    }

    /// The trial's clock.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Wall time since the start, and trial time.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the file that reads the clock"
    )]
    pub fn now(&self) -> Now {
        let since = Instant::now()
            .saturating_duration_since(self.started)
            .as_millis();
        let uptime = Uptime::from_millis(u64::try_from(since).unwrap_or(u64::MAX));
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        let utc = match self.mode {
            Mode::Wall => wall_utc(),
            Mode::Accelerated {
                origin,
                speed,
                anchor,
            } => {
                let before = anchor.map_or(0, |a| self.started_utc - a);
                origin
                    + before
                        .saturating_add(since)
                        .saturating_mul(i64::from(speed))
            }
        };
        Now { uptime, utc }
    }

    /// How far the wall clock was set since the start against the monotonic one, milliseconds.
    pub fn wall_step_ms(&self) -> i64 {
        let now = self.now();
        let elapsed = i64::try_from(now.uptime.as_millis()).unwrap_or(i64::MAX);
        (wall_utc() - self.started_utc).saturating_sub(elapsed)
    }
}

/// UTC by the machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads the clock"
)]
pub fn wall_utc() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_read_as_they_are_written_and_nonsense_is_named() {
        for text in [
            "wall",
            "2026-03-02T08:00:00Z@5000",
            "2026-03-02T08:00:00Z@60@1790000000000",
        ] {
            assert_eq!(text.parse::<Mode>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "fast",
            "2026-03-02T08:00:00Z",
            "2026-03-02T08:00:00Z@0",
            "2026-03-02@5@x",
        ] {
            assert!(
                bad.parse::<Mode>().unwrap_err().contains("RFC3339@N"),
                "{bad}"
            );
        }
    }
}
