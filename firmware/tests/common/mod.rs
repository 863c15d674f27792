//! A board in memory: a memory whose writes can be cut at any byte, a motor that turns its encoder
//! at once, sensors that a test sets. And short words for what tests do to a pump.
#![expect(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses its own part of the common words, which stop it where they fail"
)]

use firmware::acts::Act;
use firmware::board::{Board, NvError, SECTOR, Sensors};
use firmware::program::Program;
use firmware::provision::{Limits, Provision};
use firmware::pump::{Input, Pump};
use protocol::chain::{ChainCheck, Finding};
use protocol::event::{Body, BootReason, Head, Key, Purpose, Raw, decode};
use protocol::hex::Tag;
use protocol::keys::KeyPair;
use protocol::message::Source;
use protocol::units::{Concentration, FlowRate, Volume};

pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 3_600_000;
/// 2026-01-01T06:00Z
pub const SIX: u64 = 1_767_247_200_000;
pub const MANIFEST: &[u8] = b"{\"schema\":\"thecal.manifest/1\",\"trial_id\":\"T-0001\"}";

/// One byte of the memory that took another value.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub at: usize,
    pub value: u8,
}

#[derive(Clone, Debug)]
pub struct MemoryBoard {
    pub nv: Vec<u8>,
    /// Bytes that may still change; then power is gone.
    pub fuse: Option<u64>,
    /// Every change of a byte, where it is kept.
    pub changes: Option<Vec<Change>>,
    pub dead: bool,
    pub failing: bool,
    /// Takes writes, says that all is well, and keeps nothing.
    pub forgetful: bool,
    pub microsteps: u64,
    /// Of a hundred microsteps so many turn the encoder.
    pub grip_percent: u64,
    pub extra_counts: u64,
    pub sensors: Sensors,
    pub clock: Option<u64>,
    pub keys_down: u16,
    pub failed_parts: u8,
    /// Does not run out.
    pub watchdog_broken: bool,
    pub feeds: u64,
    pub pair: KeyPair,
    /// Microsteps of each command.
    pub commands: Vec<u32>,
}

impl MemoryBoard {
    pub fn new(journal_sectors: u32) -> Self {
        let size = usize::try_from((5 + journal_sectors) * SECTOR).unwrap();
        Self {
            nv: vec![0; size],
            fuse: None,
            changes: None,
            dead: false,
            failing: false,
            forgetful: false,
            microsteps: 0,
            grip_percent: 100,
            extra_counts: 0,
            sensors: Sensors::default(),
            clock: Some(SIX),
            keys_down: 0,
            failed_parts: 0,
            watchdog_broken: false,
            feeds: 0,
            pair: KeyPair::from_seed([3; 32]),
            commands: Vec::new(),
        }
    }

    /// The same memory with power again; the encoder begins anew.
    pub fn powered_again(mut self) -> Self {
        (self.dead, self.fuse, self.failing) = (false, None, false);
        (self.microsteps, self.extra_counts, self.feeds) = (0, 0, 0);
        self
    }

    fn change(&mut self, at: usize, value: u8) -> Result<(), NvError> {
        if self.dead || self.failing {
            return Err(NvError::Failed);
        }
        if self.nv[at] == value || self.forgetful {
            return Ok(());
        }
        if self.fuse == Some(0) {
            self.dead = true;
            return Err(NvError::Failed);
        }
        self.fuse = self.fuse.map(|left| left - 1);
        self.nv[at] = value;
        if let Some(changes) = &mut self.changes {
            changes.push(Change { at, value });
        }
        Ok(())
    }
}

impl Board for MemoryBoard {
    fn nv_size(&self) -> u32 {
        u32::try_from(self.nv.len()).unwrap()
    }

    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
        let at = usize::try_from(at).unwrap();
        let bytes = self.nv.get(at..at + into.len()).ok_or(NvError::Range)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError> {
        for (place, byte) in (usize::try_from(at).unwrap()..).zip(bytes) {
            let old = *self.nv.get(place).ok_or(NvError::Range)?;
            assert_eq!(old & byte, *byte, "a write may only clear bits, at {place}");
            self.change(place, *byte)?;
        }
        Ok(())
    }

    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError> {
        let from = usize::try_from(sector * SECTOR).unwrap();
        let to = from + usize::try_from(SECTOR).unwrap();
        if to > self.nv.len() {
            return Err(NvError::Range);
        }
        (from..to).try_for_each(|at| self.change(at, 0xFF))
    }

    fn motor_advance(&mut self, microsteps: u32) {
        if !self.dead {
            self.microsteps += u64::from(microsteps) * self.grip_percent;
            self.commands.push(microsteps);
        }
    }

    fn encoder(&self) -> u64 {
        self.microsteps / 400 + self.extra_counts
    }

    fn sensors(&self) -> Sensors {
        self.sensors
    }

    fn keys_down(&self) -> u16 {
        self.keys_down
    }

    fn failed_parts(&self) -> u8 {
        self.failed_parts
    }

    fn watchdog_test(&mut self) -> bool {
        assert_eq!(self.feeds, 0, "tested before it is fed");
        !self.watchdog_broken
    }

