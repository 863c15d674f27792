//! Fixed-size bytes that are lower hex in text and plain bytes on the wire.

use crate::wire::{Reader, Wire, Writer};
use core::fmt;
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `N` bytes. JSON and text show lower hex; on the wire they are the bytes themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// A SHA-256 digest.
pub type Digest = Hex<32>;
/// An event's authentication tag: HMAC-SHA256 cut to 16 bytes.
pub type Tag = Hex<16>;
/// An Ed25519 signature.
pub type Signature = Hex<64>;
/// An Ed25519 public key.
pub type PublicKey = Hex<32>;

impl<const N: usize> Hex<N> {
    /// From lower or upper hex digits; `None` for another length or another character.
    pub fn parse(text: &str) -> Option<Self> {
        let mut out = [0; N];
        decode_into(text, &mut out).then_some(Self(out))
    }
}

fn digit(c: u8) -> Option<u8> {
    char::from(c)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

fn decode_into(text: &str, out: &mut [u8]) -> bool {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != out.len() {
        return false;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        match (digit(*high), digit(*low)) {
            (Some(h), Some(l)) => *byte = h << 4 | l,
            _ => return false,
        }
    }
    true
}

impl<const N: usize> Default for Hex<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Wire for Hex<N> {
    fn put(&self, to: &mut Writer<'_>) {
        to.bytes(&self.0);
    }
    fn take(from: &mut Reader<'_>) -> Self {
        let mut bytes = [0; N];
        from.fill(&mut bytes);
        Self(bytes)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in &self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = Hex<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes in hex")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hex<N>, E> {
                Hex::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hex<N>, A::Error> {
                let mut out = [0; N];
                for (i, byte) in out.iter_mut().enumerate() {
                    *byte = seq
                        .next_element()?
                        .ok_or_else(|| de::Error::invalid_length(i, &self))?;
                }
                Ok(Hex(out))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Bytes::<N>)
        } else {
            deserializer.deserialize_tuple(N, Bytes::<N>)
        }
    }
}

/// Bytes of any length as lower hex, for JSON.
#[cfg(feature = "host")]
pub mod vec {
    use super::decode_into;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Write;

    /// Lower hex of `bytes`.
    pub fn encode(bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len() * 2);
        for b in bytes {
            let _ = write!(out, "{b:02x}");
        }
        out
    }

    /// The bytes, or `None` where `text` is not hex.
    pub fn decode(text: &str) -> Option<Vec<u8>> {
        let mut out = vec![0; text.len() / 2];
        decode_into(text, &mut out).then_some(out)
    }

    /// For `#[serde(with = "hex::vec")]`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(bytes))
    }

    /// For `#[serde(with = "hex::vec")]`.
    ///
    /// # Errors
    /// Where the text is not hex.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text).ok_or_else(|| D::Error::custom("not an even number of hex digits"))
    }
}
