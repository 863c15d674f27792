//! Pain: the scores as given, and what they say about a span of time.
//!
//! [`read`] takes the scores out of the tables; everything after it is pure and works on slices in
//! order of time. A *segment* is the time between two neighbouring answered scores of one window;
//! it counts where the patient was not awake for longer than the protocol allows. Nothing is
//! extrapolated to the ends of a window.

use crate::gaps::awake_ms;
use crate::load::{self, Tables};
use crate::num::{float, hours, millis};
use crate::trial::Span;
use polars::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// At rest or on movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// At rest: the primary series.
    Rest,
    /// On movement: a second series with its own baseline.
    Movement,
}

/// A score as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// When; a correction takes the time of what it corrects.
    pub at_ms: i64,
    /// 0 to 10.
    pub score: u8,
    /// At rest or on movement.
    pub condition: Condition,
    /// Confirmed by the one who gave it.
    pub confirmed: bool,
    /// Replaced by a later correction; kept and counted.
    pub corrected: bool,
    /// Identity of the event.
    pub id: String,
}

/// A score that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When.
    pub at_ms: i64,
    /// At rest or on movement.
    pub condition: Condition,
    /// It was answered and confirmed.
    pub answered: bool,
}

/// All that the record says of pain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diary {
    /// Every score, in order of time.
    pub scores: Vec<Score>,
    /// Every asking, in order of time. One who slept was not asked.
    pub asked: Vec<Asked>,
    /// Notes that the patient was asleep.
    pub asleep: Vec<i64>,
}

impl Diary {
    /// Scores that stand: not corrected, and confirmed unless `unconfirmed` are wanted too.
    pub fn standing(&self, condition: Condition, unconfirmed: bool) -> Vec<&Score> {
        self.scores
            .iter()
            .filter(|s| s.condition == condition && !s.corrected && (s.confirmed || unconfirmed))
            .collect()
    }
}

/// Reads scores, askings and notes of sleep.
///
/// # Errors
/// Where a query fails.
pub fn read(tables: &Tables) -> PolarsResult<Diary> {
    let is = |kind: &'static str| col("kind").eq(lit(kind));
    let sleep = is("observation").and(col("what").eq(lit("asleep")));
    let frame = load::collect(
        tables.events.clone().lazy().filter(
            is("pain_score")
                .or(is("score_entry"))
                .or(is("prompt_not_answered"))
                .or(sleep),
        ),
    )?;
    let rows = Rows::of(&frame)?;
    let mut diary = Diary::default();
    let mut prompts: BTreeMap<(String, i64), Asked> = BTreeMap::new();
    let mut entries: BTreeSet<String> = BTreeSet::new();
    let mut by_seq: BTreeMap<(String, i64), usize> = BTreeMap::new();
    let mut corrections: Vec<(usize, (String, i64))> = Vec::new();
    for row in rows {
        if let Some(entry) = row.entry_id.filter(|id| !id.is_empty())
            && !entries.insert(entry)
        {
            continue;
        }
        let score = row
            .score
            .and_then(|s| u8::try_from(s).ok())
            .filter(|s| *s <= 10);
        let confirmed = row.confirmed.unwrap_or(true);
        match row.kind.as_str() {
            "observation" => {
                if row.value_milli.unwrap_or(0) > 0 {
                    diary.asleep.push(row.at_ms);
                }
                continue;
            }
            "score_entry" if row.asleep == Some(true) => {
                diary.asleep.push(row.at_ms);
                continue;
            }
            "score_entry" => {
                if row.prompted == Some(true) {
                    diary.asked.push(Asked {
                        at_ms: row.at_ms,
                        condition: row.condition,
                        answered: score.is_some(),
                    });
                }
            }
            _ => {
                if let Some(prompt) = row.prompt_id {
                    let asked = prompts
                        .entry((row.source.clone(), prompt))
                        .or_insert(Asked {
                            at_ms: row.at_ms,
                            condition: row.condition,
                            answered: false,
                        });
                    asked.answered |= score.is_some() && confirmed;
                }
            }
        }
        let Some(score) = score else { continue };
        let place = diary.scores.len();
        if let Some(corrects) = row.corrects_seq {
            corrections.push((place, (row.source.clone(), corrects)));
        }
        by_seq.insert((row.source.clone(), row.seq), place);
        diary.scores.push(Score {
            at_ms: row.at_ms,
            score,
            condition: row.condition,
            confirmed,
            corrected: false,
            id: format!("{}:{}:{}", row.source, row.boot, row.seq),
        });
    }
    for (correction, corrected) in corrections {
        let Some(old) = by_seq
            .get(&corrected)
            .and_then(|place| diary.scores.get_mut(*place))
        else {
            continue;
        };
        old.corrected = true;
        let at_ms = old.at_ms;
        if let Some(new) = diary.scores.get_mut(correction) {
            new.at_ms = at_ms;
        }
    }
    diary.scores.sort_by_key(|score| score.at_ms);
    diary.asked.extend(prompts.into_values());
    diary.asked.sort_by_key(|asked| asked.at_ms);
    Ok(diary)
}

