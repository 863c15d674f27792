//! Everything that is wrong, ranked: the gateways' alarms and the dashboard's own technical
//! conditions. One cause is one alarm: without a broker no bed is reported silent besides, nor
//! behind an offline gateway, nor where the gateway itself reports the lost line.

use crate::app::App;
use crate::bed::{Bed, BedKey};
use crate::fresh::{Came, Freshness, LATE_MS, LIVE_MS, STALE_MS};
use crate::words;
use protocol::event::Priority;
use protocol::time::Now;
use protocol::topics::{AlarmRow, LinkWord};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// A refused payload is a condition for this long.
const REFUSED_FOR_MS: u64 = 60_000;

/// One alarm, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The bed; none where it is about more than one.
    pub bed: Option<BedKey>,
    /// About the system, not about patient or therapy.
    pub technical: bool,
    /// How urgent.
    pub priority: Priority,
    /// In words for people.
    pub text: String,
    /// Since then: trial time for a gateway's alarm, wall time for our own.
    pub age_ms: u64,
    /// Ended, and seen by nobody yet.
    pub ended: bool,
    /// Who acknowledged it.
    pub acknowledged_by: Option<String>,
}

impl Shown {
    /// Its priority as text: stars about patient or therapy, exclamation marks about the system.
    pub fn stars(&self) -> &'static str {
        stars(self.priority, self.technical)
    }

    /// Nobody acknowledged it.
    pub fn is_unacknowledged(&self) -> bool {
        self.acknowledged_by.is_none()
    }

    /// A `***` that nobody acknowledged.
    pub fn must_be_seen(&self) -> bool {
        self.is_unacknowledged() && !self.technical && self.priority == Priority::High
    }

    fn rank(&self) -> impl Ord + use<> {
        (
            !self.is_unacknowledged(),
            level(self.priority),
            self.technical,
            self.ended,
            Reverse(self.age_ms),
        )
    }
}

/// A priority as text.
pub fn stars(priority: Priority, technical: bool) -> &'static str {
    match (priority, technical) {
        (Priority::High, false) => "***",
        (Priority::Medium, false) => "**",
        (Priority::Low, false) => "*",
        (Priority::High, true) => "!!!",
        (Priority::Medium, true) => "!!",
        (Priority::Low, true) => "!",
    }
}

fn level(priority: Priority) -> u8 {
    match priority {
        Priority::High => 0,
        Priority::Medium => 1,
        Priority::Low => 2,
    }
}

/// All alarms and conditions, worst first: not acknowledged before acknowledged, urgent before
/// less urgent, patient before system, active before ended, old before new.
pub fn all(app: &App, now: Now) -> Vec<Shown> {
    let mut found = conditions(app, now);
    for (key, bed) in app.beds() {
        let trial_now = bed.trial_now_utc_ms(now);
        found.extend(bed.alarms.iter().map(|row| of_gateway(key, row, trial_now)));
    }
    found.sort_by_cached_key(Shown::rank);
    found
}

/// How many of each sign there are, in the order `*** !!! ** !! * !`, zeros left out.
pub fn counts(alarms: &[Shown]) -> Vec<(Priority, bool, usize)> {
    let signs = [Priority::High, Priority::Medium, Priority::Low]
        .into_iter()
        .flat_map(|p| [(p, false), (p, true)]);
    let count = |(p, t)| {
        let same = |a: &&Shown| a.priority == p && a.technical == t;
        (p, t, alarms.iter().filter(same).count())
    };
    signs.map(count).filter(|(.., n)| *n > 0).collect()
}

fn of_gateway(key: &BedKey, row: &AlarmRow, trial_now: i64) -> Shown {
    Shown {
        bed: Some(key.clone()),
        technical: row.technical,
        priority: row.priority,
        text: if row.text.is_empty() {
            row.alarm.clone()
        } else {
            row.text.clone()
        },
        age_ms: words::since(trial_now, row.since_utc_ms),
        ended: row.ended,
        acknowledged_by: row.acknowledged_by.clone(),
    }
}

