//! The pump's face on a display of 128 by 64 dots: what a board's display shows is drawn here, so
//! that it can be compared dot by dot.
//!
//! ```text
//! !!! Air in the line   the most urgent alarm, inverted, and how many more there are
//! 0.08 mL/h    12 min   the rate, and the lockout that is left
//! How strong is your    the question, or the last message
//! pain now, at rest? 0
//! to 10, then OK.
//! > 10     [3]          typed, twice as large; the digit that the pad would type
//!
//! Not monitored         where it is so
//! ```
//!
//! A message has the place of what is typed too, as long as nothing is; the tick mark stands before
//! it once a score is kept. A text that has no room beside an alarm takes the rate's line.

use crate::face::Face;
use crate::font::columns;
use core::fmt::Write;
use core::ops::Range;
use heapless::String;
use protocol::event::{Priority, Purpose};

/// Dots of a row.
pub const WIDTH: usize = 128;
/// Rows of dots.
pub const HEIGHT: usize = 64;
/// Letters of a line.
const LETTERS: usize = WIDTH / 6;
/// Lines of text.
const LINES: usize = HEIGHT / 8;
/// The first of the two lines of what is typed.
const TYPED: usize = LINES - 3;
/// The line below them.
const LAST: usize = LINES - 1;
/// The width of the tick mark.
const TICK_LETTERS: usize = 3;

/// All dots, off or on.
#[derive(Clone, PartialEq, Eq)]
pub struct Screen {
    /// A byte is eight dots of a column, the lowest bit the topmost.
    bytes: [u8; WIDTH * LINES],
}

impl core::fmt::Debug for Screen {
    /// Two rows of dots a line.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for y in (0..HEIGHT).step_by(2) {
            for x in 0..WIDTH {
                f.write_char(match (self.dot(x, y), self.dot(x, y + 1)) {
                    (false, false) => ' ',
                    (true, false) => '\u{2580}',
                    (false, true) => '\u{2584}',
                    (true, true) => '\u{2588}',
                })?;
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::blank()
    }
}

impl Screen {
    /// All off.
    pub const fn blank() -> Self {
        Self {
            bytes: [0; WIDTH * LINES],
        }
    }

    /// Whether a dot is on. Beyond the edge none is.
    pub fn dot(&self, x: usize, y: usize) -> bool {
        let byte = self.bytes.get(y / 8 * WIDTH + x).filter(|_| x < WIDTH);
        byte.is_some_and(|byte| byte & (1 << (y % 8)) != 0)
    }

    fn column(&mut self, x: usize, line: usize, dots: u8) {
        if x < WIDTH
            && let Some(byte) = self.bytes.get_mut(line * WIDTH + x)
        {
            *byte |= dots;
        }
    }

    fn text(&mut self, line: usize, letter: usize, text: &str) {
        for (place, letter) in (letter..LETTERS).zip(text.chars()) {
            for (n, dots) in columns(letter).into_iter().enumerate() {
                self.column(place * 6 + n, line, dots);
            }
        }
    }

    /// Dots on are off, and dots off are on.
    fn invert(&mut self, line: usize) {
        if let Some(row) = self.bytes.get_mut(line * WIDTH..(line + 1) * WIDTH) {
            for byte in row {
                *byte = !*byte;
            }
        }
    }

    /// Twice as wide and high, over two lines.
    fn large(&mut self, line: usize, x: usize, text: &str) {
        for (place, letter) in text.chars().enumerate() {
            for (n, dots) in columns(letter).into_iter().enumerate() {
                let [upper, lower] = doubled(dots).to_le_bytes();
                let at = x + place * 12 + n * 2;
                for at in [at, at + 1] {
                    self.column(at, line, upper);
                    self.column(at, line + 1, lower);
                }
            }
        }
    }

    fn wrapped(&mut self, lines: Range<usize>, indent: usize, text: &str) {
        break_words(lines, indent, text, |line, at, word| {
            self.text(line, at, word);
        });
    }
}

/// Where each word of a text stands: the line, and its first letter's place, in the first two lines
/// `indent` letters in. False where lines are too few; then the rest is nowhere.
fn break_words<'a>(
    lines: Range<usize>,
    indent: usize,
    text: &'a str,
    mut place: impl FnMut(usize, usize, &'a str),
) -> bool {
    let begin = |line| if line < lines.start + 2 { indent } else { 0 };
    let (mut line, mut at) = (lines.start, indent);
    for word in text.split(' ') {
        let len = word.chars().count();
        if at > begin(line) && at + len > LETTERS {
            line += 1;
            at = begin(line);
        }
        if line >= lines.end {
            return false;
        }
        place(line, at, word);
        at += len + 1;
    }
    true
}

/// Each bit twice.
fn doubled(dots: u8) -> u16 {
    (0..8).fold(0, |out, bit| {
        out | (u16::from(dots >> bit & 1) * 3) << (2 * bit)
    })
}

