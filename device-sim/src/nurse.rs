//! A scripted nurse: a day of baseline, the pump primed and started, the rate raised where pain
//! asks for it, alarms answered, readings taken, the trial closed. Sees what a nurse can see, in
//! steps of a minute, and answers with acts; the simulation carries them out.
//!
//! The doses are plausible for intrathecal morphine (0.5 to 2 mg a day, `facts/clinical.md` §1.2),
//! never advice.

pub mod rounds;

use crate::chance::{Chance, Concern};
use crate::patient::Vitals;
use protocol::event::{AlarmCode, CloseReason};
use protocol::topics::Entry;
use rounds::Rounds;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// One rescue dose, micrograms of oral oxycodone.
const RESCUE_MCG: u64 = 10_000;
/// Least time between two of them.
const RESCUE_EVERY_MS: u64 = 6 * HOUR_MS;
/// From this score on a rescue dose is offered.
const RESCUE_FROM: u8 = 8;

/// What the nurse adds to the record, to be sent as `cmd/entry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NurseEntry {
    /// Of this entry: sent twice, it counts once.
    pub entry_id: String,
    /// Milliseconds since the origin of the trial.
    pub at_trial_ms: u64,
    /// What.
    pub entry: Entry,
    /// Who.
    pub by: String,
    /// In what role.
    pub role: String,
}

/// How the trial is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Without infusion, from the origin.
    pub baseline_ms: u64,
    /// With infusion.
    pub therapy_ms: u64,
    /// The first rate and those after it, nanolitres an hour.
    pub rates_nl_per_h: Vec<u32>,
    /// Pushed through the line before it is connected.
    pub prime_nl: u64,
    /// In a fresh reservoir.
    pub reservoir_nl: u64,
    /// From an empty reservoir to a new one: a night without drug where it is hours.
    pub pharmacy_delay_ms: Option<u64>,
    /// Begins each entry's id.
    pub entry_prefix: String,
}

/// What a nurse can see, in one minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Milliseconds since the origin.
    pub now_ms: u64,
    /// Milliseconds since local midnight.
    pub ms_of_day: u64,
    /// Local hour.
    pub hour: u64,
    /// The pump follows a rate for the patient.
    pub infusing: bool,
    /// The pump shows these conditions.
    pub alarms: Vec<AlarmCode>,
    /// Computed by the pump.
    pub reservoir_nl: u64,
    /// The patient sleeps.
    pub asleep: bool,
    /// The patient, looked at.
    pub vitals: Vitals,
    /// What a look at the catheter would find: 0 sound, 2 leak or dislodged.
    pub catheter_finding: u8,
}

/// What the nurse does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Fills the line with drug, not connected to the patient.
    Prime {
        /// So much.
        volume_nl: u64,
    },
    /// Connects the line and starts the therapy.
    Start {
        /// At this rate.
        rate_nl_per_h: u32,
    },
    /// Sets another rate.
    SetRate {
        /// This one.
        rate_nl_per_h: u32,
    },
    /// Stops the therapy.
    Stop,
    /// Puts in a fresh reservoir.
    ChangeReservoir {
        /// With so much in it.
        fill_nl: u64,
    },
    /// Straightens the line, opens clamps, lets air and pressure out.
    FreeLine,
    /// Puts in a fresh battery.
    ChangeBattery,
    /// Frees a stuck key, shuts the door.
    TidyPump,
    /// Lets a pump that stopped itself infuse again, after a check.
    ReleaseLatch,
    /// Gives a dose by mouth, micrograms.
    GiveOral {
        /// So much.
        dose_mcg: u64,
    },
    /// Closes the trial.
    Close(CloseReason),
    /// Writes something down.
    Say(NurseEntry),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Baseline,
    Primed,
    Therapy { started_ms: u64 },
    SafetyStop { close_at_ms: u64 },
    Closed,
}

