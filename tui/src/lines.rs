//! The same in sentences: one a change, for screen readers and logs. No number is said without
//! what it is worth, and each line begins with the time.

use crate::alarm::{self, Shown};
use crate::app::App;
use crate::bed::BedKey;
use crate::fresh::Freshness;
use crate::pen::safe;
use crate::values::Reading;
use crate::words;
use protocol::time::Now;
use std::collections::BTreeMap;

/// What was said already.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    beds: BTreeMap<BedKey, Told>,
    alarms: BTreeMap<Spoken, String>,
    broker: Option<bool>,
    notice: Option<String>,
    simulated: bool,
}

type Spoken = (Option<BedKey>, String);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    fresh: Option<&'static str>,
    pain: Option<(i64, u8)>,
    rate: Option<String>,
    day: Option<String>,
}

impl Lines {
    /// The sentences that are new since the last call, oldest first.
    pub fn sentences(&mut self, app: &App, now: Now) -> Vec<String> {
        let mut out = Vec::new();
        if app.simulated() && !std::mem::replace(&mut self.simulated, true) {
            out.push("SIMULATED, NOT A PATIENT".into());
        }
        let connected = Some(app.broker.connected);
        let not_tried_yet = self.broker.is_none() && app.broker.detail.is_empty();
        if self.broker != connected && !not_tried_yet {
            let word = if app.broker.connected {
                "connected to broker"
            } else {
                "NO BROKER"
            };
            out.push(format!("{word} {}", app.broker.detail).trim_end().into());
            self.broker = connected;
        }
        if self.notice != app.notice {
            out.extend(app.notice.clone());
            self.notice.clone_from(&app.notice);
        }
        self.alarm_sentences(&alarm::all(app, now), &mut out);
        for (key, bed) in app.beds() {
            let mut told = self.beds.remove(key).unwrap_or_default();
            let fresh = bed.freshness(now);
            let word = fresh.word();
            if told.fresh != Some(word) {
                let age = fresh.age_ms().map(words::age).unwrap_or_default();
                out.push(format!("bed {}: {word} {age}", key.bed).trim_end().into());
                told.fresh = Some(word);
            }
            if let Some(reading) = Reading::of(bed, now) {
                values(key, &reading, &mut told, &mut out);
            }
            self.beds.insert(key.clone(), told);
        }
        let time = clock(app, now);
        let line = |text: String| format!("{time} {}", safe(&text, 400, false));
        out.into_iter().map(line).collect()
    }

    fn alarm_sentences(&mut self, alarms: &[Shown], out: &mut Vec<String>) {
        let mut left = std::mem::take(&mut self.alarms);
        for alarm in alarms {
            let name = (alarm.bed.clone(), spoken(alarm));
            let how = match (&alarm.acknowledged_by, alarm.ended) {
                (Some(by), _) => format!("acknowledged by {by}"),
                (None, true) => "ended, not seen yet".into(),
                (None, false) => "begins".into(),
            };
            if left.remove(&name).as_ref() != Some(&how) {
                out.push(format!("{}: {how}", alarm_words(&name)));
            }
            self.alarms.insert(name, how);
        }
        for gone in left.into_keys() {
            out.push(format!("{}: over", alarm_words(&gone)));
        }
    }
}

/// Stars and text; figures in a condition of our own change and are left out.
fn spoken(alarm: &Shown) -> String {
    format!("{} {}", alarm.stars(), alarm.text)
}

fn alarm_words((bed, text): &Spoken) -> String {
    match bed {
        Some(key) => {
            let (stars, words) = text.split_once(' ').unwrap_or(("", text));
            format!("{stars} bed {}: {words}", key.bed)
        }
        None => text.clone(),
    }
}

fn values(key: &BedKey, r: &Reading<'_>, told: &mut Told, out: &mut Vec<String>) {
    if !matches!(r.pump, Freshness::Live(_) | Freshness::Late(_)) {
        return;
    }
    let pain = r.state.pain.as_ref().map(|p| (p.at_utc_ms, p.value.score));
    if pain != told.pain {
        if let (Some(at), Some((_, score))) = (&r.state.pain, pain) {
            let before = told
                .pain
                .map_or(String::new(), |(_, was)| format!(", was {was}"));
            let confirmed = if at.value.confirmed {
                ""
            } else {
                ", not confirmed"
            };
            let ago = r.ago(at);
            out.push(format!(
                "bed {}: pain {score}{before}{confirmed}, {ago} ago",
                key.bed
            ));
        }
        told.pain = pain;
    }
    let rate = r.state.delivery.as_ref().map(|_| r.rate().text);
    if rate != told.rate {
        if let Some(rate) = &rate {
            out.push(format!("bed {}: rate {rate}", key.bed));
        }
        told.rate = rate;
    }
    let day = r.trial_day();
    let day = day.split(',').next().map(str::to_owned);
    if day != told.day {
        if let Some(day) = &day {
            out.push(format!("bed {}: {day}", key.bed));
        }
        told.day = day;
    }
}

fn clock(app: &App, now: Now) -> String {
    let heard = app.beds().values().find(|bed| bed.heard.is_some());
    match heard {
        Some(bed) => words::local(bed.trial_now_utc_ms(now), bed.zone().0, "%a %H:%M:%S"),
        None => words::local(
            now.utc.as_unix_millis(),
            &jiff::tz::TimeZone::UTC,
            "%a %H:%M:%S",
        ),
    }
}
