//! What the pump is given before a trial, in the pharmacy or at the bench. It does not change
//! during the trial; what a clinician changes at the keypad is in [`crate::settings`].

use crate::program::Program;
use crate::texts::Language;
use heapless::Vec;
use protocol::chain::ChainHead;
use protocol::hex::PublicKey;
use protocol::message::Source;
use protocol::units::{Concentration, FlowRate, HOUR_MS, Volume};

/// The most bytes of a signed manifest: the text, a zero, key and signature.
pub const MANIFEST_MAX: usize = 2_048 + 1 + 32 + 64;

/// Everything the pump is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provision {
    /// Serial number.
    pub source: Source,
    /// Public half of the key that [`crate::board::Board::sign`] signs with.
    pub key: PublicKey,
    /// True where there is no patient.
    pub simulated: bool,
    /// The manifest's bytes: the root of the chain, sent to a gateway that asks.
    pub manifest: Vec<u8, MANIFEST_MAX>,
    /// Limits of delivery, as the manifest has them.
    pub limits: Limits,
    /// What to infuse when, until a clinician changes it.
    pub program: Program,
    /// Of the drug in the first reservoir.
    pub concentration: Concentration,
    /// In the first reservoir.
    pub reservoir: Volume,
    /// Minutes east of UTC, for day-parts and quiet hours, until a clinician sets the clock.
    pub offset_min: i16,
    /// How fast a bolus is given.
    pub bolus_rate: FlowRate,
    /// How fast a line is filled or flushed; at most 60 mL/h.
    pub prime_rate: FlowRate,
    /// The mechanism.
    pub calibration: Calibration,
    /// When the patient is asked.
    pub prompts: PromptPlan,
    /// Where alarm conditions begin.
    pub marks: Marks,
    /// Of the texts on the pump's face.
    pub language: Language,
}

/// Limits of delivery that nobody can pass at the pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Most in one patient bolus.
    pub bolus: Volume,
    /// Least time between two.
    pub lockout_ms: u32,
    /// Most in any hour, committed basal included.
    pub max_1h: Volume,
    /// Most in any 4 h.
    pub max_4h: Volume,
    /// Most in any 24 h.
    pub max_24h: Volume,
}

/// How motor steps, encoder counts and volume belong together: rational, never rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Calibration {
    /// Volume of one pump stroke, one turn of the mechanism.
    pub stroke: Volume,
    /// Microsteps of the motor for it.
    pub microsteps_per_stroke: u32,
    /// Encoder counts for it.
    pub counts_per_stroke: u32,
}

impl Default for Calibration {
    /// 0.05 mL a turn, as the ambIT pump has it; 3,200 microsteps, 15.625 nL each
    /// (`facts/firmware.md` §12); 800 encoder counts.
    fn default() -> Self {
        Self {
            stroke: Volume::from_nanoliters(50_000),
            microsteps_per_stroke: 3_200,
            counts_per_stroke: 800,
        }
    }
}

/// When the patient is asked for a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptPlan {
    /// Minutes between two prompts at rest; 0 for none.
    pub rest_every_min: u16,
    /// Minutes between two prompts on movement; 0 for none.
    pub movement_every_min: u16,
    /// Quiet hours begin, minutes after local midnight.
    pub quiet_from_min: u16,
    /// Quiet hours end, and the day's first prompt at rest is due.
    pub quiet_to_min: u16,
    /// How long a prompt is open; then it is asked once more, for as long again.
    pub open_ms: u32,
}

impl Default for PromptPlan {
    fn default() -> Self {
        Self {
            rest_every_min: 120,
            movement_every_min: 360,
            quiet_from_min: 22 * 60,
            quiet_to_min: 7 * 60,
            open_ms: 300_000,
        }
    }
}

/// Where alarm conditions begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Pressure after the pump that means a blocked line.
    pub occlusion_mbar: u32,
    /// Reservoir low.
    pub reservoir_low: Volume,
    /// Reservoir low also where it lasts for less than this at the programmed rate.
    pub reservoir_low_ms: u64,
    /// Reservoir empty.
    pub reservoir_empty: Volume,
    /// Battery low: charge.
    pub battery_low_percent: u8,
    /// Battery low: minutes left.
    pub battery_low_min: u32,
    /// Battery flat: minutes left. A charge of 0 is flat too.
    pub battery_flat_min: u32,
}

impl Default for Marks {
    /// The Open PCA requirements (KSU `SAnToS`, 1.0.0): downstream occlusion 10 psi, which is
    /// 689 mbar (R7.2.0), reservoir low below 1 mL and empty below 0.5 mL (R6.8.0), battery flat
    /// at 3 min (R7.3.0). Battery low is ours: 30 min before flat.
    fn default() -> Self {
        Self {
            occlusion_mbar: 689,
            reservoir_low: Volume::from_nanoliters(1_000_000),
            reservoir_low_ms: 2 * HOUR_MS,
            reservoir_empty: Volume::from_nanoliters(500_000),
            battery_low_percent: 10,
            battery_low_min: 33,
            battery_flat_min: 3,
        }
    }
}

impl Provision {
    /// A pump with the usual mechanism, prompts and marks: 20 mL in the reservoir, UTC, English.
    /// `None` where the manifest is too long.
    pub fn new(
        source: Source,
        key: PublicKey,
        manifest: &[u8],
        limits: Limits,
        program: Program,
        concentration: Concentration,
    ) -> Option<Self> {
        Some(Self {
            source,
            key,
            simulated: false,
            manifest: Vec::from_slice(manifest).ok()?,
            limits,
            program,
            concentration,
            reservoir: Volume::from_nanoliters(20_000_000),
            offset_min: 0,
            bolus_rate: FlowRate::from_nanoliters_per_hour(6_000_000),
            prime_rate: FlowRate::from_nanoliters_per_hour(60_000_000),
            calibration: Calibration::default(),
            prompts: PromptPlan::default(),
            marks: Marks::default(),
            language: Language::English,
        })
    }

    /// h₀, the root of the chain.
    pub fn genesis(&self) -> ChainHead {
        ChainHead::genesis(self.manifest.split(|b| *b == 0).next().unwrap_or(&[]))
    }
}
