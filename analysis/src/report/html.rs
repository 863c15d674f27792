//! `report.html`: one page in the order in which it is read. The verdict and its criteria, the
//! trial at a glance, the numbers, then what stands behind them.
//!
//! The page is whole: styles and drawings inline, no scripts, nothing fetched. Every text from
//! outside is cleaned and escaped. Times are the ward's, zone named; quantities follow ISMP.

use super::charts::{self, Gauge, words};
use super::clock::{Clock, length};
use super::timeline;
use super::verdict::software;
use crate::decide::{Decision, Verdict, probability_words};
use crate::input::Origin;
use crate::measure::{Measures, ModelSays, Relief};
use crate::num::{count, nearest, shown};
use crate::payers::Payer;
use crate::protocols::{Protocol, Settings};
use crate::safety;
use crate::trial::Span;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use protocol::units::{Concentration, FlowRate, Mass, Volume};
use record::verify::Evidence;

/// The whole page.
pub fn page(m: &Measures, decision: &Decision, payers: &[Payer], protocol: &Protocol) -> String {
    let zone = if m.zone.1 {
        m.header.zone.as_str()
    } else {
        "UTC"
    };
    let clock = Clock::new(m.zone.0.clone(), zone);
    let page = Page {
        m,
        decision,
        payers,
        protocol,
        settings: &protocol.settings,
        clock,
    };
    page.whole().into_string()
}

struct Page<'a> {
    m: &'a Measures,
    decision: &'a Decision,
    payers: &'a [Payer],
    protocol: &'a Protocol,
    settings: &'a Settings,
    clock: Clock,
}

/// What a criterion came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Yes,
    No,
    Unknown,
    /// The verdict was reached without it.
    NotJudged,
}

impl Met {
    fn of(met: Option<bool>) -> Self {
        match met {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::Unknown,
        }
    }

    fn show(self) -> Markup {
        match self {
            Self::Yes => html! { span.yes { "✓ met" } },
            Self::No => html! { span.no { "✗ not met" } },
            Self::Unknown => html! { span.unknown { "? cannot tell" } },
            Self::NotJudged => html! { span.unknown { "not judged" } },
        }
    }
}

fn clean(text: &str) -> String {
    protocol::text::clean(text, 200)
}

fn svg(drawing: String) -> Markup {
    PreEscaped(drawing)
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("–".into(), |v| {
        let text = format!("{v:.decimals$}");
        // A loss that rounds to nothing has no sign.
        if text
            .trim_start_matches('-')
            .chars()
            .all(|c| c == '0' || c == '.')
        {
            text.trim_start_matches('-').into()
        } else {
            text.replace('-', "−")
        }
    })
}

fn percent(value: Option<f64>) -> String {
    value.map_or("–".into(), |_| format!("{} %", number(value, 0)))
}

fn mass(mcg: f64) -> String {
    Mass::from_nanograms(
        u64::try_from(nearest(mcg * 10.0))
            .unwrap_or(0)
            .saturating_mul(100),
    )
    .to_string()
}

