//! What opens a trial: who, what drug, which keys, what limits. Its bytes are the root of the
//! pump's chain and of the gateway's.

use crate::hex::{Hex, PublicKey, Signature};
use crate::keys::KeyPair;
use crate::message::Source;
use serde::{Deserialize, Serialize};

/// The name of this form.
pub const SCHEMA: &str = "thecal.manifest/1";
/// The most bytes of a manifest; a pump keeps it whole.
pub const MANIFEST_MAX: usize = 2_048;

/// A trial as it was opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The trial. None only where a simulated pump stands ready for any trial; its gateway binds
    /// it then.
    pub trial_id: Option<String>,
    /// The bed at the opening.
    pub bed: Option<String>,
    /// The pump's serial number.
    pub pump: Source,
    /// The pump's public key.
    pub pump_key: PublicKey,
    /// The gateway's public key, where it was known at the opening.
    pub gateway_key: Option<PublicKey>,
    /// The drug's name.
    pub drug: String,
    /// Of the drug in the reservoir, micrograms a millilitre.
    pub concentration_mcg_per_ml: u32,
    /// `intrathecal` or `epidural`.
    pub route: String,
    /// IANA time zone of the ward.
    pub zone: String,
    /// When the baseline begins, UTC milliseconds.
    pub baseline_start_utc_ms: i64,
    /// Hours after each programmed change in which scores are shown, not evaluated. None: by drug.
    pub run_in_h: Option<u32>,
    /// Name of the decision protocol.
    pub protocol: String,
    /// Limits of delivery.
    pub limits: Limits,
    /// Set where there is no patient.
    pub simulated: Option<Simulated>,
}

/// Limits that the pump holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// One patient bolus.
    pub bolus_nl: u32,
    /// Least time between two.
    pub lockout_ms: u32,
    /// Most in any hour, committed basal included.
    pub max_1h_nl: u64,
    /// Most in any 4 h.
    pub max_4h_nl: u64,
    /// Most in any 24 h.
    pub max_24h_nl: u64,
}

/// A trial without a patient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    /// The kind of virtual patient.
    pub patient: String,
    /// Of all chance in it.
    pub seed: u64,
    /// Ceiling of the clock's speed; 1 is real time.
    pub speed: u32,
}

/// A manifest's bytes with the signature of who opened the trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedManifest {
    /// The manifest as JSON; these bytes count.
    pub text: String,
    /// Who opened the trial.
    pub key: PublicKey,
    /// Ed25519 over `thecal manifest v1\n` and the text.
    pub sig: Signature,
}

/// Why a manifest is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than a pump keeps.
    #[error("manifest of {0} bytes is longer than {MANIFEST_MAX}")]
    TooLong(usize),
    /// Not of the expected form.
    #[error("manifest does not have the expected form: {0}")]
    Form(String),
    /// The signature does not hold.
    #[error("the manifest's signature does not hold")]
    Signature,
}

impl Manifest {
    /// From JSON.
    ///
    /// # Errors
    /// Where it is too long or of another form, or holds a value that cannot be.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MANIFEST_MAX {
            return Err(Error::TooLong(text.len()));
        }
        let manifest: Self = serde_json::from_str(text).map_err(|e| Error::Form(e.to_string()))?;
        let wrong = |what: String| Err(Error::Form(what));
        if manifest.schema != SCHEMA {
            return wrong(format!(
                "schema is {:?}, this program reads {SCHEMA:?}",
                manifest.schema
            ));
        }
        for (what, id) in [("trial_id", &manifest.trial_id), ("bed", &manifest.bed)] {
            if id.as_ref().is_some_and(|id| !crate::text::is_name(id)) {
                return wrong(format!("{what} is not 1 to 32 of A-Z a-z 0-9 . _ -"));
            }
        }
        if manifest.concentration_mcg_per_ml == 0 {
            return wrong("concentration_mcg_per_ml is 0".into());
        }
        if manifest.trial_id.is_none() && manifest.simulated.is_none() {
            return wrong("trial_id is missing, and the pump is not simulated".into());
        }
        Ok(manifest)
    }

    /// Its bytes, signed by who opens the trial.
    ///
    /// # Errors
    /// Where it is longer than a pump keeps.
    pub fn sign(&self, by: &KeyPair) -> Result<SignedManifest, Error> {
        let text = serde_json::to_string(self).map_err(|e| Error::Form(e.to_string()))?;
        if text.len() > MANIFEST_MAX {
            return Err(Error::TooLong(text.len()));
        }
        let sig = by.sign(signed_part(&text).as_bytes());
        Ok(SignedManifest {
            text,
            key: by.public(),
            sig,
        })
    }
}

impl SignedManifest {
    /// The manifest, where its signature holds.
    ///
    /// # Errors
    /// Where it does not, or where the text is no manifest.
    pub fn open(&self) -> Result<Manifest, Error> {
        if !crate::chain::signature_holds(&self.key, signed_part(&self.text).as_bytes(), &self.sig)
        {
            return Err(Error::Signature);
        }
        Manifest::parse(&self.text)
    }

    /// h₀ of the trial's chains.
    pub fn digest(&self) -> crate::hex::Digest {
        crate::chain::ChainHead::genesis(self.as_chain_root()).0
    }

    /// The bytes that the chains start from.
    pub fn as_chain_root(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// As the pump keeps and sends it: the text, a zero, key and signature.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.text.as_bytes().to_vec();
        out.push(0);
        out.extend_from_slice(&self.key.0);
        out.extend_from_slice(&self.sig.0);
        out
    }

    /// Back from [`SignedManifest::to_bytes`]; `None` where the bytes are of another form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (rest, sig) = bytes.split_last_chunk::<64>()?;
        let (rest, key) = rest.split_last_chunk::<32>()?;
        let text = std::str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
        Some(Self {
            text: text.into(),
            key: Hex(*key),
            sig: Hex(*sig),
        })
    }
}

fn signed_part(text: &str) -> String {
    format!("thecal manifest v1\n{text}")
}
