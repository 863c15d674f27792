//! The ward's end: commits events to the trials' records, then answers the broker, then says so in
//! a signed, retained receipt. Removes repeats; a hole is an entry.
//!
//! One thread owns the files; the task at the broker only carries messages to it and answers back.

use crate::clock::{Clock, Mode};
use crate::key_files::{self, Trust};
use crate::mqtt::{self, Incoming, Link, Message, Url};
use protocol::bedside::Fact;
use protocol::chain::ChainHead;
use protocol::event::Body;
use protocol::keys::{KeyPair, open_json};
use protocol::time::Uptime;
use protocol::topics::{EvBatch, Receipt, SourceReceipt, Topic, Topics};
use record::Record;
use record::progress::Progress;
use record::trial_record::Hole;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::mpsc as async_mpsc;

/// A hole is noted when it stood so long, wall milliseconds.
const HOLE_AFTER_MS: u64 = 10_000;
/// Messages of one commit.
const GROUP_MAX: usize = 64;

/// What a recorder is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The site.
    pub site: String,
    /// The recorder's name.
    pub name: String,
    /// The broker.
    pub broker: Url,
    /// The folder of the records.
    pub records: PathBuf,
    /// The recorder's secret key; `<records>/<name>.key`, made at the first start, where none is
    /// given.
    pub key: Option<PathBuf>,
    /// Folder of the keys that are believed.
    pub trust: Option<PathBuf>,
    /// The trial's clock.
    pub clock: Mode,
}

/// Why a recorder does not start: one line for people.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// What the task says to the files' thread.
enum Order {
    Batch(Box<(EvBatch, Message)>),
    Connected,
    Stop,
}

/// What the files' thread says back, in order: first the answers, then the receipts.
struct Committed {
    answered: Vec<Message>,
    receipts: Vec<Receipt>,
    failed: Option<String>,
}

/// A running recorder.
#[derive(Debug)]
pub struct Recorder {
    stop: Arc<tokio::sync::Notify>,
    task: tokio::task::JoinHandle<Result<(), String>>,
}

impl Recorder {
    /// Opens the records and the broker's link; the broker may come later.
    ///
    /// # Errors
    /// Where name, key, folder or a record in it cannot be used.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let topics = Topics::of_site(&config.site).ok_or("the site is not a name")?;
        if !protocol::text::is_name(&config.name) {
            return Err(format!("recorder {:?} is not a name", config.name).into());
        }
        std::fs::create_dir_all(&config.records)
            .map_err(|e| format!("{}: {e}", config.records.display()))?;
        let key = config
            .key
            .clone()
            .unwrap_or_else(|| config.records.join(format!("{}.key", config.name)));
        let pair = key_files::load_or_create(&key)?;
        let trust = Trust::load(config.trust.as_deref())?;
        let clock = Clock::start(config.clock);
        let mut files = Files {
            folder: config.records,
            name: config.name.clone(),
            pair: pair.clone(),
            clock,
            trials: BTreeMap::new(),
        };
        files.open_all()?;
        let (link, inbox) = mqtt::connect(mqtt::Options {
            url: config.broker.clone(),
            client_id: format!("thecal-rec-{}", config.name),
            will: None,
            manual_ack: true,
        })?;
        let (orders, order_inbox) = mpsc::channel();
        let (tell, committed) = async_mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("records".into())
            .spawn(move || files.run(&order_inbox, &tell))?;
        let stop = Arc::new(tokio::sync::Notify::new());
        let task = Task {
            topics,
            name: config.name,
            broker: config.broker,
            pair,
            trust,
            link,
            orders,
            refused: BTreeSet::new(),
        };
        let task = tokio::spawn(task.run(inbox, committed, stop.clone(), thread));
        Ok(Self { stop, task })
    }

    /// Commits what came in and closes the files.
    ///
    /// # Errors
    /// Where the store had failed.
    pub async fn stop(self) -> Result<(), String> {
        self.stop.notify_one();
        self.task.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    /// Runs until the store fails.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn wait(&mut self) -> Result<(), String> {
        (&mut self.task)
            .await
            .unwrap_or_else(|e| Err(e.to_string()))
    }
}

struct Task {
    topics: Topics,
    name: String,
    broker: Url,
    pair: KeyPair,
    trust: Trust,
    link: Link,
    orders: Sender<Order>,
    refused: BTreeSet<String>,
}

