//! A trial's record: what the recorder writes, and what `verify`, `report` and `export` read.

use crate::spool::Quarantined;
use crate::store::{
    At, COLUMNS, Error, Kind, RECORD_ID, RowsDigest, StoredRow, TOO_LARGE, Writer, canonical_json,
    fits, nearest, open_reader, open_writer,
};
use protocol::hex::{Digest, Hex};
use protocol::keys::KeyPair;
use protocol::manifest::SignedManifest;
use protocol::topics::EventRow;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::fs::File;
use std::path::{Path, PathBuf};

pub(crate) const KIND: Kind = Kind {
    name: "record",
    application_id: RECORD_ID,
    sql: include_str!("schema.sql"),
};

/// An open record.
#[derive(Debug)]
pub struct Record {
    db: Connection,
    // Closed after the connection: see `Writer`.
    _synced: Option<File>,
    path: PathBuf,
}

/// What became of appended rows.
#[derive(Debug, Default, PartialEq)]
pub struct Appended {
    /// Rows that are new.
    pub new: u64,
    /// Rows that were there, the same.
    pub repeats: u64,
    /// Rows whose identity was there with another body, or that hold a number that no file can: set
    /// aside in `quarantine`.
    pub conflicts: Vec<String>,
}

/// A hole as it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Whose events.
    pub source: String,
    /// First missing seq.
    pub from_seq: u64,
    /// Last missing seq.
    pub to_seq: u64,
    /// Why.
    pub reason: String,
    /// When it was noted.
    pub noted_at_utc_ms: i64,
}

/// The tables beside `event`, in the order in which a recorder signs them at the close. The last
/// covers the receipts before its own.
pub const SEALED_TABLES: [&str; 4] = ["trial", "hole", "quarantine", "receipt"];

/// A recorder's signed word over all rows of a source, or of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsReceipt {
    /// Whose events; `table NAME` where it is over a table, which is no name of a source.
    pub source: String,
    /// First seq; 1 of a table.
    pub from_seq: u64,
    /// Last seq; the number of rows of a table.
    pub to_seq: u64,
    /// SHA-256 over all columns, hex.
    pub digest: String,
    /// The recorder's name.
    pub recorder: String,
    /// Its public key, hex.
    pub key: String,
    /// Ed25519 over [`RowsReceipt::message`], hex.
    pub signature: String,
    /// When.
    pub made_at_utc_ms: i64,
}

impl RowsReceipt {
    /// What is signed.
    pub fn message(&self) -> String {
        format!(
            "thecal receipt v1\n{}\n{}\n{}\n{}\n{}\n{}",
            self.source,
            self.from_seq,
            self.to_seq,
            self.digest,
            self.recorder,
            self.made_at_utc_ms
        )
    }
}

