//! The pump's hardware, simulated: firmware's [`Board`] over the [`Plant`] and the [`Memory`].
//!
//! The board knows what time it is because whoever runs it says so before each call; it reads no
//! clock. Without supply nothing moves and nothing is written.

use crate::math::{float, whole};
use crate::memory::{KEPT, Memory};
use crate::plant::Plant;
use firmware::board::{Board, NvError, Sensors};
use firmware::provision::Calibration;
use protocol::event::Key;
use protocol::keys::KeyPair;

/// Flash of a simulated pump: room for some 30,000 events.
pub const FLASH_SIZE: u32 = 8 * 1024 * 1024;
/// The reservoir's sensor tells no more than this, nanolitres.
const RESERVOIR_STEP_NL: u64 = 10_000;

/// A simulated pump's hardware.
#[derive(Debug)]
pub struct SimBoard {
    /// Motor, reservoir, line, battery, door.
    pub plant: Plant,
    /// Flash.
    pub memory: Memory,
    keys: KeyPair,
    calibration: Calibration,
    now_ms: u64,
    flowed_ms: u64,
    clock_zero_ms: Option<i64>,
    counted_from_nl: f64,
    keys_down: u16,
    fed: bool,
    /// The watchdog does not run out any more: broken.
    pub watchdog_broken: bool,
}

impl SimBoard {
    /// A board whose own clock shows `utc_ms` at trial time 0.
    pub fn new(plant: Plant, memory: Memory, keys: KeyPair, utc_ms: i64) -> Self {
        Self {
            plant,
            memory,
            keys,
            calibration: Calibration::default(),
            now_ms: 0,
            flowed_ms: 0,
            clock_zero_ms: Some(utc_ms),
            counted_from_nl: 0.0,
            keys_down: 0,
            fed: false,
            watchdog_broken: false,
        }
    }

    /// It is so late now, trial milliseconds; what is under pressure flows until then.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let span = now_ms.saturating_sub(self.flowed_ms);
        if span > 0 {
            self.plant.flow(span);
            self.flowed_ms = now_ms;
        }
    }

    /// It is so late at the start of a process that goes on with an older trial, whose clock
    /// showed `utc_ms` at trial time 0.
    pub fn go_on_at(&mut self, now_ms: u64, utc_ms: i64) {
        (self.now_ms, self.flowed_ms) = (now_ms, now_ms);
        self.clock_zero_ms = Some(utc_ms);
    }

    /// The supply is back: the encoder counts from 0.
    pub fn power_on(&mut self) {
        self.memory.light();
        self.counted_from_nl = self.plant.measured_nl();
    }

    /// Whether the watchdog was fed since this was asked last.
    pub fn take_fed(&mut self) -> bool {
        core::mem::take(&mut self.fed)
    }

    /// A finger puts a key down, or lets it go.
    pub fn set_key(&mut self, key: Key, down: bool) {
        let place = Key::ALL.iter().position(|k| *k == key).unwrap_or(0);
        let bit = 1_u16 << place;
        if down {
            self.keys_down |= bit;
        } else {
            self.keys_down &= !bit;
        }
    }

    /// Whether a key is down.
    pub fn key_is_down(&self, key: Key) -> bool {
        let place = Key::ALL.iter().position(|k| *k == key).unwrap_or(0);
        self.keys_down & (1 << place) != 0
    }

    /// Keeps what must outlive the process: the time and what stands in `more`.
    pub fn keep(&mut self, more: &[u64]) {
        if !self.memory.is_file() {
            return;
        }
        let reservoir = whole(self.plant.reservoir_nl());
        let battery = u64::from(self.plant.battery_percent());
        let first = [KEPT_MAGIC, self.now_ms, reservoir, battery];
        let mut kept = [0; KEPT];
        for (room, word) in kept.chunks_exact_mut(8).zip(first.iter().chain(more)) {
            room.copy_from_slice(&word.to_le_bytes());
        }
        self.memory.keep(kept);
    }

    /// Takes back what was kept: gives the time and the rest; `None` where nothing was.
    pub fn recall(&mut self) -> Option<(u64, Vec<u64>)> {
        let words = self.memory.kept().chunks_exact(8);
        let mut words = words.map(|w| u64::from_le_bytes(w.try_into().unwrap_or_default()));
        if words.next()? != KEPT_MAGIC {
            return None;
        }
        let (now_ms, reservoir, battery) = (words.next()?, words.next()?, words.next()?);
        let more = words.collect();
        self.plant.fill(reservoir);
        self.plant.charge(u8::try_from(battery).unwrap_or(100));
        (self.now_ms, self.flowed_ms) = (now_ms, now_ms);
        Some((now_ms, more))
    }
}

const KEPT_MAGIC: u64 = u64::from_le_bytes(*b"thecal\x01\0");

