//! The spool that all lines share. Everyone's rows of a moment go into one commit, so many pumps
//! share one disk sync; an answer comes only after it.
//!
//! Whoever comes first commits for all that wait by then, in its own thread: a line that is alone
//! hands nothing over to anybody, and pays for a commit little more than the disk's sync.
//!
//! A failed commit is final: every append from then on is answered with the failure, so that
//! nothing is acknowledged to any pump, and the journals of the pumps hold.

use crate::gateway::lock;
use crate::spool_file::SpoolFile;
use protocol::topics::EventRow;
use record::spool::Outcome;
use record::store::StoredRow;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The most rows of one commit, where one append alone does not bring more.
pub const GROUP_MAX: usize = 4_096;

/// The store failed, and stays failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

type Answer = Result<Vec<Outcome>, Failed>;

/// A way to the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// None once it was stopped.
    spool: Mutex<Option<Box<dyn SpoolFile>>>,
    turn: Mutex<Turn>,
    answered: Condvar,
}

/// Who waits, and whether somebody commits.
#[derive(Debug, Default)]
struct Turn {
    next_ticket: u64,
    waiting: VecDeque<Waiting>,
    answers: BTreeMap<u64, Answer>,
    committing: bool,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    trial: String,
    rows: Vec<EventRow>,
}

impl Store {
    /// Over an open spool.
    pub fn new(spool: Box<dyn SpoolFile>) -> Self {
        Self(Arc::new(Shared {
            spool: Mutex::new(Some(spool)),
            turn: Mutex::default(),
            answered: Condvar::new(),
        }))
    }

    /// Makes rows of a trial durable. Blocks until they are.
    ///
    /// # Errors
    /// Where the store failed: then nothing may be acknowledged.
    pub fn append(&self, trial: &str, rows: Vec<EventRow>) -> Answer {
        let mut turn = lock(&self.0.turn);
        let ticket = turn.next_ticket;
        turn.next_ticket += 1;
        turn.waiting.push_back(Waiting {
            ticket,
            trial: trial.into(),
            rows,
        });
        loop {
            if let Some(answer) = turn.answers.remove(&ticket) {
                return answer;
            }
            if turn.committing {
                turn = self
                    .0
                    .answered
                    .wait(turn)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            turn.committing = true;
            let group = turn.take_group();
            let failed = turn.failed.clone();
            drop(turn);
            let result = failed.map_or_else(|| self.commit(&group), Err);
            turn = lock(&self.0.turn);
            turn.answer(&group, result);
            turn.committing = false;
            self.0.answered.notify_all();
        }
    }

    /// A panic in here would leave everyone waiting: it is a failure like any other.
    fn commit(&self, group: &[Waiting]) -> Answer {
        let rows = group
            .iter()
            .flat_map(|w| w.rows.iter().map(|row| (w.trial.as_str(), row)));
        let rows: Vec<_> = rows.collect();
        let commit = AssertUnwindSafe(|| self.with(|spool| spool.append(&rows)));
        match catch_unwind(commit) {
            Ok(done) => done?.map_err(|e| Failed(e.to_string())),
            Err(_) => Err(Failed("the commit panicked".into())),
        }
    }

    /// Runs something else on the spool, between two commits.
    ///
    /// # Errors
    /// Where the store has stopped.
    pub fn with<T>(&self, work: impl FnOnce(&mut dyn SpoolFile) -> T) -> Result<T, Failed> {
        let mut spool = lock(&self.0.spool);
        let spool = spool.as_mut().ok_or_else(stopped)?;
        Ok(work(spool.as_mut()))
    }

    /// Writes something else, between two commits. Where that fails the store has failed, as by a
    /// commit of rows.
    ///
    /// # Errors
    /// Where the store failed or has stopped.
    pub fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn SpoolFile) -> Result<T, record::Error>,
    ) -> Result<T, Failed> {
        if let Some(failed) = lock(&self.0.turn).failed.clone() {
            return Err(failed);
        }
        let done = self.with(work)?;
        done.map_err(|e| {
            let failed = Failed(e.to_string());
            lock(&self.0.turn).failed.get_or_insert(failed).clone()
        })
    }

    /// Rows of a source after a seq.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn rows_after(
        &self,
        trial: &str,
        source: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredRow>, Failed> {
        self.with(|spool| spool.rows_after(trial, source, after, limit))?
            .map_err(|e| Failed(e.to_string()))
    }

    /// Closes the spool after the running commit; what comes later is answered with a failure.
    pub fn stop(&self) {
        *lock(&self.0.spool) = None;
    }
}

impl Turn {
    /// Those that came first, as many as one commit takes; at least one.
    fn take_group(&mut self) -> Vec<Waiting> {
        let mut rows = 0;
        let fits = |waiting: &&Waiting| {
            rows += waiting.rows.len();
            rows <= GROUP_MAX
        };
        let count = self.waiting.iter().take_while(fits).count().max(1);
        self.waiting
            .drain(..count.min(self.waiting.len()))
            .collect()
    }

