//! Damage on the line is refused: every error of one and two bits and every burst of up to 16 bits
//! of an event's frame.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod examples;

use examples::{HEAD, facts};
use protocol::frame::{decode_from_pump, encode_event};
use protocol::hex::{Hex, Tag};
use protocol::message::FromPump;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The frame of a `delivered` event, without its closing zero.
fn delivered_frame() -> (Vec<u8>, FromPump) {
    let (_, fact) = facts()
        .into_iter()
        .find(|(name, _)| *name == "delivered")
        .unwrap();
    let raw = fact.encode(HEAD).unwrap();
    let tag: Tag = Hex(core::array::from_fn(|i| u8::try_from(i * 11).unwrap()));
    let frame = encode_event(&raw, &tag).unwrap();
    let bytes = frame.as_bytes().strip_suffix(&[0]).unwrap().to_vec();
    let message = FromPump::Event {
        raw,
        head: HEAD,
        tag,
    };
    assert_eq!(decode_from_pump(&bytes), Ok(message.clone()));
    (bytes, message)
}

/// Whether a reader of the line takes anything from these bytes and the zero behind them. Damage
/// may make a zero, and then there are two pieces.
fn anything_taken(bytes: &[u8]) -> bool {
    bytes
        .split(|byte| *byte == 0)
        .any(|piece| decode_from_pump(piece).is_ok())
}

#[test]
fn every_one_and_two_bit_error_of_an_event_is_refused() {
    let (good, _) = delivered_frame();
    let mut bad = good.clone();
    let bits = good.len() * 8;
    let flip = |bad: &mut Vec<u8>, bit: usize| bad[bit / 8] ^= 1 << (bit % 8);
    for first in 0..bits {
        flip(&mut bad, first);
        assert!(!anything_taken(&bad), "bit {first}");
        for second in first + 1..bits {
            flip(&mut bad, second);
            assert!(!anything_taken(&bad), "bits {first} and {second}");
            flip(&mut bad, second);
        }
        flip(&mut bad, first);
    }
    assert_eq!(bad, good);
}

/// CRC-32C of each byte, for [`a_second_reader_takes`].
fn crc_table() -> [u32; 256] {
    core::array::from_fn(|byte| {
        (0..8).fold(u32::try_from(byte).unwrap(), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
        })
    })
}

/// Whether the checksum of a piece holds, as a reader sees it that shares nothing with ours and is
/// quick enough for millions of pieces. It takes more than ours does: it looks at nothing else.
#[expect(clippy::indexing_slicing, reason = "a frame has fewer than 256 bytes")]
fn a_second_reader_takes(table: &[u32; 256], piece: &[u8]) -> bool {
    let mut plain = [0u8; 256];
    let mut len = 0;
    let mut rest = piece;
    while let Some((code, after)) = rest.split_first() {
        let run = usize::from(*code).saturating_sub(1);
        let (Some(data), true) = (after.get(..run), *code != 0) else {
            return false;
        };
        plain[len..len + run].copy_from_slice(data);
        len += run;
        rest = &after[run..];
        if !rest.is_empty() {
            plain[len] = 0;
            len += 1;
        }
    }
    let Some((plain, seen)) = plain[..len].split_last_chunk::<4>() else {
        return false;
    };
    let crc = plain.iter().fold(u32::MAX, |crc, byte| {
        (crc >> 8) ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)]
    });
    crc ^ u32::MAX == u32::from_le_bytes(*seen)
}

#[test]
fn every_burst_of_up_to_16_bits_in_an_event_is_refused() {
    let (good, _) = delivered_frame();
    let table = crc_table();
    assert!(a_second_reader_takes(&table, &good));
    let bits = good.len() * 8;
    let mut tried = 0u64;
    let mut bad = good.clone();
    // A burst begins with a wrong bit; the 15 after it are right or wrong in every combination.
    for first in 0..bits {
        let (byte, shift) = (first / 8, first % 8);
        for rest in 0..1u32 << 15 {
            let burst = rest << 1 | 1;
            if first + 16 > bits && burst >> (bits - first) != 0 {
                continue;
            }
            let wrong = (burst << shift).to_le_bytes();
            let flip = |bad: &mut Vec<u8>| {
                for (place, wrong) in bad.iter_mut().skip(byte).zip(wrong) {
                    *place ^= wrong;
                }
            };
            flip(&mut bad);
            tried += 1;
            // Our own decoder is slow where tests are not optimized: it sees each that the second
            // reader takes, and one in 61 of the others.
            let mut pieces = bad.split(|byte| *byte == 0);
            let ours = pieces.any(|piece| a_second_reader_takes(&table, piece))
                || tried.is_multiple_of(61);
            if ours {
                assert!(!anything_taken(&bad), "burst {burst:#x} at bit {first}");
            }
            flip(&mut bad);
        }
    }
    assert_eq!(bad, good);
    // 2^15 from each bit but the last 15, which have room for fewer.
    let all = u64::try_from(bits - 15).unwrap() << 15;
    assert_eq!(tried, all + (1 << 15) - 1);
}

#[test]
fn the_second_reader_agrees_with_ours_on_damaged_frames() {
    let (good, _) = delivered_frame();
    let table = crc_table();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.random_range(0..3) {
            let place = rng.random_range(0..bytes.len());
            bytes[place] = rng.random_range(1..=255);
        }
        let ours = decode_from_pump(&bytes).is_ok();
        assert_eq!(ours, a_second_reader_takes(&table, &bytes), "{bytes:02x?}");
    }
}
