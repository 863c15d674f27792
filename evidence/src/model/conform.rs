//! The real engines against the model: the same steps in both, the same state after each.
//!
//! Driven are the true [`Sender`], [`Receiver`], [`Outbox`] and [`Progress`], and on files the true
//! [`Spool`] and [`Record`]. What a step does to them is compared with what the model says of it;
//! a difference names the steps that led to it. Short sequences are all gone through, long ones
//! are drawn from a seed and end in a time without faults, in which everything must arrive. Real
//! stores write and sync in one call, so a kill here loses what was not committed: the model's
//! power cut that keeps nothing.

use super::chain::{Action, Chain, Plant, Seqs, Size, State};
use crate::chance::Chance;
use anyhow::{Context, bail, ensure};
use gateway::outbox::{Key, Outbox, RESEND_AFTER_MS};
use protocol::chain::ChainHead;
use protocol::event::{Battery, Body, BootReason, Head, JournalLost, PoweredOn, Raw};
use protocol::hex::Hex;
use protocol::link::{RESEND_MAX_MS, Receiver, Send, Sender, Taken, WINDOW};
use protocol::message::{Ack, FromPump, Heartbeat, Source, ToPump};
use protocol::time::Uptime;
use protocol::topics::EventRow;
use record::progress::Progress;
use record::spool::Outcome;
use record::{Record, Spool};
use std::collections::BTreeMap;
use std::path::PathBuf;

const TRIAL: &str = "T-1";
const PUMP: &str = "EP-0193";
/// More faults than any sequence has steps.
const MANY: u8 = 250;
/// Long sequences end at this seq.
const EVENTS: u8 = 12;

/// Where rows are kept.
trait Shelf: Sized {
    /// Adds rows durably; says of each whether it is new.
    fn spool(&mut self, rows: &[EventRow]) -> anyhow::Result<Vec<bool>>;
    fn spooled(&self, after: u64, limit: usize) -> anyhow::Result<Vec<EventRow>>;
    /// The gateway's process dies and another one opens the file.
    fn gateway_killed(&mut self) -> anyhow::Result<()>;
    /// A receipt is noted.
    fn receipt(&mut self, seq: u64) -> anyhow::Result<()>;
    fn receipted(&self) -> anyhow::Result<u64>;
    /// Adds rows durably; says how many are new.
    fn record(&mut self, rows: &[EventRow]) -> anyhow::Result<u64>;
    fn recorded(&self) -> anyhow::Result<Vec<EventRow>>;
    fn recorder_killed(&mut self) -> anyhow::Result<()>;
    fn record_destroyed(&mut self) -> anyhow::Result<()>;
}

/// In memory, for many short sequences: one row a seq.
#[derive(Clone, Default)]
struct Memory {
    spool: BTreeMap<u64, EventRow>,
    receipted: u64,
    record: BTreeMap<u64, EventRow>,
}

fn add(to: &mut BTreeMap<u64, EventRow>, row: &EventRow) -> bool {
    let new = !to.contains_key(&row.seq);
    to.entry(row.seq).or_insert_with(|| row.clone());
    new
}

impl Shelf for Memory {
    fn spool(&mut self, rows: &[EventRow]) -> anyhow::Result<Vec<bool>> {
        Ok(rows.iter().map(|row| add(&mut self.spool, row)).collect())
    }

    fn spooled(&self, after: u64, limit: usize) -> anyhow::Result<Vec<EventRow>> {
        let rows = self.spool.range(after + 1..).take(limit);
        Ok(rows.map(|(_, row)| row.clone()).collect())
    }

