//! From key presses to pain scores: one or two digits, then confirm.
//!
//! "1" then "0" is ten; 11 to 99 and digits after 0 are no scores and are taken back with a
//! message. What is typed and not confirmed within five seconds is stored as unconfirmed: nothing
//! a patient said is thrown away, and nothing is taken for more than it is.

use protocol::event::{Condition, Key, PainScore};

/// Typed and not confirmed for so long: stored as unconfirmed.
pub const CONFIRM_MS: u64 = 5_000;
/// The clear key pressed within this time after a score makes the next one its correction.
pub const CORRECT_MS: u64 = 120_000;
/// The movement key, and a correction, are forgotten after so long without a digit.
const FORGET_MS: u64 = 30_000;

/// The score that could be corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastScore {
    /// Its event.
    pub seq: u64,
    /// When it was stored.
    pub at_ms: u64,
    /// What it was of.
    pub condition: Condition,
    /// The prompt that it answered.
    pub prompt_id: Option<u32>,
    /// As it was stored.
    pub answer_delay_ms: Option<u32>,
}

/// The prompt that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPrompt {
    /// Its number.
    pub id: u32,
    /// What it asks for.
    pub condition: Condition,
    /// When it first asked.
    pub asked_at: u64,
}

/// What became of a press.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing to store.
    Nothing,
    /// The typed digits are no score and were taken back.
    NotAScore,
    /// The next score corrects the last.
    Correcting,
    /// There is no score to correct.
    NothingToCorrect,
    /// To be stored; `answers` where it answers the open prompt.
    Score {
        /// The event.
        score: PainScore,
        /// Whether the open prompt is answered.
        answers: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Typed {
    value: u8,
    at_ms: u64,
}

/// What is being typed.
#[derive(Clone, Debug, Default)]
pub struct ScoreEntry {
    typed: Option<Typed>,
    condition: Option<(Condition, u64)>,
    correcting: Option<u64>,
    last: Option<LastScore>,
}

impl ScoreEntry {
    /// What the face shows as typed.
    pub fn typed(&self) -> Option<u8> {
        self.typed.map(|t| t.value)
    }

    /// What a score typed now would be of.
    pub fn condition(&self, prompt: Option<OpenPrompt>) -> Condition {
        let marked = self.condition.map(|(condition, _)| condition);
        let corrected = self.correcting.and(self.last).map(|l| l.condition);
        let asked = prompt.map(|p| p.condition);
        marked.or(corrected).or(asked).unwrap_or(Condition::Rest)
    }

    /// Whether the next score corrects the last.
    pub fn correcting(&self) -> bool {
        self.correcting.is_some()
    }

    /// A score was stored.
    pub fn note_stored(&mut self, last: LastScore) {
        self.last = Some(last);
    }

    /// A key was pressed.
    pub fn handle_press(&mut self, now_ms: u64, key: Key, prompt: Option<OpenPrompt>) -> Entry {
        if let Some(digit) = key.digit() {
            return self.handle_digit(now_ms, digit);
        }
        match key {
            Key::Confirm => self.store(now_ms, true, prompt),
            Key::Clear => self.handle_clear(now_ms),
            Key::Movement => {
                let other = match self.condition(prompt) {
                    Condition::Rest => Condition::Movement,
                    Condition::Movement => Condition::Rest,
                };
                self.condition = Some((other, now_ms));
                Entry::Nothing
            }
            Key::Bolus
            | Key::Digit0
            | Key::Digit1
            | Key::Digit2
            | Key::Digit3
            | Key::Digit4
            | Key::Digit5
            | Key::Digit6
            | Key::Digit7
            | Key::Digit8
            | Key::Digit9 => Entry::Nothing,
        }
    }

    /// The clear key is held: the next score corrects the last, however old it is.
    pub fn handle_hold(&mut self, now_ms: u64) -> Entry {
        self.typed = None;
        self.correct(now_ms)
    }

    /// What time alone brings.
    pub fn handle_time(&mut self, now_ms: u64, prompt: Option<OpenPrompt>) -> Entry {
        if self.forget_at().is_some_and(|at| now_ms >= at) {
            (self.condition, self.correcting) = (None, None);
        }
        match self.typed {
            Some(typed) if now_ms >= typed.at_ms.saturating_add(CONFIRM_MS) => {
                self.store(typed.at_ms, false, prompt)
            }
            Some(_) | None => Entry::Nothing,
        }
    }

    /// When [`Self::handle_time`] is next due.
    pub fn next_due(&self) -> Option<u64> {
        let typed = self.typed.map(|t| t.at_ms.saturating_add(CONFIRM_MS));
        typed.or(self.forget_at())
    }

    fn forget_at(&self) -> Option<u64> {
        if self.typed.is_some() {
            return None;
        }
        let marked = self.condition.map(|(_, at)| at);
        let since = marked.max(self.correcting)?;
        Some(since.saturating_add(FORGET_MS))
    }

    fn handle_digit(&mut self, now_ms: u64, digit: u8) -> Entry {
        let value = match self.typed {
            None => digit,
            Some(typed) if typed.value == 1 && digit == 0 => 10,
            Some(_) => {
                self.typed = None;
                return Entry::NotAScore;
            }
        };
        self.typed = Some(Typed {
            value,
            at_ms: now_ms,
        });
        Entry::Nothing
    }

    fn handle_clear(&mut self, now_ms: u64) -> Entry {
        if self.typed.take().is_some() || self.correcting.take().is_some() {
            return Entry::Nothing;
        }
        let fresh = |last: LastScore| now_ms.saturating_sub(last.at_ms) <= CORRECT_MS;
        if self.last.is_some_and(fresh) {
            self.correct(now_ms)
        } else {
            Entry::Nothing
        }
    }

    fn correct(&mut self, now_ms: u64) -> Entry {
        if self.last.is_none() {
            return Entry::NothingToCorrect;
        }
        self.correcting = Some(now_ms);
        Entry::Correcting
    }

    fn store(&mut self, at_ms: u64, confirmed: bool, prompt: Option<OpenPrompt>) -> Entry {
        let condition = self.condition(prompt);
        let Some(typed) = self.typed.take() else {
            return Entry::Nothing;
        };
        self.condition = None;
        let corrected = self.correcting.take().and(self.last);
        let answered = prompt.filter(|p| corrected.is_none() && p.condition == condition);
        let delay = answered.map(|p| at_ms.saturating_sub(p.asked_at));
        let score = PainScore {
            score: typed.value,
            confirmed,
            condition,
            prompt_id: corrected.map_or(answered.map(|p| p.id), |c| c.prompt_id),
            answer_delay_ms: corrected
                .map_or(delay.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)), |c| {
                    c.answer_delay_ms
                }),
            corrects_seq: corrected.map(|c| c.seq),
        };
        Entry::Score {
            score,
            answers: answered.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: OpenPrompt = OpenPrompt {
        id: 4,
        condition: Condition::Rest,
        asked_at: 1_000,
    };

    fn press(entry: &mut ScoreEntry, keys: &[Key], prompt: Option<OpenPrompt>) -> Vec<Entry> {
        let mut out = Vec::new();
        for (n, key) in (0u64..).zip(keys) {
            let seen = entry.handle_press(10_000 + n * 100, *key, prompt);
            if seen != Entry::Nothing {
                out.push(seen);
            }
        }
        out
    }

    fn score(value: u8) -> PainScore {
        PainScore {
            score: value,
            confirmed: true,
            condition: Condition::Rest,
            prompt_id: None,
            answer_delay_ms: None,
            corrects_seq: None,
        }
    }

    fn stored(score: PainScore) -> Vec<Entry> {
        vec![Entry::Score {
            score,
            answers: score.prompt_id.is_some(),
        }]
    }

    #[test]
    fn digits_make_scores() {
        use Key::{Clear, Confirm, Digit0, Digit1, Digit3, Digit7};
        let cases: [(&[Key], Vec<Entry>); 6] = [
            (&[Digit7, Confirm], stored(score(7))),
            (&[Digit1, Digit0, Confirm], stored(score(10))),
            (&[Digit1, Confirm], stored(score(1))),
            (&[Digit1, Digit1, Confirm], vec![Entry::NotAScore]),
            (&[Digit0, Digit7, Confirm], vec![Entry::NotAScore]),
            (&[Digit3, Clear, Digit7, Confirm], stored(score(7))),
        ];
        for (keys, wanted) in cases {
            assert_eq!(
                press(&mut ScoreEntry::default(), keys, None),
                wanted,
                "{keys:?}"
            );
        }
    }

    #[test]
    fn what_is_not_confirmed_is_stored_as_unconfirmed() {
        let mut entry = ScoreEntry::default();
        press(&mut entry, &[Key::Digit1, Key::Digit0], None);
        assert_eq!(entry.next_due(), Some(15_100));
        assert_eq!(entry.handle_time(15_099, None), Entry::Nothing);
        let unconfirmed = PainScore {
            confirmed: false,
            ..score(10)
        };
        let wanted = Entry::Score {
            score: unconfirmed,
            answers: false,
        };
        assert_eq!(entry.handle_time(15_100, None), wanted);
        assert_eq!(entry.next_due(), None);
    }

    #[test]
    fn a_score_answers_the_prompt_that_asks_for_its_condition() {
        let mut entry = ScoreEntry::default();
        let answered = PainScore {
            prompt_id: Some(4),
            answer_delay_ms: Some(9_100),
            ..score(6)
        };
        let keys = [Key::Digit6, Key::Confirm];
        assert_eq!(press(&mut entry, &keys, Some(REST)), stored(answered));
        let moving = PainScore {
            condition: Condition::Movement,
            ..score(6)
        };
        let keys = [Key::Movement, Key::Digit6, Key::Confirm];
        assert_eq!(press(&mut entry, &keys, Some(REST)), stored(moving));
    }

    #[test]
    fn a_correction_names_the_old_score_and_keeps_its_prompt() {
        let mut entry = ScoreEntry::default();
        assert_eq!(entry.handle_hold(0), Entry::NothingToCorrect);
        let last = LastScore {
            seq: 31,
            at_ms: 9_000,
            condition: Condition::Movement,
            prompt_id: Some(3),
            answer_delay_ms: Some(5),
        };
        let corrected = PainScore {
            condition: Condition::Movement,
            prompt_id: Some(3),
            answer_delay_ms: Some(5),
            corrects_seq: Some(31),
            ..score(4)
        };
        let mut wanted = vec![Entry::Correcting];
        wanted.push(Entry::Score {
            score: corrected,
            answers: false,
        });
        entry.note_stored(last);
        let keys = [Key::Clear, Key::Digit4, Key::Confirm];
        assert_eq!(press(&mut entry, &keys, Some(REST)), wanted);
        // Two minutes later the clear key alone corrects nothing; held, it still does.
        assert_eq!(
            entry.handle_press(129_001, Key::Clear, None),
            Entry::Nothing
        );
        assert_eq!(entry.handle_hold(130_000), Entry::Correcting);
        assert_eq!(entry.handle_time(160_000, None), Entry::Nothing);
        assert!(!entry.correcting());
    }
}
