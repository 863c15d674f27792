//! The gateway's own file: every event it took, until long after a recorder has it.
//!
//! The outbox is not stored: it is what lies above the newest receipt. So nothing can leave it but
//! by a receipt, and a gateway that starts again sends on from where the recorder is.

use crate::store::{
    At, COLUMNS, Error, Kind, SPOOL_ID, StoredRow, TOO_LARGE, Writer, canonical_json, fits,
    nearest, open_reader, open_writer,
};
use protocol::topics::EventRow;
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::File;
use std::path::{Path, PathBuf};

const KIND: Kind = Kind {
    name: "spool",
    application_id: SPOOL_ID,
    sql: include_str!("spool.sql"),
};
/// Rows are kept for so long after a receipt, so that a lost record can be made again.
pub const KEPT_AFTER_RECEIPT_MS: i64 = 30 * 86_400_000;

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    db: Connection,
    // Closed after the connection: see `Writer`.
    _synced: Option<File>,
    path: PathBuf,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is new, and on disk.
    Stored,
    /// It was there, the same.
    Repeat,
    /// Its identity was there with another body, or it holds a number that no file can: set aside.
    Conflict,
}

/// A row that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Whose it claims to be.
    pub source: String,
    /// Which start it claims.
    pub boot: u32,
    /// Which seq it claims.
    pub seq: u64,
    /// Its bytes.
    pub raw: Vec<u8>,
    /// Its tag.
    pub tag: Vec<u8>,
    /// Why it was set aside.
    pub reason: String,
    /// When.
    pub noted_at_utc_ms: i64,
}

