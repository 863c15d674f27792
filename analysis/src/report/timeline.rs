//! The trial at a glance: scores, delivered drug, marks and side effects on one time axis. Pure.

use super::charts::{nice_above, short, words};
use super::clock::{Clock, length};
use super::svg::{Anchor, DRUG, GREY, GROUND, HAIR, INK, LABEL, MILD, SEVERE, Svg};
use crate::gaps::midnights;
use crate::measure::Measures;
use crate::num::{count, float};
use crate::pain::{Condition, Joining, Valued};
use crate::protocols::Settings;
use crate::safety;
use crate::trial::{Span, hours_ms};

/// Width of the page's charts.
const WIDE: f64 = 720.0;

/// The trial at a glance: scores, delivered rate, marks, side effects on one time axis.
pub fn timeline(m: &Measures, clock: &Clock, settings: &Settings) -> String {
    let mut chart = Timeline::new(m, clock);
    chart.grounds();
    chart.grid();
    chart.pain(settings);
    chart.delivery();
    chart.marks();
    chart.side_effects();
    chart.svg.finish()
}

struct Timeline<'a> {
    m: &'a Measures,
    clock: &'a Clock,
    svg: Svg,
    span: Span,
    effects: Vec<&'static str>,
}

impl<'a> Timeline<'a> {
    const LEFT: f64 = 44.0;
    const RIGHT: f64 = 712.0;
    const TOP: f64 = 26.0;
    const ZERO: f64 = 200.0;
    const DOSE_TOP: f64 = 217.0;
    const DOSE_ZERO: f64 = 263.0;
    const MARKS: f64 = 273.0;

    fn new(m: &'a Measures, clock: &'a Clock) -> Self {
        let effects: Vec<&str> = safety::GRADED
            .iter()
            .copied()
            .chain(["sedation_poss"])
            .filter(|what| safety::of(&m.observations, what).any(shows))
            .collect();
        let height = Self::MARKS + 30.0 + 11.0 * count(effects.len());
        let span = Span::new(
            m.whole.from_ms,
            m.whole.to_ms.max(m.whole.from_ms + hours_ms(1)),
        );
        Self {
            m,
            clock,
            svg: Svg::new(
                WIDE,
                height,
                "Pain scores, delivered drug and events on one time axis",
            ),
            span,
            effects,
        }
    }

    fn x(&self, at_ms: i64) -> f64 {
        let at = at_ms.clamp(self.span.from_ms, self.span.to_ms);
        Self::LEFT
            + (Self::RIGHT - Self::LEFT) * float(at - self.span.from_ms) / float(self.span.ms())
    }

    fn y(score: f64) -> f64 {
        Self::ZERO - (Self::ZERO - Self::TOP) * score / 10.0
    }

    fn bottom(&self) -> f64 {
        Self::MARKS + 22.0 + 11.0 * count(self.effects.len())
    }

    fn grounds(&mut self) {
        let Some(phases) = &self.m.phases else { return };
        let (from, start) = (
            self.x(phases.baseline.from_ms),
            self.x(phases.trial.from_ms),
        );
        self.svg.rect(
            from,
            Self::TOP,
            start - from,
            self.bottom() - Self::TOP - 4.0,
            GROUND,
        );
        for step in &phases.steps {
            let (from, to) = (self.x(step.span.from_ms), self.x(step.evaluated.from_ms));
            self.svg.rect(
                from,
                Self::TOP,
                to - from,
                Self::ZERO - Self::TOP,
                "#f8f5ec",
            );
            if to - from > 34.0 {
                self.svg
                    .text((from + 4.0, Self::TOP + 9.0), "run-in", LABEL.size(7.0));
            }
        }
        let gaps = self.m.completeness.gaps.clone();
        for gap in gaps {
            let (from, to) = (self.x(gap.from_ms), self.x(gap.to_ms));
            self.svg
                .hatched(from, Self::TOP, to - from, Self::ZERO - Self::TOP);
            if to - from > 26.0 {
                let at = (f64::midpoint(from, to), Self::ZERO - 4.0);
                self.svg
                    .text(at, "no score", LABEL.size(7.0).at(Anchor::Middle));
            }
        }
    }