/// Draws the face. `offered` is the digit that a pad without digits would type next.
pub fn draw(face: &Face, offered: Option<u8>) -> Screen {
    let mut screen = Screen::blank();
    let top = usize::from(alarm(&mut screen, face));
    let message = face.message_text();
    let words = face.question_text().or(message.as_deref());
    // A person is typing, or is asked to.
    let entering = face.typed.is_some() || face.asking.is_some() || words.is_none();
    let end = if entering { TYPED } else { LAST };
    let ticked = face.saved && !entering;
    let indent = if ticked { TICK_LETTERS } else { 0 };
    let fits = |first: usize| {
        words.is_none_or(|words| break_words(first..end, indent, words, |_, _, _| {}))
    };
    // A long message is gone where the next score is begun.
    let needs_all = !fits(top + 1) && fits(top);
    let first = if needs_all { top } else { top + 1 };
    if !needs_all {
        rate(&mut screen, top, face);
    }
    if let Some(words) = words.filter(|_| fits(first)) {
        screen.wrapped(first..end, indent, words);
    }
    if ticked {
        tick(&mut screen, first);
    }
    let mut text: String<16> = String::new();
    match face.typed {
        Some(score) => {
            // Every score fits.
            let _ = write!(text, "> {score}");
            screen.large(TYPED, 0, &text);
            text.clear();
        }
        None if entering && face.saved => tick(&mut screen, TYPED),
        None if entering => screen.large(TYPED, 0, ">"),
        None => {}
    }
    if let Some(digit) = offered {
        let _ = write!(text, "[{digit}]");
        if entering {
            screen.large(TYPED, WIDTH - 36, &text);
        } else {
            screen.text(LAST, LETTERS - 3, &text);
        }
    }
    if !face.monitored {
        screen.text(LAST, 0, face.language.no_monitor());
    }
    screen
}

/// The most urgent alarm, on the first line. False where there is none.
fn alarm(screen: &mut Screen, face: &Face) -> bool {
    let Some((code, priority)) = face.alarms.first() else {
        return false;
    };
    let mark = match priority {
        Priority::High => "!!!",
        Priority::Medium => "!!",
        Priority::Low => "!",
    };
    let mut text: String<96> = String::new();
    // What does not fit on the line is cut there anyway; the mark and the count are first.
    let more = face.alarms.len() - 1;
    let _ = if more > 0 {
        write!(text, "{mark}+{more} {}", face.language.alarm(*code))
    } else {
        write!(text, "{mark} {}", face.language.alarm(*code))
    };
    screen.text(0, 0, &text);
    screen.invert(0);
    true
}

/// What is infused, and the lockout that is left, in minutes rounded up.
fn rate(screen: &mut Screen, line: usize, face: &Face) {
    let mut text: String<96> = String::new();
    // As above.
    let _ = match face.infusing {
        Some((Purpose::Therapy, rate)) if face.giving_bolus => write!(text, "{rate} + bolus"),
        Some((Purpose::Therapy, rate)) => write!(text, "{rate}"),
        Some((purpose, rate)) => write!(text, "{} {rate}", purpose.word()),
        None if face.closed => text.write_str(face.language.closed()),
        None => text.write_str(face.language.not_infusing()),
    };
    screen.text(line, 0, &text);
    if face.lockout_left_ms > 0 {
        let mut left: String<16> = String::new();
        let _ = write!(left, "{} min", face.lockout_left_ms.div_ceil(60_000));
        screen.text(line, LETTERS.saturating_sub(left.len()), &left);
    }
}

