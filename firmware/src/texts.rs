//! What the pump says to people, one table a language.
//!
//! Another language is another table and its place in [`Language`]; nothing else knows words.

use crate::alarms::CODES;
use core::fmt::Write;
use heapless::String;
use protocol::event::{AlarmCode, Condition, Refusal};
use protocol::wire_enum;

/// The longest text, in bytes of UTF-8.
pub const TEXT_MAX: usize = 160;
/// A text for the pump's face.
pub type Text = String<TEXT_MAX>;

/// Of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// German.
    German,
}

wire_enum!(Language { 0 English, 1 German });

/// What the pump has to say about the last thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A score is in the journal.
    Saved {
        /// Which, 0 to 10.
        score: u8,
        /// Whether the patient confirmed it.
        confirmed: bool,
    },
    /// A score could not be journaled.
    NotSaved,
    /// The digits are no score.
    NotAScore,
    /// The next score corrects the last.
    Correcting,
    /// There is no score to correct.
    NothingToCorrect,
    /// A bolus was granted.
    BolusGranted,
    /// A bolus was refused.
    BolusRefused {
        /// Why.
        reason: Refusal,
        /// Until it could be granted, where that is known.
        wait_ms: Option<u32>,
    },
}

wire_enum!(Message {
    0 Saved { score, confirmed },
    1 NotSaved,
    2 NotAScore,
    3 Correcting,
    4 NothingToCorrect,
    5 BolusGranted,
    6 BolusRefused { reason, wait_ms },
});

