//! What either half of the link engine does with silence, forgery, declared losses and what it
//! does not know, one message at a time.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod framed;

use framed::framed;
use protocol::PROTOCOL_VERSION;
use protocol::event::{Body, FIRST_EVENT_TYPE, Head, JournalLost, Raw, decode, encode};
use protocol::frame::{Error, decode_from_pump, decode_to_pump, encode_event};
use protocol::hex::Hex;
use protocol::link::{LOST_AFTER_MS, Receiver, Send, Sender, State, Taken};
use protocol::message::{Ack, FromPump, Heartbeat, Hello, Resume, Source, TimeReply, ToPump};
use protocol::time::Uptime;

fn at(ms: u64) -> Uptime {
    Uptime::from_millis(ms)
}

fn beat(last_seq: u64) -> FromPump {
    FromPump::Heartbeat(Heartbeat {
        boot: 1,
        tick_ms: 0,
        last_seq,
        infusing: false,
    })
}

fn event(seq: u64) -> FromPump {
    of(0x7e, seq, &[0u8; 4])
}

fn of(number: u8, seq: u64, body: &impl protocol::wire::Wire) -> FromPump {
    let head = Head {
        boot: 1,
        seq,
        tick_ms: seq,
    };
    let raw = encode(number, head, body).unwrap();
    FromPump::Event {
        raw,
        head,
        tag: Hex([9; 16]),
    }
}

fn bound(stored: u64) -> Receiver {
    let mut receiver = Receiver::new(at(0), stored, false);
    receiver.bind(stored, false);
    receiver
}

fn sent(receiver: &mut Receiver, now: Uptime) -> Vec<ToPump> {
    std::iter::from_fn(|| receiver.poll_send(now)).collect()
}

#[test]
fn silence_makes_the_line_lost_at_five_seconds_and_only_a_good_frame_ends_it() {
    assert_eq!(LOST_AFTER_MS, 5_000);
    let mut receiver = bound(0);
    assert_eq!(receiver.state(at(60_000)), State::NeverHeard);
    assert_eq!(receiver.silence_ms(at(60_000)), 60_000);
    receiver.handle_message(at(60_000), beat(0));
    let last = at(60_000);
    assert_eq!(receiver.state(at(64_999)), State::Up { last });
    assert_eq!(receiver.state(at(65_000)), State::Lost { last });
    // What the gateway itself does changes nothing, nor does opening the line again.
    sent(&mut receiver, at(66_000));
    receiver.reopen(at(67_000));
    receiver.bind(0, true);
    receiver.note_stored(3);
    receiver.forget_unstored();
    sent(&mut receiver, at(68_000));
    assert_eq!(receiver.state(at(68_000)), State::Lost { last });
    assert_eq!(receiver.silence_ms(at(68_000)), 8_000);
    receiver.handle_message(at(70_000), FromPump::Unknown(0x1f));
    let last = at(70_000);
    assert_eq!(receiver.state(at(74_999)), State::Up { last });
    assert_eq!(receiver.state(at(75_000)), State::Lost { last });
}

#[test]
fn acks_beyond_what_was_ever_journaled_are_counted_and_lose_nothing() {
    let mut sender = Sender::new(at(0), 0);
    sender.note_journaled(10);
    for through_seq in [11, 12, u64::MAX] {
        sender.handle_message(at(1), 1, &ToPump::Ack(Ack { through_seq }));
    }
    assert_eq!(sender.impossible_acks, 3);
    assert_eq!(sender.acked(), 0);
    let events: Vec<_> = std::iter::from_fn(|| sender.poll_send(at(1)))
        .filter_map(|send| match send {
            Send::Event { seq } => Some(seq),
            Send::Hello | Send::Heartbeat | Send::TimeReply { .. } | Send::ManifestPart { .. } => {
                None
            }
        })
        .collect();
    assert_eq!(events, (1..=10).collect::<Vec<_>>());
    sender.handle_message(at(2), 2, &ToPump::Ack(Ack { through_seq: 10 }));
    assert_eq!((sender.acked(), sender.unacknowledged()), (10, 0));
    // An old one changes nothing.
    sender.handle_message(at(3), 3, &ToPump::Ack(Ack { through_seq: 4 }));
    assert_eq!(sender.acked(), 10);
}

#[test]
fn after_a_start_the_ack_for_what_was_sent_before_it_is_believed() {
    let mut sender = Sender::new(at(0), 0);
    sender.note_journaled(1_000);
    sender.handle_message(at(1), 1, &ToPump::Ack(Ack { through_seq: 990 }));
    assert_eq!((sender.acked(), sender.impossible_acks), (990, 0));
    let events = std::iter::from_fn(|| sender.poll_send(at(1)))
        .filter(|send| matches!(send, Send::Event { .. }))
        .count();
    assert_eq!(events, 10);
}

