//! All measures of one trial, together: what the decision, the JSON and the page read.
//!
//! The tables are read here, each query once; everything after the reading is pure.

use crate::catheter::{Course, Suspicion, suspicion};
use crate::dose::{Alarm, Bolus, Counters, Hour};
use crate::gaps;
use crate::input::{Header, Proof};
use crate::load::Trial;
use crate::num::{count, millis};
use crate::pain::{Condition, Diary, Valued};
use crate::protocols::Settings;
use crate::rescue::{Dose, Windows};
use crate::safety::{Observation, Sign, signs};
use crate::trial::{Act, Phases, Span, merged, phases};
use crate::{dose, load, pain, rescue, safety};
use jiff::tz::TimeZone;
use scores::{Context, standing};

mod scores;

/// Everything that is known of a trial.
#[derive(Clone, Debug)]
pub struct Measures {
    /// What was known before the first event.
    pub header: Header,
    /// What the record's proof says.
    pub proof: Proof,
    /// The ward's zone, and whether its name is known; else UTC.
    pub zone: (TimeZone, bool),
    /// The phases; none where no drug was given.
    pub phases: Option<Phases>,
    /// From the baseline's start, or the first event, to the end of the trial.
    pub whole: Span,
    /// Scores, askings, notes of sleep.
    pub diary: Diary,
    /// When the patient is taken to be asleep.
    pub sleep: Vec<Span>,
    /// Pain at rest.
    pub rest: Pain,
    /// Pain on movement.
    pub movement: Pain,
    /// The same scores at rest under four questions.
    pub estimands: Estimands,
    /// What would change the answer.
    pub sensitivity: Sensitivity,
    /// Relief by programmed rate.
    pub steps: Vec<StepRelief>,
    /// Completeness.
    pub completeness: Completeness,
    /// Delivery.
    pub delivery: Delivery,
    /// Doses outside the pump.
    pub doses: Vec<Dose>,
    /// What was observed.
    pub observations: Vec<Observation>,
    /// Signs during or after the trial that call for a stop.
    pub signs: Vec<Sign>,
    /// A suspicion against the catheter.
    pub catheter: Option<Suspicion>,
    /// Whether the patient accepts the implant, and which event says so.
    pub acceptance: (Option<bool>, Option<String>),
}

/// One series of pain: as lived.
#[derive(Clone, Debug, Default)]
pub struct Pain {
    /// Relief, with its uncertainty.
    pub relief: Relief,
    /// The scores that stand in the baseline.
    pub baseline: Vec<Valued>,
    /// The scores that stand in the evaluated trial.
    pub evaluated: Vec<Valued>,
    /// Worst evaluated score.
    pub worst: Option<f64>,
    /// Evaluated hours at or above a severe score.
    pub severe_h: Option<f64>,
    /// Longest run with at least the protocol's relief, hours.
    pub longest_run_h: Option<f64>,
    /// Share of evaluated time with at least that relief, 0 to 1.
    pub responder_share: Option<f64>,
    /// The same, rescued time counted as failure.
    pub responder_over_time: Option<f64>,
    /// Shares of mild, moderate, severe in the baseline.
    pub range_baseline: Option<[f64; 3]>,
    /// And in the evaluated trial.
    pub range_trial: Option<[f64; 3]>,
    /// Evaluated hours that are joined by scores.
    pub known_h: f64,
}

/// Relief of a trial against its baseline.
#[derive(Clone, Debug, Default)]
pub struct Relief {
    /// Scores in the baseline.
    pub n_baseline: usize,
    /// Scores in the evaluated trial.
    pub n_trial: usize,
    /// Time-weighted mean.
    pub baseline_mean: Option<f64>,
    /// Time-weighted mean.
    pub trial_mean: Option<f64>,
    /// Baseline less trial.
    pub points: Option<f64>,
    /// In percent of the baseline; none where the baseline is too low.
    pub percent: Option<f64>,
    /// What the model says; none where there are too few scores or the baseline is too low.
    pub model: Option<ModelSays>,
}

