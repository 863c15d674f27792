//! What can go wrong, when it begins and when it ends. Faults of the pump and the plant run on the
//! trial's time; faults of the line end after wall time, because a line knows no other.

use crate::wire::Damage;
use protocol::event::Key;
use std::collections::VecDeque;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// The catheter is kinked.
    Occlusion,
    /// Nothing comes from the reservoir: a closed clamp.
    UpstreamOcclusion,
    /// This part of the flow, 0 to 1, no longer reaches the spine.
    Leak(f64),
    /// Air in the line.
    Air,
    /// The door stands open.
    Door,
    /// A key stays down.
    StuckKey(Key),
    /// The motor turns and nothing moves.
    Stall,
    /// The encoder counts only this part, 0 to 1, of what was moved.
    EncoderSlip(f64),
    /// The motor moves so many times what it is told.
    MotorRuns(f64),
    /// The mechanism turns by itself, nanolitres an hour, whatever the motor is told.
    FreeFlow(u32),
    /// The reservoir holds only so many nanolitres more.
    ReservoirHolds(u64),
    /// The battery holds only so many percent.
    BatteryHolds(u8),
    /// No supply; with a number, the memory takes only so many bytes more and then it is dark.
    PowerCut {
        /// Bytes that are still written.
        after_bytes: Option<u64>,
        /// The board felt it coming, and said so.
        warned: bool,
    },
    /// The program hangs: nothing is delivered and no key is heard, until the watchdog resets it.
    ProgramHangs,
    /// The part of the program that serves the line hangs.
    LineHangs,
    /// The memory refuses every write.
    WornFlash,
    /// One bit of an event's bytes in the memory turns over: of the one so many before the newest.
    FlashRot(u64),
    /// The pump's own clock shows this, UTC milliseconds.
    OwnClock(u64),
    /// The cable is pulled: the device disappears.
    CablePulled,
    /// The line is open and nothing comes through in one direction, or in both.
    Silence {
        /// From the pump.
        from_pump: bool,
        /// To the pump.
        to_pump: bool,
    },
    /// The line is bad.
    BadLine(Damage),
}

impl What {
    /// Whether the line has it, and not the pump.
    pub fn of_the_line(&self) -> bool {
        match self {
            Self::CablePulled | Self::Silence { .. } | Self::BadLine(_) => true,
            Self::Occlusion
            | Self::UpstreamOcclusion
            | Self::Leak(_)
            | Self::Air
            | Self::Door
            | Self::StuckKey(_)
            | Self::Stall
            | Self::EncoderSlip(_)
            | Self::MotorRuns(_)
            | Self::FreeFlow(_)
            | Self::ReservoirHolds(_)
            | Self::BatteryHolds(_)
            | Self::PowerCut { .. }
            | Self::ProgramHangs
            | Self::LineHangs
            | Self::WornFlash
            | Self::FlashRot(_)
            | Self::OwnClock(_) => false,
        }
    }
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// When it begins, milliseconds since the origin of the trial.
    pub at_ms: u64,
    /// How long it lasts: trial milliseconds for pump and plant, wall milliseconds for the line.
    /// None: until a nurse mends it, or for ever.
    pub for_ms: Option<u64>,
    /// What.
    pub what: What,
}

/// A beginning or an end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// When, milliseconds since the origin.
    pub at_ms: u64,
    /// It begins.
    pub begins: bool,
    /// What.
    pub what: What,
    /// How long the line has it, wall milliseconds.
    pub wall_ms: Option<u64>,
}

/// Faults in the order of their beginnings and ends.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    due: VecDeque<Change>,
}

impl Schedule {
    /// Of these faults.
    pub fn new(faults: &[Fault]) -> Self {
        let mut due = Vec::new();
        for fault in faults {
            let line = fault.what.of_the_line();
            due.push(Change {
                at_ms: fault.at_ms,
                begins: true,
                what: fault.what,
                wall_ms: fault.for_ms.filter(|_| line),
            });
            if let Some(for_ms) = fault.for_ms.filter(|_| !line) {
                due.push(Change {
                    at_ms: fault.at_ms.saturating_add(for_ms),
                    begins: false,
                    what: fault.what,
                    wall_ms: None,
                });
            }
        }
        due.sort_by_key(|change| change.at_ms);
        Self { due: due.into() }
    }

    /// When the next change is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.due.front().map(|change| change.at_ms)
    }

    /// The next change that is due by now.
    pub fn poll(&mut self, now_ms: u64) -> Option<Change> {
        if self.due.front()?.at_ms > now_ms {
            return None;
        }
        self.due.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_and_ends_come_in_the_order_of_time_and_the_line_ends_by_the_wall() {
        let mut schedule = Schedule::new(&[
            Fault {
                at_ms: 50,
                for_ms: Some(100),
                what: What::Occlusion,
            },
            Fault {
                at_ms: 60,
                for_ms: Some(7),
                what: What::CablePulled,
            },
        ]);
        assert_eq!(schedule.poll(49), None);
        let mut seen = Vec::new();
        while let Some(change) = schedule.poll(1_000) {
            seen.push((change.at_ms, change.begins, change.wall_ms));
        }
        assert_eq!(
            seen,
            [(50, true, None), (60, true, Some(7)), (150, false, None)]
        );
    }
}
