//! What makes an event last: head, chain, tag and journal in one step.
//!
//! An event that cannot be written is not lost silently: its seq is given up, and as soon as the
//! memory takes writes again `journal_lost` names what was given up. Where the ring turns over,
//! `journal_lost` names what its new sector held. Both are facts that stay true, whenever and in
//! whatever order they are heard.

use crate::board::{Board, NvError};
use crate::journal::{Entry, Journal, Scrub};
use crate::ratchet::Ratchet;
use protocol::chain::{ChainHead, checkpoint_message};
use protocol::event::{Body, Checkpoint, Head, JournalLost};
use protocol::hex::Hex;

/// The journal is read again in so many parts, one each so often.
const SCRUB_PARTS: u32 = 60;
const SCRUB_MS: u64 = 60_000;

/// The journal with the chain and the key.
#[derive(Debug)]
pub struct Ledger {
    journal: Journal,
    ratchet: Ratchet,
    genesis: ChainHead,
    head: ChainHead,
    lost: u64,
    failing: bool,
    scrub: Scrub,
    scrub_at: u64,
}

impl Ledger {
    /// On a journal that was recovered. Before anything is added, [`Self::begin`]; where the journal
    /// is closed nothing is added any more.
    pub(crate) fn new(journal: Journal, ratchet: Ratchet, genesis: ChainHead) -> Self {
        Self {
            journal,
            ratchet,
            genesis,
            head: genesis,
            lost: 0,
            failing: false,
            scrub: Scrub::default(),
            scrub_at: 0,
        }
    }

    /// A new start: counts it and replaces the key.
    ///
    /// # Errors
    /// Where the memory fails.
    pub(crate) fn begin<B: Board>(
        &mut self,
        board: &mut B,
        spent: Option<u32>,
    ) -> Result<(), NvError> {
        if let Some(entry) = self.journal.newest(board)? {
            self.head = entry.chain;
        }
        self.ratchet.begin_boot(board, spent)
    }

    /// This start.
    pub fn boot(&self) -> u32 {
        self.ratchet.boot()
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The chain after the newest event.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// Whether the last event could not be written.
    pub fn failing(&self) -> bool {
        self.failing
    }

    /// The seq that the next event will have, where writing succeeds. Makes room for it: where the
    /// ring turns over, or events were lost before, that is said first.
    pub(crate) fn reserve<B: Board>(&mut self, board: &mut B, tick_ms: u64) -> u64 {
        let given_up = (self.lost > 0).then(|| JournalLost {
            from_seq: self.journal.last_seq() + 1,
            to_seq: self.journal.last_seq() + self.lost,
        });
        let gone = self.journal.gone_by_turning(board).ok().flatten();
        let turned = gone.filter(|to_seq| *to_seq > 0).map(|to_seq| JournalLost {
            from_seq: 1,
            to_seq,
        });
        // What was given up is told nowhere else; what the ring lost the next sector tells again.
        for lost in [given_up, turned].into_iter().flatten() {
            let seq = self.next_seq();
            if !self.write(board, tick_ms, seq, &lost.into()) {
                break;
            }
            self.lost = 0;
        }
        self.next_seq()
    }

    fn next_seq(&self) -> u64 {
        self.journal.last_seq() + self.lost + 1
    }

    /// Writes an event; gives its seq once it is there to stay.
    pub(crate) fn record<B: Board>(
        &mut self,
        board: &mut B,
        tick_ms: u64,
        body: &Body,
    ) -> Option<u64> {
        let seq = self.reserve(board, tick_ms);
        if self.lost == 0 && self.write(board, tick_ms, seq, body) {
            return Some(seq);
        }
        self.lost = self.lost.saturating_add(1);
        None
    }

    /// Reads the journal again, a part a minute, so that an hour reads all of it. True where something
    /// was found.
    pub(crate) fn scrub_if_due<B: Board>(&mut self, board: &mut B, tick_ms: u64) -> bool {
        if tick_ms < self.scrub_at {
            return false;
        }
        self.scrub_at = tick_ms.saturating_add(SCRUB_MS);
        self.scrub(board, tick_ms, self.journal.slots() / SCRUB_PARTS + 1)
    }

    /// Reads all of it; the first that is found, as [`Self::scrub_if_due`].
    pub(crate) fn scrub_all<B: Board>(&mut self, board: &mut B, tick_ms: u64) -> bool {
        self.scrub(board, tick_ms, self.journal.slots())
    }

    /// What can be read no more and was not declared is declared lost: nobody waits for it then.
    fn scrub<B: Board>(&mut self, board: &mut B, tick_ms: u64, slots: u32) -> bool {
        let found = self.journal.scrub(board, &mut self.scrub, slots);
        let Some((from_seq, to_seq)) = found.ok().flatten() else {
            return false;
        };
        let lost = JournalLost { from_seq, to_seq };
        // Where it finds no room, the next round finds it again.
        self.record(board, tick_ms, &lost.into());
        true
    }

    /// Writes a signed checkpoint and replaces the key.
    pub(crate) fn checkpoint<B: Board>(&mut self, board: &mut B, tick_ms: u64) -> Option<u64> {
        let seq = self.reserve(board, tick_ms);
        let through_seq = seq - 1;
        let key_index = self.ratchet.index();
        let message = checkpoint_message(
            &self.genesis,
            self.ratchet.boot(),
            tick_ms,
            through_seq,
            through_seq,
            key_index,
            &self.head,
        );
        let body = Checkpoint {
            through_seq,
            count: through_seq,
            key_index,
            head: self.head.0,
            signature: Hex(board.sign(&message)),
        };
        if self.lost > 0 || !self.write(board, tick_ms, seq, &body.into()) {
            // A checkpoint that is not there proves nothing and turns nothing; the next one will.
            return None;
        }
        self.failing |= self.ratchet.turn(board).is_err();
        Some(seq)
    }

    fn write<B: Board>(&mut self, board: &mut B, tick_ms: u64, seq: u64, body: &Body) -> bool {
        let head = Head {
            boot: self.ratchet.boot(),
            seq,
            tick_ms,
        };
        let Ok(raw) = body.encode(head) else {
            return false;
        };
        let chain = self.head.after(&raw);
        let tag = self.ratchet.key().tag(&chain);
        let entry = Entry {
            raw,
            head,
            tag,
            chain,
        };
        let written = self.journal.append(board, &entry).is_ok();
        self.failing = !written;
        if written {
            self.head = chain;
        }
        written
    }
}
