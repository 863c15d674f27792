//! A pump's chain with several starts and hourly checkpoints holds, and each way to alter it is
//! found and named, with and without the secret that tags are made with.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod pump_chain;

use protocol::chain::{
    Broken, ChainCheck, ChainHead, Finding, TagKey, checkpoint_message, signature_holds,
};
use protocol::event::{Body, BootReason, Checkpoint, CloseReason, Head, Raw, decode};
use protocol::hex::{Hex, Tag};
use protocol::keys::KeyPair;
use pump_chain::Pump;

const MANIFEST: &[u8] = b"{\"schema\":\"thecal.manifest/1\"}";

fn pump_keys() -> KeyPair {
    KeyPair::from_seed([3; 32])
}

/// Three starts, five hours, the close. Checkpoints at 2, 9, 16, 18, 25, 32, 34, 41, 43.
fn trial() -> Vec<(Raw, Tag)> {
    let mut pump = Pump::new(pump_keys(), MANIFEST);
    for hours in [2, 2, 1] {
        pump.start();
        for _ in 0..hours {
            pump.hour(6);
        }
    }
    pump.close();
    pump.journal
}

fn is_checkpoint(raw: &Raw) -> bool {
    matches!(decode(raw), Ok((_, Body::Checkpoint(_))))
}

/// Findings in the order they come, with the seq of the event they are about.
fn findings(check: &mut ChainCheck, events: &[(Raw, Tag)]) -> Vec<(u64, Finding)> {
    let mut out = Vec::new();
    for (raw, tag) in events {
        let seq = raw.head().map_or(0, |head| head.seq);
        loop {
            let finding = check.next(raw, tag);
            out.push((seq, finding));
            if !matches!(finding, Finding::Hole { .. }) {
                break;
            }
        }
    }
    out
}

fn checker(with_secret: bool) -> ChainCheck {
    let pair = pump_keys();
    let secret = pair.tag_secret();
    ChainCheck::new(MANIFEST, pair.public(), with_secret.then_some(&secret))
}

fn checked(events: &[(Raw, Tag)], with_secret: bool) -> Vec<(u64, Finding)> {
    findings(&mut checker(with_secret), events)
}

/// The first finding that is neither good nor proven.
fn first_wrong(events: &[(Raw, Tag)], with_secret: bool) -> Option<(u64, Finding)> {
    checked(events, with_secret)
        .into_iter()
        .find(|(_, f)| !matches!(f, Finding::Good | Finding::Proven))
}

#[expect(clippy::unnecessary_wraps, reason = "compared with `first_wrong`")]
fn broken(seq: u64, how: Broken) -> Option<(u64, Finding)> {
    Some((seq, Finding::Broken(how)))
}

/// The same event with another body.
fn with_body(raw: &Raw, change: impl FnOnce(&mut Body)) -> Raw {
    let (head, mut body) = decode(raw).unwrap();
    change(&mut body);
    body.encode(head).unwrap()
}

fn with_checkpoint(raw: &Raw, change: impl FnOnce(&mut Checkpoint)) -> Raw {
    with_body(raw, |body| {
        let Body::Checkpoint(checkpoint) = body else {
            panic!("not a checkpoint: {body:?}");
        };
        change(checkpoint);
    })
}

#[test]
fn a_trial_of_several_starts_holds_to_its_close() {
    let events = trial();
    let checkpoints: Vec<u64> = (1..)
        .zip(&events)
        .filter(|(_, (raw, _))| is_checkpoint(raw))
        .map(|(seq, _)| seq)
        .collect();
    assert_eq!(checkpoints, [2, 9, 16, 18, 25, 32, 34, 41, 43]);
    for with_secret in [false, true] {
        let mut check = checker(with_secret);
        for (seq, finding) in findings(&mut check, &events) {
            let wanted = if checkpoints.contains(&seq) {
                Finding::Proven
            } else {
                Finding::Good
            };
            assert_eq!(finding, wanted, "{seq}");
        }
        assert!(check.closed());
        assert_eq!(
            (check.checkpoints, check.proven_through, check.not_proven),
            (9, 43, 0)
        );
    }
}

