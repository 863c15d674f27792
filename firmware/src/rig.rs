//! What a pump's image and the rig around it say to each other over the second serial port.
//!
//! The rig is what a bench has in place of a body of plastic and steel: it turns the motor's steps
//! into encoder counts, holds the sensors, presses the keys, and grants the time. The pump asks and
//! tells; it decides everything. Each request of the rig has one answer; in between the pump may
//! tell the motor or ask what the sensors say. So both go in step, and a trial on an image is as
//! repeatable as one in a library.
//!
//! A frame is `COBS(message | crc32c u32le) 0x00`, the message in the form of [`protocol::wire`].
//! Both ends are built from this file, and `tests/rig.rs` keeps the bytes of one example of each
//! message.

use crate::board::Sensors;
use crate::face::Face;
use crate::memory::crc32c;
use crate::pump::{Input, StartError};
use protocol::event::{BootReason, RAW_MAX};
use protocol::hex::Tag;
use protocol::wire::{self, Reader, Wire, Writer};
use protocol::{wire_enum, wire_struct};

/// The most bytes before COBS, the checksum included.
pub const PLAIN_MAX: usize = 240;
/// The most bytes of a frame, its closing zero included.
pub const FRAME_MAX: usize = PLAIN_MAX + 2;
const CRC_LEN: usize = 4;

const _: () = assert!(PLAIN_MAX < 254, "one COBS block, so the overhead is fixed");
const _: () = assert!(
    RAW_MAX + 16 + 8 + CRC_LEN <= PLAIN_MAX,
    "an event with its tag fits"
);

/// What the board's sensors say at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Encoder counts since power came.
    pub encoder: u64,
    /// Everything else that is measured.
    pub sensors: Sensors,
    /// Keys that are down, one bit a key.
    pub keys_down: u16,
    /// The pump's own clock.
    pub own_clock_utc_ms: Option<u64>,
}

wire_struct!(Seen {
    encoder,
    sensors,
    keys_down,
    own_clock_utc_ms
});

/// A request of the rig, or its answer to [`ToRig::Look`]. `seen` spares that question; where it is
/// missing the pump asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromRig {
    /// Start on the memory. Answered by [`ToRig::Done`] or [`ToRig::NotStarted`].
    Start {
        /// Why the supply came.
        reason: BootReason,
        /// The first tick.
        tick_ms: u64,
        /// The sensors.
        seen: Option<Seen>,
    },
    /// What is due by this tick is due. Answered by [`ToRig::Done`].
    Wake {
        /// Now.
        tick_ms: u64,
        /// The sensors.
        seen: Option<Seen>,
    },
    /// Something happens. Answered by [`ToRig::Done`].
    Input {
        /// Now.
        tick_ms: u64,
        /// What.
        input: Input,
        /// The sensors.
        seen: Option<Seen>,
    },
    /// Nothing happens, and it is so late. Answered by [`ToRig::Line`].
    Time {
        /// Now.
        tick_ms: u64,
    },
    /// Wants an event of the journal. Answered by [`ToRig::Event`].
    Event {
        /// Which.
        seq: u64,
    },
    /// Wants to see the pump's face. Answered by [`ToRig::Face`].
    Face {
        /// Now.
        tick_ms: u64,
    },
    /// Wants to know how the image fares. Answered by [`ToRig::Health`].
    Health,
    /// What [`ToRig::Look`] asked for.
    Seen(Seen),
}

wire_enum!(FromRig {
    0 Start { reason, tick_ms, seen },
    1 Wake { tick_ms, seen },
    2 Input { tick_ms, input, seen },
    3 Time { tick_ms },
    4 Event { seq },
    5 Face { tick_ms },
    6 Health,
    7 Seen(seen),
});

/// An answer of the pump, or what it needs on the way to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRig {
    /// Powered, and waits for [`FromRig::Start`].
    Ready {
        /// Why it started by itself; none where the supply came.
        reset: Option<BootReason>,
    },
    /// It cannot start.
    NotStarted(NotStarted),
    /// Done what was due.
    Done(Done),
    /// The line's state.
    Line(LineState),
    /// An event as it is in the journal; none where it is not held.
    Event(Option<Kept>),
    /// What the pump shows.
    Face(Face),
    /// How the image fares.
    Health(Health),
    /// The motor is to go on by so many microsteps. Not answered.
    Motor {
        /// How many.
        microsteps: u32,
    },
    /// The pump's own clock is set. Not answered.
    OwnClock {
        /// To this.
        utc_ms: u64,
    },
    /// What do the sensors say? Answered by [`FromRig::Seen`].
    Look,
}

wire_enum!(ToRig {
    0 Ready { reset },
    1 NotStarted(why),
    2 Done(done),
    3 Line(state),
    4 Event(kept),
    5 Face(face),
    6 Health(health),
    7 Motor { microsteps },
    8 OwnClock { utc_ms },
    9 Look,
});