    fn watchdog_feed(&mut self) {
        self.feeds += 1;
    }

    fn sign(&mut self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(message).0
    }

    fn own_clock_utc_ms(&self) -> Option<u64> {
        self.clock
    }

    fn set_own_clock(&mut self, utc_ms: u64) {
        self.clock = Some(utc_ms);
    }
}

pub fn nl(nl: u64) -> Volume {
    Volume::from_nanoliters(nl)
}

pub fn rate(nl_per_h: u32) -> FlowRate {
    FlowRate::from_nanoliters_per_hour(nl_per_h)
}

pub fn provision() -> Provision {
    let limits = Limits {
        bolus: nl(50_000),
        lockout_ms: 600_000,
        max_1h: nl(700_000),
        max_4h: nl(2_400_000),
        max_24h: nl(12_000_000),
    };
    Provision::new(
        Source::new("EP-0193").unwrap(),
        KeyPair::from_seed([3; 32]).public(),
        MANIFEST,
        limits,
        Program::constant(rate(400_000)),
        Concentration::from_micrograms_per_milliliter(500),
    )
    .unwrap()
}

pub fn secret() -> [u8; 32] {
    KeyPair::from_seed([3; 32]).tag_secret()
}

pub fn formatted(journal_sectors: u32) -> MemoryBoard {
    let mut board = MemoryBoard::new(journal_sectors);
    Pump::format(&mut board, &provision(), &secret()).unwrap();
    board
}

pub fn start(board: MemoryBoard) -> Pump<MemoryBoard> {
    start_with(board, &provision())
}

pub fn start_with(board: MemoryBoard, provision: &Provision) -> Pump<MemoryBoard> {
    let reason = BootReason::PowerOn;
    Pump::start(board, provision, reason, 0).unwrap_or_else(|f| panic!("{}", f.error))
}

/// A pump that infuses its program since tick 0.
pub fn infusing() -> Pump<MemoryBoard> {
    let mut pump = start(formatted(200));
    begin(&mut pump, 0);
    pump
}

pub fn begin(pump: &mut Pump<MemoryBoard>, tick_ms: u64) {
    let purpose = Purpose::Therapy;
    act(
        pump,
        tick_ms,
        Act::Start {
            purpose,
            until: None,
        },
    );
}

pub fn act(pump: &mut Pump<MemoryBoard>, tick_ms: u64, act: Act) {
    run_to(pump, tick_ms);
    pump.handle(tick_ms, Input::Act(act)).unwrap();
}

/// Calls the pump whenever it is due, up to this tick.
pub fn run_to(pump: &mut Pump<MemoryBoard>, tick_ms: u64) {
    while pump.next_wake() <= tick_ms {
        let due = pump.next_wake();
        pump.handle_time(due);
    }
    pump.handle_time(tick_ms);
}

/// Presses keys one after the other, each for 100 ms, 200 ms apart.
pub fn press(pump: &mut Pump<MemoryBoard>, tick_ms: u64, keys: &[Key]) {
    for (n, key) in (0u64..).zip(keys) {
        for (after, pressed) in [(0, true), (100, false)] {
            let at = tick_ms + n * 200 + after;
            run_to(pump, at);
            pump.handle(at, Input::Key { key: *key, pressed }).unwrap();
        }
    }
}

pub fn set_sensors(pump: &mut Pump<MemoryBoard>, tick_ms: u64, set: impl FnOnce(&mut Sensors)) {
    run_to(pump, tick_ms);
    set(&mut pump.board_mut().sensors);
    pump.handle(tick_ms, Input::Sensors).unwrap();
}

pub fn events_of(pump: &Pump<MemoryBoard>) -> Vec<(Raw, Tag)> {
    (1..=pump.last_seq())
        .filter_map(|seq| pump.event(seq))
        .collect()
}

pub fn bodies(pump: &Pump<MemoryBoard>) -> Vec<(Head, Body)> {
    let all = events_of(pump);
    all.iter().map(|(raw, _)| decode(raw).unwrap()).collect()
}

/// Bodies of the events after `seq`.
pub fn after(pump: &Pump<MemoryBoard>, seq: u64) -> Vec<Body> {
    let all = bodies(pump).into_iter();
    all.filter(|(head, _)| head.seq > seq)
        .map(|(_, body)| body)
        .collect()
}

pub fn kinds(bodies: &[Body]) -> Vec<&'static str> {
    bodies.iter().map(Body::kind).collect()
}

/// Checks chain, tags, checkpoints and order of all events that are there.
pub fn check_chain(events: &[(Raw, Tag)]) -> Result<ChainCheck, String> {
    let key = KeyPair::from_seed([3; 32]).public();
    let mut check = ChainCheck::new(MANIFEST, key, Some(&secret()));
    for (place, (raw, tag)) in events.iter().enumerate() {
        let head = raw.head().map_err(|e| e.to_string())?;
        match check.next(raw, tag) {
            Finding::Good | Finding::Proven => {}
            other @ (Finding::NotProven | Finding::Hole { .. } | Finding::Broken(_)) => {
                return Err(format!("event {place}, {head:?}: {other:?}"));
            }
        }
    }
    Ok(check)
}
