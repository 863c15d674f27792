//! What lies between the pump and the spine: a set and a catheter that hold a dead volume, give a
//! little under pressure, and can be blocked, leak, or lie somewhere else.
//!
//! What goes in at the pump comes out at the tip in the same order, one dead volume later. The
//! delay is a volume, not a time: 0.5 to 1 mL for catheter and filter (`facts/clinical.md` §1.3).
//! The pump sees none of this but the pressure.

use crate::math::remaining;
use std::collections::VecDeque;

/// Volume given for each kilopascal by a soft set: low flow into it takes an hour and more to
/// reach an occlusion limit, as with real pumps at intrathecal rates.
const COMPLIANCE_NL_PER_KPA: f64 = 1_500.0;
/// Half of what is held under pressure leaves a free catheter in this time.
const RELAXATION_HALF_LIFE_MS: f64 = 2_000.0;

/// Set and catheter, filled from pump to tip.
#[derive(Clone, Debug)]
pub struct Catheter {
    dead_nl: f64,
    held_nl: f64,
    /// Volume and concentration (nanograms in a nanolitre), tip first.
    content: VecDeque<(f64, f64)>,
    blocked: bool,
    lost_part: f64,
    connected: bool,
}

/// What left the tip, and where it went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outflow {
    /// Drug that reached the spine, nanograms.
    pub reached_ng: f64,
    /// Volume that reached the spine, nanolitres.
    pub reached_nl: f64,
    /// Drug that went elsewhere: into tissue, a dressing, or a dish while priming; nanograms.
    pub lost_ng: f64,
}

impl Outflow {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.reached_ng += other.reached_ng;
        self.reached_nl += other.reached_nl;
        self.lost_ng += other.lost_ng;
    }
}

impl Catheter {
    /// Filled with saline, not connected to a patient.
    pub fn new(dead_nl: u64) -> Self {
        let dead_nl = crate::math::float(dead_nl);
        Self {
            dead_nl,
            held_nl: 0.0,
            content: VecDeque::from([(dead_nl, 0.0)]),
            blocked: false,
            lost_part: 0.0,
            connected: false,
        }
    }

    /// Joined to the patient, or taken off for priming.
    pub fn connect(&mut self, connected: bool) {
        self.connected = connected;
    }

