//! Any bytes on the line, in both directions; and any bytes that pass the checksum.

use crc::{CRC_32_ISCSI, Crc};
use protocol::event::{Body, BolusDelivered, Head, PainScore};
use protocol::frame::{
    Deframer, Piece, decode_from_pump, decode_to_pump, encode_event, encode_from_pump,
    encode_to_pump,
};
use protocol::hex::Hex;
use protocol::message::{Ack, FromPump, Heartbeat, Resume, TimeRequest, ToPump};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// With an odd first byte the rest is what stands before the checksum; else it is the line.
pub(crate) fn body(input: &[u8]) -> bool {
    let Some((first, rest)) = input.split_first() else {
        return false;
    };
    let mut line = rest.to_vec();
    if first % 2 == 1 {
        line.extend_from_slice(&CRC.checksum(rest).to_le_bytes());
        let mut framed = vec![0; cobs::max_encoding_length(line.len())];
        let len = cobs::encode(&line, &mut framed);
        framed.truncate(len);
        line = framed;
    }
    line.push(0);
    let mut deframer = Deframer::default();
    let mut taken = false;
    for byte in line {
        if let Some(Piece::Bytes(piece)) = deframer.push(byte) {
            taken |= from_pump(piece);
            taken |= to_pump(piece);
        }
    }
    taken
}

/// What was decoded means the same after another trip.
fn from_pump(piece: &[u8]) -> bool {
    let Ok(message) = decode_from_pump(piece) else {
        return false;
    };
    if let FromPump::Unknown(number) = message {
        assert!(encode_from_pump(&message).is_err(), "{number}");
        return true;
    }
    let again = encode_from_pump(&message).expect("what was decoded fits");
    let bytes = again.as_bytes();
    let whole = &bytes[..bytes.len() - 1];
    assert!(!whole.contains(&0), "a zero inside a frame");
    assert_eq!(decode_from_pump(whole), Ok(message));
    true
}

fn to_pump(piece: &[u8]) -> bool {
    let Ok(message) = decode_to_pump(piece) else {
        return false;
    };
    if let ToPump::Unknown(number) = message {
        assert!(encode_to_pump(&message).is_err(), "{number}");
        return true;
    }
    let again = encode_to_pump(&message).expect("what was decoded fits");
    let bytes = again.as_bytes();
    assert_eq!(decode_to_pump(&bytes[..bytes.len() - 1]), Ok(message));
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let head = Head {
        boot: 3,
        seq: 18_274,
        tick_ms: 86_400_000,
    };
    let score = PainScore {
        score: 10,
        confirmed: true,
        condition: protocol::event::Condition::Rest,
        prompt_id: Some(30_007),
        answer_delay_ms: Some(4_200),
        corrects_seq: None,
    };
    let bolus = BolusDelivered {
        requested_nl: 50_000,
        delivered_nl: 49_937,
        complete: true,
    };
    let beat = Heartbeat {
        boot: 3,
        tick_ms: 1,
        last_seq: 18_274,
        infusing: true,
    };
    let resume = Resume {
        last_contiguous_seq: 70_000,
        want_hello: true,
        want_manifest: true,
    };
    let mut frames = vec![
        encode_from_pump(&FromPump::Heartbeat(beat)),
        encode_to_pump(&ToPump::Resume(resume)),
        encode_to_pump(&ToPump::Ack(Ack { through_seq: 9 })),
        encode_to_pump(&ToPump::TimeRequest(TimeRequest { id: 7 })),
    ];
    for event in [Body::from(score), Body::from(bolus)] {
        let raw = event.encode(head).expect("fits");
        frames.push(encode_event(&raw, &Hex([0x5a; 16])));
    }
    let mut seeds = Vec::new();
    let mut line = vec![0];
    for frame in frames {
        let frame = frame.expect("fits");
        line.extend_from_slice(frame.as_bytes());
        let whole = &frame.as_bytes()[..frame.as_bytes().len() - 1];
        let mut plain = vec![0; whole.len()];
        let report = cobs::decode(whole, &mut plain).expect("our own");
        let mut inside = vec![1];
        inside.extend_from_slice(&plain[..report.frame_size() - 4]);
        seeds.push(inside);
    }
    seeds.push(line);
    seeds
}
