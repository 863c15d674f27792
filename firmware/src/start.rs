//! Formatting a memory for a trial, and starting on it: recall the journal, count the start,
//! journal it, and infuse nothing.

use crate::alarms::Alarms;
use crate::board::{Board, NvError};
use crate::dose::Dose;
use crate::journal::Journal;
use crate::keypad::Keypad;
use crate::ledger::Ledger;
use crate::memory::{Header, SETTINGS_SECTORS, Salt, journal_sectors, read_header, write_header};
use crate::motion::Motion;
use crate::program::LocalClock;
use crate::prompt::Prompts;
use crate::provision::Provision;
use crate::pump::{Pump, Reported, VERSION};
use crate::ratchet::Ratchet;
use crate::recall::{Closing, Holders, Recall};
use crate::score::ScoreEntry;
use crate::settings::{Settings, SettingsStore};
use crate::sound::Sums;
use crate::supervisor::Supervisor;
use crate::watch::{LOOK_MS, StopsByAlarm, WATCHDOG_PART};
use crate::watchdog::Watchdog;
use crate::window::Windows;
use core::fmt;
use protocol::chain::TagKey;
use protocol::event::{
    AlarmCode, BolusDelivered, BootReason, InfusionStopped, PoweredOn, StopReason,
};
use protocol::units::{HOUR_MS, Volume};
use protocol::wire_enum;

/// Numbers of prompts begin here times the number of the start, so that none is used twice.
const PROMPTS_A_BOOT: u32 = 10_000;

/// Why the pump does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The memory was never formatted, or formatting did not end.
    NotFormatted,
    /// The memory belongs to another trial.
    OtherTrial,
    /// There is no key to tag events with.
    NoKey,
    /// The memory is too small.
    TooSmall,
    /// The memory fails.
    Memory(NvError),
}

wire_enum!(StartError {
    0 NotFormatted,
    1 OtherTrial,
    2 NoKey,
    3 TooSmall,
    4 Memory(error),
});

