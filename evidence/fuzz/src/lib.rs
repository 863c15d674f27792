//! What the fuzz targets do with any bytes, as plain functions: they panic where a promise does not
//! hold. `fuzz/` gives them to libFuzzer; `tests/corpus.rs` gives them their corpus and seeded
//! mutations of it in every test run; `evidence fuzz` does so for as long as one likes.
#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    reason = "a body panics where a promise does not hold: that is what it is for"
)]

mod csv;
mod frame;
#[path = "../../../record/tests/golden/mod.rs"]
mod golden;
mod journal;
mod line;
pub mod mutate;
mod payload;
mod record_file;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// What it does with any bytes. Says whether it took them: any of them, where they are many
    /// pieces.
    pub body: fn(&[u8]) -> bool,
    /// Inputs that are worth a change.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutations of a test run: what takes about two seconds without optimization.
    pub in_a_test: u64,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        body: frame::body,
        seeds: frame::seeds,
        in_a_test: 60_000,
    },
    Target {
        name: "line",
        body: line::body,
        seeds: line::seeds,
        in_a_test: 1_500,
    },
    Target {
        name: "journal",
        body: journal::body,
        seeds: journal::seeds,
        in_a_test: 600,
    },
    Target {
        name: "payload",
        body: payload::body,
        seeds: payload::seeds,
        in_a_test: 20_000,
    },
    Target {
        name: "record",
        body: record_file::body,
        seeds: record_file::seeds,
        in_a_test: 120,
    },
    Target {
        name: "csv",
        body: csv::body,
        seeds: csv::seeds,
        in_a_test: 300,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
