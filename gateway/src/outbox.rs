//! What waits for a receipt, and what to send next of it. Pure: a cursor a source.
//!
//! A PUBACK moves nothing here but the window: brokers lost up to all of what they had
//! acknowledged (`facts/gateway-mqtt.md` §0). Only a recorder's receipt does; where it shows no
//! progress, everything above it is sent again. Where several recorders listen, the one that has
//! least counts: none hides the gap of another.

use protocol::time::Uptime;
use std::collections::BTreeMap;

/// Batches sent and not yet answered by the broker, in all.
pub const WINDOW: usize = 16;
/// Without progress of the receipts for so long, send again from the receipt.
pub const RESEND_AFTER_MS: u64 = 5_000;
/// A broker that answers none of the batches that are under way for so long never will: the window
/// is free again.
pub const ANSWER_WITHIN_MS: u64 = 30_000;

/// Which chain: trial and source.
pub type Key = (String, String);

#[derive(Clone, Debug, Default)]
struct Cursor {
    stored: u64,
    sent: u64,
    recorded: u64,
    /// What each recorder said last.
    said: BTreeMap<String, Said>,
    progress_at: Uptime,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    through: u64,
    /// Since this connection stands: then it is there, and is waited for.
    live: bool,
}

impl Cursor {
    /// The least of those that are there; where none spoke yet, what anybody said before.
    fn covered(&self) -> u64 {
        let live = self.said.values().filter(|said| said.live);
        let before = self.said.values().map(|said| said.through).max();
        live.map(|said| said.through)
            .min()
            .or(before)
            .unwrap_or(self.recorded)
    }
}

/// The cursors of all sources.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    cursors: BTreeMap<Key, Cursor>,
    in_flight: usize,
    answered_at: Uptime,
}

impl Outbox {
    /// Rows of a source are on disk through `stored`; receipts cover `recorded`.
    pub fn open(&mut self, now: Uptime, key: Key, stored: u64, recorded: u64) {
        self.cursors.insert(
            key,
            Cursor {
                stored,
                sent: recorded,
                recorded,
                said: BTreeMap::new(),
                progress_at: now,
            },
        );
    }

    /// More rows are on disk.
    pub fn note_stored(&mut self, now: Uptime, key: &Key, seq: u64) {
        if let Some(cursor) = self.cursors.get_mut(key) {
            if cursor.stored == cursor.recorded {
                cursor.progress_at = now;
            }
            cursor.stored = cursor.stored.max(seq);
        } else {
            self.open(now, key.clone(), seq, 0);
        }
    }

    /// A recorder has everything through `seq`, and says so now, or the broker remembers that it
    /// did. One that has less than before has lost its record: all above is sent again. Whether
    /// that is news of this recorder.
    pub fn note_receipt(
        &mut self,
        now: Uptime,
        key: &Key,
        recorder: &str,
        through: u64,
        live: bool,
    ) -> bool {
        let Some(cursor) = self.cursors.get_mut(key) else {
            return false;
        };
        let before = cursor.said.get(recorder).copied();
        let live = live || before.is_some_and(|said| said.live);
        let said = Said { through, live };
        cursor.said.insert(recorder.to_owned(), said);
        let covered = cursor.covered();
        if covered != cursor.recorded {
            cursor.progress_at = now;
        }
        if covered < cursor.recorded {
            cursor.sent = covered;
        }
        cursor.recorded = covered;
        cursor.sent = cursor.sent.max(covered);
        before.is_none_or(|said| said.through != through)
    }

    /// A recorder that is there named all that it has: of every other chain it has nothing.
    /// Gives those of which that is news.
    pub fn note_unnamed(&mut self, now: Uptime, recorder: &str, named: &[Key]) -> Vec<Key> {
        let keys = self.cursors.keys().filter(|key| !named.contains(key));
        let mut unnamed: Vec<Key> = keys.cloned().collect();
        unnamed.retain(|key| self.note_receipt(now, key, recorder, 0, true));
        unnamed
    }

    /// The connection is new, or the broker refused: what it had is gone.
    pub fn reset(&mut self, now: Uptime) {
        self.in_flight = 0;
        for cursor in self.cursors.values_mut() {
            for said in cursor.said.values_mut() {
                said.live = false;
            }
            cursor.recorded = cursor.covered();
            cursor.sent = cursor.recorded;
            cursor.progress_at = now;
        }
    }

    /// The next batch to read and send: of which source, after which seq.
    pub fn poll_batch(&mut self, now: Uptime) -> Option<(Key, u64)> {
        let mute = now.millis_since(self.answered_at) >= ANSWER_WITHIN_MS;
        if self.in_flight == 0 || mute {
            (self.in_flight, self.answered_at) = (0, now);
        }
        if self.in_flight >= WINDOW {
            return None;
        }
        for cursor in self.cursors.values_mut() {
            let stuck = cursor.sent > cursor.recorded
                && now.millis_since(cursor.progress_at) >= RESEND_AFTER_MS;
            if stuck {
                cursor.sent = cursor.recorded;
                cursor.progress_at = now;
            }
        }
        let due = self.cursors.iter().filter(|(_, c)| c.sent < c.stored);
        due.min_by_key(|(_, c)| c.sent)
            .map(|(key, c)| (key.clone(), c.sent))
    }

