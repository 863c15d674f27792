//! The verdict. Pure: measures in, one of five words and its reasons out.
//!
//! Gates first, in this order: safety, evidence, delivery, catheter. A trial that does not pass is
//! not judged on efficacy at all: a drug that did not arrive cannot fail. Then the two
//! probabilities of the composite estimand. The rule is `facts/clinical.md` §2.6.

use crate::input::Origin;
use crate::measure::{Measures, ModelSays};
use crate::num::{count, shown};
use crate::protocols::Settings;
use crate::safety::graded_at_least;
use crate::trial::{Phases, What};
use record::verify::Evidence;
use std::fmt;

mod notes;

/// The five words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The trial shows the relief.
    Supports,
    /// It shows that the relief is not there.
    DoesNotSupport,
    /// Enough data and no clear answer.
    Inconclusive,
    /// Too little, altered, or the drug did not arrive.
    NotAssessable,
    /// It was stopped for safety, or should have been.
    StoppedForSafety,
}

impl Verdict {
    /// The word in `verdict.json` and on the last line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Supports => "supports",
            Self::DoesNotSupport => "does_not_support",
            Self::Inconclusive => "inconclusive",
            Self::NotAssessable => "not_assessable",
            Self::StoppedForSafety => "stopped_for_safety",
        }
    }

    /// For a heading.
    pub fn words(self) -> &'static str {
        match self {
            Self::Supports => "Supports the implant",
            Self::DoesNotSupport => "Does not support the implant",
            Self::Inconclusive => "Inconclusive",
            Self::NotAssessable => "Not assessable",
            Self::StoppedForSafety => "Stopped for safety",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for a physician.
    pub text: String,
    /// Identities of the events that show it.
    pub events: Vec<String>,
}

/// The verdict and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// One of five.
    pub verdict: Verdict,
    /// What decided, the weightiest first; never empty.
    pub reasons: Vec<Reason>,
    /// What a reader must know besides.
    pub notes: Vec<Reason>,
}

fn reason(code: &'static str, text: impl Into<String>, events: Vec<String>) -> Reason {
    Reason {
        code,
        text: text.into(),
        events,
    }
}

/// What the two probabilities say.
pub fn efficacy(p_floor: f64, p_line: f64, settings: &Settings) -> Verdict {
    if p_line >= settings.supports_probability_line
        && p_floor >= settings.supports_probability_floor
    {
        Verdict::Supports
    } else if p_line <= settings.rejects_probability_line {
        Verdict::DoesNotSupport
    } else {
        Verdict::Inconclusive
    }
}

/// Decides.
pub fn decide(m: &Measures, settings: &Settings) -> Decision {
    let notes = notes::notes(m, settings);
    let not_assessable = |reasons| Decision {
        verdict: Verdict::NotAssessable,
        reasons,
        notes: notes.clone(),
    };
    // An altered record proves nothing, not even that a safety stop happened as it says.
    if m.proof.evidence == Evidence::Altered {
        return not_assessable(vec![altered(m)]);
    }
    let safety = safety(m);
    if !safety.is_empty() {
        return Decision {
            verdict: Verdict::StoppedForSafety,
            reasons: safety,
            notes,
        };
    }
    let Some(phases) = &m.phases else {
        return not_assessable(vec![reason(
            "no_trial",
            "No drug was infused for the patient: there is no trial to assess.",
            Vec::new(),
        )]);
    };
    // Each gate says all that is wrong, so that one reading is enough to plan the repeat.
    let mut gates = insufficient(m, phases, settings);
    gates.extend(not_delivered(m, phases, settings));
    if let Some(suspect) = &m.catheter {
        let code = if suspect.found {
            "catheter_leak"
        } else {
            "catheter_suspect"
        };
        gates.insert(
            0,
            reason(code, suspect.text.clone(), suspect.events.clone()),
        );
    }
    if !gates.is_empty() {
        if !gates.iter().any(|gate| gate.code == "delivery_interrupted") {
            gates.extend(interruption(m, settings));
        }
        return not_assessable(gates);
    }
    let Some(model) = &m.estimands.composite.model else {
        return not_assessable(vec![reason(
            "too_few_scores",
            "There are too few scores at rest to say how sure any relief is.",
            Vec::new(),
        )]);
    };
    let answer = efficacy(model.probability_floor, model.probability_line, settings);
    let mut reasons = vec![by_efficacy(m, model, answer, settings)];
    let stopped = interruption(m, settings);
    let unbearable = unbearable(m, settings);
    let verdict = match (answer, stopped, unbearable) {
        // The relief is missing, but so was the drug for a time.
        (Verdict::DoesNotSupport, Some(stop), _) => {
            reasons = vec![stop];
            Verdict::NotAssessable
        }
        (Verdict::Supports, _, Some(effects)) => {
            reasons.insert(0, effects);
            Verdict::Inconclusive
        }
        (answer, stop, effects) => {
            reasons.extend(stop);
            reasons.extend(effects);
            answer
        }
    };
    Decision {
        verdict,
        reasons,
        notes,
    }
}

