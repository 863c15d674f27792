//! Whatever is at the other end of the line, or nothing: the same trial gives the same journal,
//! event by event with its tag, and the same drug at the spine to the last bit.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use device_sim::chance::{Chance, Concern};
use device_sim::patient::kind::Kind;
use device_sim::sim::{Journaled, Simulation};
use protocol::event::{Body, decode};
use protocol::frame::encode_to_pump;
use protocol::message::{Ack, Resume, TimeRequest, ToPump};
use protocol::time::Uptime;

const HOUR: u64 = 3_600_000;
/// The line is served each 10 minutes of the trial.
const EVERY: u64 = 600_000;

struct Lived {
    journal: Vec<Journaled>,
    patient: String,
    boluses: usize,
}

/// A day without therapy and a day with it, with a bolus key that is pressed often.
fn lived(mut at_line: impl FnMut(Uptime, &mut Simulation)) -> Lived {
    let setup = common::setup(Kind::NonResponder, 77, 1);
    let mut sim = Simulation::new(setup).unwrap();
    for turn in 1..=50 * HOUR / EVERY {
        sim.step_until(turn * EVERY);
        at_line(Uptime::from_millis(turn * 700), &mut sim);
    }
    assert!(sim.closed(), "refused: {:?}", sim.refused);
    let journal = sim.journal();
    let boluses = journal
        .iter()
        .filter(|e| matches!(decode(&e.raw).unwrap().1, Body::BolusDelivered(_)))
        .count();
    Lived {
        patient: format!("{:?}", sim.patient()),
        journal,
        boluses,
    }
}

fn assert_same(what: &str, seen: &Lived, wanted: &Lived) {
    for (n, (seen, wanted)) in seen.journal.iter().zip(&wanted.journal).enumerate() {
        assert_eq!(seen, wanted, "{what}: event {n}");
    }
    assert_eq!(seen.journal.len(), wanted.journal.len(), "{what}");
    assert_eq!(seen.patient, wanted.patient, "{what}: what the patient got");
}

fn frame(message: ToPump) -> Vec<u8> {
    encode_to_pump(&message).unwrap().as_bytes().to_vec()
}

/// Reads all that the pump has to say.
fn drain(now: Uptime, sim: &mut Simulation) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = sim.poll_bytes(now);
        if bytes.is_empty() || all.len() > 100_000 {
            return all;
        }
        all.extend(bytes);
    }
}

#[test]
fn the_trial_is_the_same_to_the_bit_whoever_is_at_the_line() {
    let absent = lived(|_, _| {});
    assert!(absent.boluses > 0 && absent.journal.len() > 300);

    let mut honest_acked = 0;
    let honest = lived(|now, sim| {
        let last = sim.last_seq();
        let _ = drain(now, sim);
        sim.handle_bytes(now, &frame(ToPump::Ack(Ack { through_seq: last })));
        honest_acked = sim.acked_seq();
    });
    assert!(honest_acked > 300, "{honest_acked}");
    assert_same("an honest gateway", &honest, &absent);

    let mut flood_bytes = 0;
    let mut chance = Chance::new(5, Concern::Wire);
    let flooding = lived(|now, sim| {
        // Noise, half frames and questions, far more than a line carries.
        for _ in 0..50 {
            let noise: Vec<u8> = (0..900)
                .map(|_| u8::try_from(chance.whole_between(0, 255)).unwrap())
                .collect();
            let id = u32::try_from(chance.whole_between(0, 9_999)).unwrap();
            let mut bytes = frame(ToPump::TimeRequest(TimeRequest { id }));
            bytes.extend(noise);
            flood_bytes += bytes.len();
            sim.handle_bytes(now, &bytes);
        }
        let _ = sim.poll_bytes(now);
    });
    assert!(flood_bytes > 10_000_000, "{flood_bytes}");
    assert_same("a flood", &flooding, &absent);

    let (mut lied, mut asked) = (0, 0);
    let hostile = lived(|now, sim| {
        // Acknowledges what it never saw, then asks for all of it again, and throws its own words back.
        for through_seq in [sim.last_seq(), u64::MAX, 0, sim.last_seq() / 2] {
            sim.handle_bytes(now, &frame(ToPump::Ack(Ack { through_seq })));
        }
        lied = lied.max(sim.acked_seq());
        sim.handle_bytes(
            now,
            &frame(ToPump::Resume(Resume {
                last_contiguous_seq: 0,
                want_hello: true,
                want_manifest: true,
            })),
        );
        let said = drain(now, sim);
        asked += said.len();
        sim.handle_bytes(now, &said);
    });
    assert!(lied > 300 && asked > 1_000_000, "{lied} {asked}");
    assert_same("a hostile gateway", &hostile, &absent);

    let mut heard = 0;
    let deaf = lived(|now, sim| heard += drain(now, sim).len());
    assert!(heard > 1_000);
    assert_same("a line that only goes out", &deaf, &absent);

    let mute = lived(|now, sim| {
        let resume = Resume {
            last_contiguous_seq: 0,
            want_hello: true,
            want_manifest: false,
        };
        sim.handle_bytes(now, &frame(ToPump::Resume(resume)));
    });
    assert_same("a line that only comes in", &mute, &absent);
}
