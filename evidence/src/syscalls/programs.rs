//! The real gateway and the real recorder with a failing disk, among a pump on a pty, a broker and
//! somebody who listens to everything.

use super::{Fault, Was, inject};
use crate::ledger::monotonic;
use crate::promise::scratch;
use crate::pty_pump::{Journal, PUMP, PtyPump, TRIAL, gateway_config};
use anyhow::{Context, bail, ensure};
use gateway::gateway::Gateway;
use gateway::key_files;
use gateway::mqtt::{self, Incoming, Url};
use protocol::keys::open_json;
use protocol::topics::{Alarms, EvBatch, Receipt, State, Status, Topic, Topics};
use record::store::StoredRow;
use record::verify::{Evidence, Options, verify};
use record::{Record, Spool};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

const OWN: &str = "gw-07.T-0001";
/// No run of so few events takes longer, however loaded the machine is.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Whose disk fails, and from when on calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A gateway, from its start on a new spool.
    Gateway,
    /// A gateway that has acknowledged already: calls count from then on in each of its threads.
    RunningGateway,
    /// A recorder, from its start on an empty folder.
    Recorder,
    /// A recorder that waits for its first batch.
    RunningRecorder,
}

impl Subject {
    pub(super) const ALL: [Self; 4] = [
        Self::Gateway,
        Self::RunningGateway,
        Self::Recorder,
        Self::RunningRecorder,
    ];

    /// Its name in the ledger.
    pub(super) fn count_name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway_starts",
            Self::RunningGateway => "gateway_runs",
            Self::Recorder => "recorder_starts",
            Self::RunningRecorder => "recorder_runs",
        }
    }

    fn is_gateway(self) -> bool {
        matches!(self, Self::Gateway | Self::RunningGateway)
    }

    fn is_running(self) -> bool {
        matches!(self, Self::RunningGateway | Self::RunningRecorder)
    }
}

/// What everybody said over MQTT.
#[derive(Debug, Default)]
struct Heard {
    connected: bool,
    /// Highest seq that the gateway published, by source.
    published: BTreeMap<String, u64>,
    /// What the gateway shows as stored.
    shown: u64,
    /// What a recorder's receipts cover, by source.
    receipts: BTreeMap<String, u64>,
    /// A recorder said something, be it that it has nothing.
    recorder_spoke: bool,
    alarmed: bool,
}

type Ear = Arc<Mutex<Heard>>;

fn lock(ear: &Ear) -> MutexGuard<'_, Heard> {
    ear.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What runs of one subject share.
pub(super) struct Programs {
    subject: Subject,
    thecal: PathBuf,
    runtime: Runtime,
    journal: Arc<Journal>,
    /// For recorders: the spool of a gateway that has the whole trial, with its key.
    stocked: Option<tempfile::TempDir>,
}

impl Programs {
    pub(super) fn new(subject: Subject, thecal: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        // A running gateway must still have something to do when strace has come to it.
        let scores = if subject == Subject::RunningGateway {
            2_500
        } else {
            60
        };
        let mut journal = Journal::new(scores);
        if subject.is_gateway() {
            journal.leave_open();
        }
        let mut programs = Self {
            subject,
            thecal: thecal.into(),
            runtime,
            journal: Arc::new(journal),
            stocked: None,
        };
        if !subject.is_gateway() {
            programs.stocked = Some(programs.stock()?);
        }
        Ok(programs)
    }

    /// A gateway takes the whole trial; nobody records it.
    fn stock(&self) -> anyhow::Result<tempfile::TempDir> {
        let folder = scratch()?;
        let pump = PtyPump::start(self.journal.clone());
        let nobody: Url = "mqtt://127.0.0.1:9".parse().map_err(anyhow::Error::msg)?;
        let _inside = self.runtime.enter();
        let config = gateway_config(folder.path(), &pump.port, &nobody);
        let gateway = Gateway::start(config).map_err(|e| anyhow::anyhow!("{e}"))?;
        let whole = || {
            let spool = folder.path().join("gw-07.spool");
            let closed = Spool::open_read_only(&spool).and_then(|s| s.meta(TRIAL, "closed"));
            matches!(closed, Ok(Some(_)))
        };
        // The spool is its writer's alone, so one looks again after a pause.
        wait("a stocked spool", || {
            pump.acked.load(Ordering::Relaxed) == self.events() && {
                std::thread::sleep(Duration::from_secs(4));
                true
            }
        })?;
        self.runtime.block_on(gateway.stop());
        ensure!(whole(), "the stocked spool is not closed");
        Ok(folder)
    }

