//! The front of a board that has keys and a display of its own: from its lines to the pump's keys,
//! and from the pump's face to dots. The board reads lines and moves dots, and decides nothing.

use crate::face::Face;
use crate::pad::{Pad, PadKey};
use crate::screen::{Screen, draw};
use protocol::event::Key;

/// Hardware with a pad of five keys and a display.
pub trait Panel {
    /// Whether a key's line changed since this was last asked, however short.
    fn moved(&mut self, key: PadKey) -> bool;
    /// Whether a key is down, as its line reads now.
    fn is_down(&self, key: PadKey) -> bool;
    /// Shows these dots until others come.
    fn show(&mut self, screen: &Screen);
}

/// What is known of the front between two looks at it.
#[derive(Clone, Debug, Default)]
pub struct Front {
    pad: Pad,
    /// The face that is shown, and the digit that is offered. Not the dots: they are a kilobyte.
    shown: Option<(Face, u8)>,
}

impl Front {
    /// Takes the lines as they read now; gives `edge` what goes on to the pump's keypad, at most two
    /// edges a key. A press that came and went while the pump was at something else is not lost.
    pub fn handle_lines(
        &mut self,
        tick_ms: u64,
        panel: &mut impl Panel,
        mut edge: impl FnMut(Key, bool),
    ) {
        for key in PadKey::ALL {
            // In this order: an edge in between is seen twice, as bounce, and not missed.
            let (moved, down) = (panel.moved(key), panel.is_down(key));
            let there_and_back = moved && self.pad.is_proven(key) && self.pad.is_down(key) == down;
            let steps = [there_and_back.then_some(!down), Some(down)];
            for down in steps.into_iter().flatten() {
                if let Some((key, pressed)) = self.pad.handle_line(tick_ms, key, down) {
                    edge(key, pressed);
                }
            }
        }
    }

    /// When the lines are to be looked at again although none changes.
    pub fn next_due(&self) -> Option<u64> {
        self.pad.next_due()
    }

    /// Shows the face, where it is another than the one that is shown.
    pub fn show(&mut self, face: Face, panel: &mut impl Panel) {
        let offered = self.pad.offered();
        let now = (face, offered);
        if self.shown.as_ref() != Some(&now) {
            panel.show(&draw(&now.0, Some(offered)));
            self.shown = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines {
        moved: Vec<PadKey>,
        down: Vec<PadKey>,
        shown: u32,
    }

    impl Panel for Lines {
        fn moved(&mut self, key: PadKey) -> bool {
            let place = self.moved.iter().position(|k| *k == key);
            place.map(|p| self.moved.remove(p)).is_some()
        }
        fn is_down(&self, key: PadKey) -> bool {
            self.down.contains(&key)
        }
        fn show(&mut self, _: &Screen) {
            self.shown += 1;
        }
    }

    fn look(front: &mut Front, tick_ms: u64, lines: &mut Lines) -> Vec<(Key, bool)> {
        let mut edges = Vec::new();
        front.handle_lines(tick_ms, lines, |key, pressed| edges.push((key, pressed)));
        edges
    }

    #[test]
    fn a_press_between_two_looks_is_a_press() {
        let (mut front, mut lines) = (Front::default(), Lines::default());
        assert_eq!(look(&mut front, 0, &mut lines), []);
        lines.moved = vec![PadKey::Up, PadKey::Select];
        let edges = look(&mut front, 500, &mut lines);
        assert_eq!(edges, [(Key::Confirm, true), (Key::Confirm, false)]);
        assert_eq!(front.pad.offered(), 1);
        assert_eq!(look(&mut front, 600, &mut lines), []);
        // An edge of a change that was seen is not one more.
        lines.down = vec![PadKey::Right];
        lines.moved = vec![PadKey::Right];
        let edges = look(&mut front, 700, &mut lines);
        assert_eq!(edges, [(Key::Digit1, true)]);
    }

    #[test]
    fn a_line_that_reads_low_from_the_start_types_nothing_when_it_flickers() {
        let (mut front, mut lines) = (Front::default(), Lines::default());
        lines.down = vec![PadKey::Select];
        for tick_ms in 0..5 {
            lines.moved = vec![PadKey::Select];
            assert_eq!(look(&mut front, tick_ms * 100, &mut lines), []);
        }
    }

    #[test]
    fn the_display_is_told_what_changed_and_nothing_else() {
        let (mut front, mut lines) = (Front::default(), Lines::default());
        let mut face = crate::screen::tests::face();
        for _ in 0..3 {
            front.show(face.clone(), &mut lines);
        }
        assert_eq!(lines.shown, 1);
        face.typed = Some(1);
        front.show(face, &mut lines);
        assert_eq!(lines.shown, 2);
    }
}
