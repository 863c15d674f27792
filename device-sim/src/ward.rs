//! Patient, nurse and plant together, in steps of a minute, around whatever pump there is: what
//! the pump shows goes in, what hands do comes out.

use crate::nurse::{Act, Nurse, NurseEntry, Plan, Seen};
use crate::patient::habits::Press;
use crate::patient::kind::Kind;
use crate::patient::{LocalClock, Patient, Vitals};
use crate::plant::Plant;
use protocol::event::{AlarmCode, CloseReason};

/// From slipping out to what a look at the dressing shows.
const LEAK_SHOWS_AFTER_MS: u64 = 12 * 3_600_000;
/// The part of the flow that no longer reaches the spine then.
const LEAK_PART: f64 = 0.97;

/// What the pump shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PumpView {
    /// It follows a rate for the patient.
    pub infusing: bool,
    /// Conditions that are on.
    pub alarms: Vec<AlarmCode>,
    /// Left in the reservoir, as it computes.
    pub reservoir_nl: u64,
}

/// What is to be done at the pump by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hand {
    /// The patient presses a key.
    Press(Press),
    /// The nurse primes the line.
    Prime {
        /// So much.
        volume_nl: u64,
    },
    /// The nurse starts the therapy.
    Start {
        /// At this rate.
        rate_nl_per_h: u32,
    },
    /// The nurse sets another rate.
    SetRate {
        /// This one.
        rate_nl_per_h: u32,
    },
    /// The nurse stops the therapy.
    Stop,
    /// The nurse puts in a fresh reservoir.
    ChangeReservoir {
        /// With so much in it.
        fill_nl: u64,
    },
    /// The nurse frees stuck keys.
    FreeKeys,
    /// The nurse lets a pump that stopped itself infuse again.
    ReleaseLatch,
    /// The nurse closes the trial.
    Close(CloseReason),
    /// The nurse writes something down.
    Say(NurseEntry),
}

/// The people.
#[derive(Clone, Debug)]
pub struct Ward {
    clock: LocalClock,
    /// The patient.
    pub patient: Patient,
    nurse: Nurse,
    leaking_since_ms: Option<u64>,
    quiet: bool,
}

impl Ward {
    /// At the origin of a trial. A quiet patient presses nothing.
    pub fn new(kind: Kind, seed: u64, clock: LocalClock, plan: Plan, quiet: bool) -> Self {
        Self {
            clock,
            patient: Patient::new(kind, seed, clock),
            nurse: Nurse::new(plan, seed, clock.ms_of_day(0)),
            leaking_since_ms: None,
            quiet,
        }
    }

    /// A new process goes on with an older trial: it is so late, and the pump is programmed so.
    pub fn go_on(&mut self, now_ms: u64, programmed_nl_per_h: u32) {
        self.nurse.go_on(now_ms, programmed_nl_per_h);
        self.patient.go_on(now_ms);
    }

    /// The patient entered a confirmed score at rest.
    pub fn note_score(&mut self, now_ms: u64, score: u8) {
        self.nurse.note_score(now_ms, score);
    }

    /// The pump refused a bolus.
    pub fn note_refusal(&mut self, now_ms: u64) {
        self.patient.refused(now_ms);
    }

    /// The nurse has closed the trial.
    pub fn closed(&self) -> bool {
        self.nurse.closed()
    }

    /// The pump asks for a score.
    pub fn asked(
        &mut self,
        now_ms: u64,
        condition: protocol::event::Condition,
        again: bool,
    ) -> Vec<Press> {
        if self.quiet {
            return Vec::new();
        }
        self.patient.asked(now_ms, condition, again)
    }

    /// What the patient is like now, for who looks.
    pub fn vitals(&self, now_ms: u64) -> Vitals {
        self.patient.vitals(now_ms)
    }

