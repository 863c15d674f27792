//! What goes wrong in a [`super::World`], and how often each of it did.

/// What goes wrong, each in parts of a thousand a frame, or a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) lose: u32,
    pub(crate) damage: u32,
    pub(crate) cut: u32,
    pub(crate) repeat: u32,
    pub(crate) delay: u32,
    pub(crate) forge: u32,
    pub(crate) store_fails: u32,
    /// Every second.
    pub(crate) pump_starts: u32,
    /// Every second.
    pub(crate) gateway_starts: u32,
    /// Every second: the line is opened again while the gateway lives.
    pub(crate) reopens: u32,
    /// Every second: the journal loses all it holds.
    pub(crate) journal_wiped: u32,
    /// Every second: some events find no room in the journal.
    pub(crate) journal_full: u32,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        lose: 0,
        damage: 0,
        cut: 0,
        repeat: 0,
        delay: 0,
        forge: 0,
        store_fails: 0,
        pump_starts: 0,
        gateway_starts: 0,
        reopens: 0,
        journal_wiped: 0,
        journal_full: 0,
    };

    /// Only the line stays bad; ends, store and journal behave, and nobody forges.
    pub(crate) const fn of_the_line(self) -> Self {
        Self {
            lose: self.lose,
            damage: self.damage,
            cut: self.cut,
            repeat: self.repeat,
            delay: self.delay,
            ..Self::NONE
        }
    }
}

/// How often each thing happened: a fault that never came tests nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) lost: u64,
    pub(crate) damaged: u64,
    pub(crate) cut: u64,
    pub(crate) repeated: u64,
    pub(crate) delayed: u64,
    pub(crate) forged: u64,
    pub(crate) refused_frames: u64,
    pub(crate) store_failed: u64,
    pub(crate) pump_started: u64,
    pub(crate) gateway_started: u64,
    pub(crate) reopened: u64,
    pub(crate) journal_lost: u64,
    pub(crate) repeats: u64,
    pub(crate) gaps: u64,
    pub(crate) impossible_acks: u64,
    pub(crate) uncommitted_lost: u64,
}
