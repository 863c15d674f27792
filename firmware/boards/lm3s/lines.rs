//! The chip's GPIO lines, six ports of eight.

use super::register::{read, write};

pub(super) const A: Lines = Lines(0x4000_4000);
pub(super) const B: Lines = Lines(0x4000_5000);
pub(super) const C: Lines = Lines(0x4000_6000);
pub(super) const D: Lines = Lines(0x4000_7000);
pub(super) const E: Lines = Lines(0x4002_4000);
pub(super) const F: Lines = Lines(0x4002_5000);

/// A PL061: eight lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Lines(usize);

impl Lines {
    const DIRECTION: usize = 0x400;
    const BOTH_EDGES: usize = 0x408;
    const INTERRUPT: usize = 0x410;
    const CHANGED: usize = 0x418;
    const CLEAR: usize = 0x41C;
    pub(super) const OPEN_DRAIN: usize = 0x50C;
    const ALTERNATE: usize = 0x420;
    const PULL_UP: usize = 0x510;
    const DIGITAL: usize = 0x51C;

    pub(super) fn change(self, register: usize, lines: u32) {
        write(self.0 + register, read(self.0 + register) | lines);
    }

    /// Part of a port.
    pub(super) fn lend(self, lines: u32) {
        self.change(Self::ALTERNATE, lines);
        self.change(Self::DIGITAL, lines);
    }

    pub(super) fn output(self, lines: u32) {
        self.change(Self::DIRECTION, lines);
        self.change(Self::DIGITAL, lines);
    }

    /// With an interrupt for each edge.
    pub(super) fn input(self, lines: u32) {
        self.change(Self::PULL_UP, lines);
        self.change(Self::DIGITAL, lines);
        self.change(Self::BOTH_EDGES, lines);
        write(self.0 + Self::CLEAR, lines);
        self.change(Self::INTERRUPT, lines);
    }

    /// The lines that changed since this was last asked.
    pub(super) fn take_changed(self) -> u8 {
        let [changed, ..] = read(self.0 + Self::CHANGED).to_le_bytes();
        write(self.0 + Self::CLEAR, u32::from(changed));
        changed
    }

    /// The address carries a mask, so that no other line is touched.
    pub(super) fn set(self, line: u32, high: bool) {
        let mask = 1 << line;
        let address = self.0 + usize::try_from(mask << 2).unwrap_or(0);
        write(address, if high { mask } else { 0 });
    }

    pub(super) fn is_high(self, line: u32) -> bool {
        let address = self.0 + usize::try_from(4_u32 << line).unwrap_or(0);
        read(address) != 0
    }
}
