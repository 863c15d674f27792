//! Doses outside the pump, and the four questions that may be asked of the same scores.
//!
//! A rescue dose is an event, not missing data (ICH E9(R1)): each estimand says what is done with
//! the scores in its window `(r, r + 6 h]`. Only an unscheduled dose for the trial's pain opens a
//! window; a bolus from the pump is treatment, not rescue. A replaced score is never better than
//! the observed one.

use crate::entered::{Entered, held};
use crate::load::{self, Tables};
use crate::num::{float, millis};
use crate::pain::{Joining, Valued};
use crate::trial::Span;
use polars::prelude::PolarsResult;

/// A dose outside the pump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dose {
    /// When, as its author gave it.
    pub at_ms: i64,
    /// Identity of the event.
    pub id: String,
    /// The drug's name.
    pub drug: String,
    /// The dose in micrograms.
    pub dose_mcg: i64,
    /// Such as `oral`.
    pub route: String,
    /// It opens a rescue window.
    pub rescue: bool,
}

/// Reads the doses, in order of time; the same entry sent twice counts once.
///
/// # Errors
/// Where a query fails.
pub fn read(tables: &Tables) -> PolarsResult<Vec<Dose>> {
    let Entered { frame, rows } = Entered::of(tables, "rescue")?;
    let (drug, route) = (load::texts(&frame, "drug")?, load::texts(&frame, "route")?);
    let reason = load::texts(&frame, "reason")?;
    let dose_mcg = load::ints(&frame, "dose_mcg")?;
    let scheduled = load::bools(&frame, "scheduled")?;
    let dose = |(row, at_ms, id)| Dose {
        at_ms,
        id,
        drug: held(&drug, row).unwrap_or_default(),
        dose_mcg: held(&dose_mcg, row).unwrap_or(0),
        route: held(&route, row).unwrap_or_default(),
        rescue: held(&reason, row).as_deref() == Some("trial_pain")
            && held(&scheduled, row) != Some(true),
    };
    Ok(rows.into_iter().map(dose).collect())
}

/// The windows that doses open: `(r, r + window]`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(Vec<(i64, i64)>);

impl Windows {
    /// Of the doses that open one.
    pub fn of(doses: &[Dose], window_h: f64) -> Self {
        let length = millis(window_h);
        let opening = doses.iter().filter(|dose| dose.rescue);
        Self(
            opening
                .map(|dose| (dose.at_ms, dose.at_ms + length))
                .collect(),
        )
    }

    /// Whether a score at this time was given under rescue.
    pub fn hold(&self, at_ms: i64) -> bool {
        self.0
            .iter()
            .any(|(from, to)| *from < at_ms && at_ms <= *to)
    }

    /// Windows with no score of the series in them, as their middle.
    fn without_score(&self, series: &[Valued]) -> Vec<i64> {
        self.0
            .iter()
            .filter(|(from, to)| !series.iter().any(|(at, _)| from < at && at <= to))
            .map(|(from, to)| from + (to - from) / 2)
            .collect()
    }
}

/// Composite: rescue is failure. A score in a window counts as the baseline or as observed,
/// whichever is worse. A window without any score counts as one at its middle, where the line
/// through its neighbours counts at all: a dose at night is not forgotten.
pub fn composite(
    series: &[Valued],
    windows: &Windows,
    baseline: f64,
    joining: &Joining<'_>,
) -> Vec<Valued> {
    let mut out: Vec<Valued> = series
        .iter()
        .map(|(at, score)| {
            let worse = if windows.hold(*at) {
                score.max(baseline)
            } else {
                *score
            };
            (*at, worse)
        })
        .collect();
    let segments = joining.segments(series);
    for middle in windows.without_score(series) {
        let around = segments.iter().find(|(a, b)| a.0 < middle && middle < b.0);
        if let Some((a, b)) = around {
            let line = a.1 + (b.1 - a.1) * float(middle - a.0) / float(b.0 - a.0);
            out.push((middle, line.max(baseline)));
        }
    }
    out.sort_by_key(|(at, _)| *at);
    out.dedup_by_key(|(at, _)| *at);
    out
}

/// As if there had been no rescue: a score in a window counts `shift` points more, at most 10.
pub fn no_rescue(series: &[Valued], windows: &Windows, shift: f64) -> Vec<Valued> {
    series
        .iter()
        .map(|(at, score)| {
            let shifted = (score + shift).min(10.0).max(*score);
            (*at, if windows.hold(*at) { shifted } else { *score })
        })
        .collect()
}

/// While infusing: without the scores in spans in which the pump did not deliver.
pub fn while_infusing(series: &[Valued], not_infusing: &[Span]) -> Vec<Valued> {
    series
        .iter()
        .copied()
        .filter(|(at, _)| !not_infusing.iter().any(|span| span.contains(*at)))
        .collect()
}

