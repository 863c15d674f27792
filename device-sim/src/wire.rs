//! A wire that can be damaged: bytes are lost, bent, cut short, doubled, late. Seeded, with time
//! as an argument, one direction each; a line of two wires can fail in one direction only.

use crate::chance::{Chance, Concern};
use std::collections::VecDeque;

/// What is wrong with a wire. Probabilities from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Damage {
    /// That a byte is lost.
    pub loss: f64,
    /// That one bit of a byte is turned.
    pub flip: f64,
    /// That a write is cut short somewhere.
    pub truncate: f64,
    /// That a write comes twice.
    pub duplicate: f64,
    /// The longest delay, milliseconds; each write draws its own, order kept.
    pub delay_ms: u64,
}

/// One direction of a line.
#[derive(Clone, Debug)]
pub struct Wire {
    chance: Chance,
    damage: Damage,
    cut: bool,
    under_way: VecDeque<(u64, Vec<u8>)>,
    /// Bytes that went in.
    pub entered: u64,
    /// Bytes that came out, damaged or not.
    pub left: u64,
}

impl Wire {
    /// A sound wire; `direction` keeps the two of a line apart.
    pub fn new(seed: u64, direction: u64) -> Self {
        Self {
            chance: Chance::new(seed ^ direction.rotate_left(32), Concern::Wire),
            damage: Damage::default(),
            cut: false,
            under_way: VecDeque::new(),
            entered: 0,
            left: 0,
        }
    }

    /// From now on damaged so.
    pub fn set_damage(&mut self, damage: Damage) {
        self.damage = damage;
    }

    /// Nothing comes through while cut; what is under way is lost.
    pub fn set_cut(&mut self, cut: bool) {
        self.cut = cut;
        if cut {
            self.under_way.clear();
        }
    }

    /// Puts bytes in.
    pub fn send(&mut self, now_ms: u64, bytes: &[u8]) {
        self.entered += u64::try_from(bytes.len()).unwrap_or(0);
        if self.cut || bytes.is_empty() {
            return;
        }
        if self.damage == Damage::default() {
            self.under_way.push_back((now_ms, bytes.to_vec()));
            return;
        }
        let times = if self.chance.happens(self.damage.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..times {
            let mut arriving = Vec::with_capacity(bytes.len());
            for &byte in bytes {
                if self.chance.happens(self.damage.loss) {
                    continue;
                }
                let bit = if self.chance.happens(self.damage.flip) {
                    1_u8 << self.chance.whole_between(0, 7)
                } else {
                    0
                };
                arriving.push(byte ^ bit);
            }
            if self.chance.happens(self.damage.truncate) {
                let most = u64::try_from(arriving.len()).unwrap_or(0);
                let keep = self.chance.whole_between(0, most);
                arriving.truncate(usize::try_from(keep).unwrap_or(0));
            }
            let late = self.chance.whole_between(0, self.damage.delay_ms);
            let after = self.under_way.back().map_or(0, |(at, _)| *at);
            self.under_way
                .push_back(((now_ms + late).max(after), arriving));
        }
    }

    /// Takes what has arrived by now.
    pub fn receive(&mut self, now_ms: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while self.under_way.front().is_some_and(|(at, _)| *at <= now_ms) {
            if let Some((_, bytes)) = self.under_way.pop_front() {
                out.extend_from_slice(&bytes);
            }
        }
        self.left += u64::try_from(out.len()).unwrap_or(0);
        out
    }

    /// When the next bytes arrive.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.under_way.front().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_wire_changes_nothing_and_a_cut_one_gives_nothing() {
        let mut wire = Wire::new(1, 0);
        wire.send(0, b"abc");
        wire.send(5, b"def");
        assert_eq!(wire.receive(5), b"abcdef");
        wire.send(6, b"gone");
        wire.set_cut(true);
        wire.send(7, b"never");
        assert_eq!(wire.receive(1_000), b"");
        wire.set_cut(false);
        wire.send(8, b"back");
        assert_eq!(wire.receive(8), b"back");
    }

    #[test]
    fn damage_is_about_as_frequent_as_asked_and_the_same_for_a_seed() {
        let run = |seed| {
            let mut wire = Wire::new(seed, 0);
            wire.set_damage(Damage {
                loss: 0.1,
                flip: 0.05,
                ..Damage::default()
            });
            wire.send(0, &[0x55; 10_000]);
            wire.receive(0)
        };
        let seen = run(3);
        assert!((8_800..9_200).contains(&seen.len()), "{}", seen.len());
        let bent = seen.iter().filter(|b| **b != 0x55).count();
        assert!((350..550).contains(&bent), "{bent}");
        assert_eq!(seen, run(3));
        assert_ne!(seen, run(4));
    }

    #[test]
    fn late_writes_keep_their_order_and_doubled_ones_come_twice() {
        let mut wire = Wire::new(9, 1);
        wire.set_damage(Damage {
            duplicate: 1.0,
            delay_ms: 50,
            ..Damage::default()
        });
        for i in 0..20_u8 {
            wire.send(u64::from(i), &[i]);
        }
        let all = wire.receive(1_000);
        let wanted: Vec<u8> = (0..20).flat_map(|i| [i, i]).collect();
        assert_eq!(all, wanted);
    }
}
