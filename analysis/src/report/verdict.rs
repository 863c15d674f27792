//! `verdict.json`: the verdict and the figures behind it, for programs.
//!
//! Every key is always there; what is not known is null. Percent 0 to 100, probabilities 0 to 1,
//! hours and points as such. The form is `docs/verdict.schema.json`. Same record, same settings,
//! same bytes: nothing here reads a clock, and figures are cut to the decimals that mean something.

use crate::decide::{Decision, Reason};
use crate::input::Proof;
use crate::measure::{Measures, Pain, Relief, Sensitivity};
use crate::num::{nearest, rounded};
use crate::payers::Payer;
use crate::protocols::Protocol;
use record::verify::Evidence;
use serde_json::{Map, Value, json};

/// The name of this form.
pub const SCHEMA: &str = "thecal.verdict/1";

/// The file's text, with a line feed at its end.
pub fn text(m: &Measures, decision: &Decision, payers: &[Payer], protocol: &Protocol) -> String {
    let mut text = format!("{:#}", json(m, decision, payers, protocol));
    text.push('\n');
    text
}

/// The whole as JSON.
pub fn json(m: &Measures, decision: &Decision, payers: &[Payer], protocol: &Protocol) -> Value {
    let settings: Map<String, Value> = protocol
        .stated
        .iter()
        .map(|(name, setting)| (name.clone(), json!(setting)))
        .collect();
    json!({
        "schema": SCHEMA,
        "trial_id": m.header.trial_id,
        "verdict": decision.verdict.word(),
        "reasons": reasons(&decision.reasons),
        "notes": reasons(&decision.notes),
        "simulated": m.header.simulated.as_ref().map(|s| json!({
            "patient": s.patient, "seed": s.seed, "speed": s.speed,
        })),
        "protocol": {
            "name": protocol.name,
            "version": protocol.version,
            "settings": settings,
        },
        "trial": trial(m),
        "evidence": evidence(m),
        "pain": pain(&m.rest),
        "movement": pain(&m.movement),
        "estimands": {
            "as_lived": relief(&m.estimands.as_lived),
            "composite": relief(&m.estimands.composite),
            "no_rescue": relief(&m.estimands.no_rescue),
            "while_infusing": relief(&m.estimands.while_infusing),
        },
        "dose_steps": dose_steps(m),
        "sensitivity": sensitivity(&m.sensitivity),
        "accepts_implant": m.acceptance.0,
        "payers": payers.iter().map(|payer| json!({
            "name": payer.name,
            "criteria": payer.criteria.iter().map(|c| json!({
                "text": c.text, "met": c.met,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "record_digest": m.proof.digest,
        "software": software(),
    })
}

/// Name and version of this program.
pub fn software() -> String {
    format!("thecal {}", env!("CARGO_PKG_VERSION"))
}

fn reasons(reasons: &[Reason]) -> Value {
    reasons
        .iter()
        .map(|r| json!({"code": r.code, "text": r.text, "events": r.events}))
        .collect()
}

fn number(value: Option<f64>, decimals: i32) -> Value {
    value
        .and_then(|value| rounded(value, decimals))
        .map_or(Value::Null, |value| json!(value))
}

fn time(at_ms: Option<i64>) -> Value {
    at_ms
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or(Value::Null, |at| json!(at.to_string()))
}

fn trial(m: &Measures) -> Value {
    let phases = m.phases.as_ref();
    json!({
        "drug": m.header.drug,
        "concentration_mcg_per_ml": m.header.concentration_mcg_per_ml,
        "route": m.header.route,
        "zone": m.header.zone,
        "baseline_start": time(m.header.baseline_start_ms),
        "trial_start": time(phases.map(|p| p.trial.from_ms)),
        "trial_end": time(phases.map(|p| p.trial.to_ms)),
        "ended": phases.map(|p| p.ended),
        "run_in_h": phases.map(|p| p.run_in_h),
        "run_in_source": phases.map(|p| p.run_in_source),
        "evaluated_h": number(phases.map(crate::trial::Phases::evaluated_h), 3),
    })
}

/// The word for what a record is worth. A record that is still open has its end unproven, as one
/// with a hole has its middle.
pub fn chain(proof: &Proof) -> &'static str {
    match proof.evidence {
        Evidence::Complete => "complete",
        Evidence::Imported => "imported",
        Evidence::Open | Evidence::Gaps => "gaps",
        Evidence::Altered => "altered",
    }
}

fn evidence(m: &Measures) -> Value {
    let c = &m.completeness;
    json!({
        "events": m.proof.events,
        "holes": m.proof.missing,
        "chain": chain(&m.proof),
        "not_proven": m.proof.not_proven,
        "unsigned_from": m.proof.unsigned_from.iter().map(|(source, seq)| json!({
            "source": source, "seq": seq,
        })).collect::<Vec<_>>(),
        "scores_asked": c.asked,
        "scores_answered": c.answered,
        "scores_spontaneous": c.spontaneous,
        "scores_unconfirmed": c.unconfirmed,
        "scores_corrected": c.corrected,
        "longest_gap_h": number(c.longest_gap_h, 3),
        "delivered_percent_of_programmed": number(m.delivery.percent, 3),
        "delivered_nl": m.delivery.delivered_nl.map(nearest),
        "interrupted_h": number(
            (!m.delivery.acts.is_empty()).then(|| m.delivery.interrupted_h()), 3),
        "boluses_granted": m.delivery.boluses.iter().filter(|b| b.granted).count(),
        "boluses_refused": m.delivery.boluses.iter().filter(|b| !b.granted).count(),
        "rescue_doses": m.doses.iter().filter(|d| d.rescue).count(),
    })
}

fn pain(pain: &Pain) -> Value {
    let mut out = relief(&pain.relief);
    let share = |range: Option<[f64; 3]>| {
        range.map(|[mild, moderate, severe]| {
            json!({
                "mild_percent": number(Some(100.0 * mild), 2),
                "moderate_percent": number(Some(100.0 * moderate), 2),
                "severe_percent": number(Some(100.0 * severe), 2),
            })
        })
    };
    let more = json!({
        "worst": pain.worst.map(nearest),
        "hours_at_or_above_7": number(pain.severe_h, 3),
        "longest_run_at_least_50_percent_h": number(pain.longest_run_h, 3),
        "time_at_least_50_percent_percent": number(pain.responder_share.map(|s| 100.0 * s), 2),
        "time_at_least_50_percent_without_rescue_percent":
            number(pain.responder_over_time.map(|s| 100.0 * s), 2),
        "evaluated_hours_joined": number(Some(pain.known_h), 3),
        "time_in_range_baseline": share(pain.range_baseline),
        "time_in_range_trial": share(pain.range_trial),
    });
    if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
        out.extend(more);
    }
    out
}

fn relief(relief: &Relief) -> Value {
    let model = relief.model.as_ref();
    let interval = |(low, high): (f64, f64), decimals| {
        json!([number(Some(low), decimals), number(Some(high), decimals)])
    };
    json!({
        "baseline_mean": number(relief.baseline_mean, 4),
        "trial_mean": number(relief.trial_mean, 4),
        "relief_points": number(relief.points, 4),
        "relief_percent": number(relief.percent, 3),
        "relief_percent_interval_95": model.map(|m| interval(m.percent_interval_95, 2)),
        "relief_points_interval_95": model.map(|m| interval(m.points_interval_95, 3)),
        "probability_relief_at_least_30": number(model.map(|m| m.probability_30), 5),
        "probability_relief_at_least_50": number(model.map(|m| m.probability_50), 5),
        "model_baseline_mean": number(model.map(|m| m.baseline_mean), 4),
        "model_trial_mean": number(model.map(|m| m.trial_mean), 4),
        "scores_baseline": relief.n_baseline,
        "scores_trial": relief.n_trial,
        "effective_n_baseline": number(model.map(|m| m.effective_n_baseline), 2),
        "effective_n_trial": number(model.map(|m| m.effective_n_trial), 2),
        "autocorrelation": number(model.map(|m| m.autocorrelation), 4),
        "autocorrelation_spacing_h": number(model.map(|m| m.spacing_h), 3),
    })
}

fn dose_steps(m: &Measures) -> Value {
    m.steps
        .iter()
        .map(|step| {
            json!({
                "from": time(Some(step.span.from_ms)),
                "to": time(Some(step.span.to_ms)),
                "programmed_nl_per_h": step.programmed_nl_per_h,
                "delivered_mcg_per_day": number(step.delivered_mcg_per_day, 2),
                "scores": step.n,
                "mean": number(step.mean, 4),
                "relief_percent": number(step.percent, 3),
            })
        })
        .collect()
}

fn sensitivity(s: &Sensitivity) -> Value {
    json!({
        "tipping_shift_points": number(s.tipping_shift_points, 2),
        "relief_percent_if_missed_were_worst": number(s.missed_as_worst, 3),
        "relief_percent_with_unconfirmed": number(s.with_unconfirmed, 3),
        "relief_percent_with_run_ins": number(s.with_run_ins, 3),
    })
}