/// Oral morphine milligram equivalents of one oral dose, by the factors of the CDC guideline of
/// 2022 (`facts/clinical.md` §2.5); none for another drug or route. Not for choosing a dose.
pub fn oral_mme(dose: &Dose) -> Option<f64> {
    const FACTORS: &[(&str, f64)] = &[
        ("codeine", 0.15),
        ("hydrocodone", 1.0),
        ("hydromorphone", 5.0),
        ("methadone", 4.7),
        ("morphine", 1.0),
        ("oxycodone", 1.5),
        ("oxymorphone", 3.0),
        ("tapentadol", 0.4),
        ("tramadol", 0.2),
    ];
    let drug = dose.drug.to_lowercase();
    let (_, factor) = FACTORS.iter().find(|(name, _)| drug == *name)?;
    let oral = matches!(dose.route.to_lowercase().as_str(), "oral" | "po");
    oral.then(|| float(dose.dose_mcg) / 1000.0 * factor)
}

/// A dose for people: `10 mg`, `250 mcg`.
pub fn dose_words(dose_mcg: i64) -> String {
    if dose_mcg >= 1_000 {
        format!("{} mg", crate::num::shown(float(dose_mcg) / 1_000.0, 3))
    } else {
        format!("{} mcg", dose_mcg.max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pain::{hours_where, time_weighted_mean};
    use crate::trial::hours_ms;

    fn day() -> Vec<Valued> {
        [0, 1, 2, 4, 8, 12, 16, 20, 24]
            .map(hours_ms)
            .into_iter()
            .zip([8.0, 6.0, 5.0, 7.0, 3.0, 4.0, 6.0, 2.0, 4.0])
            .collect()
    }

    fn dose(hour: i64, drug: &str, rescue: bool) -> Dose {
        Dose {
            at_ms: hours_ms(hour),
            id: String::new(),
            drug: drug.into(),
            dose_mcg: 5_000,
            route: "oral".into(),
            rescue,
        }
    }

    fn joining(windows: &[Span]) -> Joining<'_> {
        Joining {
            windows,
            sleep: &[],
            longest_h: 6.0,
        }
    }

    #[test]
    fn the_worked_day_has_the_published_estimands() {
        // facts/clinical.md §6.1
        let windows = Windows::of(
            &[dose(4, "morphine", true), dose(16, "morphine", true)],
            6.0,
        );
        let whole = [Span::new(0, hours_ms(24))];
        let joining = joining(&whole);
        let mean = |series: &[Valued]| time_weighted_mean(&joining.segments(series)).unwrap();
        let failed = composite(&day(), &windows, 8.0, &joining);
        let values: Vec<f64> = failed.iter().map(|(_, v)| *v).collect();
        assert_eq!(values, [8.0, 6.0, 5.0, 7.0, 8.0, 4.0, 6.0, 8.0, 4.0]);
        assert!((mean(&failed) - 6.270_833).abs() < 5e-7);
        assert!((100.0 * (1.0 - mean(&failed) / 8.0) - 21.614_583).abs() < 5e-7);
        assert!((mean(&no_rescue(&day(), &windows, 1.5)) - 4.9375).abs() < 1e-12);
        let segments = joining.segments(&day());
        let good = hours_where(&segments, |(at, s)| s <= 4.0 && !windows.hold(at));
        assert!((good / 24.0 - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_scheduled_dose_opens_no_window_and_a_9_does_not_become_the_baseline() {
        assert_eq!(
            Windows::of(&[dose(4, "morphine", false)], 6.0),
            Windows::default()
        );
        let windows = Windows::of(&[dose(0, "morphine", true)], 6.0);
        let whole = [Span::new(0, hours_ms(24))];
        let seen = composite(&[(hours_ms(1), 9.0)], &windows, 8.0, &joining(&whole));
        assert_eq!(seen, [(hours_ms(1), 9.0)]);
        let none = no_rescue(&[(hours_ms(1), 9.5)], &windows, 1.5);
        assert_eq!(none, [(hours_ms(1), 10.0)]);
    }

    #[test]
    fn a_dose_between_two_scores_is_not_forgotten() {
        let windows = Windows::of(&[dose(1, "morphine", true)], 2.0);
        let series = [(0, 2.0), (hours_ms(4), 2.0)];
        let whole = [Span::new(0, hours_ms(24))];
        let seen = composite(&series, &windows, 8.0, &joining(&whole));
        assert_eq!(seen, [(0, 2.0), (hours_ms(2), 8.0), (hours_ms(4), 2.0)]);
    }

    #[test]
    fn equivalents_are_those_of_the_guideline() {
        // facts/clinical.md §6.5: CDC's own example, oxycodone 10 mg twice is 30.
        let ten = Dose {
            dose_mcg: 10_000,
            ..dose(0, "Oxycodone", true)
        };
        assert_eq!(oral_mme(&ten).map(|mme| mme * 2.0), Some(30.0));
        let patch = Dose {
            drug: "fentanyl".into(),
            ..ten.clone()
        };
        assert_eq!(oral_mme(&patch), None);
        let vein = Dose {
            route: "intravenous".into(),
            ..ten
        };
        assert_eq!(oral_mme(&vein), None);
    }
}