struct Row {
    at_ms: i64,
    source: String,
    boot: i64,
    seq: i64,
    kind: String,
    score: Option<i64>,
    confirmed: Option<bool>,
    condition: Condition,
    prompt_id: Option<i64>,
    corrects_seq: Option<i64>,
    asleep: Option<bool>,
    prompted: Option<bool>,
    entry_id: Option<String>,
    value_milli: Option<i64>,
}

struct Rows;

impl Rows {
    fn of(frame: &DataFrame) -> PolarsResult<Vec<Row>> {
        let mut source = load::texts(frame, "source")?.into_iter();
        let mut kind = load::texts(frame, "kind")?.into_iter();
        let mut condition = load::texts(frame, "condition")?.into_iter();
        let mut entry = load::texts(frame, "entry_id")?.into_iter();
        let int = |name| load::ints(frame, name).map(Vec::into_iter);
        let (mut at, mut boot, mut seq) = (int(crate::schema::AT_MS)?, int("boot")?, int("seq")?);
        let (mut score, mut prompt, mut corrects, mut value) = (
            int("score")?,
            int("prompt_id")?,
            int("corrects_seq")?,
            int("value_milli")?,
        );
        let flag = |name| load::bools(frame, name).map(Vec::into_iter);
        let (mut confirmed, mut asleep, mut prompted) =
            (flag("confirmed")?, flag("asleep")?, flag("prompted")?);
        Ok((0..frame.height())
            .map(|_| Row {
                at_ms: at.next().flatten().unwrap_or(0),
                source: source.next().flatten().unwrap_or_default(),
                boot: boot.next().flatten().unwrap_or(0),
                seq: seq.next().flatten().unwrap_or(0),
                kind: kind.next().flatten().unwrap_or_default(),
                score: score.next().flatten(),
                confirmed: confirmed.next().flatten(),
                condition: match condition.next().flatten().as_deref() {
                    Some("movement") => Condition::Movement,
                    _ => Condition::Rest,
                },
                prompt_id: prompt.next().flatten(),
                corrects_seq: corrects.next().flatten(),
                asleep: asleep.next().flatten(),
                prompted: prompted.next().flatten(),
                entry_id: entry.next().flatten(),
                value_milli: value.next().flatten(),
            })
            .collect())
    }
}

/// A score in a calculation: when, and its value, which an estimand may have replaced.
pub type Valued = (i64, f64);

/// What counts when scores are joined to a line.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'a> {
    /// A segment lies in one of them.
    pub windows: &'a [Span],
    /// When the patient slept.
    pub sleep: &'a [Span],
    /// The longest awake time of a segment that counts, hours.
    pub longest_h: f64,
}

impl Joining<'_> {
    /// Scores in the windows, in order.
    pub fn inside(&self, series: &[Valued]) -> Vec<Valued> {
        series
            .iter()
            .copied()
            .filter(|(at, _)| self.windows.iter().any(|w| holds(*w, *at)))
            .collect()
    }

    /// The segments that count: both scores.
    pub fn segments(&self, series: &[Valued]) -> Vec<(Valued, Valued)> {
        let mut out = Vec::new();
        for window in self.windows {
            let inside: Vec<Valued> = series
                .iter()
                .copied()
                .filter(|(at, _)| holds(*window, *at))
                .collect();
            for (a, b) in inside.iter().zip(inside.iter().skip(1)) {
                let between = Span::new(a.0, b.0);
                if between.ms() > 0 && awake_ms(between, self.sleep) <= millis(self.longest_h) {
                    out.push((*a, *b));
                }
            }
        }
        out
    }
}

/// A score at the very end of a window belongs to it: it closes the last segment.
fn holds(window: Span, at_ms: i64) -> bool {
    window.from_ms <= at_ms && at_ms <= window.to_ms
}

/// Time-weighted mean by trapezoids; none where no segment counts.
pub fn time_weighted_mean(segments: &[(Valued, Valued)]) -> Option<f64> {
    let length: i64 = segments.iter().map(|(a, b)| b.0 - a.0).sum();
    let twice: f64 = segments
        .iter()
        .map(|(a, b)| (a.1 + b.1) * float(b.0 - a.0))
        .sum();
    (length > 0).then(|| twice / (2.0 * float(length)))
}

