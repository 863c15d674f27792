//! Golden records, and every alteration of one: of a byte, a row, a source's tail, the file.

use crate::chance::Chance;
use crate::golden;
use anyhow::Context;
use record::Record;
use record::trial_record::Hole;
use record::verify::{Evidence, Report};
use rusqlite::config::DbConfig;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const TABLES: [(&str, &str); 5] = [
    ("event", "source, seq"),
    ("trial", "key"),
    ("hole", "rowid"),
    ("receipt", "rowid"),
    ("quarantine", "rowid"),
];

/// What a record is worth before it is altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Closed and sealed: every alteration must be named with its place.
    Sealed,
    /// Not closed, or not by all: what was altered must be named, or lie in what is said to be unproven.
    Open,
    /// A diary: its rows are held by one digest, its words by nothing.
    Import,
}

/// A row as it stands in a golden record.
#[derive(Debug)]
struct Row {
    table: &'static str,
    /// The SQL that finds it.
    is: String,
    columns: Vec<String>,
    values: Vec<Value>,
}

/// A golden record and a copy to alter.
#[derive(Debug)]
pub(super) struct Golden {
    pub(super) name: &'static str,
    pub(super) path: PathBuf,
    /// Before any alteration.
    pub(super) exit: u8,
    kind: Kind,
    rows: Vec<Row>,
    bytes: Vec<u8>,
    copy: PathBuf,
}

/// One alteration; rows are named by their place in the golden record.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Byte {
        row: usize,
        column: usize,
        at: usize,
    },
    Delete {
        row: usize,
    },
    Swap {
        row: usize,
        with: usize,
    },
    Duplicate {
        row: usize,
    },
    Tail {
        row: usize,
    },
    FileByte {
        at: usize,
    },
    FileCut {
        len: usize,
    },
}

impl Change {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Byte { .. } => "bytes",
            Self::Delete { .. } => "rows_deleted",
            Self::Swap { .. } => "rows_swapped",
            Self::Duplicate { .. } => "rows_doubled",
            Self::Tail { .. } => "tails_cut",
            Self::FileByte { .. } => "file_bytes",
            Self::FileCut { .. } => "file_cuts",
        }
    }

    pub(super) fn is_of_file(&self) -> bool {
        matches!(self, Self::FileByte { .. } | Self::FileCut { .. })
    }

    fn row(&self) -> Option<usize> {
        match self {
            Self::Byte { row, .. }
            | Self::Delete { row }
            | Self::Swap { row, .. }
            | Self::Duplicate { row }
            | Self::Tail { row } => Some(*row),
            Self::FileByte { .. } | Self::FileCut { .. } => None,
        }
    }
}

fn literal(value: &Value) -> String {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => format!("CAST(x'{}' AS TEXT)", hex(text.as_bytes())),
        Value::Blob(bytes) => format!("x'{}'", hex(bytes)),
    }
}

