//! The gateway's end of a line, for tests: the real receiver, and no store.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]
#![allow(dead_code, reason = "each test file uses its own part")]

use protocol::event::Raw;
use protocol::frame::{decode_from_pump, encode_to_pump};
use protocol::hex::Tag;
use protocol::link::{Receiver, Taken};
use protocol::time::Uptime;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A gateway without a store: what it took counts as stored.
pub(crate) struct Gateway {
    pub(crate) link: PathBuf,
    pub(crate) port: Option<Box<dyn serialport::SerialPort>>,
    pub(crate) receiver: Receiver,
    pub(crate) wall: device_sim::clock::Wall,
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Vec<(Raw, Tag)>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) bad_frames: u32,
    pub(crate) opened: u32,
}

impl Gateway {
    pub(crate) fn new(link: &Path) -> Self {
        Self {
            link: link.into(),
            port: None,
            receiver: Receiver::new(Uptime::ZERO, 0, true),
            wall: device_sim::clock::Wall::start(),
            bytes: Vec::new(),
            events: Vec::new(),
            manifest: Vec::new(),
            bad_frames: 0,
            opened: 0,
        }
    }

    /// One round: what came, and what is to be said.
    pub(crate) fn round(&mut self) {
        let now = self.wall.uptime();
        let Some(port) = &mut self.port else {
            let opened = serialport::new(self.link.to_string_lossy(), 115_200)
                .timeout(core::time::Duration::from_millis(20))
                .open();
            if let Ok(port) = opened {
                self.port = Some(port);
                self.opened += 1;
                self.receiver.reopen(now);
                self.bytes.clear();
            } else {
                device_sim::clock::rest(20);
            }
            return;
        };
        let mut buffer = [0; 4_096];
        match port.read(&mut buffer) {
            Ok(0) => self.port = None,
            Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut => {}
            Err(_) => self.port = None,
        }
        while let Some(end) = self.bytes.iter().position(|b| *b == 0) {
            let frame: Vec<u8> = self.bytes.drain(..=end).collect();
            self.take(now, &frame[..end]);
        }
        self.say(now);
    }

    fn take(&mut self, now: Uptime, between_zeros: &[u8]) {
        let Ok(message) = decode_from_pump(between_zeros) else {
            self.bad_frames += u32::from(!between_zeros.is_empty());
            return;
        };
        match self.receiver.handle_message(now, message) {
            Taken::Event { raw, head, tag, .. } => {
                self.events.push((raw, tag));
                self.receiver.note_stored(head.seq);
            }
            Taken::Hello(_) => {
                let stored = self.receiver.stored();
                self.receiver.bind(stored, self.manifest.is_empty());
            }
            Taken::ManifestPart(part) => {
                if usize::from(part.offset) == self.manifest.len() {
                    self.manifest.extend_from_slice(part.bytes());
                    self.receiver.note_manifest();
                }
            }
            Taken::Lost { .. }
            | Taken::Repeat { .. }
            | Taken::TimeReply(_)
            | Taken::Heartbeat(_)
            | Taken::Nothing => {}
        }
    }

    fn say(&mut self, now: Uptime) {
        while let Some(message) = self.receiver.poll_send(now) {
            let frame = encode_to_pump(&message).unwrap();
            if let Some(port) = &mut self.port
                && port.write_all(frame.as_bytes()).is_err()
            {
                self.port = None;
            }
        }
    }
}
