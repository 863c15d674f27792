//! The one row that record and spool share: as SQLite holds it, as a digest takes it.

use protocol::hex::{Hex, Tag};
use protocol::message::Source;
use protocol::topics::EventRow;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

/// The columns of an event, in the order of digests, without a spool's `trial`.
pub(crate) const COLUMNS: &str = "source, boot, seq, tick_ms, at_utc_ms, at_uncertainty_ms, kind, body, raw, tag, received_at_utc_ms";

/// An event row as SQLite holds it; the body's text is kept to the letter.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRow {
    /// The row. Where it is damaged, the columns that cannot be read are 0, empty or null.
    pub row: EventRow,
    /// The body column's text.
    pub body_text: String,
    /// What makes it no row that any program of ours writes: its identity and the first column
    /// that cannot be read. `None` for every sound row.
    pub damaged: Option<String>,
}

/// Reads columns one by one and notes the first that cannot be what it should be.
struct Columns<'r, 's> {
    row: &'r Row<'s>,
    first: usize,
    wrong: Option<String>,
}

impl Columns<'_, '_> {
    fn value(&self, column: usize) -> ValueRef<'_> {
        self.row
            .get_ref(self.first + column)
            .unwrap_or(ValueRef::Null)
    }

    fn note(&mut self, name: &str, why: &str) {
        self.wrong.get_or_insert_with(|| format!("{name} {why}"));
    }

    fn integer(&mut self, column: usize, name: &str) -> i64 {
        if let ValueRef::Integer(value) = self.value(column) {
            return value;
        }
        self.note(name, "is no integer");
        0
    }

    fn count<T: TryFrom<i64> + Default>(&mut self, column: usize, name: &str) -> T {
        let value = self.integer(column, name);
        T::try_from(value).unwrap_or_else(|_| {
            self.note(name, &format!("is {value}"));
            T::default()
        })
    }

    fn text(&mut self, column: usize, name: &str) -> String {
        let text = match self.value(column) {
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().map(String::from),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => None,
        };
        text.unwrap_or_else(|| {
            self.note(name, "is no text");
            String::new()
        })
    }

    fn bytes(&mut self, column: usize, name: &str) -> Vec<u8> {
        if let ValueRef::Blob(bytes) = self.value(column) {
            return bytes.to_vec();
        }
        self.note(name, "is no blob");
        Vec::new()
    }
}

/// A source's name for people, whatever stands in the column.
pub(crate) fn shown_name(value: ValueRef<'_>) -> String {
    if let ValueRef::Text(bytes) = value {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        "?".into()
    }
}

impl StoredRow {
    /// Reads a row whatever stands in it; only SQLite itself can fail.
    pub(crate) fn read(row: &Row<'_>, first: usize) -> Self {
        let mut columns = Columns {
            row,
            first,
            wrong: None,
        };
        let name = columns.text(0, "source");
        let shown = shown_name(columns.value(0));
        let source = Source::new(&name).unwrap_or_else(|| {
            columns.note("source", "is no name");
            Source::new("-").expect("a hyphen is a name")
        });
        let boot = columns.count(1, "boot");
        let seq = columns.count(2, "seq");
        let tick_ms = columns.count(3, "tick_ms");
        let at_utc_ms = columns.integer(4, "at_utc_ms");
        let at_uncertainty_ms = match columns.value(5) {
            ValueRef::Null => None,
            ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => {
                Some(columns.count(5, "at_uncertainty_ms"))
            }
        };
        let kind = columns.text(6, "kind");
        let body_text = columns.text(7, "body");
        let body = serde_json::from_str(&body_text).unwrap_or_else(|_| {
            columns.note("body", "is no JSON");
            serde_json::Value::Null
        });
        let raw = columns.bytes(8, "raw");
        let tag = columns.bytes(9, "tag");
        let tag = <[u8; 16]>::try_from(tag).unwrap_or_else(|_| {
            columns.note("tag", "is not 16 bytes");
            NO_TAG.0
        });
        let received_at_utc_ms = columns.integer(10, "received_at_utc_ms");
        let row = EventRow {
            source,
            boot,
            seq,
            tick_ms,
            at_utc_ms,
            at_uncertainty_ms,
            kind,
            body,
            raw,
            tag: Hex(tag),
            received_at_utc_ms,
        };
        let damaged = columns
            .wrong
            .map(|why| format!("{shown}:{}:{}: {why}", row.boot, row.seq));
        Self {
            row,
            body_text,
            damaged,
        }
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

    /// One more row as SQLite holds it, its columns in the order of [`COLUMNS`]: the same as
    /// [`RowsDigest::add`] of the row that was stored, without decoding it.
    pub(crate) fn add_as_held(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        self.add_columns(row, 11)
    }

    /// One more row of so many columns, of any table.
    pub(crate) fn add_columns(&mut self, row: &Row<'_>, columns: usize) -> rusqlite::Result<()> {
        self.rows += 1;
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => self.hash.update(u32::MAX.to_le_bytes()),
                ValueRef::Integer(value) => self.column(value.to_string().as_bytes()),
                ValueRef::Real(value) => self.column(value.to_string().as_bytes()),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => self.column(bytes),
            }
        }
        Ok(())
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

/// Why a row is set aside that [`fits`] refuses.
pub(crate) const TOO_LARGE: &str = "a number in it is larger than a file can hold";

/// Whether SQLite can hold the row: its integers are signed. No honest source comes near.
pub(crate) fn fits(row: &EventRow) -> bool {
    let numbers = [row.seq, row.tick_ms, row.at_uncertainty_ms.unwrap_or(0)];
    numbers.iter().all(|number| i64::try_from(*number).is_ok())
}

/// The nearest number that SQLite can hold.
pub(crate) fn nearest(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
