//! All that the program asks of hardware. One board is one implementation of [`Board`].
//!
//! Time is not part of it: whoever calls the program says what time it is.

use core::fmt;
use protocol::{wire_enum, wire_struct};

/// Bytes of the smallest part of the memory that can be erased.
pub const SECTOR: u32 = 4_096;

/// Why the memory did not do as told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvError {
    /// Outside the memory.
    Range,
    /// The memory did not answer, or did not keep what was written.
    Failed,
}

wire_enum!(NvError { 0 Range, 1 Failed });

impl fmt::Display for NvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "address is outside the memory",
            Self::Failed => "the memory did not answer",
        })
    }
}

/// What the sensors say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sensors {
    /// Pressure after the pump, millibar above ambient. None where there is no reading.
    pub pressure_mbar: Option<u32>,
    /// Nothing comes from the reservoir although the pump draws.
    pub upstream_blocked: bool,
    /// Volume left in the reservoir, where it is measured.
    pub measured_reservoir_nl: Option<u64>,
    /// Air in the line.
    pub air: bool,
    /// The door over the pump mechanism is open.
    pub door_open: bool,
    /// Battery charge, 0 to 100. Zero is a value.
    pub battery_percent: u8,
    /// Minutes left at the present load.
    pub battery_minutes: u32,
}

wire_struct!(Sensors {
    pressure_mbar,
    upstream_blocked,
    measured_reservoir_nl,
    air,
    door_open,
    battery_percent,
    battery_minutes,
});

impl Default for Sensors {
    /// All is well, nothing is measured.
    fn default() -> Self {
        Self {
            pressure_mbar: None,
            upstream_blocked: false,
            measured_reservoir_nl: None,
            air: false,
            door_open: false,
            battery_percent: 100,
            battery_minutes: 7 * 24 * 60,
        }
    }
}

/// The hardware under the program.
///
/// The memory is NOR-like: erased bytes are `0xFF`, a write may only clear bits, a sector of
/// [`SECTOR`] bytes is erased at once. Power may fail between any two bytes of a write or an erase.
pub trait Board {
    /// Bytes of non-volatile memory, a multiple of [`SECTOR`].
    fn nv_size(&self) -> u32;

    /// Reads `into.len()` bytes from `at`.
    ///
    /// # Errors
    /// Outside the memory, or no answer.
    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError>;

    /// Writes `bytes` at `at`. What is there must have been erased.
    ///
    /// # Errors
    /// Outside the memory, or no answer; then any part of it may have been written.
    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError>;

    /// Erases the sector of this number.
    ///
    /// # Errors
    /// Outside the memory, or no answer; then any part of it may have been erased.
    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError>;

    /// Tells the motor to go on by so many microsteps. Returns at once; the encoder shows what
    /// became of it, within [`crate::dose::SETTLE_MS`].
    fn motor_advance(&mut self, microsteps: u32);

    /// Counts of the pump's encoder since power came, never falling.
    fn encoder(&self) -> u64;

    /// The sensors now.
    fn sensors(&self) -> Sensors;

    /// Which keys are down now, one bit a key in the order of `protocol::event::Key::ALL`.
    /// Asked once, at the start: a key that is down then does not count until it was let go.
    fn keys_down(&self) -> u16;

    /// Parts that fail the board's own test at start: bit 2 motor, 3 encoder, 5 memory; 0 where all
    /// is well. The watchdog is tested by [`Self::watchdog_test`].
    fn failed_parts(&self) -> u8;

    /// Lets the watchdog run out once where that resets nothing, and says whether it did. Called
    /// once at each start, before it is first fed.
    fn watchdog_test(&mut self) -> bool;

    /// Feeds the watchdog; the first call starts it. From then on the board is reset where it is
    /// not fed for [`crate::watchdog::TIMEOUT_MS`].
    fn watchdog_feed(&mut self);

    /// Ed25519 over `message` by the pump's key.
    fn sign(&mut self, message: &[u8]) -> [u8; 64];

    /// The pump's own clock, UTC in milliseconds, where it was set and kept.
    fn own_clock_utc_ms(&self) -> Option<u64>;

    /// Sets the pump's own clock.
    fn set_own_clock(&mut self, utc_ms: u64);
}

impl<B: Board + ?Sized> Board for &mut B {
    fn nv_size(&self) -> u32 {
        (**self).nv_size()
    }
    fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
        (**self).nv_read(at, into)
    }
    fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError> {
        (**self).nv_write(at, bytes)
    }
    fn nv_erase(&mut self, sector: u32) -> Result<(), NvError> {
        (**self).nv_erase(sector)
    }
    fn motor_advance(&mut self, microsteps: u32) {
        (**self).motor_advance(microsteps);
    }
    fn encoder(&self) -> u64 {
        (**self).encoder()
    }
    fn sensors(&self) -> Sensors {
        (**self).sensors()
    }
    fn keys_down(&self) -> u16 {
        (**self).keys_down()
    }
    fn failed_parts(&self) -> u8 {
        (**self).failed_parts()
    }
    fn watchdog_test(&mut self) -> bool {
        (**self).watchdog_test()
    }
    fn watchdog_feed(&mut self) {
        (**self).watchdog_feed();
    }
    fn sign(&mut self, message: &[u8]) -> [u8; 64] {
        (**self).sign(message)
    }
    fn own_clock_utc_ms(&self) -> Option<u64> {
        (**self).own_clock_utc_ms()
    }
    fn set_own_clock(&mut self, utc_ms: u64) {
        (**self).set_own_clock(utc_ms);
    }
}
