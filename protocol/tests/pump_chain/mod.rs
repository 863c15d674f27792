//! The pump's side of a chain.

use protocol::chain::{ChainHead, TagKey, checkpoint_message};
use protocol::event::{
    Body, BootReason, Checkpoint, CloseReason, Delivered, Head, PoweredOn, Raw, TrialClosed,
};
use protocol::hex::Tag;
use protocol::keys::KeyPair;

/// A pump's own side of the chain, as small as it can be.
pub(crate) struct Pump {
    pair: KeyPair,
    genesis: ChainHead,
    pub(crate) head: ChainHead,
    pub(crate) key: TagKey,
    key_index: u32,
    boot: u32,
    pub(crate) seq: u64,
    tick_ms: u64,
    pub(crate) journal: Vec<(Raw, Tag)>,
}

impl Pump {
    pub(crate) fn new(pair: KeyPair, manifest: &[u8]) -> Self {
        let genesis = ChainHead::genesis(manifest);
        Self {
            key: TagKey::of_trial(&pair.tag_secret(), &genesis),
            pair,
            genesis,
            head: genesis,
            key_index: 0,
            boot: 0,
            seq: 0,
            tick_ms: 0,
            journal: Vec::new(),
        }
    }

    fn turn_key(&mut self) {
        self.key = self.key.next();
        self.key_index += 1;
    }

    fn journal(&mut self, body: impl Into<Body>) {
        self.seq += 1;
        let head = Head {
            boot: self.boot,
            seq: self.seq,
            tick_ms: self.tick_ms,
        };
        let raw = body.into().encode(head).unwrap();
        self.head = self.head.after(&raw);
        self.journal.push((raw, self.key.tag(&self.head)));
    }

    fn checkpoint(&mut self) {
        let message = checkpoint_message(
            &self.genesis,
            self.boot,
            self.tick_ms,
            self.seq,
            self.seq,
            self.key_index,
            &self.head,
        );
        self.journal(Checkpoint {
            through_seq: self.seq,
            count: self.seq,
            key_index: self.key_index,
            head: self.head.0,
            signature: self.pair.sign(&message),
        });
        self.turn_key();
    }

    pub(crate) fn start(&mut self) {
        self.boot += 1;
        self.tick_ms = 0;
        self.turn_key();
        self.journal(PoweredOn {
            reason: BootReason::PowerOn,
            firmware: [0, 1, 0],
            own_clock_utc_ms: None,
        });
        self.checkpoint();
    }

    pub(crate) fn hour(&mut self, strokes: u64) {
        for stroke in 0..strokes {
            self.tick_ms += 3_600_000 / strokes;
            let delivered_nl = self.seq * 1_000 + stroke;
            self.journal(Delivered {
                delivered_nl,
                programmed_nl: delivered_nl,
                strokes: stroke,
                encoder_counts: stroke * 16,
            });
        }
        self.checkpoint();
    }

    pub(crate) fn close(&mut self) {
        self.journal(TrialClosed {
            reason: CloseReason::Planned,
        });
        self.checkpoint();
    }
}
