//! The gateway's MQTT side: carries what [`crate::uplink`] says to the broker and the answers back;
//! retained state and alarms, commands in.

use crate::bed::LinkNow;
use crate::bedside::BedParts;
use crate::clock::Clock;
use crate::disk::{self, Room};
use crate::entries::add_entry;
use crate::gateway::lock;
use crate::key_files::Trust;
use crate::mqtt::{Answer, Incoming, Link, Message, Url};
use crate::outbox::{Key, Outbox};
use crate::store::Store;
use crate::uplink::{Outgoing, Refusal, Uplink};
use protocol::keys::{self, KeyPair, open_json};
use protocol::time::Uptime;
use protocol::topics::{
    Alarms, CommandReply, DashAlive, EntryCommand, LinkWord, Status, Topic, Topics,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// State payloads go out at least so often, so that a dashboard knows that we live; wall
/// milliseconds.
const STATE_EVERY_MS: u64 = 1_000;
/// And at once for what a nurse waits for, but so far apart.
const NEWS_EVERY_MS: u64 = 20;
/// So far apart in an accelerated trial, where there is always news.
const NEWS_ACCELERATED_MS: u64 = 250;
/// The list of alarms goes out so often; at each state while one is active.
const ALARMS_EVERY_MS: u64 = 1_000;
/// The spool is made smaller so often, and at a start.
const PRUNE_EVERY_MS: u64 = 24 * 3_600_000;
const TICK: Duration = Duration::from_millis(100);

pub(crate) struct Publisher {
    pub(crate) gw: String,
    pub(crate) topics: Topics,
    pub(crate) status: Status,
    pub(crate) pair: KeyPair,
    pub(crate) trust: Arc<Trust>,
    pub(crate) beds: Vec<Arc<BedParts>>,
    pub(crate) outbox: Arc<Mutex<Outbox>>,
    pub(crate) store: Store,
    pub(crate) changed: Arc<Notify>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) clock: Clock,
    pub(crate) link: Link,
    pub(crate) uplink: Uplink,
    pub(crate) broker: Url,
    pub(crate) spool: PathBuf,
    pub(crate) around: Around,
}

/// What this end sees of broker, dashboards and disk; each bed's alarms are told of it.
#[derive(Debug)]
pub(crate) struct Around {
    broker_gone: Option<Uptime>,
    watched_at: Uptime,
    not_believed: u64,
    room: Option<Room>,
    looked_at: Option<Uptime>,
    pruned_at: Uptime,
}

impl Around {
    /// At the start: no broker yet, and nobody was heard.
    pub(crate) fn new(now: Uptime) -> Self {
        Self {
            broker_gone: Some(now),
            watched_at: now,
            not_believed: 0,
            room: None,
            looked_at: None,
            pruned_at: now,
        }
    }
}

/// What a finished publish says.
enum Done {
    Batch(Key, Answer),
    Other(Answer),
}

