//! What a patient does with the pump's keys, and when they sleep.
//!
//! About 86 % of prompts are answered (electronic diaries in chronic pain reach 85 %, Ono 2019,
//! `facts/clinical.md` §2.3), after seconds or minutes; a few entries are mistyped and corrected,
//! a few never confirmed. Keys are held 100 to 200 ms, as fingers do.

use crate::chance::{Chance, Concern};
use protocol::event::{Condition, Key};

/// Milliseconds in a minute.
const MINUTE_MS: u64 = 60_000;
/// Mean minute of the day at which the lamp goes out: 22:30.
const BED_MIN: f64 = 1_350.0;
/// Mean minute of the day of waking: 06:30.
const WAKE_MIN: f64 = 390.0;

/// A key goes down at some time and up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    /// When it goes down, milliseconds since the origin of the trial.
    pub at_ms: u64,
    /// Which.
    pub key: Key,
    /// How long it stays down.
    pub hold_ms: u32,
}

/// Habits of one patient.
#[derive(Clone, Debug)]
pub struct Habits {
    chance: Chance,
    asleep: bool,
    turn_at_min: f64,
    up_until_ms: u64,
    busy_until_ms: u64,
}

impl Habits {
    /// Of a patient at this minute of the day.
    pub fn new(seed: u64, minute_of_day: f64) -> Self {
        let asleep = !(WAKE_MIN..BED_MIN).contains(&minute_of_day);
        Self {
            chance: Chance::new(seed, Concern::Habits),
            asleep,
            turn_at_min: if asleep { WAKE_MIN } else { BED_MIN },
            up_until_ms: 0,
            busy_until_ms: 0,
        }
    }

    /// Asleep at this time.
    pub fn asleep(&self, now_ms: u64) -> bool {
        self.asleep && now_ms >= self.up_until_ms
    }

    /// One minute: falls asleep, wakes, or is woken by pain in the night.
    pub fn live_minute(&mut self, now_ms: u64, minute_of_day: f64, pain: f64) {
        if self.asleep {
            if minute_of_day >= self.turn_at_min && minute_of_day < 720.0 {
                self.asleep = false;
                self.turn_at_min = BED_MIN + 18.0 * self.chance.normal().clamp(-2.0, 2.0);
            } else if pain > 8.3 && self.chance.happens(0.2 / 60.0) {
                self.up_until_ms = now_ms + self.chance.whole_between(8, 25) * MINUTE_MS;
            }
        } else if minute_of_day >= self.turn_at_min || minute_of_day < 300.0 {
            self.asleep = true;
            self.turn_at_min = WAKE_MIN + 14.0 * self.chance.normal().clamp(-2.0, 2.0);
        }
    }

    /// The pump asks for a score; the presses of the answer, none where there is none.
    pub fn answer(&mut self, now_ms: u64, again: bool, score: u8) -> Vec<Press> {
        let answers = if again { 0.25 } else { 0.83 };
        if self.asleep(now_ms) || !self.chance.happens(answers) {
            return Vec::new();
        }
        let longest = if self.chance.happens(0.8) {
            60_000
        } else {
            220_000
        };
        let delay = self.chance.whole_between(6_000, longest);
        self.enter(now_ms + delay, score, None)
    }

    /// Tells a score without being asked.
    pub fn tell(&mut self, now_ms: u64, score: u8, condition: Condition) -> Vec<Press> {
        let delay = self.chance.whole_between(2_000, 50_000);
        self.enter(now_ms + delay, score, Some(condition))
    }

    /// Asks for a bolus.
    pub fn demand(&mut self, now_ms: u64) -> Vec<Press> {
        let mut presses = Typing::from(now_ms.max(self.busy_until_ms));
        let wait = self.chance.whole_between(1_000, 55_000);
        presses.hold(&mut self.chance, Key::Bolus, wait);
        self.busy_until_ms = presses.at_ms + 3_000;
        presses.done
    }

    /// True where a refusal makes them try once more soon.
    pub fn insists(&mut self) -> bool {
        self.chance.happens(0.3)
    }

    /// With what probability something happens in a minute, drawn.
    pub fn happens_per_h(&mut self, per_hour: f64) -> bool {
        self.chance.happens(per_hour / 60.0)
    }

