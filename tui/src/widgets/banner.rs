//! The two lines that stand on every screen: how things are (status) and what is worst (banner).
//!
//! ```text
//! demo  Tue 10:04:17 CET  4 beds  3 live  1 late                        *** 2  !! 1
//! *** 07  RESP RATE 7 /min (limit 8)  unacknowledged 0:42                +1 more ***
//! ```

use crate::alarm::{self, Shown};
use crate::app::App;
use crate::fresh::Freshness;
use crate::pen::Pen;
use crate::theme::Role;
use crate::words;
use jiff::tz::TimeZone;
use protocol::event::Priority;
use protocol::time::Now;

/// Half of a flash: 2 Hz, within the 1.4 to 2.8 Hz of IEC 60601-1-8 (`facts/dashboard.md` §3).
pub(crate) const FLASH_MS: u64 = 250;

/// How an alarm looks now.
pub(crate) fn role(alarm: &Shown, now: Now) -> Role {
    let off = (now.uptime.as_millis() / FLASH_MS) % 2 == 1;
    match (alarm.is_unacknowledged(), off) {
        (false, _) => Role::Acknowledged(alarm.priority),
        (true, true) => Role::AlarmFlash(alarm.priority),
        (true, false) => Role::Alarm(alarm.priority),
    }
}

/// The worst alarm, in one row.
pub(crate) fn banner(pen: &mut Pen<'_>, alarms: &[Shown], now: Now) {
    let Some(worst) = alarms.first() else {
        return;
    };
    let role = role(worst, now);
    if worst.is_unacknowledged() {
        pen.fill(0, ' ', role);
    }
    let bed = worst.bed.as_ref().map_or("", |key| key.bed.as_str());
    let mut x = pen.pieces(0, 0, &[(worst.stars(), role), (" ", role)]);
    if !bed.is_empty() {
        x = pen.pieces(x, 0, &[(bed, role), ("  ", role)]);
    }
    let x = pen.text(x, 0, &worst.text, role);
    let span = words::span(worst.age_ms);
    let how = match (&worst.acknowledged_by, worst.ended) {
        (Some(by), _) => format!("acknowledged by {by}"),
        (None, true) => format!("ended, not seen yet, since {span}"),
        (None, false) if worst.technical => format!("since {span}"),
        (None, false) => format!("unacknowledged {span}"),
    };
    let same = |a: &&Shown| a.stars() == worst.stars() && a.is_unacknowledged();
    let more = alarms.iter().skip(1).filter(same).count();
    let more = if more == 0 {
        String::new()
    } else {
        format!("+{more} more {}", worst.stars())
    };
    let room = pen.width().saturating_sub(x);
    if words::columns(&how) + 2 <= room {
        let x = pen.text(x + 2, 0, &how, role);
        if words::columns(&more) + 2 <= pen.width().saturating_sub(x) {
            pen.right(0, &more, role);
        }
    } else if !more.is_empty() && words::columns(&more) + 2 <= room {
        pen.right(0, &more, role);
    }
}

/// How things are, in one row: counts of alarms at the right are never cut off.
pub(crate) fn status(pen: &mut Pen<'_>, app: &App, alarms: &[Shown], now: Now) {
    let counts = alarm::counts(alarms);
    let signs: Vec<String> = counts
        .iter()
        .map(|(p, technical, n)| format!("{} {n}", alarm::stars(*p, *technical)))
        .collect();
    let width: u16 = signs.iter().map(|s| words::columns(s) + 2).sum();
    let start = (pen.width() + 2).saturating_sub(width);
    let mut left = pen.part(0, 0, start.saturating_sub(2), 1);
    let mut x = 0;
    for (text, role) in told(app, now) {
        let next = x + words::columns(&text);
        if next > left.width() {
            // A lost connection is said even where there is room for a part of it only.
            if role != Role::Label {
                left.text(x, 0, &text, role);
            }
            break;
        }
        left.text(x, 0, &text, role);
        x = next + 2;
    }
    let mut x = start;
    for ((priority, ..), text) in counts.iter().zip(&signs) {
        x = pen.text(x, 0, text, Role::Acknowledged(*priority)) + 2;
    }
}

/// What the status line says, most needed first.
fn told(app: &App, now: Now) -> Vec<(String, Role)> {
    let trouble = Role::Acknowledged(Priority::Medium);
    let mut told = vec![(clock(app, now), Role::Plain)];
    if !app.broker.connected {
        let since = words::span(now.uptime.millis_since(app.broker.since));
        told.push((format!("NO BROKER {since}"), trouble));
    }
    let offline: Vec<_> = app.offline().iter().collect();
    if let [(gw, offline), rest @ ..] = offline.as_slice() {
        let since = words::span(now.uptime.millis_since(offline.since));
        let text = if rest.is_empty() {
            format!("{gw} OFFLINE {since}")
        } else {
            format!("{} GATEWAYS OFFLINE {since}", rest.len() + 1)
        };
        told.push((text, trouble));
    }
    if app.refused.count > 0 {
        told.push((format!("{} refused", app.refused.count), trouble));
    }
    let mut states = [0_usize; 5];
    for bed in app.beds().values() {
        let at = match bed.freshness(now) {
            Freshness::Live(_) => 0,
            Freshness::Late(_) => 1,
            Freshness::Stale(_) => 2,
            Freshness::Lost(_) => 3,
            Freshness::NeverHeard => 4,
        };
        if let Some(n) = states.get_mut(at) {
            *n += 1;
        }
    }
    let words = ["live", "late", "STALE", "LOST", "NEVER"];
    for (n, word) in states.iter().zip(words) {
        if *n > 0 || word == "live" {
            let role = if word.starts_with('l') {
                Role::Plain
            } else {
                Role::Lost
            };
            told.push((format!("{n} {word}"), role));
        }
    }
    let beds = app.beds().len();
    told.push((format!("of {beds} beds"), Role::Label));
    told.push((app.site.clone(), Role::Label));
    told
}

/// Trial time where a bed says it, in that bed's zone; else the caller's, in UTC.
fn clock(app: &App, now: Now) -> String {
    let heard = app.beds().values().find(|bed| bed.heard.is_some());
    let at = heard.map_or(now.utc.as_unix_millis(), |bed| bed.trial_now_utc_ms(now));
    let zone = heard.map_or(TimeZone::UTC, |bed| bed.zone().0.clone());
    words::local(at, &zone, "%a %H:%M:%S %Z")
}