/// A tick mark of two lines.
fn tick(screen: &mut Screen, line: usize) {
    for step in 0..14_usize {
        // Down for four columns, then up for ten.
        let y = if step < 4 { 8 + step } else { 16 - step };
        for thick in 0..3 {
            let y = y + thick;
            screen.column(1 + step, line + y / 8, 1 << (y % 8));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::texts::{Language, Message};
    use protocol::event::{AlarmCode, Condition, Refusal};
    use protocol::units::FlowRate;

    pub(crate) fn face() -> Face {
        Face {
            language: Language::English,
            asking: None,
            typed: None,
            condition: Condition::Rest,
            correcting: false,
            saved: false,
            infusing: None,
            giving_bolus: false,
            lockout_left_ms: 0,
            alarms: heapless::Vec::new(),
            message: None,
            monitored: true,
            closed: false,
        }
    }

    /// Reads a line of letters back from the dots.
    fn read(screen: &Screen, line: usize, inverted: bool) -> std::string::String {
        let letter = |place: usize| {
            let mut seen = [0; 5];
            for (n, dots) in seen.iter_mut().enumerate() {
                for y in 0..8 {
                    let on = screen.dot(place * 6 + n, line * 8 + y) != inverted;
                    *dots |= u8::from(on) << y;
                }
            }
            (' '..='~')
                .find(|c| columns(*c) == seen)
                .unwrap_or('\u{fffd}')
        };
        let text: std::string::String = (0..LETTERS).map(letter).collect();
        text.trim_end().into()
    }

    #[test]
    fn each_part_of_the_face_is_on_the_screen() {
        let mut face = face();
        face.infusing = Some((Purpose::Therapy, FlowRate::from_nanoliters_per_hour(80_000)));
        face.lockout_left_ms = 11 * 60_000 + 1;
        face.asking = Some(Condition::Rest);
        face.monitored = false;
        let screen = draw(&face, Some(7));
        assert_eq!(read(&screen, 0, false), "0.08 mL/h      12 min");
        assert_eq!(read(&screen, 1, false), "How strong is your");
        assert_eq!(read(&screen, 2, false), "pain now, at rest? 0");
        assert_eq!(read(&screen, 3, false), "to 10, then OK.");
        assert_eq!(read(&screen, 7, false), "Not monitored");
        let _ = face.alarms.push((AlarmCode::AirInLine, Priority::High));
        let _ = face.alarms.push((AlarmCode::BatteryLow, Priority::Medium));
        let screen = draw(&face, None);
        assert_eq!(read(&screen, 0, true), "!!!+1 Air in the line");
        assert_eq!(read(&screen, 1, false), "0.08 mL/h      12 min");
    }

    #[test]
    fn every_score_every_offered_digit_and_the_tick_look_different() {
        let mut seen: Vec<Screen> = Vec::new();
        for score in 0..=10 {
            let mut face = face();
            face.typed = Some(score);
            seen.push(draw(&face, None));
        }
        for digit in 0..=9 {
            seen.push(draw(&face(), Some(digit)));
        }
        let mut saved = face();
        saved.message = Some(saved_ten(true));
        seen.push(draw(&saved, None));
        saved.saved = true;
        seen.push(draw(&saved, None));
        saved.asking = Some(Condition::Movement);
        seen.push(draw(&saved, None));
        saved.saved = false;
        seen.push(draw(&saved, None));
        for (n, screen) in seen.iter().enumerate() {
            assert!(!seen[n + 1..].contains(screen), "{n}");
        }
    }

    fn saved_ten(confirmed: bool) -> Message {
        Message::Saved {
            score: 10,
            confirmed,
        }
    }

    #[test]
    fn every_question_and_message_is_whole_also_beside_an_alarm() {
        let refused = |reason: &Refusal| Message::BolusRefused {
            reason: *reason,
            wait_ms: Some(9 * 3_600_000),
        };
        let mut messages = vec![
            saved_ten(true),
            saved_ten(false),
            Message::NotSaved,
            Message::NotAScore,
            Message::Correcting,
            Message::NothingToCorrect,
            Message::BolusGranted,
        ];
        messages.extend(Refusal::ALL.iter().map(refused));
        for language in [Language::English, Language::German] {
            let mut face = face();
            face.language = language;
            for alarms in 0..2 {
                for condition in [Condition::Rest, Condition::Movement] {
                    face.asking = Some(condition);
                    whole(&face, language.question(condition));
                }
                face.asking = None;
                for message in &messages {
                    face.message = Some(*message);
                    face.saved = matches!(message, Message::Saved { .. });
                    whole(&face, &language.message(message, true));
                }
                if alarms == 0 {
                    let _ = face.alarms.push((AlarmCode::AirInLine, Priority::High));
                }
            }
        }
    }

    /// All letters of the text are on the screen, in order.
    fn whole(face: &Face, text: &str) {
        let screen = draw(face, None);
        let shown: std::string::String = (0..LINES).map(|l| read(&screen, l, false)).collect();
        let plain = |text: &str| -> Vec<char> {
            let umlauts = |c: char| if c.is_ascii() { c } else { '\u{fffd}' };
            text.chars().filter(|c| *c != ' ').map(umlauts).collect()
        };
        let (shown, wanted) = (plain(&shown), plain(text));
        let found = shown.windows(wanted.len()).any(|w| w == wanted);
        let ticked = face.saved;
        // The tick mark reads as letters between those of the first two lines.
        let mut rest = shown.iter();
        let in_order = wanted.iter().all(|c| rest.any(|s| s == c));
        assert!(found || ticked && in_order, "{text}\n{screen:?}");
    }

    #[test]
    fn what_lies_beyond_the_edge_is_not_drawn_and_not_read() {
        let mut screen = Screen::blank();
        screen.text(0, LETTERS, "x");
        screen.large(LINES, 0, "x");
        screen.column(WIDTH, 0, 0xff);
        assert_eq!(screen, Screen::blank());
        assert!(!screen.dot(WIDTH, 0) && !screen.dot(0, HEIGHT));
    }
}
