//! The nurse's readings: which are due when, and what is written down.
//!
//! After the start of an infusion and after each increase hourly for 12 h, then every 2 h to 24 h,
//! then every 4 h (`facts/clinical.md` §3.1, after ASA 2016). Before the infusion every 4 h. Once a
//! day, in the morning: function, oral opioids, catheter, site.

use super::{NurseEntry, Seen};
use crate::chance::Chance;
use protocol::event::Condition;
use protocol::topics::Entry;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// The usual oral regimen, morphine milligram equivalents a day.
const REGIMEN_MME: u64 = 60;
/// Of one rescue dose: 10 mg oxycodone, factor 1.5 (CDC 2022, `facts/clinical.md` §2.5).
const RESCUE_MME: u64 = 15;

/// What is due, and the numbers of the entries.
#[derive(Clone, Debug)]
pub struct Rounds {
    prefix: String,
    written: u64,
    next_ms: u64,
    increased_ms: Option<u64>,
    daily_ms: u64,
    legs_ms: u64,
    rescues_ms: Vec<u64>,
}

/// Time between two readings, so long after the last start or increase.
pub fn interval_ms(since_increase_ms: Option<u64>) -> u64 {
    match since_increase_ms {
        Some(since) if since < 12 * HOUR_MS => HOUR_MS,
        Some(since) if since < 24 * HOUR_MS => 2 * HOUR_MS,
        Some(_) | None => 4 * HOUR_MS,
    }
}

impl Rounds {
    /// From the origin of the trial; `prefix` begins each entry's id.
    pub fn new(prefix: String, ms_of_day: u64) -> Self {
        Self {
            prefix,
            written: 0,
            next_ms: 10 * MINUTE_MS,
            increased_ms: None,
            daily_ms: next_at_hour(0, ms_of_day, 9),
            legs_ms: 0,
            rescues_ms: Vec::new(),
        }
    }

    /// Takes over at this time; ids go on from it, so that none is used twice.
    pub fn go_on(&mut self, now_ms: u64) {
        self.written = now_ms / 1_000;
        self.next_ms = now_ms + HOUR_MS;
        self.daily_ms = self.daily_ms.max(now_ms + HOUR_MS);
    }

    /// An infusion was started or increased: the schedule begins again.
    pub fn note_increase(&mut self, now_ms: u64) {
        self.increased_ms = Some(now_ms);
        self.next_ms = self.next_ms.min(now_ms + HOUR_MS);
    }

    /// One entry by the nurse on duty.
    pub fn entry(&mut self, now_ms: u64, hour: u64, entry: Entry) -> NurseEntry {
        self.written += 1;
        NurseEntry {
            entry_id: format!("{}-{:05}", self.prefix, self.written),
            at_trial_ms: now_ms,
            entry,
            by: on_duty(hour).into(),
            role: "nurse".into(),
        }
    }

    /// The rescue dose that was just given, as an entry.
    pub fn rescue(&mut self, now_ms: u64, hour: u64, dose_mcg: u64) -> NurseEntry {
        self.rescues_ms.push(now_ms);
        let entry = Entry::Rescue {
            drug: "oxycodone".into(),
            dose_mcg,
            route: "oral".into(),
            reason: "trial_pain".into(),
            scheduled: false,
        };
        self.entry(now_ms, hour, entry)
    }

