//! What the facts of a pump say against it: it started again, its counter fell, it delivers other
//! than it is programmed, its own clock is wrong, events are gone for ever. Pure; the pump's own
//! conditions are beside it in [`crate::bed`], both become alarms.

use protocol::event::{Body, BolusDecision, BootReason, Delivered, JournalLost, Purpose};
use protocol::event::{PoweredOn, Priority};

const MINUTE_MS: i64 = 60_000;
/// A start is told for so long, and so far back starts are counted.
const STARTS_MS: i64 = 10 * MINUTE_MS;
/// So many starts within [`STARTS_MS`] are urgent.
const STARTS_MANY: usize = 3;
/// Flow is compared over at least so long, and anew after an hour.
const FLOW_MS: i64 = 5 * MINUTE_MS;
const FLOW_ANEW_MS: i64 = 60 * MINUTE_MS;
/// A motor moves a tenth of a stroke at once: between two readings of the counters so much may be
/// on its way. Too much is more than that and 5 %, too little twice that and 10 %.
const GROUP_NL: u64 = 5_000;
/// A pump's own clock may be so far off before it is told.
const CLOCK_MS: i64 = 24 * 60 * MINUTE_MS;

/// Ranges that are missing and of which the pump said nothing yet, at most.
const MISSING_MAX: usize = 64;

/// An alarm of this file: name, priority, words.
pub type Doubt = (&'static str, Priority, String);

#[derive(Clone, Copy, Debug)]
struct Start {
    at: i64,
    reason: BootReason,
    after_ms: i64,
}

/// Programmed and delivered, apart by more than a sound pump's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    TooMuch { programmed: u64, delivered: u64 },
    TooLittle { programmed: u64, delivered: u64 },
}

/// Of one pump.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    last_at: Option<i64>,
    starts: Vec<Start>,
    counter_fell: Option<(u64, u64)>,
    counter: Option<u64>,
    seen: u64,
    /// What did not come though something after it did, oldest first.
    missing: Vec<(u64, u64)>,
    lost: u64,
    clock_shows: Option<i64>,
    infusing: bool,
    in_bolus: bool,
    since: Option<(i64, Delivered)>,
    flow: Option<Flow>,
}

impl Doubts {
    /// Something is on disk that the pump did at `at`; `seq` is that of the event.
    pub fn handle(&mut self, at: i64, seq: u64, body: &Body) {
        if seq > self.seen.saturating_add(1) {
            self.missing.truncate(MISSING_MAX - 1);
            self.missing.push((self.seen + 1, seq - 1));
        }
        self.seen = self.seen.max(seq);
        match body {
            Body::PoweredOn(on) => self.handle_start(at, seq, on),
            Body::ClockSet(_) => self.clock_shows = None,
            Body::Delivered(counters) => self.handle_counters(at, counters),
            Body::JournalLost(lost) => self.handle_lost(lost),
            Body::InfusionStarted(started) => {
                self.infusing = started.purpose == Purpose::Therapy;
                (self.since, self.flow) = (None, None);
            }
            Body::InfusionStopped(_) => {
                self.infusing = false;
                (self.since, self.flow) = (None, None);
            }
            Body::RateChanged(_) | Body::ProgramChanged(_) => self.since = None,
            Body::BolusRequested(request) => {
                if matches!(request.decision, BolusDecision::Granted { .. }) {
                    self.in_bolus = true;
                    self.since = None;
                }
            }
            Body::BolusDelivered(_) => {
                self.in_bolus = false;
                self.since = None;
            }
            Body::PainScore(_)
            | Body::PromptNotAnswered(_)
            | Body::Reservoir(_)
            | Body::Alarm(_)
            | Body::Battery(_)
            | Body::KeyStuck(_)
            | Body::Door(_)
            | Body::SelfTest(_)
            | Body::Checkpoint(_)
            | Body::TrialClosed(_)
            | Body::Unknown(_) => {}
        }
        self.last_at = Some(self.last_at.map_or(at, |last| last.max(at)));
    }