/// The value with one byte changed; an unknown number becomes 0.
fn flipped(value: &Value, at: usize, mask: u8) -> String {
    match value {
        Value::Null | Value::Real(_) => "0".into(),
        Value::Integer(number) => {
            let mut bytes = number.to_le_bytes();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
            i64::from_le_bytes(bytes).to_string()
        }
        Value::Text(text) => {
            let mut bytes = text.as_bytes().to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
            let blob = literal(&Value::Blob(bytes));
            format!("CAST({blob} AS TEXT)")
        }
        Value::Blob(blob) => {
            let mut bytes = blob.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
            literal(&Value::Blob(bytes))
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null => 1,
        Value::Integer(_) | Value::Real(_) => 8,
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
    }
}

impl Row {
    fn integer(&self, column: &str) -> Option<i64> {
        let place = self.columns.iter().position(|name| name == column)?;
        match self.values.get(place) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    fn text(&self, column: &str) -> String {
        let place = self.columns.iter().position(|name| name == column);
        match place.and_then(|place| self.values.get(place)) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// Rows of one source, or of one table.
    fn same_group(&self, other: &Self) -> bool {
        let of_one = self.table != "event" || self.text("source") == other.text("source");
        self.table == other.table && of_one
    }
}

fn read_rows(db: &Connection) -> anyhow::Result<Vec<Row>> {
    let mut all = Vec::new();
    for (table, order) in TABLES {
        let id = if matches!(table, "event" | "trial") {
            "0"
        } else {
            "rowid"
        };
        let mut query = db.prepare(&format!("SELECT {id}, * FROM {table} ORDER BY {order}"))?;
        let columns: Vec<String> = query.column_names().skip(1).map(String::from).collect();
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let rowid: i64 = row.get(0)?;
            // Text that is no UTF-8 is kept as bytes.
            let held = |at: usize| {
                let value = row.get_ref(at)?;
                if let ValueRef::Text(bytes) = value
                    && std::str::from_utf8(bytes).is_err()
                {
                    return Ok(Value::Blob(bytes.to_vec()));
                }
                Value::try_from(value).map_err(anyhow::Error::from)
            };
            let values = (1..=columns.len())
                .map(held)
                .collect::<anyhow::Result<_>>()?;
            let mut read = Row {
                table,
                is: format!("rowid = {rowid}"),
                columns: columns.clone(),
                values,
            };
            if table == "event" {
                let seq = read.integer("seq").context("a seq")?;
                read.is = format!("source = '{}' AND seq = {seq}", read.text("source"));
            } else if table == "trial" {
                read.is = format!("key = '{}'", read.text("key"));
            }
            all.push(read);
        }
    }
    Ok(all)
}

impl Golden {
    /// All of them, written to a folder.
    pub(super) fn all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let mut all = Vec::new();
        let mut add = |name, kind, exit, write: &dyn Fn(&Path) -> anyhow::Result<()>| {
            let path = folder.join(format!("{name}.thecal"));
            write(&path)?;
            all.push(Self::open(name, kind, exit, path)?);
            anyhow::Ok(())
        };
        add("sealed", Kind::Sealed, 0, &|path| {
            golden::write_golden(path);
            Ok(())
        })?;
        add("holes", Kind::Sealed, 3, &|path| {
            let (pump, gateway) = golden::rows(1, true);
            golden::write_record(path, &[&pump, &gateway], true);
            Ok(())
        })?;
        add("noted", Kind::Sealed, 0, &|path| {
            let (pump, gateway) = golden::rows(1, false);
            golden::write_record(path, &[&pump, &gateway], false);
            let record = Record::open_or_create(path)?;
            for (from_seq, reason) in [(3, "not received"), (7, "not received, then it was")] {
                record.note_hole(&Hole {
                    source: golden::PUMP.into(),
                    from_seq,
                    to_seq: from_seq + 1,
                    reason: reason.into(),
                    noted_at_utc_ms: golden::START,
                })?;
            }
            for row in pump.iter().take(2) {
                record.quarantine(
                    row,
                    "another body stands under this identity",
                    golden::START,
                )?;
            }
            let by = golden::recorder_pair();
            for source in [golden::PUMP, golden::GATEWAY] {
                record.seal(source, "ward-1", &by, golden::START + 1)?;
            }
            record.close_sealed(
                "closed by pump and gateway",
                "ward-1",
                &by,
                golden::START + 1,
            )?;
            Ok(())
        })?;
        add("open", Kind::Open, 3, &|path| {
            let (pump, gateway) = golden::rows(1, false);
            let part = (pump.get(..22), gateway.get(..3));
            let (Some(pump), Some(gateway)) = part else {
                return Ok(());
            };
            golden::write_record(path, &[pump, gateway], false);
            Ok(())
        })?;
        // The pump lost events and closed; its gateway did not close, and no recorder signed.
        add("open-holes", Kind::Open, 3, &|path| {
            let (pump, gateway) = golden::rows(1, true);
            let gateway = gateway.get(..gateway.len() - 4).unwrap_or_default();
            golden::write_record(path, &[&pump, gateway], false);
            Ok(())
        })?;
        add("import", Kind::Import, 5, &|path| {
            let diary = path.with_extension("diary");
            std::fs::create_dir(&diary)?;
            std::fs::write(diary.join("trial.toml"), TRIAL)?;
            std::fs::write(diary.join("scores.csv"), SCORES)?;
            record::import::import(&diary, path, false).map_err(|e| anyhow::anyhow!("{e}"))?;
            Ok(())
        })?;
        Ok(all)
    }

    fn open(name: &'static str, kind: Kind, exit: u8, path: PathBuf) -> anyhow::Result<Self> {
        let db = Connection::open(&path)?;
        db.execute_batch("PRAGMA journal_mode=DELETE")?;
        let rows = read_rows(&db)?;
        drop(db);
        Ok(Self {
            name,
            exit,
            kind,
            rows,
            bytes: std::fs::read(&path)?,
            copy: path.with_extension("altered"),
            path,
        })
    }

    /// Every alteration there is; of the file's bytes and cuts only some that the seed picks, where
    /// not every one is asked for.
    pub(super) fn changes(&self, every: bool, seed: u64) -> Vec<Change> {
        let mut all = Vec::new();
        for (row, here) in self.rows.iter().enumerate() {
            for (column, value) in here.values.iter().enumerate() {
                all.extend((0..size(value)).map(|at| Change::Byte { row, column, at }));
            }
            all.push(Change::Delete { row });
            all.push(Change::Duplicate { row });
            all.push(Change::Tail { row });
            let next = self.rows.get(row + 1).filter(|next| next.same_group(here));
            all.extend(next.map(|_| Change::Swap { row, with: row + 1 }));
        }
        let places = |one_in: u64| {
            let first = usize::try_from(seed % one_in).unwrap_or(0);
            let step = usize::try_from(one_in).unwrap_or(1);
            let (first, step) = if every { (0, 1) } else { (first, step) };
            (first..self.bytes.len()).step_by(step)
        };
        all.extend(places(41).map(|at| Change::FileByte { at }));
        all.extend(places(97).map(|len| Change::FileCut { len }));
        all
    }

    /// Makes the alteration on a fresh copy; gives its path, and what was done in words. `None`
    /// where another row stands under that identity already, and SQLite refuses.
    pub(super) fn altered(
        &self,
        change: &Change,
        draw: &mut Chance,
    ) -> anyhow::Result<Option<(PathBuf, String)>> {
        let mut bytes = self.bytes.clone();
        let mask = u8::try_from(draw.below(255) + 1)?;
        match change {
            Change::FileByte { at } => {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte ^= mask;
                }
            }
            Change::FileCut { len } => bytes.truncate(*len),
            Change::Byte { .. }
            | Change::Delete { .. }
            | Change::Swap { .. }
            | Change::Duplicate { .. }
            | Change::Tail { .. } => {}
        }
        std::fs::write(&self.copy, &bytes)?;
        let sql = self.sql(change, mask);
        if let Some(sql) = &sql {
            let db = Connection::open(&self.copy)?;
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            db.execute_batch("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF")?;
            match db.execute_batch(sql) {
                Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    return Ok(None);
                }
                done => done.with_context(|| sql.clone())?,
            }
        }
        let what = sql.unwrap_or_else(|| format!("{change:?} mask {mask:#04x}"));
        Ok(Some((self.copy.clone(), what)))
    }

    fn sql(&self, change: &Change, mask: u8) -> Option<String> {
        let row = self.rows.get(change.row()?)?;
        let (table, is) = (row.table, &row.is);
        Some(match change {
            Change::Byte { column, at, .. } => {
                let (name, value) = (row.columns.get(*column)?, row.values.get(*column)?);
                let value = flipped(value, *at, mask);
                format!("UPDATE {table} SET {name} = {value} WHERE {is}")
            }
            Change::Delete { .. } => format!("DELETE FROM {table} WHERE {is}"),
            Change::Tail { .. } => match table {
                "event" => format!(
                    "DELETE FROM event WHERE source = '{}' AND seq >= {}",
                    row.text("source"),
                    row.integer("seq")?
                ),
                "trial" => format!("DELETE FROM trial WHERE key >= '{}'", row.text("key")),
                _ => format!("DELETE FROM {table} WHERE {}", is.replace('=', ">=")),
            },
            Change::Swap { with, .. } => {
                let other = self.rows.get(*with)?;
                if table == "event" {
                    let (a, b) = (row.integer("seq")?, other.integer("seq")?);
                    let (other, at) = (&other.is, format!("source = '{}'", row.text("source")));
                    return Some(format!(
                        "UPDATE event SET seq = -9 WHERE {is}; UPDATE event SET seq = {a} WHERE {other};
                         UPDATE event SET seq = {b} WHERE {at} AND seq = -9"
                    ));
                }
                let set = |to: &str, from: &Row| {
                    let skip = usize::from(table == "trial");
                    let columns = from.columns.iter().zip(&from.values).skip(skip);
                    let values: Vec<String> = columns
                        .map(|(name, value)| format!("{name} = {}", literal(value)))
                        .collect();
                    format!("UPDATE {table} SET {} WHERE {to};", values.join(", "))
                };
                format!("{}{}", set(is, other), set(&other.is, row))
            }
            Change::Duplicate { .. } => {
                let values = row.columns.iter().zip(&row.values).map(|(name, value)| {
                    match (table, name.as_str()) {
                        ("event", "seq") => self.free_seq(row).to_string(),
                        ("trial", "key") => format!("'{}.2'", row.text("key")),
                        _ => literal(value),
                    }
                });
                let values: Vec<String> = values.collect();
                format!("INSERT INTO {table} VALUES ({})", values.join(", "))
            }
            Change::FileByte { .. } | Change::FileCut { .. } => return None,
        })
    }

    fn free_seq(&self, row: &Row) -> i64 {
        let group = self.rows.iter().filter(|other| other.same_group(row));
        group.filter_map(|r| r.integer("seq")).max().unwrap_or(0) + 1
    }

    /// Whether the report names what was done, and where.
    pub(super) fn names(
        &self,
        report: &Report,
        change: &Change,
        path: &Path,
    ) -> anyhow::Result<bool> {
        if report.evidence == Evidence::Altered && change.is_of_file() {
            return Ok(true);
        }
        let Some(row) = change.row().and_then(|row| self.rows.get(row)) else {
            // A byte of the file that no reader reads changes nothing that is read; another one may
            // lie in what is said to be unproven.
            let now = read_rows(&Connection::open(path)?)?;
            let mut changed = now
                .iter()
                .zip(&self.rows)
                .filter(|(a, b)| a.values != b.values);
            let unproven = changed.all(|(_, then)| self.is_beyond_proof(report, then));
            let whole = now.len() == self.rows.len();
            return Ok(report.evidence.exit_code() == self.exit && whole && unproven);
        };
        if row.table == "event" && self.names_event(report, change, row)
            || self.is_beyond_proof(report, row)
        {
            return Ok(true);
        }
        Ok(match (self.kind, row.table) {
            (Kind::Import, "event") => report.evidence == Evidence::Altered,
            (_, "event") | (Kind::Open | Kind::Import, _) => false,
            (Kind::Sealed, "receipt") => {
                let named = report.wrong.iter().any(|wrong| wrong.contains("receipt"));
                named || report.unsealed_rows > 0 || !report.tables_sealed
            }
            (Kind::Sealed, "trial") => {
                let of_trial =
                    |w: &String| w.starts_with("trial ") || w.starts_with("table trial:");
                let key = row.text("key");
                let whose = key.strip_prefix("gateway_key.").unwrap_or("?");
                let named = report
                    .wrong
                    .iter()
                    .any(|w| of_trial(w) || w.starts_with(whose));
                named || report.unsealed_rows > 0
            }
            (Kind::Sealed, table) => {
                let place = format!("table {table}:");
                let named = report.wrong.iter().any(|wrong| wrong.starts_with(&place));
                named || report.unsealed_rows > 0
            }
        })
    }

    /// Whether nobody vouches for the row, and the report makes no claim for it.
    fn is_beyond_proof(&self, report: &Report, row: &Row) -> bool {
        match (self.kind, row.table) {
            (Kind::Open, "event") => is_said_unproven(report, row),
            (Kind::Sealed, _) | (Kind::Import, "event") => false,
            // A diary's words, and the notes of an open record.
            (Kind::Open | Kind::Import, _) => report.evidence.exit_code() != 0,
        }
    }

    /// The report's places of the row as it was or as it is now.
    fn names_event(&self, report: &Report, change: &Change, row: &Row) -> bool {
        let seq = row.integer("seq").unwrap_or(0);
        let source = row.text("source");
        let mut seqs = vec![seq];
        if let Change::Duplicate { .. } = change {
            seqs = vec![self.free_seq(row)];
        }
        if let Change::Swap { with, .. } = change {
            seqs.extend(self.rows.get(*with).and_then(|other| other.integer("seq")));
        }
        let moves = |name: &str| {
            matches!(change, Change::Byte { column, .. }
                if row.columns.get(*column).is_some_and(|c| c == name))
        };
        let missing = report.missing.iter().any(|m| {
            let within = |seq: &i64| {
                u64::try_from(*seq).is_ok_and(|seq| (m.from_seq..=m.to_seq).contains(&seq))
            };
            m.source == source && seqs.iter().any(within)
        });
        let wrong = report.wrong.iter().any(|wrong| {
            // A row whose identity was changed is named where it is now.
            let elsewhere = moves("source") && !wrong.starts_with(&format!("{source}:"))
                || moves("boot") && wrong.starts_with(&format!("{source}:"))
                || moves("seq") && wrong.starts_with(&format!("{source}:"));
            elsewhere || seqs.iter().any(|seq| names_seq(wrong, &source, *seq))
        });
        missing || wrong
    }
}