#[test]
fn an_event_of_an_unknown_type_is_kept_raw_and_acknowledged() {
    let body: [u8; 100] = std::array::from_fn(|place| u8::try_from(place).unwrap());
    let FromPump::Event { raw, head, tag } = of(0xfe, 1, &body) else {
        panic!("not an event");
    };
    let frame = encode_event(&raw, &tag).unwrap();
    let message = decode_from_pump(frame.as_bytes().strip_suffix(&[0]).unwrap()).unwrap();
    let mut receiver = bound(0);
    let Taken::Event {
        raw: seen,
        lost: None,
        ..
    } = receiver.handle_message(at(1), message)
    else {
        panic!("not taken");
    };
    assert_eq!(seen, raw);
    assert_eq!(decode(&seen), Ok((head, Body::Unknown(0xfe))));
    receiver.note_stored(1);
    assert!(sent(&mut receiver, at(1)).contains(&ToPump::Ack(Ack { through_seq: 1 })));
}

#[test]
fn nothing_is_acknowledged_before_it_is_stored() {
    let mut receiver = bound(0);
    sent(&mut receiver, at(0));
    for seq in 1..=5 {
        assert!(matches!(
            receiver.handle_message(at(1), event(seq)),
            Taken::Event { .. }
        ));
    }
    assert_eq!(sent(&mut receiver, at(1)), []);
    receiver.note_stored(3);
    assert_eq!(
        sent(&mut receiver, at(1)),
        [ToPump::Ack(Ack { through_seq: 3 })]
    );
    // The store failed after 3: 4 and 5 must come again, and are no repeats then.
    receiver.forget_unstored();
    assert!(matches!(
        sent(&mut receiver, at(300)).as_slice(),
        [ToPump::Resume(Resume {
            last_contiguous_seq: 3,
            ..
        })]
    ));
    assert!(matches!(
        receiver.handle_message(at(301), event(4)),
        Taken::Event { .. }
    ));
}

#[test]
fn events_before_a_hello_belong_to_nobody() {
    let mut receiver = Receiver::new(at(0), 0, true);
    assert_eq!(receiver.handle_message(at(1), event(1)), Taken::Nothing);
    assert_eq!(receiver.unbound, 1);
    let asked = sent(&mut receiver, at(1));
    assert!(matches!(
        asked.as_slice(),
        [ToPump::Resume(Resume {
            want_hello: true,
            ..
        })]
    ));
}

#[test]
fn a_declared_loss_steps_over_what_it_covers_and_its_event_is_taken_in_its_turn() {
    let lost = |seq, from_seq, to_seq| of(0x51, seq, &JournalLost { from_seq, to_seq });
    let mut receiver = bound(10);
    for (seq, from, to) in [
        (30, 1, 10),
        (30, 12, 29),
        (30, 12, 20),
        (u64::MAX, 0, u64::MAX),
        (30, 0, u64::MAX),
    ] {
        assert_eq!(
            receiver.handle_message(at(1), lost(seq, from, to)),
            Taken::Nothing,
            "{from}..={to} at {seq}"
        );
    }
    // Said in the place of what is lost: the rest before its own seq may still come.
    let (from_seq, to_seq) = (11, 20);
    let said = Taken::Lost { from_seq, to_seq };
    assert_eq!(receiver.handle_message(at(1), lost(30, 1, 20)), said);
    assert_eq!(receiver.handle_message(at(1), event(21)), Taken::Nothing);
    receiver.note_stored(20);
    for seq in 21..=25 {
        let taken = receiver.handle_message(at(1), event(seq));
        assert!(matches!(taken, Taken::Event { lost: None, .. }));
    }
    let taken = receiver.handle_message(at(1), lost(30, 11, 29));
    assert!(
        matches!(
            taken,
            Taken::Event {
                lost: Some((26, 29)),
                ..
            }
        ),
        "{taken:?}"
    );
    // What is not missing is not lost: no hole over what is on disk.
    let taken = receiver.handle_message(at(1), lost(31, 5, 30));
    assert!(
        matches!(taken, Taken::Event { lost: None, .. }),
        "{taken:?}"
    );
}

