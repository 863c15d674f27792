//! Reads `scenarios/*.toml`: a clinical story with its timeline, its faults, and what the pump's
//! journal must say of it. One story a file.
//!
//! Spans are written as `1d 2h 30m 15s 200ms`, parts as needed, since the origin of the trial. A
//! story with moments is lived once for each of them: a span with `+` or `-` before it is then
//! counted from that moment, and what names a moment belongs to that one alone.

use crate::fault::{Fault, What};
use crate::patient::habits::Press;
use crate::patient::kind::Kind;
use crate::wire::Damage;
use firmware::acts::Act;
use protocol::event::{CloseReason, Key, Purpose, Raw, decode};
use protocol::units::{Concentration, FlowRate, Volume};
use serde::Deserialize;

/// Why a text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not TOML, or a field that does not belong.
    #[error("{0}")]
    Form(String),
    /// A span of time that cannot be read.
    #[error("{0:?} is no span of time; write it as 1d 2h 30m 15s 200ms, with + or - from a moment")]
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
    /// The event's kind; `refused` for an act that was not done, `face` for a line on the pump.
    pub kind: String,
    /// Not before, milliseconds since the origin.
    pub after_ms: u64,
    /// Not after.
    pub before_ms: u64,
    /// Fields and their values, a dot for each step inside; others do not matter. Of an array of
    /// two integers, the value lies between them.
    pub fields: Vec<(String, toml::Value)>,
    /// Least and most that may be found.
    pub times: (u64, u64),
}

/// When in a story its fault begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its word: `idle` or `critical`.
    pub name: String,
    /// What is going on then.
    pub during: String,
    /// Milliseconds since the origin.
    pub at_ms: u64,
}

/// A story.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// In a few sentences.
    pub story: String,
    /// Rows of `scenarios/faults.toml` that it shows.
    pub rows: Vec<u8>,
    /// At which moment it is lived, where there are several.
    pub moment: Option<Moment>,
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
    /// Bytes of the pump's memory, where not the usual ones.
    pub flash_size: Option<u32>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Keys: when, which, how long held.
    pub presses: Vec<Press>,
    /// Acts of a clinician, trial milliseconds.
    pub acts: Vec<(u64, Act)>,
    /// What must be in the journal.
    pub expect: Vec<Expect>,
    /// The only alarm conditions that may begin; none given: any.
    pub only_alarms: Option<Vec<String>>,
    /// What happens behind the pump and must be seen there; who runs it reads it.
    pub bedside: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    story: String,
    #[serde(default)]
    rows: Vec<u8>,
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
    flash_kib: Option<u32>,
    only_alarms: Option<Vec<String>>,
    #[serde(default)]
    moment: Vec<FileMoment>,
    #[serde(default)]
    fault: Vec<FileFault>,
    #[serde(default)]
    press: Vec<FilePress>,
    #[serde(default)]
    act: Vec<FileAct>,
    #[serde(default)]
    expect: Vec<FileExpect>,
    bedside: Option<toml::Table>,
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
struct FileMoment {
    name: String,
    during: String,
    at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFault {
    moment: Option<String>,
    at: String,
    what: String,
    #[serde(rename = "for")]
    lasts: Option<String>,
    part: Option<f64>,
    key: Option<String>,
    percent: Option<u8>,
    nl: Option<u64>,
    nl_per_h: Option<u32>,
    times: Option<f64>,
    after_bytes: Option<u64>,
    #[serde(default)]
    warned: bool,
    events_back: Option<u64>,
    utc_ms: Option<u64>,
    #[serde(default)]
    damage: Damage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePress {
    moment: Option<String>,
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
struct FileAct {
    moment: Option<String>,
    at: String,
    what: String,
    nl_per_h: Option<u32>,
    nl: Option<u64>,
    mcg_per_ml: Option<u32>,
    utc_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileExpect {
    moment: Option<String>,
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

/// A time of a story: since the origin, or from its moment.
fn time_ms(text: &str, moment: Option<&Moment>) -> Result<u64, Error> {
    let text = text.trim();
    let wrong = || Error::Span(text.into());
    let Some(sign) = text.chars().next().filter(|c| matches!(c, '+' | '-')) else {
        return span_ms(text);
    };
    let at_ms = moment.ok_or_else(wrong)?.at_ms;
    let span = span_ms(text.get(1..).unwrap_or_default())?;
    let time = if sign == '+' {
        at_ms.checked_add(span)
    } else {
        at_ms.checked_sub(span)
    };
    time.ok_or_else(wrong)
}

impl FileFault {
    fn read(&self, moment: Option<&Moment>) -> Result<Fault, Error> {
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
            "motor_runs" => What::MotorRuns(self.times.ok_or_else(|| need("times"))?),
            "free_flow" => What::FreeFlow(self.nl_per_h.ok_or_else(|| need("nl_per_h"))?),
            "reservoir_holds" => What::ReservoirHolds(self.nl.ok_or_else(|| need("nl"))?),
            "battery_holds" => What::BatteryHolds(self.percent.ok_or_else(|| need("percent"))?),
            "power_cut" => What::PowerCut {
                after_bytes: self.after_bytes,
                warned: self.warned,
            },
            "program_hangs" => What::ProgramHangs,
            "line_hangs" => What::LineHangs,
            "worn_flash" => What::WornFlash,
            "flash_rot" => What::FlashRot(self.events_back.ok_or_else(|| need("events_back"))?),
            "own_clock" => What::OwnClock(self.utc_ms.ok_or_else(|| need("utc_ms"))?),
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
                     stuck_key, stall, encoder_slip, motor_runs, free_flow, reservoir_holds, \
                     battery_holds, power_cut, program_hangs, line_hangs, worn_flash, flash_rot, own_clock, \
                     cable_pulled, silence, half_open, bad_line"
                )));
            }
        };
        Ok(Fault {
            at_ms: time_ms(&self.at, moment)?,
            for_ms: self.lasts.as_deref().map(span_ms).transpose()?,
            what,
        })
    }
}

