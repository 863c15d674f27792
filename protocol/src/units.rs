//! Quantities with the unit in the constructor's name and a private integer inside.
//!
//! Volume in nanolitres, rate in nanolitres an hour, mass in nanograms. Text for people is made
//! here alone, the way ISMP asks (*List of Error-Prone Abbreviations*): `mcg` not µg, a space
//! before the unit, `0.5` not `.5`, `1` not `1.0`.

use crate::wire::{Reader, Wire, Writer};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Milliseconds in an hour.
pub const HOUR_MS: u64 = 3_600_000;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($repr:ty), $from:ident, $as:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name($repr);

        impl Wire for $name {
            fn put(&self, to: &mut Writer<'_>) {
                self.0.put(to);
            }
            fn take(from: &mut Reader<'_>) -> Self {
                Self(Wire::take(from))
            }
        }

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);

            /// From the unit of the name.
            pub const fn $from(value: $repr) -> Self {
                Self(value)
            }

            /// In the unit of the name.
            pub const fn $as(self) -> $repr {
                self.0
            }

            /// The sum, or `None` where it does not fit.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// The difference, 0 where `other` is greater.
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
    };
}

quantity! {
    /// A volume of drug solution in nanolitres.
    Volume(u64), from_nanoliters, as_nanoliters
}
quantity! {
    /// A flow of drug solution in nanolitres an hour; at most 4.29 L/h.
    FlowRate(u32), from_nanoliters_per_hour, as_nanoliters_per_hour
}
quantity! {
    /// A mass of drug in nanograms.
    Mass(u64), from_nanograms, as_nanograms
}
quantity! {
    /// A concentration in micrograms a millilitre, which is nanograms a microlitre.
    Concentration(u32), from_micrograms_per_milliliter, as_micrograms_per_milliliter
}

impl Volume {
    /// From microlitres; `None` where it does not fit.
    pub const fn from_microliters(ul: u64) -> Option<Self> {
        match ul.checked_mul(1_000) {
            Some(nl) => Some(Self(nl)),
            None => None,
        }
    }
}

impl FlowRate {
    /// The volume of `ms` milliseconds at this rate, cut to whole nanolitres, and the remainder in
    /// nL·ms/h that the next span must begin with: spans added so lose nothing.
    pub fn volume_in(self, ms: u64, remainder: u64) -> (Volume, u64) {
        let exact = u128::from(self.0) * u128::from(ms) + u128::from(remainder);
        let (whole, remainder) = divided(exact, HOUR_MS);
        (Volume(u64::try_from(whole).unwrap_or(u64::MAX)), remainder)
    }
}

/// Quotient and remainder; 0 divides as 1 would. Here once, since what the compiler puts in place
/// of `/` is most of a kilobyte each time, and a product mostly fits in 64 bits.
#[inline(never)]
pub fn divided(dividend: u128, divisor: u64) -> (u128, u64) {
    let divisor = divisor.max(1);
    let (high, low) = halves(dividend);
    // The high half as on paper; then what is left of it goes on with the low half, bit by bit.
    let (whole, mut left) = (high / divisor, high % divisor);
    if left == 0 {
        return (joined(whole, low / divisor), low % divisor);
    }
    let (mut bits, mut quotient) = (low, 0);
    for _ in 0..u64::BITS {
        // Twice what is left, and a bit, may have a 65th bit, which then is above the divisor.
        let carry = left >> 63 == 1;
        left = left << 1 | bits >> 63;
        bits <<= 1;
        quotient <<= 1;
        if carry || left >= divisor {
            left = left.wrapping_sub(divisor);
            quotient |= 1;
        }
    }
    (joined(whole, quotient), left)
}

fn halves(whole: u128) -> (u64, u64) {
    let half = |bits| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    (half(whole >> 64), half(whole))
}

