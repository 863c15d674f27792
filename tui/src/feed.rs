//! What reaches the dashboard, and how it becomes an [`Event`]. A payload is opened here and
//! nowhere else: what is not signed by a trusted key, or does not decode, changes no value.

use crate::keymap::Key;
use protocol::hex::PublicKey;
use protocol::keys::open_json;
use protocol::text::clean;
use protocol::topics::{Alarms, PAYLOAD_MAX, State, Status, TREND_MAX, Topic};
use std::collections::BTreeSet;

/// What the caller sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The connection to the broker came, or went.
    Broker {
        /// Whether it is there.
        connected: bool,
        /// Which broker, or why there is none.
        detail: String,
    },
    /// A payload of a topic.
    Payload {
        /// What it is about.
        topic: Topic,
        /// The broker kept it: it may be of any age.
        retained: bool,
        /// Its bytes.
        text: Vec<u8>,
    },
    /// A line for the person at the screen, such as how far a demonstration is.
    Notice(String),
    /// Leave.
    Quit,
}

/// What the model takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection to the broker came, or went.
    Broker {
        /// Whether it is there.
        connected: bool,
        /// Which broker, or why there is none.
        detail: String,
    },
    /// A bed, signed by a trusted key.
    State {
        /// The bed.
        state: Box<State>,
        /// The broker kept it.
        retained: bool,
    },
    /// A bed's alarms, signed by a trusted key. They are taken retained or not: an alarm that may
    /// have ended is shown rather than hidden.
    Alarms(Alarms),
    /// A gateway's life. Not signed: it can add a condition and cannot make a value fresh.
    Status(Status),
    /// A payload that was not taken, and why.
    Refused(String),
    /// A line for the person at the screen.
    Notice(String),
    /// A key.
    Key(Key),
    /// The screen has this many columns and rows.
    Resize(u16, u16),
    /// The terminal takes nothing, or takes it again.
    DisplayBehind(bool),
    /// The machine slept: all that was heard before is of unknown age.
    Resumed,
    /// Leave.
    Quit,
}

/// Opens what came in. `None` for topics that the dashboard does not read and for a cleared topic.
pub fn open(incoming: Incoming, trust: &dyn Fn(&PublicKey) -> bool) -> Option<Event> {
    match incoming {
        Incoming::Broker { connected, detail } => Some(Event::Broker { connected, detail }),
        Incoming::Notice(text) => Some(Event::Notice(text)),
        Incoming::Quit => Some(Event::Quit),
        Incoming::Payload { text, .. } if text.is_empty() => None,
        Incoming::Payload {
            topic,
            retained,
            text,
        } => {
            let opened = payload(&topic, retained, &text, trust);
            opened.unwrap_or_else(|why| Some(Event::Refused(clean(&why, 80))))
        }
    }
}

fn payload(
    topic: &Topic,
    retained: bool,
    text: &[u8],
    trust: &dyn Fn(&PublicKey) -> bool,
) -> Result<Option<Event>, String> {
    if text.len() > PAYLOAD_MAX {
        return Err(format!("payload of {} bytes is too long", text.len()));
    }
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    let here = |gw: &String, bed: &String, of: (&String, &String)| {
        let same = (gw, bed) == of;
        same.then_some(())
            .ok_or_else(|| format!("payload of {} {} under the topic of {gw} {bed}", of.0, of.1))
    };
    match topic {
        Topic::State { gw, bed } => {
            let (mut state, _) = open_json::<State>(text, trust).map_err(|e| e.to_string())?;
            here(gw, bed, (&state.gw, &state.bed))?;
            let surplus = state.trend.len().saturating_sub(TREND_MAX);
            state.trend.drain(..surplus);
            Ok(Some(Event::State {
                state: Box::new(state),
                retained,
            }))
        }
        Topic::Alarms { gw, bed } => {
            let (alarms, _) = open_json::<Alarms>(text, trust).map_err(|e| e.to_string())?;
            here(gw, bed, (&alarms.gw, &alarms.bed))?;
            Ok(Some(Event::Alarms(alarms)))
        }
        Topic::Status { gw } => {
            let status: Status = serde_json::from_str(text).map_err(|e| e.to_string())?;
            if status.gw != *gw {
                return Err(format!("status of {} under the topic of {gw}", status.gw));
            }
            Ok(Some(Event::Status(status)))
        }
        Topic::Ev { .. } | Topic::Receipt { .. } | Topic::Cmd { .. } | Topic::DashAlive { .. } => {
            Ok(None)
        }
    }
}

/// Drops each `state` payload that a newer one of the same bed follows. Everything else stays, in
/// its order: alarms are never dropped.
pub fn conflate<T>(burst: Vec<T>, incoming: impl Fn(&T) -> Option<&Incoming>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<bool> = burst
        .iter()
        .rev()
        .map(|item| match incoming(item) {
            Some(Incoming::Payload {
                topic: Topic::State { gw, bed },
                retained,
                ..
            }) => seen.insert((gw.clone(), bed.clone(), *retained)),
            _ => true,
        })
        .collect();
    kept.reverse();
    let pairs = burst.into_iter().zip(kept);
    pairs
        .filter_map(|(item, keep)| keep.then_some(item))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(bed: &str, n: u8, retained: bool) -> Incoming {
        Incoming::Payload {
            topic: Topic::State {
                gw: "g".into(),
                bed: bed.into(),
            },
            retained,
            text: vec![n],
        }
    }

    fn alarms(n: u8) -> Incoming {
        Incoming::Payload {
            topic: Topic::Alarms {
                gw: "g".into(),
                bed: "1".into(),
            },
            retained: false,
            text: vec![n],
        }
    }

    #[test]
    fn a_burst_keeps_the_newest_state_of_each_bed_and_every_alarm() {
        let burst = vec![
            state("1", 1, false),
            alarms(1),
            state("2", 2, false),
            state("1", 3, false),
            alarms(2),
            state("1", 4, true),
        ];
        let left = conflate(burst, |item| Some(item));
        assert_eq!(
            left,
            vec![
                alarms(1),
                state("2", 2, false),
                state("1", 3, false),
                alarms(2),
                state("1", 4, true)
            ]
        );
    }

    #[test]
    fn what_does_not_open_is_refused_with_its_reason() {
        let junk = Incoming::Payload {
            topic: Topic::State {
                gw: "g".into(),
                bed: "1".into(),
            },
            retained: false,
            text: b"{\"bed\":\"1\"}".to_vec(),
        };
        let event = open(junk, &|_| true);
        assert_eq!(event, Some(Event::Refused("payload is not signed".into())));
    }
}
