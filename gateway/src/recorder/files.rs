//! The records of a ward, and what follows from a batch: durable first, then answered, then a
//! receipt. No I/O but through [`RecordFolder`]; time is an argument.

use super::folder::RecordFolder;
use super::trial::Trial;
use protocol::keys::KeyPair;
use protocol::time::Now;
use protocol::topics::{EvBatch, Receipt};
use std::collections::{BTreeMap, BTreeSet};

/// Messages of one commit.
pub const GROUP_MAX: usize = 64;

/// What became of some batches; `M` is how the broker knows a message.
#[derive(Debug)]
pub struct Committed<M> {
    /// On disk: to be answered, in this order, before the receipts are said.
    pub answered: Vec<M>,
    /// To be signed and published.
    pub receipts: Vec<Receipt>,
    /// Identities that came with another body, now set aside.
    pub conflicts: Vec<String>,
    /// Why the disk failed. Final: nothing of the failed batch and after is answered, and every
    /// gateway keeps its rows.
    pub failed: Option<String>,
}

/// All records of one recorder.
#[derive(Debug)]
pub struct Files {
    folder: Box<dyn RecordFolder>,
    name: String,
    pair: KeyPair,
    trials: BTreeMap<String, Trial>,
}

impl Files {
    /// Takes up the records that are there, so that the first receipts say what they hold.
    ///
    /// # Errors
    /// Where one of them cannot be used.
    pub fn open(
        folder: Box<dyn RecordFolder>,
        name: &str,
        pair: KeyPair,
    ) -> Result<Self, record::Error> {
        let mut files = Self {
            folder,
            name: name.to_owned(),
            pair,
            trials: BTreeMap::new(),
        };
        for trial in files.folder.trials()? {
            files.open_trial(&trial)?;
        }
        Ok(files)
    }

    fn open_trial(&mut self, trial: &str) -> Result<(), record::Error> {
        if !self.trials.contains_key(trial) {
            let opened = Trial::open(self.folder.as_ref(), trial)?;
            self.trials.insert(trial.to_owned(), opened);
        }
        Ok(())
    }

    /// Makes batches durable and says what is to be answered; with the receipts of all gateways
    /// where a connection is new, else of those that sent. To be called now and then without
    /// batches, so that holes that stand are noted.
    pub fn commit<M>(
        &mut self,
        now: Now,
        batches: Vec<(EvBatch, M)>,
        all_receipts: bool,
    ) -> Committed<M> {
        let mut done = Committed {
            answered: Vec::new(),
            receipts: Vec::new(),
            conflicts: Vec::new(),
            failed: None,
        };
        let mut touched = BTreeSet::new();
        for (batch, message) in batches {
            match self.store(now, &batch) {
                Ok(conflicts) => {
                    touched.insert(batch.gw);
                    done.conflicts.extend(conflicts);
                    done.answered.push(message);
                }
                Err(e) => {
                    done.failed = Some(e.to_string());
                    return done;
                }
            }
        }
        if let Err(e) = self.after_commit(now, &mut touched) {
            done.failed = Some(e.to_string());
            return done;
        }
        if all_receipts {
            touched.extend(self.trials.values().filter_map(|t| t.gw().cloned()));
        }
        done.receipts = touched.iter().map(|gw| self.receipt(now, gw)).collect();
        done
    }

    fn store(&mut self, now: Now, batch: &EvBatch) -> Result<Vec<String>, record::Error> {
        self.open_trial(&batch.trial)?;
        let trial = self.trials.get_mut(&batch.trial).expect("opened just now");
        trial.store(self.folder.as_ref(), now, batch)
    }

    /// Holes that stand are noted; trials whose chains are both closed are sealed and folded.
    fn after_commit(
        &mut self,
        now: Now,
        touched: &mut BTreeSet<String>,
    ) -> Result<(), record::Error> {
        for trial in self.trials.values_mut() {
            trial.note_holes(now)?;
            if trial.close_if_whole(self.folder.as_ref(), now, &self.name, &self.pair)? {
                touched.extend(trial.gw().cloned());
            }
        }
        Ok(())
    }

    /// All that this recorder has of a gateway; nothing is an answer too.
    pub fn receipt(&self, now: Now, gw: &str) -> Receipt {
        let own = self
            .trials
            .values()
            .filter(|t| t.gw().is_some_and(|g| g == gw));
        Receipt {
            recorder: self.name.clone(),
            gw: gw.into(),
            made_at_utc_ms: now.utc.as_unix_millis(),
            sources: own.flat_map(Trial::receipts).collect(),
        }
    }
}
