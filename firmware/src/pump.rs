//! The pump as a whole: time and inputs in, motor commands and journaled events out.
//!
//! It is tickless: between now and [`Pump::next_wake`] nothing happens unless an input comes. An
//! event is in the journal when `handle` returns. Delivery follows an event that says so, never
//! the other way round. There is no input for what the serial line says.

pub use crate::start::{StartError, StartFailed};

use crate::acts::{Act, Refused};
use crate::alarms::{Alarms, CODES};
use crate::board::Board;
use crate::dose::{Dose, SETTLE_MS};
use crate::face::Face;
use crate::keypad::Keypad;
use crate::ledger::Ledger;
use crate::motion::Motion;
use crate::program::LocalClock;
use crate::prompt::Prompts;
use crate::provision::Provision;
use crate::recall::REPORT_MS;
use crate::score::ScoreEntry;
use crate::settings::{Settings, SettingsStore};
use crate::sound::Sums;
use crate::supervisor::Supervisor;
use crate::texts::Message;
use crate::watch::{LOOK_MS, StopsByAlarm};
use crate::watchdog::{Part, Watchdog};
use crate::window::Windows;
use heapless::Vec;
use protocol::PROTOCOL_VERSION;
use protocol::event::{
    AlarmCode, Body, BolusDelivered, ChangedBy, Delivered, InfusionStopped, Key, Priority, Purpose,
    RateChanged, Raw, StopReason,
};
use protocol::hex::Tag;
use protocol::message::Hello;
use protocol::units::{FlowRate, HOUR_MS, Volume};
use protocol::wire_enum;

/// Version of this program.
pub const VERSION: [u8; 3] = [0, 1, 0];
/// Where the program was not called for so long although it was due, it no longer knows what
/// happened and stops infusing.
const STANDSTILL_MS: u64 = 600_000;
/// A checkpoint that could not be written is tried again after so long.
const SIGN_AGAIN_MS: u64 = 60_000;

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

wire_enum!(Input {
    0 Key { key, pressed },
    1 Sensors,
    2 PowerFailing,
    3 Act(act),
});

/// What was last said of the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported {
    pub(crate) at_ms: u64,
    pub(crate) strokes: u64,
    pub(crate) delivered: Volume,
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
    pub(crate) motion: Motion,
    pub(crate) supervisor: Supervisor,
    pub(crate) windows: Windows,
    pub(crate) alarms: Alarms,
    pub(crate) keypad: Keypad,
    pub(crate) entry: ScoreEntry,
    pub(crate) prompts: Prompts,
    pub(crate) clock: Option<LocalClock>,
    pub(crate) now: u64,
    pub(crate) start_tick: u64,
    pub(crate) known_at_start: u64,
    pub(crate) closed: bool,
    pub(crate) stop_at: Option<Volume>,
    pub(crate) last_grant_known_ms: Option<u64>,
    pub(crate) reported: Reported,
    pub(crate) part_at: Option<u64>,
    pub(crate) look_at: u64,
    pub(crate) hour_at: u64,
    pub(crate) door_open: bool,
    pub(crate) stuck: u16,
    pub(crate) damaged: bool,
    pub(crate) failed_parts: u8,
    pub(crate) message: Option<(Message, u64)>,
    pub(crate) saved_at: Option<u64>,
    pub(crate) watchdog: Watchdog,
    pub(crate) stops: StopsByAlarm,
    pub(crate) sums: Sums,
    pub(crate) halted: bool,
}

impl<B: Board> Pump<B> {
    /// Something happened, at this tick. What was due before is done first.
    ///
    /// # Errors
    /// [`Refused`], for an act that was not done. Other inputs are never refused.
    pub fn handle(&mut self, tick_ms: u64, input: Input) -> Result<(), Refused> {
        self.handle_time(tick_ms);
        if self.closed && !self.halted {
            return match input {
                Input::Act(_) => Err(Refused::Closed),
                Input::Key { .. } | Input::Sensors | Input::PowerFailing => Ok(()),
            };
        }
        let done = self.take(input);
        self.seal();
        done
    }

    fn take(&mut self, input: Input) -> Result<(), Refused> {
        if self.halted {
            return match input {
                Input::Act(_) => Err(Refused::Condition(AlarmCode::SupervisorStop)),
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
                if !self.halted {
                    self.look();
                }
                Ok(())
            }
            Input::PowerFailing => {
                self.observe();
                if !self.halted {
                    self.report();
                }
                Ok(())
            }
            Input::Act(act) => self.act(act),
        }
    }