impl FileAct {
    fn read(&self, moment: Option<&Moment>) -> Result<(u64, Act), Error> {
        let need =
            |what: &str| Error::Word(format!("act {:?} at {} needs {what}", self.what, self.at));
        let volume = || {
            self.nl
                .map(Volume::from_nanoliters)
                .ok_or_else(|| need("nl"))
        };
        let act = match self.what.as_str() {
            "start" => Act::Start {
                purpose: Purpose::Therapy,
                until: None,
            },
            "stop" => Act::Stop,
            "rate" => Act::ChangeRate(FlowRate::from_nanoliters_per_hour(
                self.nl_per_h.ok_or_else(|| need("nl_per_h"))?,
            )),
            "reservoir" => Act::ChangeReservoir {
                volume: volume()?,
                concentration: Concentration::from_micrograms_per_milliliter(
                    self.mcg_per_ml.ok_or_else(|| need("mcg_per_ml"))?,
                ),
            },
            "clock" => Act::SetClock {
                utc_ms: self.utc_ms.ok_or_else(|| need("utc_ms"))?,
                offset_min: 60,
            },
            "release" => Act::ReleaseLatch,
            "close" => Act::Close(CloseReason::Planned),
            other => {
                return Err(Error::Word(format!(
                    "{other:?} is no act; there are start, stop, rate, reservoir, clock, release, close"
                )));
            }
        };
        Ok((time_ms(&self.at, moment)?, act))
    }
}

impl FilePress {
    fn read(&self, moment: Option<&Moment>, into: &mut Vec<Press>) -> Result<(), Error> {
        let mut at_ms = time_ms(&self.at, moment)?;
        let hold = span_ms(&self.hold)?;
        for word in self.keys.split_whitespace() {
            into.push(Press {
                at_ms,
                key: key(word)?,
                hold_ms: u32::try_from(hold).map_err(|_| Error::Span(self.hold.clone()))?,
            });
            at_ms += hold + span_ms(&self.gap)?;
        }
        Ok(())
    }
}

