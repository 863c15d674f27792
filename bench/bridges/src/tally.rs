//! Counts what arrived of numbered things: each once, in order, or not.

use std::collections::BTreeSet;

/// What arrived, in the order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    seen: BTreeSet<u64>,
    highest: u64,
    /// Arrived again.
    pub doubled: u64,
    /// Arrived for the first time after a higher number.
    pub reordered: u64,
}

impl Tally {
    /// A number arrived; they begin with 1.
    pub fn note(&mut self, number: u64) {
        if !self.seen.insert(number) {
            self.doubled += 1;
            return;
        }
        if number < self.highest {
            self.reordered += 1;
        }
        self.highest = self.highest.max(number);
    }

    /// Whether a number arrived.
    pub fn has(&self, number: u64) -> bool {
        self.seen.contains(&number)
    }

    /// Different numbers that arrived.
    pub fn distinct(&self) -> u64 {
        u64::try_from(self.seen.len()).unwrap_or(u64::MAX)
    }

    /// Of these, those that never arrived; and how many of them a receiver could notice by itself,
    /// because a higher number did arrive.
    pub fn lost_of(&self, wanted: impl IntoIterator<Item = u64>) -> (u64, u64) {
        let mut lost = (0, 0);
        for number in wanted.into_iter().filter(|n| !self.has(*n)) {
            lost.0 += 1;
            lost.1 += u64::from(number < self.highest);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_doubled_and_reordered_are_told_apart() {
        let mut tally = Tally::default();
        for number in [1, 2, 5, 4, 4, 2] {
            tally.note(number);
        }
        assert_eq!((tally.doubled, tally.reordered), (2, 1));
        assert_eq!(
            tally.lost_of(1..=7),
            (3, 1),
            "3 shows as a gap, 6 and 7 do not"
        );
        assert_eq!(tally.distinct(), 4);
    }
}
