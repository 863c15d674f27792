//! The real engines and the model, side by side, and every step that both take.

use super::shelf::Shelf;
use super::{MANY, PUMP, TRIAL};
use crate::chance::Chance;
use crate::model::chain::{Action, Chain, Plant, Seqs, Size, State};
use anyhow::{Context, ensure};
use gateway::outbox::{Key, Outbox, RESEND_AFTER_MS};
use protocol::chain::ChainHead;
use protocol::event::{Battery, Body, BootReason, Head, JournalLost, PoweredOn, Raw};
use protocol::hex::Hex;
use protocol::link::{RESEND_MAX_MS, Receiver, Send, Sender, Taken, WINDOW};
use protocol::message::{Ack, FromPump, Heartbeat, Source, ToPump};
use protocol::time::Uptime;
use protocol::topics::EventRow;
use record::progress::Progress;
use std::collections::BTreeMap;

/// What the rig is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Happens,
    FindsNoRoom,
    PumpStarts,
    /// The pump puts on the line what its sender says is next.
    PumpSends,
    /// The pump's sign of life arrives; it names the newest seq.
    Heartbeat,
    /// This frame, sent at some time before, arrives.
    FrameArrives(u8),
    GatewayCommits,
    GatewayKilled,
    /// The gateway sends what its receiver says is next.
    GatewayTells,
    /// This message to the pump, sent at some time before, arrives.
    PumpHears(usize),
    ForgedAck(u8),
    /// A batch of so many rows is published, and the broker answers.
    Publishes(usize),
    /// This row, published at some time before, arrives.
    RowArrives(u8),
    RecorderCommits,
    RecorderKilled,
    RecordDestroyed,
    RecorderReceipts,
    /// This receipt, given at some time before, arrives.
    ReceiptHeard(usize),
    /// Long enough for every timer.
    TimePasses,
}

/// Steps that are the same in the model.
fn at_the_ends(action: Action) -> Option<Step> {
    if let Action::ForgedAck(seq) = action {
        return Some(Step::ForgedAck(seq));
    }
    let same = [
        (Action::Happens, Step::Happens),
        (Action::FindsNoRoom, Step::FindsNoRoom),
        (Action::PumpStarts, Step::PumpStarts),
        (Action::RecordDestroyed(0), Step::RecordDestroyed),
    ];
    let found = same.into_iter().find(|(of, _)| *of == action);
    found.map(|(_, step)| step)
}

/// The real engines and the model, side by side.
#[derive(Clone)]
pub(super) struct Rig<S> {
    chain: Chain,
    model: State,
    now: Uptime,
    boot: u32,
    truth: BTreeMap<u8, Raw>,
    sender: Sender,
    to_pump: Vec<ToPump>,
    receiver: Receiver,
    taken: Vec<EventRow>,
    gateway: Progress,
    outbox: Outbox,
    published: BTreeMap<u8, EventRow>,
    arrived: Vec<EventRow>,
    recorder: Progress,
    receipts: Vec<u8>,
    shelf: S,
}

fn key() -> Key {
    (TRIAL.into(), PUMP.into())
}

fn fresh() -> Progress {
    Progress::new(ChainHead::genesis(b"manifest"))
}

fn parsed(row: &EventRow) -> anyhow::Result<Raw> {
    Ok(Raw::parse(&row.raw)?.0)
}

fn seqs(rows: &[EventRow]) -> anyhow::Result<Seqs> {
    let all: Vec<u8> = rows
        .iter()
        .map(|row| u8::try_from(row.seq))
        .collect::<Result<_, _>>()?;
    Ok(all.into_iter().collect())
}

impl<S: Shelf> Rig<S> {
    pub(super) fn new(shelf: S, plant: Option<Plant>, events: u8) -> Self {
        let size = Size {
            events,
            window: u8::try_from(WINDOW).unwrap_or(u8::MAX),
            slots: u8::MAX,
            recorders: 1,
            crashes: MANY,
            sync_errors: 0,
            starts: MANY,
            write_errors: MANY,
            forged_acks: MANY,
            lost_records: MANY,
            prunes: false,
        };
        let chain = Chain { size, plant };
        let now = Uptime::ZERO;
        let mut receiver = Receiver::new(now, 0, false);
        receiver.bind(0, false);
        let mut outbox = Outbox::default();
        outbox.open(now, key(), 0, 0);
        Self {
            chain,
            model: chain.start(),
            now,
            boot: 1,
            truth: BTreeMap::new(),
            sender: Sender::new(now, 0),
            to_pump: Vec::new(),
            receiver,
            taken: Vec::new(),
            gateway: fresh(),
            outbox,
            published: BTreeMap::new(),
            arrived: Vec::new(),
            recorder: fresh(),
            receipts: Vec::new(),
            shelf,
        }
    }

