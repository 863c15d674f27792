//! Messages to bytes and back: `COBS(version | type | len | body | tag [u8; 16] (events only) |
//! crc32c u32le) 0x00`.
//!
//! [`decode_from_pump`] and [`decode_to_pump`] are the only ways from bytes to a message, so every
//! message in a program has passed its checksum. No bytes make them panic.

use crate::PROTOCOL_VERSION;
use crate::crc::crc32c;
use crate::event::{self, BODY_MAX, FIRST_EVENT_TYPE, RAW_MAX, Raw};
use crate::hex::Tag;
use crate::message::{FromPump, ManifestPart, ToPump, numbers};
use crate::wire::{self, Wire};

const TAG_LEN: usize = 16;
const CRC_LEN: usize = 4;
/// The most bytes before COBS.
pub const PLAIN_MAX: usize = RAW_MAX + TAG_LEN + CRC_LEN;
/// The most bytes on the line: one more for each 254, and the zero.
pub const FRAME_MAX: usize = PLAIN_MAX + 3;

const _: () = assert!(PLAIN_MAX < 254, "one COBS block, so the overhead is fixed");

/// Why bytes between two zeros are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than any frame, or shorter than the shortest.
    #[error("frame of {0} bytes, wanted 8 to {FRAME_MAX}")]
    Size(usize),
    /// Not COBS.
    #[error("frame is not COBS")]
    Cobs,
    /// Damaged on the way.
    #[error("checksum is {seen:#010x}, the bytes have {computed:#010x}")]
    Crc {
        /// As sent.
        seen: u32,
        /// Of what arrived.
        computed: u32,
    },
    /// The other end speaks another protocol.
    #[error("protocol version {0}, this program speaks {PROTOCOL_VERSION}")]
    Version(u8),
    /// Header and bytes do not fit together.
    #[error("message type {number:#04x} with {len} bytes of body does not decode")]
    Body {
        /// Type number.
        number: u8,
        /// Bytes of body.
        len: usize,
    },
    /// The message does not fit in a frame.
    #[error("message does not fit in a frame")]
    TooLong,
}

/// A frame's bytes, the closing zero included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: [u8; FRAME_MAX],
    len: usize,
}

