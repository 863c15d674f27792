//! A record, a dataset or plain rows, made into tables that satisfy [`crate::schema`].
//!
//! [`Tables`] holds two frames: the counters of delivery, which are almost all rows of a trial, and
//! all other events. Rows go in one by one and leave as columns of integers, a block at a time, so
//! that a trial with an event a second is never held as rows. Both frames have [`schema::AT_MS`]:
//! for a pump the anchor of its start plus its tick, so that the gateway's jitter changes no
//! verdict; for an entry the time that its author gave; else the row's own time.

use crate::anchor::anchors;
use crate::input::{Header, Proof, TrialInput};
use crate::schema;
use polars::prelude::*;
use protocol::manifest::Manifest;
use protocol::topics::EventRow;
use record::columns::{Cell, Kind, cell};
use record::trial_record::Record;
use std::path::Path;

/// Rows in a block.
const BLOCK: usize = 32_768;
/// Why a trial cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// A query failed.
    #[error("query: {0}")]
    Query(#[from] PolarsError),
    /// A record that is not altered has no word about its trial.
    #[error("the record has no {0}")]
    Missing(&'static str),
    /// A word about the trial is not what it should be.
    #[error("{what} of the record: {why}")]
    Word {
        /// Which.
        what: &'static str,
        /// What was wrong.
        why: String,
    },
}

/// A trial as the measures take it in.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What is known before the first event.
    pub header: Header,
    /// What the proof says.
    pub proof: Proof,
    /// Its events.
    pub tables: Tables,
}

/// The events of a trial as frames.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Columns [`schema::EVENTS`] and [`schema::AT_MS`], in order of time, source, seq; all kinds
    /// but `delivered` and [`schema::NOT_READ`].
    pub events: DataFrame,
    /// Columns [`schema::DELIVERED`] and [`schema::AT_MS`], by source and seq.
    pub delivered: DataFrame,
}

/// Reads a record: checks its proof first, then takes its events in.
///
/// # Errors
/// Where the file is no record that can be read, or says nothing about its trial without being
/// altered.
pub fn from_record(path: &Path) -> Result<Trial, Error> {
    let report = record::verify::verify(path, &record::verify::Options::default())?;
    let mut proof = Proof::from(&report);
    let record = Record::open_read_only(path)?;
    let header = match header_of(&record, &report.trial_id) {
        Ok(header) => header,
        Err(_) if proof.evidence == record::verify::Evidence::Altered => {
            Header::unreadable(&report.trial_id)
        }
        Err(error) => return Err(error),
    };
    let mut builder = Builder::default();
    let mut failed = None;
    // The gateway's own events depend on the moments of a run; the trial's are the pump's.
    let bedside = format!(".{}", report.trial_id);
    proof.events = 0;
    record.for_each_event(|stored| {
        proof.events += u64::from(!stored.row.source.as_str().ends_with(&bedside));
        if stored.damaged.is_none() && failed.is_none() {
            failed = builder.push(&stored.row).err();
        }
        Ok(())
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let tables = builder.finish(&header)?;
    Ok(Trial {
        header,
        proof,
        tables,
    })
}

fn header_of(record: &Record, trial_id: &str) -> Result<Header, Error> {
    let word = |what, why: String| Error::Word { what, why };
    if let Some(text) = record.meta("import")? {
        let import = serde_json::from_str(&text).map_err(|e| word("import", e.to_string()))?;
        return Ok(Header::of_import(import));
    }
    let signed = record.manifest()?.ok_or(Error::Missing("manifest"))?;
    // The signature is the proof's concern; what is not proven is not assessed, but still named.
    let manifest = Manifest::parse(&signed.text).map_err(|e| word("manifest", e.to_string()))?;
    Ok(Header::of_manifest(manifest, trial_id))
}

/// Takes plain rows in.
///
/// # Errors
/// Where a query fails.
pub fn from_rows(input: &TrialInput) -> Result<Trial, Error> {
    let mut builder = Builder::default();
    for row in &input.rows {
        builder.push(row)?;
    }
    Ok(Trial {
        header: input.header.clone(),
        proof: input.proof.clone(),
        tables: builder.finish(&input.header)?,
    })
}

/// Reads one trial's Parquet file as `thecal export` writes it.
///
/// # Errors
/// Where the file cannot be read or lacks a column.
pub fn from_dataset(file: &Path, header: Header, proof: Proof) -> Result<Trial, Error> {
    let path = PlRefPath::new(file.to_string_lossy());
    // The folder's `trial=…` is no column here: guessing its type would need the types of dates.
    let hive_options = HiveOptions {
        enabled: Some(false),
        ..HiveOptions::default()
    };
    let args = ScanArgsParquet {
        hive_options,
        ..ScanArgsParquet::default()
    };
    let scan = || LazyFrame::scan_parquet(path.clone(), args.clone());
    let mut skipped = col("kind").neq(lit("delivered"));
    for kind in schema::NOT_READ {
        skipped = skipped.and(col("kind").neq(lit(*kind)));
    }
    let events = collect(scan()?.filter(skipped).select(columns(schema::EVENTS)))?;
    let delivered = collect(
        scan()?
            .filter(col("kind").eq(lit("delivered")))
            .select(columns(schema::DELIVERED)),
    )?;
    let tables = Tables::timed(events, delivered, &header)?;
    Ok(Trial {
        header,
        proof,
        tables,
    })
}

fn columns(names: &[&str]) -> Vec<Expr> {
    names.iter().map(|name| col(*name)).collect()
}

/// Runs one query on the streaming engine.
///
/// # Errors
/// Where the query fails.
pub fn collect(query: LazyFrame) -> PolarsResult<DataFrame> {
    Ok(query
        .collect_with_engine(Engine::Streaming)?
        .unwrap_single())
}

/// A column of whole numbers.
///
/// # Errors
/// Where there is none of that name and type.
pub fn ints(frame: &DataFrame, name: &str) -> PolarsResult<Vec<Option<i64>>> {
    Ok(frame.column(name)?.i64()?.iter().collect())
}

/// A column of yes and no.
///
/// # Errors
/// Where there is none of that name and type.
pub fn bools(frame: &DataFrame, name: &str) -> PolarsResult<Vec<Option<bool>>> {
    Ok(frame.column(name)?.bool()?.iter().collect())
}

/// A column of text.
///
/// # Errors
/// Where there is none of that name and type.
pub fn texts(frame: &DataFrame, name: &str) -> PolarsResult<Vec<Option<String>>> {
    let column = frame.column(name)?.str()?;
    Ok(column.iter().map(|text| text.map(String::from)).collect())
}

/// One column that is being filled.
#[derive(Debug)]
enum Store {
    Ints(Vec<Option<i64>>),
    Bools(Vec<Option<bool>>),
    Texts(Vec<Option<String>>),
}

/// A frame that is being filled, a block at a time.
#[derive(Debug)]
struct Filling {
    names: &'static [&'static str],
    stores: Vec<Store>,
    rows: usize,
    done: Option<DataFrame>,
}

impl Filling {
    fn new(names: &'static [&'static str]) -> Self {
        Self {
            names,
            stores: empty_stores(names),
            rows: 0,
            done: None,
        }
    }

    fn push(&mut self, row: &EventRow) -> PolarsResult<()> {
        for (name, store) in self.names.iter().zip(&mut self.stores) {
            let value = schema::column(name).map_or(Cell::Null, |column| cell(row, column));
            match (store, value) {
                (Store::Ints(store), Cell::Int(value)) => store.push(Some(value)),
                (Store::Bools(store), Cell::Bool(value)) => store.push(Some(value)),
                (Store::Texts(store), Cell::Text(value)) => store.push(Some(value)),
                (Store::Ints(store), _) => store.push(None),
                (Store::Bools(store), _) => store.push(None),
                (Store::Texts(store), _) => store.push(None),
            }
        }
        self.rows += 1;
        if self.rows >= BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> PolarsResult<()> {
        let stores = std::mem::replace(&mut self.stores, empty_stores(self.names));
        let columns = self
            .names
            .iter()
            .zip(stores)
            .map(|(name, store)| match store {
                Store::Ints(values) => Column::new((*name).into(), values),
                Store::Bools(values) => Column::new((*name).into(), values),
                Store::Texts(values) => Column::new((*name).into(), values),
            })
            .collect();
        let block = DataFrame::new(self.rows, columns)?;
        self.rows = 0;
        match &mut self.done {
            Some(done) => {
                done.vstack_mut(&block)?;
            }
            None => self.done = Some(block),
        }
        Ok(())
    }

    fn finish(mut self) -> PolarsResult<DataFrame> {
        self.flush()?;
        Ok(self.done.unwrap_or_default())
    }
}

fn empty_stores(names: &[&str]) -> Vec<Store> {
    names
        .iter()
        .map(|name| match schema::kind(name) {
            Kind::Int => Store::Ints(Vec::new()),
            Kind::Bool => Store::Bools(Vec::new()),
            Kind::Text => Store::Texts(Vec::new()),
        })
        .collect()
}

/// Takes rows in, in the order of the record.
#[derive(Debug)]
struct Builder {
    events: Filling,
    delivered: Filling,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            events: Filling::new(schema::EVENTS),
            delivered: Filling::new(schema::DELIVERED),
        }
    }
}

