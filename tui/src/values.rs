//! The numbers of a bed as text, each with what it is worth: plain while live or late, `(7)`
//! stale, `--` lost, `??` never heard. No screen writes a number of a pump in another way.

use crate::bed::Bed;
use crate::fresh::Freshness;
use crate::theme::Role;
use crate::words;
use jiff::tz::TimeZone;
use protocol::bedside::observation_range;
use protocol::time::Now;
use protocol::topics::{At, ScoreNow, State, TREND_STEP_MS};
use protocol::units::{FlowRate, Volume};

/// Text and its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) role: Role,
}

impl Value {
    pub(crate) fn piece(&self) -> (&str, Role) {
        (&self.text, self.role)
    }
}

/// A text as it may be shown.
pub(crate) fn shown(fresh: Freshness, text: Option<String>) -> Value {
    let (text, role) = match (fresh, text) {
        (Freshness::NeverHeard, _) => ("??".into(), Role::Unknown),
        (Freshness::Lost(_), _) => ("--".into(), Role::Lost),
        (_, None) => ("none".into(), Role::Label),
        (Freshness::Live(_), Some(text)) => (text, Role::Plain),
        (Freshness::Late(_), Some(text)) => (text, Role::Late),
        (Freshness::Stale(_), Some(text)) => (format!("({text})"), Role::Stale),
    };
    Value { text, role }
}

/// How fresh a bed is, in few columns: `1s`, `~4s`, `(31s)`, `LOST 3m`, `??`.
pub(crate) fn mark(fresh: Freshness) -> Value {
    let (text, role) = match fresh {
        Freshness::Live(age) => (words::age(age), Role::Label),
        Freshness::Late(age) => (format!("~{}", words::age(age)), Role::Late),
        Freshness::Stale(age) => (format!("({})", words::age(age)), Role::Stale),
        Freshness::Lost(age) => (format!("LOST {}", words::age(age)), Role::Lost),
        Freshness::NeverHeard => ("??".into(), Role::Unknown),
    };
    Value { text, role }
}

/// A bed's state with what it is worth now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) state: &'a State,
    pub(crate) pump: Freshness,
    pub(crate) gateway: Freshness,
    pub(crate) trial_now: i64,
    pub(crate) zone: &'a TimeZone,
}

impl<'a> Reading<'a> {
    pub(crate) fn of(bed: &'a Bed, now: Now) -> Option<Self> {
        bed.state.as_ref().map(|state| Self {
            state,
            pump: bed.freshness(now),
            gateway: bed.gateway_freshness(now),
            trial_now: bed.trial_now_utc_ms(now),
            zone: bed.zone().0,
        })
    }

    pub(crate) fn ago<T>(&self, at: &At<T>) -> String {
        words::age(words::since(self.trial_now, at.at_utc_ms))
    }

    /// The latest score; lost, it says what it was and when, for who has to act without it.
    pub(crate) fn score(&self, of: Option<&At<ScoreNow>>) -> Value {
        let text = of.map(|s| score_text(s.value));
        match (self.pump, of) {
            (Freshness::Lost(_), Some(at)) => Value {
                text: format!(
                    "-- was {} at {}",
                    score_text(at.value),
                    words::local(at.at_utc_ms, self.zone, "%H:%M")
                ),
                role: Role::Lost,
            },
            _ => shown(self.pump, text),
        }
    }

    /// The same for a narrow place: lost, without the time.
    pub(crate) fn score_short(&self, of: Option<&At<ScoreNow>>) -> Value {
        let mut value = self.score(of);
        if let Some((short, _)) = value.text.split_once(" at ") {
            value.text = short.into();
        }
        value
    }

    /// Age of the latest score at rest.
    pub(crate) fn score_age(&self) -> String {
        let lost = matches!(self.pump, Freshness::Lost(_) | Freshness::NeverHeard);
        let score = self.state.pain.as_ref().filter(|_| !lost);
        score.map(|at| self.ago(at)).unwrap_or_default()
    }

    /// Points against the baseline: `v-6`, `^+2`, `=`.
    pub(crate) fn change_points(&self) -> Option<Value> {
        let (hundredths, _) = self.change()?;
        let points = (hundredths.abs() + 50) / 100;
        let text = match hundredths {
            ..=-100 => format!("v-{points}"),
            100.. => format!("^+{points}"),
            _ => "=".into(),
        };
        self.only_known(text)
    }

    /// Percent against the baseline: `-75 %`.
    pub(crate) fn change_percent(&self) -> Option<Value> {
        let (hundredths, base) = self.change()?;
        let percent = (hundredths * 100).checked_div(base)?;
        self.only_known(format!("{percent:+} %"))
    }

    fn only_known(&self, text: String) -> Option<Value> {
        let known = !matches!(self.pump, Freshness::Lost(_) | Freshness::NeverHeard);
        known.then(|| shown(self.pump, Some(text)))
    }

    fn change(&self) -> Option<(i64, i64)> {
        let base = i64::from(self.state.baseline_mean_centi?);
        let score = i64::from(self.state.pain.as_ref()?.value.score) * 100;
        Some((score - base, base))
    }

    pub(crate) fn baseline(&self) -> String {
        let base = self.state.baseline_mean_centi;
        base.map_or_else(|| "none yet".into(), words::centi)
    }

    pub(crate) fn rate(&self) -> Value {
        let delivery = self.state.delivery.as_ref().map(|d| d.value);
        let text = delivery.map(|d| {
            if d.infusing {
                flow(d.programmed_nl_per_h.into())
            } else {
                "STOPPED".into()
            }
        });
        shown(self.pump, text)
    }

