//! What the pump's face shows at one moment. Made from the pump, never kept by it.

use crate::alarms::CODES;
use crate::texts::{Language, Message, Text};
use heapless::Vec;
use protocol::event::{AlarmCode, Condition, Priority, Purpose};
use protocol::units::FlowRate;
use protocol::wire::{Reader, Wire, Writer};

/// The face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// Of its texts.
    pub language: Language,
    /// A prompt is open and asks for this.
    pub asking: Option<Condition>,
    /// Typed and not confirmed.
    pub typed: Option<u8>,
    /// What a score typed now would be of.
    pub condition: Condition,
    /// The next score corrects the last.
    pub correcting: bool,
    /// The tick mark: the last score is in the journal.
    pub saved: bool,
    /// What is infused, and the programmed rate.
    pub infusing: Option<(Purpose, FlowRate)>,
    /// A bolus is being given.
    pub giving_bolus: bool,
    /// Until the next bolus could be asked for, as the lockout has it.
    pub lockout_left_ms: u32,
    /// Active alarm conditions, the most urgent first.
    pub alarms: Vec<(AlarmCode, Priority), CODES>,
    /// About the last thing that happened.
    pub message: Option<Message>,
    /// Somebody at the other end of the line was heard lately.
    pub monitored: bool,
    /// The trial is closed.
    pub closed: bool,
}

impl Wire for Face {
    fn put(&self, to: &mut Writer<'_>) {
        let Self {
            language,
            asking,
            typed,
            condition,
            correcting,
            saved,
            infusing,
            giving_bolus,
            lockout_left_ms,
            alarms,
            message,
            monitored,
            closed,
        } = self;
        language.put(to);
        asking.put(to);
        typed.put(to);
        condition.put(to);
        correcting.put(to);
        saved.put(to);
        to.byte(u8::from(infusing.is_some()));
        if let Some((purpose, rate)) = infusing {
            purpose.put(to);
            rate.put(to);
        }
        giving_bolus.put(to);
        lockout_left_ms.put(to);
        to.varint(u64::try_from(alarms.len()).unwrap_or(u64::MAX));
        for (code, priority) in alarms {
            code.put(to);
            priority.put(to);
        }
        message.put(to);
        monitored.put(to);
        closed.put(to);
    }

    fn take(from: &mut Reader<'_>) -> Self {
        Self {
            language: Wire::take(from),
            asking: Wire::take(from),
            typed: Wire::take(from),
            condition: Wire::take(from),
            correcting: Wire::take(from),
            saved: Wire::take(from),
            infusing: from.flag().then(|| (Wire::take(from), Wire::take(from))),
            giving_bolus: Wire::take(from),
            lockout_left_ms: Wire::take(from),
            alarms: {
                let mut alarms = Vec::new();
                for _ in 0..from.varint(u64::MAX) {
                    let alarm = (Wire::take(from), Wire::take(from));
                    if alarms.push(alarm).is_err() {
                        from.fail();
                        break;
                    }
                }
                alarms
            },
            message: Wire::take(from),
            monitored: Wire::take(from),
            closed: Wire::take(from),
        }
    }
}

impl Face {
    /// The message in words.
    pub fn message_text(&self) -> Option<Text> {
        let message = self.message.as_ref();
        message.map(|m| self.language.message(m, self.monitored))
    }

    /// The open prompt in words.
    pub fn question_text(&self) -> Option<&'static str> {
        self.asking
            .map(|condition| self.language.question(condition))
    }

    /// The most urgent alarm in words.
    pub fn alarm_text(&self) -> Option<&'static str> {
        let first = self.alarms.first();
        first.map(|(code, _)| self.language.alarm(*code))
    }
}
