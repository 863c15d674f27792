//! Writes records as a Parquet dataset: `trial=<id>/events.parquet`, one row an event, and
//! `manifest.json` with the SHA-256 of each file.
//!
//! A dataset is a copy for analysis, never the record of truth. Each file and the manifest appear
//! whole or not at all, the manifest last. The same record always gives the same bytes. An altered
//! record is refused: in a table nothing would show it any more.

use crate::columns::{COLUMNS, Cell, Column, Kind, row_cells};
use crate::store::{At, Error, Unfinished, canonical_json, sync_folder_of};
use crate::trial_record::Record;
use crate::verify::{Evidence, Options, Report, verify};
use parquet::basic::Type as Physical;
use parquet::basic::{Compression, ConvertedType, Encoding, LogicalType, Repetition, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the form of a dataset's manifest.
pub const DATASET_SCHEMA: &str = "thecal.dataset/1";
/// The name of the form of its files.
pub const EVENTS_SCHEMA: &str = "thecal.events/1";
const SOFTWARE: &str = concat!("thecal ", env!("CARGO_PKG_VERSION"));
const MANIFEST: &str = "manifest.json";
/// Rows of a row group, and so the most that are held in memory.
const GROUP: usize = 131_072;

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Trials written.
    pub trials: usize,
    /// Events in them.
    pub events: u64,
    /// Their files, in the order of the records.
    pub files: Vec<PathBuf>,
}

/// `manifest.json` of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetManifest {
    /// [`DATASET_SCHEMA`].
    pub schema: String,
    /// Name and version of the program that wrote it last.
    pub software: String,
    /// The files, in order of their paths.
    pub files: Vec<DatasetFile>,
}

/// A file of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetFile {
    /// From the dataset's folder, with `/`.
    pub path: String,
    /// The trial.
    pub trial: String,
    /// Rows, which are events.
    pub rows: u64,
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// SHA-256 over all rows of the record, hex, as `verify` gives it.
    pub record_digest: String,
    /// What `verify` said of the record: `complete`, `imported`, `open` or `gaps`.
    pub evidence: String,
    /// Holes in the record.
    pub holes: u64,
}

/// Writes each of `records` into the dataset `dir`, which is made where there is none. Trials that
/// are in the dataset already and are not among `records` stay.
///
/// # Errors
/// Where a record cannot be read, is altered, names no trial or the trial of another one, and
/// where `dir` cannot be written or its `manifest.json` is not a dataset's. Files that were
/// finished before the error are whole, and not in the manifest.
pub fn export(records: &[PathBuf], dir: &Path) -> Result<Exported, Error> {
    let mut reports = BTreeMap::new();
    for path in records {
        let report = checked(path)?;
        if let Some((other, _)) = reports.insert(report.trial_id.clone(), (path, report)) {
            let why = "its trial is that of another record of this export, ";
            return Err(wrong(
                path,
                "trial trial_id",
                &format!("{why}{}", other.display()),
            ));
        }
    }
    std::fs::create_dir_all(dir).at(dir)?;
    sync_folder_of(dir)?;
    let manifest_path = dir.join(MANIFEST);
    let mut files = known_files(&manifest_path, dir)?;
    let mut done = Exported {
        trials: 0,
        events: 0,
        files: Vec::new(),
    };
    for (trial, (path, report)) in &reports {
        let relative = format!("trial={trial}/events.parquet");
        let folder = dir.join(format!("trial={trial}"));
        std::fs::create_dir_all(&folder).at(&folder)?;
        sync_folder_of(&folder)?;
        let file = folder.join("events.parquet");
        let rows = write_events(path, report, &file)?;
        let (sha256, bytes) = hash_of(&file)?;
        done.trials += 1;
        done.events += rows;
        done.files.push(file);
        let entry = DatasetFile {
            path: relative.clone(),
            trial: trial.clone(),
            rows,
            bytes,
            sha256,
            record_digest: report.digest.to_string(),
            evidence: evidence_word(report.evidence).into(),
            holes: count(report.missing.len()),
        };
        files.insert(relative, entry);
    }
    let manifest = DatasetManifest {
        schema: DATASET_SCHEMA.into(),
        software: SOFTWARE.into(),
        files: files.into_values().collect(),
    };
    let mut text = serde_json::to_string_pretty(&manifest).expect("plain structs always serialize");
    text.push('\n');
    let unfinished = Unfinished::replacing(&manifest_path);
    std::fs::write(unfinished.path(), text).at(&manifest_path)?;
    unfinished.publish()?;
    Ok(done)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn wrong(path: &Path, place: &str, why: &str) -> Error {
    Error::Row {
        path: path.into(),
        place: place.into(),
        why: why.into(),
    }
}

fn evidence_word(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Complete => "complete",
        Evidence::Imported => "imported",
        Evidence::Open => "open",
        Evidence::Gaps => "gaps",
        Evidence::Altered => "altered",
    }
}

