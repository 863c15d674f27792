//! Every shape of frame, and errors of the line in them: all of one and two bits, all bursts of up
//! to 16 bits. The lane `line-errors` tries everything; a test run what it has the time for.

use crate::examples::{HEAD, facts};
use protocol::bedside::Fact;
use protocol::event::Head;
use protocol::frame::{
    decode_from_pump, decode_to_pump, encode_event, encode_from_pump, encode_to_pump,
};
use protocol::hex::Hex;
use protocol::message::{
    Ack, FromPump, Heartbeat, Hello, ManifestPart, PART_MAX, Resume, Source, TimeReply,
    TimeRequest, ToPump,
};

/// A burst is at most so long.
pub(crate) const BURST_BITS: u32 = 16;
/// Our own decoder sees each frame that the second reader takes, and one in so many of the others:
/// it is slow where tests are not optimized.
const OURS_ONE_IN: u64 = 499;

/// A frame as it is on the line, without its closing zero.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// What stands in the frames where their shape does not say it.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// Start, number and tick.
    pub(crate) head: Head,
    /// The last number of the journal; of a question, its lower half.
    pub(crate) number: u64,
    pub(crate) tag: [u8; 16],
    /// Keys and digests.
    pub(crate) key: [u8; 32],
    /// A part of a manifest.
    pub(crate) text: [u8; PART_MAX],
}

impl Contents {
    /// The same ones always.
    pub(crate) fn plain() -> Self {
        let byte = |i: usize| u8::try_from(i).expect("small");
        Self {
            head: HEAD,
            number: 18_274,
            tag: core::array::from_fn(|i| byte(i * 11)),
            key: [0xab; 32],
            text: core::array::from_fn(byte),
        }
    }
}

/// Every message of both directions, and every event of a pump.
pub(crate) fn shapes() -> Vec<Shape> {
    shapes_of(&Contents::plain())
}

/// The same with other contents.
pub(crate) fn shapes_of(with: &Contents) -> Vec<Shape> {
    let id = u32::try_from(with.number & 0xffff_ffff).expect("its lower half");
    let mut shapes = Vec::new();
    let mut add = |name: &str, frame: &[u8]| {
        let bytes = frame
            .strip_suffix(&[0])
            .expect("a frame ends with a zero")
            .to_vec();
        assert!(anything_taken(&bytes), "{name} itself is taken");
        let name = name.to_owned();
        shapes.push(Shape { name, bytes });
    };
    let tag = Hex(with.tag);
    for (name, fact) in facts() {
        if let Fact::Pump(_) = fact {
            let raw = fact.encode(with.head).expect("fits");
            add(name, encode_event(&raw, &tag).expect("fits").as_bytes());
        }
    }
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        source: Source::new("EP-0193").expect("a name"),
        boot: with.head.boot,
        manifest: Hex(with.key),
        manifest_len: 1_033,
        key: Hex(with.key.map(|byte| byte ^ 0x66)),
        simulated: false,
    };
    let beat = Heartbeat {
        boot: with.head.boot,
        tick_ms: with.head.tick_ms,
        last_seq: with.number,
        infusing: true,
    };
    let reply = TimeReply {
        id,
        boot: with.head.boot,
        received_tick_ms: with.head.tick_ms,
        sent_tick_ms: with.head.tick_ms + 2,
    };
    let part = ManifestPart::new(256, &with.text).expect("fits");
    for (name, message) in [
        ("hello", FromPump::Hello(hello)),
        ("heartbeat", FromPump::Heartbeat(beat)),
        ("time_reply", FromPump::TimeReply(reply)),
        ("manifest_part", FromPump::ManifestPart(part)),
    ] {
        add(name, encode_from_pump(&message).expect("fits").as_bytes());
    }
    let resume = Resume {
        last_contiguous_seq: with.head.seq,
        want_hello: true,
        want_manifest: false,
    };
    let ack = Ack {
        through_seq: with.number,
    };
    for (name, message) in [
        ("ack", ToPump::Ack(ack)),
        ("resume", ToPump::Resume(resume)),
        ("time_request", ToPump::TimeRequest(TimeRequest { id })),
    ] {
        add(name, encode_to_pump(&message).expect("fits").as_bytes());
    }
    shapes
}

/// Whether a reader of the line takes anything from these bytes and the zero behind them, in either
/// direction. Damage may make a zero, and then there are two pieces.
pub(crate) fn anything_taken(bytes: &[u8]) -> bool {
    let mut pieces = bytes.split(|byte| *byte == 0);
    pieces.any(|piece| decode_from_pump(piece).is_ok() || decode_to_pump(piece).is_ok())
}

/// A reader that shares nothing with ours and is quick enough for millions of pieces. It takes more
/// than ours does: it looks at the checksum and at nothing else.
pub(crate) struct SecondReader {
    table: [u32; 256],
    /// What is left of any bytes with their checksum behind them.
    residue: u32,
    tried: u64,
}

/// What it knows within a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within {
    crc: u32,
    plain: u32,
    /// Bytes up to the next code.
    run: u8,
    begun: bool,
}

impl Within {
    const START: Self = Self {
        crc: u32::MAX,
        plain: 0,
        run: 0,
        begun: false,
    };
}

