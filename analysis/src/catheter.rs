//! Whether the drug may have left the pump and not reached the patient. Pure.
//!
//! Two ways to suspect the catheter: somebody looked and found a leak, or the pattern of one. The
//! pattern is a relief that was good and ended from one score to the next, for good, while the pump counted
//! every nanolitre and the patient asked for more (`facts/clinical.md` §3.3: sudden pain return
//! with normal flow). A relief that wears off slowly is no such pattern.

use crate::dose::Bolus;
use crate::num::{count, millis};
use crate::pain::Valued;
use crate::protocols::Settings;
use crate::safety::{Observation, of};
use crate::trial::{Span, hours_ms};

/// A suspicion.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspicion {
    /// Somebody looked and found it; else it is the pattern.
    pub found: bool,
    /// Since when, as far as known.
    pub at_ms: i64,
    /// A sentence for a physician.
    pub text: String,
    /// The events that show it.
    pub events: Vec<String>,
}

/// What the rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// The trial.
    pub trial: Span,
    /// Scores at rest in it, run-ins included, in order.
    pub scores: &'a [Valued],
    /// Mean of the baseline.
    pub baseline: f64,
    /// Presses of the bolus key.
    pub boluses: &'a [Bolus],
    /// Spans in which the pump did not infuse.
    pub interruptions: &'a [Span],
    /// Delivered in percent of programmed.
    pub delivered_percent: Option<f64>,
}

/// A leak that was found, else the pattern of one.
pub fn suspicion(
    course: &Course<'_>,
    observations: &[Observation],
    settings: &Settings,
) -> Option<Suspicion> {
    let found = of(observations, "catheter_check").find(|o| o.value >= 2.0);
    if let Some(check) = found {
        return Some(Suspicion {
            found: true,
            at_ms: check.at_ms,
            text: "The catheter was checked and found leaking or dislodged: what the pump \
                   delivered did not all reach the patient. What pain did after that says nothing \
                   about the drug."
                .into(),
            events: vec![check.id.clone()],
        });
    }
    let pattern = pattern(course, settings)?;
    let doubt = of(observations, "catheter_check")
        .find(|o| o.value >= 1.0 && o.at_ms >= course.trial.from_ms);
    Some(Suspicion {
        events: doubt.map(|o| o.id.clone()).into_iter().collect(),
        ..pattern
    })
}

fn pattern(course: &Course<'_>, settings: &Settings) -> Option<Suspicion> {
    if course.baseline < settings.least_baseline_mean
        || course
            .delivered_percent
            .is_none_or(|percent| percent < settings.delivery_on_target_percent)
    {
        return None;
    }
    let had = settings.catheter_relief_before_percent / 100.0;
    let left = settings.catheter_relief_after_percent / 100.0;
    let n = usize::try_from(crate::num::nearest(settings.catheter_scores)).unwrap_or(1);
    let lasting = millis(settings.catheter_lasting_h);
    let day = hours_ms(24);
    (n..course.scores.len()).find_map(|place| {
        let (past, future) = course.scores.split_at_checked(place)?;
        let before = past.get(place - n..)?;
        let after = future.get(..n)?;
        let at_ms = future.first()?.0;
        let from_ms = before.first()?.0;
        let stopped = course
            .interruptions
            .iter()
            .any(|i| i.shared(Span::new(from_ms, at_ms)).is_some());
        let lost = relief_share(course, before) >= had
            && relief_share(course, after) <= left
            && relief_share(course, future) <= left
            && course.trial.to_ms - at_ms >= lasting;
        // The same hours of the clock, so that a night does not look like content.
        let asked = demand_ratio(
            course,
            Span::new(at_ms - day, at_ms),
            Span::new(at_ms, at_ms + day),
        )? >= settings.catheter_demand_ratio;
        (lost && asked && !stopped).then(|| Suspicion {
            found: false,
            at_ms,
            text: format!(
                "The catheter is suspect: relief of {:.0} % was lost from one score to the next \
                 and did not return, while the pump delivered what was programmed and the patient \
                 asked for more boluses. That is the course of a leak, a kink or a dislodged tip, \
                 and not of a drug that does not help. Check the catheter.",
                100.0 * relief_share(course, before)
            ),
            events: Vec::new(),
        })
    })
}

/// Relief of some scores as a share of the baseline, by the plain mean.
fn relief_share(course: &Course<'_>, scores: &[Valued]) -> f64 {
    let sum: f64 = scores.iter().map(|(_, score)| score).sum();
    1.0 - sum / count(scores.len()) / course.baseline
}

/// Presses after against presses before, one more on each side so that none before is no infinity;
/// none where the key was never pressed.
fn demand_ratio(course: &Course<'_>, before: Span, after: Span) -> Option<f64> {
    let presses = |span: Span| {
        count(
            course
                .boluses
                .iter()
                .filter(|b| span.contains(b.at_ms))
                .count(),
        )
    };
    (!course.boluses.is_empty()).then(|| (presses(after) + 1.0) / (presses(before) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::Protocol;

    fn two_hourly(pain: impl Fn(i64) -> f64) -> Vec<Valued> {
        (0..36).map(|i| (hours_ms(2 * i), pain(2 * i))).collect()
    }

    fn suspected(scores: &[Valued], presses_from: i64, delivered_percent: f64) -> bool {
        let boluses: Vec<Bolus> = (presses_from..72)
            .step_by(2)
            .map(|h| Bolus {
                at_ms: hours_ms(h) + 1,
                granted: true,
            })
            .collect();
        let course = Course {
            trial: Span::new(0, hours_ms(72)),
            scores,
            baseline: 8.0,
            boluses: &boluses,
            interruptions: &[],
            delivered_percent: Some(delivered_percent),
        };
        let settings = Protocol::named("pain-50").unwrap().settings;
        suspicion(&course, &[], &settings).is_some()
    }

    #[test]
    fn only_a_sudden_lasting_loss_under_full_delivery_and_demand_is_a_suspicion() {
        let leak = two_hourly(|h| if h < 30 { 3.0 } else { 8.0 });
        assert!(suspected(&leak, 30, 100.0));
        assert!(!suspected(&leak, 30, 80.0), "the pump did not deliver");
        assert!(!suspected(&leak, 0, 100.0), "no more demand than before");
        let flare = two_hourly(|h| if (30..44).contains(&h) { 8.0 } else { 3.0 });
        assert!(!suspected(&flare, 30, 100.0), "it returned");
        #[expect(
            clippy::as_conversions,
            clippy::cast_precision_loss,
            reason = "small numbers in a test"
        )]
        let slow = two_hourly(|h| 3.0 + 5.0 * (h as f64) / 70.0);
        assert!(!suspected(&slow, 30, 100.0), "it wore off slowly");
        assert!(
            !suspected(&two_hourly(|_| 8.0), 0, 100.0),
            "there was no relief"
        );
    }

    #[test]
    fn a_leak_that_was_found_needs_no_pattern() {
        let check = Observation {
            at_ms: 5,
            id: "gw:1:9".into(),
            what: "catheter_check".into(),
            value: 2.0,
        };
        let course = Course {
            trial: Span::new(0, hours_ms(72)),
            scores: &[],
            baseline: 8.0,
            boluses: &[],
            interruptions: &[],
            delivered_percent: None,
        };
        let settings = Protocol::named("pain-50").unwrap().settings;
        let seen = suspicion(&course, &[check], &settings).unwrap();
        assert!(seen.found && seen.events == ["gw:1:9"] && seen.text.contains("catheter"));
    }
}
