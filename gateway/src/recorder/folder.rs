//! Where a recorder keeps its records: what it asks of a folder and of a file in it.

use protocol::keys::KeyPair;
use protocol::manifest::SignedManifest;
use protocol::topics::EventRow;
use record::Record;
use record::store::StoredRow;
use record::trial_record::{Appended, Hole};
use std::path::{Path, PathBuf};

/// A folder of records, one a trial.
pub trait RecordFolder: Send + std::fmt::Debug {
    /// The trials that have a record here.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    fn trials(&self) -> Result<Vec<String>, record::Error>;

    /// Opens a trial's record, makes it where there is none. What it then holds survives a cut.
    ///
    /// # Errors
    /// Where it is no record, or the disk fails.
    fn open(&self, trial: &str) -> Result<Box<dyn RecordFile>, record::Error>;
}

/// One trial's record, open for writing. After `Ok` everything is on disk; an error is final for
/// the handle.
#[expect(
    clippy::missing_errors_doc,
    reason = "as `record::Record` documents them"
)]
pub trait RecordFile: Send + std::fmt::Debug {
    /// A word about the trial.
    fn meta(&self, key: &str) -> Result<Option<String>, record::Error>;

    /// Adds a word about the trial; the same again is no change, another one an error.
    fn set_meta(&self, key: &str, value: &str) -> Result<(), record::Error>;

    /// The signed manifest, where it came.
    fn manifest(&self) -> Result<Option<SignedManifest>, record::Error>;

    /// Every event, by source and then in order of seq.
    fn for_each_event(
        &self,
        each: &mut dyn FnMut(StoredRow) -> Result<(), record::Error>,
    ) -> Result<(), record::Error>;

    /// Adds rows in one step. Repeats are removed, other bodies under a taken identity set aside.
    fn append(&mut self, rows: &[EventRow], now_utc_ms: i64) -> Result<Appended, record::Error>;

    /// Sets aside something that is not part of the record.
    fn quarantine(&self, row: &EventRow, why: &str, now_utc_ms: i64) -> Result<(), record::Error>;

    /// Notes a hole, once.
    fn note_hole(&self, hole: &Hole) -> Result<(), record::Error>;

    /// Adds a signed word over all rows of a source.
    fn seal(
        &self,
        source: &str,
        recorder: &str,
        pair: &KeyPair,
        now_utc_ms: i64,
    ) -> Result<(), record::Error>;

    /// Marks the trial closed and makes one file of it.
    fn close_trial(&self, why: &str) -> Result<(), record::Error>;

    /// The same, and the recorder signs all that stands beside the events, where the file can hold
    /// that.
    fn close_sealed(
        &self,
        why: &str,
        _recorder: &str,
        _pair: &KeyPair,
        _now_utc_ms: i64,
    ) -> Result<(), record::Error> {
        self.close_trial(why)
    }
}

/// The folder on the ward's disk.
#[derive(Clone, Debug)]
pub struct DiskFolder(pub PathBuf);

/// The record file of a trial in a folder.
pub fn record_path(folder: &Path, trial: &str) -> PathBuf {
    folder.join(format!("{trial}.thecal"))
}

impl RecordFolder for DiskFolder {
    fn trials(&self) -> Result<Vec<String>, record::Error> {
        let entries = std::fs::read_dir(&self.0).map_err(|source| record::Error::Io {
            path: self.0.clone(),
            source,
        })?;
        let paths = entries.flatten().map(|entry| entry.path());
        let records = paths.filter(|path| path.extension().is_some_and(|e| e == "thecal"));
        let names = records.map(|path| {
            let name = path.file_stem().unwrap_or_default();
            name.to_string_lossy().into_owned()
        });
        Ok(names.filter(|name| protocol::text::is_name(name)).collect())
    }

    fn open(&self, trial: &str) -> Result<Box<dyn RecordFile>, record::Error> {
        let path = record_path(&self.0, trial);
        if !protocol::text::is_name(trial) {
            let why = "a trial whose name cannot be that of a file";
            return Err(record::Error::Io {
                path: self.0.clone(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidInput, why),
            });
        }
        Ok(Box::new(Record::open_or_create(&path)?))
    }
}

impl RecordFile for Record {
    fn meta(&self, key: &str) -> Result<Option<String>, record::Error> {
        self.meta(key)
    }

    fn set_meta(&self, key: &str, value: &str) -> Result<(), record::Error> {
        self.set_meta(key, value)
    }

    fn manifest(&self) -> Result<Option<SignedManifest>, record::Error> {
        self.manifest()
    }

    fn for_each_event(
        &self,
        each: &mut dyn FnMut(StoredRow) -> Result<(), record::Error>,
    ) -> Result<(), record::Error> {
        self.for_each_event(each)
    }

    fn append(&mut self, rows: &[EventRow], now_utc_ms: i64) -> Result<Appended, record::Error> {
        self.append(rows, now_utc_ms)
    }

    fn quarantine(&self, row: &EventRow, why: &str, now_utc_ms: i64) -> Result<(), record::Error> {
        self.quarantine(row, why, now_utc_ms)
    }

    fn note_hole(&self, hole: &Hole) -> Result<(), record::Error> {
        self.note_hole(hole)
    }

    fn seal(
        &self,
        source: &str,
        recorder: &str,
        pair: &KeyPair,
        now_utc_ms: i64,
    ) -> Result<(), record::Error> {
        self.seal(source, recorder, pair, now_utc_ms)
    }

    fn close_sealed(
        &self,
        why: &str,
        recorder: &str,
        pair: &KeyPair,
        now_utc_ms: i64,
    ) -> Result<(), record::Error> {
        self.close_sealed(why, recorder, pair, now_utc_ms)
    }

    fn close_trial(&self, why: &str) -> Result<(), record::Error> {
        self.close_trial(why)
    }
}
