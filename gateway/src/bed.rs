//! A bed as it is now: what the dashboard draws, made from facts that are on disk. Pure.

use crate::doubts::Doubts;
use protocol::bedside::Fact;
use protocol::event::{AlarmCode, Body, BolusDecision, Condition, Phase, Priority, Purpose};
use protocol::manifest::Manifest;
use protocol::time::Timestamp;
use protocol::topics::{
    At, BolusNow, DeliveryNow, LinkWord, ReservoirNow, ScoreNow, State, TREND_MAX, TREND_STEP_MS,
    TrendStep,
};
use std::collections::BTreeMap;

/// Steps that are filled at once; a longer silence of the pump is shown as one.
const STEPS_MAX: i64 = 1_008;

/// The model of one bed.
#[derive(Clone, Debug)]
pub struct Bed {
    state: State,
    trend: BTreeMap<i64, TrendStep>,
    baseline: (u64, u64),
    delivered_before: Option<(u64, u64)>,
    known_until: Option<i64>,
    filling_line: bool,
    lockout_ms: u32,
    scores: BTreeMap<u64, (i64, u8, bool)>,
    /// Conditions that the pump itself has raised and not ended: since when.
    pub pump_alarms: BTreeMap<AlarmCode, (Priority, i64)>,
    /// What the pump's facts say against it.
    pub doubts: Doubts,
}

/// What the line says beside the facts.
#[derive(Clone, Copy, Debug)]
pub struct LinkNow {
    /// The line.
    pub link: LinkWord,
    /// Wall milliseconds since the last good frame.
    pub frame_age_ms: u64,
    /// On disk at the gateway.
    pub stored_through_seq: u64,
    /// Newest seq that the pump spoke of.
    pub announced_seq: u64,
    /// On disk at a recorder.
    pub recorded_through_seq: u64,
}

impl Bed {
    /// Of a bed of which nothing is known yet.
    pub fn new(gw: &str, bed: &str, trial: &str, speed: u32) -> Self {
        Self {
            state: State {
                gw: gw.into(),
                bed: bed.into(),
                trial: trial.into(),
                pump: None,
                simulated: false,
                speed,
                sent_at_utc_ms: 0,
                link: LinkWord::NeverHeard,
                frame_age_ms: 0,
                zone: "UTC".into(),
                drug: String::new(),
                concentration_mcg_per_ml: 0,
                route: String::new(),
                baseline_start_utc_ms: 0,
                trial_start_utc_ms: None,
                closed: false,
                baseline_mean_centi: None,
                pain: None,
                pain_movement: None,
                delivery: None,
                bolus: BolusNow::default(),
                reservoir: None,
                battery_percent: None,
                rescues: 0,
                observations: Vec::new(),
                stored_through_seq: 0,
                announced_seq: 0,
                recorded_through_seq: 0,
                holes: Vec::new(),
                trend: Vec::new(),
            },
            trend: BTreeMap::new(),
            baseline: (0, 0),
            delivered_before: None,
            known_until: None,
            filling_line: false,
            lockout_ms: 0,
            scores: BTreeMap::new(),
            pump_alarms: BTreeMap::new(),
            doubts: Doubts::default(),
        }
    }

    /// The manifest is known.
    pub fn handle_manifest(&mut self, manifest: &Manifest) {
        let s = &mut self.state;
        s.pump = Some(manifest.pump.to_string());
        s.simulated = manifest.simulated.is_some();
        s.zone.clone_from(&manifest.zone);
        s.drug.clone_from(&manifest.drug);
        s.concentration_mcg_per_ml = manifest.concentration_mcg_per_ml;
        s.route.clone_from(&manifest.route);
        s.baseline_start_utc_ms = manifest.baseline_start_utc_ms;
        self.lockout_ms = manifest.limits.lockout_ms;
    }

    fn step(&mut self, at: i64) -> &mut TrendStep {
        let start = at.div_euclid(TREND_STEP_MS) * TREND_STEP_MS;
        while self.trend.len() >= TREND_MAX && !self.trend.contains_key(&start) {
            self.trend.pop_first();
        }
        self.trend.entry(start).or_insert_with(|| TrendStep {
            start_utc_ms: start,
            ..TrendStep::default()
        })
    }

    /// The pump's events have no hole up to here: where none speaks of delivery, there was none.
    fn know_until(&mut self, at: i64) {
        let first = self
            .known_until
            .unwrap_or(at)
            .max(at - TREND_STEP_MS * STEPS_MAX);
        let mut start = first.div_euclid(TREND_STEP_MS) * TREND_STEP_MS;
        while start <= at {
            let step = self.step(start);
            step.delivered_nl.get_or_insert(0);
            step.programmed_nl.get_or_insert(0);
            start += TREND_STEP_MS;
        }
        self.known_until = Some(self.known_until.map_or(at, |known| known.max(at)));
    }

    /// These events of the pump will never come.
    pub fn note_holes(&mut self, lost: &[(u64, u64)]) {
        self.state.holes = lost.to_vec();
    }

