//! What staff entered: an entry that was sent twice counts once.

use crate::load::{self, Tables};
use polars::prelude::*;
use std::collections::BTreeSet;

/// The entries of one kind.
pub(crate) struct Entered {
    /// Their rows as they came, in order of time.
    pub(crate) frame: DataFrame,
    /// Of those that count: the place in the frame, the time that its author gave in milliseconds
    /// UTC, and the identity of the event.
    pub(crate) rows: Vec<(usize, i64, String)>,
}

impl Entered {
    /// Of the event kind that is called so.
    ///
    /// # Errors
    /// Where a query fails.
    pub(crate) fn of(tables: &Tables, kind: &str) -> PolarsResult<Self> {
        let events = tables.events.clone().lazy();
        let frame = load::collect(events.filter(col("kind").eq(lit(kind))))?;
        let (source, entry) = (
            load::texts(&frame, "source")?,
            load::texts(&frame, "entry_id")?,
        );
        let (boot, seq) = (load::ints(&frame, "boot")?, load::ints(&frame, "seq")?);
        let at = load::ints(&frame, crate::schema::AT_MS)?;
        let mut seen = BTreeSet::new();
        let row = |row: usize| {
            let entry = held(&entry, row).unwrap_or_default();
            let id = format!(
                "{}:{}:{}",
                held(&source, row).unwrap_or_default(),
                held(&boot, row).unwrap_or(0),
                held(&seq, row).unwrap_or(0)
            );
            let counts = entry.is_empty() || seen.insert(entry);
            counts.then(|| (row, held(&at, row).unwrap_or(0), id))
        };
        let rows = (0..frame.height()).filter_map(row).collect();
        Ok(Self { frame, rows })
    }
}

/// The value of a column in a row; `None` where there is none.
pub(crate) fn held<T: Clone>(column: &[Option<T>], row: usize) -> Option<T> {
    column.get(row).cloned().flatten()
}
