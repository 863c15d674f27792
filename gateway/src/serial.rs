//! One blocking thread a port: bytes in, bytes out, and an unplugged port is opened again.
//!
//! A port that is missing, busy or pulled is tried again for ever; silence is judged by frames,
//! not by read errors. End of file, `BrokenPipe` and the like all mean unplugged
//! (`facts/gateway-mqtt.md` §7).

use crate::clock::Clock;
use crate::line::Line;
use serialport::TTYPort;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

/// 8N1 at this speed.
pub const BAUD: u32 = 115_200;
const READ_TIMEOUT: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(300);

/// Why a port is not open: one line for people, with the port's name and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another program has it, for as long as that one runs.
    #[error("{0}")]
    Held(String),
    /// It is not there, or cannot be used; it may come.
    #[error("{0}")]
    Absent(String),
}

/// Opens the port, exclusively.
///
/// # Errors
/// What the system says, with the port's name and what to do.
pub fn open(port: &Path) -> Result<TTYPort, OpenError> {
    let name = port.to_string_lossy();
    let opened = serialport::new(name.as_ref(), BAUD)
        .timeout(READ_TIMEOUT)
        .open_native();
    opened.map_err(|e| {
        let hint = match e.kind() {
            // What `serialport` says where the lock of the port is taken, and only there.
            serialport::ErrorKind::NoDevice => {
                return OpenError::Held(format!(
                    "port {}: {e}: another program holds it; stop that one first",
                    port.display()
                ));
            }
            serialport::ErrorKind::Io(ErrorKind::PermissionDenied) => {
                "this user may not use it; add the user to the group of the port"
            }
            serialport::ErrorKind::Io(ErrorKind::NotFound) => {
                "no such port; `thecal doctor` lists the ports"
            }
            serialport::ErrorKind::InvalidInput
            | serialport::ErrorKind::Unknown
            | serialport::ErrorKind::Io(_) => "`thecal doctor` checks the port",
        };
        OpenError::Absent(format!("port {}: {e}: {hint}", port.display()))
    })
}

/// Serves a bed's port, which may be open already, until the gateway stops.
pub(crate) fn run(mut line: Line, clock: Clock, opened: Option<TTYPort>) {
    let mut said = String::new();
    let mut next = opened.map(Ok);
    while !line.is_stopping() {
        let ended = match next.take().unwrap_or_else(|| open(&line.config().port)) {
            Ok(port) => {
                said.clear();
                line.reopen(clock.now());
                session(&mut line, clock, port)
            }
            Err(why) => Some(why.to_string()),
        };
        let Some(why) = ended else { break };
        // A reason is said once, not at every try.
        if said != why {
            crate::say!(
                "thecal gateway: bed {}: {why}; trying again",
                line.config().bed
            );
            said = why;
        }
        tick(&mut line, clock);
        std::thread::sleep(RETRY);
    }
    line.end_digest(clock.now(), true);
}

/// What is due by time, and what the line has to say to people.
fn tick(line: &mut Line, clock: Clock) {
    line.tick(clock.now(), clock.wall_step_ms());
    for notice in line.take_notices() {
        crate::say!("thecal gateway: bed {}: {notice}", line.config().bed);
    }
}

/// Serves an open port; gives why it is gone, or nothing where the gateway stops.
fn session(line: &mut Line, clock: Clock, mut port: TTYPort) -> Option<String> {
    let mut buffer = [0; 4_096];
    // A zero ends whatever half frame the other end may have seen.
    let mut out = vec![0];
    while !line.is_stopping() {
        line.collect_out(clock.now(), &mut out);
        if !out.is_empty() {
            let written = port.write_all(&out).and_then(|()| port.flush());
            out.clear();
            match written {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::TimedOut => {}
                Err(e) => return Some(format!("unplugged: {e}")),
            }
        }
        match port.read(&mut buffer) {
            Ok(0) => return Some("unplugged: end of file".into()),
            Ok(n) => line.handle_bytes(clock.now(), buffer.get(..n).unwrap_or(&[])),
            Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(e) => return Some(format!("unplugged: {e}")),
        }
        tick(line, clock);
    }
    None
}
