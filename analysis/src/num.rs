//! The few places where a number changes its type, each with what it may lose.

/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 3_600_000;

/// A whole number as a float; exact below 2^53, and no time or volume of a trial is beyond.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "times in milliseconds and volumes in nanolitres of a trial are below 2^53"
)]
pub const fn float(value: i64) -> f64 {
    value as f64
}

/// A count as a float.
pub fn count(value: usize) -> f64 {
    float(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A float as the nearest whole number; what is beyond i64 becomes its end, NaN becomes 0.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a cast from float to integer saturates, which is what is wanted"
)]
pub fn nearest(value: f64) -> i64 {
    value.round() as i64
}

/// Milliseconds as hours.
pub fn hours(ms: i64) -> f64 {
    float(ms) / float(HOUR_MS)
}

/// Hours as whole milliseconds.
pub fn millis(hours: f64) -> i64 {
    nearest(hours * float(HOUR_MS))
}

/// `value` cut to so many decimals, so that the last bits of a sum do not reach a file; `None` for
/// what is no number.
pub fn rounded(value: f64, decimals: i32) -> Option<f64> {
    let scale = 10f64.powi(decimals);
    let shown = (value * scale).round() / scale;
    // Minus zero would print as -0.0.
    shown.is_finite().then_some(shown + 0.0)
}

/// A number for people: at most so many decimals, no zeros behind (`1`, not `1.0`), a true minus.
pub fn shown(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    match text.strip_prefix('-') {
        Some("0") => "0".into(),
        Some(size) => format!("−{size}"),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_unknown_and_zero_has_no_sign() {
        assert_eq!(rounded(f64::NAN, 2), None);
        assert_eq!(rounded(f64::INFINITY, 2), None);
        assert_eq!(rounded(-0.0001, 2).map(f64::is_sign_negative), Some(false));
        assert_eq!(rounded(1.005_1, 2), Some(1.01));
        assert_eq!(nearest(f64::NAN), 0);
    }

    #[test]
    fn numbers_for_people_have_no_zeros_behind_and_a_true_minus() {
        let cases = [
            (12.0, "12"),
            (0.5, "0.5"),
            (100.04, "100"),
            (-3.26, "−3.3"),
            (-0.01, "0"),
            (10.0, "10"),
        ];
        for (value, wanted) in cases {
            assert_eq!(shown(value, 1), wanted);
        }
        assert_eq!(shown(120.0, 0), "120");
    }
}
