//! Which messages a recorder believes.

use crate::key_files::Trust;
use protocol::keys::open_json;
use protocol::topics::{EvBatch, Topic, Topics};

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
