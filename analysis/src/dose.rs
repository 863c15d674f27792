//! What the pump was told, and what it counted.
//!
//! *Delivered* is what the pump's encoder confirmed: no proof that it reached the spine. Two
//! queries shape the counters, however many there are: the first and last of each hour and each
//! start or stop, and the silences between neighbours. What fills or flushes the line is taken out. The rest is pure. Where the pump was infusing and said nothing for
//! long, what it delivered then is known only as a sum; those hours are unknown, not zero.

use crate::load::{self, Tables};
use crate::num::{HOUR_MS, float};
use crate::schema::{AT_MS, HOUR, PLACE};
use crate::trial::{Act, Span, What, merged, without};
use polars::prelude::*;
use std::collections::BTreeMap;

/// Counters closer than this leave no hour unknown; the pump counts at least every 60 s.
pub const SILENCE_MS: i64 = 10 * 60_000;

/// The counters at one time, over all pumps of the trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// When.
    pub at_ms: i64,
    /// Confirmed by the encoder so far.
    pub delivered_nl: i64,
    /// Asked for so far.
    pub programmed_nl: i64,
}

/// A press of the bolus key, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bolus {
    /// When.
    pub at_ms: i64,
    /// Granted, not refused.
    pub granted: bool,
}

/// An alarm condition of the pump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The word of the event.
    pub code: String,
    /// From start to end, or to the end of the record.
    pub span: Span,
    /// Identity of the event that began it.
    pub id: String,
}

impl Alarm {
    /// Conditions that forbid or belie delivery.
    pub fn stops_delivery(&self) -> bool {
        matches!(
            self.code.as_str(),
            "downstream_occlusion"
                | "upstream_occlusion"
                | "air_in_line"
                | "reservoir_empty"
                | "battery_flat"
                | "under_delivery"
                | "door_open"
                | "supervisor_stop"
        )
    }
}

/// One hour of delivery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hour {
    /// Its start.
    pub from_ms: i64,
    /// Counted in it; none where not known.
    pub delivered_nl: Option<f64>,
    /// Drug in that volume; none where volume or concentration is not known.
    pub delivered_mcg: Option<f64>,
}

/// First and last counters of each hour, cut again at each of `cuts`, in order of time.
///
/// Counters of several pumps are added: one pump's end is the next one's start.
///
/// # Errors
/// Where a query fails.
pub fn counters(tables: &Tables, cuts: &[i64]) -> PolarsResult<Vec<Counters>> {
    let place = cuts
        .iter()
        .map(|cut| col(AT_MS).gt(lit(*cut)).cast(DataType::Int64))
        .fold(lit(0i64), |sum, after| sum + after);
    let first = |name: &str| col(name).min().alias(format!("first_{name}"));
    let last = |name: &str| col(name).max().alias(format!("last_{name}"));
    let names = [AT_MS, "delivered_nl", "programmed_nl"];
    let aggregates: Vec<Expr> = names
        .iter()
        .flat_map(|name| [first(name), last(name)])
        .collect();
    let frame = load::collect(
        tables
            .delivered
            .clone()
            .lazy()
            .select([
                col("source"),
                col(AT_MS),
                col("delivered_nl"),
                col("programmed_nl"),
                (col(AT_MS) / lit(HOUR_MS)).alias(HOUR),
                place.alias(PLACE),
            ])
            .group_by([col("source"), col(HOUR), col(PLACE)])
            .agg(aggregates)
            .sort(["source", HOUR, PLACE], SortMultipleOptions::default()),
    )?;
    let mut pumps: BTreeMap<String, Vec<Counters>> = BTreeMap::new();
    let sources = load::texts(&frame, "source")?;
    for end in ["first", "last"] {
        let column = |name: &str| load::ints(&frame, &format!("{end}_{name}"));
        let rows = sources.iter().zip(column(AT_MS)?);
        let counts = column("delivered_nl")?
            .into_iter()
            .zip(column("programmed_nl")?);
        for ((source, at), (delivered, programmed)) in rows.zip(counts) {
            let (Some(source), Some(at_ms), Some(delivered_nl)) = (source, at, delivered) else {
                continue;
            };
            pumps.entry(source.clone()).or_default().push(Counters {
                at_ms,
                delivered_nl,
                programmed_nl: programmed.unwrap_or(delivered_nl),
            });
        }
    }
    Ok(joined(pumps.into_values().collect()))
}

