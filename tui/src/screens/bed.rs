//! One bed: its numbers, and pain against delivery.
//!
//! ```text
//! BED 07  T-0042  day 3, 55 h  morphine 500 mcg/mL intrathecal            live 1s
//! PAIN   2  base 8.0  -75 %   12m ago, 09:52     | resp rate 14 breaths/min    3m
//! MOVE   4   62m ago, 09:02                      | sedation poss 1             4m
//! RATE   0.5 mL/h programmed   delivered in the last hour 0.49 mL/h  98.0 %
//! DELIV  13.8 of 14 mL  98.6 %   BOLUS 5 given/8 pressed  lockout 11:20
//! RESERV 31.2 mL  62 h at this rate, empty Fri 00:28   BATTERY 80 %   RESCUE 1
//! PROOF  EP-0193  stored 8120  recorded 8101  holes 0      times in Europe/Vienna
//! ... the plot, see `widgets::timeplot` ...
//! ```

use crate::alarm::Shown;
use crate::app::{App, Zoom};
use crate::fresh::Freshness;
use crate::pen::Pen;
use crate::theme::Role;
use crate::values::{self, Reading};
use crate::widgets::tile::age_in_trial;
use crate::widgets::timeline::Timeline;
use crate::widgets::{banner, timeplot};
use crate::words;
use protocol::event::Priority;
use protocol::time::Now;

const HOUR_MS: i64 = 3_600_000;
/// Columns left and right of a plot.
const GUTTER: u16 = 5;

pub(crate) fn draw(pen: &mut Pen<'_>, app: &App, alarms: &[Shown], now: Now) {
    let Some((key, bed)) = app.selected() else {
        pen.text(0, 0, "No bed is known yet.", Role::Label);
        return;
    };
    let here: Vec<_> = alarms
        .iter()
        .filter(|a| a.bed.as_ref() == Some(key))
        .collect();
    let Some(r) = Reading::of(bed, now) else {
        pen.pieces(0, 0, &[("BED ", Role::Label), (&key.bed, Role::Title)]);
        pen.text(0, 1, "?? never heard: no data since start", Role::Unknown);
        list(&mut pen.part(0, 2, 999, 999), &here, now);
        return;
    };
    let mark = values::mark(r.pump);
    head(&mut pen.part(0, 0, 999, 1), &key.bed, &r, &mark.text);
    let rows = numbers(&mut pen.part(0, 1, 999, 999), &r, bed.zone().1);
    let mut y = 1 + rows;
    let below = pen.height().saturating_sub(y);
    let alarm_rows = words::small(here.len()).min(below.saturating_sub(12).max(1));
    list(&mut pen.part(0, y, 999, alarm_rows), &here, now);
    y += if here.is_empty() { 0 } else { alarm_rows };
    let (width, height) = (pen.width(), pen.height().saturating_sub(y));
    plot(&mut pen.part(0, y, width, height), &r, app.zoom());
}

fn head(pen: &mut Pen<'_>, bed: &str, r: &Reading<'_>, mark: &str) {
    let state = r.state;
    let fresh = match r.pump {
        Freshness::Live(_) | Freshness::Late(_) => format!("{} {mark}", r.pump.word()),
        Freshness::Stale(_) => format!("STALE {mark}"),
        Freshness::Lost(_) => mark.into(),
        Freshness::NeverHeard => "?? NEVER HEARD".into(),
    };
    let role = if r.pump.is_plain() {
        Role::Plain
    } else {
        Role::Lost
    };
    let right = pen.right(0, &fresh, role);
    let mut left = pen.part(0, 0, right.saturating_sub(1), 1);
    let strength = format!(
        "{} {} mcg/mL {}",
        state.drug, state.concentration_mcg_per_ml, state.route
    );
    let x = left.pieces(0, 0, &[("BED ", Role::Label), (bed, Role::Title)]);
    let mut x = x;
    for part in [state.trial.clone(), r.trial_day(), strength] {
        x = left.text(x.saturating_add(2), 0, &part, Role::Plain);
    }
}