impl Publisher {
    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Incoming>) {
        let mut in_flight: JoinSet<Done> = JoinSet::new();
        let (mut shown_ms, mut alarms_ms) = (0, 0);
        let mut tick = tokio::time::interval(TICK);
        while !self.stop.load(Ordering::Relaxed) {
            tokio::select! {
                news = inbox.recv() => match news {
                    Some(news) => self.handle_news(news).await,
                    None => break,
                },
                Some(done) = in_flight.join_next() => self.handle_done(done.ok()),
                () = self.changed.notified() => {}
                _ = tick.tick() => {}
            }
            if self.uplink.is_connected() {
                self.send_batches(&mut in_flight).await;
            }
            let now_ms = self.clock.now().uptime.as_millis();
            let news = self.beds.iter().any(|bed| bed.news.load(Ordering::Relaxed));
            let apart = match (news, self.clock.mode().speed()) {
                (false, _) => STATE_EVERY_MS,
                (true, 1) => NEWS_EVERY_MS,
                (true, _) => NEWS_ACCELERATED_MS,
            };
            if now_ms.saturating_sub(shown_ms) >= apart && self.uplink.is_connected() {
                let alarms_due = now_ms.saturating_sub(alarms_ms) >= ALARMS_EVERY_MS;
                self.show(&mut in_flight, alarms_due);
                shown_ms = now_ms;
                alarms_ms = if alarms_due { now_ms } else { alarms_ms };
            }
            self.note_waiting();
        }
        if self.uplink.is_connected() {
            "offline".clone_into(&mut self.status.state);
            let payload = self.pair.sign_json(&self.status);
            let goodbye = self
                .link
                .publish(self.topics.status(&self.gw), payload, true);
            let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
            self.link.disconnect().await;
        }
    }

    async fn handle_news(&mut self, news: Incoming) {
        match news {
            Incoming::Connected => {
                self.around.broker_gone = None;
                let filters = self.uplink.handle_connected(self.clock.now().uptime);
                if let Err(e) = self.link.subscribe(filters).await {
                    crate::say!("thecal gateway: cannot subscribe at {}: {e}", self.broker);
                }
                self.status.since_utc_ms = self.clock.now().utc.as_unix_millis();
                let payload = self.pair.sign_json(&self.status);
                let (link, topic) = (self.link.clone(), self.topics.status(&self.gw));
                tokio::spawn(async move { link.publish(topic, payload, true).await });
            }
            Incoming::Disconnected(why) => {
                self.uplink.handle_disconnected();
                let now = self.clock.now().uptime;
                self.around.broker_gone.get_or_insert(now);
                crate::say!(
                    "thecal gateway: no broker at {}: {why}; data is kept, trying again",
                    self.broker
                );
            }
            Incoming::Message(message) => match self.topics.parse(&message.topic) {
                Some(Topic::Receipt { gw, recorder }) if gw == self.gw => {
                    self.handle_receipt(&recorder, &message);
                }
                Some(Topic::Cmd { gw, verb }) if gw == self.gw => {
                    self.handle_command(&verb, *message);
                }
                Some(Topic::DashAlive { .. }) => self.handle_alive(&message),
                _ => {}
            },
        }
    }

    /// The only command of a bedside: an entry into the record.
    fn handle_command(&mut self, verb: &str, message: Message) {
        let (link, pair) = (self.link.clone(), self.pair.clone());
        let opened = if verb == "entry" {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let trust = self.trust.clone();
            let trusted = |key: &_| trust.accepts("entry", key);
            let opened = open_json::<EntryCommand>(&text, trusted).map_err(|e| e.to_string());
            self.around.not_believed += u64::from(opened.is_err());
            opened
        } else {
            Err("this gateway takes cmd/entry".into())
        };
        let bed = opened.as_ref().ok().and_then(|(command, _)| {
            self.beds
                .iter()
                .find(|b| b.config.bed == command.bed)
                .cloned()
        });
        let clock = self.clock;
        tokio::spawn(async move {
            let stored = match (opened, bed) {
                (Err(why), _) => Err(why),
                (Ok((command, _)), None) => Err(format!(
                    "no bed {:?} here",
                    protocol::text::clean(&command.bed, 32)
                )),
                (Ok((command, _)), Some(bed)) => {
                    let speed = clock.mode().speed();
                    let work = move || add_entry(&bed, clock.now(), &command, speed);
                    tokio::task::spawn_blocking(work)
                        .await
                        .unwrap_or_else(|e| Err(e.to_string()))
                }
            };
            let reply = match stored {
                Ok(detail) => CommandReply {
                    result: "stored".into(),
                    detail,
                },
                Err(detail) => CommandReply {
                    result: "refused".into(),
                    detail,
                },
            };
            link.answer(&message, pair.sign_json(&reply)).await;
        });
    }

    /// Somebody draws what we send. Whose key is not trusted here counts as nobody, and is no threat
    /// either: it asks for nothing.
    fn handle_alive(&mut self, message: &Message) {
        let text = String::from_utf8_lossy(&message.payload);
        let alive = open_json::<DashAlive>(&text, |key| self.trust.accepts_reader(key));
        match alive {
            Ok((alive, _)) if alive.drawing && !message.retained => {
                self.around.watched_at = self.clock.now().uptime;
            }
            Ok(_) | Err(keys::Error::NotTrusted(_)) => {}
            Err(_) => self.around.not_believed += 1,
        }
    }

    async fn send_batches(&mut self, in_flight: &mut JoinSet<Done>) {
        let now = self.clock.now().uptime;
        while let Some((key, after)) = self.uplink.poll_batch(now) {
            let (uplink, store, wanted) = (self.uplink.clone(), self.store.clone(), key.clone());
            let read =
                tokio::task::spawn_blocking(move || uplink.read_batch(&store, &wanted, after));
            let Ok(Ok(Some(batch))) = read.await else {
                return;
            };
            let link = self.link.clone();
            in_flight.spawn(async move { Done::Batch(key, publish(&link, batch).await) });
        }
    }

    fn handle_receipt(&mut self, recorder: &str, message: &Message) {
        let now = self.clock.now();
        let (payload, retained) = (&message.payload, message.retained);
        let news = match self.uplink.handle_receipt(now, recorder, payload, retained) {
            Ok(news) if news.is_empty() => return,
            Ok(news) => news,
            Err(e) => {
                self.around.not_believed += 1;
                // The first is told in full; who floods us does not fill the console's log too.
                if self.around.not_believed == 1 {
                    crate::say!("thecal gateway: a receipt by {recorder} is not believed: {e}");
                }
                return;
            }
        };
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            // Where that fails, the next append fails too, and that is alarmed.
            let _ = store.write(move |spool| {
                let utc = now.utc.as_unix_millis();
                news.iter().try_for_each(|news| {
                    let (trial, source) = &news.key;
                    spool.note_receipt(trial, source, &news.recorder, news.through_seq, utc)
                })
            });
        });
    }

    fn handle_done(&mut self, done: Option<Done>) {
        let now = self.clock.now().uptime;
        let refusal = match done {
            Some(Done::Batch(key, answer)) => self.uplink.handle_answer(now, Some(key), answer),
            Some(Done::Other(answer)) => self.uplink.handle_answer(now, None, answer),
            None => None,
        };
        let Some(Refusal { trial, why }) = refusal else {
            return;
        };
        let own = |trial: &String, bed: &BedParts| bed.config.trial == *trial;
        for bed in &self.beds {
            if trial.as_ref().is_none_or(|trial| own(trial, bed)) {
                lock(&bed.view).technical.refused.clone_from(&why);
            }
        }
    }

    /// Retained state and alarms of each bed.
    fn show(&self, in_flight: &mut JoinSet<Done>, alarms_too: bool) {
        let now = self.clock.now();
        // One answer outstanding a bed is enough: what is newer comes with the next.
        if in_flight.len() > crate::outbox::WINDOW + self.beds.len() * 4 {
            return;
        }
        for bed in &self.beds {
            bed.news.store(false, Ordering::Relaxed);
            let view = lock(&bed.view);
            let recorded = view.bed.pump().map_or(0, |pump| {
                lock(&self.outbox).recorded(&(bed.config.trial.clone(), pump.to_owned()))
            });
            let link = LinkNow {
                link: view.technical.link.unwrap_or(LinkWord::NeverHeard),
                frame_age_ms: view.frame_age_ms + now.uptime.millis_since(view.frame_seen_at),
                stored_through_seq: view.stored_through_seq,
                announced_seq: view.announced_seq,
                recorded_through_seq: recorded,
            };
            let state = view.bed.payload(now.utc, link);
            let alarms = Alarms {
                gw: self.gw.clone(),
                bed: bed.config.bed.clone(),
                sent_at_utc_ms: now.utc.as_unix_millis(),
                alarms: view.alarms.rows(),
            };
            drop(view);
            let mut send = |topic: String, payload: String| {
                let link = self.link.clone();
                in_flight
                    .spawn(async move { Done::Other(link.publish(topic, payload, true).await) });
            };
            send(
                self.topics.state(&self.gw, &bed.config.bed),
                self.pair.sign_json(&state),
            );
            if alarms_too || alarms.alarms.iter().any(|a| !a.ended) {
                send(
                    self.topics.alarms(&self.gw, &bed.config.bed),
                    self.pair.sign_json(&alarms),
                );
            }
        }
    }

    /// How long each bed's rows wait for a recorder, and what else is wrong around the beds.
    fn note_waiting(&mut self) {
        let now = self.clock.now().uptime;
        let around = &mut self.around;
        let due = |at| now.millis_since(at) >= disk::LOOK_EVERY_MS;
        if around.looked_at.is_none_or(due) {
            around.looked_at = Some(now);
            around.room = disk::look(&self.spool);
        }
        if now.millis_since(around.pruned_at) >= PRUNE_EVERY_MS {
            around.pruned_at = now;
            self.prune();
        }
        let around = &self.around;
        let seconds_since = |at: Uptime| now.millis_since(at) / 1_000;
        for bed in &self.beds {
            let since = lock(&self.outbox).waiting_since(&bed.config.trial);
            let seconds = since.map(seconds_since);
            let technical = &mut lock(&bed.view).technical;
            technical.unrecorded_s = seconds;
            technical.broker_gone_s = around.broker_gone.map(seconds_since);
            technical.not_watched_s = Some(seconds_since(around.watched_at));
            technical.not_believed = around.not_believed;
            technical.room = around.room;
        }
    }

    /// Makes room: what a recorder has had for 30 days goes, of closed trials that have no bed here.
    fn prune(&self) {
        let utc = self.clock.now().utc.as_unix_millis();
        let (store, beds) = (self.store.clone(), self.beds.clone());
        tokio::task::spawn_blocking(move || {
            let kept: Vec<&str> = beds.iter().map(|bed| bed.config.trial.as_str()).collect();
            // Where that fails, the next append fails too, and that is alarmed.
            let _ = store.write(|spool| spool.prune(utc, &kept));
        });
    }
}

async fn publish(link: &Link, out: Outgoing) -> Answer {
    link.publish(out.topic, out.payload, out.retained).await
}
