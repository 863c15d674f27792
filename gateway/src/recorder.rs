//! The ward's end: commits events to the trials' records, then answers the broker, then says so in
//! a signed, retained receipt. Removes repeats; a hole is an entry.
//!
//! One thread owns the files; the task at the broker only carries messages to it and answers back.
//! What they decide is in [`files`], `trial` and [`intake`], without I/O; [`folder`] is what they
//! ask of the disk.

pub mod files;
pub mod folder;
pub mod intake;
mod trial;

pub use folder::record_path;

use crate::clock::{Clock, Mode};
use crate::key_files::{self, Trust};
use crate::mqtt::{self, Incoming, Link, Message, Url};
use files::{Files, GROUP_MAX};
use folder::DiskFolder;
use intake::{Refusals, open_batch};
use protocol::keys::{KeyPair, open_json};
use protocol::topics::{EvBatch, Status, Topic, Topics};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::mpsc as async_mpsc;

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
    /// A gateway is there: it is told what there is of it.
    Asked(String),
    Stop,
}

type Committed = files::Committed<Message>;

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
        record::store::make_folder(&config.records)?;
        let lock = hold(&config.records)?;
        let key = config
            .key
            .clone()
            .unwrap_or_else(|| config.records.join(format!("{}.key", config.name)));
        let pair = key_files::load_or_create(&key)?;
        let trust = Trust::load(config.trust.as_deref())?;
        let clock = Clock::start(config.clock);
        let folder = Box::new(DiskFolder(config.records));
        let files = Files::open(folder, &config.name, pair.clone())?;
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
            .spawn(move || {
                run_files(files, clock, &order_inbox, &tell);
                drop(lock);
            })?;
        let stop = Arc::new(tokio::sync::Notify::new());
        let task = Task {
            topics,
            name: config.name,
            broker: config.broker,
            pair,
            trust,
            link,
            orders,
            refused: Refusals::default(),
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

/// Takes the folder for this recorder alone, as long as the handle lives. The records' own locks
/// are not enough: in an empty folder two recorders would start, and the one that gets the first
/// event second would end hours later.
fn hold(folder: &Path) -> Result<File, StartError> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", folder.display());
    let handle = File::open(folder).map_err(|e| named(&e))?;
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => {
            Err(named(&"another recorder has this folder; stop that one first").into())
        }
        Err(TryLockError::Error(e)) => Err(named(&e).into()),
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
    refused: Refusals,
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
                let filters = vec![self.topics.ev("+", "+"), self.topics.status("+")];
                if let Err(e) = self.link.subscribe(filters).await {
                    crate::say!("thecal recorder: cannot subscribe at {}: {e}", self.broker);
                }
                let _ = self.orders.send(Order::Connected);
            }
            Incoming::Disconnected(why) => {
                crate::say!(
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
        if let Some(Topic::Status { gw }) = self.topics.parse(&message.topic) {
            self.handle_status(&gw, &message);
            return self.link.acknowledge(&message).await;
        }
        let opened = open_batch(&self.topics, &self.trust, &message.topic, &message.payload);
        let why = match opened {
            Ok(batch) => {
                let _ = self.orders.send(Order::Batch(Box::new((batch, message))));
                return;
            }
            Err(why) => why,
        };
        if let Some(line) = self.refused.note(&message.topic, &why) {
            crate::say!("thecal recorder: {line}");
        }
        self.link.acknowledge(&message).await;
    }

    /// A gateway that comes is told what is here, also where that is nothing: what a recorder lost
    /// is sent again though nobody adds to it any more.
    fn handle_status(&self, gw: &str, message: &Message) {
        let text = String::from_utf8_lossy(&message.payload);
        let opened = open_json::<Status>(&text, |key| self.trust.accepts(gw, key));
        if opened.is_ok_and(|(status, _)| status.gw == gw && status.state == "online") {
            let _ = self.orders.send(Order::Asked(gw.to_owned()));
        }
    }

    async fn answer(&self, done: Committed) {
        for id in &done.conflicts {
            crate::say!("thecal recorder: {id} came with another body; set aside in quarantine");
        }
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

/// The files' thread: groups what waits into one commit.
fn run_files(
    mut files: Files,
    clock: Clock,
    orders: &Receiver<Order>,
    tell: &async_mpsc::UnboundedSender<Committed>,
) {
    loop {
        let first = match orders.recv_timeout(Duration::from_millis(500)) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut batches = Vec::new();
        let mut asked = BTreeSet::new();
        let (mut connected, mut stop) = (false, false);
        let mut next = first;
        while let Some(order) = next.take() {
            match order {
                Order::Batch(batch) => batches.push(*batch),
                Order::Connected => connected = true,
                Order::Asked(gw) => drop(asked.insert(gw)),
                Order::Stop => stop = true,
            }
            if batches.len() < GROUP_MAX && !stop {
                next = orders.try_recv().ok();
            }
        }
        let now = clock.now();
        let mut done = files.commit(now, batches, connected);
        let failed = done.failed.is_some();
        asked.retain(|gw| !failed && done.receipts.iter().all(|receipt| receipt.gw != *gw));
        done.receipts
            .extend(asked.iter().map(|gw| files.receipt(now, gw)));
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
