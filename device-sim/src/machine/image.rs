//! The program as an image in QEMU. The simulated board is its rig: it answers what the image asks,
//! in step, so that the trial is as repeatable as with the library.

use super::{Hung, Machine};
use crate::board::SimBoard;
use crate::clock::Wall;
use crate::qemu::{self, Qemu, Started};
use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use firmware::acts::Refused;
use firmware::board::Board;
use firmware::face::Face;
use firmware::provision::Provision;
use firmware::pump::Input;
use firmware::rig::{Deframer, Done, FromRig, Health, LineState, Seen, ToRig, encode};
use protocol::event::{BootReason, Raw};
use protocol::hex::Tag;
use protocol::keys::KeyPair;
use protocol::time::Uptime;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// An image that says nothing for so long never will.
const PATIENCE_MS: u64 = 60_000;
/// Bytes for the line that wait for the image to take them; beyond that they are lost, as where a
/// port is not read.
const LINE_WAITING_MAX: usize = 4_096;

/// Memories that were made by this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// An image and its memory.
#[derive(Debug)]
pub(crate) struct Place {
    image: PathBuf,
    memory: PathBuf,
    /// Only this process knows of the memory.
    ours: bool,
    /// Nobody wrote it before.
    pub(crate) fresh: bool,
}

impl Place {
    /// Prepares the memory's file: provisions it, and orders it to be formatted where it is fresh.
    /// Without a path it lives as long as this.
    pub(crate) fn prepare(
        image: &Path,
        memory: Option<&Path>,
        keys: &KeyPair,
        provision: &Provision,
    ) -> Result<Self, qemu::Error> {
        let path = memory.map_or_else(
            || {
                let number = MADE.fetch_add(1, Ordering::Relaxed);
                let name = format!("thecal-pump-{}-{number}", std::process::id());
                std::env::temp_dir().join(name)
            },
            Path::to_path_buf,
        );
        if memory.is_none() {
            // Of an older process with our number; where it cannot go, it is refused below.
            let _ = std::fs::remove_file(&path);
        }
        let fresh = qemu::provision(&path, keys, provision)?;
        Ok(Self {
            image: image.to_path_buf(),
            memory: path,
            ours: memory.is_none(),
            fresh,
        })
    }

    /// The memory's file.
    pub(crate) fn memory(&self) -> &Path {
        &self.memory
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(&self.memory);
        }
    }
}

/// What is said over the rig's socket.
struct Talk {
    stream: UnixStream,
    deframer: Deframer,
    bytes: Vec<u8>,
    reset: Option<BootReason>,
    broken: Option<String>,
}

impl Talk {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            deframer: Deframer::default(),
            bytes: Vec::new(),
            reset: None,
            broken: None,
        }
    }

    fn send(&mut self, message: &FromRig) {
        let Some(frame) = encode(message) else {
            self.broken = Some(format!("no room in a frame for {message:?}"));
            return;
        };
        if let Err(error) = self.stream.write_all(frame.as_bytes()) {
            self.broken = Some(format!("the pump's image is gone: {error}"));
        }
    }

    /// The next message; none where the image is gone.
    fn receive(&mut self) -> Option<ToRig> {
        let wall = Wall::start();
        while self.broken.is_none() {
            let mut bytes = core::mem::take(&mut self.bytes).into_iter();
            for byte in bytes.by_ref() {
                if let Some(message) = self.deframer.push(byte) {
                    self.bytes = bytes.collect();
                    return Some(message);
                }
            }
            let mut room = [0; 1_024];
            match self.stream.read(&mut room) {
                Ok(0) => self.broken = Some("the pump's image is gone".into()),
                Ok(n) => self.bytes = room.get(..n).unwrap_or(&[]).to_vec(),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if wall.uptime() > Uptime::from_millis(PATIENCE_MS) {
                        self.broken = Some("the pump's image does not answer".into());
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => self.broken = Some(format!("the pump's image is gone: {e}")),
            }
        }
        None
    }

    /// Says something and does what the image wants of its board until it answers. None where it
    /// does not, because it reset itself or is gone.
    fn ask(&mut self, message: &FromRig, mut board: Option<&mut SimBoard>) -> Option<ToRig> {
        if self.reset.is_some() || self.broken.is_some() {
            return None;
        }
        self.send(message);
        loop {
            let message = self.receive()?;
            match (message, &mut board) {
                (ToRig::Motor { microsteps }, Some(board)) => board.motor_advance(microsteps),
                (ToRig::OwnClock { utc_ms }, Some(board)) => board.set_own_clock(utc_ms),
                (ToRig::Look, Some(board)) => {
                    let seen = seen(board);
                    self.send(&FromRig::Seen(seen));
                }
                (ToRig::Ready { reset }, _) => {
                    self.reset = Some(reset.unwrap_or(BootReason::PowerOn));
                    return None;
                }
                (other, _) => return Some(other),
            }
        }
    }
}