fn ours(bed: Option<&BedKey>, priority: Priority, text: String, age_ms: u64) -> Shown {
    Shown {
        bed: bed.cloned(),
        technical: true,
        priority,
        text,
        age_ms,
        ended: false,
        acknowledged_by: None,
    }
}

/// What the dashboard itself sees going wrong.
fn conditions(app: &App, now: Now) -> Vec<Shown> {
    let mut found = Vec::new();
    if let Some(since) = app.display_behind {
        let age = now.uptime.millis_since(since);
        let text = "DISPLAY BEHIND, the terminal takes nothing".into();
        found.push(ours(None, Priority::Medium, text, age));
    }
    if let Some((at, why)) = &app.refused.last {
        let age = now.uptime.millis_since(*at);
        if age <= REFUSED_FOR_MS {
            let text = format!("{} PAYLOADS REFUSED, latest: {why}", app.refused.count);
            found.push(ours(None, Priority::Medium, text, age));
        }
    }
    let watched = app.beds().values().any(|b| !b.closed()) || app.beds().is_empty();
    let without_broker = now.uptime.millis_since(app.broker.since);
    if app.broker.connected {
        silent_beds(app, now, &mut found);
    } else if watched && without_broker > LIVE_MS {
        let priority = if without_broker > STALE_MS {
            Priority::High
        } else {
            Priority::Medium
        };
        let text = match app.broker.detail.as_str() {
            "" => "NO BROKER".into(),
            why => format!("NO BROKER: {why}"),
        };
        found.push(ours(None, priority, text, without_broker));
    }
    found
}

fn silent_beds(app: &App, now: Now, found: &mut Vec<Shown>) {
    let mut told = BTreeSet::new();
    for (key, bed) in app.beds().iter().filter(|(_, bed)| !bed.closed()) {
        let gateway = bed.gateway_freshness(now);
        let behind_gateway = app.offline().get(&key.gw);
        if let Some(offline) = behind_gateway {
            if told.insert(&key.gw) {
                let age = now.uptime.millis_since(offline.since);
                found.push(of_a_gateway(app, key, "OFFLINE", age));
            }
        } else if let (Freshness::Stale(age @ LATE_MS..) | Freshness::Lost(age), Some(heard)) =
            (gateway, bed.heard)
        {
            if told.insert(&key.gw) {
                let what = match heard.came {
                    Came::Live => "SILENT",
                    Came::Retained => "NOT HEARD LIVE YET",
                    Came::BeforeSleep => "NOT HEARD SINCE THIS MACHINE SLEPT",
                };
                found.push(of_a_gateway(app, key, what, age));
            }
        } else {
            found.extend(silent_pump(key, bed, now));
        }
    }
}

/// Named by its bed where it has but one, else by its own name.
fn of_a_gateway(app: &App, key: &BedKey, what: &str, age_ms: u64) -> Shown {
    let beds = app.beds().keys().filter(|k| k.gw == key.gw).count();
    let (bed, text) = if beds == 1 {
        (Some(key), format!("GATEWAY {what}"))
    } else {
        (None, format!("GATEWAY {} {what}", key.gw))
    };
    ours(bed, Priority::Medium, text, age_ms)
}

fn silent_pump(key: &BedKey, bed: &Bed, now: Now) -> Option<Shown> {
    let told_by_gateway = |row: &AlarmRow| row.alarm == "link_lost" && !row.ended;
    if bed.alarms.iter().any(told_by_gateway) {
        return None;
    }
    let (text, age) = match (bed.freshness(now), &bed.state) {
        (Freshness::Live(_) | Freshness::Late(_), _) => return None,
        (Freshness::Stale(age), _) => ("PUMP SILENT, values stale", age),
        (Freshness::Lost(age), _) => ("PUMP SILENT, values lost", age),
        (Freshness::NeverHeard, Some(state)) if state.link == LinkWord::NeverHeard => {
            ("PUMP NEVER HEARD", state.frame_age_ms)
        }
        (Freshness::NeverHeard, _) => ("BED NEVER HEARD", now.uptime.millis_since(bed.known_since)),
    };
    (age > LATE_MS).then(|| ours(Some(key), Priority::Medium, text.into(), age))
}
