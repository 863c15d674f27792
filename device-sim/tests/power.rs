//! Power that fails inside a write, and a process that was killed: the pump goes on with a new
//! start, and what it had journaled stays as it was.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use device_sim::chance::{Chance, Concern};
use device_sim::fault::{Fault, What};
use device_sim::patient::kind::Kind;
use device_sim::sim::{Journaled, Simulation};
use protocol::chain::{ChainCheck, Finding};
use protocol::event::{Body, BootReason, decode};

const HOUR: u64 = 3_600_000;

fn lived(faults: Vec<Fault>) -> Vec<Journaled> {
    let mut setup = common::setup(Kind::Responder, 31, 1);
    setup.faults = faults;
    let mut sim = Simulation::new(setup).unwrap();
    sim.step_until(50 * HOUR);
    assert!(sim.closed(), "refused: {:?}", sim.refused);
    sim.journal()
}

fn assert_whole(journal: &[Journaled]) {
    let setup = common::setup(Kind::Responder, 31, 1);
    let secret = setup.keys.tag_secret();
    let key = setup.keys.public();
    let mut check = ChainCheck::new(setup.manifest.as_chain_root(), key, Some(&secret));
    let mut counters = (0, 0, 0);
    for event in journal {
        let finding = check.next(&event.raw, &event.tag);
        let sound = matches!(finding, Finding::Good | Finding::Proven);
        assert!(sound, "{finding:?} at {:?}", event.raw.head());
        if let Body::Delivered(d) = decode(&event.raw).unwrap().1 {
            let now = (d.delivered_nl, d.programmed_nl, d.encoder_counts);
            let falls = now.0 < counters.0 || now.1 < counters.1 || now.2 < counters.2;
            assert!(!falls, "{counters:?}, then {now:?}");
            counters = now;
        }
    }
    assert!(check.closed());
}

#[test]
fn a_cut_at_any_byte_of_a_write_leaves_a_whole_journal() {
    let plain = lived(Vec::new());
    let mut chance = Chance::new(99, Concern::Plant);
    for round in 0..24 {
        let at_ms = chance.whole_between(25 * HOUR, 46 * HOUR);
        let after_bytes = chance.whole_between(0, 700);
        println!("round {round}: cut at {at_ms} ms after {after_bytes} bytes");
        let journal = lived(vec![Fault {
            at_ms,
            for_ms: Some(60_000),
            what: What::PowerCut {
                after_bytes: Some(after_bytes),
                warned: false,
            },
        }]);
        assert_whole(&journal);
        let restart = journal
            .iter()
            .position(|e| e.raw.head().unwrap().boot == 2)
            .unwrap();
        assert_eq!(
            journal.get(..restart),
            plain.get(..restart),
            "what was before is as it was"
        );
        let (_, body) = decode(&journal.get(restart).unwrap().raw).unwrap();
        assert!(
            matches!(body, Body::PoweredOn(on) if on.reason == BootReason::BrownOut),
            "{body:?}"
        );
    }
}

#[test]
fn a_killed_process_goes_on_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = common::setup(Kind::Responder, 31, 1);
    setup.memory = Some(dir.path().join("flash"));
    let mut first = Simulation::new(setup.clone()).unwrap();
    first.step_until(30 * HOUR);
    let before = first.journal();
    drop(first);
    let mut second = Simulation::new(setup).unwrap();
    let off = 30 * HOUR - second.now_ms();
    assert!(off <= 60_000, "{off} ms");
    second.step_until(50 * HOUR);
    assert!(second.closed(), "refused: {:?}", second.refused);
    let journal = second.journal();
    assert_whole(&journal);
    let raws = |part: &[Journaled]| {
        part.iter()
            .map(|e| (e.raw.clone(), e.tag))
            .collect::<Vec<_>>()
    };
    assert_eq!(raws(journal.get(..before.len()).unwrap()), raws(&before));
    assert_eq!(
        journal.get(before.len()).unwrap().raw.head().unwrap().boot,
        2
    );
    let infusing = journal
        .iter()
        .skip(before.len())
        .any(|e| matches!(decode(&e.raw).unwrap().1, Body::InfusionStarted(_)));
    assert!(infusing, "the nurse starts it again");
}

#[test]
fn a_process_that_was_away_for_an_hour_goes_on_an_hour_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = common::setup(Kind::Responder, 31, 1);
    setup.memory = Some(dir.path().join("flash"));
    let mut first = Simulation::new(setup.clone()).unwrap();
    first.step_until(2 * HOUR);
    drop(first);
    // The caller's clock at the second start is three hours after the first.
    setup.clock.origin_utc_ms += i64::try_from(3 * HOUR).unwrap();
    let mut second = Simulation::new(setup).unwrap();
    assert_eq!(second.now_ms(), 3 * HOUR);
    second.step_until(4 * HOUR);
    let start = second
        .journal()
        .into_iter()
        .filter_map(|e| decode(&e.raw).ok())
        .filter(|(head, _)| head.boot == 2)
        .find_map(|(_, body)| {
            let Body::PoweredOn(on) = body else {
                return None;
            };
            on.own_clock_utc_ms
        });
    let wanted = common::CLOCK.origin_utc_ms + i64::try_from(3 * HOUR).unwrap();
    assert_eq!(start, u64::try_from(wanted).ok());
}