fn joined(mut pumps: Vec<Vec<Counters>>) -> Vec<Counters> {
    for pump in &mut pumps {
        pump.sort_by_key(|c| (c.at_ms, c.delivered_nl));
        pump.dedup();
    }
    pumps.sort_by_key(|pump| pump.first().map(|c| c.at_ms));
    let mut out: Vec<Counters> = Vec::new();
    for pump in pumps {
        let (delivered, programmed) = out
            .last()
            .map_or((0, 0), |c| (c.delivered_nl, c.programmed_nl));
        out.extend(pump.into_iter().map(|c| Counters {
            delivered_nl: c.delivered_nl.saturating_add(delivered),
            programmed_nl: c.programmed_nl.saturating_add(programmed),
            ..c
        }));
    }
    out.sort_by_key(|c| c.at_ms);
    out
}

/// Spans longer than [`SILENCE_MS`] between neighbouring counters of one pump.
///
/// # Errors
/// Where a query fails.
pub fn silences(tables: &Tables) -> PolarsResult<Vec<Span>> {
    let frame = load::collect(
        tables
            .delivered
            .clone()
            .lazy()
            .select([
                col("source"),
                col(AT_MS),
                col("source").shift(lit(1)).alias("source_before"),
                col(AT_MS).shift(lit(1)).alias("before_ms"),
            ])
            .filter(
                col("source")
                    .eq(col("source_before"))
                    .and((col(AT_MS) - col("before_ms")).gt(lit(SILENCE_MS))),
            ),
    )?;
    let (from, to) = (load::ints(&frame, "before_ms")?, load::ints(&frame, AT_MS)?);
    Ok(from
        .into_iter()
        .zip(to)
        .filter_map(|(from, to)| Some(Span::new(from?, to?)))
        .collect())
}

