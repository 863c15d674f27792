//! What a writer acknowledged, held against what is found in its folder afterwards, with the
//! product's own way of opening it.

use crate::golden::TRIAL;
use crate::writer::{self, Acked, Kind, Trial, WriterArgs};
use anyhow::{Context, bail, ensure};
use record::verify::{Evidence, Options, Report, verify};
use record::{Record, Spool};
use std::path::{Path, PathBuf};

/// A writer and the trial that it writes.
pub(crate) struct Promise {
    pub(crate) args: WriterArgs,
    trial: Trial,
}

impl Promise {
    /// Of a writer.
    pub(crate) fn new(args: WriterArgs) -> Self {
        let trial = Trial::new(args.hours);
        Self { args, trial }
    }

    /// Rows of the whole trial.
    pub(crate) fn rows(&self) -> usize {
        self.trial.rows.len()
    }

    /// Recovers a folder and holds it against what was acknowledged; with `goes_on` the writer then
    /// writes the rest, and everything must be there once.
    pub(crate) fn hold(&self, folder: &Path, acked: &Acked, goes_on: bool) -> anyhow::Result<()> {
        let path = writer::path(self.args.kind, folder);
        match self.args.kind {
            Kind::Spool => self.recover_spool(&path, acked)?,
            Kind::Record => self.recover_record(&path, acked)?,
            Kind::Key => {
                let pair = gateway::key_files::load_or_create(&path)?;
                let key = pair.public().to_string();
                let promised = acked.key.as_ref().unwrap_or(&key);
                ensure!(*promised == key, "another key than the one that was shown");
                let shown = std::fs::read_to_string(gateway::key_files::beside(&path, "pub"))
                    .context("the public half")?;
                ensure!(shown.trim() == key, "the public half is of another key");
            }
        }
        if goes_on && !self.args.normal {
            writer::write(self.args, &self.trial, folder, &mut |_| Ok(()))
                .context("the writer that went on")?;
            self.is_whole(&path)?;
        }
        Ok(())
    }

    fn recover_spool(&self, path: &Path, acked: &Acked) -> anyhow::Result<()> {
        let spool = Spool::open(path)?;
        let there = self.trial.in_spool(&spool)?;
        ensure!(
            there >= acked.rows,
            "rows acknowledged and lost: {there} of {} there",
            acked.rows
        );
        if acked.words {
            for (key, value) in &self.trial.words {
                let seen = spool.meta(TRIAL, key)?;
                ensure!(
                    seen.as_ref() == Some(value),
                    "a word acknowledged and lost: {key} is {seen:?}"
                );
            }
        }
        ensure!(
            !acked.closed || spool.meta(TRIAL, "closed")?.is_some(),
            "the close is gone"
        );
        ensure!(spool.quarantined(TRIAL)?.is_empty(), "rows in quarantine");
        Ok(())
    }

    fn recover_record(&self, path: &Path, acked: &Acked) -> anyhow::Result<()> {
        // As `thecal verify` finds it, before anybody writes.
        let promised = acked.words || acked.rows > 0;
        let before = match verify(path, &Options::default()) {
            Ok(report) => Some(report),
            Err(e) if promised => bail!("verify: {e}"),
            Err(_) => None,
        };
        record::store::make_folder(path.parent().context("a folder")?)?;
        let record = Record::open_or_create(path)?;
        let there = self.trial.in_record(&record)?;
        ensure!(
            there >= acked.rows,
            "rows acknowledged and lost: {there} of {} there",
            acked.rows
        );
        if acked.words {
            for (key, value) in &self.trial.words {
                let seen = record.meta(key)?;
                ensure!(
                    seen.as_ref() == Some(value),
                    "a word acknowledged and lost: {key} is {seen:?}"
                );
            }
        }
        ensure!(
            !acked.closed || record.meta("closed")?.is_some(),
            "the close is gone"
        );
        ensure!(record.quarantined()? == 0, "rows in quarantine");
        drop(record);
        let after = verify(path, &Options::default()).context("verify after recovery")?;
        if let Some(before) = before {
            let same = |r: &Report| (r.evidence, r.events, r.digest, r.unsigned_from.clone());
            ensure!(
                same(&before) == same(&after),
                "verify differs: {before:?} then {after:?}"
            );
        }
        let events = u64::try_from(there)?;
        ensure!(
            after.events == events,
            "verify counts {}, there are {events}",
            after.events
        );
        // Before its words are safe nothing can be held against a record, and verify says so.
        let no_words = self.args.normal || (!acked.words && there == 0);
        ensure!(
            no_words || after.wrong.is_empty(),
            "verify: {:?}",
            after.wrong
        );
        ensure!(after.missing.is_empty(), "verify: {:?}", after.missing);
        let whole = acked.closed && !self.args.normal;
        ensure!(
            !whole || after.evidence == Evidence::Complete,
            "verify: {after:?}"
        );
        Ok(())
    }

    /// After the writer went on to its end, everything is there once.
    fn is_whole(&self, path: &Path) -> anyhow::Result<()> {
        let acked = Acked {
            rows: self.trial.rows.len(),
            words: true,
            closed: true,
            key: None,
        };
        match self.args.kind {
            Kind::Spool => self.recover_spool(path, &acked),
            Kind::Record => self.recover_record(path, &acked),
            Kind::Key => Ok(()),
        }
        .context("after the writer went on")
    }
}

/// Where folders of no worth are: in memory where there is such a place.
pub(crate) fn in_memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

/// A folder in memory where there is one: recovery syncs, and that is not what is measured.
pub(crate) fn scratch() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("evidence-")
        .tempdir_in(in_memory())
        .context("a folder for images")
}