impl Frame {
    /// What goes on the line.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// The frame of an event.
///
/// # Errors
/// None for what [`Raw`] holds.
pub fn encode_event(raw: &Raw, tag: &Tag) -> Result<Frame, Error> {
    let mut plain = Plain::new();
    plain.push(raw.as_bytes())?;
    plain.push(&tag.0)?;
    plain.into_frame()
}

/// The frame of a message from the pump.
///
/// # Errors
/// [`Error::TooLong`] where it does not fit; [`Error::Body`] for an unknown one.
pub fn encode_from_pump(message: &FromPump) -> Result<Frame, Error> {
    match message {
        FromPump::Hello(body) => plain_frame(numbers::HELLO, body),
        FromPump::Heartbeat(body) => plain_frame(numbers::HEARTBEAT, body),
        FromPump::TimeReply(body) => plain_frame(numbers::TIME_REPLY, body),
        FromPump::ManifestPart(part) => {
            let mut plain = Plain::new();
            let [low, high] = part.offset.to_le_bytes();
            let len = u8::try_from(part.bytes().len() + 2).map_err(|_| Error::TooLong)?;
            plain.push(&[PROTOCOL_VERSION, numbers::MANIFEST_PART, len, low, high])?;
            plain.push(part.bytes())?;
            plain.into_frame()
        }
        FromPump::Event { raw, tag, .. } => encode_event(raw, tag),
        FromPump::Unknown(number) => Err(Error::Body {
            number: *number,
            len: 0,
        }),
    }
}

/// The frame of a message to the pump.
///
/// # Errors
/// [`Error::Body`] for an unknown one.
pub fn encode_to_pump(message: &ToPump) -> Result<Frame, Error> {
    match message {
        ToPump::Ack(body) => plain_frame(numbers::ACK, body),
        ToPump::Resume(body) => plain_frame(numbers::RESUME, body),
        ToPump::TimeRequest(body) => plain_frame(numbers::TIME_REQUEST, body),
        ToPump::Unknown(number) => Err(Error::Body {
            number: *number,
            len: 0,
        }),
    }
}

/// A message from the bytes between two zeros.
///
/// # Errors
/// What is wrong with them.
pub fn decode_from_pump(between_zeros: &[u8]) -> Result<FromPump, Error> {
    let mut buffer = [0; FRAME_MAX];
    let (number, plain) = open(between_zeros, &mut buffer)?;
    if number >= FIRST_EVENT_TYPE {
        let wrong = Error::Body {
            number,
            len: plain.len(),
        };
        let (raw, tag) = plain.split_last_chunk::<TAG_LEN>().ok_or(wrong)?;
        let (raw, head) = Raw::parse(raw).map_err(|e| match e {
            event::Error::Version(v) => Error::Version(v),
            event::Error::Length { .. }
            | event::Error::NotAnEvent(_)
            | event::Error::Body(_)
            | event::Error::TooLong => wrong,
        })?;
        return Ok(FromPump::Event {
            raw,
            head,
            tag: crate::hex::Hex(*tag),
        });
    }
    let body = body_of(number, plain)?;
    let wrong = Error::Body {
        number,
        len: body.len(),
    };
    Ok(match number {
        numbers::HELLO => FromPump::Hello(wire::decode(body).ok_or(wrong)?),
        numbers::HEARTBEAT => FromPump::Heartbeat(wire::decode(body).ok_or(wrong)?),
        numbers::TIME_REPLY => FromPump::TimeReply(wire::decode(body).ok_or(wrong)?),
        numbers::MANIFEST_PART => {
            let (offset, part) = body.split_first_chunk::<2>().ok_or(wrong)?;
            let part = ManifestPart::new(u16::from_le_bytes(*offset), part).ok_or(wrong)?;
            FromPump::ManifestPart(part)
        }
        _ => FromPump::Unknown(number),
    })
}

/// A message to the pump from the bytes between two zeros.
///
/// # Errors
/// What is wrong with them.
pub fn decode_to_pump(between_zeros: &[u8]) -> Result<ToPump, Error> {
    let mut buffer = [0; FRAME_MAX];
    let (number, plain) = open(between_zeros, &mut buffer)?;
    let body = body_of(number, plain)?;
    let wrong = Error::Body {
        number,
        len: body.len(),
    };
    Ok(match number {
        numbers::ACK => ToPump::Ack(wire::decode(body).ok_or(wrong)?),
        numbers::RESUME => ToPump::Resume(wire::decode(body).ok_or(wrong)?),
        numbers::TIME_REQUEST => ToPump::TimeRequest(wire::decode(body).ok_or(wrong)?),
        _ => ToPump::Unknown(number),
    })
}

/// Takes COBS and checksum off; gives the type and everything before the checksum.
fn open<'b>(framed: &[u8], buffer: &'b mut [u8; FRAME_MAX]) -> Result<(u8, &'b [u8]), Error> {
    if framed.len() > FRAME_MAX || framed.len() < 8 {
        return Err(Error::Size(framed.len()));
    }
    let report = cobs::decode(framed, buffer).map_err(|_| Error::Cobs)?;
    let plain = buffer.get(..report.frame_size()).ok_or(Error::Cobs)?;
    let (plain, crc) = plain
        .split_last_chunk::<CRC_LEN>()
        .ok_or(Error::Size(framed.len()))?;
    let (seen, computed) = (u32::from_le_bytes(*crc), crc32c(0, plain));
    if seen != computed {
        return Err(Error::Crc { seen, computed });
    }
    match *plain {
        [PROTOCOL_VERSION, number, ..] => Ok((number, plain)),
        [other, ..] => Err(Error::Version(other)),
        [] => Err(Error::Size(framed.len())),
    }
}

fn body_of(number: u8, plain: &[u8]) -> Result<&[u8], Error> {
    match plain {
        [_, _, len, body @ ..] if body.len() == usize::from(*len) => Ok(body),
        other => Err(Error::Body {
            number,
            len: other.len(),
        }),
    }
}

fn plain_frame<T: Wire>(number: u8, body: &T) -> Result<Frame, Error> {
    let mut buffer = [0; BODY_MAX];
    let len = wire::encode(body, &mut buffer).ok_or(Error::TooLong)?;
    let body = buffer.get(..len).ok_or(Error::TooLong)?;
    let mut plain = Plain::new();
    plain.push(&[
        PROTOCOL_VERSION,
        number,
        u8::try_from(body.len()).map_err(|_| Error::TooLong)?,
    ])?;
    plain.push(body)?;
    plain.into_frame()
}

