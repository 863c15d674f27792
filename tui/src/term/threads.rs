//! The threads around the model: one stamps what comes in with the time of its receipt, one reads
//! keys, one writes and is the only one that a terminal can hold up.

use super::take::WRITING;
use crate::feed::Incoming;
use crate::keymap::Key;
use crossterm::event::{self as keys, KeyCode, KeyEventKind, KeyModifiers};
use protocol::time::Uptime;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How often threads look whether to end.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Our own monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(read_clock())
    }

    pub(super) fn uptime(self) -> Uptime {
        let ms = read_clock().duration_since(self.0).as_millis();
        Uptime::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "receipts are stamped here: the one place of the dashboard that reads a clock"
)]
fn read_clock() -> Instant {
    Instant::now()
}

/// What the model's thread waits for.
#[derive(Debug)]
pub(super) enum Input {
    Incoming(Uptime, Incoming),
    Key(Key),
    Resize,
    Quit,
    Written(io::Result<()>),
}

pub(super) fn spawn_stamper(
    incoming: Receiver<Incoming>,
    inbox: Sender<Input>,
    clock: Clock,
    over: Arc<AtomicBool>,
) {
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let sent = match incoming.recv_timeout(LOOK) {
                Ok(what) => inbox.send(Input::Incoming(clock.uptime(), what)),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    let gone = Incoming::Broker {
                        connected: false,
                        detail: "the program stopped listening".into(),
                    };
                    let _ = inbox.send(Input::Incoming(clock.uptime(), gone));
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
}

pub(super) fn spawn_key_reader(inbox: Sender<Input>, over: Arc<AtomicBool>) {
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let inputs = match keys::poll(LOOK).and_then(|some| some.then(keys::read).transpose()) {
                Ok(Some(keys::Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    let pressed = keys_of(key.code, key.modifiers).into_iter();
                    pressed.flatten().map(Input::Key).collect()
                }
                Ok(Some(keys::Event::Resize(..))) => vec![Input::Resize],
                Ok(_) => Vec::new(),
                Err(_) => return,
            };
            for input in inputs {
                if inbox.send(input).is_err() {
                    return;
                }
            }
        }
    });
}

/// A key, or none of ours. Escape and another key pressed at once come as one, with ALT: two keys.
fn keys_of(code: KeyCode, modifiers: KeyModifiers) -> [Option<Key>; 2] {
    let key = key_of(code);
    if modifiers.contains(KeyModifiers::CONTROL) {
        return [(code == KeyCode::Char('c')).then_some(Key::Interrupt), None];
    }
    let escape = modifiers.contains(KeyModifiers::ALT).then_some(Key::Esc);
    [escape, key]
}

fn key_of(code: KeyCode) -> Option<Key> {
    let named = [
        (KeyCode::Enter, Key::Enter),
        (KeyCode::Esc, Key::Esc),
        (KeyCode::Up, Key::Up),
        (KeyCode::Down, Key::Down),
        (KeyCode::Left, Key::Left),
        (KeyCode::Right, Key::Right),
    ];
    let named = named.into_iter().find(|(theirs, _)| *theirs == code);
    named
        .map(|(_, ours)| ours)
        .or(code.as_char().map(Key::Char))
}

/// Without a screen: the line `q` leaves. The end of input does not.
pub(super) fn spawn_line_reader(inbox: Sender<Input>) {
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if line.trim() == "q" && inbox.send(Input::Quit).is_err() {
                return;
            }
        }
    });
}

/// Writes what it is given, each picture in one piece, without the lock of stdout: a terminal that
/// takes nothing holds up this thread alone.
pub(super) fn spawn_writer(inbox: Sender<Input>) -> io::Result<Sender<Vec<u8>>> {
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (writer, pictures) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for picture in pictures {
            let done = stdout.write_all(&picture);
            WRITING.store(false, Ordering::SeqCst);
            if inbox.send(Input::Written(done)).is_err() {
                return;
            }
        }
    });
    Ok(writer)
}