    /// The minute that ends now.
    pub fn minute(&mut self, now_ms: u64, pump: &PumpView, plant: &mut Plant) -> Vec<Hand> {
        let reached = plant.take_outflow().reached_ng;
        let presses = self.patient.live_minute(now_ms, reached, pump.infusing);
        self.slip(now_ms, plant);
        let seen = Seen {
            now_ms,
            ms_of_day: self.clock.ms_of_day(now_ms),
            hour: self.clock.hour(now_ms),
            infusing: pump.infusing,
            alarms: pump.alarms.clone(),
            reservoir_nl: pump.reservoir_nl,
            asleep: self.patient.asleep(now_ms),
            vitals: self.patient.vitals(now_ms),
            catheter_finding: self.finding(now_ms),
        };
        let mut hands = Vec::new();
        if !self.quiet {
            hands.extend(presses.into_iter().map(Hand::Press));
        }
        for act in self.nurse.minute(&seen) {
            hands.extend(self.carry_out(act, plant));
        }
        hands
    }

    fn slip(&mut self, now_ms: u64, plant: &mut Plant) {
        let (Some(after), Some(since)) =
            (self.patient.leak_after_ms(), self.nurse.therapy_since_ms())
        else {
            return;
        };
        if self.leaking_since_ms.is_none() && now_ms >= since.saturating_add(after) {
            self.leaking_since_ms = Some(now_ms);
            plant.catheter.leak(LEAK_PART);
        }
    }

    fn finding(&self, now_ms: u64) -> u8 {
        let shows = |since: u64| now_ms >= since.saturating_add(LEAK_SHOWS_AFTER_MS);
        if self.leaking_since_ms.is_some_and(shows) {
            2
        } else {
            0
        }
    }

