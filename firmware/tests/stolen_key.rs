//! Threat S8: whoever reads the pump's whole memory after hour 10 cannot rewrite hour 9.
#![expect(
    clippy::unwrap_used,
    reason = "helper functions of a test stop it where they fail"
)]

mod common;

use common::{
    HOUR, MANIFEST, MINUTE, begin, check_chain, events_of, formatted, press, run_to, secret, start,
};
use protocol::chain::{Broken, ChainCheck, ChainHead, Finding, TagKey};
use protocol::event::{Body, Key, Raw, decode};
use protocol::hex::Tag;
use protocol::keys::KeyPair;

/// The memory of a pump in its eleventh hour, and its events.
fn stolen() -> (Vec<u8>, Vec<(Raw, Tag)>) {
    let mut pump = start(formatted(200));
    begin(&mut pump, 1_000);
    for hour in 0..10 {
        press(
            &mut pump,
            hour * HOUR + 20 * MINUTE,
            &[Key::Digit7, Key::Confirm],
        );
    }
    run_to(&mut pump, 10 * HOUR + 30 * MINUTE);
    let events = events_of(&pump);
    (pump.into_board().nv, events)
}

fn keys() -> impl Iterator<Item = TagKey> {
    let first = TagKey::of_trial(&secret(), &ChainHead::genesis(MANIFEST));
    std::iter::successors(Some(first), |key| Some(key.next()))
}

fn holds(memory: &[u8], bytes: &[u8]) -> bool {
    memory.windows(bytes.len()).any(|w| w == bytes)
}

/// What a check of these events finds first.
fn first_broken(events: &[(Raw, Tag)], secret: Option<&[u8; 32]>) -> Option<(u64, Broken)> {
    let key = KeyPair::from_seed([3; 32]).public();
    let mut check = ChainCheck::new(MANIFEST, key, secret);
    events.iter().find_map(|(raw, tag)| {
        let seq = raw.head().unwrap().seq;
        match check.next(raw, tag) {
            Finding::Broken(why) => Some((seq, why)),
            Finding::Good | Finding::Proven | Finding::NotProven | Finding::Hole { .. } => None,
        }
    })
}

#[test]
fn the_memory_holds_the_present_key_and_none_before_it() {
    let (memory, _) = stolen();
    let present = keys()
        .take(40)
        .position(|key| holds(&memory, key.as_bytes()));
    // A start, its checkpoint and ten hours have replaced K0.
    assert_eq!(present, Some(12));
    assert!(!holds(&memory, &secret()), "the secret itself is not in it");
    assert!(!holds(&memory, &KeyPair::from_seed([3; 32]).seed()));
}

#[test]
fn an_hour_that_a_thief_of_the_key_wrote_anew_is_found_with_the_secret_and_without_it() {
    let (memory, events) = stolen();
    check_chain(&events).unwrap();
    let mut key = keys()
        .take(40)
        .find(|key| holds(&memory, key.as_bytes()))
        .unwrap();
    let from = events.iter().position(|(raw, _)| {
        let (head, body) = decode(raw).unwrap();
        head.tick_ms > 9 * HOUR && matches!(body, Body::PainScore(_))
    });
    let from = from.unwrap();
    // A score of 7 becomes one of 1, and everything after it is chained and tagged anew.
    let mut forged = events.clone();
    let (at, body) = decode(&events[from].0).unwrap();
    let Body::PainScore(mut score) = body else {
        unreachable!("found by its kind")
    };
    score.score = 1;
    forged[from].0 = Body::from(score).encode(at).unwrap();
    let mut head = ChainHead::genesis(MANIFEST);
    for (place, (raw, tag)) in forged.iter_mut().enumerate() {
        head = head.after(raw);
        if place >= from {
            *tag = key.tag(&head);
            if matches!(decode(raw), Ok((_, Body::Checkpoint(_)))) {
                key = key.next();
            }
        }
    }
    let with_secret = first_broken(&forged, Some(&secret()));
    assert_eq!(with_secret, Some((at.seq, Broken::Tag)));
    let next_checkpoint = forged[from..].iter().find_map(|(raw, _)| {
        let (head, body) = decode(raw).unwrap();
        matches!(body, Body::Checkpoint(_)).then_some(head.seq)
    });
    let without = first_broken(&forged, None);
    assert_eq!(without, Some((next_checkpoint.unwrap(), Broken::Head)));
    assert_eq!(first_broken(&events, Some(&secret())), None);
}
