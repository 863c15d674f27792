//! `trial.toml` and `context.toml`, and the reading of times.

use super::table::bytes_of;
use super::{AlsoDrug, Bad, ImportedTrial};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

const TRIAL_FILE: &str = "trial.toml";
const CONTEXT_FILE: &str = "context.toml";
/// The most characters of a name or a text.
const NAME_MAX: usize = 40;
const CONTEXT_MAX: usize = 65_536;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrialFile {
    trial_id: Spanned<String>,
    bed: Spanned<String>,
    drug: Spanned<String>,
    concentration_mcg_per_ml: Spanned<i64>,
    route: Spanned<String>,
    zone: Spanned<String>,
    baseline_start: Spanned<toml::Value>,
    trial_start: Spanned<toml::Value>,
    trial_end: Spanned<toml::Value>,
    protocol: Option<Spanned<String>>,
    run_in_h: Option<Spanned<i64>>,
    accepts_implant: Option<bool>,
    #[serde(default)]
    also: Vec<AlsoFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlsoFile {
    drug: Spanned<String>,
    concentration_mcg_per_ml: Spanned<i64>,
}

/// A TOML file and what is wrong with it.
struct Faults<'a> {
    file: String,
    text: &'a str,
    bad: Vec<Bad>,
}

impl Faults<'_> {
    fn at(&mut self, offset: usize, reason: impl Into<String>) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let lines = before.matches('\n').count();
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |line| line.chars().count());
        self.bad.push(Bad {
            file: self.file.clone(),
            line: number(lines),
            column: number(column),
            reason: reason.into(),
        });
    }

    fn of<T>(&mut self, value: &Spanned<T>, reason: impl Into<String>) {
        self.at(value.span().start, reason);
    }
}

fn number(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX).saturating_add(1)
}

/// The trial of a diary, and its time zone.
///
/// # Errors
/// Everything that is wrong with the two files.
pub(super) fn read(dir: &Path) -> Result<(ImportedTrial, TimeZone), Vec<Bad>> {
    let text = text_of(dir, TRIAL_FILE)?.ok_or_else(|| {
        vec![Bad {
            file: dir.join(TRIAL_FILE).display().to_string(),
            line: 1,
            column: 1,
            reason: "no such file; a diary has one".into(),
        }]
    })?;
    let mut faults = Faults {
        file: dir.join(TRIAL_FILE).display().to_string(),
        text: &text,
        bad: Vec::new(),
    };
    let file: TrialFile = match toml::from_str(&text) {
        Ok(file) => file,
        Err(e) => {
            faults.at(e.span().map_or(0, |span| span.start), one_line(e.message()));
            return Err(faults.bad);
        }
    };
    let context = match context(dir) {
        Ok(context) => context,
        Err(mut bad) => {
            faults.bad.append(&mut bad);
            BTreeMap::new()
        }
    };
    let Ok(zone) = TimeZone::get(file.zone.get_ref()) else {
        let name = file.zone.get_ref();
        let why = format!("zone {name:?} is no IANA time zone, such as Europe/Berlin");
        faults.of(&file.zone, why);
        return Err(faults.bad);
    };
    let trial = trial(&file, &zone, context, &mut faults);
    if faults.bad.is_empty() {
        Ok((trial, zone))
    } else {
        Err(faults.bad)
    }
}

