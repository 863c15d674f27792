//! The charts: pure functions of the measures, the same ink wherever they are set.
//!
//! Three colors and three shapes are for pain alone, blue is the drug, grey is context. What is not
//! known is hatched and never bridged.

use super::clock::Clock;
use super::svg::{Anchor, DRUG, GOAL, GREY, GROUND, HAIR, INK, LABEL, MILD, MODERATE, SEVERE, Svg};
use crate::input::Origin;
use crate::measure::{Measures, Relief};
use crate::num::{count, hours};
use crate::pain::{Condition, Joining, Valued};
use crate::protocols::Settings;
use crate::trial::{Span, hours_ms};

/// A word of the record for people.
pub fn words(code: &str) -> String {
    match code {
        "sedation_poss" => "sedation".into(),
        other => protocol::text::clean(other, 40).replace('_', " "),
    }
}

/// A round number at or above, for the top of an axis.
pub(super) fn nice_above(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps
        .iter()
        .map(|step| step * power)
        .find(|top| *top >= value)
        .unwrap_or(10.0 * power)
}

/// A number without a tail of zeros.
pub(super) fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// One criterion: the goal's zone, the interval and the value, on a scale of its own.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    /// The scale's ends.
    pub scale: (f64, f64),
    /// The goal's ends.
    pub goal: (f64, f64),
    /// The value.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<(f64, f64)>,
}

/// Draws a criterion.
pub fn gauge(g: &Gauge, title: &str) -> String {
    let (width, height) = (126.0, 16.0);
    let mut svg = Svg::new(width, height, title);
    let (low, high) = g.scale;
    let x = |value: f64| 3.0 + (width - 6.0) * (value.clamp(low, high) - low) / (high - low);
    svg.rect(x(low), 3.0, x(high) - x(low), 10.0, "#f3f4f6");
    svg.rect(x(g.goal.0), 3.0, x(g.goal.1) - x(g.goal.0), 10.0, "#d3e9e0");
    let edge = if g.goal.0 > low { g.goal.0 } else { g.goal.1 };
    svg.line((x(edge), 1.0), (x(edge), 15.0), MILD, 1.4);
    if let Some((from, to)) = g.interval {
        svg.line((x(from), 8.0), (x(to), 8.0), INK, 1.6);
    }
    match g.value {
        Some(value) => svg.circle((x(value), 8.0), 3.0, INK, "#ffffff", ""),
        None => svg.text((width / 2.0, 11.0), "no data", LABEL.at(Anchor::Middle)),
    }
    svg.finish()
}

/// Shares of time in mild, moderate and severe pain, baseline beside trial.
pub fn time_in_range(baseline: Option<[f64; 3]>, trial: Option<[f64; 3]>) -> String {
    let mut svg = Svg::new(
        230.0,
        128.0,
        "Share of time in mild, moderate and severe pain",
    );
    let (top, tall) = (6.0, 104.0);
    for (left, name, shares) in [(26.0, "baseline", baseline), (84.0, "trial", trial)] {
        svg.text(
            (left + 20.0, top + tall + 13.0),
            name,
            LABEL.at(Anchor::Middle).bold(),
        );
        let Some([mild, moderate, severe]) = shares else {
            svg.hatched(left, top, 40.0, tall);
            continue;
        };
        let mut y = top + tall;
        for (share, color, dark) in [
            (mild, MILD, true),
            (moderate, MODERATE, false),
            (severe, SEVERE, true),
        ] {
            let height = tall * share;
            y -= height;
            svg.rect(left, y, 40.0, height, color);
            if height > 10.0 {
                let fill = if dark { "#ffffff" } else { INK };
                let style = LABEL.at(Anchor::Middle).fill(fill).bold();
                svg.text(
                    (left + 20.0, y + height / 2.0 + 3.0),
                    &format!("{:.0} %", 100.0 * share),
                    style,
                );
            }
        }
    }
    for (y, name, range, color) in [
        (20.0, "severe", "7 to 10", SEVERE),
        (60.0, "moderate", "4 to 6", MODERATE),
        (100.0, "mild", "0 to 3", MILD),
    ] {
        svg.rect(136.0, y - 7.0, 7.0, 7.0, color);
        svg.text((148.0, y), name, LABEL.bold().fill(INK));
        svg.text((148.0, y + 10.0), range, LABEL);
    }
    svg.finish()
}