/// A frame's bytes before checksum and COBS.
struct Plain {
    bytes: [u8; PLAIN_MAX],
    len: usize,
}

impl Plain {
    fn new() -> Self {
        Self {
            bytes: [0; PLAIN_MAX],
            len: 0,
        }
    }

    fn push(&mut self, more: &[u8]) -> Result<(), Error> {
        let end = self.len + more.len();
        self.bytes
            .get_mut(self.len..end)
            .ok_or(Error::TooLong)?
            .copy_from_slice(more);
        self.len = end;
        Ok(())
    }

    fn into_frame(mut self) -> Result<Frame, Error> {
        let crc = crc32c(0, self.bytes.get(..self.len).unwrap_or(&[]));
        self.push(&crc.to_le_bytes())?;
        let mut frame = Frame {
            bytes: [0; FRAME_MAX],
            len: 0,
        };
        let plain = self.bytes.get(..self.len).unwrap_or(&[]);
        let encoded = cobs::try_encode(plain, &mut frame.bytes).map_err(|_| Error::TooLong)?;
        frame.len = encoded + 1;
        Ok(frame)
    }
}

/// Cuts a stream of bytes at its zeros. Holds at most one frame; anything longer is dropped up to
/// the next zero and counted, so endless noise costs no memory and at most one good frame.
#[derive(Clone, Debug)]
pub struct Deframer {
    buffer: [u8; FRAME_MAX],
    len: usize,
    too_long: bool,
}

impl Default for Deframer {
    fn default() -> Self {
        Self {
            buffer: [0; FRAME_MAX],
            len: 0,
            too_long: false,
        }
    }
}

/// What a zero closed.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes for a decoder.
    Bytes(&'a [u8]),
    /// More than a frame can have.
    TooLong,
}

impl Deframer {
    /// Takes one byte; gives what it closed, where it closed something.
    pub fn push(&mut self, byte: u8) -> Option<Piece<'_>> {
        if byte != 0 {
            match self.buffer.get_mut(self.len) {
                Some(room) => {
                    *room = byte;
                    self.len += 1;
                }
                None => self.too_long = true,
            }
            return None;
        }
        let (len, too_long) = (self.len, self.too_long);
        (self.len, self.too_long) = (0, false);
        match (len, too_long) {
            (_, true) => Some(Piece::TooLong),
            (0, false) => None,
            (len, false) => self.buffer.get(..len).map(Piece::Bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Ack, Resume};

    #[test]
    fn an_endless_run_of_noise_costs_one_piece_and_the_next_frame_is_good() {
        let mut deframer = Deframer::default();
        for _ in 0..10_000 {
            assert_eq!(deframer.push(0xAA), None);
        }
        assert_eq!(deframer.push(0), Some(Piece::TooLong));
        let frame = encode_to_pump(&ToPump::Ack(Ack { through_seq: 7 })).unwrap();
        let mut seen = None;
        for byte in frame.as_bytes() {
            if let Some(Piece::Bytes(bytes)) = deframer.push(*byte) {
                seen = Some(decode_to_pump(bytes));
            }
        }
        assert_eq!(seen, Some(Ok(ToPump::Ack(Ack { through_seq: 7 }))));
    }

    #[test]
    fn every_one_and_two_bit_error_of_a_frame_is_refused() {
        let message = Resume {
            last_contiguous_seq: 70_000,
            want_hello: true,
            want_manifest: false,
        };
        let frame = encode_to_pump(&ToPump::Resume(message)).unwrap();
        let good = frame.as_bytes().strip_suffix(&[0]).unwrap();
        let bits = good.len() * 8;
        for first in 0..bits {
            for second in first..bits {
                let mut bad = good.to_vec();
                bad[first / 8] ^= 1 << (first % 8);
                if second != first {
                    bad[second / 8] ^= 1 << (second % 8);
                }
                assert!(decode_to_pump(&bad).is_err(), "bits {first} and {second}");
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut plain = Plain::new();
        plain.push(&[9, numbers::ACK, 1, 0]).unwrap();
        let frame = plain.into_frame().unwrap();
        let bytes = frame.as_bytes().strip_suffix(&[0]).unwrap();
        assert_eq!(decode_to_pump(bytes), Err(Error::Version(9)));
    }
}
