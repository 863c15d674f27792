//! Makes a record from a diary that was kept without our pump: a folder of TOML and CSV files.
//!
//! Every row becomes an event of the source `import`, in order of time. Nothing chains these
//! events, and everything that reads the record says so. A row that is wrong is named with file,
//! line and field, and then nothing at all is imported, unless bad rows are to be skipped.

mod rows;
mod table;
mod trial;

use crate::store::{Error, NO_TAG, RowsDigest, Unfinished, canonical_json};
use crate::trial_record::Record;
use protocol::bedside::Fact;
use protocol::event::Head;
use protocol::message::Source;
use protocol::topics::EventRow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The source of every imported event.
pub const SOURCE: &str = "import";
/// Rows appended at a time.
const STEP: usize = 4_096;

/// What an import made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Rows that are in the record.
    pub rows: u64,
    /// Of these, rows before `baseline_start` or after `trial_end`: kept, not used.
    pub outside: u64,
    /// Rows that were left out, each `FILE:LINE:FIELD: reason`; empty unless asked for.
    pub skipped: Vec<String>,
}

/// Something wrong with the diary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bad {
    /// The file, as it was opened.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// In CSV the number of the field, in TOML that of the character; from 1.
    pub column: u64,
    /// What is wrong, and what was seen.
    pub reason: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}",
            self.file, self.line, self.column, self.reason
        )
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportErrors {
    /// The diary has these faults.
    #[error("{} in the diary, nothing was imported; first: {first}", count(.rest.len() + 1))]
    Diary {
        /// The first.
        first: Bad,
        /// All others, in order.
        rest: Vec<Bad>,
    },
    /// The record could not be written.
    #[error(transparent)]
    Record(#[from] Error),
}

impl ImportErrors {
    /// One line for each fault: `FILE:LINE:FIELD: reason`.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Diary { first, rest } => std::iter::once(first)
                .chain(rest)
                .map(ToString::to_string)
                .collect(),
            Self::Record(error) => vec![error.to_string()],
        }
    }

    fn of(mut bad: Vec<Bad>) -> Result<(), Self> {
        if bad.is_empty() {
            return Ok(());
        }
        bad.sort();
        let first = bad.remove(0);
        Err(Self::Diary { first, rest: bad })
    }
}

fn count(faults: usize) -> String {
    if faults == 1 {
        "1 fault".into()
    } else {
        format!("{faults} faults")
    }
}

/// The trial of an imported record: the word `import`, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedTrial {
    /// The trial.
    pub trial_id: String,
    /// The bed.
    pub bed: String,
    /// The drug's name.
    pub drug: String,
    /// Of the drug in the reservoir.
    pub concentration_mcg_per_ml: u32,
    /// `intrathecal` or `epidural`.
    pub route: String,
    /// IANA time zone of the diary.
    pub zone: String,
    /// When the baseline begins.
    pub baseline_start_utc_ms: i64,
    /// When the drug begins.
    pub trial_start_utc_ms: i64,
    /// When the trial ends.
    pub trial_end_utc_ms: i64,
    /// Name of the decision protocol.
    pub protocol: String,
    /// Hours after each programmed change in which scores are shown, not evaluated.
    pub run_in_h: u32,
    /// Whether the patient accepts the implant, where that was asked.
    pub accepts_implant: Option<bool>,
    /// Other drugs of a mixture.
    pub also: Vec<AlsoDrug>,
    /// Of the patient, for the report: the words of `context.toml`.
    pub context: BTreeMap<String, serde_json::Value>,
}

/// Another drug of a mixture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlsoDrug {
    /// Its name.
    pub drug: String,
    /// In the reservoir.
    pub concentration_mcg_per_ml: u32,
}

/// A diary's row on its way to the record.
#[derive(Clone, Debug)]
struct Entry {
    at_utc_ms: i64,
    /// Which file, then which line: the order of rows of the same time.
    place: (u8, u64),
    bad_at: Bad,
    fact: Fact,
}

/// Makes the record `out` from the diary in `dir`.
///
/// A wrong `trial.toml`, `context.toml` or header is never skipped. Nothing is at `out` until the
/// record is whole and on the disk.
///
/// # Errors
/// [`ImportErrors::Diary`] with every fault, where nothing is imported; [`ImportErrors::Record`]
/// where `out` is there already or cannot be written.
pub fn import(dir: &Path, out: &Path, skip_bad: bool) -> Result<Imported, ImportErrors> {
    let unfinished = Unfinished::new_file(out)?;
    let (trial, zone) = trial::read(dir).map_err(|bad| match ImportErrors::of(bad) {
        Err(errors) => errors,
        Ok(()) => ImportErrors::Record(Error::Missing(dir.into())),
    })?;
    let mut entries = Vec::new();
    let mut bad = Vec::new();
    let mut fatal = Vec::new();
    for file in rows::FILES {
        match rows::read(dir, file, &zone) {
            Ok(mut read) => {
                entries.append(&mut read.entries);
                bad.append(&mut read.bad);
            }
            Err(fault) => fatal.push(fault),
        }
    }
    if !(fatal.is_empty() && (skip_bad || bad.is_empty())) {
        fatal.append(&mut bad);
        ImportErrors::of(fatal)?;
    }
    entries.sort_by_key(|entry| (entry.at_utc_ms, entry.place));
    let rows = events(entries, &mut bad);
    if !skip_bad {
        ImportErrors::of(std::mem::take(&mut bad))?;
    }
    bad.sort();
    let used = trial.baseline_start_utc_ms..=trial.trial_end_utc_ms;
    let outside = rows
        .iter()
        .filter(|row| !used.contains(&row.at_utc_ms))
        .count();
    write(unfinished, &trial, &rows)?;
    Ok(Imported {
        rows: number(rows.len()),
        outside: number(outside),
        skipped: bad.iter().map(ToString::to_string).collect(),
    })
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Numbers the entries, which are in order of time.
fn events(entries: Vec<Entry>, bad: &mut Vec<Bad>) -> Vec<EventRow> {
    let source = Source::new(SOURCE).expect("a word of letters is a name");
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        let at = entry.at_utc_ms;
        let head = Head {
            boot: 1,
            seq: number(rows.len()) + 1,
            tick_ms: u64::try_from(at).unwrap_or(0),
        };
        let row = entry
            .fact
            .encode(head)
            .map_err(|e| e.to_string())
            .and_then(|raw| {
                EventRow::new(source, &raw, NO_TAG, at, Some(0), at).map_err(|e| e.to_string())
            });
        match row {
            Ok(row) => rows.push(row),
            Err(reason) => bad.push(Bad {
                reason,
                ..entry.bad_at
            }),
        }
    }
    rows
}

fn write(
    unfinished: Unfinished,
    trial: &ImportedTrial,
    rows: &[EventRow],
) -> Result<(), ImportErrors> {
    let mut record = Record::create(unfinished.path())?;
    let mut digest = RowsDigest::default();
    for step in rows.chunks(STEP) {
        let now = step.last().map_or(0, |row| row.at_utc_ms);
        record.append(step, now)?;
        for row in step {
            digest.add(row, &canonical_json(&row.body));
        }
    }
    let word = serde_json::to_value(trial).expect("plain structs always serialize");
    let words = [
        ("trial_id", trial.trial_id.clone()),
        ("zone", trial.zone.clone()),
        ("origin", "import".into()),
        ("import", canonical_json(&word)),
        ("import_digest", digest.finish().to_string()),
    ];
    for (key, value) in &words {
        record.set_meta(key, value)?;
    }
    record.close_trial("import")?;
    drop(record);
    unfinished.publish()?;
    Ok(())
}
