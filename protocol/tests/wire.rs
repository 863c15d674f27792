//! Values have the bytes of postcard, and what postcard takes or refuses is taken or refused here:
//! whoever reads a record with that library reads the same.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod examples;

use examples::{HEAD, facts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use protocol::bedside::{
    AlarmChanged, BootAnchored, ClockStepped, GatewayStarted, LinkChanged, Observation,
    Quarantined, Rescue, ScoreEntry, Stored,
};
use protocol::event::{
    Alarm, AlarmCode, Battery, BolusDecision, BolusDelivered, BolusRequested, BootReason,
    ChangedBy, Checkpoint, ClockSet, CloseReason, Condition, Delivered, Door, Head,
    InfusionStarted, InfusionStopped, JournalLost, Key, KeyStuck, PainScore, Phase, PoweredOn,
    Priority, ProgramChanged, PromptNotAnswered, Purpose, RateChanged, Refusal, Reservoir,
    ReservoirChange, SelfTest, StopReason, TrialClosed,
};
use protocol::hex::{Digest, Hex, Signature, Tag};
use protocol::message::{Ack, Heartbeat, Hello, Resume, Source, TimeReply, TimeRequest};
use protocol::units::{Concentration, FlowRate, Mass, Volume};
use protocol::wire::{Reader, Wire, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::fmt::Debug;

/// Reads one value both ways, and writes it both ways where it is one.
fn same<T: Wire + Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let name = std::any::type_name::<T>();
    let theirs = postcard::take_from_bytes::<T>(bytes).ok();
    let mut from = Reader::new(bytes);
    let value = T::take(&mut from);
    let ours = from.rest().map(|rest| (value, rest));
    assert_eq!(ours, theirs, "{name} of {bytes:02x?}");
    let Some((value, _)) = ours else {
        return false;
    };
    let wanted = postcard::to_allocvec(&value).unwrap();
    let mut room = vec![0; wanted.len()];
    assert_eq!(encode(&value, &mut room), Some(wanted.len()), "{name}");
    assert_eq!(room, wanted, "{name} {value:?}");
    // One byte less is too little, and is said to be.
    let small = wanted.len().checked_sub(1).and_then(|n| room.get_mut(..n));
    assert!(small.is_none_or(|r| encode(&value, r).is_none()), "{name}");
    true
}

/// Calls `same` for each type; gives how many of them took the bytes.
macro_rules! every_type {
    ($bytes:expr, $($name:ty),* $(,)?) => {
        [$(same::<$name>($bytes)),*].map(usize::from)
    };
}

fn taken(bytes: &[u8]) -> Vec<usize> {
    every_type!(
        bytes,
        u8,
        bool,
        u16,
        u32,
        u64,
        i16,
        i64,
        Option<u8>,
        Option<u32>,
        Option<u64>,
        [u8; 3],
        [u32; 4],
        String,
        Source,
        Digest,
        Tag,
        Signature,
        Volume,
        FlowRate,
        Mass,
        Concentration,
        Head,
        BootReason,
        Purpose,
        StopReason,
        ChangedBy,
        Condition,
        ReservoirChange,
        AlarmCode,
        Priority,
        Phase,
        Key,
        Refusal,
        CloseReason,
        BolusDecision,
        PoweredOn,
        InfusionStarted,
        InfusionStopped,
        RateChanged,
        Delivered,
        BolusRequested,
        BolusDelivered,
        PainScore,
        PromptNotAnswered,
        Reservoir,
        Alarm,
        Battery,
        KeyStuck,
        Door,
        ProgramChanged,
        ClockSet,
        SelfTest,
        JournalLost,
        Checkpoint,
        TrialClosed,
        Hello,
        Heartbeat,
        TimeReply,
        Ack,
        Resume,
        TimeRequest,
        GatewayStarted,
        LinkChanged,
        ClockStepped,
        Observation,
        Rescue,
        AlarmChanged,
        Stored,
        ScoreEntry,
        Quarantined,
        BootAnchored,
    )
    .to_vec()
}

/// Bytes that are values often enough: small numbers, letters, and long numbers.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => 0..3_u8, 2 => b'a'..b'd', 1 => 0x7E..=0x81_u8, 1 => any::<u8>()];
    let long = vec(0x80..=0xFF_u8, 0..10);
    let part = prop_oneof![9 => byte.prop_map(|b| vec![b]), 1 => long];
    vec(part, 0..160).prop_map(|parts| parts.concat())
}

/// One value of each event and message, with one byte of it changed.
fn nearly_right() -> Vec<Vec<u8>> {
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 2,
        source: Source::new("EP-0193").unwrap(),
        boot: 300,
        manifest: Hex([0xA5; 32]),
        manifest_len: 1_000,
        key: Hex([0x5A; 32]),
        simulated: true,
    };
    let bodies = facts().into_iter().map(|(_, fact)| {
        let raw = fact.encode(HEAD).unwrap();
        let (_, body) = postcard::take_from_bytes::<Head>(raw.body()).unwrap();
        body.to_vec()
    });
    let mut out = Vec::new();
    for right in bodies.chain([postcard::to_allocvec(&hello).unwrap()]) {
        for place in 0..right.len() {
            for change in [0, 1, 0x80, 0xFF] {
                let mut bytes = right.clone();
                bytes[place] ^= change;
                out.push(bytes);
            }
        }
    }
    out
}

#[test]
fn every_type_has_the_bytes_of_postcard_and_refuses_what_postcard_refuses() {
    let config = Config {
        cases: 3_000,
        rng_seed: RngSeed::Fixed(0x57_1e),
        failure_persistence: None,
        ..Config::default()
    };
    let mut sums = taken(&[]);
    let mut add = |bytes: &[u8]| {
        for (sum, one) in sums.iter_mut().zip(taken(bytes)) {
            *sum += one;
        }
    };
    for bytes in nearly_right() {
        add(&bytes);
    }
    let add = RefCell::new(add);
    let run = TestRunner::new(config).run(&bytes(), |bytes| {
        add.borrow_mut()(&bytes);
        Ok(())
    });
    run.unwrap();
    // A type whose bytes never come would be held against nothing.
    assert!(sums.iter().all(|sum| *sum > 20), "taken: {sums:?}");
}

#[test]
fn the_longest_numbers_are_taken_and_nothing_beyond() {
    for last in 0..=u8::MAX {
        for len in 0..12 {
            let mut bytes = vec![0xFF; len];
            bytes.push(last);
            bytes.push(0);
            same::<u16>(&bytes);
            same::<u32>(&bytes);
            same::<u64>(&bytes);
            same::<i16>(&bytes);
            same::<i64>(&bytes);
            same::<String>(&bytes);
            same::<AlarmCode>(&bytes);
        }
    }
    for value in [i64::MIN, i64::MAX, -1, 0, 1] {
        same::<i64>(&postcard::to_allocvec(&value).unwrap());
    }
    for value in i16::MIN..=i16::MAX {
        same::<i16>(&postcard::to_allocvec(&value).unwrap());
    }
}
