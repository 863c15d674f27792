//! People at the simulated pump: what they see on its face, and what their hands do.

use super::{Asked, Due, Power, Simulation};
use crate::ward::Hand;
use firmware::acts::Act;
use firmware::pump::Input;
use protocol::event::{Key, Priority, Purpose};
use protocol::units::{Concentration, FlowRate, Volume};

/// From stopping to the fresh reservoir, and from there to the start.
const CHANGE_MS: u64 = 60_000;

/// What a person sees on the pump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// Lines of text, top to bottom; none where the pump has no supply.
    pub lines: Vec<String>,
    /// The pump has supply.
    pub lit: bool,
    /// It infuses.
    pub infusing: bool,
    /// Trial milliseconds since the origin.
    pub trial_ms: u64,
}

impl Simulation {
    /// What the pump shows to a person.
    pub fn face(&self) -> Face {
        let face = match &self.power {
            Power::On(on) => {
                let tick = self.now_ms.saturating_sub(on.booted_ms);
                on.pump.face(tick, self.uptime)
            }
            Power::Off(_) | Power::Between => None,
        };
        Face {
            lines: face.as_ref().map(lines_of).unwrap_or_default(),
            lit: face.is_some(),
            infusing: face.as_ref().is_some_and(|face| face.infusing.is_some()),
            trial_ms: self.now_ms,
        }
    }

    /// What the pump shows, and what it asks.
    pub(super) fn look_at_face(&mut self) {
        let now_ms = self.now_ms;
        let face = match &self.power {
            Power::On(on) => on
                .pump
                .face(now_ms.saturating_sub(on.booted_ms), self.uptime),
            Power::Off(_) | Power::Between => None,
        };
        let Some(face) = face else {
            self.view.infusing = false;
            return;
        };
        self.view.infusing = matches!(face.infusing, Some((Purpose::Therapy, _)));
        self.view.alarms = face.alarms.iter().map(|(code, _)| *code).collect();
        let again_after = u64::from(self.provision.prompts.open_ms);
        let (asked, ask) = match (face.asking, self.asked) {
            (None, _) => (None, false),
            (Some(condition), Some(asked)) if asked.condition == condition => {
                let again = now_ms >= asked.since_ms.saturating_add(again_after);
                (Some(Asked { again, ..asked }), again && !asked.again)
            }
            (Some(condition), _) => {
                let asked = Asked {
                    condition,
                    since_ms: now_ms,
                    again: false,
                };
                (Some(asked), true)
            }
        };
        self.asked = asked;
        if let Some(asked) = asked.filter(|_| ask) {
            for press in self.ward.asked(now_ms, asked.condition, asked.again) {
                self.plan_press(press.at_ms, press.key, press.hold_ms);
            }
        }
    }

    /// Hands at the pump.
    pub(super) fn lend(&mut self, hand: Hand) {
        let now_ms = self.now_ms;
        match hand {
            Hand::Press(press) => self.plan_press(press.at_ms, press.key, press.hold_ms),
            Hand::Prime { volume_nl } => self.input(Input::Act(Act::Start {
                purpose: Purpose::Prime,
                until: Some(Volume::from_nanoliters(volume_nl)),
            })),
            Hand::Start { rate_nl_per_h } => self.start(now_ms, rate_nl_per_h),
            Hand::SetRate { rate_nl_per_h } => self.set_rate(now_ms, rate_nl_per_h),
            Hand::Stop => self.plan(now_ms, Due::Act(Act::Stop)),
            Hand::ChangeReservoir { fill_nl } => {
                let again = self.view.infusing;
                if again {
                    self.plan(now_ms, Due::Act(Act::Stop));
                }
                let act = Act::ChangeReservoir {
                    volume: Volume::from_nanoliters(fill_nl),
                    concentration: Concentration::from_micrograms_per_milliliter(
                        self.setup.concentration_mcg_per_ml,
                    ),
                };
                self.plan(now_ms + CHANGE_MS, Due::Act(act));
                self.hands_free_ms = now_ms + 2 * CHANGE_MS;
                if again {
                    self.start(now_ms, self.programmed_nl_per_h);
                }
            }
            Hand::FreeKeys => {
                for key in Key::ALL {
                    let down = self.board_mut(|b| b.key_is_down(*key)).unwrap_or(false);
                    if down {
                        self.plan(
                            now_ms,
                            Due::Key {
                                key: *key,
                                pressed: false,
                            },
                        );
                    }
                }
            }
            Hand::ReleaseLatch => self.plan(now_ms, Due::Act(Act::ReleaseLatch)),
            Hand::Close(reason) => self.plan(now_ms, Due::Act(Act::Close(reason))),
            Hand::Say(entry) => self.entries.push(entry),
        }
    }

