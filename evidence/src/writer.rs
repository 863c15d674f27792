//! The processes whose calls are recorded: they write through the product's own crates, and say on
//! standard output what they would acknowledge to somebody else, once it is safe. What was said is
//! the promise that every image is held against.

use crate::chance::Chance;
use crate::golden::{self, GATEWAY, PUMP, START, TRIAL};
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use protocol::topics::EventRow;
use record::store::{StoredRow, canonical_json};
use record::{Record, Spool};
use rusqlite::{Connection, params};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Whose file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The gateway's spool.
    Spool,
    /// The recorder's record.
    Record,
    /// A key file, made where there is none.
    Key,
}

/// What a writer is told; its folder is the current one.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WriterArgs {
    /// Whose file.
    pub(crate) kind: Kind,
    /// Decides how many rows go into a commit.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Hours of the trial before and after the pump's second start.
    #[arg(long, default_value_t = 2)]
    pub(crate) hours: u64,
    /// Plant: write with `synchronous=NORMAL`, past the record crate.
    #[arg(long)]
    pub(crate) normal: bool,
    /// Stop after so many rows.
    #[arg(long)]
    pub(crate) rows: Option<usize>,
}

/// What was acknowledged so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    /// The first so many rows of the trial.
    pub(crate) rows: usize,
    /// The words about the trial.
    pub(crate) words: bool,
    /// The trial's end.
    pub(crate) closed: bool,
    /// The public key.
    pub(crate) key: Option<String>,
}

impl Acked {
    /// One more line that a writer said.
    pub(crate) fn hear(&mut self, line: &str) -> anyhow::Result<()> {
        match line.split_once(' ') {
            Some(("rows", n)) => self.rows = self.rows.max(n.parse()?),
            Some(("key", key)) => self.key = Some(key.into()),
            None if line == "words" => self.words = true,
            None if line == "closed" => self.closed = true,
            _ => anyhow::bail!("a writer said {line:?}"),
        }
        Ok(())
    }
}

/// A whole trial in the order in which its rows are written.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) rows: Vec<EventRow>,
    pub(crate) words: Vec<(String, String)>,
}

impl Trial {
    /// Of so many hours.
    pub(crate) fn new(hours: u64) -> Self {
        let (pump, gateway) = golden::rows(hours, false);
        let mut rows = [pump, gateway].concat();
        rows.sort_by_key(|row| row.received_at_utc_ms);
        let words = golden::words();
        Self { rows, words }
    }

    /// How many of the first rows are there; an error where anything else is there, or one is not
    /// as it was written.
    fn prefix_of(&self, pump: &[StoredRow], gateway: &[StoredRow]) -> anyhow::Result<usize> {
        let (mut pump, mut gateway) = (pump.iter(), gateway.iter());
        let mut there = 0;
        for row in &self.rows {
            let from = if row.source.as_str() == PUMP {
                &mut pump
            } else {
                &mut gateway
            };
            let Some(stored) = from.next() else { break };
            ensure!(stored.damaged.is_none(), "{:?}", stored.damaged);
            let same = stored.row == *row && stored.body_text == canonical_json(&row.body);
            ensure!(same, "{} is not as it was written", stored.id());
            there += 1;
        }
        let more = pump.next().or(gateway.next());
        ensure!(
            more.is_none(),
            "a row without those before it: {:?}",
            more.map(StoredRow::id)
        );
        Ok(there)
    }

    /// See [`Trial::prefix_of`].
    pub(crate) fn in_spool(&self, spool: &Spool) -> anyhow::Result<usize> {
        let read = |source| spool.rows_after(TRIAL, source, 0, usize::MAX >> 1);
        self.prefix_of(&read(PUMP)?, &read(GATEWAY)?)
    }

    /// See [`Trial::prefix_of`].
    pub(crate) fn in_record(&self, record: &Record) -> anyhow::Result<usize> {
        let read = |source| record.events_of(source, 0, u64::MAX >> 1);
        self.prefix_of(&read(PUMP)?, &read(GATEWAY)?)
    }
}

/// The file of a kind.
pub(crate) fn path(kind: Kind, folder: &Path) -> PathBuf {
    folder.join(match kind {
        Kind::Spool => "gw.spool",
        Kind::Record => "records/T-0001.thecal",
        Kind::Key => "gw.key",
    })
}

/// Runs a writer in the current folder: the recorded process.
pub(crate) fn run(args: WriterArgs) -> anyhow::Result<()> {
    // One line, one write: the recording has it where it was said.
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| -> anyhow::Result<()> {
        out.write_all(format!("{line}\n").as_bytes())?;
        Ok(out.flush()?)
    };
    let folder = std::env::current_dir()?;
    write(args, &Trial::new(args.hours), &folder, &mut say)
}

type Say<'s> = &'s mut dyn FnMut(String) -> anyhow::Result<()>;

