//! The way of an event as a transition system: pump, line, gateway, broker, recorders.
//!
//! Both networks are sets: what was sent once can arrive at any time, again and in any order, or
//! never. So loss, repeats, reordering, a broker that forgets its queue and a late duplicate are
//! all in it, without an action of their own. A process that is killed leaves the page cache; a
//! power cut keeps any prefix (gateway, which appends in order) or any part (recorder) of what was
//! written and not synced. A sync that fails leaves pages that read well, count as clean, and are
//! not on the medium: every later sync says yes and writes nothing of them.
//!
//! Wall clocks are no part of any decision here, so their steps need no action.

use stateright::{Model, Property};

/// The most seqs of a model.
pub(crate) const SEQ_MAX: u8 = 15;

/// A set of seqs, 1 to 15.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seqs(u16);

impl Seqs {
    fn bit(seq: u8) -> u16 {
        1u16.checked_shl(seq.into()).unwrap_or(0)
    }

    /// Whether `seq` is in it.
    pub(crate) fn has(self, seq: u8) -> bool {
        self.0 & Self::bit(seq) != 0
    }

    fn and(self, seq: u8) -> Self {
        Self(self.0 | Self::bit(seq))
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn through(self, seq: u8) -> Self {
        Self(self.0 & (Self::bit(seq) | (Self::bit(seq).wrapping_sub(1))))
    }

    /// How many.
    pub(crate) fn count(self) -> u8 {
        u8::try_from(self.0.count_ones()).unwrap_or(u8::MAX)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them, smallest first.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (1..=SEQ_MAX).filter(move |seq| self.has(*seq))
    }

    /// The greatest; 0 where there is none.
    pub(crate) fn last(self) -> u8 {
        u8::try_from(15u32.saturating_sub(self.0.leading_zeros())).unwrap_or(0)
    }

    fn parts(self) -> impl Iterator<Item = Self> {
        let all = self.0;
        // Every submask of a mask, the empty one last.
        let mut next = Some(all);
        std::iter::from_fn(move || {
            let part = next?;
            next = (part != 0).then(|| (part - 1) & all);
            Some(Self(part))
        })
    }
}

impl FromIterator<u8> for Seqs {
    fn from_iter<T: IntoIterator<Item = u8>>(seqs: T) -> Self {
        seqs.into_iter().fold(Self::default(), Self::and)
    }
}

impl std::fmt::Debug for Seqs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A way in which the chain could be built wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Plant {
    AckBeforeSync,
    AckOfNewest,
    PubackAsDurable,
    RepeatsKept,
    GapTaken,
    ReceiptBeforeSync,
    ReceiptOfNewest,
    GatewayOpensUnsynced,
    RecorderOpensUnsynced,
    GatewayRetriesSync,
    RecorderRetriesSync,
    OpenTrustsCache,
    BootNotRaised,
    SeqStartsAgain,
    AckFreesJournal,
    OverrunSilent,
    FailedWriteSilent,
    LossFromOne,
    DeclaredLossBelieved,
    ForgedReceiptTaken,
    ForeignReceiptTaken,
    ForgedEventTaken,
    PrunedWhenSent,
    ReceiptNeverLess,
}

impl Plant {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[
        Self::AckBeforeSync,
        Self::AckOfNewest,
        Self::PubackAsDurable,
        Self::RepeatsKept,
        Self::GapTaken,
        Self::ReceiptBeforeSync,
        Self::ReceiptOfNewest,
        Self::GatewayOpensUnsynced,
        Self::RecorderOpensUnsynced,
        Self::GatewayRetriesSync,
        Self::RecorderRetriesSync,
        Self::OpenTrustsCache,
        Self::BootNotRaised,
        Self::SeqStartsAgain,
        Self::AckFreesJournal,
        Self::OverrunSilent,
        Self::FailedWriteSilent,
        Self::LossFromOne,
        Self::DeclaredLossBelieved,
        Self::ForgedReceiptTaken,
        Self::ForeignReceiptTaken,
        Self::ForgedEventTaken,
        Self::PrunedWhenSent,
        Self::ReceiptNeverLess,
    ];

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "the gateway acknowledges before its sync",
            Self::AckOfNewest => "the gateway acknowledges the newest seq, holes or not",
            Self::PubackAsDurable => "a PUBACK counts as a receipt",
            Self::RepeatsKept => "the recorder keeps repeats",
            Self::GapTaken => "the gateway takes what comes after a gap",
            Self::ReceiptBeforeSync => "the recorder gives a receipt before its sync",
            Self::ReceiptOfNewest => "a receipt names the newest seq, holes or not",
            Self::GatewayOpensUnsynced => "the gateway does not sync its spool when it opens it",
            Self::RecorderOpensUnsynced => "the recorder does not sync its record when it opens it",
            Self::GatewayRetriesSync => "the gateway tries a failed sync again",
            Self::RecorderRetriesSync => "the recorder tries a failed sync again",
            Self::OpenTrustsCache => "after a failed sync, opening syncs but does not write again",
            Self::BootNotRaised => "a start of the pump is not counted",
            Self::SeqStartsAgain => "seqs begin again at a start of the pump",
            Self::AckFreesJournal => "the pump forgets what is acknowledged, forged or not",
            Self::OverrunSilent => "the ring turns over without a word",
            Self::FailedWriteSilent => "an event that found no room is not declared lost",
            Self::LossFromOne => "a turn of the ring declares all before it lost",
            Self::DeclaredLossBelieved => "the recorder counts as lost what the gateway still has",
            Self::ForgedReceiptTaken => "the signature of a receipt is not checked",
            Self::ForeignReceiptTaken => "a receipt for another gateway is believed",
            Self::ForgedEventTaken => "the signature of a batch is not checked",
            Self::PrunedWhenSent => "rows are removed when they were sent",
            Self::ReceiptNeverLess => "a receipt that shows less than before is ignored",
        }
    }
}

