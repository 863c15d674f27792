//! Holds a record against its own proof. Needs no secret: manifest, chain, checkpoints, digests
//! and receipts are all checked with public keys.
//!
//! Three things are proven, each by another hand. The pump's chain proves its events' bytes, and
//! with them every column that is decoded from them. The gateway's `stored` digests prove the
//! columns that the gateway added: times, uncertainty, tag. The recorders' receipts prove all rows
//! once more. What no hand vouches for is said, with the seq it begins at.

mod check;
mod coverage;

use crate::store::Error;
use crate::trial_record::Record;
use protocol::hex::{Digest, PublicKey};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// What to check with.
#[derive(Debug, Default)]
pub struct Options {
    /// The pump's public key; without it the manifest's is used, and that is said.
    pub key: Option<PublicKey>,
    /// The pump's tag secret: then every tag of the pump is checked too.
    pub tag_secret: Option<[u8; 32]>,
}

/// What a record is worth, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Complete and unaltered since the pump stored it.
    Complete,
    /// Made from a diary: nothing was chained.
    Imported,
    /// Not closed: unsigned from some seq on, or with times that nobody vouches for.
    Open,
    /// Unaltered, with named holes.
    Gaps,
    /// Altered or forged.
    Altered,
}

impl Evidence {
    /// The words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Complete => "COMPLETE, unaltered since the pump stored it",
            Self::Imported => "IMPORTED, NOT CHAINED",
            Self::Open => "OPEN, not closed",
            Self::Gaps => "COMPLETE WITH NAMED GAPS",
            Self::Altered => "NOT VERIFIED, altered or forged",
        }
    }

    /// The exit code of `thecal verify`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Imported => 5,
            Self::Open | Self::Gaps => 3,
            Self::Altered => 4,
        }
    }
}

/// Missing events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Whose.
    pub source: String,
    /// First.
    pub from_seq: u64,
    /// Last.
    pub to_seq: u64,
    /// As the source declared it, as the recorder noted it, or that nobody noted it.
    pub reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seq {} to {} missing ({})",
            self.source, self.from_seq, self.to_seq, self.reason
        )
    }
}

/// The most wrong things that a report lists; all are counted.
pub const WRONG_MAX: usize = 200;

/// What a check of one record found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The trial.
    pub trial_id: String,
    /// What it is worth.
    pub evidence: Evidence,
    /// Events in it.
    pub events: u64,
    /// Sources with their last seq and the number of checkpoints that held.
    pub sources: Vec<(String, u64, u64)>,
    /// Missing events, in order.
    pub missing: Vec<Missing>,
    /// Events around a hole that no checkpoint has proven.
    pub not_proven: u64,
    /// Where each source is unsigned from, when it is not closed.
    pub unsigned_from: Vec<(String, u64)>,
    /// Pumps with the first seq whose times (and tag) no digest and no receipt covers. A record
    /// without a gateway's chain has its pump here from seq 1 on.
    pub times_not_proven_from: Vec<(String, u64)>,
    /// What is wrong, first place first; no more than [`WRONG_MAX`].
    pub wrong: Vec<String>,
    /// How many things are wrong.
    pub wrong_count: u64,
    /// Rows set aside.
    pub quarantined: u64,
    /// Fingerprint of the pump's key that was used.
    pub key: Option<String>,
    /// The key was taken from the record itself.
    pub key_from_record: bool,
    /// Each gateway's source with the fingerprint of the key its chain was checked with.
    pub gateway_keys: Vec<(String, String)>,
    /// Recorders whose receipts hold, each with its key's fingerprint. Compare them with the
    /// ward's: anybody can sign with a key of their own.
    pub sealed_by: Vec<(String, String)>,
    /// A recorder signed the tables beside `event` too.
    pub tables_sealed: bool,
    /// Rows of those tables that were added after that.
    pub unsealed_rows: u64,
    /// Every tag of the pump was checked.
    pub tags_checked: bool,
    /// SHA-256 over all rows.
    pub digest: Digest,
}

impl Report {
    /// One line for people.
    pub fn line(&self, path: &Path) -> String {
        let mut parts = vec![format!("{} events", self.events)];
        if let Some(first) = self.wrong.first() {
            parts.push(format!("first: {first}"));
            if self.wrong_count > 1 {
                parts.push(format!("{} more", self.wrong_count - 1));
            }
        }
        parts.extend(self.missing.iter().take(5).map(ToString::to_string));
        if self.missing.len() > 5 {
            parts.push(format!("{} more holes", self.missing.len() - 5));
        }
        if self.not_proven > 0 {
            parts.push(format!("{} present, not proven", self.not_proven));
        }
        for (source, seq) in &self.unsigned_from {
            parts.push(format!("{source} unsigned from seq {seq}"));
        }
        for (source, seq) in &self.times_not_proven_from {
            parts.push(format!("{source} times not proven from seq {seq}"));
        }
        if self.evidence != Evidence::Imported {
            let by: Vec<_> = self
                .sealed_by
                .iter()
                .map(|(name, key)| format!("{name} {key}"))
                .collect();
            parts.push(match (by.is_empty(), self.tables_sealed) {
                (true, _) => "no recorder sealed it".into(),
                (false, true) => format!("sealed by {}", by.join(", ")),
                (false, false) => format!("events sealed by {}", by.join(", ")),
            });
        }
        if self.unsealed_rows > 0 {
            parts.push(format!("{} rows added after the seal", self.unsealed_rows));
        }
        if self.quarantined > 0 {
            parts.push(format!("{} rows in quarantine", self.quarantined));
        }
        if let Some(key) = &self.key {
            let from = if self.key_from_record {
                ", key taken from the record"
            } else {
                ""
            };
            let tags = if self.tags_checked {
                ", every tag checked"
            } else {
                ""
            };
            parts.push(format!("pump key {key}{from}{tags}"));
        }
        format!(
            "{}: {}: {}",
            path.display(),
            self.evidence.words(),
            parts.join("; ")
        )
    }
}

/// Checks a record.
///
/// # Errors
/// Where the file is no record that can be read: nothing can be said of it then.
pub fn verify(path: &Path, options: &Options) -> Result<Report, Error> {
    let record = Record::open_read_only(path)?;
    let mut check = check::Check::new(&record, options);
    match check.run() {
        // A word that is no text: the file can be read, and it is not as it was written.
        Err(Error::Row { place, why, .. }) => check.wrong(format!("{place}: {why}")),
        // What cannot be read in a record that is altered anyway is one more thing wrong with it.
        Err(error) if check.found_wrong() => check.wrong(error.to_string()),
        other => other?,
    }
    Ok(check.finish())
}
