//! The end of a trial: the gateway's chain is closed after the pump's.

use super::Line;
use crate::gateway::lock;
use crate::own_chain::OwnChain;
use protocol::bedside::{Fact, Stored};
use protocol::event::{Body, CloseReason};
use protocol::time::Now;
use record::store::RowsDigest;

/// The gateway's chain is closed so long after the pump's, wall milliseconds, so that the last
/// entries come in.
const CLOSE_GRACE_MS: u64 = 3_000;

impl Line {
    /// Closes our chain a little after the pump closed its own.
    pub(super) fn close_if_due(&mut self, now: Now) {
        let Some(bound) = &self.bound else { return };
        if !bound.progress.closed()
            || lock(&self.parts.own)
                .as_ref()
                .is_none_or(OwnChain::is_closed)
        {
            return;
        }
        let since = *self.closed_at.get_or_insert(now.uptime);
        let last_entry = lock(&self.parts.view).last_entry_at.unwrap_or(since);
        if now.uptime.millis_since(since.max(last_entry)) < CLOSE_GRACE_MS {
            return;
        }
        self.end_digest(now, true);
        let reason = self.close_reason();
        let mut own = lock(&self.parts.own);
        let Some(chain) = own.as_mut() else { return };
        let source = chain.source().to_owned();
        let closed = self.sum_up(chain, now).and_then(|()| {
            chain
                .close(&self.parts.store, now.utc, reason)
                .map_err(|e| e.to_string())
        });
        let seq = chain.seq();
        // Before anybody may see that the chain is closed: its last rows wait for a receipt too.
        self.parts.note_stored(now.uptime, &source, seq);
        drop(own);
        match closed {
            Ok(()) => {
                let trial = self.parts.config.trial.clone();
                let word = reason.word();
                let noted = self
                    .parts
                    .store
                    .write(move |spool| spool.set_meta(&trial, "closed", word));
                if let Err(e) = noted {
                    lock(&self.parts.view).technical.store = Some(e.to_string());
                }
            }
            Err(why) => lock(&self.parts.view).technical.store = Some(why),
        }
    }

    /// Adds the digest over all of the gateway's own rows, where that was not done before a crash.
    fn sum_up(&self, chain: &mut OwnChain, now: Now) -> Result<(), String> {
        if chain.is_closing() {
            return Ok(());
        }
        let stored = self.digest_of_own(chain)?;
        let added = chain.add(&self.parts.store, now.utc, &stored.into());
        added.map(|_| ()).map_err(|e| e.to_string())
    }

    fn digest_of_own(&self, chain: &OwnChain) -> Result<Stored, String> {
        let trial = &self.parts.config.trial;
        let rows = self
            .parts
            .store
            .rows_after(trial, chain.source(), 0, usize::MAX >> 1)
            .map_err(|e| e.to_string())?;
        let mut digest = RowsDigest::default();
        for stored in &rows {
            digest.add(&stored.row, &stored.body_text);
        }
        Ok(Stored {
            source: chain.source().into(),
            from_seq: 1,
            to_seq: chain.seq(),
            digest: digest.finish(),
        })
    }

    fn close_reason(&self) -> CloseReason {
        let Some(bound) = &self.bound else {
            return CloseReason::Technical;
        };
        let after = bound.progress.through().saturating_sub(3);
        let rows = self
            .parts
            .store
            .rows_after(&self.parts.config.trial, bound.source.as_str(), after, 8)
            .unwrap_or_default();
        let reason = rows.iter().find_map(|stored| match stored.row.check() {
            Ok((_, Fact::Pump(Body::TrialClosed(closed)))) => Some(closed.reason),
            _ => None,
        });
        reason.unwrap_or(CloseReason::Technical)
    }
}