    fn events(&self) -> u64 {
        u64::try_from(self.journal.events.len()).unwrap_or(u64::MAX)
    }

    /// One run with the n-th call failing, and where it failed, one without.
    pub(super) fn disturb(&self, fault: Fault, n: u32) -> anyhow::Result<Was> {
        let folder = scratch()?;
        let broker = self
            .runtime
            .block_on(gateway::broker::start(([127, 0, 0, 1], 0).into(), None));
        let broker = broker.map_err(|e| anyhow::anyhow!("{e}"))?;
        let url: Url = format!("mqtt://{}", broker.address())
            .parse()
            .map_err(anyhow::Error::msg)?;
        let ear = self.listen(&url, "ear")?;
        let was = if self.subject.is_gateway() {
            self.gateway(folder.path(), &url, &ear, fault, n)
        } else {
            self.recorder(folder.path(), &url, &ear, fault, n)
        };
        self.runtime.block_on(broker.stop());
        was
    }

    /// Somebody who hears everything that is said from here on.
    fn listen(&self, url: &Url, client_id: &str) -> anyhow::Result<Ear> {
        let _inside = self.runtime.enter();
        let ear = Ear::default();
        let topics = Topics::of_site("test").context("a site")?;
        let (link, mut inbox) = mqtt::connect(mqtt::Options {
            url: url.clone(),
            client_id: client_id.into(),
            will: None,
            manual_ack: false,
        })
        .map_err(anyhow::Error::msg)?;
        let (heard, hears_events) = (ear.clone(), self.subject.is_gateway());
        self.runtime.spawn(async move {
            while let Some(news) = inbox.recv().await {
                match news {
                    Incoming::Connected => {
                        let mut filters = vec![
                            topics.state("+", "+"),
                            topics.alarms("+", "+"),
                            topics.receipt("+", "+"),
                        ];
                        // Where a recorder is to come, the broker must say that nobody listens.
                        filters.extend(hears_events.then(|| topics.ev("+", "+")));
                        lock(&heard).connected = link.subscribe(filters).await.is_ok();
                    }
                    Incoming::Disconnected(_) => return,
                    // What the broker kept is of those who ended.
                    Incoming::Message(message) if message.retained => {}
                    Incoming::Message(message) => {
                        let text = String::from_utf8_lossy(&message.payload);
                        note(&mut lock(&heard), topics.parse(&message.topic), &text);
                    }
                }
            }
        });
        wait("somebody who listens", || lock(&ear).connected)?;
        Ok(ear)
    }