fn checked(path: &Path) -> Result<Report, Error> {
    let report = verify(path, &Options::default())?;
    if report.evidence == Evidence::Altered {
        let first = report.wrong.first().map_or("altered", String::as_str);
        return Err(wrong(path, "not verified, so not exported", first));
    }
    if !protocol::text::is_name(&report.trial_id) {
        let why = format!("{:?} is no name that a folder may have", report.trial_id);
        return Err(wrong(path, "trial trial_id", &why));
    }
    Ok(report)
}

/// The files that a dataset has already.
fn known_files(path: &Path, dir: &Path) -> Result<BTreeMap<String, DatasetFile>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(e).at(path),
    };
    let there: DatasetManifest = serde_json::from_str(&text)
        .map_err(|e| wrong(path, "line 1", &format!("not a dataset's manifest: {e}")))?;
    if there.schema != DATASET_SCHEMA {
        let why = format!(
            "is {:?}, this program writes {DATASET_SCHEMA}",
            there.schema
        );
        return Err(wrong(path, "schema", &why));
    }
    let still = |file: &DatasetFile| {
        let trial = &file.trial;
        protocol::text::is_name(trial)
            && file.path == format!("trial={trial}/events.parquet")
            && dir.join(&file.path).is_file()
    };
    let files = there.files.into_iter().filter(still);
    Ok(files.map(|file| (file.path.clone(), file)).collect())
}

fn hash_of(path: &Path) -> Result<(String, u64), Error> {
    let mut file = File::open(path).at(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).at(path)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            break;
        };
        hash.update(part);
        bytes += count(read);
    }
    let digest = protocol::hex::Hex::<32>(hash.finalize().into());
    Ok((digest.to_string(), bytes))
}

/// What SQLite, Parquet or the disk said, as one error of this file.
fn parquet_error(path: &Path) -> impl Fn(ParquetError) -> Error {
    let path = path.to_owned();
    move |e| Error::Io {
        path: path.clone(),
        source: std::io::Error::other(e),
    }
}

fn write_events(from: &Path, report: &Report, to: &Path) -> Result<u64, Error> {
    let record = Record::open_read_only(from)?;
    let unfinished = Unfinished::replacing(to);
    let failed = parquet_error(to);
    let file = File::create(unfinished.path()).at(to)?;
    let words = key_values(&record, report)?;
    let schema = schema().map_err(&failed)?;
    let mut writer = SerializedFileWriter::new(file, schema, properties(words)).map_err(&failed)?;
    let mut group: Vec<Buffer> = COLUMNS.iter().map(Buffer::new).collect();
    let mut held = 0;
    let mut rows = 0;
    record.for_each_event(|stored| {
        for (buffer, cell) in group.iter_mut().zip(row_cells(&stored.row)) {
            buffer.push(cell);
        }
        held += 1;
        rows += 1;
        if held == GROUP {
            held = 0;
            flush(&mut writer, &mut group).map_err(&failed)?;
        }
        Ok(())
    })?;
    if held > 0 {
        flush(&mut writer, &mut group).map_err(&failed)?;
    }
    writer.close().map_err(&failed)?;
    unfinished.publish()?;
    Ok(rows)
}

/// What stands in the file beside the rows.
fn key_values(record: &Record, report: &Report) -> Result<Vec<(String, String)>, Error> {
    let mut sources = Vec::new();
    for (source, events, last_seq) in record.sources()? {
        let first_seq = record.rows_bounds(&source)?.0;
        sources.push(serde_json::json!({
            "source": source, "first_seq": first_seq, "last_seq": last_seq, "events": events,
        }));
    }
    let word = |key: &str| record.meta(key).map(Option::unwrap_or_default);
    let mut words = vec![
        ("schema", EVENTS_SCHEMA.to_owned()),
        ("software", SOFTWARE.into()),
        ("trial", report.trial_id.clone()),
        ("origin", word("origin")?),
        ("zone", word("zone")?),
        (
            "time",
            "columns _utc_ms: milliseconds since 1970-01-01T00:00:00Z, trial time; tick_ms: since the source's boot"
                .into(),
        ),
        (
            "units",
            "the unit ends a column's name: nl nanoliter, mcg microgram, ms millisecond, h hour; _milli times 1000"
                .into(),
        ),
        ("order", "source, seq; never by time, clocks are set".into()),
        ("events", report.events.to_string()),
        ("sources", serde_json::Value::from(sources).to_string()),
        ("holes", report.missing.len().to_string()),
        ("evidence", evidence_word(report.evidence).into()),
        ("record_digest", report.digest.to_string()),
        ("manifest", word("manifest")?),
    ];
    if let Ok(mut import) = serde_json::from_str::<serde_json::Value>(&word("import")?) {
        // What is known of the patient stays in the record.
        import
            .as_object_mut()
            .map(|members| members.remove("context"));
        words.push(("import", canonical_json(&import)));
    }
    let named = |(key, value): (&str, String)| (format!("thecal.{key}"), value);
    Ok(words
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(named)
        .collect())
}