impl FileExpect {
    fn read(&self, moment: Option<&Moment>) -> Result<Expect, Error> {
        let time = |text: &Option<String>, default| {
            text.as_deref()
                .map_or(Ok(default), |text| time_ms(text, moment))
        };
        Ok(Expect {
            kind: self.kind.clone(),
            after_ms: time(&self.after, 0)?,
            before_ms: time(&self.before, u64::MAX)?,
            fields: self.fields.clone().into_iter().collect(),
            times: (
                self.least.unwrap_or(u64::from(self.most.is_none())),
                self.most.unwrap_or(u64::MAX),
            ),
        })
    }
}

impl File {
    fn read(&self, moment: Option<&Moment>) -> Result<Scenario, Error> {
        let here = |of: &Option<String>| {
            of.as_ref()
                .is_none_or(|name| moment.is_some_and(|m| m.name == *name))
        };
        let mut presses = Vec::new();
        for press in self.press.iter().filter(|p| here(&p.moment)) {
            press.read(moment, &mut presses)?;
        }
        let faults = self.fault.iter().filter(|f| here(&f.moment));
        let acts = self.act.iter().filter(|a| here(&a.moment));
        let expect = self.expect.iter().filter(|e| here(&e.moment));
        Ok(Scenario {
            name: self.name.clone(),
            story: self.story.clone(),
            rows: self.rows.clone(),
            moment: moment.cloned(),
            patient: self
                .patient
                .parse()
                .map_err(|e: crate::patient::kind::UnknownKind| Error::Word(e.to_string()))?,
            seed: self.seed,
            baseline_ms: span_ms(&self.baseline)?,
            therapy_ms: span_ms(&self.therapy)?,
            quiet_patient: self.quiet_patient,
            flash_size: self.flash_kib.map(|kib| kib.saturating_mul(1_024)),
            faults: faults.map(|f| f.read(moment)).collect::<Result<_, _>>()?,
            presses,
            acts: acts.map(|a| a.read(moment)).collect::<Result<_, _>>()?,
            expect: expect.map(|e| e.read(moment)).collect::<Result<_, _>>()?,
            only_alarms: self.only_alarms.clone(),
            bedside: self.bedside.clone(),
        })
    }

    fn names_only_its_moments(&self) -> Result<(), Error> {
        let named = (self.fault.iter().map(|f| &f.moment))
            .chain(self.press.iter().map(|p| &p.moment))
            .chain(self.act.iter().map(|a| &a.moment))
            .chain(self.expect.iter().map(|e| &e.moment));
        for name in named.flatten() {
            if !self.moment.iter().any(|m| m.name == *name) {
                return Err(Error::Word(format!("{name:?} is no moment of this story")));
            }
        }
        Ok(())
    }
}

impl Scenario {
    /// From TOML; of a story with moments, the first.
    ///
    /// # Errors
    /// What cannot be read, with line and column where TOML knows them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut all = Self::parse_all(text)?;
        Ok(all.swap_remove(0))
    }

    /// From TOML, once for each moment of the story; at least one.
    ///
    /// # Errors
    /// What cannot be read, with line and column where TOML knows them.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, Error> {
        let file: File = toml::from_str(text).map_err(|e| Error::Form(e.to_string()))?;
        file.names_only_its_moments()?;
        if file.moment.is_empty() {
            return Ok(vec![file.read(None)?]);
        }
        let moments = file.moment.iter().map(|m| {
            Ok(Moment {
                name: m.name.clone(),
                during: m.during.clone(),
                at_ms: span_ms(&m.at)?,
            })
        });
        moments
            .map(|moment| file.read(Some(&moment?)))
            .collect::<Result<_, Error>>()
    }

    /// Name and moment.
    pub fn title(&self) -> String {
        match &self.moment {
            Some(moment) => format!("{}, {}", self.name, moment.name),
            None => self.name.clone(),
        }
    }

    /// When its first fault, press or act of the timeline is.
    pub fn begins_ms(&self) -> u64 {
        let faults = self.faults.iter().map(|f| f.at_ms);
        let moment = self.moment.as_ref().map(|m| m.at_ms);
        moment.or(faults.min()).unwrap_or(0)
    }

    /// What the journal does not say as expected, in words; empty where all is well. Each event
    /// with its time since the origin.
    pub fn complaints(&self, journal: &[(u64, Raw)]) -> Vec<String> {
        let told: Vec<_> = journal
            .iter()
            .filter_map(|(at, raw)| {
                let (_, body) = decode(raw).ok()?;
                Some((*at, body.kind().to_owned(), body.to_json()))
            })
            .collect();
        self.complaints_of(&told)
    }

    /// The same of anything that has a time, a kind and fields.
    pub fn complaints_of(&self, told: &[(u64, String, serde_json::Value)]) -> Vec<String> {
        let mut out = Vec::new();
        for wanted in &self.expect {
            let found = wanted.found(told).count();
            let found = u64::try_from(found).unwrap_or(u64::MAX);
            if found < wanted.times.0 || found > wanted.times.1 {
                out.push(format!(
                    "{}: {} {:?} from {} to {} ms found {found} times, wanted {} to {}",
                    self.title(),
                    wanted.kind,
                    wanted.fields,
                    wanted.after_ms,
                    wanted.before_ms,
                    wanted.times.0,
                    wanted.times.1
                ));
            }
        }
        for (at, kind, fields) in told {
            let (Some(only), "alarm") = (&self.only_alarms, kind.as_str()) else {
                continue;
            };
            let code = fields.get("code").and_then(|c| c.as_str()).unwrap_or("?");
            if !only.iter().any(|c| c == code) {
                out.push(format!("{}: {code} at {at} ms, not expected", self.title()));
            }
        }
        out
    }
}

