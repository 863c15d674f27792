//! Damage on the line is refused: every error of one and two bits in every shape of frame, and every
//! burst of up to 16 bits in the short ones and in an event. All bursts in all shapes are the lane
//! `cargo run --release -p evidence -- line-errors`.

mod errors;
mod examples;

use errors::{BURST_BITS, SecondReader, anything_taken, bursts, one_and_two_bits, shapes};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bursts of these are tried in a test run.
const WITH_BURSTS: [&str; 4] = ["delivered", "heartbeat", "ack", "resume"];

#[test]
fn every_one_and_two_bit_error_of_every_frame_shape_is_refused() {
    let shapes = shapes();
    assert!(shapes.len() >= 27, "{} shapes", shapes.len());
    for shape in &shapes {
        let tried = one_and_two_bits(shape);
        assert_eq!(tried.taken, Vec::<String>::new());
        let bits = u64::try_from(shape.bytes.len()).unwrap() * 8;
        assert_eq!(tried.errors, bits + bits * (bits - 1) / 2);
    }
}

#[test]
fn every_burst_of_up_to_16_bits_is_refused() {
    let all = shapes();
    for name in WITH_BURSTS {
        let shape = all.iter().find(|shape| shape.name == name).unwrap();
        let tried = bursts(shape);
        assert_eq!(tried.taken, Vec::<String>::new());
        // 2^15 from each bit but the last 15, which have room for fewer.
        let bits = u64::try_from(shape.bytes.len()).unwrap() * 8;
        let most = 1 << (BURST_BITS - 1);
        assert_eq!(tried.errors, (bits - 15) * most + most - 1, "{name}");
    }
}

#[test]
fn the_second_reader_agrees_with_ours_on_damaged_frames() {
    let reader = SecondReader::new();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for shape in shapes() {
        assert!(reader.takes(&shape.bytes), "{}", shape.name);
        for _ in 0..1_000 {
            let mut bytes = shape.bytes.clone();
            for _ in 0..rng.random_range(0..3) {
                let place = rng.random_range(0..bytes.len());
                bytes[place] = rng.random_range(1..=255);
            }
            assert_eq!(anything_taken(&bytes), reader.takes(&bytes), "{bytes:02x?}");
        }
    }
}

#[test]
fn what_the_second_reader_knows_of_the_good_frame_changes_no_answer() {
    let reader = SecondReader::new();
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let mut taken = 0;
    for shape in shapes() {
        let good = reader.read(&shape.bytes);
        for _ in 0..1_000 {
            let from = rng.random_range(0..shape.bytes.len());
            let to = (from + 3).min(shape.bytes.len());
            let mut bytes = shape.bytes.clone();
            for byte in &mut bytes[from..to] {
                // Often the same byte, sometimes a zero.
                *byte &= [0, 0xff, 0xff, 0xff, rng.random()][rng.random_range(0..5)];
            }
            let quick = reader.takes_damaged(&good, &bytes, from, to);
            assert_eq!(quick, reader.takes(&bytes), "{bytes:02x?}");
            taken += u32::from(quick);
        }
        // All of it changed, into itself.
        assert!(reader.takes_damaged(&good, &shape.bytes, 0, shape.bytes.len()));
    }
    assert!(taken > 1_000, "{taken}");
}
