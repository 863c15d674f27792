//! What the pump's face shows at one moment. Made from the pump, never kept by it.

use crate::alarms::CODES;
use crate::texts::{Language, Message, Text};
use heapless::Vec;
use protocol::event::{AlarmCode, Condition, Priority, Purpose};
use protocol::units::FlowRate;
use serde::{Deserialize, Serialize};

/// The face.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
