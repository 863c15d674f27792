//! What can happen at the pump, and who says so.
//!
//! An event's bytes, `raw`, are `version u8 | type u8 | len u8 | body`, where the body is
//! [`Head`] followed by one frozen struct, both in the form of [`crate::wire`]. They are written once, in the pump, and
//! never again: the chain, the record and the proof are over these bytes. Type and length stand
//! outside the body, so an event of a type we do not know still has an identity and is kept.
//!
//! Glossary: *programmed* is what the program asked for; *delivered* is what the pump's encoder
//! confirmed, which is no proof that it reached the spine; a *pump stroke* is one turn of the
//! pump's mechanism; a *prompt* asks for a score.

use crate::PROTOCOL_VERSION;
use crate::hex::{Digest, Signature};
use crate::wire::{Reader, Wire, Writer};
use crate::{wire_enum, wire_struct};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The most bytes of a body.
pub const BODY_MAX: usize = 192;
/// The most bytes of `raw`: version, type, length, body.
pub const RAW_MAX: usize = BODY_MAX + 3;
/// Types from here on are events; below are messages that are not journaled.
pub const FIRST_EVENT_TYPE: u8 = 0x40;
/// Types from here on are said by people and by the gateway ([`crate::bedside`]).
pub const FIRST_BEDSIDE_TYPE: u8 = 0x80;

/// Which event of its source this is, and when the source said it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Starts of the source so far; the first is 1.
    pub boot: u32,
    /// Continues over boots from 1 and is never used twice.
    pub seq: u64,
    /// Milliseconds since that boot.
    pub tick_ms: u64,
}

wire_struct!(Head { boot, seq, tick_ms });

/// An event's bytes. The only ways to one are [`encode`] and [`Raw::parse`].
#[derive(Clone, PartialEq, Eq)]
pub struct Raw {
    bytes: [u8; RAW_MAX],
    len: u8,
}

/// Why bytes are not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer or more bytes than the length byte says.
    #[error("event of {seen} bytes says that it has {said}")]
    Length {
        /// As the length byte and the header give it.
        said: usize,
        /// Bytes there are.
        seen: usize,
    },
    /// Written by a protocol that this program does not speak.
    #[error("event of protocol version {0}, this program speaks {PROTOCOL_VERSION}")]
    Version(u8),
    /// A type number below the events'.
    #[error("type {0:#04x} is not an event")]
    NotAnEvent(u8),
    /// The body does not decode as its type.
    #[error("body of event type {0:#04x} does not decode")]
    Body(u8),
    /// The body does not fit in a frame.
    #[error("event body is longer than {BODY_MAX} bytes")]
    TooLong,
}

