//! A person at the pump: types scores in its terminal and reads its face. Knows nothing of the pump
//! but what a person sees.

use anyhow::Context;
use device_sim::clock::rest;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The face is drawn anew from here on.
const CLEAR: &[u8] = b"\x1b[H";
/// What is drawn last.
const LAST: &[u8] = b"q quit";

/// What the pump showed of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The tick: saved as a confirmed score.
    Saved,
    /// The tick: saved, and that it was not confirmed.
    SavedUnconfirmed,
    /// Nothing: the pump was killed before it said anything. It may be there or not.
    Nothing,
    /// Not even a digit of it was seen on the face.
    NeverTyped,
}

/// A score as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) score: u8,
    /// Confirm was pressed.
    pub(crate) confirmed: bool,
    pub(crate) shown: Shown,
}

/// The pump's process in a terminal.
#[derive(Debug)]
pub(crate) struct PumpTerminal {
    terminal: File,
    child: Child,
    seen: Vec<u8>,
    face: Vec<String>,
}

impl PumpTerminal {
    /// Starts the program in a terminal of its own.
    pub(crate) fn start(program: &Path, args: &[String], log: &Path) -> anyhow::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).context("a terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let open = || open_terminal(&path);
        rustix::io::ioctl_fionbio(&master, true)?;
        let said = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::from(open()?))
            .stdout(Stdio::from(open()?))
            .stderr(Stdio::from(said))
            .spawn()
            .with_context(|| format!("starting the pump: {}", program.display()))?;
        Ok(Self {
            terminal: File::from(master),
            child,
            seen: Vec::new(),
            face: Vec::new(),
        })
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// It ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The face as it was drawn last, line by line.
    pub(crate) fn face(&mut self) -> &[String] {
        let mut buffer = [0; 4_096];
        while let Ok(n @ 1..) = self.terminal.read(&mut buffer) {
            self.seen.extend_from_slice(buffer.get(..n).unwrap_or(&[]));
        }
        // The last picture that is whole.
        while let Some(end) = find(&self.seen, LAST) {
            let picture = self.seen.get(..end).unwrap_or(&[]);
            let begin = find(picture, CLEAR).map_or(0, |at| at + CLEAR.len());
            let text = String::from_utf8_lossy(picture.get(begin..).unwrap_or(&[]));
            self.face = text
                .lines()
                .map(|line| line.trim().trim_end_matches("\x1b[K"))
                .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
                .map(|line| line.trim().to_owned())
                .collect();
            self.seen.drain(..end + LAST.len());
        }
        &self.face
    }

    /// Waits until the face is so; false where it is not within so long.
    pub(crate) fn wait_face(&mut self, ms: u64, is_so: impl Fn(&[String]) -> bool) -> bool {
        for _ in 0..=ms / 5 {
            if is_so(self.face()) {
                return true;
            }
            rest(5);
        }
        false
    }

    pub(crate) fn key(&mut self, key: u8) {
        // A pump that is gone takes no keys; the caller sees that by its face.
        let _ = self.terminal.write_all(&[key]);
    }

    /// Types a score's digits; true where the face shows them.
    pub(crate) fn type_digits(&mut self, score: u8) -> bool {
        let text = score.to_string();
        let mut so_far = String::from("> ");
        text.bytes().all(|digit| {
            self.key(digit);
            so_far.push(char::from(digit));
            self.wait_face(10_000, |face| face.contains(&so_far))
        })
    }

    /// Presses confirm.
    pub(crate) fn confirm(&mut self) {
        self.key(b'\r');
    }

    /// Waits for the tick of what was typed.
    pub(crate) fn wait_tick(&mut self, ms: u64) -> Shown {
        let is_typed = |line: &String| line.starts_with("> ");
        let said = |line: &String| line.starts_with("✓ Saved");
        let ticked = self.wait_face(ms, |face| {
            !face.iter().any(is_typed) && face.iter().any(said)
        });
        let unconfirmed = |line: &String| line.starts_with("✓ Saved as not confirmed");
        match (ticked, self.face.iter().any(unconfirmed)) {
            (false, _) => Shown::Nothing,
            (true, false) => Shown::Saved,
            (true, true) => Shown::SavedUnconfirmed,
        }
    }

    /// The trial is closed, as the face says.
    pub(crate) fn shows_closed(&mut self) -> bool {
        self.face().iter().any(|line| line == "Trial closed")
    }
}

impl Drop for PumpTerminal {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Opens a terminal without making it this program's own.
pub(crate) fn open_terminal(path: &Path) -> anyhow::Result<File> {
    let flags = i32::try_from(OFlags::NOCTTY.bits())?;
    let mut options = File::options();
    options.read(true).write(true).custom_flags(flags);
    options
        .open(path)
        .with_context(|| path.display().to_string())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