impl Builder {
    fn push(&mut self, row: &EventRow) -> PolarsResult<()> {
        match row.kind.as_str() {
            "delivered" => self.delivered.push(row),
            kind if schema::NOT_READ.contains(&kind) => Ok(()),
            _ => self.events.push(row),
        }
    }

    fn finish(self, header: &Header) -> PolarsResult<Tables> {
        Tables::timed(self.events.finish()?, self.delivered.finish()?, header)
    }
}

impl Tables {
    /// Gives every row its time.
    fn timed(events: DataFrame, delivered: DataFrame, header: &Header) -> PolarsResult<Self> {
        let anchors = anchors(&events, &delivered, header)?;
        let own_time = col("at_utc_ms");
        let entry_time = when(col("author_at_utc_ms").is_not_null())
            .then(col("author_at_utc_ms"))
            .otherwise(col("at_utc_ms"));
        let by_time = [schema::AT_MS, "source", "seq"];
        let events = collect(
            with_time(events, &anchors, entry_time)
                .unique_stable(Some(cols(["source", "seq"])), UniqueKeepStrategy::First)
                .sort(by_time, SortMultipleOptions::default()),
        )?;
        let delivered = collect(
            with_time(delivered, &anchors, own_time)
                .sort(["source", "seq"], SortMultipleOptions::default()),
        )?;
        Ok(Self { events, delivered })
    }
}

fn with_time(frame: DataFrame, anchors: &DataFrame, otherwise: Expr) -> LazyFrame {
    let on = [col("source"), col("boot")];
    frame
        .lazy()
        .join(
            anchors.clone().lazy(),
            &on,
            &on,
            JoinArgs::new(JoinType::Left),
        )
        .with_column(
            when(col("tick0_ms").is_not_null())
                .then(col("tick0_ms") + col("tick_ms"))
                .otherwise(otherwise)
                .alias(schema::AT_MS),
        )
        .drop(cols(["tick0_ms"]))
}
