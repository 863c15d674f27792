//! The gateway's MQTT side: events from the outbox, retained state and alarms, commands in,
//! receipts in.

use crate::bed::LinkNow;
use crate::clock::Clock;
use crate::entries::fact_of;
use crate::gateway::{BedParts, lock};
use crate::key_files::Trust;
use crate::mqtt::{Answer, Incoming, Link, Message, Url};
use crate::outbox::{Key, Outbox};
use crate::store::Store;
use protocol::keys::{KeyPair, open_json};
use protocol::topics::{
    Alarms, BATCH_MAX, CommandReply, EntryCommand, EvBatch, LinkWord, Receipt, Status, Topic,
    Topics,
};
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
    pub(crate) connected: bool,
    pub(crate) broker: Url,
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
            if self.connected {
                self.send_batches(&mut in_flight).await;
            }
            let now_ms = self.clock.now().uptime.as_millis();
            let news = self.beds.iter().any(|bed| bed.news.load(Ordering::Relaxed));
            let apart = match (news, self.clock.mode().speed()) {
                (false, _) => STATE_EVERY_MS,
                (true, 1) => NEWS_EVERY_MS,
                (true, _) => NEWS_ACCELERATED_MS,
            };
            if now_ms.saturating_sub(shown_ms) >= apart && self.connected {
                let alarms_due = now_ms.saturating_sub(alarms_ms) >= ALARMS_EVERY_MS;
                self.show(&mut in_flight, alarms_due);
                shown_ms = now_ms;
                alarms_ms = if alarms_due { now_ms } else { alarms_ms };
            }
            self.note_waiting();
        }
        if self.connected {
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
                self.connected = true;
                lock(&self.outbox).reset(self.clock.now().uptime);
                let filters = vec![
                    self.topics.receipt(&self.gw, "+"),
                    self.topics.cmd(&self.gw, "+"),
                ];
                if let Err(e) = self.link.subscribe(filters).await {
                    eprintln!("thecal gateway: cannot subscribe at {}: {e}", self.broker);
                }
                self.status.since_utc_ms = self.clock.now().utc.as_unix_millis();
                let payload = self.pair.sign_json(&self.status);
                let (link, topic) = (self.link.clone(), self.topics.status(&self.gw));
                tokio::spawn(async move { link.publish(topic, payload, true).await });
            }
            Incoming::Disconnected(why) => {
                self.connected = false;
                eprintln!(
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
                _ => {}
            },
        }
    }

    fn handle_receipt(&self, recorder: &str, message: &Message) {
        let text = String::from_utf8_lossy(&message.payload);
        let trusted = |key: &_| self.trust.accepts(recorder, key);
        let receipt: Receipt = match open_json(&text, trusted) {
            Ok((receipt, _)) => receipt,
            Err(e) => {
                eprintln!("thecal gateway: a receipt by {recorder} is not believed: {e}");
                return;
            }
        };
        if receipt.gw != self.gw || receipt.recorder != recorder {
            return;
        }
        let now = self.clock.now();
        let mut news = Vec::new();
        {
            let mut outbox = lock(&self.outbox);
            for source in receipt.sources {
                let key = (source.trial, source.source);
                if outbox.recorded(&key) != source.stored_through_seq {
                    outbox.note_receipt(now.uptime, &key, source.stored_through_seq);
                    news.push((key, source.stored_through_seq));
                }
            }
        }
        if news.is_empty() {
            return;
        }
        let (store, recorder, utc) = (self.store.clone(), recorder.to_owned(), now.utc);
        tokio::task::spawn_blocking(move || {
            let _ = store.with(move |spool| {
                for ((trial, source), seq) in news {
                    let _ =
                        spool.note_receipt(&trial, &source, &recorder, seq, utc.as_unix_millis());
                }
            });
        });
    }

    /// The only command of a bedside: an entry into the record.
    fn handle_command(&self, verb: &str, message: Message) {
        let (link, pair) = (self.link.clone(), self.pair.clone());
        let opened = if verb == "entry" {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let trust = self.trust.clone();
            let trusted = |key: &_| trust.accepts("entry", key);
            open_json::<EntryCommand>(&text, trusted).map_err(|e| e.to_string())
        } else {
            Err("this gateway takes cmd/entry".into())
        };
        let bed = opened.as_ref().ok().and_then(|(command, _)| {
            self.beds
                .iter()
                .find(|b| b.config.bed == command.bed)
                .cloned()
        });
        let speed = self.clock.mode().speed();
        tokio::spawn(async move {
            let stored = match (opened, bed) {
                (Err(why), _) => Err(why),
                (Ok((command, _)), None) => Err(format!(
                    "no bed {:?} here",
                    protocol::text::clean(&command.bed, 32)
                )),
                (Ok((command, _)), Some(bed)) => {
                    let work = move || add_entry(&bed, &command, speed);
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

    async fn send_batches(&self, in_flight: &mut JoinSet<Done>) {
        let now = self.clock.now().uptime;
        loop {
            let next = lock(&self.outbox).poll_batch(now);
            let Some((key, after)) = next else { return };
            let (store, wanted) = (self.store.clone(), key.clone());
            let read = tokio::task::spawn_blocking(move || {
                store.rows_after(&wanted.0, &wanted.1, after, BATCH_MAX)
            });
            let Ok(Ok(rows)) = read.await else { return };
            let Some(last) = rows.last().map(|stored| stored.row.seq) else {
                return;
            };
            let bed = self.beds.iter().find(|b| b.config.trial == key.0);
            let first = rows.first().is_some_and(|stored| stored.row.seq <= 1);
            let manifest = bed
                .filter(|_| first)
                .and_then(|b| lock(&b.view).manifest.clone());
            let (bed_name, manifest) = match bed {
                Some(bed) => (bed.config.bed.clone(), manifest),
                None => self.words_of(&key.0, first).await,
            };
            let batch = EvBatch {
                trial: key.0.clone(),
                bed: bed_name,
                gw: self.gw.clone(),
                manifest,
                gateway_key: self.pair.public(),
                events: rows.into_iter().map(|stored| stored.row).collect(),
            };
            lock(&self.outbox).note_sent(&key, last);
            let payload = self.pair.sign_json(&batch);
            let (link, topic) = (self.link.clone(), self.topics.ev(&self.gw, &key.1));
            in_flight
                .spawn(async move { Done::Batch(key, link.publish(topic, payload, false).await) });
        }
    }

    /// Bed and manifest of a trial that is not configured now but has rows to send.
    async fn words_of(
        &self,
        trial: &str,
        first: bool,
    ) -> (String, Option<protocol::manifest::SignedManifest>) {
        let (store, trial) = (self.store.clone(), trial.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            store.with(move |spool| (spool.meta(&trial, "bed"), spool.meta(&trial, "manifest")))
        });
        let Ok(Ok((bed, manifest))) = read.await else {
            return ("unknown".into(), None);
        };
        let manifest = manifest.ok().flatten().filter(|_| first);
        let manifest = manifest.and_then(|text| serde_json::from_str(&text).ok());
        (
            bed.ok().flatten().unwrap_or_else(|| "unknown".into()),
            manifest,
        )
    }

    fn handle_done(&self, done: Option<Done>) {
        let (key, answer) = match done {
            Some(Done::Batch(key, answer)) => (Some(key), answer),
            Some(Done::Other(answer)) => (None, answer),
            None => return,
        };
        let refused = match answer {
            Answer::Taken => None,
            Answer::NobodyListens if key.is_some() => Some("nobody records events".to_owned()),
            Answer::NobodyListens => return,
            Answer::Refused(why) => Some(why),
            // A new connection brings everything again.
            Answer::Gone => {
                if key.is_some() {
                    lock(&self.outbox).note_answered();
                }
                return;
            }
        };
        let Some((trial, _)) = key else {
            if let Some(why) = refused {
                for bed in &self.beds {
                    lock(&bed.view).technical.refused = Some(why.clone());
                }
            }
            return;
        };
        lock(&self.outbox).note_answered();
        if let Some(bed) = self.beds.iter().find(|b| b.config.trial == trial) {
            lock(&bed.view).technical.refused = refused;
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

    /// How long each bed's rows wait for a recorder.
    fn note_waiting(&self) {
        let now = self.clock.now().uptime;
        for bed in &self.beds {
            let since = lock(&self.outbox).waiting_since(&bed.config.trial);
            let seconds = since.map(|at| now.millis_since(at) / 1_000);
            lock(&bed.view).technical.unrecorded_s = seconds;
        }
    }
}

/// Stores an entry in the gateway's chain; the same entry again is answered, not added.
fn add_entry(bed: &BedParts, command: &EntryCommand, speed: u32) -> Result<String, String> {
    let now = bed.clock.now();
    let (name, trial) = (&bed.config.bed, &bed.config.trial);
    let fact = fact_of(command, name, trial, now.utc.as_unix_millis(), speed)
        .map_err(|e| e.to_string())?;
    let mut own = lock(&bed.own);
    if lock(&bed.view).entries.contains(&command.entry_id) {
        return Ok("stored before".into());
    }
    let chain = own
        .as_mut()
        .ok_or("the pump of this trial was not heard yet")?;
    let row = chain
        .add(&bed.store, now.utc, &fact)
        .map_err(|e| e.to_string())?;
    let (source, seq) = (chain.source().to_owned(), chain.seq());
    {
        let mut view = lock(&bed.view);
        view.entries.insert(command.entry_id.clone());
        view.last_entry_at = Some(now.uptime);
        bed.news.store(true, Ordering::Relaxed);
        view.bed.handle_fact(now.utc, row.seq, &fact);
    }
    drop(own);
    bed.note_stored(&source, seq);
    Ok(format!("{}:{}:{}", row.source, row.boot, row.seq))
}