    /// Starts the program; the disk of one that is disturbed from its start fails already.
    fn spawn(
        &self,
        folder: &Path,
        args: &[String],
        fault: Option<(Fault, u32)>,
    ) -> anyhow::Result<Running> {
        let log = folder.join("strace.log");
        let stderr = folder.join("stderr.log");
        let mut command = match fault {
            Some((fault, n)) => {
                let mut strace = Command::new("strace");
                // -D: the child is the program itself, and its exit code is its own.
                strace.args(["-D", "-f", "-o"]).arg(&log);
                strace.args(Self::filters(folder)).args(inject(fault, n));
                strace.arg("--").arg(&self.thecal);
                strace
            }
            None => Command::new(&self.thecal),
        };
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr)?)
            .spawn()
            .context("starting the program")?;
        Ok(Running {
            child,
            tracer: None,
            stderr,
            log,
        })
    }

    fn filters(folder: &Path) -> Vec<std::ffi::OsString> {
        let (records, spool) = (folder.join("records"), folder.join("gw-07.spool"));
        let record = records.join(format!("{TRIAL}.thecal"));
        let keys = [folder.join("gw-07.spool.key"), records.join("ward.key")];
        let mut paths = vec![folder.to_path_buf(), records];
        for file in [spool, record] {
            for ending in ["", "-wal", "-journal"] {
                paths.push(with(&file, ending));
            }
        }
        for key in keys {
            for ending in ["", ".partial", ".pub", ".pub.partial"] {
                paths.push(with(&key, ending));
            }
        }
        let option = |path: PathBuf| [std::ffi::OsString::from("-P"), path.into()];
        paths.into_iter().flat_map(option).collect()
    }

    fn gateway_args(folder: &Path, port: &Path, url: &Url) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let spool = text(&folder.join("gw-07.spool"));
        let (port, url) = (text(port), url.to_string());
        let args = [
            "gateway", "--site", "test", "--gw", "gw-07", "--port", &port, "--bed", "07",
            "--trial", TRIAL, "--broker", &url, "--spool", &spool,
        ];
        args.map(String::from).to_vec()
    }

    fn gateway(
        &self,
        folder: &Path,
        url: &Url,
        ear: &Ear,
        fault: Fault,
        n: u32,
    ) -> anyhow::Result<Was> {
        let pump = PtyPump::start(self.journal.clone());
        let args = Self::gateway_args(folder, &pump.port, url);
        let acked = || pump.acked.load(Ordering::Relaxed);
        let from_start = (!self.subject.is_running()).then_some((fault, n));
        let mut running = self.spawn(folder, &args, from_start)?;
        if self.subject.is_running() {
            wait("a first acknowledgement", || acked() > 0)?;
            running.disturb(Self::filters(folder), inject(fault, n))?;
        }
        let ended = running.wait_for("all acknowledged, or an alarm", || {
            acked() == self.events() || lock(ear).alarmed
        })?;
        let alarmed = lock(ear).alarmed;
        if alarmed {
            // Time for an acknowledgement that must not come.
            std::thread::sleep(Duration::from_millis(300));
        }
        let (code, stderr) = running.stop(ended)?;
        let disturbed = running.was_disturbed();
        let was = judge(disturbed, ended, alarmed, code, &stderr)?;
        self.hold_spool(folder, acked(), ear)?;
        if disturbed {
            let ear = &self.listen(url, "ear-again")?;
            let mut again = self.spawn(folder, &args, None)?;
            let ended = again.wait_for("all acknowledged and shown", || {
                acked() == self.events() && lock(ear).shown == self.events()
            })?;
            let (code, stderr) = again.stop(ended)?;
            ensure!(
                !ended && code == 0,
                "on a sound disk again: exit code {code}: {stderr}"
            );
            let there = self.hold_spool(folder, acked(), ear)?;
            ensure!(
                there == self.events(),
                "on a sound disk again: {there} events"
            );
        }
        Ok(was)
    }

    /// What was acknowledged, shown or published is on the disk; gives the events there.
    fn hold_spool(&self, folder: &Path, acked: u64, ear: &Ear) -> anyhow::Result<u64> {
        let spool = Spool::open(&folder.join("gw-07.spool"))?;
        let read = |source| spool.rows_after(TRIAL, source, 0, usize::MAX >> 1);
        let there = self.same_events(&read(PUMP)?)?;
        ensure!(
            acked <= there,
            "acknowledged through {acked}, {there} there"
        );
        let own = u64::try_from(read(OWN)?.len())?;
        let heard = lock(ear);
        ensure!(
            heard.shown <= there,
            "shown as stored: {}, {there} there",
            heard.shown
        );
        for (source, seq) in &heard.published {
            let stored = if source == PUMP { there } else { own };
            ensure!(
                *seq <= stored,
                "{source} published through {seq}, {stored} there"
            );
        }
        Ok(there)
    }

    /// The first events of the journal, byte for byte; how many.
    fn same_events(&self, rows: &[StoredRow]) -> anyhow::Result<u64> {
        for (stored, (raw, tag)) in rows.iter().zip(&self.journal.events) {
            let same = stored.row.raw == raw.as_bytes() && stored.row.tag == *tag;
            ensure!(same, "{} is not as the pump said it", stored.id());
        }
        ensure!(
            rows.len() <= self.journal.events.len(),
            "more than the pump said"
        );
        Ok(u64::try_from(rows.len())?)
    }

    fn recorder(
        &self,
        folder: &Path,
        url: &Url,
        ear: &Ear,
        fault: Fault,
        n: u32,
    ) -> anyhow::Result<Was> {
        let stocked = self.stocked.as_ref().context("a stocked spool")?;
        let bedside = scratch()?;
        super::copy(stocked.path(), bedside.path())?;
        let records = folder.join("records");
        let args = ["recorder", "--site", "test", "--name", "ward", "--broker"];
        let mut args: Vec<String> = args.map(String::from).to_vec();
        args.extend([
            url.to_string(),
            "--records".into(),
            records.to_string_lossy().into_owned(),
        ]);
        let from_start = (!self.subject.is_running()).then_some((fault, n));
        self.announce_gateway(bedside.path(), url)?;
        let mut running = self.spawn(folder, &args, from_start)?;
        // What a gateway sends before somebody listens comes again seconds later.
        running.wait_for("a first word", || lock(ear).recorder_spoke)?;
        if self.subject.is_running() {
            let key = records.join("ward.key.pub");
            wait("the recorder's key", || key.exists())?;
            running.disturb(Self::filters(folder), inject(fault, n))?;
        }
        let pump = PtyPump::start(self.journal.clone());
        let _inside = self.runtime.enter();
        let config = gateway_config(bedside.path(), &pump.port, url);
        let gateway = Gateway::start(config).map_err(|e| anyhow::anyhow!("{e}"))?;
        let own = own_events(stocked.path())?;
        let all_received = |ear: &Ear| {
            let heard = lock(ear);
            let through = |source| heard.receipts.get(source).copied().unwrap_or(0);
            through(PUMP) == self.events() && through(OWN) >= own
        };
        let done = (|| {
            let ended = running.wait_for("receipts for all", || all_received(ear))?;
            let (code, stderr) = running.stop(ended)?;
            let disturbed = running.was_disturbed();
            let was = judge(disturbed, ended, false, code, &stderr)?;
            self.hold_record(&records, ear)?;
            if disturbed {
                // Whoever listened before may hear the last words of the one that ended still.
                let ear = &self.listen(url, "ear-again")?;
                let mut again = self.spawn(folder, &args, None)?;
                let whole = || all_received(ear) && is_closed(&records);
                let ended = again.wait_for("a whole record", whole)?;
                let (code, stderr) = again.stop(ended)?;
                ensure!(
                    !ended && code == 0,
                    "on a sound disk again: exit code {code}: {stderr}"
                );
                let there = self.hold_record(&records, ear)?;
                ensure!(
                    there == self.events(),
                    "on a sound disk again: {there} events"
                );
                let record = gateway::recorder::record_path(&records, TRIAL);
                let report = verify(&record, &Options::default())?;
                ensure!(
                    report.evidence == Evidence::Complete,
                    "{}",
                    report.line(&record)
                );
            }
            Ok(was)
        })();
        self.runtime.block_on(gateway.stop());
        done
    }

    /// The broker remembers that the gateway is there: a recorder that comes answers it.
    fn announce_gateway(&self, bedside: &Path, url: &Url) -> anyhow::Result<()> {
        let pair = key_files::load_or_create(&bedside.join("gw-07.spool.key"))?;
        let topics = Topics::of_site("test").context("a site")?;
        let status = Status {
            gw: "gw-07".into(),
            state: "online".into(),
            session: 1,
            version: "evidence".into(),
            since_utc_ms: 0,
        };
        let _inside = self.runtime.enter();
        let (link, mut inbox) = mqtt::connect(mqtt::Options {
            url: url.clone(),
            client_id: "announcer".into(),
            will: None,
            manual_ack: false,
        })
        .map_err(anyhow::Error::msg)?;
        self.runtime.block_on(async {
            inbox.recv().await.context("no connection")?;
            let payload = pair.sign_json(&status);
            let answer = link.publish(topics.status("gw-07"), payload, true).await;
            link.disconnect().await;
            let taken = matches!(answer, mqtt::Answer::Taken | mqtt::Answer::NobodyListens);
            ensure!(taken, "a gateway's status is not taken: {answer:?}");
            Ok(())
        })
    }

    /// What receipts covered is on the disk; gives the pump's events there.
    fn hold_record(&self, records: &Path, ear: &Ear) -> anyhow::Result<u64> {
        let record = gateway::recorder::record_path(records, TRIAL);
        record::store::make_folder(records)?;
        let record = Record::open_or_create(&record)?;
        let rows = record.events_of(PUMP, 0, u64::MAX >> 1)?;
        let there = self.same_events(&rows)?;
        let own = u64::try_from(record.events_of(OWN, 0, u64::MAX >> 1)?.len())?;
        for (source, seq) in &lock(ear).receipts {
            let stored = if source == PUMP { there } else { own };
            ensure!(
                *seq <= stored,
                "{source}: a receipt through {seq}, {stored} there"
            );
        }
        Ok(there)
    }
}

