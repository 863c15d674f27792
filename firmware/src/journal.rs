//! The journal: a ring of fixed slots that survives a cut at any byte.
//!
//! A slot of 256 B holds `len u8 | raw, at most 195 B | tag 16 B | chain head 32 B | crc32c`; the
//! checksum is written last and read back, so a slot is whole or it is none. Slots are written one
//! after the other; a sector is erased just before its first slot is written. After a cut the next
//! slot that is wholly blank is used, so a torn slot costs its 256 bytes and nothing else. There is
//! no table of contents to be torn: where the journal ends is found by reading it.

use crate::board::{Board, NvError, SECTOR};
use crate::memory::{JOURNAL_SECTOR, Salt, crc32c, journal_sectors};
use protocol::chain::ChainHead;
use protocol::event::{Body, Head, RAW_MAX, Raw, decode};
use protocol::hex::{Hex, Tag};

/// Bytes of a slot.
pub const SLOT: u32 = 256;
const SLOT_LEN: usize = 256;
const SLOTS_A_SECTOR: u32 = SECTOR / SLOT;
const TAG_AT: usize = 1 + RAW_MAX;
const HEAD_AT: usize = TAG_AT + 16;
const CRC_AT: usize = HEAD_AT + 32;
const USED: usize = CRC_AT + 4;
const CRC_OFFSET: u32 = 244;
/// Slots that are tried before a failure is told.
const TRIES: u32 = 3;

const _: () = assert!(USED <= SLOT_LEN, "an event fits in a slot");
const _: () = assert!(CRC_AT == 244, "the checksum lies where it is written");

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its bytes.
    pub raw: Raw,
    /// Its head, decoded.
    pub head: Head,
    /// Its tag.
    pub tag: Tag,
    /// The chain after it.
    pub chain: ChainHead,
}

impl Entry {
    fn to_slot(&self) -> [u8; USED] {
        let mut slot = [0xFF; USED];
        let raw = self.raw.as_bytes();
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(room) = slot.get_mut(at..at + bytes.len()) {
                room.copy_from_slice(bytes);
            }
        };
        put(0, &[u8::try_from(raw.len()).unwrap_or(u8::MAX)]);
        put(1, raw);
        put(TAG_AT, &self.tag.0);
        put(HEAD_AT, &self.chain.0.0);
        slot
    }

    fn of_slot(slot: &[u8; SLOT_LEN], salt: Salt) -> Option<Self> {
        let body = slot.get(..CRC_AT)?;
        let crc = slot.get(CRC_AT..)?.first_chunk::<4>()?;
        if crc32c(salt.0, body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let len = usize::from(*slot.first()?);
        let (raw, head) = Raw::parse(slot.get(1..=len)?).ok()?;
        Some(Self {
            raw,
            head,
            tag: Hex(*slot.get(TAG_AT..)?.first_chunk()?),
            chain: ChainHead(Hex(*slot.get(HEAD_AT..)?.first_chunk()?)),
        })
    }
}

/// Where the journal is in the memory, and where it ends.
#[derive(Clone, Debug)]
pub struct Journal {
    slots: u32,
    salt: Salt,
    next: u32,
    last: Option<(u64, u32)>,
    first_held: u64,
}

/// How far reading the journal again has come: the next slot, and the seq before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scrub(Option<(u32, u64)>);

/// The most seqs that one [`Journal::scrub`] names at once.
const NAMED_MAX: u64 = 64;

/// What reading the whole journal showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Events between others that can be read no more.
    pub unreadable: u64,
}

impl Journal {
    /// Erases all of it.
    ///
    /// # Errors
    /// Where the memory fails.
    pub(crate) fn format<B: Board>(board: &mut B) -> Result<(), NvError> {
        let sectors = journal_sectors(board).ok_or(NvError::Range)?;
        (JOURNAL_SECTOR..JOURNAL_SECTOR + sectors).try_for_each(|s| board.nv_erase(s))
    }

    /// Finds the end of the journal by looking at each slot.
    ///
    /// # Errors
    /// Where the memory is too small or fails.
    pub(crate) fn recover<B: Board>(board: &B, salt: Salt) -> Result<Self, NvError> {
        let sectors = journal_sectors(board).ok_or(NvError::Range)?;
        let mut journal = Self {
            slots: sectors.saturating_mul(SLOTS_A_SECTOR),
            salt,
            next: 0,
            last: None,
            first_held: 1,
        };
        let mut first = u64::MAX;
        for slot in 0..journal.slots {
            if let Some(entry) = journal.read(board, slot)? {
                first = first.min(entry.head.seq);
                if journal.last.is_none_or(|(seq, _)| entry.head.seq > seq) {
                    journal.last = Some((entry.head.seq, slot));
                }
            }
        }
        if let Some((_, slot)) = journal.last {
            journal.first_held = first;
            journal.next = journal.after(slot);
            while !journal.next.is_multiple_of(SLOTS_A_SECTOR) && !is_blank(board, journal.next)? {
                journal.next = journal.after(journal.next);
            }
        }
        Ok(journal)
    }

