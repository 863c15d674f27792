//! Builds the parts of a bedside box, runs them and shuts them down.

use crate::bedside::Bedside;
use crate::clock::Clock;
use crate::config::Config;
use crate::key_files::{self, Trust};
use crate::line::Line;
use crate::mqtt;
use crate::publisher;
use crate::serial::{self, OpenError};
use crate::uplink::{Speaker, Uplink};
use protocol::topics::{Status, Topics};
use record::Spool;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The guard; a thread that panicked elsewhere does not make the data unreadable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a gateway does not start: one line for people.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    bedside: Bedside,
    lines: Vec<JoinHandle<()>>,
    publisher: tokio::task::JoinHandle<()>,
}

impl Gateway {
    /// Opens the spool, the ports and the broker's link. Ports and broker may come later: they are
    /// tried for ever.
    ///
    /// # Errors
    /// Where configuration, key, trust folder or spool cannot be used, or another program holds a
    /// port: two gateways on one port would take each other's bytes.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let clock = Clock::start(config.clock);
        let now = clock.now();
        let pair = key_files::load_or_create(&config.key_path())?;
        let trust = Arc::new(Trust::load(config.trust.as_deref())?);
        let spool = Box::new(Spool::open(&config.spool)?);
        let bedside = Bedside::open(spool, &config.gw, &config.beds, config.clock, now)?;
        // All or none: nothing runs yet where a port is another program's.
        let mut ports = Vec::new();
        for bed in &bedside.beds {
            ports.push(match serial::open(&bed.config.port) {
                Ok(opened) => Some(opened),
                Err(OpenError::Absent(_)) => None,
                Err(held @ OpenError::Held(_)) => return Err(held.into()),
            });
        }
        let mut lines = Vec::new();
        for (bed, opened) in bedside.beds.iter().zip(ports) {
            let mut line = Line::new(bed.clone(), config.clock, pair.clone(), now.uptime);
            let tag_key = bed.config.tag_key.as_deref();
            line.hold_tag_secret(tag_key.map(key_files::load_secret).transpose()?);
            let name = format!("line {}", bed.config.bed);
            lines.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || serial::run(line, clock, opened))?,
            );
        }
        let topics = Topics::of_site(&config.site).ok_or("the site has no name")?;
        let mut status = Status {
            gw: config.gw.clone(),
            state: "offline".into(),
            session: u64::from(bedside.session),
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
        let speaker = Speaker {
            gw: config.gw.clone(),
            topics: topics.clone(),
            pair: pair.clone(),
            trust: trust.clone(),
            beds: config
                .beds
                .iter()
                .map(|bed| (bed.trial.clone(), bed.bed.clone()))
                .collect(),
        };
        let publisher = tokio::spawn(
            publisher::Publisher {
                gw: config.gw.clone(),
                topics,
                status,
                pair,
                trust,
                beds: bedside.beds.clone(),
                outbox: bedside.outbox.clone(),
                store: bedside.store.clone(),
                changed: bedside.changed.clone(),
                stop: bedside.stop.clone(),
                clock,
                link,
                uplink: Uplink::new(Arc::new(speaker), bedside.outbox.clone()),
                broker: config.broker,
                spool: config.spool,
                around: publisher::Around::new(now.uptime),
            }
            .run(inbox),
        );
        Ok(Self {
            bedside,
            lines,
            publisher,
        })
    }

    /// Every trial here is closed on both chains and at a recorder.
    pub fn is_done(&self) -> bool {
        self.bedside.is_done()
    }

    /// Why the spool failed, where it did.
    pub fn store_failure(&self) -> Option<String> {
        let mut beds = self.bedside.beds.iter();
        beds.find_map(|bed| lock(&bed.view).technical.store.clone())
    }

    /// Stops line, publisher and store, in this order: what came in is on disk when it returns.
    pub async fn stop(self) {
        self.bedside.stop.store(true, Ordering::Relaxed);
        self.bedside.changed.notify_one();
        let (lines, store) = (self.lines, self.bedside.store);
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
