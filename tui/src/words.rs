//! Ages, times and numbers as text. Integers only; times in the zone of the bed.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Columns that a text takes: its characters, each being one column wide.
pub(crate) fn columns(text: &str) -> u16 {
    small(text.chars().count())
}

/// A count of columns or rows; the most there is where it does not fit.
pub(crate) fn small(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// An age in at most four characters, rounded down: `42s`, `118m`, `31h`, `5d`.
pub(crate) fn age(ms: u64) -> String {
    match ms {
        0..MINUTE => format!("{}s", ms / SECOND),
        MINUTE..7_200_000 => format!("{}m", ms / MINUTE),
        7_200_000..172_800_000 => format!("{}h", ms / HOUR),
        _ => format!("{}d", (ms / (24 * HOUR)).min(9_999)),
    }
}

/// A span as `0:42` or `1:02:03`, rounded down.
pub(crate) fn span(ms: u64) -> String {
    let (h, m, s) = (ms / HOUR, ms / MINUTE % 60, ms / SECOND % 60);
    if h == 0 {
        format!("{m}:{s:02}")
    } else {
        format!("{}:{m:02}:{s:02}", h.min(99_999))
    }
}

/// Milliseconds from `earlier` to `later`, 0 where it is the other way round.
pub(crate) fn since(later: i64, earlier: i64) -> u64 {
    u64::try_from(later.saturating_sub(earlier)).unwrap_or(0)
}

/// A time in a zone, as `format` says; `?` where there is no such time.
pub(crate) fn local(utc_ms: i64, zone: &TimeZone, format: &str) -> String {
    match Timestamp::from_millisecond(utc_ms) {
        Ok(at) => at.to_zoned(zone.clone()).strftime(format).to_string(),
        Err(_) => "?".into(),
    }
}

/// The zone of a name, and the name that it is shown by; UTC where there is no such zone.
pub(crate) fn zone(name: &str) -> (TimeZone, String) {
    match TimeZone::get(name) {
        Ok(zone) => (zone, name.into()),
        Err(_) => (TimeZone::UTC, "UTC".into()),
    }
}

/// `part` of `whole` in tenths of a percent, rounded to the nearest; none of nothing.
pub(crate) fn permille(part: u64, whole: u64) -> Option<u64> {
    let half = u128::from(whole / 2);
    let exact = (u128::from(part) * 1_000 + half).checked_div(u128::from(whole))?;
    u64::try_from(exact).ok()
}

/// Tenths of a percent as `98.6 %`.
pub(crate) fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Thousandths as a decimal without zeros at its end.
pub(crate) fn milli(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let size = value.unsigned_abs();
    let fraction = format!("{:03}", size % 1_000);
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{}", size / 1_000),
        digits => format!("{sign}{}.{digits}", size / 1_000),
    }
}

/// Hundredths as a decimal with one digit, rounded half up.
pub(crate) fn centi(value: u32) -> String {
    let tenths = (u64::from(value) + 5) / 10;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_take_few_columns_and_never_look_younger_than_a_unit() {
        let cases = [
            (0, "0s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (7_199_999, "119m"),
            (7_200_000, "2h"),
            (172_800_000, "2d"),
            (u64::MAX, "9999d"),
        ];
        for (ms, wanted) in cases {
            assert_eq!(age(ms), wanted);
        }
        assert_eq!(span(42_000), "0:42");
        assert_eq!(span(3_723_000), "1:02:03");
    }

    #[test]
    fn numbers_are_rounded_once_and_named() {
        assert_eq!(permille(13_800, 14_000), Some(986));
        assert_eq!(permille(1, 0), None);
        assert_eq!(percent(986), "98.6 %");
        assert_eq!(milli(36_800), "36.8");
        assert_eq!(milli(-7_000), "-7");
        assert_eq!(centi(795), "8.0");
        assert_eq!(local(i64::MAX, &TimeZone::UTC, "%H:%M"), "?");
    }
}
