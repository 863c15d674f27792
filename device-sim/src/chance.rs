//! All chance of a simulation, from one seed. Each concern draws from a stream of its own, so that
//! one more draw in the plant does not change what the patient does.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Who draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// What this patient is like.
    Traits,
    /// The course of pain.
    Pain,
    /// Answers, presses, hold times.
    Habits,
    /// The nurse.
    Nurse,
    /// Strokes and sensors.
    Plant,
    /// The line.
    Wire,
}

impl Concern {
    fn stream(self) -> u64 {
        match self {
            Self::Traits => 1,
            Self::Pain => 2,
            Self::Habits => 3,
            Self::Nurse => 4,
            Self::Plant => 5,
            Self::Wire => 6,
        }
    }
}

/// A seeded stream of chance.
#[derive(Clone, Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The stream of `concern` under `seed`.
    pub fn new(seed: u64, concern: Concern) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(concern.stream());
        Self(rng)
    }

    /// Any number.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Evenly from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / 4_294_967_296.0
    }

    /// Evenly from `low` to below `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number from `low` to `high`, both included; `low` where the range is empty.
    pub fn whole_between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1).max(1);
        low + self.0.next_u64() % span
    }

    /// True with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Mean 0, standard deviation 1, never beyond 6: the sum of twelve even draws, which needs no
    /// logarithm.
    pub fn normal(&mut self) -> f64 {
        let sum: f64 = (0..12).map(|_| self.unit()).sum();
        sum - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_chance_for_ever_and_each_concern_its_own() {
        let mut pain = Chance::new(7, Concern::Pain);
        let first = [pain.bits(), pain.bits()];
        let mut again = Chance::new(7, Concern::Pain);
        assert_eq!([again.bits(), again.bits()], first);
        assert_ne!(Chance::new(7, Concern::Habits).bits(), first[0]);
        assert_ne!(Chance::new(8, Concern::Pain).bits(), first[0]);
    }

    #[test]
    fn the_bell_has_its_mean_and_width() {
        let mut chance = Chance::new(1, Concern::Pain);
        let draws: Vec<f64> = (0..20_000).map(|_| chance.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let square = draws.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(
            mean.abs() < 0.03 && (square - 1.0).abs() < 0.05,
            "{mean} {square}"
        );
    }
}
