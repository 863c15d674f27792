//! What goes up to the ward: batches from the outbox, and what receipts and the broker's answers
//! mean for it. No I/O but through the store, no clock; `publisher` carries it to a
//! broker.

use crate::gateway::lock;
use crate::key_files::Trust;
use crate::mqtt::Answer;
use crate::outbox::{Key, Outbox};
use crate::store::{Failed, Store};
use protocol::keys::{KeyPair, open_json};
use protocol::time::{Now, Uptime};
use protocol::topics::{BATCH_MAX, EvBatch, Receipt, Topics};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Who speaks: the same for as long as the gateway runs.
#[derive(Debug)]
pub struct Speaker {
    /// The gateway's name.
    pub gw: String,
    /// The site's topics.
    pub topics: Topics,
    /// Signs every payload.
    pub pair: KeyPair,
    /// Whose receipts are believed.
    pub trust: Arc<Trust>,
    /// Trials that have a bed here, with its name.
    pub beds: BTreeMap<String, String>,
}

/// A payload and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: String,
    /// Signed JSON.
    pub payload: String,
    /// The broker keeps it for those who come later.
    pub retained: bool,
}

/// A receipt's news of one source, to be kept in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipted {
    /// Trial and source.
    pub key: Key,
    /// Who has it.
    pub recorder: String,
    /// Through which seq.
    pub through_seq: u64,
}

/// What an answer of the broker changes on the screens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of which trial's events; none where it was another payload, which all beds share.
    pub trial: Option<String>,
    /// Why the broker refuses; none where it refuses no more.
    pub why: Option<String>,
}

/// The gateway's half of the way to a recorder. Clones share the outbox.
#[derive(Clone, Debug)]
pub struct Uplink {
    speaker: Arc<Speaker>,
    outbox: Arc<Mutex<Outbox>>,
    connected: bool,
}

impl Uplink {
    /// Not connected yet.
    pub fn new(speaker: Arc<Speaker>, outbox: Arc<Mutex<Outbox>>) -> Self {
        Self {
            speaker,
            outbox,
            connected: false,
        }
    }

    /// Whether anything may be published.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The connection stands: what an earlier one had under way is gone. Gives what to subscribe.
    pub fn handle_connected(&mut self, now: Uptime) -> Vec<String> {
        self.connected = true;
        lock(&self.outbox).reset(now);
        let Speaker { topics, gw, .. } = self.speaker.as_ref();
        let heard = [
            topics.receipt(gw, "+"),
            topics.cmd(gw, "+"),
            topics.dash_alive("+"),
        ];
        heard.into()
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
    }

    /// A recorder says what it has, or the broker remembers what it said; gives what is new of it.
    /// A receipt names all chains that its recorder has of this gateway.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn handle_receipt(
        &mut self,
        now: Now,
        recorder: &str,
        payload: &[u8],
        retained: bool,
    ) -> Result<Vec<Receipted>, String> {
        let text = String::from_utf8_lossy(payload);
        let trusted = |key: &_| self.speaker.trust.accepts(recorder, key);
        let (receipt, _) = open_json::<Receipt>(&text, trusted).map_err(|e| e.to_string())?;
        if receipt.gw != self.speaker.gw || receipt.recorder != recorder {
            return Ok(Vec::new());
        }
        let mut news = Vec::new();
        let mut named = Vec::new();
        let mut outbox = lock(&self.outbox);
        let receipted = |key, through_seq| Receipted {
            key,
            recorder: recorder.to_owned(),
            through_seq,
        };
        for source in receipt.sources {
            let key = (source.trial, source.source);
            let through = source.stored_through_seq;
            if outbox.note_receipt(now.uptime, &key, recorder, through, !retained) {
                news.push(receipted(key.clone(), through));
            }
            named.push(key);
        }
        if !retained {
            let unnamed = outbox.note_unnamed(now.uptime, recorder, &named);
            news.extend(unnamed.into_iter().map(|key| receipted(key, 0)));
        }
        Ok(news)
    }

    /// Which batch is due: of which source, after which seq.
    pub fn poll_batch(&mut self, now: Uptime) -> Option<(Key, u64)> {
        if !self.connected {
            return None;
        }
        lock(&self.outbox).poll_batch(now)
    }

    /// Reads and signs that batch; from here on it counts as sent. None where there is nothing.
    ///
    /// # Errors
    /// Where the store failed.
    pub fn read_batch(
        &self,
        store: &Store,
        key: &Key,
        after: u64,
    ) -> Result<Option<Outgoing>, Failed> {
        let (trial, source) = key;
        let rows = store.rows_after(trial, source, after, BATCH_MAX)?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            // At a hole there will be more; what a recorder had for long is no longer here.
            if store.rows_after(trial, source, 0, 1)?.is_empty() {
                lock(&self.outbox).forget(key);
            }
            return Ok(None);
        };
        let (first, last) = (first.row.seq, last.row.seq);
        let word = |key| -> Result<Option<String>, Failed> {
            store
                .with(|spool| spool.meta(trial, key))?
                .map_err(|e| Failed(e.to_string()))
        };
        // A trial that has no bed here now may still have rows to send.
        let bed = match self.speaker.beds.get(trial) {
            Some(bed) => bed.clone(),
            None => word("bed")?.unwrap_or_else(|| "unknown".into()),
        };
        let manifest = if first <= 1 { word("manifest")? } else { None };
        let batch = EvBatch {
            trial: trial.clone(),
            bed,
            gw: self.speaker.gw.clone(),
            manifest: manifest.and_then(|text| serde_json::from_str(text.as_str()).ok()),
            gateway_key: self.speaker.pair.public(),
            after_seq: Some(after),
            events: rows.into_iter().map(|stored| stored.row).collect(),
        };
        lock(&self.outbox).note_sent(key, last);
        Ok(Some(Outgoing {
            topic: self.speaker.topics.ev(&self.speaker.gw, source),
            payload: self.speaker.pair.sign_json(&batch),
            retained: false,
        }))
    }

    /// The broker answered a batch, or another payload where `key` is none. It frees the window
    /// and nothing else, whatever it says.
    pub fn handle_answer(
        &mut self,
        now: Uptime,
        key: Option<Key>,
        answer: Answer,
    ) -> Option<Refusal> {
        let of_events = key.is_some();
        if of_events {
            lock(&self.outbox).note_answered(now);
        }
        let why = match answer {
            Answer::Taken => None,
            Answer::NobodyListens if of_events => Some("nobody records events".to_owned()),
            Answer::Refused(why) => Some(why),
            // Nobody looks at a screen; or a new connection brings everything again.
            Answer::NobodyListens | Answer::Gone => return None,
        };
        let trial = key.map(|(trial, _)| trial);
        // That a screen's payload was taken says nothing about events.
        (trial.is_some() || why.is_some()).then_some(Refusal { trial, why })
    }
}
