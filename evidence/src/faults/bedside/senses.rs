//! What a dashboard hears, with the times.

use gateway::watch::Heard;
use protocol::event::Priority;
use protocol::keys::open_json;
use protocol::topics::{AlarmRow, Alarms, State, Status, Topic};
use std::collections::BTreeMap;

/// An alarm as it was heard.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) bed: String,
    pub(super) name: String,
    pub(super) priority: Priority,
    pub(super) text: String,
    /// Wall milliseconds of the first payload that has it.
    pub(super) at_ms: u64,
    pub(super) ended_ms: Option<u64>,
}

/// Everything that was heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Senses {
    pub(super) alarms: Vec<Seen>,
    pub(super) states: BTreeMap<String, (u64, State)>,
    pub(super) offline_ms: Option<u64>,
}

impl Senses {
    pub(super) fn hear(&mut self, now_ms: u64, heard: Heard) {
        let Heard::Payload {
            topic,
            retained,
            payload,
        } = heard
        else {
            return;
        };
        let text = String::from_utf8_lossy(&payload);
        match topic {
            Topic::Alarms { .. } => {
                if let Ok((alarms, _)) = open_json::<Alarms>(&text, |_| true) {
                    self.hear_alarms(now_ms, &alarms);
                }
            }
            Topic::State { .. } => {
                if let (Ok((state, _)), false) = (open_json::<State>(&text, |_| true), retained) {
                    self.states.insert(state.bed.clone(), (now_ms, state));
                }
            }
            Topic::Status { .. } => {
                if let Ok((status, _)) = open_json::<Status>(&text, |_| true)
                    && status.state == "offline"
                {
                    self.offline_ms = Some(now_ms);
                }
            }
            Topic::Ev { .. }
            | Topic::Receipt { .. }
            | Topic::Cmd { .. }
            | Topic::DashAlive { .. } => {}
        }
    }

    fn hear_alarms(&mut self, now_ms: u64, heard: &Alarms) {
        for row in &heard.alarms {
            let known = self
                .alarms
                .iter_mut()
                .rfind(|seen| seen.bed == heard.bed && seen.name == row.alarm);
            match known {
                Some(seen) if row.ended => {
                    seen.ended_ms.get_or_insert(now_ms);
                }
                Some(seen) if seen.ended_ms.is_none() && seen.priority == row.priority => {
                    seen.text.clone_from(&row.text);
                }
                _ => self.alarms.push(first(now_ms, &heard.bed, row)),
            }
        }
    }
}

fn first(now_ms: u64, bed: &str, row: &AlarmRow) -> Seen {
    Seen {
        bed: bed.into(),
        name: row.alarm.clone(),
        priority: row.priority,
        text: row.text.clone(),
        at_ms: now_ms,
        ended_ms: row.ended.then_some(now_ms),
    }
}
