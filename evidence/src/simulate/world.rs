//! One trial: the true engines of pump, gateway and recorder, each driven step by step as its own
//! loop drives it, over a simulated line, disks, broker and clocks. Wall time in milliseconds; the
//! trial's clock runs faster. Between any two steps a process can end.

use super::bed::{BED, Bed, TRIAL};
use super::broker::{Broker, Delivery, Mail, Who};
use super::dice::Dice;
use super::disk::{Crash, Disk, Harm};
use super::files::{RecordImage, Rows, SimFolder, SimSpool, SpoolImage};
use super::plan::{Plan, Trouble};
use super::wire::Wire;
use gateway::bedside::Bedside;
use gateway::clock::Mode;
use gateway::config::BedConfig;
use gateway::entries::add_entry;
use gateway::key_files::Trust;
use gateway::line::Line;
use gateway::mqtt::Answer;
use gateway::outbox::Key;
use gateway::recorder::files::{Files, GROUP_MAX};
use gateway::recorder::intake::open_batch;
use gateway::uplink::{Speaker, Uplink};
use protocol::keys::KeyPair;
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::{Entry, EntryCommand, EvBatch, Topic, Topics};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

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

    // --- the gateway ---

    fn now_at(&self, started_ms: u64) -> Now {
        let trial = i64::try_from(self.trial(self.now_ms)).unwrap_or(i64::MAX);
        Now {
            uptime: Uptime::from_millis(self.now_ms - started_ms),
            utc: Timestamp::from_unix_millis(self.plan.origin_utc_ms + trial + self.skew_ms),
        }
    }

    fn start_gateway(&mut self) {
        self.spool.light();
        let now = self.now_at(self.now_ms);
        let mode = Mode::Accelerated {
            origin: Timestamp::from_unix_millis(self.plan.origin_utc_ms),
            speed: self.plan.speed,
            anchor: None,
        };
        let beds = [BedConfig {
            port: "simulated".into(),
            bed: BED.into(),
            trial: TRIAL.into(),
            tag_key: None,
        }];
        let opened = SimSpool::open(&self.spool)
            .and_then(|spool| Bedside::open(Box::new(spool), GW, &beds, mode, now));
        let bedside = match opened {
            Ok(bedside) => bedside,
            Err(e) => {
                self.note(|| format!("the gateway does not start: {e}"));
                return self.end_gateway(Crash::Killed);
            }
        };
        self.note(|| "the gateway starts".into());
        let [part] = bedside.beds.as_slice() else {
            return;
        };
        let line = Line::new(part.clone(), mode, self.gateway_keys.clone(), now.uptime);
        let keys = [(self.recorder_keys.public(), RECORDER.to_owned())];
        let speaker = Speaker {
            gw: GW.into(),
            topics: self.topics.clone(),
            pair: self.gateway_keys.clone(),
            trust: Arc::new(Trust::Folder(BTreeMap::from(keys))),
            beds: BTreeMap::from([(TRIAL.into(), BED.into())]),
        };
        let uplink = Uplink::new(Arc::new(speaker), bedside.outbox.clone());
        let now_ms = self.now_ms;
        self.gateway = Some(Gateway {
            bedside,
            line,
            uplink,
            started_ms: now_ms,
            line_ms: now_ms,
            uplink_ms: now_ms,
            out: BTreeMap::new(),
            skew_ms: self.skew_ms,
            port: false,
            reopen_ms: now_ms,
        });
        self.broker.set_runs(now_ms, Who::Gateway, true);
    }

    fn end_gateway(&mut self, crash: Crash) {
        self.note(|| format!("the gateway ends: {crash:?}"));
        self.spool.end(crash);
        self.gateway = None;
        self.up.clear();
        self.broker.set_runs(self.now_ms, Who::Gateway, false);
        let rest = if self.calm {
            500
        } else {
            self.dice.spread(200, 20_000)
        };
        self.plan_due(self.now_ms + rest, Due::GatewayStarts);
    }

    /// A place between two steps of the gateway; true where it has ended there.
    fn gateway_ended(&mut self) -> bool {
        if self.gateway.is_none() {
            return true;
        }
        let killed = self.dice.happens(self.plan.crash_a_step);
        if killed || self.spool.down() {
            self.end_gateway(Crash::Killed);
            return true;
        }
        let failed_syncs = self.spool.counts().failed_syncs;
        if failed_syncs > self.failed_syncs {
            // A failed store is final for its process; somebody sees the alarm.
            self.failed_syncs = failed_syncs;
            self.note(|| "the gateway's disk failed".into());
            let seen = self.now_ms + self.dice.spread(500, 20_000);
            self.plan_due(seen, Due::Ends(Trouble::SpoolFull));
        }
        false
    }

    fn gateway_hears(&mut self, bytes: &[u8]) {
        let Some(started_ms) = self.gateway.as_ref().map(|g| g.started_ms) else {
            return;
        };
        let now = self.now_at(started_ms);
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        if !gateway.port {
            return;
        }
        gateway.line.handle_bytes(now, bytes);
        if !self.gateway_ended() {
            self.gateway_speaks(now);
        }
    }

    fn gateway_speaks(&mut self, now: Now) {
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        for notice in gateway.line.take_notices() {
            self.note(|| format!("the gateway says: {notice}"));
        }
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        let mut out = Vec::new();
        gateway.line.collect_out(now, &mut out);
        self.down.send(self.now_ms, out, &mut self.dice);
    }

    fn gateway_ticks(&mut self) {
        let (now_ms, plugged, skew_ms) = (self.now_ms, self.plugged, self.skew_ms);
        let Some(started_ms) = self.gateway.as_ref().map(|g| g.started_ms) else {
            return;
        };
        let now = self.now_at(started_ms);
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        gateway.line_ms = now_ms + LINE_TICK_MS;
        gateway.port &= plugged;
        if plugged && !gateway.port && gateway.reopen_ms <= now_ms {
            gateway.port = true;
            gateway.line.reopen(now);
        }
        gateway.line.tick(now, skew_ms - gateway.skew_ms);
        let port = gateway.port;
        if self.gateway_ended() {
            return;
        }
        if port {
            self.gateway_speaks(now);
        }
        self.enter(now);
    }

    /// The nurse tries an entry until it is stored.
    fn enter(&mut self, now: Now) {
        let Some(command) = self.waiting.clone() else {
            return;
        };
        let Some(gateway) = &self.gateway else { return };
        let [part] = gateway.bedside.beds.as_slice() else {
            return;
        };
        let command = EntryCommand {
            at_utc_ms: now.utc.as_unix_millis(),
            ..command
        };
        match add_entry(part, now, &command, self.plan.speed) {
            Ok(_) => {
                self.entered.insert(command.entry_id);
                self.waiting = None;
            }
            // Closed: nobody was told that it is stored.
            Err(why) if why.contains("closed") => self.waiting = None,
            Err(_) => {}
        }
        self.gateway_ended();
    }

    fn gateway_sends(&mut self) {
        let (now_ms, every) = (self.now_ms, self.plan.uplink_every_ms);
        let Some(started_ms) = self.gateway.as_ref().map(|g| g.started_ms) else {
            return;
        };
        let now = self.now_at(started_ms);
        if let Some(gateway) = &mut self.gateway {
            gateway.uplink_ms = now_ms + every;
        }
        loop {
            let Some(gateway) = &mut self.gateway else {
                return;
            };
            let Some((key, after)) = gateway.uplink.poll_batch(now.uptime) else {
                return;
            };
            let store = &gateway.bedside.store;
            let batch = gateway.uplink.read_batch(store, &key, after);
            if self.gateway_ended() {
                return;
            }
            let Ok(Some(batch)) = batch else { return };
            self.numbers += 1;
            let number = self.numbers;
            if let Some(gateway) = &mut self.gateway {
                gateway.out.insert(number, key);
            }
            let mail = Arc::new((batch.topic, batch.payload));
            self.broker.publish(now_ms, Who::Gateway, number, &mail);
        }
    }

    // --- the recorder ---

    fn start_recorder(&mut self) {
        self.record.light();
        let folder = SimFolder {
            disk: self.record.clone(),
            trial: TRIAL.into(),
        };
        let opened = Files::open(Box::new(folder), RECORDER, self.recorder_keys.clone());
        match opened {
            Ok(files) => {
                self.note(|| "the recorder starts".into());
                self.recorder = Some(Recorder {
                    files,
                    started_ms: self.now_ms,
                    inbox: VecDeque::new(),
                    connected: false,
                    commit_ms: self.now_ms,
                });
                self.broker.set_runs(self.now_ms, Who::Recorder, true);
            }
            Err(e) => {
                self.note(|| format!("the recorder does not start: {e}"));
                self.end_recorder(Crash::Killed);
            }
        }
    }

    fn end_recorder(&mut self, crash: Crash) {
        self.note(|| format!("the recorder ends: {crash:?}"));
        self.record.end(crash);
        self.recorder = None;
        self.broker.set_runs(self.now_ms, Who::Recorder, false);
        let rest = if self.calm {
            500
        } else {
            self.dice.spread(200, 20_000)
        };
        self.plan_due(self.now_ms + rest, Due::RecorderStarts);
    }

    fn recorder_ended(&mut self) -> bool {
        if self.recorder.is_none() {
            return true;
        }
        let killed = self.dice.happens(self.plan.crash_a_step);
        if killed || self.record.down() {
            self.end_recorder(Crash::Killed);
            return true;
        }
        false
    }

    fn recorder_hears(&mut self, mail: &Mail) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let trust = Trust::Folder(BTreeMap::from([(
            self.gateway_keys.public(),
            GW.to_owned(),
        )]));
        match open_batch(&self.topics, &trust, &mail.0, mail.1.as_bytes()) {
            Ok(batch) => {
                recorder.inbox.push_back((batch, ()));
                recorder.commit_ms = recorder.commit_ms.min(self.now_ms);
            }
            Err(why) => {
                self.broker.acknowledge(self.now_ms);
                self.note(|| format!("the recorder does not believe: {why}"));
            }
        }
    }

    fn recorder_commits(&mut self) {
        let Some(started_ms) = self.recorder.as_ref().map(|r| r.started_ms) else {
            return;
        };
        let now = Now {
            utc: self.now_at(started_ms).utc + -self.skew_ms,
            ..self.now_at(started_ms)
        };
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let group = recorder.inbox.len().min(GROUP_MAX);
        let batches: Vec<_> = recorder.inbox.drain(..group).collect();
        let more = !recorder.inbox.is_empty();
        let rest = if more { 0 } else { RECORDER_TICK_MS };
        recorder.commit_ms = self.now_ms + rest;
        let connected = std::mem::take(&mut recorder.connected);
        let done = recorder.files.commit(now, batches, connected);
        if self.recorder_ended() {
            return;
        }
        for conflict in &done.conflicts {
            self.note(|| format!("the recorder sets aside {conflict}"));
        }
        for () in done.answered {
            self.broker.acknowledge(self.now_ms);
            if self.recorder_ended() {
                return;
            }
        }
        for receipt in done.receipts {
            let topic = self.topics.receipt(&receipt.gw, RECORDER);
            let mail = Arc::new((topic, self.recorder_keys.sign_json(&receipt)));
            self.broker.publish(self.now_ms, Who::Recorder, 0, &mail);
            if self.recorder_ended() {
                return;
            }
        }
        if let Some(why) = done.failed {
            self.note(|| format!("the recorder stops: {why}"));
            self.end_recorder(Crash::Killed);
        }
    }

    // --- the broker ---

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Connected(Who::Gateway) => {
                if let Some(gateway) = &mut self.gateway {
                    let now = Uptime::from_millis(self.now_ms - gateway.started_ms);
                    gateway.uplink.handle_connected(now);
                    gateway.uplink_ms = self.now_ms;
                }
            }
            Delivery::Disconnected(Who::Gateway) => {
                let late = self.dice.happens(0.5);
                if let Some(gateway) = &mut self.gateway {
                    gateway.uplink.handle_disconnected();
                    // The client library tells at once, or when it is connected again.
                    for number in gateway.out.keys() {
                        let at_ms = self.now_ms + if late { 700 } else { 0 };
                        let gone = Delivery::Answer(*number, Answer::Gone);
                        self.broker.tell_anyway(at_ms, gone);
                    }
                }
            }
            Delivery::Answer(number, answer) => {
                if let Some(gateway) = &mut self.gateway
                    && let Some(key) = gateway.out.remove(&number)
                {
                    let now = Uptime::from_millis(self.now_ms - gateway.started_ms);
                    gateway.uplink.handle_answer(now, Some(key), answer);
                    gateway.uplink_ms = self.now_ms;
                }
            }
            Delivery::Message(Who::Gateway, mail) => self.receipt(&mail),
            Delivery::Message(Who::Recorder, mail) => self.recorder_hears(&mail),
            Delivery::Connected(Who::Recorder) => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.connected = true;
                    recorder.commit_ms = self.now_ms;
                }
            }
            Delivery::Disconnected(Who::Recorder) => {}
        }
    }

    fn receipt(&mut self, mail: &Mail) {
        let Some(started_ms) = self.gateway.as_ref().map(|g| g.started_ms) else {
            return;
        };
        let now = self.now_at(started_ms);
        let Some(Topic::Receipt { recorder, .. }) = self.topics.parse(&mail.0) else {
            return;
        };
        let Some(gateway) = &mut self.gateway else {
            return;
        };
        let news = gateway
            .uplink
            .handle_receipt(now, &recorder, mail.1.as_bytes(), false);
        for news in news.unwrap_or_default() {
            let Some(gateway) = &self.gateway else { return };
            let utc = now.utc.as_unix_millis();
            let _ = gateway.bedside.store.write(|spool| {
                let (trial, source) = &news.key;
                spool.note_receipt(trial, source, &news.recorder, news.through_seq, utc)
            });
            if self.gateway_ended() {
                return;
            }
        }
    }

    // --- what goes wrong ---

    fn happen(&mut self, due: Due) {
        match due {
            Due::GatewayStarts => self.start_gateway(),
            Due::RecorderStarts => self.start_recorder(),
            Due::Begins(trouble, mean) => {
                self.begin_trouble(trouble);
                let next = self.now_ms + 1 + self.dice.around(mean);
                self.plan_due(next, Due::Begins(trouble, mean));
            }
            Due::Ends(trouble) => self.end_trouble(trouble),
            Due::Entry => {
                if self.calm {
                    return;
                }
                if self.waiting.is_none() {
                    self.numbers += 1;
                    self.waiting = Some(entry(self.numbers));
                }
                let next = self.now_ms + 1 + self.dice.around(self.wall(6 * HOUR_MS));
                self.plan_due(next, Due::Entry);
            }
        }
    }

    fn begin_trouble(&mut self, trouble: Trouble) {
        self.troubles += 1;
        self.note(|| format!("{trouble:?}"));
        let now_ms = self.now_ms;
        let lasts = |dice: &mut Dice, most: u64| Some(dice.spread(50, most));
        let ends = match trouble {
            Trouble::CablePulled => {
                self.plugged = false;
                (self.up.cut, self.down.cut) = (true, true);
                self.up.clear();
                self.down.clear();
                if let Some(gateway) = &mut self.gateway {
                    gateway.port = false;
                }
                let (least, most) = self.plan.cable_off_ms;
                Some(self.dice.spread(least, most))
            }
            Trouble::HalfOpen => {
                let up = self.dice.happens(0.5);
                (self.up.dead, self.down.dead) = (up, !up);
                lasts(&mut self.dice, 20_000)
            }
            Trouble::PumpOff => {
                self.bed.cut_power();
                None
            }
            Trouble::GatewayKilled | Trouble::GatewayOff => {
                if self.gateway.is_some() {
                    self.end_gateway(if trouble == Trouble::GatewayOff {
                        Crash::PowerCut
                    } else {
                        Crash::Killed
                    });
                }
                None
            }
            Trouble::RecorderKilled | Trouble::RecorderOff => {
                if self.recorder.is_some() {
                    self.end_recorder(if trouble == Trouble::RecorderOff {
                        Crash::PowerCut
                    } else {
                        Crash::Killed
                    });
                }
                None
            }
            Trouble::BrokerEnds => {
                self.broker.end(now_ms);
                lasts(&mut self.dice, 20_000)
            }
            Trouble::GatewayCut => {
                self.broker.cut(now_ms, Who::Gateway);
                None
            }
            Trouble::RecorderCut => {
                self.broker.cut(now_ms, Who::Recorder);
                None
            }
            Trouble::GatewayNamesake | Trouble::RecorderNamesake => {
                let who = if trouble == Trouble::GatewayNamesake {
                    Who::Gateway
                } else {
                    Who::Recorder
                };
                self.broker.cut(now_ms, who);
                // The other one comes back as soon as it was thrown out.
                let again = now_ms + self.dice.whole(100, 600);
                if self.dice.happens(0.9) {
                    self.plan_due(again, Due::Ends(trouble));
                }
                None
            }
            Trouble::BrokerMute => {
                self.broker.mute = true;
                lasts(&mut self.dice, 10_000)
            }
            Trouble::ClockSet => {
                let minute = 60_000;
                let steps = [minute, 60 * minute, 24 * 60 * minute, 800];
                let step = self.dice.pick(&steps);
                self.skew_ms += if self.dice.happens(0.5) { step } else { -step };
                None
            }
            Trouble::SpoolFull => {
                self.spool.set_full(true);
                lasts(&mut self.dice, 10_000)
            }
            Trouble::RecordFull => {
                self.record.set_full(true);
                lasts(&mut self.dice, 10_000)
            }
        };
        if let Some(lasts) = ends {
            self.plan_due(now_ms + lasts, Due::Ends(trouble));
        }
    }

    fn end_trouble(&mut self, trouble: Trouble) {
        let now_ms = self.now_ms;
        match trouble {
            Trouble::CablePulled => {
                self.plugged = true;
                (self.up.cut, self.down.cut) = (false, false);
                if let Some(gateway) = &mut self.gateway {
                    gateway.reopen_ms = now_ms + self.dice.whole(0, REPLUG_MS);
                }
            }
            Trouble::HalfOpen => (self.up.dead, self.down.dead) = (false, false),
            Trouble::BrokerEnds => self.broker.begin(),
            Trouble::BrokerMute => self.broker.mute = false,
            Trouble::GatewayNamesake | Trouble::RecorderNamesake => {
                if !self.calm {
                    self.begin_trouble(trouble);
                }
            }
            Trouble::SpoolFull => {
                self.spool.set_full(false);
                // A failed store is final for its process: somebody starts it again.
                if self.gateway.is_some() {
                    self.end_gateway(Crash::Killed);
                }
            }
            Trouble::RecordFull => self.record.set_full(false),
            Trouble::PumpOff
            | Trouble::GatewayKilled
            | Trouble::GatewayOff
            | Trouble::RecorderKilled
            | Trouble::RecorderOff
            | Trouble::GatewayCut
            | Trouble::RecorderCut
            | Trouble::ClockSet => {}
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