    fn grid(&mut self) {
        for score in [0.0, 2.0, 4.0, 6.0, 8.0, 10.0] {
            let y = Self::y(score);
            self.svg.line((Self::LEFT, y), (Self::RIGHT, y), HAIR, 0.5);
            self.svg.text(
                (Self::LEFT - 5.0, y + 2.8),
                &format!("{score}"),
                LABEL.at(Anchor::End),
            );
        }
        let middle = f64::midpoint(Self::TOP, Self::ZERO);
        let style = LABEL.at(Anchor::Middle).bold().fill(INK);
        self.svg
            .upward((14.0, middle), "pain at rest, 0 to 10", style);
        let days = midnights(self.span, self.clock.zone());
        // The words at the drug's start stand a line higher.
        let mut last = f64::MIN;
        for at in &days {
            let x = self.x(*at);
            let bottom = self.bottom() - 4.0;
            self.svg.line((x, Self::TOP), (x, bottom), HAIR, 0.5);
            let start = self.m.phases.as_ref().map(|p| self.x(p.trial.from_ms));
            let crossed = start.is_some_and(|start| (x..x + 40.0).contains(&start));
            if x - last > 44.0 && x < Self::RIGHT - 40.0 && !crossed {
                let day = self.clock.day(*at);
                self.svg.text((x + 3.0, Self::TOP - 6.0), &day, LABEL);
                last = x;
            }
        }
        if let Some(phases) = &self.m.phases {
            let x = self.x(phases.trial.from_ms);
            let bottom = self.bottom() - 4.0;
            self.svg.line((x, Self::TOP - 10.0), (x, bottom), INK, 1.0);
            let words = format!("drug from {}", self.clock.moment(phases.trial.from_ms));
            self.svg
                .text((x + 3.0, Self::TOP - 16.0), &words, LABEL.bold().fill(INK));
            self.svg.text(
                (x - 3.0, Self::TOP - 16.0),
                "baseline",
                LABEL.at(Anchor::End).bold(),
            );
        }
    }

    fn pain(&mut self, settings: &Settings) {
        let m = self.m;
        if let Some(baseline) = m.rest.relief.baseline_mean {
            let y = Self::y(baseline);
            self.svg
                .dashed((Self::LEFT, y), (Self::RIGHT, y), GREY, 0.7, "4 3");
            let words = format!("baseline mean {baseline:.1}");
            self.svg
                .text((Self::RIGHT - 2.0, y - 3.0), &words, LABEL.at(Anchor::End));
            let line = baseline * (1.0 - settings.relief_line_percent / 100.0);
            let y = Self::y(line);
            self.svg
                .dashed((Self::LEFT, y), (Self::RIGHT, y), MILD, 0.9, "4 2");
            let words = format!("{:.0} % relief = {line:.1}", settings.relief_line_percent);
            self.svg
                .text((Self::LEFT + 3.0, y - 3.0), &words, LABEL.fill(MILD).bold());
        }
        let windows: Vec<Span> = m
            .phases
            .iter()
            .flat_map(|p| [p.baseline, p.trial])
            .collect();
        let joining = Joining {
            windows: &windows,
            sleep: &m.sleep,
            longest_h: settings.longest_segment_h,
        };
        let counted: Vec<Valued> = m
            .diary
            .standing(Condition::Rest, settings.use_unconfirmed > 0.0)
            .iter()
            .map(|s| (s.at_ms, f64::from(s.score)))
            .collect();
        for (a, b) in joining.segments(&counted) {
            let (from, to) = ((self.x(a.0), Self::y(a.1)), (self.x(b.0), Self::y(b.1)));
            self.svg.line(from, to, "#8d96a1", 0.7);
        }
        for score in m
            .diary
            .scores
            .iter()
            .filter(|s| s.condition == Condition::Rest)
        {
            if !self.span.contains(score.at_ms) && score.at_ms != self.span.to_ms {
                continue;
            }
            let counts = !score.corrected && score.confirmed;
            let why = match (score.corrected, score.confirmed) {
                (true, _) => ", corrected later",
                (false, false) => ", never confirmed",
                (false, true) => "",
            };
            let title = format!("{}: {}{why}", self.clock.moment(score.at_ms), score.score);
            let at = (self.x(score.at_ms), Self::y(f64::from(score.score)));
            self.svg.score(at, f64::from(score.score), counts, &title);
        }
        for asked in m
            .diary
            .asked
            .iter()
            .filter(|a| !a.answered && a.condition == Condition::Rest)
        {
            if self.span.contains(asked.at_ms) {
                let (x, y) = (self.x(asked.at_ms), Self::ZERO + 5.0);
                self.svg
                    .line((x - 1.6, y - 1.6), (x + 1.6, y + 1.6), GREY, 0.8);
                self.svg
                    .line((x - 1.6, y + 1.6), (x + 1.6, y - 1.6), GREY, 0.8);
            }
        }
    }

