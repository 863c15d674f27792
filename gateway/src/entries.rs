//! What people add: checked, then a fact of the gateway's chain with who and when.

use crate::bedside::BedParts;
use crate::gateway::lock;
use protocol::bedside::{Fact, Observation, Rescue, ScoreEntry, observation_range};
use protocol::text;
use protocol::time::Now;
use protocol::topics::{Entry, EntryCommand};
use std::sync::atomic::Ordering;

/// Why an entry is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// For another bed or trial than this gateway's.
    #[error("this gateway has bed {bed}, trial {trial}")]
    NotHere {
        /// The bed here.
        bed: String,
        /// The trial here.
        trial: String,
    },
    /// A text is empty, too long or holds what may not be shown.
    #[error("{0} is empty, longer than {1} characters, or holds control characters")]
    Text(&'static str, usize),
    /// Not a word of the table of observations.
    #[error("{0:?} is not an observation; docs/record.md lists them")]
    Unknown(String),
    /// The value cannot be.
    #[error("{what} is {value}, it can be {least} to {most} {unit}")]
    Range {
        /// Of what.
        what: String,
        /// The value.
        value: String,
        /// Least.
        least: String,
        /// Most.
        most: String,
        /// Its unit.
        unit: &'static str,
    },
    /// The time lies in the future, or before any trial.
    #[error("the time of the entry is not between a month ago and now")]
    Time,
}

/// A month, milliseconds.
const OLDEST_MS: i64 = 31 * 86_400_000;
/// How far ahead an author's clock may be, milliseconds of trial time at real speed.
const AHEAD_MS: i64 = 120_000;

/// The fact of a command, for the bed and trial of this gateway.
///
/// # Errors
/// Why it is refused: nothing is stored then.
pub fn fact_of(
    command: &EntryCommand,
    bed: &str,
    trial: &str,
    now_utc_ms: i64,
    speed: u32,
) -> Result<Fact, Refused> {
    if command.bed != bed || command.trial != trial {
        return Err(Refused::NotHere {
            bed: bed.into(),
            trial: trial.into(),
        });
    }
    let ahead = AHEAD_MS.saturating_mul(i64::from(speed));
    let (oldest, newest) = (now_utc_ms - OLDEST_MS, now_utc_ms.saturating_add(ahead));
    if !(oldest..=newest).contains(&command.at_utc_ms) {
        return Err(Refused::Time);
    }
    let (by, role) = (
        checked(&command.by, "by", 24)?,
        checked(&command.role, "role", 16)?,
    );
    let entry_id = checked(&command.entry_id, "entry_id", 32)?;
    let at_utc_ms = command.at_utc_ms;
    Ok(match &command.entry {
        Entry::Observation { what, value_milli } => {
            let (unit, least, most) =
                observation_range(what).ok_or_else(|| Refused::Unknown(text::clean(what, 32)))?;
            let in_range = |v: i64| {
                let (lo, hi) = (milli(least), milli(most));
                (lo..=hi).contains(&v)
            };
            if !in_range(*value_milli) {
                return Err(Refused::Range {
                    what: what.clone(),
                    value: thousandths(*value_milli),
                    least: least.to_string(),
                    most: most.to_string(),
                    unit,
                });
            }
            let (what, value_milli) = (what.clone(), *value_milli);
            Observation {
                what,
                value_milli,
                at_utc_ms,
                by,
                role,
                entry_id,
            }
            .into()
        }
        Entry::Rescue {
            drug,
            dose_mcg,
            route,
            reason,
            scheduled,
        } => {
            if !matches!(reason.as_str(), "trial_pain" | "other_pain" | "not_pain") {
                return Err(Refused::Unknown(text::clean(reason, 32)));
            }
            Rescue {
                drug: checked(drug, "drug", 24)?,
                dose_mcg: *dose_mcg,
                route: checked(route, "route", 16)?,
                reason: reason.clone(),
                scheduled: *scheduled,
                at_utc_ms,
                by,
                role,
                entry_id,
            }
            .into()
        }
        Entry::Score {
            score,
            asleep,
            condition,
            scored_by,
        } => {
            if score.is_some_and(|s| s > 10) {
                return Err(Refused::Range {
                    what: "score".into(),
                    value: score.unwrap_or_default().to_string(),
                    least: "0".into(),
                    most: "10".into(),
                    unit: "points",
                });
            }
            ScoreEntry {
                score: *score,
                asleep: *asleep,
                condition: *condition,
                scored_by: checked(scored_by, "scored_by", 12)?,
                prompted: true,
                at_utc_ms,
                by,
                entry_id,
            }
            .into()
        }
    })
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "ranges are small whole numbers"
)]
fn milli(value: f64) -> i64 {
    (value * 1000.0) as i64
}

