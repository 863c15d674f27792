//! A whole trial on a simulated pump, in virtual time: the pump's logic on its board, the people of
//! the ward, what goes wrong. Goes from event to event and reads no clock.
//!
//! The journal, byte for byte with its tags, is a function of the [`Setup`] alone: the line, the
//! speed and the machine have no part in it. A person who presses keys by hand has, of course.

mod hands;
mod trouble;

pub use hands::Face;

use crate::board::SimBoard;
use crate::fault::{Change, Schedule};
use crate::machine::{Hung, Machine, Place};
use crate::memory::{self, Memory};
use crate::nurse::NurseEntry;
use crate::plant::Plant;
use crate::setup::Setup;
use crate::ward::{Hand, PumpView, Ward};
use firmware::acts::Act;
use firmware::board::SECTOR;
use firmware::provision::Provision;
use firmware::pump::{Input, Pump};
use firmware::rig::Health;
use protocol::event::{Body, BolusDecision, BootReason, Condition, Key, Raw, decode};
use protocol::hex::Tag;
use protocol::time::Uptime;
use std::collections::BTreeMap;

const MINUTE_MS: u64 = 60_000;

/// Why there is no simulation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Manifest and pump do not fit together.
    #[error("{0}")]
    Setup(String),
    /// The memory's file.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// The pump does not start.
    #[error("the pump does not start: {0}")]
    Start(String),
    /// The emulator of a pump's image.
    #[error(transparent)]
    Qemu(#[from] crate::qemu::Error),
}

/// An event of the journal, with the time of the trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journaled {
    /// Milliseconds since the origin.
    pub trial_ms: u64,
    /// Its bytes.
    pub raw: Raw,
    /// Its tag.
    pub tag: Tag,
}

#[derive(Clone, Copy)]
enum Due {
    Key {
        key: Key,
        pressed: bool,
    },
    Act(Act),
    /// The encoder moves by itself.
    Edge,
}

/// A prompt that the patient has seen.
#[derive(Clone, Copy)]
struct Asked {
    condition: Condition,
    since_ms: u64,
    again: bool,
}

struct Running {
    pump: Box<dyn Machine>,
    booted_ms: u64,
}

enum Power {
    On(Running),
    Off(Box<SimBoard>),
    /// Between two states, inside one call.
    Between,
}

/// A trial.
pub struct Simulation {
    setup: Setup,
    provision: Box<Provision>,
    place: Option<Place>,
    power: Power,
    ward: Ward,
    due: BTreeMap<(u64, u64), Due>,
    order: u64,
    faults: Schedule,
    now_ms: u64,
    next_minute_ms: u64,
    view: PumpView,
    programmed_nl_per_h: u32,
    scanned_seq: u64,
    acked_seq: u64,
    boots: Vec<(u32, u64)>,
    asked: Option<Asked>,
    entries: Vec<NurseEntry>,
    line_changes: Vec<Change>,
    heard: bool,
    hands_free_ms: u64,
    uptime: Uptime,
    hung: Hung,
    starving_since_ms: Option<u64>,
    /// Acts that the pump refused, with their time.
    pub refused: Vec<(u64, String)>,
}

impl core::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Simulation")
            .field("source", &self.setup.source)
            .field("now_ms", &self.now_ms)
            .field("scanned_seq", &self.scanned_seq)
            .finish_non_exhaustive()
    }
}