impl Board for SimBoard {
    fn nv_size(&self) -> u32 {
        self.memory.size()
    }

    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
        self.memory.read(at, into)
    }

    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError> {
        self.memory.write(at, bytes)
    }

    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError> {
        self.memory.erase(sector)
    }

    fn motor_advance(&mut self, microsteps: u32) {
        if self.memory.dark() {
            return;
        }
        let per_stroke = f64::from(self.calibration.microsteps_per_stroke);
        let stroke_nl = float(self.calibration.stroke.as_nanoliters());
        self.plant
            .turn(f64::from(microsteps) * stroke_nl / per_stroke);
    }

    fn encoder(&self) -> u64 {
        let stroke_nl = float(self.calibration.stroke.as_nanoliters());
        let count_nl = stroke_nl / f64::from(self.calibration.counts_per_stroke);
        let counts = (self.plant.measured_nl() - self.counted_from_nl) / count_nl;
        whole(counts.floor())
    }

    fn sensors(&self) -> Sensors {
        let mbar = whole(self.plant.catheter.pressure_pa() / 100.0);
        let reservoir = whole(self.plant.reservoir_nl());
        Sensors {
            pressure_mbar: Some(u32::try_from(mbar).unwrap_or(u32::MAX)),
            upstream_blocked: self.plant.upstream_blocked || reservoir == 0,
            measured_reservoir_nl: Some(reservoir / RESERVOIR_STEP_NL * RESERVOIR_STEP_NL),
            air: self.plant.air,
            door_open: self.plant.door_open,
            battery_percent: self.plant.battery_percent(),
            battery_minutes: self.plant.battery_minutes(),
        }
    }

    fn keys_down(&self) -> u16 {
        self.keys_down
    }

    fn failed_parts(&self) -> u8 {
        0
    }

    fn watchdog_test(&mut self) -> bool {
        !self.watchdog_broken
    }

    fn watchdog_feed(&mut self) {
        self.fed = true;
    }

    fn sign(&mut self, message: &[u8]) -> [u8; 64] {
        self.keys.sign(message).0
    }

    fn own_clock_utc_ms(&self) -> Option<u64> {
        let now = i64::try_from(self.now_ms).ok()?;
        u64::try_from(self.clock_zero_ms?.checked_add(now)?).ok()
    }

    fn set_own_clock(&mut self, utc_ms: u64) {
        let now = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        self.clock_zero_ms = i64::try_from(utc_ms)
            .ok()
            .map(|utc| utc.saturating_sub(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use firmware::board::SECTOR;

    fn board(memory: Memory) -> SimBoard {
        let plant = Plant::new(1, 1_000, 10_000_000, 500);
        SimBoard::new(plant, memory, KeyPair::from_seed([1; 32]), 1_000_000)
    }

    #[test]
    fn four_microsteps_are_one_count_and_counting_begins_anew_with_the_supply() {
        let mut board = board(Memory::in_ram(SECTOR));
        for _ in 0..1_000 {
            board.motor_advance(3);
        }
        assert_eq!(board.encoder(), 750);
        board.power_on();
        assert_eq!(board.encoder(), 0);
        board.motor_advance(3_200);
        assert_eq!(board.encoder(), 800);
    }

    #[test]
    fn without_supply_nothing_moves_and_nothing_is_written() {
        let mut board = board(Memory::in_ram(SECTOR));
        board.memory.set_fuse(0);
        board.motor_advance(3_200);
        assert_eq!(
            (board.encoder(), board.nv_write(0, b"x")),
            (0, Err(NvError::Failed))
        );
    }

    #[test]
    fn the_own_clock_goes_with_the_trial_and_can_be_set() {
        let mut board = board(Memory::in_ram(SECTOR));
        board.set_now(500);
        assert_eq!(board.own_clock_utc_ms(), Some(1_000_500));
        board.set_own_clock(7_000_000);
        board.set_now(600);
        assert_eq!(board.own_clock_utc_ms(), Some(7_000_100));
    }

    #[test]
    fn what_is_kept_comes_back_in_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        let mut first = board(Memory::in_file(&path, SECTOR).unwrap());
        first.set_now(3_600_000);
        first.plant.fill(1_234_000);
        first.keep(&[5, 6]);
        drop(first);
        let mut second = board(Memory::in_file(&path, SECTOR).unwrap());
        let (now_ms, more) = second.recall().unwrap();
        assert_eq!((now_ms, &more[..2]), (3_600_000, &[5, 6][..]));
        assert_eq!(second.own_clock_utc_ms(), Some(4_600_000));
        assert_eq!(second.sensors().measured_reservoir_nl, Some(1_230_000));
        assert!(board(Memory::in_ram(SECTOR)).recall().is_none());
    }
}
