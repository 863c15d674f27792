//! Everything behind two pumps, and what can happen to it.

use super::plan::{Do, Must, Plan, Signer, Step, What};
use super::pump::{Foreigner, Pump};
use super::senses::Senses;
use crate::faults::lock;
use crate::faults::proxy::Proxy;
use crate::promise::scratch;
use anyhow::{Context, anyhow, bail};
use device_sim::clock::Wall;
use device_sim::scenario::Scenario;
use device_sim::story::{CLOCK, HERE, Place};
use device_sim::ward::Hand;
use gateway::broker::{self, EmbeddedBroker};
use gateway::clock::{Mode, wall_utc};
use gateway::key_files;
use gateway::recorder::{self, Recorder, record_path};
use gateway::watch::{self, EntryClient, Watch};
use protocol::event::CloseReason;
use protocol::keys::KeyPair;
use protocol::time::Timestamp;
use protocol::topics::{Entry, EntryCommand, LinkWord};
use record::Record;
use record::verify::{Evidence, Options, verify};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;

pub(super) const SITE: &str = "faults";
const GW: &str = "gw-01";
const NEIGHBOR: Place<'static> = Place {
    pump: "EP-0002",
    trial: "T-0002",
    bed: "02",
};
/// Dashboards say so often that they live.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// Told of any bed where the machine that lives the stories is so busy that a broker, or the
/// dashboard of the story, gets no time for seconds. True then, and not of the story.
const OF_A_BUSY_MACHINE: [&str; 3] = ["no_broker", "not_watched", "link_lost"];
const REPLY_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// The parts, in the order in which they end.
pub(super) struct World {
    gateway: Option<Child>,
    one: Pump,
    two: Pump,
    swapped: Option<Pump>,
    foreigner: Option<Foreigner>,
    story: Scenario,
    speed: u32,
    clock: Mode,
    recorder: Option<Recorder>,
    broker: Option<Box<dyn EmbeddedBroker>>,
    broker_address: SocketAddr,
    proxy: Proxy,
    senses: Arc<Mutex<Senses>>,
    face: Vec<(u64, String)>,
    _watch: Watch,
    draws: Arc<AtomicBool>,
    nurse: KeyPair,
    wall: Wall,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

/// The dashboard's task lives as long as its link.
impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            let _ = gateway.kill();
            let _ = gateway.wait();
        }
    }
}

impl World {
    pub(super) fn start(story: &Scenario, plan: &Plan) -> anyhow::Result<Self> {
        let folder = scratch()?;
        let runtime = runtime()?;
        let wall = Wall::start();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("trust"))?;
        std::fs::create_dir(path("records"))?;
        let nurse = KeyPair::from_seed([21; 32]);
        let keys = [
            key_files::load_or_create(&path("gw.spool.key"))?,
            key_files::load_or_create(&path("ward.key"))?,
            nurse.clone(),
        ];
        for (name, key) in ["gw", "ward", "nurse"].iter().zip(&keys) {
            let file = path("trust").join(format!("{name}.pub"));
            std::fs::write(file, format!("{}\n", key.public()))?;
        }
        let any: SocketAddr = "127.0.0.1:0".parse()?;
        let broker = runtime.block_on(broker::start(any, None))?;
        let broker_address = broker.address();
        let proxy = Proxy::start(broker_address)?;
        let clock = Mode::Accelerated {
            origin: Timestamp::from_unix_millis(CLOCK.origin_utc_ms),
            speed: plan.speed,
            anchor: Some(wall_utc()),
        };
        let url = format!("mqtt://{broker_address}");
        let config = recorder::Config {
            site: SITE.into(),
            name: "ward".into(),
            broker: url.parse().map_err(|e: String| anyhow!(e))?,
            records: path("records"),
            key: Some(path("ward.key")),
            trust: Some(path("trust")),
            clock,
        };
        let guard = runtime.enter();
        let recorder = Recorder::start(config).map_err(|e| anyhow!("{e}"))?;
        let senses = Arc::new(Mutex::new(Senses::default()));
        let into = senses.clone();
        let hear = move |heard| {
            lock(&into).hear(wall.uptime().as_millis(), heard);
            true
        };
        let url = url.parse().map_err(|e: String| anyhow!(e))?;
        let watch = watch::watch(url, SITE, "d1", nurse.clone(), hear).map_err(|e| anyhow!(e))?;
        let draws = Arc::new(AtomicBool::new(true));
        let (own, on) = (watch.clone(), draws.clone());
        runtime.spawn(async move {
            loop {
                if on.load(Ordering::Relaxed) {
                    own.alive(true).await;
                }
                tokio::time::sleep(ALIVE_EVERY).await;
            }
        });
        drop(guard);
        let neighbor = Scenario {
            seed: story.seed + 1,
            faults: Vec::new(),
            acts: Vec::new(),
            flash_size: None,
            ..story.clone()
        };
        let start = |story: &Scenario, place: Place| {
            let link = path(&format!("line-{}", place.bed));
            Pump::start(story, place, plan.speed, folder.path(), &link)
        };
        let mut world = Self {
            gateway: None,
            one: start(story, HERE)?,
            two: start(&neighbor, NEIGHBOR)?,
            swapped: None,
            foreigner: None,
            story: story.clone(),
            speed: plan.speed,
            clock,
            recorder: Some(recorder),
            broker: Some(broker),
            broker_address,
            proxy,
            senses,
            face: Vec::new(),
            _watch: watch,
            draws,
            nurse,
            wall,
            runtime,
            folder,
        };
        world.start_gateway()?;
        Ok(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.wall.uptime().as_millis()
    }