#[test]
fn a_bad_hello_is_refused() {
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        source: Source::new("EP-0193").unwrap(),
        boot: 1,
        manifest: Hex([1; 32]),
        manifest_len: 10,
        key: Hex([2; 32]),
        simulated: false,
    };
    let good = postcard::to_allocvec(&hello).unwrap();
    let decode = |body: &[u8]| decode_from_pump(&framed(1, 0x01, body.len(), body));
    assert_eq!(decode(&good), Ok(FromPump::Hello(hello)));
    let with = |place: usize, byte: u8| {
        let mut body = good.clone();
        body[place] = byte;
        body
    };
    let longer = [good.clone(), vec![0]].concat();
    let cases: [(&str, &[u8]); 8] = [
        ("empty", &[]),
        ("cut", &good[..good.len() - 1]),
        ("longer", &longer),
        ("name of no length", &with(2, 0)),
        ("name of 33 bytes", &with(2, 33)),
        ("name with a slash", &with(3, b'/')),
        ("name with an escape", &with(4, 0x1b)),
        ("simulated is neither", &with(good.len() - 1, 2)),
    ];
    for (name, body) in cases {
        let seen = decode(body);
        assert!(
            matches!(seen, Err(Error::Body { number: 1, .. })),
            "{name}: {seen:?}"
        );
    }
}

#[test]
fn numbers_at_the_ends_of_their_range_do_not_stop_either_half() {
    let mut receiver = bound(u64::MAX - 1);
    for seq in [0, 1, u64::MAX - 1, u64::MAX] {
        receiver.handle_message(at(1), event(seq));
        receiver.handle_message(at(1), beat(seq));
        let lost = JournalLost {
            from_seq: seq,
            to_seq: u64::MAX,
        };
        receiver.handle_message(at(1), of(0x51, u64::MAX, &lost));
        receiver.handle_message(at(1), of(0x51, 0, &lost));
        sent(&mut receiver, at(u64::MAX - 1));
        receiver.note_stored(seq);
    }
    let mut sender = Sender::new(at(0), u16::MAX);
    sender.note_journaled(u64::MAX);
    for seq in [0, 1, u64::MAX - 1, u64::MAX] {
        sender.handle_message(at(1), 1, &ToPump::Ack(Ack { through_seq: seq }));
        let resume = Resume {
            last_contiguous_seq: seq,
            want_hello: true,
            want_manifest: true,
        };
        sender.handle_message(at(1), 1, &ToPump::Resume(resume));
        for _ in 0..2_000 {
            sender.poll_send(at(2));
        }
        sender.handle_timeout(at(u64::MAX));
    }
    let mut sync = protocol::link::TimeSync::default();
    let ends = [0, 1, i64::MAX - 1, i64::MAX];
    for (asked, answered) in ends.iter().flat_map(|a| ends.iter().map(move |b| (*a, *b))) {
        for (received, sent) in [(0, u64::MAX), (u64::MAX >> 1, 0), (0, u64::MAX >> 1)] {
            sync.note_asked(1, protocol::time::Timestamp::from_unix_millis(asked));
            let reply = TimeReply {
                id: 1,
                boot: 1,
                received_tick_ms: received,
                sent_tick_ms: sent,
            };
            sync.handle_reply(
                protocol::time::Timestamp::from_unix_millis(answered),
                &reply,
            );
            for tick in [0, u64::MAX >> 1, u64::MAX] {
                let _ = sync.at(1, tick);
            }
        }
    }
}

#[test]
fn raw_holds_exactly_the_bytes_that_came() {
    let FromPump::Event { raw, .. } = event(7) else {
        panic!("not an event");
    };
    let (again, head) = Raw::parse(raw.as_bytes()).unwrap();
    assert_eq!((again, head.seq), (raw, 7));
}

#[test]
fn another_protocol_version_is_refused_by_name() {
    let FromPump::Event { raw, tag, .. } = event(1) else {
        panic!("not an event");
    };
    let mut body = raw.body().to_vec();
    let len = body.len();
    body.extend_from_slice(&tag.0);
    let number = raw.type_number();
    assert!(decode_from_pump(&framed(PROTOCOL_VERSION, number, len, &body)).is_ok());
    for version in [0, 2, 255] {
        let seen = decode_from_pump(&framed(version, number, len, &body));
        assert_eq!(seen, Err(Error::Version(version)));
        // What is no event has no version of its own but the frame's.
        let other = framed(version, FIRST_EVENT_TYPE - 1, 0, &[]);
        assert_eq!(decode_from_pump(&other), Err(Error::Version(version)));
        assert_eq!(decode_to_pump(&other), Err(Error::Version(version)));
        assert_eq!(
            Error::Version(version).to_string(),
            format!("protocol version {version}, this program speaks 1")
        );
    }
}
