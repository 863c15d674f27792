//! What a trial leaves behind: the record, one SQLite file a trial, and the gateway's spool.
//!
//! [`store`] opens and guards the files, [`trial_record`] and [`spool`] are the two kinds,
//! [`progress`] knows what is complete through which event, [`verify`] holds a record against its
//! own proof, [`recover`] makes a lost record again from a spool, [`import`] makes one from a
//! diary, [`columns`] are the columns of an event in a table, and `export` writes them as Parquet.
//! Rows are added, never changed: triggers refuse it, and the proof would show it.
#![forbid(unsafe_code)]

pub mod columns;
#[cfg(feature = "export")]
pub mod export;
pub mod import;
pub mod progress;
pub mod recover;
mod row;
pub mod spool;
pub mod store;
pub mod trial_record;
pub mod verify;

pub use spool::Spool;
pub use store::Error;
pub use trial_record::Record;
