//! Threat S12: any amount of noise costs no memory, and the next good frame is taken.

use protocol::event::{Body, Delivered, Head};
use protocol::frame::{Deframer, FRAME_MAX, Piece, decode_from_pump, encode_event};
use protocol::hex::Hex;
use protocol::message::FromPump;

const GIB: usize = 1 << 30;
const BLOCK: usize = 1 << 16;

/// Pages of memory that this process holds.
fn resident_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let second = text.split(' ').nth(1);
    second.and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn noise(seed: u64, zeros: bool) -> Vec<u8> {
    let mut z = seed;
    let mut block = vec![0; BLOCK];
    for byte in &mut block {
        z ^= z << 13;
        z ^= z >> 7;
        z ^= z << 17;
        let [low, ..] = z.to_le_bytes();
        *byte = if zeros { low } else { low.max(1) };
    }
    block
}

/// Frames that are events, and pieces of any kind.
fn read(deframer: &mut Deframer, bytes: &[u8]) -> (u64, u64) {
    let (mut events, mut pieces) = (0, 0);
    for byte in bytes {
        let Some(piece) = deframer.push(*byte) else {
            continue;
        };
        pieces += 1;
        if let Piece::Bytes(bytes) = piece
            && matches!(decode_from_pump(bytes), Ok(FromPump::Event { .. }))
        {
            events += 1;
        }
    }
    (events, pieces)
}

#[test]
fn a_gibibyte_of_noise_leaves_the_memory_flat_and_the_next_frame_is_taken() {
    let count = Body::from(Delivered {
        delivered_nl: 40_031_950,
        programmed_nl: 40_032_000,
        strokes: 800_639,
        encoder_counts: 12_810_224,
    });
    let head = Head {
        boot: 3,
        seq: 18_274,
        tick_ms: 86_400_123,
    };
    let raw = count.encode(head).unwrap();
    let frame = encode_event(&raw, &Hex([7; 16])).unwrap();
    assert!(
        size_of::<Deframer>() <= FRAME_MAX + 32,
        "one buffer, and it does not grow"
    );
    let mut deframer = Deframer::default();
    // Half of it with zeros, in which every piece ends soon; half of it one endless frame.
    let blocks: Vec<_> = (1..=32u64)
        .map(|seed| noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), seed % 2 == 0))
        .collect();
    let (mut pieces, before) = (0, resident_pages());
    for block in blocks.iter().cycle().take(GIB / BLOCK) {
        let (events, more) = read(&mut deframer, block);
        assert_eq!(events, 0);
        pieces += more;
    }
    let after = resident_pages();
    assert!(after < before + 256, "{before} pages, then {after}");
    assert!(pieces > 1_000_000, "{pieces}");
    // What noise began is lost with it, at most one frame; then every frame is taken.
    let (first, _) = read(&mut deframer, frame.as_bytes());
    let (second, _) = read(&mut deframer, frame.as_bytes());
    assert!(first <= 1);
    assert_eq!(second, 1);
}
