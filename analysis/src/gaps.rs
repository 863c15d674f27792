//! Gaps: time in which the patient was awake and no score was given. Pure but for the zone's
//! nights, which come from the time zone data of this program.
//!
//! A patient who sleeps is not asked: night hours and hours after a note "asleep" do not count as
//! awake. Nothing is ever filled in: a gap too long is left out of every mean, and drawn hatched.

use crate::num::{HOUR_MS, millis};
use crate::trial::{Span, merged};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// The zone of that name; UTC where there is none, and then the second value is false.
pub fn zone(name: &str) -> (TimeZone, bool) {
    TimeZone::get(name).map_or((TimeZone::UTC, false), |zone| (zone, true))
}

/// When the patient is taken to be asleep, in order and without overlap.
///
/// `marks` are notes that the patient was asleep: each holds `valid_h` hours, at most until the
/// next of `awake`, which are answered scores.
pub fn sleep(
    whole: Span,
    zone: &TimeZone,
    night_h: (f64, f64),
    marks: &[i64],
    valid_h: f64,
    awake: &[i64],
) -> Vec<Span> {
    let mut spans = nights(whole, zone, night_h);
    for mark in marks {
        let next = awake.iter().copied().find(|at| at > mark);
        let until = mark.saturating_add(millis(valid_h));
        spans.push(Span::new(*mark, next.map_or(until, |at| at.min(until))));
    }
    merged(spans)
}

/// The zone's nights that touch the span, by the clock on the wall: a change to summer time makes
/// one night shorter.
pub fn nights(whole: Span, zone: &TimeZone, (from_h, to_h): (f64, f64)) -> Vec<Span> {
    let Ok(start) = Timestamp::from_millisecond(whole.from_ms) else {
        return Vec::new();
    };
    let mut date = start.to_zoned(zone.clone()).date().saturating_sub(1.day());
    let at = |date: jiff::civil::Date, hour: f64| {
        let minutes = millis(hour) / 60_000;
        let clock = date.to_datetime(jiff::civil::Time::midnight()) + minutes.minutes();
        zone.to_ambiguous_zoned(clock)
            .compatible()
            .map(|zoned| zoned.timestamp().as_millisecond())
    };
    let mut out = Vec::new();
    loop {
        let end_h = if to_h <= from_h { to_h + 24.0 } else { to_h };
        let (Ok(from), Ok(to)) = (at(date, from_h), at(date, end_h)) else {
            return out;
        };
        if from >= whole.to_ms {
            return out;
        }
        if to > whole.from_ms && from < to {
            out.push(Span::new(from, to));
        }
        date = date.saturating_add(1.day());
    }
}

/// Local midnights in the span.
pub fn midnights(whole: Span, zone: &TimeZone) -> Vec<i64> {
    nights(whole, zone, (0.0, 1.0))
        .into_iter()
        .map(|night| night.from_ms)
        .filter(|at| whole.contains(*at))
        .collect()
}

/// Awake milliseconds between two instants.
pub fn awake_ms(between: Span, sleep: &[Span]) -> i64 {
    between.ms() - between.covered_ms(sleep)
}

/// The gaps of a phase: spans between answered scores, or between one and the phase's end, in
/// which the patient was awake for longer than `longest_h`.
pub fn gaps(window: Span, answered: &[i64], sleep: &[Span], longest_h: f64) -> Vec<Span> {
    between(window, answered)
        .into_iter()
        .filter(|span| awake_ms(*span, sleep) > millis(longest_h))
        .collect()
}

/// The longest awake time without an answered score, in hours; none for an empty span.
pub fn longest_gap_h(window: Span, answered: &[i64], sleep: &[Span]) -> Option<f64> {
    between(window, answered)
        .into_iter()
        .map(|span| awake_ms(span, sleep))
        .max()
        .map(crate::num::hours)
}

fn between(window: Span, answered: &[i64]) -> Vec<Span> {
    let inside = answered.iter().copied().filter(|at| window.contains(*at));
    let mut from = window.from_ms;
    let mut out = Vec::new();
    for at in inside.chain([window.to_ms]) {
        if at > from {
            out.push(Span::new(from, at));
        }
        from = at;
    }
    out
}

/// The UTC hour of an instant.
pub const fn hour_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(HOUR_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::hours_ms;

    #[test]
    fn a_night_is_as_long_as_the_clock_on_the_wall_says() {
        let (berlin, known) = zone("Europe/Berlin");
        assert!(known);
        // 29 March 2026: the clock jumps from 02:00 to 03:00.
        let from = "2026-03-28T12:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .as_millisecond();
        let seen = nights(Span::new(from, from + hours_ms(48)), &berlin, (22.0, 7.0));
        let lengths: Vec<i64> = seen.iter().map(|s| s.ms() / HOUR_MS).collect();
        assert_eq!(lengths, [8, 9]);
        assert!(!zone("Nowhere/Land").1);
    }

    #[test]
    fn sleep_is_no_gap_and_a_day_without_scores_is() {
        let day = Span::new(0, hours_ms(24));
        let night = [Span::new(hours_ms(12), hours_ms(21))];
        let answered: Vec<i64> = [0, 4, 8, 11, 22].map(hours_ms).to_vec();
        assert_eq!(gaps(day, &answered, &night, 6.0), []);
        assert_eq!(longest_gap_h(day, &answered, &night), Some(4.0));
        let few: Vec<i64> = [0, 11, 22].map(hours_ms).to_vec();
        assert_eq!(gaps(day, &few, &night, 6.0), [Span::new(0, hours_ms(11))]);
    }

    #[test]
    fn a_note_asleep_holds_until_the_next_answer_and_no_longer_than_set() {
        let (utc, _) = zone("UTC");
        let never = (0.0, 0.0);
        let seen = sleep(
            Span::new(0, 0),
            &utc,
            never,
            &[hours_ms(1), hours_ms(40)],
            5.0,
            &[hours_ms(3)],
        );
        assert_eq!(
            seen,
            [
                Span::new(hours_ms(1), hours_ms(3)),
                Span::new(hours_ms(40), hours_ms(45))
            ]
        );
    }
}
