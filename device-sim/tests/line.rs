//! A pump at work on a real pseudo-terminal, and a gateway's receiver at the other end of it.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod bedside;
mod common;

use bedside::Gateway;
use device_sim::fault::{Fault, What};
use device_sim::nurse::NurseEntry;
use device_sim::patient::kind::Kind;
use device_sim::run::{Manners, Remote, run};
use device_sim::setup::Setup;
use device_sim::sim::Simulation;
use device_sim::wire::Damage;
use protocol::event::{Key, Raw};
use protocol::hex::Tag;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

const HOUR: u64 = 3_600_000;

fn start(setup: Setup, link: &Path) -> (Remote, JoinHandle<()>, mpsc::Receiver<NurseEntry>) {
    let remote = Remote::new();
    let (tell, entries) = mpsc::channel();
    let (hand, path) = (remote.clone(), link.to_path_buf());
    let manners = Manners {
        speed: 1_000_000,
        patience_ms: None,
    };
    let thread = std::thread::spawn(move || {
        run(setup, &path, manners, &hand, |entry| {
            tell.send(entry).unwrap_or(());
        })
        .unwrap();
    });
    (remote, thread, entries)
}

fn wanted(setup: Setup) -> Vec<(Raw, Tag)> {
    let mut sim = Simulation::new(setup).unwrap();
    sim.step_until(100 * HOUR);
    sim.journal().into_iter().map(|e| (e.raw, e.tag)).collect()
}

/// Runs until the gateway has all events of a closed trial; gives it back.
fn through(setup: Setup) -> (Gateway, Vec<NurseEntry>) {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("pump");
    let (remote, thread, entries) = start(setup, &link);
    let mut gateway = Gateway::new(&link);
    while !remote.progress().done() {
        gateway.round();
        assert!(
            gateway.wall.uptime().as_millis() < 120_000,
            "{:?}",
            remote.progress()
        );
    }
    remote.stop();
    thread.join().unwrap();
    assert!(
        std::fs::symlink_metadata(&link).is_err(),
        "the link is gone with the pump"
    );
    (gateway, entries.try_iter().collect())
}

#[test]
fn a_trial_comes_through_the_port_byte_for_byte() {
    let (gateway, entries) = through(common::setup(Kind::Responder, 21, 1));
    assert_eq!(
        gateway.events,
        wanted(common::setup(Kind::Responder, 21, 1))
    );
    assert_eq!(
        gateway.manifest,
        common::manifest(Kind::Responder, 21).to_bytes()
    );
    assert_eq!(gateway.bad_frames, 0);
    assert!(entries.len() > 100);
}

#[test]
fn a_pulled_cable_and_a_bad_line_cost_time_and_not_an_event() {
    let mut setup = common::setup(Kind::Responder, 22, 1);
    let plain = wanted(setup.clone());
    let fault = |hour: u64, for_ms, what| Fault {
        at_ms: hour * HOUR,
        for_ms: Some(for_ms),
        what,
    };
    setup.faults = vec![
        fault(26, 700, What::CablePulled),
        fault(
            30,
            1_500,
            What::BadLine(Damage {
                loss: 0.002,
                flip: 0.001,
                truncate: 0.02,
                duplicate: 0.05,
                delay_ms: 3,
            }),
        ),
        fault(
            36,
            1_200,
            What::Silence {
                from_pump: false,
                to_pump: true,
            },
        ),
    ];
    let (gateway, _) = through(setup);
    assert_eq!(gateway.events, plain);
    assert!(gateway.opened >= 2, "the port went away and came back");
}

#[test]
fn the_trial_waits_until_somebody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("pump");
    let (remote, thread, _entries) = start(common::setup(Kind::Responder, 23, 1), &link);
    while remote.face().is_none() {
        device_sim::clock::rest(2);
    }
    device_sim::clock::rest(50);
    assert_eq!(remote.progress().trial_ms, 0);
    let mut gateway = Gateway::new(&link);
    while remote.progress().trial_ms == 0 {
        gateway.round();
    }
    remote.stop();
    thread.join().unwrap();
}

#[test]
fn the_clock_stands_still_while_events_wait_for_an_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("pump");
    let (remote, thread, _entries) = start(common::setup(Kind::Responder, 24, 1), &link);
    let mut gateway = Gateway::new(&link);
    while gateway.events.is_empty() {
        gateway.round();
    }
    // Nobody reads any more; the pump runs into its limit and stays there.
    let mut still = 0;
    let mut before = remote.progress();
    while still < 20 {
        device_sim::clock::rest(10);
        let now = remote.progress();
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    assert!(!before.closed);
    assert!(
        before.last_seq - before.acked_seq <= device_sim::run::BACKLOG_MAX + 16,
        "{before:?}"
    );
    while !remote.progress().done() {
        gateway.round();
    }
    remote.stop();
    thread.join().unwrap();
    assert_eq!(
        gateway.events,
        wanted(common::setup(Kind::Responder, 24, 1))
    );
}

#[test]
fn a_person_may_press_keys_at_real_speed() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("pump");
    let mut setup = common::setup(Kind::Responder, 25, 1);
    setup.quiet_patient = true;
    let remote = Remote::new();
    let (hand, path) = (remote.clone(), link.clone());
    let manners = Manners {
        speed: 1,
        patience_ms: None,
    };
    let thread = std::thread::spawn(move || {
        run(setup, &path, manners, &hand, |_| ()).unwrap();
    });
    let mut gateway = Gateway::new(&link);
    while gateway.events.is_empty() {
        gateway.round();
    }
    for key in [Key::Digit7, Key::Confirm] {
        let before = gateway.wall.uptime();
        remote.press(key, 60);
        while gateway.wall.uptime().millis_since(before) < 120 {
            gateway.round();
        }
    }
    let seven = |(raw, _): &(Raw, Tag)| {
        matches!(
            protocol::event::decode(raw),
            Ok((_, protocol::event::Body::PainScore(score))) if score.score == 7 && score.confirmed
        )
    };
    while !gateway.events.iter().any(seven) {
        gateway.round();
        assert!(gateway.wall.uptime().as_millis() < 60_000);
    }
    remote.stop();
    thread.join().unwrap();
}