fn thousandths(milli: i64) -> String {
    format!("{}.{:03}", milli / 1000, milli.rem_euclid(1000))
}

fn checked(value: &str, what: &'static str, most: usize) -> Result<String, Refused> {
    let good = !value.is_empty() && value.chars().count() <= most && value.chars().all(text::shows);
    if good {
        Ok(value.to_owned())
    } else {
        Err(Refused::Text(what, most))
    }
}

/// Stores an entry in the gateway's chain; the same entry again is answered, not added.
///
/// # Errors
/// Why it is refused, for people; nothing is stored then.
pub fn add_entry(
    bed: &BedParts,
    now: Now,
    command: &EntryCommand,
    speed: u32,
) -> Result<String, String> {
    let (name, trial) = (&bed.config.bed, &bed.config.trial);
    let fact = fact_of(command, name, trial, now.utc.as_unix_millis(), speed)
        .map_err(|e| e.to_string())?;
    let mut own = lock(&bed.own);
    if lock(&bed.view).entries.contains(&command.entry_id) {
        return Ok("stored before".into());
    }
    let chain = own
        .as_mut()
        .ok_or("the pump of this trial was not heard yet")?;
    let row = chain
        .add(&bed.store, now.utc, &fact)
        .map_err(|e| e.to_string())?;
    let (source, seq) = (chain.source().to_owned(), chain.seq());
    {
        let mut view = lock(&bed.view);
        view.entries.insert(command.entry_id.clone());
        view.last_entry_at = Some(now.uptime);
        bed.news.store(true, Ordering::Relaxed);
        view.bed.handle_fact(now.utc, row.seq, &fact);
    }
    drop(own);
    bed.note_stored(now.uptime, &source, seq);
    Ok(format!("{}:{}:{}", row.source, row.boot, row.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(entry: Entry) -> EntryCommand {
        EntryCommand {
            entry_id: "e1".into(),
            bed: "07".into(),
            trial: "T-1".into(),
            by: "JM".into(),
            role: "nurse".into(),
            at_utc_ms: 1_000,
            entry,
        }
    }

    #[test]
    fn an_entry_that_cannot_be_is_refused_with_the_reason() {
        let observe = |what: &str, value_milli| {
            let entry = Entry::Observation {
                what: what.into(),
                value_milli,
            };
            fact_of(&command(entry), "07", "T-1", 2_000, 1)
        };
        assert!(observe("resp_rate", 7_000).is_ok());
        assert!(observe("ashworth_left_leg", 3_000).is_ok());
        let words = observe("resp_rate", 700_000).unwrap_err().to_string();
        assert_eq!(words, "resp_rate is 700.000, it can be 0 to 80 breaths/min");
        assert!(matches!(observe("heart_rate", 1), Err(Refused::Unknown(_))));
        let entry = Entry::Observation {
            what: "spo2".into(),
            value_milli: 1,
        };
        let mut other = command(entry);
        assert!(matches!(
            fact_of(&other, "08", "T-1", 2_000, 1),
            Err(Refused::NotHere { .. })
        ));
        assert_eq!(
            fact_of(&other, "07", "T-1", -200_000, 1),
            Err(Refused::Time)
        );
        other.by = "J\u{1b}[31mM".into();
        assert!(matches!(
            fact_of(&other, "07", "T-1", 2_000, 1),
            Err(Refused::Text("by", 24))
        ));
    }
}
