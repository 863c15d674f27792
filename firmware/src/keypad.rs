//! From edges of the key lines to presses of a person.
//!
//! A first edge counts at once; edges within 30 ms after it are bounce, counted and not believed;
//! after that the line as it then stands counts. A key must have been seen up before a press
//! counts, so a line that reads low from the start invents nothing. A press counts when the key is
//! let go, once within 300 ms; one held for 10 s is stuck and counts for nothing until it is up again.

use protocol::event::Key;

/// Edges of one key within this time after another are bounce.
pub const BOUNCE_MS: u64 = 30;
/// A key that comes again within this time after it was let go was pressed once: no score has the
/// same digit twice, and nobody wants a second answer so soon.
pub const DOUBLE_MS: u64 = 300;
/// A key held for so long is stuck.
pub const STUCK_MS: u64 = 10_000;
/// The clear key held for so long takes back the last score.
pub const HOLD_MS: u64 = 2_000;
const KEYS: usize = Key::ALL.len();

/// What a person did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressed {
    /// Pressed and let go.
    Key(Key),
    /// Held for [`HOLD_MS`] and still down. Its letting go is no press.
    Held(Key),
    /// Stuck.
    Stuck(Key),
    /// No longer stuck.
    Free(Key),
}

#[derive(Clone, Copy, Debug, Default)]
enum Down {
    #[default]
    Up,
    Since(u64),
    Held(u64),
    Stuck,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    raw: bool,
    down: Down,
    quiet_until: u64,
    /// The last press that counted ends here, and [`DOUBLE_MS`] after it.
    single_until: u64,
    doubles: u32,
}

/// All keys.
#[derive(Clone, Debug)]
pub struct Keypad {
    lines: [Line; KEYS],
    /// Edges that were taken for bounce.
    pub bounces: u32,
}

impl Keypad {
    /// As the lines read at the start, one bit a key. A key that is down then does not count until
    /// it was let go, and is stuck after [`STUCK_MS`].
    pub fn new(tick_ms: u64, keys_down: u16) -> Self {
        let mut lines = [Line::default(); KEYS];
        for (bit, line) in lines.iter_mut().enumerate() {
            if keys_down & (1 << bit) != 0 {
                line.raw = true;
                line.down = Down::Held(tick_ms);
            }
        }
        Self { lines, bounces: 0 }
    }

    /// An edge: the key's line went down or up.
    pub fn handle_edge(&mut self, tick_ms: u64, key: Key, pressed: bool) -> Option<Pressed> {
        let line = self.lines.get_mut(place(key)?)?;
        line.raw = pressed;
        if tick_ms < line.quiet_until {
            self.bounces = self.bounces.saturating_add(1);
            return None;
        }
        line.settle(tick_ms, key)
    }

    /// What time alone brings, one thing a call; call until `None`.
    pub fn handle_time(&mut self, tick_ms: u64) -> Option<Pressed> {
        for (key, line) in Key::ALL.iter().zip(self.lines.iter_mut()) {
            if tick_ms >= line.quiet_until
                && let Some(pressed) = line.settle(line.quiet_until, *key)
            {
                return Some(pressed);
            }
            match line.down {
                Down::Since(at) if *key == Key::Clear && tick_ms >= at.saturating_add(HOLD_MS) => {
                    line.down = Down::Held(at);
                    return Some(Pressed::Held(*key));
                }
                Down::Since(at) | Down::Held(at) if tick_ms >= at.saturating_add(STUCK_MS) => {
                    line.down = Down::Stuck;
                    return Some(Pressed::Stuck(*key));
                }
                Down::Up | Down::Since(_) | Down::Held(_) | Down::Stuck => {}
            }
        }
        None
    }

    /// Presses that came too soon after the same key's last one.
    pub fn doubles(&self) -> u32 {
        self.lines.iter().map(|line| line.doubles).sum()
    }

    /// When [`Self::handle_time`] is next due.
    pub fn next_due(&self) -> Option<u64> {
        let dues = Key::ALL.iter().zip(&self.lines).filter_map(|(key, line)| {
            let settle = (line.raw != line.is_down()).then_some(line.quiet_until);
            let hold = match line.down {
                Down::Since(at) if *key == Key::Clear => Some(at.saturating_add(HOLD_MS)),
                Down::Since(at) | Down::Held(at) => Some(at.saturating_add(STUCK_MS)),
                Down::Up | Down::Stuck => None,
            };
            [settle, hold].into_iter().flatten().min()
        });
        dues.min()
    }
}

