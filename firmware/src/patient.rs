//! What the pump does about the patient's keys: scores, corrections, prompts, boluses.

use crate::board::Board;
use crate::keypad::Pressed;
use crate::pump::Pump;
use crate::recall::bit_of;
use crate::score::{Entry, LastScore};
use crate::texts::Message;
use protocol::event::{
    AlarmCode, BolusDecision, BolusRequested, Key, KeyStuck, PainScore, Phase, Purpose, Refusal,
};

impl<B: Board> Pump<B> {
    /// A key was pressed, held, stuck, or is free again.
    pub(crate) fn take_press(&mut self, pressed: Pressed) {
        match pressed {
            Pressed::Key(Key::Bolus) => self.ask_for_bolus(),
            Pressed::Key(key) => {
                let prompt = self.prompts.open();
                let entry = self.entry.handle_press(self.now, key, prompt);
                self.take_entry(entry);
            }
            Pressed::Held(_) => {
                let entry = self.entry.handle_hold(self.now);
                self.take_entry(entry);
            }
            Pressed::Stuck(key) => self.set_stuck(key, Phase::Start),
            Pressed::Free(key) => self.set_stuck(key, Phase::End),
        }
    }

    /// Typed scores and prompts that time brings to an end.
    pub(crate) fn take_time_of_patient(&mut self) {
        let entry = self.entry.handle_time(self.now, self.prompts.open());
        self.take_entry(entry);
        if self.prompts.next_due().is_some_and(|at| at <= self.now)
            && let Some(missed) = self.prompts.handle_time(self.now)
        {
            self.log(missed);
        }
    }

    fn take_entry(&mut self, entry: Entry) {
        match entry {
            Entry::Nothing => {}
            Entry::NotAScore => self.say(Message::NotAScore),
            Entry::Correcting => self.say(Message::Correcting),
            Entry::NothingToCorrect => self.say(Message::NothingToCorrect),
            Entry::Score { score, answers } => self.store_score(score, answers),
        }
    }

    /// Journal first; only what is there to stay gets the tick mark.
    fn store_score(&mut self, score: PainScore, answers: bool) {
        self.saved_at = None;
        let Some(seq) = self.log(score) else {
            self.say(Message::NotSaved);
            return;
        };
        if answers {
            self.prompts.note_answered();
        }
        self.entry.note_stored(LastScore {
            seq,
            at_ms: self.now,
            condition: score.condition,
            prompt_id: score.prompt_id,
            answer_delay_ms: score.answer_delay_ms,
        });
        self.saved_at = Some(self.now);
        self.say(Message::Saved {
            score: score.score,
            confirmed: score.confirmed,
        });
    }

    fn say(&mut self, message: Message) {
        self.message = Some((message, self.now));
    }

    fn set_stuck(&mut self, key: Key, phase: Phase) {
        match phase {
            Phase::Start => self.stuck |= bit_of(key),
            Phase::End => self.stuck &= !bit_of(key),
        }
        self.log(KeyStuck { key, phase });
        self.set_alarm(AlarmCode::KeyStuck, self.stuck != 0);
    }

    /// Every press has an answer in the journal and on the face.
    fn ask_for_bolus(&mut self) {
        self.observe();
        if self.halted || self.windows.damaged() {
            self.halt();
            return;
        }
        self.look();
        let decision = self.decide_bolus();
        if let BolusDecision::Granted { .. } = decision {
            // The counters before it, so that a cut during the bolus can be told apart.
            self.report();
        }
        let journaled = self.log(BolusRequested { decision });
        match (decision, journaled) {
            (BolusDecision::Granted { requested_nl }, Some(_)) => {
                self.last_grant_known_ms = Some(self.known_ms());
                self.supervisor.expect_bolus(self.now, requested_nl);
                self.dose.start_bolus(self.now, self.settings.bolus);
                self.say(Message::BolusGranted);
            }
            (BolusDecision::Granted { .. }, None) => self.say(Message::BolusRefused {
                reason: Refusal::Alarm,
                wait_ms: None,
            }),
            (BolusDecision::Denied { reason, wait_ms }, _) => {
                self.say(Message::BolusRefused { reason, wait_ms });
            }
        }
    }

    fn decide_bolus(&self) -> BolusDecision {
        let denied = |reason, wait_ms| BolusDecision::Denied { reason, wait_ms };
        let infusing = matches!(self.dose.following(), Some((Purpose::Therapy, _)));
        if !infusing || self.alarms.forbids_delivery().is_some() || self.ledger.failing() {
            return denied(Refusal::Alarm, None);
        }
        let lockout = self.lockout_left_ms(0);
        if lockout > 0 || self.dose.giving_bolus() {
            return denied(Refusal::Lockout, Some(lockout));
        }
        let (bolus, on_its_way) = (self.settings.bolus, self.dose.on_its_way());
        let Some(needed) = bolus.checked_add(on_its_way) else {
            return denied(Refusal::Limit, None);
        };
        if self.left(&self.board.sensors()) < needed {
            return denied(Refusal::Empty, None);
        }
        let limits = &self.provision.limits;
        let basal = |ahead| self.programmed_rate(ahead);
        match self.windows.wait_ms(self.known_ms(), needed, limits, basal) {
            Some(0) => BolusDecision::Granted {
                requested_nl: bolus.as_nanoliters(),
            },
            Some(wait) => denied(
                Refusal::Limit,
                Some(u32::try_from(wait).unwrap_or(u32::MAX)),
            ),
            None => denied(Refusal::Limit, None),
        }
    }

    /// Until the lockout after the last granted bolus is over, seen so many milliseconds from now.
    /// It does not run while the pump is off.
    pub(crate) fn lockout_left_ms(&self, ahead_ms: u64) -> u32 {
        let now = self.known_ms().saturating_add(ahead_ms);
        let left = self.last_grant_known_ms.map_or(0, |granted| {
            granted
                .saturating_add(u64::from(self.settings.lockout_ms))
                .saturating_sub(now)
        });
        u32::try_from(left).unwrap_or(u32::MAX)
    }
}