#[test]
fn a_changed_body_is_found_by_its_tag_at_once_and_else_by_the_next_checkpoint() {
    let good = trial();
    for at in 0..good.len() {
        let mut events = good.clone();
        let seq = u64::try_from(at).unwrap() + 1;
        if is_checkpoint(&events[at].0) {
            continue;
        }
        events[at].0 = with_body(&events[at].0, |body| {
            if let Body::Delivered(delivered) = body {
                delivered.delivered_nl ^= 1;
            } else if let Body::PoweredOn(on) = body {
                on.reason = BootReason::Watchdog;
            } else if let Body::TrialClosed(closed) = body {
                closed.reason = CloseReason::Safety;
            }
        });
        assert_ne!(events[at], good[at]);
        assert_eq!(first_wrong(&events, true), broken(seq, Broken::Tag));
        let next = (at..good.len()).find(|i| is_checkpoint(&good[*i].0));
        let next = u64::try_from(next.unwrap()).unwrap() + 1;
        assert_eq!(first_wrong(&events, false), broken(next, Broken::Head));
    }
}

/// Whether the check finds something wrong, or at least no whole chain that was closed.
fn found(events: &[(Raw, Tag)], with_secret: bool) -> bool {
    let mut check = checker(with_secret);
    let good = |(_, f): &(u64, Finding)| matches!(f, Finding::Good | Finding::Proven);
    !findings(&mut check, events).iter().all(good) || !check.closed()
}

#[test]
fn no_byte_of_any_event_can_change_unseen() {
    let good = trial();
    let mut seen = 0;
    for at in 0..good.len() {
        for place in 0..good[at].0.as_bytes().len() {
            let bit = (at + place) % 8;
            let mut bytes = good[at].0.as_bytes().to_vec();
            bytes[place] ^= 1 << bit;
            // Version and length: no event at all.
            let Ok((raw, _)) = Raw::parse(&bytes) else {
                continue;
            };
            let mut events = good.clone();
            events[at].0 = raw;
            assert!(found(&events, true), "{at}:{place}:{bit}");
            assert!(found(&events, false), "{at}:{place}:{bit}");
            seen += 1;
        }
    }
    assert!(seen > 1_000, "{seen}");
}

#[test]
fn swapped_tags_are_found_with_the_secret_alone() {
    let mut events = trial();
    let (a, b) = (events[4].1, events[5].1);
    (events[4].1, events[5].1) = (b, a);
    let all = checked(&events, true);
    assert_eq!(all[4], (5, Finding::Broken(Broken::Tag)));
    assert_eq!(all[5], (6, Finding::Broken(Broken::Tag)));
    assert_eq!(all[6], (7, Finding::Good), "the chain itself is whole");
    assert_eq!(first_wrong(&events, false), None);
}

#[test]
fn every_tag_is_checked_those_of_checkpoints_too() {
    let good = trial();
    for at in 0..good.len() {
        let mut events = good.clone();
        events[at].1.0[15] ^= 1;
        let seq = u64::try_from(at).unwrap() + 1;
        assert_eq!(first_wrong(&events, true), broken(seq, Broken::Tag));
    }
}

#[test]
fn a_removed_event_is_a_hole_and_what_follows_is_proven_again_at_the_next_checkpoint() {
    for with_secret in [false, true] {
        let mut events = trial();
        events.remove(11);
        let mut check = checker(with_secret);
        let all = findings(&mut check, &events);
        let from_hole: Vec<_> = all.iter().skip_while(|(seq, _)| *seq < 13).collect();
        let hole = Finding::Hole {
            from_seq: 12,
            to_seq: 12,
        };
        let wanted = [
            (13, hole),
            (13, Finding::NotProven),
            (14, Finding::NotProven),
            (15, Finding::NotProven),
            (16, Finding::Proven),
            (17, Finding::Good),
        ];
        assert!(
            from_hole.iter().zip(&wanted).all(|(a, b)| *a == b),
            "{from_hole:?}"
        );
        assert!(check.closed(), "the end is whole");
        // 13, 14, 15; and 10, 11 before the hole, which only their tags can still prove.
        assert_eq!(check.not_proven, if with_secret { 3 } else { 5 });
        let later = all.iter().filter(|(seq, _)| *seq > 16);
        assert!(
            later
                .clone()
                .all(|(_, f)| matches!(f, Finding::Good | Finding::Proven))
        );
    }
}

#[test]
fn a_hole_takes_back_what_was_good_before_it() {
    let mut events = trial();
    // Somebody changes 10 and removes 12, so that the next checkpoint's head is compared with
    // nothing.
    events[9].0 = with_body(&events[9].0, |body| {
        if let Body::Delivered(delivered) = body {
            delivered.delivered_nl += 1;
        }
    });
    events.remove(11);
    let mut check = checker(false);
    let all = findings(&mut check, &events);
    assert!(!all.iter().any(|(_, f)| matches!(f, Finding::Broken(_))));
    assert_eq!(check.not_proven, 5, "10 and 11 are not proven either");
    assert_eq!(first_wrong(&events, true), broken(10, Broken::Tag));
}

