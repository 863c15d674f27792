//! The journal of a simulated trial is a function of its setup alone.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use device_sim::patient::kind::Kind;
use device_sim::sim::{Journaled, Simulation};
use protocol::chain::{ChainCheck, Finding};
use protocol::time::Uptime;

const HOUR: u64 = 3_600_000;

fn whole(kind: Kind, seed: u64) -> Vec<Journaled> {
    let mut sim = Simulation::new(common::setup(kind, seed, 1)).unwrap();
    sim.step_until(60 * HOUR);
    sim.journal()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let first = whole(Kind::Responder, 7);
    assert!(first.len() > 1_000, "{}", first.len());
    assert_eq!(first, whole(Kind::Responder, 7));
    assert_ne!(first, whole(Kind::Responder, 8));
}

/// However the wall, the line and the steps of the loop fall.
#[test]
fn neither_steps_nor_bytes_on_the_line_change_the_journal() {
    let wanted = whole(Kind::Withdrawal, 5);
    let mut sim = Simulation::new(common::setup(Kind::Withdrawal, 5, 1)).unwrap();
    let mut wall = 0;
    let mut at = 0;
    for i in 1_u64.. {
        wall += i % 700;
        at += (i * 7_919) % 400_000;
        let noise: Vec<u8> = (0..i % 90)
            .map(|n| u8::try_from((n * i) % 256).unwrap())
            .collect();
        sim.handle_bytes(Uptime::from_millis(wall), &noise);
        for _ in 0..i % 5 {
            sim.poll_bytes(Uptime::from_millis(wall));
        }
        sim.step_until(at);
        if sim.closed() || at > 60 * HOUR {
            break;
        }
    }
    assert_eq!(sim.journal(), wanted);
}

#[test]
fn every_event_of_a_trial_is_proven_by_its_chain() {
    let setup = common::setup(Kind::Responder, 7, 1);
    let secret = setup.keys.tag_secret();
    let key = setup.keys.public();
    let mut check = ChainCheck::new(setup.manifest.as_chain_root(), key, Some(&secret));
    let journal = whole(Kind::Responder, 7);
    for event in &journal {
        let finding = check.next(&event.raw, &event.tag);
        let sound = matches!(finding, Finding::Good | Finding::Proven);
        assert!(sound, "{finding:?} at {:?}", event.raw.head());
    }
    assert!(check.closed(), "the close is under a checkpoint");
    let last = journal.last().unwrap().raw.head().unwrap().seq;
    assert_eq!(check.proven_through, last);
}