    fn enter(&mut self, at_ms: u64, score: u8, condition: Option<Condition>) -> Vec<Press> {
        let chance = &mut self.chance;
        let mut typing = Typing::from(at_ms.max(self.busy_until_ms));
        if condition == Some(Condition::Movement) {
            typing.tap(chance, Key::Movement);
        }
        if chance.happens(0.02) {
            // A slip of the finger, seen before it is confirmed.
            typing.score(chance, u8::from(score == 0));
            typing.tap(chance, Key::Clear);
        }
        if chance.happens(0.015) {
            // Confirmed too early, and put right.
            let wrong = if score > 5 { score - 2 } else { score + 2 };
            typing.score(chance, wrong);
            typing.tap(chance, Key::Confirm);
            typing.at_ms += chance.whole_between(4_000, 9_000);
            typing.press_for(Key::Clear, chance.whole_between(2_200, 2_800));
            typing.at_ms += chance.whole_between(700, 1_500);
        }
        typing.score(chance, score);
        if !chance.happens(0.008) {
            typing.at_ms += chance.whole_between(200, 900);
            typing.tap(chance, Key::Confirm);
        }
        self.busy_until_ms = typing.at_ms + 8_000;
        typing.done
    }
}

/// Presses one after another.
struct Typing {
    at_ms: u64,
    done: Vec<Press>,
}

impl Typing {
    fn from(at_ms: u64) -> Self {
        Self {
            at_ms,
            done: Vec::new(),
        }
    }

    fn score(&mut self, chance: &mut Chance, score: u8) {
        if score >= 10 {
            self.tap(chance, Key::Digit1);
            self.tap(chance, Key::Digit0);
        } else if let Some(key) = Key::ALL.iter().find(|key| key.digit() == Some(score)) {
            self.tap(chance, *key);
        }
    }

    fn tap(&mut self, chance: &mut Chance, key: Key) {
        let hold = chance.whole_between(100, 200);
        self.press_for(key, hold);
        self.at_ms += chance.whole_between(250, 600);
    }

    fn hold(&mut self, chance: &mut Chance, key: Key, wait_ms: u64) {
        self.at_ms += wait_ms;
        self.tap(chance, key);
    }

    fn press_for(&mut self, key: Key, hold_ms: u64) {
        self.done.push(Press {
            at_ms: self.at_ms,
            key,
            hold_ms: u32::try_from(hold_ms).unwrap_or(u32::MAX),
        });
        self.at_ms += hold_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_is_a_one_and_a_zero_and_a_confirm() {
        let plain = (0..50)
            .map(|seed| Habits::new(seed, 600.0).tell(0, 10, Condition::Rest))
            .find(|presses| presses.len() == 3)
            .unwrap();
        let keys: Vec<Key> = plain.iter().map(|press| press.key).collect();
        assert_eq!(keys, [Key::Digit1, Key::Digit0, Key::Confirm]);
    }

    #[test]
    fn about_six_of_seven_prompts_are_answered_and_none_in_sleep() {
        let mut habits = Habits::new(5, 600.0);
        let answered = (0..2_000_u64)
            .filter(|i| {
                let now = i * 3_600_000;
                let first = habits.answer(now, false, 7);
                !first.is_empty() || !habits.answer(now + 300_000, true, 7).is_empty()
            })
            .count();
        assert!((1_680..1_820).contains(&answered), "{answered} of 2000");
        let mut sleeper = Habits::new(5, 180.0);
        assert!((0..50).all(|_| sleeper.answer(0, false, 7).is_empty()));
    }

    #[test]
    fn a_night_is_slept_from_about_half_past_ten_to_half_past_six() {
        let mut habits = Habits::new(11, 480.0);
        let mut asleep = Vec::new();
        for minute in 0..1_440_u32 {
            let of_day = f64::from((480 + minute) % 1_440);
            habits.live_minute(u64::from(minute) * MINUTE_MS, of_day, 3.0);
            if habits.asleep(u64::from(minute) * MINUTE_MS) {
                asleep.push(of_day);
            }
        }
        assert!((430..530).contains(&asleep.len()), "{}", asleep.len());
        assert!((1_300.0..1_400.0).contains(&asleep[0]));
    }

    #[test]
    fn presses_never_overlap() {
        let mut habits = Habits::new(3, 600.0);
        let mut all = Vec::new();
        for i in 0..300 {
            all.extend(habits.tell(i * 2_000, 10, Condition::Movement));
            all.extend(habits.demand(i * 2_000));
        }
        for pair in all.windows(2) {
            assert!(pair[1].at_ms >= pair[0].at_ms + u64::from(pair[0].hold_ms));
        }
    }
}