    fn delivery(&mut self) {
        let m = self.m;
        let middle = f64::midpoint(Self::DOSE_TOP, Self::DOSE_ZERO);
        let rates: Vec<(i64, Option<f64>)> = m
            .delivery
            .by_hour
            .iter()
            .map(|h| (h.from_ms, h.delivered_mcg))
            .collect();
        let in_mass = rates.iter().any(|(_, rate)| rate.is_some());
        let rates: Vec<(i64, Option<f64>)> = if in_mass {
            rates
        } else {
            let volume = |nl: f64| nl / 1000.0;
            m.delivery
                .by_hour
                .iter()
                .map(|h| (h.from_ms, h.delivered_nl.map(volume)))
                .collect()
        };
        let unit = if in_mass { "mcg/h" } else { "mcL/h" };
        let style = LABEL.at(Anchor::Middle).bold().fill(DRUG).size(7.0);
        self.svg.upward((10.0, middle), "delivered", style);
        self.svg.upward((18.0, middle), unit, style);
        let most = rates
            .iter()
            .filter_map(|(_, rate)| *rate)
            .fold(0.0, f64::max);
        let top = nice_above(most);
        let y = |rate: f64| Self::DOSE_ZERO - (Self::DOSE_ZERO - Self::DOSE_TOP) * rate / top;
        for tick in [0.0, top / 2.0, top] {
            self.svg
                .line((Self::LEFT, y(tick)), (Self::RIGHT, y(tick)), HAIR, 0.5);
            let label = short(tick);
            self.svg.text(
                (Self::LEFT - 5.0, y(tick) + 2.8),
                &label,
                LABEL.at(Anchor::End),
            );
        }
        if rates.is_empty() {
            let at = (f64::midpoint(Self::LEFT, Self::RIGHT), middle + 3.0);
            self.svg
                .text(at, "no delivery on record", LABEL.at(Anchor::Middle));
            return;
        }
        for (from, rate) in rates {
            let (left, right) = (self.x(from), self.x(from + hours_ms(1)));
            match rate {
                Some(rate) if rate > 0.0 => {
                    self.svg.rect(
                        left,
                        y(rate),
                        right - left + 0.2,
                        Self::DOSE_ZERO - y(rate),
                        "#c9d3e6",
                    );
                    self.svg.line((left, y(rate)), (right, y(rate)), DRUG, 1.0);
                }
                Some(_) => {}
                None => self.svg.hatched(
                    left,
                    Self::DOSE_TOP,
                    right - left,
                    Self::DOSE_ZERO - Self::DOSE_TOP,
                ),
            }
        }
        let stops = m.delivery.interruptions.clone();
        for stop in stops.iter().filter(|s| s.ms() > hours_ms(1) / 6) {
            let (from, to) = (self.x(stop.from_ms), self.x(stop.to_ms));
            self.svg
                .line((from, Self::DOSE_ZERO), (to, Self::DOSE_ZERO), SEVERE, 2.0);
            if to - from > 30.0 {
                let words = format!("stopped {}", length(stop.ms()));
                let style = LABEL.size(7.0).fill(SEVERE).at(Anchor::Middle);
                self.svg.text(
                    (f64::midpoint(from, to), Self::DOSE_ZERO - 3.0),
                    &words,
                    style,
                );
            }
        }
    }