/// Writes what is still missing in a folder, to the end.
pub(crate) fn write(
    args: WriterArgs,
    trial: &Trial,
    folder: &Path,
    say: Say<'_>,
) -> anyhow::Result<()> {
    let path = path(args.kind, folder);
    if args.normal {
        return write_normal(args, trial, &path, say);
    }
    match args.kind {
        Kind::Spool => write_spool(args, trial, &path, say),
        Kind::Record => write_record(args, trial, &path, say),
        Kind::Key => {
            let pair = gateway::key_files::load_or_create(&path)?;
            say(format!("key {}", pair.public()))
        }
    }
}

/// As the gateway: counts its start, learns its trial, acknowledges what it finds, then commits.
fn write_spool(args: WriterArgs, trial: &Trial, path: &Path, say: Say<'_>) -> anyhow::Result<()> {
    let mut chance = Chance::new(args.seed);
    let end = args.rows.unwrap_or(trial.rows.len());
    let mut spool = Spool::open(path)?;
    spool.begin_session(START)?;
    for (key, value) in &trial.words {
        spool.set_meta(TRIAL, key, value)?;
    }
    say("words".into())?;
    let mut stored = trial.in_spool(&spool)?;
    say(format!("rows {stored}"))?;
    while stored < end {
        let (from, to) = next_batch(stored, end, &mut chance);
        let batch = trial.rows.get(from..to).context("a batch")?;
        spool.append(batch.iter().map(|row| (TRIAL, row)))?;
        stored = to;
        say(format!("rows {stored}"))?;
        if chance.below(6) == 0 {
            spool.note_receipt(TRIAL, PUMP, "ward", stored.try_into()?, START)?;
        }
    }
    if args.rows.is_some() {
        return Ok(());
    }
    spool.set_meta(TRIAL, "closed", "planned")?;
    say("closed".into())
}

/// As the recorder: takes the record up, says what it holds, then commits; at the end it seals and
/// folds. Nothing is committed before the first word about what was found.
fn write_record(args: WriterArgs, trial: &Trial, path: &Path, say: Say<'_>) -> anyhow::Result<()> {
    let mut chance = Chance::new(args.seed);
    let end = args.rows.unwrap_or(trial.rows.len());
    record::store::make_folder(path.parent().context("a folder")?)?;
    let mut record = Record::open_or_create(path)?;
    record.set_meta("trial_id", TRIAL)?;
    record.set_meta("origin", "pump")?;
    let mut stored = trial.in_record(&record)?;
    say(format!("rows {stored}"))?;
    for (key, value) in &trial.words {
        record.set_meta(key, value)?;
    }
    say("words".into())?;
    while stored < end {
        let (from, to) = next_batch(stored, end, &mut chance);
        record.append(trial.rows.get(from..to).context("a batch")?, START)?;
        stored = to;
        say(format!("rows {stored}"))?;
    }
    if args.rows.is_some() {
        return Ok(());
    }
    for source in [PUMP, GATEWAY] {
        record.seal(source, "ward-1", &golden::recorder_pair(), START + 1)?;
    }
    record.close_trial("closed by pump and gateway")?;
    say("closed".into())
}

/// Some rows again, as after a lost acknowledgement, and some new ones.
fn next_batch(stored: usize, end: usize, chance: &mut Chance) -> (usize, usize) {
    let again = if chance.below(4) == 0 {
        chance.below(4)
    } else {
        0
    };
    let new = if chance.below(5) == 0 {
        1 + chance.below(40)
    } else {
        1 + chance.below(4)
    };
    (stored.saturating_sub(again), (stored + new).min(end))
}

/// The plant: the same rows into the same tables, with the setting that does not sync commits.
fn write_normal(args: WriterArgs, trial: &Trial, path: &Path, say: Say<'_>) -> anyhow::Result<()> {
    let (column, value) = match args.kind {
        Kind::Spool => ("trial, ", "'T-0001', "),
        Kind::Record => ("", ""),
        Kind::Key => anyhow::bail!("a key has no such setting"),
    };
    if args.kind == Kind::Spool {
        drop(Spool::open(path)?);
    } else {
        record::store::make_folder(path.parent().context("a folder")?)?;
        drop(Record::open_or_create(path)?);
    }
    let db = Connection::open(path)?;
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    let sql = format!(
        "INSERT INTO event ({column} source, boot, seq, tick_ms, at_utc_ms, at_uncertainty_ms, kind, body, raw, tag, received_at_utc_ms)
         VALUES ({value} ?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)"
    );
    for (at, row) in trial.rows.iter().enumerate() {
        db.prepare_cached(&sql)?.execute(params![
            row.source.as_str(),
            row.boot,
            row.seq,
            row.tick_ms,
            row.at_utc_ms,
            row.at_uncertainty_ms,
            row.kind,
            canonical_json(&row.body),
            row.raw,
            row.tag.0,
            row.received_at_utc_ms,
        ])?;
        say(format!("rows {}", at + 1))?;
    }
    Ok(())
}
