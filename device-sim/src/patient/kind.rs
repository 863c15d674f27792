//! The six kinds of virtual patient, and what one of a kind is like under a seed.
//!
//! The figures are choices for a demonstration, inside what `facts/clinical.md` reports: baselines
//! of 7 to 8 of 10 (§4.2), morphine half-lives in CSF from 94 to 196 min (§1.3), scores that hang
//! together over about 4 h (§2.6), a placebo response that is large at first (§2.7).

use crate::chance::{Chance, Concern};
use crate::patient::kinetics::HalfLives;
use core::fmt;

/// What kind of patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// True relief of about 70 %.
    Responder,
    /// True relief of about 10 %.
    NonResponder,
    /// Would respond, but the catheter slips out 20 to 30 h into the trial.
    Leak,
    /// Relief of about 65 %, then sedation and slow breathing.
    SideEffects,
    /// Relief of about 35 % on the first day, about 10 % later.
    Placebo,
    /// Relief of about 65 %, and a night without drug in the middle.
    Withdrawal,
}

/// A word that is no kind of patient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no kind of patient is called {0:?}; there are responder, non-responder, leak, side-effects, placebo, withdrawal"
)]
pub struct UnknownKind(pub String);

impl Kind {
    /// All, in the order of the demo's beds.
    pub const ALL: [Self; 6] = [
        Self::Responder,
        Self::NonResponder,
        Self::Leak,
        Self::SideEffects,
        Self::Placebo,
        Self::Withdrawal,
    ];

    /// The word on the command line and in the manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Responder => "responder",
            Self::NonResponder => "non-responder",
            Self::Leak => "leak",
            Self::SideEffects => "side-effects",
            Self::Placebo => "placebo",
            Self::Withdrawal => "withdrawal",
        }
    }

    /// Of the demo's bed, counted from 0; the list begins again after the sixth.
    pub fn of_bed(index: usize) -> Self {
        Self::ALL
            .get(index % Self::ALL.len())
            .copied()
            .unwrap_or(Self::Responder)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::str::FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownKind(text.into()))
    }
}

/// What one patient is like.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Mean pain at rest without treatment, 0 to 10.
    pub baseline: f64,
    /// Standard deviation of slow chance around it, points.
    pub spread: f64,
    /// Half of the swing between the best and the worst hour of a day, points.
    pub circadian: f64,
    /// Worst hour of the day.
    pub worst_hour: f64,
    /// Movement adds so much, points.
    pub movement: f64,
    /// Flares in an hour awake.
    pub flares_per_h: f64,
    /// Greatest part of pain that the drug can take away, 0 to 1.
    pub greatest_relief: f64,
    /// Drug at the effect site for half of that, micrograms.
    pub half_effect_mcg: f64,
    /// Part of pain that expectation takes away at first, and in the long run.
    pub placebo: (f64, f64),
    /// Drug near the brain at which breathing and wakefulness fail, micrograms.
    pub brain_limit_mcg: f64,
    /// How strongly the body misses a drug that stops coming, points of pain.
    pub rebound: f64,
    /// How fast drug comes and goes.
    pub half: HalfLives,
    /// Into the therapy, where the catheter slips out: milliseconds.
    pub leak_after_ms: Option<u64>,
    /// Breaths a minute without drug.
    pub resp_rate: f64,
}

/// Of a therapy of 1.2 mg morphine a day: micrograms an hour.
const REFERENCE_MCG_PER_H: f64 = 50.0;

impl Traits {
    /// Of the patient of this kind under this seed.
    pub fn new(kind: Kind, seed: u64) -> Self {
        let mut chance = Chance::new(seed, Concern::Traits);
        let csf_min = chance.between(94.0, 196.0);
        let steady_mcg = REFERENCE_MCG_PER_H * csf_min / 60.0 / core::f64::consts::LN_2;
        let mut traits = Self {
            baseline: chance.between(7.2, 7.9),
            spread: chance.between(0.6, 0.85),
            circadian: chance.between(0.25, 0.5),
            worst_hour: chance.between(16.0, 20.0),
            movement: chance.between(1.2, 1.9),
            flares_per_h: chance.between(0.04, 0.08),
            greatest_relief: chance.between(0.75, 0.79),
            half_effect_mcg: 0.22 * steady_mcg,
            placebo: (0.08, 0.03),
            brain_limit_mcg: 2.6 * steady_mcg,
            rebound: 0.4,
            half: HalfLives {
                csf_min,
                effect_min: chance.between(35.0, 60.0),
                brain_min: 300.0,
            },
            leak_after_ms: None,
            resp_rate: chance.between(14.0, 17.0),
        };
        let leak_after_min = chance.whole_between(21 * 60, 29 * 60);
        match kind {
            Kind::Responder => {}
            Kind::NonResponder => {
                traits.greatest_relief = 0.06;
                traits.placebo = (0.10, 0.04);
            }
            Kind::Leak => {
                traits.leak_after_ms = Some(leak_after_min * 60_000);
                traits.half_effect_mcg = 0.16 * steady_mcg;
            }
            Kind::SideEffects => {
                traits.greatest_relief = 0.71;
                traits.half.brain_min = 13.0 * 60.0;
                traits.brain_limit_mcg = 0.9 * steady_mcg;
            }
            Kind::Placebo => {
                traits.greatest_relief = 0.06;
                traits.placebo = (0.31, 0.04);
            }
            Kind::Withdrawal => {
                traits.greatest_relief = 0.71;
                traits.rebound = 2.0;
            }
        }
        traits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_found_by_its_name_and_another_word_is_refused_with_the_list() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let refused = "Responder".parse::<Kind>().unwrap_err().to_string();
        assert!(refused.contains("\"Responder\"") && refused.contains("side-effects"));
        assert_eq!(Kind::of_bed(6), Kind::Responder);
    }
}