    /// What was stored before the pump lost it is not lost.
    fn handle_lost(&mut self, lost: &JournalLost) {
        let mut left = Vec::new();
        for (from, to) in std::mem::take(&mut self.missing) {
            let (gone_from, gone_to) = (from.max(lost.from_seq), to.min(lost.to_seq));
            if gone_from > gone_to {
                left.push((from, to));
                continue;
            }
            self.lost = self.lost.saturating_add(gone_to - gone_from + 1);
            if from < gone_from {
                left.push((from, gone_from - 1));
            }
            if gone_to < to {
                left.push((gone_to + 1, to));
            }
        }
        self.missing = left;
    }

    fn handle_start(&mut self, at: i64, seq: u64, on: &PoweredOn) {
        (self.infusing, self.in_bolus) = (false, false);
        (self.since, self.flow) = (None, None);
        let shows = on.own_clock_utc_ms.and_then(|ms| i64::try_from(ms).ok());
        self.clock_shows = shows.filter(|shows| shows.abs_diff(at) > CLOCK_MS.unsigned_abs());
        if seq <= 1 {
            return;
        }
        let after_ms = self
            .last_at
            .map_or(0, |last| at.saturating_sub(last).max(0));
        self.starts
            .retain(|start| at.saturating_sub(start.at) <= STARTS_MS);
        self.starts.push(Start {
            at,
            reason: on.reason,
            after_ms,
        });
    }

    fn handle_counters(&mut self, at: i64, now: &Delivered) {
        let before = self.counter.replace(now.delivered_nl);
        if let Some(before) = before.filter(|before| now.delivered_nl < *before) {
            self.counter_fell.get_or_insert((before, now.delivered_nl));
            self.since = None;
        }
        if !self.infusing || self.in_bolus {
            return;
        }
        let Some((since, then)) = self.since else {
            self.since = Some((at, *now));
            return;
        };
        let delivered = now.delivered_nl.saturating_sub(then.delivered_nl);
        let programmed = now.programmed_nl.saturating_sub(then.programmed_nl);
        let span = at.saturating_sub(since);
        if delivered
            > programmed
                .saturating_add(GROUP_NL)
                .saturating_add(programmed / 20)
        {
            self.flow = Some(Flow::TooMuch {
                programmed,
                delivered,
            });
        } else if span >= FLOW_MS
            && programmed
                > delivered
                    .saturating_add(2 * GROUP_NL)
                    .saturating_add(programmed / 10)
        {
            self.flow = Some(Flow::TooLittle {
                programmed,
                delivered,
            });
        } else if span >= FLOW_ANEW_MS {
            self.flow = None;
        }
        if span >= FLOW_ANEW_MS {
            self.since = Some((at, *now));
        }
    }

    /// What is to be told at `now`, trial time.
    pub fn rows(&self, now: i64) -> Vec<Doubt> {
        let mut rows = Vec::new();
        rows.extend(self.starts_row(now));
        if let Some((before, after)) = self.counter_fell {
            let words = format!(
                "PUMP COUNTER FELL from {} to {} mcL; the old total is kept",
                before / 1_000,
                after / 1_000
            );
            rows.push(("counter_fell", Priority::Medium, words));
        }
        if self.lost > 0 {
            let words = format!(
                "{} EVENTS LOST IN THE PUMP FOR EVER; totals are right",
                self.lost
            );
            rows.push(("events_lost", Priority::Medium, words));
        }
        if let Some(shows) = self.clock_shows {
            let days = shows.div_euclid(CLOCK_MS);
            let words = format!(
                "PUMP CLOCK IS WRONG by {} days; times are the gateway's",
                now.div_euclid(CLOCK_MS).abs_diff(days)
            );
            rows.push(("pump_clock", Priority::Medium, words));
        }
        rows.extend(self.flow.map(flow_row));
        rows
    }

