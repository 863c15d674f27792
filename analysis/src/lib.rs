//! The measures, the decision and the report of a trial.
//!
//! In reading order: [`input`] is what comes in, [`schema`] names the columns, [`load`] makes a record or a dataset into tables
//! that satisfy it; [`trial`] finds the phases; [`pain`], [`gaps`], [`dose`], [`rescue`],
//! [`safety`] and [`catheter`] measure, [`measure`] puts their figures together; [`estimate`] says
//! how sure the relief is, [`protocols`] holds every threshold with its source, [`decide`] gives
//! the verdict, [`payers`] fills in their lists; [`report()`] writes it down.
//!
//! What this crate promises: nothing is extrapolated and nothing missing is filled in; a drug that
//! was not delivered cannot fail; the same record under the same settings gives the same bytes. It
//! reads no clock and no network. Statistics and decision know nothing of Polars: only [`load`],
//! `entered` and the reading functions of [`pain`], [`dose`], [`rescue`] and [`safety`] do, and
//! `tests/borders.rs` holds that.
#![forbid(unsafe_code)]

mod anchor;
pub mod catheter;
pub mod decide;
pub mod dose;
mod entered;
pub mod estimate;
pub mod gaps;
pub mod input;
pub mod load;
pub mod measure;
pub mod num;
pub mod pain;
pub mod payers;
pub mod protocols;
pub mod report;
pub mod rescue;
pub mod safety;
pub mod schema;
pub mod trial;

pub use decide::Verdict;

use load::Trial;
use measure::Measures;
use protocols::Protocol;
use std::path::{Path, PathBuf};

/// What to report with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Name of a decision protocol, or the path of one; none: the one that the trial names.
    pub protocol: Option<String>,
}

/// What a report came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The trial.
    pub trial_id: String,
    /// The verdict; displays as its word.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub because: String,
    /// The page.
    pub report: PathBuf,
    /// The file for programs.
    pub verdict_json: PathBuf,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trial cannot be read.
    #[error(transparent)]
    Load(#[from] load::Error),
    /// The protocol is not taken.
    #[error(transparent)]
    Protocol(#[from] protocols::Error),
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A trial with its verdict and both texts.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// The measures.
    pub measures: Measures,
    /// The verdict and why.
    pub decision: decide::Decision,
    /// `verdict.json`.
    pub verdict_json: String,
    /// `report.html`.
    pub report_html: String,
}

/// Measures, decides and writes the texts.
///
/// # Errors
/// Where the protocol is not known or a query fails.
pub fn assess(trial: &Trial, options: &Options) -> Result<Assessment, Error> {
    let protocol = match (&options.protocol, trial.header.protocol.as_str()) {
        (Some(asked), _) => Protocol::named(asked)?,
        // A record that cannot be read this far is not judged by any protocol.
        (None, "") => Protocol::ours("pain-50")?,
        (None, stated) => Protocol::ours(stated)?,
    };
    let measures = measure::measure(trial, &protocol.settings)?;
    let decision = decide::decide(&measures, &protocol.settings);
    let payers = payers::payers(&measures, decision.verdict, &protocol.settings);
    Ok(Assessment {
        verdict_json: report::verdict::text(&measures, &decision, &payers, &protocol),
        report_html: report::html::page(&measures, &decision, &payers, &protocol),
        measures,
        decision,
    })
}

/// Reads a record and writes `report.html` and `verdict.json` into `out`, which is made where it is
/// not there. Each file is whole or not there: written beside, synced, then renamed.
///
/// # Errors
/// Where the record cannot be read, the protocol is not known, or the disk fails.
pub fn report(record: &Path, out: &Path, options: &Options) -> Result<Outcome, Error> {
    let trial = load::from_record(record)?;
    let assessment = assess(&trial, options)?;
    std::fs::create_dir_all(out).map_err(|source| Error::Write {
        path: out.into(),
        source,
    })?;
    let verdict_json = out.join("verdict.json");
    let report = out.join("report.html");
    write_whole(&verdict_json, &assessment.verdict_json)?;
    write_whole(&report, &assessment.report_html)?;
    Ok(Outcome {
        trial_id: trial.header.trial_id,
        verdict: assessment.decision.verdict,
        because: assessment
            .decision
            .reasons
            .into_iter()
            .next()
            .map(|reason| reason.text)
            .unwrap_or_default(),
        report,
        verdict_json,
    })
}

fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let beside = path.with_extension("part");
    let write = || {
        let mut file = std::fs::File::create(&beside)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&beside);
        Error::Write {
            path: path.into(),
            source,
        }
    })
}
