//! Opening SQLite files the safe way, and the one row that record and spool share.
//!
//! WAL with `synchronous=FULL`, read back and refused where it did not take; the folder synced
//! after a file is made; the file synced on open, because what an earlier process wrote may so far
//! be in the page cache only (`facts/reliability.md` §0, finding 6).

use protocol::hex::{Hex, Tag};
use protocol::message::Source;
use protocol::topics::EventRow;
use rusqlite::{Connection, OpenFlags, Row};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};

/// `application_id` of a record: "THEC".
pub const RECORD_ID: i32 = 0x5448_4543;
/// `application_id` of a spool: "THES".
pub const SPOOL_ID: i32 = 0x5448_4553;
/// `user_version` of both.
pub const VERSION: i32 = 1;
/// Before 3.51.3 two connections could damage a WAL (`facts/gateway-mqtt.md` §3).
const SQLITE_AT_LEAST: i32 = 3_051_003;

/// What can go wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{0}: no such file")]
    Missing(PathBuf),
    /// It is a file of something else.
    #[error("{path}: not a thecal {wanted}: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `record` or `spool`.
        wanted: &'static str,
        /// How that was seen.
        why: String,
    },
    /// Written by another version.
    #[error("{path}: {wanted} of version {seen}, this program reads version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// `record` or `spool`.
        wanted: &'static str,
        /// Its version.
        seen: i32,
    },
    /// A file that must be new is there.
    #[error("{0}: is there already; name another file or remove it")]
    Exists(PathBuf),
    /// Another program holds it.
    #[error("{0}: another program has it open; stop that one first")]
    Busy(PathBuf),
    /// The disk or the file failed. Final for this handle: nothing may be acknowledged after it.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row that cannot be.
    #[error("{path}: {place}: {why}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Which row.
        place: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. }
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// Names the file in every error.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for rusqlite::Result<T> {
    fn at(self, path: &Path) -> Result<T, Error> {
        self.map_err(|source| {
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) {
                Error::Busy(path.into())
            } else {
                Error::Sqlite {
                    path: path.into(),
                    source,
                }
            }
        })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            path: path.into(),
            source,
        })
    }
}

/// Which of the two kinds of file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) application_id: i32,
    pub(crate) sql: &'static str,
}

/// Opens for writing; makes the file where there is none. One writer at a time: a second one is
/// refused.
pub(crate) fn open_writer(path: &Path, kind: Kind) -> Result<Connection, Error> {
    if rusqlite::version_number() < SQLITE_AT_LEAST {
        let why = format!("SQLite {} is older than 3.51.3", rusqlite::version());
        return Err(Error::Foreign {
            path: path.into(),
            wanted: kind.name,
            why,
        });
    }
    let is_new = !path.exists() || path.metadata().at(path)?.len() == 0;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).at(path)?;
    db.busy_timeout(std::time::Duration::from_millis(250))
        .at(path)?;
    // Held for as long as the file is open: two programs never write one file.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")
        .at(path)?;
    if !is_new {
        check_kind(&db, path, kind)?;
    }
    let mode: String = db
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .at(path)?;
    db.pragma_update(None, "synchronous", "FULL").at(path)?;
    db.pragma_update(None, "foreign_keys", "ON").at(path)?;
    let synchronous: i64 = db
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .at(path)?;
    if mode != "wal" || synchronous != 2 {
        let why = format!("journal_mode={mode} synchronous={synchronous}, wanted wal and 2");
        return Err(Error::Foreign {
            path: path.into(),
            wanted: kind.name,
            why,
        });
    }
    if is_new {
        let script = format!(
            "BEGIN EXCLUSIVE; {} {} PRAGMA application_id={}; PRAGMA user_version={VERSION}; COMMIT;",
            kind.sql,
            triggers_sql(kind),
            kind.application_id
        );
        db.execute_batch(&script).at(path)?;
    } else {
        // Takes the lock now, so that a second program is refused now.
        db.execute_batch("BEGIN EXCLUSIVE; COMMIT;").at(path)?;
    }
    sync_file_and_folder(path)?;
    Ok(db)
}

/// Opens for reading only, and leaves nothing behind.
pub(crate) fn open_reader(path: &Path, kind: Kind) -> Result<Connection, Error> {
    if !path.is_file() {
        return Err(Error::Missing(path.into()));
    }
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let live = Path::new(&wal).metadata().is_ok_and(|m| m.len() > 0);
    let plain = path.to_str().unwrap_or_default();
    let escaped: String = plain
        .chars()
        .map(|c| match c {
            '?' => "%3f".to_owned(),
            '#' => "%23".to_owned(),
            '%' => "%25".to_owned(),
            other => other.to_string(),
        })
        .collect();
    let uri = format!(
        "file:{escaped}?mode=ro{}",
        if live { "" } else { "&immutable=1" }
    );
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(uri, flags).at(path)?;
    db.busy_timeout(std::time::Duration::from_secs(2))
        .at(path)?;
    check_kind(&db, path, kind)?;
    Ok(db)
}

fn check_kind(db: &Connection, path: &Path, kind: Kind) -> Result<(), Error> {
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let id = match pragma("application_id") {
        Ok(id) => id,
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            let why = "no SQLite database".to_owned();
            return Err(Error::Foreign {
                path: path.into(),
                wanted: kind.name,
                why,
            });
        }
        Err(e) => return Err(e).at(path),
    };
    if id != kind.application_id {
        let why = match id {
            RECORD_ID => "it is a record".to_owned(),
            SPOOL_ID => "it is a gateway's spool".to_owned(),
            other => format!("application_id is {other:#x}"),
        };
        return Err(Error::Foreign {
            path: path.into(),
            wanted: kind.name,
            why,
        });
    }
    let seen = pragma("user_version").at(path)?;
    if seen != VERSION {
        return Err(Error::Version {
            path: path.into(),
            wanted: kind.name,
            seen,
        });
    }
    Ok(())
}

