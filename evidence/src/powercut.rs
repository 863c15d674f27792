//! The lane `powercut`: what a power cut may leave of the gateway's and the recorder's files.
//!
//! Real writers run under `strace`, which notes every call that changes a file, in order, between
//! the words by which they acknowledge. From that a model of a disk makes images: at every point in
//! time, whatever part of what was not synced. Each image is recovered with the product's own
//! crates, in this process. Nothing acknowledged may be missing, nothing may be unreadable,
//! `verify` must agree before and after, and writing must be able to go on to a complete record.
//!
//! Killing processes shows none of this: the page cache outlives them. So the lane also shows each
//! time that it can see: recordings with `synchronous=NORMAL`, with syncs left out, with words
//! said before the sync, must all be found out.

mod disk;
mod recording;
mod writer;

use crate::chance::Chance;
use crate::golden::TRIAL;
use crate::ledger::{Lane, LaneArgs};
use anyhow::{Context, bail, ensure};
use clap::Args;
use disk::{Disk, STYLES, Style};
use record::verify::{Evidence, Options, Report, verify};
use record::{Record, Spool};
use recording::{Recorder, Step};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use writer::{Acked, Kind, Trial, WriterArgs};

pub(crate) use writer::{WriterArgs as WriteArgs, run as write};

/// What the lane is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct PowercutArgs {
    #[command(flatten)]
    lane: LaneArgs,
    /// Images of one seed.
    #[arg(long, default_value_t = 2_500)]
    images: usize,
    /// Seeds, where no minutes are given.
    #[arg(long, default_value_t = 4)]
    seeds: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Runs the lane.
///
/// # Errors
/// Where a promise did not hold, or a plant was not found.
pub(crate) fn run(args: &PowercutArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("powercut", &args.lane)?;
    plants(args.lane.seed, args.jobs, &mut lane)?;
    let mut seed = args.lane.seed;
    while lane.goes_on(seed - args.lane.seed < args.seeds) && !lane.has_violations() {
        for (share, case) in cases(seed) {
            let recording = case.record()?;
            let images = args.images * share / 100;
            let swept = recording.sweep(images, seed, args.jobs)?;
            lane.count("images", swept.images);
            lane.count("writers_run_on", swept.went_on);
            lane.count("crash_points", u64::try_from(recording.steps.len())?);
            for what in swept.violations {
                lane.violation(seed, &what);
            }
        }
        seed += 1;
    }
    lane.finish(seed - 1)
}

/// One recording to be made.
#[derive(Clone, Copy, Debug)]
struct Case {
    args: WriterArgs,
    /// The writer is killed when it enters so many a `fdatasync`, and started again.
    kills: [Option<u32>; 2],
}

/// The recordings of a seed, with their share of the images in percent.
fn cases(seed: u64) -> [(usize, Case); 5] {
    let mut chance = Chance::new(seed);
    let mut case = |kind, most_hours: usize, kill: bool| {
        let mut at = || {
            let n = u32::try_from(2 + chance.below(40)).unwrap_or(2);
            kill.then_some(n)
        };
        let kills = [at(), at()];
        // Some are long enough for SQLite to fold its log in the middle, at 1000 pages.
        let hours = if chance.below(4) == 0 {
            12
        } else {
            1 + chance.below(most_hours)
        };
        let hours = u64::try_from(hours).unwrap_or(1);
        let args = WriterArgs {
            kind,
            seed,
            hours,
            normal: false,
        };
        Case { args, kills }
    };
    [
        (35, case(Kind::Record, 3, false)),
        (30, case(Kind::Record, 3, true)),
        (15, case(Kind::Spool, 2, false)),
        (15, case(Kind::Spool, 2, true)),
        (5, case(Kind::Key, 1, false)),
    ]
}

/// What a recording is held against.
struct Recording {
    args: WriterArgs,
    trial: Trial,
    steps: Vec<Step>,
}

/// What images showed.
#[derive(Debug, Default)]
struct Swept {
    images: u64,
    went_on: u64,
    violations: Vec<String>,
}

impl Case {
    fn record(self) -> anyhow::Result<Recording> {
        let folder = scratch()?;
        let mut recorder = Recorder::new(folder.path());
        let kind = match self.args.kind {
            Kind::Spool => "spool",
            Kind::Record => "record",
            Kind::Key => "key",
        };
        let (seed, hours) = (self.args.seed.to_string(), self.args.hours.to_string());
        let mut command = vec!["write", kind, "--seed", &seed, "--hours", &hours];
        if self.args.normal {
            command.push("--normal");
        }
        for kill in self.kills.into_iter().flatten() {
            recording::record(&mut recorder, folder.path(), &command, Some(kill))?;
        }
        recording::record(&mut recorder, folder.path(), &command, None)?;
        Ok(Recording {
            args: self.args,
            trial: Trial::new(self.args.hours),
            steps: recorder.steps,
        })
    }
}

