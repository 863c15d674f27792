//! A pad of five keys in place of a keypad with digits.
//!
//! Up and down choose a digit, 0 to 9 and round again; right types it, select is OK, left clears
//! (held for two seconds it corrects the last score). So ten is: up, right, down, right, select.
//! There is no key for movement and none for a bolus; a bolus button hangs on a cord of its own.
//!
//! A line counts as up until it was seen up and then down: one that reads low from the start types
//! nothing. Right, select and left go on to the pump's keypad as they are, which debounces them and
//! knows when they are stuck; up and down are debounced here.

use crate::keypad::BOUNCE_MS;
use protocol::event::Key;

/// A key of the pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadKey {
    /// The next digit.
    Up,
    /// The digit before.
    Down,
    /// Clear.
    Left,
    /// Types the digit.
    Right,
    /// OK.
    Select,
}

impl PadKey {
    /// All, in the order of their lines.
    pub const ALL: [Self; 5] = [Self::Up, Self::Down, Self::Left, Self::Right, Self::Select];
}

#[derive(Clone, Copy, Debug, Default)]
struct Wire {
    /// Seen up since the start.
    proven: bool,
    raw: bool,
    down: bool,
    quiet_until: u64,
}

/// The pad.
#[derive(Clone, Debug, Default)]
pub struct Pad {
    wires: [Wire; 5],
    digit: u8,
    typing: Option<u8>,
}

impl Pad {
    /// The digit that right would type.
    pub fn offered(&self) -> u8 {
        self.digit
    }

    /// Whether a key's line was seen up since the start.
    pub fn is_proven(&self, key: PadKey) -> bool {
        self.wire(key).is_some_and(|wire| wire.proven)
    }

    /// Whether a key's line read as down when it was last looked at.
    pub fn is_down(&self, key: PadKey) -> bool {
        self.wire(key).is_some_and(|wire| wire.raw)
    }

    fn wire(&self, key: PadKey) -> Option<&Wire> {
        let place = PadKey::ALL.iter().position(|k| *k == key)?;
        self.wires.get(place)
    }

    /// When [`Self::handle_line`] is to be called again although no line changes: a line that
    /// changed while it bounced counts as it stands then.
    pub fn next_due(&self) -> Option<u64> {
        let waits = self.wires.iter().filter(|wire| wire.raw != wire.down);
        waits.map(|wire| wire.quiet_until).min()
    }

    /// How a key's line reads now. Gives the edge that goes on to the pump's keypad, if one does.
    pub fn handle_line(&mut self, tick_ms: u64, key: PadKey, down: bool) -> Option<(Key, bool)> {
        let place = PadKey::ALL.iter().position(|k| *k == key)?;
        let wire = self.wires.get_mut(place)?;
        if !wire.proven {
            wire.proven = !down;
            return None;
        }
        wire.raw = down;
        if wire.down == down {
            return None;
        }
        match key {
            PadKey::Up | PadKey::Down => {
                if tick_ms < wire.quiet_until {
                    return None;
                }
                (wire.down, wire.quiet_until) = (down, tick_ms.saturating_add(BOUNCE_MS));
                if down {
                    let step = if key == PadKey::Up { 1 } else { 9 };
                    self.digit = (self.digit + step) % 10;
                }
                None
            }
            PadKey::Left => {
                wire.down = down;
                Some((Key::Clear, down))
            }
            PadKey::Select => {
                wire.down = down;
                Some((Key::Confirm, down))
            }
            PadKey::Right => {
                wire.down = down;
                if down {
                    self.typing = Some(self.digit);
                }
                // The key that went down is the one that comes up, whatever is offered by then.
                let digit = self.typing?;
                let key = Key::ALL.get(usize::from(digit))?;
                Some((*key, down))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven() -> Pad {
        let mut pad = Pad::default();
        for key in PadKey::ALL {
            assert_eq!(pad.handle_line(0, key, true), None, "low from the start");
            assert_eq!(pad.handle_line(1, key, false), None);
        }
        pad
    }

    #[test]
    fn ten_is_up_right_down_right_select() {
        let mut pad = proven();
        let (mut at, mut edges) = (1_000, Vec::new());
        for key in [
            PadKey::Up,
            PadKey::Right,
            PadKey::Down,
            PadKey::Right,
            PadKey::Select,
        ] {
            for down in [true, false] {
                edges.extend(pad.handle_line(at, key, down));
                at += 100;
            }
        }
        let pressed = |key| [(key, true), (key, false)];
        let wanted = [Key::Digit1, Key::Digit0, Key::Confirm]
            .map(pressed)
            .concat();
        assert_eq!(edges, wanted);
    }

    #[test]
    fn a_line_that_reads_low_from_the_start_does_nothing_until_it_was_up() {
        let mut pad = Pad::default();
        assert_eq!(pad.handle_line(0, PadKey::Select, true), None);
        assert_eq!(pad.handle_line(9_000, PadKey::Select, true), None);
        assert_eq!(pad.handle_line(9_001, PadKey::Select, false), None);
        let pressed = pad.handle_line(9_100, PadKey::Select, true);
        assert_eq!(pressed, Some((Key::Confirm, true)));
    }

    #[test]
    fn bounce_of_up_is_one_digit_and_the_ends_meet() {
        let mut pad = proven();
        for (at, down) in [(100, true), (104, false), (109, true), (250, false)] {
            pad.handle_line(at, PadKey::Up, down);
        }
        assert_eq!(pad.offered(), 1);
        assert_eq!(pad.next_due(), None);
        for n in 0..2 {
            pad.handle_line(1_000 + n * 200, PadKey::Down, true);
            pad.handle_line(1_100 + n * 200, PadKey::Down, false);
        }
        assert_eq!(pad.offered(), 9);
    }

    #[test]
    fn a_line_that_changed_while_it_bounced_is_looked_at_again() {
        let mut pad = proven();
        pad.handle_line(100, PadKey::Up, true);
        assert_eq!(pad.next_due(), None);
        pad.handle_line(110, PadKey::Up, false);
        assert_eq!(pad.next_due(), Some(100 + BOUNCE_MS));
        pad.handle_line(100 + BOUNCE_MS, PadKey::Up, false);
        assert_eq!(pad.next_due(), None);
        pad.handle_line(200, PadKey::Up, true);
        assert_eq!(pad.offered(), 2);
    }

    #[test]
    fn the_digit_that_went_down_comes_up() {
        let mut pad = proven();
        assert_eq!(
            pad.handle_line(100, PadKey::Right, true),
            Some((Key::Digit0, true))
        );
        pad.handle_line(150, PadKey::Up, true);
        assert_eq!(
            pad.handle_line(200, PadKey::Right, false),
            Some((Key::Digit0, false))
        );
        assert_eq!(pad.offered(), 1);
    }
}