impl From<NvError> for StartError {
    fn from(error: NvError) -> Self {
        Self::Memory(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFormatted => f.write_str("the memory is not formatted"),
            Self::OtherTrial => f.write_str("the memory belongs to another trial"),
            Self::NoKey => f.write_str("the memory holds no key to tag events with"),
            Self::TooSmall => f.write_str("the memory is too small for a journal"),
            Self::Memory(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for StartError {}

/// The pump did not start; the board comes back.
#[derive(Debug)]
pub struct StartFailed<B> {
    /// Why.
    pub error: StartError,
    /// As it was given.
    pub board: B,
}

// None of these is inlined: an image's stack would hold the copies of all of them at once.
impl<B: Board> Pump<B> {
    /// Prepares the memory for a trial, once, before the first start: erases all of it and writes
    /// the first key. The header is written last, so a cut leaves a memory that is not formatted.
    ///
    /// # Errors
    /// Where the memory is too small or fails.
    #[inline(never)]
    pub fn format(
        board: &mut B,
        provision: &Provision,
        tag_secret: &[u8; 32],
    ) -> Result<(), StartError> {
        journal_sectors(board).ok_or(StartError::TooSmall)?;
        let genesis = provision.genesis();
        board.nv_erase(0)?;
        for sector in SETTINGS_SECTORS {
            board.nv_erase(sector)?;
        }
        Journal::format(board)?;
        let key = TagKey::of_trial(tag_secret, &genesis);
        Ratchet::format(board, Salt::of_trial(&genesis), &key)?;
        Ok(write_header(board, &genesis)?)
    }

    /// Whether the memory was formatted for this trial, and formatting ended.
    ///
    /// # Errors
    /// Where the memory fails.
    pub fn is_formatted(board: &B, provision: &Provision) -> Result<bool, NvError> {
        Ok(read_header(board, &provision.genesis())? == Header::Ours)
    }

    /// Starts on a memory that was formatted for this trial: recalls the journal, counts the start,
    /// and journals it. Nothing is infused until a clinician starts it. Ticks begin at `tick0`.
    ///
    /// # Errors
    /// [`StartFailed`] with the board, where events could not be kept or tagged.
    #[inline(never)]
    pub fn start(
        board: B,
        provision: &Provision,
        reason: BootReason,
        tick0: u64,
    ) -> Result<Self, StartFailed<B>> {
        let mut pump = Self::assemble(board, provision, tick0)?;
        match pump.recall() {
            Ok(recall) => {
                pump.begin(reason, &recall);
                Ok(pump)
            }
            Err(error) => Err(StartFailed {
                error,
                board: pump.board,
            }),
        }
    }

    /// A pump on its memory that knows nothing yet of what its journal holds: [`Self::recall`] and
    /// [`Self::begin`] must follow.
    #[inline(never)]
    pub(crate) fn assemble(
        board: B,
        provision: &Provision,
        tick0: u64,
    ) -> Result<Self, StartFailed<B>> {
        let mut board = board;
        let (ledger, store, settings) = match of_memory(&mut board, provision) {
            Ok(parts) => parts,
            Err(error) => return Err(StartFailed { error, board }),
        };
        let own_clock = board.own_clock_utc_ms();
        let clock = own_clock.map(|utc| LocalClock::new(tick0, utc, settings.offset_min));
        let encoder = board.encoder();
        Ok(Self {
            keypad: Keypad::new(tick0, board.keys_down()),
            failed_parts: board.failed_parts(),
            board,
            provision: provision.clone(),
            ledger,
            settings,
            store,
            dose: Dose::new(
                provision.calibration,
                &provision.limits,
                provision.bolus_rate,
                encoder,
            ),
            motion: Motion::new(&provision.calibration, encoder),
            supervisor: Supervisor::new(provision, tick0, encoder),
            windows: Windows::default(),
            entry: ScoreEntry::default(),
            prompts: Prompts::new(provision.prompts, tick0, clock, 0),
            clock,
            now: tick0,
            start_tick: tick0,
            known_at_start: 0,
            closed: false,
            stop_at: None,
            last_grant_known_ms: None,
            reported: Reported {
                at_ms: tick0,
                strokes: 0,
                delivered: Volume::ZERO,
            },
            part_at: None,
            look_at: tick0.saturating_add(LOOK_MS),
            hour_at: tick0.saturating_add(HOUR_MS),
            door_open: false,
            stuck: 0,
            alarms: Alarms::default(),
            damaged: false,
            message: None,
            saved_at: None,
            watchdog: Watchdog::default(),
            stops: StopsByAlarm::default(),
            sums: Sums::default(),
            halted: false,
        })
    }

    /// Recalls the journal and counts the start.
    ///
    /// # Errors
    /// Where events could not be kept or tagged.
    #[inline(never)]
    pub(crate) fn recall(&mut self) -> Result<Recall, StartError> {
        let holders = Holders {
            dose: &mut self.dose,
            supervisor: &mut self.supervisor,
            windows: &mut self.windows,
        };
        let calibration = self.provision.calibration;
        let recall = Recall::read(&self.board, self.ledger.journal(), calibration, holders)?;
        self.dose.go_on_from(recall.counters);
        self.closed = recall.closing == Closing::Closed;
        if !self.closed {
            self.ledger.begin(&mut self.board, recall.spent_key)?;
        }
        let first_prompt = self.ledger.boot().saturating_mul(PROMPTS_A_BOOT);
        self.prompts = Prompts::new(self.provision.prompts, self.now, self.clock, first_prompt);
        self.known_at_start = recall.known_ms;
        self.last_grant_known_ms = recall.last_grant_known_ms;
        self.reported.strokes = self.dose.strokes();
        self.reported.delivered = self.dose.delivered();
        self.door_open = recall.alarms.is_active(AlarmCode::DoorOpen);
        self.stuck = recall.stuck;
        self.alarms = recall.alarms.clone();
        self.damaged = recall.unreadable > 0;
        Ok(recall)
    }

    /// Journals the start. Nothing is infused after it.
    #[inline(never)]
    pub(crate) fn begin(&mut self, reason: BootReason, recall: &Recall) {
        let own_clock = self.board.own_clock_utc_ms();
        let unsigned = recall.last_start_is_unsigned();
        self.seal();
        if !self.board.watchdog_test() {
            self.failed_parts |= WATCHDOG_PART;
        }
        if self.closed {
            return;
        }
        // Where power fails again and again, starts without a signature do not pile up: a gateway
        // holds them back until one is signed.
        if unsigned {
            self.checkpoint();
            if recall.closing == Closing::Unsigned {
                self.closed = true;
                self.seal();
                return;
            }
        }
        self.log(PoweredOn {
            reason,
            firmware: VERSION,
            own_clock_utc_ms: own_clock,
        });
        if recall.closing == Closing::Unsigned {
            self.checkpoint();
            self.closed = true;
            self.seal();
            return;
        }
        if let Some(bolus) = recall.bolus {
            self.log(BolusDelivered {
                requested_nl: bolus.requested.as_nanoliters(),
                delivered_nl: bolus.delivered.as_nanoliters(),
                complete: false,
            });
        }
        if recall.infusing.is_some() {
            let reason = StopReason::PowerLost;
            self.log(InfusionStopped { reason });
        }
        self.after_start();
        self.checkpoint();
        self.seal();
    }
}

/// What the memory holds beside the journal's events.
#[inline(never)]
fn of_memory<B: Board>(
    board: &mut B,
    provision: &Provision,
) -> Result<(Ledger, SettingsStore, Settings), StartError> {
    let genesis = provision.genesis();
    let salt = Salt::of_trial(&genesis);
    journal_sectors(board).ok_or(StartError::TooSmall)?;
    match read_header(board, &genesis)? {
        Header::Ours => {}
        Header::Missing => return Err(StartError::NotFormatted),
        Header::Other => return Err(StartError::OtherTrial),
    }
    let ratchet = Ratchet::load(board, salt)?.ok_or(StartError::NoKey)?;
    let journal = Journal::recover(board, salt)?;
    let (store, settings) = SettingsStore::load(board, salt, journal.last_seq())?;
    Ok((
        Ledger::new(journal, ratchet, genesis),
        store,
        settings.unwrap_or_else(|| Settings::of(provision)),
    ))
}