impl Simulation {
    /// A pump at the origin of its trial. On the memory of an older process it goes on where that
    /// one was, or later, where the setup's origin is later than that one's: so long it was off.
    ///
    /// # Errors
    /// Where the parts do not fit together or the memory cannot be used.
    pub fn new(mut setup: Setup) -> Result<Self, Error> {
        let provision = Box::new(setup.provision()?);
        let place = match &setup.image {
            Some(image) => {
                let memory = setup.memory.as_deref();
                let memory = memory.map(|path| path.with_extension("psram"));
                let place = Place::prepare(image, memory.as_deref(), &setup.keys, &provision)?;
                Some(place)
            }
            None => None,
        };
        // An image keeps its journal in a memory of its own; here is then only what the board keeps.
        let (memory, size) = match (&place, &setup.memory) {
            (Some(_), path) => (path.as_ref().map(|p| p.with_extension("rig")), SECTOR),
            (None, path) => (path.clone(), setup.flash_size),
        };
        let memory = match memory {
            Some(path) => Memory::in_file(&path, size)?,
            None => Memory::in_ram(size),
        };
        let plant = Plant::new(
            setup.seed,
            setup.dead_nl,
            setup.first_fill_nl,
            setup.concentration_mcg_per_ml,
        );
        let fresh = place
            .as_ref()
            .map_or(memory.is_fresh(), |place| place.fresh);
        let origin = setup.clock.origin_utc_ms;
        let mut board = SimBoard::new(plant, memory, setup.keys.clone(), origin);
        board.watchdog_broken = setup.watchdog_broken;
        let mut now_ms = 0;
        let mut programmed = setup.plan.rates_nl_per_h.first().copied().unwrap_or(0);
        if fresh && place.is_some() {
            // The image formats its memory itself, as it was ordered to.
        } else if fresh {
            let secret = setup.keys.tag_secret();
            Pump::format(&mut board, &provision, &secret)
                .map_err(|e| Error::Start(format!("{e:?}")))?;
        } else if let Some((at_ms, more)) = board.recall() {
            let mut more = more.into_iter();
            let rate = u32::try_from(more.next().unwrap_or(0)).unwrap_or(0);
            programmed = if rate > 0 { rate } else { programmed };
            let first = i64::try_from(more.next().unwrap_or(0)).unwrap_or(origin);
            now_ms = at_ms.max(u64::try_from(origin.saturating_sub(first)).unwrap_or(0));
            setup.clock.origin_utc_ms = first;
            board.go_on_at(now_ms, first);
            board.plant.catheter.connect(true);
        }
        let mut ward = Ward::new(
            setup.kind,
            setup.seed,
            setup.clock,
            setup.plan.clone(),
            setup.quiet_patient,
        );
        if now_ms > 0 {
            ward.go_on(now_ms, programmed);
        }
        let faults = setup.faults.clone();
        let presses = setup.presses.clone();
        let mut sim = Self {
            provision,
            place,
            power: Power::Off(Box::new(board)),
            ward,
            due: BTreeMap::new(),
            order: 0,
            faults: Schedule::new(&faults),
            now_ms,
            next_minute_ms: (now_ms / MINUTE_MS + 1) * MINUTE_MS,
            view: PumpView::default(),
            programmed_nl_per_h: programmed,
            scanned_seq: 0,
            acked_seq: 0,
            boots: Vec::new(),
            asked: None,
            entries: Vec::new(),
            line_changes: Vec::new(),
            heard: false,
            hands_free_ms: 0,
            uptime: Uptime::ZERO,
            hung: Hung::default(),
            starving_since_ms: None,
            refused: Vec::new(),
            setup,
        };
        for press in presses {
            sim.plan_press(press.at_ms, press.key, press.hold_ms);
        }
        for (at_ms, act) in sim.setup.acts.clone() {
            sim.plan(at_ms, Due::Act(act));
        }
        sim.switch_on(BootReason::PowerOn)?;
        Ok(sim)
    }

    // --- what a person, a bench or a loop sees ---

    /// Milliseconds since the origin.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The newest event.
    pub fn last_seq(&self) -> u64 {
        match &self.power {
            Power::On(on) => on.pump.last_seq(),
            Power::Off(_) | Power::Between => self.scanned_seq,
        }
    }

    /// Acknowledged through, as the pump heard it.
    pub fn acked_seq(&self) -> u64 {
        self.acked_seq
    }

    /// Events that wait for an acknowledgement.
    pub fn unacknowledged(&self) -> u64 {
        self.last_seq().saturating_sub(self.acked_seq)
    }

    /// The trial was closed at the pump; nothing happens any more.
    pub fn closed(&self) -> bool {
        matches!(&self.power, Power::On(on) if on.pump.closed())
    }

    /// Somebody has asked this pump for its events.
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// The patient, who knows the truth.
    pub fn patient(&self) -> &crate::patient::Patient {
        &self.ward.patient
    }

    /// All events, oldest first.
    pub fn journal(&self) -> Vec<Journaled> {
        let Power::On(on) = &self.power else {
            return Vec::new();
        };
        let events = (1..=on.pump.last_seq()).filter_map(|seq| on.pump.event(seq));
        events
            .map(|(raw, tag)| Journaled {
                trial_ms: self.trial_ms_of(&raw),
                raw,
                tag,
            })
            .collect()
    }