impl Expect {
    /// What meets it.
    pub fn found<'a>(
        &'a self,
        told: &'a [(u64, String, serde_json::Value)],
    ) -> impl Iterator<Item = &'a (u64, String, serde_json::Value)> {
        told.iter().filter(|(at, kind, fields)| {
            (self.after_ms..=self.before_ms).contains(at)
                && *kind == self.kind
                && self.matches(fields)
        })
    }

    fn matches(&self, seen: &serde_json::Value) -> bool {
        self.fields.iter().all(|(name, wanted)| {
            let mut at = Some(seen);
            for part in name.split('.') {
                at = at.and_then(|value| value.get(part));
            }
            at.is_some_and(|value| is(value, wanted))
        })
    }
}

fn is(value: &serde_json::Value, wanted: &toml::Value) -> bool {
    match wanted {
        toml::Value::Integer(number) => value.as_i64() == Some(*number),
        toml::Value::String(word) => value.as_str() == Some(word),
        toml::Value::Boolean(truth) => value.as_bool() == Some(*truth),
        toml::Value::Array(ends) => match (ends.as_slice(), value.as_i64()) {
            ([toml::Value::Integer(low), toml::Value::Integer(high)], Some(number)) => {
                (*low..=*high).contains(&number)
            }
            _ => false,
        },
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => false,
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
            ("[[fault]]\nat = \"+1h\"\nwhat = \"air\"\n", "no span"),
            ("[[act]]\nat = \"1h\"\nwhat = \"dance\"\n", "no act"),
            (
                "[[expect]]\nmoment = \"idle\"\nkind = \"door\"\n",
                "no moment",
            ),
        ];
        for (more, wanted) in cases {
            let text = Scenario::parse(&format!("{base}{more}"))
                .unwrap_err()
                .to_string();
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn a_story_is_lived_once_for_each_moment_with_what_belongs_to_it() {
        let text = r#"
            name = "x"
            story = "y"
            rows = [3]
            [[moment]]
            name = "idle"
            during = "nothing"
            at = "1h"
            [[moment]]
            name = "critical"
            during = "a bolus"
            at = "2h"
            [[fault]]
            at = "+1s"
            what = "air"
            [[press]]
            moment = "critical"
            at = "-5s"
            keys = "bolus"
            [[expect]]
            kind = "alarm"
            after = "+1s"
            before = "+3s"
        "#;
        let all = Scenario::parse_all(text).unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|s| (s.title(), s.faults[0].at_ms, s.presses.len()))
            .collect();
        assert_eq!(
            seen,
            [
                ("x, idle".into(), 3_601_000, 0),
                ("x, critical".into(), 7_201_000, 1)
            ]
        );
        assert_eq!(all[1].presses[0].at_ms, 7_195_000);
        assert_eq!(all[1].expect[0].before_ms, 7_203_000);
    }
}
