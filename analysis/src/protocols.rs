//! Decision protocols: every threshold, with its value and where it comes from.
//!
//! A protocol is a TOML file in `src/protocols/`, or one of the same form given by path. Each
//! setting has a name, a value, a unit and a source; a missing or unknown one is refused, so that
//! no threshold is ever applied unnamed.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Why a protocol is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No protocol of that name, and no file.
    #[error("no protocol is called {name:?} and there is no such file; there is: {known}")]
    Unknown {
        /// As asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not of the expected form.
    #[error("protocol {name:?}: {why}")]
    Form {
        /// Which.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// A decision protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One sentence about it.
    pub about: String,
    /// The values.
    pub settings: Settings,
    /// As the file gives them: name, then value, unit, source.
    pub stated: BTreeMap<String, Setting>,
}

/// One setting as the file gives it.
#[derive(Clone, Debug, PartialEq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Its unit.
    pub unit: String,
    /// Where it comes from.
    pub source: String,
}

/// A value: a number, or yes and no.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, serde::Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Self::Flag(flag) => f64::from(u8::from(flag)),
            Self::Whole(whole) => crate::num::float(whole),
            Self::Number(number) => number,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    version: String,
    about: String,
    settings: BTreeMap<String, Setting>,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The values of a protocol, in the units that the names end with or the docs say.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Settings { $($(#[$doc])* pub $name: f64),* }

        impl Settings {
            const NAMES: &[&str] = &[$(stringify!($name)),*];

            fn of(stated: &BTreeMap<String, Setting>) -> Option<Self> {
                Some(Self { $($name: stated.get(stringify!($name))?.value.number()),* })
            }
        }
    };
}

settings! {
    /// Run-in of an opioid, hours.
    run_in_opioid_h,
    /// Run-in of a baclofen infusion, hours.
    run_in_baclofen_h,
    /// Run-in of another drug, hours.
    run_in_other_h,
    /// Length of a rescue window, hours.
    rescue_window_h,
    /// Points added in it where rescue is thought away.
    rescue_shift_points,
    /// Longest awake time between two scores that is still joined, hours.
    longest_segment_h,
    /// The same for scores on movement, which are asked for less often, hours.
    longest_movement_segment_h,
    /// When the patient is taken to be asleep: local hour of its start.
    night_from_h,
    /// Local hour of its end.
    night_to_h,
    /// How long a note "asleep" holds, hours.
    asleep_holds_h,
    /// 1 where scores that were never confirmed count.
    use_unconfirmed,
    /// Shortest baseline, hours.
    least_baseline_h,
    /// Fewest scores in it.
    least_baseline_scores,
    /// Shortest evaluated trial, hours.
    least_trial_h,
    /// By how much a phase may be shorter, percent.
    span_tolerance_percent,
    /// Fewest answers, percent of what was asked.
    least_answered_percent,
    /// Most awake time in gaps, percent of the baseline.
    most_gap_baseline_percent,
    /// Most awake time in gaps, percent of the evaluated trial.
    most_gap_trial_percent,
    /// Lowest baseline mean for which a percentage means something.
    least_baseline_mean,
    /// The relief that a trial is to show, percent.
    relief_line_percent,
    /// The relief that is to be nearly certain, percent.
    relief_floor_percent,
    /// Probability of the first that supports.
    supports_probability_line,
    /// Probability of the second that supports.
    supports_probability_floor,
    /// Probability of the first that does not support.
    rejects_probability_line,
    /// Least delivery, percent of programmed.
    least_delivered_percent,
    /// Delivery that counts as on target, percent of programmed.
    delivery_on_target_percent,
    /// Longest time in which the pump did not infuse, percent of the trial.
    most_interrupted_percent,
    /// Time without infusion from which a failure is no failure of the drug, hours.
    interruption_matters_h,
    /// Scores before and after that the catheter's pattern is seen in.
    catheter_scores,
    /// How long the loss must last, hours.
    catheter_lasting_h,
    /// Relief before, percent.
    catheter_relief_before_percent,
    /// Relief after, percent.
    catheter_relief_after_percent,
    /// Presses of the bolus key after against before.
    catheter_demand_ratio,
    /// POSS that calls for a stop by itself.
    poss_alone,
    /// POSS that does with a low respiratory rate.
    poss_with_resp_rate,
    /// Respiratory rate below which it does by itself, breaths/min.
    resp_rate_alone,
    /// Respiratory rate below which it does with another sign, breaths/min.
    resp_rate_with_sign,
    /// Oxygen saturation below which it does with a low respiratory rate, percent.
    spo2_with_resp_rate,
    /// How far apart two signs may be, minutes.
    pairing_min,
    /// Modified Bromage score of a dense block.
    bromage_dense,
    /// Time without recovery, hours.
    bromage_lasting_h,
    /// Grade of a side effect that cannot be borne.
    intolerable_grade,
    /// How often it must be noted.
    intolerable_times,
    /// Severe pain from this score on.
    severe_score,
    /// A payer's sustained relief, hours.
    payer_sustained_h,
}

/// The protocols of this program: name, text.
const OURS: &[(&str, &str)] = &[("pain-50", include_str!("protocols/pain-50.toml"))];

impl Protocol {
    /// The names of the protocols of this program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        OURS.iter().map(|(name, _)| *name)
    }

    /// The protocol of that name, else of the file at that path.
    ///
    /// # Errors
    /// Where there is neither, or it is not of the expected form.
    pub fn named(name: &str) -> Result<Self, Error> {
        let path = Path::new(name);
        if Self::names().any(|ours| ours == name) || !path.is_file() {
            return Self::ours(name);
        }
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: name.into(),
            source,
        })?;
        Self::parse(name, &text)
    }

    /// The protocol of that name among those of this program. What a record names is looked for
    /// here alone: a record does not choose a file to read.
    ///
    /// # Errors
    /// Where there is none.
    pub fn ours(name: &str) -> Result<Self, Error> {
        let found = OURS.iter().find(|(ours, _)| *ours == name);
        let Some((_, text)) = found else {
            return Err(Error::Unknown {
                name: protocol::text::clean(name, 80),
                known: Self::names().collect::<Vec<_>>().join(", "),
            });
        };
        Self::parse(name, text)
    }

    /// From TOML; `name` is for messages.
    ///
    /// # Errors
    /// Where it is not of the expected form, or a setting is missing or unknown.
    pub fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let form = |why: String| Error::Form {
            name: name.into(),
            why,
        };
        let file: File = toml::from_str(text).map_err(|e| form(e.to_string()))?;
        if let Some(missing) = Settings::NAMES
            .iter()
            .find(|n| !file.settings.contains_key(**n))
        {
            return Err(form(format!("setting {missing:?} is missing")));
        }
        if let Some(other) = file
            .settings
            .keys()
            .find(|k| !Settings::NAMES.contains(&k.as_str()))
        {
            return Err(form(format!("setting {other:?} is not known")));
        }
        if let Some((bad, _)) = file
            .settings
            .iter()
            .find(|(_, s)| !s.value.number().is_finite() || s.value.number() < 0.0)
        {
            return Err(form(format!("setting {bad:?} is no number from 0 on")));
        }
        let settings =
            Settings::of(&file.settings).ok_or_else(|| form("settings are missing".into()))?;
        Ok(Self {
            name: file.name,
            version: file.version,
            about: file.about,
            settings,
            stated: file.settings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_of_ours_is_whole_and_names_its_sources() {
        for name in Protocol::names() {
            let protocol = Protocol::named(name).unwrap();
            assert_eq!(protocol.name, name);
            for (setting, stated) in &protocol.stated {
                assert!(stated.source.len() > 10, "{setting} has no source");
            }
        }
    }

    #[test]
    fn a_missing_or_unknown_setting_is_refused_by_name() {
        let text = OURS[0].1;
        let without = text.replace("[settings.poss_alone]", "[settings.poss_allone]");
        let error = Protocol::parse("x", &without).unwrap_err().to_string();
        assert!(error.contains("poss_alone"), "{error}");
        let more = format!("{text}\n[settings.zeal]\nvalue = 1\nunit = \"\"\nsource = \"\"\n");
        assert!(
            Protocol::parse("x", &more)
                .unwrap_err()
                .to_string()
                .contains("zeal")
        );
        let error = Protocol::named("pain-51").unwrap_err().to_string();
        assert!(error.contains("pain-50"), "{error}");
    }
}
