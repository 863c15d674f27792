//! The course of pain: what is there without treatment, and how much of it treatment takes.
//!
//! Without treatment: a mean, a course over the day, slow chance that forgets itself over about
//! 4 h (an Ornstein-Uhlenbeck process), and flares. Parts of relief multiply: what drug leaves,
//! expectation may take, and what both leave, an oral dose.

use crate::chance::{Chance, Concern};
use crate::math::{cos_turns, remaining};
use crate::patient::kind::Traits;

const LN_2: f64 = core::f64::consts::LN_2;
/// Serial correlation of scores, after `facts/clinical.md` §2.6.
const TAU_MIN: f64 = 240.0;
/// A flare halves in this time.
const FLARE_HALF_LIFE_MIN: f64 = 35.0;
/// Expectation stays whole for so long, then halves again and again.
const PLACEBO_HOLDS_MIN: f64 = 14.0 * 60.0;
const PLACEBO_HALF_LIFE_MIN: f64 = 8.0 * 60.0;
/// An oral opioid: taken up, and gone.
const ORAL_UPTAKE_HALF_LIFE_MIN: f64 = 25.0;
const ORAL_HALF_LIFE_MIN: f64 = 200.0;
/// Part of pain that an oral dose can take at most, and the amount for half of it, micrograms.
const ORAL_GREATEST: f64 = 0.40;
const ORAL_HALF_MCG: f64 = 10_000.0;
/// The body grows used to a drug with this half-life.
const HABIT_HALF_LIFE_MIN: f64 = 16.0 * 60.0;

/// Pain of one patient, now.
#[derive(Clone, Debug)]
pub struct Pain {
    chance: Chance,
    traits: Traits,
    drift: f64,
    drift_keep: f64,
    drift_push: f64,
    flare: f64,
    flare_keep: f64,
    gut_mcg: f64,
    oral_mcg: f64,
    oral_keep: (f64, f64),
    habit: f64,
    habit_keep: f64,
    therapy_min: Option<f64>,
    drug_part: f64,
    relief: f64,
    unrelieved: f64,
}

impl Pain {
    /// Of a patient without treatment.
    pub fn new(traits: Traits, seed: u64) -> Self {
        let drift_keep = remaining(1.0, TAU_MIN * LN_2);
        let mut chance = Chance::new(seed, Concern::Pain);
        let drift = traits.spread * chance.normal();
        Self {
            chance,
            traits,
            drift,
            drift_keep,
            drift_push: traits.spread * (1.0 - drift_keep * drift_keep).sqrt(),
            flare: 0.0,
            flare_keep: remaining(1.0, FLARE_HALF_LIFE_MIN),
            gut_mcg: 0.0,
            oral_mcg: 0.0,
            oral_keep: (
                remaining(1.0, ORAL_UPTAKE_HALF_LIFE_MIN),
                remaining(1.0, ORAL_HALF_LIFE_MIN),
            ),
            habit: 0.0,
            habit_keep: remaining(1.0, HABIT_HALF_LIFE_MIN),
            therapy_min: None,
            drug_part: 0.0,
            relief: 0.0,
            unrelieved: traits.baseline,
        }
    }

    /// Therapy is seen to begin; expectation with it.
    pub fn note_therapy(&mut self) {
        self.therapy_min.get_or_insert(0.0);
    }

    /// A dose by mouth, micrograms.
    pub fn swallow(&mut self, dose_mcg: f64) {
        self.gut_mcg += dose_mcg;
    }