    /// Why the pump answers no more, where it does not.
    pub fn broken(&self) -> Option<String> {
        match &self.power {
            Power::On(on) => on.pump.broken(),
            Power::Off(_) | Power::Between => None,
        }
    }

    /// How the pump's image fares; none where it is a library or has no supply.
    pub fn health(&self) -> Option<Health> {
        match &self.power {
            Power::On(on) => on.pump.health(),
            Power::Off(_) | Power::Between => None,
        }
    }

    /// The file of an image's non-volatile memory.
    pub fn image_memory(&self) -> Option<&std::path::Path> {
        self.place.as_ref().map(Place::memory)
    }

    fn trial_ms_of(&self, raw: &Raw) -> u64 {
        let Ok(head) = raw.head() else { return 0 };
        let booted = self.boots.iter().find(|(boot, _)| *boot == head.boot);
        booted.map_or(0, |(_, at)| *at).saturating_add(head.tick_ms)
    }

    /// What the encoder was moved by since the origin, through all starts, nanolitres.
    pub fn moved_nl(&self) -> f64 {
        match &self.power {
            Power::On(on) => on.pump.board().plant.measured_nl(),
            Power::Off(board) => board.plant.measured_nl(),
            Power::Between => 0.0,
        }
    }

    /// What the nurse wrote since the last call.
    pub fn take_entries(&mut self) -> Vec<NurseEntry> {
        core::mem::take(&mut self.entries)
    }