/// The nurse of one bed.
#[derive(Clone, Debug)]
pub struct Nurse {
    plan: Plan,
    chance: Chance,
    rounds: Rounds,
    stage: Stage,
    step: usize,
    titrate_at_ms: Option<u64>,
    scores: Vec<(u64, u8)>,
    rescued_ms: Option<u64>,
    rescue_at_ms: Option<u64>,
    answer_at_ms: Option<u64>,
    asked_about_implant: bool,
}

impl Nurse {
    /// For a bed under this plan, beginning at this time of day.
    pub fn new(plan: Plan, seed: u64, ms_of_day: u64) -> Self {
        Self {
            rounds: Rounds::new(plan.entry_prefix.clone(), ms_of_day),
            plan,
            chance: Chance::new(seed, Concern::Nurse),
            stage: Stage::Baseline,
            step: 0,
            titrate_at_ms: None,
            scores: Vec::new(),
            rescued_ms: None,
            rescue_at_ms: None,
            answer_at_ms: None,
            asked_about_implant: false,
        }
    }

    /// Takes over from an earlier process: it is so late, and the pump is programmed so.
    pub fn go_on(&mut self, now_ms: u64, programmed_nl_per_h: u32) {
        let rates = &self.plan.rates_nl_per_h;
        self.step = rates
            .iter()
            .position(|rate| *rate == programmed_nl_per_h)
            .unwrap_or(0);
        self.rounds.go_on(now_ms);
        if now_ms >= self.plan.baseline_ms {
            self.stage = Stage::Therapy {
                started_ms: self.plan.baseline_ms,
            };
        }
    }

    /// The patient entered a score at rest.
    pub fn note_score(&mut self, now_ms: u64, score: u8) {
        self.scores.push((now_ms, score));
        let rested = self
            .rescued_ms
            .is_none_or(|at| now_ms >= at + RESCUE_EVERY_MS);
        let open = matches!(
            self.stage,
            Stage::Baseline | Stage::Primed | Stage::Therapy { .. }
        );
        if score >= RESCUE_FROM && rested && open && self.rescue_at_ms.is_none() {
            let wait = self.chance.whole_between(6, 25) * MINUTE_MS;
            self.rescue_at_ms = Some(now_ms + wait);
        }
    }

    /// Whether the trial was closed by this nurse.
    pub fn closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// When the therapy began.
    pub fn therapy_since_ms(&self) -> Option<u64> {
        match self.stage {
            Stage::Therapy { started_ms } => Some(started_ms),
            Stage::Baseline | Stage::Primed | Stage::SafetyStop { .. } | Stage::Closed => None,
        }
    }