/// Hours for which the score that began the segment holds `condition`; a score is taken to hold
/// until the next one.
pub fn hours_where(segments: &[(Valued, Valued)], condition: impl Fn(Valued) -> bool) -> f64 {
    hours(
        segments
            .iter()
            .filter(|(a, _)| condition(*a))
            .map(|(a, b)| b.0 - a.0)
            .sum(),
    )
}

/// Hours of all segments.
pub fn known_hours(segments: &[(Valued, Valued)]) -> f64 {
    hours_where(segments, |_| true)
}

/// The longest unbroken run, in hours, in which every score is at most `line`: from the first such
/// score to the last, over segments that count.
pub fn longest_run_h(segments: &[(Valued, Valued)], line: f64) -> f64 {
    let (mut best, mut run, mut until) = (0, 0, None);
    for (a, b) in segments {
        let good = a.1 <= line && b.1 <= line;
        run = match (good, until == Some(a.0)) {
            (true, true) => run + b.0 - a.0,
            (true, false) => b.0 - a.0,
            (false, _) => 0,
        };
        until = Some(b.0);
        best = best.max(run);
    }
    hours(best)
}

/// Shares of time with mild (0 to 3), moderate (4 to 6) and severe (7 to 10) pain, 0 to 1; none
/// where no segment counts.
pub fn time_in_range(segments: &[(Valued, Valued)]) -> Option<[f64; 3]> {
    let known = known_hours(segments);
    let share = |low: f64, high: f64| hours_where(segments, |(_, s)| low <= s && s < high) / known;
    (known > 0.0).then(|| [share(0.0, 4.0), share(4.0, 7.0), share(7.0, 11.0)])
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact in binary")]
mod tests {
    use super::*;
    use crate::trial::hours_ms;

    /// The worked day of `facts/clinical.md` §6.1.
    pub(crate) fn worked_day() -> Vec<Valued> {
        [0, 1, 2, 4, 8, 12, 16, 20, 24]
            .map(hours_ms)
            .into_iter()
            .zip([8.0, 6.0, 5.0, 7.0, 3.0, 4.0, 6.0, 2.0, 4.0])
            .collect()
    }

    fn all(series: &[Valued]) -> Vec<(Valued, Valued)> {
        let windows = [Span::new(i64::MIN / 4, i64::MAX / 4)];
        Joining {
            windows: &windows,
            sleep: &[],
            longest_h: 6.0,
        }
        .segments(series)
    }

    #[test]
    fn the_worked_day_has_the_published_figures() {
        let day = worked_day();
        let segments = all(&day);
        let mean = time_weighted_mean(&segments).unwrap();
        assert_eq!(mean.to_bits(), 4.4375f64.to_bits());
        assert_eq!((8.0 - mean) * 24.0, 85.5);
        assert_eq!(hours_where(&segments, |(_, s)| s <= 4.0), 12.0);
    }

    #[test]
    fn a_constant_has_itself_as_its_mean_and_a_split_span_the_same_area() {
        let flat: Vec<Valued> = [0, 3, 4, 9].map(hours_ms).map(|t| (t, 6.0)).to_vec();
        assert_eq!(time_weighted_mean(&all(&flat)), Some(6.0));
        let day = worked_day();
        let area = |s: &[Valued]| time_weighted_mean(&all(s)).unwrap() * known_hours(&all(s));
        assert!((area(&day) - area(&day[..5]) - area(&day[4..])).abs() < 1e-9);
        assert_eq!(time_weighted_mean(&all(&day[..1])), None);
    }

    #[test]
    fn a_gap_is_left_out_and_breaks_a_run() {
        let series = [
            (0, 2.0),
            (hours_ms(3), 2.0),
            (hours_ms(13), 2.0),
            (hours_ms(14), 9.0),
        ];
        let segments = all(&series);
        assert_eq!(known_hours(&segments), 4.0);
        assert_eq!(longest_run_h(&segments, 3.0), 3.0);
        let asleep = [Span::new(hours_ms(4), hours_ms(12))];
        let windows = [Span::new(0, hours_ms(24))];
        let joined = Joining {
            windows: &windows,
            sleep: &asleep,
            longest_h: 6.0,
        };
        assert_eq!(longest_run_h(&joined.segments(&series), 3.0), 13.0);
    }

    #[test]
    fn a_segment_does_not_bridge_two_windows() {
        let windows = [
            Span::new(0, hours_ms(2)),
            Span::new(hours_ms(4), hours_ms(9)),
        ];
        let joined = Joining {
            windows: &windows,
            sleep: &[],
            longest_h: 6.0,
        };
        let series: Vec<Valued> = [0, 1, 3, 5, 6].map(hours_ms).map(|t| (t, 1.0)).to_vec();
        assert_eq!(joined.segments(&series).len(), 2);
    }
}
