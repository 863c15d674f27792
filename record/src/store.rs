//! Opening SQLite files the safe way.
//!
//! WAL with `synchronous=FULL`, read back and refused where it did not take; the folder synced
//! after a file is made; the file synced on open, because what an earlier process wrote may so far
//! be in the page cache only (`facts/reliability.md` §0, finding 6).

pub(crate) use crate::row::{COLUMNS, TOO_LARGE, fits, nearest, shown_name};
pub use crate::row::{NO_TAG, RowsDigest, StoredRow, canonical_json};
use rusqlite::{Connection, OpenFlags};
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
    /// Its pages are not as SQLite wrote them.
    #[error(
        "{path}: damaged or cut short: {why}; \
         `thecal recover` makes a record again from the gateway's spool"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        why: String,
    },
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
        use rusqlite::ErrorCode;
        self.map_err(|source| {
            let code = source.sqlite_error_code();
            let path = path.into();
            if matches!(
                code,
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            ) {
                Error::Busy(path)
            } else if code == Some(ErrorCode::DatabaseCorrupt) {
                let why = source.to_string();
                Error::Damaged { path, why }
            } else {
                Error::Sqlite { path, source }
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

/// `SQLite`'s own figure.
const FOLDED_AT_PAGES: std::ffi::c_int = 1_000;

/// A connection that alone may write its file.
///
/// The second handle on the file is the one that synced it. It stays open as long as the
/// connection and is closed after it: closing any handle of a file drops the locks that this
/// process holds on it (POSIX advisory locks), and with them the protection from a second writer.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) db: Connection,
    pub(crate) synced: File,
    /// The file was made just now.
    pub(crate) is_new: bool,
}

/// Opens for writing; makes the file where there is none. One writer at a time: a second one is
/// refused.
pub(crate) fn open_writer(path: &Path, kind: Kind) -> Result<Writer, Error> {
    if rusqlite::version_number() < SQLITE_AT_LEAST {
        let why = format!("SQLite {} is older than 3.51.3", rusqlite::version());
        return Err(Error::Foreign {
            path: path.into(),
            wanted: kind.name,
            why,
        });
    }
    if path.is_dir() {
        return Err(is_a_folder(path, kind));
    }
    let is_new = !path.exists() || path.metadata().at(path)?.len() == 0;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).at(path)?;
    db.busy_timeout(std::time::Duration::from_millis(250))
        .at(path)?;
    db.wal_hook(Some(fold_when_long)).at(path)?;
    // Held for as long as the file is open: two programs never write one file.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")
        .at(path)?;
    let is_new = is_new || is_bare(&db);
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
    let synced = File::open(path).at(path)?;
    synced.sync_all().at(path)?;
    // The change of mode is answered before it is on the disk. Where that failed there is no log:
    // the file has its old journal still, and with it another promise.
    let wal = beside(path, "-wal");
    File::open(&wal).and_then(|wal| wal.sync_all()).at(&wal)?;
    sync_folder_of(path)?;
    if !is_new {
        fold_log(&db).at(path)?;
    }
    Ok(Writer { db, synced, is_new })
}

/// Writes a log that has grown into the file, as `SQLite` does by itself, which says nothing where a
/// sync of that fails (`evidence syscalls` found it). Said here, it is the commit's own error: what was
/// committed stays and is not answered as stored, and the file's owner stops or raises its alarm.
fn fold_when_long(log: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int) -> rusqlite::Result<()> {
    if pages < FOLDED_AT_PAGES {
        return Ok(());
    }
    log.checkpoint()
}

/// Writes what the log holds once more, into the file itself, and syncs that. Where the process
/// before ended on a failed sync, the log's pages may read well, count as clean and be on no
/// medium: to sync them again says yes and writes nothing (`evidence model` found it). The log
/// keeps its room.
fn fold_log(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))
}

/// Whether there is SQLite's header and nothing of anybody: its maker was stopped between making
/// the file and the first commit. What cannot be read is not bare.
fn is_bare(db: &Connection) -> bool {
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).ok();
    number("PRAGMA application_id") == Some(0)
        && number("PRAGMA user_version") == Some(0)
        && number("SELECT count(*) FROM sqlite_schema") == Some(0)
}

/// Opens for reading only. A file that its writer closed is read without any other file; beside
/// one that a writer left in the middle stands a `-wal`, which is read too.
pub(crate) fn open_reader(path: &Path, kind: Kind) -> Result<Connection, Error> {
    if path.is_dir() {
        return Err(is_a_folder(path, kind));
    }
    if !path.is_file() {
        return Err(Error::Missing(path.into()));
    }
    if path.metadata().at(path)?.len() == 0 {
        return Err(Error::Foreign {
            path: path.into(),
            wanted: kind.name,
            why: "the file is empty".into(),
        });
    }
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match char::from(*byte) {
            c if c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-') => uri.push(c),
            _ => uri.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]),
        }
    }
    uri.push_str("?mode=ro");
    if !beside(path, "-wal").exists() {
        uri.push_str("&immutable=1");
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(uri, flags).at(path)?;
    db.busy_timeout(std::time::Duration::from_secs(2))
        .at(path)?;
    check_kind(&db, path, kind)?;
    Ok(db)
}

