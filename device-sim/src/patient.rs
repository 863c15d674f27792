//! A virtual patient: pain that answers to the drug that reached the spine, a body that pays for
//! it, and hands that press keys. Lives in steps of one minute; the same seed lives the same life.
//!
//! Shares no model with `analysis`: that program must find out from scores and delivery what is
//! known here as [`Pain::relief`].

pub mod habits;
pub mod kind;
pub mod kinetics;
pub mod pain;

use crate::math::whole;
use habits::{Habits, Press};
use kind::{Kind, Traits};
use kinetics::Kinetics;
use pain::Pain;
use protocol::event::Condition;

/// Milliseconds in a day.
const DAY_MS: i64 = 86_400_000;

/// Which local hour it is in the ward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalClock {
    /// UTC at the origin of the trial, milliseconds.
    pub origin_utc_ms: i64,
    /// Minutes east of UTC.
    pub offset_min: i16,
}

impl LocalClock {
    /// Milliseconds since the last local midnight.
    pub fn ms_of_day(&self, since_origin_ms: u64) -> u64 {
        let since = i64::try_from(since_origin_ms).unwrap_or(i64::MAX);
        let local = self
            .origin_utc_ms
            .saturating_add(i64::from(self.offset_min) * 60_000)
            .saturating_add(since);
        u64::try_from(local.rem_euclid(DAY_MS)).unwrap_or(0)
    }

    /// Whole local hour, 0 to 23.
    pub fn hour(&self, since_origin_ms: u64) -> u64 {
        self.ms_of_day(since_origin_ms) / 3_600_000
    }

    /// Minutes since the last local midnight.
    pub fn minute_of_day(&self, since_origin_ms: u64) -> f64 {
        crate::math::float(self.ms_of_day(since_origin_ms)) / 60_000.0
    }
}

/// What a nurse can count and see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vitals {
    /// Breaths a minute.
    pub resp_rate: u8,
    /// Oxygen saturation, percent.
    pub spo2: u8,
    /// POSS: 0 is S, asleep and easy to rouse; then 1 to 4.
    pub sedation_poss: u8,
    /// Millimeters of mercury.
    pub bp_systolic: u16,
    /// Grade 0 to 3.
    pub nausea: u8,
    /// Grade 0 to 3.
    pub pruritus: u8,
    /// 0 to 10, higher is better.
    pub function: u8,
}

/// A life in the ward.
#[derive(Clone, Debug)]
pub struct Patient {
    clock: LocalClock,
    seed: u64,
    traits: Traits,
    kinetics: Kinetics,
    pain: Pain,
    habits: Habits,
    infused: bool,
    told_flare: bool,
    try_again_at_ms: Option<u64>,
}

impl Patient {
    /// Of this kind and seed, at the origin of the trial.
    pub fn new(kind: Kind, seed: u64, clock: LocalClock) -> Self {
        let traits = Traits::new(kind, seed);
        Self {
            clock,
            seed,
            traits,
            kinetics: Kinetics::new(traits.half),
            pain: Pain::new(traits, seed),
            habits: Habits::new(seed, clock.minute_of_day(0)),
            infused: false,
            told_flare: false,
            try_again_at_ms: None,
        }
    }

    /// A new process goes on at this time with a patient of the same kind, without drug.
    pub fn go_on(&mut self, now_ms: u64) {
        self.habits = Habits::new(self.seed ^ now_ms, self.clock.minute_of_day(now_ms));
    }

    /// The minute that ends at `now_ms`, in which so many nanograms reached the spine. `infusing`
    /// is what the patient sees of the pump. Gives the presses that nobody asked for.
    pub fn live_minute(&mut self, now_ms: u64, reached_ng: f64, infusing: bool) -> Vec<Press> {
        let minute = self.clock.minute_of_day(now_ms);
        let awake = !self.habits.asleep(now_ms);
        if infusing {
            self.infused = true;
            self.pain.note_therapy();
        }
        self.kinetics.live_minute(reached_ng / 1_000.0);
        let effect = self.kinetics.effect_mcg();
        self.pain.live_minute(minute / 60.0, effect, awake);
        self.habits.live_minute(now_ms, minute, self.pain.at_rest());
        if self.habits.asleep(now_ms) {
            return Vec::new();
        }
        self.unasked(now_ms)
    }

