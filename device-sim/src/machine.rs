//! The pump's program and its line, wherever they run: in this process as a library, or as an image
//! in an emulator. A simulation knows only this.

mod image;
mod native;

pub(crate) use image::{ImagePump, Place};
pub(crate) use native::NativePump;

use crate::board::SimBoard;
use firmware::acts::Refused;
use firmware::face::Face;
use firmware::pump::Input;
use firmware::rig::Health;
use protocol::event::{BootReason, Raw};
use protocol::hex::Tag;
use protocol::time::Uptime;

/// A started pump. `tick_ms` counts from its start, `now` is wall time.
pub(crate) trait Machine: Send {
    /// As [`firmware::pump::Pump::handle`].
    fn handle(&mut self, tick_ms: u64, input: Input) -> Result<(), Refused>;
    /// As [`firmware::pump::Pump::handle_time`].
    fn handle_time(&mut self, tick_ms: u64);
    /// As [`firmware::pump::Pump::next_wake`].
    fn next_wake(&self) -> u64;
    /// As [`firmware::pump::Pump::last_seq`].
    fn last_seq(&self) -> u64;
    /// As [`firmware::pump::Pump::boot`].
    fn boot(&self) -> u32;
    /// As [`firmware::pump::Pump::closed`].
    fn closed(&self) -> bool;
    /// As [`firmware::pump::Pump::event`].
    fn event(&self, seq: u64) -> Option<(Raw, Tag)>;
    /// As [`firmware::pump::Pump::face`].
    fn face(&self, tick_ms: u64, now: Uptime) -> Option<Face>;

    /// Bytes arrived on the line, or none did and it is so late.
    fn bytes_in(&mut self, now: Uptime, tick_ms: u64, bytes: &[u8]);
    /// Bytes for the line; empty where there is nothing to send.
    fn bytes_out(&mut self, now: Uptime, tick_ms: u64) -> Vec<u8>;
    /// Acknowledged through, as the pump heard it.
    fn acked_seq(&self) -> u64;
    /// Somebody at the other end of the line was heard lately.
    fn monitored(&self, now: Uptime) -> bool;

    /// One turn of the pump's own loop, of which parts may hang; true where its watchdog was fed.
    fn turn(&mut self, now: Uptime, tick_ms: u64, hung: Hung) -> bool;
    /// The hardware reset itself since this was asked last: why, where it knows. It waits for
    /// [`Self::start_again`].
    fn take_reset(&mut self) -> Option<BootReason>;
    /// Starts after a reset.
    fn start_again(&mut self, reason: BootReason);
    /// Why it answers no more, where it does not.
    fn broken(&self) -> Option<String>;
    /// How an image fares.
    fn health(&self) -> Option<Health>;

    /// What it drives and feels.
    fn board(&self) -> &SimBoard;
    /// The same, to change it.
    fn board_mut(&mut self) -> &mut SimBoard;
    /// Cuts the power.
    fn into_board(self: Box<Self>) -> Box<SimBoard>;
}

/// Parts of the program that hang.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hung {
    pub(crate) program: bool,
    pub(crate) line: bool,
}