/// What the model says.
#[derive(Clone, Debug)]
pub struct ModelSays {
    /// Mean of the baseline.
    pub baseline_mean: f64,
    /// Mean of the trial.
    pub trial_mean: f64,
    /// 95 % interval of the relief, percent.
    pub percent_interval_95: (f64, f64),
    /// 95 % interval of the relief, points.
    pub points_interval_95: (f64, f64),
    /// Probability of at least the protocol's floor, 30 %.
    pub probability_floor: f64,
    /// Probability of at least the protocol's line, 50 %.
    pub probability_line: f64,
    /// Probability of at least 30 %, whatever the protocol's floor is.
    pub probability_30: f64,
    /// Probability of at least 50 %, whatever the protocol's line is.
    pub probability_50: f64,
    /// How many independent scores the baseline is worth.
    pub effective_n_baseline: f64,
    /// How many the trial is worth.
    pub effective_n_trial: f64,
    /// Correlation of scores one median spacing apart.
    pub autocorrelation: f64,
    /// That spacing, hours.
    pub spacing_h: f64,
}

/// Four questions.
#[derive(Clone, Debug, Default)]
pub struct Estimands {
    /// As lived.
    pub as_lived: Relief,
    /// Rescue is failure: decides.
    pub composite: Relief,
    /// As if there had been no rescue.
    pub no_rescue: Relief,
    /// Without the time in which the pump did not deliver.
    pub while_infusing: Relief,
    /// Longest run with at least the protocol's relief under the composite, hours.
    pub composite_run_h: Option<f64>,
}

/// What would change the answer. All under the composite.
#[derive(Clone, Debug, Default)]
pub struct Sensitivity {
    /// Points that, added to every evaluated score, change the answer; the smaller of both ways.
    pub tipping_shift_points: Option<f64>,
    /// Relief in percent if every prompt that was not answered had been the worst score.
    pub missed_as_worst: Option<f64>,
    /// Relief in percent with scores that were never confirmed.
    pub with_unconfirmed: Option<f64>,
    /// Relief in percent with run-ins.
    pub with_run_ins: Option<f64>,
}

/// Relief at one programmed rate.
#[derive(Clone, Debug)]
pub struct StepRelief {
    /// The step.
    pub span: Span,
    /// nL/h.
    pub programmed_nl_per_h: Option<i64>,
    /// Delivered drug a day, mcg.
    pub delivered_mcg_per_day: Option<f64>,
    /// Scores evaluated.
    pub n: usize,
    /// Their time-weighted mean.
    pub mean: Option<f64>,
    /// Relief in percent of the baseline.
    pub percent: Option<f64>,
}

/// Completeness of the diary.
#[derive(Clone, Debug, Default)]
pub struct Completeness {
    /// Scores asked for in baseline and trial.
    pub asked: usize,
    /// Of these, answered and confirmed.
    pub answered: usize,
    /// Scores that nobody asked for.
    pub spontaneous: usize,
    /// Scores that were never confirmed.
    pub unconfirmed: usize,
    /// Scores that a later one corrects.
    pub corrected: usize,
    /// Longest awake time without a score at rest, hours.
    pub longest_gap_h: Option<f64>,
    /// Awake gaps beyond the protocol's limit, baseline and trial.
    pub gaps: Vec<Span>,
    /// Awake time in such gaps, percent, in the baseline and in the evaluated trial.
    pub gap_percent: (f64, f64),
}

/// Delivery in the trial.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// Counters for the patient, first and last of each hour and of each run.
    pub counters: Vec<Counters>,
    /// By UTC hour of the trial; the first and last hold only what lies in the trial.
    pub by_hour: Vec<Hour>,
    /// Delivered, nL.
    pub delivered_nl: Option<f64>,
    /// Delivered in percent of programmed.
    pub percent: Option<f64>,
    /// Spans without infusion.
    pub interruptions: Vec<Span>,
    /// Silences of the counters while infusing.
    pub unknown: Vec<Span>,
    /// Presses of the bolus key.
    pub boluses: Vec<Bolus>,
    /// Alarm conditions.
    pub alarms: Vec<Alarm>,
    /// What was done to the infusion.
    pub acts: Vec<Act>,
}