    /// A batch through `seq` left.
    pub fn note_sent(&mut self, key: &Key, seq: u64) {
        self.in_flight += 1;
        if let Some(cursor) = self.cursors.get_mut(key) {
            cursor.sent = cursor.sent.max(seq);
        }
    }

    /// The file holds no rows of a source any more: nothing of it waits.
    pub fn forget(&mut self, key: &Key) {
        self.cursors.remove(key);
    }

    /// The broker answered one batch, whatever it said.
    pub fn note_answered(&mut self, now: Uptime) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.answered_at = now;
    }

    /// What every recorder has of a source.
    pub fn recorded(&self, key: &Key) -> u64 {
        self.cursors.get(key).map_or(0, |c| c.recorded)
    }

    /// Since when rows of a trial wait without any progress.
    pub fn waiting_since(&self, trial: &str) -> Option<Uptime> {
        let waiting = |(key, c): &(&Key, &Cursor)| key.0 == trial && c.recorded < c.stored;
        self.cursors
            .iter()
            .filter(waiting)
            .map(|(_, c)| c.progress_at)
            .min()
    }

    /// Everything that is on disk is at a recorder.
    pub fn is_empty(&self) -> bool {
        self.cursors.values().all(|c| c.recorded >= c.stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        ("T".into(), "P".into())
    }

    #[test]
    fn only_a_receipt_empties_the_outbox() {
        let mut outbox = Outbox::default();
        outbox.open(Uptime::ZERO, key(), 100, 0);
        assert_eq!(outbox.poll_batch(Uptime::ZERO), Some((key(), 0)));
        outbox.note_sent(&key(), 64);
        outbox.note_answered(Uptime::ZERO);
        outbox.note_sent(&key(), 100);
        outbox.note_answered(Uptime::ZERO);
        assert!(!outbox.is_empty());
        assert_eq!(outbox.poll_batch(Uptime::ZERO), None);
        let later = Uptime::from_millis(RESEND_AFTER_MS);
        assert_eq!(
            outbox.poll_batch(later),
            Some((key(), 0)),
            "no receipt: again"
        );
        outbox.note_receipt(later, &key(), "ward", 100, true);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_recorder_that_lost_its_record_gets_everything_again() {
        let mut outbox = Outbox::default();
        outbox.open(Uptime::ZERO, key(), 100, 100);
        outbox.note_receipt(Uptime::ZERO, &key(), "ward", 10, true);
        assert_eq!(outbox.poll_batch(Uptime::ZERO), Some((key(), 10)));
    }

    #[test]
    fn a_recorder_that_names_all_but_one_chain_has_nothing_of_that() {
        let other = || ("T".to_owned(), "gw.T".to_owned());
        let mut outbox = Outbox::default();
        outbox.open(Uptime::ZERO, key(), 100, 100);
        outbox.open(Uptime::ZERO, other(), 30, 30);
        outbox.note_receipt(Uptime::ZERO, &other(), "ward", 30, true);
        let unnamed = outbox.note_unnamed(Uptime::ZERO, "ward", &[other()]);
        assert_eq!(unnamed, [key()]);
        assert_eq!(outbox.poll_batch(Uptime::ZERO), Some((key(), 0)));
        assert_eq!(outbox.note_unnamed(Uptime::ZERO, "ward", &[other()]), []);
    }

    #[test]
    fn no_recorder_hides_the_gap_of_another() {
        let mut outbox = Outbox::default();
        outbox.open(Uptime::ZERO, key(), 100, 0);
        outbox.note_sent(&key(), 100);
        outbox.note_answered(Uptime::ZERO);
        assert!(outbox.note_receipt(Uptime::ZERO, &key(), "a", 100, true));
        assert!(outbox.note_receipt(Uptime::ZERO, &key(), "b", 49, true));
        assert!(!outbox.note_receipt(Uptime::ZERO, &key(), "a", 100, true));
        assert_eq!((outbox.recorded(&key()), outbox.is_empty()), (49, false));
        assert_eq!(outbox.poll_batch(Uptime::ZERO), Some((key(), 49)));
        outbox.note_sent(&key(), 100);
        let later = Uptime::from_millis(RESEND_AFTER_MS);
        assert_eq!(outbox.poll_batch(later), Some((key(), 49)), "lost again");
        outbox.note_receipt(later, &key(), "b", 100, true);
        assert!(outbox.is_empty());
        // One that is there no more is not waited for, whatever the broker remembers of it.
        outbox.note_stored(later, &key(), 120);
        outbox.reset(later);
        outbox.note_receipt(later, &key(), "b", 100, false);
        outbox.note_receipt(later, &key(), "a", 120, true);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_broker_that_goes_mute_on_an_open_connection_holds_the_window_for_a_while_only() {
        let mut outbox = Outbox::default();
        outbox.open(Uptime::ZERO, key(), 10_000, 0);
        for n in 1..=16 {
            assert!(outbox.poll_batch(Uptime::ZERO).is_some());
            outbox.note_sent(&key(), n * 64);
        }
        let just_before = Uptime::from_millis(ANSWER_WITHIN_MS - 1);
        assert_eq!(outbox.poll_batch(just_before), None, "the window is full");
        let then = Uptime::from_millis(ANSWER_WITHIN_MS);
        assert_eq!(outbox.poll_batch(then), Some((key(), 0)));
    }
}
