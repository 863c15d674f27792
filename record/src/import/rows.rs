//! The diary's four tables, row by row, as events.

use super::table::{Table, TableRow, bytes_of};
use super::trial::moment;
use super::{Bad, Entry};
use jiff::tz::TimeZone;
use protocol::bedside::{Fact, Observation, Rescue, ScoreEntry, observation_range};
use protocol::event::{Condition, Delivered};
use std::collections::HashMap;
use std::path::Path;

/// The largest counter: what JSON numbers hold exactly.
const COUNT_MAX: u64 = 1 << 53;
/// The largest single dose outside the pump that is believed.
const DOSE_MAX_MCG: u64 = 10_000_000;

/// A file of the diary.
#[derive(Debug)]
pub(super) struct DiaryFile {
    name: &'static str,
    must_be_there: bool,
    columns: &'static [&'static str],
    required: usize,
    /// The columns that, with `at`, tell two rows apart.
    identity: &'static [&'static str],
    fact: fn(TableRow<'_>, &Common) -> Result<Fact, Bad>,
}

/// All files, in the order in which rows of the same time are numbered.
pub(super) const FILES: &[DiaryFile] = &[
    DiaryFile {
        name: "delivery.csv",
        must_be_there: false,
        columns: &["at", "delivered_nl", "programmed_nl"],
        required: 3,
        identity: &[],
        fact: delivery,
    },
    DiaryFile {
        name: "scores.csv",
        must_be_there: true,
        columns: &["at", "score", "source", "prompted", "condition"],
        required: 2,
        identity: &["source"],
        fact: score,
    },
    DiaryFile {
        name: "rescue.csv",
        must_be_there: false,
        columns: &["at", "drug", "dose_mg", "route", "reason", "scheduled"],
        required: 4,
        identity: &["drug", "route"],
        fact: rescue,
    },
    DiaryFile {
        name: "observations.csv",
        must_be_there: false,
        columns: &["at", "kind", "value"],
        required: 3,
        identity: &["kind"],
        fact: observation,
    },
];

/// What every entry has.
struct Common {
    at_utc_ms: i64,
    by: String,
    role: String,
    entry_id: String,
}

/// What a file gave.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) entries: Vec<Entry>,
    pub(super) bad: Vec<Bad>,
}

/// Reads a file of the diary.
///
/// # Errors
/// Where the whole file cannot be used.
pub(super) fn read(dir: &Path, file: &DiaryFile, zone: &TimeZone) -> Result<Read, Bad> {
    let path = dir.join(file.name);
    let shown = path.display().to_string();
    let Some(bytes) = bytes_of(&path)? else {
        if !file.must_be_there {
            return Ok(Read::default());
        }
        return Err(Bad {
            file: shown,
            line: 1,
            column: 1,
            reason: "no such file; a diary has one".into(),
        });
    };
    let table = Table::read(shown.clone(), &bytes, file.columns, file.required)?;
    let place = FILES.iter().position(|f| f.name == file.name).unwrap_or(0);
    let place = u8::try_from(place).unwrap_or(u8::MAX);
    let mut read = Read {
        entries: Vec::new(),
        bad: table.broken().to_vec(),
    };
    let mut there: HashMap<(i64, Vec<&str>), u64> = HashMap::new();
    for row in table.rows() {
        match one(row, file, zone, place) {
            Err(bad) => read.bad.push(bad),
            Ok((entry, identity)) => {
                let first = *there.entry((entry.at_utc_ms, identity)).or_insert(row.line);
                if first == row.line {
                    read.entries.push(entry);
                } else {
                    let of = [&["at"], file.identity].concat().join(" and ");
                    let same = format!("stands there already: line {first} has the same {of}");
                    read.bad.push(row.bad("at", same));
                }
            }
        }
    }
    if file.name == "delivery.csv" {
        never_falls(&mut read);
    }
    Ok(read)
}

