//! A CSV file as rows of named fields: UTF-8, with or without BOM, any line ends, commas only.

use super::Bad;
use std::path::Path;

/// The most bytes of a file: more than any diary, less than would hurt.
const FILE_MAX: u64 = 64 << 20;

/// A table with a checked header.
#[derive(Debug)]
pub(super) struct Table {
    file: String,
    columns: &'static [&'static str],
    /// Where each of `columns` stands in the file.
    places: Vec<Option<usize>>,
    fields: usize,
    rows: Vec<(u64, csv::ByteRecord)>,
    broken: Vec<Bad>,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableRow<'a> {
    table: &'a Table,
    /// Line in the file, from 1.
    pub(super) line: u64,
    record: &'a csv::ByteRecord,
}

/// The text of a file, without a BOM. `Ok(None)` where there is none.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn bytes_of(path: &Path) -> Result<Option<Vec<u8>>, Bad> {
    let bad = |reason: String| Bad {
        file: path.display().to_string(),
        line: 1,
        column: 1,
        reason,
    };
    match path.metadata() {
        Ok(meta) if meta.len() > FILE_MAX => Err(bad(format!("longer than {FILE_MAX} bytes"))),
        Ok(meta) if !meta.is_file() => Err(bad("is no file".into())),
        Ok(_) => {
            let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
                return Err(bad("is UTF-16; save it as UTF-8".into()));
            }
            Ok(Some(text.to_vec()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(bad(e.to_string())),
    }
}

/// Counts the lines up to a record. The reader gives a record's place before the line ends that
/// it skips, so its own count is short after an empty line and after CRLF.
struct Lines<'a> {
    bytes: &'a [u8],
    seen: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            seen: 0,
            line: 1,
        }
    }

    /// The line of the first byte from `offset` on that ends no line. Offsets ascend.
    fn at(&mut self, offset: u64) -> u64 {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        while let Some(byte) = self.bytes.get(self.seen) {
            if self.seen >= offset && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            let next = self.bytes.get(self.seen + 1);
            self.line += u64::from(*byte == b'\n' || *byte == b'\r' && next != Some(&b'\n'));
            self.seen += 1;
        }
        self.line
    }
}

impl Table {
    /// Reads a table whose header may hold `columns` in any order, the first `required` of them
    /// always.
    ///
    /// # Errors
    /// The first thing wrong with the header.
    pub(super) fn read(
        file: String,
        bytes: &[u8],
        columns: &'static [&'static str],
        required: usize,
    ) -> Result<Self, Bad> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let mut table = Self {
            file,
            columns,
            places: vec![None; columns.len()],
            fields: 0,
            rows: Vec::new(),
            broken: Vec::new(),
        };
        let mut header = true;
        let mut lines = Lines::of(bytes);
        let mut line = 1;
        for record in reader.byte_records() {
            let record = match record {
                Ok(record) => record,
                Err(e) => {
                    table.broken.push(table.bad(line, 1, e.to_string()));
                    break;
                }
            };
            line = lines.at(record.position().map_or(0, csv::Position::byte));
            if header {
                table.header(line, &record, required)?;
                header = false;
            } else {
                table.rows.push((line, record));
            }
        }
        if header {
            let wanted = columns.join(",");
            return Err(table.bad(1, 1, format!("is empty; its first line is {wanted}")));
        }
        // The reader takes what a file was cut in for whole.
        if ends_in_quotes(bytes)
            && let Some((line, record)) = table.rows.pop()
        {
            let at = number(record.len().saturating_sub(1));
            let reason = "a quote is opened and never closed".into();
            table.broken.push(table.bad(line, at, reason));
        }
        Ok(table)
    }

    fn header(&mut self, line: u64, record: &csv::ByteRecord, required: usize) -> Result<(), Bad> {
        self.fields = record.len();
        for (place, name) in record.iter().enumerate() {
            let at = number(place);
            let Ok(name) = std::str::from_utf8(name) else {
                return Err(self.bad(line, at, "is not UTF-8".into()));
            };
            let Some(known) = self.columns.iter().position(|column| *column == name) else {
                let name = protocol::text::clean(name, 60);
                let hint = if name.contains([';', '\t']) {
                    "fields are separated by commas only"
                } else {
                    "known are"
                };
                let known = self.columns.join(",");
                return Err(self.bad(line, at, format!("unknown column {name:?}; {hint} {known}")));
            };
            match self.places.get_mut(known) {
                Some(slot @ None) => *slot = Some(place),
                Some(Some(_)) | None => {
                    return Err(self.bad(line, at, format!("column {name} stands there twice")));
                }
            }
        }
        let missing = self.columns.iter().zip(&self.places).take(required);
        for (name, place) in missing {
            if place.is_none() {
                return Err(self.bad(line, 1, format!("column {name} is missing")));
            }
        }
        Ok(())
    }

    fn bad(&self, line: u64, column: u64, reason: String) -> Bad {
        Bad {
            file: self.file.clone(),
            line,
            column,
            reason,
        }
    }

    /// What could not be read as rows at all.
    pub(super) fn broken(&self) -> &[Bad] {
        &self.broken
    }

    /// Its rows, in order of the file.
    pub(super) fn rows(&self) -> impl Iterator<Item = TableRow<'_>> {
        self.rows.iter().map(|(line, record)| TableRow {
            table: self,
            line: *line,
            record,
        })
    }
}