impl Task {
    async fn run(
        mut self,
        mut inbox: async_mpsc::UnboundedReceiver<Incoming>,
        mut committed: async_mpsc::UnboundedReceiver<Committed>,
        stop: Arc<tokio::sync::Notify>,
        thread: std::thread::JoinHandle<()>,
    ) -> Result<(), String> {
        let mut failed = Ok(());
        loop {
            tokio::select! {
                () = stop.notified() => break,
                news = inbox.recv() => match news {
                    Some(news) => self.handle_news(news).await,
                    None => break,
                },
                done = committed.recv() => match done {
                    Some(done) => {
                        let failure = done.failed.clone();
                        self.answer(done).await;
                        if let Some(why) = failure {
                            failed = Err(why);
                            break;
                        }
                    }
                    None => break,
                },
            }
        }
        let _ = self.orders.send(Order::Stop);
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        while let Ok(done) = committed.try_recv() {
            let answer = self.answer(done);
            let _ = tokio::time::timeout(Duration::from_secs(1), answer).await;
        }
        self.link.disconnect().await;
        failed
    }

    async fn handle_news(&mut self, news: Incoming) {
        match news {
            Incoming::Connected => {
                let filter = self.topics.ev("+", "+");
                if let Err(e) = self.link.subscribe(vec![filter]).await {
                    eprintln!("thecal recorder: cannot subscribe at {}: {e}", self.broker);
                }
                let _ = self.orders.send(Order::Connected);
            }
            Incoming::Disconnected(why) => {
                eprintln!(
                    "thecal recorder: no broker at {}: {why}; trying again",
                    self.broker
                );
            }
            Incoming::Message(message) => self.handle_message(*message).await,
        }
    }

    /// A batch that is not believed is answered, so that it does not come for ever, and never
    /// occupies an identity.
    async fn handle_message(&mut self, message: Message) {
        let why = match self.open(&message) {
            Ok(batch) => {
                let _ = self.orders.send(Order::Batch(Box::new((batch, message))));
                return;
            }
            Err(why) => why,
        };
        if self.refused.insert(why.clone()) && self.refused.len() < 100 {
            let topic = protocol::text::clean(&message.topic, 120);
            eprintln!(
                "thecal recorder: not recorded, {topic}: {}",
                protocol::text::clean(&why, 200)
            );
        }
        self.link.acknowledge(&message).await;
    }

    fn open(&self, message: &Message) -> Result<EvBatch, String> {
        let Some(Topic::Ev { gw, source }) = self.topics.parse(&message.topic) else {
            return Err("not a topic of events".into());
        };
        let text = std::str::from_utf8(&message.payload).map_err(|e| e.to_string())?;
        let trusted = |key: &_| self.trust.accepts(&gw, key);
        let (batch, key) = open_json::<EvBatch>(text, trusted).map_err(|e| e.to_string())?;
        if batch.gw != gw || batch.gateway_key != key {
            return Err(format!("signed for gateway {}, sent as {gw}", batch.gw));
        }
        if !protocol::text::is_name(&batch.trial) || !protocol::text::is_name(&batch.bed) {
            return Err("trial or bed is not a name".into());
        }
        let right = batch.events.iter().all(|row| row.source.as_str() == source);
        if !right || batch.events.is_empty() || batch.events.len() > protocol::topics::BATCH_MAX {
            return Err("the events are not 1 to 64 of the topic's source".into());
        }
        Ok(batch)
    }

    async fn answer(&self, done: Committed) {
        for message in &done.answered {
            self.link.acknowledge(message).await;
        }
        for receipt in done.receipts {
            let topic = self.topics.receipt(&receipt.gw, &self.name);
            let payload = self.pair.sign_json(&receipt);
            let link = self.link.clone();
            tokio::spawn(async move { link.publish(topic, payload, true).await });
        }
    }
}

/// One trial's record and what is known of its completeness.
struct Trial {
    record: Option<Record>,
    path: PathBuf,
    gw: Option<String>,
    genesis: Option<ChainHead>,
    sources: BTreeMap<String, SourceState>,
    closed: bool,
}

struct SourceState {
    progress: Progress,
    hole_since: Option<(Uptime, (u64, u64))>,
}

struct Files {
    folder: PathBuf,
    name: String,
    pair: KeyPair,
    clock: Clock,
    trials: BTreeMap<String, Trial>,
}