    /// What happened to the line since the last call.
    pub fn take_line_changes(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.line_changes)
    }

    // --- what comes from outside ---

    /// A person presses a key, now.
    pub fn press(&mut self, key: Key, hold_ms: u32) {
        self.plan_press(self.now_ms, key, hold_ms);
    }

    /// A person does what a nurse does, now.
    pub fn act(&mut self, hand: Hand) {
        self.lend(hand);
    }

    /// Bytes arrived on the line.
    pub fn handle_bytes(&mut self, now: Uptime, bytes: &[u8]) {
        self.uptime = now;
        let now_ms = self.now_ms;
        if let Power::On(on) = &mut self.power
            && !self.hung.line
        {
            let tick = now_ms.saturating_sub(on.booted_ms);
            on.pump.bytes_in(now, tick, bytes);
            self.heard |= on.pump.monitored(now);
            self.acked_seq = on.pump.acked_seq();
        }
    }

    /// Bytes for the line, one frame at most; empty where there is nothing to send.
    pub fn poll_bytes(&mut self, now: Uptime) -> Vec<u8> {
        self.uptime = now;
        let now_ms = self.now_ms;
        let Power::On(on) = &mut self.power else {
            return Vec::new();
        };
        if self.hung.line {
            return Vec::new();
        }
        let tick = now_ms.saturating_sub(on.booted_ms);
        on.pump.bytes_out(now, tick)
    }

    // --- virtual time ---

    /// Everything that is due until this time of the trial.
    pub fn step_until(&mut self, until_ms: u64) {
        while self.step(until_ms) {}
    }

    /// The next thing that is due until then; false where nothing is, and it is that late now.
    pub fn step(&mut self, until_ms: u64) -> bool {
        if self.closed() || self.broken().is_some() {
            return false;
        }
        let wake = match &self.power {
            Power::On(on) if !self.hung.program => on.booted_ms.saturating_add(on.pump.next_wake()),
            Power::On(_) | Power::Off(_) | Power::Between => u64::MAX,
        };
        let due = self.due.first_key_value().map_or(u64::MAX, |(at, _)| at.0);
        let fault = self.faults.poll_timeout().unwrap_or(u64::MAX);
        let reset = self.watchdog_at_ms();
        let at = wake.min(due).min(fault).min(reset).min(self.next_minute_ms);
        if at > until_ms {
            self.now_ms = self.now_ms.max(until_ms);
            return false;
        }
        self.now_ms = self.now_ms.max(at);
        let now_ms = self.now_ms;
        self.board_mut(|board| board.set_now(now_ms));
        if reset <= at {
            self.reset();
        } else if fault <= at {
            if let Some(change) = self.faults.poll(now_ms) {
                self.change(change);
            }
        } else if due <= at {
            if let Some((_, due)) = self.due.pop_first() {
                self.happen(due);
            }
        } else if wake <= at {
            if let Power::On(on) = &mut self.power {
                on.pump.handle_time(now_ms.saturating_sub(on.booted_ms));
            }
        } else {
            self.next_minute_ms += MINUTE_MS;
            self.minute();
        }
        self.after();
        true
    }

    fn board_mut<T>(&mut self, f: impl FnOnce(&mut SimBoard) -> T) -> Option<T> {
        match &mut self.power {
            Power::On(on) => Some(f(on.pump.board_mut())),
            Power::Off(board) => Some(f(board)),
            Power::Between => None,
        }
    }

    fn plan(&mut self, at_ms: u64, due: Due) {
        self.order += 1;
        self.due.insert((at_ms.max(self.now_ms), self.order), due);
    }

    fn plan_press(&mut self, at_ms: u64, key: Key, hold_ms: u32) {
        self.plan(at_ms, Due::Key { key, pressed: true });
        let up = at_ms.saturating_add(u64::from(hold_ms));
        self.plan(
            up,
            Due::Key {
                key,
                pressed: false,
            },
        );
    }

    fn input(&mut self, input: Input) {
        let now_ms = self.now_ms;
        if let Power::On(on) = &mut self.power
            && !self.hung.program
        {
            let tick = now_ms.saturating_sub(on.booted_ms);
            if let Err(refused) = on.pump.handle(tick, input) {
                self.refused.push((now_ms, format!("{refused:?}")));
            }
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Key { key, pressed } => {
                self.board_mut(|board| board.set_key(key, pressed));
                self.input(Input::Key { key, pressed });
            }
            Due::Act(act) => self.input(Input::Act(act)),
            Due::Edge => self.edge(),
        }
    }

    fn minute(&mut self) {
        let now_ms = self.now_ms;
        self.look_at_face();
        let mut view = core::mem::take(&mut self.view);
        view.reservoir_nl = self
            .board_mut(|b| crate::math::whole(b.plant.reservoir_nl()))
            .unwrap_or(0);
        let board = match &mut self.power {
            Power::On(on) => on.pump.board_mut(),
            Power::Off(board) => board.as_mut(),
            Power::Between => return,
        };
        let hands = self.ward.minute(now_ms, &view, &mut board.plant);
        let origin = u64::try_from(self.setup.clock.origin_utc_ms).unwrap_or(0);
        board.keep(&[u64::from(self.programmed_nl_per_h), origin]);
        self.view = view;
        self.input(Input::Sensors);
        for hand in hands {
            self.lend(hand);
        }
    }

    /// Reads what the pump journaled since the last time.
    fn after(&mut self) {
        if self.board_mut(|board| board.memory.dark()) == Some(true) {
            self.switch_off();
            return;
        }
        self.turn();
        self.see_reset();
        let Power::On(on) = &self.power else { return };
        let last = on.pump.last_seq();
        if last == self.scanned_seq {
            return;
        }
        let boot = on.pump.boot();
        let mut from = self.scanned_seq + 1;
        if self.scanned_seq == 0 {
            // On an older memory only what belongs to this start is news.
            let here = |seq: &u64| {
                let event = on.pump.event(*seq);
                event.is_none_or(|(raw, _)| raw.head().is_ok_and(|head| head.boot == boot))
            };
            from = (1..=last).rev().take_while(here).last().unwrap_or(last);
        }
        let fresh: Vec<Body> = (from..=last)
            .filter_map(|seq| on.pump.event(seq))
            .filter_map(|(raw, _)| decode(&raw).ok())
            .filter(|(head, _)| head.boot == boot)
            .map(|(_, body)| body)
            .collect();
        self.scanned_seq = last;
        for body in fresh {
            self.tell(body);
        }
    }

    /// What people do about an event that happened just now.
    fn tell(&mut self, body: Body) {
        let now_ms = self.now_ms;
        if let Body::BolusRequested(asked) = body
            && matches!(asked.decision, BolusDecision::Denied { .. })
        {
            self.ward.note_refusal(now_ms);
        } else if let Body::PainScore(score) = body
            && score.confirmed
            && score.condition == Condition::Rest
        {
            self.ward.note_score(now_ms, score.score);
        }
    }
}
