//! How far a source's events are complete: the watermark behind every acknowledgement and receipt.
//!
//! A hole holds the watermark until two say that it will never be filled: the pump that it is gone
//! from its journal (`journal_lost`), and whoever sends that it has nothing there either. One alone
//! is not enough: the journal may have lost what the gateway still has. What found no room was
//! never written; there the pump's word, right behind the hole, is enough.

use protocol::chain::ChainHead;
use protocol::event::{Body, Raw, decode};
use std::collections::BTreeMap;

/// Ranges of a kind that are kept, newest last; older ones come again.
const RANGES_MAX: usize = 64;

/// Complete through which seq, with the chain's head there.
#[derive(Clone, Debug)]
pub struct Progress {
    through: u64,
    head: Option<ChainHead>,
    ahead: BTreeMap<u64, Raw>,
    gone: Vec<(u64, u64)>,
    lost: Vec<(u64, u64)>,
    closing: bool,
    closed: bool,
}

impl Progress {
    /// Nothing yet of the chain with this genesis.
    pub fn new(genesis: ChainHead) -> Self {
        Self {
            through: 0,
            head: Some(genesis),
            ahead: BTreeMap::new(),
            gone: Vec::new(),
            lost: Vec::new(),
            closing: false,
            closed: false,
        }
    }

    /// The last seq without an unexplained hole before it.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// The chain's head there; `None` after a hole that no checkpoint has closed yet.
    pub fn head(&self) -> Option<ChainHead> {
        self.head
    }

    /// Seqs that are missing for ever.
    pub fn lost(&self) -> &[(u64, u64)] {
        &self.lost
    }

    /// The closing checkpoint is in.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Whether events lie beyond a hole; then its bounds.
    pub fn hole(&self) -> Option<(u64, u64)> {
        self.ahead
            .first_key_value()
            .map(|(seq, _)| (self.through.saturating_add(1), seq - 1))
    }

    /// The pump's journal does not hold these: what a `journal_lost` says.
    pub fn note_gone(&mut self, from_seq: u64, to_seq: u64) {
        remember(&mut self.gone, from_seq, to_seq);
    }

    /// Whoever sends these events has none of these seqs now.
    pub fn note_absent(&mut self, from_seq: u64, to_seq: u64) {
        self.advance();
        let due = self.through.saturating_add(1);
        if !(from_seq..=to_seq).contains(&due) {
            return;
        }
        // A hole, up to the next event or as far as both have nothing.
        let next = self.ahead.first_key_value().map(|(seq, _)| *seq);
        let end = reach(&self.gone, due).min(to_seq);
        let end = next.map_or(end, |seq| end.min(seq - 1));
        if end >= due {
            self.lost.push((due, end));
            self.head = None;
            self.through = end;
            self.advance();
        }
    }

    /// An event is on disk. In any order; each seq once.
    pub fn note(&mut self, seq: u64, raw: &Raw) {
        if seq <= self.through {
            return;
        }
        if let Ok((_, Body::JournalLost(lost))) = decode(raw)
            && lost.to_seq < seq
        {
            remember(&mut self.gone, lost.from_seq, lost.to_seq);
        }
        self.ahead.insert(seq, raw.clone());
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(entry) = self.ahead.first_entry() {
            let due = self.through.saturating_add(1);
            let seq = *entry.key();
            if seq != due {
                if !never_written(entry.get(), seq, due) {
                    return;
                }
                self.lost.push((due, seq - 1));
                self.head = None;
            }
            let raw = entry.remove();
            self.take(seq, &raw);
        }
    }

    fn take(&mut self, seq: u64, raw: &Raw) {
        let body = decode(raw).map(|(_, body)| body).ok();
        self.through = seq;
        self.head = match body {
            Some(Body::Checkpoint(checkpoint)) => {
                self.closed |= self.closing;
                Some(ChainHead(checkpoint.head).after(raw))
            }
            _ => self.head.map(|head| head.after(raw)),
        };
        self.closing |= matches!(body, Some(Body::TrialClosed(_)));
    }
}