impl Files {
    /// Takes up the records that are there, so that the first receipts say what they hold.
    fn open_all(&mut self) -> Result<(), record::Error> {
        let entries = std::fs::read_dir(&self.folder).map_err(|source| record::Error::Io {
            path: self.folder.clone(),
            source,
        })?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.extension().is_some_and(|e| e == "thecal") && protocol::text::is_name(&name) {
                self.open_trial(&name)?;
            }
        }
        Ok(())
    }

    fn open_trial(&mut self, trial: &str) -> Result<&mut Trial, record::Error> {
        if !self.trials.contains_key(trial) {
            let path = self.folder.join(format!("{trial}.thecal"));
            let opened = Trial::open(path, trial)?;
            self.trials.insert(trial.to_owned(), opened);
        }
        Ok(self.trials.get_mut(trial).expect("inserted just now"))
    }

    fn run(mut self, orders: &Receiver<Order>, tell: &async_mpsc::UnboundedSender<Committed>) {
        loop {
            let first = match orders.recv_timeout(Duration::from_millis(500)) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batches = Vec::new();
            let (mut connected, mut stop) = (false, false);
            let mut next = first;
            while let Some(order) = next.take() {
                match order {
                    Order::Batch(batch) => batches.push(*batch),
                    Order::Connected => connected = true,
                    Order::Stop => stop = true,
                }
                if batches.len() < GROUP_MAX && !stop {
                    next = orders.try_recv().ok();
                }
            }
            let done = self.commit(batches, connected);
            let failed = done.failed.is_some();
            if !(done.answered.is_empty() && done.receipts.is_empty() && !failed)
                && tell.send(done).is_err()
            {
                return;
            }
            if stop || failed {
                return;
            }
        }
    }

    fn commit(&mut self, batches: Vec<(EvBatch, Message)>, all_receipts: bool) -> Committed {
        let mut done = Committed {
            answered: Vec::new(),
            receipts: Vec::new(),
            failed: None,
        };
        let mut touched = BTreeSet::new();
        for (batch, message) in batches {
            match self.store(&batch) {
                Ok(()) => {
                    touched.insert(batch.gw);
                    done.answered.push(message);
                }
                Err(e) => {
                    // Final: nothing of this is answered, and every gateway keeps its rows.
                    done.failed = Some(e.to_string());
                    return done;
                }
            }
        }
        if let Err(e) = self.after_commit(&mut touched) {
            done.failed = Some(e.to_string());
            return done;
        }
        if all_receipts {
            touched.extend(self.trials.values().filter_map(|t| t.gw.clone()));
        }
        done.receipts = touched.iter().map(|gw| self.receipt(gw)).collect();
        done
    }

    fn store(&mut self, batch: &EvBatch) -> Result<(), record::Error> {
        let now = self.clock.now();
        let utc = now.utc.as_unix_millis();
        let trial = self.open_trial(&batch.trial)?;
        trial.learn(batch)?;
        let mut good = Vec::new();
        let mut bad = Vec::new();
        for row in &batch.events {
            match row.check() {
                Ok((raw, fact)) => good.push((row.clone(), raw, fact)),
                Err(e) => bad.push((row, e.to_string())),
            }
        }
        let rows: Vec<_> = good.iter().map(|(row, ..)| row.clone()).collect();
        let record = trial.writable()?;
        for (row, why) in bad {
            record.quarantine(row, &why, utc)?;
        }
        let appended = record.append(&rows, utc)?;
        for id in &appended.conflicts {
            eprintln!("thecal recorder: {id} came with another body; set aside in quarantine");
        }
        let genesis = trial.genesis.unwrap_or(ChainHead::genesis(b""));
        for (row, raw, fact) in good {
            let state = trial
                .sources
                .entry(row.source.to_string())
                .or_insert_with(|| SourceState {
                    progress: Progress::new(genesis),
                    hole_since: None,
                });
            state.progress.note(row.seq, &raw);
            if let Fact::Pump(Body::JournalLost(lost)) = fact {
                trial.record.as_ref().map_or(Ok(()), |record| {
                    record.note_hole(&Hole {
                        source: row.source.to_string(),
                        from_seq: lost.from_seq,
                        to_seq: lost.to_seq,
                        reason: "lost in the pump's journal, declared by the pump".into(),
                        noted_at_utc_ms: utc,
                    })
                })?;
            }
        }
        Ok(())
    }

    /// Holes that stand are noted; trials whose chains are both closed are sealed and folded.
    fn after_commit(&mut self, touched: &mut BTreeSet<String>) -> Result<(), record::Error> {
        let now = self.clock.now();
        for trial in self.trials.values_mut() {
            for (source, state) in &mut trial.sources {
                let since = match (state.progress.hole(), state.hole_since) {
                    (Some(hole), Some((since, seen))) if hole == seen => since,
                    (Some(hole), _) => {
                        state.hole_since = Some((now.uptime, hole));
                        continue;
                    }
                    (None, _) => {
                        state.hole_since = None;
                        continue;
                    }
                };
                let Some((_, (from_seq, to_seq))) = state.hole_since else {
                    continue;
                };
                if now.uptime.millis_since(since) >= HOLE_AFTER_MS
                    && let Some(record) = &trial.record
                {
                    let (source, reason) = (source.clone(), "not received".to_owned());
                    let noted_at_utc_ms = now.utc.as_unix_millis();
                    record.note_hole(&Hole {
                        source,
                        from_seq,
                        to_seq,
                        reason,
                        noted_at_utc_ms,
                    })?;
                }
            }
            let all_closed = trial.sources.len() >= 2
                && trial
                    .sources
                    .values()
                    .all(|s| s.progress.closed() && s.progress.hole().is_none());
            if all_closed && !trial.closed {
                trial.close(&self.name, &self.pair, now.utc.as_unix_millis())?;
                touched.extend(trial.gw.clone());
            }
        }
        Ok(())
    }

    fn receipt(&self, gw: &str) -> Receipt {
        let mut sources = Vec::new();
        for (name, trial) in self
            .trials
            .iter()
            .filter(|(_, t)| t.gw.as_deref() == Some(gw))
        {
            for (source, state) in &trial.sources {
                sources.push(SourceReceipt {
                    trial: name.clone(),
                    source: source.clone(),
                    stored_through_seq: state.progress.through(),
                    holes: state.progress.lost().to_vec(),
                    head: state.progress.head().map(|head| head.0),
                });
            }
        }
        Receipt {
            recorder: self.name.clone(),
            gw: gw.into(),
            made_at_utc_ms: self.clock.now().utc.as_unix_millis(),
            sources,
        }
    }
}