    fn unasked(&mut self, now_ms: u64) -> Vec<Press> {
        let rest = self.pain.at_rest();
        if !self.pain.flaring() {
            self.told_flare = false;
        } else if !self.told_flare {
            self.told_flare = true;
            if self.habits.happens_per_h(60.0 * 0.45) {
                return self
                    .habits
                    .tell(now_ms, self.score(Condition::Rest), Condition::Rest);
            }
        }
        if !self.infused {
            return Vec::new();
        }
        let again = self.try_again_at_ms.is_some_and(|at| at <= now_ms);
        let wanted = if rest >= 4.5 {
            0.10 + 0.20 * (rest - 4.5)
        } else {
            0.0
        };
        if again || self.habits.happens_per_h(wanted) {
            self.try_again_at_ms = None;
            return self.habits.demand(now_ms);
        }
        Vec::new()
    }

    /// The pump asks, for the first time or again; the presses of the answer.
    pub fn asked(&mut self, now_ms: u64, condition: Condition, again: bool) -> Vec<Press> {
        let score = self.score(condition);
        self.habits.answer(now_ms, again, score)
    }

    /// The pump refused a bolus.
    pub fn refused(&mut self, now_ms: u64) {
        if self.habits.insists() {
            self.try_again_at_ms = Some(now_ms + 150_000);
        }
    }

    /// Takes a dose by mouth, micrograms of oxycodone or its like.
    pub fn swallow(&mut self, dose_mcg: u64) {
        self.pain.swallow(crate::math::float(dose_mcg));
    }

    /// The score that this patient would give now, 0 to 10.
    pub fn score(&self, condition: Condition) -> u8 {
        let pain = match condition {
            Condition::Rest => self.pain.at_rest(),
            Condition::Movement => self.pain.on_movement(),
        };
        u8::try_from(whole(pain)).unwrap_or(10).min(10)
    }

    /// Asleep now.
    pub fn asleep(&self, now_ms: u64) -> bool {
        self.habits.asleep(now_ms)
    }

    /// The part of pain that is taken away, 0 to 1: the truth.
    pub fn relief(&self) -> f64 {
        self.pain.relief()
    }

    /// Into the therapy, when the catheter slips out.
    pub fn leak_after_ms(&self) -> Option<u64> {
        self.traits.leak_after_ms
    }