    fn starts_row(&self, now: i64) -> Option<Doubt> {
        let lately = |start: &&Start| now.saturating_sub(start.at) <= STARTS_MS;
        let last = self.starts.iter().rfind(lately)?;
        let count = self.starts.iter().filter(lately).count();
        let (priority, why) = match last.reason {
            _ if count >= STARTS_MANY => (Priority::High, "again and again"),
            BootReason::PowerOn => (Priority::Low, "switched on"),
            BootReason::BrownOut => (Priority::Medium, "supply failed"),
            BootReason::Watchdog => (Priority::Medium, "watchdog"),
            BootReason::Fault => (Priority::Medium, "fault"),
        };
        let words = format!(
            "PUMP RESTARTED ({why}), {count} in 10 min, {} s gap; it infuses only when started",
            last.after_ms / 1_000
        );
        Some(("pump_restarted", priority, words))
    }
}

fn flow_row(flow: Flow) -> Doubt {
    let percent = |delivered: u64, programmed: u64| delivered * 100 / programmed.max(1);
    match flow {
        Flow::TooMuch {
            programmed,
            delivered,
        } => {
            let words = format!(
                "TOO MUCH DELIVERED: {delivered} of {programmed} nL, {} %; assess the patient",
                percent(delivered, programmed)
            );
            ("flow_high", Priority::High, words)
        }
        Flow::TooLittle {
            programmed,
            delivered,
        } => {
            let words = format!(
                "TOO LITTLE DELIVERED: {delivered} of {programmed} nL, {} %",
                percent(delivered, programmed)
            );
            ("flow_low", Priority::Medium, words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::event::{BolusDelivered, BolusRequested, InfusionStarted};

    fn on(reason: BootReason, own_clock_utc_ms: Option<u64>) -> Body {
        PoweredOn {
            reason,
            firmware: [0, 1, 0],
            own_clock_utc_ms,
        }
        .into()
    }

    fn counters(delivered_nl: u64, programmed_nl: u64) -> Body {
        Delivered {
            delivered_nl,
            programmed_nl,
            strokes: 0,
            encoder_counts: 0,
        }
        .into()
    }

    fn names(doubts: &Doubts, now: i64) -> Vec<(&'static str, Priority)> {
        let rows = doubts.rows(now);
        rows.into_iter().map(|(name, p, _)| (name, p)).collect()
    }

    /// Therapy at 80 mcL an hour, counters each minute; what the pump delivers of it. The minute
    /// of the first doubt, and which.
    fn first_doubt(delivers: impl Fn(u64) -> u64) -> Option<(i64, &'static str)> {
        let mut doubts = Doubts::default();
        let started = InfusionStarted {
            purpose: Purpose::Therapy,
            programmed_nl_per_h: 80_000,
        };
        doubts.handle(0, 2, &started.into());
        for minute in 0..600_u64 {
            let programmed = minute * 80_000 / 60;
            // The motor moves in groups.
            let delivered = delivers(programmed) / GROUP_NL * GROUP_NL;
            let at = i64::try_from(minute).unwrap() * MINUTE_MS;
            doubts.handle(at, 3 + minute, &counters(delivered, programmed));
            if let Some((name, ..)) = doubts.rows(at).first() {
                return Some((at / MINUTE_MS, name));
            }
        }
        None
    }

    #[test]
    fn volume_is_held_against_the_program() {
        assert_eq!(first_doubt(|nl| nl), None);
        let (minute, name) = first_doubt(|nl| 3 * nl).unwrap();
        assert!(name == "flow_high" && minute <= 5, "{name} {minute}");
        let (minute, name) = first_doubt(|_| 0).unwrap();
        assert!(name == "flow_low" && minute <= 9, "{name} {minute}");
    }

    #[test]
    fn a_bolus_is_no_excess_and_no_deficit() {
        let mut doubts = Doubts::default();
        let started = InfusionStarted {
            purpose: Purpose::Therapy,
            programmed_nl_per_h: 80_000,
        };
        doubts.handle(0, 2, &started.into());
        doubts.handle(1_000, 3, &counters(0, 0));
        let decision = BolusDecision::Granted {
            requested_nl: 50_000,
        };
        doubts.handle(2_000, 4, &BolusRequested { decision }.into());
        doubts.handle(3_000, 5, &counters(0, 50_000));
        doubts.handle(400_000, 6, &counters(49_000, 50_000));
        let done = BolusDelivered {
            requested_nl: 50_000,
            delivered_nl: 50_000,
            complete: true,
        };
        doubts.handle(401_000, 7, &done.into());
        doubts.handle(402_000, 8, &counters(50_000, 50_000));
        assert_eq!(names(&doubts, 402_000), []);
    }

    #[test]
    fn a_counter_that_falls_is_told_and_stays_told() {
        let mut doubts = Doubts::default();
        doubts.handle(0, 5, &counters(90_000, 90_000));
        assert_eq!(names(&doubts, 0), []);
        doubts.handle(1, 6, &counters(1_000, 1_000));
        doubts.handle(2, 7, &counters(2_000, 2_000));
        assert_eq!(names(&doubts, 9_999), [("counter_fell", Priority::Medium)]);
    }

    #[test]
    fn three_starts_in_ten_minutes_are_urgent_and_the_first_of_a_trial_is_none() {
        let mut doubts = Doubts::default();
        doubts.handle(0, 1, &on(BootReason::PowerOn, None));
        assert_eq!(names(&doubts, 0), []);
        doubts.handle(60_000, 9, &on(BootReason::Watchdog, None));
        let one = [("pump_restarted", Priority::Medium)];
        assert_eq!(names(&doubts, 60_000), one);
        let words = doubts.rows(60_000).remove(0).2;
        assert!(
            words.contains("watchdog") && words.contains("60 s gap"),
            "{words}"
        );
        doubts.handle(120_000, 12, &on(BootReason::Watchdog, None));
        doubts.handle(180_000, 15, &on(BootReason::Watchdog, None));
        let three = [("pump_restarted", Priority::High)];
        assert_eq!(names(&doubts, 180_000), three);
        assert_eq!(names(&doubts, 180_001 + STARTS_MS), []);
    }

    #[test]
    fn a_clock_of_1970_is_told_until_it_is_right() {
        let now = 1_772_434_800_000_i64;
        let mut doubts = Doubts::default();
        doubts.handle(now, 1, &on(BootReason::PowerOn, Some(0)));
        assert_eq!(names(&doubts, now), [("pump_clock", Priority::Medium)]);
        let right = u64::try_from(now).unwrap() + 60_000;
        doubts.handle(now + 1, 1, &on(BootReason::PowerOn, Some(right)));
        assert_eq!(names(&doubts, now), []);
    }

    #[test]
    fn lost_events_count_once() {
        let mut doubts = Doubts::default();
        let lost = |from_seq, to_seq| Body::from(JournalLost { from_seq, to_seq });
        doubts.handle(0, 11, &lost(1, 10));
        doubts.handle(0, 17, &lost(1, 16));
        let words = doubts.rows(0).remove(0).2;
        assert!(words.starts_with("15 EVENTS LOST"), "{words}");
        doubts.handle(0, u64::MAX, &lost(0, u64::MAX));
        assert_eq!(names(&doubts, 0).len(), 1);
    }

    #[test]
    fn what_was_stored_before_the_pump_lost_it_is_not_told_as_lost() {
        let mut doubts = Doubts::default();
        let lost = |from_seq, to_seq| Body::from(JournalLost { from_seq, to_seq });
        for seq in (1..=20).chain(26..=30) {
            doubts.handle(0, seq, &lost(seq, seq));
        }
        doubts.handle(0, 31, &lost(1, 10));
        assert!(doubts.rows(0).is_empty());
        doubts.handle(0, 32, &lost(1, 22));
        doubts.handle(0, 33, &lost(1, 28));
        let words = doubts.rows(0).remove(0).2;
        assert!(words.starts_with("5 EVENTS LOST"), "{words}");
    }
}
