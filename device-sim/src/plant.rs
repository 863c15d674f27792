//! What the pump's logic drives and feels: motor, encoder, reservoir, the line to the patient, the
//! battery, the door, keys. Knows what truly happened; the pump is told only what its sensors say.

use crate::catheter::{Catheter, Outflow};
use crate::chance::{Chance, Concern};
use crate::math::float;

/// Life of a fresh battery at rest, hours, and what a millilitre pumped takes away of it.
const BATTERY_LIFE_H: f64 = 300.0;
const BATTERY_H_PER_ML: f64 = 0.6;
/// Volumes of pump mechanisms differ between pumps and from stroke to stroke: means of 0 to 3 %
/// and 2 to 3.8 % standard deviation in the ambIT pump's manual (`facts/firmware.md` §12).
const VOLUME_BIAS: f64 = 0.012;
const VOLUME_SPREAD: f64 = 0.02;
/// One turn of the mechanism.
const STROKE_NL: f64 = 50_000.0;

/// Everything around the pump's logic.
#[derive(Clone, Debug)]
pub struct Plant {
    /// Set and catheter.
    pub catheter: Catheter,
    chance: Chance,
    strength_ng_per_nl: f64,
    reservoir_nl: f64,
    bias: f64,
    stroke: f64,
    left_of_stroke_nl: f64,
    measured_nl: f64,
    battery_h: f64,
    /// A clamp between reservoir and pump is closed.
    pub upstream_blocked: bool,
    /// Air is in the line.
    pub air: bool,
    /// The door is open.
    pub door_open: bool,
    /// The motor turns and the mechanism does not.
    pub stalled: bool,
    /// The part of the movement that the encoder sees, 0 to 1.
    pub encoder_sees: f64,
    /// The motor moves so many times what it is told.
    pub motor_gain: f64,
    /// The mechanism turns by itself, nanolitres an hour.
    pub free_flow_nl_per_h: u32,
    outflow: Outflow,
}

impl Plant {
    /// A pump with a filled reservoir of this concentration and a line full of saline.
    pub fn new(seed: u64, dead_nl: u64, reservoir_nl: u64, mcg_per_ml: u32) -> Self {
        let mut chance = Chance::new(seed, Concern::Plant);
        let bias = 1.0 + VOLUME_BIAS * chance.normal().clamp(-2.0, 2.0);
        Self {
            catheter: Catheter::new(dead_nl),
            chance,
            strength_ng_per_nl: f64::from(mcg_per_ml) / 1_000.0,
            reservoir_nl: float(reservoir_nl),
            bias,
            stroke: 1.0,
            left_of_stroke_nl: 0.0,
            measured_nl: 0.0,
            battery_h: BATTERY_LIFE_H,
            upstream_blocked: false,
            air: false,
            door_open: false,
            stalled: false,
            encoder_sees: 1.0,
            motor_gain: 1.0,
            free_flow_nl_per_h: 0,
            outflow: Outflow::default(),
        }
    }

    /// The motor turns by what should move `nominal_nl`.
    pub fn turn(&mut self, nominal_nl: f64) {
        self.battery_h -= nominal_nl / 1_000_000.0 * BATTERY_H_PER_ML;
        if self.stalled {
            return;
        }
        self.move_by(nominal_nl * self.motor_gain);
    }

    fn move_by(&mut self, nominal_nl: f64) {
        self.measured_nl += nominal_nl * self.encoder_sees;
        if self.upstream_blocked {
            return;
        }
        self.left_of_stroke_nl -= nominal_nl;
        if self.left_of_stroke_nl <= 0.0 {
            self.left_of_stroke_nl += STROKE_NL.max(nominal_nl);
            self.stroke = 1.0 + VOLUME_SPREAD * self.chance.normal().clamp(-2.5, 2.5);
        }
        let volume = (nominal_nl * self.bias * self.stroke).min(self.reservoir_nl);
        self.reservoir_nl -= volume;
        self.catheter.push(volume, self.strength_ng_per_nl);
    }

    /// Time passes.
    pub fn flow(&mut self, span_ms: u64) {
        if self.free_flow_nl_per_h > 0 {
            let hours = float(span_ms) / 3_600_000.0;
            self.move_by(f64::from(self.free_flow_nl_per_h) * hours);
        }
        let out = self.catheter.flow(span_ms);
        self.outflow.add(out);
        self.battery_h -= float(span_ms) / 3_600_000.0;
    }

    /// What left the catheter since the last call.
    pub fn take_outflow(&mut self) -> Outflow {
        core::mem::take(&mut self.outflow)
    }

    /// As the encoder tells it since power came, nanolitres; not whole counts.
    pub fn measured_nl(&self) -> f64 {
        self.measured_nl
    }

    /// In the reservoir, truly, nanolitres.
    pub fn reservoir_nl(&self) -> f64 {
        self.reservoir_nl
    }

    /// Puts another volume into the reservoir.
    pub fn fill(&mut self, nl: u64) {
        self.reservoir_nl = float(nl);
    }

    /// Charge, percent.
    pub fn battery_percent(&self) -> u8 {
        let percent = (100.0 * self.battery_h / BATTERY_LIFE_H).clamp(0.0, 100.0);
        u8::try_from(crate::math::whole(percent)).unwrap_or(0)
    }

    /// At the present load, minutes.
    pub fn battery_minutes(&self) -> u32 {
        u32::try_from(crate::math::whole(self.battery_h.max(0.0) * 60.0)).unwrap_or(u32::MAX)
    }

    /// Sets the charge.
    pub fn charge(&mut self, percent: u8) {
        self.battery_h = BATTERY_LIFE_H * f64::from(percent.min(100)) / 100.0;
    }

    /// Opens the line, lets pressure and air out, closes it again.
    pub fn free_line(&mut self) {
        self.catheter.block(false);
        self.catheter.vent();
        self.upstream_blocked = false;
        self.air = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_reservoir_is_in_the_line_or_past_its_end() {
        let mut plant = Plant::new(4, 500_000, 2_000_000, 500);
        plant.catheter.connect(true);
        for _ in 0..1_000 {
            plant.turn(1_500.0);
            plant.flow(60_000);
        }
        let out = plant.take_outflow();
        let gone = (2_000_000.0 - plant.reservoir_nl()) * 0.5;
        let known = out.reached_ng + out.lost_ng + plant.catheter.held_ng();
        assert!((gone - known).abs() < 1e-3 && out.reached_ng > 300_000.0);
        assert!((plant.measured_nl() - 1_500_000.0).abs() < 1e-6);
    }

    #[test]
    fn an_empty_reservoir_gives_nothing_while_the_encoder_goes_on() {
        let mut plant = Plant::new(4, 1_000, 10_000, 500);
        plant.turn(50_000.0);
        assert!(plant.reservoir_nl() < 1e-9 && plant.measured_nl() > 49_999.0);
        plant.fill(1_000_000);
        plant.stalled = true;
        plant.turn(50_000.0);
        assert!(plant.measured_nl() < 50_001.0 && plant.reservoir_nl() > 999_999.0);
    }

    #[test]
    fn the_battery_lasts_a_trial_and_not_for_ever() {
        let mut plant = Plant::new(1, 1_000, 1_000_000, 500);
        plant.flow(5 * 24 * 3_600_000);
        assert!((40..70).contains(&plant.battery_percent()));
        plant.flow(10 * 24 * 3_600_000);
        assert_eq!((plant.battery_percent(), plant.battery_minutes()), (0, 0));
        plant.charge(100);
        assert_eq!(plant.battery_percent(), 100);
    }
}
