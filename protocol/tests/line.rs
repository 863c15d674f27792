//! Two engines over a bad wire end with the same events on both sides: each once, in order, byte
//! for byte, with no hole but those that the pump declared.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod world;

use protocol::link::{State, WINDOW};
use protocol::message::{Ack, ToPump};
use protocol::time::Uptime;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use world::{Faults, Seen, World};

/// The record holds what the journal was given, once and in order, but for declared holes.
fn same_on_both_sides(world: &World) -> Result<(), String> {
    let mut next = 1;
    let mut holes = world.holes.iter().peekable();
    for stored in &world.store {
        let seq = stored.0.seq;
        while next < seq {
            let Some((from, to)) = holes.next() else {
                return Err(format!("{next} is missing and no hole names it"));
            };
            if *from != next || *to >= seq {
                return Err(format!("hole {from}..={to} is named, {next} is missing"));
            }
            next = to + 1;
        }
        if next != seq {
            return Err(format!("{seq} stands where {next} belongs"));
        }
        let truth = world.truth.get(usize::try_from(seq - 1).unwrap());
        if truth != Some(&Some(stored.clone())) {
            return Err(format!("{seq} is not what the pump journaled"));
        }
        next += 1;
    }
    match holes.next() {
        Some(hole) => Err(format!("hole {hole:?} lies where nothing is missing")),
        None => Ok(()),
    }
}

/// A mix of faults drawn from the seed; some are left out, so that each also comes alone.
fn drawn(rng: &mut ChaCha8Rng) -> Faults {
    let mut up_to = |most: u32| {
        if rng.random() {
            rng.random_range(0..=most)
        } else {
            0
        }
    };
    Faults {
        lose: up_to(200),
        damage: up_to(100),
        cut: up_to(100),
        repeat: up_to(100),
        delay: up_to(150),
        forge: up_to(30),
        store_fails: up_to(200),
        pump_starts: up_to(30),
        gateway_starts: up_to(50),
        reopens: up_to(50),
        journal_wiped: up_to(8),
        journal_full: up_to(15),
    }
}

#[test]
fn over_a_bad_wire_both_sides_end_with_the_same_events() {
    let mut all = Seen::default();
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let faults = drawn(&mut rng);
        let events = rng.random_range(100..400);
        let mut world = World::new(rng.random(), faults, events);
        world.run(2 * 3_600_000, |w| w.to_come == 0);
        // No more starts, failures and forgeries; the line stays as bad as it was, and after the
        // last event nothing but heartbeats can show that one is missing.
        world.faults = faults.of_the_line();
        let end = world.now + 600_000;
        world.run(end, World::settled);
        let seen = world.totals();
        assert!(
            world.settled(),
            "seed {seed}, {faults:?}, {seen:?}: {}",
            world.describe()
        );
        if let Err(wrong) = same_on_both_sides(&world) {
            panic!("seed {seed}, {faults:?}: {wrong}");
        }
        all = sum(all, seen);
    }
    // A fault that never came tests nothing.
    let counts = format!("{all:?}");
    assert!(!counts.contains(": 0"), "{counts}");
}

fn sum(a: Seen, b: Seen) -> Seen {
    Seen {
        lost: a.lost + b.lost,
        damaged: a.damaged + b.damaged,
        cut: a.cut + b.cut,
        repeated: a.repeated + b.repeated,
        delayed: a.delayed + b.delayed,
        forged: a.forged + b.forged,
        refused_frames: a.refused_frames + b.refused_frames,
        store_failed: a.store_failed + b.store_failed,
        pump_started: a.pump_started + b.pump_started,
        gateway_started: a.gateway_started + b.gateway_started,
        reopened: a.reopened + b.reopened,
        journal_lost: a.journal_lost + b.journal_lost,
        repeats: a.repeats + b.repeats,
        gaps: a.gaps + b.gaps,
        impossible_acks: a.impossible_acks + b.impossible_acks,
        uncommitted_lost: a.uncommitted_lost + b.uncommitted_lost,
    }
}

