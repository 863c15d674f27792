//! The serial line: the link engine around a pump that it can only read.
//!
//! Bytes come in and steer resending, nothing else; the pump is borrowed and never changed, so an
//! absent or hostile gateway cannot alter delivery or the journal. What it can influence is
//! [`Line::monitored`], which shows on the face.

use crate::board::Board;
use crate::pump::Pump;
use protocol::frame::{
    Deframer, Error, FRAME_MAX, Frame, Piece, decode_to_pump, encode_event, encode_from_pump,
};
use protocol::link::{Send, Sender};
use protocol::message::{FromPump, Heartbeat, ManifestPart, PART_MAX, TimeReply};
use protocol::time::Uptime;

/// The pump's end of the line. `now` is wall time, `tick_ms` the pump's own.
#[derive(Debug)]
pub struct Line {
    sender: Sender,
    deframer: Deframer,
    out: [u8; FRAME_MAX],
    out_len: usize,
    out_sent: usize,
    turns: u32,
    /// Frames that were damaged or no frames at all.
    pub bad_frames: u32,
}

impl Line {
    /// A line that was just opened.
    pub fn new<B: Board>(now: Uptime, pump: &Pump<B>) -> Self {
        let mut sender = Sender::new(now, pump.hello().manifest_len);
        sender.note_journaled(pump.last_seq());
        // One zero before the first frame ends what noise may have begun.
        Self {
            sender,
            deframer: Deframer::default(),
            out: [0; FRAME_MAX],
            out_len: 1,
            out_sent: 0,
            turns: 0,
            bad_frames: 0,
        }
    }

    /// Bytes arrived at this tick.
    pub fn bytes_in<B: Board>(&mut self, now: Uptime, tick_ms: u64, bytes: &[u8], pump: &Pump<B>) {
        self.sender.note_journaled(pump.last_seq());
        for byte in bytes {
            match self.deframer.push(*byte) {
                None => {}
                Some(Piece::TooLong) => self.bad_frames = self.bad_frames.saturating_add(1),
                Some(Piece::Bytes(frame)) => match decode_to_pump(frame) {
                    Ok(message) => self.sender.handle_message(now, tick_ms, &message),
                    Err(_) => self.bad_frames = self.bad_frames.saturating_add(1),
                },
            }
        }
    }

    /// Brings the engine up to now, whether or not there is room to send anything.
    pub fn turn<B: Board>(&mut self, now: Uptime, pump: &Pump<B>) {
        self.sender.note_journaled(pump.last_seq());
        self.sender.handle_timeout(now);
        self.turns = self.turns.wrapping_add(1);
    }

    /// Counts the turns of the engine, for the watchdog.
    pub fn turns(&self) -> u32 {
        self.turns
    }

    /// Fills the buffer with what is to go out now; gives how many bytes. 0 means nothing more.
    pub fn poll_out<B: Board>(
        &mut self,
        now: Uptime,
        tick_ms: u64,
        pump: &Pump<B>,
        buffer: &mut [u8],
    ) -> usize {
        self.turn(now, pump);
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            let rest = self.out.get(self.out_sent..self.out_len).unwrap_or(&[]);
            if rest.is_empty() {
                let Some(frame) = self.next_frame(now, tick_ms, pump) else {
                    break;
                };
                self.load(&frame);
                continue;
            }
            let count = rest.len().min(room.len());
            for (to, from) in room.iter_mut().zip(rest) {
                *to = *from;
            }
            self.out_sent += count;
            filled += count;
        }
        filled
    }

    fn load(&mut self, frame: &Frame) {
        let bytes = frame.as_bytes();
        for (to, from) in self.out.iter_mut().zip(bytes) {
            *to = *from;
        }
        (self.out_len, self.out_sent) = (bytes.len(), 0);
    }

    fn next_frame<B: Board>(&mut self, now: Uptime, tick_ms: u64, pump: &Pump<B>) -> Option<Frame> {
        while let Some(send) = self.sender.poll_send(now) {
            // A part that cannot be made is left out; the other end asks again.
            if let Some(Ok(frame)) = make(send, tick_ms, pump) {
                return Some(frame);
            }
        }
        None
    }

    /// When [`Self::poll_out`] has something to send, where nothing arrives or happens before.
    pub fn next_timeout(&self) -> Uptime {
        if self.out_sent < self.out_len {
            return Uptime::ZERO;
        }
        self.sender.poll_timeout()
    }

    /// Whether somebody at the other end was heard lately.
    pub fn monitored(&self, now: Uptime) -> bool {
        self.sender.monitored(now)
    }

    /// Events that wait for an acknowledgement, sent or not.
    pub fn unacknowledged(&self) -> u64 {
        self.sender.unacknowledged()
    }

    /// The last seq that the gateway has on disk, as far as we heard.
    pub fn acked(&self) -> u64 {
        self.sender.acked()
    }
}

fn make<B: Board>(send: Send, tick_ms: u64, pump: &Pump<B>) -> Option<Result<Frame, Error>> {
    let message = match send {
        Send::Hello => FromPump::Hello(pump.hello()),
        Send::Heartbeat => FromPump::Heartbeat(Heartbeat {
            boot: pump.boot(),
            tick_ms,
            last_seq: pump.last_seq(),
            infusing: pump.infusing().is_some(),
        }),
        Send::TimeReply {
            id,
            received_tick_ms,
        } => FromPump::TimeReply(TimeReply {
            id,
            boot: pump.boot(),
            received_tick_ms,
            sent_tick_ms: tick_ms,
        }),
        Send::ManifestPart { offset } => {
            let manifest = &pump.provision().manifest;
            let rest = manifest.get(usize::from(offset)..)?;
            let part = rest.get(..PART_MAX).unwrap_or(rest);
            FromPump::ManifestPart(ManifestPart::new(offset, part)?)
        }
        Send::Event { seq } => {
            let (raw, tag) = pump.event(seq).or_else(|| pump.says_lost(seq))?;
            return Some(encode_event(&raw, &tag));
        }
    };
    Some(encode_from_pump(&message))
}