    fn start_gateway(&mut self) -> anyhow::Result<()> {
        let bed = |place: Place| {
            let port = self.path(&format!("line-{}", place.bed));
            format!("{}:{}:{}", place.bed, place.trial, port.display())
        };
        // A write beyond the limit is an error for the gateway, not a signal.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(std::env::current_exe()?)
            .args(["box", "--gw", GW])
            .args(["--broker", &format!("mqtt://{}", self.proxy.address)])
            .arg("--spool")
            .arg(self.path("gw.spool"))
            .arg("--trust")
            .arg(self.path("trust"))
            .args(["--clock", &self.clock.to_string()])
            .args(["--bed", &bed(HERE), "--bed", &bed(NEIGHBOR)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(self.path("gateway.log"))?,
            )
            .spawn()?;
        self.gateway = Some(child);
        Ok(())
    }

    /// Until the pump of bed 01 has come to the story's moment; gives the wall time then.
    pub(super) fn wait_for_moment(&mut self, patience_ms: u64) -> anyhow::Result<u64> {
        let at_ms = self.story.begins_ms();
        while self.one.remote.progress().trial_ms < at_ms {
            if self.now_ms() > patience_ms {
                bail!("the moment never came: {}", self.told());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(self.now_ms())
    }

    pub(super) fn do_step(&mut self, step: &Step) -> anyhow::Result<()> {
        match &step.what {
            Do::KillGateway => {
                let mut child = self.gateway.take().context("no gateway to kill")?;
                child.kill()?;
                child.wait()?;
            }
            Do::StartGateway => self.start_gateway()?,
            Do::StopBroker => {
                let broker = self.broker.take().context("no broker to stop")?;
                self.runtime.block_on(broker.stop());
            }
            Do::StartBroker => self.start_broker()?,
            Do::PartNetwork => self.proxy.part(true),
            Do::JoinNetwork => self.proxy.part(false),
            Do::DashboardLeaves => self.draws.store(false, Ordering::Relaxed),
            Do::DashboardReturns => self.draws.store(true, Ordering::Relaxed),
            Do::FillDisk => {
                let child = self.gateway.as_ref().context("no gateway")?;
                let pid = rustix::process::Pid::from_child(child);
                let limit = rustix::process::Rlimit {
                    current: Some(1),
                    maximum: Some(1),
                };
                rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, limit)?;
            }
            Do::Swap { pump, trial } => {
                self.one.stop()?;
                let place = Place {
                    pump,
                    trial,
                    bed: HERE.bed,
                };
                let link = self.path("line-01");
                let swapped =
                    Pump::start(&self.story, place, self.speed, self.folder.path(), &link)?;
                self.swapped = Some(swapped);
            }
            Do::OtherVersion { version } => {
                self.one.stop()?;
                self.foreigner = Some(Foreigner::start(&self.path("line-01"), *version)?);
            }
            Do::SwapBack => {
                self.foreigner = None;
                if let Some(mut swapped) = self.swapped.take() {
                    swapped.stop()?;
                }
                self.one.go_on()?;
            }
            Do::Publish {
                topic,
                text,
                signed_by,
                retained,
            } => self.publish(topic, text, *signed_by, *retained)?,
            Do::Enter { id, entry, reply } => self.enter(id, entry, reply)?,
        }
        Ok(())
    }

    /// On the port of before, which its last connections may hold for a moment.
    fn start_broker(&mut self) -> anyhow::Result<()> {
        let mut last = None;
        for _ in 0..100 {
            match self
                .runtime
                .block_on(broker::start(self.broker_address, None))
            {
                Ok(broker) => {
                    self.broker = Some(broker);
                    return Ok(());
                }
                Err(e) => last = Some(e),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(last.map_or_else(|| anyhow!("no broker"), Into::into))
    }

    fn publish(
        &self,
        topic: &str,
        text: &str,
        signed_by: Option<Signer>,
        retained: bool,
    ) -> anyhow::Result<()> {
        let pair = match signed_by {
            Some(Signer::Rogue) => Some(KeyPair::from_seed([66; 32])),
            Some(Signer::Nurse) => Some(self.nurse.clone()),
            None => None,
        };
        let payload = match pair {
            Some(pair) => {
                let value: serde_json::Value = serde_json::from_str(text)?;
                pair.sign_json(&value)
            }
            None => text.to_owned(),
        };
        let url = format!("mqtt://{}", self.broker_address);
        let url = url.parse().map_err(|e: String| anyhow!(e))?;
        let topic = format!("thecal/v1/{SITE}/{topic}");
        self.runtime.block_on(async {
            let (link, mut inbox) = gateway::mqtt::connect(gateway::mqtt::Options {
                url,
                client_id: "somebody".into(),
                will: None,
                manual_ack: false,
            })
            .map_err(|e| anyhow!(e))?;
            let connected = tokio::time::timeout(REPLY_WITHIN, inbox.recv()).await?;
            connected.context("no connection")?;
            link.publish(topic, payload, retained).await;
            link.disconnect().await;
            Ok(())
        })
    }

    fn enter(&self, id: &str, entry: &toml::Table, reply: &str) -> anyhow::Result<()> {
        let entry: Entry = serde_json::from_value(serde_json::to_value(entry)?)?;
        let trial_ms = self.one.remote.progress().trial_ms;
        let command = EntryCommand {
            entry_id: id.into(),
            bed: HERE.bed.into(),
            trial: HERE.trial.into(),
            by: "JM".into(),
            role: "nurse".into(),
            at_utc_ms: CLOCK.origin_utc_ms + i64::try_from(trial_ms)?,
            entry,
        };
        let url = format!("mqtt://{}", self.broker_address);
        let url = url.parse().map_err(|e: String| anyhow!(e))?;
        let answer = self.runtime.block_on(async {
            let client = EntryClient::connect(url, SITE, "n1", self.nurse.clone())
                .map_err(|e| anyhow!(e))?;
            anyhow::Ok(client.enter(GW, &command, REPLY_WITHIN).await)
        })?;
        let answer = answer.context("no answer")?;
        if answer.result != reply {
            bail!("entry {id} was {}: {}", answer.result, answer.detail);
        }
        Ok(())
    }

    /// When it was so, wall milliseconds since the moment; none where it is not so yet.
    pub(super) fn met(&mut self, must: &Must, moment: u64) -> Option<u64> {
        let since = |at: u64| at.saturating_sub(moment);
        let now = since(self.now_ms());
        let heard = lock(&self.senses);
        match &must.what {
            What::Alarm {
                name,
                priority,
                words,
            } => heard
                .alarms
                .iter()
                .find(|seen| {
                    seen.bed == HERE.bed
                        && seen.name == *name
                        && priority.is_none_or(|p| p == seen.priority)
                        && words
                            .as_ref()
                            .is_none_or(|w| seen.text.contains(w.as_str()))
                        && since(seen.at_ms) >= must.after_ms
                        && seen.at_ms >= moment
                })
                .map(|seen| since(seen.at_ms)),
            What::AlarmEnds { name } => {
                let mine = |s: &&super::senses::Seen| s.bed == HERE.bed && s.name == *name;
                let last = heard.alarms.iter().rfind(mine)?;
                last.ended_ms.map(since).filter(|at| *at >= must.after_ms)
            }
            What::Offline => heard.offline_ms.filter(|at| *at >= moment).map(since),
            What::LinkUp => {
                let (at, state) = heard.states.get(HERE.bed)?;
                let up = state.link == LinkWord::Up && state.frame_age_ms < 2_000;
                (up && since(*at) >= must.after_ms && *at >= moment).then(|| since(*at))
            }
            What::Face { line } => {
                drop(heard);
                let face = self.one.remote.face()?;
                let there = face.lines.iter().any(|l| l.contains(line.as_str()));
                if self
                    .face
                    .last()
                    .is_none_or(|(_, last)| *last != face.lines.join(" / "))
                {
                    self.face.push((now, face.lines.join(" / ")));
                }
                (there && now >= must.after_ms).then_some(now)
            }
        }
    }

    /// Where the neighbor's sound line has it too, it is the machine's, which gave neither any time.
    pub(super) fn saw_alarm_here_alone(&self, name: &str) -> bool {
        let heard = lock(&self.senses);
        let on = |place: Place| {
            let mut seen = heard.alarms.iter();
            seen.any(|s| s.bed == place.bed && s.name == name)
        };
        on(HERE) && !on(NEIGHBOR)
    }

    /// Closes both trials at the pumps and waits for both records; then holds each against its
    /// pump's journal and its own proof.
    pub(super) fn finish(&mut self, plan: &Plan, patience_ms: u64) -> anyhow::Result<Vec<String>> {
        let deadline = self.now_ms() + patience_ms;
        let mut complaints = Vec::new();
        for place in [HERE, NEIGHBOR] {
            let pump = if place == HERE { &self.one } else { &self.two };
            while !pump.remote.progress().closed {
                pump.remote.act(Hand::Close(CloseReason::Planned));
                if self.now_ms() > deadline {
                    complaints.push(format!("the pump of bed {} does not close", place.bed));
                    return Ok(complaints);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        for place in [HERE, NEIGHBOR] {
            while !is_closed(&self.record(place)) {
                if self.now_ms() > deadline {
                    let holds = self.what_it_holds(place).unwrap_or_else(|e| e.to_string());
                    let bed = place.bed;
                    complaints.push(format!("the record of bed {bed} is not closed; {holds}"));
                    complaints.extend(self.why_recorder_ended());
                    return Ok(complaints);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        self.one.stop()?;
        self.two.stop()?;
        if let Some(recorder) = self.recorder.take() {
            self.runtime
                .block_on(recorder.stop())
                .map_err(|e| anyhow!(e))?;
        }
        complaints.extend(self.compare(HERE, &self.one, plan.holes, plan.sizes_only)?);
        complaints.extend(self.compare(NEIGHBOR, &self.two, false, false)?);
        complaints.extend(self.lacking_facts(plan)?);
        Ok(complaints)
    }

    fn why_recorder_ended(&mut self) -> Option<String> {
        let recorder = self.recorder.as_mut()?;
        let soon = Duration::from_millis(10);
        let ended = async { tokio::time::timeout(soon, recorder.wait()).await };
        let why = self.runtime.block_on(ended).ok()?;
        Some(format!("the recorder ended by itself: {why:?}"))
    }

    /// The newest event of each chain in a bed's record, in words.
    fn what_it_holds(&self, place: Place) -> anyhow::Result<String> {
        let record = Record::open_read_only(&self.record(place))?;
        let mut newest = std::collections::BTreeMap::new();
        record.for_each_event(|stored| {
            let row = stored.row;
            newest.insert(row.source.to_string(), (row.seq, row.kind));
            Ok(())
        })?;
        Ok(format!("it ends with {newest:?}"))
    }

    fn record(&self, place: Place) -> PathBuf {
        record_path(&self.path("records"), place.trial)
    }

    fn compare(
        &self,
        place: Place,
        pump: &Pump,
        holes: bool,
        sizes_only: bool,
    ) -> anyhow::Result<Vec<String>> {
        let mut complaints = Vec::new();
        let path = self.record(place);
        let rows = Record::open_read_only(&path)?.events_of(place.pump, 0, u64::MAX >> 1)?;
        let mut journal = pump.journal()?;
        if holes {
            // What the pump still holds must be there; what it lost may be.
            let held = |raw: &[u8]| rows.iter().any(|r| r.row.raw.as_slice() == raw);
            journal.retain(|event| !held(event.raw.as_bytes()));
            if let Some(event) = journal.first() {
                complaints.push(format!(
                    "bed {}: {:?} is not in the record",
                    place.bed,
                    event.raw.head()
                ));
            }
        } else if rows.len() != journal.len() && !sizes_only {
            complaints.push(format!(
                "bed {}: {} events recorded, {} journaled",
                place.bed,
                rows.len(),
                journal.len()
            ));
        } else {
            let pairs = rows.iter().zip(&journal);
            let mut other = pairs.filter(|(row, event)| {
                row.row.raw.as_slice() != event.raw.as_bytes() || row.row.tag != event.tag
            });
            if let Some((row, _)) = other.next() {
                complaints.push(format!("{} is not what the pump journaled", row.id()));
            }
        }
        let report = verify(&path, &Options::default())?;
        let good = match report.evidence {
            Evidence::Complete => !holes,
            Evidence::Gaps => holes,
            Evidence::Imported | Evidence::Open | Evidence::Altered => false,
        };
        if !good {
            complaints.push(report.line(&path));
        }
        Ok(complaints)
    }

    fn lacking_facts(&self, plan: &Plan) -> anyhow::Result<Vec<String>> {
        let record = Record::open_read_only(&self.record(HERE))?;
        let mut there = Vec::new();
        record.for_each_event(|stored| {
            there.push((stored.row.kind.clone(), stored.row.body.clone()));
            Ok(())
        })?;
        let mut lacking = Vec::new();
        for (kind, fields) in &plan.facts {
            let wanted = serde_json::to_value(fields)?;
            let found = there.iter().any(|(k, body)| {
                k == kind
                    && wanted.as_object().is_none_or(|fields| {
                        fields
                            .iter()
                            .all(|(name, value)| body.get(name) == Some(value))
                    })
            });
            if !found {
                lacking.push(format!("the record holds no {kind} with {wanted}"));
            }
        }
        Ok(lacking)
    }

    /// Whatever the neighbor was told that the story does not say of everybody.
    pub(super) fn neighbor_complaints(&self, plan: &Plan) -> Vec<String> {
        let heard = lock(&self.senses);
        let mine = heard.alarms.iter().filter(|s| s.bed == NEIGHBOR.bed);
        mine.filter(|s| !plan.everywhere.contains(&s.name))
            .filter(|s| !OF_A_BUSY_MACHINE.contains(&s.name.as_str()))
            .map(|s| format!("the neighbor's bed was told {}: {}", s.name, s.text))
            .collect()
    }

    /// Everything that was heard, for who looks for the reason.
    pub(super) fn told(&self) -> String {
        let mut out = String::from("heard:");
        let heard = lock(&self.senses);
        for s in &heard.alarms {
            let _ = write!(
                out,
                "\n    {:>6} ms bed {} {} {:?} ended {:?}: {}",
                s.at_ms, s.bed, s.name, s.priority, s.ended_ms, s.text
            );
        }
        for (bed, (at, state)) in &heard.states {
            let _ = write!(
                out,
                "\n    {at:>6} ms bed {bed} line {:?}, stored {} of {}, recorded {}",
                state.link,
                state.stored_through_seq,
                state.announced_seq,
                state.recorded_through_seq
            );
        }
        let _ = write!(out, "\n    pump {:?}", self.one.remote.progress());
        for (at, line) in &self.face {
            let _ = write!(out, "\n    {at:>6} ms face {line}");
        }
        let log = std::fs::read_to_string(self.path("gateway.log")).unwrap_or_default();
        for line in log.lines().take(20) {
            let _ = write!(out, "\n    {line}");
        }
        out
    }
}

fn is_closed(record: &Path) -> bool {
    Record::open_read_only(record)
        .ok()
        .and_then(|record| record.meta("closed").ok().flatten())
        .is_some()
}
