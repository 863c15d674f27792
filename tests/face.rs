//! A person is the patient: the pump's face in a terminal, and keys.
#![cfg(feature = "sim")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// `thecal sim` in a terminal of its own.
struct Terminal {
    child: Box<dyn portable_pty::Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn open(link: &std::path::Path, clock: &str) -> Self {
        let size = portable_pty::PtySize {
            rows: ROWS,
            cols: COLUMNS,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = portable_pty::native_pty_system().openpty(size).unwrap();
        let mut command = portable_pty::CommandBuilder::new(env!("CARGO_BIN_EXE_thecal"));
        command.args(["sim", "--clock", clock, "--link"]);
        command.arg(link);
        command.env("TERM", "xterm-256color");
        command.env("TZ", "UTC");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let size = |n| core::num::NonZero::new(n).unwrap();
        let parser = vt100::Parser::new(size(ROWS), size(COLUMNS), 0);
        let screen = Arc::new(Mutex::new(parser));
        let shown = screen.clone();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let keys = pair.master.take_writer().unwrap();
        std::thread::spawn(move || {
            let _master = pair.master;
            let mut buffer = [0; 4_096];
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                shown.lock().unwrap().process(&buffer[..n]);
            }
        });
        Self {
            child,
            keys,
            screen,
        }
    }

    fn contents(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen shows this.
    fn until(&self, what: &str) {
        for _ in 0..3_000 {
            if self.contents().contains(what) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what:?} never came:\n{}", self.contents());
    }

    fn type_keys(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
        self.keys.flush().unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where it ended by itself, it is gone already.
        let _ = self.child.kill();
    }
}

#[test]
fn anyone_can_be_the_patient_and_sees_the_tick_once_the_score_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("pump");
    // Two seconds before the first question of the day; nobody is at the other end of the line.
    let mut terminal = Terminal::open(&link, "2026-03-02T06:59:58Z@1");
    terminal.until("simulated, not a patient");
    terminal.until("Stopped");
    terminal.until("Not monitored");
    assert!(terminal.screen.lock().unwrap().screen().alternate_screen());
    terminal.until("How strong is your pain now, at rest? 0 to 10, then OK.");

    terminal.type_keys(b"1");
    terminal.until("> 1");
    // An arrow key is no digit.
    terminal.type_keys(b"\x1b[5~0");
    terminal.until("> 10");
    assert!(!terminal.contents().contains('\u{2713}'), "not before OK");
    terminal.type_keys(b"\r");
    terminal.until("\u{2713} Saved.");
    // Broken between words where the line ends.
    terminal.until("Press your call bell if you need");
    let seen = terminal.contents();
    assert!(
        !seen.contains("How strong") && !seen.contains('>'),
        "{seen}"
    );

    terminal.type_keys(b"t");
    terminal.until("0.08 mL/h");
    terminal.type_keys(b"b");
    terminal.until("Bolus is being given.");
    assert!(
        !terminal.contents().contains('\u{2713}'),
        "the tick is the score's"
    );
    terminal.until("0.08 mL/h + bolus");
    terminal.until("Next bolus in 1 h 0 min.");
    // Pressed again at once it is the same press, bounced.
    for _ in 0..30 {
        if terminal.contents().contains("Bolus not given") {
            break;
        }
        terminal.type_keys(b"b");
        std::thread::sleep(Duration::from_millis(400));
    }
    terminal.until("Bolus not given: too soon.");

    terminal.type_keys(b"q");
    assert!(terminal.child.wait().unwrap().success());
    assert!(!link.is_symlink(), "no pty is left over");
    let screen = terminal.screen.clone();
    let left = || !screen.lock().unwrap().screen().alternate_screen();
    assert!((0..300).any(|_| left() || {
        std::thread::sleep(Duration::from_millis(10));
        false
    }));
}
