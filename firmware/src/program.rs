//! What to infuse when: a rate for each part of the day.
//!
//! Local time is the pump's own clock and an offset that a clinician set. A program of one rate
//! needs no clock.

use protocol::units::{FlowRate, Volume};
use protocol::wire_struct;

/// Most parts of a day.
pub const PARTS_MAX: usize = 8;
/// Minutes of a day.
pub const DAY_MIN: u16 = 1_440;
const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;

/// From here on, this rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DayPart {
    /// Minutes after local midnight.
    pub from_min: u16,
    /// The rate from then on.
    pub rate: FlowRate,
}

wire_struct!(DayPart { from_min, rate });

/// Rates by part of the day; the last part goes on over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    parts: [DayPart; PARTS_MAX],
    count: u8,
}

wire_struct!(Program { parts, count });

/// Why parts are not a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// None, or more than [`PARTS_MAX`].
    Count(usize),
    /// Not in order of time, twice at one time, or after the end of the day.
    Order,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Count(seen) => write!(f, "{seen} parts of the day, wanted 1 to {PARTS_MAX}"),
            Self::Order => f.write_str("parts of the day are not in order"),
        }
    }
}

/// The pump's own clock related to its ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalClock {
    /// Local milliseconds since 1970 at tick 0.
    local_at_zero_ms: i64,
}

impl LocalClock {
    /// From one reading of the clock, UTC.
    pub fn new(tick_ms: u64, utc_ms: u64, offset_min: i16) -> Self {
        let utc = i64::try_from(utc_ms).unwrap_or(i64::MAX);
        let tick = i64::try_from(tick_ms).unwrap_or(i64::MAX);
        Self {
            local_at_zero_ms: utc
                .saturating_add(i64::from(offset_min) * 60_000)
                .saturating_sub(tick),
        }
    }

    /// Milliseconds after local midnight.
    pub fn ms_of_day(self, tick_ms: u64) -> u64 {
        let tick = i64::try_from(tick_ms).unwrap_or(i64::MAX);
        let day = i64::try_from(DAY_MS).unwrap_or(i64::MAX);
        let ms = self.local_at_zero_ms.saturating_add(tick).rem_euclid(day);
        u64::try_from(ms).unwrap_or(0)
    }

    /// Minutes after local midnight.
    pub fn minute_of_day(self, tick_ms: u64) -> u16 {
        u16::try_from(self.ms_of_day(tick_ms) / MINUTE_MS).unwrap_or(0)
    }

    /// The first tick after `tick_ms` at which the day is `minute` minutes old.
    pub fn next_tick_at(self, tick_ms: u64, minute: u16) -> u64 {
        let wanted = u64::from(minute % DAY_MIN) * MINUTE_MS;
        let now = self.ms_of_day(tick_ms);
        let wait = if wanted > now {
            wanted - now
        } else {
            DAY_MS - now + wanted
        };
        tick_ms.saturating_add(wait)
    }
}

impl Program {
    /// One rate all day.
    pub fn constant(rate: FlowRate) -> Self {
        Self {
            parts: [DayPart { from_min: 0, rate }; PARTS_MAX],
            count: 1,
        }
    }