impl Delivery {
    /// Hours without infusion in the trial.
    pub fn interrupted_h(&self) -> f64 {
        self.interruptions.iter().map(|span| span.hours()).sum()
    }
}

/// Reads the tables and measures.
///
/// # Errors
/// Where a query fails.
pub fn measure(trial: &Trial, settings: &Settings) -> Result<Measures, load::Error> {
    let tables = &trial.tables;
    let diary = pain::read(tables)?;
    let doses = rescue::read(tables)?;
    let observations = safety::read(tables)?;
    let (acts, boluses, alarms) = dose::acts(tables)?;
    let counters = dose::for_the_patient(&dose::counters(tables, &dose::cuts(&acts))?, &acts);
    let silences = dose::silences(tables)?;
    Ok(of_parts(
        &trial.header,
        &trial.proof,
        Parts {
            diary,
            doses,
            observations,
            counters,
            silences,
            acts,
            boluses,
            alarms,
        },
        settings,
    ))
}

/// What the tables hold, as plain rows in order of time.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Scores.
    pub diary: Diary,
    /// Doses outside the pump.
    pub doses: Vec<Dose>,
    /// Observations.
    pub observations: Vec<Observation>,
    /// Counters.
    pub counters: Vec<Counters>,
    /// Silences between counters.
    pub silences: Vec<Span>,
    /// What was done to the infusion.
    pub acts: Vec<Act>,
    /// Presses of the bolus key.
    pub boluses: Vec<Bolus>,
    /// Alarm conditions.
    pub alarms: Vec<Alarm>,
}

/// Measures plain rows. Pure.
pub fn of_parts(header: &Header, proof: &Proof, parts: Parts, settings: &Settings) -> Measures {
    let zone = gaps::zone(&header.zone);
    let last = last_event(&parts);
    let phases = phases(header, &parts.acts, last, settings);
    let whole = whole(header, phases.as_ref(), &parts, last);
    let answered: Vec<i64> = parts
        .diary
        .standing(Condition::Rest, false)
        .iter()
        .map(|score| score.at_ms)
        .collect();
    let sleep = gaps::sleep(
        whole,
        &zone.0,
        (settings.night_from_h, settings.night_to_h),
        &parts.diary.asleep,
        settings.asleep_holds_h,
        &answered,
    );
    let trial = phases.as_ref().map_or(Span::new(0, 0), |p| p.trial);
    let delivery = delivery(header, &parts, trial);
    let after_start = |at: i64| phases.is_some() && at >= trial.from_ms;
    let context = Context {
        phases: phases.as_ref(),
        sleep: &sleep,
        settings,
        longest_h: settings.longest_segment_h,
    };
    let on_movement = Context {
        longest_h: settings.longest_movement_segment_h,
        ..context
    };
    let windows = Windows::of(&parts.doses, settings.rescue_window_h);
    let rest = context.pain(&parts.diary, Condition::Rest, &windows);
    let movement = on_movement.pain(&parts.diary, Condition::Movement, &windows);
    let not_infusing = not_infusing(&delivery);
    let estimands = context.estimands(&rest, &windows, &not_infusing);
    let sensitivity = context.sensitivity(&parts.diary, &rest, &windows);
    let steps = context.steps(&rest, &delivery);
    let completeness = context.completeness(&parts.diary, whole, &answered);
    let late: Vec<Observation> = parts
        .observations
        .iter()
        .filter(|o| after_start(o.at_ms))
        .cloned()
        .collect();
    let in_trial: Vec<Valued> = standing(&parts.diary, Condition::Rest, settings)
        .into_iter()
        .filter(|(at, _)| trial.contains(*at))
        .collect();
    let course = Course {
        trial,
        scores: &in_trial,
        baseline: rest.relief.baseline_mean.unwrap_or(0.0),
        boluses: &parts.boluses,
        interruptions: &delivery.interruptions,
        delivered_percent: delivery.percent,
    };
    let catheter = suspicion(&course, &late, settings);
    let accepts = safety::of(&parts.observations, "accepts_implant").next_back();
    Measures {
        acceptance: match accepts {
            Some(o) => (Some(o.value >= 1.0), Some(o.id.clone())),
            None => (header.accepts_implant, None),
        },
        signs: signs(&late, settings),
        header: header.clone(),
        proof: proof.clone(),
        zone,
        phases,
        whole,
        diary: parts.diary,
        sleep,
        rest,
        movement,
        estimands,
        sensitivity,
        steps,
        completeness,
        delivery,
        doses: parts.doses,
        observations: parts.observations,
        catheter,
    }
}

