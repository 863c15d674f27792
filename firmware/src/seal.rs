//! Delivery data in RAM, held so that a bit that flips is found before it can move the motor.
//!
//! What is small is under one checksum a module, made when the pump has done its work and compared
//! before it does more. Volume by the minute is many numbers of which few change; there each
//! number carries a code of its own.

use crate::memory::crc32c;
use core::hash::{Hash, Hasher};

/// CRC-32C over all that a value is made of.
pub(crate) fn sum_of(data: &impl Hash) -> u32 {
    let mut sum = Sum(0);
    data.hash(&mut sum);
    sum.0
}

struct Sum(u32);

impl Hasher for Sum {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = crc32c(self.0, bytes);
    }

    fn finish(&self) -> u64 {
        u64::from(self.0)
    }
}

const FACTOR: u32 = 67;
const OFFSET: u32 = 29;

/// A number that tells whether it was damaged: it is kept times 67, plus 29. Powers of two leave 66
/// different remainders of 67, none of them 0, so one or two wrong bits of 32 never give another
/// number (an AN code with signature, as in Forin's coded processor, 1989).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coded(u32);

impl Coded {
    /// The greatest number that can be kept; a greater one is kept as this.
    pub(crate) const MAX: u32 = (u32::MAX - OFFSET) / FACTOR;
    /// Nothing.
    pub(crate) const ZERO: Self = Self(OFFSET);

    pub(crate) fn new(number: u64) -> Self {
        let number = u32::try_from(number).map_or(Self::MAX, |n| n.min(Self::MAX));
        Self(number * FACTOR + OFFSET)
    }

    /// The number. None where it was damaged.
    pub(crate) fn get(self) -> Option<u32> {
        let product = self.0.checked_sub(OFFSET)?;
        product.is_multiple_of(FACTOR).then_some(product / FACTOR)
    }

    #[cfg(test)]
    pub(crate) fn flip(&mut self, bit: u32) {
        self.0 ^= 1 << bit;
    }
}

/// Flips a bit of the cell of this number, another one for each.
#[cfg(test)]
pub(crate) fn flip(cells: &mut [Coded], number: u32) {
    let place = usize::try_from(number).unwrap() % cells.len();
    cells[place].flip(number % 32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_two_wrong_bits_of_a_coded_number_are_always_found() {
        for number in [
            0,
            1,
            2,
            66,
            67,
            5_000,
            50_000,
            1 << 20,
            u64::from(Coded::MAX),
        ] {
            let good = Coded::new(number);
            assert_eq!(good.get().map(u64::from), Some(number));
            for first in 0..32 {
                let mut one = good;
                one.flip(first);
                assert_eq!(one.get(), None, "{number}: {first}");
                for second in 0..first {
                    let mut two = one;
                    two.flip(second);
                    assert_eq!(two.get(), None, "{number}: {first} {second}");
                }
            }
        }
        assert_eq!(Coded::new(u64::MAX).get(), Some(Coded::MAX));
        assert_eq!(Coded(0).get(), None, "memory that was wiped");
    }

    #[test]
    fn a_sum_changes_with_each_part() {
        let base = sum_of(&(1u64, Some(2u32), [3u8; 4]));
        for other in [
            sum_of(&(0u64, Some(2u32), [3u8; 4])),
            sum_of(&(1u64, None::<u32>, [3u8; 4])),
            sum_of(&(1u64, Some(2u32), [3u8, 3, 3, 2])),
        ] {
            assert_ne!(other, base);
        }
    }
}