impl Recording {
    /// How many images of the whole each point in time gets: most where something was just
    /// promised or is about to be synced.
    fn weights(&self) -> Vec<u64> {
        let next = self.steps.iter().skip(1).map(Some).chain([None]);
        let weight = |(step, next): (&Step, Option<&Step>)| {
            let about = matches!(next, Some(Step::SyncFile { .. } | Step::SyncFolder));
            let promised = matches!(step, Step::Ack(_) | Step::Start);
            if about || promised { 6 } else { 1 }
        };
        self.steps.iter().zip(next).map(weight).collect()
    }

    /// Makes and recovers images at all points in time.
    fn sweep(&self, images: usize, seed: u64, jobs: usize) -> anyhow::Result<Swept> {
        let weights = self.weights();
        let enough = AtomicBool::new(false);
        let jobs = jobs.max(1);
        let parts = std::thread::scope(|scope| {
            let part = |job| {
                let (weights, enough) = (&weights, &enough);
                scope.spawn(move || self.sweep_part(images, seed, (job, jobs), weights, enough))
            };
            let threads: Vec<_> = (0..jobs).map(part).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
            };
            threads
                .into_iter()
                .map(join)
                .collect::<anyhow::Result<Vec<Swept>>>()
        })?;
        let mut all = Swept::default();
        for part in parts {
            all.images += part.images;
            all.went_on += part.went_on;
            all.violations.extend(part.violations);
        }
        Ok(all)
    }

    fn sweep_part(
        &self,
        images: usize,
        seed: u64,
        (job, jobs): (usize, usize),
        weights: &[u64],
        enough: &AtomicBool,
    ) -> anyhow::Result<Swept> {
        let total: u64 = weights.iter().sum();
        let images_wanted = u64::try_from(images)?;
        let mut swept = Swept::default();
        let mut disk = Disk::default();
        let mut acked = Acked::default();
        let (mut index, mut owed) = (0usize, 0u64);
        for (at, (step, weight)) in self.steps.iter().zip(weights).enumerate() {
            disk.apply(step);
            if let Step::Ack(line) = step {
                acked.hear(line)?;
            }
            owed += images_wanted * weight;
            while owed >= total {
                owed -= total;
                index += 1;
                if index % jobs != job {
                    continue;
                }
                if enough.load(Ordering::Relaxed) {
                    return Ok(swept);
                }
                let mut chance = Chance::of(seed, u64::try_from(index)?);
                let style = if disk.has_pending() {
                    *STYLES.get(chance.below(STYLES.len())).context("a style")?
                } else {
                    Style::Dropped
                };
                let folder = scratch()?;
                disk.cut(style, &mut chance.clone(), folder.path())?;
                swept.images += 1;
                let goes_on = index.is_multiple_of(16);
                swept.went_on += u64::from(goes_on);
                let Err(error) = self.recover(folder.path(), &acked, goes_on) else {
                    continue;
                };
                let kept = scratch()?.keep();
                disk.cut(style, &mut chance, &kept)?;
                swept.violations.push(format!(
                    "{:?} after step {at} of {}, {style:?}, acknowledged {acked:?}: {error:#} (image {index}, kept in {})",
                    self.args,
                    self.steps.len(),
                    kept.display()
                ));
                enough.store(true, Ordering::Relaxed);
                return Ok(swept);
            }
        }
        Ok(swept)
    }

    /// Recovers an image and holds it against what was acknowledged.
    fn recover(&self, folder: &Path, acked: &Acked, goes_on: bool) -> anyhow::Result<()> {
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
            "{} rows acknowledged, {there} there",
            acked.rows
        );
        if acked.words {
            for (key, value) in &self.trial.words {
                let seen = spool.meta(TRIAL, key)?;
                ensure!(seen.as_ref() == Some(value), "the word {key} is {seen:?}");
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
        let record = Record::open_or_create(path)?;
        let there = self.trial.in_record(&record)?;
        ensure!(
            there >= acked.rows,
            "{} rows acknowledged, {there} there",
            acked.rows
        );
        if acked.words {
            for (key, value) in &self.trial.words {
                let seen = record.meta(key)?;
                ensure!(seen.as_ref() == Some(value), "the word {key} is {seen:?}");
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
        ensure!(after.wrong.is_empty(), "verify: {:?}", after.wrong);
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

/// A folder in memory where there is one: recovery syncs, and that is not what is measured.
fn scratch() -> anyhow::Result<tempfile::TempDir> {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("powercut-")
        .tempdir_in(base)
        .context("a folder for images")
}

/// Mistakes that the lane must find, or it is blind.
fn plants(seed: u64, jobs: usize, lane: &mut Lane) -> anyhow::Result<()> {
    let case = |kind, normal, kill: Option<u32>| Case {
        args: WriterArgs {
            kind,
            seed,
            hours: 1,
            normal,
        },
        kills: [kill, None],
    };
    let mut plants: Vec<(String, Recording)> = Vec::new();
    for kind in [Kind::Spool, Kind::Record] {
        let name = |what: &str| format!("{kind:?}: {what}");
        plants.push((name("synchronous=NORMAL"), case(kind, true, None).record()?));
        let sound = case(kind, false, None).record()?;
        plants.push((name("no sync of files"), sound.without(is_file_sync)));
        plants.push((
            name("no sync of the folder"),
            sound.without(|s| *s == Step::SyncFolder),
        ));
        plants.push((name("acknowledged before the sync"), sound.acked_early()));
        plants.push((
            name("one commit without its sync"),
            sound.without_one_sync(seed)?,
        ));
    }
    let killed = case(Kind::Record, false, Some(12)).record()?;
    plants.push((
        "Record: no sync at the start after a kill".into(),
        killed.without_syncs_at_start(),
    ));
    let key = case(Kind::Key, false, None).record()?;
    plants.push(("Key: no sync of files".into(), key.without(is_file_sync)));
    plants.push((
        "Key: no sync of the folder".into(),
        key.without(|s| *s == Step::SyncFolder),
    ));
    for (name, recording) in plants {
        let swept = recording.sweep(3_000, seed, jobs)?;
        let found = swept.violations.first();
        ensure!(
            found.is_some(),
            "planted and not found in {} images: {name}",
            swept.images
        );
        eprintln!(
            "powercut: planted, found in {} images: {name}",
            swept.images
        );
        lane.count("plants_found", 1);
    }
    Ok(())
}

fn is_file_sync(step: &Step) -> bool {
    matches!(step, Step::SyncFile { .. })
}

impl Recording {
    fn with(&self, steps: Vec<Step>) -> Self {
        Self {
            args: self.args,
            trial: Trial::new(self.args.hours),
            steps,
        }
    }

    fn without(&self, left_out: impl Fn(&Step) -> bool) -> Self {
        let kept = self.steps.iter().filter(|step| !left_out(step));
        self.with(kept.cloned().collect())
    }

    /// Each word stands before the sync that it waited for.
    fn acked_early(&self) -> Self {
        let mut steps = self.steps.clone();
        for at in 1..steps.len() {
            let waits = matches!(steps.get(at), Some(Step::Ack(_)));
            if waits && steps.get(at - 1).is_some_and(is_file_sync) {
                steps.swap(at - 1, at);
            }
        }
        self.with(steps)
    }

    /// One of the syncs right before a word is missing; the next one makes good for it.
    fn without_one_sync(&self, seed: u64) -> anyhow::Result<Self> {
        let pairs = self.steps.iter().zip(self.steps.iter().skip(1));
        let commits: Vec<usize> = pairs
            .enumerate()
            .filter(|(_, (step, next))| {
                is_file_sync(step) && matches!(next, Step::Ack(line) if line.starts_with("rows"))
            })
            .map(|(at, _)| at)
            .collect();
        let one = Chance::new(seed).below(commits.len());
        let mut steps = self.steps.clone();
        steps.remove(*commits.get(one).context("a commit")?);
        Ok(self.with(steps))
    }

    /// The second process's syncs before its first word are missing.
    fn without_syncs_at_start(&self) -> Self {
        let mut starts = 0;
        let mut said = false;
        let mut kept = Vec::new();
        for step in &self.steps {
            match step {
                Step::Start => (starts, said) = (starts + 1, false),
                Step::Ack(_) => said = true,
                Step::SyncFile { .. } | Step::SyncFolder if starts > 1 && !said => continue,
                Step::Write { .. }
                | Step::Resize { .. }
                | Step::Link { .. }
                | Step::Unlink { .. }
                | Step::Rename { .. }
                | Step::SyncFile { .. }
                | Step::SyncFolder => {}
            }
            kept.push(step.clone());
        }
        self.with(kept)
    }
}