/// Why an image does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// Nobody gave it a key, a manifest and limits.
    NotProvisioned,
    /// The memory.
    Memory(StartError),
}

wire_enum!(NotStarted { 0 NotProvisioned, 1 Memory(error) });

impl core::fmt::Display for NotStarted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotProvisioned => f.write_str("the pump is not provisioned"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

/// How the pump stands after what was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// When it wants to be woken.
    pub next_wake_ms: u64,
    /// The newest event.
    pub last_seq: u64,
    /// This start.
    pub boot: u32,
    /// The trial is closed.
    pub closed: bool,
    /// The act was refused.
    pub refused: Option<crate::acts::Refused>,
}

wire_struct!(Done {
    next_wake_ms,
    last_seq,
    boot,
    closed,
    refused
});

/// How the line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineState {
    /// Acknowledged through, as the pump heard it.
    pub acked_seq: u64,
    /// Somebody was heard lately.
    pub monitored: bool,
}

wire_struct!(LineState {
    acked_seq,
    monitored
});

/// An event of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its bytes.
    pub raw: heapless::Vec<u8, RAW_MAX>,
    /// Its tag.
    pub tag: Tag,
}

impl Wire for Kept {
    fn put(&self, to: &mut Writer<'_>) {
        to.counted(&self.raw);
        self.tag.put(to);
    }

    fn take(from: &mut Reader<'_>) -> Self {
        let raw = heapless::Vec::from_slice(from.counted()).unwrap_or_else(|_| {
            from.fail();
            heapless::Vec::new()
        });
        Self {
            raw,
            tag: Wire::take(from),
        }
    }
}

/// How an image fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The most bytes of stack that were in use since the start.
    pub stack_high_water: u32,
    /// Bytes from the line that found no room.
    pub line_dropped: u32,
    /// Frames on the line that were damaged or none.
    pub line_bad_frames: u32,
    /// Frames of the rig that were damaged or none.
    pub rig_bad_frames: u32,
}

wire_struct!(Health {
    stack_high_water,
    line_dropped,
    line_bad_frames,
    rig_bad_frames
});

/// A frame's bytes, its closing zero included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: [u8; FRAME_MAX],
    len: usize,
}

impl Frame {
    /// What goes over the port.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// The frame of a message; none where it does not fit, which no message of this file does.
pub fn encode<T: Wire>(message: &T) -> Option<Frame> {
    let mut plain = [0; PLAIN_MAX];
    let room = plain.get_mut(..PLAIN_MAX - CRC_LEN)?;
    let len = wire::encode(message, room)?;
    let sum = crc32c(0, plain.get(..len)?);
    plain
        .get_mut(len..len + CRC_LEN)?
        .copy_from_slice(&sum.to_le_bytes());
    let mut frame = Frame {
        bytes: [0; FRAME_MAX],
        len: 0,
    };
    let encoded = cobs::try_encode(plain.get(..len + CRC_LEN)?, &mut frame.bytes).ok()?;
    frame.len = encoded + 1;
    (frame.len <= FRAME_MAX).then_some(frame)
}

/// The message between two zeros; none where it is damaged or of another kind.
pub fn decode<T: Wire>(between_zeros: &[u8]) -> Option<T> {
    let mut plain = [0; FRAME_MAX];
    if between_zeros.len() >= FRAME_MAX {
        return None;
    }
    let len = cobs::decode(between_zeros, &mut plain).ok()?.frame_size();
    let (body, sum) = plain.get(..len)?.split_last_chunk::<CRC_LEN>()?;
    if crc32c(0, body) != u32::from_le_bytes(*sum) {
        return None;
    }
    wire::decode(body)
}

/// Cuts a stream of bytes at its zeros and decodes what lies between.
#[derive(Clone, Debug)]
pub struct Deframer {
    buffer: [u8; FRAME_MAX],
    len: usize,
    /// Frames that were damaged, too long or none.
    pub bad_frames: u32,
}

impl Default for Deframer {
    fn default() -> Self {
        Self {
            buffer: [0; FRAME_MAX],
            len: 0,
            bad_frames: 0,
        }
    }
}

impl Deframer {
    /// Takes one byte; gives the message that it closed.
    pub fn push<T: Wire>(&mut self, byte: u8) -> Option<T> {
        if byte != 0 {
            if let Some(room) = self.buffer.get_mut(self.len) {
                *room = byte;
            }
            // One beyond the buffer stands for any length beyond it.
            self.len = (self.len + 1).min(FRAME_MAX + 1);
            return None;
        }
        let len = core::mem::take(&mut self.len);
        if len == 0 {
            return None;
        }
        let message = self.buffer.get(..len).and_then(decode);
        if message.is_none() {
            self.bad_frames = self.bad_frames.saturating_add(1);
        }
        message
    }
}
