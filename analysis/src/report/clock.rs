//! Times for people: the ward's own, with the zone named.

use crate::num::{HOUR_MS, float, hours};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Shows instants in one zone.
#[derive(Clone, Debug)]
pub struct Clock {
    zone: TimeZone,
    name: String,
}

impl Clock {
    /// In a zone of a name.
    pub fn new(zone: TimeZone, name: &str) -> Self {
        Self {
            zone,
            name: protocol::text::clean(name, 40),
        }
    }

    /// The zone's name.
    pub fn zone_name(&self) -> &str {
        &self.name
    }

    /// The zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    fn show(&self, at_ms: i64, form: &str) -> String {
        Timestamp::from_millisecond(at_ms).map_or_else(
            |_| "?".into(),
            |at| at.to_zoned(self.zone.clone()).strftime(form).to_string(),
        )
    }

    /// `3 Nov 2026`
    pub fn date(&self, at_ms: i64) -> String {
        self.show(at_ms, "%-d %b %Y")
    }

    /// `Tue 3 Nov`
    pub fn day(&self, at_ms: i64) -> String {
        self.show(at_ms, "%a %-d %b")
    }

    /// `14:05`
    pub fn time(&self, at_ms: i64) -> String {
        self.show(at_ms, "%H:%M")
    }

    /// `3 Nov 14:05`
    pub fn moment(&self, at_ms: i64) -> String {
        self.show(at_ms, "%-d %b %H:%M")
    }

    /// Hour of the day on the wall, 0 to 24.
    pub fn hour_of_day(&self, at_ms: i64) -> f64 {
        Timestamp::from_millisecond(at_ms).map_or(0.0, |at| {
            let zoned = at.to_zoned(self.zone.clone());
            let minutes = i64::from(zoned.hour()) * 60 + i64::from(zoned.minute());
            hours(minutes * (HOUR_MS / 60))
        })
    }
}

/// A length of time: `3 h 10 min`, `45 min`.
pub fn length(ms: i64) -> String {
    let minutes = crate::num::nearest(float(ms) / 60_000.0);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_wall() {
        let (zone, _) = crate::gaps::zone("Europe/Berlin");
        let clock = Clock::new(zone, "Europe/Berlin");
        let at = "2026-11-03T13:05:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .as_millisecond();
        assert_eq!(clock.moment(at), "3 Nov 14:05");
        assert_eq!(clock.day(at), "Tue 3 Nov");
        assert!((clock.hour_of_day(at) - 14.0 - 5.0 / 60.0).abs() < 1e-9);
        assert_eq!(length(11_400_000), "3 h 10 min");
    }
}