    fn gateway_killed(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn receipt(&mut self, seq: u64) -> anyhow::Result<()> {
        self.receipted = seq;
        Ok(())
    }

    fn receipted(&self) -> anyhow::Result<u64> {
        Ok(self.receipted)
    }

    fn record(&mut self, rows: &[EventRow]) -> anyhow::Result<u64> {
        let new = rows.iter().filter(|row| add(&mut self.record, row)).count();
        Ok(u64::try_from(new)?)
    }

    fn recorded(&self) -> anyhow::Result<Vec<EventRow>> {
        Ok(self.record.values().cloned().collect())
    }

    fn recorder_killed(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn record_destroyed(&mut self) -> anyhow::Result<()> {
        self.record.clear();
        Ok(())
    }
}

/// The real files. A kill leaves what was written: the files are copied while they are open.
struct Files {
    folder: tempfile::TempDir,
    generation: u32,
    spool: Option<Spool>,
    record: Option<Record>,
    spool_path: PathBuf,
    record_path: PathBuf,
}

impl Files {
    fn new() -> anyhow::Result<Self> {
        // Nothing here is about power: where memory can be a disk, syncs cost nothing.
        let shared = std::path::Path::new("/dev/shm");
        let folder = if shared.is_dir() {
            tempfile::tempdir_in(shared)?
        } else {
            tempfile::tempdir()?
        };
        let (spool_path, record_path) = (
            folder.path().join("0.spool"),
            folder.path().join("0.thecal"),
        );
        Ok(Self {
            spool: Some(Spool::open(&spool_path)?),
            record: Some(Record::open_or_create(&record_path)?),
            folder,
            generation: 0,
            spool_path,
            record_path,
        })
    }

    fn next_path(&mut self, extension: &str) -> PathBuf {
        self.generation += 1;
        self.folder
            .path()
            .join(format!("{}.{extension}", self.generation))
    }

    fn copy(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
        for suffix in ["", "-wal"] {
            let beside = |path: &std::path::Path| {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                PathBuf::from(name)
            };
            if beside(from).exists() {
                std::fs::copy(beside(from), beside(to))?;
            }
        }
        Ok(())
    }
}

impl Shelf for Files {
    fn spool(&mut self, rows: &[EventRow]) -> anyhow::Result<Vec<bool>> {
        let spool = self.spool.as_mut().context("open")?;
        let outcomes = spool.append(rows.iter().map(|row| (TRIAL, row)))?;
        outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Stored => Ok(true),
                Outcome::Repeat => Ok(false),
                Outcome::Conflict => bail!("a conflict in the spool"),
            })
            .collect()
    }

    fn spooled(&self, after: u64, limit: usize) -> anyhow::Result<Vec<EventRow>> {
        let spool = self.spool.as_ref().context("open")?;
        let rows = spool.rows_after(TRIAL, PUMP, after, limit)?;
        Ok(rows.into_iter().map(|stored| stored.row).collect())
    }

    fn gateway_killed(&mut self) -> anyhow::Result<()> {
        let path = self.next_path("spool");
        Self::copy(&self.spool_path, &path)?;
        self.spool = Some(Spool::open(&path)?);
        self.spool_path = path;
        Ok(())
    }

    fn receipt(&mut self, seq: u64) -> anyhow::Result<()> {
        let spool = self.spool.as_ref().context("open")?;
        Ok(spool.note_receipt(TRIAL, PUMP, "ward", seq, 0)?)
    }

    fn receipted(&self) -> anyhow::Result<u64> {
        Ok(self
            .spool
            .as_ref()
            .context("open")?
            .receipted(TRIAL, PUMP)?)
    }

    fn record(&mut self, rows: &[EventRow]) -> anyhow::Result<u64> {
        let done = self.record.as_mut().context("open")?.append(rows, 0)?;
        ensure!(done.conflicts.is_empty(), "conflicts {:?}", done.conflicts);
        Ok(done.new)
    }

    fn recorded(&self) -> anyhow::Result<Vec<EventRow>> {
        let mut rows = Vec::new();
        let record = self.record.as_ref().context("open")?;
        record.for_each_event(|stored| {
            rows.push(stored.row);
            Ok(())
        })?;
        Ok(rows)
    }

    fn recorder_killed(&mut self) -> anyhow::Result<()> {
        let path = self.next_path("thecal");
        Self::copy(&self.record_path, &path)?;
        self.record = Some(Record::open_or_create(&path)?);
        self.record_path = path;
        Ok(())
    }

    fn record_destroyed(&mut self) -> anyhow::Result<()> {
        self.record_path = self.next_path("thecal");
        self.record = Some(Record::open_or_create(&self.record_path)?);
        Ok(())
    }
}

