//! Whether what was typed is in the record. Shares nothing with the programs that it judges: it
//! knows the keys that were pressed, what the face showed, and plain SQL.

use crate::kill::person::{Shown, Typed};
use anyhow::Context;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// A score as the record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) seq: u64,
    pub(crate) score: u8,
    pub(crate) confirmed: bool,
}

/// What the record says of the pump.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) scores: Vec<Recorded>,
    pub(crate) events: u64,
    pub(crate) starts: u64,
    /// What no record may show, in words.
    pub(crate) wrong: Vec<String>,
}

/// Reads a record with plain SQL.
pub(crate) fn read(path: &Path, pump: &str) -> anyhow::Result<Record> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| path.display().to_string())?;
    let count = |sql: &str| -> anyhow::Result<u64> {
        db.query_row(sql, [pump], |row| row.get(0))
            .with_context(|| sql.to_owned())
    };
    let mut record = Record {
        events: count("SELECT count(*) FROM event WHERE source = ?1")?,
        starts: count("SELECT count(*) FROM event WHERE source = ?1 AND kind = 'powered_on'")?,
        ..Record::default()
    };
    let highest = count("SELECT ifnull(max(seq), 0) FROM event WHERE source = ?1")?;
    let lowest = count("SELECT ifnull(min(seq), 0) FROM event WHERE source = ?1")?;
    let zero = [
        (
            "bodies that are there twice",
            "SELECT count(*) - count(DISTINCT raw) FROM event WHERE source = ?1",
        ),
        (
            "events whose start or tick goes backwards",
            "SELECT count(*) FROM (SELECT boot, tick_ms, lag(boot) OVER w AS before, lag(tick_ms) OVER w AS tick_before \
             FROM event WHERE source = ?1 WINDOW w AS (ORDER BY seq)) WHERE boot < before OR (boot = before AND tick_ms < tick_before)",
        ),
        (
            "events in quarantine",
            "SELECT count(*) FROM quarantine WHERE ?1 = ?1",
        ),
        (
            "events that the pump calls lost",
            "SELECT count(*) FROM event WHERE source = ?1 AND kind = 'journal_lost'",
        ),
    ];
    for (what, sql) in zero {
        let n = count(sql)?;
        if n > 0 {
            record.wrong.push(format!("{n} {what}"));
        }
    }
    if (lowest, highest) != (1, record.events) {
        let events = record.events;
        record.wrong.push(format!(
            "{events} events of the pump, numbered {lowest} to {highest}"
        ));
    }
    let closes = count("SELECT count(*) FROM event WHERE source = ?1 AND kind = 'trial_closed'")?;
    if closes > 1 {
        record
            .wrong
            .push(format!("the trial is closed {closes} times"));
    }
    let sql = "SELECT seq, json_extract(body, '$.score'), json_extract(body, '$.confirmed') \
               FROM event WHERE source = ?1 AND kind = 'pain_score' ORDER BY seq";
    let mut query = db.prepare(sql)?;
    let rows = query.query_map([pump], |row| {
        Ok(Recorded {
            seq: row.get(0)?,
            score: row.get(1)?,
            confirmed: row.get(2)?,
        })
    })?;
    record.scores = rows.collect::<Result<_, _>>()?;
    Ok(record)
}

/// The scores that a report's timeline shows, in its order, and whether each was confirmed: what a
/// reader's pointer is told over each mark.
pub(crate) fn shown_in(report: &str) -> Vec<(u8, bool)> {
    let titles = report.split("<title>").skip(1);
    let titles = titles.filter_map(|rest| rest.split("</title>").next());
    // `2 Mar 09:00: 8`, or `2 Mar 09:00: 8, never confirmed`.
    let score = |title: &str| {
        let (_moment, said) = title.split_once(": ")?;
        let (number, why) = said.split_once(", ").unwrap_or((said, ""));
        let confirmed = match why {
            "" => true,
            "never confirmed" => false,
            _ => return None,
        };
        Some((number.parse().ok()?, confirmed))
    };
    titles.filter_map(score).collect()
}