    /// Something is on disk that happened `at` (trial time). `seq` is that of its source.
    pub fn handle_fact(&mut self, at: Timestamp, seq: u64, fact: &Fact) {
        let at = at.as_unix_millis();
        match fact {
            Fact::Pump(body) => {
                if matches!(body, Body::JournalLost(_)) {
                    self.known_until = Some(at);
                }
                self.know_until(at);
                self.doubts.handle(at, seq, body);
                self.handle_pump(at, seq, body);
            }
            Fact::Rescue(rescue) => {
                self.state.rescues += 1;
                self.step(rescue.at_utc_ms).rescues += 1;
            }
            Fact::Observation(seen) => {
                let value = At {
                    at_utc_ms: seen.at_utc_ms,
                    value: seen.value_milli,
                };
                match self
                    .state
                    .observations
                    .iter_mut()
                    .find(|(what, _)| *what == seen.what)
                {
                    Some((_, old)) if old.at_utc_ms <= value.at_utc_ms => *old = value,
                    Some(_) => {}
                    None => self.state.observations.push((seen.what.clone(), value)),
                }
            }
            Fact::GatewayStarted(_)
            | Fact::LinkChanged(_)
            | Fact::ClockStepped(_)
            | Fact::AlarmChanged(_)
            | Fact::Stored(_)
            | Fact::ScoreEntry(_)
            | Fact::Quarantined(_)
            | Fact::BootAnchored(_) => {}
        }
    }

    fn handle_pump(&mut self, at: i64, seq: u64, body: &Body) {
        match body {
            Body::InfusionStarted(start) => {
                self.delivery_now(at, |now| {
                    now.infusing = true;
                    now.programmed_nl_per_h = start.programmed_nl_per_h;
                });
                self.filling_line = start.purpose != Purpose::Therapy;
                if start.purpose == Purpose::Therapy && self.state.trial_start_utc_ms.is_none() {
                    self.state.trial_start_utc_ms = Some(at);
                    let (sum, count) = self.baseline;
                    let mean = (sum * 100).checked_div(count);
                    self.state.baseline_mean_centi = mean.and_then(|m| u32::try_from(m).ok());
                }
            }
            Body::InfusionStopped(_) => self.delivery_now(at, |now| now.infusing = false),
            Body::RateChanged(change) => {
                self.delivery_now(at, |now| {
                    now.programmed_nl_per_h = change.programmed_nl_per_h;
                });
            }
            Body::ProgramChanged(change) => {
                self.lockout_ms = change.lockout_ms;
                self.state.concentration_mcg_per_ml = change.concentration_mcg_per_ml;
                self.delivery_now(at, |now| {
                    now.programmed_nl_per_h = change.programmed_nl_per_h;
                });
            }
            Body::Delivered(count) => {
                self.delivery_now(at, |now| {
                    now.delivered_nl = count.delivered_nl;
                    now.programmed_nl = count.programmed_nl;
                });
                let seen = (count.delivered_nl, count.programmed_nl);
                let before = self.delivered_before.replace(seen);
                // What fills or flushes a line does not go to the patient.
                if let Some((delivered, programmed)) = before.filter(|_| !self.filling_line) {
                    let step = self.step(at);
                    let add = |sum: &mut Option<u64>, now: u64, before: u64| {
                        *sum = Some(sum.unwrap_or(0) + now.saturating_sub(before));
                    };
                    add(&mut step.delivered_nl, seen.0, delivered);
                    add(&mut step.programmed_nl, seen.1, programmed);
                }
            }
            Body::BolusRequested(request) => {
                self.state.bolus.requested += 1;
                match request.decision {
                    BolusDecision::Granted { .. } => {
                        self.state.bolus.granted += 1;
                        self.state.bolus.locked_until_utc_ms =
                            Some(at + i64::from(self.lockout_ms));
                        self.step(at).boluses += 1;
                    }
                    BolusDecision::Denied { .. } => self.step(at).refused += 1,
                }
            }
            Body::PainScore(score) => {
                let now = At {
                    at_utc_ms: at,
                    value: ScoreNow {
                        score: score.score,
                        confirmed: score.confirmed,
                        condition: score.condition,
                    },
                };
                if let Some(old) = score.corrects_seq {
                    self.uncount(old);
                }
                let rest = score.condition == Condition::Rest;
                let step = self.step(at);
                if rest {
                    step.score = Some(score.score);
                    self.state.pain = Some(now);
                } else {
                    step.score_movement = Some(score.score);
                    self.state.pain_movement = Some(now);
                }
                if rest && score.confirmed && self.state.trial_start_utc_ms.is_none() {
                    self.baseline.0 += u64::from(score.score);
                    self.baseline.1 += 1;
                    self.scores.insert(seq, (at, score.score, rest));
                }
            }
            Body::PromptNotAnswered(_) => self.step(at).not_answered += 1,
            Body::Reservoir(reservoir) => {
                let value = ReservoirNow {
                    computed_nl: reservoir.computed_nl,
                    measured_nl: reservoir.measured_nl,
                };
                self.state.reservoir = Some(At {
                    at_utc_ms: at,
                    value,
                });
            }
            Body::Battery(battery) => {
                self.state.battery_percent = Some(At {
                    at_utc_ms: at,
                    value: battery.percent,
                });
            }
            Body::Alarm(alarm) => match alarm.phase {
                Phase::Start => {
                    self.step(at).alarms += 1;
                    self.pump_alarms.insert(alarm.code, (alarm.priority, at));
                }
                Phase::End => {
                    self.pump_alarms.remove(&alarm.code);
                }
            },
            Body::TrialClosed(_) => self.state.closed = true,
            // What is missing for it is known to the line: the journal may lose what is on disk here.
            Body::JournalLost(_)
            | Body::PoweredOn(_)
            | Body::BolusDelivered(_)
            | Body::KeyStuck(_)
            | Body::Door(_)
            | Body::ClockSet(_)
            | Body::SelfTest(_)
            | Body::Checkpoint(_)
            | Body::Unknown(_) => {}
        }
    }