impl Spool {
    /// Opens for writing, makes the file where there is none.
    ///
    /// # Errors
    /// Where it is no spool, of another version, held by another program, or the disk fails.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let Writer { db, synced, is_new } = open_writer(path, KIND)?;
        if is_new {
            reserve(&db).at(path)?;
        }
        Ok(Self {
            db,
            _synced: Some(synced),
            path: path.into(),
        })
    }

    /// Opens for reading only.
    ///
    /// # Errors
    /// Where there is none, or it is no spool of this version.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            db: open_reader(path, KIND)?,
            _synced: None,
            path: path.into(),
        })
    }

    /// Counts a start of the gateway; gives its number, from 1.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn begin_session(&self, now_utc_ms: i64) -> Result<u32, Error> {
        // No RETURNING: its row comes before the commit, and a failure of that would not be seen.
        let sql = "INSERT INTO session SELECT ifnull(max(number), 0) + 1, ?1 FROM session";
        self.db.execute(sql, [now_utc_ms]).at(&self.path)?;
        let number = self.db.last_insert_rowid();
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A word about a trial.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn meta(&self, trial: &str, key: &str) -> Result<Option<String>, Error> {
        self.db
            .query_row(
                "SELECT value FROM trial WHERE trial = ?1 AND key = ?2",
                [trial, key],
                |row| row.get(0),
            )
            .optional()
            .at(&self.path)
    }

    /// Adds a word about a trial; what stands there stays.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn set_meta(&self, trial: &str, key: &str, value: &str) -> Result<(), Error> {
        self.db
            .execute(
                "INSERT INTO trial VALUES (?1,?2,?3) ON CONFLICT DO NOTHING",
                [trial, key, value],
            )
            .map(|_| ())
            .at(&self.path)
    }

    /// Adds rows of any trials in one durable step: after `Ok` they are on disk.
    ///
    /// # Errors
    /// Where the disk fails: final for this handle, nothing of this call may be acknowledged.
    pub fn append<'r>(
        &mut self,
        rows: impl IntoIterator<Item = (&'r str, &'r EventRow)>,
    ) -> Result<Vec<Outcome>, Error> {
        let path = &self.path;
        let step = self.db.transaction().at(path)?;
        let mut outcomes = Vec::new();
        {
            let mut insert = step
                .prepare_cached(&format!(
                    "INSERT INTO event (trial, {COLUMNS}) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12) ON CONFLICT DO NOTHING"
                ))
                .at(path)?;
            for (trial, row) in rows {
                if !fits(row) {
                    set_aside(&step, path, trial, row, TOO_LARGE)?;
                    outcomes.push(Outcome::Conflict);
                    continue;
                }
                let added = insert
                    .execute(params![
                        trial,
                        row.source.as_str(),
                        row.boot,
                        row.seq,
                        row.tick_ms,
                        row.at_utc_ms,
                        row.at_uncertainty_ms,
                        row.kind,
                        canonical_json(&row.body),
                        row.raw,
                        row.tag.0,
                        row.received_at_utc_ms,
                    ])
                    .at(path)?;
                let outcome = if added == 1 {
                    Outcome::Stored
                } else {
                    settle(&step, path, trial, row)?
                };
                outcomes.push(outcome);
            }
        }
        step.commit().at(path)?;
        Ok(outcomes)
    }

    /// The rows of a source after a seq, in order, at most `limit`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn rows_after(
        &self,
        trial: &str,
        source: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredRow>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM event WHERE trial = ?1 AND source = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4"
        );
        let mut query = self.db.prepare_cached(&sql).at(&self.path)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query
            .query_map(params![trial, source, nearest(after), limit], |row| {
                Ok(StoredRow::read(row, 0))
            })
            .at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// All trials and their sources.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn sources(&self) -> Result<Vec<(String, String)>, Error> {
        let mut query = self
            .db
            .prepare("SELECT DISTINCT trial, source FROM event ORDER BY trial, source")
            .at(&self.path)?;
        let rows = query
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
            .at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// All trials that anything is known of.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn trials(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT trial FROM trial UNION SELECT trial FROM event ORDER BY 1";
        let mut query = self.db.prepare(sql).at(&self.path)?;
        let rows = query.query_map([], |row| row.get(0)).at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// All words about a trial: key and value, in order of the keys.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn words(&self, trial: &str) -> Result<Vec<(String, String)>, Error> {
        let sql = "SELECT key, value FROM trial WHERE trial = ?1 ORDER BY key";
        let mut query = self.db.prepare(sql).at(&self.path)?;
        let rows = query
            .query_map([trial], |row| Ok((row.get(0)?, row.get(1)?)))
            .at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// What was set aside of a trial, oldest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn quarantined(&self, trial: &str) -> Result<Vec<Quarantined>, Error> {
        let sql = "SELECT source, boot, seq, raw, tag, reason, noted_at_utc_ms FROM quarantine
                   WHERE trial = ?1 ORDER BY rowid";
        let mut query = self.db.prepare(sql).at(&self.path)?;
        let rows = query
            .query_map([trial], |row| {
                Ok(Quarantined {
                    source: row.get(0)?,
                    boot: row.get(1)?,
                    seq: row.get(2)?,
                    raw: row.get(3)?,
                    tag: row.get(4)?,
                    reason: row.get(5)?,
                    noted_at_utc_ms: row.get(6)?,
                })
            })
            .at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// The last seq of a source; 0 where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn last_seq(&self, trial: &str, source: &str) -> Result<u64, Error> {
        let sql = "SELECT ifnull(max(seq), 0) FROM event WHERE trial = ?1 AND source = ?2";
        self.db
            .query_row(sql, [trial, source], |row| row.get(0))
            .at(&self.path)
    }

    /// A recorder says what it has.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn note_receipt(
        &self,
        trial: &str,
        source: &str,
        recorder: &str,
        stored_through_seq: u64,
        now_utc_ms: i64,
    ) -> Result<(), Error> {
        self.db
            .prepare_cached("INSERT INTO receipt VALUES (?1,?2,?3,?4,?5)")
            .and_then(|mut insert| {
                insert.execute(params![
                    trial,
                    source,
                    recorder,
                    nearest(stored_through_seq),
                    now_utc_ms
                ])
            })
            .map(|_| ())
            .at(&self.path)
    }

    /// What the newest receipt of a source covers; 0 where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn receipted(&self, trial: &str, source: &str) -> Result<u64, Error> {
        self.db
            .query_row(
                "SELECT stored_through_seq FROM receipt WHERE trial = ?1 AND source = ?2 ORDER BY rowid DESC LIMIT 1",
                [trial, source],
                |row| row.get(0),
            )
            .optional()
            .map(Option::unwrap_or_default)
            .at(&self.path)
    }

    /// Removes rows that a receipt covered 30 days ago and the newest one covers too, of trials that
    /// are closed; of those in `kept` nothing.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn prune(&mut self, now_utc_ms: i64, kept: &[&str]) -> Result<u64, Error> {
        let before = now_utc_ms.saturating_sub(KEPT_AFTER_RECEIPT_MS);
        let mut removed = 0;
        for trial in self.trials()? {
            if kept.contains(&trial.as_str()) || self.meta(&trial, "closed")?.is_none() {
                continue;
            }
            removed += self
                .db
                .execute(
                    "DELETE FROM event WHERE trial = ?1
                     AND seq <= (SELECT max(stored_through_seq) FROM receipt r
                                 WHERE r.trial = ?1 AND r.source = event.source AND r.made_at_utc_ms < ?2)
                     AND seq <= (SELECT stored_through_seq FROM receipt r
                                 WHERE r.trial = ?1 AND r.source = event.source ORDER BY rowid DESC LIMIT 1)",
                    params![trial, before],
                )
                .at(&self.path)?;
        }
        Ok(u64::try_from(removed).unwrap_or(0))
    }
}

/// Makes file and write-ahead log as long as they will be for a while: a commit then writes into
/// room that the file system has given already, and its sync has no allocation to wait for.
fn reserve(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "CREATE TABLE reserve (room BLOB) STRICT;
         INSERT INTO reserve VALUES (zeroblob(4194304));
         DROP TABLE reserve;",
    )?;
    db.pragma_update_and_check(None, "wal_checkpoint", "RESTART", |_| Ok(()))
}