impl Page<'_> {
    fn whole(&self) -> Markup {
        let title = format!(
            "Trial {}: {}",
            clean(&self.m.header.trial_id),
            self.decision.verdict.words()
        );
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width";
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        (self.banner())
                        (self.header())
                        (self.verdict_and_criteria())
                        (self.proof_line())
                        (self.timeline())
                        (self.numbers())
                        (self.days())
                        (self.questions())
                        (self.steps())
                        (self.lists())
                        (self.notes())
                        (self.data())
                        (Self::assessment())
                        (self.footer())
                    }
                }
            }
        }
    }

    fn banner(&self) -> Markup {
        html! {
            @if let Some(simulated) = &self.m.header.simulated {
                p.banner {
                    strong { "SIMULATED, NOT A PATIENT" }
                    " virtual patient “" (clean(&simulated.patient)) "”, seed " (simulated.seed)
                    ", clock up to " (simulated.speed) " times real time"
                }
            }
        }
    }

    fn header(&self) -> Markup {
        let h = &self.m.header;
        let context = |word: &str| {
            h.context
                .iter()
                .find(|(w, _)| w == word)
                .map(|(_, text)| clean(text))
        };
        let strength = if h.concentration_mcg_per_ml > 0 {
            Concentration::from_micrograms_per_milliliter(h.concentration_mcg_per_ml).to_string()
        } else {
            "concentration not known".into()
        };
        html! {
            header {
                div {
                    h1 { (capital(&clean(&h.route))) " Trial Summary" }
                    p.grey {
                        "Trial " strong { (clean(&h.trial_id)) }
                        @if let Some(bed) = &h.bed { " · bed " (clean(bed)) }
                        @if let Some(text) = context("diagnosis") { " · " (text) }
                        @if let Some(text) = context("level") { " · " (text) }
                    }
                }
                div.right {
                    p { (clean(&h.drug)) " " (strength)
                        @for (drug, mcg) in &h.also {
                            " + " (clean(drug)) " " (Concentration::from_micrograms_per_milliliter(*mcg))
                        }
                    }
                    @if let Some(phases) = &self.m.phases {
                        p { (self.clock.date(phases.trial.from_ms)) " to " (self.clock.date(phases.trial.to_ms))
                            " · " (length(phases.trial.ms())) " after " (length(phases.baseline.ms())) " of baseline" }
                    }
                    p { @if let Some(pump) = &h.pump { "pump " (clean(pump)) " · " }
                        "times in " (self.clock.zone_name()) }
                }
            }
        }
    }

    fn verdict_and_criteria(&self) -> Markup {
        let class = match self.decision.verdict {
            Verdict::Supports => "supports",
            Verdict::DoesNotSupport => "against",
            Verdict::Inconclusive => "unclear",
            Verdict::NotAssessable => "open",
            Verdict::StoppedForSafety => "stopped",
        };
        html! {
            section.top {
                div class={ "verdict " (class) } {
                    p.small-caps { "Does this trial support an implant?" }
                    p.word { (self.decision.verdict.words()) }
                    @for (place, reason) in self.decision.reasons.iter().enumerate() {
                        @if place < 4 { p { (clean_long(&reason.text)) } }
                    }
                    @if self.decision.reasons.len() > 4 {
                        p { (self.decision.reasons.len() - 4) " more reasons stand under “Notes for review”." }
                    }
                    p.grey { "By the rules " (clean(&self.protocol.name)) " version " (clean(&self.protocol.version))
                        ". The decision rests with the physician." }
                }
                table.criteria {
                    thead { tr { th { "criterion" } th { "green is the goal" } th.n { "value" } th.n { "goal" } th { } } }
                    tbody { (self.criteria()) }
                }
            }
        }
    }

    fn criteria(&self) -> Markup {
        let s = self.settings;
        let c = &self.m.estimands.composite;
        let model = c.model.as_ref();
        let line = s.relief_line_percent;
        let judged = matches!(
            self.decision.verdict,
            Verdict::Supports | Verdict::DoesNotSupport | Verdict::Inconclusive
        );
        let when_judged = |met| if judged { Met::of(met) } else { Met::NotJudged };
        let chance = |p: Option<f64>, goal: f64, name: String| {
            let met = p.and_then(|p| match p {
                p if p >= goal => Some(true),
                p if p <= s.rejects_probability_line => Some(false),
                _ => None,
            });
            row(
                &name,
                &Gauge {
                    scale: (0.0, 1.0),
                    goal: (goal, 1.0),
                    value: p,
                    interval: None,
                },
                &p.map_or("–".into(), probability_words),
                &format!("≥ {goal:.2}"),
                when_judged(met),
            )
        };
        let relief_met = model.and_then(|m| match m.probability_line {
            p if p >= s.supports_probability_line => Some(true),
            p if p <= s.rejects_probability_line => Some(false),
            _ => None,
        });
        let answered = (self.m.completeness.asked > 0).then(|| {
            100.0 * count(self.m.completeness.answered) / count(self.m.completeness.asked)
        });
        let delivered = self.m.delivery.percent;
        let trial = self.m.phases.as_ref().map(|p| p.trial);
        let grade = trial.and_then(|trial| {
            self.m
                .observations
                .iter()
                .filter(|o| safety::GRADED.contains(&o.what.as_str()) && trial.contains(o.at_ms))
                .map(|o| o.value)
                .reduce(f64::max)
        });
        let worst_borne = s.intolerable_grade - 1.0;
        html! {
            (row("Pain relief",
                &Gauge { scale: (-20.0, 100.0), goal: (line, 100.0), value: c.percent, interval: model.map(|m| m.percent_interval_95) },
                &percent(c.percent), &format!("≥ {line:.0} %"), when_judged(relief_met)))
            (chance(model.map(|m| m.probability_line), s.supports_probability_line, format!("Chance of ≥ {line:.0} %")))
            (chance(model.map(|m| m.probability_floor), s.supports_probability_floor, format!("Chance of ≥ {:.0} %", s.relief_floor_percent)))
            (row("Drug delivered",
                &Gauge { scale: (0.0, 110.0), goal: (s.least_delivered_percent, 110.0), value: delivered, interval: None },
                &delivered.map_or("–".into(), |p| format!("{} %", shown(p, 1))), &format!("≥ {} %", s.least_delivered_percent),
                Met::of(delivered.map(|p| p >= s.least_delivered_percent))))
            (row("Scores answered",
                &Gauge { scale: (0.0, 100.0), goal: (s.least_answered_percent, 100.0), value: answered, interval: None },
                &percent(answered), &format!("≥ {} %", s.least_answered_percent),
                Met::of(answered.map(|p| p >= s.least_answered_percent))))
            (row("Worst side effect",
                &Gauge { scale: (0.0, 3.0), goal: (0.0, worst_borne), value: grade, interval: None },
                &grade.map_or("–".into(), |g| format!("grade {g}")), &format!("≤ {worst_borne}"),
                Met::of(grade.map(|g| g <= worst_borne))))
            tr {
                td { "Signs to stop" } td { }
                td.n { (self.m.signs.len()) } td.n { "0" }
                td { (Met::of(self.m.phases.as_ref().map(|_| self.m.signs.is_empty() && self.decision.verdict != Verdict::StoppedForSafety)).show()) }
            }
        }
    }

    fn proof_line(&self) -> Markup {
        let p = &self.m.proof;
        let (class, words) = match p.evidence {
            Evidence::Complete => (
                "good",
                "RECORD COMPLETE: every event from the first to the signed close, unaltered since the pump stored it.",
            ),
            Evidence::Gaps => (
                "doubt",
                "RECORD COMPLETE WITH NAMED GAPS: unaltered, but events are missing.",
            ),
            Evidence::Open => (
                "doubt",
                "RECORD NOT CLOSED: unaltered as far as it is signed.",
            ),
            Evidence::Imported => (
                "doubt",
                "IMPORTED, NOT CHAINED: from a diary; nobody can prove that it was not changed.",
            ),
            Evidence::Altered => (
                "bad",
                "NOT VERIFIED: the record was altered or forged. No figure on this page can be relied on.",
            ),
        };
        html! {
            section class={ "proof " (class) } {
                strong { (words) }
                @if p.missing > 0 {
                    " Missing: " (p.missing) " events. "
                    @for hole in p.holes.iter().take(6) { span { (clean(hole)) "; " } }
                    @if p.holes.len() > 6 { (p.holes.len() - 6) " more holes. " }
                    "This report cannot be relied on for them."
                }
                @for (source, seq) in &p.unsigned_from { " " (clean(source)) " unsigned from seq " (seq) "." }
                @if p.not_proven > 0 { " " (p.not_proven) " events present, not proven." }
                @if let Some(wrong) = p.wrong.first() { " First: " (clean(wrong)) "." }
            }
        }
    }

    fn timeline(&self) -> Markup {
        html! {
            section {
                h2 { "The trial at a glance"
                    small { "● mild ◆ moderate ▲ severe, × not answered, ■ rescue; hollow: not counted, refused; hatched: not known" } }
                (svg(timeline::timeline(self.m, &self.clock, self.settings)))
                p.grey.fine { "Delivered is what the pump counted, encoder-confirmed: not proof that it reached the spine. Scores after each programmed change (run-in) are shown and not evaluated. Lines join scores only where no gap lies between them." }
            }
        }
    }

    fn numbers(&self) -> Markup {
        let rest = &self.m.rest;
        let r = &rest.relief;
        let model = r.model.as_ref();
        let (before, under) = self.by_phase();
        html! {
            section.columns {
                div.wide {
                    h2 { "Numbers" small { "at rest, as lived; time-weighted; serial correlation allowed for" } }
                    table.figures {
                        thead { tr { th { } th.n { "baseline" } th.n { "trial" } th.n { "change" } } }
                        tbody {
                            (figure("Mean pain", &number(r.baseline_mean, 1), &number(r.trial_mean, 1), &change(r)))
                            tr.sub { td { "95 % interval of relief" } td { } td { } td.n { (interval(model)) } }
                            (figure("Worst pain", &worst(&rest.baseline), &number(rest.worst, 0), ""))
                            (figure(&format!("Hours at {} or more", self.settings.severe_score), "", &hours(rest.severe_h), ""))
                            (figure("Longest run with ≥ 50 %", "", &hours(rest.longest_run_h), ""))
                            (figure("Time with ≥ 50 %, not rescued", "", &percent(rest.responder_over_time.map(|s| 100.0 * s)), ""))
                            (figure("Scores (worth, independent)", &worth(r.n_baseline, model.map(|m| m.effective_n_baseline)), &worth(r.n_trial, model.map(|m| m.effective_n_trial)),
                                &model.map_or(String::new(), |m| format!("r {:.2} at {} h", m.autocorrelation, shown(m.spacing_h, 1)))))
                            (figure("Mean pain on movement", &number(self.m.movement.relief.baseline_mean, 1), &number(self.m.movement.relief.trial_mean, 1), &change(&self.m.movement.relief)))
                            (figure("Boluses a day (+ refused)", "", &self.boluses_a_day(), ""))
                            (figure("Rescue doses", &before.0.to_string(), &under.0.to_string(), ""))
                            (figure("Oral rescue, MME a day", &number(before.1, 0), &number(under.1, 0), ""))
                            (figure("Delivered in the trial", "", &self.delivered(), ""))
                        }
                    }
                }
                div {
                    h2 { "Time in pain range" }
                    (svg(charts::time_in_range(rest.range_baseline, rest.range_trial)))
                    h2 { "A typical day" small { "median, half, range" } }
                    (svg(charts::typical_day(self.m, &self.clock, self.settings)))
                    p.fine.grey { "Blue: evaluated trial. Grey lines: baseline." }
                }
            }
        }
    }

    fn boluses_a_day(&self) -> String {
        let Some(days) = self
            .m
            .phases
            .as_ref()
            .map(|p| p.trial.hours() / 24.0)
            .filter(|d| *d > 0.0)
        else {
            return "–".into();
        };
        if self.m.header.origin == Origin::Import {
            return "–".into();
        }
        let granted = self.m.delivery.boluses.iter().filter(|b| b.granted).count();
        let refused = self.m.delivery.boluses.len() - granted;
        format!(
            "{} + {}",
            shown(count(granted) / days, 1),
            shown(count(refused) / days, 1)
        )
    }

    fn delivered(&self) -> String {
        let volume =
            self.m.delivery.delivered_nl.map(|nl| {
                Volume::from_nanoliters(u64::try_from(nearest(nl)).unwrap_or(0)).to_string()
            });
        let known: Option<f64> = self
            .m
            .delivery
            .by_hour
            .iter()
            .map(|h| h.delivered_mcg)
            .sum();
        match (volume, known.filter(|mcg| *mcg > 0.0)) {
            (Some(volume), Some(mcg)) => format!("{volume}, {}", mass(mcg)),
            (Some(volume), None) => volume,
            (None, _) => "–".into(),
        }
    }

    /// Rescue doses and MME a day, before and under the drug.
    fn by_phase(&self) -> ((usize, Option<f64>), (usize, Option<f64>)) {
        let of = |span: Span| {
            let doses: Vec<_> = self
                .m
                .doses
                .iter()
                .filter(|d| span.contains(d.at_ms))
                .collect();
            let days = span.hours() / 24.0;
            let mme: f64 = doses
                .iter()
                .filter_map(|d| crate::rescue::oral_mme(d))
                .sum();
            let known = doses.iter().all(|d| crate::rescue::oral_mme(d).is_some()) && days > 0.0;
            (
                doses.iter().filter(|d| d.rescue).count(),
                known.then(|| mme / days),
            )
        };
        self.m
            .phases
            .as_ref()
            .map_or(((0, None), (0, None)), |p| (of(p.baseline), of(p.trial)))
    }

    fn days(&self) -> Markup {
        let days = charts::days(self.m, self.settings);
        html! {
            @if !days.is_empty() {
                section {
                    h2 { "Day by day" small { "24 hours each from the start of the drug; dashed: 50 % relief; ▲ bolus" } }
                    div.days {
                        @for (place, day) in days.iter().enumerate() {
                            div {
                                p.fine { strong { "Day " (place + 1) } " " (self.clock.moment(day.span.from_ms)) }
                                (svg(day.svg.clone()))
                                p.fine.grey {
                                    "mean " (number(day.mean, 1))
                                    @if let Some(mcg) = day.delivered_mcg { " · " (mass(mcg)) }
                                    " · " (day.boluses.0) " + " (day.boluses.1) " ▲"
                                    @if day.rescues > 0 { " · " (day.rescues) " ■" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn questions(&self) -> Markup {
        let e = &self.m.estimands;
        let rows: [(&str, &str, &Relief); 4] = [
            ("As lived", "every score as given", &e.as_lived),
            (
                "Rescue as failure",
                "decides: a rescued score is the baseline or worse",
                &e.composite,
            ),
            (
                "As if no rescue",
                "a rescued score counts 1.5 points more",
                &e.no_rescue,
            ),
            (
                "While infusing",
                "without the time in which the pump did not deliver",
                &e.while_infusing,
            ),
        ];
        let drawn: Vec<(&str, &Relief)> = rows
            .iter()
            .map(|(name, _, relief)| (*name, *relief))
            .collect();
        html! {
            section {
                h2 { "The same scores under four questions" }
                div.estimands {
                    table.figures.lines {
                        tbody {
                            @for (name, about, relief) in rows {
                                tr {
                                    td { strong { (name) } } td.grey { (about) }
                                    td.n { strong { (percent(relief.percent)) } }
                                    td.n.grey { (interval(relief.model.as_ref())) }
                                }
                            }
                        }
                    }
                    (svg(charts::estimands(&drawn, self.settings)))
                }
                p.fine.grey { (self.tipping()) }
            }
        }
    }

    fn tipping(&self) -> String {
        let s = &self.m.sensitivity;
        let shift = match s.tipping_shift_points {
            Some(shift) => format!(
                "The answer would change if every evaluated score were {:.2} points {}.",
                shift.abs(),
                if shift > 0.0 { "higher" } else { "lower" }
            ),
            None => {
                "No shift of up to 5 points would change the answer, or there is none to change."
                    .into()
            }
        };
        format!(
            "{shift} Relief would be {} had every prompt that was not answered been the worst score, {} with run-ins.",
            percent(s.missed_as_worst),
            percent(s.with_run_ins)
        )
    }

    fn steps(&self) -> Markup {
        html! {
            @if !self.m.steps.is_empty() {
                section {
                    h2 { "Dose and response" small { "dose and time rise together in a titration: this is a description" } }
                    table.figures {
                        thead { tr { th { "programmed" } th { "from" } th { "to" } th.n { "delivered a day" } th.n { "scores" } th.n { "mean pain" } th.n { "relief" } } }
                        tbody {
                            @for step in &self.m.steps {
                                tr {
                                    td { (step.programmed_nl_per_h.and_then(|r| u32::try_from(r).ok()).map_or("–".into(), |r| FlowRate::from_nanoliters_per_hour(r).to_string())) }
                                    td { (self.clock.moment(step.span.from_ms)) } td { (self.clock.moment(step.span.to_ms)) }
                                    td.n { (step.delivered_mcg_per_day.map_or("–".into(), mass)) }
                                    td.n { (step.n) } td.n { (number(step.mean, 1)) } td.n { (percent(step.percent)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn lists(&self) -> Markup {
        html! {
            section {
                h2 { "What payers ask" small { "no payer's decision; rescued time counts as failure" } }
                div.payers {
                    @for payer in self.payers {
                        div {
                            p { strong { (payer.name) } }
                            ul {
                                @for c in &payer.criteria {
                                    li { (Met::of(c.met).payer()) " " (c.text) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn notes(&self) -> Markup {
        let stops: Vec<Span> = self
            .m
            .delivery
            .interruptions
            .iter()
            .copied()
            .filter(|s| s.ms() >= 600_000)
            .collect();
        html! {
            section {
                h2 { "Notes for review" }
                ul.notes {
                    @for reason in self.decision.reasons.iter().chain(&self.decision.notes) {
                        li { (clean_long(&reason.text))
                            @if !reason.events.is_empty() {
                                span.events { " " (reason.events.iter().take(6).map(|e| clean(e)).collect::<Vec<_>>().join(", "))
                                    @if reason.events.len() > 6 { " and " (reason.events.len() - 6) " more" } }
                            }
                        }
                    }
                    @for stop in stops.iter().take(8) {
                        li { "No infusion from " (self.clock.moment(stop.from_ms)) " to " (self.clock.moment(stop.to_ms)) " (" (length(stop.ms())) ")." }
                    }
                    @for alarm in self.m.delivery.alarms.iter().filter(|a| a.stops_delivery()).take(12) {
                        li { "Alarm of the pump, " (words(&alarm.code)) ", " (self.clock.moment(alarm.span.from_ms))
                            @if alarm.span.to_ms < i64::MAX { " for " (length(alarm.span.ms())) } "." span.events { " " (clean(&alarm.id)) } }
                    }
                }
            }
        }
    }

    fn data(&self) -> Markup {
        let c = &self.m.completeness;
        let p = &self.m.proof;
        html! {
            section.fine {
                h2 { "Data and proof" }
                p {
                    (c.answered) " of " (c.asked) " scores asked for were answered; " (c.spontaneous) " spontaneous, "
                    (c.unconfirmed) " never confirmed, " (c.corrected) " corrected; longest awake gap "
                    (hours(c.longest_gap_h)) ", " (c.gaps.len()) " gaps over " (self.settings.longest_segment_h) " h awake. "
                    "Awake time in gaps: baseline " (number(Some(c.gap_percent.0), 0)) " %, evaluated trial " (number(Some(c.gap_percent.1), 0)) " %. "
                    @if let Some(phases) = &self.m.phases {
                        "Evaluated: " (shown(phases.evaluated_h(), 1)) " h outside run-ins of " (phases.run_in_h) " h (by " (phases.run_in_source) "). "
                    }
                    "Nights " (self.settings.night_from_h) ":00 to " (self.settings.night_to_h) ":00 count as sleep. "
                    @if !self.m.delivery.unknown.is_empty() { (self.m.delivery.unknown.len()) " spans in which the counters said nothing. " }
                }
                p {
                    (p.events) " events of the pump"
                    @if p.quarantined > 0 { ", " (p.quarantined) " more set aside" }
                    @if let Some((key, from_record)) = &p.key { " · pump key " (clean(key)) @if *from_record { " (taken from the record)" } }
                    @if let Some(digest) = &p.digest { " · SHA-256 over all rows " span.mono { (clean(digest)) } }
                }
                p {
                    "Means are time-weighted by trapezoids between answered scores; nothing is filled in or extrapolated. "
                    "Interval and chances come from a model with a flat mean in each phase and correlated scores, its correlation integrated out. "
                    "Every threshold stands in verdict.json with its source."
                }
            }
        }
    }

    fn assessment() -> Markup {
        html! {
            section.sign {
                p { strong { "Physician’s own assessment" } "  □ proceed to implant  □ extend or repeat  □ do not implant" }
                p { "Signature " span.rule { } " Date " span.rule.short { } }
            }
        }
    }

    fn footer(&self) -> Markup {
        html! {
            footer {
                p {
                    @if self.m.header.simulated.is_some() { strong { "SIMULATED, NOT A PATIENT. " } }
                    "Decision support, not a decision: the physician decides. Not a cleared medical device. "
                    "Rules " (clean(&self.protocol.name)) " " (clean(&self.protocol.version)) " · " (software())
                    " · trial " (clean(&self.m.header.trial_id)) " · figures for programs: verdict.json"
                }
            }
        }
    }
}

impl Met {
    fn payer(self) -> Markup {
        match self {
            Self::Yes => html! { span.yes { "✓" } },
            Self::No => html! { span.no { "✗ not met:" } },
            Self::Unknown | Self::NotJudged => html! { span.unknown { "? no data:" } },
        }
    }
}

/// A sentence of ours that holds words from outside.
fn clean_long(text: &str) -> String {
    protocol::text::clean(text, 1_200)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(
        || "Pain pump".into(),
        |first| first.to_uppercase().chain(letters).collect(),
    )
}

fn row(name: &str, gauge: &Gauge, value: &str, goal: &str, met: Met) -> Markup {
    html! {
        tr {
            td { (name) }
            td { (svg(charts::gauge(gauge, &format!("{name}: {value}, goal {goal}")))) }
            td.n { strong { (value) } }
            td.n { (goal) }
            td { (met.show()) }
        }
    }
}

fn figure(name: &str, baseline: &str, trial: &str, change: &str) -> Markup {
    html! { tr { td { (name) } td.n { (baseline) } td.n { (trial) } td.n { strong { (change) } } } }
}

fn change(relief: &Relief) -> String {
    match (relief.points, relief.percent) {
        (Some(points), Some(share)) => format!(
            "{} ({} %)",
            number(Some(-points), 1),
            number(Some(-share), 0)
        ),
        (Some(points), None) => number(Some(-points), 1),
        (None, _) => "–".into(),
    }
}

fn interval(model: Option<&ModelSays>) -> String {
    model.map_or("–".into(), |m| {
        let (low, high) = m.percent_interval_95;
        format!("{} to {} %", number(Some(low), 0), number(Some(high), 0))
    })
}

fn worst(series: &[(i64, f64)]) -> String {
    number(series.iter().map(|(_, s)| *s).reduce(f64::max), 0)
}

fn worth(n: usize, effective: Option<f64>) -> String {
    effective.map_or(n.to_string(), |effective| format!("{n} ({effective:.0})"))
}

fn hours(value: Option<f64>) -> String {
    value.map_or("–".into(), |h| format!("{} h", shown(h, 1)))
}

/// The page's style; nothing in it is fetched.
const STYLE: &str = include_str!("page.css");