fn seen(board: &SimBoard) -> Seen {
    Seen {
        encoder: board.encoder(),
        sensors: board.sensors(),
        keys_down: board.keys_down(),
        own_clock_utc_ms: board.own_clock_utc_ms(),
    }
}

/// A pump whose program runs in QEMU.
pub(crate) struct ImagePump {
    board: Box<SimBoard>,
    talk: RefCell<Talk>,
    line: UnixStream,
    waiting: Vec<u8>,
    state: Done,
    line_state: LineState,
    /// Last, so that the image's sockets close first.
    qemu: Qemu,
}

impl ImagePump {
    /// Starts the emulator and then the pump.
    pub(crate) fn start(
        board: Box<SimBoard>,
        place: &Place,
        reason: BootReason,
    ) -> Result<Self, (String, Box<SimBoard>)> {
        let Started { qemu, line, rig } = match Qemu::start(&place.image, &place.memory) {
            Ok(started) => started,
            Err(error) => return Err((error.to_string(), board)),
        };
        let ready = rig.set_read_timeout(Some(Duration::from_millis(200)));
        let ready = ready.and_then(|()| line.set_nonblocking(true));
        if let Err(error) = ready {
            return Err((error.to_string(), board));
        }
        let mut pump = Self {
            board,
            talk: RefCell::new(Talk::new(rig)),
            line,
            waiting: Vec::new(),
            state: Done::default(),
            line_state: LineState::default(),
            qemu,
        };
        match pump.talk.get_mut().receive() {
            Some(ToRig::Ready { .. }) => {}
            Some(ToRig::NotStarted(why)) => return Err((why.to_string(), pump.board)),
            Some(other) => return Err((format!("the pump's image said {other:?}"), pump.board)),
            None => return Err((pump.broken().unwrap_or_default(), pump.board)),
        }
        match pump.begin(reason) {
            Ok(()) => Ok(pump),
            Err(why) => Err((why, pump.board)),
        }
    }

    fn begin(&mut self, reason: BootReason) -> Result<(), String> {
        let start = FromRig::Start {
            reason,
            tick_ms: 0,
            seen: Some(seen(&self.board)),
        };
        match self.talk.get_mut().ask(&start, Some(&mut self.board)) {
            Some(ToRig::Done(done)) => {
                self.state = done;
                Ok(())
            }
            Some(ToRig::NotStarted(why)) => Err(why.to_string()),
            Some(other) => Err(format!("the pump's image said {other:?}")),
            None => Err(self
                .broken()
                .unwrap_or_else(|| "the pump's image resets itself as it starts".into())),
        }
    }

    fn act(&mut self, message: &FromRig) -> Option<Refused> {
        match self.talk.get_mut().ask(message, Some(&mut self.board)) {
            Some(ToRig::Done(done)) => {
                self.state = done;
                done.refused
            }
            Some(other) => {
                self.talk.get_mut().broken = Some(format!("the pump's image said {other:?}"));
                None
            }
            None => None,
        }
    }
}