fn joined(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

impl Concentration {
    /// The mass of drug in a volume, cut to whole nanograms. `None` where it does not fit.
    ///
    /// ```
    /// # use protocol::units::{Concentration, Volume};
    /// let morphine = Concentration::from_micrograms_per_milliliter(500);
    /// let bolus = morphine.mass_in_rounded_down(Volume::from_nanoliters(200_000)).unwrap();
    /// assert_eq!(bolus.to_string(), "100 mcg");
    /// ```
    pub fn mass_in_rounded_down(self, volume: Volume) -> Option<Mass> {
        let (ng, _) = divided(u128::from(self.0) * u128::from(volume.0), 1_000);
        u64::try_from(ng).ok().map(Mass)
    }
}

/// Writes `value / 10^digits` without trailing zeros and with a leading one, at most `shown`
/// decimals, rounded half up.
fn decimal(f: &mut fmt::Formatter<'_>, value: u64, digits: u32, shown: u32) -> fmt::Result {
    let drop = 10u64.pow(digits.saturating_sub(shown));
    let rounded = value / drop + u64::from(value % drop >= drop.div_ceil(2) && drop > 1);
    let scale = 10u64.pow(digits.min(shown));
    write!(f, "{}", rounded / scale)?;
    let mut fraction = rounded % scale;
    if fraction == 0 {
        return Ok(());
    }
    let mut width = digits.min(shown);
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        width -= 1;
    }
    write!(
        f,
        ".{fraction:0width$}",
        width = usize::try_from(width).unwrap_or(0)
    )
}

impl fmt::Display for Volume {
    /// Millilitres to a thousandth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(f, self.0, 6, 3)?;
        f.write_str(" mL")
    }
}

impl fmt::Display for FlowRate {
    /// Millilitres an hour to a thousandth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(f, u64::from(self.0), 6, 3)?;
        f.write_str(" mL/h")
    }
}

impl fmt::Display for Mass {
    /// Micrograms below 10 mg, then milligrams; to a thousandth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 10_000_000 {
            decimal(f, self.0, 3, 3)?;
            f.write_str(" mcg")
        } else {
            decimal(f, self.0, 6, 3)?;
            f.write_str(" mg")
        }
    }
}

impl fmt::Display for Concentration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mcg/mL", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_follows_ismp() {
        let cases = [
            (Volume::from_nanoliters(500_000).to_string(), "0.5 mL"),
            (Volume::from_nanoliters(1_000_000).to_string(), "1 mL"),
            (Volume::from_nanoliters(13_799_600).to_string(), "13.8 mL"),
            (Volume::from_nanoliters(50).to_string(), "0 mL"),
            (
                FlowRate::from_nanoliters_per_hour(420_000).to_string(),
                "0.42 mL/h",
            ),
            (Mass::from_nanograms(1_500).to_string(), "1.5 mcg"),
            (Mass::from_nanograms(12_000_000).to_string(), "12 mg"),
            (
                Concentration::from_micrograms_per_milliliter(500).to_string(),
                "500 mcg/mL",
            ),
        ];
        for (seen, wanted) in cases {
            assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn spans_of_any_length_add_up_to_the_whole() {
        let rate = FlowRate::from_nanoliters_per_hour(417_331);
        let (mut total, mut remainder) = (0, 0);
        for ms in 1..=2_000 {
            let (volume, rest) = rate.volume_in(ms, remainder);
            total += volume.as_nanoliters();
            remainder = rest;
        }
        assert_eq!(
            rate.volume_in(2_001_000, 0),
            (Volume::from_nanoliters(total), remainder)
        );
    }

    proptest::proptest! {
        #[test]
        fn a_wide_division_is_exact(dividend: u128, shift in 0..128_u32, divisor: u64, by in 0..64_u32) {
            let (dividend, divisor) = (dividend >> shift, divisor >> by);
            let wide = u128::from(divisor.max(1));
            let (quotient, left) = divided(dividend, divisor);
            proptest::prop_assert_eq!((quotient, u128::from(left)), (dividend / wide, dividend % wide));
        }
    }
}