fn one<'a>(
    row: TableRow<'a>,
    file: &DiaryFile,
    zone: &TimeZone,
    place: u8,
) -> Result<(Entry, Vec<&'a str>), Bad> {
    row.whole()?;
    let at_utc_ms = moment(row.text("at")?, zone).map_err(|why| row.bad("at", why))?;
    let common = Common {
        at_utc_ms,
        by: "import".into(),
        role: "diary".into(),
        entry_id: format!("{}:{}", file.name, row.line),
    };
    let fact = (file.fact)(row, &common)?;
    let identity = file.identity.iter().map(|name| {
        let text = row.text(name)?;
        let is_default = *name == "source" && text.is_empty();
        Ok(if is_default { "patient" } else { text })
    });
    let identity = identity.collect::<Result<Vec<_>, Bad>>()?;
    let entry = Entry {
        at_utc_ms,
        place: (place, row.line),
        bad_at: row.bad("at", ""),
        fact,
    };
    Ok((entry, identity))
}

/// Cumulative volumes in order of time.
fn never_falls(read: &mut Read) {
    read.entries
        .sort_by_key(|entry| (entry.at_utc_ms, entry.place));
    let mut most = (0, 0);
    let Read { entries, bad } = read;
    entries.retain(|entry| {
        let Fact::Pump(protocol::event::Body::Delivered(now)) = &entry.fact else {
            return true;
        };
        let fall = [
            ("delivered_nl", 2, most.0, now.delivered_nl),
            ("programmed_nl", 3, most.1, now.programmed_nl),
        ]
        .into_iter()
        .find(|(_, _, before, now)| now < before);
        if let Some((name, column, before, now)) = fall {
            bad.push(Bad {
                column,
                reason: format!("{name} falls from {before} to {now}; it is cumulative"),
                ..entry.bad_at.clone()
            });
            return false;
        }
        most = (now.delivered_nl, now.programmed_nl);
        true
    });
}

fn score(row: TableRow<'_>, common: &Common) -> Result<Fact, Bad> {
    let seen = row.text("score")?;
    let prompted = boolean(row, "prompted", true)?;
    let asleep = seen == "S";
    let score = match seen {
        "" if prompted => None,
        "" => return Err(row.bad("score", "is empty, though it was not asked for")),
        "S" => None,
        _ => match seen.parse::<u8>() {
            Ok(score) if score <= 10 && plain_digits(seen) => Some(score),
            Ok(_) | Err(_) => {
                let why = format!("{seen:?} is no whole number from 0 to 10, not empty, and not S");
                return Err(row.bad("score", why));
            }
        },
    };
    let condition = match word(row, "condition", &["rest", "movement"])? {
        "movement" => Condition::Movement,
        _ => Condition::Rest,
    };
    Ok(ScoreEntry {
        score,
        asleep,
        condition,
        scored_by: word(row, "source", &["patient", "nurse", "family"])?.into(),
        prompted,
        at_utc_ms: common.at_utc_ms,
        by: common.by.clone(),
        entry_id: common.entry_id.clone(),
    }
    .into())
}

fn delivery(row: TableRow<'_>, _: &Common) -> Result<Fact, Bad> {
    let volume = |name| {
        let seen = row.text(name)?;
        match seen.parse::<u64>() {
            Ok(volume) if volume <= COUNT_MAX && plain_digits(seen) => Ok(volume),
            Ok(_) | Err(_) => {
                Err(row.bad(name, format!("{seen:?} is no whole number of nanoliters")))
            }
        }
    };
    let delivered = Delivered {
        delivered_nl: volume("delivered_nl")?,
        programmed_nl: volume("programmed_nl")?,
        strokes: 0,
        encoder_counts: 0,
    };
    Ok(Fact::Pump(delivered.into()))
}

fn rescue(row: TableRow<'_>, common: &Common) -> Result<Fact, Bad> {
    let name = |column, most| {
        let seen = row.text(column)?;
        if seen.is_empty() || seen.len() > most {
            let why = format!("{seen:?} is not 1 to {most} bytes of text");
            return Err(row.bad(column, why));
        }
        Ok(seen.to_owned())
    };
    let seen = row.text("dose_mg")?;
    let dose = thousandths(seen).map_err(|why| row.bad("dose_mg", format!("{seen:?} {why}")))?;
    let dose_mcg = match u64::try_from(dose) {
        Ok(dose) if (1..=DOSE_MAX_MCG).contains(&dose) => dose,
        Ok(_) | Err(_) => {
            let why = format!(
                "{seen:?} is not above 0 and at most {} mg",
                DOSE_MAX_MCG / 1_000
            );
            return Err(row.bad("dose_mg", why));
        }
    };
    Ok(Rescue {
        drug: name("drug", 40)?,
        dose_mcg,
        route: name("route", 24)?,
        reason: word(row, "reason", &["trial_pain", "other_pain", "not_pain"])?.into(),
        scheduled: boolean(row, "scheduled", false)?,
        at_utc_ms: common.at_utc_ms,
        by: common.by.clone(),
        role: common.role.clone(),
        entry_id: common.entry_id.clone(),
    }
    .into())
}

