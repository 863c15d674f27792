//! One direction of the serial line: writes are lost, bent, cut short, doubled, late, out of order,
//! and there is noise; it can be cut, and it can be dead without anybody being told.

use super::dice::Dice;
use std::collections::BTreeMap;

/// What may happen to a write. Probabilities.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Harm {
    pub(crate) lost: f64,
    pub(crate) bent: f64,
    pub(crate) cut_short: f64,
    pub(crate) doubled: f64,
    pub(crate) noise: f64,
    pub(crate) overtaken: f64,
    /// The longest delay beyond the shortest, wall milliseconds.
    pub(crate) late_ms: u64,
}

/// Wall milliseconds that every write takes.
const SHORTEST_MS: u64 = 4;

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) harm: Harm,
    under_way: BTreeMap<(u64, u64), Vec<u8>>,
    order: u64,
    newest_ms: u64,
    /// Nothing passes, and both ends see it.
    pub(crate) cut: bool,
    /// Nothing passes, and nobody sees it.
    pub(crate) dead: bool,
    /// Harm done so far.
    pub(crate) harmed: u64,
}

impl Wire {
    pub(crate) fn new(harm: Harm) -> Self {
        Self {
            harm,
            under_way: BTreeMap::new(),
            order: 0,
            newest_ms: 0,
            cut: false,
            dead: false,
            harmed: 0,
        }
    }

    /// What is under way is gone.
    pub(crate) fn clear(&mut self) {
        self.under_way.clear();
    }

    pub(crate) fn send(&mut self, now_ms: u64, bytes: Vec<u8>, dice: &mut Dice) {
        if bytes.is_empty() || self.cut || self.dead {
            return;
        }
        let harm = self.harm;
        let mut bytes = bytes;
        if dice.happens(harm.lost) {
            self.harmed += 1;
            return;
        }
        if dice.happens(harm.bent) {
            self.harmed += 1;
            for _ in 0..dice.whole(1, 3) {
                let at = place(dice, bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.whole(0, 7);
                }
            }
        }
        if dice.happens(harm.cut_short) {
            self.harmed += 1;
            bytes.truncate(place(dice, bytes.len()));
        }
        if dice.happens(harm.noise) {
            self.harmed += 1;
            let noise = (0..dice.whole(1, 40)).map(|_| dice.bits().to_le_bytes()[0]);
            bytes.extend(noise.collect::<Vec<_>>());
        }
        if dice.happens(harm.doubled) {
            self.harmed += 1;
            self.put(now_ms, bytes.clone(), dice);
        }
        self.put(now_ms, bytes, dice);
    }

    fn put(&mut self, now_ms: u64, bytes: Vec<u8>, dice: &mut Dice) {
        let mut at = now_ms + SHORTEST_MS + dice.whole(0, self.harm.late_ms);
        if !dice.happens(self.harm.overtaken) {
            at = at.max(self.newest_ms);
            self.newest_ms = at;
        }
        self.order += 1;
        self.under_way.insert((at, self.order), bytes);
    }

    /// What has arrived by now.
    pub(crate) fn receive(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        let entry = self.under_way.first_entry()?;
        (entry.key().0 <= now_ms).then(|| entry.remove())
    }

    pub(crate) fn next_ms(&self) -> u64 {
        self.under_way
            .first_key_value()
            .map_or(u64::MAX, |((at, _), _)| *at)
    }
}

fn place(dice: &mut Dice, len: usize) -> usize {
    let last = u64::try_from(len.max(1) - 1).unwrap_or(0);
    usize::try_from(dice.whole(0, last)).unwrap_or(0)
}
