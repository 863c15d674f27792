//! Holds the list of messages to the pump against the promise that nothing flows down that changes
//! delivery or a journaled event. A new message fails here first, and with it the question why a
//! monitor should need it.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod framed;

use framed::framed;
use protocol::PROTOCOL_VERSION;
use protocol::frame::{decode_from_pump, decode_to_pump, encode_to_pump};
use protocol::link::Sender;
use protocol::message::{Ack, FromPump, Resume, TimeRequest, ToPump, numbers};
use protocol::time::Uptime;
use std::collections::BTreeMap;

const SOURCE: &str = include_str!("../src/message.rs");

/// What each message may do. No `_`: a new message does not compile before it is judged here.
fn what_it_does(message: &ToPump) -> &'static str {
    match message {
        // The fields are spelled out: a new field does not compile before it is judged either.
        ToPump::Ack(Ack { through_seq: _ })
        | ToPump::Resume(Resume {
            last_contiguous_seq: _,
            want_hello: _,
            want_manifest: _,
        }) => "steers resending",
        ToPump::TimeRequest(TimeRequest { id: _ }) => "reads the clock",
        ToPump::Unknown(_) => "is counted",
    }
}

#[test]
fn a_message_to_the_pump_steers_resending_or_reads_the_clock_and_does_nothing_else() {
    let all = [
        (ToPump::Ack(Ack { through_seq: 1 }), "steers resending"),
        (
            ToPump::Resume(Resume {
                last_contiguous_seq: 1,
                want_hello: true,
                want_manifest: true,
            }),
            "steers resending",
        ),
        (
            ToPump::TimeRequest(TimeRequest { id: 1 }),
            "reads the clock",
        ),
        (ToPump::Unknown(0x3f), "is counted"),
    ];
    for (message, may) in all {
        assert_eq!(what_it_does(&message), may);
    }
}

/// The constants of `message::numbers` as they stand in the source.
fn declared_numbers() -> BTreeMap<u8, String> {
    let (_, module) = SOURCE
        .split_once("pub mod numbers {")
        .unwrap_or_else(|| panic!("message.rs has no `pub mod numbers`"));
    let (module, _) = module.split_once("\n}").unwrap();
    module
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const "))
        .map(|line| {
            let (name, value) = line.split_once(": u8 = 0x").unwrap_or_else(|| {
                panic!("`{line}` is not `NAME: u8 = 0x..;`, which this test can read")
            });
            let value = u8::from_str_radix(value.trim_end_matches(';'), 16).unwrap();
            (value, name.to_owned())
        })
        .collect()
}

#[test]
fn the_numbers_toward_the_pump_are_ack_resume_and_time_request() {
    let allowed = [
        (numbers::ACK, "ACK"),
        (numbers::RESUME, "RESUME"),
        (numbers::TIME_REQUEST, "TIME_REQUEST"),
    ];
    let declared = declared_numbers();
    for (number, name) in &declared {
        assert!(
            !(0x20..=0x3f).contains(number) || allowed.contains(&(*number, name.as_str())),
            "{name} ({number:#04x}) is a new message to the pump. Nothing flows down that changes \
             delivery or a journaled event: say in this test what it does, or leave it out."
        );
        assert!(
            *number < 0x40,
            "{name} ({number:#04x}) stands among the events' numbers, which come from the pump only."
        );
    }
    for (number, name) in allowed {
        assert_eq!(declared.get(&number).map(String::as_str), Some(name));
    }
}

#[test]
fn the_enum_toward_the_pump_names_four_variants_in_the_source() {
    let (_, rest) = SOURCE.split_once("pub enum ToPump {").unwrap();
    let (list, _) = rest.split_once("\n}").unwrap();
    let variants: Vec<_> = list
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .collect();
    assert_eq!(
        variants,
        [
            "Ack(Ack),",
            "Resume(Resume),",
            "TimeRequest(TimeRequest),",
            "Unknown(u8),"
        ],
        "ToPump is another list now. Nothing flows down that changes delivery or a journaled event: \
         say in this test what the new message does, or leave it out."
    );
}

#[test]
fn of_all_256_numbers_the_pump_understands_three_and_counts_the_rest() {
    for number in 0..=u8::MAX {
        let understood = [&[5][..], &[5, 0, 0]].into_iter().any(|body| {
            match decode_to_pump(&framed(PROTOCOL_VERSION, number, body.len(), body)) {
                Ok(ToPump::Ack(_) | ToPump::Resume(_) | ToPump::TimeRequest(_)) => true,
                Ok(ToPump::Unknown(seen)) => {
                    assert_eq!(seen, number);
                    let mut sender = Sender::new(Uptime::ZERO, 0);
                    let before = (sender.acked(), sender.unacknowledged());
                    sender.handle_message(Uptime::ZERO, 0, &ToPump::Unknown(seen));
                    assert_eq!(sender.unknown, 1);
                    assert_eq!((sender.acked(), sender.unacknowledged()), before);
                    false
                }
                Err(_) => false,
            }
        });
        let known = [numbers::ACK, numbers::RESUME, numbers::TIME_REQUEST].contains(&number);
        assert_eq!(understood, known, "{number:#04x}");
    }
}

#[test]
fn what_goes_to_the_pump_is_no_message_when_it_comes_from_the_pump() {
    for message in [
        ToPump::Ack(Ack { through_seq: 9 }),
        ToPump::TimeRequest(TimeRequest { id: 9 }),
    ] {
        let frame = encode_to_pump(&message).unwrap();
        let bytes = frame.as_bytes().strip_suffix(&[0]).unwrap();
        assert!(matches!(
            decode_from_pump(bytes),
            Ok(FromPump::Unknown(0x20..=0x3f))
        ));
    }
}

#[test]
fn an_unknown_message_has_no_bytes() {
    assert!(encode_to_pump(&ToPump::Unknown(0x23)).is_err());
}
