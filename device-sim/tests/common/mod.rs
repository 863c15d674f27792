//! A trial for the tests: a manifest, keys, a pump.

pub(crate) use device_sim::story::{CLOCK, keys};

use device_sim::patient::kind::Kind;
use device_sim::setup::Setup;
use device_sim::story::{HERE, manifest_of};
use protocol::manifest::{SignedManifest, Simulated};

/// A signed manifest for it.
pub(crate) fn manifest(kind: Kind, seed: u64) -> SignedManifest {
    let simulated = Simulated {
        patient: kind.name().into(),
        seed,
        speed: 4_800,
    };
    manifest_of(kind, HERE, simulated).expect("fits")
}

/// A trial of so many days of therapy.
pub(crate) fn setup(kind: Kind, seed: u64, days: u32) -> Setup {
    Setup::demo(0, kind, seed, days, CLOCK, manifest(kind, seed), keys()).expect("fits together")
}
