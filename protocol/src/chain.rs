//! What makes a record provable: a hash chain over the events' bytes, a tag on each by a key that
//! is replaced and forgotten, and signed checkpoints.
//!
//! h₀ = SHA-256(manifest); hₙ = SHA-256(hₙ₋₁ ‖ rawₙ); tagₙ = HMAC-SHA256(K, hₙ) cut to 16 bytes.
//! K₀ = HKDF-SHA256(K_pump, salt h₀); at each start and after each checkpoint K ← HMAC(K, "next")
//! and the old key is erased, so a stolen key cannot rewrite what came before it. A checkpoint
//! carries the head under an Ed25519 signature: whoever holds the public key can check, and only
//! the pump can have made it.

use crate::event::{Body, Checkpoint, Head, Raw, decode};
use crate::hex::{Digest, Hex, PublicKey, Signature, Tag};
use ed25519_dalek::{Signature as DalekSignature, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

/// The state of a chain after some event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead(pub Digest);

impl ChainHead {
    /// h₀, of the bytes that open a trial.
    pub fn genesis(manifest: &[u8]) -> Self {
        Self(Hex(Sha256::digest(manifest).into()))
    }

    /// The head after one more event.
    #[must_use]
    pub fn after(&self, raw: &Raw) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0.0);
        hash.update(raw.as_bytes());
        Self(Hex(hash.finalize().into()))
    }
}

/// A key of the ratchet. Overwritten when dropped.
#[derive(Clone)]
pub struct TagKey([u8; 32]);

impl core::fmt::Debug for TagKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TagKey(..)")
    }
}

impl Drop for TagKey {
    fn drop(&mut self) {
        self.0.fill(0);
        core::hint::black_box(&self.0);
    }
}

impl TagKey {
    /// K₀ of a trial.
    pub fn of_trial(secret: &[u8; 32], genesis: &ChainHead) -> Self {
        let mut key = [0; 32];
        let derived =
            Hkdf::<Sha256>::new(Some(&genesis.0.0), secret).expand(b"thecal tag", &mut key);
        derived.expect("32 bytes are within what HKDF-SHA256 can give");
        Self(key)
    }

    /// From bytes that were kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be kept where only the pump can read.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn mac(&self, message: &[u8]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    /// The key that follows; this one is then to be forgotten.
    #[must_use]
    pub fn next(&self) -> Self {
        Self(self.mac(b"next"))
    }

    /// The tag of the event that led to `head`.
    pub fn tag(&self, head: &ChainHead) -> Tag {
        let full = self.mac(&head.0.0);
        let mut tag = [0; 16];
        tag.copy_from_slice(full.first_chunk::<16>().expect("32 bytes begin with 16"));
        Hex(tag)
    }
}

/// Bytes of the message that a checkpoint's signature is over.
pub const CHECKPOINT_MESSAGE_LEN: usize = CHECKPOINT_MESSAGE_V1_LEN + 8;
const CHECKPOINT_MESSAGE_V1_LEN: usize = 24 + 32 + 4 + 8 + 8 + 4 + 32;

/// The message that a checkpoint's signature is over: a fixed label, h₀, boot and tick of the
/// checkpoint's own event, the last covered seq, the count, the key's index, the head; integers
/// little-endian. With the chain before it, it covers every byte of its event but the signature.
pub fn checkpoint_message(
    genesis: &ChainHead,
    boot: u32,
    tick_ms: u64,
    through_seq: u64,
    count: u64,
    key_index: u32,
    head: &ChainHead,
) -> [u8; CHECKPOINT_MESSAGE_LEN] {
    joined(&[
        b"thecal checkpoint v2\0\0\0\0",
        &genesis.0.0,
        &boot.to_le_bytes(),
        &tick_ms.to_le_bytes(),
        &through_seq.to_le_bytes(),
        &count.to_le_bytes(),
        &key_index.to_le_bytes(),
        &head.0.0,
    ])
}

