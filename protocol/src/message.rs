//! Every message on the serial line, one enum a direction.
//!
//! Toward the pump there are an acknowledgement, a request to resend and a request for the time:
//! nothing that could change delivery or a journaled event. `tests/no_control_path.rs` holds this
//! list against that promise.

use crate::event::{Head, Raw};
use crate::hex::{Digest, PublicKey, Tag};
use crate::wire::{Reader, Wire, Writer};
use crate::wire_struct;
use serde::{Deserialize, Serialize};

/// The most bytes of a source's name.
pub const SOURCE_MAX: usize = 32;
/// The most bytes of a manifest in one part.
pub const PART_MAX: usize = 128;

/// A source's name, `[A-Za-z0-9._-]{1,32}`: the pump's serial number, or `<gw>.<trial>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    bytes: [u8; SOURCE_MAX],
    len: u8,
}

impl Source {
    /// From text; `None` for another length or another character.
    pub fn new(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    /// As [`Self::new`], from the text's bytes.
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let mut bytes = [0; SOURCE_MAX];
        let room = bytes.get_mut(..text.len())?;
        if text.is_empty() || !text.iter().all(good) {
            return None;
        }
        room.copy_from_slice(text);
        Some(Self {
            bytes,
            len: u8::try_from(text.len()).ok()?,
        })
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("")
    }
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::fmt::Debug for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Wire for Source {
    fn put(&self, to: &mut Writer<'_>) {
        to.counted(self.as_bytes());
    }
    fn take(from: &mut Reader<'_>) -> Self {
        Self::from_bytes(from.counted()).unwrap_or_else(|| {
            from.fail();
            Self {
                bytes: [0; SOURCE_MAX],
                len: 0,
            }
        })
    }
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = Source;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("1 to 32 of A-Z a-z 0-9 . _ -")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Source, E> {
                Source::new(text)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// The pump says who it is: the first message after each opening of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol version it speaks.
    pub protocol_min: u8,
    /// Newest protocol version it speaks.
    pub protocol_max: u8,
    /// Its serial number.
    pub source: Source,
    /// This start.
    pub boot: u32,
    /// SHA-256 of the manifest it was provisioned with.
    pub manifest: Digest,
    /// Length of that manifest in bytes.
    pub manifest_len: u16,
    /// Its public key.
    pub key: PublicKey,
    /// True where there is no patient: a simulated pump or a simulated board.
    pub simulated: bool,
}

wire_struct!(Hello {
    protocol_min,
    protocol_max,
    source,
    boot,
    manifest,
    manifest_len,
    key,
    simulated
});

/// The pump lives. Each second, not journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// This start.
    pub boot: u32,
    /// Milliseconds since this start.
    pub tick_ms: u64,
    /// The newest event's seq; 0 where there is none.
    pub last_seq: u64,
    /// Whether the motor follows a rate now.
    pub infusing: bool,
}

wire_struct!(Heartbeat {
    boot,
    tick_ms,
    last_seq,
    infusing
});

/// The pump's answer to a [`TimeRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeReply {
    /// The number of the request.
    pub id: u32,
    /// This start.
    pub boot: u32,
    /// Tick when the request had arrived.
    pub received_tick_ms: u64,
    /// Tick when this answer left.
    pub sent_tick_ms: u64,
}

wire_struct!(TimeReply {
    id,
    boot,
    received_tick_ms,
    sent_tick_ms
});

/// A part of the manifest that the pump was provisioned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestPart {
    /// Where in the manifest it begins.
    pub offset: u16,
    bytes: [u8; PART_MAX],
    len: u8,
}

impl ManifestPart {
    /// A part; `None` where it is empty or too long.
    pub fn new(offset: u16, part: &[u8]) -> Option<Self> {
        let mut bytes = [0; PART_MAX];
        bytes.get_mut(..part.len())?.copy_from_slice(part);
        let len = u8::try_from(part.len()).ok().filter(|len| *len > 0)?;
        Some(Self { offset, bytes, len })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

/// From the pump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromPump {
    /// Who it is.
    Hello(Hello),
    /// It lives.
    Heartbeat(Heartbeat),
    /// Its clock.
    TimeReply(TimeReply),
    /// A part of its manifest.
    ManifestPart(ManifestPart),
    /// An event with its tag.
    Event {
        /// The event's bytes.
        raw: Raw,
        /// Its head, decoded.
        head: Head,
        /// HMAC over the chain up to it.
        tag: Tag,
    },
    /// A message of a later program; counted.
    Unknown(u8),
}

/// Everything through this seq is on disk at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The last seq without a hole before it.
    pub through_seq: u64,
}

wire_struct!(Ack { through_seq });

/// Send again from the seq after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The last seq without a hole before it; 0 for none.
    pub last_contiguous_seq: u64,
    /// The line was opened: say who you are first.
    pub want_hello: bool,
    /// The manifest is wanted too.
    pub want_manifest: bool,
}

wire_struct!(Resume {
    last_contiguous_seq,
    want_hello,
    want_manifest
});

/// What is your time?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRequest {
    /// Numbers the requests.
    pub id: u32,
}

wire_struct!(TimeRequest { id });

/// To the pump. There are no other messages, and none of these changes delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToPump {
    /// Steers resending only.
    Ack(Ack),
    /// Steers resending only.
    Resume(Resume),
    /// Reads the pump's clock.
    TimeRequest(TimeRequest),
    /// A message of a later program; counted.
    Unknown(u8),
}

/// Type numbers of the messages that are not events.
pub mod numbers {
    /// [`super::Hello`].
    pub const HELLO: u8 = 0x01;
    /// [`super::Heartbeat`].
    pub const HEARTBEAT: u8 = 0x02;
    /// [`super::TimeReply`].
    pub const TIME_REPLY: u8 = 0x03;
    /// [`super::ManifestPart`].
    pub const MANIFEST_PART: u8 = 0x04;
    /// [`super::Ack`].
    pub const ACK: u8 = 0x20;
    /// [`super::Resume`].
    pub const RESUME: u8 = 0x21;
    /// [`super::TimeRequest`].
    pub const TIME_REQUEST: u8 = 0x22;
}
