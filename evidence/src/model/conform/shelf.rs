//! Where the engines that are held against the model keep their rows.

use super::{PUMP, TRIAL};
use anyhow::{Context, bail, ensure};
use protocol::topics::EventRow;
use record::spool::Outcome;
use record::{Record, Spool};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where rows are kept.
pub(super) trait Shelf: Sized {
    /// Adds rows durably; says of each whether it is new.
    fn spool(&mut self, rows: &[EventRow]) -> anyhow::Result<Vec<bool>>;
    fn spooled(&self, after: u64, limit: usize) -> anyhow::Result<Vec<EventRow>>;
    /// The gateway's process dies and another one opens the file.
    fn gateway_killed(&mut self) -> anyhow::Result<()>;
    /// A receipt is noted.
    fn receipt(&mut self, seq: u64) -> anyhow::Result<()>;
    fn receipted(&self) -> anyhow::Result<u64>;
    /// Adds rows durably; says how many are new.
    fn record(&mut self, rows: &[EventRow]) -> anyhow::Result<u64>;
    fn recorded(&self) -> anyhow::Result<Vec<EventRow>>;
    fn recorder_killed(&mut self) -> anyhow::Result<()>;
    fn record_destroyed(&mut self) -> anyhow::Result<()>;
}

/// In memory, for many short sequences: one row a seq.
#[derive(Clone, Default)]
pub(super) struct Memory {
    spool: BTreeMap<u64, EventRow>,
    receipted: u64,
    record: BTreeMap<u64, EventRow>,
}

fn add(to: &mut BTreeMap<u64, EventRow>, row: &EventRow) -> bool {
    let new = !to.contains_key(&row.seq);
    to.entry(row.seq).or_insert_with(|| row.clone());
    new
}

impl Shelf for Memory {
    fn spool(&mut self, rows: &[EventRow]) -> anyhow::Result<Vec<bool>> {
        Ok(rows.iter().map(|row| add(&mut self.spool, row)).collect())
    }

    fn spooled(&self, after: u64, limit: usize) -> anyhow::Result<Vec<EventRow>> {
        let rows = self.spool.range(after + 1..).take(limit);
        Ok(rows.map(|(_, row)| row.clone()).collect())
    }

    fn gateway_killed(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn receipt(&mut self, seq: u64) -> anyhow::Result<()> {
        self.receipted = seq;
        Ok(())
    }

    fn receipted(&self) -> anyhow::Result<u64> {
        Ok(self.receipted)
    }

    fn record(&mut self, rows: &[EventRow]) -> anyhow::Result<u64> {
        let new = rows.iter().filter(|row| add(&mut self.record, row)).count();
        Ok(u64::try_from(new)?)
    }

    fn recorded(&self) -> anyhow::Result<Vec<EventRow>> {
        Ok(self.record.values().cloned().collect())
    }

    fn recorder_killed(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn record_destroyed(&mut self) -> anyhow::Result<()> {
        self.record.clear();
        Ok(())
    }
}

/// The real files. A kill leaves what was written: the files are copied while they are open.
pub(super) struct Files {
    folder: tempfile::TempDir,
    generation: u32,
    spool: Option<Spool>,
    record: Option<Record>,
    spool_path: PathBuf,
    record_path: PathBuf,
}

impl Files {
    pub(super) fn new() -> anyhow::Result<Self> {
        // Nothing here is about power: where memory can be a disk, syncs cost nothing.
        let shared = std::path::Path::new("/dev/shm");
        let folder = if shared.is_dir() {
            tempfile::tempdir_in(shared)?
        } else {
            tempfile::tempdir()?
        };
        let (spool_path, record_path) = (
            folder.path().join("0.spool"),
            folder.path().join("0.thecal"),
        );
        Ok(Self {
            spool: Some(Spool::open(&spool_path)?),
            record: Some(Record::open_or_create(&record_path)?),
            folder,
            generation: 0,
            spool_path,
            record_path,
        })
    }

    fn next_path(&mut self, extension: &str) -> PathBuf {
        self.generation += 1;
        self.folder
            .path()
            .join(format!("{}.{extension}", self.generation))
    }

    fn copy(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
        for suffix in ["", "-wal"] {
            let beside = |path: &std::path::Path| {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                PathBuf::from(name)
            };
            if beside(from).exists() {
                std::fs::copy(beside(from), beside(to))?;
            }
        }
        Ok(())
    }
}

impl Shelf for Files {
    fn spool(&mut self, rows: &[EventRow]) -> anyhow::Result<Vec<bool>> {
        let spool = self.spool.as_mut().context("open")?;
        let outcomes = spool.append(rows.iter().map(|row| (TRIAL, row)))?;
        outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Stored => Ok(true),
                Outcome::Repeat => Ok(false),
                Outcome::Conflict => bail!("a conflict in the spool"),
            })
            .collect()
    }

    fn spooled(&self, after: u64, limit: usize) -> anyhow::Result<Vec<EventRow>> {
        let spool = self.spool.as_ref().context("open")?;
        let rows = spool.rows_after(TRIAL, PUMP, after, limit)?;
        Ok(rows.into_iter().map(|stored| stored.row).collect())
    }

    fn gateway_killed(&mut self) -> anyhow::Result<()> {
        let path = self.next_path("spool");
        Self::copy(&self.spool_path, &path)?;
        self.spool = Some(Spool::open(&path)?);
        self.spool_path = path;
        Ok(())
    }

    fn receipt(&mut self, seq: u64) -> anyhow::Result<()> {
        let spool = self.spool.as_ref().context("open")?;
        Ok(spool.note_receipt(TRIAL, PUMP, "ward", seq, 0)?)
    }

    fn receipted(&self) -> anyhow::Result<u64> {
        Ok(self
            .spool
            .as_ref()
            .context("open")?
            .receipted(TRIAL, PUMP)?)
    }

    fn record(&mut self, rows: &[EventRow]) -> anyhow::Result<u64> {
        let done = self.record.as_mut().context("open")?.append(rows, 0)?;
        ensure!(done.conflicts.is_empty(), "conflicts {:?}", done.conflicts);
        Ok(done.new)
    }

    fn recorded(&self) -> anyhow::Result<Vec<EventRow>> {
        let mut rows = Vec::new();
        let record = self.record.as_ref().context("open")?;
        record.for_each_event(|stored| {
            rows.push(stored.row);
            Ok(())
        })?;
        Ok(rows)
    }

    fn recorder_killed(&mut self) -> anyhow::Result<()> {
        let path = self.next_path("thecal");
        Self::copy(&self.record_path, &path)?;
        self.record = Some(Record::open_or_create(&path)?);
        self.record_path = path;
        Ok(())
    }

    fn record_destroyed(&mut self) -> anyhow::Result<()> {
        self.record_path = self.next_path("thecal");
        self.record = Some(Record::open_or_create(&self.record_path)?);
        Ok(())
    }
}
