//! What people and the gateway say: entries, alarms, the line, the store. One chain a trial and
//! gateway, source `<gw>.<trial>`, made the same way as the pump's.

use crate::event::{self, Body, Condition, Error, Head, Priority, Raw};
use crate::hex::Digest;
use crate::wire::{Reader, Wire};
use crate::wire_struct;
use serde::{Deserialize, Serialize};

macro_rules! bedside {
    ($($(#[$doc:meta])* $number:literal $kind:literal $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name { $($(#[$fdoc])* pub $field: $ty),* }

            wire_struct!($name { $($field),* });

            impl From<$name> for Fact {
                fn from(body: $name) -> Self {
                    Self::$name(body)
                }
            }
        )*

        /// What was said, by the pump or at the bedside.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Fact {
            /// The pump's own events, and those that every chain has.
            Pump(Body),
            $($(#[$doc])* $name($name),)*
        }

        impl Fact {
            /// The word for it in JSON, tables and columns.
            pub fn kind(&self) -> &'static str {
                match self {
                    Self::Pump(body) => body.kind(),
                    $(Self::$name(_) => $kind,)*
                }
            }

            /// The event's bytes.
            ///
            /// # Errors
            /// Where the texts in it are too long for one event.
            pub fn encode(&self, head: Head) -> Result<Raw, Error> {
                match self {
                    Self::Pump(body) => body.encode(head),
                    $(Self::$name(body) => event::encode($number, head, body),)*
                }
            }

            /// Head and fact of an event's bytes.
            ///
            /// # Errors
            /// Where the body of a known type does not decode.
            pub fn decode(raw: &Raw) -> Result<(Head, Self), Error> {
                let number = raw.type_number();
                match number {
                    $($number => {
                        let mut from = Reader::new(raw.body());
                        let (head, body) = (Head::take(&mut from), $name::take(&mut from));
                        match from.rest() {
                            Some([]) => Ok((head, Self::$name(body))),
                            Some(_) | None => Err(Error::Body(number)),
                        }
                    })*
                    _ => event::decode(raw).map(|(head, body)| (head, Self::Pump(body))),
                }
            }

            /// The fields as JSON, units in the names.
            ///
            /// # Panics
            /// Never: plain structs always serialize.
            pub fn to_json(&self) -> serde_json::Value {
                match self {
                    Self::Pump(body) => body.to_json(),
                    $(Self::$name(body) => serde_json::to_value(body).expect("plain structs always serialize"),)*
                }
            }

            /// Back from `kind` and JSON; `None` where they are no fact.
            pub fn from_json(kind: &str, value: &serde_json::Value) -> Option<Self> {
                match kind {
                    $($kind => <$name>::deserialize(value).ok().map(Self::$name),)*
                    _ => Body::from_json(kind, value).map(Self::Pump),
                }
            }
        }

        /// Every kind of the bedside with its type number.
        pub const KINDS: &[(u8, &str)] = &[$(($number, $kind)),*];
    };
}

bedside! {
    /// The gateway started for this trial.
    0x80 "gateway_started" GatewayStarted {
        /// Name and version of the program.
        software: String,
        /// The bed.
        bed: String,
        /// The trial that events of the pump are bound to.
        trial: String,
        /// The pump.
        pump: String,
    }
    /// The serial line was lost, or came back.
    0x81 "link_changed" LinkChanged {
        /// The pump.
        pump: String,
        /// Up, or lost.
        up: bool,
        /// Silence before, wall milliseconds.
        silent_ms: u64,
    }
    /// A clock was set: the gateway's wall clock against its monotonic one.
    0x82 "clock_stepped" ClockStepped {
        /// By how much, later is positive.
        by_ms: i64,
    }
    /// Something that a person saw or measured.
    0x83 "observation" Observation {
        /// What: a word of `docs/record.md`, such as `resp_rate`.
        what: String,
        /// The value times 1000, in the unit of that table.
        value_milli: i64,
        /// When, as its author gave it.
        at_utc_ms: i64,
        /// Who entered it.
        by: String,
        /// In what role.
        role: String,
        /// Of the entry, so that it counts once.
        entry_id: String,
    }
    /// A dose outside the pump.
    0x84 "rescue" Rescue {
        /// The drug's name.
        drug: String,
        /// The dose in micrograms.
        dose_mcg: u64,
        /// Such as `oral`.
        route: String,
        /// `trial_pain`, `other_pain` or `not_pain`.
        reason: String,
        /// By the clock, not for present pain.
        scheduled: bool,
        /// When, as its author gave it.
        at_utc_ms: i64,
        /// Who entered it.
        by: String,
        /// In what role.
        role: String,
        /// Of the entry, so that it counts once.
        entry_id: String,
    }
    /// An alarm of the gateway was raised, cleared or acknowledged.
    0x85 "alarm_changed" AlarmChanged {
        /// Which condition.
        alarm: String,
        /// How urgent.
        priority: Priority,
        /// `raised`, `cleared` or `acknowledged`.
        change: String,
        /// In words for people.
        text: String,
    }
    /// These rows are stored, with this digest over all their columns.
    0x86 "stored" Stored {
        /// Whose events.
        source: String,
        /// First seq.
        from_seq: u64,
        /// Last seq.
        to_seq: u64,
        /// SHA-256 over the rows, as `docs/record.md` says.
        digest: Digest,
    }
    /// A pain score that did not come from the pump's keypad.
    0x87 "score_entry" ScoreEntry {
        /// 0 to 10; none where asked and not answered, or asleep.
        score: Option<u8>,
        /// The patient was asleep.
        asleep: bool,
        /// At rest or on movement.
        condition: Condition,
        /// `patient`, `nurse` or `family`.
        scored_by: String,
        /// Asked for.
        prompted: bool,
        /// When, as its author gave it.
        at_utc_ms: i64,
        /// Who entered it.
        by: String,
        /// Of the entry, so that it counts once.
        entry_id: String,
    }
    /// Something arrived that is not part of the record.
    0x88 "quarantined" Quarantined {
        /// Whose it claimed to be.
        source: String,
        /// Which seq it claimed.
        seq: u64,
        /// Why it is set aside.
        reason: String,
    }
    /// Where a start of the pump lies in time: UTC of its tick 0.
    0x89 "boot_anchored" BootAnchored {
        /// The pump.
        source: String,
        /// Which start.
        boot: u32,
        /// UTC of tick 0, estimated by the gateway.
        at_utc_ms: i64,
        /// Half width of the estimate.
        uncertainty_ms: u64,
    }
}

impl Fact {
    /// Like [`Fact::decode`]; a body of a known type that does not decode is unknown, so that the
    /// event is kept all the same.
    ///
    /// # Errors
    /// Where the head does not decode.
    pub fn decode_or_unknown(raw: &Raw) -> Result<(Head, Self), Error> {
        match Self::decode(raw) {
            Err(Error::Body(number)) => Ok((raw.head()?, Self::Pump(Body::Unknown(number)))),
            decoded => decoded,
        }
    }

    /// The id of the entry that a person made, where this is one.
    pub fn entry_id(&self) -> Option<&str> {
        match self {
            Self::Observation(entry) => Some(&entry.entry_id),
            Self::Rescue(entry) => Some(&entry.entry_id),
            Self::ScoreEntry(entry) => Some(&entry.entry_id),
            Self::Pump(_)
            | Self::GatewayStarted(_)
            | Self::LinkChanged(_)
            | Self::ClockStepped(_)
            | Self::AlarmChanged(_)
            | Self::Stored(_)
            | Self::Quarantined(_)
            | Self::BootAnchored(_) => None,
        }
    }
}

/// What may be observed, with the unit and the range that can be (`design.md` §7): name, unit,
/// least, most.
pub const OBSERVATIONS: &[(&str, &str, f64, f64)] = &[
    ("resp_rate", "breaths/min", 0.0, 80.0),
    ("spo2", "%", 0.0, 100.0),
    ("sedation_poss", "POSS: S is 0, then 1 to 4", 0.0, 4.0),
    ("bromage_left", "modified Bromage 0 to 3", 0.0, 3.0),
    ("bromage_right", "modified Bromage 0 to 3", 0.0, 3.0),
    ("nausea", "grade 0 to 3", 0.0, 3.0),
    ("pruritus", "grade 0 to 3", 0.0, 3.0),
    ("retention", "grade 0 to 3", 0.0, 3.0),
    ("penn", "Penn spasm score 0 to 4", 0.0, 4.0),
    ("function", "0 to 10, higher is better", 0.0, 10.0),
    (
        "oral_mme",
        "oral morphine milligram equivalents a day",
        0.0,
        10_000.0,
    ),
    ("bp_systolic", "mmHg", 0.0, 300.0),
    ("temperature", "degrees Celsius", 25.0, 45.0),
    ("asleep", "1 asleep, 0 awake", 0.0, 1.0),
    ("site", "grade 0 to 3", 0.0, 3.0),
    ("headache", "grade 0 to 3", 0.0, 3.0),
    ("deficit", "1 new neurological deficit, 0 none", 0.0, 1.0),
    (
        "catheter_check",
        "0 sound, 1 suspect, 2 leak or dislodged",
        0.0,
        2.0,
    ),
    ("accepts_implant", "1 yes, 0 no", 0.0, 1.0),
];

/// Unit and range of what may be observed; `ashworth_<limb>` is 0 to 4. `None` for another word.
pub fn observation_range(what: &str) -> Option<(&'static str, f64, f64)> {
    let limb = what.strip_prefix("ashworth_");
    if limb.is_some_and(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    {
        return Some(("modified Ashworth 0 to 4", 0.0, 4.0));
    }
    OBSERVATIONS
        .iter()
        .find(|(name, ..)| *name == what)
        .map(|(_, unit, lo, hi)| (*unit, *lo, *hi))
}