    /// A corrected score no longer counts in the baseline.
    fn uncount(&mut self, seq: u64) {
        if let Some((_, score, _)) = self.scores.remove(&seq) {
            self.baseline.0 = self.baseline.0.saturating_sub(u64::from(score));
            self.baseline.1 = self.baseline.1.saturating_sub(1);
        }
    }

    fn delivery_now(&mut self, at: i64, change: impl FnOnce(&mut DeliveryNow)) {
        let nothing = DeliveryNow {
            infusing: false,
            programmed_nl_per_h: 0,
            delivered_nl: 0,
            programmed_nl: 0,
        };
        let mut now = self.state.delivery.as_ref().map_or(nothing, |d| d.value);
        change(&mut now);
        self.state.delivery = Some(At {
            at_utc_ms: at,
            value: now,
        });
    }

    /// The trial was closed by the pump.
    pub fn is_closed(&self) -> bool {
        self.state.closed
    }

    /// The pump's name, where its manifest is known.
    pub fn pump(&self) -> Option<&str> {
        self.state.pump.as_deref()
    }

    /// The payload as of now.
    pub fn payload(&self, now: Timestamp, link: LinkNow) -> State {
        let mut state = self.state.clone();
        state.sent_at_utc_ms = now.as_unix_millis();
        state.link = link.link;
        state.frame_age_ms = link.frame_age_ms;
        state.stored_through_seq = link.stored_through_seq;
        state.announced_seq = link.announced_seq;
        state.recorded_through_seq = link.recorded_through_seq;
        state.trend = self.trend.values().cloned().collect();
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::event::{Delivered, InfusionStarted, PainScore};

    fn score(score: u8, corrects_seq: Option<u64>) -> Fact {
        Fact::Pump(
            PainScore {
                score,
                confirmed: true,
                condition: Condition::Rest,
                prompt_id: None,
                answer_delay_ms: None,
                corrects_seq,
            }
            .into(),
        )
    }

    fn link() -> LinkNow {
        LinkNow {
            link: LinkWord::Up,
            frame_age_ms: 0,
            stored_through_seq: 0,
            announced_seq: 0,
            recorded_through_seq: 0,
        }
    }

    #[test]
    fn the_baseline_is_the_mean_before_therapy_without_corrected_scores() {
        let mut bed = Bed::new("gw", "07", "T", 1);
        let at = Timestamp::from_unix_millis;
        bed.handle_fact(at(0), 1, &score(8, None));
        bed.handle_fact(at(1), 2, &score(3, None));
        bed.handle_fact(at(2), 3, &score(7, Some(2)));
        let start = InfusionStarted {
            purpose: Purpose::Therapy,
            programmed_nl_per_h: 40_000,
        };
        bed.handle_fact(at(3), 4, &Fact::Pump(start.into()));
        bed.handle_fact(at(4), 5, &score(1, None));
        let state = bed.payload(at(5), link());
        assert_eq!(state.baseline_mean_centi, Some(750));
        assert_eq!(state.trial_start_utc_ms, Some(3));
        assert_eq!(state.pain.unwrap().value.score, 1);
    }

    #[test]
    fn delivery_in_the_trend_is_the_difference_of_the_counters() {
        let mut bed = Bed::new("gw", "07", "T", 1);
        for (i, nl) in [(0, 1_000), (1, 1_400), (2, 2_000)] {
            let count = Delivered {
                delivered_nl: nl,
                programmed_nl: nl,
                strokes: 0,
                encoder_counts: 0,
            };
            let at = Timestamp::from_unix_millis(TREND_STEP_MS * i + 5);
            bed.handle_fact(at, 1, &Fact::Pump(count.into()));
        }
        let trend = bed.payload(Timestamp::from_unix_millis(0), link()).trend;
        let seen: Vec<_> = trend.iter().map(|step| step.delivered_nl).collect();
        assert_eq!(seen, [Some(0), Some(400), Some(600)]);
    }
}
