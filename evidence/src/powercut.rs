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

use crate::chance::Chance;
use crate::ledger::{Lane, LaneArgs};
use crate::promise::{Promise, scratch};
use crate::writer::{Acked, Kind, WriterArgs};
use anyhow::{Context, bail, ensure};
use clap::Args;
use disk::{Disk, STYLES, Style};
use recording::{Recorder, Step};
use std::sync::atomic::{AtomicBool, Ordering};

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
            // To be looked at.
            for image in swept.kept {
                let _ = image.keep();
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
            rows: None,
        };
        Case { args, kills }
    };
    [
        (40, case(Kind::Record, 3, false)),
        (35, case(Kind::Record, 3, true)),
        (10, case(Kind::Spool, 2, false)),
        (10, case(Kind::Spool, 2, true)),
        (5, case(Kind::Key, 1, false)),
    ]
}

/// What a writer did, and what it promised.
struct Recording {
    promise: Promise,
    steps: Vec<Step>,
}

/// What images showed.
#[derive(Debug, Default)]
struct Swept {
    images: u64,
    went_on: u64,
    violations: Vec<String>,
    /// The image of each; gone when dropped.
    kept: Vec<tempfile::TempDir>,
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
            promise: Promise::new(self.args),
            steps: recorder.steps,
        })
    }
}

impl Recording {
    /// How many images of the whole each point in time gets: most where something was just
    /// promised or is about to be synced, few in the middle of a long run of writes.
    fn weights(&self) -> Vec<u64> {
        let is_turn = |step: &Step| is_file_sync(step) || is_folder_sync(step) || is_word(step);
        let count = self.steps.len();
        let mut until = vec![usize::MAX; count];
        let mut next = usize::MAX;
        for (place, step) in until.iter_mut().zip(&self.steps).rev() {
            *place = next;
            next = if is_turn(step) {
                1
            } else {
                next.saturating_add(1)
            };
        }
        let mut since = usize::MAX;
        let mut weights = Vec::with_capacity(count);
        for (at, (step, until)) in self.steps.iter().zip(until).enumerate() {
            since = if is_turn(step) {
                0
            } else {
                since.saturating_add(1)
            };
            weights.push(match since.min(until) {
                0 | 1 => 24,
                2..12 => 4,
                _ => u64::from(at.is_multiple_of(16)),
            });
        }
        weights
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
            all.kept.extend(part.kept);
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
                let Err(error) = self.promise.hold(folder.path(), &acked, goes_on) else {
                    continue;
                };
                let kept = scratch()?;
                disk.cut(style, &mut chance, kept.path())?;
                swept.violations.push(format!(
                    "{:?} after step {at} of {}, {style:?}, acknowledged {acked:?}: {error:#} (image {index}, in {})",
                    self.promise.args,
                    self.steps.len(),
                    kept.path().display()
                ));
                swept.kept.push(kept);
                enough.store(true, Ordering::Relaxed);
                return Ok(swept);
            }
        }
        Ok(swept)
    }
}

/// Mistakes that the lane must find, or it is blind; each with words of the finding.
fn plants(seed: u64, jobs: usize, lane: &mut Lane) -> anyhow::Result<()> {
    let case = |kind, normal, kill: Option<u32>| Case {
        args: WriterArgs {
            kind,
            seed,
            hours: 1,
            normal,
            rows: None,
        },
        kills: [kill, None],
    };
    let mut plants: Vec<(String, &str, Recording)> = Vec::new();
    let lost = "acknowledged and lost";
    for kind in [Kind::Spool, Kind::Record] {
        let mut plant = |what: &str, words, recording| {
            plants.push((format!("{kind:?}: {what}"), words, recording));
        };
        plant("synchronous=NORMAL", lost, case(kind, true, None).record()?);
        let sound = case(kind, false, None).record()?;
        plant("no sync of files", "", sound.without(is_file_sync));
        plant("no sync of folders", "", sound.without(is_folder_sync));
        plant("acknowledged before the sync", lost, sound.acked_early());
        plant(
            "one commit without its sync",
            lost,
            sound.without_one_sync(seed)?,
        );
    }
    let killed = case(Kind::Record, false, Some(20)).record()?;
    let name = "Record: no sync at the start after a kill";
    plants.push((name.into(), lost, killed.without_syncs_at_start()));
    let made = case(Kind::Record, false, None).record()?;
    let name = "Record: no sync of the folder that holds the records";
    plants.push((name.into(), "", made.without(is_sync_of_top)));
    let key = case(Kind::Key, false, None).record()?;
    let name = "Key: no sync of files";
    plants.push((name.into(), "", key.without(is_file_sync)));
    let name = "Key: no sync of the folder";
    plants.push((name.into(), "", key.without(is_folder_sync)));
    for (name, words, recording) in plants {
        let swept = recording.sweep(600, seed, jobs)?;
        let found = swept.violations.iter().any(|what| what.contains(words));
        let images = swept.images;
        ensure!(
            found,
            "planted and not found in {images} images: {name}: {:?}",
            swept.violations
        );
        eprintln!("powercut: planted, found in {images} images: {name}");
        lane.count("plants_found", 1);
    }
    Ok(())
}

fn is_file_sync(step: &Step) -> bool {
    matches!(step, Step::SyncFile { .. })
}

fn is_word(step: &Step) -> bool {
    matches!(step, Step::Ack(_) | Step::Start)
}

fn is_folder_sync(step: &Step) -> bool {
    matches!(step, Step::SyncFolder { .. })
}

/// A sync of the folder in which everything else stands.
fn is_sync_of_top(step: &Step) -> bool {
    matches!(step, Step::SyncFolder { name } if name.is_empty())
}

impl Recording {
    fn with(&self, steps: Vec<Step>) -> Self {
        Self {
            promise: Promise::new(self.promise.args),
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
                Step::SyncFile { .. } | Step::SyncFolder { .. } if starts > 1 && !said => continue,
                Step::Write { .. }
                | Step::Resize { .. }
                | Step::Link { .. }
                | Step::Unlink { .. }
                | Step::Rename { .. }
                | Step::MakeFolder { .. }
                | Step::SyncFile { .. }
                | Step::SyncFolder { .. } => {}
            }
            kept.push(step.clone());
        }
        self.with(kept)
    }
}
