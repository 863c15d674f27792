//! One trial: the true engines of pump, gateway and recorder, each driven step by step as its own
//! loop drives it, over a simulated line, disks, broker and clocks. Wall time in milliseconds; the
//! trial's clock runs faster. Between any two steps a process can end. `bedside` is its gateway,
//! `ward` its recorder, `delivery` what the broker brings them, `trouble` what goes wrong.

mod bedside;
mod delivery;
mod trouble;
mod ward;

use super::bed::{BED, Bed, TRIAL};
use super::broker::Broker;
use super::dice::Dice;
use super::disk::{Disk, Harm};
use super::files::{RecordImage, Rows, SpoolImage};
use super::plan::{Plan, Trouble};
use super::wire::Wire;
use gateway::bedside::Bedside;
use gateway::line::Line;
use gateway::outbox::Key;
use gateway::recorder::files::Files;
use gateway::uplink::Uplink;
use protocol::keys::KeyPair;
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::{Entry, EntryCommand, EvBatch, Topics};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) const GW: &str = "gw-01";
pub(crate) const RECORDER: &str = "ward";
const LINE_TICK_MS: u64 = 200;
const RECORDER_TICK_MS: u64 = 500;
const REPLUG_MS: u64 = 300;
/// After the trial's end everything is mended, and it must be done within so long.
const PATIENCE_MS: u64 = 240_000;
const HOUR_MS: u64 = 3_600_000;
/// Notes kept of a run that is told.
const NOTES: usize = 60;

struct Gateway {
    bedside: Bedside,
    line: Line,
    uplink: Uplink,
    started_ms: u64,
    line_ms: u64,
    uplink_ms: u64,
    /// Batches on their way to the broker, by number.
    out: BTreeMap<u64, Key>,
    /// How far the machine's clock was set when it started.
    skew_ms: i64,
    /// The port is open.
    port: bool,
    reopen_ms: u64,
}

struct Recorder {
    files: Files,
    started_ms: u64,
    inbox: VecDeque<(EvBatch, ())>,
    connected: bool,
    commit_ms: u64,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Begins(Trouble, u64),
    Ends(Trouble),
    GatewayStarts,
    RecorderStarts,
    Entry,
}

/// What was counted in a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) faults: u64,
    pub(crate) crashes: u64,
    pub(crate) power_cuts: u64,
    pub(crate) entries: u64,
    pub(crate) lost_declared: u64,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    dice: Dice,
    now_ms: u64,
    pub(crate) bed: Bed,
    up: Wire,
    down: Wire,
    plugged: bool,
    pub(crate) spool: Disk<SpoolImage>,
    pub(crate) record: Disk<RecordImage>,
    gateway: Option<Gateway>,
    recorder: Option<Recorder>,
    broker: Broker,
    due: BTreeMap<(u64, u64), Due>,
    order: u64,
    numbers: u64,
    pub(crate) gateway_keys: KeyPair,
    recorder_keys: KeyPair,
    topics: Topics,
    skew_ms: i64,
    waiting: Option<EntryCommand>,
    /// Entries that the gateway said are stored.
    pub(crate) entered: BTreeSet<String>,
    calm: bool,
    troubles: u64,
    failed_syncs: u64,
    notes: Option<VecDeque<String>>,
}

impl core::fmt::Debug for World {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("World")
            .field("now_ms", &self.now_ms)
            .finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(seed: u64, told: bool) -> Self {
        let plan = Plan::of(seed);
        let mut dice = Dice::new(seed, 3);
        let mut pair = || {
            let mut secret = [0; 32];
            for chunk in secret.chunks_mut(8) {
                chunk.copy_from_slice(&dice.bits().to_le_bytes());
            }
            KeyPair::from_seed(secret)
        };
        let (gateway_keys, recorder_keys) = (pair(), pair());
        let mut world = Self {
            bed: Bed::new(&plan),
            up: Wire::new(plan.up),
            down: Wire::new(plan.down),
            spool: Disk::new(seed, 11, plan.spool),
            record: Disk::new(seed, 12, plan.record),
            broker: Broker::new(seed, plan.broker),
            dice,
            now_ms: 0,
            plugged: true,
            gateway: None,
            recorder: None,
            due: BTreeMap::new(),
            order: 0,
            numbers: 0,
            gateway_keys,
            recorder_keys,
            topics: Topics::of_site("sim").expect("a name"),
            skew_ms: 0,
            waiting: None,
            entered: BTreeSet::new(),
            calm: false,
            troubles: 0,
            failed_syncs: 0,
            notes: told.then(VecDeque::new),
            plan,
        };
        world.plan_due(0, Due::GatewayStarts);
        world.plan_due(0, Due::RecorderStarts);
        let first = world.dice.around(world.wall(2 * HOUR_MS));
        world.plan_due(first, Due::Entry);
        for (trouble, mean) in world.plan.troubles.clone() {
            let at = world.dice.around(mean);
            world.plan_due(at, Due::Begins(trouble, mean));
        }
        world
    }

