//! The phases of a trial, and spans of time. Pure.
//!
//! *Baseline* runs from its stated start to the first infusion for the patient. The *trial* runs
//! from there to the last infusion stop or the close, whichever is earlier. After each programmed
//! change comes a *run-in*: its scores are shown, not evaluated. What is left is *evaluated*, and
//! is cut into *dose steps* at the same changes. Day-parts of one program are no change.

use crate::input::{Header, Origin};
use crate::num::{HOUR_MS, hours, millis};
use crate::protocols::Settings;

/// From an instant to another, the end not included. UTC milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Start.
    pub from_ms: i64,
    /// End.
    pub to_ms: i64,
}

impl Span {
    /// From and to.
    pub const fn new(from_ms: i64, to_ms: i64) -> Self {
        Self { from_ms, to_ms }
    }

    /// Length; 0 where it ends before it starts.
    pub const fn ms(self) -> i64 {
        let length = self.to_ms.saturating_sub(self.from_ms);
        if length > 0 { length } else { 0 }
    }

    /// Length in hours.
    pub fn hours(self) -> f64 {
        hours(self.ms())
    }

    /// Whether the instant is in it.
    pub const fn contains(self, at_ms: i64) -> bool {
        self.from_ms <= at_ms && at_ms < self.to_ms
    }

    /// The part that both share; none where they share nothing.
    pub fn shared(self, other: Self) -> Option<Self> {
        let both = Self::new(self.from_ms.max(other.from_ms), self.to_ms.min(other.to_ms));
        (both.from_ms < both.to_ms).then_some(both)
    }

    /// How much of it the spans cover; they do not overlap each other.
    pub fn covered_ms(self, spans: &[Self]) -> i64 {
        spans
            .iter()
            .filter_map(|span| self.shared(*span))
            .map(Self::ms)
            .sum()
    }
}

/// The spans in order, those that touch or overlap made one.
pub fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.ms() > 0);
    spans.sort_unstable();
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match out.last_mut() {
            Some(last) if span.from_ms <= last.to_ms => last.to_ms = last.to_ms.max(span.to_ms),
            _ => out.push(span),
        }
    }
    out
}

/// What is left of `whole` without the spans.
pub fn without(whole: Span, spans: &[Span]) -> Vec<Span> {
    let mut out = Vec::new();
    let mut from = whole.from_ms;
    for span in merged(spans.to_vec()) {
        if span.to_ms <= whole.from_ms || span.from_ms >= whole.to_ms {
            continue;
        }
        out.push(Span::new(from, span.from_ms));
        from = from.max(span.to_ms);
    }
    out.push(Span::new(from, whole.to_ms));
    out.retain(|span| span.ms() > 0);
    out
}

/// What was done to the infusion, by the pump's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at_ms: i64,
    /// Identity of the event.
    pub id: String,
    /// What.
    pub what: What,
}

/// What an act was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The motor follows a rate.
    Started {
        /// For the patient, not filling or flushing.
        therapy: bool,
        /// nL/h.
        programmed_nl_per_h: i64,
    },
    /// It no longer does.
    Stopped {
        /// The word of the event.
        reason: String,
    },
    /// Another rate.
    Rate {
        /// nL/h.
        programmed_nl_per_h: i64,
        /// By a person, not by the program's next day-part.
        by_keypad: bool,
    },
    /// Another program.
    Program {
        /// nL/h now.
        programmed_nl_per_h: i64,
        /// Of the drug now in the reservoir.
        concentration_mcg_per_ml: i64,
    },
    /// The trial was closed.
    Closed {
        /// The word of the event.
        reason: String,
    },
}

/// One programmed rate, from one change to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoseStep {
    /// Whole.
    pub span: Span,
    /// Without its run-in; may be empty.
    pub evaluated: Span,
    /// The rate at its start, nL/h; none for a diary, which does not say.
    pub programmed_nl_per_h: Option<i64>,
}

/// The phases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phases {
    /// Before the drug.
    pub baseline: Span,
    /// From the first infusion for the patient to the end.
    pub trial: Span,
    /// Dose steps, in order; they tile the trial.
    pub steps: Vec<DoseStep>,
    /// Hours of each run-in.
    pub run_in_h: u32,
    /// Why so many: the manifest, or the setting by drug.
    pub run_in_source: &'static str,
    /// The trial was closed or has a stated end; it is not still running.
    pub ended: bool,
}

impl Phases {
    /// The evaluated spans, in order.
    pub fn evaluated(&self) -> Vec<Span> {
        merged(self.steps.iter().map(|step| step.evaluated).collect())
    }

    /// Hours of the evaluated spans.
    pub fn evaluated_h(&self) -> f64 {
        self.evaluated().iter().map(|span| span.hours()).sum()
    }
}

/// Drugs whose run-in is that of an opioid.
const OPIOIDS: &[&str] = &[
    "morphine",
    "hydromorphone",
    "fentanyl",
    "sufentanil",
    "meperidine",
    "pethidine",
    "methadone",
    "buprenorphine",
    "diamorphine",
];

/// Changes closer than this are one.
const SAME_CHANGE_MS: i64 = 60_000;

