//! The map of the non-volatile memory, its header, and small records that are kept twice.
//!
//! Sector 0 is the header; two sectors hold the key, two the settings, the rest is the journal.
//! Everything ends with a CRC-32C that is written last and begins with a value made from the
//! trial's root, so what an earlier trial left behind is not taken for ours.

use crate::board::{Board, NvError, SECTOR};
use protocol::chain::ChainHead;
pub(crate) use protocol::crc::crc32c;

/// The two sectors of the key.
pub(crate) const KEY_SECTORS: [u32; 2] = [1, 2];
/// The two sectors of the settings.
pub(crate) const SETTINGS_SECTORS: [u32; 2] = [3, 4];
/// The first sector of the journal.
pub(crate) const JOURNAL_SECTOR: u32 = 5;
/// Fewest sectors of a memory: the journal turns in at least four.
const SECTORS_MIN: u32 = JOURNAL_SECTOR + 4;

const MAGIC: [u8; 8] = *b"thecal\x01\0";
const HEADER_LEN: usize = MAGIC.len() + 32 + 4;

/// The most bytes of a record that is kept twice.
pub(crate) const RECORD_MAX: usize = 240;
const RECORD_HEAD: usize = 5;

/// What every checksum of this trial begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) u32);

impl Salt {
    pub(crate) fn of_trial(genesis: &ChainHead) -> Self {
        Self(crc32c(0, &genesis.0.0))
    }
}

/// The size of the journal in sectors, where the memory is large enough.
pub(crate) fn journal_sectors<B: Board>(board: &B) -> Option<u32> {
    let sectors = board.nv_size() / SECTOR;
    (sectors >= SECTORS_MIN).then(|| sectors - JOURNAL_SECTOR)
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// Never formatted, or the format did not end.
    Missing,
    /// Formatted for another trial.
    Other,
    /// Ours.
    Ours,
}

fn header_of(genesis: &ChainHead) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    let (magic, rest) = out.split_at_mut(MAGIC.len());
    let (root, crc) = rest.split_at_mut(32);
    magic.copy_from_slice(&MAGIC);
    root.copy_from_slice(&genesis.0.0);
    let sum = crc32c(crc32c(0, &MAGIC), &genesis.0.0);
    crc.copy_from_slice(&sum.to_le_bytes());
    out
}

pub(crate) fn read_header<B: Board>(board: &B, genesis: &ChainHead) -> Result<Header, NvError> {
    let mut seen = [0; HEADER_LEN];
    board.nv_read(0, &mut seen)?;
    if seen == header_of(genesis) {
        return Ok(Header::Ours);
    }
    let whole = seen
        .split_last_chunk::<4>()
        .is_some_and(|(body, crc)| crc32c(0, body) == u32::from_le_bytes(*crc));
    let ours = seen.starts_with(&MAGIC);
    Ok(if whole && ours {
        Header::Other
    } else {
        Header::Missing
    })
}

pub(crate) fn write_header<B: Board>(board: &mut B, genesis: &ChainHead) -> Result<(), NvError> {
    let header = header_of(genesis);
    board.nv_write(0, &header)?;
    match read_header(board, genesis)? {
        Header::Ours => Ok(()),
        Header::Missing | Header::Other => Err(NvError::Failed),
    }
}

/// A record that was read: the generation grows with each writing.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) generation: u32,
    bytes: [u8; RECORD_MAX],
    len: usize,
}

impl Record {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// The record of one sector: `len u8 | generation u32 | bytes | crc32c`. None where there is no
/// whole one.
pub(crate) fn read_record<B: Board>(
    board: &B,
    sector: u32,
    salt: Salt,
) -> Result<Option<Record>, NvError> {
    let at = sector * SECTOR;
    let mut head = [0; RECORD_HEAD];
    board.nv_read(at, &mut head)?;
    let [len, generation @ ..] = head;
    let mut record = Record {
        generation: u32::from_le_bytes(generation),
        bytes: [0; RECORD_MAX],
        len: usize::from(len),
    };
    let Some(bytes) = record.bytes.get_mut(..record.len) else {
        return Ok(None);
    };
    board.nv_read(at + 5, bytes)?;
    let sum = crc32c(crc32c(salt.0, &head), bytes);
    let mut crc = [0; 4];
    board.nv_read(at + 5 + u32::from(len), &mut crc)?;
    Ok((u32::from_le_bytes(crc) == sum).then_some(record))
}

/// Erases the sector and writes a record into it, the checksum last; reads it back.
pub(crate) fn write_record<B: Board>(
    board: &mut B,
    sector: u32,
    salt: Salt,
    generation: u32,
    bytes: &[u8],
) -> Result<(), NvError> {
    let len = u8::try_from(bytes.len()).map_err(|_| NvError::Range)?;
    if bytes.len() > RECORD_MAX {
        return Err(NvError::Range);
    }
    let at = sector * SECTOR;
    let [a, b, c, d] = generation.to_le_bytes();
    let head = [len, a, b, c, d];
    board.nv_erase(sector)?;
    board.nv_write(at, &head)?;
    board.nv_write(at + 5, bytes)?;
    let sum = crc32c(crc32c(salt.0, &head), bytes);
    board.nv_write(at + 5 + u32::from(len), &sum.to_le_bytes())?;
    match read_record(board, sector, salt)? {
        Some(seen) if seen.bytes() == bytes && seen.generation == generation => Ok(()),
        Some(_) | None => Err(NvError::Failed),
    }
}
