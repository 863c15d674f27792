//! What a simulated trial is made of, and the values that its manifest states.

use crate::board::FLASH_SIZE;
use crate::fault::Fault;
use crate::nurse::Plan;
use crate::patient::LocalClock;
use crate::patient::habits::Press;
use crate::patient::kind::Kind;
use crate::scenario::Scenario;
use crate::sim::Error;
use firmware::program::Program;
use firmware::provision::{self, PromptPlan, Provision};
use protocol::keys::KeyPair;
use protocol::manifest::{Limits, Manifest, SignedManifest};
use protocol::message::Source;
use protocol::units::{Concentration, FlowRate, Volume};
use std::path::PathBuf;

const HOUR_MS: u64 = 3_600_000;
/// Set and catheter, between the 0.5 and 1 mL of `facts/clinical.md` §1.3.
pub const DEAD_NL: u64 = 800_000;
/// Pushed through before the line is connected, so that drug stands at the tip.
const PRIME_NL: u64 = 900_000;
/// A fresh reservoir.
const RESERVOIR_NL: u64 = 10_000_000;
/// Morphine, 500 mcg/mL: 0.96, 1.2 and 1.44 mg a day (`facts/clinical.md` §1.2: 0.2 to 1 mg a day
/// for who had no opioids, 1 to 10 mg for who had).
const RATES_NL_PER_H: [u32; 3] = [80_000, 100_000, 120_000];
/// Without infusion, before the therapy.
const BASELINE_MS: u64 = 24 * HOUR_MS;
/// The patient is asked so often at rest while awake.
const REST_EVERY_MIN: u16 = 60;

/// What the manifest of a simulated trial states of its therapy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestValues {
    /// The drug's name.
    pub drug: &'static str,
    /// Of the drug in the reservoir.
    pub concentration_mcg_per_ml: u32,
    /// `intrathecal` or `epidural`.
    pub route: &'static str,
    /// Limits of delivery.
    pub limits: Limits,
}

/// Of this kind of patient.
pub fn manifest_values(kind: Kind) -> ManifestValues {
    // One therapy for all, so that patients and not pumps differ; the match makes a new kind decide.
    match kind {
        Kind::Responder
        | Kind::NonResponder
        | Kind::Leak
        | Kind::SideEffects
        | Kind::Placebo
        | Kind::Withdrawal => ManifestValues {
            drug: "morphine",
            concentration_mcg_per_ml: 500,
            route: "intrathecal",
            limits: Limits {
                bolus_nl: 50_000,
                lockout_ms: 3_600_000,
                max_1h_nl: 200_000,
                max_4h_nl: 650_000,
                max_24h_nl: 3_500_000,
            },
        },
    }
}

/// How the trial of this kind of patient is to go, with so much therapy.
pub fn plan(kind: Kind, baseline_ms: u64, therapy_ms: u64, entry_prefix: &str) -> Plan {
    Plan {
        baseline_ms,
        therapy_ms,
        rates_nl_per_h: RATES_NL_PER_H.to_vec(),
        prime_nl: PRIME_NL,
        reservoir_nl: RESERVOIR_NL,
        pharmacy_delay_ms: (kind == Kind::Withdrawal).then_some(12 * HOUR_MS),
        entry_prefix: entry_prefix.into(),
    }
}

/// In the first reservoir. For `withdrawal` so little that it is empty in the middle.
pub fn first_fill_nl(kind: Kind, therapy_ms: u64) -> u64 {
    if kind != Kind::Withdrawal {
        return RESERVOIR_NL;
    }
    let hours = therapy_ms / HOUR_MS / 2;
    let [first, second, _] = RATES_NL_PER_H.map(u64::from);
    PRIME_NL + LEFT_OVER_NL + first * hours.min(8) + second * hours.saturating_sub(8)
}

/// The pump calls a reservoir empty that still holds this.
const LEFT_OVER_NL: u64 = 500_000;

/// Everything that a simulated trial is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The pump's serial number.
    pub source: Source,
    /// The pump's keys.
    pub keys: KeyPair,
    /// What opened the trial.
    pub manifest: SignedManifest,
    /// The kind of patient.
    pub kind: Kind,
    /// Of all chance.
    pub seed: u64,
    /// When the trial's clock is 0, and where.
    pub clock: LocalClock,
    /// What the nurse is to do.
    pub plan: Plan,
    /// In the first reservoir, nanolitres.
    pub first_fill_nl: u64,
    /// Set and catheter, nanolitres.
    pub dead_nl: u64,
    /// Of the drug.
    pub concentration_mcg_per_ml: u32,
    /// Limits that the pump holds.
    pub limits: Limits,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Keys that are pressed at fixed times.
    pub presses: Vec<Press>,
    /// What a clinician does at the pump at fixed times, trial milliseconds.
    pub acts: Vec<(u64, firmware::acts::Act)>,
    /// The patient presses nothing else.
    pub quiet_patient: bool,
    /// Where the pump's memory lives; none for RAM.
    pub memory: Option<PathBuf>,
    /// Bytes of that memory.
    pub flash_size: u32,
    /// The pump's watchdog does not run out.
    pub watchdog_broken: bool,
    /// The pump's program is this image in an emulator; none for the library in this process.
    pub image: Option<PathBuf>,
}