    /// What concerns patient and plant is done here, the rest is the pump's.
    fn carry_out(&mut self, act: Act, plant: &mut Plant) -> Option<Hand> {
        match act {
            Act::Prime { volume_nl } => {
                plant.catheter.connect(false);
                Some(Hand::Prime { volume_nl })
            }
            Act::Start { rate_nl_per_h } => {
                plant.catheter.connect(true);
                Some(Hand::Start { rate_nl_per_h })
            }
            Act::SetRate { rate_nl_per_h } => Some(Hand::SetRate { rate_nl_per_h }),
            Act::Stop => Some(Hand::Stop),
            Act::ChangeReservoir { fill_nl } => {
                plant.fill(fill_nl);
                Some(Hand::ChangeReservoir { fill_nl })
            }
            Act::FreeLine => {
                plant.free_line();
                None
            }
            Act::ChangeBattery => {
                plant.charge(100);
                None
            }
            Act::TidyPump => {
                plant.door_open = false;
                Some(Hand::FreeKeys)
            }
            Act::ReleaseLatch => Some(Hand::ReleaseLatch),
            Act::GiveOral { dose_mcg } => {
                self.patient.swallow(dose_mcg);
                None
            }
            Act::Close(reason) => Some(Hand::Close(reason)),
            Act::Say(entry) => Some(Hand::Say(entry)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nurse::NurseEntry;
    use protocol::event::{Condition, Key};
    use protocol::topics::Entry;

    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;

    /// What a trial under a pump without logic brought: hourly scores, entries, bolus presses.
    struct Lived {
        scores: Vec<(u64, u8)>,
        entries: Vec<NurseEntry>,
        demands: Vec<u64>,
        closed: Option<(u64, CloseReason)>,
        interrupted_ms: u64,
    }

    fn live(kind: Kind, seed: u64) -> Lived {
        let clock = LocalClock {
            origin_utc_ms: 8 * 3_600_000,
            offset_min: 0,
        };
        let plan = crate::setup::plan(kind, 24 * HOUR, 96 * HOUR, "t");
        let first = crate::setup::first_fill_nl(kind, 96 * HOUR);
        let mut plant = Plant::new(seed, crate::setup::DEAD_NL, first, 500);
        let mut ward = Ward::new(kind, seed, clock, plan, false);
        let mut view = PumpView::default();
        let mut rate = 0;
        let mut lived = Lived {
            scores: Vec::new(),
            entries: Vec::new(),
            demands: Vec::new(),
            closed: None,
            interrupted_ms: 0,
        };
        for minute in 1..=122 * 60 {
            let now = minute * MINUTE;
            if view.infusing {
                plant.turn(f64::from(rate) / 60.0);
            }
            plant.flow(MINUTE);
            view.alarms.clear();
            if plant.reservoir_nl() < 500_000.0 {
                view.alarms.push(AlarmCode::ReservoirEmpty);
                view.infusing = false;
                lived.interrupted_ms += MINUTE;
            }
            if minute % 60 == 0 && !ward.asked(now, Condition::Rest, false).is_empty() {
                let score = ward.patient.score(Condition::Rest);
                ward.note_score(now, score);
                lived.scores.push((now, score));
            }
            for hand in ward.minute(now, &view, &mut plant) {
                match hand {
                    Hand::Press(press) if press.key == Key::Bolus => {
                        lived.demands.push(now);
                        plant.turn(50_000.0);
                    }
                    Hand::Prime { volume_nl } => {
                        plant.turn(crate::math::float(volume_nl));
                        plant.flow(20 * MINUTE);
                    }
                    Hand::Start { rate_nl_per_h } | Hand::SetRate { rate_nl_per_h } => {
                        rate = rate_nl_per_h;
                        view.infusing = true;
                    }
                    Hand::Stop => view.infusing = false,
                    Hand::Close(reason) => {
                        view.infusing = false;
                        lived.closed = Some((now, reason));
                    }
                    Hand::Say(entry) => lived.entries.push(entry),
                    Hand::Press(_)
                    | Hand::ChangeReservoir { .. }
                    | Hand::FreeKeys
                    | Hand::ReleaseLatch => {}
                }
            }
        }
        lived
    }

    fn said(lived: &Lived, word: &str) -> Vec<(u64, i64)> {
        lived
            .entries
            .iter()
            .filter_map(|entry| match &entry.entry {
                Entry::Observation { what, value_milli } if what == word => {
                    Some((entry.at_trial_ms, *value_milli))
                }
                Entry::Observation { .. } | Entry::Rescue { .. } | Entry::Score { .. } => None,
            })
            .collect()
    }

    #[test]
    fn each_trial_goes_from_baseline_to_its_close_and_each_entry_has_its_own_id() {
        for kind in Kind::ALL {
            let lived = live(kind, 7);
            let (at, reason) = lived.closed.unwrap();
            if kind == Kind::SideEffects {
                assert_eq!(reason, CloseReason::Safety);
                assert!(
                    (50 * HOUR..110 * HOUR).contains(&at),
                    "closed at {} h",
                    at / HOUR
                );
                let slow = said(&lived, "resp_rate").iter().any(|(_, v)| *v < 10_000);
                assert!(
                    slow && said(&lived, "sedation_poss")
                        .iter()
                        .any(|(_, v)| *v == 3_000)
                );
            } else {
                assert_eq!((at, reason), (120 * HOUR, CloseReason::Planned), "{kind}");
                assert_eq!(said(&lived, "accepts_implant").len(), 1, "{kind}");
            }
            let mut ids: Vec<_> = lived.entries.iter().map(|e| &e.entry_id).collect();
            let count = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), count);
            for entry in &lived.entries {
                if let Entry::Observation { what, value_milli } = &entry.entry {
                    let (_, low, high) = protocol::bedside::observation_range(what).unwrap();
                    let seen = f64::from(i32::try_from(*value_milli).unwrap()) / 1_000.0;
                    assert!((low..=high).contains(&seen), "{what} {seen}");
                }
            }
        }
    }

    #[test]
    fn a_leak_is_found_at_the_catheter_on_a_morning_after_and_makes_the_patient_ask_for_more() {
        for seed in 1..=8 {
            let lived = live(Kind::Leak, seed);
            let found = said(&lived, "catheter_check");
            let first = found.iter().find(|(_, value)| *value == 2_000).unwrap().0;
            assert!(
                (57 * HOUR..86 * HOUR).contains(&first),
                "seed {seed}: {} h",
                first / HOUR
            );
            let before = lived.demands.iter().filter(|at| **at < 45 * HOUR).count();
            let after = lived.demands.iter().filter(|at| **at >= 58 * HOUR).count();
            assert!(
                after > 3 * before.max(2),
                "seed {seed}: {before}, then {after}"
            );
        }
    }

    #[test]
    fn a_night_without_drug_lasts_about_twelve_hours_in_the_middle() {
        for seed in 1..=8 {
            let lived = live(Kind::Withdrawal, seed);
            let hours = lived.interrupted_ms / HOUR;
            assert!((11..=13).contains(&hours), "seed {seed}: {hours} h");
        }
        assert!(live(Kind::Responder, 1).interrupted_ms < HOUR);
    }
}