    /// Rates by parts of the day.
    ///
    /// # Errors
    /// Where they are too many or not in order.
    pub fn new(parts: &[DayPart]) -> Result<Self, Error> {
        let count = u8::try_from(parts.len()).unwrap_or(0);
        let Some(first) = parts.first().filter(|_| parts.len() <= PARTS_MAX) else {
            return Err(Error::Count(parts.len()));
        };
        let in_order = parts.is_sorted_by(|a, b| a.from_min < b.from_min);
        if !in_order || parts.iter().any(|p| p.from_min >= DAY_MIN) {
            return Err(Error::Order);
        }
        let mut kept = [*first; PARTS_MAX];
        kept.iter_mut()
            .zip(parts)
            .for_each(|(to, from)| *to = *from);
        Ok(Self { parts: kept, count })
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[DayPart] {
        self.parts
            .get(..usize::from(self.count))
            .unwrap_or(&self.parts)
    }

    /// Whether it needs to know the time of day.
    pub fn needs_clock(&self) -> bool {
        self.count > 1
    }

    /// The rate at a minute of the day. Without a clock a program of several parts gives its
    /// lowest rate.
    pub fn rate_at(&self, minute: Option<u16>) -> FlowRate {
        let Some(minute) = minute else {
            return self
                .parts()
                .iter()
                .map(|p| p.rate)
                .min()
                .unwrap_or_default();
        };
        let now = self.parts().iter().rev().find(|p| p.from_min <= minute);
        now.or(self.parts().last())
            .map_or(FlowRate::ZERO, |p| p.rate)
    }

    /// The highest rate of the day.
    pub fn peak(&self) -> FlowRate {
        self.parts()
            .iter()
            .map(|p| p.rate)
            .max()
            .unwrap_or_default()
    }

    /// The volume of a whole day, rounded up.
    pub fn volume_a_day(&self) -> Volume {
        let first = self.parts().first().map_or(0, |p| p.from_min);
        let ends = self.parts().iter().skip(1).map(|p| p.from_min);
        let ends = ends.chain([DAY_MIN.saturating_add(first)]);
        let sum: u64 = self
            .parts()
            .iter()
            .zip(ends)
            .map(|(part, end)| {
                let minutes = u64::from(end.saturating_sub(part.from_min));
                (u64::from(part.rate.as_nanoliters_per_hour()) * minutes).div_ceil(60)
            })
            .sum();
        Volume::from_nanoliters(sum)
    }

    /// The first tick after `tick_ms` at which another part begins.
    pub fn next_part_at(&self, tick_ms: u64, clock: Option<LocalClock>) -> Option<u64> {
        let clock = clock?;
        if !self.needs_clock() {
            return None;
        }
        let starts = self.parts().iter();
        starts
            .map(|p| clock.next_tick_at(tick_ms, p.from_min))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(nl_per_h: u32) -> FlowRate {
        FlowRate::from_nanoliters_per_hour(nl_per_h)
    }

    fn day_and_night() -> Program {
        let part = |from_min, nl| DayPart {
            from_min,
            rate: rate(nl),
        };
        Program::new(&[part(7 * 60, 500_000), part(22 * 60, 300_000)]).unwrap()
    }

    #[test]
    fn the_last_part_goes_on_over_midnight() {
        let program = day_and_night();
        for (minute, wanted) in [
            (0, 300_000),
            (419, 300_000),
            (420, 500_000),
            (1_319, 500_000),
            (1_320, 300_000),
            (1_439, 300_000),
        ] {
            assert_eq!(program.rate_at(Some(minute)), rate(wanted), "{minute}");
        }
        assert_eq!(program.rate_at(None), rate(300_000));
        assert_eq!(
            program.volume_a_day(),
            Volume::from_nanoliters(15 * 500_000 + 9 * 300_000)
        );
    }

    #[test]
    fn parts_out_of_order_are_refused() {
        let part = |from_min| DayPart {
            from_min,
            rate: rate(1),
        };
        assert_eq!(Program::new(&[]), Err(Error::Count(0)));
        assert_eq!(Program::new(&[part(5), part(5)]), Err(Error::Order));
        assert_eq!(Program::new(&[part(1_440)]), Err(Error::Order));
        let nine: [DayPart; 9] = core::array::from_fn(|i| part(u16::try_from(i).unwrap()));
        assert_eq!(Program::new(&nine), Err(Error::Count(9)));
    }

    #[test]
    fn the_next_part_is_found_across_midnight_and_offset() {
        // 2026-01-01T21:30Z at tick 1,000, two hours east: 23:30 local.
        let clock = LocalClock::new(1_000, 1_767_303_000_000, 120);
        assert_eq!(clock.minute_of_day(1_000), 23 * 60 + 30);
        let program = day_and_night();
        let next = program.next_part_at(1_000, Some(clock)).unwrap();
        assert_eq!(next, 1_000 + (7 * 60 + 30) * 60_000);
        assert_eq!(
            program.next_part_at(next, Some(clock)).unwrap(),
            next + 15 * 3_600_000
        );
    }
}