impl Setup {
    /// The trial of the demo's bed `bed_index` (from 0), with `days` of therapy after a day of
    /// baseline. Drug, limits and serial number are the manifest's; a pump of another key is
    /// refused.
    ///
    /// # Errors
    /// Where the manifest cannot be read or is another pump's.
    pub fn demo(
        bed_index: usize,
        kind: Kind,
        seed: u64,
        days: u32,
        clock: LocalClock,
        manifest: SignedManifest,
        keys: KeyPair,
    ) -> Result<Self, Error> {
        let stated = Manifest::parse(&manifest.text).map_err(|e| Error::Setup(e.to_string()))?;
        if stated.pump_key != keys.public() {
            return Err(Error::Setup(format!(
                "the manifest names another key for pump {}",
                stated.pump
            )));
        }
        let therapy_ms = u64::from(days) * 24 * HOUR_MS;
        let prefix = format!("{}-b{}-n", stated.pump, bed_index + 1);
        Ok(Self {
            source: stated.pump,
            keys,
            manifest,
            kind,
            seed,
            clock,
            plan: plan(kind, BASELINE_MS, therapy_ms, &prefix),
            first_fill_nl: first_fill_nl(kind, therapy_ms),
            dead_nl: DEAD_NL,
            concentration_mcg_per_ml: stated.concentration_mcg_per_ml,
            limits: stated.limits,
            faults: Vec::new(),
            presses: Vec::new(),
            acts: Vec::new(),
            quiet_patient: false,
            memory: None,
            flash_size: FLASH_SIZE,
            watchdog_broken: false,
            image: None,
        })
    }

    /// The same pump in a scenario's story: its patient, times, faults and keys.
    #[must_use]
    pub fn in_scenario(mut self, scenario: &Scenario) -> Self {
        let prefix = core::mem::take(&mut self.plan.entry_prefix);
        self.kind = scenario.patient;
        self.seed = scenario.seed;
        let (baseline, therapy) = (scenario.baseline_ms, scenario.therapy_ms);
        self.plan = plan(self.kind, baseline, therapy, &prefix);
        self.first_fill_nl = first_fill_nl(self.kind, therapy);
        self.faults.clone_from(&scenario.faults);
        self.presses.clone_from(&scenario.presses);
        self.acts.clone_from(&scenario.acts);
        if let Some(size) = scenario.flash_size {
            self.flash_size = size;
        }
        self.quiet_patient = scenario.quiet_patient;
        self
    }

    /// What the pump is given.
    ///
    /// # Errors
    /// Where the manifest is too long for it.
    pub fn provision(&self) -> Result<Provision, Error> {
        let limits = provision::Limits {
            bolus: Volume::from_nanoliters(u64::from(self.limits.bolus_nl)),
            lockout_ms: self.limits.lockout_ms,
            max_1h: Volume::from_nanoliters(self.limits.max_1h_nl),
            max_4h: Volume::from_nanoliters(self.limits.max_4h_nl),
            max_24h: Volume::from_nanoliters(self.limits.max_24h_nl),
        };
        let rate = self.plan.rates_nl_per_h.first().copied().unwrap_or(0);
        let manifest = self.manifest.to_bytes();
        let mut provision = Provision::new(
            self.source,
            self.keys.public(),
            &manifest,
            limits,
            Program::constant(FlowRate::from_nanoliters_per_hour(rate)),
            Concentration::from_micrograms_per_milliliter(self.concentration_mcg_per_ml),
        )
        .ok_or_else(|| {
            Error::Setup(format!(
                "manifest of {} bytes is longer than a pump keeps",
                manifest.len()
            ))
        })?;
        provision.simulated = true;
        provision.reservoir = Volume::from_nanoliters(self.first_fill_nl);
        provision.offset_min = self.clock.offset_min;
        provision.prompts = PromptPlan {
            rest_every_min: REST_EVERY_MIN,
            ..PromptPlan::default()
        };
        Ok(provision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::manifest::{SCHEMA, Simulated};

    fn manifest(keys: &KeyPair) -> SignedManifest {
        let values = manifest_values(Kind::Responder);
        let manifest = Manifest {
            schema: SCHEMA.into(),
            trial_id: Some("T-1".into()),
            bed: Some("01".into()),
            pump: Source::new("EP-1").unwrap(),
            pump_key: keys.public(),
            gateway_key: None,
            drug: values.drug.into(),
            concentration_mcg_per_ml: values.concentration_mcg_per_ml,
            route: values.route.into(),
            zone: "UTC".into(),
            baseline_start_utc_ms: 0,
            run_in_h: None,
            protocol: "pain-50".into(),
            limits: values.limits,
            simulated: Some(Simulated {
                patient: "responder".into(),
                seed: 1,
                speed: 1,
            }),
        };
        manifest.sign(keys).unwrap()
    }

    #[test]
    fn a_pump_with_another_key_than_the_manifests_is_refused() {
        let (own, other) = (KeyPair::from_seed([1; 32]), KeyPair::from_seed([2; 32]));
        let clock = LocalClock {
            origin_utc_ms: 0,
            offset_min: 0,
        };
        let demo = |keys| Setup::demo(0, Kind::Responder, 1, 4, clock, manifest(&own), keys);
        assert!(demo(own.clone()).is_ok());
        assert!(matches!(demo(other), Err(Error::Setup(_))));
    }

    #[test]
    fn the_doses_are_intrathecal_ones_and_within_the_limits() {
        let values = manifest_values(Kind::Responder);
        for rate in RATES_NL_PER_H {
            let mcg_a_day =
                u64::from(rate) * 24 * u64::from(values.concentration_mcg_per_ml) / 1_000_000;
            assert!((500..2_000).contains(&mcg_a_day), "{mcg_a_day}");
            assert!(u64::from(rate) * 24 < values.limits.max_24h_nl);
        }
    }
}
