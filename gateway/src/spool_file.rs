//! What the gateway asks of the file that keeps its events.

use protocol::topics::EventRow;
use record::spool::Outcome;
use record::store::StoredRow;
use record::{Error, Spool};

/// A spool, open for writing. After `Ok` everything is on disk; an error is final for the handle.
#[expect(
    clippy::missing_errors_doc,
    reason = "as `record::Spool` documents them"
)]
pub trait SpoolFile: Send + std::fmt::Debug {
    /// Counts a start of the gateway; gives its number, from 1.
    fn begin_session(&self, now_utc_ms: i64) -> Result<u32, Error>;

    /// Adds rows of any trials in one step.
    fn append(&mut self, rows: &[(&str, &EventRow)]) -> Result<Vec<Outcome>, Error>;

    /// The rows of a source after a seq, in order, at most `limit`.
    fn rows_after(
        &self,
        trial: &str,
        source: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredRow>, Error>;

    /// A word about a trial.
    fn meta(&self, trial: &str, key: &str) -> Result<Option<String>, Error>;

    /// Adds a word about a trial; what stands there stays.
    fn set_meta(&self, trial: &str, key: &str, value: &str) -> Result<(), Error>;

    /// All trials and their sources.
    fn sources(&self) -> Result<Vec<(String, String)>, Error>;

    /// The last seq of a source; 0 where there is none.
    fn last_seq(&self, trial: &str, source: &str) -> Result<u64, Error>;

    /// A recorder says what it has.
    fn note_receipt(
        &self,
        trial: &str,
        source: &str,
        recorder: &str,
        stored_through_seq: u64,
        now_utc_ms: i64,
    ) -> Result<(), Error>;

    /// What the newest receipt of a source covers; 0 where there is none.
    fn receipted(&self, trial: &str, source: &str) -> Result<u64, Error>;

    /// Removes what a recorder has had for 30 days, of closed trials that are not in `kept`; how
    /// many rows.
    fn prune(&mut self, _now_utc_ms: i64, _kept: &[&str]) -> Result<u64, Error> {
        Ok(0)
    }
}

impl SpoolFile for Spool {
    fn begin_session(&self, now_utc_ms: i64) -> Result<u32, Error> {
        self.begin_session(now_utc_ms)
    }

    fn append(&mut self, rows: &[(&str, &EventRow)]) -> Result<Vec<Outcome>, Error> {
        self.append(rows.iter().copied())
    }

    fn rows_after(
        &self,
        trial: &str,
        source: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredRow>, Error> {
        self.rows_after(trial, source, after, limit)
    }

    fn meta(&self, trial: &str, key: &str) -> Result<Option<String>, Error> {
        self.meta(trial, key)
    }

    fn set_meta(&self, trial: &str, key: &str, value: &str) -> Result<(), Error> {
        self.set_meta(trial, key, value)
    }

    fn sources(&self) -> Result<Vec<(String, String)>, Error> {
        self.sources()
    }

    fn last_seq(&self, trial: &str, source: &str) -> Result<u64, Error> {
        self.last_seq(trial, source)
    }

    fn note_receipt(
        &self,
        trial: &str,
        source: &str,
        recorder: &str,
        stored_through_seq: u64,
        now_utc_ms: i64,
    ) -> Result<(), Error> {
        self.note_receipt(trial, source, recorder, stored_through_seq, now_utc_ms)
    }

    fn receipted(&self, trial: &str, source: &str) -> Result<u64, Error> {
        self.receipted(trial, source)
    }

    fn prune(&mut self, now_utc_ms: i64, kept: &[&str]) -> Result<u64, Error> {
        self.prune(now_utc_ms, kept)
    }
}
