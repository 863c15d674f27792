//! Every column that the measures read, once: name with unit, type, meaning.
//!
//! The columns of an event are those of `record::columns`, which the Parquet export writes: here
//! stands which of them are read, and what [`crate::load`] adds. The dataset and the record give
//! the same frames.

use record::columns::{COLUMNS, Column, Kind};

/// Of the counters of delivery, which are almost all events of a trial: read from kind `delivered`.
pub const DELIVERED: &[&str] = &[
    "source",
    "boot",
    "seq",
    "tick_ms",
    "at_utc_ms",
    "delivered_nl",
    "programmed_nl",
];

/// Of all other events that a measure reads.
pub const EVENTS: &[&str] = &[
    "source",
    "boot",
    "seq",
    "tick_ms",
    "at_utc_ms",
    "kind",
    "reason",
    "own_clock_utc_ms",
    "purpose",
    "programmed_nl_per_h",
    "previous_nl_per_h",
    "changed_by",
    "granted",
    "bolus_requested_nl",
    "bolus_delivered_nl",
    "score",
    "confirmed",
    "condition",
    "prompt_id",
    "corrects_seq",
    "asleep",
    "scored_by",
    "prompted",
    "alarm",
    "priority",
    "phase",
    "concentration_mcg_per_ml",
    "what",
    "value_milli",
    "drug",
    "dose_mcg",
    "route",
    "scheduled",
    "author_at_utc_ms",
    "entry_id",
    "about_source",
    "about_boot",
    "anchor_utc_ms",
    "anchor_uncertainty_ms",
];

/// Kinds that no measure reads and that a long trial has many of; left out when reading.
pub const NOT_READ: &[&str] = &[
    "checkpoint",
    "stored",
    "battery",
    "link_changed",
    "alarm_changed",
];

/// Added by [`crate::load`]: when it happened, UTC milliseconds. Boot anchor and tick for the pump,
/// the author's time for an entry, the row's time for the rest. i64, never null.
pub const AT_MS: &str = "at_ms";

/// Added by [`crate::dose`]: the UTC hour, `at_ms / 3_600_000`. i64.
pub const HOUR: &str = "hour";

/// Added by [`crate::dose`]: how many starts and stops lie before. i64.
pub const PLACE: &str = "place";

/// The column of that name; `None` where an export writes none.
pub fn column(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.name == name)
}

/// The type of a column that is read.
pub fn kind(name: &str) -> Kind {
    column(name).map_or(Kind::Int, |column| column.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_that_is_read_is_one_that_the_export_writes() {
        for name in DELIVERED.iter().chain(EVENTS) {
            assert!(column(name).is_some(), "{name}");
        }
    }

    #[test]
    fn kinds_that_are_not_read_exist() {
        for kind in NOT_READ {
            let pump = protocol::event::KINDS.iter().any(|(_, word)| word == kind);
            let bedside = protocol::bedside::KINDS
                .iter()
                .any(|(_, word)| word == kind);
            assert!(pump || bedside, "{kind}");
        }
    }
}
