//! The pump's face in a terminal, and a person's keys.
//!
//! ```text
//!  pump EP-0193, simulated, not a patient                       day 2  07:00:04
//!  +------------------------------------------------------------------------+
//!  | !! Battery low                                                         |
//!  | 0.08 mL/h                                                              |
//!  | How strong is your pain now, at rest? 0 to 10, then OK.                |
//!  | > 1                                                                    |
//!  +------------------------------------------------------------------------+
//!  0-9 score   Enter OK   Backspace clear   c correct   m movement   b bolus
//!  staff: t start or stop therapy   r release a stop                   q quit
//! ```

use device_sim::run::Remote;
use device_sim::ward::Hand;
use protocol::event::Key;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::io::{Read, Stdin, Write};

/// A key that is typed is held so long, milliseconds.
const HOLD_MS: u32 = 150;
/// The clear key is held so long to correct the last score.
const CORRECT_MS: u32 = 2_100;
/// Columns of the pump's window.
const WIDTH: usize = 72;
/// Its rows, so that what stands below it does not move.
const ROWS: usize = 9;

/// What a typed character does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Typed {
    Key(Key, u32),
    Therapy,
    Release,
    Quit,
}

fn typed(byte: u8) -> Option<Typed> {
    let key = |key| Some(Typed::Key(key, HOLD_MS));
    match byte {
        b'0'..=b'9' => Key::ALL
            .get(usize::from(byte - b'0'))
            .copied()
            .and_then(key),
        b'\r' | b'\n' => key(Key::Confirm),
        0x7f | 0x08 => key(Key::Clear),
        b'c' => Some(Typed::Key(Key::Clear, CORRECT_MS)),
        b'b' => key(Key::Bolus),
        b'm' => key(Key::Movement),
        b't' => Some(Typed::Therapy),
        b'r' => Some(Typed::Release),
        // Ctrl-C arrives as a signal.
        b'q' => Some(Typed::Quit),
        _ => None,
    }
}

/// Takes the bytes of arrow keys and the like out of what is typed: `ESC [ … letter`, `ESC O x`.
#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    No,
    Began,
    Long,
    One,
}

impl Escape {
    /// The byte, where it is not part of such a key.
    fn pass(&mut self, byte: u8) -> Option<u8> {
        let (next, passed) = match (*self, byte) {
            (_, 0x1b) => (Self::Began, None),
            (Self::Began, b'[') | (Self::Long, 0x20..=0x3f) => (Self::Long, None),
            (Self::Began, b'O') => (Self::One, None),
            (Self::Long | Self::One, _) => (Self::No, None),
            (Self::No | Self::Began, _) => (Self::No, Some(byte)),
        };
        *self = next;
        passed
    }
}

/// The terminal, key by key and on a screen of its own; as it was when this is dropped.
struct Terminal {
    stdin: Stdin,
    before: Termios,
}

impl Terminal {
    fn take() -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        // A read waits a tenth of a second at most, by the terminal's own timer.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 1;
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        let terminal = Self { stdin, before };
        print_all("\x1b[?1049h\x1b[?25l")?;
        Ok(terminal)
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = [0; 64];
        let n = self.stdin.lock().read(&mut bytes)?;
        Ok(bytes.get(..n).unwrap_or(&[]).to_vec())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to give back.
        let _ = print_all("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}

fn print_all(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What stands around the pump's own lines.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    /// The pump's serial number.
    pub(crate) pump: String,
    /// Local milliseconds of the day at the origin of the trial.
    pub(crate) day_began_ms: u64,
    /// The rate that staff start the therapy with.
    pub(crate) rate_nl_per_h: u32,
}

/// Draws the face whenever it changes; takes keys until `q`, or until it is over.
pub(crate) fn show(
    remote: &Remote,
    around: &Around,
    over: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let terminal = Terminal::take()?;
    let (mut escape, mut last) = (Escape::default(), String::new());
    while !over() {
        for byte in terminal.read()? {
            match escape.pass(byte).and_then(typed) {
                None => {}
                Some(Typed::Quit) => return Ok(()),
                Some(Typed::Key(key, hold_ms)) => remote.press(key, hold_ms),
                Some(Typed::Release) => remote.act(Hand::ReleaseLatch),
                Some(Typed::Therapy) => remote.act(match remote.face() {
                    Some(face) if face.infusing => Hand::Stop,
                    Some(_) | None => Hand::Start {
                        rate_nl_per_h: around.rate_nl_per_h,
                    },
                }),
            }
        }
        let Some(face) = remote.face() else { continue };
        let picture = picture(around, &face);
        if picture != last {
            // Each line is cleared behind its text, so that nothing flickers and nothing stays.
            let text = picture.replace('\n', "\x1b[K\r\n");
            print_all(&format!("\x1b[H{text}\x1b[J"))?;
            last = picture;
        }
    }
    Ok(())
}

fn picture(around: &Around, face: &device_sim::sim::Face) -> String {
    let seconds = (around.day_began_ms + face.trial_ms) / 1_000;
    let (day, second) = (seconds / 86_400 + 1, seconds % 86_400);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let head = format!("pump {}, simulated, not a patient", around.pump);
    let when = format!("day {day}  {hour:02}:{minute:02}:{second:02}");
    let mut lines = vec![format!(" {head:<54}{when:>20}")];
    let rule = format!(" +{}+", "-".repeat(WIDTH));
    lines.push(rule.clone());
    let mut inside: Vec<String> = face
        .lines
        .iter()
        .flat_map(|line| wrapped(&protocol::text::clean(line, 400), WIDTH - 2))
        .collect();
    if !face.lit {
        inside.push("(no power)".into());
    }
    let rows = inside.len().max(ROWS);
    inside.resize(rows, String::new());
    lines.extend(
        inside
            .iter()
            .map(|line| format!(" | {line:<width$} |", width = WIDTH - 2)),
    );
    lines.push(rule);
    lines.push(" 0-9 score   Enter OK   Backspace clear   c correct   m movement   b bolus".into());
    lines
        .push(" staff: t start or stop therapy   r release a stop                   q quit".into());
    lines.join("\n")
}

/// Broken between words, so that no part of a text for the patient is cut off.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("  {word}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrow_and_page_keys_type_no_digits() {
        let mut escape = Escape::default();
        let bytes = b"1\x1b[A\x1b[5~\x1bOP\x1b[1;5C0\r";
        let passed: Vec<u8> = bytes.iter().filter_map(|b| escape.pass(*b)).collect();
        assert_eq!(passed, b"10\r");
    }

    #[test]
    fn a_long_text_is_broken_between_words_and_nothing_of_it_is_lost() {
        let text = "Saved. This does not call anyone. Press your call bell if you need help.";
        let lines = wrapped(text, 40);
        assert!(lines.iter().all(|line| line.len() <= 40), "{lines:?}");
        let words: Vec<&str> = lines.iter().flat_map(|l| l.split_whitespace()).collect();
        assert_eq!(words.join(" "), text);
    }

    #[test]
    fn each_key_of_the_help_does_something() {
        for byte in b"0123456789\r\x7fcmbtrq" {
            assert!(typed(*byte).is_some(), "{byte}");
        }
        assert_eq!(typed(b'x'), None);
    }
}