    /// All steps that make sense now; the model's faults are not counted.
    pub(super) fn menu(&self) -> Vec<Step> {
        let mut menu = Vec::new();
        let mut possible = Vec::new();
        self.chain.possible(&self.model, &mut possible);
        menu.extend(possible.into_iter().filter_map(at_the_ends));
        menu.extend([
            Step::PumpSends,
            Step::Heartbeat,
            Step::GatewayTells,
            Step::Publishes(1),
        ]);
        menu.extend(self.model.frames.iter().map(Step::FrameArrives));
        if !self.taken.is_empty() {
            menu.push(Step::GatewayCommits);
        }
        menu.push(Step::GatewayKilled);
        let newest = self.to_pump.len().saturating_sub(3)..self.to_pump.len();
        menu.extend(newest.map(Step::PumpHears));
        menu.extend(self.published.keys().map(|seq| Step::RowArrives(*seq)));
        if !self.arrived.is_empty() {
            menu.push(Step::RecorderCommits);
        }
        menu.push(Step::RecorderKilled);
        if self.model.recorder(0).view != Seqs::default() {
            menu.push(Step::RecorderReceipts);
        }
        let newest = self.receipts.len().saturating_sub(3)..self.receipts.len();
        menu.extend(newest.map(Step::ReceiptHeard));
        menu.push(Step::TimePasses);
        menu
    }

    /// Steps that bring events onward.
    pub(super) fn onward(&self, chance: &mut Chance) -> Vec<Step> {
        let mut menu = vec![
            Step::Happens,
            Step::GatewayTells,
            Step::PumpSends,
            Step::Publishes(1),
            Step::GatewayCommits,
            Step::RecorderCommits,
        ];
        if !self.chain.has_room(&self.model.pump) {
            menu.remove(0);
        }
        let next = self.chain.takes_next(&self.model);
        menu.extend(next.map(Step::FrameArrives));
        menu.extend(self.to_pump.len().checked_sub(1).map(Step::PumpHears));
        menu.extend(self.receipts.len().checked_sub(1).map(Step::ReceiptHeard));
        let published: Vec<u8> = self.published.keys().copied().collect();
        let row = published.get(chance.below(published.len()));
        menu.extend(row.map(|seq| Step::RowArrives(*seq)));
        if self.model.recorder(0).view != Seqs::default() {
            menu.push(Step::RecorderReceipts);
        }
        menu
    }

    fn model_does(&mut self, action: Action) {
        self.model = self.chain.after(&self.model, action);
    }

