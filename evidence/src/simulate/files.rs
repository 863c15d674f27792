//! The gateway's spool and the recorder's records on a simulated disk: what `record` promises of
//! its SQLite files, in a few lines.

use super::disk::{Disk, Image, error};
use gateway::recorder::folder::{RecordFile, RecordFolder};
use gateway::spool_file::SpoolFile;
use protocol::keys::KeyPair;
use protocol::manifest::SignedManifest;
use protocol::topics::EventRow;
use record::Error;
use record::spool::Outcome;
use record::store::{RowsDigest, StoredRow, canonical_json};
use record::trial_record::{Appended, Hole, RowsReceipt};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type Rows = BTreeMap<u64, Arc<StoredRow>>;

fn stored(row: &EventRow) -> Arc<StoredRow> {
    Arc::new(StoredRow {
        body_text: canonical_json(&row.body),
        row: row.clone(),
        damaged: None,
    })
}

fn same(there: &StoredRow, row: &EventRow) -> bool {
    (there.row.boot, &there.row.raw, there.row.tag) == (row.boot, &row.raw, row.tag)
}

/// Sorts new rows from repeats and conflicts, against what is there and against each other.
fn sort<'r>(
    there: impl Fn(&EventRow) -> Option<Arc<StoredRow>>,
    rows: impl Iterator<Item = &'r EventRow>,
) -> (Vec<Arc<StoredRow>>, Vec<Outcome>) {
    let mut new: Vec<Arc<StoredRow>> = Vec::new();
    let mut outcomes = Vec::new();
    for row in rows {
        let in_step = new
            .iter()
            .find(|n| n.row.seq == row.seq && n.row.source == row.source);
        let outcome = match in_step.cloned().or_else(|| there(row)) {
            None => {
                new.push(stored(row));
                Outcome::Stored
            }
            Some(old) if same(&old, row) => Outcome::Repeat,
            Some(_) => Outcome::Conflict,
        };
        outcomes.push(outcome);
    }
    (new, outcomes)
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SpoolImage {
    sessions: u32,
    words: BTreeMap<(String, String), String>,
    pub(crate) rows: BTreeMap<(String, String), Rows>,
    receipts: BTreeMap<(String, String), u64>,
    pub(crate) set_aside: u64,
}

#[derive(Debug)]
pub(crate) enum SpoolStep {
    Session,
    Word(String, String, String),
    Rows(String, Vec<Arc<StoredRow>>, u64),
    Receipt(String, String, u64),
}

impl Image for SpoolImage {
    type Step = SpoolStep;

    fn apply(&mut self, step: &SpoolStep) {
        match step {
            SpoolStep::Session => self.sessions += 1,
            SpoolStep::Word(trial, key, value) => {
                let word = self.words.entry((trial.clone(), key.clone()));
                word.or_insert_with(|| value.clone());
            }
            SpoolStep::Rows(trial, rows, set_aside) => {
                for row in rows {
                    let key = (trial.clone(), row.row.source.to_string());
                    let rows = self.rows.entry(key).or_default();
                    rows.insert(row.row.seq, row.clone());
                }
                self.set_aside += set_aside;
            }
            SpoolStep::Receipt(trial, source, seq) => {
                self.receipts.insert((trial.clone(), source.clone()), *seq);
            }
        }
    }
}

/// A spool on a simulated disk.
#[derive(Debug)]
pub(crate) struct SimSpool(Disk<SpoolImage>);

impl SimSpool {
    pub(crate) fn open(disk: &Disk<SpoolImage>) -> Result<Self, Error> {
        disk.open()?;
        Ok(Self(disk.clone()))
    }
}

fn key(trial: &str, source: &str) -> (String, String) {
    (trial.to_owned(), source.to_owned())
}

impl SpoolFile for SimSpool {
    fn begin_session(&self, _now_utc_ms: i64) -> Result<u32, Error> {
        self.0.commit(SpoolStep::Session)?;
        self.0.read(|image| image.sessions)
    }

    fn append(&mut self, rows: &[(&str, &EventRow)]) -> Result<Vec<Outcome>, Error> {
        let Some((trial, _)) = rows.first() else {
            return Ok(Vec::new());
        };
        let (new, outcomes) = self.0.read(|image| {
            let there = |row: &EventRow| {
                let rows = image.rows.get(&key(trial, row.source.as_str()))?;
                rows.get(&row.seq).cloned()
            };
            sort(there, rows.iter().map(|(_, row)| *row))
        })?;
        let conflicts = outcomes.iter().filter(|o| **o == Outcome::Conflict).count();
        let conflicts = u64::try_from(conflicts).unwrap_or(0);
        if !new.is_empty() || conflicts > 0 {
            let step = SpoolStep::Rows((*trial).to_owned(), new, conflicts);
            self.0.commit(step)?;
        }
        Ok(outcomes)
    }

    fn rows_after(
        &self,
        trial: &str,
        source: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredRow>, Error> {
        self.0.read(|image| {
            let rows = image.rows.get(&key(trial, source));
            let from = after.saturating_add(1);
            let later = rows.into_iter().flat_map(|rows| rows.range(from..));
            later
                .take(limit)
                .map(|(_, row)| row.as_ref().clone())
                .collect()
        })
    }

    fn meta(&self, trial: &str, word: &str) -> Result<Option<String>, Error> {
        self.0
            .read(|image| image.words.get(&key(trial, word)).cloned())
    }

    fn set_meta(&self, trial: &str, word: &str, value: &str) -> Result<(), Error> {
        if self.meta(trial, word)?.is_some() {
            return Ok(());
        }
        let step = SpoolStep::Word(trial.to_owned(), word.to_owned(), value.to_owned());
        self.0.commit(step)
    }

    fn sources(&self) -> Result<Vec<(String, String)>, Error> {
        self.0.read(|image| image.rows.keys().cloned().collect())
    }

    fn last_seq(&self, trial: &str, source: &str) -> Result<u64, Error> {
        self.0.read(|image| {
            let rows = image.rows.get(&key(trial, source));
            let last = rows.and_then(|rows| rows.last_key_value());
            last.map_or(0, |(seq, _)| *seq)
        })
    }

    fn note_receipt(
        &self,
        trial: &str,
        source: &str,
        _recorder: &str,
        stored_through_seq: u64,
        _now_utc_ms: i64,
    ) -> Result<(), Error> {
        let (trial, source) = key(trial, source);
        self.0
            .commit(SpoolStep::Receipt(trial, source, stored_through_seq))
    }

    fn receipted(&self, trial: &str, source: &str) -> Result<u64, Error> {
        self.0.read(|image| {
            let receipt = image.receipts.get(&key(trial, source));
            receipt.copied().unwrap_or(0)
        })
    }
}

/// The one record of a simulation's folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordImage {
    made: bool,
    pub(crate) words: BTreeMap<String, String>,
    pub(crate) rows: BTreeMap<String, Rows>,
    pub(crate) holes: Vec<Hole>,
    /// The sealed sources, each with how many rows the seal covers.
    pub(crate) sealed: BTreeMap<String, usize>,
    pub(crate) set_aside: u64,
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) enum RecordStep {
    Made,
    Word(String, String),
    Rows(Vec<Arc<StoredRow>>, u64),
    Aside,
    Hole(Hole),
    Seal(String),
    Close,
}

impl Image for RecordImage {
    type Step = RecordStep;

    fn apply(&mut self, step: &RecordStep) {
        match step {
            RecordStep::Made => self.made = true,
            RecordStep::Word(key, value) => {
                self.words.insert(key.clone(), value.clone());
            }
            RecordStep::Rows(rows, set_aside) => {
                for row in rows {
                    let source = row.row.source.to_string();
                    let rows = self.rows.entry(source).or_default();
                    rows.insert(row.row.seq, row.clone());
                }
                self.set_aside += set_aside;
            }
            RecordStep::Aside => self.set_aside += 1,
            RecordStep::Hole(hole) => self.holes.push(hole.clone()),
            RecordStep::Seal(source) => {
                let rows = self.rows.get(source).map_or(0, BTreeMap::len);
                self.sealed.insert(source.clone(), rows);
            }
            RecordStep::Close => self.closed = true,
        }
    }
}

/// A recorder's folder on a simulated disk, with room for one trial.
#[derive(Clone, Debug)]
pub(crate) struct SimFolder {
    pub(crate) disk: Disk<RecordImage>,
    pub(crate) trial: String,
}

#[derive(Debug)]
struct SimRecord(Disk<RecordImage>);

impl RecordFolder for SimFolder {
    fn trials(&self) -> Result<Vec<String>, Error> {
        let made = self.disk.read(|image| image.made)?;
        Ok(made.then(|| self.trial.clone()).into_iter().collect())
    }

    fn open(&self, trial: &str) -> Result<Box<dyn RecordFile>, Error> {
        if trial != self.trial {
            return Err(error("a trial that nobody began"));
        }
        self.disk.open()?;
        if !self.disk.read(|image| image.made)? {
            self.disk.commit(RecordStep::Made)?;
        }
        Ok(Box::new(SimRecord(self.disk.clone())))
    }
}

impl RecordFile for SimRecord {
    fn meta(&self, key: &str) -> Result<Option<String>, Error> {
        self.0.read(|image| image.words.get(key).cloned())
    }

    fn set_meta(&self, key: &str, value: &str) -> Result<(), Error> {
        match self.meta(key)? {
            Some(there) if there == value => Ok(()),
            Some(_) => Err(error("another value stands there already")),
            None => {
                let step = RecordStep::Word(key.to_owned(), value.to_owned());
                self.0.commit(step)
            }
        }
    }

    fn manifest(&self) -> Result<Option<SignedManifest>, Error> {
        let text = self.meta("manifest")?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn for_each_event(
        &self,
        each: &mut dyn FnMut(StoredRow) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let rows: Vec<_> = self.0.read(|image| {
            let rows = image.rows.values().flat_map(BTreeMap::values);
            rows.cloned().collect()
        })?;
        rows.into_iter()
            .try_for_each(|row| each(row.as_ref().clone()))
    }

    fn append(&mut self, rows: &[EventRow], _now_utc_ms: i64) -> Result<Appended, Error> {
        let (new, outcomes) = self.0.read(|image| {
            let there = |row: &EventRow| {
                let rows = image.rows.get(row.source.as_str())?;
                rows.get(&row.seq).cloned()
            };
            sort(there, rows.iter())
        })?;
        let mut done = Appended::default();
        for (row, outcome) in rows.iter().zip(&outcomes) {
            match outcome {
                Outcome::Stored => done.new += 1,
                Outcome::Repeat => done.repeats += 1,
                Outcome::Conflict => {
                    let id = format!("{}:{}:{}", row.source, row.boot, row.seq);
                    done.conflicts.push(id);
                }
            }
        }
        let conflicts = u64::try_from(done.conflicts.len()).unwrap_or(0);
        if !new.is_empty() || conflicts > 0 {
            self.0.commit(RecordStep::Rows(new, conflicts))?;
        }
        Ok(done)
    }

    fn quarantine(&self, _row: &EventRow, _why: &str, _now_utc_ms: i64) -> Result<(), Error> {
        self.0.commit(RecordStep::Aside)
    }

    fn note_hole(&self, hole: &Hole) -> Result<(), Error> {
        let alike = |h: &Hole| {
            (&h.source, h.from_seq, h.to_seq, &h.reason)
                == (&hole.source, hole.from_seq, hole.to_seq, &hole.reason)
        };
        if self.0.read(|image| image.holes.iter().any(alike))? {
            return Ok(());
        }
        self.0.commit(RecordStep::Hole(hole.clone()))
    }

    fn seal(
        &self,
        source: &str,
        recorder: &str,
        pair: &KeyPair,
        now_utc_ms: i64,
    ) -> Result<(), Error> {
        let rows = self.0.read(|image| image.rows.get(source).cloned())?;
        let rows = rows.unwrap_or_default();
        let mut digest = RowsDigest::default();
        for row in rows.values() {
            digest.add(&row.row, &row.body_text);
        }
        let receipt = RowsReceipt {
            source: source.to_owned(),
            from_seq: rows.first_key_value().map_or(0, |(seq, _)| *seq),
            to_seq: rows.last_key_value().map_or(0, |(seq, _)| *seq),
            digest: digest.finish().to_string(),
            recorder: recorder.to_owned(),
            key: pair.public().to_string(),
            signature: String::new(),
            made_at_utc_ms: now_utc_ms,
        };
        pair.sign(receipt.message().as_bytes());
        self.0.commit(RecordStep::Seal(source.to_owned()))
    }

    fn close_trial(&self, why: &str) -> Result<(), Error> {
        self.set_meta("closed", why)?;
        self.0.commit(RecordStep::Close)
    }
}
