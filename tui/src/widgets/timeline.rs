//! A trend cut into the columns of a plot. Pain, delivery and marks are drawn from the same
//! columns: what stands above each other happened at the same time. What is not known stays so.

use protocol::topics::{TREND_STEP_MS, TrendStep};

/// What happened while one column of a plot lasted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    /// The last score at rest.
    pub(crate) score: Option<u8>,
    /// The last score on movement.
    pub(crate) movement: Option<u8>,
    /// Nothing is known of a part of it.
    pub(crate) gap: bool,
    /// Delivered in the steps that it touches.
    pub(crate) delivered_nl: u64,
    /// Programmed in the steps that it touches.
    pub(crate) programmed_nl: u64,
    /// Time of those steps.
    pub(crate) known_ms: u64,
    /// Boluses granted.
    pub(crate) boluses: u32,
    /// Boluses refused.
    pub(crate) refused: u32,
    /// Rescue doses.
    pub(crate) rescues: u32,
    /// Prompts not answered.
    pub(crate) not_answered: u32,
    /// Pump alarms that began.
    pub(crate) alarms: u32,
}

impl Column {
    /// Mean rate in nanolitres an hour; none where nothing is known.
    pub(crate) fn delivered_nl_per_h(&self) -> Option<u64> {
        let hour = u128::from(self.delivered_nl) * 3_600_000;
        let rate = hour.checked_div(u128::from(self.known_ms))?;
        (!self.gap).then_some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// Columns over `[from, to)`.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) columns: Vec<Column>,
}

impl Timeline {
    /// Cuts `trend` into `width` columns. Nothing is known after `known_until_ms`, nor where the
    /// trend has no step, but for the time that a step needs to be reported.
    pub(crate) fn new(
        trend: &[TrendStep],
        (from_ms, to_ms): (i64, i64),
        known_until_ms: i64,
        width: u16,
    ) -> Self {
        let mut line = Self {
            from_ms,
            to_ms: to_ms.max(from_ms.saturating_add(1)),
            columns: vec![Column::default(); usize::from(width)],
        };
        for step in trend {
            line.add_events(step);
            line.add_delivery(step);
        }
        for (before, after) in trend.iter().zip(trend.iter().skip(1)) {
            line.mark_gap(end(before.start_utc_ms), after.start_utc_ms);
        }
        let last = trend.iter().map(|s| end(s.start_utc_ms)).max();
        let reported_until = last.unwrap_or(from_ms).saturating_add(TREND_STEP_MS);
        let known_until = known_until_ms.min(reported_until);
        for i in 0..line.columns.len() {
            let (starts, ends) = (line.start_of(i), line.start_of(i + 1));
            let newest = last.is_some_and(|last| starts >= last);
            if let Some(column) = line.columns.get_mut(i) {
                let untold = column.known_ms == 0 && !newest;
                column.gap |= untold || ends > known_until;
            }
        }
        line
    }

    /// Where a column begins.
    pub(crate) fn start_of(&self, column: usize) -> i64 {
        let span = i128::from(self.to_ms) - i128::from(self.from_ms);
        let width = i128::try_from(self.columns.len().max(1)).unwrap_or(1);
        let offset = span * i128::try_from(column).unwrap_or(0) / width;
        i64::try_from(i128::from(self.from_ms) + offset).unwrap_or(self.to_ms)
    }

    /// The column that a time lies in.
    pub(crate) fn column_of(&self, at_ms: i64) -> Option<usize> {
        let span = i128::from(self.to_ms) - i128::from(self.from_ms);
        let offset = i128::from(at_ms) - i128::from(self.from_ms);
        let width = i128::try_from(self.columns.len()).unwrap_or(0);
        if offset < 0 || offset >= span {
            return None;
        }
        // The first column whose start is not after the time: the inverse of `start_of`.
        let guess = usize::try_from(offset * width / span).ok()?;
        let next = guess + 1;
        Some(
            if next < self.columns.len() && self.start_of(next) <= at_ms {
                next
            } else {
                guess
            },
        )
    }

    fn add_events(&mut self, step: &TrendStep) {
        let at = self.column_of(step.start_utc_ms);
        let Some(column) = at.and_then(|i| self.columns.get_mut(i)) else {
            return;
        };
        column.score = step.score.or(column.score);
        column.movement = step.score_movement.or(column.movement);
        for (sum, more) in [
            (&mut column.boluses, step.boluses),
            (&mut column.refused, step.refused),
            (&mut column.rescues, step.rescues),
            (&mut column.not_answered, step.not_answered),
            (&mut column.alarms, step.alarms),
        ] {
            *sum = sum.saturating_add(more.into());
        }
    }

    fn mark_gap(&mut self, starts: i64, ends: i64) {
        let (starts, ends) = (starts.max(self.from_ms), ends.min(self.to_ms));
        if starts >= ends {
            return;
        }
        if let (Some(first), Some(last)) = (self.column_of(starts), self.column_of(ends - 1)) {
            for column in self.columns.iter_mut().take(last + 1).skip(first) {
                column.gap = true;
            }
        }
    }