fn trial(
    file: &TrialFile,
    zone: &TimeZone,
    context: BTreeMap<String, serde_json::Value>,
    faults: &mut Faults<'_>,
) -> ImportedTrial {
    for (name, value) in [("trial_id", &file.trial_id), ("bed", &file.bed)] {
        if !protocol::text::is_name(value.get_ref()) {
            faults.of(value, format!("{name} is not 1 to 32 of A-Z a-z 0-9 . _ -"));
        }
    }
    let route = file.route.get_ref();
    if !matches!(route.as_str(), "intrathecal" | "epidural") {
        let why = format!("route {route:?} is neither intrathecal nor epidural");
        faults.of(&file.route, why);
    }
    let mut protocol = "pain-50".to_owned();
    if let Some(named) = &file.protocol {
        protocol.clone_from(named.get_ref());
        if !protocol::text::is_name(&protocol) {
            faults.of(named, "protocol is not 1 to 32 of A-Z a-z 0-9 . _ -");
        }
    }
    let mut run_in_h = 0;
    if let Some(hours) = &file.run_in_h {
        match u32::try_from(*hours.get_ref()) {
            Ok(good) if good <= 720 => run_in_h = good,
            Ok(_) | Err(_) => faults.of(hours, "run_in_h is not from 0 to 720"),
        }
    }
    let times = [
        ("baseline_start", &file.baseline_start),
        ("trial_start", &file.trial_start),
        ("trial_end", &file.trial_end),
    ];
    let times = times.map(|(name, value)| match moment_of(value.get_ref(), zone) {
        Ok(at) => Some(at),
        Err(why) => {
            faults.of(value, format!("{name} {why}"));
            None
        }
    });
    if let [Some(baseline), Some(start), Some(end)] = times {
        if start < baseline {
            faults.of(&file.trial_start, "trial_start is before baseline_start");
        }
        if end <= start {
            faults.of(&file.trial_end, "trial_end is not after trial_start");
        }
    }
    let [baseline_start_utc_ms, trial_start_utc_ms, trial_end_utc_ms] =
        times.map(Option::unwrap_or_default);
    let also = file
        .also
        .iter()
        .map(|also| AlsoDrug {
            drug: drug(&also.drug, faults),
            concentration_mcg_per_ml: concentration(&also.concentration_mcg_per_ml, faults),
        })
        .collect();
    ImportedTrial {
        trial_id: file.trial_id.get_ref().clone(),
        bed: file.bed.get_ref().clone(),
        drug: drug(&file.drug, faults),
        concentration_mcg_per_ml: concentration(&file.concentration_mcg_per_ml, faults),
        route: route.clone(),
        zone: file.zone.get_ref().clone(),
        baseline_start_utc_ms,
        trial_start_utc_ms,
        trial_end_utc_ms,
        protocol,
        run_in_h,
        accepts_implant: file.accepts_implant,
        also,
        context,
    }
}

fn drug(name: &Spanned<String>, faults: &mut Faults<'_>) -> String {
    let text = name.get_ref();
    let length = text.chars().count();
    if length == 0 || length > NAME_MAX || !text.chars().all(protocol::text::shows) {
        let why = format!("drug is not 1 to {NAME_MAX} characters that can be shown");
        faults.of(name, why);
    }
    text.clone()
}

fn concentration(value: &Spanned<i64>, faults: &mut Faults<'_>) -> u32 {
    match u32::try_from(*value.get_ref()) {
        Ok(good) if good > 0 => good,
        Ok(_) | Err(_) => {
            let why = "concentration_mcg_per_ml is no whole number above 0";
            faults.of(value, why);
            1
        }
    }
}

fn text_of(dir: &Path, name: &str) -> Result<Option<String>, Vec<Bad>> {
    let path = dir.join(name);
    let Some(bytes) = bytes_of(&path).map_err(|bad| vec![bad])? else {
        return Ok(None);
    };
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let upto = e.utf8_error().valid_up_to();
        let lines = e.as_bytes().iter().take(upto).filter(|b| **b == b'\n');
        vec![Bad {
            file: path.display().to_string(),
            line: number(lines.count()),
            column: 1,
            reason: "is not UTF-8".into(),
        }]
    })
}

/// The words of `context.toml`, as they are; dates become text.
fn context(dir: &Path) -> Result<BTreeMap<String, serde_json::Value>, Vec<Bad>> {
    let Some(text) = text_of(dir, CONTEXT_FILE)? else {
        return Ok(BTreeMap::new());
    };
    let mut faults = Faults {
        file: dir.join(CONTEXT_FILE).display().to_string(),
        text: &text,
        bad: Vec::new(),
    };
    if text.len() > CONTEXT_MAX {
        faults.at(0, format!("longer than {CONTEXT_MAX} bytes"));
        return Err(faults.bad);
    }
    match toml::from_str::<toml::Table>(&text) {
        Ok(table) => Ok(table
            .into_iter()
            .map(|(key, value)| (protocol::text::clean(&key, NAME_MAX), to_json(value)))
            .collect()),
        Err(e) => {
            faults.at(e.span().map_or(0, |span| span.start), one_line(e.message()));
            Err(faults.bad)
        }
    }
}