impl<'a> TableRow<'a> {
    /// The number of fields is that of the header.
    ///
    /// # Errors
    /// Where it is not.
    pub(super) fn whole(&self) -> Result<(), Bad> {
        let (seen, wanted) = (self.record.len(), self.table.fields);
        if seen == wanted {
            return Ok(());
        }
        let at = number(seen.min(wanted).saturating_sub(1));
        Err(self.table.bad(
            self.line,
            at,
            format!("{seen} fields, the header has {wanted}"),
        ))
    }

    /// The text of a field; empty where the file has no such column.
    ///
    /// # Errors
    /// Where it is not UTF-8, or holds what may not be shown.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, Bad> {
        let place = self.place(name);
        let Some(bytes) = place.and_then(|place| self.record.get(place)) else {
            return Ok("");
        };
        let text = std::str::from_utf8(bytes).map_err(|_| self.bad(name, "is not UTF-8"))?;
        if text.chars().all(protocol::text::shows) {
            Ok(text)
        } else {
            Err(self.bad(name, "holds control or invisible characters"))
        }
    }

    /// Names the field, and what is wrong with it.
    pub(super) fn bad(&self, name: &str, reason: impl std::fmt::Display) -> Bad {
        let at = number(self.place(name).unwrap_or(0));
        self.table.bad(self.line, at, format!("{name} {reason}"))
    }

    fn place(&self, name: &str) -> Option<usize> {
        let known = self.table.columns.iter().position(|c| *c == name)?;
        self.table.places.get(known).copied().flatten()
    }
}

/// Whether the last field begins with a quote and has no second one.
fn ends_in_quotes(bytes: &[u8]) -> bool {
    let (mut begins, mut quoted) = (true, false);
    for byte in bytes {
        let quote = *byte == b'"' && (begins || quoted);
        // Of two quotes within a field the first closes it and the second opens it again.
        let closes = quote && quoted;
        quoted ^= quote;
        begins = closes || !quoted && matches!(byte, b',' | b'\r' | b'\n');
    }
    quoted
}

fn number(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::ends_in_quotes;

    #[test]
    fn an_open_quote_is_told_from_closed_ones_and_from_those_within_a_field() {
        for (text, open) in [
            ("at,score\n1,\"7\n", true),
            ("at,score\n1,\"7\"\n", false),
            ("at,score\n1,\"7\"\"\n", true),
            ("at,score\n1,\"7\"\"\"\n", false),
            ("at,score\n1,\"\"\n", false),
            ("a,b\n\"1,2\n3\",4", false),
            ("a,b\n1,5\" tube", false),
            ("a,b\n1,\"", true),
            ("", false),
        ] {
            assert_eq!(ends_in_quotes(text.as_bytes()), open, "{text:?}");
        }
    }
}