impl Trial {
    fn open(path: PathBuf, trial: &str) -> Result<Self, record::Error> {
        let record = Record::open_or_create(&path)?;
        record.set_meta("trial_id", trial)?;
        record.set_meta("origin", "pump")?;
        let mut opened = Self {
            genesis: record
                .manifest()?
                .map(|m| ChainHead::genesis(m.as_chain_root())),
            gw: record.meta("gw")?,
            closed: record.meta("closed")?.is_some(),
            sources: BTreeMap::new(),
            record: None,
            path,
        };
        let genesis = opened.genesis.unwrap_or(ChainHead::genesis(b""));
        record.for_each_event(|stored| {
            if let Ok((raw, _)) = protocol::event::Raw::parse(&stored.row.raw) {
                let source = stored.row.source.to_string();
                let state = opened.sources.entry(source).or_insert_with(|| SourceState {
                    progress: Progress::new(genesis),
                    hole_since: None,
                });
                state.progress.note(stored.row.seq, &raw);
            }
            Ok(())
        })?;
        if !opened.closed {
            opened.record = Some(record);
        }
        Ok(opened)
    }

    fn writable(&mut self) -> Result<&mut Record, record::Error> {
        if self.record.is_none() {
            self.record = Some(Record::open_or_create(&self.path)?);
        }
        Ok(self.record.as_mut().expect("opened just now"))
    }

    /// The trial's own words, from the batches that carry them.
    fn learn(&mut self, batch: &EvBatch) -> Result<(), record::Error> {
        let knows_key = self.gw.is_some();
        let manifest = batch.manifest.as_ref().filter(|_| self.genesis.is_none());
        if knows_key && manifest.is_none() {
            return Ok(());
        }
        let record = self.writable()?;
        if !knows_key {
            record.set_meta("gw", &batch.gw)?;
            let name = format!("gateway_key.{}.{}", batch.gw, batch.trial);
            record.set_meta(&name, &batch.gateway_key.to_string())?;
        }
        let mut genesis = None;
        if let Some(signed) = manifest
            && let Ok(opened) = signed.open()
        {
            record.set_meta("zone", &opened.zone)?;
            let text = serde_json::to_string(signed).unwrap_or_default();
            record.set_meta("manifest", &text)?;
            genesis = Some(ChainHead::genesis(signed.as_chain_root()));
        }
        self.gw = Some(batch.gw.clone());
        if genesis.is_some() {
            self.genesis = genesis;
        }
        Ok(())
    }

    fn close(
        &mut self,
        recorder: &str,
        pair: &KeyPair,
        now_utc_ms: i64,
    ) -> Result<(), record::Error> {
        let sources: Vec<_> = self.sources.keys().cloned().collect();
        let record = self.writable()?;
        for source in sources {
            record.seal(&source, recorder, pair, now_utc_ms)?;
        }
        record.close_trial("closed by pump and gateway")?;
        self.closed = true;
        // Closing the file leaves no -wal behind.
        self.record = None;
        Ok(())
    }
}

/// The record file of a trial in a folder.
pub fn record_path(folder: &Path, trial: &str) -> PathBuf {
    folder.join(format!("{trial}.thecal"))
}
