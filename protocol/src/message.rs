//! Every message on the serial line, one enum a direction.
//!
//! Toward the pump there are an acknowledgement, a request to resend and a request for the time:
//! nothing that could change delivery or a journaled event. `tests/no_control_path.rs` holds this
//! list against that promise.

use crate::event::{Head, Raw};
use crate::hex::{Digest, PublicKey, Tag};
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
        let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > SOURCE_MAX || !text.as_bytes().iter().all(good) {
            return None;
        }
        let mut bytes = [0; SOURCE_MAX];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self {
            bytes,
            len: u8::try_from(text.len()).ok()?,
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
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

/// What is your time?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRequest {
    /// Numbers the requests.
    pub id: u32,
}

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
