//! The pump as a whole: time and inputs in, motor commands and journaled events out.
//!
//! It is tickless: between now and [`Pump::next_wake`] nothing happens unless an input comes. An
//! event is in the journal when `handle` returns. Delivery follows an event that says so, never
//! the other way round. There is no input for what the serial line says.

use crate::acts::{Act, Refused};
use crate::alarms::{Alarms, CODES};
use crate::board::{Board, NvError};
use crate::dose::{Dose, SETTLE_MS};
use crate::face::Face;
use crate::journal::Journal;
use crate::keypad::Keypad;
use crate::ledger::Ledger;
use crate::memory::{Header, Salt, journal_sectors, read_header, write_header};
use crate::program::LocalClock;
use crate::prompt::Prompts;
use crate::provision::Provision;
use crate::ratchet::Ratchet;
use crate::recall::{Closing, REPORT_MS, Recall};
use crate::score::ScoreEntry;
use crate::settings::{Settings, SettingsStore};
use crate::supervisor::Supervisor;
use crate::texts::Message;
use crate::watch::LOOK_MS;
use crate::window::Windows;
use core::fmt;
use heapless::Vec;
use protocol::PROTOCOL_VERSION;
use protocol::chain::TagKey;
use protocol::event::{
    AlarmCode, Body, BolusDelivered, BootReason, ChangedBy, Delivered, InfusionStopped, Key,
    PoweredOn, Priority, Purpose, RateChanged, Raw, StopReason,
};
use protocol::hex::Tag;
use protocol::message::Hello;
use protocol::units::{FlowRate, HOUR_MS, Volume};

/// Version of this program.
pub const VERSION: [u8; 3] = [0, 1, 0];
/// Where the program was not called for so long although it was due, it no longer knows what
/// happened and stops infusing.
const STANDSTILL_MS: u64 = 600_000;
/// Numbers of prompts begin here times the number of the start, so that none is used twice.
const PROMPTS_A_BOOT: u32 = 10_000;

const _: () = assert!(
    SETTLE_MS < REPORT_MS,
    "the encoder is read before it is reported"
);

/// What comes from a person or a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key's line changed.
    Key {
        /// Which.
        key: Key,
        /// Down, or up.
        pressed: bool,
    },
    /// A sensor changed: the pump looks at them.
    Sensors,
    /// Power is about to fail: the counters are journaled.
    PowerFailing,
    /// A clinician's act at the pump.
    Act(Act),
}

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

/// What was last said of the counters.
#[derive(Clone, Copy, Debug)]
struct Reported {
    at_ms: u64,
    strokes: u64,
    delivered: Volume,
}

/// The pump.
#[derive(Debug)]
pub struct Pump<B> {
    pub(crate) board: B,
    pub(crate) provision: Provision,
    pub(crate) ledger: Ledger,
    pub(crate) settings: Settings,
    pub(crate) store: SettingsStore,
    pub(crate) dose: Dose,
    pub(crate) supervisor: Supervisor,
    pub(crate) windows: Windows,
    pub(crate) alarms: Alarms,
    pub(crate) keypad: Keypad,
    pub(crate) entry: ScoreEntry,
    pub(crate) prompts: Prompts,
    pub(crate) clock: Option<LocalClock>,
    pub(crate) now: u64,
    start_tick: u64,
    known_at_start: u64,
    pub(crate) closed: bool,
    pub(crate) stop_at: Option<Volume>,
    pub(crate) last_grant_known_ms: Option<u64>,
    reported: Reported,
    part_at: Option<u64>,
    pub(crate) look_at: u64,
    pub(crate) hour_at: u64,
    pub(crate) door_open: bool,
    pub(crate) stuck: u16,
    pub(crate) damaged: bool,
    pub(crate) failed_parts: u8,
    pub(crate) message: Option<(Message, u64)>,
    pub(crate) saved_at: Option<u64>,
}