    /// What can be counted and seen now.
    pub fn vitals(&self, now_ms: u64) -> Vitals {
        let strain = (self.kinetics.brain_mcg() / self.traits.brain_limit_mcg).min(1.4);
        let missing = self.pain.missing() * self.traits.rebound;
        let rest = self.pain.at_rest();
        let asleep = self.habits.asleep(now_ms);
        let cube = strain * strain * strain;
        // At a strain of 1 about 9 breaths a minute are left, whoever it is.
        let rate = self.traits.resp_rate - (self.traits.resp_rate - 9.2) * cube;
        let small = |x: f64| u8::try_from(whole(x)).unwrap_or(u8::MAX);
        let sedation = match strain {
            s if s >= 0.985 => 3,
            s if s >= 0.82 => 2,
            _ if asleep => 0,
            _ => 1,
        };
        Vitals {
            resp_rate: small(rate.max(4.0)),
            spo2: small((97.5 - 6.5 * strain * strain).clamp(70.0, 99.0)),
            sedation_poss: sedation,
            bp_systolic: u16::from(small(
                122.0 + 3.0 * (rest - 3.0) - 8.0 * strain + 18.0 * missing,
            )),
            nausea: small(2.6 * strain * strain + 0.9 * missing).min(3),
            pruritus: small(1.8 * strain).min(3),
            function: small(9.0 - 0.75 * rest - 3.0 * (strain - 0.7).max(0.0)).min(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: LocalClock = LocalClock {
        origin_utc_ms: 8 * 3_600_000,
        offset_min: 0,
    };
    const HOUR: u64 = 3_600_000;

    /// A life under a rate in mcg/h that is a function of the hour; scores at rest by the hour.
    fn life(kind: Kind, seed: u64, hours: u64, rate: impl Fn(u64) -> f64) -> (Vec<u8>, Patient) {
        let mut patient = Patient::new(kind, seed, CLOCK);
        let mut scores = Vec::new();
        for minute in 1..=hours * 60 {
            let mcg_per_h = rate(minute / 60);
            patient.live_minute(minute * 60_000, mcg_per_h * 1_000.0 / 60.0, mcg_per_h > 0.0);
            if minute % 60 == 0 {
                scores.push(patient.score(Condition::Rest));
            }
        }
        (scores, patient)
    }

    fn mean(scores: &[u8]) -> f64 {
        let sum: u32 = scores.iter().map(|s| u32::from(*s)).sum();
        f64::from(sum) / f64::from(u32::try_from(scores.len()).unwrap())
    }

    fn therapy(hour: u64) -> f64 {
        if hour < 24 { 0.0 } else { 52.0 }
    }

    #[test]
    fn relief_is_the_drugs_in_a_responder_and_nobodys_in_a_non_responder() {
        for seed in 1..=8 {
            for (kind, low, high) in [
                (Kind::Responder, 0.60, 0.80),
                (Kind::NonResponder, -0.06, 0.22),
            ] {
                let (scores, _) = life(kind, seed, 120, therapy);
                let relief = 1.0 - mean(&scores[60..]) / mean(&scores[..24]);
                assert!(
                    (low..high).contains(&relief),
                    "{kind} seed {seed}: {relief}"
                );
            }
        }
    }

    #[test]
    fn a_placebo_response_is_large_at_first_and_small_later() {
        let first_last: Vec<(f64, f64)> = (1..=8)
            .map(|seed| {
                let (scores, _) = life(Kind::Placebo, seed, 120, therapy);
                let baseline = mean(&scores[..24]);
                let relief = |part: &[u8]| 1.0 - mean(part) / baseline;
                (relief(&scores[26..38]), relief(&scores[72..]))
            })
            .collect();
        let average = |f: fn(&(f64, f64)) -> f64| first_last.iter().map(f).sum::<f64>() / 8.0;
        let (first, last) = (average(|p| p.0), average(|p| p.1));
        assert!(
            (0.27..0.43).contains(&first) && (0.02..0.18).contains(&last),
            "{first} {last}"
        );
    }

    #[test]
    fn sedation_and_slow_breathing_come_late_in_side_effects_and_never_in_a_responder() {
        for seed in 1..=8 {
            let (_, early) = life(Kind::SideEffects, seed, 24 + 16, therapy);
            assert!(early.vitals(40 * HOUR).sedation_poss <= 2);
            let (_, late) = life(Kind::SideEffects, seed, 24 + 80, therapy);
            let vitals = late.vitals(104 * HOUR);
            assert!(
                vitals.sedation_poss == 3 && vitals.resp_rate < 11,
                "{seed} {vitals:?}"
            );
            let (_, other) = life(Kind::Responder, seed, 24 + 80, therapy);
            let vitals = other.vitals(104 * HOUR);
            assert!(
                vitals.sedation_poss <= 1 && vitals.resp_rate >= 12,
                "{seed} {vitals:?}"
            );
        }
    }

    #[test]
    fn pain_comes_back_above_baseline_when_the_drug_stops() {
        let stopped = |hour| if (24..72).contains(&hour) { 52.0 } else { 0.0 };
        let mut higher = 0;
        for seed in 1..=8 {
            let (scores, _) = life(Kind::Withdrawal, seed, 90, stopped);
            assert!(
                mean(&scores[60..70]) < 0.55 * mean(&scores[..24]),
                "seed {seed}"
            );
            higher += u32::from(mean(&scores[82..90]) > mean(&scores[..24]));
        }
        assert!(higher >= 6, "{higher} of 8");
    }
}
