//! Simulated pumps and what opens their trials. Their keys come from the seed, so that the same
//! seed gives the same bytes; that is for pumps without a patient alone, and the manifest says so.

use anyhow::{Context, anyhow};
use device_sim::patient::LocalClock;
use device_sim::patient::kind::Kind;
use device_sim::setup::{Setup, manifest_values};
use protocol::keys::{KeyPair, sha256};
use protocol::manifest::{Manifest, SCHEMA, SignedManifest, Simulated};
use protocol::message::Source;

/// A simulated trial before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// From 0.
    pub(crate) bed_index: usize,
    /// None: the gateway binds it.
    pub(crate) trial: Option<String>,
    pub(crate) bed: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) days: u32,
    pub(crate) speed: u32,
    pub(crate) zone: String,
    pub(crate) clock: LocalClock,
}

/// A key pair for a simulation.
fn pair(seed: u64, what: &str, bed_index: usize) -> KeyPair {
    KeyPair::from_seed(sha256(format!("thecal simulated {what} {seed} {bed_index}").as_bytes()).0)
}

impl Plan {
    /// The pump's keys.
    pub(crate) fn keys(&self) -> KeyPair {
        pair(self.seed, "pump", self.bed_index)
    }

    fn manifest(&self) -> anyhow::Result<SignedManifest> {
        let values = manifest_values(self.kind);
        let serial = format!("EP-{:04}", 193 + self.bed_index);
        let manifest = Manifest {
            schema: SCHEMA.into(),
            trial_id: self.trial.clone(),
            bed: self.bed.clone(),
            pump: Source::new(&serial).with_context(|| format!("serial number {serial}"))?,
            pump_key: self.keys().public(),
            gateway_key: None,
            drug: values.drug.into(),
            concentration_mcg_per_ml: values.concentration_mcg_per_ml,
            route: values.route.into(),
            zone: self.zone.clone(),
            baseline_start_utc_ms: self.clock.origin_utc_ms,
            run_in_h: None,
            protocol: "pain-50".into(),
            limits: values.limits,
            simulated: Some(Simulated {
                patient: self.kind.name().into(),
                seed: self.seed,
                speed: self.speed,
            }),
        };
        Ok(manifest.sign(&pair(self.seed, "opener", self.bed_index))?)
    }

    /// Pump, patient and nurse, ready to run. Every bed has a patient of its own.
    pub(crate) fn setup(&self) -> anyhow::Result<Setup> {
        let seed = self
            .seed
            .wrapping_mul(1_000)
            .wrapping_add(u64::try_from(self.bed_index)?);
        let (manifest, keys) = (self.manifest()?, self.keys());
        Setup::demo(
            self.bed_index,
            self.kind,
            seed,
            self.days,
            self.clock,
            manifest,
            keys,
        )
        .map_err(|e| anyhow!("{e}"))
    }
}