fn to_json(value: toml::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        toml::Value::String(text) => Json::String(protocol::text::clean(&text, CONTEXT_MAX)),
        toml::Value::Integer(number) => number.into(),
        // As text, so that the same file always gives the same bytes.
        toml::Value::Float(number) => Json::String(number.to_string()),
        toml::Value::Boolean(yes) => yes.into(),
        toml::Value::Datetime(at) => Json::String(at.to_string()),
        toml::Value::Array(items) => items.into_iter().map(to_json).collect(),
        toml::Value::Table(table) => Json::Object(
            table
                .into_iter()
                .map(|(key, value)| (protocol::text::clean(&key, NAME_MAX), to_json(value)))
                .collect(),
        ),
    }
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}

fn moment_of(value: &toml::Value, zone: &TimeZone) -> Result<i64, String> {
    match value {
        toml::Value::String(text) => moment(text, zone),
        toml::Value::Datetime(at) => moment(&at.to_string(), zone),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => Err("is no date-time".into()),
    }
}

/// UTC milliseconds of an RFC 3339 time, rounded down; without an offset it is local in `zone`.
///
/// # Errors
/// Where it is no date with a time, before 1970, or a local time that the zone's clocks show twice
/// or never.
pub(super) fn moment(text: &str, zone: &TimeZone) -> Result<i64, String> {
    let no_time = || format!("{text:?} is no date and time such as 2026-03-01T08:00:00+01:00");
    // A date alone would silently be midnight, and a bracketed zone is no RFC 3339.
    let has_time = text
        .as_bytes()
        .get(10)
        .is_some_and(|b| matches!(b, b'T' | b't' | b' '));
    if !has_time || text.contains('[') {
        return Err(no_time());
    }
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => local(text, zone, no_time)?,
    };
    let ms = at.as_millisecond() - i64::from(at.subsec_nanosecond() < 0);
    if at.as_second() < 0 || ms < 0 {
        return Err(format!("{text:?} is before 1970"));
    }
    Ok(ms)
}

fn local(text: &str, zone: &TimeZone, no_time: impl Fn() -> String) -> Result<Timestamp, String> {
    let tail = text.get(11..).unwrap_or_default();
    // With an offset it would have been taken before: this one is wrong.
    if tail.contains(['+', '-', 'Z', 'z']) {
        return Err(no_time());
    }
    let civil: DateTime = text.parse().map_err(|_| no_time())?;
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let name = zone.iana_name().unwrap_or("its zone");
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().map_err(|_| no_time()),
        AmbiguousOffset::Gap { .. } => Err(format!(
            "{text:?} does not exist in {name}: the clocks were set forward over it"
        )),
        AmbiguousOffset::Fold { .. } => Err(format!(
            "{text:?} is there twice in {name}: the clocks were set back; write its offset"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_or_in_the_diarys_zone() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let cases = [
            ("2026-03-01T08:00:00+01:00", Ok(1_772_348_400_000)),
            ("2026-03-01T07:00:00Z", Ok(1_772_348_400_000)),
            ("2026-03-01T08:00", Ok(1_772_348_400_000)),
            ("2026-03-01 08:00:00.0019", Ok(1_772_348_400_001)),
            ("1970-01-01T00:00:00Z", Ok(0)),
            ("2026-10-25T02:30", Err("twice")),
            ("2026-03-29T02:30:00", Err("does not exist")),
            ("2026-03-01", Err("no date and time")),
            ("2026-03-01T", Err("no date and time")),
            ("2026-02-30T08:00", Err("no date and time")),
            ("2026-03-01T08:00:00+1", Err("no date and time")),
            ("2026-03-01T08:00[Europe/Paris]", Err("no date and time")),
            ("01.03.2026 08:00", Err("no date and time")),
            ("1969-12-31T23:59:59Z", Err("before 1970")),
            ("1969-12-31T23:59:59.9999Z", Err("before 1970")),
            ("", Err("no date and time")),
        ];
        for (text, wanted) in cases {
            match (moment(text, &zone), wanted) {
                (Ok(at), Ok(wanted)) => assert_eq!(at, wanted, "{text}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (got, _) => panic!("{text}: {got:?}, wanted {wanted:?}"),
            }
        }
    }
}