/// What was done to the infusion, boluses, alarms: in order of time.
///
/// # Errors
/// Where a query fails.
pub fn acts(tables: &Tables) -> PolarsResult<(Vec<Act>, Vec<Bolus>, Vec<Alarm>)> {
    const KINDS: [&str; 7] = [
        "infusion_started",
        "infusion_stopped",
        "rate_changed",
        "program_changed",
        "trial_closed",
        "bolus_requested",
        "alarm",
    ];
    let wanted = KINDS
        .iter()
        .map(|kind| col("kind").eq(lit(*kind)))
        .reduce(Expr::or)
        .unwrap_or_else(|| lit(false));
    let frame = load::collect(tables.events.clone().lazy().filter(wanted))?;
    let text = |name| load::texts(&frame, name).map(Vec::into_iter);
    let int = |name| load::ints(&frame, name).map(Vec::into_iter);
    let (mut source, mut kind, mut reason) = (text("source")?, text("kind")?, text("reason")?);
    let (mut purpose, mut by) = (text("purpose")?, text("changed_by")?);
    let (mut code, mut phase) = (text("alarm")?, text("phase")?);
    let (mut at, mut boot, mut seq) = (int(AT_MS)?, int("boot")?, int("seq")?);
    let (mut rate, mut mixed) = (
        int("programmed_nl_per_h")?,
        int("concentration_mcg_per_ml")?,
    );
    let mut granted = load::bools(&frame, "granted")?.into_iter();
    let (mut acts, mut boluses, mut alarms) = (Vec::new(), Vec::new(), Vec::<Alarm>::new());
    for _ in 0..frame.height() {
        let at_ms = at.next().flatten().unwrap_or(0);
        let id = format!(
            "{}:{}:{}",
            source.next().flatten().unwrap_or_default(),
            boot.next().flatten().unwrap_or(0),
            seq.next().flatten().unwrap_or(0)
        );
        let reason = reason.next().flatten().unwrap_or_default();
        let therapy = purpose.next().flatten().as_deref() == Some("therapy");
        let by_keypad = by.next().flatten().as_deref() == Some("keypad");
        let (code, phase) = (code.next().flatten(), phase.next().flatten());
        let programmed_nl_per_h = rate.next().flatten().unwrap_or(0);
        let concentration_mcg_per_ml = mixed.next().flatten().unwrap_or(0);
        let granted = granted.next().flatten().unwrap_or(false);
        let what = match kind.next().flatten().unwrap_or_default().as_str() {
            "infusion_started" => What::Started {
                therapy,
                programmed_nl_per_h,
            },
            "infusion_stopped" => What::Stopped { reason },
            "rate_changed" => What::Rate {
                programmed_nl_per_h,
                by_keypad,
            },
            "program_changed" => What::Program {
                programmed_nl_per_h,
                concentration_mcg_per_ml,
            },
            "trial_closed" => What::Closed { reason },
            "bolus_requested" => {
                boluses.push(Bolus { at_ms, granted });
                continue;
            }
            _ => {
                let code = code.unwrap_or_default();
                if phase.as_deref() == Some("end") {
                    let open = alarms.iter_mut().rev().find(|a| a.code == code);
                    if let Some(alarm) = open.filter(|a| a.span.to_ms == i64::MAX) {
                        alarm.span.to_ms = at_ms;
                    }
                } else {
                    alarms.push(Alarm {
                        code,
                        span: Span::new(at_ms, i64::MAX),
                        id,
                    });
                }
                continue;
            }
        };
        acts.push(Act { at_ms, id, what });
    }
    Ok((acts, boluses, alarms))
}

/// Spans of `trial` in which the motor followed a rate for the patient.
///
/// A stop for lack of supply is written at the next start: it counts from the last counter before.
pub fn infusing(trial: Span, acts: &[Act], counters: &[Counters]) -> Vec<Span> {
    let mut out = Vec::new();
    let mut since = None;
    for act in acts {
        match &act.what {
            What::Started { therapy: true, .. } => since = since.or(Some(act.at_ms)),
            What::Started { therapy: false, .. } | What::Rate { .. } | What::Program { .. } => {}
            What::Stopped { reason } => {
                let until = if reason == "power_lost" {
                    last_at(counters, act.at_ms).map_or(act.at_ms, |c| c.at_ms)
                } else {
                    act.at_ms
                };
                out.extend(since.take().map(|from| Span::new(from, until)));
            }
            What::Closed { .. } => out.extend(since.take().map(|from| Span::new(from, act.at_ms))),
        }
    }
    out.extend(since.map(|from| Span::new(from, trial.to_ms)));
    merged(
        out.into_iter()
            .filter_map(|span| span.shared(trial))
            .collect(),
    )
}

/// Starts and stops: where the counters must be cut, so that no line is drawn across one.
pub fn cuts(acts: &[Act]) -> Vec<i64> {
    let mut cuts: Vec<i64> = acts
        .iter()
        .filter(|act| matches!(act.what, What::Started { .. } | What::Stopped { .. }))
        .map(|act| act.at_ms)
        .collect();
    cuts.dedup();
    cuts
}