/// The first form of that message, without the tick. Records of pumps that signed it are still
/// read; nothing signs it any more.
fn checkpoint_message_v1(
    genesis: &ChainHead,
    boot: u32,
    seen: &Checkpoint,
) -> [u8; CHECKPOINT_MESSAGE_V1_LEN] {
    joined(&[
        b"thecal checkpoint v1\0\0\0\0",
        &genesis.0.0,
        &boot.to_le_bytes(),
        &seen.through_seq.to_le_bytes(),
        &seen.count.to_le_bytes(),
        &seen.key_index.to_le_bytes(),
        &seen.head.0,
    ])
}

/// Parts whose lengths add up to `N`.
fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let bytes = parts.iter().flat_map(|part| part.iter());
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

/// Whether a checkpoint at this place is signed with the secret half of `key`.
pub fn checkpoint_holds(
    genesis: &ChainHead,
    key: &PublicKey,
    at: &Head,
    seen: &Checkpoint,
) -> bool {
    let message = checkpoint_message(
        genesis,
        at.boot,
        at.tick_ms,
        seen.through_seq,
        seen.count,
        seen.key_index,
        &ChainHead(seen.head),
    );
    signature_holds(key, &message, &seen.signature)
        || signature_holds(
            key,
            &checkpoint_message_v1(genesis, at.boot, seen),
            &seen.signature,
        )
}

/// Whether `signature` over `message` was made with the secret half of `key`.
pub fn signature_holds(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| {
        key.verify_strict(message, &DalekSignature::from_bytes(&signature.0))
            .is_ok()
    })
}

/// What a chain's check says of one event, first thing wrong first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Holds so far.
    Good,
    /// A checkpoint whose head and signature hold: everything up to it is proven.
    Proven,
    /// After a hole: present, not proven, until the next checkpoint.
    NotProven,
    /// Missing events before this one. Without the tag secret this takes back every
    /// [`Finding::Good`] since the last [`Finding::Proven`]: the head that those led to is nowhere
    /// compared with a signed one any more.
    Hole {
        /// First missing seq.
        from_seq: u64,
        /// Last missing seq.
        to_seq: u64,
    },
    /// Altered, forged, or of another chain.
    Broken(Broken),
}

/// In what way an event breaks the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A checkpoint's head is not that of the events before it.
    #[error("an event since the last checkpoint was altered: the checkpoint's head differs")]
    Head,
    /// A checkpoint's count is not that of the events before it.
    #[error("the checkpoint counts other events than there are")]
    Count,
    /// A checkpoint's signature is not by the trial's key.
    #[error("the checkpoint's signature is not by this key")]
    Signature,
    /// The tag is not by the pump's key.
    #[error("the tag is not by this pump's key")]
    Tag,
    /// Seq or boot goes backwards.
    #[error("seq or boot goes backwards")]
    Order,
    /// The bytes are no event.
    #[error("the bytes are no event")]
    Bytes,
    /// Something follows the closing checkpoint.
    #[error("an event follows the closing checkpoint")]
    AfterClose,
}

/// Checks a chain event by event, in order of seq. Pure: needs the manifest's bytes and a public
/// key, and with the pump's secret also checks every tag.
#[derive(Clone, Debug)]
pub struct ChainCheck {
    genesis: ChainHead,
    key: PublicKey,
    head: Option<ChainHead>,
    tag_key: Option<(TagKey, u32)>,
    tags_known: bool,
    last: Option<Head>,
    closing: bool,
    closed: bool,
    /// Checkpoints that held.
    pub checkpoints: u64,
    /// The last seq that a good checkpoint covers, itself included.
    pub proven_through: u64,
    /// Events that are here and that nothing proves: around each hole, from the checkpoint before it
    /// (with the tag secret, from the hole) to the one after it.
    pub not_proven: u64,
    since_checkpoint: u64,
}

impl ChainCheck {
    /// `secret` is the pump's tag secret, where the checker holds it.
    pub fn new(manifest: &[u8], key: PublicKey, secret: Option<&[u8; 32]>) -> Self {
        let genesis = ChainHead::genesis(manifest);
        Self {
            genesis,
            key,
            head: Some(genesis),
            tag_key: secret.map(|s| (TagKey::of_trial(s, &genesis), 0)),
            tags_known: secret.is_some(),
            last: None,
            closing: false,
            closed: false,
            checkpoints: 0,
            proven_through: 0,
            not_proven: 0,
            since_checkpoint: 0,
        }
    }

