//! A disk with a page cache, under files that change in whole steps, as SQLite's do.
//!
//! A step is written to the cache and then synced, and seen when the sync says that it is done.
//! When a process is killed the cache lives, and the next one finds in it what was written; when
//! power fails the cache is gone but for a part of what was not synced, from its beginning. A sync
//! can lie, and can fail: then its step is not seen by the process that wrote it, and the next one may find
//! it or not. Between any two steps of a write the process can be killed, or power can fail: every
//! call then fails until [`Disk::light`].

use super::dice::Dice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a file holds, and how one step changes it.
pub(crate) trait Image: Clone + Default + Send + std::fmt::Debug {
    type Step: Send + std::fmt::Debug;
    fn apply(&mut self, step: &Self::Step);
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Killed,
    PowerCut,
}

/// What may go wrong. Probabilities, for each step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Harm {
    /// The process ends at this very step.
    pub(crate) crash: f64,
    /// A sync says that it failed.
    pub(crate) sync_fails: f64,
    /// A sync says that it is done, and is not.
    pub(crate) sync_lies: f64,
}

#[derive(Debug)]
struct State<I: Image> {
    cache: I,
    durable: I,
    /// Written and not durable.
    pending: Vec<I::Step>,
    /// Of these, in the order of writing, those that are seen.
    seen: usize,
    /// And those of which a sync said that it was done.
    lied: usize,
    /// A sync failed.
    failed: bool,
    harm: Harm,
    full: bool,
    down: Option<Crash>,
    dice: Dice,
    counts: Counts,
}

/// What happened to a disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) crashes: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) refused_full: u64,
    /// Steps that a sync had lied about and a power cut took.
    pub(crate) lost_to_lies: u64,
}

/// A file on such a disk. Clones are handles on the same file.
#[derive(Clone, Debug)]
pub(crate) struct Disk<I: Image>(Arc<Mutex<State<I>>>);

/// Why the file did not do as told.
pub(crate) fn error(why: &str) -> record::Error {
    record::Error::Io {
        path: "simulated".into(),
        source: std::io::Error::other(why.to_owned()),
    }
}

impl<I: Image> Disk<I> {
    pub(crate) fn new(seed: u64, concern: u64, harm: Harm) -> Self {
        Self(Arc::new(Mutex::new(State {
            cache: I::default(),
            durable: I::default(),
            pending: Vec::new(),
            seen: 0,
            lied: 0,
            failed: false,
            harm,
            full: false,
            down: None,
            dice: Dice::new(seed, concern),
            counts: Counts::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State<I>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is seen now.
    pub(crate) fn read<T>(&self, of: impl FnOnce(&I) -> T) -> Result<T, record::Error> {
        let state = self.state();
        match state.down {
            Some(_) => Err(error("the process has ended")),
            None => Ok(of(&state.cache)),
        }
    }

    /// Looks at the file without a process.
    pub(crate) fn look<T>(&self, of: impl FnOnce(&I) -> T) -> T {
        of(&self.state().cache)
    }

    /// Makes a step durable.
    pub(crate) fn commit(&self, step: I::Step) -> Result<(), record::Error> {
        let mut state = self.state();
        state.point()?;
        if state.full {
            state.counts.refused_full += 1;
            return Err(error("no space left on device"));
        }
        state.pending.push(step);
        state.point()?;
        state.sync()?;
        state.point()
    }

    /// A new process opens the file: what an older one left in the cache is synced first.
    pub(crate) fn open(&self) -> Result<(), record::Error> {
        let mut state = self.state();
        state.point()?;
        state.sync()
    }

    /// The process is ended from outside.
    pub(crate) fn end(&self, crash: Crash) {
        let mut state = self.state();
        if state.down.is_none() {
            state.down = Some(crash);
            state.counts.crashes += 1;
        }
    }

    /// Whether the process has ended at a step.
    pub(crate) fn down(&self) -> bool {
        self.state().down.is_some()
    }

    /// A process may begin again. After a power cut the cache is gone but for a beginning of it.
    pub(crate) fn light(&self) {
        let mut state = self.state();
        // Where a sync failed, some file systems drop what they could not write.
        let dropped = std::mem::take(&mut state.failed) && state.dice.happens(0.5);
        if state.down.take() == Some(Crash::PowerCut) || dropped {
            state.lose_cache();
        }
        state.find();
        state.full = false;
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    pub(crate) fn set_harm(&self, harm: Harm) {
        self.state().harm = harm;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }
}

impl<I: Image> State<I> {
    /// A place where the process can end.
    fn point(&mut self) -> Result<(), record::Error> {
        if self.down.is_none() && self.dice.happens(self.harm.crash) {
            let power = self.dice.happens(0.5);
            self.down = Some(if power {
                Crash::PowerCut
            } else {
                Crash::Killed
            });
            self.counts.crashes += 1;
        }
        match self.down {
            Some(_) => Err(error("the process has ended")),
            None => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), record::Error> {
        if self.dice.happens(self.harm.sync_fails) {
            self.counts.failed_syncs += 1;
            self.failed = true;
            return Err(error("fdatasync: input/output error"));
        }
        let lies = self.dice.happens(self.harm.sync_lies);
        for step in self.pending.iter().skip(self.seen) {
            self.cache.apply(step);
        }
        if lies {
            self.seen = self.pending.len();
            self.lied = self.seen;
            return Ok(());
        }
        for step in self.pending.drain(..) {
            self.durable.apply(&step);
        }
        (self.seen, self.lied) = (0, 0);
        Ok(())
    }

    /// What a process that begins now finds.
    fn find(&mut self) {
        self.cache = self.durable.clone();
        for step in &self.pending {
            self.cache.apply(step);
        }
        self.seen = self.pending.len();
    }

    fn lose_cache(&mut self) {
        let most = u64::try_from(self.pending.len()).unwrap_or(0);
        let kept = usize::try_from(self.dice.whole(0, most)).unwrap_or(0);
        let lied = self.lied.saturating_sub(kept);
        self.counts.lost_to_lies += u64::try_from(lied).unwrap_or(0);
        for step in self.pending.drain(..).take(kept) {
            self.durable.apply(&step);
        }
        (self.seen, self.lied) = (0, 0);
    }
}