fn altered(m: &Measures) -> Reason {
    let first = m
        .proof
        .wrong
        .first()
        .map_or("its proof does not hold", String::as_str);
    reason(
        "record_altered",
        format!("The record is not what the pump stored: {first}. Nothing in it can be relied on."),
        Vec::new(),
    )
}

fn safety(m: &Measures) -> Vec<Reason> {
    let mut out = Vec::new();
    // The pump and the gateway may both say so.
    let closed: Vec<String> = m
        .delivery
        .acts
        .iter()
        .filter(|act| matches!(&act.what, What::Closed { reason } if reason == "safety"))
        .map(|act| act.id.clone())
        .collect();
    if !closed.is_empty() {
        out.push(reason(
            "closed_for_safety",
            "The trial was closed for safety.",
            closed,
        ));
    }
    let mut codes: Vec<&str> = Vec::new();
    for sign in &m.signs {
        if codes.contains(&sign.code) {
            continue;
        }
        codes.push(sign.code);
        let more = m.signs.iter().filter(|s| s.code == sign.code).count() - 1;
        let again = match more {
            0 => String::new(),
            1 => " Once more after that.".into(),
            more => format!(" {more} times more after that."),
        };
        out.push(reason(
            sign.code,
            format!("{} This calls for a stop.{again}", sign.text),
            sign.events.clone(),
        ));
    }
    out
}

