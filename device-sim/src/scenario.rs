//! Reads `scenarios/*.toml`: a clinical story with its timeline, its faults, and what the pump's
//! journal must say of it. One story a file.
//!
//! Spans are written as `1d 2h 30m 15s 200ms`, parts as needed, since the origin of the trial.

use crate::fault::{Fault, What};
use crate::patient::kind::Kind;
use crate::wire::Damage;
use protocol::event::{Key, Raw, decode};
use serde::Deserialize;

/// Why a text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not TOML, or a field that does not belong.
    #[error("{0}")]
    Form(String),
    /// A span of time that cannot be read.
    #[error("{0:?} is no span of time; write it as 1d 2h 30m 15s 200ms")]
    Span(String),
    /// A word that is no key.
    #[error("{0:?} is no key; there are 0 to 9, confirm, clear, bolus, movement")]
    Key(String),
    /// Another word.
    #[error("{0}")]
    Word(String),
}

/// What an event in the journal must look like, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Expect {
    /// The event's kind.
    pub kind: String,
    /// Not before, milliseconds since the origin.
    pub after_ms: u64,
    /// Not after.
    pub before_ms: u64,
    /// Fields and their values, a dot for each step inside; others do not matter.
    pub fields: Vec<(String, toml::Value)>,
    /// Least and most that may be found.
    pub times: (u64, u64),
}

/// A story.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// In a few sentences.
    pub story: String,
    /// Who.
    pub patient: Kind,
    /// Of all chance.
    pub seed: u64,
    /// Without infusion, milliseconds.
    pub baseline_ms: u64,
    /// With infusion, milliseconds.
    pub therapy_ms: u64,
    /// The patient presses no keys but those of the timeline.
    pub quiet_patient: bool,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Keys: when, which, how long held.
    pub presses: Vec<crate::patient::habits::Press>,
    /// What must be in the journal.
    pub expect: Vec<Expect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    story: String,
    #[serde(default = "default_patient")]
    patient: String,
    #[serde(default = "default_seed")]
    seed: u64,
    #[serde(default = "default_baseline")]
    baseline: String,
    #[serde(default = "default_therapy")]
    therapy: String,
    #[serde(default)]
    quiet_patient: bool,
    #[serde(default)]
    fault: Vec<FileFault>,
    #[serde(default)]
    press: Vec<FilePress>,
    #[serde(default)]
    expect: Vec<FileExpect>,
}

fn default_patient() -> String {
    Kind::Responder.name().into()
}

fn default_seed() -> u64 {
    1
}

fn default_baseline() -> String {
    "2h".into()
}