fn hex_digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0')
}

fn check_kind(db: &Connection, path: &Path, kind: Kind) -> Result<(), Error> {
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let id = match pragma("application_id") {
        Ok(id) => id,
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(Error::Foreign {
                path: path.into(),
                wanted: kind.name,
                why: "no SQLite database".into(),
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

/// Tables, indexes and triggers of a record as they are made: type, name, text.
pub(crate) fn record_schema() -> rusqlite::Result<Vec<(String, String, String)>> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(include_str!("schema.sql"))?;
    for (_, sql) in triggers() {
        db.execute_batch(&sql)?;
    }
    schema_of(&db)
}

/// Tables, indexes, triggers and views of a file: type, name, text.
pub(crate) fn schema_of(db: &Connection) -> rusqlite::Result<Vec<(String, String, String)>> {
    let sql = "SELECT type, name, ifnull(sql, '') FROM sqlite_schema
               WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name";
    let mut query = db.prepare(sql)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

fn is_a_folder(path: &Path, kind: Kind) -> Error {
    Error::Foreign {
        path: path.into(),
        wanted: kind.name,
        why: "it is a folder".into(),
    }
}

/// The name of a file that stands beside `path`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a folder and those above it that are missing. Their names are on the disk after this, also
/// that of a folder which an earlier process made just before it was stopped.
///
/// # Errors
/// Where the system says no.
pub fn make_folder(folder: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.is_dir())
        .collect();
    if missing.is_empty() && !folder.as_os_str().is_empty() {
        return match sync_folder_of(folder) {
            // Who may not read the folder above did not make this one.
            Err(Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Ok(())
            }
            other => other,
        };
    }
    for new in missing.into_iter().rev() {
        match std::fs::create_dir(new) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e).at(new),
            Ok(()) | Err(_) => sync_folder_of(new)?,
        }
    }
    Ok(())
}

/// The names in the folder of `path` are on the disk after this.
///
/// # Errors
/// Where the system says no.
pub fn sync_folder_of(path: &Path) -> Result<(), Error> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).at(folder)
}

/// A new file under a name of its own until it is whole. Dropped before
/// [`Unfinished::publish`], it is removed.
#[derive(Debug)]
pub(crate) struct Unfinished {
    temporary: PathBuf,
    wanted: PathBuf,
    may_replace: bool,
}

impl Unfinished {
    /// For a file that must not be there yet.
    pub(crate) fn new_file(wanted: &Path) -> Result<Self, Error> {
        if wanted.symlink_metadata().is_ok() {
            return Err(Error::Exists(wanted.into()));
        }
        Ok(Self::begin(wanted, false))
    }

    /// For a file that may take the place of an older one.
    #[cfg(feature = "export")]
    pub(crate) fn replacing(wanted: &Path) -> Self {
        Self::begin(wanted, true)
    }

    fn begin(wanted: &Path, may_replace: bool) -> Self {
        let unfinished = Self {
            temporary: beside(wanted, &format!(".{}.partial", std::process::id())),
            wanted: wanted.into(),
            may_replace,
        };
        unfinished.remove();
        unfinished
    }

    /// Where to write until it is whole.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    fn remove(&self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = std::fs::remove_file(beside(&self.temporary, suffix));
        }
    }

    /// Syncs it and gives it its name, in one step.
    pub(crate) fn publish(self) -> Result<(), Error> {
        let file = File::open(&self.temporary).at(&self.temporary)?;
        file.sync_all().at(&self.temporary)?;
        drop(file);
        if !self.may_replace {
            match std::fs::hard_link(&self.temporary, &self.wanted) {
                Ok(()) => return sync_folder_of(&self.wanted),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::Exists(self.wanted.clone()));
                }
                // A file system without hard links: a rename, which may replace.
                Err(_) => {}
            }
        }
        std::fs::rename(&self.temporary, &self.wanted).at(&self.wanted)?;
        sync_folder_of(&self.wanted)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_with_those_above_it_and_again_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("ward").join("records");
        make_folder(&folder).unwrap();
        make_folder(&folder).unwrap();
        assert!(folder.is_dir());
        let file = folder.join("file");
        std::fs::write(&file, "").unwrap();
        let refused = make_folder(&file.join("x")).unwrap_err().to_string();
        assert!(refused.contains("file"), "{refused}");
    }
}
