//! Which messages a recorder believes.

use crate::key_files::Trust;
use protocol::keys::open_json;
use protocol::text::clean;
use protocol::topics::{EvBatch, Topic, Topics};
use std::collections::BTreeSet;

/// Messages that were not believed: counted, in bounded memory.
#[derive(Debug, Default)]
pub struct Refusals {
    count: u64,
    said: BTreeSet<String>,
}

impl Refusals {
    /// Reasons that are remembered.
    const REASONS_MAX: usize = 100;

    /// One more. Gives what to say of it: each new reason once, as long as they are few, and how
    /// many there are at 10, 100, 1,000 and so on.
    pub fn note(&mut self, topic: &str, why: &str) -> Option<String> {
        self.count += 1;
        let (topic, why) = (clean(topic, 120), clean(why, 200));
        let is_new = self.said.len() < Self::REASONS_MAX && self.said.insert(why.clone());
        let is_round = self.count >= 10 && 10u64.pow(self.count.ilog10()) == self.count;
        let so_far = if self.count > 1 {
            format!(" ({} so far)", self.count)
        } else {
            String::new()
        };
        (is_new || is_round).then(|| format!("not recorded, {topic}: {why}{so_far}"))
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// The events of a message of the broker, where their gateway signed them.
///
/// # Errors
/// Why they are not recorded. Such a message is answered all the same, so that it does not come
/// for ever, and never occupies an identity.
pub fn open_batch(
    topics: &Topics,
    trust: &Trust,
    topic: &str,
    payload: &[u8],
) -> Result<EvBatch, String> {
    let Some(Topic::Ev { gw, source }) = topics.parse(topic) else {
        return Err("not a topic of events".into());
    };
    let text = std::str::from_utf8(payload).map_err(|e| e.to_string())?;
    let trusted = |key: &_| trust.accepts(&gw, key);
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