fn default_therapy() -> String {
    "1d".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFault {
    at: String,
    what: String,
    #[serde(rename = "for")]
    lasts: Option<String>,
    part: Option<f64>,
    key: Option<String>,
    percent: Option<u8>,
    nl: Option<u64>,
    after_bytes: Option<u64>,
    #[serde(default)]
    damage: Damage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePress {
    at: String,
    keys: String,
    #[serde(default = "default_hold")]
    hold: String,
    #[serde(default = "default_gap")]
    gap: String,
}

fn default_hold() -> String {
    "150ms".into()
}

fn default_gap() -> String {
    "400ms".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileExpect {
    kind: String,
    after: Option<String>,
    before: Option<String>,
    least: Option<u64>,
    most: Option<u64>,
    #[serde(default)]
    fields: toml::Table,
}

/// Milliseconds of a span such as `1d 2h 30m`.
///
/// # Errors
/// [`Error::Span`] where it is none.
pub fn span_ms(text: &str) -> Result<u64, Error> {
    let wrong = || Error::Span(text.into());
    let mut total = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let factor = match unit {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total = number
            .checked_mul(factor)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(wrong)?;
        rest = after.trim_start();
    }
    Ok(total)
}

fn key(word: &str) -> Result<Key, Error> {
    let found = Key::ALL.iter().find(|key| key.word() == word);
    found.copied().ok_or_else(|| Error::Key(word.into()))
}

impl FileFault {
    fn read(&self) -> Result<Fault, Error> {
        let need =
            |what: &str| Error::Word(format!("fault {:?} at {} needs {what}", self.what, self.at));
        let what = match self.what.as_str() {
            "occlusion" => What::Occlusion,
            "upstream_occlusion" => What::UpstreamOcclusion,
            "leak" => What::Leak(self.part.ok_or_else(|| need("part"))?),
            "air" => What::Air,
            "door" => What::Door,
            "stuck_key" => {
                let word = self.key.as_deref().ok_or_else(|| need("key"))?;
                What::StuckKey(key(word)?)
            }
            "stall" => What::Stall,
            "encoder_slip" => What::EncoderSlip(self.part.ok_or_else(|| need("part"))?),
            "reservoir_holds" => What::ReservoirHolds(self.nl.ok_or_else(|| need("nl"))?),
            "battery_holds" => What::BatteryHolds(self.percent.ok_or_else(|| need("percent"))?),
            "power_cut" => What::PowerCut {
                after_bytes: self.after_bytes,
            },
            "program_hangs" => What::ProgramHangs,
            "line_hangs" => What::LineHangs,
            "cable_pulled" => What::CablePulled,
            "silence" => What::Silence {
                from_pump: true,
                to_pump: true,
            },
            "half_open" => What::Silence {
                from_pump: false,
                to_pump: true,
            },
            "bad_line" => What::BadLine(self.damage),
            other => {
                return Err(Error::Word(format!(
                    "{other:?} is no fault; there are occlusion, upstream_occlusion, leak, air, door, \
                     stuck_key, stall, encoder_slip, reservoir_holds, battery_holds, power_cut, \
                     program_hangs, line_hangs, cable_pulled, silence, half_open, bad_line"
                )));
            }
        };
        Ok(Fault {
            at_ms: span_ms(&self.at)?,
            for_ms: self.lasts.as_deref().map(span_ms).transpose()?,
            what,
        })
    }
}

impl Scenario {
    /// From TOML.
    ///
    /// # Errors
    /// What cannot be read, with line and column where TOML knows them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let file: File = toml::from_str(text).map_err(|e| Error::Form(e.to_string()))?;
        let mut presses = Vec::new();
        for press in &file.press {
            let mut at_ms = span_ms(&press.at)?;
            let hold = span_ms(&press.hold)?;
            for word in press.keys.split_whitespace() {
                presses.push(crate::patient::habits::Press {
                    at_ms,
                    key: key(word)?,
                    hold_ms: u32::try_from(hold).map_err(|_| Error::Span(press.hold.clone()))?,
                });
                at_ms += hold + span_ms(&press.gap)?;
            }
        }
        let expect = file.expect.into_iter().map(|wanted| {
            let span =
                |text: Option<String>, default| text.map_or(Ok(default), |text| span_ms(&text));
            Ok(Expect {
                kind: wanted.kind,
                after_ms: span(wanted.after, 0)?,
                before_ms: span(wanted.before, u64::MAX)?,
                fields: wanted.fields.into_iter().collect(),
                times: (
                    wanted.least.unwrap_or(u64::from(wanted.most.is_none())),
                    wanted.most.unwrap_or(u64::MAX),
                ),
            })
        });
        Ok(Self {
            patient: file
                .patient
                .parse()
                .map_err(|e: crate::patient::kind::UnknownKind| Error::Word(e.to_string()))?,
            name: file.name,
            story: file.story,
            seed: file.seed,
            baseline_ms: span_ms(&file.baseline)?,
            therapy_ms: span_ms(&file.therapy)?,
            quiet_patient: file.quiet_patient,
            faults: file
                .fault
                .iter()
                .map(FileFault::read)
                .collect::<Result<_, _>>()?,
            presses,
            expect: expect.collect::<Result<_, Error>>()?,
        })
    }

    /// What the journal does not say as expected, in words; empty where all is well. Each event
    /// with its time since the origin.
    pub fn complaints(&self, journal: &[(u64, Raw)]) -> Vec<String> {
        let mut out = Vec::new();
        for wanted in &self.expect {
            let found = journal
                .iter()
                .filter(|(at, raw)| {
                    (wanted.after_ms..=wanted.before_ms).contains(at) && wanted.matches(raw)
                })
                .count();
            let found = u64::try_from(found).unwrap_or(u64::MAX);
            if found < wanted.times.0 || found > wanted.times.1 {
                out.push(format!(
                    "{}: {} {:?} found {found} times, wanted {} to {}",
                    self.name, wanted.kind, wanted.fields, wanted.times.0, wanted.times.1
                ));
            }
        }
        out
    }
}

impl Expect {
    fn matches(&self, raw: &Raw) -> bool {
        let Ok((_, body)) = decode(raw) else {
            return false;
        };
        if body.kind() != self.kind {
            return false;
        }
        let seen = body.to_json();
        self.fields.iter().all(|(name, wanted)| {
            let mut at = Some(&seen);
            for part in name.split('.') {
                at = at.and_then(|value| value.get(part));
            }
            at.is_some_and(|value| match wanted {
                toml::Value::Integer(number) => value.as_i64() == Some(*number),
                toml::Value::String(word) => value.as_str() == Some(word),
                toml::Value::Boolean(truth) => value.as_bool() == Some(*truth),
                toml::Value::Float(_)
                | toml::Value::Datetime(_)
                | toml::Value::Array(_)
                | toml::Value::Table(_) => false,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_other_texts_refused() {
        let good = [("1d 2h30m", 95_400_000), ("15s", 15_000), ("200ms", 200)];
        for (text, wanted) in good {
            assert_eq!(span_ms(text), Ok(wanted), "{text}");
        }
        for bad in ["", "5", "h", "-1h", "1.5h", "1w", "99999999999999999999d"] {
            assert!(span_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_place_or_the_words_there_are() {
        let base = "name = \"x\"\nstory = \"y\"\n";
        let cases = [
            ("nonsense = 1\n", "nonsense"),
            ("[[fault]]\nat = \"1h\"\nwhat = \"meteor\"\n", "no fault"),
            ("[[fault]]\nat = \"1h\"\nwhat = \"leak\"\n", "needs part"),
            ("[[press]]\nat = \"1h\"\nkeys = \"11\"\n", "no key"),
            ("patient = \"nobody\"\n", "no kind of patient"),
        ];
        for (more, wanted) in cases {
            let text = Scenario::parse(&format!("{base}{more}"))
                .unwrap_err()
                .to_string();
            assert!(text.contains(wanted), "{text}");
        }
    }
}
