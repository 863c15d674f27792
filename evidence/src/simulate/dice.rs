//! All chance of a simulation, from one seed.

use crate::chance::Chance;

/// A seeded stream of decisions.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Chance);

impl Dice {
    /// The stream of a seed; `concern` keeps streams of one seed apart.
    pub(crate) fn new(seed: u64, concern: u64) -> Self {
        Self(Chance::of(seed, concern))
    }

    /// Any number.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next()
    }

    /// Evenly from 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        let high = u32::try_from(self.bits() >> 32).unwrap_or(0);
        f64::from(high) / 4_294_967_296.0
    }

    /// True with this probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// A whole number from `low` to `high`, both included.
    pub(crate) fn whole(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits() % (high.saturating_sub(low) + 1)
    }

    /// Each power of two between `low` and `high` about equally often: many short, few long.
    pub(crate) fn spread(&mut self, low: u64, high: u64) -> u64 {
        let low = low.max(1);
        let octaves = (high / low).max(1).ilog2();
        let octave = self.whole(0, u64::from(octaves));
        let from = low << octave;
        self.whole(from, (from * 2).min(high).max(from))
    }

    /// Around `mean`, from nothing to twice that.
    pub(crate) fn around(&mut self, mean: u64) -> u64 {
        self.whole(0, mean * 2)
    }

    /// One of some things.
    pub(crate) fn pick<T: Copy>(&mut self, things: &[T]) -> T {
        let last = u64::try_from(things.len()).unwrap_or(1) - 1;
        let at = usize::try_from(self.whole(0, last)).unwrap_or(0);
        *things.get(at).expect("there is something to pick from")
    }
}