/// Finds the phases; none where no drug was ever given or the baseline's start is not known.
///
/// In: acts in order of time; the time of the last event of the record.
pub fn phases(
    header: &Header,
    acts: &[Act],
    last_event_ms: Option<i64>,
    settings: &Settings,
) -> Option<Phases> {
    let baseline_start = header.baseline_start_ms?;
    let started = |act: &Act| matches!(act.what, What::Started { therapy: true, .. });
    let start_ms = match header.origin {
        Origin::Import => header.stated_start_ms?,
        Origin::Pump => acts.iter().find(|act| started(act))?.at_ms,
    };
    let closed = acts
        .iter()
        .find(|act| matches!(act.what, What::Closed { .. }))
        .map(|act| act.at_ms);
    let last_stop = acts
        .iter()
        .rev()
        .find(|act| matches!(act.what, What::Stopped { .. }) || started(act))
        .filter(|act| !started(act))
        .map(|act| act.at_ms);
    let last = last_event_ms.unwrap_or(start_ms);
    let end_ms = match header.origin {
        Origin::Import => header.stated_end_ms.unwrap_or(last),
        Origin::Pump => last_stop.unwrap_or(last).min(closed.unwrap_or(last)),
    };
    let (run_in_h, run_in_source) = run_in(header, settings);
    let trial = Span::new(start_ms, end_ms.max(start_ms));
    Some(Phases {
        baseline: Span::new(baseline_start.min(start_ms), start_ms),
        trial,
        steps: steps(acts, trial, millis(f64::from(run_in_h))),
        run_in_h,
        run_in_source,
        ended: header.origin == Origin::Import || closed.is_some(),
    })
}

fn run_in(header: &Header, settings: &Settings) -> (u32, &'static str) {
    if let Some(hours) = header.run_in_h {
        return (hours, "the trial's manifest");
    }
    let drug = header.drug.to_lowercase();
    let hours = if drug.contains("baclofen") {
        settings.run_in_baclofen_h
    } else if OPIOIDS.iter().any(|opioid| drug.contains(opioid)) {
        settings.run_in_opioid_h
    } else {
        settings.run_in_other_h
    };
    let whole = u32::try_from(crate::num::nearest(hours)).unwrap_or(0);
    (whole, "the protocol's setting for this drug")
}

fn steps(acts: &[Act], trial: Span, run_in_ms: i64) -> Vec<DoseStep> {
    let mut changes: Vec<(i64, Option<i64>)> = vec![(trial.from_ms, None)];
    for act in acts.iter().filter(|act| act.at_ms < trial.to_ms) {
        let (rate, is_change) = match act.what {
            What::Started {
                therapy: true,
                programmed_nl_per_h,
            } => (programmed_nl_per_h, false),
            What::Rate {
                programmed_nl_per_h,
                by_keypad,
            } => (programmed_nl_per_h, by_keypad),
            What::Program {
                programmed_nl_per_h,
                ..
            } => (programmed_nl_per_h, true),
            What::Started { .. } | What::Stopped { .. } | What::Closed { .. } => continue,
        };
        let Some((since, known)) = changes.last_mut() else {
            continue;
        };
        if is_change && act.at_ms - *since > SAME_CHANGE_MS {
            changes.push((act.at_ms, Some(rate)));
        } else if known.is_none() || is_change {
            *known = Some(rate);
        }
    }
    let ends = changes
        .iter()
        .skip(1)
        .map(|(at, _)| *at)
        .chain([trial.to_ms]);
    changes
        .iter()
        .zip(ends)
        .map(|((from, rate), to)| DoseStep {
            span: Span::new(*from, to),
            evaluated: Span::new((from + run_in_ms).min(to), to),
            programmed_nl_per_h: *rate,
        })
        .collect()
}

/// Whole hours as a span of milliseconds.
pub const fn hours_ms(hours: i64) -> i64 {
    hours.saturating_mul(HOUR_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_touch_become_one_and_what_is_left_tiles_the_rest() {
        let spans = vec![
            Span::new(5, 7),
            Span::new(1, 3),
            Span::new(3, 4),
            Span::new(9, 9),
        ];
        assert_eq!(merged(spans.clone()), [Span::new(1, 4), Span::new(5, 7)]);
        let whole = Span::new(0, 10);
        let left = without(whole, &spans);
        assert_eq!(left, [Span::new(0, 1), Span::new(4, 5), Span::new(7, 10)]);
        assert_eq!(
            whole.covered_ms(&merged(spans)) + left.iter().map(|s| s.ms()).sum::<i64>(),
            10
        );
    }

    #[test]
    fn a_run_in_restarts_at_a_keypad_change_and_not_at_a_day_part() {
        let rate = |at_ms, by_keypad| Act {
            at_ms,
            id: String::new(),
            what: What::Rate {
                programmed_nl_per_h: at_ms,
                by_keypad,
            },
        };
        let start = Act {
            at_ms: 0,
            id: String::new(),
            what: What::Started {
                therapy: true,
                programmed_nl_per_h: 7,
            },
        };
        let acts = [start, rate(hours_ms(20), false), rate(hours_ms(30), true)];
        let seen = steps(&acts, Span::new(0, hours_ms(50)), hours_ms(12));
        assert_eq!(
            seen.iter().map(|s| s.evaluated).collect::<Vec<_>>(),
            [
                Span::new(hours_ms(12), hours_ms(30)),
                Span::new(hours_ms(42), hours_ms(50))
            ]
        );
        assert_eq!(seen[0].programmed_nl_per_h, Some(7));
    }
}
