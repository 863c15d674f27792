//! How far a source's events are complete: the watermark behind every acknowledgement and receipt.

use protocol::chain::ChainHead;
use protocol::event::{Body, Raw, decode};
use std::collections::BTreeMap;

/// Complete through which seq, with the chain's head there.
#[derive(Clone, Debug)]
pub struct Progress {
    through: u64,
    head: Option<ChainHead>,
    ahead: BTreeMap<u64, Raw>,
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

    /// Seqs that their source declared lost.
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

    /// An event is on disk. In any order; each seq once.
    pub fn note(&mut self, seq: u64, raw: &Raw) {
        if seq <= self.through {
            return;
        }
        self.ahead.insert(seq, raw.clone());
        while let Some(entry) = self.ahead.first_entry() {
            let seq = *entry.key();
            let body = decode(entry.get()).map(|(_, body)| body).ok();
            let due = self.through.saturating_add(1);
            if seq != due {
                match body {
                    Some(Body::JournalLost(lost))
                        if lost.to_seq.checked_add(1) == Some(seq) && lost.from_seq <= due =>
                    {
                        self.lost.push((due, lost.to_seq));
                        self.head = None;
                    }
                    _ => return,
                }
            }
            let raw = entry.remove();
            self.through = seq;
            self.head = match body {
                Some(Body::Checkpoint(checkpoint)) => {
                    self.closed |= self.closing;
                    Some(ChainHead(checkpoint.head).after(&raw))
                }
                _ => self.head.map(|head| head.after(&raw)),
            };
            self.closing |= matches!(body, Some(Body::TrialClosed(_)));
        }
    }
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

    #[test]
    fn a_hole_holds_the_watermark_until_its_source_declares_it_lost() {
        let mut progress = Progress::new(ChainHead::genesis(b"m"));
        progress.note(1, &event(1));
        progress.note(6, &event(6));
        assert_eq!((progress.through(), progress.hole()), (1, Some((2, 5))));
        let lost = Body::from(JournalLost {
            from_seq: 2,
            to_seq: 4,
        });
        progress.note(
            5,
            &lost
                .encode(Head {
                    boot: 1,
                    seq: 5,
                    tick_ms: 5,
                })
                .unwrap(),
        );
        assert_eq!((progress.through(), progress.hole()), (6, None));
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
