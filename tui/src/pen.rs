//! The only way to a cell. What may stand in one is a fixed list of characters of width 1: no
//! text from outside can move the cursor, turn the line around or push its neighbours.

use crate::theme::{Role, Theme};
use protocol::text::shows;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// Blocks of one to eight eighths.
pub(crate) const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `c` where it may be shown, `?` where it may not.
pub(crate) fn glyph(c: char, ascii: bool) -> char {
    let wide_set = matches!(c, '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{24f}' | '\u{384}'..='\u{3ff}'
        | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{52f}' | '─' | '│' | '…');
    let ours = wide_set || EIGHTHS.contains(&c);
    match c {
        ' '..='~' => c,
        '…' | '─' if ascii => '-',
        _ if ours && !ascii && shows(c) => c,
        _ => '?',
    }
}

/// Text that may stand anywhere: what has no place in a cell is dropped or becomes `?`.
pub(crate) fn safe(text: &str, most: usize, ascii: bool) -> String {
    let shown = text.chars().filter(|c| shows(*c)).take(most);
    shown.map(|c| glyph(c, ascii)).collect()
}

/// Draws into a part of a buffer; nothing goes beyond it.
#[derive(Debug)]
pub(crate) struct Pen<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    theme: Theme,
}

impl<'a> Pen<'a> {
    pub(crate) fn new(buffer: &'a mut Buffer, area: Rect, theme: Theme) -> Self {
        let area = area.intersection(buffer.area);
        Self {
            buffer,
            area,
            theme,
        }
    }

    /// A pen for a part, given relative to this one's.
    pub(crate) fn part(&mut self, x: u16, y: u16, width: u16, height: u16) -> Pen<'_> {
        let part = Rect::new(
            self.area.x.saturating_add(x),
            self.area.y.saturating_add(y),
            width,
            height,
        );
        let area = part.intersection(self.area);
        Pen {
            buffer: self.buffer,
            area,
            theme: self.theme,
        }
    }

    pub(crate) fn width(&self) -> u16 {
        self.area.width
    }

    pub(crate) fn height(&self) -> u16 {
        self.area.height
    }

    pub(crate) fn ascii(&self) -> bool {
        self.theme.ascii()
    }

    /// One character.
    pub(crate) fn dot(&mut self, x: u16, y: u16, c: char, role: Role) {
        if x >= self.area.width || y >= self.area.height {
            return;
        }
        let (style, c) = (self.theme.style(role), glyph(c, self.theme.ascii()));
        let at = (self.area.x.saturating_add(x), self.area.y.saturating_add(y));
        if let Some(cell) = self.buffer.cell_mut(at) {
            cell.set_char(c).set_style(style);
        }
    }

    /// The character that stands there.
    pub(crate) fn at(&self, x: u16, y: u16) -> char {
        let at = (self.area.x.saturating_add(x), self.area.y.saturating_add(y));
        let cell = self.buffer.cell(at);
        cell.and_then(|c| c.symbol().chars().next()).unwrap_or(' ')
    }

    /// Text from a column on, cut at the edge; the column after it.
    pub(crate) fn text(&mut self, x: u16, y: u16, text: &str, role: Role) -> u16 {
        let mut at = x;
        for c in text.chars().filter(|c| shows(*c)) {
            if at >= self.area.width {
                break;
            }
            self.dot(at, y, c, role);
            at = at.saturating_add(1);
        }
        at
    }

    /// Text that ends at the right edge; the column it begins at.
    pub(crate) fn right(&mut self, y: u16, text: &str, role: Role) -> u16 {
        let length = crate::words::columns(text);
        let x = self.area.width.saturating_sub(length);
        self.text(x, y, text, role);
        x
    }

    /// Pieces one after the other; the column after them.
    pub(crate) fn pieces(&mut self, x: u16, y: u16, pieces: &[(&str, Role)]) -> u16 {
        let place = |at, (text, role): &(&str, Role)| self.text(at, y, text, *role);
        pieces.iter().fold(x, place)
    }

    /// A row filled with one look.
    pub(crate) fn fill(&mut self, y: u16, c: char, role: Role) {
        for x in 0..self.area.width {
            self.dot(x, y, c, role);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glyph_is_one_column_wide_and_moves_nothing() {
        for ascii in [false, true] {
            for c in (0..=0x10_ffff).filter_map(char::from_u32) {
                let shown = glyph(c, ascii);
                let width = ratatui::text::Span::raw(shown.to_string()).width();
                assert_eq!(width, 1, "{c:?} became {shown:?}");
                assert!(!shown.is_control() && (!ascii || shown.is_ascii()), "{c:?}");
            }
        }
    }
}