/// The days folded into one: median and range of each three hours, with each score behind.
pub fn typical_day(m: &Measures, clock: &Clock, settings: &Settings) -> String {
    let (width, height, left, zero, top) = (250.0, 118.0, 18.0, 102.0, 6.0);
    let mut svg = Svg::new(width, height, "Pain by hour of the day");
    let x = |hour: f64| left + (width - left - 6.0) * hour / 24.0;
    let y = |score: f64| zero - (zero - top) * score / 10.0;
    let (night, morning) = (settings.night_from_h, settings.night_to_h);
    if night > morning {
        svg.rect(x(0.0), top, x(morning) - x(0.0), zero - top, GROUND);
        svg.rect(x(night), top, x(24.0) - x(night), zero - top, GROUND);
        svg.text((x(0.0) + 3.0, top + 9.0), "night", LABEL.size(7.0));
    }
    for score in [0.0, 5.0, 10.0] {
        svg.line((left, y(score)), (x(24.0), y(score)), HAIR, 0.5);
        svg.text(
            (left - 4.0, y(score) + 2.8),
            &format!("{score}"),
            LABEL.at(Anchor::End),
        );
    }
    for hour in [0.0, 6.0, 12.0, 18.0, 24.0] {
        svg.text(
            (x(hour), zero + 11.0),
            &format!("{hour:02}:00"),
            LABEL.at(if hour > 23.0 {
                Anchor::End
            } else {
                Anchor::Middle
            }),
        );
    }
    let by_bin = |series: &[Valued]| -> Vec<(f64, Vec<f64>)> {
        let mut bins: Vec<(f64, Vec<f64>)> = (0..8)
            .map(|bin| (3.0 * count(bin) + 1.5, Vec::new()))
            .collect();
        for (at, score) in series {
            let hour = clock.hour_of_day(*at);
            if let Some((_, scores)) = bins.iter_mut().find(|(middle, _)| hour < middle + 1.5) {
                scores.push(*score);
            }
        }
        for (_, scores) in &mut bins {
            scores.sort_by(f64::total_cmp);
        }
        bins
    };
    for (middle, scores) in by_bin(&m.rest.evaluated) {
        let (Some(low), Some(high)) = (scores.first(), scores.last()) else {
            continue;
        };
        svg.rect(
            x(middle - 1.4),
            y(*high),
            x(middle + 1.4) - x(middle - 1.4),
            (y(*low) - y(*high)).max(0.8),
            "#dde4f0",
        );
        if scores.len() >= 4 {
            let (from, to) = (quantile(&scores, 0.25), quantile(&scores, 0.75));
            svg.rect(
                x(middle - 1.4),
                y(to),
                x(middle + 1.4) - x(middle - 1.4),
                (y(from) - y(to)).max(0.8),
                "#b4c2da",
            );
        }
    }
    for (series, color, width) in [
        (&m.rest.baseline, GREY, 0.9),
        (&m.rest.evaluated, DRUG, 1.8),
    ] {
        for (middle, scores) in by_bin(series) {
            if !scores.is_empty() {
                let middle_score = y(quantile(&scores, 0.5));
                svg.line(
                    (x(middle - 1.4), middle_score),
                    (x(middle + 1.4), middle_score),
                    color,
                    width,
                );
            }
        }
    }
    svg.finish()
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (count(sorted.len()) - 1.0).max(0.0);
    let low = usize::try_from(crate::num::nearest(place.floor())).unwrap_or(0);
    let at = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(0.0);
    at(low) + (at(low + 1) - at(low)) * (place - place.floor())
}

/// One day of the trial, small.
#[derive(Clone, Debug)]
pub struct Day {
    /// From trial start, whole days; the last may be shorter.
    pub span: Span,
    /// The drawing.
    pub svg: String,
    /// Mean of the day.
    pub mean: Option<f64>,
    /// Delivered drug, mcg; none where any hour is not known.
    pub delivered_mcg: Option<f64>,
    /// Boluses granted, and refused.
    pub boluses: (usize, usize),
    /// Rescue doses.
    pub rescues: usize,
}

/// The trial day by day, run-ins included.
pub fn days(m: &Measures, settings: &Settings) -> Vec<Day> {
    let Some(phases) = &m.phases else {
        return Vec::new();
    };
    let day = hours_ms(24);
    let n = phases.trial.ms().div_euclid(day) + i64::from(phases.trial.ms() % day > hours_ms(2));
    (0..n.min(28))
        .map(|i| {
            let from = phases.trial.from_ms + i * day;
            one_day(
                m,
                settings,
                Span::new(from, (from + day).min(phases.trial.to_ms)),
            )
        })
        .collect()
}