    /// One reading.
    pub fn reading(&mut self, seen: &Seen, what: &str, value: u64) -> NurseEntry {
        let value_milli = i64::try_from(value.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let entry = Entry::Observation {
            what: what.into(),
            value_milli,
        };
        self.entry(seen.now_ms, seen.hour, entry)
    }

    /// What is due this minute; empty most of the time.
    pub fn minute(&mut self, chance: &mut Chance, seen: &Seen) -> Vec<NurseEntry> {
        let mut out = Vec::new();
        if seen.now_ms >= self.next_ms {
            self.vital_signs(seen, &mut out);
            let since = self.increased_ms.map(|at| seen.now_ms.saturating_sub(at));
            let late = chance.whole_between(0, 6) * MINUTE_MS;
            self.next_ms = seen.now_ms + interval_ms(since) - 3 * MINUTE_MS + late;
        }
        if seen.now_ms >= self.daily_ms && !seen.asleep {
            self.once_a_day(seen, &mut out);
            self.daily_ms = next_at_hour(seen.now_ms, seen.ms_of_day, 9);
        }
        out
    }

    /// The vital signs, and what goes with them.
    pub fn vital_signs(&mut self, seen: &Seen, out: &mut Vec<NurseEntry>) {
        let vitals = seen.vitals;
        for (what, value) in [
            ("resp_rate", u64::from(vitals.resp_rate)),
            ("spo2", u64::from(vitals.spo2)),
            ("sedation_poss", u64::from(vitals.sedation_poss)),
        ] {
            out.push(self.reading(seen, what, value));
        }
        if seen.asleep {
            out.push(self.reading(seen, "asleep", 1));
            let entry = Entry::Score {
                score: None,
                asleep: true,
                condition: Condition::Rest,
                scored_by: "nurse".into(),
            };
            out.push(self.entry(seen.now_ms, seen.hour, entry));
            return;
        }
        if seen.now_ms >= self.legs_ms {
            self.legs_ms = seen.now_ms + 4 * HOUR_MS - 10 * MINUTE_MS;
            for (what, value) in [
                ("bp_systolic", u64::from(vitals.bp_systolic)),
                ("nausea", u64::from(vitals.nausea)),
                ("pruritus", u64::from(vitals.pruritus)),
                ("bromage_left", 0),
                ("bromage_right", 0),
            ] {
                out.push(self.reading(seen, what, value));
            }
        }
    }

    fn once_a_day(&mut self, seen: &Seen, out: &mut Vec<NurseEntry>) {
        let yesterday = seen.now_ms.saturating_sub(24 * HOUR_MS);
        let doses = self
            .rescues_ms
            .iter()
            .filter(|at| **at >= yesterday)
            .count();
        let doses = u64::try_from(doses).unwrap_or(0);
        for (what, value) in [
            ("function", u64::from(seen.vitals.function)),
            ("oral_mme", REGIMEN_MME + RESCUE_MME * doses),
            ("catheter_check", u64::from(seen.catheter_finding)),
            ("site", 0),
        ] {
            out.push(self.reading(seen, what, value));
        }
    }
}

/// Three shifts.
fn on_duty(hour: u64) -> &'static str {
    match hour {
        6..14 => "nurse-early",
        14..22 => "nurse-late",
        _ => "nurse-night",
    }
}

/// The next time that the local clock shows this hour, at least a minute away.
pub fn next_at_hour(now_ms: u64, ms_of_day: u64, hour: u64) -> u64 {
    let day = 24 * HOUR_MS;
    let wait = (hour * HOUR_MS + day - ms_of_day % day) % day;
    now_ms + if wait < MINUTE_MS { wait + day } else { wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_hourly_then_two_hourly_then_four_hourly() {
        let cases = [
            (None, 4),
            (Some(0), 1),
            (Some(11), 1),
            (Some(12), 2),
            (Some(24), 4),
        ];
        for (since, wanted) in cases {
            let since = since.map(|h| h * HOUR_MS);
            assert_eq!(interval_ms(since), wanted * HOUR_MS, "{since:?}");
        }
    }

    #[test]
    fn nine_in_the_morning_is_found_from_any_hour() {
        for now_hour in 0..24 {
            let next = next_at_hour(1_000, now_hour * HOUR_MS, 9);
            let wanted = if now_hour < 9 {
                9 - now_hour
            } else {
                33 - now_hour
            };
            assert_eq!(next, 1_000 + wanted * HOUR_MS, "from {now_hour}");
        }
    }
}