/// What the rig is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
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
struct Rig<S> {
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
    fn new(shelf: S, plant: Option<Plant>, events: u8) -> Self {
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
    fn menu(&self) -> Vec<Step> {
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
    fn onward(&self, chance: &mut Chance) -> Vec<Step> {
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
    fn step(&mut self, step: Step) -> anyhow::Result<()> {
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
    fn finish(&mut self) -> anyhow::Result<()> {
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

/// Goes through all sequences of so many steps on from `rig`; gives how many steps were made.
fn all_from(rig: &Rig<Memory>, depth: u32, way: &mut Vec<Step>) -> anyhow::Result<u64> {
    let mut made = 0;
    for step in rig.menu() {
        let mut next = rig.clone();
        way.push(step);
        next.step(step).with_context(|| format!("after {way:?}"))?;
        made += 1;
        if depth > 1 {
            made += all_from(&next, depth - 1, way)?;
        }
        way.pop();
    }
    Ok(made)
}

/// All sequences of `depth` steps from three beginnings; gives how many steps were made.
pub(super) fn exhaustive(depth: u32, plant: Option<Plant>) -> anyhow::Result<u64> {
    let beginnings: [&[Step]; 3] = [
        &[],
        // Two events on the line, one stored.
        &[
            Step::Happens,
            Step::Happens,
            Step::GatewayTells,
            Step::PumpHears(0),
            Step::PumpSends,
            Step::PumpSends,
            Step::FrameArrives(1),
            Step::GatewayCommits,
        ],
        // Three stored, one of them recorded.
        &[
            Step::Happens,
            Step::Happens,
            Step::Happens,
            Step::GatewayTells,
            Step::PumpHears(0),
            Step::PumpSends,
            Step::PumpSends,
            Step::PumpSends,
            Step::FrameArrives(1),
            Step::FrameArrives(2),
            Step::FrameArrives(3),
            Step::GatewayCommits,
            Step::Publishes(3),
            Step::RowArrives(1),
            Step::RowArrives(3),
            Step::RecorderCommits,
            Step::RecorderReceipts,
        ],
    ];
    let mut made = 0;
    for beginning in beginnings {
        let mut rig = Rig::new(Memory::default(), plant, 4);
        for step in beginning {
            rig.step(*step)?;
        }
        made += all_from(&rig, depth, &mut beginning.to_vec())?;
    }
    Ok(made)
}

/// A long sequence drawn from a seed, on real files; gives how many steps were made.
pub(super) fn drawn(seed: u64, steps: u32, plant: Option<Plant>) -> anyhow::Result<u64> {
    let mut chance = Chance::of(seed, 0x636f_6e66);
    let mut rig = Rig::new(Files::new()?, plant, EVENTS);
    let mut way = Vec::new();
    for _ in 0..steps {
        let menu = if chance.below(3) > 0 {
            rig.onward(&mut chance)
        } else {
            rig.menu()
        };
        let Some(step) = menu.get(chance.below(menu.len())).copied() else {
            continue;
        };
        // Faults are a part of what happens, not most of it.
        let fault = matches!(
            step,
            Step::GatewayKilled
                | Step::RecorderKilled
                | Step::RecordDestroyed
                | Step::PumpStarts
                | Step::FindsNoRoom
                | Step::ForgedAck(_)
        );
        if fault && chance.below(4) > 0 {
            continue;
        }
        let step = if matches!(step, Step::Publishes(_)) {
            Step::Publishes(1 + chance.below(4))
        } else {
            step
        };
        way.push(step);
        rig.step(step)
            .with_context(|| format!("seed {seed}: after {way:?}"))?;
    }
    rig.finish()
        .with_context(|| format!("seed {seed}: at the end, after {way:?}"))?;
    Ok(u64::try_from(way.len())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_do_what_the_model_does_in_every_short_sequence() {
        assert!(exhaustive(4, None).unwrap() > 10_000);
    }

    #[test]
    fn the_engines_on_files_do_what_the_model_does_and_everything_arrives() {
        for seed in 1..=10 {
            drawn(seed, 150, None).unwrap();
        }
    }

    #[test]
    fn a_model_of_another_chain_is_told_apart_from_the_engines() {
        let others = [
            Plant::AckBeforeSync,
            Plant::GapTaken,
            Plant::ReceiptBeforeSync,
            Plant::ReceiptOfNewest,
            Plant::FailedWriteSilent,
            Plant::ReceiptNeverLess,
        ];
        for plant in others {
            let seen = (1..=40).any(|seed| drawn(seed, 150, Some(plant)).is_err());
            assert!(seen, "not told apart: {plant:?}");
        }
    }
}