    /// The head after the last event, where it is known.
    pub fn head(&self) -> Option<ChainHead> {
        self.head
    }

    /// Whether the closing checkpoint was seen and held.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// The next event. A hole before it is found by its seq and given first; call again with the
    /// same event until no [`Finding::Hole`] comes.
    pub fn next(&mut self, raw: &Raw, tag: &Tag) -> Finding {
        let Ok((head, body)) = decode(raw) else {
            return Finding::Broken(Broken::Bytes);
        };
        let (last_seq, last_boot) = self.last.map_or((0, 0), |h| (h.seq, h.boot));
        if head.seq <= last_seq || head.boot < last_boot || head.boot == 0 {
            return Finding::Broken(Broken::Order);
        }
        if self.closed {
            return Finding::Broken(Broken::AfterClose);
        }
        if head.seq > last_seq + 1 {
            self.head = None;
            if !self.tags_known {
                self.not_proven += self.since_checkpoint;
            }
            self.since_checkpoint = 0;
            // The seqs are accounted for; the boot stays that of the last event seen.
            self.last = Some(Head {
                boot: last_boot,
                seq: head.seq - 1,
                tick_ms: 0,
            });
            return Finding::Hole {
                from_seq: last_seq + 1,
                to_seq: head.seq - 1,
            };
        }
        self.ratchet_to_boot(last_boot, head.boot);
        self.last = Some(head);
        if let Body::Checkpoint(checkpoint) = body {
            return self.at_checkpoint(raw, tag, head, &checkpoint);
        }
        self.closing |= matches!(body, Body::TrialClosed(_));
        let Some(before) = self.head else {
            self.not_proven += 1;
            return Finding::NotProven;
        };
        self.since_checkpoint += 1;
        let after = before.after(raw);
        self.head = Some(after);
        if self.tag_holds(&after, tag) {
            Finding::Good
        } else {
            Finding::Broken(Broken::Tag)
        }
    }

    fn at_checkpoint(&mut self, raw: &Raw, tag: &Tag, at: Head, seen: &Checkpoint) -> Finding {
        let head = ChainHead(seen.head);
        let broken = if !checkpoint_holds(&self.genesis, &self.key, &at, seen) {
            Some(Broken::Signature)
        } else if self.head.is_some_and(|h| h != head) {
            Some(Broken::Head)
        } else if seen.through_seq.checked_add(1) != Some(at.seq) || seen.count != seen.through_seq
        {
            Some(Broken::Count)
        } else {
            None
        };
        let after = head.after(raw);
        self.head = Some(after);
        self.resync_key(seen.key_index);
        let tag_holds = self.tag_holds(&after, tag);
        if let Some((key, index)) = self.tag_key.take() {
            self.tag_key = Some((key.next(), index + 1));
        }
        if let Some(broken) = broken {
            return Finding::Broken(broken);
        }
        if !tag_holds {
            return Finding::Broken(Broken::Tag);
        }
        self.checkpoints += 1;
        self.since_checkpoint = 0;
        self.proven_through = at.seq;
        self.closed = self.closing;
        Finding::Proven
    }

    fn tag_holds(&self, head: &ChainHead, tag: &Tag) -> bool {
        !self.tags_known
            || self
                .tag_key
                .as_ref()
                .is_some_and(|(key, _)| key.tag(head) == *tag)
    }

    /// Every start replaces the key once.
    fn ratchet_to_boot(&mut self, from: u32, to: u32) {
        for _ in from..to.min(from.saturating_add(100_000)) {
            if let Some((key, index)) = self.tag_key.take() {
                self.tag_key = Some((key.next(), index + 1));
            }
        }
    }

    /// After a hole the ratchet may have turned unseen: the checkpoint says how far.
    fn resync_key(&mut self, index: u32) {
        while let Some((key, at)) = self.tag_key.take() {
            if at >= index || index - at > 1_000_000 {
                self.tag_key = Some((key, at));
                return;
            }
            self.tag_key = Some((key.next(), at + 1));
        }
    }
}
