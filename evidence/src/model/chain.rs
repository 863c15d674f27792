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
//!
//! Here is what the parts are and what an action does to them; `possible` says which actions there
//! are in a state, `promise` what must hold in each, `plant` how all of it could be built wrong.

mod plant;
mod possible;
mod promise;
mod seqs;

pub(crate) use plant::Plant;
pub(crate) use promise::ALL_DELIVERED;
pub(crate) use seqs::{SEQ_MAX, Seqs};

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
        let declaring = rows.common(self.turned.union(self.failed));
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
                let declaring = state.pump.turned.union(state.pump.failed);
                let gateway = &mut state.gateway;
                let dirty = gateway.view.without(gateway.disk);
                let kept = dirty.through(seq).union(dirty.common(declaring));
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
}
