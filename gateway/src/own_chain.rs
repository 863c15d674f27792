//! What the gateway itself says of a trial, as a chain of its own: source `<gw>.<trial>`.
//!
//! The gateway stamps its events with its clock: `tick_ms` is UTC, and so are both time columns.

use crate::store::{Failed, Store};
use protocol::bedside::Fact;
use protocol::chain::{ChainHead, TagKey, checkpoint_message};
use protocol::event::{Body, Checkpoint, CloseReason, Head, Raw, TrialClosed};
use protocol::hex::Hex;
use protocol::keys::KeyPair;
use protocol::message::Source;
use protocol::time::Timestamp;
use protocol::topics::EventRow;
use record::store::StoredRow;

const CHECKPOINT_EVERY_MS: u64 = 3_600_000;

/// The gateway's chain of one trial.
#[derive(Debug)]
pub struct OwnChain {
    trial: String,
    source: Source,
    pair: KeyPair,
    genesis: ChainHead,
    head: ChainHead,
    key: TagKey,
    key_index: u32,
    boot: u32,
    seq: u64,
    last_tick_ms: u64,
    checkpoint_at_ms: u64,
    closing: bool,
    closed: bool,
}

/// Why something was not added.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The chain is closed.
    #[error("the trial is closed")]
    Closed,
    /// The texts in it are too long for one event.
    #[error("the texts are too long: {0}")]
    TooLong(#[from] protocol::event::Error),
    /// The disk failed.
    #[error("not stored: {0}")]
    Store(#[from] Failed),
    /// What is on disk is not this gateway's chain.
    #[error("the spool's own events are not this gateway's: {0}")]
    Foreign(String),
}

impl OwnChain {
    /// Goes on from what is in the spool, as start `boot`.
    ///
    /// # Errors
    /// Where what is there is not this gateway's, or the store failed.
    pub fn open(
        store: &Store,
        trial: &str,
        gw: &str,
        manifest: &[u8],
        pair: KeyPair,
    ) -> Result<Self, Error> {
        let name = format!("{gw}.{trial}");
        let source = Source::new(&name)
            .ok_or_else(|| Error::Foreign(format!("{name:?} is longer than 32 characters")))?;
        let genesis = ChainHead::genesis(manifest);
        let mut chain = Self {
            trial: trial.into(),
            source,
            genesis,
            head: genesis,
            key: TagKey::of_trial(&pair.tag_secret(), &genesis),
            pair,
            key_index: 0,
            boot: 0,
            seq: 0,
            last_tick_ms: 0,
            checkpoint_at_ms: 0,
            closing: false,
            closed: false,
        };
        for stored in store.rows_after(trial, source.as_str(), 0, usize::MAX >> 1)? {
            let (raw, fact) = stored
                .row
                .check()
                .map_err(|e| Error::Foreign(format!("{}: {e}", stored.id())))?;
            chain.turn_to_boot(stored.row.boot);
            chain.head = chain.head.after(&raw);
            if chain.key.tag(&chain.head) != stored.row.tag {
                return Err(Error::Foreign(format!(
                    "{}: tagged with another key",
                    stored.id()
                )));
            }
            chain.seq = stored.row.seq;
            chain.last_tick_ms = stored.row.tick_ms;
            let checkpoint = matches!(fact, Fact::Pump(Body::Checkpoint(_)));
            if checkpoint {
                chain.turn_key();
                chain.checkpoint_at_ms = stored.row.tick_ms + CHECKPOINT_EVERY_MS;
            }
            chain.closed |= chain.closing && checkpoint;
            chain.closing |= matches!(fact, Fact::Pump(Body::TrialClosed(_)));
        }
        chain.turn_to_boot(chain.boot + 1);
        Ok(chain)
    }

    fn turn_key(&mut self) {
        self.key = self.key.next();
        self.key_index += 1;
    }

    fn turn_to_boot(&mut self, boot: u32) {
        while self.boot < boot {
            self.boot += 1;
            self.turn_key();
        }
    }

    /// The source's name.
    pub fn source(&self) -> &str {
        self.source.as_str()
    }

    /// The last seq.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether the closing checkpoint is in.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the closing has begun: nothing but its checkpoint may follow.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Our tick is UTC and never goes back, however the clock is set.
    fn tick_at(&self, now: Timestamp) -> u64 {
        u64::try_from(now.as_unix_millis())
            .unwrap_or(0)
            .max(self.last_tick_ms)
    }

    /// The head after one event and its row, without storing it.
    fn prepare(
        &self,
        seq: u64,
        now: Timestamp,
        fact: &Fact,
    ) -> Result<(Raw, EventRow, ChainHead), Error> {
        let utc = self.tick_at(now);
        let head = Head {
            boot: self.boot,
            seq,
            tick_ms: utc,
        };
        let raw = fact.encode(head)?;
        let after = self.head.after(&raw);
        let utc = i64::try_from(utc).unwrap_or(i64::MAX);
        let row = EventRow::new(self.source, &raw, self.key.tag(&after), utc, Some(0), utc)
            .map_err(|e| Error::Foreign(e.to_string()))?;
        Ok((raw, row, after))
    }

    /// Adds a fact, durably; gives its row.
    ///
    /// # Errors
    /// Where the chain is closed, the texts are too long, or the store failed.
    pub fn add(&mut self, store: &Store, now: Timestamp, fact: &Fact) -> Result<EventRow, Error> {
        let checkpoint = matches!(fact, Fact::Pump(Body::Checkpoint(_)));
        if self.closed || self.closing && !checkpoint {
            return Err(Error::Closed);
        }
        let (_, row, after) = self.prepare(self.seq + 1, now, fact)?;
        store.append(&self.trial, vec![row.clone()])?;
        self.seq += 1;
        self.head = after;
        self.last_tick_ms = row.tick_ms;
        if checkpoint {
            self.turn_key();
            self.checkpoint_at_ms = row.tick_ms + CHECKPOINT_EVERY_MS;
            self.closed = self.closing;
        }
        self.closing |= matches!(fact, Fact::Pump(Body::TrialClosed(_)));
        Ok(row)
    }

    /// Adds a signed checkpoint.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn checkpoint(&mut self, store: &Store, now: Timestamp) -> Result<EventRow, Error> {
        let (through, index) = (self.seq, self.key_index);
        let message = checkpoint_message(
            &self.genesis,
            self.boot,
            self.tick_at(now),
            through,
            through,
            index,
            &self.head,
        );
        let body = Body::from(Checkpoint {
            through_seq: through,
            count: through,
            key_index: index,
            head: self.head.0,
            signature: Hex(self.pair.sign(&message).0),
        });
        self.add(store, now, &Fact::Pump(body))
    }

    /// Adds the hourly checkpoint where it is due.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn checkpoint_if_due(&mut self, store: &Store, now: Timestamp) -> Result<(), Error> {
        let utc = u64::try_from(now.as_unix_millis()).unwrap_or(0);
        if !self.closed && self.seq > 0 && utc >= self.checkpoint_at_ms {
            self.checkpoint(store, now)?;
        }
        Ok(())
    }

    /// Closes the chain: the reason and a last checkpoint. Where a start before this one came no
    /// further than the reason, only the checkpoint.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn close(
        &mut self,
        store: &Store,
        now: Timestamp,
        reason: CloseReason,
    ) -> Result<(), Error> {
        if !self.closing {
            self.add(store, now, &Fact::Pump(TrialClosed { reason }.into()))?;
        }
        if !self.closed {
            self.checkpoint(store, now)?;
        }
        Ok(())
    }
}