    fn wall(&self, trial_ms: u64) -> u64 {
        trial_ms / u64::from(self.plan.speed)
    }

    fn trial(&self, wall_ms: u64) -> u64 {
        wall_ms * u64::from(self.plan.speed)
    }

    fn plan_due(&mut self, at_ms: u64, due: Due) {
        self.order += 1;
        self.due.insert((at_ms, self.order), due);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        let hour = self.trial(self.now_ms) / HOUR_MS;
        let now_ms = self.now_ms;
        if let Some(notes) = &mut self.notes {
            if notes.len() == NOTES {
                notes.pop_front();
            }
            notes.push_back(format!("hour {hour:3} wall {now_ms:7} ms: {}", text()));
        }
    }

    /// The last that was noted.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &String> {
        self.notes.iter().flatten()
    }

    pub(crate) fn hours(&self) -> u64 {
        self.plan.hours
    }

    /// Runs the trial to its end.
    ///
    /// # Errors
    /// What did not hold while it ran.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let end_ms = self.wall(self.plan.hours * HOUR_MS);
        loop {
            let next = self.next_ms();
            if !self.calm && next >= end_ms {
                self.mend();
            }
            if self.is_done() {
                break;
            }
            if next > end_ms + PATIENCE_MS {
                return Err(self.stuck());
            }
            self.now_ms = self.now_ms.max(next);
            self.step();
            if let Some(wrong) = self.bed.wrong.take() {
                return Err(wrong);
            }
        }
        self.bed.settle();
        self.bed.wrong.take().map_or(Ok(()), Err)
    }

    /// The gateway's disk lied, and power took what it had promised: its own chain is forked, and
    /// the record says so. What the pump said is safe all the same.
    pub(crate) fn is_excused(&self) -> bool {
        self.spool.counts().lost_to_lies > 0
    }

    fn is_done(&self) -> bool {
        self.calm
            && self.bed.closed()
            && self.gateway.as_ref().is_some_and(|g| g.bedside.is_done())
            && self.record.look(|image| image.closed)
            && self.waiting.is_none()
    }

    fn stuck(&self) -> String {
        let pump = self.bed.last_seq();
        let ends = |source: &str, rows: &Rows| {
            let last = rows.values().rev().take(3).rev();
            let last = last.map(|row| format!("{} {}", row.row.seq, row.row.kind));
            format!(
                "{source}: {} rows, {}",
                rows.len(),
                last.collect::<Vec<_>>().join(", ")
            )
        };
        let spool = self.spool.look(|image| {
            let all = image.rows.iter().map(|((_, s), rows)| ends(s, rows));
            all.collect::<Vec<_>>().join("; ")
        });
        let record = self.record.look(|image| {
            let all = image.rows.iter().map(|(s, rows)| ends(s, rows));
            (all.collect::<Vec<_>>().join("; "), image.closed)
        });
        format!(
            "not done {} s after everything was mended: pump through {pump} (closed {}), spool has {spool}; gateway runs {}; record has {} (closed {}); an entry waits: {}; {:?}",
            PATIENCE_MS / 1_000,
            self.bed.closed(),
            self.gateway.is_some(),
            record.0,
            record.1,
            self.waiting.is_some(),
            self.bed
        )
    }

    /// Nothing goes wrong any more.
    fn mend(&mut self) {
        self.note(|| "everything is mended".into());
        self.calm = true;
        self.bed.calm = true;
        self.due.retain(|_, due| !matches!(due, Due::Begins(..)));
        let over = self.due.iter().filter_map(|(at, due)| match due {
            Due::Ends(trouble) => Some((*at, *trouble)),
            Due::Begins(..) | Due::GatewayStarts | Due::RecorderStarts | Due::Entry => None,
        });
        let over: Vec<_> = over.collect();
        for (at, trouble) in over {
            self.due.remove(&at);
            self.end_trouble(trouble);
        }
        (self.up.harm, self.down.harm) = Default::default();
        self.broker.harm = super::broker::Harm::default();
        self.spool.set_harm(Harm::default());
        self.record.set_harm(Harm::default());
        self.plan.crash_a_step = 0.0;
    }

    fn next_ms(&self) -> u64 {
        let speed = u64::from(self.plan.speed);
        let bed = self.bed.next_ms().div_ceil(speed);
        let line = if self.plugged {
            self.bed.line_ms()
        } else {
            u64::MAX
        };
        let due = self
            .due
            .first_key_value()
            .map_or(u64::MAX, |((at, _), _)| *at);
        let gateway = self.gateway.as_ref();
        let gateway = gateway.map_or(u64::MAX, |g| g.line_ms.min(g.uplink_ms));
        let recorder = self.recorder.as_ref().map_or(u64::MAX, |r| r.commit_ms);
        [
            bed,
            line,
            due,
            gateway,
            recorder,
            self.up.next_ms(),
            self.down.next_ms(),
            self.broker.next_ms(),
        ]
        .into_iter()
        .min()
        .unwrap_or(u64::MAX)
    }

    /// Everything that is due now, each part once.
    fn step(&mut self) {
        let now_ms = self.now_ms;
        self.bed.advance(self.trial(now_ms));
        while let Some(bytes) = self.down.receive(now_ms) {
            self.bed.bytes_in(now_ms, &bytes);
        }
        if self.plugged {
            loop {
                let bytes = self.bed.bytes_out(now_ms);
                if bytes.is_empty() {
                    break;
                }
                self.up.send(now_ms, bytes, &mut self.dice);
            }
        }
        while let Some(bytes) = self.up.receive(now_ms) {
            self.gateway_hears(&bytes);
        }
        if self.gateway.as_ref().is_some_and(|g| g.line_ms <= now_ms) {
            self.gateway_ticks();
        }
        if self.gateway.as_ref().is_some_and(|g| g.uplink_ms <= now_ms) {
            self.gateway_sends();
        }
        while let Some(delivery) = self.broker.poll(now_ms) {
            self.deliver(delivery);
        }
        if self
            .recorder
            .as_ref()
            .is_some_and(|r| r.commit_ms <= now_ms)
        {
            self.recorder_commits();
        }
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now_ms {
                break;
            }
            let due = entry.remove();
            self.happen(due);
        }
    }

    fn now_at(&self, started_ms: u64) -> Now {
        let trial = i64::try_from(self.trial(self.now_ms)).unwrap_or(i64::MAX);
        Now {
            uptime: Uptime::from_millis(self.now_ms - started_ms),
            utc: Timestamp::from_unix_millis(self.plan.origin_utc_ms + trial + self.skew_ms),
        }
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> Counts {
        let (spool, record) = (self.spool.counts(), self.record.counts());
        let disks = |of: fn(&super::disk::Counts) -> u64| of(&spool) + of(&record);
        let crashes = disks(|c| c.crashes);
        let power_cuts = self.bed.truth.power_cuts;
        Counts {
            events: u64::try_from(self.bed.truth.events.len()).unwrap_or(0),
            faults: self.troubles
                + self.up.harmed
                + self.down.harmed
                + self.broker.broken
                + crashes
                + power_cuts
                + disks(|c| c.failed_syncs)
                + disks(|c| c.refused_full),
            crashes,
            power_cuts,
            entries: u64::try_from(self.entered.len()).unwrap_or(0),
            lost_declared: 0,
        }
    }
}

fn entry(number: u64) -> EntryCommand {
    EntryCommand {
        entry_id: format!("e{number}"),
        bed: BED.into(),
        trial: TRIAL.into(),
        at_utc_ms: 0,
        by: "nurse".into(),
        role: "nurse".into(),
        entry: Entry::Observation {
            what: "resp_rate".into(),
            value_milli: 14_000,
        },
    }
}