impl SecondReader {
    pub(crate) fn new() -> Self {
        let table = core::array::from_fn(|byte| {
            (0..8).fold(u32::try_from(byte).expect("a byte"), |crc, _| {
                (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
            })
        });
        let mut reader = Self {
            table,
            residue: 0,
            tried: 0,
        };
        // The checksum of nothing is zero.
        let nothing = (0..4).fold(Within::START, |now, _| reader.plain(now, 0));
        reader.residue = nothing.crc;
        reader
    }

    #[expect(clippy::indexing_slicing, reason = "one of 256")]
    fn plain(&self, mut now: Within, byte: u8) -> Within {
        let [low, ..] = now.crc.to_le_bytes();
        now.crc = (now.crc >> 8) ^ self.table[usize::from(low ^ byte)];
        now.plain += 1;
        now
    }

    /// The next byte, which is not zero.
    fn next(&self, mut now: Within, byte: u8) -> Within {
        if now.run > 0 {
            now.run -= 1;
            return self.plain(now, byte);
        }
        if now.begun {
            now = self.plain(now, 0);
        }
        now.begun = true;
        now.run = byte - 1;
        now
    }

    /// Whether the piece may end here.
    fn holds(&self, now: Within) -> bool {
        now.run == 0 && now.plain >= 4 && now.crc == self.residue
    }

    /// Whether the checksum of any piece of the rest holds.
    fn takes_after(&self, mut now: Within, rest: &[u8]) -> bool {
        for byte in rest {
            if *byte != 0 {
                now = self.next(now, *byte);
            } else if self.holds(now) {
                return true;
            } else {
                now = Within::START;
            }
        }
        self.holds(now)
    }

    /// Whether the checksum of any piece of these bytes holds.
    pub(crate) fn takes(&self, bytes: &[u8]) -> bool {
        self.takes_after(Within::START, bytes)
    }

    /// What it knows of a frame before each byte and at its end.
    pub(crate) fn read(&self, bytes: &[u8]) -> Vec<Within> {
        let mut known = vec![Within::START];
        let mut now = Within::START;
        for byte in bytes {
            now = self.next(now, *byte);
            known.push(now);
        }
        known
    }

    /// Whether it takes a good frame that is damaged from one byte to before another. `good` is what
    /// it read of the undamaged one.
    pub(crate) fn takes_damaged(
        &self,
        good: &[Within],
        bytes: &[u8],
        from: usize,
        to: usize,
    ) -> bool {
        let (Some(before), Some(after)) = (good.get(from), good.get(to)) else {
            return self.takes(bytes);
        };
        let mut now = *before;
        for byte in bytes.get(from..to).unwrap_or_default() {
            if *byte == 0 {
                return self.takes_after(*before, bytes.get(from..).unwrap_or_default());
            }
            now = self.next(now, *byte);
        }
        // From the same place on the same bytes follow, and each makes of two registers that differ
        // two that differ: only the register of the good frame ends as that one does.
        if (Within {
            crc: after.crc,
            ..now
        }) == *after
        {
            return now.crc == after.crc;
        }
        self.takes_after(now, bytes.get(to..).unwrap_or_default())
    }

    /// Whether damaged bytes are taken, of which this one says so. Ours is asked of one in so many.
    fn and_ours(&mut self, taken: bool, bytes: &[u8]) -> bool {
        self.tried += 1;
        (taken || self.tried.is_multiple_of(OURS_ONE_IN)) && anything_taken(bytes)
    }
}

/// What was tried of a shape, and what was taken though it was damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) errors: u64,
    pub(crate) taken: Vec<String>,
}

/// All errors of one and two bits.
#[expect(clippy::indexing_slicing, reason = "bits of these bytes")]
pub(crate) fn one_and_two_bits(shape: &Shape) -> Tried {
    let mut reader = SecondReader::new();
    let mut tried = Tried::default();
    let mut bad = shape.bytes.clone();
    let bits = bad.len() * 8;
    for first in 0..bits {
        bad[first / 8] ^= 1 << (first % 8);
        tried.errors += 1;
        if reader.and_ours(reader.takes(&bad), &bad) {
            tried.taken.push(format!("{}: bit {first}", shape.name));
        }
        for second in first + 1..bits {
            bad[second / 8] ^= 1 << (second % 8);
            tried.errors += 1;
            if reader.and_ours(reader.takes(&bad), &bad) {
                let what = format!("{}: bits {first} and {second}", shape.name);
                tried.taken.push(what);
            }
            bad[second / 8] ^= 1 << (second % 8);
        }
        bad[first / 8] ^= 1 << (first % 8);
    }
    assert_eq!(bad, shape.bytes);
    tried
}

/// All bursts: a wrong bit, and the 15 after it right or wrong in every combination.
pub(crate) fn bursts(shape: &Shape) -> Tried {
    let mut reader = SecondReader::new();
    let mut tried = Tried::default();
    let mut bad = shape.bytes.clone();
    let bits = bad.len() * 8;
    let long = usize::try_from(BURST_BITS).expect("small");
    let good = reader.read(&bad);
    for first in 0..bits {
        let (byte, shift) = (first / 8, first % 8);
        let end = (byte + 3).min(bad.len());
        for rest in 0..1u32 << (BURST_BITS - 1) {
            let burst = rest << 1 | 1;
            if first + long > bits && burst >> (bits - first) != 0 {
                continue;
            }
            let wrong = (burst << shift).to_le_bytes();
            let flip = |bad: &mut Vec<u8>| {
                for (place, wrong) in bad.iter_mut().skip(byte).zip(wrong) {
                    *place ^= wrong;
                }
            };
            flip(&mut bad);
            tried.errors += 1;
            let taken = reader.takes_damaged(&good, &bad, byte, end);
            if reader.and_ours(taken, &bad) {
                let what = format!("{}: burst {burst:#x} at bit {first}", shape.name);
                tried.taken.push(what);
            }
            flip(&mut bad);
        }
    }
    assert_eq!(bad, shape.bytes);
    tried
}