impl<B: Board> Pump<B> {
    /// Prepares the memory for a trial, once, before the first start: erases all of it and writes
    /// the first key. The header is written last, so a cut leaves a memory that is not formatted.
    ///
    /// # Errors
    /// Where the memory is too small or fails.
    pub fn format(
        board: &mut B,
        provision: &Provision,
        tag_secret: &[u8; 32],
    ) -> Result<(), StartError> {
        journal_sectors(board).ok_or(StartError::TooSmall)?;
        let genesis = provision.genesis();
        board.nv_erase(0)?;
        for sector in crate::memory::SETTINGS_SECTORS {
            board.nv_erase(sector)?;
        }
        Journal::format(board)?;
        let key = TagKey::of_trial(tag_secret, &genesis);
        Ratchet::format(board, Salt::of_trial(&genesis), &key)?;
        Ok(write_header(board, &genesis)?)
    }

    /// Starts on a memory that was formatted for this trial: recalls the journal, counts the start,
    /// and journals it. Nothing is infused until a clinician starts it. Ticks begin at `tick0`.
    ///
    /// # Errors
    /// [`StartFailed`] with the board, where events could not be kept or tagged.
    pub fn start(
        board: B,
        provision: &Provision,
        reason: BootReason,
        tick0: u64,
    ) -> Result<Self, StartFailed<B>> {
        let mut board = board;
        match Parts::load(&mut board, provision, tick0) {
            Ok(parts) => Ok(Self::begin(board, provision, reason, tick0, parts)),
            Err(error) => Err(StartFailed { error, board }),
        }
    }

    fn begin(
        board: B,
        provision: &Provision,
        reason: BootReason,
        tick0: u64,
        parts: Parts,
    ) -> Self {
        let Parts {
            ledger,
            store,
            settings,
            recall,
            supervisor,
        } = parts;
        let own_clock = board.own_clock_utc_ms();
        let clock = own_clock.map(|utc| LocalClock::new(tick0, utc, settings.offset_min));
        let encoder = board.encoder();
        let dose = Dose::new(
            provision.calibration,
            provision.bolus_rate,
            recall.counters,
            encoder,
        );
        let first_prompt = ledger.boot().saturating_mul(PROMPTS_A_BOOT);
        let reported = Reported {
            at_ms: tick0,
            strokes: dose.strokes(),
            delivered: dose.delivered(),
        };
        let mut pump = Self {
            keypad: Keypad::new(tick0, board.keys_down()),
            failed_parts: board.failed_parts(),
            board,
            provision: provision.clone(),
            ledger,
            settings,
            store,
            dose,
            supervisor,
            windows: recall.windows,
            entry: ScoreEntry::default(),
            prompts: Prompts::new(provision.prompts, tick0, clock, first_prompt),
            clock,
            now: tick0,
            start_tick: tick0,
            known_at_start: recall.known_ms,
            closed: recall.closing == Closing::Closed,
            stop_at: None,
            last_grant_known_ms: recall.last_grant_known_ms,
            reported,
            part_at: None,
            look_at: tick0.saturating_add(LOOK_MS),
            hour_at: tick0.saturating_add(HOUR_MS),
            door_open: recall.alarms.is_active(AlarmCode::DoorOpen),
            stuck: recall.stuck,
            alarms: recall.alarms,
            damaged: recall.unreadable > 0,
            message: None,
            saved_at: None,
        };
        if pump.closed {
            return pump;
        }
        pump.log(PoweredOn {
            reason,
            firmware: VERSION,
            own_clock_utc_ms: own_clock,
        });
        if recall.closing == Closing::Unsigned {
            pump.checkpoint();
            pump.closed = true;
            return pump;
        }
        if let Some(bolus) = recall.bolus {
            pump.log(BolusDelivered {
                requested_nl: bolus.requested.as_nanoliters(),
                delivered_nl: bolus.delivered.as_nanoliters(),
                complete: false,
            });
        }
        if recall.infusing.is_some() {
            let reason = StopReason::PowerLost;
            pump.log(InfusionStopped { reason });
        }
        pump.after_start();
        pump.checkpoint();
        pump
    }

