//! The calculations on scores: relief under each question, and what would change it. Pure.

use super::{
    Completeness, Delivery, Estimands, ModelSays, Pain, Relief, Sensitivity, StepRelief,
    mcg_per_day,
};
use crate::estimate::{Model, points};
use crate::gaps;
use crate::num::float;
use crate::pain::{
    self, Condition, Diary, Joining, Valued, hours_where, known_hours, longest_run_h,
    time_in_range, time_weighted_mean,
};
use crate::protocols::Settings;
use crate::rescue::{Windows, composite, no_rescue, while_infusing};
use crate::trial::{Phases, Span};

pub(super) fn standing(diary: &Diary, condition: Condition, settings: &Settings) -> Vec<Valued> {
    values(&diary.standing(condition, settings.use_unconfirmed > 0.0))
}

fn values(scores: &[&pain::Score]) -> Vec<Valued> {
    scores
        .iter()
        .map(|score| (score.at_ms, crate::estimate::value(score.score)))
        .collect()
}

/// What the calculations on scores share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) phases: Option<&'a Phases>,
    pub(super) sleep: &'a [Span],
    pub(super) settings: &'a Settings,
    /// The longest awake segment of the series at hand, hours.
    pub(super) longest_h: f64,
}

impl Context<'_> {
    fn joining<'a>(&'a self, windows: &'a [Span]) -> Joining<'a> {
        Joining {
            windows,
            sleep: self.sleep,
            longest_h: self.longest_h,
        }
    }

    /// Relief of a series in the evaluated windows against a baseline.
    fn relief(&self, baseline: &[Valued], trial: &[Valued], windows: &[Span]) -> Relief {
        let Some(phases) = self.phases else {
            return Relief::default();
        };
        let before = [phases.baseline];
        let mean = |windows: &[Span], series: &[Valued]| {
            time_weighted_mean(&self.joining(windows).segments(series))
        };
        let baseline_mean = mean(&before, baseline);
        let trial_mean = mean(windows, trial);
        let points = baseline_mean.zip(trial_mean).map(|(b, t)| b - t);
        let enough = baseline_mean.is_some_and(|b| b >= self.settings.least_baseline_mean);
        let percent = points
            .zip(baseline_mean)
            .filter(|_| enough)
            .map(|(points, baseline)| 100.0 * points / baseline);
        Relief {
            n_baseline: baseline.len(),
            n_trial: trial.len(),
            baseline_mean,
            trial_mean,
            points,
            percent,
            model: enough.then(|| self.model(baseline, trial)).flatten(),
        }
    }

    fn model(&self, baseline: &[Valued], trial: &[Valued]) -> Option<ModelSays> {
        let model = fit(baseline, trial)?;
        Some(ModelSays {
            baseline_mean: model.baseline_mean(),
            trial_mean: model.trial_mean(),
            percent_interval_95: model.relief_percent_interval_95(),
            points_interval_95: model.relief_points_interval_95(),
            probability_floor: model
                .probability_at_least(self.settings.relief_floor_percent / 100.0),
            probability_line: model.probability_at_least(self.settings.relief_line_percent / 100.0),
            probability_30: model.probability_at_least(0.3),
            probability_50: model.probability_at_least(0.5),
            effective_n_baseline: model.effective_n_baseline(),
            effective_n_trial: model.effective_n_trial(),
            autocorrelation: model.autocorrelation(),
            spacing_h: model.spacing_h(),
        })
    }

    pub(super) fn pain(&self, diary: &Diary, condition: Condition, rescued: &Windows) -> Pain {
        let Some(phases) = self.phases else {
            return Pain::default();
        };
        let series = standing(diary, condition, self.settings);
        let windows = phases.evaluated();
        let before = [phases.baseline];
        let (baseline_join, trial_join) = (self.joining(&before), self.joining(&windows));
        let baseline = before_end(baseline_join.inside(&series), phases.baseline);
        let evaluated = trial_join.inside(&series);
        let relief = self.relief(&baseline, &evaluated, &windows);
        let segments = trial_join.segments(&evaluated);
        let known_h = known_hours(&segments);
        let known = |value: f64| (known_h > 0.0).then_some(value);
        let line = relief
            .baseline_mean
            .map(|b| b * (1.0 - self.settings.relief_line_percent / 100.0));
        let severe = self.settings.severe_score;
        Pain {
            worst: evaluated.iter().map(|(_, s)| *s).reduce(f64::max),
            severe_h: known(hours_where(&segments, |(_, s)| s >= severe)),
            longest_run_h: line.and_then(|line| known(longest_run_h(&segments, line))),
            responder_share: line
                .and_then(|line| known(hours_where(&segments, |(_, s)| s <= line) / known_h)),
            responder_over_time: line.and_then(|line| {
                let good = |(at, s): Valued| s <= line && !rescued.hold(at);
                known(hours_where(&segments, good) / known_h)
            }),
            range_baseline: time_in_range(&baseline_join.segments(&baseline)),
            range_trial: time_in_range(&segments),
            known_h,
            relief,
            baseline,
            evaluated,
        }
    }

    pub(super) fn estimands(
        &self,
        rest: &Pain,
        rescued: &Windows,
        not_infusing: &[Span],
    ) -> Estimands {
        let (Some(phases), Some(baseline)) = (self.phases, rest.relief.baseline_mean) else {
            return Estimands::default();
        };
        let windows = phases.evaluated();
        let infusing: Vec<Span> = windows
            .iter()
            .flat_map(|window| crate::trial::without(*window, not_infusing))
            .collect();
        let joining = self.joining(&windows);
        let relief =
            |series: &[Valued], windows: &[Span]| self.relief(&rest.baseline, series, windows);
        let failed = composite(&rest.evaluated, rescued, baseline, &joining);
        let line = baseline * (1.0 - self.settings.relief_line_percent / 100.0);
        Estimands {
            as_lived: rest.relief.clone(),
            composite_run_h: (!failed.is_empty())
                .then(|| longest_run_h(&joining.segments(&failed), line)),
            composite: relief(&failed, &windows),
            no_rescue: relief(
                &no_rescue(&rest.evaluated, rescued, self.settings.rescue_shift_points),
                &windows,
            ),
            while_infusing: relief(&while_infusing(&rest.evaluated, not_infusing), &infusing),
        }
    }

    pub(super) fn sensitivity(&self, diary: &Diary, rest: &Pain, rescued: &Windows) -> Sensitivity {
        let (Some(phases), Some(baseline)) = (self.phases, rest.relief.baseline_mean) else {
            return Sensitivity::default();
        };
        let windows = phases.evaluated();
        let joining = self.joining(&windows);
        let percent_of = |series: &[Valued], windows: &[Span]| {
            let joining = self.joining(windows);
            let failed = composite(series, rescued, baseline, &joining);
            self.relief(&rest.baseline, &failed, windows).percent
        };
        let worst = rest.worst.unwrap_or(10.0);
        let missed = diary
            .asked
            .iter()
            .filter(|a| a.condition == Condition::Rest && !a.answered)
            .map(|a| (a.at_ms, worst));
        let mut with_missed: Vec<Valued> = rest.evaluated.iter().copied().chain(missed).collect();
        with_missed.sort_by_key(|(at, _)| *at);
        let unconfirmed = values(&diary.standing(Condition::Rest, true));
        let failed = composite(&rest.evaluated, rescued, baseline, &joining);
        Sensitivity {
            tipping_shift_points: self.tipping(&rest.baseline, &failed),
            missed_as_worst: percent_of(&joining.inside(&with_missed), &windows),
            with_unconfirmed: percent_of(&joining.inside(&unconfirmed), &windows),
            with_run_ins: {
                let whole = [phases.trial];
                let series = standing(diary, Condition::Rest, self.settings);
                percent_of(&self.joining(&whole).inside(&series), &whole)
            },
        }
    }

    /// The smallest shift of all evaluated scores, in twentieths of a point, that gives another
    /// answer.
    fn tipping(&self, baseline: &[Valued], trial: &[Valued]) -> Option<f64> {
        const STEPS_PER_POINT: i64 = 20;
        let answer = |shift: f64| {
            let shifted: Vec<Valued> = trial.iter().map(|(at, s)| (*at, s + shift)).collect();
            let model = fit(baseline, &shifted)?;
            let at_least = |percent: f64| model.probability_at_least(percent / 100.0);
            Some(crate::decide::efficacy(
                at_least(self.settings.relief_floor_percent),
                at_least(self.settings.relief_line_percent),
                self.settings,
            ))
        };
        let now = answer(0.0)?;
        (1..=5 * STEPS_PER_POINT)
            .map(|step| float(step) / float(STEPS_PER_POINT))
            .flat_map(|shift| [shift, -shift])
            .find(|shift| answer(*shift) != Some(now))
    }

    pub(super) fn steps(&self, rest: &Pain, delivery: &Delivery) -> Vec<StepRelief> {
        let Some(phases) = self.phases else {
            return Vec::new();
        };
        let baseline = rest.relief.baseline_mean;
        phases
            .steps
            .iter()
            .map(|step| {
                let windows = [step.evaluated];
                let joining = self.joining(&windows);
                let inside = joining.inside(&rest.evaluated);
                let mean = time_weighted_mean(&joining.segments(&inside));
                StepRelief {
                    span: step.span,
                    programmed_nl_per_h: step.programmed_nl_per_h,
                    delivered_mcg_per_day: mcg_per_day(delivery, step.span),
                    n: inside.len(),
                    mean,
                    percent: baseline
                        .zip(mean)
                        .filter(|(b, _)| *b >= self.settings.least_baseline_mean)
                        .map(|(b, mean)| 100.0 * (b - mean) / b),
                }
            })
            .collect()
    }

    pub(super) fn completeness(
        &self,
        diary: &Diary,
        whole: Span,
        answered: &[i64],
    ) -> Completeness {
        let inside = |at: i64| whole.from_ms <= at && at <= whole.to_ms;
        let asked = || diary.asked.iter().filter(|a| inside(a.at_ms));
        let scores = || diary.scores.iter().filter(|s| inside(s.at_ms));
        let confirmed = scores().filter(|s| s.confirmed && !s.corrected).count();
        let answers = asked().filter(|a| a.answered).count();
        let longest = self.settings.longest_segment_h;
        let gaps_in = |window: Span| gaps::gaps(window, answered, self.sleep, longest);
        let percent = |windows: &[Span]| {
            let awake: i64 = windows.iter().map(|w| gaps::awake_ms(*w, self.sleep)).sum();
            let lost: i64 = windows
                .iter()
                .flat_map(|w| gaps_in(*w))
                .map(|gap| gaps::awake_ms(gap, self.sleep))
                .sum();
            if awake > 0 {
                100.0 * float(lost) / float(awake)
            } else {
                0.0
            }
        };
        let (baseline, trial) = self
            .phases
            .map_or((whole, Vec::new()), |p| (p.baseline, p.evaluated()));
        let trial_whole: Vec<Span> = self.phases.iter().map(|p| p.trial).collect();
        Completeness {
            asked: asked().count(),
            answered: answers,
            spontaneous: confirmed.saturating_sub(answers),
            unconfirmed: scores().filter(|s| !s.confirmed && !s.corrected).count(),
            corrected: scores().filter(|s| s.corrected).count(),
            longest_gap_h: gaps::longest_gap_h(whole, answered, self.sleep),
            gaps: [baseline]
                .into_iter()
                .chain(trial_whole)
                .flat_map(gaps_in)
                .collect(),
            gap_percent: (percent(&[baseline]), percent(&trial)),
        }
    }
}

fn fit(baseline: &[Valued], trial: &[Valued]) -> Option<Model> {
    Model::fit(
        &points(baseline.iter().copied()),
        &points(trial.iter().copied()),
    )
}

/// A score at the very start of the infusion is not the baseline's.
fn before_end(mut series: Vec<Valued>, phase: Span) -> Vec<Valued> {
    series.retain(|(at, _)| *at < phase.to_ms);
    series
}