    /// Does a step in both, then compares.
    pub(super) fn step(&mut self, step: Step) -> anyhow::Result<()> {
        self.now = self.now + 10;
        match step {
            Step::Happens => self.journal(Action::Happens)?,
            Step::PumpStarts => {
                self.boot += 1;
                self.journal(Action::PumpStarts)?;
                self.sender = Sender::new(self.now, 0);
                self.sender.note_journaled(self.model.pump.last().into());
            }
            Step::FindsNoRoom => self.model_does(Action::FindsNoRoom),
            Step::PumpSends => self.pump_sends()?,
            Step::Heartbeat => {
                let beat = Heartbeat {
                    boot: self.boot,
                    tick_ms: 0,
                    last_seq: self.model.pump.last().into(),
                    infusing: false,
                };
                self.receiver
                    .handle_message(self.now, FromPump::Heartbeat(beat));
            }
            Step::FrameArrives(seq) => self.frame_arrives(seq)?,
            Step::GatewayCommits => self.gateway_commits()?,
            Step::GatewayKilled => self.gateway_killed()?,
            Step::GatewayTells => self.gateway_tells()?,
            Step::PumpHears(at) => {
                let message = *self.to_pump.get(at).context("no such message")?;
                self.pump_hears(message);
            }
            Step::ForgedAck(seq) => {
                self.model_does(Action::ForgedAck(seq));
                let ack = Ack {
                    through_seq: seq.into(),
                };
                self.sender.handle_message(self.now, 0, &ToPump::Ack(ack));
            }
            Step::Publishes(limit) => self.publishes(limit)?,
            Step::RowArrives(seq) => {
                let row = self.published.get(&seq).context("no such row")?.clone();
                if !self.model.recorder(0).view.has(seq) {
                    self.model_does(Action::RecorderTakes(0, seq));
                }
                self.arrived.push(row);
            }
            Step::RecorderCommits => self.recorder_commits()?,
            Step::RecorderKilled | Step::RecordDestroyed => {
                let dirty = self.model.recorder(0).view != self.model.recorder(0).disk;
                self.arrived.clear();
                if step == Step::RecordDestroyed {
                    self.model_does(Action::RecordDestroyed(0));
                    self.shelf.record_destroyed()?;
                } else if dirty {
                    self.model_does(Action::RecorderCut(0, Seqs::default()));
                    self.shelf.recorder_killed()?;
                } else {
                    self.model_does(Action::RecorderKilled(0));
                    self.shelf.recorder_killed()?;
                }
                self.recorder = fresh();
                for row in self.shelf.recorded()? {
                    self.recorder.note(row.seq, &parsed(&row)?);
                }
            }
            Step::RecorderReceipts => {
                self.model_does(Action::RecorderReceipts(0));
                self.receipts.push(u8::try_from(self.recorder.through())?);
            }
            Step::ReceiptHeard(at) => {
                let seq = *self.receipts.get(at).context("no such receipt")?;
                self.model_does(Action::ReceiptHeard(seq));
                if self.outbox.recorded(&key()) != u64::from(seq) {
                    self.outbox
                        .note_receipt(self.now, &key(), "ward", seq.into(), true);
                    self.shelf.receipt(seq.into())?;
                }
            }
            Step::TimePasses => self.now = self.now + RESEND_AFTER_MS.max(RESEND_MAX_MS),
        }
        self.compare()
    }

    /// The pump journals: events of the model's new seqs are made.
    fn journal(&mut self, action: Action) -> anyhow::Result<()> {
        let before = self.model.pump.last();
        self.model_does(action);
        let (pump, chain) = (self.model.pump, self.chain);
        for seq in pump.all.iter().filter(|seq| *seq > before) {
            let body: Body = match pump.declares(&chain, seq) {
                Some((from, to)) => JournalLost {
                    from_seq: from.into(),
                    to_seq: to.into(),
                }
                .into(),
                None if action == Action::PumpStarts && seq == pump.last() => PoweredOn {
                    reason: BootReason::PowerOn,
                    firmware: [0, 1, 0],
                    own_clock_utc_ms: None,
                }
                .into(),
                None => Battery {
                    percent: seq,
                    minutes_left: 60,
                }
                .into(),
            };
            let head = Head {
                boot: self.boot,
                seq: seq.into(),
                tick_ms: seq.into(),
            };
            self.truth.insert(seq, body.encode(head)?);
        }
        self.sender.note_journaled(pump.last().into());
        Ok(())
    }

    fn pump_sends(&mut self) -> anyhow::Result<()> {
        self.sender.handle_timeout(self.now);
        let seq = loop {
            match self.sender.poll_send(self.now) {
                Some(Send::Event { seq }) => break u8::try_from(seq)?,
                Some(_) => {}
                None => return Ok(()),
            }
        };
        let pump = &self.model.pump;
        let most = pump
            .last()
            .min(pump.acked.saturating_add(self.chain.size.window));
        ensure!(
            pump.acked < seq && seq <= most,
            "the pump sends {seq}, the model {} to {most}",
            pump.acked + 1
        );
        self.model_does(Action::Sends(seq));
        Ok(())
    }