    /// Starts the therapy, once the reservoir is in.
    fn start(&mut self, at_ms: u64, rate_nl_per_h: u32) {
        let at_ms = at_ms.max(self.hands_free_ms);
        self.set_rate(at_ms, rate_nl_per_h);
        let act = Act::Start {
            purpose: Purpose::Therapy,
            until: None,
        };
        self.plan(at_ms, Due::Act(act));
    }

    fn set_rate(&mut self, at_ms: u64, rate_nl_per_h: u32) {
        if rate_nl_per_h != self.programmed_nl_per_h {
            self.programmed_nl_per_h = rate_nl_per_h;
            let rate = FlowRate::from_nanoliters_per_hour(rate_nl_per_h);
            self.plan(at_ms, Due::Act(Act::ChangeRate(rate)));
        }
    }
}

/// The face from top to bottom, in the pump's language.
pub(crate) fn lines_of(face: &firmware::face::Face) -> Vec<String> {
    let mut lines = Vec::new();
    for (code, priority) in &face.alarms {
        let mark = match priority {
            Priority::High => "!!!",
            Priority::Medium => "!!",
            Priority::Low => "!",
        };
        lines.push(format!("{mark} {}", face.language.alarm(*code)));
    }
    lines.push(match face.infusing {
        Some((Purpose::Therapy, rate)) if face.giving_bolus => format!("{rate} + bolus"),
        Some((Purpose::Therapy, rate)) => rate.to_string(),
        Some((purpose, rate)) => format!("{} {rate}", purpose.word()),
        None if face.closed => face.language.closed().into(),
        None => face.language.not_infusing().into(),
    });
    if face.lockout_left_ms > 0 {
        lines.push(face.language.lockout(face.lockout_left_ms).as_str().into());
    }
    lines.extend(face.question_text().map(String::from));
    lines.extend(face.typed.map(|score| format!("> {score}")));
    let tick = if face.saved { "\u{2713} " } else { "" };
    lines.extend(face.message_text().map(|text| format!("{tick}{text}")));
    if !face.monitored {
        lines.push(face.language.no_monitor().into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmware::face::Face as PumpFace;
    use firmware::texts::{Language, Message};
    use protocol::event::{AlarmCode, Condition};

    #[test]
    fn the_face_shows_alarms_rate_lockout_question_digit_and_tick() {
        let alarms = [
            (AlarmCode::AirInLine, Priority::High),
            (AlarmCode::BatteryLow, Priority::Medium),
        ];
        let face = PumpFace {
            language: Language::English,
            asking: Some(Condition::Rest),
            typed: Some(10),
            condition: Condition::Rest,
            correcting: false,
            saved: true,
            infusing: Some((Purpose::Therapy, FlowRate::from_nanoliters_per_hour(80_000))),
            giving_bolus: true,
            lockout_left_ms: 61_000,
            alarms: alarms.into_iter().collect(),
            message: Some(Message::Saved {
                score: 3,
                confirmed: true,
            }),
            monitored: true,
            closed: false,
        };
        let wanted = [
            "!!! Air in the line",
            "!! Battery low",
            "0.08 mL/h + bolus",
            "Next bolus in 2 min.",
            "How strong is your pain now, at rest? 0 to 10, then OK.",
            "> 10",
            "\u{2713} Saved.",
        ];
        assert_eq!(lines_of(&face), wanted);
        let plain = PumpFace {
            saved: false,
            message: None,
            typed: None,
            asking: None,
            alarms: [].into_iter().collect(),
            lockout_left_ms: 0,
            infusing: None,
            monitored: false,
            ..face
        };
        assert_eq!(lines_of(&plain), ["Stopped", "Not monitored"]);
    }
}