    /// Something happened, at this tick. What was due before is done first.
    ///
    /// # Errors
    /// [`Refused`], for an act that was not done. Other inputs are never refused.
    pub fn handle(&mut self, tick_ms: u64, input: Input) -> Result<(), Refused> {
        self.handle_time(tick_ms);
        if self.closed {
            return match input {
                Input::Act(_) => Err(Refused::Closed),
                Input::Key { .. } | Input::Sensors | Input::PowerFailing => Ok(()),
            };
        }
        match input {
            Input::Key { key, pressed } => {
                if let Some(pressed) = self.keypad.handle_edge(self.now, key, pressed) {
                    self.take_press(pressed);
                }
                Ok(())
            }
            Input::Sensors => {
                self.observe();
                self.look();
                Ok(())
            }
            Input::PowerFailing => {
                self.observe();
                self.report();
                Ok(())
            }
            Input::Act(act) => self.act(act),
        }
    }

    /// Time passed: does what is due up to this tick. A tick before the last one is that one.
    pub fn handle_time(&mut self, tick_ms: u64) {
        let tick_ms = tick_ms.max(self.now);
        if self.closed {
            self.now = tick_ms;
            return;
        }
        if tick_ms - self.now > STANDSTILL_MS.max(2 * LOOK_MS) {
            self.now = tick_ms;
            self.stand_still();
        }
        loop {
            let due = self.next_wake();
            if due > tick_ms || self.closed {
                break;
            }
            self.now = due.max(self.now);
            self.step();
        }
        self.now = tick_ms;
    }