    /// One minute in the ward.
    pub fn minute(&mut self, seen: &Seen) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.stage == Stage::Closed {
            return acts;
        }
        let entries = self.rounds.minute(&mut self.chance, seen);
        let read_now = !entries.is_empty();
        acts.extend(entries.into_iter().map(Act::Say));
        self.rescue(seen, &mut acts);
        match self.stage {
            Stage::Baseline => {
                if seen.now_ms + 25 * MINUTE_MS >= self.plan.baseline_ms {
                    self.stage = Stage::Primed;
                    acts.push(Act::Prime {
                        volume_nl: self.plan.prime_nl,
                    });
                }
            }
            Stage::Primed => {
                if seen.now_ms >= self.plan.baseline_ms {
                    self.begin(seen, &mut acts);
                }
            }
            Stage::Therapy { started_ms } => {
                if read_now && in_danger(seen.vitals) {
                    self.stop_for_safety(seen, &mut acts);
                } else {
                    self.look_after(seen, started_ms, &mut acts);
                }
            }
            Stage::SafetyStop { close_at_ms } => {
                if seen.now_ms >= close_at_ms {
                    self.stage = Stage::Closed;
                    acts.push(Act::Close(CloseReason::Safety));
                }
            }
            Stage::Closed => {}
        }
        acts
    }

    fn begin(&mut self, seen: &Seen, acts: &mut Vec<Act>) {
        self.stage = Stage::Therapy {
            started_ms: seen.now_ms,
        };
        acts.push(Act::Start {
            rate_nl_per_h: self.rate(),
        });
        self.rounds.note_increase(seen.now_ms);
        self.titrate_at_ms = Some(seen.now_ms + 8 * HOUR_MS);
    }

    fn rate(&self) -> u32 {
        let rates = &self.plan.rates_nl_per_h;
        rates.get(self.step).or(rates.last()).copied().unwrap_or(0)
    }

    fn look_after(&mut self, seen: &Seen, started_ms: u64, acts: &mut Vec<Act>) {
        let ends_ms = self.plan.baseline_ms + self.plan.therapy_ms;
        if seen.now_ms >= ends_ms {
            self.stage = Stage::Closed;
            acts.push(Act::Close(CloseReason::Planned));
            return;
        }
        if !self.asked_about_implant && seen.now_ms + 40 * MINUTE_MS >= ends_ms {
            self.asked_about_implant = true;
            let yes = self.content(started_ms, seen.now_ms);
            acts.push(Act::Say(self.rounds.reading(seen, "accepts_implant", yes)));
        }
        self.answer_alarms(seen, acts);
        if self.titrate_at_ms.is_some_and(|at| at <= seen.now_ms) && (7..22).contains(&seen.hour) {
            self.titrate(seen, started_ms, acts);
        }
    }

    /// The first step is part of the plan; the second is taken only where pain is still above 4.
    fn titrate(&mut self, seen: &Seen, started_ms: u64, acts: &mut Vec<Act>) {
        let first = self.step == 0;
        let needed = first || self.mean_since(seen.now_ms.saturating_sub(6 * HOUR_MS)) > 4.0;
        let calm = seen.vitals.sedation_poss < 2 && seen.vitals.resp_rate >= 11;
        let room = self.step + 1 < self.plan.rates_nl_per_h.len();
        if seen.infusing && seen.alarms.is_empty() && needed && calm && room {
            self.step += 1;
            acts.push(Act::SetRate {
                rate_nl_per_h: self.rate(),
            });
            self.rounds.note_increase(seen.now_ms);
        }
        let second = started_ms + 24 * HOUR_MS;
        self.titrate_at_ms = (first && seen.now_ms < second).then_some(second);
    }

    fn mean_since(&self, from_ms: u64) -> f64 {
        let late = self.scores.iter().filter(|(at, _)| *at >= from_ms);
        let (sum, count) = late.fold((0.0, 0.0), |(sum, count), (_, score)| {
            (sum + f64::from(*score), count + 1.0)
        });
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// A patient wants the implant where the last day was at most 0.65 of the baseline.
    fn content(&self, started_ms: u64, now_ms: u64) -> u64 {
        let before: Vec<f64> = self
            .scores
            .iter()
            .filter(|(at, _)| *at < started_ms)
            .map(|(_, score)| f64::from(*score))
            .collect();
        let count = crate::math::float(u64::try_from(before.len()).unwrap_or(0)).max(1.0);
        let baseline = before.iter().sum::<f64>() / count;
        let last = self.mean_since(now_ms.saturating_sub(24 * HOUR_MS));
        u64::from(last <= 0.65 * baseline)
    }

    fn rescue(&mut self, seen: &Seen, acts: &mut Vec<Act>) {
        if self.rescue_at_ms.is_some_and(|at| at <= seen.now_ms) {
            self.rescue_at_ms = None;
            if !seen.asleep && !in_danger(seen.vitals) {
                self.rescued_ms = Some(seen.now_ms);
                acts.push(Act::GiveOral {
                    dose_mcg: RESCUE_MCG,
                });
                let entry = self.rounds.rescue(seen.now_ms, seen.hour, RESCUE_MCG);
                acts.push(Act::Say(entry));
            }
        }
    }

    fn stop_for_safety(&mut self, seen: &Seen, acts: &mut Vec<Act>) {
        acts.push(Act::Stop);
        let mut entries = Vec::new();
        self.rounds.vital_signs(seen, &mut entries);
        acts.extend(entries.into_iter().map(Act::Say));
        let wait = self.chance.whole_between(40, 90) * MINUTE_MS;
        self.stage = Stage::SafetyStop {
            close_at_ms: seen.now_ms + wait,
        };
    }

    /// Goes to the pump some time after it called, or after it was found still; then puts right
    /// what can be put right and starts it again.
    fn answer_alarms(&mut self, seen: &Seen, acts: &mut Vec<Act>) {
        let calls = seen.alarms.iter().any(|code| self.answers(*code));
        if seen.infusing && !calls {
            self.answer_at_ms = None;
            return;
        }
        let wait = self.delay_ms(seen);
        let at = *self.answer_at_ms.get_or_insert(seen.now_ms + wait);
        if seen.now_ms < at {
            return;
        }
        self.answer_at_ms = None;
        for code in &seen.alarms {
            let act = match code {
                AlarmCode::DownstreamOcclusion
                | AlarmCode::UpstreamOcclusion
                | AlarmCode::AirInLine => Act::FreeLine,
                AlarmCode::ReservoirLow | AlarmCode::ReservoirEmpty => Act::ChangeReservoir {
                    fill_nl: self.plan.reservoir_nl,
                },
                AlarmCode::BatteryLow | AlarmCode::BatteryFlat => Act::ChangeBattery,
                AlarmCode::DoorOpen | AlarmCode::KeyStuck => Act::TidyPump,
                AlarmCode::OverDelivery | AlarmCode::SupervisorStop => Act::ReleaseLatch,
                AlarmCode::UnderDelivery | AlarmCode::Storage | AlarmCode::SelfTest => continue,
            };
            if !acts.contains(&act) {
                acts.push(act);
            }
        }
        if !seen.infusing {
            acts.push(Act::Start {
                rate_nl_per_h: self.rate(),
            });
        }
    }

    /// A night without drug: nothing can be done about the reservoir before the pharmacy opens.
    fn answers(&self, code: AlarmCode) -> bool {
        code != AlarmCode::ReservoirLow || self.plan.pharmacy_delay_ms.is_none()
    }

    fn delay_ms(&mut self, seen: &Seen) -> u64 {
        let empty = seen.alarms.contains(&AlarmCode::ReservoirEmpty);
        if let (true, Some(delay)) = (empty, self.plan.pharmacy_delay_ms) {
            return delay;
        }
        let only_low = seen.infusing
            && seen.alarms.iter().all(|code| {
                matches!(
                    code,
                    AlarmCode::ReservoirLow | AlarmCode::BatteryLow | AlarmCode::KeyStuck
                )
            });
        let (least, most) = if only_low { (20, 90) } else { (5, 16) };
        self.chance.whole_between(least, most) * MINUTE_MS
    }
}