#[test]
fn holes_over_starts_and_checkpoints_do_not_lose_the_key() {
    for (from, to) in [(1, 1), (1, 2), (5, 9), (9, 9), (8, 17), (15, 36), (3, 40)] {
        for with_secret in [false, true] {
            let mut events = trial();
            events.drain(from - 1..to);
            let mut check = checker(with_secret);
            let all = findings(&mut check, &events);
            let wrong: Vec<_> = all
                .iter()
                .filter(|(_, f)| matches!(f, Finding::Broken(_)))
                .collect();
            assert_eq!(wrong, Vec::<&(u64, Finding)>::new(), "{from}..={to}");
            let holes: Vec<_> = all
                .iter()
                .filter(|(_, f)| matches!(f, Finding::Hole { .. }))
                .collect();
            assert_eq!(holes.len(), 1);
            assert!(check.closed());
        }
    }
}

#[test]
fn a_record_cut_short_is_not_closed() {
    let events = trial();
    for keep in 0..events.len() {
        let mut check = checker(false);
        findings(&mut check, &events[..keep]);
        assert!(!check.closed(), "{keep}");
        assert!(check.proven_through <= u64::try_from(keep).unwrap());
    }
}

#[test]
fn swapped_events_are_out_of_order() {
    for with_secret in [false, true] {
        let mut events = trial();
        events.swap(10, 11);
        let all = checked(&events, with_secret);
        assert_eq!(
            all[10],
            (
                12,
                Finding::Hole {
                    from_seq: 11,
                    to_seq: 11
                }
            )
        );
        assert_eq!(all[11], (12, Finding::NotProven));
        assert_eq!(all[12], (11, Finding::Broken(Broken::Order)));
    }
}

#[test]
fn a_repeated_event_and_a_start_that_goes_backwards_are_out_of_order() {
    for with_secret in [false, true] {
        let mut events = trial();
        let again = events[10].clone();
        events.insert(11, again);
        assert_eq!(first_wrong(&events, with_secret), broken(11, Broken::Order));
        let mut events = trial();
        let (head, body) = decode(&events[19].0).unwrap();
        events[19].0 = body.encode(Head { boot: 1, ..head }).unwrap();
        assert_eq!(first_wrong(&events, with_secret), broken(20, Broken::Order));
    }
}

#[test]
fn a_changed_signature_is_found() {
    for with_secret in [false, true] {
        for bit in [0, 200, 300, 511] {
            let mut events = trial();
            events[8].0 =
                with_checkpoint(&events[8].0, |c| c.signature.0[bit / 8] ^= 1 << (bit % 8));
            assert_eq!(
                first_wrong(&events, with_secret),
                broken(9, Broken::Signature)
            );
        }
    }
}

#[test]
fn a_changed_number_in_a_checkpoint_breaks_its_signature() {
    let changes: [fn(&mut Checkpoint); 4] = [
        |c| c.key_index += 1,
        |c| c.count -= 1,
        |c| c.through_seq -= 1,
        |c| c.head.0[0] ^= 1,
    ];
    for change in changes {
        for with_secret in [false, true] {
            let mut events = trial();
            events[8].0 = with_checkpoint(&events[8].0, change);
            assert_eq!(
                first_wrong(&events, with_secret),
                broken(9, Broken::Signature)
            );
        }
    }
}

/// A checkpoint with changed numbers under a good signature: a pump that counts wrong.
fn signed_anew(raw: &Raw, change: impl FnOnce(&mut Checkpoint)) -> Raw {
    let (at, _) = decode(raw).unwrap();
    with_checkpoint(raw, |c| {
        change(c);
        let message = checkpoint_message(
            &ChainHead::genesis(MANIFEST),
            at.boot,
            at.tick_ms,
            c.through_seq,
            c.count,
            c.key_index,
            &ChainHead(c.head),
        );
        c.signature = pump_keys().sign(&message);
    })
}

#[test]
fn a_checkpoint_that_is_signed_and_wrong_is_named_by_what_is_wrong() {
    type Change = fn(&mut Checkpoint);
    let cases: [(Change, Broken, Option<Broken>); 4] = [
        (|c| c.head.0[0] ^= 1, Broken::Head, Some(Broken::Head)),
        (|c| c.count += 1, Broken::Count, Some(Broken::Count)),
        (
            |c| c.through_seq = u64::MAX,
            Broken::Count,
            Some(Broken::Count),
        ),
        // Only who holds the secret knows which key tagged it.
        (|c| c.key_index += 5, Broken::Tag, None),
    ];
    for (change, with_secret, without) in cases {
        let mut events = trial();
        events[8].0 = signed_anew(&events[8].0, change);
        assert_eq!(first_wrong(&events, true), broken(9, with_secret));
        let first = first_wrong(&events, false);
        match without {
            Some(how) => assert_eq!(first, broken(9, how)),
            // The event's bytes differ, and with them every head after it.
            None => assert_eq!(first, broken(16, Broken::Head)),
        }
    }
}