    /// A step counts in each column that it touches: rates and shares are right, sums are not
    /// formed over columns.
    fn add_delivery(&mut self, step: &TrendStep) {
        let starts = step.start_utc_ms.max(self.from_ms);
        let ends = end(step.start_utc_ms).min(self.to_ms);
        let (Some(first), Some(last)) = (
            self.column_of(starts),
            self.column_of(ends.saturating_sub(1)),
        ) else {
            return;
        };
        let lasted = u64::try_from(ends.saturating_sub(step.start_utc_ms)).unwrap_or(0);
        for column in self.columns.iter_mut().take(last + 1).skip(first) {
            match step.delivered_nl.zip(step.programmed_nl) {
                Some((delivered, programmed)) => {
                    column.delivered_nl = column.delivered_nl.saturating_add(delivered);
                    column.programmed_nl = column.programmed_nl.saturating_add(programmed);
                    column.known_ms = column.known_ms.saturating_add(lasted.max(1));
                }
                None => column.gap = true,
            }
        }
    }
}

fn end(start_ms: i64) -> i64 {
    start_ms.saturating_add(TREND_STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(n: i64, delivered_nl: Option<u64>) -> TrendStep {
        TrendStep {
            start_utc_ms: n * TREND_STEP_MS,
            delivered_nl,
            programmed_nl: delivered_nl,
            score: (n == 2).then_some(7),
            boluses: u16::from(n == 2),
            ..TrendStep::default()
        }
    }

    fn gaps(line: &Timeline) -> String {
        let sign = |c: &Column| if c.gap { ':' } else { '.' };
        line.columns.iter().map(sign).collect()
    }

    #[test]
    fn scores_and_drug_of_one_time_stand_in_one_column() {
        let trend: Vec<_> = (0..12).map(|n| step(n, Some(100_000))).collect();
        for width in [1, 5, 12, 37, 200] {
            let line = Timeline::new(&trend, (0, 12 * TREND_STEP_MS), i64::MAX, width);
            let column = line.column_of(2 * TREND_STEP_MS).unwrap();
            assert_eq!(line.columns[column].score, Some(7), "width {width}");
            assert_eq!(line.columns[column].boluses, 1);
            assert_eq!(line.columns[column].delivered_nl_per_h(), Some(600_000));
            assert_eq!(line.columns.iter().filter(|c| c.score.is_some()).count(), 1);
        }
    }

    #[test]
    fn a_time_lies_in_the_column_that_begins_last_before_it() {
        for width in [1_u16, 3, 7, 80] {
            let line = Timeline::new(&[], (1_000, 8_777), i64::MAX, width);
            for at in 1_000..8_777 {
                let column = line.column_of(at).unwrap();
                assert!(line.start_of(column) <= at && at < line.start_of(column + 1));
            }
            assert_eq!(line.column_of(999), None);
            assert_eq!(line.column_of(8_777), None);
        }
    }

    #[test]
    fn missing_steps_unknown_steps_and_silence_are_gaps_and_are_not_bridged() {
        let mut trend: Vec<_> = (0..12).map(|n| step(n, Some(1))).collect();
        trend[4] = step(4, None);
        trend.remove(7);
        let span = (0, 12 * TREND_STEP_MS);
        let line = Timeline::new(&trend, span, i64::MAX, 12);
        assert_eq!(gaps(&line), "....:..:....");
        let silent = Timeline::new(&trend, span, 10 * TREND_STEP_MS, 12);
        assert_eq!(gaps(&silent), "....:..:..::");
        let wide = Timeline::new(&trend, span, i64::MAX, 4);
        assert_eq!(
            gaps(&wide),
            ".::.",
            "one unknown step makes a wide column unknown"
        );
    }

    #[test]
    fn the_step_that_is_not_reported_yet_is_no_gap_and_longer_silence_is() {
        let trend: Vec<_> = (0..10).map(|n| step(n, Some(1))).collect();
        let to = |steps: i64| Timeline::new(&trend, (0, steps * TREND_STEP_MS), i64::MAX, 13);
        assert!(!gaps(&to(11)).contains(':'));
        assert!(gaps(&to(13)).ends_with("::"));
    }

    #[test]
    fn numbers_beyond_all_reason_do_not_panic() {
        let wild = TrendStep {
            start_utc_ms: i64::MIN,
            delivered_nl: Some(u64::MAX),
            programmed_nl: Some(u64::MAX),
            ..TrendStep::default()
        };
        let late = TrendStep {
            start_utc_ms: i64::MAX,
            ..wild.clone()
        };
        let line = Timeline::new(&[wild, late], (i64::MIN, i64::MAX), i64::MAX, 50);
        let _ = line.columns.iter().map(Column::delivered_nl_per_h).max();
    }
}
