//! From drug at the catheter's tip to effect: one compartment of cerebrospinal fluid, an effect
//! site that lags behind it, and a slow compartment nearer the brain.
//!
//! dA/dt = R(t) - k·A with k = ln 2 / half-life, solved exactly for a constant rate over a minute.
//! Morphine's half-life in CSF: 94 min (Cornell record PMID 3530119), 175 and 196 min (Nordberg
//! 1984); onset 60 to 120 min, greatest respiratory depression 8 to 10 h (De Sousa 2014, table 1);
//! all in `facts/clinical.md` §1.3.

use crate::math::remaining;

const LN_2: f64 = core::f64::consts::LN_2;

/// How fast drug comes and goes in one patient, minutes.
#[derive(Clone, Copy, Debug)]
pub struct HalfLives {
    /// In the cerebrospinal fluid.
    pub csf_min: f64,
    /// From there to the effect on pain.
    pub effect_min: f64,
    /// To the centers of breathing and wakefulness.
    pub brain_min: f64,
}

/// Amounts in one patient, micrograms.
#[derive(Clone, Copy, Debug)]
pub struct Kinetics {
    csf_mcg: f64,
    effect_mcg: f64,
    brain_mcg: f64,
    half: HalfLives,
    keep_csf: f64,
    keep_effect: f64,
    keep_brain: f64,
}

impl Kinetics {
    /// Without drug.
    pub fn new(half: HalfLives) -> Self {
        Self {
            csf_mcg: 0.0,
            effect_mcg: 0.0,
            brain_mcg: 0.0,
            half,
            keep_csf: remaining(1.0, half.csf_min),
            keep_effect: remaining(1.0, half.effect_min),
            keep_brain: remaining(1.0, half.brain_min),
        }
    }

    /// One minute, in which so much drug came evenly out of the tip.
    pub fn live_minute(&mut self, reached_mcg: f64) {
        let k_per_min = LN_2 / self.half.csf_min;
        self.csf_mcg =
            self.csf_mcg * self.keep_csf + reached_mcg * (1.0 - self.keep_csf) / k_per_min;
        self.effect_mcg += (self.csf_mcg - self.effect_mcg) * (1.0 - self.keep_effect);
        self.brain_mcg += (self.effect_mcg - self.brain_mcg) * (1.0 - self.keep_brain);
    }

    /// In the cerebrospinal fluid.
    pub fn csf_mcg(&self) -> f64 {
        self.csf_mcg
    }

    /// As felt against pain.
    pub fn effect_mcg(&self) -> f64 {
        self.effect_mcg
    }

    /// As felt in breathing and wakefulness.
    pub fn brain_mcg(&self) -> f64 {
        self.brain_mcg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(half_life_min: f64, minutes: u32, mcg_per_h: f64) -> f64 {
        let mut kinetics = Kinetics::new(HalfLives {
            csf_min: half_life_min,
            effect_min: 45.0,
            brain_min: 240.0,
        });
        for _ in 0..minutes {
            kinetics.live_minute(mcg_per_h / 60.0);
        }
        kinetics.csf_mcg()
    }

    /// The figures of `facts/clinical.md` §1.3: 0.02 mg/h and a half-life of 94 min.
    #[test]
    fn the_spinal_amount_rises_as_the_worked_example_says() {
        assert!((after(94.0, 6 * 60, 20.0) - 42.025).abs() < 0.001);
        assert!((after(94.0, 60 * 60, 20.0) - 45.204).abs() < 0.001);
        let ninety = |half, hours: f64| {
            let minutes = u32::try_from(crate::math::whole(hours * 60.0)).unwrap();
            after(half, minutes, 20.0) / (20.0 * half / 60.0 / LN_2)
        };
        assert!((ninety(175.0, 9.69) - 0.9).abs() < 0.001);
        assert!((ninety(196.0, 10.85) - 0.9).abs() < 0.001);
    }
}