    fn frame_arrives(&mut self, seq: u8) -> anyhow::Result<()> {
        let raw = self.truth.get(&seq).context("a frame of no event")?.clone();
        let message = FromPump::Event {
            head: raw.head()?,
            raw,
            tag: Hex([seq; 16]),
        };
        let expected = self.chain.takes(&self.model, seq);
        let taken = self.receiver.handle_message(self.now, message);
        let (raw, tag, new) = match taken {
            Taken::Event { raw, tag, .. } => (raw, tag, true),
            Taken::Repeat { raw, tag, .. } => (raw, tag, false),
            Taken::Hello(_)
            | Taken::ManifestPart(_)
            | Taken::TimeReply(_)
            | Taken::Lost { .. }
            | Taken::Heartbeat(_)
            | Taken::Nothing => {
                ensure!(!expected, "the receiver refuses {seq}, the model takes it");
                return Ok(());
            }
        };
        ensure!(
            new == expected,
            "the receiver takes {seq} as {}, the model does not",
            if new { "news" } else { "a repeat" }
        );
        if expected {
            self.model_does(Action::GatewayTakes(seq));
        }
        let source = Source::new(PUMP).context("a name")?;
        self.taken
            .push(EventRow::new(source, &raw, tag, 0, None, 0)?);
        Ok(())
    }

    fn gateway_commits(&mut self) -> anyhow::Result<()> {
        let rows = std::mem::take(&mut self.taken);
        let new = self.shelf.spool(&rows)?;
        for (row, _) in rows.iter().zip(new).filter(|(_, new)| *new) {
            self.gateway.note(row.seq, &parsed(row)?);
        }
        let through = self.gateway.through();
        self.receiver.note_stored(through);
        self.outbox.note_stored(self.now, &key(), through);
        self.model_does(Action::GatewaySyncs);
        Ok(())
    }

    fn gateway_killed(&mut self) -> anyhow::Result<()> {
        let dirty = self.model.gateway.view != self.model.gateway.disk;
        self.model_does(if dirty {
            Action::GatewayCut(0)
        } else {
            Action::GatewayKilled
        });
        self.taken.clear();
        self.shelf.gateway_killed()?;
        self.gateway = fresh();
        for row in self.shelf.spooled(0, usize::MAX >> 1)? {
            self.gateway.note(row.seq, &parsed(&row)?);
        }
        let through = self.gateway.through();
        self.receiver = Receiver::new(self.now, 0, false);
        self.receiver.bind(through, false);
        self.outbox = Outbox::default();
        self.outbox
            .open(self.now, key(), through, self.shelf.receipted()?);
        Ok(())
    }

    /// The gateway speaks after it has committed, never between.
    fn gateway_tells(&mut self) -> anyhow::Result<()> {
        if !self.taken.is_empty() {
            return Ok(());
        }
        while let Some(message) = self.receiver.poll_send(self.now) {
            let seq = match message {
                ToPump::Ack(ack) => ack.through_seq,
                ToPump::Resume(resume) => resume.last_contiguous_seq,
                ToPump::TimeRequest(_) | ToPump::Unknown(_) => continue,
            };
            let stored = self.model.gateway.stored;
            ensure!(
                seq == u64::from(stored),
                "the gateway tells {seq}, the model {stored}"
            );
            self.model_does(Action::GatewayTells);
            self.to_pump.push(message);
        }
        Ok(())
    }

    fn pump_hears(&mut self, message: ToPump) {
        let pump = &self.model.pump;
        let heard = match message {
            ToPump::Resume(resume) => u8::try_from(resume.last_contiguous_seq).ok(),
            ToPump::Ack(ack) => u8::try_from(ack.through_seq)
                .ok()
                .filter(|seq| *seq > pump.acked),
            ToPump::TimeRequest(_) | ToPump::Unknown(_) => None,
        };
        if let Some(seq) = heard {
            self.model_does(Action::PumpHears(seq));
        }
        self.sender.handle_message(self.now, 0, &message);
    }

