//! No bytes and no messages panic what reads them, and what is encoded decodes to the same.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod examples;
mod framed;

use examples::{HEAD, facts};
use framed::framed;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use protocol::bedside::{
    AlarmChanged, BootAnchored, ClockStepped, Fact, GatewayStarted, LinkChanged, Observation,
    Quarantined, Rescue, ScoreEntry, Stored,
};
use protocol::chain::{ChainCheck, Finding};
use protocol::event::{
    Alarm, AlarmCode, Battery, Body, BolusDecision, BolusDelivered, BolusRequested, BootReason,
    ChangedBy, Checkpoint, ClockSet, CloseReason, Condition, Delivered, Door, Head,
    InfusionStarted, InfusionStopped, JournalLost, Key, KeyStuck, PainScore, Phase, PoweredOn,
    Priority, ProgramChanged, PromptNotAnswered, Purpose, RateChanged, Raw, Refusal, Reservoir,
    ReservoirChange, SelfTest, StopReason, TrialClosed,
};
use protocol::frame::{
    Deframer, Piece, decode_from_pump, decode_to_pump, encode_from_pump, encode_to_pump,
};
use protocol::hex::Hex;
use protocol::keys::{KeyPair, open_json};
use protocol::link::{Receiver, Sender, TimeSync};
use protocol::manifest::{Manifest, SignedManifest};
use protocol::message::{
    Ack, FromPump, Heartbeat, Hello, ManifestPart, Resume, Source, TimeReply, TimeRequest, ToPump,
};
use protocol::time::{Timestamp, Uptime};

fn head() -> impl Strategy<Value = Head> {
    any::<(u32, u64, u64)>().prop_map(|(boot, seq, tick_ms)| Head { boot, seq, tick_ms })
}

fn condition() -> impl Strategy<Value = Condition> {
    select(Condition::ALL)
}

fn words() -> impl Strategy<Value = String> {
    "[ -~µäß]{0,14}"
}

/// A strategy for a struct of one field after the other.
macro_rules! of {
    ($name:ident { $($field:ident : $from:expr),* $(,)? }) => {
        ($($from,)*).prop_map(|($($field,)*)| Fact::from($name { $($field),* })).boxed()
    };
    (pump $name:ident { $($field:ident : $from:expr),* $(,)? }) => {
        ($($from,)*).prop_map(|($($field,)*)| Fact::Pump($name { $($field),* }.into())).boxed()
    };
}

