//! Changes an input a little, from a seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// No input grows beyond this.
const MOST: usize = 65_536;
const WORTHWHILE: [u64; 8] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Inputs made of a pool, from a seed.
#[derive(Debug)]
pub struct Mutator {
    rng: ChaCha8Rng,
}

impl Mutator {
    /// Of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// The next input: one of the pool, changed in one to eight places.
    ///
    /// # Panics
    /// Where the pool is empty.
    pub fn next(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(pool).clone();
        for _ in 0..self.rng.random_range(1..=8) {
            self.change(&mut input, pool);
        }
        input.truncate(MOST);
        input
    }

    fn pick<'p>(&mut self, pool: &'p [Vec<u8>]) -> &'p Vec<u8> {
        pool.get(self.rng.random_range(0..pool.len()))
            .expect("within the pool")
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let len = input.len();
        let place = self.rng.random_range(0..=len);
        match self.rng.random_range(0..8) {
            0 => {
                if let Some(byte) = input.get_mut(place) {
                    *byte ^= 1 << self.rng.random_range(0..8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(place) {
                    *byte = self.rng.random();
                }
            }
            2 => input.insert(place, self.rng.random()),
            3 => {
                let end = (place + self.rng.random_range(1..=16)).min(len);
                input.drain(place..end);
            }
            4 => {
                let end = (place + self.rng.random_range(1..=32)).min(len);
                let again: Vec<u8> = input[place..end].to_vec();
                input.splice(place..place, again);
            }
            5 => {
                let number = WORTHWHILE[self.rng.random_range(0..WORTHWHILE.len())];
                let width = self.rng.random_range(1..=8);
                for (to, from) in input
                    .iter_mut()
                    .skip(place)
                    .zip(&number.to_le_bytes()[..width])
                {
                    *to = *from;
                }
            }
            6 => input.truncate(place),
            _ => {
                let other = self.pick(pool).clone();
                let from = self.rng.random_range(0..=other.len());
                input.truncate(place);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}