/// A size: how much may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Size {
    /// Seqs in all, 15 at most.
    pub(crate) events: u8,
    /// Unacknowledged events that the pump sends.
    pub(crate) window: u8,
    /// Slots of the journal, in sectors of two.
    pub(crate) slots: u8,
    /// One or two.
    pub(crate) recorders: u8,
    /// Kills and power cuts of gateway and recorders.
    pub(crate) crashes: u8,
    /// Syncs that fail.
    pub(crate) sync_errors: u8,
    /// Further starts of the pump.
    pub(crate) starts: u8,
    /// Events that find no room in the pump's memory.
    pub(crate) write_errors: u8,
    /// Acknowledgements that nobody sent.
    pub(crate) forged_acks: u8,
    /// Records that are destroyed.
    pub(crate) lost_records: u8,
    /// Whether old rows leave the spool at the end.
    pub(crate) prunes: bool,
}

/// The model: a size, and what is built wrong, if anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) size: Size,
    pub(crate) plant: Option<Plant>,
}

/// The pump: what it journaled, and what of it is still held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pump {
    /// Every event that was ever journaled: the truth.
    pub(crate) all: Seqs,
    /// Those that say that the pump started.
    starts: Seqs,
    /// Starts whose boot number is that of the start before.
    uncounted: Seqs,
    /// Those that declare a loss because the ring turned over.
    turned: Seqs,
    /// Those that declare the loss of what found no room.
    failed: Seqs,
    /// Seqs given up since the last event that was journaled.
    given_up: u8,
    /// Seqs that stand for two different events.
    twofold: bool,
    /// What the ring holds.
    pub(crate) held: Seqs,
    erased: u8,
    /// What it believes to be on the gateway's disk.
    pub(crate) acked: u8,
}

impl Pump {
    /// The newest seq.
    pub(crate) fn last(&self) -> u8 {
        self.all.last()
    }

    /// Where the event at `seq` declares a loss: its first and last seq.
    pub(crate) fn declares(&self, chain: &Chain, seq: u8) -> Option<(u8, u8)> {
        if self.turned.has(seq) {
            // Everything that was erased for the sector of this event, and before.
            let to = if chain.plant == Some(Plant::LossFromOne) {
                seq - 1
            } else {
                self.gone_at(chain, seq)
            };
            return Some((1, to));
        }
        let before = self.all.through(seq.saturating_sub(1)).last();
        (self.failed.has(seq) && before + 1 < seq).then_some((before + 1, seq - 1))
    }

    /// The last seq that was erased when the event at `seq` was written.
    fn gone_at(&self, chain: &Chain, seq: u8) -> u8 {
        let written = self.all.through(seq).count();
        let kept = chain.size.slots - 1;
        let gone = written.saturating_sub(kept);
        self.all
            .iter()
            .nth(usize::from(gone.saturating_sub(1)))
            .unwrap_or(0)
    }

    fn boot_of(&self, seq: u8) -> u8 {
        let upto = self.starts.through(seq);
        upto.count() - self.uncounted.through(seq).count()
    }

    fn tick_of(&self, seq: u8) -> u8 {
        seq - self.starts.through(seq).last()
    }

