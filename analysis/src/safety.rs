//! Signs of harm: what nurses and monitors noted, and when a sign calls for a stop.
//!
//! [`read`] takes the observations out of the tables; the rules are pure. A safety stop overrides
//! every efficacy verdict. We display and record; nothing here commands a pump.

use crate::entered::{Entered, held};
use crate::load::{self, Tables};
use crate::num::{float, millis};
use crate::protocols::Settings;
use polars::prelude::PolarsResult;

/// Something that a person saw or measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When, as its author gave it.
    pub at_ms: i64,
    /// Identity of the event.
    pub id: String,
    /// A word of `docs/record.md`.
    pub what: String,
    /// In the unit of that word.
    pub value: f64,
}

/// A sign that calls for a stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Sign {
    /// When.
    pub at_ms: i64,
    /// A word for it.
    pub code: &'static str,
    /// A sentence for a physician.
    pub text: String,
    /// The events that show it.
    pub events: Vec<String>,
}

/// Reads the observations, in order of time; the same entry sent twice counts once.
///
/// # Errors
/// Where a query fails.
pub fn read(tables: &Tables) -> PolarsResult<Vec<Observation>> {
    let Entered { frame, rows } = Entered::of(tables, "observation")?;
    let what = load::texts(&frame, "what")?;
    let value = load::ints(&frame, "value_milli")?;
    let observation = |(row, at_ms, id)| Observation {
        at_ms,
        id,
        what: held(&what, row).unwrap_or_default(),
        value: float(held(&value, row).unwrap_or(0)) / 1000.0,
    };
    Ok(rows.into_iter().map(observation).collect())
}

/// The observations of one word, in order.
pub fn of<'a>(
    observations: &'a [Observation],
    what: &'a str,
) -> impl DoubleEndedIterator<Item = &'a Observation> {
    observations.iter().filter(move |o| o.what == what)
}

/// The signs that call for a stop, in order of time: those of `facts/clinical.md` §3.2.
pub fn signs(observations: &[Observation], settings: &Settings) -> Vec<Sign> {
    let mut out = Vec::new();
    let pair = |o: &Observation, what: &str, low: f64| {
        let within = millis(settings.pairing_min / 60.0);
        of(observations, what)
            .find(|other| (other.at_ms - o.at_ms).abs() <= within && other.value < low)
            .cloned()
    };
    for o in observations {
        let sign = |code, text, events| Sign {
            at_ms: o.at_ms,
            code,
            text,
            events,
        };
        let alone = vec![o.id.clone()];
        match o.what.as_str() {
            "sedation_poss" if o.value >= settings.poss_alone => out.push(sign(
                "sedation",
                format!(
                    "Sedation {} on the POSS scale: somnolent, minimal or no response.",
                    o.value
                ),
                alone,
            )),
            "sedation_poss" if o.value >= settings.poss_with_resp_rate => {
                if let Some(rate) = pair(o, "resp_rate", settings.resp_rate_with_sign) {
                    out.push(sign(
                        "sedation_and_resp_rate",
                        format!(
                            "Sedation {} on the POSS scale with {} breaths/min.",
                            o.value, rate.value
                        ),
                        vec![o.id.clone(), rate.id],
                    ));
                }
            }
            "resp_rate" if o.value < settings.resp_rate_alone => out.push(sign(
                "resp_rate",
                format!("Respiratory rate {} breaths/min.", o.value),
                alone,
            )),
            "spo2" if o.value < settings.spo2_with_resp_rate => {
                if let Some(rate) = pair(o, "resp_rate", settings.resp_rate_with_sign) {
                    out.push(sign(
                        "resp_rate_and_spo2",
                        format!(
                            "Oxygen saturation {} % with {} breaths/min.",
                            o.value, rate.value
                        ),
                        vec![o.id.clone(), rate.id],
                    ));
                }
            }
            "deficit" if o.value >= 1.0 => {
                out.push(sign("deficit", "A new neurological deficit.".into(), alone));
            }
            _ => {}
        }
    }
    for leg in ["bromage_left", "bromage_right"] {
        out.extend(lasting_block(observations, leg, settings));
    }
    out.sort_by(|a, b| (a.at_ms, a.code).cmp(&(b.at_ms, b.code)));
    out
}

/// A dense motor block that did not recover in the time set.
fn lasting_block(observations: &[Observation], leg: &str, settings: &Settings) -> Option<Sign> {
    let mut since: Option<&Observation> = None;
    for o in of(observations, leg) {
        if o.value < settings.bromage_dense {
            since = None;
            continue;
        }
        let first = *since.get_or_insert(o);
        if o.at_ms - first.at_ms >= millis(settings.bromage_lasting_h) {
            return Some(Sign {
                at_ms: o.at_ms,
                code: "motor_block",
                text: format!(
                    "Dense motor block of the {} leg without recovery for {} h.",
                    leg.trim_start_matches("bromage_"),
                    settings.bromage_lasting_h
                ),
                events: vec![first.id.clone(), o.id.clone()],
            });
        }
    }
    None
}

/// Side effects: words that are graded 0 to 3.
pub const GRADED: &[&str] = &["nausea", "pruritus", "retention", "headache", "site"];

/// Observations of a graded side effect at or above a grade.
pub fn graded_at_least(observations: &[Observation], grade: f64) -> Vec<&Observation> {
    observations
        .iter()
        .filter(|o| GRADED.contains(&o.what.as_str()) && o.value >= grade)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::Protocol;
    use crate::trial::hours_ms;

    fn noted(minute: i64, what: &str, value: f64) -> Observation {
        Observation {
            at_ms: minute * 60_000,
            id: format!("n:1:{minute}"),
            what: what.into(),
            value,
        }
    }

    #[test]
    fn signs_are_those_of_the_rules_and_no_others() {
        let settings = Protocol::named("pain-50").unwrap().settings;
        let cases: &[(&[Observation], &[&str])] = &[
            (&[noted(0, "sedation_poss", 3.0)], &[]),
            (&[noted(0, "resp_rate", 9.0)], &[]),
            (
                &[noted(0, "sedation_poss", 3.0), noted(30, "resp_rate", 9.0)],
                &["sedation_and_resp_rate"],
            ),
            (
                &[noted(0, "sedation_poss", 3.0), noted(300, "resp_rate", 9.0)],
                &[],
            ),
            (
                &[noted(0, "sedation_poss", 2.0), noted(5, "resp_rate", 9.0)],
                &[],
            ),
            (&[noted(0, "sedation_poss", 4.0)], &["sedation"]),
            (&[noted(0, "resp_rate", 7.0)], &["resp_rate"]),
            (&[noted(0, "spo2", 88.0)], &[]),
            (
                &[noted(0, "spo2", 88.0), noted(1, "resp_rate", 9.0)],
                &["resp_rate_and_spo2"],
            ),
            (&[noted(0, "deficit", 1.0)], &["deficit"]),
            (&[noted(0, "deficit", 0.0)], &[]),
            (
                &[
                    noted(0, "bromage_left", 3.0),
                    noted(240, "bromage_left", 3.0),
                ],
                &["motor_block"],
            ),
            (
                &[
                    noted(0, "bromage_left", 3.0),
                    noted(120, "bromage_left", 1.0),
                    noted(240, "bromage_left", 3.0),
                ],
                &[],
            ),
        ];
        for (observations, wanted) in cases {
            let seen: Vec<&str> = signs(observations, &settings)
                .iter()
                .map(|s| s.code)
                .collect();
            assert_eq!(seen, *wanted, "{observations:?}");
        }
        assert_eq!(hours_ms(4), 240 * 60_000);
    }
}
