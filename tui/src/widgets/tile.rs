//! One bed on the ward, as a small tile, a large one or a line.
//!
//! ```text
//! 07 T-0042 D3     1s      07 D3   2 v-6  12m 0.5     99%  62h   ***
//! PAIN 2 v-6      12m
//! 0.5 mL/h    dlv 99%
//! res 62h     bol 5/8
//! *** RESP RATE 7
//! ```

use crate::alarm::Shown;
use crate::bed::{Bed, BedKey};
use crate::fresh::Freshness;
use crate::pen::Pen;
use crate::screens::bed::known_span;
use crate::theme::Role;
use crate::values::{self, Reading, Value};
use crate::widgets::timeline::Timeline;
use crate::widgets::{banner, timeplot};
use crate::words;
use protocol::time::Now;

/// A bed to be drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile<'a> {
    pub(crate) key: &'a BedKey,
    pub(crate) bed: &'a Bed,
    pub(crate) worst: Option<&'a Shown>,
    pub(crate) selected: bool,
    pub(crate) now: Now,
}

impl Tile<'_> {
    fn reading(&self) -> Option<Reading<'_>> {
        Reading::of(self.bed, self.now)
    }

    fn fresh(&self) -> Freshness {
        self.bed.freshness(self.now)
    }

    fn head(&self, pen: &mut Pen<'_>, reading: Option<&Reading<'_>>) {
        let mark = values::mark(self.fresh());
        let right = pen.right(0, &mark.text, mark.role);
        let mut left = pen.part(0, 0, right.saturating_sub(1), 1);
        let (sign, role) = if self.selected {
            (">", Role::Selected)
        } else {
            ("", Role::Title)
        };
        let x = left.pieces(0, 0, &[(sign, role), (&self.key.bed, role)]);
        let Some(reading) = reading else {
            return;
        };
        let room = left.width();
        let day = if room > 30 {
            reading.trial_day()
        } else {
            reading.trial_day_short()
        };
        let day_at = x + 1 + words::columns(&reading.state.trial) + 1;
        let day_at = if day_at + words::columns(&day) <= room {
            left.text(x + 1, 0, &reading.state.trial, Role::Label) + 1
        } else {
            x + 1
        };
        let x = left.text(day_at, 0, &day, Role::Label);
        let drug = words::columns(&reading.state.drug);
        if x + 2 + drug <= room {
            left.text(x + 2, 0, &reading.state.drug, Role::Label);
        }
    }

    fn alarm(&self, pen: &mut Pen<'_>, y: u16) {
        let Some(worst) = self.worst else {
            return;
        };
        let role = banner::role(worst, self.now);
        let x = pen.pieces(0, y, &[(worst.stars(), role), (" ", role)]);
        let x = pen.text(x, y, &worst.text, role);
        if worst.acknowledged_by.is_some() && x + 4 <= pen.width() {
            pen.text(x, y, " ack", role);
        }
    }

    fn nothing(pen: &mut Pen<'_>) {
        let pain = values::shown(Freshness::NeverHeard, None);
        pen.pieces(0, 1, &[("PAIN ", Role::Label), pain.piece()]);
        pen.text(0, 2, "no data since start", Role::Label);
    }

    /// Four rows and the alarm.
    pub(crate) fn small(&self, pen: &mut Pen<'_>) {
        let reading = self.reading();
        self.head(pen, reading.as_ref());
        self.alarm(pen, 4);
        let Some(r) = reading else {
            Self::nothing(pen);
            return;
        };
        Self::pain(pen, &r, 1);
        if matches!(self.fresh(), Freshness::Lost(_)) {
            pen.pieces(0, 2, &[("--.-- mL/h  dlv --", Role::Lost)]);
            let last = r.trial_now.saturating_sub(age_in_trial(&r));
            let today = words::since(r.trial_now, last) < 20 * 3_600_000;
            let format = if today { "%H:%M" } else { "%a %H:%M" };
            let last = words::local(last, r.zone, format);
            pen.pieces(0, 3, &[("last heard ", Role::Label), (&last, Role::Lost)]);
            return;
        }
        pen.pieces(0, 2, &[r.rate().piece()]);
        labelled_right(pen, 2, "dlv ", &r.delivered_short());
        let reservoir = r.reservoir_short();
        let label = narrow("res ", &reservoir);
        pen.pieces(0, 3, &[(label, Role::Label), reservoir.piece()]);
        labelled_right(pen, 3, "bol ", &r.boluses());
    }

    fn pain(pen: &mut Pen<'_>, r: &Reading<'_>, y: u16) {
        let score = r.score_short(r.state.pain.as_ref());
        let x = pen.pieces(0, y, &[("PAIN ", Role::Label), score.piece()]);
        let right = pen.right(y, &r.score_age(), Role::Label);
        if let Some(change) = r.change_points()
            && x + 1 + words::columns(&change.text) < right
        {
            pen.pieces(x + 1, y, &[change.piece()]);
        }
    }

    /// Four rows, the alarm, and pain against delivery below.
    pub(crate) fn large(&self, pen: &mut Pen<'_>) {
        let reading = self.reading();
        self.head(pen, reading.as_ref());
        self.alarm(pen, 4);
        let Some(r) = reading else {
            Self::nothing(pen);
            return;
        };
        let label = Role::Label;
        let base = r.baseline();
        let score = r.score(r.state.pain.as_ref());
        let mut x = pen.pieces(0, 1, &[("PAIN ", label), score.piece()]);
        x = pen.pieces(x, 1, &[("  base ", label), (&base, label)]);
        if let Some(change) = r.change_percent() {
            pen.pieces(x, 1, &[("  ", label), change.piece()]);
        }
        pen.right(1, &r.score_age(), label);
        let (rate, volumes) = (r.rate(), r.delivered_volumes());
        let x = pen.pieces(0, 2, &[("RATE ", label), rate.piece()]);
        if pen.width() >= 48 {
            pen.pieces(x, 2, &[("  delivered ", label), volumes.piece()]);
        }
        labelled_right(pen, 2, "dlv ", &r.delivered_percent());
        let (volume, hours) = (r.reservoir_volume(), r.reservoir_short());
        let reservoir = [
            ("RESERVOIR ", label),
            volume.piece(),
            ("  ", label),
            hours.piece(),
        ];
        pen.pieces(0, 3, &reservoir);
        labelled_right(pen, 3, "bolus ", &r.boluses());
        let (width, height) = (pen.width(), pen.height());
        let plot = timeplot::pain_rows(height.saturating_sub(7));
        if plot < 3 {
            return;
        }
        let (span, known) = known_span(&r, None);
        let line = Timeline::new(&r.state.trend, span, known, width.saturating_sub(5));
        timeplot::levels(&mut pen.part(0, 5, 5, plot));
        timeplot::pain(
            &mut pen.part(5, 5, width, plot),
            &line,
            r.state.baseline_mean_centi,
            width >= 56,
        );
        let flow = height.saturating_sub(6 + plot).min(4);
        pen.text(0, 5 + plot, "flow|", label);
        for y in 1..flow {
            pen.text(0, 5 + plot + y, "    |", label);
        }
        timeplot::flow(&mut pen.part(5, 5 + plot, width, flow), &line);
        let mut axis = pen.part(5, 5 + plot + flow, width.saturating_sub(5), 1);
        timeplot::axis(&mut axis, &line, r.zone);
    }

    /// One row of [`LINE_WIDTH`] columns.
    pub(crate) fn line(&self, pen: &mut Pen<'_>) {
        let (sign, role) = if self.selected {
            (">", Role::Selected)
        } else {
            (" ", Role::Title)
        };
        pen.pieces(0, 0, &[(sign, role)]);
        pen.part(1, 0, 3, 1).text(0, 0, &self.key.bed, role);
        if let Some(worst) = self.worst {
            let role = banner::role(worst, self.now);
            let ack = if worst.is_unacknowledged() { "" } else { "a" };
            pen.part(35, 0, 4, 1)
                .pieces(0, 0, &[(worst.stars(), role), (ack, role)]);
        } else {
            let mark = values::mark(self.fresh());
            if !matches!(self.fresh(), Freshness::Live(_)) {
                pen.part(35, 0, 4, 1).pieces(0, 0, &[mark.piece()]);
            }
        }
        let Some(r) = self.reading() else {
            pen.pieces(5, 0, &[("??  never heard", Role::Unknown)]);
            return;
        };
        pen.part(4, 0, 4, 1)
            .text(0, 0, &r.trial_day_short(), Role::Label);
        if matches!(self.fresh(), Freshness::Lost(_)) {
            let score = r.score(r.state.pain.as_ref());
            pen.part(9, 0, 25, 1).pieces(0, 0, &[score.piece()]);
            return;
        }
        let score = values::shown(
            r.pump,
            r.state.pain.as_ref().map(|p| p.value.score.to_string()),
        );
        let mut x = pen.pieces(9, 0, &[score.piece()]);
        if let Some(change) = r.change_points() {
            x = x.max(10);
            let mut part = pen.part(x, 0, 17_u16.saturating_sub(x), 1);
            part.pieces(0, 0, &[change.piece()]);
        }
        pen.part(17, 0, 4, 1).right(0, &r.score_age(), Role::Label);
        let rate = r.rate();
        let number = Value {
            text: rate.text.replace(" mL/h", ""),
            role: rate.role,
        };
        pen.part(22, 0, 6, 1).pieces(0, 0, &[number.piece()]);
        let share = r.delivered_short();
        pen.part(28, 0, 6, 1).right(0, &share.text, share.role);
    }
}

/// Columns of a line.
pub(crate) const LINE_WIDTH: u16 = 39;

/// Above lines: what stands in them.
pub(crate) fn line_head(pen: &mut Pen<'_>) {
    pen.text(1, 0, "bed day pain     age mL/h   dlv  alarm", Role::Label);
}

/// Parentheses need the column of the space.
fn narrow<'a>(label: &'a str, value: &Value) -> &'a str {
    if value.text.starts_with('(') {
        label.trim_end()
    } else {
        label
    }
}

fn labelled_right(pen: &mut Pen<'_>, y: u16, label: &str, value: &Value) {
    let label = narrow(label, value);
    let width = words::columns(label) + words::columns(&value.text);
    let x = pen.width().saturating_sub(width);
    pen.pieces(x, y, &[(label, Role::Label), value.piece()]);
}

/// How old the last frame is, in trial time.
pub(crate) fn age_in_trial(r: &Reading<'_>) -> i64 {
    let wall = r.pump.age_ms().unwrap_or(0);
    let trial = wall.saturating_mul(u64::from(r.state.speed.max(1)));
    i64::try_from(trial).unwrap_or(i64::MAX)
}
