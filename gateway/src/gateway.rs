//! Builds the parts of a bedside box, runs them and shuts them down.

use crate::alarms::{Alarms, Technical};
use crate::bed::Bed;
use crate::clock::Clock;
use crate::config::{BedConfig, Config};
use crate::key_files::{self, Trust};
use crate::line::Line;
use crate::mqtt;
use crate::outbox::Outbox;
use crate::own_chain::OwnChain;
use crate::publisher;
use crate::serial;
use crate::store::Store;
use protocol::manifest::SignedManifest;
use protocol::time::Uptime;
use protocol::topics::{Status, Topics};
use record::Spool;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::Notify;

/// The guard; a thread that panicked elsewhere does not make the data unreadable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is shown of a bed; everything in it is on disk.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) bed: Bed,
    pub(crate) alarms: Alarms,
    pub(crate) technical: Technical,
    pub(crate) frame_age_ms: u64,
    pub(crate) frame_seen_at: Uptime,
    pub(crate) announced_seq: u64,
    pub(crate) stored_through_seq: u64,
    pub(crate) damaged_frames: u64,
    pub(crate) repeats: u64,
    pub(crate) manifest: Option<SignedManifest>,
    pub(crate) entries: BTreeSet<String>,
    pub(crate) last_entry_at: Option<Uptime>,
}

/// What line, publisher and entries of one bed share.
#[derive(Debug)]
pub(crate) struct BedParts {
    pub(crate) config: BedConfig,
    pub(crate) gw: String,
    pub(crate) store: Store,
    pub(crate) view: Mutex<View>,
    pub(crate) own: Mutex<Option<OwnChain>>,
    pub(crate) outbox: Arc<Mutex<Outbox>>,
    pub(crate) changed: Arc<Notify>,
    /// Something happened that a nurse waits for.
    pub(crate) news: AtomicBool,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) clock: Clock,
}

impl BedParts {
    /// Rows of a source are on disk: they may be shown and sent.
    pub(crate) fn note_stored(&self, source: &str, seq: u64) {
        let key = (self.config.trial.clone(), source.to_owned());
        lock(&self.outbox).note_stored(self.clock.now().uptime, &key, seq);
        self.changed.notify_one();
    }
}

/// Why a gateway does not start: one line for people.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    beds: Vec<Arc<BedParts>>,
    outbox: Arc<Mutex<Outbox>>,
    stop: Arc<AtomicBool>,
    changed: Arc<Notify>,
    lines: Vec<JoinHandle<()>>,
    store: Store,
    publisher: tokio::task::JoinHandle<()>,
}

impl Gateway {
    /// Opens the spool, the ports and the broker's link. Ports and broker may come later: they are
    /// tried for ever.
    ///
    /// # Errors
    /// Where configuration, key, trust folder or spool cannot be used.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let clock = Clock::start(config.clock);
        let now = clock.now();
        let pair = key_files::load_or_create(&config.key_path())?;
        let trust = Arc::new(Trust::load(config.trust.as_deref())?);
        let spool = Spool::open(&config.spool)?;
        let session = spool.begin_session(now.utc.as_unix_millis())?;
        let outbox = Arc::new(Mutex::new(read_outbox(&spool, now.uptime)?));
        let store = Store::new(spool);
        let stop = Arc::new(AtomicBool::new(false));
        let changed = Arc::new(Notify::new());
        let speed = config.clock.speed();
        let part = |bed: &BedConfig| {
            Arc::new(BedParts {
                config: bed.clone(),
                gw: config.gw.clone(),
                store: store.clone(),
                view: Mutex::new(View {
                    bed: Bed::new(&config.gw, &bed.bed, &bed.trial, speed),
                    alarms: Alarms::default(),
                    technical: Technical::default(),
                    frame_age_ms: 0,
                    frame_seen_at: now.uptime,
                    announced_seq: 0,
                    stored_through_seq: 0,
                    damaged_frames: 0,
                    repeats: 0,
                    manifest: None,
                    entries: BTreeSet::new(),
                    last_entry_at: None,
                }),
                own: Mutex::new(None),
                outbox: outbox.clone(),
                changed: changed.clone(),
                news: AtomicBool::new(false),
                stop: stop.clone(),
                clock,
            })
        };
        let beds: Vec<_> = config.beds.iter().map(part).collect();
        let mut lines = Vec::new();
        for bed in &beds {
            let line = Line::new(bed.clone(), clock, pair.clone());
            let name = format!("line {}", bed.config.bed);
            lines.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || serial::run(line))?,
            );
        }
        let topics = Topics::of_site(&config.site).ok_or("the site has no name")?;
        let mut status = Status {
            gw: config.gw.clone(),
            state: "offline".into(),
            session: u64::from(session),
            version: crate::SOFTWARE.into(),
            since_utc_ms: now.utc.as_unix_millis(),
        };
        let will = (topics.status(&config.gw), pair.sign_json(&status));
        "online".clone_into(&mut status.state);
        let (link, inbox) = mqtt::connect(mqtt::Options {
            url: config.broker.clone(),
            client_id: format!("thecal-gw-{}", config.gw),
            will: Some(will),
            manual_ack: false,
        })?;
        let publisher = tokio::spawn(
            publisher::Publisher {
                gw: config.gw.clone(),
                topics,
                status,
                pair,
                trust,
                beds: beds.clone(),
                outbox: outbox.clone(),
                store: store.clone(),
                changed: changed.clone(),
                stop: stop.clone(),
                clock,
                link,
                connected: false,
                broker: config.broker,
            }
            .run(inbox),
        );
        Ok(Self {
            beds,
            outbox,
            stop,
            changed,
            lines,
            store,
            publisher,
        })
    }

    /// Every trial here is closed on both chains and at a recorder.
    pub fn is_done(&self) -> bool {
        let closed = |bed: &Arc<BedParts>| lock(&bed.own).as_ref().is_some_and(OwnChain::is_closed);
        self.beds.iter().all(closed) && lock(&self.outbox).is_empty()
    }

    /// Stops line, publisher and store, in this order: what came in is on disk when it returns.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        let (lines, store) = (self.lines, self.store);
        let ended = tokio::task::spawn_blocking(move || {
            for line in lines {
                let _ = line.join();
            }
        });
        let _ = ended.await;
        let _ = self.publisher.await;
        let _ = tokio::task::spawn_blocking(move || store.stop()).await;
    }
}

fn read_outbox(spool: &Spool, now: Uptime) -> Result<Outbox, record::Error> {
    let mut outbox = Outbox::default();
    for (trial, source) in spool.sources()? {
        let stored = spool.last_seq(&trial, &source)?;
        let recorded = spool.receipted(&trial, &source)?;
        outbox.open(now, (trial, source), stored, recorded);
    }
    Ok(outbox)
}
