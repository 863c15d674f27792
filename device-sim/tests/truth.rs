//! What the virtual patients are worth: for eight seeds of each kind, what an analysis should be
//! able to find is there. Relief is of plain means of the confirmed scores at rest; the baseline is
//! the first 24 h, therapy begins at 24 h.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use device_sim::patient::kind::Kind;
use device_sim::sim::Simulation;
use protocol::event::{Body, CloseReason, Condition, decode};

const HOUR: u64 = 3_600_000;
const SEEDS: core::ops::RangeInclusive<u64> = 1..=8;

struct Lived {
    scores: Vec<(u64, u8)>,
    close: Option<(u64, CloseReason)>,
    events: usize,
    demands: Vec<u64>,
}

impl Lived {
    fn mean(&self, hours: core::ops::Range<u64>) -> f64 {
        let span = hours.start * HOUR..hours.end * HOUR;
        let part: Vec<f64> = self
            .scores
            .iter()
            .filter(|(at, _)| span.contains(at))
            .map(|(_, score)| f64::from(*score))
            .collect();
        part.iter().sum::<f64>() / f64::from(u32::try_from(part.len()).unwrap())
    }

    fn relief(&self, hours: core::ops::Range<u64>) -> f64 {
        1.0 - self.mean(hours) / self.mean(0..24)
    }
}

fn live(kind: Kind, seed: u64) -> Lived {
    let mut sim = Simulation::new(common::setup(kind, seed, 4)).unwrap();
    sim.step_until(122 * HOUR);
    let journal = sim.journal();
    let mut lived = Lived {
        scores: Vec::new(),
        close: None,
        events: journal.len(),
        demands: Vec::new(),
    };
    for event in &journal {
        let body = decode(&event.raw).unwrap().1;
        if let Body::PainScore(s) = body
            && s.confirmed
            && s.condition == Condition::Rest
        {
            lived.scores.push((event.trial_ms, s.score));
        } else if let Body::TrialClosed(closed) = body {
            lived.close = Some((event.trial_ms, closed.reason));
        } else if let Body::BolusRequested(_) = body {
            lived.demands.push(event.trial_ms);
        }
    }
    println!(
        "{kind} seed {seed}: {} events, {} scores, baseline {:.2}, 32-45 h {:.2}, from 60 h {:.2} \
         ({:.0} %), {} demands, closed {:?}, refused {:?}",
        lived.events,
        lived.scores.len(),
        lived.mean(0..24),
        lived.mean(32..45),
        lived.mean(60..120),
        100.0 * lived.relief(60..120),
        lived.demands.len(),
        lived.close.map(|(at, reason)| (at / HOUR, reason)),
        sim.refused,
    );
    lived
}

#[test]
fn a_responder_has_at_least_60_percent_relief() {
    for seed in SEEDS {
        let lived = live(Kind::Responder, seed);
        assert!(lived.relief(60..120) >= 0.60, "seed {seed}");
        assert_eq!(lived.close.unwrap().1, CloseReason::Planned);
    }
}

#[test]
fn a_non_responder_has_at_most_25_percent() {
    for seed in SEEDS {
        let lived = live(Kind::NonResponder, seed);
        assert!(lived.relief(60..120) <= 0.25, "seed {seed}");
        assert!(lived.demands.len() > 10, "seed {seed}: asks for boluses");
    }
}

#[test]
fn a_leak_takes_relief_away_that_was_there() {
    for seed in SEEDS {
        let lived = live(Kind::Leak, seed);
        assert!(lived.relief(31..45) >= 0.45, "seed {seed}: before");
        assert!(lived.relief(62..120) <= 0.25, "seed {seed}: after");
    }
}

#[test]
fn a_placebo_response_stays_below_40_percent_and_fades() {
    for seed in SEEDS {
        let lived = live(Kind::Placebo, seed);
        assert!(lived.relief(24..120) < 0.40, "seed {seed}: overall");
        assert!(lived.relief(72..120) <= 0.25, "seed {seed}: late");
        assert!(
            lived.relief(25..38) > lived.relief(72..120),
            "seed {seed}: fades"
        );
    }
}

#[test]
fn side_effects_come_with_relief_and_end_the_trial_for_safety() {
    for seed in SEEDS {
        let lived = live(Kind::SideEffects, seed);
        let (at, reason) = lived.close.unwrap();
        assert_eq!(reason, CloseReason::Safety, "seed {seed}");
        assert!(
            (48 * HOUR..110 * HOUR).contains(&at),
            "seed {seed}: {} h",
            at / HOUR
        );
        assert!(lived.relief(36..60) >= 0.50, "seed {seed}");
    }
}

#[test]
fn withdrawal_is_relief_with_a_night_of_pain_in_the_middle() {
    for seed in SEEDS {
        let lived = live(Kind::Withdrawal, seed);
        assert!(lived.relief(40..66) >= 0.50, "seed {seed}: before");
        let worst = (66..90).map(|h| lived.mean(h..h + 6)).fold(0.0, f64::max);
        assert!(worst >= 0.85 * lived.mean(0..24), "seed {seed}: {worst}");
        assert!(lived.relief(98..120) >= 0.45, "seed {seed}: after");
    }
}