impl Record {
    /// Opens for writing, makes the file where there is none.
    ///
    /// # Errors
    /// Where it is no record, of another version, held by another program, or the disk fails.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        let Writer { db, synced, .. } = open_writer(path, KIND)?;
        Ok(Self {
            db,
            _synced: Some(synced),
            path: path.into(),
        })
    }

    /// Makes a new record.
    ///
    /// # Errors
    /// [`Error::Exists`] where the file is there.
    pub fn create(path: &Path) -> Result<Self, Error> {
        if path.exists() {
            return Err(Error::Exists(path.into()));
        }
        Self::open_or_create(path)
    }

    /// Opens for reading only.
    ///
    /// # Errors
    /// Where there is none, or it is no record of this version.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            db: open_reader(path, KIND)?,
            _synced: None,
            path: path.into(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn db(&self) -> &Connection {
        &self.db
    }

    /// A word about the trial: `trial_id`, `manifest`, `import`, `zone`, `closed`, `origin`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<String>, Error> {
        let sql = "SELECT value FROM trial WHERE key = ?1";
        let text = |row: &Row<'_>| {
            Ok(match row.get_ref(0)? {
                ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().map(String::from),
                ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => {
                    None
                }
            })
        };
        match self
            .db
            .query_row(sql, [key], text)
            .optional()
            .at(&self.path)?
        {
            Some(None) => Err(Error::Row {
                path: self.path.clone(),
                place: format!("trial {key}"),
                why: "is no text".into(),
            }),
            found => Ok(found.flatten()),
        }
    }

    /// Adds a word about the trial; the same again is no change.
    ///
    /// # Errors
    /// Where another value stands there already.
    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), Error> {
        match self.meta(key)? {
            Some(there) if there == value => Ok(()),
            Some(_) => Err(Error::Row {
                path: self.path.clone(),
                place: format!("trial {key}"),
                why: "another value stands there already".into(),
            }),
            None => self
                .db
                .execute(
                    "INSERT INTO trial (key, value) VALUES (?1, ?2)",
                    [key, value],
                )
                .map(|_| ())
                .at(&self.path),
        }
    }

    /// The signed manifest, where there is one.
    ///
    /// # Errors
    /// Where the file cannot be read or the value is no signed manifest.
    pub fn manifest(&self) -> Result<Option<SignedManifest>, Error> {
        let Some(text) = self.meta("manifest")? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| Error::Row {
                path: self.path.clone(),
                place: "trial manifest".into(),
                why: e.to_string(),
            })
    }

    /// Adds rows, in one durable step: after `Ok` they are on disk. Repeats are removed; a row
    /// whose identity is taken by another body goes to `quarantine`.
    ///
    /// # Errors
    /// Where the disk fails: nothing of this call may then be acknowledged.
    pub fn append(&mut self, rows: &[EventRow], now_utc_ms: i64) -> Result<Appended, Error> {
        let mut done = Appended::default();
        let path = self.path.clone();
        let step = self.db.transaction().at(&path)?;
        {
            let mut insert = step
                .prepare_cached(&format!(
                    "INSERT INTO event ({COLUMNS}) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11) ON CONFLICT DO NOTHING"
                ))
                .at(&path)?;
            let mut same = step
                .prepare_cached("SELECT boot, raw, tag FROM event WHERE source = ?1 AND seq = ?2")
                .at(&path)?;
            let mut aside = step
                .prepare_cached("INSERT INTO quarantine VALUES (?1,?2,?3,?4,?5,?6,?7)")
                .at(&path)?;
            for row in rows {
                let mut set_aside = |reason: &str| {
                    let identity = params![
                        row.source.as_str(),
                        row.boot,
                        nearest(row.seq),
                        row.raw,
                        row.tag.0,
                        reason,
                        now_utc_ms
                    ];
                    let id = format!("{}:{}:{}", row.source, row.boot, row.seq);
                    done.conflicts.push(id);
                    aside.execute(identity).map(|_| ()).at(&path)
                };
                if !fits(row) {
                    set_aside(TOO_LARGE)?;
                    continue;
                }
                let added = insert
                    .execute(params![
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
                    .at(&path)?;
                if added == 1 {
                    done.new += 1;
                    continue;
                }
                let there: (u32, Vec<u8>, Vec<u8>) = same
                    .query_row(params![row.source.as_str(), row.seq], |r| {
                        Ok((r.get(0)?, r.get(1)?, r.get(2)?))
                    })
                    .at(&path)?;
                if there == (row.boot, row.raw.clone(), row.tag.0.to_vec()) {
                    done.repeats += 1;
                    continue;
                }
                set_aside("another body stands under this identity")?;
            }
        }
        step.commit().at(&path)?;
        Ok(done)
    }

    /// Sets aside something that is not part of the record.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn quarantine(&self, row: &EventRow, reason: &str, now_utc_ms: i64) -> Result<(), Error> {
        self.set_aside(&Quarantined {
            source: row.source.to_string(),
            boot: row.boot,
            seq: row.seq,
            raw: row.raw.clone(),
            tag: row.tag.0.to_vec(),
            reason: reason.into(),
            noted_at_utc_ms: now_utc_ms,
        })
    }

    /// Sets aside what a spool had set aside.
    pub(crate) fn set_aside(&self, row: &Quarantined) -> Result<(), Error> {
        self.db
            .execute(
                "INSERT INTO quarantine VALUES (?1,?2,?3,?4,?5,?6,?7)",
                params![
                    row.source,
                    row.boot,
                    nearest(row.seq),
                    row.raw,
                    row.tag,
                    row.reason,
                    row.noted_at_utc_ms
                ],
            )
            .map(|_| ())
            .at(&self.path)
    }

    /// Rows in quarantine.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn quarantined(&self) -> Result<u64, Error> {
        self.db
            .query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))
            .at(&self.path)
    }

    /// Notes a hole, once.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn note_hole(&self, hole: &Hole) -> Result<(), Error> {
        self.db
            .execute(
                "INSERT INTO hole SELECT ?1,?2,?3,?4,?5 WHERE NOT EXISTS
                 (SELECT 1 FROM hole WHERE source = ?1 AND from_seq = ?2 AND to_seq = ?3 AND reason = ?4)",
                params![hole.source, nearest(hole.from_seq), nearest(hole.to_seq), hole.reason, hole.noted_at_utc_ms],
            )
            .map(|_| ())
            .at(&self.path)
    }

    /// The holes that were noted, as noted; one counts only while its seqs are absent.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn holes(&self) -> Result<Vec<Hole>, Error> {
        let mut query = self
            .db
            .prepare("SELECT source, from_seq, to_seq, reason, noted_at_utc_ms FROM hole ORDER BY source, from_seq, rowid")
            .at(&self.path)?;
        let rows = query
            .query_map([], |r| {
                Ok(Hole {
                    source: r.get(0)?,
                    from_seq: r.get(1)?,
                    to_seq: r.get(2)?,
                    reason: r.get(3)?,
                    noted_at_utc_ms: r.get(4)?,
                })
            })
            .at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// Every event, by source and then in order of seq.
    ///
    /// # Errors
    /// Where the file cannot be read, or what `each` gives.
    pub fn for_each_event(
        &self,
        mut each: impl FnMut(StoredRow) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.for_each_held(|row| each(StoredRow::read(row, 0)))
    }

    /// Every event as SQLite holds it, by source and then in order of seq.
    pub(crate) fn for_each_held(
        &self,
        mut each: impl FnMut(&Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let sql = format!("SELECT {COLUMNS} FROM event ORDER BY source, seq");
        let mut query = self.db.prepare(&sql).at(&self.path)?;
        let mut rows = query.query([]).at(&self.path)?;
        while let Some(row) = rows.next().at(&self.path)? {
            each(row)?;
        }
        Ok(())
    }

    /// The events of a source from a seq on, at most `limit`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn events_of(&self, source: &str, from: u64, limit: u64) -> Result<Vec<StoredRow>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM event WHERE source = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3"
        );
        let mut query = self.db.prepare_cached(&sql).at(&self.path)?;
        let rows = query
            .query_map(params![source, nearest(from), nearest(limit)], |row| {
                Ok(StoredRow::read(row, 0))
            })
            .at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// The sources with their number of events and last seq.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn sources(&self) -> Result<Vec<(String, u64, u64)>, Error> {
        let mut query = self
            .db
            .prepare("SELECT source, count(*), max(seq) FROM event GROUP BY source ORDER BY source")
            .at(&self.path)?;
        let rows = query
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// Adds a signed word over all rows of a source; once for the same rows.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn seal(
        &self,
        source: &str,
        recorder: &str,
        key: &KeyPair,
        now_utc_ms: i64,
    ) -> Result<(), Error> {
        let rows = self.rows_digest(source, 0, u64::MAX >> 1)?;
        self.add_receipt(source, rows, recorder, key, now_utc_ms)
    }

    fn add_receipt(
        &self,
        source: &str,
        (digest, from_seq, to_seq): (Digest, u64, u64),
        recorder: &str,
        key: &KeyPair,
        now_utc_ms: i64,
    ) -> Result<(), Error> {
        let mut receipt = RowsReceipt {
            source: source.into(),
            from_seq,
            to_seq,
            digest: digest.to_string(),
            recorder: recorder.into(),
            key: key.public().to_string(),
            signature: String::new(),
            made_at_utc_ms: now_utc_ms,
        };
        receipt.signature = key.sign(receipt.message().as_bytes()).to_string();
        let r = &receipt;
        self.db
            .execute(
                "INSERT INTO receipt SELECT ?1,?2,?3,?4,?5,?6,?7,?8 WHERE NOT EXISTS
                 (SELECT 1 FROM receipt WHERE source = ?1 AND to_seq = ?3 AND digest = ?4)",
                params![
                    r.source,
                    r.from_seq,
                    r.to_seq,
                    r.digest,
                    r.recorder,
                    r.key,
                    r.signature,
                    r.made_at_utc_ms
                ],
            )
            .map(|_| ())
            .at(&self.path)
    }

    /// The signed words in this record.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn receipts(&self) -> Result<Vec<RowsReceipt>, Error> {
        let mut query = self
            .db
            .prepare("SELECT * FROM receipt ORDER BY rowid")
            .at(&self.path)?;
        let rows = query
            .query_map([], |r| {
                Ok(RowsReceipt {
                    source: r.get(0)?,
                    from_seq: r.get(1)?,
                    to_seq: r.get(2)?,
                    digest: r.get(3)?,
                    recorder: r.get(4)?,
                    key: r.get(5)?,
                    signature: r.get(6)?,
                    made_at_utc_ms: r.get(7)?,
                })
            })
            .at(&self.path)?;
        rows.collect::<rusqlite::Result<_>>().at(&self.path)
    }

    /// Digest over all columns of a source's rows in a range of seqs; first and last seq found.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn rows_digest(
        &self,
        source: &str,
        from: u64,
        to: u64,
    ) -> Result<(Digest, u64, u64), Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM event WHERE source = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq"
        );
        let mut query = self.db.prepare_cached(&sql).at(&self.path)?;
        let most = u64::MAX >> 1;
        let range = params![source, from.min(most), to.min(most)];
        let mut rows = query.query(range).at(&self.path)?;
        let mut digest = RowsDigest::default();
        let (mut first, mut last) = (0, 0);
        while let Some(row) = rows.next().at(&self.path)? {
            let seq: i64 = row.get(2).at(&self.path)?;
            last = u64::try_from(seq).unwrap_or(0);
            if digest.rows == 0 {
                first = last;
            }
            digest.add_as_held(row).at(&self.path)?;
        }
        Ok((digest.finish(), first, last))
    }

    /// First and last seq of a source; 0 where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn rows_bounds(&self, source: &str) -> Result<(u64, u64), Error> {
        let sql = "SELECT ifnull(min(seq), 0), ifnull(max(seq), 0) FROM event WHERE source = ?1";
        self.db
            .query_row(sql, [source], |row| Ok((row.get(0)?, row.get(1)?)))
            .at(&self.path)
    }

    /// Digest over all columns of the first rows of a table beside `event`; how many were found.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub(crate) fn table_digest(&self, table: &str, most: u64) -> Result<(Digest, u64), Error> {
        let sql = match table {
            "trial" => "SELECT key, value FROM trial ORDER BY key LIMIT ?1",
            "hole" => "SELECT * FROM hole ORDER BY rowid LIMIT ?1",
            "quarantine" => "SELECT * FROM quarantine ORDER BY rowid LIMIT ?1",
            _ => "SELECT * FROM receipt ORDER BY rowid LIMIT ?1",
        };
        let mut query = self.db.prepare(sql).at(&self.path)?;
        let columns = query.column_count();
        let mut rows = query.query([nearest(most)]).at(&self.path)?;
        let mut digest = RowsDigest::default();
        while let Some(row) = rows.next().at(&self.path)? {
            digest.add_columns(row, columns).at(&self.path)?;
        }
        let found = digest.rows;
        Ok((digest.finish(), found))
    }

    /// Marks the trial closed, signs the tables beside `event` as they then are, and makes one file
    /// of it: both or neither.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn close_sealed(
        &self,
        reason: &str,
        recorder: &str,
        key: &KeyPair,
        now_utc_ms: i64,
    ) -> Result<(), Error> {
        let step = self.db.unchecked_transaction().at(&self.path)?;
        self.set_meta("closed", reason)?;
        for table in SEALED_TABLES {
            let (digest, rows) = self.table_digest(table, u64::MAX >> 1)?;
            let source = format!("table {table}");
            self.add_receipt(&source, (digest, 1, rows), recorder, key, now_utc_ms)?;
        }
        step.commit().at(&self.path)?;
        self.fold()
    }

    /// Marks the trial closed and makes one file of it, without a `-wal`.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn close_trial(&self, reason: &str) -> Result<(), Error> {
        self.set_meta("closed", reason)?;
        self.fold()
    }

    /// Makes one file of it, without a `-wal`: readers then need no other file.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn fold(&self) -> Result<(), Error> {
        self.db
            .pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))
            .at(&self.path)
    }

    /// SHA-256 of everything that the record proves: heads and digests of all sources.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn digest(&self) -> Result<Digest, Error> {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for (source, ..) in self.sources()? {
            let (digest, ..) = self.rows_digest(&source, 0, u64::MAX >> 1)?;
            hash.update(digest.0);
        }
        Ok(Hex(hash.finalize().into()))
    }
}