#[test]
fn on_a_good_line_nothing_is_sent_twice_and_nothing_is_refused() {
    let mut world = World::new(1, Faults::NONE, 300);
    world.run(3_600_000, World::settled);
    let seen = world.totals();
    assert!(world.settled(), "{}", world.describe());
    assert_eq!(same_on_both_sides(&world), Ok(()));
    assert_eq!((seen.repeats, seen.gaps, seen.refused_frames), (0, 0, 0));
    assert_eq!(world.holes, []);
}

#[test]
fn the_check_of_both_sides_sees_a_loss_a_repeat_and_a_changed_byte() {
    let good = || {
        let mut world = World::new(2, Faults::NONE, 50);
        world.run(3_600_000, World::settled);
        world
    };
    assert_eq!(same_on_both_sides(&good()), Ok(()));
    let mut lost = good();
    lost.store.remove(20);
    assert!(same_on_both_sides(&lost).unwrap_err().contains("missing"));
    let mut repeated = good();
    repeated.store.insert(20, repeated.store[20].clone());
    assert!(same_on_both_sides(&repeated).is_err());
    let mut swapped = good();
    swapped.store.swap(20, 21);
    assert!(same_on_both_sides(&swapped).is_err());
    let mut changed = good();
    changed.store[20].2.0[3] ^= 1;
    assert!(
        same_on_both_sides(&changed)
            .unwrap_err()
            .contains("is not what")
    );
}

#[test]
fn the_last_event_arrives_also_when_a_forged_ack_says_that_it_has() {
    // The line drops everything while the last events happen, and an ack for them is forged.
    let mut world = World::new(3, Faults::NONE, 30);
    world.run(3_600_000, |w| w.to_come == 1);
    world.faults.lose = 1_000;
    world.run(3_600_000, |w| w.to_come == 0);
    let later = world.now + 2_000;
    world.run(later, |_| false);
    world.faults.lose = 0;
    let through_seq = 30;
    world.toward_pump(&ToPump::Ack(Ack { through_seq }));
    let later = world.now + 20_000;
    world.run(later, World::settled);
    assert!(world.settled(), "{}", world.describe());
    assert_eq!(same_on_both_sides(&world), Ok(()));
}

#[test]
fn a_pump_that_starts_while_its_hello_is_lost_is_caught_up_with() {
    let mut world = World::new(4, Faults::NONE, 200);
    world.run(3_600_000, |w| w.to_come == 0 && w.settled());
    world.faults.lose = 1_000;
    world.start_pump();
    let later = world.now + 2_500;
    world.run(later, |_| false);
    world.faults.lose = 0;
    world.to_come = 5;
    let later = world.now + 60_000;
    world.run(later, World::settled);
    assert!(world.settled(), "{}", world.describe());
    assert_eq!(same_on_both_sides(&world), Ok(()));
    assert!(
        world.sender().acked() > WINDOW,
        "the case is about seqs beyond the first window"
    );
}

#[test]
fn a_lost_part_of_the_manifest_is_asked_for_again() {
    for seed in 0..20 {
        let faults = Faults {
            lose: 400,
            ..Faults::NONE
        };
        let mut world = World::new(seed, faults, 0);
        world.run(120_000, |w| w.manifest_stored);
        assert!(world.manifest_stored, "seed {seed}: {}", world.describe());
    }
}

#[test]
fn a_dead_line_is_lost_at_the_gateway_while_noise_goes_on() {
    let mut world = World::new(5, Faults::NONE, 20);
    world.run(30_000, |_| false);
    let (receiver, now) = world.receiver();
    assert!(matches!(receiver.state(now), State::Up { .. }));
    assert!(world.sender().monitored(Uptime::from_millis(world.now)));
    // Every byte is changed in some way: frames arrive, none is good.
    world.faults.damage = 1_000;
    let later = world.now + 12_000;
    world.run(later, |_| false);
    let (receiver, now) = world.receiver();
    assert!(
        matches!(receiver.state(now), State::Lost { .. }),
        "{}",
        world.describe()
    );
    assert!(world.totals().refused_frames > 0);
    assert!(
        !world.sender().monitored(Uptime::from_millis(world.now)),
        "the pump's face says so too"
    );
    world.faults = Faults::NONE;
    let later = world.now + 2_000;
    world.run(later, |_| false);
    let (receiver, now) = world.receiver();
    assert!(matches!(receiver.state(now), State::Up { .. }));
}