fn insufficient(m: &Measures, phases: &Phases, settings: &Settings) -> Vec<Reason> {
    let mut out = Vec::new();
    let mut short = |code, text: String| out.push(reason(code, text, Vec::new()));
    let rest = &m.rest.relief;
    let shortened = |hours: f64| hours * (1.0 - settings.span_tolerance_percent / 100.0);
    let baseline_h = phases.baseline.hours();
    if baseline_h < shortened(settings.least_baseline_h) {
        short(
            "baseline_too_short",
            format!(
                "The baseline lasted {} h; {} h are needed.",
                shown(baseline_h, 1),
                settings.least_baseline_h
            ),
        );
    }
    if count(rest.n_baseline) < settings.least_baseline_scores || rest.baseline_mean.is_none() {
        short(
            "baseline_too_few_scores",
            format!(
                "{} scores at rest before the drug; {} are needed.",
                rest.n_baseline, settings.least_baseline_scores
            ),
        );
    }
    let evaluated_h = phases.evaluated_h();
    if evaluated_h < shortened(settings.least_trial_h) {
        short(
            "trial_too_short",
            format!(
                "{} h of the trial lie outside run-ins of {} h; {} h are needed.",
                shown(evaluated_h, 1),
                phases.run_in_h,
                settings.least_trial_h
            ),
        );
    }
    if rest.trial_mean.is_none() {
        short(
            "trial_too_few_scores",
            format!(
                "{} scores at rest under the drug outside run-ins: no mean can be taken.",
                rest.n_trial
            ),
        );
    }
    let c = &m.completeness;
    if c.asked > 0 && 100.0 * count(c.answered) / count(c.asked) < settings.least_answered_percent {
        short(
            "too_few_answers",
            format!(
                "{} of {} scores asked for were answered; {} % are needed.",
                c.answered, c.asked, settings.least_answered_percent
            ),
        );
    }
    let phases = [
        (
            "baseline",
            c.gap_percent.0,
            settings.most_gap_baseline_percent,
        ),
        (
            "evaluated trial",
            c.gap_percent.1,
            settings.most_gap_trial_percent,
        ),
    ];
    for (phase, percent, most) in phases {
        if percent > most {
            short(
                "gaps_too_long",
                format!(
                    "{percent:.0} % of the awake time of the {phase} lies in gaps over {} h without a \
                     score; at most {most} % may.",
                    settings.longest_segment_h
                ),
            );
        }
    }
    if let Some(mean) = rest
        .baseline_mean
        .filter(|mean| *mean < settings.least_baseline_mean)
    {
        short(
            "baseline_too_low",
            format!(
                "The baseline mean is {mean:.1}; below {} a percentage of it says nothing.",
                settings.least_baseline_mean
            ),
        );
    }
    out
}

fn stop_events(m: &Measures) -> Vec<String> {
    let in_trial = |at: i64| m.phases.as_ref().is_some_and(|p| p.trial.contains(at));
    m.delivery
        .acts
        .iter()
        .filter(|act| in_trial(act.at_ms) && matches!(act.what, What::Stopped { .. }))
        .map(|act| act.id.clone())
        .collect()
}

fn not_delivered(m: &Measures, phases: &Phases, settings: &Settings) -> Vec<Reason> {
    let mut out = Vec::new();
    let percent = m.delivery.percent;
    if let Some(percent) = percent.filter(|p| *p < settings.least_delivered_percent) {
        out.push(reason(
            "drug_not_delivered",
            format!(
                "The pump delivered {percent:.0} % of what was programmed; {} % are needed. What \
                 pain did says nothing about the drug.",
                settings.least_delivered_percent
            ),
            alarm_events(m),
        ));
    }
    let stopped_h = m.delivery.interrupted_h();
    let share = 100.0 * stopped_h / phases.trial.hours().max(f64::MIN_POSITIVE);
    if share > settings.most_interrupted_percent {
        out.push(reason(
            "delivery_interrupted",
            format!(
                "The pump did not infuse for {} h of the trial ({share:.0} %); at most {} % may be.",
                shown(stopped_h, 1),
                settings.most_interrupted_percent
            ),
            stop_events(m),
        ));
    }
    if m.header.origin == Origin::Pump && percent.is_none() {
        out.push(reason(
            "delivery_unknown",
            "The record holds no counters of delivery: whether the drug was given is not known.",
            Vec::new(),
        ));
    }
    out
}

fn alarm_events(m: &Measures) -> Vec<String> {
    m.delivery
        .alarms
        .iter()
        .filter(|alarm| alarm.stops_delivery())
        .map(|alarm| alarm.id.clone())
        .collect()
}

/// An interruption or a shortfall that is too small for a gate and too great to be silent.
fn interruption(m: &Measures, settings: &Settings) -> Option<Reason> {
    let hours = m.delivery.interrupted_h();
    let percent = m.delivery.percent.unwrap_or(100.0);
    if hours < settings.interruption_matters_h && percent >= settings.delivery_on_target_percent {
        return None;
    }
    let without = m
        .estimands
        .while_infusing
        .percent
        .map_or(String::new(), |percent| {
            format!(" Without that time relief was {percent:.0} %.")
        });
    Some(reason(
        "delivery_interrupted",
        format!(
            "The pump did not infuse for {} h of the trial and delivered {percent:.0} % of what was \
             programmed: pain in that time is not the drug's.{without}",
            shown(hours, 1)
        ),
        stop_events(m),
    ))
}