/// The numbers; how many rows they took.
fn numbers(pen: &mut Pen<'_>, r: &Reading<'_>, zone_name: &str) -> u16 {
    let label = Role::Label;
    let wide = pen.width() >= 76;
    let observations = r.observations();
    let left = if wide && !observations.is_empty() {
        48
    } else {
        pen.width()
    };
    {
        let mut part = pen.part(0, 0, left, 2);
        pain(&mut part, r);
    }
    if left < pen.width() {
        let room = pen.width() - left;
        let mut part = pen.part(left, 0, room, 2);
        for (y, (what, value, age)) in (0u16..2).zip(&observations) {
            let x = part.pieces(0, y, &[("| ", label), (what, label), (" ", label)]);
            part.pieces(x, y, &[value.piece()]);
            part.right(y, age, label);
        }
    }
    let rate = r.rate();
    let mut x = pen.pieces(0, 2, &[("RATE   ", label), rate.piece()]);
    x = pen.text(x, 2, " programmed", label);
    if let Some((delivered, programmed)) = r.last_hour() {
        let text = values::shown(r.pump, Some(values::flow(delivered)));
        x = pen.pieces(
            x,
            2,
            &[("   delivered in the last hour ", label), text.piece()],
        );
        let share = words::permille(delivered, programmed).map(words::percent);
        let share = values::shown(r.pump, share);
        pen.pieces(x, 2, &[("  ", label), share.piece()]);
    }
    let (volumes, percent, lockout) = (r.delivered_volumes(), r.delivered_percent(), r.lockout());
    let pieces = [
        ("DELIV  ", label),
        volumes.piece(),
        ("  ", label),
        percent.piece(),
    ];
    let x = pen.pieces(0, 3, &pieces);
    let bolus = r.state.bolus;
    let given = values::shown(r.pump, Some(bolus.granted.to_string()));
    let pressed = values::shown(r.pump, Some(bolus.requested.to_string()));
    let pieces = [
        ("   BOLUS ", label),
        given.piece(),
        (" given/", label),
        pressed.piece(),
        (" pressed  lockout ", label),
        lockout.piece(),
    ];
    pen.pieces(x, 3, &pieces);
    reservoir(&mut pen.part(0, 4, 999, 1), r);
    proof(&mut pen.part(0, 5, 999, 1), r, zone_name);
    6
}

fn pain(pen: &mut Pen<'_>, r: &Reading<'_>) {
    let label = Role::Label;
    let scores = [
        ("PAIN   ", &r.state.pain),
        ("MOVE   ", &r.state.pain_movement),
    ];
    for (y, (name, at)) in (0u16..).zip(scores) {
        let score = r.score(at.as_ref());
        let mut x = pen.pieces(0, y, &[(name, label), score.piece()]);
        if matches!(r.pump, Freshness::Lost(_) | Freshness::NeverHeard) {
            continue;
        }
        if y == 0 {
            let base = r.baseline();
            x = pen.pieces(x, y, &[("  base ", label), (&base, label)]);
            if let Some(change) = r.change_percent() {
                x = pen.pieces(x, y, &[("  ", label), change.piece()]);
            }
        }
        if let Some(at) = at {
            let when = words::local(at.at_utc_ms, r.zone, "%H:%M");
            let text = format!("   {} ago, {when}", r.ago(at));
            pen.text(x, y, &text, label);
        }
    }
}

fn reservoir(pen: &mut Pen<'_>, r: &Reading<'_>) {
    let label = Role::Label;
    let volume = r.reservoir_volume();
    let mut x = pen.pieces(0, 0, &[("RESERV ", label), volume.piece()]);
    if let (Some(hours), true) = (r.hours_left(), r.pump.is_plain()) {
        let ms = i64::try_from(hours)
            .unwrap_or(i64::MAX)
            .saturating_mul(HOUR_MS);
        let empty = words::local(r.trial_now.saturating_add(ms), r.zone, "%a %H:%M");
        let text = format!("  {hours} h at this rate, empty {empty}");
        x = pen.text(x, 0, &text, label);
    }
    let battery = r.battery();
    let rescues = values::shown(r.gateway, Some(r.state.rescues.to_string()));
    let x = pen.pieces(x, 0, &[("   BATTERY ", label), battery.piece()]);
    pen.pieces(x, 0, &[("   RESCUE ", label), rescues.piece()]);
}

fn proof(pen: &mut Pen<'_>, r: &Reading<'_>, zone_name: &str) {
    let label = Role::Label;
    let state = r.state;
    let missing = state.holes.iter().fold(0_u64, |n, (from, to)| {
        n.saturating_add(to.saturating_sub(*from).saturating_add(1))
    });
    let pump = state.pump.as_deref().unwrap_or("pump not known");
    let number = |n: u64| values::shown(r.gateway, Some(n.to_string()));
    let stored = number(state.stored_through_seq);
    let recorded = number(state.recorded_through_seq);
    let holes = number(missing);
    let holes_role = if missing > 0 {
        Role::Acknowledged(Priority::Medium)
    } else {
        holes.role
    };
    let pieces = [
        ("PROOF  ", label),
        (pump, Role::Plain),
        ("  stored ", label),
        stored.piece(),
        ("  recorded ", label),
        recorded.piece(),
        ("  holes ", label),
        (&holes.text, holes_role),
    ];
    let mut x = pen.pieces(0, 0, &pieces);
    let behind = state.announced_seq.saturating_sub(state.stored_through_seq);
    if behind > 0 {
        let text = format!("  pump has {behind} more");
        x = pen.text(x, 0, &text, label);
    }
    let zone = format!("times in {zone_name}");
    if x + 2 + words::columns(&zone) <= pen.width() {
        pen.right(0, &zone, label);
    }
}