    fn marks(&mut self) {
        let m = self.m;
        let (bolus, rescue) = (Self::MARKS + 4.0, Self::MARKS + 15.0);
        let left = Self::LEFT - 5.0;
        self.svg.text(
            (left, bolus + 2.0),
            "bolus",
            LABEL.at(Anchor::End).size(7.0),
        );
        self.svg.text(
            (left, rescue + 2.0),
            "rescue",
            LABEL.at(Anchor::End).size(7.0),
        );
        for press in &m.delivery.boluses {
            let word = if press.granted { "granted" } else { "refused" };
            let title = format!("{}: bolus {word}", self.clock.moment(press.at_ms));
            let at = (self.x(press.at_ms), bolus);
            self.svg.bolus(at, press.granted, &title);
        }
        for dose in m.doses.iter().filter(|d| self.span.contains(d.at_ms)) {
            let title = format!(
                "{}: {} {}{}",
                self.clock.moment(dose.at_ms),
                protocol::text::clean(&dose.drug, 40),
                crate::rescue::dose_words(dose.dose_mcg),
                if dose.rescue {
                    ""
                } else {
                    ", scheduled or for another reason"
                }
            );
            let (x, fill) = (
                self.x(dose.at_ms),
                if dose.rescue { INK } else { "#ffffff" },
            );
            let corners = [
                (x - 2.4, rescue - 2.4),
                (x + 2.4, rescue - 2.4),
                (x + 2.4, rescue + 2.4),
                (x - 2.4, rescue + 2.4),
            ];
            self.svg.polygon(&corners, fill, INK, &title);
        }
        for alarm in m.delivery.alarms.iter().filter(|a| a.stops_delivery()) {
            let x = self.x(alarm.span.from_ms);
            let title = format!(
                "{}: {}",
                self.clock.moment(alarm.span.from_ms),
                words(&alarm.code)
            );
            self.svg.polygon(
                &[
                    (x, bolus - 5.0),
                    (x + 4.0, bolus + 3.0),
                    (x - 4.0, bolus + 3.0),
                ],
                "#ffffff",
                SEVERE,
                &title,
            );
            self.svg.text(
                (x, bolus + 2.2),
                "!",
                LABEL.size(7.0).fill(SEVERE).bold().at(Anchor::Middle),
            );
        }
    }

    fn side_effects(&mut self) {
        let effects = self.effects.clone();
        for (row, what) in effects.into_iter().enumerate() {
            let y = Self::MARKS + 26.0 + 11.0 * count(row);
            let name = words(what);
            self.svg.text(
                (Self::LEFT - 5.0, y + 2.0),
                &name,
                LABEL.at(Anchor::End).size(7.0),
            );
            let noted: Vec<(i64, f64)> = safety::of(&self.m.observations, what)
                .map(|o| (o.at_ms, o.value))
                .collect();
            // A grade holds until the next note of the same sign, and half a day at most.
            for (place, (at, grade)) in noted.iter().enumerate() {
                if *grade < least_shown(what) || !self.span.contains(*at) {
                    continue;
                }
                let next = noted
                    .get(place + 1)
                    .map_or(self.span.to_ms, |(next, _)| *next);
                let (from, to) = (self.x(*at), self.x(next.min(at + hours_ms(12))));
                let color = if *grade >= 3.0 { SEVERE } else { "#8d7a4f" };
                self.svg
                    .rect(from, y - 2.2, (to - from).max(2.5), 4.4, color);
                if to - from > 8.0 {
                    let style = LABEL.size(6.5).fill("#ffffff").at(Anchor::Middle);
                    self.svg.text(
                        (f64::midpoint(from, to), y + 2.2),
                        &format!("{grade}"),
                        style,
                    );
                }
            }
        }
    }
}

fn least_shown(what: &str) -> f64 {
    if what == "sedation_poss" { 3.0 } else { 1.0 }
}

fn shows(o: &safety::Observation) -> bool {
    o.value >= least_shown(&o.what)
}