/// POSS 3 or fewer than 10 breaths a minute (`facts/clinical.md` §3.2).
fn in_danger(vitals: Vitals) -> bool {
    vitals.sedation_poss >= 3 || vitals.resp_rate < 10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            baseline_ms: HOUR_MS,
            therapy_ms: 40 * HOUR_MS,
            rates_nl_per_h: vec![80_000, 100_000, 120_000],
            prime_nl: 900_000,
            reservoir_nl: 10_000_000,
            pharmacy_delay_ms: None,
            entry_prefix: "t".into(),
        }
    }

    fn seen(now_ms: u64, infusing: bool, alarms: &[AlarmCode]) -> Seen {
        let ms_of_day = (8 * HOUR_MS + now_ms) % (24 * HOUR_MS);
        Seen {
            now_ms,
            ms_of_day,
            hour: ms_of_day / HOUR_MS,
            infusing,
            alarms: alarms.to_vec(),
            reservoir_nl: 5_000_000,
            asleep: false,
            vitals: Vitals {
                resp_rate: 14,
                spo2: 97,
                sedation_poss: 1,
                bp_systolic: 125,
                nausea: 0,
                pruritus: 0,
                function: 5,
            },
            catheter_finding: 0,
        }
    }

    /// Acts with their minute; the pump follows them, but stands still while `alarm` says so.
    fn watch(score: u8, hours: u64, alarm: impl Fn(u64) -> Vec<AlarmCode>) -> Vec<(u64, Act)> {
        let mut nurse = Nurse::new(plan(), 3, 8 * HOUR_MS);
        let (mut acts, mut infusing) = (Vec::new(), false);
        for minute in 1..=hours * 60 {
            let now = minute * MINUTE_MS;
            if minute % 60 == 0 {
                nurse.note_score(now, score);
            }
            let alarms = alarm(minute);
            infusing &= alarms.is_empty();
            for act in nurse.minute(&seen(now, infusing, &alarms)) {
                infusing |= matches!(act, Act::Start { .. });
                infusing &= !matches!(act, Act::Stop | Act::Close(_));
                acts.push((minute, act));
            }
        }
        acts
    }

    fn rates(acts: &[(u64, Act)]) -> Vec<(u64, u32)> {
        let mut rates = Vec::new();
        for (minute, act) in acts {
            if let Act::Start { rate_nl_per_h } | Act::SetRate { rate_nl_per_h } = act {
                rates.push((*minute, *rate_nl_per_h));
            }
        }
        rates
    }

    #[test]
    fn the_rate_rises_once_by_plan_and_again_only_for_pain() {
        let at_ease = rates(&watch(2, 42, |_| Vec::new()));
        assert_eq!(at_ease, [(60, 80_000), (9 * 60, 100_000)]);
        let in_pain = rates(&watch(6, 42, |_| Vec::new()));
        assert_eq!(
            in_pain,
            [(60, 80_000), (9 * 60, 100_000), (25 * 60, 120_000)]
        );
    }

    #[test]
    fn the_line_is_primed_before_the_start_and_the_trial_closed_as_planned() {
        let acts = watch(2, 42, |_| Vec::new());
        let prime = acts
            .iter()
            .position(|(_, act)| matches!(act, Act::Prime { .. }))
            .unwrap();
        let start = acts
            .iter()
            .position(|(_, act)| matches!(act, Act::Start { .. }))
            .unwrap();
        assert!(prime < start);
        assert_eq!(
            acts.last().unwrap(),
            &(41 * 60, Act::Close(CloseReason::Planned))
        );
    }

    #[test]
    fn an_occlusion_is_put_right_within_a_quarter_of_an_hour_and_the_therapy_goes_on() {
        let blocked = |minute| {
            let on = (600..=620).contains(&minute);
            if on {
                vec![AlarmCode::DownstreamOcclusion]
            } else {
                Vec::new()
            }
        };
        let acts = watch(2, 14, blocked);
        let freed = acts
            .iter()
            .find(|(_, act)| *act == Act::FreeLine)
            .unwrap()
            .0;
        assert!((605..=616).contains(&freed), "{freed}");
        assert!(rates(&acts).iter().any(|(minute, _)| *minute >= freed));
    }

    #[test]
    fn severe_pain_brings_a_rescue_dose_at_most_every_six_hours() {
        let acts = watch(9, 24, |_| Vec::new());
        let doses: Vec<u64> = acts
            .iter()
            .filter(|(_, act)| matches!(act, Act::GiveOral { .. }))
            .map(|(minute, _)| *minute)
            .collect();
        assert!((3..=4).contains(&doses.len()), "{doses:?}");
        assert!(
            doses.windows(2).all(|pair| pair[1] >= pair[0] + 360),
            "{doses:?}"
        );
        assert!(
            watch(7, 24, |_| Vec::new())
                .iter()
                .all(|(_, a)| !matches!(a, Act::GiveOral { .. }))
        );
    }
}