fn list(pen: &mut Pen<'_>, alarms: &[&Shown], now: Now) {
    for (y, alarm) in (0..pen.height()).zip(alarms) {
        let role = banner::role(alarm, now);
        let x = pen.pieces(0, y, &[(alarm.stars(), role), (" ", role)]);
        let x = pen.text(x, y, &alarm.text, role);
        let how = match (&alarm.acknowledged_by, alarm.ended) {
            (Some(by), _) => format!("  acknowledged by {by}"),
            (None, true) => "  ended, not seen yet".into(),
            (None, false) => format!("  since {}", words::span(alarm.age_ms)),
        };
        pen.text(x, y, &how, Role::Label);
    }
}

/// What the axis spans, and until when anything is known.
pub(crate) fn known_span(r: &Reading<'_>, hours: Option<u32>) -> ((i64, i64), i64) {
    let least = r.trial_now.saturating_sub(6 * HOUR_MS);
    let from = match hours {
        Some(hours) => r
            .trial_now
            .saturating_sub(i64::from(hours).saturating_mul(HOUR_MS)),
        None => r.state.baseline_start_utc_ms.min(least),
    };
    let known = match r.pump {
        Freshness::Live(_) | Freshness::Late(_) => i64::MAX,
        Freshness::Stale(_) | Freshness::Lost(_) => r.trial_now.saturating_sub(age_in_trial(r)),
        Freshness::NeverHeard => i64::MIN,
    };
    ((from, r.trial_now), known)
}

/// Pain above, drug below, marks between: one axis.
fn plot(pen: &mut Pen<'_>, r: &Reading<'_>, zoom: Zoom) {
    let (width, height) = (pen.width(), pen.height());
    if height < 4 || width < 2 * GUTTER {
        return;
    }
    let hours = match zoom {
        Zoom::All => None,
        Zoom::Hours(hours) => Some(hours),
    };
    let (span, known) = known_span(r, hours);
    let plot_width = width - GUTTER;
    let line = Timeline::new(&r.state.trend, span, known, plot_width);
    let strips: &[Strip] = match height {
        ..7 => &[],
        7 => &[("bolu", timeplot::boluses)],
        8..20 => &[
            ("dlv%", timeplot::share),
            ("bolu", timeplot::boluses),
            ("evnt", timeplot::events),
        ],
        _ => &[
            ("dlv%", timeplot::share),
            ("bolu", timeplot::boluses),
            ("resc", timeplot::rescues),
            ("evnt", timeplot::troubles),
        ],
    };
    let room = height.saturating_sub(1 + words::small(strips.len()));
    let pain_rows = timeplot::pain_rows(room.saturating_sub(if room >= 24 { 3 } else { 1 }));
    let flow_rows = room.saturating_sub(pain_rows).min(6);
    timeplot::levels(&mut pen.part(0, 0, GUTTER, pain_rows));
    let mut part = pen.part(GUTTER, 0, plot_width, pain_rows);
    timeplot::pain(&mut part, &line, r.state.baseline_mean_centi, true);
    let mut y = pain_rows;
    timeplot::axis(&mut pen.part(GUTTER, y, plot_width, 1), &line, r.zone);
    y += 1;
    let most = timeplot::flow(&mut pen.part(GUTTER, y, plot_width, flow_rows), &line);
    let top = most
        .map(values::flow)
        .unwrap_or_default()
        .replace(" mL/h", "");
    for row in 0..flow_rows {
        let name = match row {
            0 if flow_rows >= 3 && top.len() <= 4 => top.as_str(),
            0 => "flow",
            1 => "mL/h",
            _ => "",
        };
        pen.text(0, y + row, &format!("{name:>4}|"), Role::Label);
    }
    y += flow_rows;
    for (name, draw) in strips {
        pen.text(0, y, &format!("{name}|"), Role::Label);
        draw(&mut pen.part(GUTTER, y, plot_width, 1), &line);
        y += 1;
    }
}

type Strip = (&'static str, fn(&mut Pen<'_>, &Timeline));