/// Why the scores of a record are not those that were typed: each that had its tick once and in
/// order, one without a tick at most once in its place, and no other.
pub(crate) fn differs(typed: &[Typed], recorded: &[Recorded]) -> Option<String> {
    // The places in the script that the record may have reached so far: several, where the same
    // score was typed again and one of them had no tick.
    let mut places = vec![0_usize];
    for row in recorded {
        let mut next = Vec::new();
        for place in &places {
            for (at, press) in typed.iter().enumerate().skip(*place) {
                if explains(*press, *row) && !next.contains(&(at + 1)) {
                    next.push(at + 1);
                }
                if is_certain(*press) {
                    break;
                }
            }
        }
        if next.is_empty() {
            let furthest = places.iter().max().copied().unwrap_or(0);
            return Some(format!(
                "{row:?} is not what was typed; there {:?} should come",
                typed
                    .get(furthest..(furthest + 4).min(typed.len()))
                    .unwrap_or(&[])
            ));
        }
        places = next;
    }
    let rest_is_uncertain = |place: &usize| {
        let rest = typed.get(*place..).unwrap_or(&[]);
        !rest.iter().any(|press| is_certain(*press))
    };
    if places.iter().any(rest_is_uncertain) {
        return None;
    }
    let furthest = places.iter().max().copied().unwrap_or(0);
    let missing = typed
        .iter()
        .skip(furthest)
        .find(|press| is_certain(**press));
    Some(format!(
        "{missing:?} had its tick and is missing at the end"
    ))
}

/// It had its tick: it must be there.
fn is_certain(press: Typed) -> bool {
    matches!(press.shown, Shown::Saved | Shown::SavedUnconfirmed)
}

fn explains(press: Typed, row: Recorded) -> bool {
    let same = row.score == press.score;
    match press.shown {
        Shown::Saved => same && row.confirmed,
        Shown::SavedUnconfirmed | Shown::NeverTyped => same && !row.confirmed,
        Shown::Nothing => same && (press.confirmed || !row.confirmed),
    }
}