#[test]
fn another_key_is_found_at_the_first_checkpoint() {
    let other = KeyPair::from_seed([4; 32]);
    let mut check = ChainCheck::new(MANIFEST, other.public(), None);
    let all = findings(&mut check, &trial());
    assert_eq!(all[1], (2, Finding::Broken(Broken::Signature)));
    // A chain that somebody else made whole, for this manifest.
    let mut forger = Pump::new(other, MANIFEST);
    forger.start();
    forger.close();
    assert_eq!(
        first_wrong(&forger.journal, false),
        broken(2, Broken::Signature)
    );
    assert_eq!(first_wrong(&forger.journal, true), broken(1, Broken::Tag));
}

#[test]
fn another_manifest_is_found_at_the_first_checkpoint_or_tag() {
    let pair = pump_keys();
    let secret = pair.tag_secret();
    for (secret, wanted) in [
        (None, (2, Finding::Broken(Broken::Signature))),
        (Some(&secret), (1, Finding::Broken(Broken::Tag))),
    ] {
        let mut check = ChainCheck::new(b"another trial", pair.public(), secret);
        let first = findings(&mut check, &trial())
            .into_iter()
            .find(|(_, f)| !matches!(f, Finding::Good));
        assert_eq!(first, Some(wanted));
    }
}

#[test]
fn a_trial_replayed_into_another_trial_is_found() {
    // The same pump, the same events, another manifest: nothing of the one is good in the other.
    let mut replay = Pump::new(pump_keys(), b"another trial");
    replay.start();
    replay.close();
    assert_eq!(
        first_wrong(&replay.journal, false),
        broken(2, Broken::Signature)
    );
    assert_eq!(first_wrong(&replay.journal, true), broken(1, Broken::Tag));
}

#[test]
fn nothing_may_follow_the_close() {
    for with_secret in [false, true] {
        let mut pump = Pump::new(pump_keys(), MANIFEST);
        pump.start();
        pump.close();
        let closed = pump.seq;
        pump.hour(2);
        let first = first_wrong(&pump.journal, with_secret);
        assert_eq!(first, broken(closed + 1, Broken::AfterClose));
    }
}

#[test]
fn a_body_that_does_not_decode_is_no_event() {
    let mut events = trial();
    let mut bytes = events[4].0.as_bytes().to_vec();
    bytes.push(0);
    bytes[2] += 1;
    events[4].0 = Raw::parse(&bytes).unwrap().0;
    assert_eq!(first_wrong(&events, false), broken(5, Broken::Bytes));
}

#[test]
fn an_event_of_an_unknown_type_is_chained_like_any_other() {
    let mut pump = Pump::new(pump_keys(), MANIFEST);
    pump.start();
    pump.seq += 1;
    let head = Head {
        boot: 1,
        seq: pump.seq,
        tick_ms: 5,
    };
    let raw = protocol::event::encode(0x7e, head, &[1u8, 2, 3]).unwrap();
    pump.head = pump.head.after(&raw);
    let tag = pump.key.tag(&pump.head);
    pump.journal.push((raw, tag));
    pump.close();
    assert_eq!(first_wrong(&pump.journal, true), None);
}

#[test]
fn a_stolen_key_cannot_make_the_tags_before_it() {
    let pair = pump_keys();
    let genesis = ChainHead::genesis(MANIFEST);
    let first = TagKey::of_trial(&pair.tag_secret(), &genesis).next();
    let later = first.next();
    let head = genesis.after(&trial()[0].0);
    assert_eq!(first.tag(&head), trial()[0].1);
    assert_ne!(later.tag(&head), trial()[0].1);
    // And what it derives only goes on from there.
    assert_ne!(later.next().as_bytes(), first.as_bytes());
}

#[test]
fn a_signature_by_no_key_and_of_no_form_does_not_hold() {
    let pair = pump_keys();
    let good = pair.sign(b"x");
    assert!(signature_holds(&pair.public(), b"x", &good));
    assert!(!signature_holds(&pair.public(), b"y", &good));
    // Keys of small order would sign anything.
    for key in [[0; 32], [1; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        assert!(!signature_holds(&Hex(key), b"x", &Hex([0; 64])));
        assert!(!signature_holds(&Hex(key), b"x", &good));
    }
}