    /// Complete through which seq a file with these rows is: the first hole that nobody declared
    /// ends it. What is `elsewhere` is not lost, whoever declares it.
    pub(crate) fn through(&self, chain: &Chain, rows: Seqs, elsewhere: Seqs) -> u8 {
        let lost = self.declared(chain, rows).without(elsewhere);
        (1..=SEQ_MAX)
            .take_while(|seq| rows.has(*seq) || lost.has(*seq))
            .last()
            .unwrap_or(0)
    }

    /// Seqs that these rows declare lost.
    pub(crate) fn declared(&self, chain: &Chain, rows: Seqs) -> Seqs {
        let mut lost = Seqs::default();
        let declaring = Seqs(rows.0 & (self.turned.0 | self.failed.0));
        for seq in declaring.iter() {
            if let Some((from, to)) = self.declares(chain, seq) {
                lost = (from..=to).fold(lost, Seqs::and);
            }
        }
        lost
    }
}

/// A file and the process that writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    /// What a reader sees.
    pub(crate) view: Seqs,
    /// What is on the medium.
    pub(crate) disk: Seqs,
    /// Complete through this seq, as its process believes: what it tells others.
    pub(crate) stored: u8,
    /// A sync failed: its process takes and tells nothing any more.
    pub(crate) broken: bool,
    /// Pages that read well and are neither dirty nor on the medium.
    ghosts: bool,
    /// A row stands twice.
    twice: bool,
    /// A row stands there that no pump made.
    forged: bool,
}

/// The gateway beside its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Outbox {
    /// What the newest receipt covers.
    pub(crate) recorded: u8,
    /// The most that a receipt ever covered.
    most: u8,
    /// Rows through this seq were removed.
    pruned: u8,
}

/// Everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) pump: Pump,
    /// Frames that were ever on the line.
    pub(crate) frames: Seqs,
    /// The most that the gateway ever told the pump.
    pub(crate) told: u8,
    pub(crate) gateway: Store,
    pub(crate) outbox: Outbox,
    /// Rows that were ever published.
    pub(crate) published: Seqs,
    pub(crate) recorders: [Store; 2],
    /// The most that a receipt ever said.
    pub(crate) receipted: u8,
    /// The most that a recorder ever had on its medium.
    had: u8,
    /// Events declared lost at the gateway while the pump held them.
    wasted: bool,
    crashes: u8,
    sync_errors: u8,
    starts: u8,
    write_errors: u8,
    forged_acks: u8,
    lost_records: u8,
}

impl State {
    /// One of the recorders.
    pub(crate) fn recorder(&self, r: u8) -> Store {
        self.recorders
            .get(usize::from(r))
            .copied()
            .unwrap_or_default()
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// The pump journals an event.
    Happens,
    /// An event finds no room in the pump's memory.
    FindsNoRoom,
    /// The pump's power was cut; it starts.
    PumpStarts,
    /// The pump puts the event of this seq, or what it has instead, on the line.
    Sends(u8),
    /// An acknowledgement or a request to resume of this seq arrives at the pump.
    PumpHears(u8),
    /// The same, from nobody.
    ForgedAck(u8),
    /// A frame arrives; its row is written.
    GatewayTakes(u8),
    GatewaySyncs,
    GatewaySyncFails,
    GatewayKilled,
    /// Of what was not synced, nothing is there after the cut (0), or the rows through this seq and
    /// those that declare a loss, which may have been written before.
    GatewayCut(u8),
    /// What is stored is told to the pump.
    GatewayTells,
    Publishes(u8),
    /// The broker says that it has a row.
    Pubacked(u8),
    /// A receipt arrives.
    ReceiptHeard(u8),
    Prunes,
    RecorderTakes(u8, u8),
    RecorderSyncs(u8),
    RecorderSyncFails(u8),
    RecorderKilled(u8),
    RecorderCut(u8, Seqs),
    RecordDestroyed(u8),
    RecorderReceipts(u8),
    /// A receipt by nobody, or for another gateway.
    FalseReceipt(u8),
    /// A batch by nobody.
    FalseBatch,
}

impl Chain {
    /// A correct chain of this size.
    pub(crate) fn of(size: Size) -> Self {
        Self { size, plant: None }
    }