/// Whether what was altered lies where an open record is said to prove nothing: not signed
/// yet, or with times for which nobody vouches.
fn is_said_unproven(report: &Report, row: &Row) -> bool {
    let seq = row.integer("seq").and_then(|seq| u64::try_from(seq).ok());
    let source = row.text("source");
    let mut said = report
        .unsigned_from
        .iter()
        .chain(&report.times_not_proven_from);
    matches!(report.evidence, Evidence::Open | Evidence::Gaps)
        && said.any(|(of, from)| *of == source && seq.is_some_and(|seq| seq >= *from))
}

/// Whether a place speaks of this event: its own identity, or a range of seqs it lies in.
fn names_seq(wrong: &str, source: &str, seq: i64) -> bool {
    let place = wrong.split(": ").next().unwrap_or("");
    let mut parts = place.split(':');
    let own = (parts.next(), parts.next(), parts.next());
    if let (Some(of), Some(_), Some(at)) = own
        && of == source
        && at == seq.to_string()
    {
        return true;
    }
    let words: Vec<&str> = wrong.split([' ', ':', ')', ',']).collect();
    words.windows(5).any(|w| match w {
        [who, "seq", from, "to", to] => {
            (*who == source || wrong.starts_with(&format!("{source}:")))
                && from.parse::<i64>().is_ok_and(|from| from <= seq)
                && to.parse::<i64>().is_ok_and(|to| seq <= to)
        }
        _ => false,
    })
}

const TRIAL: &str = "trial_id = \"D-0001\"
bed = \"07\"
drug = \"morphine\"
concentration_mcg_per_ml = 500
route = \"intrathecal\"
zone = \"Europe/Berlin\"
baseline_start = 2026-03-01T08:00:00Z
trial_start = 2026-03-02T08:00:00Z
trial_end = 2026-03-03T08:00:00Z
";
const SCORES: &str = "at,score
2026-03-01T09:00:00Z,7
2026-03-01T15:00:00Z,8
2026-03-02T09:00:00Z,5
2026-03-02T15:00:00Z,3
2026-03-02T21:00:00Z,
";
