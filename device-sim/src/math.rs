//! Arithmetic that gives the same bits on every machine: only `+ - * /`, which IEEE 754 fixes, and
//! no function of the system's math library, whose last digit differs from one to the next. A
//! virtual patient computed with it presses the same keys everywhere.

const LN_2: f64 = core::f64::consts::LN_2;

/// 2 to the power of `x`, for `x` from -60 to 60; beyond, the value at the border.
pub fn exp2(x: f64) -> f64 {
    let x = x.clamp(-60.0, 60.0);
    let whole = x.floor();
    let rest = (x - whole) * LN_2;
    // Taylor's series: 18 terms leave less than 1e-16 for a rest below ln 2.
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..=18_u32 {
        term *= rest / f64::from(n);
        sum += term;
    }
    let factor = if whole < 0.0 { 0.5 } else { 2.0 };
    let mut left = whole.abs();
    while left >= 1.0 {
        sum *= factor;
        left -= 1.0;
    }
    sum
}

/// What is left of 1 after `span`, where half is left after `half_life`; both in the same unit.
pub fn remaining(span: f64, half_life: f64) -> f64 {
    exp2(-span / half_life)
}

/// Cosine of a part of a full turn: 0 gives 1, 0.5 gives -1.
pub fn cos_turns(turns: f64) -> f64 {
    let part = turns - turns.floor();
    let (part, sign) = if (0.25..0.75).contains(&part) {
        (part - 0.5, -1.0)
    } else if part >= 0.75 {
        (part - 1.0, 1.0)
    } else {
        (part, 1.0)
    };
    let angle = part * core::f64::consts::TAU;
    let square = angle * angle;
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..=11_u32 {
        term *= -square / f64::from((2 * n - 1) * (2 * n));
        sum += term;
    }
    sign * sum
}

/// The nearest whole number, halves up; 0 for what is negative or no number.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the one place where a float becomes an integer: `as` saturates and maps NaN to 0"
)]
pub fn whole(x: f64) -> u64 {
    (x + 0.5).floor() as u64
}

/// As a float; exact below 2^53.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the one place where a large integer becomes a float"
)]
pub fn float(x: u64) -> f64 {
    x as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_cosines_agree_with_the_library_to_twelve_digits() {
        for i in -4_000..4_000 {
            let x = f64::from(i) / 100.0;
            assert!((exp2(x) / x.exp2() - 1.0).abs() < 1e-12, "2^{x}");
            let wanted = (x * core::f64::consts::TAU).cos();
            assert!((cos_turns(x) - wanted).abs() < 1e-10, "cos {x}");
        }
    }

    #[test]
    fn rounding_takes_halves_up_and_survives_what_is_no_number() {
        let cases = [(0.49, 0), (0.5, 1), (9.5, 10), (-3.0, 0), (f64::NAN, 0)];
        for (x, wanted) in cases {
            assert_eq!(whole(x), wanted, "{x}");
        }
    }
}
