//! Pain against delivery on one time axis.
//!
//! ```text
//!  10 |            ::::                 scores are digits at their level, `_` holds one to the
//!   8 |-8__--------::::--------base 8-  next (6 h at most), `-` the baseline, `.` half of it,
//!   6 |     6__6___:NO:                 `:` time without data: nothing is drawn across it
//!   4 |............::::4__4____half 4.
//!   2 |            ::::        2___2__
//!   0 |            ::::
//! flow |▃▃▃▃▃▃▃▃▃▄▄▄::::▄▄▄▄▄▄▄▄▄▄▄▄▄▄   drug delivered, highest in view = full block
//! dlv% |ok          ??  97      ok
//!      |Mon 14:00-----|18:00----------NOW
//! ```

use crate::pen::{EIGHTHS, Pen};
use crate::theme::Role;
use crate::widgets::timeline::{Column, Timeline};
use crate::words;
use jiff::tz::TimeZone;
use protocol::event::Priority;

/// A score is held for at most so long: `design.md` §9 draws no line over a longer time.
const HOLD_MS: i64 = 6 * 3_600_000;
/// Columns that share one figure of the share delivered.
const GROUP: usize = 8;

/// Rows 0 to 10 on as many rows as there are.
pub(crate) fn pain(pen: &mut Pen<'_>, line: &Timeline, baseline_centi: Option<u32>, names: bool) {
    let rows = pen.height();
    let row = |centi: u32| {
        let down = u64::from(1_000_u32.saturating_sub(centi)) * u64::from(rows.saturating_sub(1));
        u16::try_from((down + 500) / 1_000).unwrap_or(0)
    };
    let reference = [
        (baseline_centi, '-', "base"),
        (baseline_centi.map(|b| b / 2), '.', "half"),
    ];
    for (level, sign, name) in reference {
        let Some(level) = level else { continue };
        let y = row(level.min(1_000));
        pen.fill(y, sign, Role::Reference);
        if names {
            let label = format!("{name} {}{sign}", words::centi(level));
            pen.right(y, &label, Role::Reference);
        }
    }
    gaps(pen, line);
    let mut held: Option<(u8, i64)> = None;
    for (x, (i, column)) in (0u16..).zip(line.columns.iter().enumerate()) {
        let starts = line.start_of(i);
        if let Some(score) = column.score {
            let y = row(u32::from(score.min(10)) * 100);
            score_at(pen, x, y, score);
            held = Some((score, starts));
        } else if column.gap {
            held = None;
        } else if let Some((score, since)) = held {
            let y = row(u32::from(score.min(10)) * 100);
            let is_free = !pen.at(x, y).is_ascii_digit();
            if is_free && starts.saturating_sub(since) <= HOLD_MS {
                pen.dot(x, y, '_', Role::Hold);
            }
        }
    }
}

/// A ten takes two columns, of which the second is the next one's where there is room.
fn score_at(pen: &mut Pen<'_>, x: u16, y: u16, score: u8) {
    match char::from_digit(u32::from(score), 10) {
        Some(digit) => pen.dot(x, y, digit, Role::Score),
        None if x + 1 < pen.width() => {
            pen.text(x, y, "10", Role::Score);
        }
        None => pen.dot(x, y, 'X', Role::Score),
    }
}