fn unbearable(m: &Measures, settings: &Settings) -> Option<Reason> {
    let trial = m.phases.as_ref()?.trial;
    let grave: Vec<_> = graded_at_least(&m.observations, settings.intolerable_grade)
        .into_iter()
        .filter(|o| trial.contains(o.at_ms))
        .collect();
    let what = grave.iter().map(|o| o.what.as_str()).find(|what| {
        count(grave.iter().filter(|o| o.what == **what).count()) >= settings.intolerable_times
    })?;
    Some(reason(
        "side_effects",
        format!(
            "{} of grade {} was noted {} times under the drug: relief counts only without side \
             effects that cannot be borne.",
            capitalized(what),
            settings.intolerable_grade,
            grave.iter().filter(|o| o.what == what).count()
        ),
        grave
            .iter()
            .filter(|o| o.what == what)
            .map(|o| o.id.clone())
            .collect(),
    ))
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// A probability for people: never 1.00, never 0.00.
pub fn probability_words(p: f64) -> String {
    if p > 0.99 {
        "over 0.99".into()
    } else if p < 0.01 {
        "under 0.01".into()
    } else {
        format!("{p:.2}")
    }
}

fn by_efficacy(m: &Measures, model: &ModelSays, answer: Verdict, settings: &Settings) -> Reason {
    let relief = &m.estimands.composite;
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or("unknown".into(), |v| format!("{v:.decimals$}"))
    };
    let (low, high) = model.percent_interval_95;
    let line = settings.relief_line_percent;
    let rule = match answer {
        Verdict::Supports => format!(
            "at or above the protocol's {:.2}",
            settings.supports_probability_line
        ),
        Verdict::DoesNotSupport => format!(
            "at or below the protocol's {:.2}",
            settings.rejects_probability_line
        ),
        Verdict::Inconclusive | Verdict::NotAssessable | Verdict::StoppedForSafety
            if model.probability_line < settings.supports_probability_line =>
        {
            format!(
                "between the protocol's {:.2} and {:.2}",
                settings.rejects_probability_line, settings.supports_probability_line
            )
        }
        Verdict::Inconclusive | Verdict::NotAssessable | Verdict::StoppedForSafety => format!(
            "enough, but the chance of {:.0} % is {}, under {:.2}",
            settings.relief_floor_percent,
            probability_words(model.probability_floor),
            settings.supports_probability_floor
        ),
    };
    let in_trial = |at: i64| m.phases.as_ref().is_some_and(|p| p.trial.contains(at));
    let rescues: Vec<String> = m
        .doses
        .iter()
        .filter(|d| d.rescue && in_trial(d.at_ms))
        .map(|d| d.id.clone())
        .collect();
    let under_rescue = match rescues.len() {
        0 => "no rescue dose".into(),
        n => several(n, "rescue dose"),
    };
    let signed = |v: f64| format!("{v:.0}").replace('-', "−");
    reason(
        match answer {
            Verdict::Supports => "relief_shown",
            Verdict::DoesNotSupport => "relief_not_shown",
            Verdict::Inconclusive | Verdict::NotAssessable | Verdict::StoppedForSafety => {
                "relief_unclear"
            }
        },
        format!(
            "Mean pain at rest went from {} to {}, relief {} % (95 % interval {} to {} %), with \
             rescued time counted as failure ({under_rescue}). The chance that true relief is at least \
             {line:.0} % is {}: {rule}.",
            number(relief.baseline_mean, 1),
            number(relief.trial_mean, 1),
            relief.percent.map_or("unknown".into(), signed),
            signed(low),
            signed(high),
            probability_words(model.probability_line),
        ),
        rescues,
    )
}

fn several(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