/// Any fact, each kind as likely as another.
fn fact() -> impl Strategy<Value = Fact> {
    let decision = prop_oneof![
        any::<u64>().prop_map(|requested_nl| BolusDecision::Granted { requested_nl }),
        (select(Refusal::ALL), any::<Option<u32>>())
            .prop_map(|(reason, wait_ms)| BolusDecision::Denied { reason, wait_ms }),
    ];
    let digest = || any::<[u8; 32]>().prop_map(Hex);
    let signature = vec(any::<u8>(), 64).prop_map(|b| Hex(b.try_into().unwrap()));
    let kinds: Vec<BoxedStrategy<Fact>> = vec![
        of!(pump PoweredOn { reason: select(BootReason::ALL), firmware: any::<[u8; 3]>(),
            own_clock_utc_ms: any::<Option<u64>>() }),
        of!(pump InfusionStarted { purpose: select(Purpose::ALL),
            programmed_nl_per_h: any::<u32>() }),
        of!(pump InfusionStopped { reason: select(StopReason::ALL) }),
        of!(pump RateChanged { previous_nl_per_h: any::<u32>(), programmed_nl_per_h: any::<u32>(),
            by: select(ChangedBy::ALL) }),
        of!(pump Delivered { delivered_nl: any::<u64>(), programmed_nl: any::<u64>(),
            strokes: any::<u64>(), encoder_counts: any::<u64>() }),
        of!(pump BolusRequested { decision: decision }),
        of!(pump BolusDelivered { requested_nl: any::<u64>(), delivered_nl: any::<u64>(),
            complete: any::<bool>() }),
        of!(pump PainScore { score: any::<u8>(), confirmed: any::<bool>(), condition: condition(),
            prompt_id: any::<Option<u32>>(), answer_delay_ms: any::<Option<u32>>(),
            corrects_seq: any::<Option<u64>>() }),
        of!(pump PromptNotAnswered { prompt_id: any::<u32>(), condition: condition(),
            prompted_at_tick_ms: any::<u64>() }),
        of!(pump Reservoir { what: select(ReservoirChange::ALL),
            measured_nl: any::<Option<u64>>(), computed_nl: any::<u64>() }),
        of!(pump Alarm { code: select(AlarmCode::ALL), priority: select(Priority::ALL),
            phase: select(Phase::ALL) }),
        of!(pump Battery { percent: any::<u8>(), minutes_left: any::<u32>() }),
        of!(pump KeyStuck { key: select(Key::ALL), phase: select(Phase::ALL) }),
        of!(pump Door { open: any::<bool>() }),
        of!(pump ProgramChanged { revision: any::<u32>(), programmed_nl_per_h: any::<u32>(),
            concentration_mcg_per_ml: any::<u32>(), bolus_nl: any::<u32>(),
            lockout_ms: any::<u32>() }),
        of!(pump ClockSet { before_utc_ms: any::<Option<u64>>(), after_utc_ms: any::<u64>(),
            offset_min: any::<i16>() }),
        of!(pump SelfTest { passed: any::<bool>(), failed_parts: any::<u8>() }),
        of!(pump JournalLost { from_seq: any::<u64>(), to_seq: any::<u64>() }),
        of!(pump Checkpoint { through_seq: any::<u64>(), count: any::<u64>(),
            key_index: any::<u32>(), head: digest(), signature: signature }),
        of!(pump TrialClosed { reason: select(CloseReason::ALL) }),
        of!(GatewayStarted {
            software: words(),
            bed: words(),
            trial: words(),
            pump: words()
        }),
        of!(LinkChanged {
            pump: words(),
            up: any::<bool>(),
            silent_ms: any::<u64>()
        }),
        of!(ClockStepped {
            by_ms: any::<i64>()
        }),
        of!(Observation {
            what: words(),
            value_milli: any::<i64>(),
            at_utc_ms: any::<i64>(),
            by: words(),
            role: words(),
            entry_id: words()
        }),
        of!(Rescue {
            drug: words(),
            dose_mcg: any::<u64>(),
            route: words(),
            reason: words(),
            scheduled: any::<bool>(),
            at_utc_ms: any::<i64>(),
            by: words(),
            role: words(),
            entry_id: words()
        }),
        of!(AlarmChanged {
            alarm: words(),
            priority: select(Priority::ALL),
            change: words(),
            text: words()
        }),
        of!(Stored {
            source: words(),
            from_seq: any::<u64>(),
            to_seq: any::<u64>(),
            digest: digest()
        }),
        of!(ScoreEntry {
            score: any::<Option<u8>>(),
            asleep: any::<bool>(),
            condition: condition(),
            scored_by: words(),
            prompted: any::<bool>(),
            at_utc_ms: any::<i64>(),
            by: words(),
            entry_id: words()
        }),
        of!(Quarantined {
            source: words(),
            seq: any::<u64>(),
            reason: words()
        }),
        of!(BootAnchored {
            source: words(),
            boot: any::<u32>(),
            at_utc_ms: any::<i64>(),
            uncertainty_ms: any::<u64>()
        }),
    ];
    assert_eq!(
        kinds.len(),
        protocol::event::KINDS.len() + protocol::bedside::KINDS.len(),
        "each kind has its strategy"
    );
    proptest::strategy::Union::new(kinds)
}

fn from_pump() -> impl Strategy<Value = FromPump> {
    let digest = || any::<[u8; 32]>().prop_map(Hex);
    let hello = (
        any::<(u8, u8, u32, u16, bool)>(),
        "[A-Za-z0-9._-]{1,32}",
        digest(),
        digest(),
    );
    prop_oneof![
        hello.prop_map(
            |((protocol_min, protocol_max, boot, manifest_len, simulated), name, manifest, key)| {
                FromPump::Hello(Hello {
                    protocol_min,
                    protocol_max,
                    source: Source::new(&name).unwrap(),
                    boot,
                    manifest,
                    manifest_len,
                    key,
                    simulated,
                })
            }
        ),
        any::<(u32, u64, u64, bool)>().prop_map(|(boot, tick_ms, last_seq, infusing)| {
            FromPump::Heartbeat(Heartbeat {
                boot,
                tick_ms,
                last_seq,
                infusing,
            })
        }),
        any::<(u32, u32, u64, u64)>().prop_map(|(id, boot, received_tick_ms, sent_tick_ms)| {
            FromPump::TimeReply(TimeReply {
                id,
                boot,
                received_tick_ms,
                sent_tick_ms,
            })
        }),
        (any::<u16>(), vec(any::<u8>(), 1..=128)).prop_map(|(offset, bytes)| {
            FromPump::ManifestPart(ManifestPart::new(offset, &bytes).unwrap())
        }),
        (head(), fact(), any::<[u8; 16]>()).prop_filter_map("fits", |(head, fact, tag)| {
            Some(FromPump::Event {
                raw: fact.encode(head).ok()?,
                head,
                tag: Hex(tag),
            })
        }),
    ]
}