/// Events of the gateway's own chain.
fn own_events(stocked: &Path) -> anyhow::Result<u64> {
    let spool = Spool::open_read_only(&stocked.join("gw-07.spool"))?;
    Ok(spool.last_seq(TRIAL, OWN)?)
}

fn is_closed(records: &Path) -> bool {
    let record = gateway::recorder::record_path(records, TRIAL);
    let closed = Record::open_read_only(&record).and_then(|record| record.meta("closed"));
    matches!(closed, Ok(Some(_)))
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn note(heard: &mut Heard, topic: Option<Topic>, text: &str) {
    match topic {
        Some(Topic::Ev { source, .. }) => {
            if let Ok((batch, _)) = open_json::<EvBatch>(text, |_| true) {
                let last = batch.events.iter().map(|row| row.seq).max().unwrap_or(0);
                let seq = heard.published.entry(source).or_default();
                *seq = last.max(*seq);
            }
        }
        Some(Topic::State { .. }) => {
            if let Ok((state, _)) = open_json::<State>(text, |_| true) {
                heard.shown = heard.shown.max(state.stored_through_seq);
            }
        }
        Some(Topic::Alarms { .. }) => {
            if let Ok((alarms, _)) = open_json::<Alarms>(text, |_| true) {
                let failed =
                    |row: &protocol::topics::AlarmRow| row.alarm == "store_failed" && !row.ended;
                heard.alarmed |= alarms.alarms.iter().any(failed);
            }
        }
        Some(Topic::Receipt { .. }) => {
            if let Ok((receipt, _)) = open_json::<Receipt>(text, |_| true) {
                heard.recorder_spoke = true;
                for source in receipt.sources {
                    let seq = heard.receipts.entry(source.source).or_default();
                    *seq = source.stored_through_seq.max(*seq);
                }
            }
        }
        _ => {}
    }
}

/// What a run was, from how it went and how it ended.
fn judge(
    disturbed: bool,
    ended: bool,
    alarmed: bool,
    code: i32,
    stderr: &str,
) -> anyhow::Result<Was> {
    ensure!(!stderr.contains("panicked"), "{stderr}");
    match (disturbed, ended || alarmed) {
        (false, false) if code == 0 => Ok(Was::Clean),
        (false, _) => bail!("undisturbed it ends with exit code {code}: {stderr}"),
        (true, false) if code == 0 => Ok(Was::Survived),
        // Also where the disk failed after the last acknowledgement, before an alarm was heard.
        (true, _) => {
            ensure!(code == 1, "exit code {code} after a failed disk: {stderr}");
            let named = stderr.contains("evidence-");
            ensure!(named, "its last words name no file: {stderr}");
            Ok(Was::Stopped)
        }
    }
}

/// A program, and the strace that came to it later.
struct Running {
    child: Child,
    tracer: Option<Child>,
    stderr: PathBuf,
    log: PathBuf,
}

impl Running {
    /// From here on its disk fails at the n-th call.
    fn disturb(
        &mut self,
        filters: Vec<std::ffi::OsString>,
        inject: [String; 2],
    ) -> anyhow::Result<()> {
        let said = with(&self.log, ".stderr");
        let tracer = Command::new("strace")
            .args(["-f", "-o"])
            .arg(&self.log)
            .arg("-p")
            .arg(self.child.id().to_string())
            .args(filters)
            .args(inject)
            .stderr(File::create(&said)?)
            .spawn()
            .context("starting strace")?;
        self.tracer = Some(tracer);
        wait("strace", || {
            std::fs::read_to_string(&said).is_ok_and(|text| text.contains("attached"))
        })
    }

    /// Waits until something is so; whether the program ended by itself before.
    fn wait_for(&mut self, what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<bool> {
        let from = monotonic();
        loop {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            if is_so() {
                return Ok(false);
            }
            if monotonic().saturating_sub(from) > PATIENCE {
                self.child.kill()?;
                let words = std::fs::read_to_string(&self.stderr)?;
                let calls = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it stands still, never: {what}; it said: {words}; its calls: {calls}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends it in order; its exit code and what it said.
    fn stop(&mut self, ended: bool) -> anyhow::Result<(i32, String)> {
        if !ended {
            let pid = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if !self.wait_for_end()? {
            self.child.kill()?;
            bail!("it does not stop when told to");
        }
        let status = self.child.wait()?;
        if let Some(tracer) = &mut self.tracer {
            tracer.wait()?;
        }
        let stderr = std::fs::read_to_string(&self.stderr)?;
        let code = status
            .code()
            .with_context(|| format!("{status}: {stderr}"))?;
        Ok((code, stderr.trim().to_owned()))
    }

    fn wait_for_end(&mut self) -> anyhow::Result<bool> {
        let from = monotonic();
        while monotonic().saturating_sub(from) < PATIENCE {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(false)
    }

    fn was_disturbed(&self) -> bool {
        // strace writes its log to the end after the program is gone.
        std::thread::sleep(Duration::from_millis(20));
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.contains("(INJECTED)")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(tracer) = &mut self.tracer {
            let _ = tracer.wait();
        }
    }
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    let from = monotonic();
    while !is_so() {
        ensure!(monotonic().saturating_sub(from) < PATIENCE, "never: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