/// The counters without what filled or flushed the line: that was not for the patient.
pub fn for_the_patient(counters: &[Counters], acts: &[Act]) -> Vec<Counters> {
    let mut flushes: Vec<Span> = Vec::new();
    let mut since = None;
    for act in acts {
        match act.what {
            What::Started { therapy, .. } => since = (!therapy).then_some(act.at_ms),
            What::Stopped { .. } => {
                flushes.extend(since.take().map(|from| Span::new(from, act.at_ms)));
            }
            What::Rate { .. } | What::Program { .. } | What::Closed { .. } => {}
        }
    }
    let whole = |value: f64| crate::num::nearest(value);
    counters
        .iter()
        .map(|c| {
            let in_line =
                |span: &Span| volumes(counters, Span::new(span.from_ms, span.to_ms.min(c.at_ms)));
            let before = flushes.iter().filter(|span| span.from_ms < c.at_ms);
            let (delivered, programmed) = before
                .filter_map(in_line)
                .fold((0.0, 0.0), |sum, nl| (sum.0 + nl.0, sum.1 + nl.1));
            Counters {
                at_ms: c.at_ms,
                delivered_nl: c.delivered_nl - whole(delivered),
                programmed_nl: c.programmed_nl - whole(programmed),
            }
        })
        .collect()
}

/// Interruptions: spans of `trial` in which the pump did not infuse.
pub fn interruptions(trial: Span, infusing: &[Span]) -> Vec<Span> {
    without(trial, infusing)
}

fn last_at(counters: &[Counters], at_ms: i64) -> Option<Counters> {
    counters.iter().rev().find(|c| c.at_ms <= at_ms).copied()
}

/// Delivered and programmed volume in a span, nL: the counters at its end less those at its start,
/// on the line between neighbours. None where there are no counters.
pub fn volumes(counters: &[Counters], span: Span) -> Option<(f64, f64)> {
    let (from, to) = (at(counters, span.from_ms)?, at(counters, span.to_ms)?);
    Some((to.0 - from.0, to.1 - from.1))
}

fn at(counters: &[Counters], at_ms: i64) -> Option<(f64, f64)> {
    let after = counters.partition_point(|c| c.at_ms <= at_ms);
    let before = after.checked_sub(1).and_then(|i| counters.get(i));
    match (before, counters.get(after)) {
        (None, None) => None,
        // Before the first counter nothing was counted yet.
        (None, Some(_)) => Some((0.0, 0.0)),
        (Some(last), None) => Some((float(last.delivered_nl), float(last.programmed_nl))),
        (Some(a), Some(b)) => {
            let share = float(at_ms - a.at_ms) / float(b.at_ms - a.at_ms);
            let between = |x: i64, y: i64| float(x) + float(y - x) * share;
            Some((
                between(a.delivered_nl, b.delivered_nl),
                between(a.programmed_nl, b.programmed_nl),
            ))
        }
    }
}

/// Delivery by hour over `whole`. `unknown` are silences while the pump was infusing.
pub fn by_hour(
    whole: Span,
    counters: &[Counters],
    unknown: &[Span],
    concentration: impl Fn(i64) -> Option<f64>,
) -> Vec<Hour> {
    let first = whole.from_ms.div_euclid(HOUR_MS);
    let last = whole.to_ms.saturating_sub(1).div_euclid(HOUR_MS);
    (first..=last)
        .map(|hour| {
            let span = Span::new(hour * HOUR_MS, (hour + 1) * HOUR_MS);
            let inside = span
                .shared(whole)
                .unwrap_or(Span::new(span.from_ms, span.from_ms));
            let known = !unknown.iter().any(|silent| silent.shared(span).is_some());
            let delivered_nl = volumes(counters, inside)
                .map(|(nl, _)| nl)
                .filter(|_| known);
            Hour {
                from_ms: span.from_ms,
                delivered_nl,
                // A concentration in mcg/mL times nL is picograms.
                delivered_mcg: delivered_nl
                    .zip(concentration(span.from_ms))
                    .map(|(nl, mcg_per_ml)| nl * mcg_per_ml / 1e6),
            }
        })
        .collect()
}