/// The last seq of `source` that a `stored` digest of this chain covers.
pub fn digested_through(own_rows: &[StoredRow], source: &str) -> u64 {
    own_rows
        .iter()
        .filter_map(|stored| match stored.row.check() {
            Ok((_, Fact::Stored(range))) if range.source == source => Some(range.to_seq),
            _ => None,
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::chain::{ChainCheck, Finding};
    use record::Spool;

    const ROOT: &[u8] = b"a manifest";

    fn open(store: &Store) -> OwnChain {
        OwnChain::open(store, "T", "gw", ROOT, KeyPair::from_seed([3; 32])).unwrap()
    }

    #[test]
    fn a_close_that_a_crash_interrupted_is_ended_by_its_checkpoint_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(Box::new(Spool::open(&dir.path().join("a.spool")).unwrap()));
        let now = Timestamp::from_unix_millis(1_000_000);
        let mut chain = open(&store);
        let closed = TrialClosed {
            reason: CloseReason::Planned,
        };
        chain.add(&store, now, &Fact::Pump(closed.into())).unwrap();
        // The process ends here, before the checkpoint.
        let mut chain = open(&store);
        assert!(chain.is_closing() && !chain.is_closed());
        let by_ms = 1;
        let late = protocol::bedside::ClockStepped { by_ms }.into();
        assert!(matches!(chain.add(&store, now, &late), Err(Error::Closed)));
        chain.close(&store, now, CloseReason::Planned).unwrap();
        assert!(chain.is_closed());
        let mut check = ChainCheck::new(ROOT, chain.pair.public(), None);
        for stored in store.rows_after("T", chain.source(), 0, 10).unwrap() {
            let (raw, _) = stored.row.check().unwrap();
            let found = check.next(&raw, &stored.row.tag);
            assert!(!matches!(found, Finding::Broken(_)), "{found:?}");
        }
        assert!(check.closed());
        assert!(open(&store).is_closed());
    }
}
