//! When the watchdog may be fed: only where dose, supervisor and link have all made progress since
//! it was fed last. A part that hangs, or that found itself damaged, starves it, and the board is
//! reset; what was journaled is there after the start, and nothing is infused until a person says
//! so.

/// The board is reset where its watchdog is not fed for so long.
pub const TIMEOUT_MS: u64 = 3_000;
/// Whoever runs the pump serves the watchdog at least so often
/// ([`crate::pump::Pump::serve_watchdog`]).
pub const SERVE_MS: u64 = 1_000;

const _: () = assert!(2 * SERVE_MS < TIMEOUT_MS, "one turn may come late");

/// What must make progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing that the motor is due is late, and its data are sound.
    Dose,
    /// It looked at the encoder when it had to, and its data are sound.
    Supervisor,
    /// The line's engine was served; whether anybody is at its other end does not matter.
    Link,
}

/// Who made progress since the last feeding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watchdog {
    dose: bool,
    supervisor: bool,
    link: bool,
    link_turns: u32,
}

impl Watchdog {
    /// A part made progress.
    pub fn note(&mut self, part: Part) {
        match part {
            Part::Dose => self.dose = true,
            Part::Supervisor => self.supervisor = true,
            Part::Link => self.link = true,
        }
    }

    /// The link counts its own turns: another count than the last is progress.
    pub fn note_link_turns(&mut self, turns: u32) {
        if turns != self.link_turns {
            self.link_turns = turns;
            self.note(Part::Link);
        }
    }

    /// Whether to feed now. Where it says so, progress is asked for anew.
    pub fn take_feed(&mut self) -> bool {
        let feed = self.dose && self.supervisor && self.link;
        if feed {
            (self.dose, self.supervisor, self.link) = (false, false, false);
        }
        feed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 3] = [Part::Dose, Part::Supervisor, Part::Link];

    #[test]
    fn each_part_by_itself_can_starve_the_watchdog() {
        for hangs in PARTS {
            let mut watchdog = Watchdog::default();
            for _ in 0..3 {
                for part in PARTS.into_iter().filter(|part| *part != hangs) {
                    watchdog.note(part);
                }
                assert!(!watchdog.take_feed(), "{hangs:?}");
            }
            watchdog.note(hangs);
            assert!(watchdog.take_feed());
            assert!(!watchdog.take_feed(), "progress counts once");
        }
    }

    #[test]
    fn a_link_whose_count_stands_still_makes_no_progress() {
        let mut watchdog = Watchdog::default();
        let mut feeds = Vec::new();
        for turns in [1, 1, 2, 2, u32::MAX, 0] {
            watchdog.note(Part::Dose);
            watchdog.note(Part::Supervisor);
            watchdog.note_link_turns(turns);
            feeds.push(watchdog.take_feed());
        }
        assert_eq!(feeds, [true, false, true, false, true, true]);
    }
}
