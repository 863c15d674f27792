//! A screen as an SVG picture, for documents: a rectangle and a text for each run of one style,
//! with `textLength` fixed to the grid so that any monospaced font lines up.

use crate::app::App;
use crate::screens::view;
use protocol::time::Now;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use std::fmt::Write;

const CELL: (u32, u32) = (8, 17);
const INK: &str = "#d6dade";
const PAPER: &str = "#101214";

/// The model as it looks now, on a screen of so many columns and rows.
pub fn picture(app: &App, now: Now, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    view(app, now, area, &mut buffer);
    of_buffer(&buffer)
}

/// A buffer as it looks.
pub fn of_buffer(buffer: &Buffer) -> String {
    let (columns, rows) = (u32::from(buffer.area.width), u32::from(buffer.area.height));
    let (width, height) = (columns * CELL.0 + 16, rows * CELL.1 + 16);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"13\" \
         xml:space=\"preserve\">\n"
    );
    let across = usize::from(buffer.area.width.max(1));
    for (y, row) in (0_u32..).zip(buffer.content.chunks(across)) {
        let mut x = 0_u32;
        for run in row.chunk_by(|a, b| look(a) == look(b)) {
            let n = u32::try_from(run.len()).unwrap_or(0);
            run_of(&mut out, run, (x, y, n));
            x += n;
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn look(cell: &Cell) -> (Color, Color, Modifier) {
    (cell.fg, cell.bg, cell.modifier)
}

fn run_of(out: &mut String, run: &[Cell], (x, y, n): (u32, u32, u32)) {
    let Some((fg, bg, modifier)) = run.first().map(look) else {
        return;
    };
    let (mut ink, mut paper) = (hex(fg, INK), hex(bg, PAPER));
    if modifier.contains(Modifier::REVERSED) {
        std::mem::swap(&mut ink, &mut paper);
    }
    let (left, top, width) = (8 + x * CELL.0, 8 + y * CELL.1, n * CELL.0);
    if paper != PAPER {
        let _ = writeln!(
            out,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{}\" fill=\"{paper}\"/>",
            CELL.1
        );
    }
    let text: String = run.iter().map(Cell::symbol).collect();
    if text.trim().is_empty() {
        return;
    }
    let mut style = String::new();
    for (flag, attribute) in [
        (Modifier::BOLD, " font-weight=\"bold\""),
        (Modifier::DIM, " opacity=\"0.6\""),
        (Modifier::UNDERLINED, " text-decoration=\"underline\""),
    ] {
        if modifier.contains(flag) {
            style.push_str(attribute);
        }
    }
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        // Viewers differ on plain spaces at the ends of a text, and would stretch the rest.
        .replace(' ', "\u{a0}");
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{}\" textLength=\"{width}\" lengthAdjust=\"spacingAndGlyphs\" \
         fill=\"{ink}\"{style}>{text}</text>",
        top + 13
    );
}

fn hex(color: Color, reset: &str) -> String {
    let fixed = match color {
        Color::Rgb(r, g, b) => return format!("#{r:02x}{g:02x}{b:02x}"),
        Color::Reset | Color::Indexed(_) => reset,
        Color::Black => "#101214",
        Color::Red => "#c8361a",
        Color::Green => "#3f9142",
        Color::Yellow => "#e6c229",
        Color::Blue => "#3b6fb6",
        Color::Magenta => "#a34fa3",
        Color::Cyan => "#56b4e9",
        Color::Gray => "#c0c4c8",
        Color::DarkGray => "#70767c",
        Color::LightRed => "#ff7a4d",
        Color::LightGreen => "#7ecf80",
        Color::LightYellow => "#f0e442",
        Color::LightBlue => "#86aee6",
        Color::LightMagenta => "#d78fd7",
        Color::LightCyan => "#9bd6f5",
        Color::White => "#ffffff",
    };
    fixed.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::style::Style;

    #[test]
    fn text_is_escaped_and_reversed_runs_get_their_paper() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 9, 1));
        buffer.set_string(0, 0, "a<b&", Style::reset());
        buffer.set_string(4, 0, "**", Style::reset().add_modifier(Modifier::REVERSED));
        let svg = of_buffer(&buffer);
        assert!(svg.contains(">a&lt;b&amp;</text>"), "{svg}");
        let paper = format!("<rect x=\"40\" y=\"8\" width=\"16\" height=\"17\" fill=\"{INK}\"/>");
        assert!(svg.contains(&paper), "{svg}");
    }
}