    /// When `handle_time` is next due; at least each minute while the trial is open. May change
    /// with each call.
    pub fn next_wake(&self) -> u64 {
        if self.closed {
            return u64::MAX;
        }
        let dues = [
            self.dose.next_due(),
            self.part_at,
            self.keypad.next_due(),
            self.entry.next_due(),
            self.prompts.next_due(),
            Some(self.report_at()),
            Some(self.look_at),
            Some(self.hour_at),
        ];
        dues.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn report_at(&self) -> u64 {
        let moved = self.dose.delivered() != self.reported.delivered;
        if moved || self.dose.following().is_some() {
            self.reported.at_ms.saturating_add(REPORT_MS)
        } else {
            u64::MAX
        }
    }

    /// All that may be due now. What stops delivery comes before what delivers.
    fn step(&mut self) {
        self.observe();
        if self.now >= self.look_at || self.dose.following().is_some() {
            self.look();
        }
        self.begin_day_part();
        if let Some(microsteps) = self.dose.step(self.now) {
            self.board.motor_advance(microsteps);
        }
        self.end_bolus();
        let stroke = self.dose.strokes() > self.reported.strokes;
        if stroke || self.now >= self.report_at() {
            self.report();
        }
        if let (Some(stop_at), Some(_)) = (self.stop_at, self.dose.following())
            && self.dose.delivered() >= stop_at
        {
            self.stop(StopReason::Keypad);
        }
        while let Some(pressed) = self.keypad.handle_time(self.now) {
            self.take_press(pressed);
        }
        self.take_time_of_patient();
        if self.now >= self.hour_at {
            self.hour_at = self.now.saturating_add(HOUR_MS);
            self.each_hour();
        }
    }

    /// Nobody called for minutes: what was infused meanwhile, if anything, is not known.
    fn stand_still(&mut self) {
        self.observe();
        if self.dose.following().is_some() {
            self.latch();
        }
    }

    fn begin_day_part(&mut self) {
        if self.part_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.part_at = self.settings.program.next_part_at(self.now, self.clock);
        self.follow_program(ChangedBy::DayPart);
    }

    /// Follows the program's rate of now, where therapy is infused and the rate is another.
    pub(crate) fn follow_program(&mut self, by: ChangedBy) {
        let Some((Purpose::Therapy, previous)) = self.dose.following() else {
            return;
        };
        let rate = self.programmed_rate(0);
        if rate == previous {
            return;
        }
        self.log(RateChanged {
            previous_nl_per_h: previous.as_nanoliters_per_hour(),
            programmed_nl_per_h: rate.as_nanoliters_per_hour(),
            by,
        });
        self.follow(Purpose::Therapy, rate);
    }

    /// The motor and the supervisor follow this rate from now on.
    pub(crate) fn follow(&mut self, purpose: Purpose, rate: FlowRate) {
        self.dose.follow(self.now, purpose, rate);
        let nl_per_h = rate.as_nanoliters_per_hour();
        self.supervisor.expect_rate(self.now, nl_per_h);
        self.renew_day_part();
    }

    /// The day-parts, or the clock, are others now.
    pub(crate) fn renew_day_part(&mut self) {
        let therapy = matches!(self.dose.following(), Some((Purpose::Therapy, _)));
        let next = self.settings.program.next_part_at(self.now, self.clock);
        self.part_at = next.filter(|_| therapy);
    }

    /// The rate that the program has so many milliseconds from now.
    pub(crate) fn programmed_rate(&self, ahead_ms: u64) -> FlowRate {
        let at = self.now.saturating_add(ahead_ms);
        let minute = self.clock.map(|clock| clock.minute_of_day(at));
        self.settings.program.rate_at(minute)
    }

    /// Reports the counters, the bolus that this interrupts, and the stop.
    pub(crate) fn stop(&mut self, reason: StopReason) {
        if self.dose.following().is_none() {
            return;
        }
        let interrupted = self.dose.stop(self.now);
        self.supervisor.expect_nothing(self.now);
        (self.stop_at, self.part_at) = (None, None);
        self.report();
        if let Some(bolus) = interrupted {
            self.log(BolusDelivered {
                requested_nl: bolus.requested.as_nanoliters(),
                delivered_nl: bolus.delivered.as_nanoliters(),
                complete: bolus.complete,
            });
        }
        self.log(InfusionStopped { reason });
        self.end_under_delivery();
    }

    fn end_bolus(&mut self) {
        if let Some(bolus) = self.dose.take_finished_bolus() {
            self.report();
            self.log(BolusDelivered {
                requested_nl: bolus.requested.as_nanoliters(),
                delivered_nl: bolus.delivered.as_nanoliters(),
                complete: bolus.complete,
            });
        }
    }

    /// Journals the counters.
    pub(crate) fn report(&mut self) {
        self.dose.accrue(self.now);
        let counters = self.dose.counters();
        let delivered = self.dose.delivered();
        self.reported = Reported {
            at_ms: self.now,
            strokes: self.dose.strokes(),
            delivered,
        };
        self.log(Delivered {
            delivered_nl: delivered.as_nanoliters(),
            programmed_nl: counters.programmed.as_nanoliters(),
            strokes: self.dose.strokes(),
            encoder_counts: counters.encoder_counts,
        });
    }

    /// Known time: what the journal can tell, through all starts.
    pub(crate) fn known_ms(&self) -> u64 {
        let here = self.now.saturating_sub(self.start_tick);
        self.known_at_start.saturating_add(here)
    }

    /// Journals an event; gives its seq once it is there to stay.
    pub(crate) fn log(&mut self, body: impl Into<Body>) -> Option<u64> {
        self.ledger.record(&mut self.board, self.now, &body.into())
    }

    pub(crate) fn checkpoint(&mut self) {
        self.ledger.checkpoint(&mut self.board, self.now);
    }

    /// The newest event's seq; 0 where there is none.
    pub fn last_seq(&self) -> u64 {
        self.ledger.journal().last_seq()
    }

    /// The event of this seq as it is in the journal, with its tag. None where it is not held.
    pub fn event(&self, seq: u64) -> Option<(Raw, Tag)> {
        let entry = self
            .ledger
            .journal()
            .find(&self.board, seq)
            .ok()
            .flatten()?;
        Some((entry.raw, entry.tag))
    }

    /// This start; the first is 1.
    pub fn boot(&self) -> u32 {
        self.ledger.boot()
    }

    /// The rate that is infused now, whatever for.
    pub fn infusing(&self) -> Option<FlowRate> {
        self.dose.following().map(|(_, rate)| rate)
    }

    /// Whether the trial is closed: nothing happens any more, events can still be read.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Delivered since the trial began, as the encoder confirms it.
    pub fn delivered(&self) -> Volume {
        self.dose.delivered()
    }

    /// Key edges that were taken for bounce since this start.
    pub fn bounces(&self) -> u32 {
        self.keypad.bounces
    }

    /// What the pump was given.
    pub fn provision(&self) -> &Provision {
        &self.provision
    }

    /// What clinicians set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the pump says when a line opens.
    pub fn hello(&self) -> Hello {
        let manifest = &self.provision.manifest;
        Hello {
            protocol_min: PROTOCOL_VERSION,
            protocol_max: PROTOCOL_VERSION,
            source: self.provision.source,
            boot: self.boot(),
            manifest: self.provision.genesis().0,
            manifest_len: u16::try_from(manifest.len()).unwrap_or(u16::MAX),
            key: self.provision.key,
            simulated: self.provision.simulated,
        }
    }

    /// The face at this tick. `monitored` comes from the line and shows here alone.
    pub fn face(&self, tick_ms: u64, monitored: bool) -> Face {
        let prompt = self.prompts.open();
        let fresh = |at: u64, for_ms: u64| tick_ms.saturating_sub(at) < for_ms;
        let mut alarms: Vec<_, CODES> = self.alarms.active().collect();
        if self.ledger.failing() && !self.alarms.is_active(AlarmCode::Storage) {
            // It cannot be journaled now; there is room for every code.
            let _ = alarms.push((AlarmCode::Storage, Priority::Medium));
        }
        alarms.sort_unstable_by_key(|(code, priority)| (core::cmp::Reverse(*priority), *code));
        Face {
            language: self.provision.language,
            asking: prompt.map(|p| p.condition),
            typed: self.entry.typed(),
            condition: self.entry.condition(prompt),
            correcting: self.entry.correcting(),
            saved: self.saved_at.is_some_and(|at| fresh(at, SHOWN_MS)),
            infusing: self.dose.following(),
            giving_bolus: self.dose.giving_bolus(),
            lockout_left_ms: self.lockout_left_ms(tick_ms.saturating_sub(self.now)),
            alarms,
            message: self
                .message
                .filter(|(_, at)| fresh(*at, SHOWN_MS))
                .map(|m| m.0),
            monitored,
            closed: self.closed,
        }
    }

    /// The board.
    pub fn board(&self) -> &B {
        &self.board
    }

    /// The board, for whoever moves its sensors and lines.
    pub fn board_mut(&mut self) -> &mut B {
        &mut self.board
    }

    /// Cuts the power: all that is left is the board.
    pub fn into_board(self) -> B {
        self.board
    }
}

/// A message stays on the face for so long.
const SHOWN_MS: u64 = 30_000;

/// What is read from the memory at a start.
struct Parts {
    ledger: Ledger,
    store: SettingsStore,
    settings: Settings,
    recall: Recall,
    supervisor: Supervisor,
}

impl Parts {
    fn load<B: Board>(
        board: &mut B,
        provision: &Provision,
        tick0: u64,
    ) -> Result<Self, StartError> {
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
        let encoder = board.encoder();
        let mut supervisor = Supervisor::new(provision, tick0, encoder);
        let recall = Recall::read(board, &journal, provision, &mut supervisor)?;
        let ledger = if recall.closing == Closing::Closed {
            Ledger::closed(journal, ratchet, genesis)
        } else {
            Ledger::begin(board, journal, ratchet, genesis, recall.spent_key)?
        };
        Ok(Self {
            ledger,
            store,
            settings: settings.unwrap_or_else(|| Settings::of(provision)),
            recall,
            supervisor,
        })
    }
}