impl Machine for ImagePump {
    fn handle(&mut self, tick_ms: u64, input: Input) -> Result<(), Refused> {
        let seen = Some(seen(&self.board));
        let message = FromRig::Input {
            tick_ms,
            input,
            seen,
        };
        self.act(&message).map_or(Ok(()), Err)
    }

    fn handle_time(&mut self, tick_ms: u64) {
        let seen = Some(seen(&self.board));
        self.act(&FromRig::Wake { tick_ms, seen });
    }

    fn next_wake(&self) -> u64 {
        self.state.next_wake_ms
    }

    fn last_seq(&self) -> u64 {
        self.state.last_seq
    }

    fn boot(&self) -> u32 {
        self.state.boot
    }

    fn closed(&self) -> bool {
        self.state.closed
    }

    fn event(&self, seq: u64) -> Option<(Raw, Tag)> {
        let answer = self.talk.borrow_mut().ask(&FromRig::Event { seq }, None);
        let Some(ToRig::Event(Some(kept))) = answer else {
            return None;
        };
        let (raw, _) = Raw::parse(&kept.raw).ok()?;
        Some((raw, kept.tag))
    }

    fn face(&self, tick_ms: u64, _: Uptime) -> Option<Face> {
        let request = FromRig::Face { tick_ms };
        let Some(ToRig::Face(face)) = self.talk.borrow_mut().ask(&request, None) else {
            return None;
        };
        Some(face)
    }

    fn bytes_in(&mut self, _: Uptime, tick_ms: u64, bytes: &[u8]) {
        let room = LINE_WAITING_MAX.saturating_sub(self.waiting.len());
        let bytes = bytes.get(..bytes.len().min(room)).unwrap_or(&[]);
        self.waiting.extend_from_slice(bytes);
        while !self.waiting.is_empty() {
            match self.line.write(&self.waiting) {
                Ok(taken) if taken > 0 => {
                    self.waiting.drain(..taken);
                }
                Ok(_) | Err(_) => break,
            }
        }
        if let Some(ToRig::Line(state)) = self.talk.get_mut().ask(&FromRig::Time { tick_ms }, None)
        {
            self.line_state = state;
        }
    }

    fn bytes_out(&mut self, _: Uptime, _: u64) -> Vec<u8> {
        let mut room = [0; 512];
        let n = self.line.read(&mut room).unwrap_or(0);
        room.get(..n).unwrap_or(&[]).to_vec()
    }

    fn acked_seq(&self) -> u64 {
        self.line_state.acked_seq
    }

    fn monitored(&self, _: Uptime) -> bool {
        self.line_state.monitored
    }

    /// The image turns and feeds by itself. A simulated hang is a pump that is told nothing.
    fn turn(&mut self, _: Uptime, _: u64, hung: Hung) -> bool {
        !(hung.program || hung.line)
    }

    fn take_reset(&mut self) -> Option<BootReason> {
        self.talk.get_mut().reset
    }

    fn start_again(&mut self, reason: BootReason) {
        self.talk.get_mut().reset = None;
        self.line_state = LineState::default();
        if let Err(why) = self.begin(reason) {
            self.talk.get_mut().broken = Some(why);
        }
    }

    fn broken(&self) -> Option<String> {
        self.talk.borrow().broken.clone()
    }

    fn health(&self) -> Option<Health> {
        let answer = self.talk.borrow_mut().ask(&FromRig::Health, None);
        let Some(ToRig::Health(health)) = answer else {
            return None;
        };
        Some(health)
    }

    fn board(&self) -> &SimBoard {
        &self.board
    }

    fn board_mut(&mut self) -> &mut SimBoard {
        &mut self.board
    }

    fn into_board(self: Box<Self>) -> Box<SimBoard> {
        let Self {
            board, mut qemu, ..
        } = *self;
        qemu.kill();
        board
    }
}