/// Concentration of the drug in the reservoir at a time, mcg/mL; none where not known.
pub fn concentration_at(acts: &[Act], opened_with: u32, at_ms: i64) -> Option<f64> {
    let changed = acts
        .iter()
        .rev()
        .filter(|act| act.at_ms <= at_ms)
        .find_map(|act| match act.what {
            What::Program {
                concentration_mcg_per_ml,
                ..
            } => Some(concentration_mcg_per_ml),
            What::Started { .. }
            | What::Stopped { .. }
            | What::Rate { .. }
            | What::Closed { .. } => None,
        });
    let now = changed.unwrap_or_else(|| i64::from(opened_with));
    (now > 0).then(|| float(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::hours_ms;

    fn counted(hour: i64, delivered_nl: i64) -> Counters {
        Counters {
            at_ms: hours_ms(hour),
            delivered_nl,
            programmed_nl: delivered_nl,
        }
    }

    #[test]
    fn volume_of_a_span_is_the_difference_of_its_ends() {
        let counters = [
            counted(0, 0),
            counted(1, 100),
            counted(3, 300),
            counted(10, 300),
        ];
        let seen = |from, to| volumes(&counters, Span::new(hours_ms(from), hours_ms(to)));
        assert_eq!(seen(0, 10), Some((300.0, 300.0)));
        assert_eq!(seen(2, 5), Some((100.0, 100.0)));
        assert_eq!(seen(-5, -1), Some((0.0, 0.0)));
        assert_eq!(volumes(&[], Span::new(0, 1)), None);
    }

    #[test]
    fn what_flushed_the_line_was_not_for_the_patient() {
        let act = |at, what| Act {
            at_ms: hours_ms(at),
            id: String::new(),
            what,
        };
        let start = |at, therapy| {
            let programmed_nl_per_h = 1;
            act(
                at,
                What::Started {
                    therapy,
                    programmed_nl_per_h,
                },
            )
        };
        let stop = |at| {
            let reason = "keypad".into();
            act(at, What::Stopped { reason })
        };
        let acts = [
            start(0, false),
            stop(1),
            start(2, true),
            stop(5),
            start(6, false),
            stop(7),
        ];
        assert_eq!(cuts(&acts).len(), 6);
        let counters = [
            counted(0, 0),
            counted(1, 500),
            counted(2, 500),
            counted(5, 800),
            counted(6, 800),
            counted(7, 1_300),
        ];
        let seen: Vec<i64> = for_the_patient(&counters, &acts)
            .iter()
            .map(|c| c.delivered_nl)
            .collect();
        assert_eq!(seen, [0, 0, 0, 300, 300, 300]);
    }

    #[test]
    fn an_hour_of_silence_is_unknown_and_not_zero() {
        let counters = [counted(0, 0), counted(1, 100), counted(3, 300)];
        let unknown = [Span::new(hours_ms(1), hours_ms(3))];
        let hours = by_hour(Span::new(0, hours_ms(3)), &counters, &unknown, |_| {
            Some(500.0)
        });
        let seen: Vec<_> = hours.iter().map(|h| h.delivered_nl).collect();
        assert_eq!(seen, [Some(100.0), None, None]);
        assert_eq!(hours[0].delivered_mcg, Some(0.05));
        assert_eq!(hours[1].delivered_mcg, None);
    }

    #[test]
    fn the_second_pump_goes_on_where_the_first_ended() {
        let seen = joined(vec![
            vec![counted(5, 0), counted(6, 50)],
            vec![counted(0, 0), counted(4, 400)],
        ]);
        assert_eq!(
            seen.iter().map(|c| c.delivered_nl).collect::<Vec<_>>(),
            [0, 400, 400, 450]
        );
    }

    #[test]
    fn a_stop_for_lack_of_supply_counts_from_the_last_counter() {
        let act = |at, what| Act {
            at_ms: hours_ms(at),
            id: String::new(),
            what,
        };
        let start = |at| {
            act(
                at,
                What::Started {
                    therapy: true,
                    programmed_nl_per_h: 1,
                },
            )
        };
        let stop = act(
            8,
            What::Stopped {
                reason: "power_lost".into(),
            },
        );
        let trial = Span::new(0, hours_ms(10));
        let running = infusing(trial, &[start(0), stop, start(8)], &[counted(3, 1)]);
        assert_eq!(
            interruptions(trial, &running),
            [Span::new(hours_ms(3), hours_ms(8))]
        );
    }
}