    fn answer(&mut self, group: &[Waiting], result: Answer) {
        match result {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for waiting in group {
                    let own = outcomes.by_ref().take(waiting.rows.len()).collect();
                    self.answers.insert(waiting.ticket, Ok(own));
                }
            }
            Err(failure) => {
                for waiting in group {
                    self.answers.insert(waiting.ticket, Err(failure.clone()));
                }
                self.failed = Some(failure);
            }
        }
    }
}

fn stopped() -> Failed {
    Failed("the store has stopped".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::event::{Body, Door, Head};
    use protocol::hex::Hex;
    use protocol::message::Source;
    use record::Spool;

    fn row(pump: u64, seq: u64) -> EventRow {
        let head = Head {
            boot: 1,
            seq,
            tick_ms: seq,
        };
        let raw = Body::from(Door { open: true }).encode(head).unwrap();
        let source = Source::new(&format!("EP-{pump}")).unwrap();
        EventRow::new(source, &raw, Hex([1; 16]), 0, None, 0).unwrap()
    }

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::new(Box::new(Spool::open(&dir.path().join("a.spool")).unwrap()))
    }

    #[test]
    fn each_of_many_lines_gets_the_answer_to_its_own_rows() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        store.append("T-3", vec![row(3, 2)]).unwrap();
        std::thread::scope(|scope| {
            for pump in 0..8 {
                let store = store.clone();
                scope.spawn(move || {
                    let trial = format!("T-{pump}");
                    for seq in 1..=40 {
                        let answer = store.append(&trial, vec![row(pump, seq), row(pump, seq)]);
                        let again = pump == 3 && seq == 2;
                        let first = if again {
                            Outcome::Repeat
                        } else {
                            Outcome::Stored
                        };
                        assert_eq!(answer.unwrap(), [first, Outcome::Repeat]);
                        let last = store
                            .with(|spool| spool.last_seq(&trial, row(pump, 1).source.as_str()));
                        assert!(
                            last.unwrap().unwrap() >= seq,
                            "answered before it was there"
                        );
                    }
                });
            }
        });
    }

    #[test]
    fn after_one_failed_commit_nothing_is_answered_as_stored() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        store.append("T", vec![row(1, 1)]).unwrap();
        let held = lock(&store.0.spool);
        let waiting = std::thread::scope(|scope| {
            let lines: Vec<_> = (2..6)
                .map(|seq| {
                    let store = store.clone();
                    scope.spawn(move || store.append("T", vec![row(1, seq)]))
                })
                .collect();
            let mut held = held;
            // The disk is gone while lines wait: a read-only handle refuses to write.
            *held = None;
            let read_only = Spool::open_read_only(&dir.path().join("a.spool"));
            *held = Some(Box::new(read_only.unwrap()));
            drop(held);
            lines
                .into_iter()
                .map(|line| line.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(waiting.iter().all(Result::is_err), "{waiting:?}");
        // Even with a sound disk again: the handle does not know what became of the lost step.
        *lock(&store.0.spool) = None;
        let sound = Spool::open(&dir.path().join("a.spool")).unwrap();
        *lock(&store.0.spool) = Some(Box::new(sound));
        let failure = store.append("T", vec![row(1, 9)]).unwrap_err();
        assert!(failure.0.contains("a.spool"), "{failure}");
    }

    #[test]
    fn after_a_word_that_could_not_be_written_nothing_is_answered_as_stored() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        store
            .write(|spool| spool.set_meta("T", "bed", "07"))
            .unwrap();
        *lock(&store.0.spool) = None;
        let read_only = Spool::open_read_only(&dir.path().join("a.spool"));
        *lock(&store.0.spool) = Some(Box::new(read_only.unwrap()));
        let word = store.write(|spool| spool.set_meta("T", "zone", "UTC"));
        let failure = word.unwrap_err();
        *lock(&store.0.spool) = None;
        let sound = Spool::open(&dir.path().join("a.spool")).unwrap();
        *lock(&store.0.spool) = Some(Box::new(sound));
        assert_eq!(store.append("T", vec![row(1, 1)]), Err(failure.clone()));
        assert_eq!(store.write(|spool| spool.sources()), Err(failure));
    }

    #[test]
    fn a_stopped_store_has_closed_its_file_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        store.append("T", vec![row(1, 1)]).unwrap();
        store.clone().stop();
        assert_eq!(store.append("T", vec![row(1, 2)]), Err(stopped()));
        let spool = Spool::open(&dir.path().join("a.spool")).unwrap();
        assert_eq!(spool.last_seq("T", "EP-1").unwrap(), 1);
    }
}