struct Words {
    saved: &'static str,
    saved_unconfirmed: &'static str,
    calls_nobody: &'static str,
    not_saved: &'static str,
    not_a_score: &'static str,
    correcting: &'static str,
    nothing_to_correct: &'static str,
    bolus_granted: &'static str,
    bolus_refused: &'static str,
    lockout: &'static str,
    limit: &'static str,
    stopped: &'static str,
    empty: &'static str,
    next_in: &'static str,
    next_bolus_in: &'static str,
    hours: &'static str,
    minutes: &'static str,
    ask_rest: &'static str,
    ask_movement: &'static str,
    not_infusing: &'static str,
    no_monitor: &'static str,
    closed: &'static str,
    alarms: [&'static str; CODES],
}

const ENGLISH: Words = Words {
    saved: "Saved.",
    saved_unconfirmed: "Saved as not confirmed.",
    calls_nobody: "This does not call anyone. Press your call bell if you need help.",
    not_saved: "Not saved. Tell the staff.",
    not_a_score: "Enter 0 to 10, then OK.",
    correcting: "Enter the right score, then OK.",
    nothing_to_correct: "There is no score to correct.",
    bolus_granted: "Bolus is being given.",
    bolus_refused: "Bolus not given: ",
    lockout: "too soon.",
    limit: "limit reached.",
    stopped: "pump is stopped.",
    empty: "reservoir is empty.",
    next_in: " Next in ",
    next_bolus_in: "Next bolus in ",
    hours: " h ",
    minutes: " min.",
    ask_rest: "How strong is your pain now, at rest? 0 to 10, then OK.",
    ask_movement: "How strong is your pain when you move? 0 to 10, then OK.",
    not_infusing: "Stopped",
    no_monitor: "Not monitored",
    closed: "Trial closed",
    alarms: [
        "Line blocked after the pump",
        "Nothing comes from the reservoir",
        "Air in the line",
        "Reservoir low",
        "Reservoir empty",
        "Battery low",
        "Battery flat",
        "Too much delivered",
        "Too little delivered",
        "Door open",
        "Key stuck",
        "Pump stopped itself",
        "Memory fault",
        "Self-test failed",
    ],
};

const GERMAN: Words = Words {
    saved: "Gespeichert.",
    saved_unconfirmed: "Als unbestätigt gespeichert.",
    calls_nobody: "Das ruft niemanden. Drücken Sie die Rufglocke, wenn Sie Hilfe brauchen.",
    not_saved: "Nicht gespeichert. Sagen Sie es dem Personal.",
    not_a_score: "Bitte 0 bis 10 eingeben, dann OK.",
    correcting: "Bitte den richtigen Wert eingeben, dann OK.",
    nothing_to_correct: "Es gibt keinen Wert zu berichtigen.",
    bolus_granted: "Bolus wird gegeben.",
    bolus_refused: "Bolus nicht gegeben: ",
    lockout: "zu früh.",
    limit: "Höchstmenge erreicht.",
    stopped: "die Pumpe steht.",
    empty: "das Reservoir ist leer.",
    next_in: " Wieder in ",
    next_bolus_in: "Nächster Bolus in ",
    hours: " h ",
    minutes: " min.",
    ask_rest: "Wie stark sind Ihre Schmerzen jetzt, in Ruhe? 0 bis 10, dann OK.",
    ask_movement: "Wie stark sind Ihre Schmerzen bei Bewegung? 0 bis 10, dann OK.",
    not_infusing: "Gestoppt",
    no_monitor: "Nicht überwacht",
    closed: "Studie beendet",
    alarms: [
        "Leitung hinter der Pumpe verschlossen",
        "Aus dem Reservoir kommt nichts",
        "Luft in der Leitung",
        "Reservoir fast leer",
        "Reservoir leer",
        "Batterie schwach",
        "Batterie leer",
        "Zu viel abgegeben",
        "Zu wenig abgegeben",
        "Klappe offen",
        "Taste klemmt",
        "Die Pumpe hat sich angehalten",
        "Speicherfehler",
        "Selbsttest nicht bestanden",
    ],
};

impl Language {
    const fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::German => &GERMAN,
        }
    }

    /// A message. After a high score, or where nobody monitors, a saved score says whom it does
    /// not call.
    pub fn message(self, message: &Message, monitored: bool) -> Text {
        let words = self.words();
        let mut text = Text::new();
        let mut say = |part: &str| {
            // Every text of every language fits; a test holds that.
            let _ = text.push_str(part);
        };
        match *message {
            Message::Saved { score, confirmed } => {
                say(if confirmed {
                    words.saved
                } else {
                    words.saved_unconfirmed
                });
                if score >= 7 || !monitored {
                    say(" ");
                    say(words.calls_nobody);
                }
            }
            Message::NotSaved => say(words.not_saved),
            Message::NotAScore => say(words.not_a_score),
            Message::Correcting => say(words.correcting),
            Message::NothingToCorrect => say(words.nothing_to_correct),
            Message::BolusGranted => say(words.bolus_granted),
            Message::BolusRefused { reason, wait_ms } => {
                say(words.bolus_refused);
                say(match reason {
                    Refusal::Lockout => words.lockout,
                    Refusal::Limit => words.limit,
                    Refusal::Alarm => words.stopped,
                    Refusal::Empty => words.empty,
                });
                if let Some(wait_ms) = wait_ms {
                    say(words.next_in);
                    self.push_wait(&mut text, wait_ms);
                }
            }
        }
        text
    }

    /// When the lockout is over.
    pub fn lockout(self, left_ms: u32) -> Text {
        let mut text = Text::new();
        // Every text of every language fits; a test holds that.
        let _ = text.push_str(self.words().next_bolus_in);
        self.push_wait(&mut text, left_ms);
        text
    }

    /// Minutes, rounded up; from an hour on with hours.
    fn push_wait(self, text: &mut Text, wait_ms: u32) {
        let words = self.words();
        let minutes = wait_ms.div_ceil(60_000);
        let (hours, minutes) = (minutes / 60, minutes % 60);
        // Every text of every language fits; a test holds that.
        if hours > 0 {
            let _ = write!(text, "{hours}{}", words.hours);
        }
        let _ = write!(text, "{minutes}{}", words.minutes);
    }

    /// The question of a prompt.
    pub fn question(self, condition: Condition) -> &'static str {
        match condition {
            Condition::Rest => self.words().ask_rest,
            Condition::Movement => self.words().ask_movement,
        }
    }

    /// An alarm condition.
    pub fn alarm(self, code: AlarmCode) -> &'static str {
        let place = AlarmCode::ALL.iter().position(|c| *c == code);
        let text = place.and_then(|p| self.words().alarms.get(p));
        text.copied().unwrap_or("?")
    }

    /// Nothing is infused.
    pub fn not_infusing(self) -> &'static str {
        self.words().not_infusing
    }

    /// Nobody at the other end of the line.
    pub fn no_monitor(self) -> &'static str {
        self.words().no_monitor
    }

    /// The trial is closed.
    pub fn closed(self) -> &'static str {
        self.words().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_high_score_or_no_monitor_says_whom_it_does_not_call() {
        let long = "Saved. This does not call anyone. Press your call bell if you need help.";
        let saved = |score| Message::Saved {
            score,
            confirmed: true,
        };
        let cases = [
            (6, true, "Saved."),
            (7, true, long),
            (10, true, long),
            (0, false, long),
        ];
        for (score, monitored, wanted) in cases {
            assert_eq!(Language::English.message(&saved(score), monitored), wanted);
        }
    }

    #[test]
    fn a_refusal_names_its_reason_and_the_wait_rounded_up() {
        let refused = |reason, wait_ms| Message::BolusRefused { reason, wait_ms };
        let cases = [
            (
                refused(Refusal::Lockout, Some(11 * 60_000 + 1)),
                "Bolus not given: too soon. Next in 12 min.",
            ),
            (
                refused(Refusal::Limit, Some(65 * 60_000)),
                "Bolus not given: limit reached. Next in 1 h 5 min.",
            ),
            (
                refused(Refusal::Alarm, None),
                "Bolus not given: pump is stopped.",
            ),
        ];
        for (message, wanted) in cases {
            assert_eq!(Language::English.message(&message, true), wanted);
        }
    }

    #[test]
    fn every_text_of_every_language_fits() {
        for language in [Language::English, Language::German] {
            for reason in Refusal::ALL {
                let wait_ms = Some(u32::MAX);
                let message = Message::BolusRefused {
                    reason: *reason,
                    wait_ms,
                };
                assert!(language.message(&message, true).ends_with(" min."));
            }
            for confirmed in [false, true] {
                let message = Message::Saved {
                    score: 9,
                    confirmed,
                };
                assert!(language.message(&message, true).len() > 60);
            }
            assert!(language.lockout(u32::MAX).ends_with(" min."));
            for code in AlarmCode::ALL {
                assert!(language.alarm(*code).len() > 5, "{code:?}");
            }
        }
    }
}