    /// One minute at this hour of the day (0 to 24), with so much drug at the effect site.
    pub fn live_minute(&mut self, hour: f64, effect_mcg: f64, awake: bool) {
        let traits = self.traits;
        self.drift = self.drift * self.drift_keep + self.drift_push * self.chance.normal();
        self.flare *= self.flare_keep;
        if awake && self.chance.happens(traits.flares_per_h / 60.0) {
            self.flare += self.chance.between(1.0, 2.2);
        }
        let taken_up = self.gut_mcg * (1.0 - self.oral_keep.0);
        self.gut_mcg -= taken_up;
        self.oral_mcg = (self.oral_mcg + taken_up) * self.oral_keep.1;

        let square = effect_mcg * effect_mcg;
        self.drug_part = square / (square + traits.half_effect_mcg * traits.half_effect_mcg);
        self.habit = self.habit * self.habit_keep + self.drug_part * (1.0 - self.habit_keep);
        let drug = traits.greatest_relief * self.drug_part;
        let oral = ORAL_GREATEST * self.oral_mcg / (self.oral_mcg + ORAL_HALF_MCG);
        self.relief = 1.0 - (1.0 - drug) * (1.0 - self.expectation()) * (1.0 - oral);
        if let Some(minutes) = &mut self.therapy_min {
            *minutes += 1.0;
        }
        let course = traits.circadian * cos_turns((hour - traits.worst_hour) / 24.0);
        self.unrelieved = traits.baseline + course;
    }

    fn expectation(&self) -> f64 {
        let (first, last) = self.traits.placebo;
        self.therapy_min.map_or(0.0, |minutes| {
            let late = (minutes - PLACEBO_HOLDS_MIN).max(0.0);
            last + (first - last) * remaining(late, PLACEBO_HALF_LIFE_MIN)
        })
    }

    /// How much the body misses the drug, 0 to 1.
    pub fn missing(&self) -> f64 {
        (self.habit - self.drug_part).max(0.0)
    }

    /// The part of pain that is taken away, 0 to 1. The truth that an analysis is to find.
    pub fn relief(&self) -> f64 {
        self.relief
    }

    /// At rest, 0 to 10.
    pub fn at_rest(&self) -> f64 {
        let left = 1.0 - self.relief;
        // Chance and flares shrink with pain, but not to nothing.
        let chance = self.drift * (0.5 + 0.5 * left) + self.flare * (0.4 + 0.6 * left);
        let rebound = self.traits.rebound * self.missing();
        (self.unrelieved * left + chance + rebound).clamp(0.0, 10.0)
    }

    /// On movement, 0 to 10.
    pub fn on_movement(&self) -> f64 {
        (self.at_rest() + self.traits.movement * (1.0 - 0.6 * self.relief)).clamp(0.0, 10.0)
    }

    /// A flare is felt.
    pub fn flaring(&self) -> bool {
        self.flare > 0.9
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patient::kind::Kind;

    #[test]
    fn scores_of_untreated_pain_hang_together_over_hours_and_not_over_a_day() {
        let mut traits = Traits::new(Kind::NonResponder, 1);
        (traits.circadian, traits.flares_per_h) = (0.0, 0.0);
        let mut pain = Pain::new(traits, 1);
        let course: Vec<f64> = (0..200 * 1440_u32)
            .map(|_| {
                pain.live_minute(12.0, 0.0, true);
                pain.drift
            })
            .collect();
        let square = |lag: usize| {
            let pairs = course.iter().zip(course.iter().skip(lag));
            pairs.map(|(a, b)| a * b).sum::<f64>()
        };
        let correlation = |lag| square(lag) / square(0);
        assert!(
            (correlation(240) - 0.3679).abs() < 0.08,
            "{}",
            correlation(240)
        );
        assert!(correlation(1440).abs() < 0.1, "{}", correlation(1440));
    }

    #[test]
    fn an_oral_dose_takes_some_pain_for_some_hours() {
        let mut pain = Pain::new(Traits::new(Kind::NonResponder, 3), 3);
        pain.swallow(10_000.0);
        let mut relief = Vec::new();
        for _ in 0..720 {
            pain.live_minute(12.0, 0.0, true);
            relief.push(pain.relief());
        }
        assert!(relief[89] > 0.12 && relief[89] < 0.25, "{}", relief[89]);
        assert!(relief[719] < relief[89] / 3.0);
    }
}