/// Whether the event at `seq` says that all from `due` up to itself found no room.
fn never_written(raw: &Raw, seq: u64, due: u64) -> bool {
    matches!(decode(raw), Ok((_, Body::JournalLost(lost)))
        if lost.to_seq.checked_add(1) == Some(seq) && lost.from_seq <= due)
}

fn remember(ranges: &mut Vec<(u64, u64)>, from_seq: u64, to_seq: u64) {
    if from_seq > to_seq || ranges.contains(&(from_seq, to_seq)) {
        return;
    }
    ranges.retain(|(from, to)| !(from_seq <= *from && *to <= to_seq));
    if ranges.len() == RANGES_MAX {
        ranges.remove(0);
    }
    ranges.push((from_seq, to_seq));
}

/// How far the ranges reach from `due` on without a gap; less than `due` where not at all.
fn reach(ranges: &[(u64, u64)], due: u64) -> u64 {
    let mut end = due.saturating_sub(1);
    while let Some((_, to)) = ranges
        .iter()
        .find(|(from, to)| *from <= end.saturating_add(1) && *to > end)
    {
        end = *to;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::event::{BolusDelivered, Head, JournalLost};

    fn event(seq: u64) -> Raw {
        let body = Body::from(BolusDelivered {
            requested_nl: 1,
            delivered_nl: 1,
            complete: true,
        });
        body.encode(Head {
            boot: 1,
            seq,
            tick_ms: seq,
        })
        .unwrap()
    }

    #[test]
    fn any_order_gives_the_same_watermark_and_head() {
        let genesis = ChainHead::genesis(b"m");
        let mut in_order = Progress::new(genesis);
        let mut backwards = Progress::new(genesis);
        (1..=20).for_each(|seq| in_order.note(seq, &event(seq)));
        (1..=20)
            .rev()
            .for_each(|seq| backwards.note(seq, &event(seq)));
        assert_eq!(
            (in_order.through(), in_order.head()),
            (20, backwards.head())
        );
        assert_eq!(backwards.through(), 20);
    }

    fn lost(seq: u64, from_seq: u64, to_seq: u64) -> Raw {
        let body = Body::from(JournalLost { from_seq, to_seq });
        body.encode(Head {
            boot: 1,
            seq,
            tick_ms: seq,
        })
        .unwrap()
    }

    #[test]
    fn a_hole_holds_the_watermark_until_its_source_says_that_it_was_never_written() {
        let mut progress = Progress::new(ChainHead::genesis(b"m"));
        progress.note(1, &event(1));
        progress.note(6, &event(6));
        assert_eq!((progress.through(), progress.hole()), (1, Some((2, 5))));
        progress.note(5, &lost(5, 2, 4));
        assert_eq!((progress.through(), progress.hole()), (6, None));
        assert_eq!(progress.lost(), [(2, 4)]);
    }

    #[test]
    fn what_the_ring_overwrote_is_missing_only_where_the_sender_has_it_not_either() {
        let mut progress = Progress::new(ChainHead::genesis(b"m"));
        progress.note(1, &event(1));
        progress.note(6, &event(6));
        progress.note_absent(2, 5);
        assert_eq!(progress.through(), 1, "the pump may still have it");
        progress.note(8, &lost(8, 1, 4));
        assert_eq!(progress.through(), 1, "the sender may still have it");
        progress.note_absent(2, 5);
        assert_eq!((progress.through(), progress.hole()), (4, Some((5, 5))));
        for seq in [7, 5] {
            progress.note(seq, &event(seq));
        }
        assert_eq!((progress.through(), progress.hole()), (8, None));
        assert_eq!(progress.lost(), [(2, 4)]);
    }

    #[test]
    fn the_largest_numbers_of_a_hostile_pump_do_no_harm() {
        let mut progress = Progress::new(ChainHead::genesis(b"m"));
        let lost = Body::from(JournalLost {
            from_seq: 1,
            to_seq: u64::MAX,
        });
        let at = |seq| Head {
            boot: 1,
            seq,
            tick_ms: u64::MAX,
        };
        progress.note(5, &lost.encode(at(5)).unwrap());
        progress.note(u64::MAX, &event(u64::MAX));
        assert_eq!((progress.through(), progress.hole()), (0, Some((1, 4))));
    }
}