fn one_day(m: &Measures, settings: &Settings, span: Span) -> Day {
    let (width, zero, top) = (136.0, 50.0, 4.0);
    let mut svg = Svg::new(width, 62.0, "One day of the trial");
    let x = |at: i64| 2.0 + (width - 4.0) * hours(at - span.from_ms) / 24.0;
    let y = |score: f64| zero - (zero - top) * score / 10.0;
    if let Some(baseline) = m.rest.relief.baseline_mean {
        let line = y(baseline * (1.0 - settings.relief_line_percent / 100.0));
        svg.rect(2.0, line, x(span.to_ms) - 2.0, zero - line, GOAL);
        svg.dashed((2.0, line), (x(span.to_ms), line), MILD, 0.7, "2 1.5");
    }
    for gap in m
        .completeness
        .gaps
        .iter()
        .filter_map(|gap| gap.shared(span))
    {
        svg.hatched(
            x(gap.from_ms),
            top,
            x(gap.to_ms) - x(gap.from_ms),
            zero - top,
        );
    }
    svg.line((2.0, zero), (x(span.to_ms), zero), HAIR, 0.6);
    let windows = [span];
    let joining = Joining {
        windows: &windows,
        sleep: &m.sleep,
        longest_h: settings.longest_segment_h,
    };
    let scores: Vec<Valued> = m
        .diary
        .standing(Condition::Rest, settings.use_unconfirmed > 0.0)
        .iter()
        .map(|s| (s.at_ms, f64::from(s.score)))
        .collect();
    let inside = joining.inside(&scores);
    let segments = joining.segments(&inside);
    for (a, b) in &segments {
        svg.line((x(a.0), y(a.1)), (x(b.0), y(b.1)), "#8d96a1", 0.7);
    }
    for (at, score) in &inside {
        svg.score((x(*at), y(*score)), *score, true, "");
    }
    let presses = || m.delivery.boluses.iter().filter(|b| span.contains(b.at_ms));
    for press in presses() {
        svg.bolus((x(press.at_ms), zero + 6.5), press.granted, "");
    }
    Day {
        span,
        svg: svg.finish(),
        mean: crate::pain::time_weighted_mean(&segments),
        delivered_mcg: crate::measure::mcg_per_day(&m.delivery, span)
            .map(|rate| rate * span.hours() / 24.0),
        boluses: (
            presses().filter(|b| b.granted).count(),
            presses().filter(|b| !b.granted).count(),
        ),
        rescues: m
            .doses
            .iter()
            .filter(|d| d.rescue && span.contains(d.at_ms))
            .count(),
    }
}

/// The four estimands against the protocol's line, in percent relief.
pub fn estimands(rows: &[(&str, &Relief)], settings: &Settings) -> String {
    let (left, width) = (4.0, 196.0);
    let height = 20.0 * count(rows.len()) + 16.0;
    let mut svg = Svg::new(
        width,
        height,
        "Relief under four questions, with 95 % intervals",
    );
    let x =
        |percent: f64| left + (width - 2.0 * left) * (percent.clamp(-25.0, 100.0) + 25.0) / 125.0;
    let line = settings.relief_line_percent;
    svg.rect(x(line), 0.0, x(100.0) - x(line), height - 14.0, GOAL);
    svg.line((x(line), 0.0), (x(line), height - 14.0), MILD, 1.2);
    for percent in [0.0, 50.0, 100.0] {
        svg.line((x(percent), 0.0), (x(percent), height - 14.0), HAIR, 0.5);
        svg.text(
            (x(percent), height - 4.0),
            &format!("{percent:.0} %"),
            LABEL.at(if percent > 99.0 {
                Anchor::End
            } else {
                Anchor::Middle
            }),
        );
    }
    for (row, (_, relief)) in rows.iter().enumerate() {
        let y = 10.0 + 20.0 * count(row);
        if let Some(model) = &relief.model {
            let (low, high) = model.percent_interval_95;
            svg.line((x(low), y), (x(high), y), INK, 1.6);
        }
        match relief.percent {
            Some(percent) => svg.circle((x(percent), y), 3.0, INK, "#ffffff", ""),
            None => svg.text((x(0.0) + 4.0, y + 3.0), "not known", LABEL),
        }
    }
    svg.finish()
}

/// Whether delivery can be drawn at all.
pub fn has_delivery(m: &Measures) -> bool {
    m.header.origin == Origin::Pump || !m.delivery.by_hour.is_empty()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact in binary")]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_an_axis_is_round_and_not_below_the_value() {
        for (value, wanted) in [(0.0, 1.0), (21.3, 30.0), (0.07, 0.08), (100.0, 100.0)] {
            assert!((nice_above(value) - wanted).abs() < 1e-9, "{value}");
        }
        assert_eq!(short(0.50), "0.5");
        assert_eq!(short(20.0), "20");
    }

    #[test]
    fn quantiles_are_on_the_line_between_scores() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&sorted, 0.5), 2.5);
        assert_eq!(quantile(&sorted, 0.0), 1.0);
        assert_eq!(quantile(&sorted, 1.0), 4.0);
    }
}