    fn is(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Before anything happened.
    pub(crate) fn start(&self) -> State {
        let Size {
            crashes,
            sync_errors,
            starts,
            write_errors,
            forged_acks,
            lost_records,
            ..
        } = self.size;
        State {
            crashes,
            sync_errors,
            starts,
            write_errors,
            forged_acks,
            lost_records,
            ..State::default()
        }
    }

    /// Recorders of this size.
    pub(crate) fn recorders(&self) -> std::ops::Range<u8> {
        0..self.size.recorders
    }

    /// Whether the next event is written over the oldest ones.
    fn turns(&self, pump: &Pump) -> bool {
        pump.all.count().is_multiple_of(2) && pump.all.count() >= self.size.slots
    }

    /// Writes one event behind all others, and before it what is to be declared lost.
    fn journal(&self, pump: &mut Pump, mark: impl FnOnce(&mut Pump, u8)) {
        let mut seq = pump.last() + pump.given_up + 1;
        if self.turns(pump) {
            let oldest: Seqs = pump.held.iter().take(2).collect();
            pump.held = pump.held.without(oldest);
            pump.erased += oldest.count();
            if !self.is(Plant::OverrunSilent) {
                pump.turned = pump.turned.and(seq);
                pump.all = pump.all.and(seq);
                pump.held = pump.held.and(seq);
                seq += 1;
            }
        } else if pump.given_up > 0 && !self.is(Plant::FailedWriteSilent) {
            pump.failed = pump.failed.and(seq);
            pump.all = pump.all.and(seq);
            pump.held = pump.held.and(seq);
            seq += 1;
        }
        pump.given_up = 0;
        pump.all = pump.all.and(seq);
        pump.held = pump.held.and(seq);
        mark(pump, seq);
    }

    /// Seqs that the next event takes.
    fn needed(&self, pump: &Pump) -> u8 {
        1 + u8::from(self.turns(pump) || pump.given_up > 0)
    }

    /// Whether one more event fits in the model.
    pub(crate) fn has_room(&self, pump: &Pump) -> bool {
        pump.last() + pump.given_up + self.needed(pump) <= self.size.events
    }

    /// What the pump puts on the line for a seq: its event, or the first behind it that declares
    /// it lost.
    pub(crate) fn frame_for(&self, pump: &Pump, seq: u8) -> Option<u8> {
        if pump.held.has(seq) {
            return Some(seq);
        }
        let names =
            |at: &u8| matches!(pump.declares(self, *at), Some((f, t)) if f <= seq && seq <= t);
        pump.held.iter().filter(|at| *at > seq).find(names)
    }

    /// The gateway's rows are complete through this seq.
    pub(crate) fn gateway_through(&self, state: &State, rows: Seqs) -> u8 {
        state.pump.through(self, rows, Seqs::default())
    }

    /// A recorder's rows are complete through this seq. It believes that an event is lost where the
    /// pump says so and the gateway, by what it sends, shows that it has none either.
    pub(crate) fn recorder_through(&self, state: &State, rows: Seqs) -> u8 {
        let elsewhere = if self.is(Plant::DeclaredLossBelieved) {
            Seqs::default()
        } else {
            state.gateway.view
        };
        state.pump.through(self, rows, elsewhere)
    }

    /// Whether the gateway takes a frame: the next event, or one that declares it lost. On a line
    /// that keeps order nothing else is news.
    pub(crate) fn takes(&self, state: &State, seq: u8) -> bool {
        let (pump, view) = (&state.pump, state.gateway.view);
        let accepted = self.gateway_through(state, view);
        let next = accepted + 1;
        let declares_next =
            || matches!(pump.declares(self, seq), Some((f, t)) if f <= next && next <= t);
        seq > accepted
            && !view.has(seq)
            && (seq == next || self.is(Plant::GapTaken) || declares_next())
    }

    /// A frame on the line that the gateway takes.
    pub(crate) fn takes_next(&self, state: &State) -> Option<u8> {
        state.frames.iter().find(|seq| self.takes(state, *seq))
    }

    fn gateway_stored(&self, state: &State) -> u8 {
        let view = state.gateway.view;
        if self.is(Plant::AckOfNewest) {
            view.last()
        } else {
            self.gateway_through(state, view)
        }
    }

    fn recorder_stored(&self, state: &State, rows: Seqs) -> u8 {
        if self.is(Plant::ReceiptOfNewest) {
            rows.last()
        } else {
            self.recorder_through(state, rows)
        }
    }

    /// The process is gone, the page cache lives; a new process opens the file.
    fn open(&self, store: &mut Store, syncs: bool) {
        store.broken = false;
        let rewrites = !self.is(Plant::OpenTrustsCache);
        if syncs && (rewrites || !store.ghosts) {
            store.disk = store.view;
            store.ghosts = false;
        }
    }

    fn gateway_opens(&self, state: &mut State) {
        self.open(&mut state.gateway, !self.is(Plant::GatewayOpensUnsynced));
        state.gateway.stored = self.gateway_stored(state);
    }

    fn recorder_opens(&self, state: &mut State, r: u8) {
        let Some(store) = state.recorders.get_mut(usize::from(r)) else {
            return;
        };
        self.open(store, !self.is(Plant::RecorderOpensUnsynced));
        let view = store.view;
        let stored = self.recorder_stored(state, view);
        self.with_recorder(state, r, |store| store.stored = stored);
    }

    fn with_recorder(&self, state: &mut State, r: u8, change: impl FnOnce(&mut Store)) {
        if let Some(store) = state.recorders.get_mut(usize::from(r)) {
            change(store);
        }
        let had = self
            .recorders()
            .filter_map(|r| state.recorders.get(usize::from(r)))
            .map(|store| self.recorder_through(state, store.disk))
            .max();
        state.had = state.had.max(had.unwrap_or(0));
    }

    fn sync(store: &mut Store) {
        if !store.ghosts {
            store.disk = store.view;
        }
    }

    fn hear_receipt(&self, outbox: &mut Outbox, seq: u8) {
        if self.is(Plant::ReceiptNeverLess) && seq < outbox.recorded {
            return;
        }
        outbox.recorded = seq;
        outbox.most = outbox.most.max(seq);
    }

    /// The state after an action that is possible in it.
    pub(crate) fn after(&self, last: &State, action: Action) -> State {
        let mut state = *last;
        match action {
            Action::Happens => self.journal(&mut state.pump, |_, _| {}),
            Action::FindsNoRoom => {
                state.write_errors -= 1;
                state.pump.given_up += 1;
            }
            Action::PumpStarts => {
                state.starts -= 1;
                // What found no room was never shown as done; its seqs are free again.
                state.pump.given_up = 0;
                state.pump.acked = 0;
                if self.is(Plant::SeqStartsAgain) {
                    state.pump.twofold = !state.pump.all.is_empty();
                    return state;
                }
                let counted = !self.is(Plant::BootNotRaised);
                self.journal(&mut state.pump, |pump, seq| {
                    pump.starts = pump.starts.and(seq);
                    if !counted {
                        pump.uncounted = pump.uncounted.and(seq);
                    }
                });
            }
            Action::Sends(seq) => {
                if let Some(frame) = self.frame_for(&state.pump, seq) {
                    state.frames = state.frames.and(frame);
                }
            }
            Action::PumpHears(seq) => self.hear_ack(&mut state.pump, seq),
            Action::ForgedAck(seq) => {
                state.forged_acks -= 1;
                self.hear_ack(&mut state.pump, seq);
            }
            Action::GatewayTakes(seq) => {
                let accepted = self.gateway_through(&state, state.gateway.view);
                let gone = state.pump.declares(self, seq).map_or(0, |(_, to)| to);
                let mut skipped = accepted + 1..=gone.min(seq - 1);
                state.wasted |= skipped.any(|s| state.pump.held.has(s));
                state.gateway.view = state.gateway.view.and(seq);
                if self.is(Plant::AckBeforeSync) {
                    state.gateway.stored = self.gateway_stored(&state);
                }
            }
            Action::GatewaySyncs => {
                Self::sync(&mut state.gateway);
                state.gateway.stored = self.gateway_stored(&state);
            }
            Action::GatewaySyncFails => {
                state.sync_errors -= 1;
                state.gateway.ghosts = true;
                state.gateway.broken = !self.is(Plant::GatewayRetriesSync);
            }
            Action::GatewayKilled => {
                state.crashes -= 1;
                self.gateway_opens(&mut state);
            }
            Action::GatewayCut(seq) => {
                state.crashes -= 1;
                let declaring = Seqs(state.pump.turned.0 | state.pump.failed.0);
                let gateway = &mut state.gateway;
                let dirty = gateway.view.without(gateway.disk);
                let kept = dirty.through(seq).union(Seqs(dirty.0 & declaring.0));
                if seq > 0 {
                    gateway.disk = gateway.disk.union(kept);
                }
                gateway.view = gateway.disk;
                gateway.ghosts = false;
                self.gateway_opens(&mut state);
            }
            Action::GatewayTells => state.told = state.told.max(state.gateway.stored),
            Action::Publishes(seq) => {
                state.published = state.published.and(seq);
                if self.is(Plant::PrunedWhenSent) {
                    state.outbox.pruned = state.outbox.pruned.max(seq);
                }
            }
            Action::Pubacked(seq) | Action::ReceiptHeard(seq) | Action::FalseReceipt(seq) => {
                self.hear_receipt(&mut state.outbox, seq);
            }
            Action::Prunes => state.outbox.pruned = state.outbox.most,
            Action::RecorderTakes(r, seq) => {
                self.with_recorder(&mut state, r, |store| {
                    store.twice |= store.view.has(seq);
                    store.view = store.view.and(seq);
                });
                if self.is(Plant::ReceiptBeforeSync) {
                    self.recorder_believes(&mut state, r);
                }
            }
            Action::RecorderSyncs(r) => {
                self.with_recorder(&mut state, r, Self::sync);
                self.recorder_believes(&mut state, r);
            }
            Action::RecorderSyncFails(r) => {
                state.sync_errors -= 1;
                let broken = !self.is(Plant::RecorderRetriesSync);
                self.with_recorder(&mut state, r, |store| {
                    (store.ghosts, store.broken) = (true, broken);
                });
            }
            Action::RecorderKilled(r) => {
                state.crashes -= 1;
                self.recorder_opens(&mut state, r);
            }
            Action::RecorderCut(r, kept) => {
                state.crashes -= 1;
                self.with_recorder(&mut state, r, |store| {
                    store.view = store.disk.union(kept);
                    (store.disk, store.ghosts) = (store.view, false);
                });
                self.recorder_opens(&mut state, r);
            }
            Action::RecordDestroyed(r) => {
                state.lost_records -= 1;
                self.with_recorder(&mut state, r, |store| *store = Store::default());
            }
            Action::RecorderReceipts(r) => {
                let stored = state.recorders.get(usize::from(r)).map_or(0, |s| s.stored);
                state.receipted = state.receipted.max(stored);
            }
            Action::FalseBatch => {
                self.with_recorder(&mut state, 0, |store| store.forged = true);
            }
        }
        state
    }

    fn recorder_believes(&self, state: &mut State, r: u8) {
        let view = state
            .recorders
            .get(usize::from(r))
            .map_or(Seqs::default(), |s| s.view);
        let stored = self.recorder_stored(state, view);
        self.with_recorder(state, r, |store| store.stored = stored);
    }

    fn hear_ack(&self, pump: &mut Pump, seq: u8) {
        pump.acked = seq.min(pump.last());
        if self.is(Plant::AckFreesJournal) {
            pump.held = pump.held.without(pump.held.through(pump.acked));
        }
    }

    /// All actions that are possible in a state and change it.
    pub(crate) fn possible(&self, state: &State, out: &mut Vec<Action>) {
        let State {
            pump,
            gateway,
            outbox,
            ..
        } = state;
        if self.has_room(pump) {
            out.push(Action::Happens);
            let room = pump.last() + pump.given_up + 2 < self.size.events;
            if state.write_errors > 0 && room && !self.turns(pump) {
                out.push(Action::FindsNoRoom);
            }
            if state.starts > 0 && !pump.all.is_empty() {
                out.push(Action::PumpStarts);
            }
        }
        let newest = pump.last();
        for seq in pump.acked + 1..=newest.min(pump.acked + self.size.window) {
            if self
                .frame_for(pump, seq)
                .is_some_and(|frame| !state.frames.has(frame))
            {
                out.push(Action::Sends(seq));
            }
        }
        let told = (0..=state.told.min(newest)).filter(|seq| *seq != pump.acked);
        out.extend(told.map(Action::PumpHears));
        if state.forged_acks > 0 {
            out.extend((pump.acked + 1..=newest).map(Action::ForgedAck));
        }
        if !gateway.broken {
            let takes = state.frames.iter().filter(|seq| self.takes(state, *seq));
            out.extend(takes.map(Action::GatewayTakes));
            let dirty = gateway.view != gateway.disk;
            if dirty && self.gateway_would_sync(state) {
                out.push(Action::GatewaySyncs);
            }
            if dirty && state.sync_errors > 0 && !gateway.ghosts {
                out.push(Action::GatewaySyncFails);
            }
        }
        if state.told < gateway.stored {
            out.push(Action::GatewayTells);
        }
        if state.crashes > 0 {
            out.push(Action::GatewayKilled);
            let dirty = gateway.view.without(gateway.disk);
            if !dirty.is_empty() || gateway.ghosts {
                out.push(Action::GatewayCut(0));
                out.extend(dirty.iter().map(Action::GatewayCut));
            }
        }
        let rows = gateway.view.through(gateway.stored);
        for seq in rows
            .iter()
            .filter(|s| *s > outbox.recorded && *s > outbox.pruned)
        {
            if !state.published.has(seq) {
                out.push(Action::Publishes(seq));
            }
        }
        for seq in 0..=state.receipted {
            let news = seq != outbox.recorded;
            if news && !(self.is(Plant::ReceiptNeverLess) && seq < outbox.recorded) {
                out.push(Action::ReceiptHeard(seq));
            }
        }
        if self.is(Plant::PubackAsDurable) {
            let acked = state.published.iter().filter(|s| *s > outbox.recorded);
            out.extend(acked.map(Action::Pubacked));
        }
        if self.is(Plant::ForgedReceiptTaken) || self.is(Plant::ForeignReceiptTaken) {
            out.extend((outbox.recorded + 1..=newest).map(Action::FalseReceipt));
        }
        if self.size.prunes && newest == self.size.events && outbox.pruned < outbox.most {
            out.push(Action::Prunes);
        }
        for r in self.recorders() {
            self.possible_at(state, r, out);
        }
        if self.is(Plant::ForgedEventTaken) && !state.recorders.iter().any(|s| s.forged) {
            out.push(Action::FalseBatch);
        }
    }

    fn gateway_would_sync(&self, state: &State) -> bool {
        !state.gateway.ghosts || state.gateway.stored != self.gateway_stored(state)
    }

    fn possible_at(&self, state: &State, r: u8, out: &mut Vec<Action>) {
        let Some(store) = state.recorders.get(usize::from(r)) else {
            return;
        };
        if !store.broken {
            for seq in state.published.iter() {
                let repeat = store.view.has(seq);
                if !repeat || self.is(Plant::RepeatsKept) && !store.twice {
                    out.push(Action::RecorderTakes(r, seq));
                }
            }
            let dirty = store.view != store.disk;
            let stored = self.recorder_stored(state, store.view);
            if dirty && (!store.ghosts || store.stored != stored) {
                out.push(Action::RecorderSyncs(r));
            }
            if dirty && state.sync_errors > 0 && !store.ghosts {
                out.push(Action::RecorderSyncFails(r));
            }
        }
        if state.crashes > 0 {
            out.push(Action::RecorderKilled(r));
            let dirty = store.view.without(store.disk);
            if !dirty.is_empty() || store.ghosts {
                out.extend(dirty.parts().map(|kept| Action::RecorderCut(r, kept)));
            }
        }
        if state.lost_records > 0 && !store.view.is_empty() {
            out.push(Action::RecordDestroyed(r));
        }
        if state.receipted < store.stored {
            out.push(Action::RecorderReceipts(r));
        }
    }

    /// What is left when all faults end and everybody does what is due: broken processes are
    /// started again, every message arrives.
    fn settle(&self, from: &State) -> State {
        let mut state = *from;
        (state.crashes, state.sync_errors, state.starts) = (0, 0, 0);
        (state.write_errors, state.forged_acks, state.lost_records) = (0, 0, 0);
        let restart = |state: &mut State| {
            if state.gateway.broken {
                self.gateway_opens(state);
            }
            for r in self.recorders() {
                if state
                    .recorders
                    .get(usize::from(r))
                    .is_some_and(|s| s.broken)
                {
                    self.recorder_opens(state, r);
                }
            }
        };
        restart(&mut state);
        // Each round moves at least one event a hop further.
        for _ in 0..=2 * self.size.events {
            let before = state;
            state.pump.acked = state.gateway.stored.min(state.pump.last());
            let newest = state.pump.last();
            for seq in state.pump.acked + 1..=newest.min(state.pump.acked + self.size.window) {
                state = self.after(&state, Action::Sends(seq));
            }
            for seq in state.frames.iter() {
                if self.takes(&state, seq) {
                    state = self.after(&state, Action::GatewayTakes(seq));
                }
            }
            state = self.after(&state, Action::GatewaySyncs);
            state = self.after(&state, Action::GatewayTells);
            for r in self.recorders() {
                state = self.after(&state, Action::RecorderReceipts(r));
                let store = state
                    .recorders
                    .get(usize::from(r))
                    .copied()
                    .unwrap_or_default();
                // A recorder that has nothing of a trial says nothing about it.
                if !store.view.is_empty() {
                    state = self.after(&state, Action::ReceiptHeard(store.stored));
                }
                let due: Seqs = state
                    .gateway
                    .view
                    .through(state.gateway.stored)
                    .iter()
                    .filter(|s| *s > state.outbox.recorded && *s > state.outbox.pruned)
                    .collect();
                for seq in due.iter() {
                    state = self.after(&state, Action::Publishes(seq));
                    // Sent again, it also arrives again.
                    state = self.after(&state, Action::RecorderTakes(r, seq));
                }
                state = self.after(&state, Action::RecorderSyncs(r));
            }
            if state == before {
                break;
            }
        }
        state
    }

    /// Every event that the pump showed as done is at a recorder, or was declared lost. (Of two
    /// recorders one is enough: a receipt is a receipt.)
    fn settles(&self, from: &State) -> bool {
        let end = self.settle(from);
        let pump = &end.pump;
        let destroyed = from.lost_records < self.size.lost_records;
        self.recorders().any(|r| {
            let store = end
                .recorders
                .get(usize::from(r))
                .copied()
                .unwrap_or_default();
            let excused = destroyed && (store.view.is_empty() || end.outbox.pruned > 0);
            excused
                || self.recorder_through(&end, store.disk) == pump.last()
                    && end.gateway.view.without(store.disk).is_empty()
        })
    }

    fn nothing_is_lost(&self, state: &State) -> bool {
        let State {
            pump,
            gateway,
            outbox,
            ..
        } = state;
        let declared = pump.declared(self, pump.held);
        let destroyed = state.lost_records < self.size.lost_records;
        (1..=pump.last()).all(|seq| {
            pump.held.has(seq)
                || declared.has(seq)
                || gateway.disk.has(seq) && seq > outbox.pruned
                || self
                    .recorders()
                    .filter_map(|r| state.recorders.get(usize::from(r)))
                    .any(|store| store.disk.has(seq))
                || destroyed && seq <= outbox.pruned
        })
    }

    fn order_holds(_: &Self, state: &State) -> bool {
        let pump = &state.pump;
        let place = |seq| (pump.boot_of(seq), pump.tick_of(seq));
        let rows: Vec<u8> = state.gateway.view.iter().collect();
        !pump.twofold
            && rows
                .iter()
                .zip(rows.iter().skip(1))
                .all(|(a, b)| place(*a) < place(*b))
    }

    fn spent(&self, state: &State) -> bool {
        state.crashes == 0
            && state.sync_errors == 0
            && state.starts == 0
            && state.write_errors == 0
            && state.forged_acks == 0
            && state.lost_records == 0
            && state.pump.last() == self.size.events
    }

    fn delivered(&self, state: &State) -> bool {
        let last = state.pump.last();
        self.recorders()
            .filter_map(|r| state.recorders.get(usize::from(r)))
            .all(|store| self.recorder_through(state, store.disk) == last)
            && state.outbox.recorded == last
    }
}

/// The end that must be reachable.
pub(crate) const ALL_DELIVERED: &str = "all is delivered after the most faults";

impl Model for Chain {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        Some(self.after(last, action)).filter(|next| next != last)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "the spool has no hole but declared ones",
                |m: &Self, s: &State| {
                    let through = m.gateway_through(s, s.gateway.view);
                    let ahead = s.gateway.view.without(s.gateway.view.through(through));
                    ahead.iter().all(|seq| s.pump.declares(m, seq).is_some())
                },
            ),
            Property::always(
                "the pump forgets only where the ring turns over",
                |_, s: &State| s.pump.held.count() + s.pump.erased == s.pump.all.count(),
            ),
            Property::always(
                "what was acknowledged is on the gateway's medium",
                |m: &Self, s: &State| s.told <= m.gateway_through(s, s.gateway.disk),
            ),
            Property::always(
                "a receipt says what a recorder had on its medium",
                |_, s: &State| s.receipted <= s.had,
            ),
            Property::always(
                "the outbox forgets only under a recorder's receipt",
                |_, s: &State| s.outbox.most <= s.had && s.outbox.pruned <= s.had,
            ),
            Property::always(
                "every event is somewhere, or declared lost",
                Self::nothing_is_lost,
            ),
            Property::always("nothing stands twice or was forged", |_, s: &State| {
                s.recorders
                    .iter()
                    .all(|store| !store.twice && !store.forged)
            }),
            Property::always(
                "the order by seq is the order in which it happened",
                Self::order_holds,
            ),
            Property::always(
                "no event is declared lost while the pump holds it",
                |_, s: &State| !s.wasted,
            ),
            Property::always("without further faults everything arrives", Self::settles),
            Property::sometimes(ALL_DELIVERED, |m: &Self, s: &State| {
                m.spent(s) && m.delivered(s)
            }),
        ]
    }
}
