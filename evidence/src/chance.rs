//! Chance from a seed: splitmix64. The same seed gives the same numbers on every machine, for ever.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// From a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for part `n` of a seed.
    pub(crate) fn of(seed: u64, n: u64) -> Self {
        let mut chance = Self(seed);
        let mixed = chance.next() ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self(mixed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`; 0 where `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % n).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut chance = Chance::new(1_234_567);
        // The reference values of splitmix64.
        assert_eq!(chance.next(), 6_457_827_717_110_365_317);
        assert_eq!(chance.next(), 3_203_168_211_198_807_973);
        let mut few = Chance::new(1);
        assert!((0..1_000).all(|_| few.below(3) < 3));
        assert_eq!(few.below(0), 0);
    }
}