/// A row whose key was taken: the same, or one to set aside.
fn settle(
    step: &rusqlite::Transaction<'_>,
    path: &Path,
    trial: &str,
    row: &EventRow,
) -> Result<Outcome, Error> {
    let there: (u32, Vec<u8>, Vec<u8>) = step
        .prepare_cached(
            "SELECT boot, raw, tag FROM event WHERE trial = ?1 AND source = ?2 AND seq = ?3",
        )
        .and_then(|mut same| {
            same.query_row(params![trial, row.source.as_str(), row.seq], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?))
            })
        })
        .at(path)?;
    if there == (row.boot, row.raw.clone(), row.tag.0.to_vec()) {
        return Ok(Outcome::Repeat);
    }
    let reason = "another body stands under this identity";
    set_aside(step, path, trial, row, reason)?;
    Ok(Outcome::Conflict)
}

fn set_aside(
    step: &rusqlite::Transaction<'_>,
    path: &Path,
    trial: &str,
    row: &EventRow,
    reason: &str,
) -> Result<(), Error> {
    step.prepare_cached("INSERT INTO quarantine VALUES (?1,?2,?3,?4,?5,?6,?7,?8)")
        .and_then(|mut insert| {
            insert.execute(params![
                trial,
                row.source.as_str(),
                row.boot,
                nearest(row.seq),
                row.raw,
                row.tag.0,
                reason,
                row.received_at_utc_ms
            ])
        })
        .map(|_| ())
        .at(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial_record::Record;
    use protocol::event::{Body, Door, Head};
    use protocol::hex::Hex;
    use protocol::message::Source;

    fn row(seq: u64) -> EventRow {
        let head = Head {
            boot: 1,
            seq,
            tick_ms: seq,
        };
        let raw = Body::from(Door { open: true }).encode(head).unwrap();
        let source = Source::new("EP-0193").unwrap();
        EventRow::new(source, &raw, Hex([1; 16]), 0, None, 0).unwrap()
    }

    #[test]
    fn a_full_disk_is_an_error_that_says_so_and_leaves_nothing_half_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.spool");
        // More than the room that a new spool has reserved.
        let rows: Vec<EventRow> = (1..=90_000).map(row).collect();
        let mut spool = Spool::open(&path).unwrap();
        let first = rows.iter().take(10).map(|row| ("T-1", row));
        assert_eq!(spool.append(first).unwrap().len(), 10);
        spool.db.pragma_update(None, "max_page_count", 20).unwrap();
        let done = spool.append(rows.iter().map(|row| ("T-1", row)));
        let error = done.map(|outcomes| outcomes.len()).unwrap_err();
        assert!(error.is_full(), "{error:?}");
        assert!(error.to_string().contains("a.spool"), "{error}");
        assert_eq!(spool.last_seq("T-1", "EP-0193").unwrap(), 10);
        drop(spool);
        let mut spool = Spool::open(&path).unwrap();
        assert_eq!(spool.last_seq("T-1", "EP-0193").unwrap(), 10);
        // With room again a new handle takes them all.
        let outcomes = spool.append(rows.iter().map(|row| ("T-1", row))).unwrap();
        let stored = outcomes.iter().filter(|o| **o == Outcome::Stored);
        assert_eq!(stored.count(), 89_990);
    }

    #[test]
    fn numbers_that_sqlite_cannot_hold_are_set_aside_and_the_store_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&dir.path().join("a.spool")).unwrap();
        let mut record = Record::create(&dir.path().join("a.thecal")).unwrap();
        let mut large = row(u64::MAX);
        let mut late = row(2);
        late.tick_ms = 1 << 63;
        large.at_uncertainty_ms = Some(u64::MAX);
        let rows = [row(1), large, late, row(3)];
        let outcomes = spool.append(rows.iter().map(|row| ("T-1", row))).unwrap();
        let (stored, conflict) = (Outcome::Stored, Outcome::Conflict);
        assert_eq!(
            outcomes,
            [stored.clone(), conflict.clone(), conflict, stored]
        );
        assert_eq!(spool.quarantined("T-1").unwrap().len(), 2);
        let appended = record.append(&rows, 0).unwrap();
        assert_eq!((appended.new, appended.conflicts.len()), (2, 2));
        assert_eq!(record.quarantined().unwrap(), 2);
        record.quarantine(&row(u64::MAX), "forged", 0).unwrap();
        spool
            .note_receipt("T-1", "EP-0193", "w", u64::MAX, 0)
            .unwrap();
        assert!(
            spool
                .rows_after("T-1", "EP-0193", u64::MAX, 9)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_full_disk_leaves_a_record_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::create(&dir.path().join("a.thecal")).unwrap();
        // More than the room that a new spool has reserved.
        let rows: Vec<EventRow> = (1..=90_000).map(row).collect();
        record.append(&rows[..10], 0).unwrap();
        record
            .db()
            .pragma_update(None, "max_page_count", 30)
            .unwrap();
        assert!(record.append(&rows, 0).unwrap_err().is_full());
        assert_eq!(record.sources().unwrap(), [("EP-0193".into(), 10, 10)]);
    }
}