impl Line {
    fn is_down(&self) -> bool {
        !matches!(self.down, Down::Up)
    }

    /// The line is quiet: what it reads counts.
    fn settle(&mut self, tick_ms: u64, key: Key) -> Option<Pressed> {
        if self.raw == self.is_down() {
            return None;
        }
        self.quiet_until = tick_ms.saturating_add(BOUNCE_MS);
        let before = core::mem::replace(
            &mut self.down,
            if self.raw {
                Down::Since(tick_ms)
            } else {
                Down::Up
            },
        );
        match before {
            Down::Since(at) if at < self.single_until => {
                self.doubles = self.doubles.saturating_add(1);
                None
            }
            Down::Since(at) if tick_ms < at.saturating_add(STUCK_MS) => {
                self.single_until = tick_ms.saturating_add(DOUBLE_MS);
                Some(Pressed::Key(key))
            }
            Down::Stuck => Some(Pressed::Free(key)),
            Down::Up | Down::Since(_) | Down::Held(_) => None,
        }
    }
}

fn place(key: Key) -> Option<usize> {
    Key::ALL.iter().position(|k| *k == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges at their ticks, time in between; what came out.
    fn run(
        mut keypad: Keypad,
        edges: &[(u64, Key, bool)],
        until: u64,
    ) -> (Vec<(u64, Pressed)>, u32) {
        let mut out = Vec::new();
        let mut edges = edges.iter().peekable();
        loop {
            let edge = edges.peek().map(|e| e.0);
            let due = keypad.next_due().filter(|d| *d <= until);
            match (edge, due) {
                (Some(at), due) if due.is_none_or(|d| at < d) => {
                    let (_, key, down) = *edges.next().unwrap();
                    out.extend(keypad.handle_edge(at, key, down).map(|p| (at, p)));
                }
                (_, Some(at)) => {
                    while let Some(pressed) = keypad.handle_time(at) {
                        out.push((at, pressed));
                    }
                }
                (_, None) => return (out, keypad.bounces),
            }
        }
    }

    #[test]
    fn a_bouncing_key_is_one_press() {
        let edges = [
            (100, Key::Digit7, true),
            (104, Key::Digit7, false),
            (109, Key::Digit7, true),
            (300, Key::Digit7, false),
            (303, Key::Digit7, true),
            (307, Key::Digit7, false),
        ];
        let wanted = vec![(300, Pressed::Key(Key::Digit7))];
        assert_eq!(run(Keypad::new(0, 0), &edges, 60_000), (wanted, 4));
    }

    #[test]
    fn a_press_shorter_than_the_bounce_is_still_let_go() {
        let edges = [(100, Key::Bolus, true), (110, Key::Bolus, false)];
        let wanted = vec![(130, Pressed::Key(Key::Bolus))];
        assert_eq!(run(Keypad::new(0, 0), &edges, 60_000), (wanted, 1));
    }

    #[test]
    fn a_key_that_is_down_from_the_start_invents_nothing() {
        let bit = 1 << Key::ALL.iter().position(|k| *k == Key::Digit7).unwrap();
        let edges = [(5_000, Key::Digit7, false)];
        assert_eq!(run(Keypad::new(0, bit), &edges, 60_000).0, []);
        let stuck = [
            (10_000, Pressed::Stuck(Key::Digit7)),
            (20_000, Pressed::Free(Key::Digit7)),
        ];
        let edges = [(20_000, Key::Digit7, false)];
        assert_eq!(run(Keypad::new(0, bit), &edges, 60_000).0, stuck);
    }

    #[test]
    fn a_stuck_key_is_told_and_counts_again_after_it_was_up() {
        let edges = [
            (0, Key::Bolus, true),
            (15_000, Key::Bolus, false),
            (16_000, Key::Bolus, true),
            (16_200, Key::Bolus, false),
        ];
        let wanted = [
            (10_000, Pressed::Stuck(Key::Bolus)),
            (15_000, Pressed::Free(Key::Bolus)),
            (16_200, Pressed::Key(Key::Bolus)),
        ];
        assert_eq!(run(Keypad::new(0, 0), &edges, 60_000).0, wanted);
    }

    #[test]
    fn clear_held_for_two_seconds_is_no_press_when_let_go() {
        let edges = [(0, Key::Clear, true), (3_000, Key::Clear, false)];
        let wanted = [(2_000, Pressed::Held(Key::Clear))];
        assert_eq!(run(Keypad::new(0, 0), &edges, 60_000).0, wanted);
    }
}