impl Raw {
    /// Checks version, type and length of `bytes` and that the head decodes.
    ///
    /// # Errors
    /// What is wrong, first thing first.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Head), Error> {
        let &[version, kind, len, ref body @ ..] = bytes else {
            return Err(Error::Length {
                said: 3,
                seen: bytes.len(),
            });
        };
        let said = usize::from(len);
        if version != PROTOCOL_VERSION {
            return Err(Error::Version(version));
        }
        if kind < FIRST_EVENT_TYPE {
            return Err(Error::NotAnEvent(kind));
        }
        if body.len() != said || said > BODY_MAX {
            return Err(Error::Length {
                said: said + 3,
                seen: bytes.len(),
            });
        }
        let head = head_of(body).ok_or(Error::Body(kind))?;
        let mut raw = Self {
            bytes: [0; RAW_MAX],
            len: 0,
        };
        if let Some(room) = raw.bytes.get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
        }
        raw.len = u8::try_from(bytes.len()).map_err(|_| Error::TooLong)?;
        Ok((raw, head))
    }

    /// All bytes: version, type, length, body.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The type number.
    pub fn type_number(&self) -> u8 {
        self.bytes[1]
    }

    /// The body: head and struct.
    pub fn body(&self) -> &[u8] {
        self.as_bytes().get(3..).unwrap_or(&[])
    }

    /// The head.
    ///
    /// # Errors
    /// None for what [`Raw::parse`] or [`encode`] made.
    pub fn head(&self) -> Result<Head, Error> {
        head_of(self.body()).ok_or(Error::Body(self.type_number()))
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The head that a body begins with.
fn head_of(body: &[u8]) -> Option<Head> {
    let mut from = Reader::new(body);
    let head = Head::take(&mut from);
    from.rest().map(|_| head)
}

/// Bytes of an event of any type number and struct.
///
/// # Errors
/// [`Error::TooLong`] where the body does not fit.
pub fn encode<T: Wire>(type_number: u8, head: Head, body: &T) -> Result<Raw, Error> {
    write(type_number, head, |to| body.put(to))
}

/// Bytes of an event whose struct `put` writes.
fn write(type_number: u8, head: Head, put: impl FnOnce(&mut Writer<'_>)) -> Result<Raw, Error> {
    let mut raw = Raw {
        bytes: [0; RAW_MAX],
        len: 0,
    };
    let mut to = Writer::new(raw.bytes.get_mut(3..).ok_or(Error::TooLong)?);
    head.put(&mut to);
    put(&mut to);
    let used = to.written().ok_or(Error::TooLong)?;
    let len = u8::try_from(used).map_err(|_| Error::TooLong)?;
    raw.bytes[0] = PROTOCOL_VERSION;
    raw.bytes[1] = type_number;
    raw.bytes[2] = len;
    raw.len = len + 3;
    Ok(raw)
}

/// Declares the pump's events: type number, `kind` in text, frozen struct.
macro_rules! events {
    ($($(#[$doc:meta])* $number:literal $kind:literal $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub struct $name { $($(#[$fdoc])* pub $field: $ty),* }

            wire_struct!($name { $($field),* });

            impl From<$name> for Body {
                fn from(body: $name) -> Self {
                    Self::$name(body)
                }
            }
        )*

        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Body {
            $($(#[$doc])* $name($name),)*
            /// An event of a later program: kept, counted, not understood.
            Unknown(u8),
        }

        impl Body {
            /// The type number on the wire. Never reused, never changed.
            pub fn type_number(&self) -> u8 {
                match self {
                    $(Self::$name(_) => $number,)*
                    Self::Unknown(number) => *number,
                }
            }

            /// The word for it in JSON, tables and columns.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $kind,)*
                    Self::Unknown(_) => "unknown",
                }
            }

            /// The bytes of this event.
            ///
            /// # Errors
            /// [`Error::NotAnEvent`] for an unknown body, which has no bytes of its own.
            pub fn encode(&self, head: Head) -> Result<Raw, Error> {
                if let Self::Unknown(number) = self {
                    return Err(Error::NotAnEvent(*number));
                }
                write(self.type_number(), head, |to| match self {
                    $(Self::$name(body) => body.put(to),)*
                    Self::Unknown(_) => {}
                })
            }
        }

        /// Head and body of an event's bytes.
        ///
        /// # Errors
        /// [`Error::Body`] where the body of a known type does not decode, or has bytes left over.
        pub fn decode(raw: &Raw) -> Result<(Head, Body), Error> {
            let number = raw.type_number();
            let mut from = Reader::new(raw.body());
            let head = Head::take(&mut from);
            let (body, known) = match number {
                $($number => (Body::$name(Wire::take(&mut from)), true),)*
                _ => (Body::Unknown(number), false),
            };
            match from.rest() {
                Some(rest) if rest.is_empty() || !known => Ok((head, body)),
                Some(_) | None => Err(Error::Body(number)),
            }
        }

        #[cfg(feature = "host")]
        impl Body {
            /// The body's fields as JSON, units in the names.
            pub fn to_json(&self) -> serde_json::Value {
                let value = match self {
                    $(Self::$name(body) => serde_json::to_value(body),)*
                    Self::Unknown(number) => Ok(serde_json::json!({ "type_number": number })),
                };
                value.expect("plain structs of integers and enums always serialize")
            }

            /// Back from `kind` and JSON; `None` where they are not a body.
            pub fn from_json(kind: &str, value: &serde_json::Value) -> Option<Self> {
                match kind {
                    $($kind => <$name>::deserialize(value).ok().map(Self::$name),)*
                    _ => None,
                }
            }
        }

        /// Every kind with its type number, in the order of the numbers.
        pub const KINDS: &[(u8, &str)] = &[$(($number, $kind)),*];
    };
}

events! {
    /// The pump started.
    0x40 "powered_on" PoweredOn {
        /// Why.
        reason: BootReason,
        /// Major, minor, patch.
        firmware: [u8; 3],
        /// The pump's own clock, UTC in milliseconds, where it has one that was set. A witness
        /// for the start's time, never what orders events.
        own_clock_utc_ms: Option<u64>,
    }
    /// The motor begins to follow a rate.
    0x41 "infusion_started" InfusionStarted {
        /// Therapy, or filling and flushing the line.
        purpose: Purpose,
        /// The rate now.
        programmed_nl_per_h: u32,
    }
    /// The motor stops following a rate.
    0x42 "infusion_stopped" InfusionStopped {
        /// Why.
        reason: StopReason,
    }
    /// Another rate, by the program's day-part or by a keypad act.
    0x43 "rate_changed" RateChanged {
        /// The rate until now.
        previous_nl_per_h: u32,
        /// The rate from now on.
        programmed_nl_per_h: u32,
        /// A day-part step of the program, or a person at the keypad.
        by: ChangedBy,
    }
    /// The counters, at each pump stroke and at least every 60 s while infusing.
    0x44 "delivered" Delivered {
        /// Confirmed by the encoder since the trial began, boluses included.
        delivered_nl: u64,
        /// What the program and the granted boluses asked for since the trial began.
        programmed_nl: u64,
        /// Turns of the mechanism since the trial began.
        strokes: u64,
        /// Encoder counts since the trial began.
        encoder_counts: u64,
    }
    /// The patient pressed the bolus key.
    0x45 "bolus_requested" BolusRequested {
        /// Granted, or refused and why.
        decision: BolusDecision,
    }
    /// A granted bolus ended.
    0x46 "bolus_delivered" BolusDelivered {
        /// As granted.
        requested_nl: u64,
        /// Confirmed by the encoder.
        delivered_nl: u64,
        /// Whole, or interrupted.
        complete: bool,
    }
    /// A pain score from the keypad.
    0x47 "pain_score" PainScore {
        /// 0 (none) to 10 (worst imaginable).
        score: u8,
        /// False where the patient never pressed confirm.
        confirmed: bool,
        /// At rest or on movement.
        condition: Condition,
        /// Of the prompt it answers; none where spontaneous.
        prompt_id: Option<u32>,
        /// From the prompt to the confirm key.
        answer_delay_ms: Option<u32>,
        /// The seq of the score that this one corrects; the old one stays.
        corrects_seq: Option<u64>,
    }
    /// A prompt ran out, re-prompt included.
    0x48 "prompt_not_answered" PromptNotAnswered {
        /// Which.
        prompt_id: u32,
        /// What was asked for.
        condition: Condition,
        /// Tick of the first asking, same boot.
        prompted_at_tick_ms: u64,
    }
    /// The drug reservoir.
    0x49 "reservoir" Reservoir {
        /// What about it.
        what: ReservoirChange,
        /// By the sensor, where there is one.
        measured_nl: Option<u64>,
        /// Volume at the last change less what was delivered.
        computed_nl: u64,
    }
    /// An alarm condition of the pump.
    0x4a "alarm" Alarm {
        /// Which.
        code: AlarmCode,
        /// How urgent.
        priority: Priority,
        /// It begins, or it ends.
        phase: Phase,
    }
    /// The battery.
    0x4b "battery" Battery {
        /// Charge, 0 to 100. Zero is a value.
        percent: u8,
        /// Minutes left at the present load.
        minutes_left: u32,
    }
    /// A key is held down longer than a finger would.
    0x4c "key_stuck" KeyStuck {
        /// Which.
        key: Key,
        /// It begins, or it ends.
        phase: Phase,
    }
    /// The door over the pump mechanism.
    0x4d "door" Door {
        /// Open, or closed.
        open: bool,
    }
    /// Another program or concentration, by a keypad act.
    0x4e "program_changed" ProgramChanged {
        /// Counts the changes.
        revision: u32,
        /// Rates by day-part follow as `rate_changed`; this is the one now.
        programmed_nl_per_h: u32,
        /// Of the drug now in the reservoir.
        concentration_mcg_per_ml: u32,
        /// Volume of one patient bolus.
        bolus_nl: u32,
        /// Least time between two boluses.
        lockout_ms: u32,
    }
    /// The pump's own clock was set, by a keypad act.
    0x4f "clock_set" ClockSet {
        /// UTC before, where it was set.
        before_utc_ms: Option<u64>,
        /// UTC from now on.
        after_utc_ms: u64,
        /// Minutes east of UTC, for day-parts and quiet hours.
        offset_min: i16,
    }
    /// Result of the self-test at start.
    0x50 "self_test" SelfTest {
        /// All parts passed.
        passed: bool,
        /// One bit a part that failed: 0 journal, 1 keys, 2 motor, 3 encoder, 4 watchdog, 5 memory.
        failed_parts: u8,
    }
    /// Events that the journal does not hold, whether anybody took them before or not: overwritten,
    /// or never written. True for ever after, so it may be heard in any order.
    0x51 "journal_lost" JournalLost {
        /// First seq that is gone.
        from_seq: u64,
        /// Last seq that is gone; before this event's own.
        to_seq: u64,
    }
    /// The signed state of the chain: at each start, hour and at the close.
    0x52 "checkpoint" Checkpoint {
        /// The last seq that is covered: the one before this event.
        through_seq: u64,
        /// Events since the trial began, this one not counted.
        count: u64,
        /// Which key of the ratchet tagged this event; the first is 0.
        key_index: u32,
        /// Head of the chain after `through_seq`.
        head: Digest,
        /// Ed25519 over [`crate::chain::checkpoint_message`].
        signature: Signature,
    }
    /// The trial ended; a checkpoint follows and nothing after it.
    0x53 "trial_closed" TrialClosed {
        /// Why.
        reason: CloseReason,
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {
        $(
            $(#[$doc])*
            ///
            /// On the wire the place in this list; new ones are added at the end.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),* }

            impl $name {
                /// All, in the order of the wire.
                pub const ALL: &[Self] = &[$(Self::$variant),*];

                const FIRST: Self = {
                    let [first, ..] = [$(Self::$variant),*];
                    first
                };

                /// The word in JSON and tables.
                pub const fn word(self) -> &'static str {
                    match self { $(Self::$variant => $word),* }
                }
            }

            impl Wire for $name {
                fn put(&self, to: &mut Writer<'_>) {
                    #[expect(clippy::as_conversions, reason = "of an enum without fields it is the place")]
                    to.byte(*self as u8);
                }
                fn take(from: &mut Reader<'_>) -> Self {
                    let place = usize::try_from(from.place()).ok();
                    let word = place.and_then(|place| Self::ALL.get(place).copied());
                    word.unwrap_or_else(|| {
                        from.fail();
                        Self::FIRST
                    })
                }
            }
        )*
    };
}

words! {
    /// Why the pump started.
    BootReason {
        /// Switched on, or a new battery.
        PowerOn = "power_on",
        /// The supply fell too low and came back.
        BrownOut = "brown_out",
        /// The watchdog was not fed.
        Watchdog = "watchdog",
        /// The program found itself wrong and stopped.
        Fault = "fault",
    }
    /// What an infusion is for.
    Purpose {
        /// For the patient. The first of a record starts the trial.
        Therapy = "therapy",
        /// Fills the line before it is connected.
        Prime = "prime",
        /// Flushes the line.
        Purge = "purge",
    }
    /// Why an infusion stopped.
    StopReason {
        /// A person at the keypad.
        Keypad = "keypad",
        /// An alarm condition that forbids delivery.
        Alarm = "alarm",
        /// Nothing left in the reservoir.
        Empty = "empty",
        /// The trial was closed.
        Closed = "closed",
        /// The supply failed; written at the next start.
        PowerLost = "power_lost",
    }
    /// Who changed a rate.
    ChangedBy {
        /// The next day-part of the program.
        DayPart = "day_part",
        /// A person at the keypad.
        Keypad = "keypad",
    }
    /// At rest or on movement.
    Condition {
        /// At rest.
        Rest = "rest",
        /// On movement.
        Movement = "movement",
    }
    /// What happened to the reservoir.
    ReservoirChange {
        /// A new one was put in.
        Changed = "changed",
        /// Below the low mark.
        Low = "low",
        /// Empty.
        Empty = "empty",
        /// A regular reading.
        Reading = "reading",
    }
    /// An alarm condition of the pump.
    AlarmCode {
        /// Pressure after the pump above its limit: kinked or blocked catheter.
        DownstreamOcclusion = "downstream_occlusion",
        /// No flow from the reservoir.
        UpstreamOcclusion = "upstream_occlusion",
        /// Air in the line.
        AirInLine = "air_in_line",
        /// Reservoir below its low mark.
        ReservoirLow = "reservoir_low",
        /// Reservoir empty.
        ReservoirEmpty = "reservoir_empty",
        /// Battery low.
        BatteryLow = "battery_low",
        /// Battery flat.
        BatteryFlat = "battery_flat",
        /// Encoder says more than the motor was told.
        OverDelivery = "over_delivery",
        /// Encoder says less than the motor was told.
        UnderDelivery = "under_delivery",
        /// Door open.
        DoorOpen = "door_open",
        /// A key is stuck.
        KeyStuck = "key_stuck",
        /// Motor and supervisor disagree: delivery is latched off.
        SupervisorStop = "supervisor_stop",
        /// The journal cannot be written or read.
        Storage = "storage",
        /// The self-test failed.
        SelfTest = "self_test",
    }
    /// How urgent an alarm condition is (IEC 60601-1-8 words).
    Priority {
        /// Prompt awareness.
        Low = "low",
        /// Prompt response.
        Medium = "medium",
        /// Immediate response.
        High = "high",
    }
    /// A condition begins or ends.
    Phase {
        /// It begins.
        Start = "start",
        /// It ends.
        End = "end",
    }
    /// A key of the pump.
    Key {
        /// Digit 0.
        Digit0 = "0",
        /// Digit 1.
        Digit1 = "1",
        /// Digit 2.
        Digit2 = "2",
        /// Digit 3.
        Digit3 = "3",
        /// Digit 4.
        Digit4 = "4",
        /// Digit 5.
        Digit5 = "5",
        /// Digit 6.
        Digit6 = "6",
        /// Digit 7.
        Digit7 = "7",
        /// Digit 8.
        Digit8 = "8",
        /// Digit 9.
        Digit9 = "9",
        /// Confirms the digits.
        Confirm = "confirm",
        /// Takes the digits back; held, corrects the last score.
        Clear = "clear",
        /// Asks for a bolus.
        Bolus = "bolus",
        /// Says that the score is on movement.
        Movement = "movement",
    }
    /// Why a bolus was refused.
    Refusal {
        /// Too soon after the last one.
        Lockout = "lockout",
        /// A 1 h, 4 h or 24 h limit would be passed.
        Limit = "limit",
        /// An alarm condition forbids delivery, or delivery is stopped.
        Alarm = "alarm",
        /// Not enough in the reservoir.
        Empty = "empty",
    }
    /// Why a trial ended.
    CloseReason {
        /// As planned.
        Planned = "planned",
        /// For safety.
        Safety = "safety",
        /// The patient's wish.
        PatientsWish = "patients_wish",
        /// For a technical reason.
        Technical = "technical",
    }
}

impl Key {
    /// The digit of a digit key.
    pub fn digit(self) -> Option<u8> {
        const DIGITS: [Key; 10] = [
            Key::Digit0,
            Key::Digit1,
            Key::Digit2,
            Key::Digit3,
            Key::Digit4,
            Key::Digit5,
            Key::Digit6,
            Key::Digit7,
            Key::Digit8,
            Key::Digit9,
        ];
        DIGITS
            .iter()
            .position(|k| *k == self)
            .and_then(|d| u8::try_from(d).ok())
    }
}

/// The answer to a press of the bolus key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BolusDecision {
    /// It will be delivered.
    Granted {
        /// Volume of the bolus.
        requested_nl: u64,
    },
    /// It will not.
    Denied {
        /// Why.
        reason: Refusal,
        /// Until it could be granted, where that is known.
        wait_ms: Option<u32>,
    },
}

wire_enum!(BolusDecision {
    0 Granted { requested_nl },
    1 Denied { reason, wait_ms },
});
