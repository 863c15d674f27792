//! What is known of a trial before its first event, what its record is worth, and its rows. Plain:
//! tests make these by hand.

use protocol::manifest::{Manifest, Simulated};
use protocol::topics::EventRow;
use record::import::ImportedTrial;

/// Where the events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From our pump, chained.
    Pump,
    /// From a diary, not chained.
    Import,
}

/// What is known of a trial before its first event.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The trial.
    pub trial_id: String,
    /// The bed, where it was known.
    pub bed: Option<String>,
    /// Where the events come from.
    pub origin: Origin,
    /// The pump's serial number.
    pub pump: Option<String>,
    /// The drug's name.
    pub drug: String,
    /// Micrograms a millilitre; 0 where not known.
    pub concentration_mcg_per_ml: u32,
    /// Other drugs of a mixture: name, micrograms a millilitre.
    pub also: Vec<(String, u32)>,
    /// `intrathecal` or `epidural`.
    pub route: String,
    /// IANA time zone.
    pub zone: String,
    /// When the baseline begins.
    pub baseline_start_ms: Option<i64>,
    /// When the drug begins, where a diary says it.
    pub stated_start_ms: Option<i64>,
    /// When the trial ends, where a diary says it.
    pub stated_end_ms: Option<i64>,
    /// Hours after each programmed change that are not evaluated; none: by drug.
    pub run_in_h: Option<u32>,
    /// Name of the decision protocol.
    pub protocol: String,
    /// Set where there is no patient.
    pub simulated: Option<Simulated>,
    /// Whether the patient accepts the implant, where a diary says it.
    pub accepts_implant: Option<bool>,
    /// Of the patient: word and text.
    pub context: Vec<(String, String)>,
}

/// What the record's own proof says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What the record is worth.
    pub evidence: record::verify::Evidence,
    /// Events of the pump, or rows of the diary, in it.
    pub events: u64,
    /// Missing events, each in words.
    pub holes: Vec<String>,
    /// How many events are missing.
    pub missing: u64,
    /// Events around a hole that no checkpoint proves.
    pub not_proven: u64,
    /// Sources that are unsigned from a seq on.
    pub unsigned_from: Vec<(String, u64)>,
    /// What is wrong, first place first.
    pub wrong: Vec<String>,
    /// Rows set aside.
    pub quarantined: u64,
    /// Fingerprint of the pump's key that the check used, and whether it came from the record.
    pub key: Option<(String, bool)>,
    /// SHA-256 over all rows, hex; none where there is no record file.
    pub digest: Option<String>,
}

impl Proof {
    /// Of rows that come from no record file: tests and simulations of the analysis.
    pub fn of_rows(rows: &[EventRow]) -> Self {
        Self {
            evidence: record::verify::Evidence::Complete,
            events: u64::try_from(rows.len()).unwrap_or(u64::MAX),
            holes: Vec::new(),
            missing: 0,
            not_proven: 0,
            unsigned_from: Vec::new(),
            wrong: Vec::new(),
            quarantined: 0,
            key: None,
            digest: None,
        }
    }
}

impl From<&record::verify::Report> for Proof {
    fn from(report: &record::verify::Report) -> Self {
        Self {
            evidence: report.evidence,
            events: report.events,
            holes: report.missing.iter().map(ToString::to_string).collect(),
            missing: report
                .missing
                .iter()
                .map(|m| m.to_seq.saturating_sub(m.from_seq).saturating_add(1))
                .fold(0, u64::saturating_add),
            not_proven: report.not_proven,
            unsigned_from: report.unsigned_from.clone(),
            wrong: report.wrong.clone(),
            quarantined: report.quarantined,
            key: report.key.clone().map(|key| (key, report.key_from_record)),
            digest: Some(report.digest.to_string()),
        }
    }
}

/// A trial as the analysis takes it in.
#[derive(Clone, Debug)]
pub struct TrialInput {
    /// What is known before the first event.
    pub header: Header,
    /// What the proof says.
    pub proof: Proof,
    /// Every event, by source and then in order of seq.
    pub rows: Vec<EventRow>,
}

impl Header {
    /// Of a manifest. `trial_id` counts where the manifest has none.
    pub fn of_manifest(manifest: Manifest, trial_id: &str) -> Self {
        Self {
            trial_id: manifest.trial_id.unwrap_or_else(|| trial_id.into()),
            bed: manifest.bed,
            origin: Origin::Pump,
            pump: Some(manifest.pump.to_string()),
            drug: manifest.drug,
            concentration_mcg_per_ml: manifest.concentration_mcg_per_ml,
            also: Vec::new(),
            route: manifest.route,
            zone: manifest.zone,
            baseline_start_ms: Some(manifest.baseline_start_utc_ms),
            stated_start_ms: None,
            stated_end_ms: None,
            run_in_h: manifest.run_in_h,
            protocol: manifest.protocol,
            simulated: manifest.simulated,
            accepts_implant: None,
            context: Vec::new(),
        }
    }

    /// Of an imported diary.
    pub fn of_import(import: ImportedTrial) -> Self {
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => value.to_string(),
        };
        Self {
            trial_id: import.trial_id,
            bed: Some(import.bed),
            origin: Origin::Import,
            pump: None,
            drug: import.drug,
            concentration_mcg_per_ml: import.concentration_mcg_per_ml,
            also: import
                .also
                .into_iter()
                .map(|drug| (drug.drug, drug.concentration_mcg_per_ml))
                .collect(),
            route: import.route,
            zone: import.zone,
            baseline_start_ms: Some(import.baseline_start_utc_ms),
            stated_start_ms: Some(import.trial_start_utc_ms),
            stated_end_ms: Some(import.trial_end_utc_ms),
            run_in_h: Some(import.run_in_h),
            protocol: import.protocol,
            simulated: None,
            accepts_implant: import.accepts_implant,
            context: import
                .context
                .iter()
                .map(|(word, value)| (word.clone(), text(value)))
                .collect(),
        }
    }

    /// Of a record that says nothing readable about its trial; its proof does not hold then.
    pub(crate) fn unreadable(trial_id: &str) -> Self {
        Self {
            trial_id: trial_id.into(),
            bed: None,
            origin: Origin::Pump,
            pump: None,
            drug: String::new(),
            concentration_mcg_per_ml: 0,
            also: Vec::new(),
            route: String::new(),
            zone: "UTC".into(),
            baseline_start_ms: None,
            stated_start_ms: None,
            stated_end_ms: None,
            run_in_h: None,
            protocol: String::new(),
            simulated: None,
            accepts_implant: None,
            context: Vec::new(),
        }
    }
}
