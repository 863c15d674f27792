//! What payers ask of a trial (`facts/clinical.md` §1.5), each line met, not met or no data. Pure.
//!
//! "50 % on the time-weighted mean" and "over 50 % for 8 hours" are different tests; each stands
//! under the payer that names it. Rescued time counts as failure here too.

use crate::decide::Verdict;
use crate::measure::Measures;
use crate::protocols::Settings;
use crate::safety;

/// One payer's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    /// Its name and text.
    pub name: &'static str,
    /// What it asks.
    pub criteria: Vec<Criterion>,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criterion {
    /// In words.
    pub text: String,
    /// Met, not met, or no data.
    pub met: Option<bool>,
}

fn line(text: &str, met: Option<bool>) -> Criterion {
    Criterion {
        text: text.into(),
        met,
    }
}

/// The lists, filled in as far as the record knows.
pub fn payers(m: &Measures, verdict: Verdict, settings: &Settings) -> Vec<Payer> {
    let assessed = match verdict {
        Verdict::Supports | Verdict::DoesNotSupport | Verdict::Inconclusive => true,
        Verdict::NotAssessable | Verdict::StoppedForSafety => false,
    };
    let percent = m.estimands.composite.percent.filter(|_| assessed);
    let catheter = match m.header.route.as_str() {
        "intrathecal" | "epidural" => m.phases.as_ref().map(|_| true),
        _ => None,
    };
    let relief = match verdict {
        Verdict::Supports => Some(true),
        Verdict::DoesNotSupport | Verdict::StoppedForSafety => Some(false),
        Verdict::Inconclusive | Verdict::NotAssessable => None,
    };
    let in_trial = |what: &str| {
        m.phases.as_ref().is_some_and(|phases| {
            safety::of(&m.observations, what).any(|o| o.at_ms >= phases.trial.from_ms)
        })
    };
    let side_effects = safety::GRADED.iter().any(|what| in_trial(what)) && in_trial("function");
    let sustained = m
        .estimands
        .composite_run_h
        .filter(|_| assessed)
        .map(|hours| hours >= settings.payer_sustained_h);
    vec![
        Payer {
            name: "Medicare NCD 280.14 (pain)",
            criteria: vec![
                line("Life expectancy of at least 3 months", None),
                line("Unresponsive to less invasive care", None),
                line(
                    "Trial with a temporary intrathecal or epidural catheter",
                    catheter,
                ),
                line(
                    "Acceptable pain relief (the text names no percentage)",
                    relief,
                ),
                line(
                    "Degree of side effects, activities of daily living included, is on record",
                    side_effects.then_some(true),
                ),
                line("The patient accepts the implant", m.acceptance.0),
            ],
        },
        Payer {
            name: "Commercial (Blue Cross type)",
            criteria: vec![
                line(
                    "Temporary trial by the route of the planned treatment",
                    catheter,
                ),
                line("Pain reduced by more than 50 %", percent.map(|p| p > 50.0)),
            ],
        },
        Payer {
            name: "eviCore CMM-210",
            criteria: vec![
                line("Pain reduced by at least 50 %", percent.map(|p| p >= 50.0)),
                line(
                    &format!(
                        "Relief of 50 % sustained for {} hours",
                        settings.payer_sustained_h
                    ),
                    sustained,
                ),
                line("Function improved", function_improved(m)),
                line("Systemic opioids cut by 50 % before the trial", None),
            ],
        },
    ]
}

/// Mean of function under the drug above that of the baseline; none without both.
fn function_improved(m: &Measures) -> Option<bool> {
    let phases = m.phases.as_ref()?;
    let mean = |inside: &dyn Fn(i64) -> bool| {
        let values: Vec<f64> = safety::of(&m.observations, "function")
            .filter(|o| inside(o.at_ms))
            .map(|o| o.value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / crate::num::count(values.len()))
    };
    let before = mean(&|at| phases.baseline.contains(at))?;
    let under = mean(&|at| phases.trial.contains(at))?;
    Some(under > before)
}
