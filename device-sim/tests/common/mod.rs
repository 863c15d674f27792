//! A trial for the tests: a manifest, keys, a pump.

use device_sim::patient::LocalClock;
use device_sim::patient::kind::Kind;
use device_sim::setup::{Setup, manifest_values};
use protocol::keys::KeyPair;
use protocol::manifest::{Manifest, SCHEMA, SignedManifest, Simulated};
use protocol::message::Source;

/// 2026-03-02T07:00:00Z, a Monday; 08:00 in the ward.
pub(crate) const CLOCK: LocalClock = LocalClock {
    origin_utc_ms: 1_772_434_800_000,
    offset_min: 60,
};

/// Keys of the test pump.
pub(crate) fn keys() -> KeyPair {
    KeyPair::from_seed([3; 32])
}

/// A signed manifest for it.
pub(crate) fn manifest(kind: Kind, seed: u64) -> SignedManifest {
    let values = manifest_values(kind);
    let manifest = Manifest {
        schema: SCHEMA.into(),
        trial_id: Some("T-0001".into()),
        bed: Some("01".into()),
        pump: Source::new("EP-0001").expect("a good name"),
        pump_key: keys().public(),
        gateway_key: None,
        drug: values.drug.into(),
        concentration_mcg_per_ml: values.concentration_mcg_per_ml,
        route: values.route.into(),
        zone: "Europe/Vienna".into(),
        baseline_start_utc_ms: CLOCK.origin_utc_ms,
        run_in_h: None,
        protocol: "pain-50".into(),
        limits: values.limits,
        simulated: Some(Simulated {
            patient: kind.name().into(),
            seed,
            speed: 4_800,
        }),
    };
    manifest.sign(&keys()).expect("fits")
}

/// A trial of so many days of therapy.
pub(crate) fn setup(kind: Kind, seed: u64, days: u32) -> Setup {
    Setup::demo(0, kind, seed, days, CLOCK, manifest(kind, seed), keys()).expect("fits together")
}