    fn publishes(&mut self, limit: usize) -> anyhow::Result<()> {
        let Some((_, after)) = self.outbox.poll_batch(self.now) else {
            return Ok(());
        };
        let (recorded, stored) = (self.model.outbox.recorded, self.model.gateway.stored);
        ensure!(
            u64::from(recorded) <= after && after < u64::from(stored),
            "the outbox sends what comes after {after}; stored are {stored}, recorded {recorded}"
        );
        let rows = self.shelf.spooled(after, limit)?;
        let last = rows.last().context("a batch without a row")?.seq;
        self.outbox.note_sent(&key(), last);
        self.outbox.note_answered(self.now);
        for row in rows {
            let seq = u8::try_from(row.seq)?;
            ensure!(seq <= stored, "the outbox sends {seq}, stored are {stored}");
            self.model_does(Action::Publishes(seq));
            self.published.insert(seq, row);
        }
        Ok(())
    }

    fn recorder_commits(&mut self) -> anyhow::Result<()> {
        let rows = std::mem::take(&mut self.arrived);
        let store = self.model.recorder(0);
        let expected = store.view.count() - store.disk.count();
        let new = self.shelf.record(&rows)?;
        ensure!(
            new == u64::from(expected),
            "the record takes {new} rows as new, the model {expected}"
        );
        for row in &rows {
            self.recorder.note(row.seq, &parsed(row)?);
        }
        self.model_does(Action::RecorderSyncs(0));
        Ok(())
    }

    fn compare(&self) -> anyhow::Result<()> {
        let model = &self.model;
        let store = model.recorder(0);
        let numbers = [
            ("acked at the pump", self.sender.acked(), model.pump.acked),
            (
                "stored, says the receiver",
                self.receiver.stored(),
                model.gateway.stored,
            ),
            (
                "stored, says the progress",
                self.gateway.through(),
                model.gateway.stored,
            ),
            (
                "recorded, says the outbox",
                self.outbox.recorded(&key()),
                model.outbox.recorded,
            ),
            (
                "stored at the recorder",
                self.recorder.through(),
                store.stored,
            ),
        ];
        for (what, real, wanted) in numbers {
            ensure!(
                real == u64::from(wanted),
                "{what}: {real}, the model says {wanted}"
            );
        }
        let spooled = seqs(&self.shelf.spooled(0, usize::MAX >> 1)?)?;
        ensure!(
            spooled == model.gateway.disk,
            "the spool holds {spooled:?}, the model's {:?}",
            model.gateway.disk
        );
        let recorded = seqs(&self.shelf.recorded()?)?;
        ensure!(
            recorded == store.disk,
            "the record holds {recorded:?}, the model's {:?}",
            store.disk
        );
        Ok(())
    }

    /// No more faults: everything must arrive, byte for byte.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        let room = Step::Happens;
        // A recorder that lost everything hears of it with the next event.
        if self.menu().contains(&room) {
            self.step(room)?;
        }
        for _ in 0..200 {
            if self.model.recorder(0).stored == self.model.pump.last() && self.outbox.is_empty() {
                break;
            }
            self.step(Step::TimePasses)?;
            self.step(Step::Heartbeat)?;
            let heard = self.to_pump.len();
            self.step(Step::GatewayTells)?;
            for at in heard..self.to_pump.len() {
                self.step(Step::PumpHears(at))?;
            }
            for _ in 0..WINDOW {
                self.step(Step::PumpSends)?;
            }
            for seq in self.model.frames.iter() {
                self.step(Step::FrameArrives(seq))?;
            }
            if !self.taken.is_empty() {
                self.step(Step::GatewayCommits)?;
            }
            self.step(Step::Publishes(64))?;
            let published: Vec<u8> = self.published.keys().copied().collect();
            for seq in published {
                self.step(Step::RowArrives(seq))?;
            }
            if !self.arrived.is_empty() {
                self.step(Step::RecorderCommits)?;
                self.step(Step::RecorderReceipts)?;
                self.step(Step::ReceiptHeard(self.receipts.len() - 1))?;
            }
        }
        let rows = self.shelf.recorded()?;
        let there: Vec<(u64, Vec<u8>)> = rows.into_iter().map(|r| (r.seq, r.raw)).collect();
        let truth = self.truth.iter();
        let truth: Vec<(u64, Vec<u8>)> = truth
            .map(|(seq, raw)| (u64::from(*seq), raw.as_bytes().to_vec()))
            .collect();
        ensure!(
            there == truth,
            "the record is not the journal: {} of {} rows",
            there.len(),
            truth.len()
        );
        ensure!(self.outbox.is_empty(), "the outbox does not empty");
        Ok(())
    }
}