/// Damages copies of a record that is right, in the ways that this oracle is for, and says of each
/// whether it was seen: a judge that sees nothing is no judge.
pub(crate) fn blind_to(
    record: &Path,
    pump: &str,
    typed: &[Typed],
) -> anyhow::Result<Vec<(&'static str, bool)>> {
    let seen = read(record, pump)?;
    let scores = &seen.scores;
    // Not one that a press without a tick could stand in for.
    let clear = |row: &Recorded| {
        let mut unclear = typed.iter().filter(|press| !is_certain(**press));
        row.confirmed && !unclear.any(|press| press.score == row.score)
    };
    let middle = scores
        .iter()
        .find(|row| clear(row))
        .context("no score to damage")?
        .seq;
    let pair = scores.windows(2).find(|pair| match pair {
        [a, b] => a.score != b.score && clear(a) && clear(b),
        _ => false,
    });
    let mut damages = vec![
        (
            "a score that is lost",
            format!("DELETE FROM event WHERE source = ?1 AND seq = {middle}"),
        ),
        (
            "a score that is there twice",
            format!(
                "INSERT INTO event SELECT source, boot, {}, tick_ms, at_utc_ms, at_uncertainty_ms, kind, body, raw, tag, \
                 received_at_utc_ms FROM event WHERE source = ?1 AND seq = {middle}",
                seen.events + 1
            ),
        ),
    ];
    damages.push((
        "a score that is another",
        format!(
            "UPDATE event SET body = json_set(body, '$.score', (json_extract(body, '$.score') + 1) % 11) \
             WHERE source = ?1 AND seq = {middle}"
        ),
    ));
    if let Some([a, b]) = pair {
        let swap = format!(
            "UPDATE event SET body = (SELECT body FROM event e WHERE e.source = ?1 AND e.seq = {0} + {1} - event.seq) \
             WHERE source = ?1 AND seq IN ({0}, {1})",
            a.seq, b.seq
        );
        damages.push(("two scores in the wrong order", swap));
    }
    let copy = record.with_extension("damaged");
    let mut tried = Vec::new();
    for (what, sql) in damages {
        let _ = std::fs::remove_file(&copy);
        {
            // Also where the original keeps its newest rows in a log.
            let original = Connection::open_with_flags(record, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            original.execute("VACUUM INTO ?1", [copy.display().to_string()])?;
        }
        {
            let db = Connection::open(&copy)?;
            let mut query = db.prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")?;
            let names: Vec<String> = query
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for name in names {
                db.execute(&format!("DROP TRIGGER \"{name}\""), [])?;
            }
            let changed = db.execute(&sql, [pump]).with_context(|| sql.clone())?;
            anyhow::ensure!(changed > 0, "{what}: nothing was damaged");
        }
        let after = read(&copy, pump)?;
        // The scores alone must do; numbers and bytes are looked at besides.
        tried.push((what, differs(typed, &after.scores).is_some()));
    }
    let _ = std::fs::remove_file(&copy);
    Ok(tried)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(presses: &[(u8, Shown)]) -> Vec<Typed> {
        let press = |(score, shown): &(u8, Shown)| Typed {
            score: *score,
            confirmed: true,
            shown: *shown,
        };
        presses.iter().map(press).collect()
    }

    fn recorded(scores: &[u8]) -> Vec<Recorded> {
        let row = |(seq, score): (u64, &u8)| Recorded {
            seq,
            score: *score,
            confirmed: true,
        };
        (1..).zip(scores).map(row).collect()
    }

    #[test]
    fn the_oracle_takes_what_was_typed_and_nothing_else() {
        use Shown::{Nothing, Saved};
        let script = typed(&[
            (3, Saved),
            (5, Nothing),
            (5, Saved),
            (7, Saved),
            (2, Nothing),
        ]);
        let cases: [(&[u8], bool, &str); 10] = [
            (&[3, 5, 7], true, "neither of those without a tick"),
            (&[3, 5, 5, 7], true, "one without a tick is there"),
            (&[3, 5, 5, 7, 2], true, "both are there"),
            (&[3, 5, 7, 2], true, "only the last"),
            (&[3, 5, 5, 5, 7], false, "one three times"),
            (&[3, 7], false, "lost in the middle"),
            (&[3, 5], false, "lost at the end"),
            (&[5, 3, 7], false, "another order"),
            (&[3, 5, 7, 7], false, "doubled"),
            (&[3, 4, 5, 7], false, "never typed"),
        ];
        for (scores, right, what) in cases {
            let said = differs(&script, &recorded(scores));
            assert_eq!(said.is_none(), right, "{what}: {said:?}");
        }
    }

    #[test]
    fn an_unconfirmed_score_is_not_taken_for_a_confirmed_one() {
        let script = typed(&[(3, Shown::Saved)]);
        let mut rows = recorded(&[3]);
        rows[0].confirmed = false;
        assert!(differs(&script, &rows).is_some());
        let script = typed(&[(3, Shown::SavedUnconfirmed)]);
        assert_eq!(differs(&script, &rows), None);
    }

    #[test]
    fn the_scores_of_a_report_are_read_from_its_marks_alone() {
        let page = "<title>Trial T-1: Supports the implant</title><g><title>2 Mar 09:00: 8</title></g>\
                    <title>2 Mar 09:05: bolus, 3</title><title>2 Mar 10:00: 10, never confirmed</title>\
                    <title>2 Mar 11:00: 0</title>";
        assert_eq!(shown_in(page), [(8, true), (10, false), (0, true)]);
    }
}