fn to_pump() -> impl Strategy<Value = ToPump> {
    prop_oneof![
        any::<u64>().prop_map(|through_seq| ToPump::Ack(Ack { through_seq })),
        any::<(u64, bool, bool)>().prop_map(|(last_contiguous_seq, want_hello, want_manifest)| {
            ToPump::Resume(Resume {
                last_contiguous_seq,
                want_hello,
                want_manifest,
            })
        }),
        any::<u32>().prop_map(|id| ToPump::TimeRequest(TimeRequest { id })),
    ]
}

/// Bytes that are likelier to get past the first checks than plain noise.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = || vec(any::<u8>(), 0..260);
    let header = (any::<u8>(), vec(any::<u8>(), 0..200)).prop_map(|(number, body)| {
        let len = u8::try_from(body.len()).unwrap();
        [vec![1, number, len], body].concat()
    });
    let frame = (0..4u8, any::<u8>(), 0..220usize, vec(any::<u8>(), 0..220))
        .prop_map(|(version, number, len, body)| framed(version, number, len, &body));
    let right = (any::<u8>(), vec(any::<u8>(), 0..220))
        .prop_map(|(number, body)| framed(1, number, body.len(), &body));
    prop_oneof![noise(), header, frame, right]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2_026),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_bytes_panic_a_decoder(bytes in likely_bytes()) {
        let _ = decode_to_pump(&bytes);
        let _ = decode_from_pump(&bytes);
        let _ = SignedManifest::from_bytes(&bytes);
        if let Ok((raw, head)) = Raw::parse(&bytes) {
            prop_assert_eq!(raw.as_bytes(), bytes.as_slice());
            prop_assert_eq!(raw.head(), Ok(head));
            if let Ok((again, fact)) = Fact::decode(&raw) {
                prop_assert_eq!(again, head);
                let _ = fact.to_json();
            }
        }
        let mut deframer = Deframer::default();
        for byte in &bytes {
            if let Some(Piece::Bytes(piece)) = deframer.push(*byte) {
                let _ = decode_from_pump(piece);
            }
        }
    }

    #[test]
    fn no_text_panics_what_reads_signed_json(text in "\\PC{0,300}", key in "[0-9a-fx\"]{60,66}", sig in "[0-9a-fä]{126,129}") {
        let _ = open_json::<serde_json::Value>(&text, |_| true);
        let _ = Manifest::parse(&text);
        let near = format!("{{\"a\":\"{text}\",\"key\":\"{key}\",\"sig\":\"{sig}\"}}");
        let opened = open_json::<serde_json::Value>(&near, |_| true);
        prop_assert!(opened.is_err(), "nobody signed this");
    }

    #[test]
    fn a_fact_decodes_to_what_was_encoded(head in head(), fact in fact()) {
        if let Ok(raw) = fact.encode(head) {
            prop_assert_eq!(Fact::decode(&raw), Ok((head, fact.clone())));
            let (again, seen) = Raw::parse(raw.as_bytes()).unwrap();
            prop_assert_eq!((again, seen), (raw, head));
        }
        prop_assert_eq!(Fact::from_json(fact.kind(), &fact.to_json()), Some(fact));
    }

    #[test]
    fn a_message_decodes_to_what_was_encoded(down in to_pump(), up in from_pump()) {
        let frame = encode_to_pump(&down).unwrap();
        prop_assert_eq!(decode_to_pump(frame.as_bytes().strip_suffix(&[0]).unwrap()), Ok(down));
        let frame = encode_from_pump(&up).unwrap();
        prop_assert_eq!(decode_from_pump(frame.as_bytes().strip_suffix(&[0]).unwrap()), Ok(up));
    }

    #[test]
    fn no_messages_panic_an_engine(
        up in vec((from_pump(), any::<u64>()), 0..20),
        down in vec((to_pump(), any::<u64>()), 0..20),
        journaled in any::<u64>(),
        boot in any::<u32>(),
    ) {
        let mut receiver = Receiver::new(Uptime::ZERO, journaled, true);
        receiver.bind(journaled, true);
        let mut sync = TimeSync::default();
        for (message, at) in up {
            let now = Uptime::from_millis(at);
            if let FromPump::TimeReply(reply) = &message {
                sync.note_asked(reply.id, Timestamp::from_unix_millis(at.cast_signed()));
                sync.handle_reply(Timestamp::from_unix_millis(i64::MAX), reply);
                let _ = sync.at(reply.boot, at);
            }
            let _ = receiver.handle_message(now, message);
            for _ in 0..3 {
                receiver.poll_send(now);
            }
            let _ = (receiver.poll_timeout(), receiver.silence_ms(now), receiver.announced());
            let _ = sync.at(boot, at);
        }
        let mut sender = Sender::new(Uptime::ZERO, 700);
        sender.note_journaled(journaled);
        for (message, at) in down {
            let now = Uptime::from_millis(at);
            sender.handle_message(now, at, &message);
            sender.handle_timeout(now);
            for _ in 0..70 {
                sender.poll_send(now);
            }
            let _ = (sender.poll_timeout(), sender.unacknowledged());
        }
    }

    #[test]
    fn no_events_panic_a_check_of_the_chain(
        events in vec((any::<u32>(), any::<u64>(), fact(), any::<[u8; 16]>()), 0..8),
        secret in option::of(any::<[u8; 32]>()),
    ) {
        let mut check = ChainCheck::new(b"manifest", Hex([1; 32]), secret.as_ref());
        for (boot, seq, fact, tag) in events {
            // Starts and seqs stay small enough often enough to get past the order.
            let head = Head { boot: boot % 5, seq: seq % 12, tick_ms: seq };
            for head in [head, Head { seq, ..head }] {
                let Ok(raw) = fact.encode(head) else { continue };
                while let Finding::Hole { .. } = check.next(&raw, &Hex(tag)) {}
            }
        }
    }

    #[test]
    fn a_manifest_with_its_signature_is_read_back_whole_or_not_at_all(
        text in "\\PC{0,200}", cut in any::<Index>(), flip in any::<Index>(), bit in 0..8u8,
    ) {
        let pair = KeyPair::from_seed([5; 32]);
        let sig = pair.sign(format!("thecal manifest v1\n{text}").as_bytes());
        let signed = SignedManifest { text, key: pair.public(), sig };
        let bytes = signed.to_bytes();
        prop_assert_eq!(SignedManifest::from_bytes(&bytes), Some(signed.clone()));
        let short = &bytes[..cut.index(bytes.len())];
        prop_assert_ne!(SignedManifest::from_bytes(short), Some(signed.clone()));
        let mut bent = bytes.clone();
        bent[flip.index(bytes.len())] ^= 1 << bit;
        if let Some(bent) = SignedManifest::from_bytes(&bent) {
            prop_assert_eq!(bent.open(), Err(protocol::manifest::Error::Signature));
        }
    }
}

