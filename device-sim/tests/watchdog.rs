//! A part that hangs starves the watchdog: the pump is reset, says why, and infuses nothing until
//! a person says so.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that fails says where"
)]

mod common;

use device_sim::fault::{Fault, What};
use device_sim::patient::kind::Kind;
use device_sim::sim::Simulation;
use firmware::watchdog::TIMEOUT_MS;
use protocol::event::{Body, BootReason, StopReason, decode};

const HOUR: u64 = 3_600_000;
/// Therapy began a day after the origin; nothing else is due at this moment.
const AT: u64 = 30 * HOUR + 17 * 60_000 + 4_321;

fn lived(what: What, for_ms: Option<u64>) -> Vec<(u64, u32, Body)> {
    let mut setup = common::setup(Kind::Responder, 31, 1);
    setup.faults = vec![Fault {
        at_ms: AT,
        for_ms,
        what,
    }];
    let mut sim = Simulation::new(setup).unwrap();
    sim.step_until(32 * HOUR);
    let journal = sim.journal().into_iter();
    journal
        .map(|event| {
            let (head, body) = decode(&event.raw).unwrap();
            (event.trial_ms, head.boot, body)
        })
        .collect()
}

#[test]
fn a_part_that_hangs_is_reset_and_the_start_says_why() {
    for what in [What::ProgramHangs, What::LineHangs] {
        let events = lived(what, None);
        let (at, _, body) = events.iter().find(|(_, boot, _)| *boot == 2).unwrap();
        assert!(
            matches!(body, Body::PoweredOn(on) if on.reason == BootReason::Watchdog),
            "{body:?}"
        );
        assert!((AT..=AT + TIMEOUT_MS + 1).contains(at), "{what:?} at {at}");
        let after = events.iter().filter(|(_, boot, _)| *boot == 2);
        let mut stopped = false;
        for (_, _, body) in after {
            match body {
                Body::InfusionStopped(stop) => stopped |= stop.reason == StopReason::PowerLost,
                Body::SelfTest(test) => assert!(test.passed),
                Body::Delivered(_) => assert!(stopped, "{what:?}"),
                Body::InfusionStarted(_) => break,
                _ => {}
            }
        }
        assert!(stopped, "{what:?}");
    }
}

#[test]
fn a_part_that_hangs_for_less_than_the_timeout_is_left_alone() {
    for what in [What::ProgramHangs, What::LineHangs] {
        let events = lived(what, Some(TIMEOUT_MS - 1));
        assert!(events.iter().all(|(_, boot, _)| *boot == 1), "{what:?}");
    }
}

#[test]
fn a_watchdog_that_does_not_run_out_fails_the_self_test_and_nothing_is_infused() {
    let mut setup = common::setup(Kind::Responder, 31, 1);
    setup.watchdog_broken = true;
    let mut sim = Simulation::new(setup).unwrap();
    sim.step_until(30 * HOUR);
    let bodies: Vec<Body> = sim
        .journal()
        .iter()
        .map(|event| decode(&event.raw).unwrap().1)
        .collect();
    let tested = bodies.iter().find_map(|body| match body {
        Body::SelfTest(test) => Some(*test),
        _ => None,
    });
    assert_eq!(
        tested.map(|t| (t.passed, t.failed_parts)),
        Some((false, 1 << 4))
    );
    let infused = bodies.iter().any(|b| matches!(b, Body::InfusionStarted(_)));
    assert!(!infused);
}