fn last_event(parts: &Parts) -> Option<i64> {
    let scores = parts.diary.scores.last().map(|s| s.at_ms);
    let counters = parts.counters.last().map(|c| c.at_ms);
    let acts = parts.acts.last().map(|a| a.at_ms);
    let asked = parts.diary.asked.last().map(|a| a.at_ms);
    [scores, counters, acts, asked].into_iter().flatten().max()
}

fn whole(header: &Header, phases: Option<&Phases>, parts: &Parts, last: Option<i64>) -> Span {
    let first = parts.diary.scores.first().map(|s| s.at_ms);
    let from = header.baseline_start_ms.or(first).unwrap_or(0);
    let to = phases.map(|p| p.trial.to_ms).or(last).unwrap_or(from);
    Span::new(from, to.max(from))
}

fn delivery(header: &Header, parts: &Parts, trial: Span) -> Delivery {
    let infusing = dose::infusing(trial, &parts.acts, &parts.counters);
    // A diary says nothing of stops.
    let interruptions = if parts.acts.is_empty() {
        Vec::new()
    } else {
        dose::interruptions(trial, &infusing)
    };
    // Its counters are as far apart as somebody read them.
    let unknown = if parts.acts.is_empty() {
        Vec::new()
    } else {
        let silent = |span: &Span| {
            infusing
                .iter()
                .filter_map(|i| i.shared(*span))
                .collect::<Vec<_>>()
        };
        let spans = parts.silences.iter().flat_map(silent);
        merged(spans.filter(|span| span.ms() > dose::SILENCE_MS).collect())
    };
    let volumes = dose::volumes(&parts.counters, trial);
    let by_hour = if parts.counters.is_empty() {
        Vec::new()
    } else {
        dose::by_hour(trial, &parts.counters, &unknown, |at| {
            dose::concentration_at(&parts.acts, header.concentration_mcg_per_ml, at)
        })
    };
    Delivery {
        counters: parts.counters.clone(),
        by_hour,
        delivered_nl: volumes.map(|(delivered, _)| delivered),
        percent: volumes
            .filter(|(_, programmed)| *programmed > 0.0)
            .map(|(delivered, programmed)| 100.0 * delivered / programmed),
        interruptions,
        unknown,
        boluses: parts.boluses.clone(),
        alarms: parts.alarms.clone(),
        acts: parts.acts.clone(),
    }
}

fn not_infusing(delivery: &Delivery) -> Vec<Span> {
    let alarms = delivery
        .alarms
        .iter()
        .filter(|a| a.stops_delivery())
        .map(|a| a.span);
    merged(
        delivery
            .interruptions
            .iter()
            .copied()
            .chain(alarms)
            .collect(),
    )
}

/// Delivered drug a day over a span; none where any hour in it is not known.
pub fn mcg_per_day(delivery: &Delivery, span: Span) -> Option<f64> {
    let inside: Vec<&Hour> = delivery
        .by_hour
        .iter()
        .filter(|hour| hour.from_ms >= span.from_ms && hour.from_ms + millis(1.0) <= span.to_ms)
        .collect();
    let sum: Option<f64> = inside.iter().map(|hour| hour.delivered_mcg).sum();
    sum.filter(|_| !inside.is_empty())
        .map(|mcg| mcg * 24.0 / count(inside.len()))
}