#[test]
fn a_body_of_a_known_event_with_a_byte_too_many_is_no_such_event() {
    for (name, fact) in facts() {
        let raw = fact.encode(HEAD).unwrap();
        let mut bytes = raw.as_bytes().to_vec();
        if bytes.len() == protocol::event::RAW_MAX {
            continue;
        }
        bytes.push(0);
        bytes[2] += 1;
        let (raw, head) = Raw::parse(&bytes).unwrap();
        assert_eq!(head, HEAD, "{name} keeps its identity");
        assert_eq!(
            Fact::decode(&raw),
            Err(protocol::event::Error::Body(raw.type_number())),
            "{name}"
        );
    }
}

#[test]
fn text_that_does_not_fit_in_an_event_is_an_error_and_no_panic() {
    let observation = |len: usize| Observation {
        what: "x".repeat(len),
        value_milli: i64::MIN,
        at_utc_ms: i64::MAX,
        by: String::new(),
        role: String::new(),
        entry_id: String::new(),
    };
    assert!(Fact::from(observation(100)).encode(HEAD).is_ok());
    for len in [180, 193, 255, 256, 100_000] {
        assert_eq!(
            Fact::from(observation(len)).encode(HEAD),
            Err(protocol::event::Error::TooLong)
        );
    }
    assert!(matches!(
        Body::Unknown(0x7e).encode(HEAD),
        Err(protocol::event::Error::NotAnEvent(0x7e))
    ));
}