const GUARDED: &[&str] = &["event", "trial", "hole", "receipt", "quarantine"];

/// Name and text of each trigger of a record.
pub(crate) fn triggers() -> Vec<(String, String)> {
    let one = |table: &str, act: &str| {
        let name = format!("{table}_no_{}", act.to_lowercase());
        let sql = format!(
            "CREATE TRIGGER {name} BEFORE {act} ON {table} BEGIN SELECT RAISE(ABORT, 'a record only grows'); END"
        );
        (name, sql)
    };
    GUARDED
        .iter()
        .flat_map(|t| [one(t, "UPDATE"), one(t, "DELETE")])
        .collect()
}

fn triggers_sql(kind: Kind) -> String {
    if kind.application_id != RECORD_ID {
        return String::new();
    }
    triggers().into_iter().map(|(_, sql)| sql + ";").collect()
}

/// What is in the page cache is on the disk after this.
pub(crate) fn sync_file_and_folder(path: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match File::open(&name) {
            Ok(file) => file.sync_all().at(path)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).at(path),
        }
    }
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).at(folder)
}

/// The columns of an event, in the order of digests, without a spool's `trial`.
pub(crate) const COLUMNS: &str = "source, boot, seq, tick_ms, at_utc_ms, at_uncertainty_ms, kind, body, raw, tag, received_at_utc_ms";

/// An event row as SQLite holds it; the body's text is kept to the letter.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRow {
    /// The row.
    pub row: EventRow,
    /// The body column's text.
    pub body_text: String,
}

impl StoredRow {
    pub(crate) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let wrong = |column: usize, why: &str| {
            rusqlite::Error::FromSqlConversionFailure(
                column,
                rusqlite::types::Type::Text,
                why.to_owned().into(),
            )
        };
        let source: String = row.get(first)?;
        let body_text: String = row.get(first + 7)?;
        let tag: Vec<u8> = row.get(first + 9)?;
        let tag: [u8; 16] = tag
            .try_into()
            .map_err(|_| wrong(first + 9, "tag is not 16 bytes"))?;
        let body =
            serde_json::from_str(&body_text).map_err(|_| wrong(first + 7, "body is not JSON"))?;
        let row = EventRow {
            source: Source::new(&source).ok_or_else(|| wrong(first, "source is not a name"))?,
            boot: row.get(first + 1)?,
            seq: row.get(first + 2)?,
            tick_ms: row.get(first + 3)?,
            at_utc_ms: row.get(first + 4)?,
            at_uncertainty_ms: row.get(first + 5)?,
            kind: row.get(first + 6)?,
            body,
            raw: row.get(first + 8)?,
            tag: Hex(tag),
            received_at_utc_ms: row.get(first + 10)?,
        };
        Ok(Self { row, body_text })
    }

    /// Identity as text: `EP-0193:3:18274`.
    pub fn id(&self) -> String {
        format!("{}:{}:{}", self.row.source, self.row.boot, self.row.seq)
    }
}

/// SHA-256 over all columns of rows, in order of seq: each column as `length u32le | bytes`,
/// integers as decimal text, NULL as length 0xffffffff.
#[derive(Clone, Debug, Default)]
pub struct RowsDigest {
    hash: Sha256,
    /// Rows so far.
    pub rows: u64,
}

impl RowsDigest {
    fn column(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1);
        self.hash.update(length.to_le_bytes());
        self.hash.update(bytes);
    }

    /// One more row; `body_text` is the body column to the letter.
    pub fn add(&mut self, row: &EventRow, body_text: &str) {
        self.rows += 1;
        self.column(row.source.as_str().as_bytes());
        self.column(row.boot.to_string().as_bytes());
        self.column(row.seq.to_string().as_bytes());
        self.column(row.tick_ms.to_string().as_bytes());
        self.column(row.at_utc_ms.to_string().as_bytes());
        match row.at_uncertainty_ms {
            Some(ms) => self.column(ms.to_string().as_bytes()),
            None => self.hash.update(u32::MAX.to_le_bytes()),
        }
        self.column(row.kind.as_bytes());
        self.column(body_text.as_bytes());
        self.column(&row.raw);
        self.column(&row.tag.0);
        self.column(row.received_at_utc_ms.to_string().as_bytes());
    }

    /// The digest.
    pub fn finish(self) -> protocol::hex::Digest {
        Hex(self.hash.finalize().into())
    }
}

/// A tag for rows that no key ever tagged: imports.
pub const NO_TAG: Tag = Hex([0; 16]);

/// JSON with its members in the order of their names: the same text for the same value, whatever
/// made it.
pub fn canonical_json(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let member = |name: &&String| {
                let value = members
                    .get(name.as_str())
                    .map(canonical_json)
                    .unwrap_or_default();
                format!("{}:{value}", Value::String((*name).clone()))
            };
            format!(
                "{{{}}}",
                names.iter().map(member).collect::<Vec<_>>().join(",")
            )
        }
        Value::Array(items) => {
            format!(
                "[{}]",
                items
                    .iter()
                    .map(canonical_json)
                    .collect::<Vec<_>>()
                    .join(",")
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_text_does_not_depend_on_the_order_it_was_built_in() {
        let a: serde_json::Value =
            serde_json::from_str(r#"{"b":[1,{"d":2,"c":"x\"y"}],"a":null}"#).unwrap();
        assert_eq!(
            canonical_json(&a),
            r#"{"a":null,"b":[1,{"c":"x\"y","d":2}]}"#
        );
    }
}
