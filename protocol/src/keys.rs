//! Key pairs and signed text. Pure: files are read and written by the programs.

use crate::chain::signature_holds;
use crate::hex::{Hex, PublicKey, Signature};
use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};

/// An Ed25519 pair, and the secret that tags are made with, both from one seed. Who checks tags
/// holds the tag secret and cannot sign with it.
#[derive(Clone)]
pub struct KeyPair {
    signing: SigningKey,
}

impl core::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "KeyPair({})", fingerprint(&self.public()))
    }
}

impl KeyPair {
    /// From 32 secret random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self {
            signing: SigningKey::from_bytes(&seed),
        }
    }

    /// To be kept in a file that its owner alone can read.
    pub fn seed(&self) -> [u8; 32] {
        self.signing.to_bytes()
    }

    /// The half that everybody may know.
    pub fn public(&self) -> PublicKey {
        Hex(self.signing.verifying_key().to_bytes())
    }

    /// The secret that tags are derived from.
    pub fn tag_secret(&self) -> [u8; 32] {
        let mut out = [0; 32];
        Hkdf::<Sha256>::new(None, &self.signing.to_bytes())
            .expand(b"thecal tag secret", &mut out)
            .expect("32 bytes are within what HKDF-SHA256 can give");
        out
    }

    /// Ed25519 over `message`.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Hex(self.signing.sign(message).to_bytes())
    }

    /// A JSON object with its signer's key and signature as the last two members.
    ///
    /// # Panics
    /// Where `value` is no struct: a programming error.
    pub fn sign_json<T: serde::Serialize>(&self, value: &T) -> String {
        let text = serde_json::to_string(value).expect("payloads are plain structs");
        let open = text.strip_suffix('}').expect("a struct is a JSON object");
        let comma = if open.ends_with('{') { "" } else { "," };
        let signed = format!("{open}{comma}\"key\":\"{}\"", self.public());
        let signature = self.sign(signed.as_bytes());
        format!("{signed}{SIG}{signature}\"}}")
    }
}

const SIG: &str = ",\"sig\":\"";
const SIG_TAIL: usize = 8 + 128 + 2;

/// Why signed text is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `key` and `sig` at the end.
    #[error("payload is not signed")]
    NotSigned,
    /// Signed by a key that is not trusted here.
    #[error("signed by {0}, which is not trusted here")]
    NotTrusted(String),
    /// The signature is not of this text and key.
    #[error("the signature by {0} does not hold")]
    Forged(String),
    /// Signed, but not of the expected form.
    #[error("signed payload does not have the expected form: {0}")]
    Form(String),
}

/// The value in signed JSON, and who signed it, where `trusted` says yes to the key.
///
/// The signature is over all bytes before `,"sig":"`; the signature is the last member.
///
/// # Errors
/// Why it is not taken.
pub fn open_json<T: serde::de::DeserializeOwned>(
    text: &str,
    trusted: impl FnOnce(&PublicKey) -> bool,
) -> Result<(T, PublicKey), Error> {
    let at = text.len().checked_sub(SIG_TAIL).ok_or(Error::NotSigned)?;
    let signed = text.get(..at).ok_or(Error::NotSigned)?;
    let tail = text.get(at..).ok_or(Error::NotSigned)?;
    let signature = tail.strip_prefix(SIG).and_then(|t| t.strip_suffix("\"}"));
    let signature = signature.and_then(Hex::parse).ok_or(Error::NotSigned)?;
    let key = signed.len().checked_sub(65).and_then(|k| signed.get(k..));
    let key = key
        .and_then(|k| k.strip_suffix('"'))
        .and_then(Hex::parse)
        .ok_or(Error::NotSigned)?;
    if !trusted(&key) {
        return Err(Error::NotTrusted(fingerprint(&key)));
    }
    if !signature_holds(&key, signed.as_bytes(), &signature) {
        return Err(Error::Forged(fingerprint(&key)));
    }
    let value = serde_json::from_str(text).map_err(|e| Error::Form(e.to_string()))?;
    Ok((value, key))
}

/// Short name of a public key for people: the first 8 bytes of its SHA-256, in groups.
pub fn fingerprint(key: &PublicKey) -> String {
    let digest = Sha256::digest(key.0);
    let groups: Vec<_> = digest
        .chunks(2)
        .take(4)
        .map(crate::hex::vec::encode)
        .collect();
    groups.join("-")
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> crate::hex::Digest {
    Hex(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Note {
        text: String,
    }

    #[test]
    fn a_signed_payload_opens_only_whole_and_only_for_a_trusted_key() {
        let pair = KeyPair::from_seed([7; 32]);
        let note = Note {
            text: "10 mL \"left\", sig".into(),
        };
        let text = pair.sign_json(&note);
        assert_eq!(
            open_json::<Note>(&text, |k| *k == pair.public()),
            Ok((note, pair.public()))
        );
        assert!(matches!(
            open_json::<Note>(&text, |_| false),
            Err(Error::NotTrusted(_))
        ));
        let bent = text.replace("10 mL", "11 mL");
        assert!(matches!(
            open_json::<Note>(&bent, |_| true),
            Err(Error::Forged(_))
        ));
        for cut in 0..text.len() {
            assert!(
                open_json::<Note>(&text[..cut], |_| true).is_err(),
                "cut at {cut}"
            );
        }
    }
}