    /// Kinked or clotted, or free again.
    pub fn block(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// The part of the flow, 0 to 1, that no longer reaches the spine.
    pub fn leak(&mut self, part: f64) {
        self.lost_part = part.clamp(0.0, 1.0);
    }

    /// The pump pushes so much in.
    pub fn push(&mut self, nl: f64, ng_per_nl: f64) {
        if nl <= 0.0 {
            return;
        }
        self.held_nl += nl;
        match self.content.back_mut() {
            Some((volume, strength)) if (*strength - ng_per_nl).abs() < 1e-12 => *volume += nl,
            Some(_) | None => self.content.push_back((nl, ng_per_nl)),
        }
    }

    /// Time passes; what is under pressure flows on.
    pub fn flow(&mut self, span_ms: u64) -> Outflow {
        let mut out = Outflow::default();
        if self.blocked || self.held_nl <= 0.0 {
            return out;
        }
        let kept = remaining(crate::math::float(span_ms), RELAXATION_HALF_LIFE_MS);
        let mut leaving = self.held_nl * (1.0 - kept);
        self.held_nl -= leaving;
        let lost_part = if self.connected { self.lost_part } else { 1.0 };
        while leaving > 0.0 {
            let Some((volume, strength)) = self.content.front_mut() else {
                break;
            };
            let taken = leaving.min(*volume);
            let drug = taken * *strength;
            out.reached_nl += taken * (1.0 - lost_part);
            out.reached_ng += drug * (1.0 - lost_part);
            out.lost_ng += drug * lost_part;
            *volume -= taken;
            leaving -= taken;
            if *volume <= 0.0 {
                self.content.pop_front();
            }
        }
        out
    }

    /// Pressure after the pump, pascals above the spine's.
    pub fn pressure_pa(&self) -> f64 {
        self.held_nl / COMPLIANCE_NL_PER_KPA * 1_000.0
    }

    /// Opens the line at the pump: the pressure goes, what was held with it.
    pub fn vent(&mut self) {
        let mut spare = self.held_nl;
        while spare > 0.0 {
            let Some((volume, _)) = self.content.back_mut() else {
                break;
            };
            let taken = spare.min(*volume);
            *volume -= taken;
            spare -= taken;
            if *volume <= 0.0 {
                self.content.pop_back();
            }
        }
        self.held_nl = 0.0;
    }

    /// Drug between pump and tip, nanograms.
    pub fn held_ng(&self) -> f64 {
        self.content
            .iter()
            .map(|(nl, strength)| nl * strength)
            .sum()
    }

    /// From pump to tip, nanolitres.
    pub fn dead_nl(&self) -> f64 {
        self.dead_nl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn pumped(catheter: &mut Catheter, minutes: u64, nl_per_minute: f64) -> Outflow {
        let mut sum = Outflow::default();
        for _ in 0..minutes {
            catheter.push(nl_per_minute, 0.5);
            sum.add(catheter.flow(MINUTE));
        }
        sum
    }

    #[test]
    fn drug_comes_one_dead_volume_after_saline_and_none_is_lost() {
        let mut catheter = Catheter::new(800_000);
        catheter.connect(true);
        let early = pumped(&mut catheter, 7 * 60, 1_900.0);
        assert!(
            early.reached_ng < 1e-9,
            "798 000 nL are less than the dead volume"
        );
        let late = pumped(&mut catheter, 60, 1_900.0);
        assert!(late.reached_ng > 40_000.0);
        let pushed = 8.0 * 60.0 * 1_900.0 * 0.5;
        let known = early.reached_ng + late.reached_ng + catheter.held_ng();
        assert!((known - pushed).abs() < 1e-3, "{known} of {pushed}");
    }

    #[test]
    fn a_primed_catheter_gives_drug_at_once() {
        let mut catheter = Catheter::new(800_000);
        catheter.push(900_000.0, 0.5);
        let primed = catheter.flow(20 * MINUTE);
        assert!(primed.reached_ng < 1e-9 && primed.lost_ng > 0.0);
        catheter.connect(true);
        assert!(pumped(&mut catheter, 5, 1_900.0).reached_ng > 0.0);
    }

    #[test]
    fn a_blocked_catheter_builds_pressure_and_lets_the_held_volume_go_at_once_when_freed() {
        let mut catheter = Catheter::new(10_000);
        catheter.connect(true);
        pumped(&mut catheter, 120, 1_700.0);
        let before = catheter.pressure_pa();
        catheter.block(true);
        assert!(pumped(&mut catheter, 60, 1_700.0).reached_ng < 1e-9);
        assert!(catheter.pressure_pa() > before + 60_000.0);
        catheter.block(false);
        let after = catheter.flow(5 * MINUTE);
        assert!(
            after.reached_nl > 95_000.0,
            "post-occlusion bolus {after:?}"
        );
    }

    #[test]
    fn a_leak_takes_its_part_and_the_pressure_says_nothing() {
        let mut sound = Catheter::new(10_000);
        sound.connect(true);
        let mut leaking = sound.clone();
        leaking.leak(0.95);
        let (whole, part) = (
            pumped(&mut sound, 300, 1_700.0),
            pumped(&mut leaking, 300, 1_700.0),
        );
        assert!((part.reached_ng / whole.reached_ng - 0.05).abs() < 1e-9);
        assert!((sound.pressure_pa() - leaking.pressure_pa()).abs() < 1e-9);
    }

    #[test]
    fn venting_takes_the_pressure_and_keeps_the_catheter_full() {
        let mut catheter = Catheter::new(10_000);
        catheter.block(true);
        catheter.push(90_000.0, 0.5);
        catheter.vent();
        assert!(catheter.pressure_pa() < 1e-9);
        let left: f64 = catheter.content.iter().map(|(nl, _)| nl).sum();
        assert!((left - catheter.dead_nl()).abs() < 1e-6);
    }
}