    /// The seq of the newest event; 0 where there is none.
    pub fn last_seq(&self) -> u64 {
        self.last.map_or(0, |(seq, _)| seq)
    }

    /// The newest event.
    ///
    /// # Errors
    /// Where the memory fails.
    pub(crate) fn newest<B: Board>(&self, board: &B) -> Result<Option<Entry>, NvError> {
        match self.last {
            Some((_, slot)) => self.read(board, slot),
            None => Ok(None),
        }
    }

    /// Whether the next event is written over the oldest ones.
    fn turns_over<B: Board>(&self, board: &B) -> Result<bool, NvError> {
        if !self.next.is_multiple_of(SLOTS_A_SECTOR) {
            return Ok(false);
        }
        if self.first_held > 1 {
            return Ok(true);
        }
        for slot in self.next..self.next + SLOTS_A_SECTOR {
            if self.read(board, slot)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the next event is written over the oldest ones: the last seq that is then gone.
    pub(crate) fn gone_by_turning<B: Board>(&self, board: &B) -> Result<Option<u64>, NvError> {
        if !self.turns_over(board)? {
            return Ok(None);
        }
        let mut slot = self.next;
        for place in 0..self.slots {
            if place >= SLOTS_A_SECTOR
                && let Some(oldest) = self.read(board, slot)?
            {
                return Ok(Some(oldest.head.seq.saturating_sub(1)));
            }
            slot = self.after(slot);
        }
        Ok(Some(self.last_seq()))
    }

    /// For a seq that is not held: the newest event that says so.
    ///
    /// # Errors
    /// Where the memory fails.
    pub fn says_lost<B: Board>(&self, board: &B, seq: u64) -> Result<Option<Entry>, NvError> {
        let Some((_, end)) = self.last else {
            return Ok(None);
        };
        let mut slot = end;
        for _ in 0..self.slots {
            if let Some(entry) = self.read(board, slot)? {
                if entry.head.seq <= seq {
                    return Ok(None);
                }
                if let Ok((_, Body::JournalLost(lost))) = decode(&entry.raw)
                    && (lost.from_seq..=lost.to_seq).contains(&seq)
                {
                    return Ok(Some(entry));
                }
            }
            slot = self.back(slot, 1);
        }
        Ok(None)
    }

    /// The slots of the memory.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Reads so many slots again, from where it was left. Events that were there, can be read no
    /// more and are declared nowhere end it: their first and last seq. The next call goes on behind
    /// them.
    pub(crate) fn scrub<B: Board>(
        &self,
        board: &B,
        at: &mut Scrub,
        slots: u32,
    ) -> Result<Option<(u64, u64)>, NvError> {
        let Some((last, end)) = self.last else {
            return Ok(None);
        };
        // Behind the newest event is the oldest one: nothing comes before that.
        let (mut slot, mut before) = at.0.unwrap_or((self.after(end), 0));
        for _ in 0..slots {
            let seq = self.read(board, slot)?.map(|entry| entry.head.seq);
            let until = match seq {
                Some(seq) => seq,
                None if slot == end => last.saturating_add(1),
                None => before,
            };
            let mut from = before.saturating_add(1);
            while from < until {
                let Some(said) = self.declared(board, from)? else {
                    break;
                };
                from = said.saturating_add(1);
            }
            // Held elsewhere: the ring was turned over the place of this reading meanwhile.
            if from < until && self.find(board, from)?.is_none() {
                let mut to = from;
                while to + 1 < until.min(from.saturating_add(NAMED_MAX))
                    && self.find(board, to + 1)?.is_none()
                {
                    to += 1;
                }
                at.0 = Some((slot, to));
                return Ok(Some((from, to)));
            }
            before = if slot == end {
                0
            } else {
                seq.unwrap_or(before)
            };
            slot = self.after(slot);
        }
        at.0 = Some((slot, before));
        Ok(None)
    }

    /// Through which seq an event says that this one is lost.
    fn declared<B: Board>(&self, board: &B, seq: u64) -> Result<Option<u64>, NvError> {
        let said = self.says_lost(board, seq)?;
        Ok(said.and_then(|entry| match decode(&entry.raw) {
            Ok((_, Body::JournalLost(lost))) => Some(lost.to_seq),
            Ok(_) | Err(_) => None,
        }))
    }

    /// Writes an event behind the newest. Done means that it is there after a cut.
    ///
    /// # Errors
    /// Where several slots could not be written.
    pub(crate) fn append<B: Board>(&mut self, board: &mut B, entry: &Entry) -> Result<(), NvError> {
        let mut result = Err(NvError::Failed);
        for _ in 0..TRIES {
            let slot = self.next;
            result = self.write(board, slot, entry);
            if result.is_ok() {
                self.next = self.after(slot);
                self.last = Some((entry.head.seq, slot));
                return Ok(());
            }
            // A sector that cannot be erased is tried again; a torn slot is left behind.
            if !slot.is_multiple_of(SLOTS_A_SECTOR) {
                self.next = self.after(slot);
            }
        }
        result
    }

    fn write<B: Board>(&mut self, board: &mut B, slot: u32, entry: &Entry) -> Result<(), NvError> {
        if slot.is_multiple_of(SLOTS_A_SECTOR) {
            if self.turns_over(board)? {
                self.first_held = self.first_held.max(2);
            }
            board.nv_erase(JOURNAL_SECTOR + slot / SLOTS_A_SECTOR)?;
        }
        let bytes = entry.to_slot();
        let body = bytes.get(..CRC_AT).unwrap_or(&bytes);
        let sum = crc32c(self.salt.0, body);
        board.nv_write(address(slot), body)?;
        board.nv_write(address(slot) + CRC_OFFSET, &sum.to_le_bytes())?;
        match self.read(board, slot)? {
            Some(seen) if seen == *entry => Ok(()),
            Some(_) | None => Err(NvError::Failed),
        }
    }

    /// The event of this seq, where it is still held.
    ///
    /// # Errors
    /// Where the memory fails.
    pub fn find<B: Board>(&self, board: &B, seq: u64) -> Result<Option<Entry>, NvError> {
        let Some((last, end)) = self.last else {
            return Ok(None);
        };
        let Ok(distance) = u32::try_from(last.saturating_sub(seq)) else {
            return Ok(None);
        };
        if seq == 0 || seq > last {
            return Ok(None);
        }
        // Torn slots lie between: then it is further back than its seq says. Events that found no
        // room have no slot: then it is further on, and the oldest ones are looked for from the
        // first slot there is.
        let turned = self.first_held > 1;
        let oldest = if turned { self.after(end) } else { 0 };
        let before_end = if turned { self.slots - 1 } else { end };
        let mut forward = distance > before_end;
        let mut slot = if forward {
            oldest
        } else {
            self.back(end, distance)
        };
        for _ in 0..self.slots {
            let step = match self.read(board, slot)? {
                Some(entry) if entry.head.seq == seq => return Ok(Some(entry)),
                Some(entry) if entry.head.seq > seq && forward => return Ok(None),
                Some(entry) if entry.head.seq > seq => {
                    u32::try_from(entry.head.seq - seq).unwrap_or(u32::MAX)
                }
                Some(_) => {
                    forward = true;
                    1
                }
                None => 1,
            };
            if forward {
                slot = self.after(slot);
            } else if step > self.behind(slot, oldest) {
                (slot, forward) = (oldest, true);
            } else {
                slot = self.back(slot, step);
            }
        }
        Ok(None)
    }

    /// How many slots lie between the oldest one and this.
    fn behind(&self, slot: u32, oldest: u32) -> u32 {
        if slot >= oldest {
            slot - oldest
        } else {
            slot + self.slots - oldest
        }
    }

    /// Reads all events that are held, oldest first.
    ///
    /// # Errors
    /// Where the memory fails.
    pub fn for_each<B: Board>(
        &self,
        board: &B,
        mut visit: impl FnMut(&Entry),
    ) -> Result<Damage, NvError> {
        let mut damage = Damage::default();
        let Some((last, end)) = self.last else {
            return Ok(damage);
        };
        let mut before: Option<u64> = None;
        let mut slot = self.after(end);
        for _ in 0..self.slots {
            if let Some(entry) = self.read(board, slot)? {
                let seq = entry.head.seq;
                if before.is_none_or(|b| seq > b) && seq <= last {
                    let declared = declared_lost(&entry);
                    let missing = seq - 1 - before.unwrap_or(seq - 1);
                    damage.unreadable += missing.saturating_sub(declared);
                    before = Some(seq);
                    visit(&entry);
                }
            }
            slot = self.after(slot);
        }
        Ok(damage)
    }

    fn read<B: Board>(&self, board: &B, slot: u32) -> Result<Option<Entry>, NvError> {
        let mut len = [0];
        board.nv_read(address(slot), &mut len)?;
        if usize::from(len[0]) > RAW_MAX {
            return Ok(None);
        }
        let mut bytes = [0; SLOT_LEN];
        board.nv_read(address(slot), &mut bytes)?;
        Ok(Entry::of_slot(&bytes, self.salt))
    }

    fn after(&self, slot: u32) -> u32 {
        if slot + 1 < self.slots { slot + 1 } else { 0 }
    }

    fn back(&self, slot: u32, by: u32) -> u32 {
        let by = by % self.slots;
        if slot >= by {
            slot - by
        } else {
            slot + self.slots - by
        }
    }
}

fn is_blank<B: Board>(board: &B, slot: u32) -> Result<bool, NvError> {
    let mut bytes = [0; SLOT_LEN];
    board.nv_read(address(slot), &mut bytes)?;
    Ok(bytes.iter().all(|b| *b == 0xFF))
}

fn declared_lost(entry: &Entry) -> u64 {
    match decode(&entry.raw) {
        Ok((_, Body::JournalLost(gone))) => {
            gone.to_seq.saturating_sub(gone.from_seq).saturating_add(1)
        }
        Ok(_) | Err(_) => 0,
    }
}

fn address(slot: u32) -> u32 {
    JOURNAL_SECTOR * SECTOR + slot * SLOT
}
