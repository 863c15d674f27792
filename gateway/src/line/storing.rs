//! From a frame to a durable row: stored, and only then shown and acknowledged.

use super::{Bound, Line};
use crate::clock::Mode;
use crate::gateway::lock;
use protocol::bedside::{BootAnchored, Fact, Stored};
use protocol::event::Raw;
use protocol::time::{Now, Timestamp};
use protocol::topics::EventRow;
use record::spool::Outcome;
use record::store::canonical_json;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// Rows of one digest.
const DIGEST_ROWS: u64 = 64;

impl Line {
    /// Makes rows durable, and only then shows and acknowledges them.
    pub(super) fn store(&mut self, now: Now, rows: &[EventRow]) {
        if rows.is_empty() || self.broken {
            return;
        }
        let outcomes = match self
            .parts
            .store
            .append(&self.parts.config.trial, rows.to_vec())
        {
            Ok(outcomes) => outcomes,
            Err(e) => {
                // Final: nothing more is acknowledged, the pump's journal holds.
                self.broken = true;
                self.receiver.forget_unstored();
                lock(&self.parts.view).technical.store = Some(e.to_string());
                return;
            }
        };
        let Some(bound) = &mut self.bound else { return };
        let mut view = lock(&self.parts.view);
        let mut boots = BTreeSet::new();
        for (row, outcome) in rows.iter().zip(outcomes) {
            match outcome {
                Outcome::Stored => {
                    let Ok((raw, fact)) = row.check() else {
                        continue;
                    };
                    bound.progress.note(row.seq, &raw);
                    bound.digest.add(row, &canonical_json(&row.body));
                    boots.insert(row.boot);
                    let at = Timestamp::from_unix_millis(row.at_utc_ms);
                    view.bed.handle_fact(at, row.seq, &fact);
                    if row.kind != "delivered" {
                        self.parts.news.store(true, Ordering::Relaxed);
                    }
                }
                Outcome::Repeat => view.repeats += 1,
                Outcome::Conflict => view.technical.quarantined += 1,
            }
        }
        let through = bound.progress.through();
        drop(view);
        self.receiver.note_stored(through);
        let source = bound.source;
        self.parts.note_stored(now.uptime, source.as_str(), through);
        if self
            .bound
            .as_ref()
            .is_some_and(|b| b.digest.rows >= DIGEST_ROWS)
        {
            self.end_digest(now, false);
        }
        for boot in boots {
            self.anchor(now, boot);
        }
    }

    /// The pump does not hold these seqs any more, and they are not here: they will never come. Not
    /// kept: after a start the pump says it again.
    pub(super) fn step_over(&mut self, now: Now, from_seq: u64, to_seq: u64) {
        let Some(bound) = self.bound.as_mut().filter(|_| !self.broken) else {
            return;
        };
        bound.progress.note_gone(from_seq, to_seq);
        bound.progress.note_absent(from_seq, to_seq);
        lock(&self.parts.view).bed.note_holes(bound.progress.lost());
        let through = bound.progress.through();
        self.receiver.note_stored(through);
        let source = bound.source;
        self.parts.note_stored(now.uptime, source.as_str(), through);
    }

    /// Says something of our own, durably.
    pub(super) fn say(&self, now: Now, fact: &Fact) {
        let mut own = lock(&self.parts.own);
        let Some(chain) = own.as_mut().filter(|c| !c.is_closing()) else {
            return;
        };
        match chain.add(&self.parts.store, now.utc, fact) {
            Ok(_) => {
                let (source, seq) = (chain.source().to_owned(), chain.seq());
                drop(own);
                self.parts.note_stored(now.uptime, &source, seq);
            }
            Err(e) => lock(&self.parts.view).technical.store = Some(e.to_string()),
        }
    }

    /// Where a start of the pump lies in time, once a start.
    pub(super) fn anchor(&mut self, now: Now, boot: u32) {
        let doubt_ms = self.doubt_ms();
        let Some(bound) = &mut self.bound else { return };
        if bound.anchored.contains(&boot) {
            return;
        }
        let Some(estimate) = bound.time.at(boot, 0) else {
            return;
        };
        bound.anchored.insert(boot);
        let anchor = BootAnchored {
            source: bound.source.to_string(),
            boot,
            at_utc_ms: estimate.at.as_unix_millis(),
            uncertainty_ms: widened(estimate.uncertainty_ms, self.mode).saturating_add(doubt_ms),
        };
        self.say(now, &anchor.into());
    }

    /// Closes the running digest over the pump's rows with a fact.
    pub fn end_digest(&mut self, now: Now, even_if_few: bool) {
        let Some(bound) = &mut self.bound else { return };
        let rows = bound.digest.rows;
        if rows == 0 || !(even_if_few || rows >= DIGEST_ROWS) {
            bound.digest_at = now.uptime;
            return;
        }
        let stored = Stored {
            source: bound.source.to_string(),
            from_seq: bound.digest_from,
            to_seq: bound.progress.through(),
            digest: std::mem::take(&mut bound.digest).finish(),
        };
        bound.digest_from = stored.to_seq + 1;
        bound.digest_at = now.uptime;
        self.say(now, &stored.into());
    }
}

impl Bound {
    /// When an event happened, and how far that may be off; the time of receipt where no exchange
    /// of clocks was possible yet.
    pub(super) fn at(&self, now: Now, raw: &Raw, mode: Mode, doubt_ms: u64) -> (i64, Option<u64>) {
        let estimate = raw
            .head()
            .ok()
            .and_then(|head| self.time.at(head.boot, head.tick_ms));
        match estimate {
            Some(e) => {
                let width = widened(e.uncertainty_ms, mode).saturating_add(doubt_ms);
                (e.at.as_unix_millis(), Some(width))
            }
            None => (now.utc.as_unix_millis(), None),
        }
    }
}

/// A simulated pump may pause its clock while it waits for the line: an accelerated trial's
/// estimates are off by as much as a wall second of it.
fn widened(uncertainty_ms: i64, mode: Mode) -> u64 {
    let pause = if mode.speed() > 1 {
        1_000 * u64::from(mode.speed())
    } else {
        0
    };
    u64::try_from(uncertainty_ms).unwrap_or(0).max(pause)
}