    /// Delivered of programmed since the trial began, tenths of a percent.
    fn delivered_permille(&self) -> Option<u64> {
        let d = self.state.delivery.as_ref()?.value;
        words::permille(d.delivered_nl, d.programmed_nl)
    }

    /// In whole percent: `99%`.
    pub(crate) fn delivered_short(&self) -> Value {
        let whole = self.delivered_permille().map(|p| (p + 5) / 10);
        shown(self.pump, whole.map(|p| format!("{p}%")))
    }

    pub(crate) fn delivered_percent(&self) -> Value {
        shown(self.pump, self.delivered_permille().map(words::percent))
    }

    pub(crate) fn delivered_volumes(&self) -> Value {
        let delivery = self.state.delivery.as_ref().map(|d| d.value);
        let text = delivery.map(|d| {
            let of = |nl| Volume::from_nanoliters(nl).to_string();
            let delivered = of(d.delivered_nl);
            let delivered = delivered.trim_end_matches(" mL");
            format!("{delivered} of {}", of(d.programmed_nl))
        });
        shown(self.pump, text)
    }

    /// What was delivered in the last whole hour of the trend, as a rate, and what was programmed.
    pub(crate) fn last_hour(&self) -> Option<(u64, u64)> {
        let ended = |start: i64| start.saturating_add(TREND_STEP_MS) <= self.trial_now;
        let whole = self
            .state
            .trend
            .iter()
            .rev()
            .filter(|s| ended(s.start_utc_ms));
        let last: Option<Vec<_>> = whole
            .take(6)
            .map(|s| s.delivered_nl.zip(s.programmed_nl))
            .collect();
        let last = last.filter(|steps| steps.len() == 6)?;
        Some(last.iter().fold((0, 0), |(d, p): (u64, u64), step| {
            (d.saturating_add(step.0), p.saturating_add(step.1))
        }))
    }

    pub(crate) fn boluses(&self) -> Value {
        let bolus = self.state.bolus;
        shown(
            self.pump,
            Some(format!("{}/{}", bolus.granted, bolus.requested)),
        )
    }

    /// Time until a bolus can be granted.
    pub(crate) fn lockout(&self) -> Value {
        let until = self.state.bolus.locked_until_utc_ms;
        let left = until
            .map(|u| words::since(u, self.trial_now))
            .filter(|l| *l > 0);
        shown(self.pump, Some(left.map_or("none".into(), words::span)))
    }

    /// Hours that the reservoir lasts at the present rate, rounded down: that of the program, or
    /// what was delivered in the last hour where that is more.
    pub(crate) fn hours_left(&self) -> Option<u64> {
        let left = self.state.reservoir.as_ref()?.value.computed_nl;
        let delivery = self.state.delivery.as_ref()?.value;
        let programmed = if delivery.infusing {
            u64::from(delivery.programmed_nl_per_h)
        } else {
            0
        };
        let recent = self.last_hour().map_or(0, |(delivered, _)| delivered);
        left.checked_div(programmed.max(recent))
    }

    pub(crate) fn reservoir_short(&self) -> Value {
        shown(self.pump, self.hours_left().map(|h| format!("{h}h")))
    }

    pub(crate) fn reservoir_volume(&self) -> Value {
        let reservoir = self.state.reservoir.as_ref().map(|r| r.value);
        let text = reservoir.map(|r| Volume::from_nanoliters(r.computed_nl).to_string());
        shown(self.pump, text)
    }

    pub(crate) fn battery(&self) -> Value {
        let percent = self.state.battery_percent.as_ref().map(|b| b.value);
        shown(self.pump, percent.map(|p| format!("{p} %")))
    }

    /// Whole days and hours of the trial: `day 3, 50 h`; before it, `baseline`.
    pub(crate) fn trial_day(&self) -> String {
        if self.state.closed {
            return "CLOSED".into();
        }
        self.state.trial_start_utc_ms.map_or_else(
            || "baseline".into(),
            |start| {
                let hours = words::since(self.trial_now, start) / 3_600_000;
                format!("day {}, {hours} h", hours / 24 + 1)
            },
        )
    }

    /// The same in few columns: `D3`, `base`, `end`.
    pub(crate) fn trial_day_short(&self) -> String {
        match self.state.trial_start_utc_ms {
            _ if self.state.closed => "end".into(),
            None => "base".into(),
            Some(start) => {
                let day = words::since(self.trial_now, start) / 86_400_000 + 1;
                format!("D{}", day.min(999))
            }
        }
    }

    /// Observations, newest first: name, value, age.
    pub(crate) fn observations(&self) -> Vec<(String, Value, String)> {
        let mut newest: Vec<_> = self.state.observations.iter().collect();
        newest.sort_by_key(|(_, at)| std::cmp::Reverse(at.at_utc_ms));
        let line = |(what, at): &(String, At<i64>)| {
            let unit = observation_range(what).map_or("", |(unit, ..)| unit);
            let unit = if unit.len() <= 12 { unit } else { "" };
            let text = format!("{} {unit}", words::milli(at.value));
            let value = shown(self.gateway, Some(text.trim_end().into()));
            (what.replace('_', " "), value, self.ago(at))
        };
        newest.into_iter().map(line).collect()
    }
}

/// Nanolitres an hour as `0.5 mL/h`.
pub(crate) fn flow(nl_per_h: u64) -> String {
    let rate = u32::try_from(nl_per_h).unwrap_or(u32::MAX);
    FlowRate::from_nanoliters_per_hour(rate).to_string()
}

fn score_text(score: ScoreNow) -> String {
    let unconfirmed = if score.confirmed { "" } else { "u" };
    format!("{}{unconfirmed}", score.score)
}
