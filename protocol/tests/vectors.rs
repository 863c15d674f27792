//! The bytes of one example of each message and event, kept for ever in `vectors.txt`: a change
//! of any of them is another protocol version. `vectors_check.py` computes the same bytes from the
//! same values with nothing of ours.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "helpers of tests"
)]

mod examples;

use examples::{HEAD, facts};
use protocol::bedside::Fact;
use protocol::chain::{
    ChainCheck, ChainHead, Finding, TagKey, checkpoint_message, signature_holds,
};
use protocol::event::{Checkpoint, Head, Raw, encode};
use protocol::frame::{
    Deframer, Error, Frame, Piece, decode_from_pump, decode_to_pump, encode_event,
    encode_from_pump, encode_to_pump,
};
use protocol::hex::{Hex, vec as hex};
use protocol::keys::KeyPair;
use protocol::message::{
    Ack, FromPump, Heartbeat, Hello, ManifestPart, Resume, Source, TimeReply, TimeRequest, ToPump,
};
use std::collections::BTreeMap;

fn vectors() -> BTreeMap<&'static str, &'static str> {
    include_str!("vectors.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(' ').expect("name, one space, hex"))
        .collect()
}

fn vector(name: &str) -> Vec<u8> {
    let text = vectors().get(name).copied();
    let text = text.unwrap_or_else(|| panic!("vectors.txt has no {name}"));
    hex::decode(text).unwrap()
}

fn holds(name: &str, seen: &[u8]) {
    let kept = vectors().get(name).copied().unwrap_or("nothing");
    assert_eq!(hex::encode(seen), kept, "{name} is not what it was");
}

/// Takes a frame through the deframer, as a reader of the line does.
fn between_zeros(frame: &[u8]) -> Vec<u8> {
    let mut deframer = Deframer::default();
    let mut seen = Vec::new();
    for byte in frame {
        match deframer.push(*byte) {
            Some(Piece::Bytes(bytes)) => seen.push(bytes.to_vec()),
            Some(Piece::TooLong) => panic!("too long"),
            None => {}
        }
    }
    assert_eq!(seen.len(), 1, "one frame has one zero, at its end");
    seen.remove(0)
}

fn from_pump() -> Vec<(&'static str, FromPump)> {
    vec![
        (
            "message.hello",
            FromPump::Hello(Hello {
                protocol_min: 1,
                protocol_max: 1,
                source: Source::new("EP-0193").unwrap(),
                boot: 3,
                manifest: Hex([0x11; 32]),
                manifest_len: 700,
                key: Hex([0x22; 32]),
                simulated: true,
            }),
        ),
        (
            "message.heartbeat",
            FromPump::Heartbeat(Heartbeat {
                boot: 3,
                tick_ms: 86_400_123,
                last_seq: 18_274,
                infusing: true,
            }),
        ),
        (
            "message.time_reply",
            FromPump::TimeReply(TimeReply {
                id: 77,
                boot: 3,
                received_tick_ms: 86_400_123,
                sent_tick_ms: 86_400_125,
            }),
        ),
        (
            "message.manifest_part",
            FromPump::ManifestPart(ManifestPart::new(128, b"{\"schema\":\0\xff").unwrap()),
        ),
    ]
}

fn to_pump() -> Vec<(&'static str, ToPump)> {
    vec![
        (
            "message.ack",
            ToPump::Ack(Ack {
                through_seq: 18_274,
            }),
        ),
        (
            "message.resume",
            ToPump::Resume(Resume {
                last_contiguous_seq: 18_210,
                want_hello: true,
                want_manifest: false,
            }),
        ),
        (
            "message.time_request",
            ToPump::TimeRequest(TimeRequest { id: 77 }),
        ),
    ]
}

fn same_frame(name: &str, frame: &Result<Frame, Error>) -> Vec<u8> {
    let frame = frame.as_ref().unwrap();
    holds(name, frame.as_bytes());
    between_zeros(&vector(name))
}

#[test]
fn messages_from_the_pump_have_the_bytes_they_always_had() {
    for (name, message) in from_pump() {
        let bytes = same_frame(name, &encode_from_pump(&message));
        assert_eq!(decode_from_pump(&bytes), Ok(message), "{name}");
    }
}

#[test]
fn messages_to_the_pump_have_the_bytes_they_always_had() {
    for (name, message) in to_pump() {
        let bytes = same_frame(name, &encode_to_pump(&message));
        assert_eq!(decode_to_pump(&bytes), Ok(message), "{name}");
    }
}

#[test]
fn every_message_of_either_direction_has_a_vector() {
    // A new message does not compile here until it has a name, and fails until it has a vector.
    let name_of = |message: &FromPump| match message {
        FromPump::Hello(_) => Some("message.hello"),
        FromPump::Heartbeat(_) => Some("message.heartbeat"),
        FromPump::TimeReply(_) => Some("message.time_reply"),
        FromPump::ManifestPart(_) => Some("message.manifest_part"),
        FromPump::Event { .. } | FromPump::Unknown(_) => None,
    };
    for (name, message) in from_pump() {
        assert_eq!(name_of(&message), Some(name));
    }
    let name_to = |message: &ToPump| match message {
        ToPump::Ack(_) => Some("message.ack"),
        ToPump::Resume(_) => Some("message.resume"),
        ToPump::TimeRequest(_) => Some("message.time_request"),
        ToPump::Unknown(_) => None,
    };
    for (name, message) in to_pump() {
        assert_eq!(name_to(&message), Some(name));
    }
    let kept = vectors()
        .keys()
        .filter(|k| k.starts_with("message."))
        .count();
    assert_eq!(kept, from_pump().len() + to_pump().len());
}

#[test]
fn events_have_the_bytes_they_always_had_and_decode_to_the_same() {
    for (name, fact) in facts() {
        let name = format!("event.{name}");
        let raw = fact.encode(HEAD).unwrap();
        holds(&name, raw.as_bytes());
        let (raw, head) = Raw::parse(&vector(&name)).unwrap();
        assert_eq!(head, HEAD, "{name}");
        assert_eq!(Fact::decode(&raw), Ok((HEAD, fact.clone())), "{name}");
        assert_eq!(
            Fact::from_json(fact.kind(), &fact.to_json()),
            Some(fact),
            "{name}"
        );
    }
}

#[test]
fn every_kind_has_a_vector_under_its_number_and_no_vector_is_without_a_kind() {
    let kinds = protocol::event::KINDS
        .iter()
        .chain(protocol::bedside::KINDS);
    for (number, kind) in kinds.clone() {
        let bytes = vector(&format!("event.{kind}"));
        assert_eq!(bytes.get(1), Some(number), "type number of {kind}");
        let (raw, _) = Raw::parse(&bytes).unwrap();
        assert_eq!(
            Fact::decode(&raw).map(|(_, fact)| fact.kind()),
            Ok(*kind),
            "{kind}"
        );
    }
    for name in vectors().keys().filter_map(|n| n.strip_prefix("event.")) {
        let kind = name.split('.').next().unwrap();
        assert!(
            kinds.clone().any(|(_, k)| *k == kind),
            "{name} is of no kind"
        );
    }
}

#[test]
fn type_numbers_and_words_are_used_once() {
    let all: Vec<_> = protocol::event::KINDS
        .iter()
        .chain(protocol::bedside::KINDS)
        .collect();
    for (at, (number, kind)) in all.iter().enumerate() {
        let again = all
            .iter()
            .skip(at + 1)
            .find(|(n, k)| n == number || k == kind);
        assert_eq!(again, None, "{kind}");
    }
}

#[test]
fn an_event_frame_is_the_event_with_its_tag() {
    let (_, fact) = facts()
        .into_iter()
        .find(|(name, _)| *name == "delivered")
        .unwrap();
    let raw = fact.encode(HEAD).unwrap();
    let tag = Hex(core::array::from_fn(|i| u8::try_from(i * 16).unwrap()));
    let bytes = same_frame("frame.delivered", &encode_event(&raw, &tag));
    assert_eq!(
        decode_from_pump(&bytes),
        Ok(FromPump::Event {
            raw,
            head: HEAD,
            tag
        })
    );
}

const MANIFEST: &[u8] = b"thecal vector manifest";
const SEED: [u8; 32] = [7; 32];

fn chained(name: &str, seq: u64) -> Raw {
    let (_, fact) = facts().into_iter().find(|(n, _)| *n == name).unwrap();
    let head = Head {
        boot: 1,
        seq,
        tick_ms: seq * 1_000,
    };
    fact.encode(head).unwrap()
}

#[test]
fn the_chain_of_three_events_and_a_checkpoint_is_what_it_always_was() {
    let pair = KeyPair::from_seed(SEED);
    holds("chain.public_key", &pair.public().0);
    holds("chain.tag_secret", &pair.tag_secret());
    let genesis = ChainHead::genesis(MANIFEST);
    holds("chain.genesis", &genesis.0.0);
    let zeroth = TagKey::of_trial(&pair.tag_secret(), &genesis);
    holds("chain.key_0", zeroth.as_bytes());
    // The first start replaces the key once: no event is ever tagged with key 0.
    let key = zeroth.next();
    holds("chain.key_1", key.as_bytes());

    let check = || ChainCheck::new(MANIFEST, pair.public(), Some(&pair.tag_secret()));
    let (mut now, mut before) = (check(), check());
    let mut head = genesis;
    for (seq, name) in (1..).zip(["powered_on", "pain_score", "delivered"]) {
        let raw = chained(name, seq);
        head = head.after(&raw);
        holds(&format!("chain.head_{seq}"), &head.0.0);
        let tag = key.tag(&head);
        holds(&format!("chain.tag_{seq}"), &tag.0);
        assert_eq!(now.next(&raw, &tag), Finding::Good);
        assert_eq!(before.next(&raw, &tag), Finding::Good);
    }
    let message = checkpoint_message(&genesis, 1, 4_000, 3, 3, 1, &head);
    holds("chain2.checkpoint_message", &message);
    let signature = pair.sign(&message);
    holds("chain2.signature", &signature.0);
    // The first form of the message is still read, and never made.
    let first_form = Hex(vector("chain.signature").try_into().unwrap());
    assert!(signature_holds(
        &pair.public(),
        &vector("chain.checkpoint_message"),
        &first_form
    ));
    for (name, signature, check) in [
        ("chain2", signature, &mut now),
        ("chain", first_form, &mut before),
    ] {
        let checkpoint = Checkpoint {
            through_seq: 3,
            count: 3,
            key_index: 1,
            head: head.0,
            signature,
        };
        let at = Head {
            boot: 1,
            seq: 4,
            tick_ms: 4_000,
        };
        let raw = encode(0x52, at, &checkpoint).unwrap();
        holds(&format!("{name}.checkpoint_raw"), raw.as_bytes());
        let after = head.after(&raw);
        holds(&format!("{name}.head_4"), &after.0.0);
        let tag = key.tag(&after);
        holds(&format!("{name}.tag_4"), &tag.0);
        assert_eq!(check.next(&raw, &tag), Finding::Proven, "{name}");
    }
    holds("chain.key_2", key.next().as_bytes());
}

#[test]
fn words_keep_their_place_on_the_wire_and_new_ones_come_at_the_end() {
    use protocol::event::{
        AlarmCode, BootReason, ChangedBy, CloseReason, Condition, Key, Phase, Priority, Purpose,
        Refusal, ReservoirChange, StopReason,
    };
    macro_rules! kept {
        ($($name:ident $words:literal),* $(,)?) => {$(
            let seen: Vec<_> = $name::ALL.iter().map(|w| w.word()).collect();
            let kept: Vec<_> = $words.split(' ').collect();
            assert_eq!(seen.get(..kept.len()), Some(kept.as_slice()), stringify!($name));
            for (place, word) in $name::ALL.iter().enumerate() {
                let bytes = postcard::to_allocvec(word).unwrap();
                assert_eq!(bytes, [u8::try_from(place).unwrap()], "{}", word.word());
            }
        )*};
    }
    kept! {
        BootReason "power_on brown_out watchdog fault",
        Purpose "therapy prime purge",
        StopReason "keypad alarm empty closed power_lost",
        ChangedBy "day_part keypad",
        Condition "rest movement",
        ReservoirChange "changed low empty reading",
        AlarmCode "downstream_occlusion upstream_occlusion air_in_line reservoir_low \
            reservoir_empty battery_low battery_flat over_delivery under_delivery door_open \
            key_stuck supervisor_stop storage self_test",
        Priority "low medium high",
        Phase "start end",
        Key "0 1 2 3 4 5 6 7 8 9 confirm clear bolus movement",
        Refusal "lockout limit alarm empty",
        CloseReason "planned safety patients_wish technical",
    }
}
