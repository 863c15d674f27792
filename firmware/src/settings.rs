//! What clinicians set at the keypad, kept over starts.
//!
//! A change is written into the other of two sectors *before* its event is journaled, with the
//! seq that the event will have. After a start the newest record whose event is in the journal
//! counts, so the record and the journal never tell two stories.

use crate::board::{Board, NvError};
use crate::memory::{RECORD_MAX, SETTINGS_SECTORS, Salt, read_record, write_record};
use crate::program::Program;
use crate::provision::Provision;
use protocol::units::{Concentration, Volume};
use protocol::wire::{Reader, Wire, Writer};
use protocol::wire_struct;

/// The settings now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Rates by day-part.
    pub program: Program,
    /// One patient bolus.
    pub bolus: Volume,
    /// Least time between two.
    pub lockout_ms: u32,
    /// Of the drug in the reservoir.
    pub concentration: Concentration,
    /// Counts the changes of program and concentration.
    pub revision: u32,
    /// In the reservoir when it was put in.
    pub reservoir: Volume,
    /// Counter of delivered volume at that moment.
    pub delivered_at_change: Volume,
    /// Minutes east of UTC.
    pub offset_min: i16,
}

wire_struct!(Settings {
    program,
    bolus,
    lockout_ms,
    concentration,
    revision,
    reservoir,
    delivered_at_change,
    offset_min,
});

impl Settings {
    /// As provisioned.
    pub fn of(provision: &Provision) -> Self {
        Self {
            program: provision.program,
            bolus: provision.limits.bolus,
            lockout_ms: provision.limits.lockout_ms,
            concentration: provision.concentration,
            revision: 0,
            reservoir: provision.reservoir,
            delivered_at_change: Volume::ZERO,
            offset_min: provision.offset_min,
        }
    }
}

/// Where the settings are kept.
#[derive(Debug)]
pub(crate) struct SettingsStore {
    place: usize,
    generation: u32,
    salt: Salt,
}

impl SettingsStore {
    /// The newest settings whose event is in the journal, which ends with `last_seq`. None where
    /// nobody changed anything. A record without its event is erased.
    pub(crate) fn load<B: Board>(
        board: &mut B,
        salt: Salt,
        last_seq: u64,
    ) -> Result<(Self, Option<Settings>), NvError> {
        let mut store = Self {
            place: 1,
            generation: 0,
            salt,
        };
        let mut best = None;
        for (place, sector) in SETTINGS_SECTORS.into_iter().enumerate() {
            let Some(record) = read_record(board, sector, salt)? else {
                continue;
            };
            let mut from = Reader::new(record.bytes());
            let (seq, settings) = (u64::take(&mut from), Settings::take(&mut from));
            match from.rest() {
                Some(_) if seq <= last_seq => {
                    if best.is_none() || record.generation > store.generation {
                        best = Some(settings);
                        (store.place, store.generation) = (place, record.generation);
                    }
                }
                Some(_) | None => board.nv_erase(sector)?,
            }
        }
        Ok((store, best))
    }

    /// Writes settings that come into force with the event of this seq. [`Self::keep`] or
    /// [`Self::withdraw`] must follow.
    pub(crate) fn save<B: Board>(
        &mut self,
        board: &mut B,
        seq: u64,
        settings: &Settings,
    ) -> Result<(), NvError> {
        let mut bytes = [0; RECORD_MAX];
        let mut to = Writer::new(&mut bytes);
        seq.put(&mut to);
        settings.put(&mut to);
        let len = to.written().ok_or(NvError::Range)?;
        let record = bytes.get(..len).ok_or(NvError::Range)?;
        let place = 1 - self.place;
        let sector = SETTINGS_SECTORS.get(place).ok_or(NvError::Range)?;
        let generation = self.generation.saturating_add(1);
        write_record(board, *sector, self.salt, generation, record)
    }

    /// The event is in the journal.
    pub(crate) fn keep(&mut self) {
        self.place = 1 - self.place;
        self.generation = self.generation.saturating_add(1);
    }

    /// The event could not be journaled: what was saved must not come into force.
    pub(crate) fn withdraw<B: Board>(&mut self, board: &mut B) -> Result<(), NvError> {
        let sector = SETTINGS_SECTORS.get(1 - self.place).ok_or(NvError::Range)?;
        board.nv_erase(*sector)
    }
}