fn properties(words: Vec<(String, String)>) -> WriterPropertiesPtr {
    let place = |name| crate::columns::index_of(name).and_then(|place| i32::try_from(place).ok());
    let sorting = ["source", "seq"].into_iter().filter_map(|name| {
        Some(SortingColumn {
            column_idx: place(name)?,
            descending: false,
            nulls_first: false,
        })
    });
    let words = words
        .into_iter()
        .map(|(key, value)| KeyValue::new(key, value));
    let mut builder = WriterProperties::builder()
        .set_created_by(SOFTWARE.into())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_sorting_columns(Some(sorting.collect()))
        .set_key_value_metadata(Some(words.collect()));
    if let Ok(level) = ZstdLevel::try_new(3) {
        builder = builder.set_compression(Compression::ZSTD(level));
    }
    for column in COLUMNS.iter().filter(|column| column.kind == Kind::Int) {
        let path = ColumnPath::from(column.name);
        builder = builder
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
            .set_column_dictionary_enabled(path, false);
    }
    Arc::new(builder.build())
}

fn schema() -> Result<TypePtr, ParquetError> {
    let field = |column: &Column| {
        let (physical, logical) = match column.kind {
            Kind::Int => (Physical::INT64, None),
            Kind::Bool => (Physical::BOOLEAN, None),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let repetition = if column.required {
            Repetition::REQUIRED
        } else {
            Repetition::OPTIONAL
        };
        let converted = match column.kind {
            Kind::Text => ConvertedType::UTF8,
            Kind::Int | Kind::Bool => ConvertedType::NONE,
        };
        Type::primitive_type_builder(column.name, physical)
            .with_repetition(repetition)
            .with_converted_type(converted)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let fields = COLUMNS.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder("event")
        .with_fields(fields)
        .build()
        .map(Arc::new)
}

/// A column's values of one row group.
struct Buffer {
    required: bool,
    values: Values,
    /// 1 for each value, 0 for each null.
    levels: Vec<i16>,
}

enum Values {
    Ints(Vec<i64>),
    Bools(Vec<bool>),
    Texts(Vec<ByteArray>),
}

impl Buffer {
    fn new(column: &Column) -> Self {
        Self {
            required: column.required,
            values: match column.kind {
                Kind::Int => Values::Ints(Vec::new()),
                Kind::Bool => Values::Bools(Vec::new()),
                Kind::Text => Values::Texts(Vec::new()),
            },
            levels: Vec::new(),
        }
    }

    fn push(&mut self, cell: Cell) {
        let level = match (&mut self.values, cell) {
            (Values::Ints(values), Cell::Int(value)) => {
                values.push(value);
                1
            }
            (Values::Bools(values), Cell::Bool(value)) => {
                values.push(value);
                1
            }
            (Values::Texts(values), Cell::Text(value)) => {
                values.push(value.as_str().into());
                1
            }
            _ => 0,
        };
        self.levels.push(level);
    }
}

fn flush<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    group: &mut [Buffer],
) -> Result<(), ParquetError> {
    let mut rows = writer.next_row_group()?;
    for buffer in group.iter_mut() {
        flush_column(&mut rows, buffer)?;
        buffer.levels.clear();
        match &mut buffer.values {
            Values::Ints(values) => values.clear(),
            Values::Bools(values) => values.clear(),
            Values::Texts(values) => values.clear(),
        }
    }
    rows.close().map(|_| ())
}

fn flush_column<W: Write + Send>(
    rows: &mut SerializedRowGroupWriter<'_, W>,
    buffer: &Buffer,
) -> Result<(), ParquetError> {
    let none = || ParquetError::General("fewer columns than the schema has".into());
    let mut column = rows.next_column()?.ok_or_else(none)?;
    let levels = (!buffer.required).then_some(buffer.levels.as_slice());
    match &buffer.values {
        Values::Ints(values) => column
            .typed::<Int64Type>()
            .write_batch(values, levels, None)?,
        Values::Bools(values) => column
            .typed::<BoolType>()
            .write_batch(values, levels, None)?,
        Values::Texts(values) => column
            .typed::<ByteArrayType>()
            .write_batch(values, levels, None)?,
    };
    column.close()
}