fn gaps(pen: &mut Pen<'_>, line: &Timeline) {
    const WORD: &str = "NO DATA";
    let rows = pen.height();
    let is_gap = |i: usize| line.columns.get(i).is_some_and(|c| c.gap);
    let mut start = None;
    for i in 0..=line.columns.len() {
        match (is_gap(i), start) {
            (true, None) => start = Some(i),
            (false, Some(from)) => {
                start = None;
                let (left, right) = (words::small(from), words::small(i));
                for x in left..right {
                    (0..rows).for_each(|y| pen.dot(x, y, ':', Role::Gap));
                }
                if right - left >= 3 && rows >= 7 {
                    let x = left + (right - left) / 2;
                    let top = (rows - 7) / 2;
                    for (y, c) in (top..).zip(WORD.chars().filter(|c| *c != ' ')) {
                        pen.dot(x, y, c, Role::Gap);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Rows for pain, of so many: 11 or 21 where there is room, so that each level has its row.
pub(crate) fn pain_rows(room: u16) -> u16 {
    match room {
        0..11 => room,
        11..21 => 11,
        21.. => 21,
    }
}

/// Left of the pain rows: the levels.
pub(crate) fn levels(pen: &mut Pen<'_>) {
    let rows = pen.height();
    for y in 0..rows {
        let up = u32::from(rows - 1 - y) * 10;
        let level = up.checked_div(u32::from(rows - 1));
        let level = level.filter(|_| up.is_multiple_of(u32::from(rows - 1)));
        let text = level.map_or(String::new(), |l| l.to_string());
        pen.text(0, y, &format!("{text:>4}|"), Role::Label);
    }
}

/// Drug delivered, as bars as high as the pen; the rate that fills them.
pub(crate) fn flow(pen: &mut Pen<'_>, line: &Timeline) -> Option<u64> {
    let rates: Vec<_> = line
        .columns
        .iter()
        .map(Column::delivered_nl_per_h)
        .collect();
    let most = rates.iter().flatten().copied().max()?;
    let rows = u64::from(pen.height());
    let steps = if pen.ascii() { 10 } else { 8 };
    for (x, (rate, column)) in (0u16..).zip(rates.iter().zip(&line.columns)) {
        for y in 0..pen.height() {
            if column.gap {
                pen.dot(x, y, ':', Role::Gap);
                continue;
            }
            let filled = u128::from(rate.unwrap_or(0)) * u128::from(rows * steps);
            let filled = filled.div_ceil(u128::from(most.max(1)));
            let below = u128::from(rows - 1 - u64::from(y)) * u128::from(steps);
            let here = u64::try_from(filled.saturating_sub(below))
                .unwrap_or(0)
                .min(steps);
            if let Some(c) = bar(here, pen.ascii()) {
                pen.dot(x, y, c, Role::Flow);
            }
        }
    }
    Some(most)
}

fn bar(filled: u64, ascii: bool) -> Option<char> {
    let level = usize::try_from(filled).ok()?.checked_sub(1)?;
    if ascii {
        "123456789#".chars().nth(level)
    } else {
        EIGHTHS.get(level).copied()
    }
}

/// Delivered of programmed in percent, each figure where it begins; `ok` within 97 to 103.
pub(crate) fn share(pen: &mut Pen<'_>, line: &Timeline) {
    unknown(pen, line);
    let mut before = String::new();
    for (group, columns) in line.columns.chunks(GROUP).enumerate() {
        let (delivered, programmed) =
            columns
                .iter()
                .filter(|c| !c.gap)
                .fold((0_u64, 0_u64), |(d, p), c| {
                    (
                        d.saturating_add(c.delivered_nl),
                        p.saturating_add(c.programmed_nl),
                    )
                });
        let percent = words::permille(delivered, programmed).map(|p| (p + 5) / 10);
        let text = match percent {
            _ if columns.iter().all(|c| c.gap) => "??".into(),
            None => String::new(),
            Some(97..=103) => "ok".into(),
            Some(percent) => format!("{}%", percent.min(9_999)),
        };
        let role = match text.as_str() {
            "??" => Role::Unknown,
            "ok" | "" => Role::Label,
            _ => Role::Alarm(Priority::Low),
        };
        if text != before {
            pen.text(words::small(group * GROUP), 0, &text, role);
        }
        before = text;
    }
}

/// Boluses: `b` granted, `x` refused, `B` both.
pub(crate) fn boluses(pen: &mut Pen<'_>, line: &Timeline) {
    marks(pen, line, |c| match (c.boluses, c.refused) {
        (0, 0) => None,
        (_, 0) => Some(('b', Role::Plain)),
        (0, _) => Some(('x', Role::Lost)),
        (_, _) => Some(('B', Role::Lost)),
    });
}

/// Rescue doses `R`.
pub(crate) fn rescues(pen: &mut Pen<'_>, line: &Timeline) {
    marks(pen, line, |c| (c.rescues > 0).then_some(('R', Role::Plain)));
}

/// Prompts not answered `n` and pump alarms `!`; `N` where both fall into one column.
pub(crate) fn troubles(pen: &mut Pen<'_>, line: &Timeline) {
    marks(pen, line, |c| match (c.alarms, c.not_answered) {
        (0, 0) => None,
        (0, _) => Some(('n', Role::Label)),
        (_, 0) => Some(('!', Role::Lost)),
        (_, _) => Some(('N', Role::Lost)),
    });
}

/// `R`, else troubles, in one row; `#` where a rescue dose and a trouble fall into one column.
pub(crate) fn events(pen: &mut Pen<'_>, line: &Timeline) {
    marks(pen, line, |c| match (c.rescues, c.alarms, c.not_answered) {
        (0, 0, 0) => None,
        (_, 0, 0) => Some(('R', Role::Plain)),
        (0, 0, _) => Some(('n', Role::Label)),
        (0, _, 0) => Some(('!', Role::Lost)),
        (0, _, _) => Some(('N', Role::Lost)),
        (_, _, _) => Some(('#', Role::Lost)),
    });
}

/// Where nothing is known, no mark does not mean that nothing happened.
fn unknown(pen: &mut Pen<'_>, line: &Timeline) {
    for (x, column) in (0u16..).zip(&line.columns) {
        if column.gap {
            pen.dot(x, 0, ':', Role::Gap);
        }
    }
}

fn marks(pen: &mut Pen<'_>, line: &Timeline, mark: impl Fn(&Column) -> Option<(char, Role)>) {
    unknown(pen, line);
    for (x, column) in (0u16..).zip(&line.columns) {
        if let Some((c, role)) = mark(column) {
            pen.dot(x, 0, c, role);
        }
    }
}

/// The axis: `|` stands at the time that follows it, and `NOW` at the end.
pub(crate) fn axis(pen: &mut Pen<'_>, line: &Timeline, zone: &TimeZone) {
    pen.fill(0, '-', Role::Label);
    let width = pen.width();
    let (hour, day): (i64, i64) = (3_600_000, 24 * 3_600_000);
    let span = line.to_ms.saturating_sub(line.from_ms);
    let steps = [1, 2, 4, 6, 12, 24, 48, 96, 240].map(|hours| hours * hour);
    let fits = |step: &i64| {
        let needed = if *step < day { 12 } else { 6 };
        span / step <= i64::from(width) / needed
    };
    let Some(step) = steps.into_iter().find(fits) else {
        return;
    };
    let Some(mut at) = midnight(line.from_ms, zone) else {
        return;
    };
    let mut labelled = String::new();
    // A span that a clock gone wrong made endless gets no labels.
    if line.to_ms.saturating_sub(at) / step > 100 {
        return;
    }
    while at < line.to_ms {
        let today = words::local(at, zone, "%a");
        let label = if step >= day {
            format!("|{today}")
        } else if today == labelled {
            words::local(at, zone, "|%H:%M")
        } else {
            words::local(at, zone, "|%a %H:%M")
        };
        if let Some(x) = line.column_of(at).map(words::small)
            && x.saturating_add(words::columns(&label)).saturating_add(4) <= width
        {
            pen.text(x, 0, &label, Role::Label);
            labelled = today;
        }
        at = at.saturating_add(step);
    }
    pen.right(0, "NOW", Role::Title);
}

fn midnight(at_ms: i64, zone: &TimeZone) -> Option<i64> {
    let at = jiff::Timestamp::from_millisecond(at_ms).ok()?;
    let day = at.to_zoned(zone.clone()).start_of_day().ok()?;
    Some(day.timestamp().as_millisecond())
}