fn observation(row: TableRow<'_>, common: &Common) -> Result<Fact, Bad> {
    let what = row.text("kind")?;
    let range = observation_range(what).filter(|_| what.len() <= 32);
    let Some((unit, least, most)) = range else {
        let why = format!("{what:?} is nothing that docs/record.md lists");
        return Err(row.bad("kind", why));
    };
    let seen = row.text("value")?;
    let value_milli = if what == "sedation_poss" && seen == "S" {
        0
    } else {
        thousandths(seen).map_err(|why| row.bad("value", format!("{seen:?} {why}")))?
    };
    let out = |why: String| Err(row.bad("value", why));
    // Ranges are whole numbers: thousandths compare exactly.
    let (low, high) = (milli(least), milli(most));
    if !(low..=high).contains(&value_milli) {
        return out(format!("{seen} is not from {least} to {most} ({unit})"));
    }
    if high - low == 1_000 && value_milli % 1_000 != 0 {
        return out(format!("{seen} is neither 0 nor 1 ({unit})"));
    }
    Ok(Observation {
        what: what.into(),
        value_milli,
        at_utc_ms: common.at_utc_ms,
        by: common.by.clone(),
        role: common.role.clone(),
        entry_id: common.entry_id.clone(),
    }
    .into())
}

/// A bound of a range in thousandths. Bounds are whole and small.
fn milli(bound: f64) -> i64 {
    format!("{bound:.0}").parse::<i64>().unwrap_or(0) * 1_000
}

/// One of some words; the first where the field is empty or there is no such column.
fn word(
    row: TableRow<'_>,
    column: &str,
    words: &'static [&'static str],
) -> Result<&'static str, Bad> {
    let seen = row.text(column)?;
    let seen = if seen.is_empty() {
        words.first().copied().unwrap_or_default()
    } else {
        seen
    };
    let known = words.iter().find(|known| **known == seen);
    known
        .copied()
        .ok_or_else(|| row.bad(column, format!("{seen:?} is none of {}", words.join(", "))))
}

fn boolean(row: TableRow<'_>, column: &str, default: bool) -> Result<bool, Bad> {
    let seen = row.text(column)?;
    match seen {
        "" => Ok(default),
        _ if seen.eq_ignore_ascii_case("true") => Ok(true),
        _ if seen.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(row.bad(column, format!("{seen:?} is neither true nor false"))),
    }
}

fn plain_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// A decimal number with at most three decimals, times 1000: exact.
fn thousandths(text: &str) -> Result<i64, &'static str> {
    let no_number = "is no number such as 7.5";
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    if whole.is_empty() || part.is_empty() || !plain_digits(whole) || !plain_digits(part) {
        return Err(no_number);
    }
    let part = part.trim_end_matches('0');
    if part.len() > 3 {
        return Err("has more than 3 decimals");
    }
    let whole: i64 = whole.parse().map_err(|_| "is too large")?;
    let part: i64 = format!("{part:0<3}").parse().map_err(|_| no_number)?;
    let value = whole
        .checked_mul(1_000)
        .and_then(|milli| milli.checked_add(part))
        .ok_or("is too large")?;
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_become_thousandths_exactly() {
        let good = [
            ("0", 0),
            ("7.5", 7_500),
            ("0.001", 1),
            ("36.60", 36_600),
            ("-3.25", -3_250),
            ("0012", 12_000),
            ("1.0000000", 1_000),
        ];
        for (text, wanted) in good {
            assert_eq!(thousandths(text), Ok(wanted), "{text}");
        }
        for text in [
            "", ".", "-", "1.", ".5", "1e3", "+1", "1,5", "0.0001", "NaN",
        ] {
            assert!(thousandths(text).is_err(), "{text}");
        }
        assert!(thousandths("9223372036854775807").is_err());
    }
}
