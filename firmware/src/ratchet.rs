//! The key that tags events, and the count of starts, kept together so that they cannot disagree.
//!
//! The key is replaced at each start and after each checkpoint: the next one is written into the
//! other of two sectors, then the old one is erased. A cut between the two leaves both, and the
//! higher index counts.

use crate::board::{Board, NvError};
use crate::memory::{KEY_SECTORS, Salt, read_record, write_record};
use protocol::chain::TagKey;

/// The present key, its index, and the number of this start.
#[derive(Debug)]
pub struct Ratchet {
    key: TagKey,
    index: u32,
    boot: u32,
    place: usize,
    salt: Salt,
}

impl Ratchet {
    /// Writes K₀ of a trial; no start yet.
    ///
    /// # Errors
    /// Where the memory fails.
    pub(crate) fn format<B: Board>(board: &mut B, salt: Salt, key: &TagKey) -> Result<(), NvError> {
        let [first, second] = KEY_SECTORS;
        board.nv_erase(second)?;
        write_record(board, first, salt, 0, &record_of(key, 0))
    }

    /// The newest key there is. None where there is none, so no event could be tagged.
    ///
    /// # Errors
    /// Where the memory fails.
    pub(crate) fn load<B: Board>(board: &mut B, salt: Salt) -> Result<Option<Self>, NvError> {
        let mut best: Option<Self> = None;
        let mut both = true;
        for (place, sector) in KEY_SECTORS.into_iter().enumerate() {
            let Some(record) = read_record(board, sector, salt)? else {
                both = false;
                continue;
            };
            let Some((key, boot)) = record.bytes().split_first_chunk::<32>() else {
                continue;
            };
            let Some(boot) = boot.first_chunk::<4>() else {
                continue;
            };
            if best.as_ref().is_none_or(|b| record.generation > b.index) {
                best = Some(Self {
                    key: TagKey::from_bytes(*key),
                    index: record.generation,
                    boot: u32::from_le_bytes(*boot),
                    place,
                    salt,
                });
            }
        }
        if let (Some(best), true) = (&best, both)
            && let Some(old) = KEY_SECTORS.get(1 - best.place)
        {
            board.nv_erase(*old)?;
        }
        Ok(best)
    }

    /// The key that tags now.
    pub fn key(&self) -> &TagKey {
        &self.key
    }

    /// Its index; K₀ of the trial has 0 and tags nothing.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// This start.
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// A new start: the count goes up by one and the key is replaced. `spent` is the index of the
    /// last checkpoint in the journal: that key is not used again, even where power failed before
    /// it was replaced.
    ///
    /// # Errors
    /// Where the memory fails; then nothing may be journaled.
    pub(crate) fn begin_boot<B: Board>(
        &mut self,
        board: &mut B,
        spent: Option<u32>,
    ) -> Result<(), NvError> {
        while spent.is_some_and(|spent| spent >= self.index) {
            self.key = self.key.next();
            self.index = self.index.saturating_add(1);
        }
        self.boot = self.boot.saturating_add(1);
        self.turn(board)
    }

    /// Replaces the key, erases the old one. In memory it is replaced even where writing fails.
    ///
    /// # Errors
    /// Where the memory fails. The next start sees by the last checkpoint what is missing.
    pub(crate) fn turn<B: Board>(&mut self, board: &mut B) -> Result<(), NvError> {
        self.key = self.key.next();
        self.index = self.index.saturating_add(1);
        let place = 1 - self.place;
        let (Some(new), Some(old)) = (KEY_SECTORS.get(place), KEY_SECTORS.get(self.place)) else {
            return Err(NvError::Range);
        };
        let record = record_of(&self.key, self.boot);
        write_record(board, *new, self.salt, self.index, &record)?;
        self.place = place;
        board.nv_erase(*old)
    }
}

fn record_of(key: &TagKey, boot: u32) -> [u8; 36] {
    let mut out = [0; 36];
    let (to_key, to_boot) = out.split_at_mut(32);
    to_key.copy_from_slice(key.as_bytes());
    to_boot.copy_from_slice(&boot.to_le_bytes());
    out
}