    /// Time passed: does what is due up to this tick. A tick before the last one is that one.
    pub fn handle_time(&mut self, tick_ms: u64) {
        let tick_ms = tick_ms.max(self.now);
        if !self.is_sound() {
            self.now = tick_ms;
            return;
        }
        if self.closed {
            self.now = tick_ms;
            self.note_progress();
            return;
        }
        let mut worked = false;
        if tick_ms - self.now > STANDSTILL_MS.max(2 * LOOK_MS) {
            self.now = tick_ms;
            self.stand_still();
            worked = true;
        }
        loop {
            let due = self.next_wake();
            if due > tick_ms || self.closed || self.halted {
                break;
            }
            self.now = due.max(self.now);
            self.step();
            worked = true;
        }
        self.now = tick_ms;
        if worked {
            self.seal();
        }
        self.note_progress();
    }

    fn note_progress(&mut self) {
        if self.halted {
            return;
        }
        if self.closed || self.dose.next_due().is_none_or(|at| at > self.now) {
            self.watchdog.note(Part::Dose);
        }
        if self.closed || self.look_at > self.now {
            self.watchdog.note(Part::Supervisor);
        }
    }

    /// Feeds the watchdog where all parts made progress since the last time, and says whether it
    /// did. `line_turns` is [`crate::line::Line::turns`], which says that the line was served and
    /// nothing of what it heard. To be called every [`crate::watchdog::SERVE_MS`], after
    /// `handle_time`; it changes nothing but the watchdog.
    pub fn serve_watchdog(&mut self, line_turns: u32) -> bool {
        self.watchdog.note_link_turns(line_turns);
        let feed = self.watchdog.take_feed();
        if feed {
            self.board.watchdog_feed();
        }
        feed
    }

    /// When `handle_time` is next due; at least each minute while the trial is open. May change
    /// with each call.
    pub fn next_wake(&self) -> u64 {
        if self.closed || self.halted {
            return u64::MAX;
        }
        let dues = [
            self.dose.next_due(),
            self.motion.next_due(),
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
        if self.halted {
            return;
        }
        if self.now >= self.look_at || self.dose.following().is_some() {
            self.look();
        }
        self.begin_day_part();
        match self.dose.step(self.now, self.known_ms()) {
            Ok(Some(microsteps)) => {
                self.motion.tell(microsteps);
                self.board.motor_advance(microsteps);
            }
            Ok(None) => {}
            Err(fault) => self.take_fault(fault),
        }
        if self.halted {
            return;
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
        if !self.halted && self.dose.following().is_some() {
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
        self.motion.rest();
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

    /// Signs the chain. Where the memory fails, again in a minute: a gateway waits for a start's
    /// first one.
    pub(crate) fn checkpoint(&mut self) {
        let signed = self.ledger.checkpoint(&mut self.board, self.now);
        if signed.is_none() {
            self.hour_at = self.hour_at.min(self.now.saturating_add(SIGN_AGAIN_MS));
        }
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

    /// For a seq that the journal does not hold: the newest event that says that it is lost.
    pub fn says_lost(&self, seq: u64) -> Option<(Raw, Tag)> {
        let journal = self.ledger.journal();
        let entry = journal.says_lost(&self.board, seq).ok().flatten()?;
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

    /// Key edges that were taken for bounce, and presses for doubles, since this start.
    pub fn bounces(&self) -> u32 {
        self.keypad.bounces.saturating_add(self.keypad.doubles())
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
        most_urgent_first(&mut alarms);
        Face {
            language: self.provision.language,
            asking: prompt.map(|p| p.condition),
            typed: self.entry.typed(),
            condition: self.entry.condition(prompt),
            correcting: self.entry.correcting(),
            // Beside another message the tick would say that this one was kept.
            saved: self.saved_at.is_some_and(|at| fresh(at, SHOWN_MS))
                && matches!(self.message, Some((Message::Saved { .. }, _))),
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

/// Sorts by insertion: there are few, and a sort made for many is a tenth of an image.
fn most_urgent_first(alarms: &mut [(AlarmCode, Priority)]) {
    for end in 1..alarms.len() {
        for at in (1..=end).rev() {
            if let Some([before, after]) = alarms.get_mut(at - 1..=at)
                && (core::cmp::Reverse(after.1), after.0) < (core::cmp::Reverse(before.1), before.0)
            {
                core::mem::swap(before, after);
            }
        }
    }
}

/// A message stays on the face for so long.
const SHOWN_MS: u64 = 30_000;
