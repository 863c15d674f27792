//! MQTT: topics and payloads. JSON, integers below 2^53 with units in the name, bytes as lower
//! hex, `kind` in snake_case, each payload signed by its sender ([`crate::keys`]).
//!
//! Two clocks stand in a payload. `..._utc_ms` is trial time. Freshness is wall time: a payload
//! carries the age of the line at its sending (`frame_age_ms`), and the reader adds the time since
//! its own receipt. A retained payload is never fresh.

use crate::bedside::Fact;
use crate::event::{Priority, Raw};
use crate::hex::{Digest, Tag};
use crate::manifest::SignedManifest;
use crate::message::Source;
use crate::units::HOUR_MS;
use serde::{Deserialize, Serialize};

/// The most events of one `ev` payload.
pub const BATCH_MAX: usize = 64;
/// The most bytes of a payload, in both directions.
pub const PAYLOAD_MAX: usize = 256 * 1024;
/// Columns of the trend in a `state` payload: one each ten minutes of 5 days and a bit.
pub const TREND_STEP_MS: i64 = 600_000;
/// The most buckets of a trend.
pub const TREND_MAX: usize = 1_008;

const ROOT: &str = "thecal/v1";

/// The topics of one site. Names must have passed [`crate::text::is_name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    site: String,
}

/// What a topic is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A gateway's life.
    Status {
        /// The gateway.
        gw: String,
    },
    /// Events of a source.
    Ev {
        /// The gateway.
        gw: String,
        /// The source.
        source: String,
    },
    /// A bed as it is now.
    State {
        /// The gateway.
        gw: String,
        /// The bed.
        bed: String,
    },
    /// A bed's alarms.
    Alarms {
        /// The gateway.
        gw: String,
        /// The bed.
        bed: String,
    },
    /// What a recorder has on disk.
    Receipt {
        /// The gateway.
        gw: String,
        /// The recorder.
        recorder: String,
    },
    /// A command to a gateway.
    Cmd {
        /// The gateway.
        gw: String,
        /// The verb.
        verb: String,
    },
    /// A dashboard lives.
    DashAlive {
        /// The dashboard.
        id: String,
    },
}

impl Topics {
    /// Of a site; `None` where its name is no name.
    pub fn of_site(site: &str) -> Option<Self> {
        crate::text::is_name(site).then(|| Self { site: site.into() })
    }

    fn gw(&self, gw: &str, rest: &str) -> String {
        format!("{ROOT}/{}/gw/{gw}/{rest}", self.site)
    }

    /// `…/gw/<gw>/status`
    pub fn status(&self, gw: &str) -> String {
        self.gw(gw, "status")
    }

    /// `…/gw/<gw>/ev/<source>`
    pub fn ev(&self, gw: &str, source: &str) -> String {
        self.gw(gw, &format!("ev/{source}"))
    }

    /// `…/gw/<gw>/state/<bed>`
    pub fn state(&self, gw: &str, bed: &str) -> String {
        self.gw(gw, &format!("state/{bed}"))
    }

    /// `…/gw/<gw>/alarms/<bed>`
    pub fn alarms(&self, gw: &str, bed: &str) -> String {
        self.gw(gw, &format!("alarms/{bed}"))
    }

    /// `…/gw/<gw>/receipt/<recorder>`
    pub fn receipt(&self, gw: &str, recorder: &str) -> String {
        self.gw(gw, &format!("receipt/{recorder}"))
    }

    /// `…/gw/<gw>/cmd/<verb>`
    pub fn cmd(&self, gw: &str, verb: &str) -> String {
        self.gw(gw, &format!("cmd/{verb}"))
    }

    /// `…/dash/<id>/alive`
    pub fn dash_alive(&self, id: &str) -> String {
        format!("{ROOT}/{}/dash/{id}/alive", self.site)
    }

    /// Where a command's answer goes: `…/gw/<gw>/reply/<client>`.
    pub fn reply(&self, gw: &str, client: &str) -> String {
        self.gw(gw, &format!("reply/{client}"))
    }

    /// What a topic of this site is about; `None` for any other.
    pub fn parse(&self, topic: &str) -> Option<Topic> {
        let rest = topic.strip_prefix(ROOT)?.strip_prefix('/')?;
        let rest = rest.strip_prefix(self.site.as_str())?.strip_prefix('/')?;
        let mut parts = rest.split('/');
        let name = |part: Option<&str>| part.filter(|p| crate::text::is_name(p)).map(String::from);
        let found = match (parts.next()?, name(parts.next())?, parts.next()?) {
            ("gw", gw, "status") => Topic::Status { gw },
            ("gw", gw, "ev") => Topic::Ev {
                gw,
                source: name(parts.next())?,
            },
            ("gw", gw, "state") => Topic::State {
                gw,
                bed: name(parts.next())?,
            },
            ("gw", gw, "alarms") => Topic::Alarms {
                gw,
                bed: name(parts.next())?,
            },
            ("gw", gw, "receipt") => Topic::Receipt {
                gw,
                recorder: name(parts.next())?,
            },
            ("gw", gw, "cmd") => Topic::Cmd {
                gw,
                verb: name(parts.next())?,
            },
            ("dash", id, "alive") => Topic::DashAlive { id },
            _ => return None,
        };
        parts.next().is_none().then_some(found)
    }
}

/// A gateway's life; its will says `offline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway.
    pub gw: String,
    /// `online` or `offline`.
    pub state: String,
    /// Counts the gateway's starts.
    pub session: u64,
    /// Program and version.
    pub version: String,
    /// Since when, trial time.
    pub since_utc_ms: i64,
}

/// One event as it travels and as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// Whose it is.
    pub source: Source,
    /// Its source's start.
    pub boot: u32,
    /// Its number.
    pub seq: u64,
    /// Milliseconds since that start.
    pub tick_ms: u64,
    /// When it happened, as the gateway estimates.
    pub at_utc_ms: i64,
    /// How far that may be off; none where no exchange of clocks was possible yet, and then
    /// `at_utc_ms` is the time of receipt.
    pub at_uncertainty_ms: Option<u64>,
    /// What it is.
    pub kind: String,
    /// Its fields. For people: `raw` is what counts.
    pub body: serde_json::Value,
    /// Its bytes.
    #[serde(with = "crate::hex::vec")]
    pub raw: Vec<u8>,
    /// Its tag.
    pub tag: Tag,
    /// When it was stored at the gateway.
    pub received_at_utc_ms: i64,
}

/// Why a row is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The bytes are no event.
    #[error("raw: {0}")]
    Raw(#[from] crate::event::Error),
    /// A column differs from the bytes.
    #[error("{0} differs from raw")]
    Column(&'static str),
}

impl EventRow {
    /// A row of an event's bytes; the decoded columns are made from them.
    ///
    /// # Errors
    /// Where the bytes are no event.
    pub fn new(
        source: Source,
        raw: &Raw,
        tag: Tag,
        at_utc_ms: i64,
        at_uncertainty_ms: Option<u64>,
        received_at_utc_ms: i64,
    ) -> Result<Self, RowError> {
        let (head, fact) = Fact::decode_or_unknown(raw)?;
        Ok(Self {
            source,
            boot: head.boot,
            seq: head.seq,
            tick_ms: head.tick_ms,
            at_utc_ms,
            at_uncertainty_ms,
            kind: fact.kind().into(),
            body: fact.to_json(),
            raw: raw.as_bytes().to_vec(),
            tag,
            received_at_utc_ms,
        })
    }

    /// Decodes `raw` again and holds every decoded column against it.
    ///
    /// # Errors
    /// The first column that differs.
    pub fn check(&self) -> Result<(Raw, Fact), RowError> {
        let (raw, _) = Raw::parse(&self.raw)?;
        let (head, fact) = Fact::decode_or_unknown(&raw)?;
        let columns = [
            ("boot", head.boot == self.boot),
            ("seq", head.seq == self.seq),
            ("tick_ms", head.tick_ms == self.tick_ms),
            ("kind", fact.kind() == self.kind),
            ("body", fact.to_json() == self.body),
        ];
        match columns.iter().find(|(_, same)| !same) {
            Some((column, _)) => Err(RowError::Column(column)),
            None => Ok((raw, fact)),
        }
    }
}

/// Events of one source, in order of seq.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvBatch {
    /// The trial.
    pub trial: String,
    /// The bed.
    pub bed: String,
    /// The gateway.
    pub gw: String,
    /// The trial's manifest, in a batch that begins with a source's first event.
    pub manifest: Option<SignedManifest>,
    /// The gateway's public key that its own chain is signed with.
    pub gateway_key: crate::hex::PublicKey,
    /// The gateway has no event of this source between this seq and the first event here, nor between
    /// any two events here. None: it does not say.
    #[serde(default)]
    pub after_seq: Option<u64>,
    /// 1 to 64.
    pub events: Vec<EventRow>,
}

/// What a recorder has on disk of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReceipt {
    /// The trial.
    pub trial: String,
    /// The source.
    pub source: String,
    /// The last seq without an unexplained hole before it.
    pub stored_through_seq: u64,
    /// Seqs that are missing for ever, declared by the pump.
    pub holes: Vec<(u64, u64)>,
    /// Head of the chain after `stored_through_seq`, none after a hole that no checkpoint closed.
    pub head: Option<Digest>,
}

/// A recorder's word that events are on disk: the only one that frees anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The recorder.
    pub recorder: String,
    /// The gateway it is for.
    pub gw: String,
    /// When, trial time.
    pub made_at_utc_ms: i64,
    /// Each source of that gateway.
    pub sources: Vec<SourceReceipt>,
}

/// The serial line as the gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkWord {
    /// Nothing was ever heard.
    NeverHeard,
    /// Frames come.
    Up,
    /// Silence.
    Lost,
}

/// A value and when it was true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At<T> {
    /// When, trial time.
    pub at_utc_ms: i64,
    /// The value.
    pub value: T,
}

/// The latest score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreNow {
    /// 0 to 10.
    pub score: u8,
    /// False where it was never confirmed.
    pub confirmed: bool,
    /// At rest or on movement.
    pub condition: crate::event::Condition,
}

/// Delivery as counted by the pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryNow {
    /// Whether the motor follows a rate.
    pub infusing: bool,
    /// The rate.
    pub programmed_nl_per_h: u32,
    /// Confirmed by the encoder since the trial began.
    pub delivered_nl: u64,
    /// Asked for since the trial began.
    pub programmed_nl: u64,
}

/// Patient boluses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BolusNow {
    /// Presses.
    pub requested: u32,
    /// Granted ones.
    pub granted: u32,
    /// Until when none can be granted, where that is known.
    pub locked_until_utc_ms: Option<i64>,
}

/// Reservoir and battery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservoirNow {
    /// Volume at the last change less what was delivered.
    pub computed_nl: u64,
    /// By the sensor.
    pub measured_nl: Option<u64>,
}

/// One step of the trend: what happened in `[start, start + step)`. Counts of 0 and scores that
/// were not given are left out: most steps are quiet, and there are many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendStep {
    /// Start, trial time.
    pub start_utc_ms: i64,
    /// Scores in it, at rest: the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u8>,
    /// Scores in it, on movement: the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_movement: Option<u8>,
    /// Delivered in it; none where not known.
    pub delivered_nl: Option<u64>,
    /// Programmed in it; none where not known.
    pub programmed_nl: Option<u64>,
    /// Boluses granted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub boluses: u16,
    /// Boluses refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u16,
    /// Rescue doses.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rescues: u16,
    /// Prompts not answered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_answered: u16,
    /// Pump alarms that began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub alarms: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u16) -> bool {
    *count == 0
}

/// All that a dashboard needs to draw a bed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The gateway.
    pub gw: String,
    /// The bed.
    pub bed: String,
    /// The trial.
    pub trial: String,
    /// The pump, where it said who it is.
    pub pump: Option<String>,
    /// Set where there is no patient.
    pub simulated: bool,
    /// Speed of the trial's clock; 1 is real time.
    pub speed: u32,
    /// Trial time at the sending.
    pub sent_at_utc_ms: i64,
    /// The line.
    pub link: LinkWord,
    /// Wall milliseconds since the last good frame at the sending; since the gateway's start where
    /// there was none.
    pub frame_age_ms: u64,
    /// IANA time zone.
    pub zone: String,
    /// The drug.
    pub drug: String,
    /// Micrograms a millilitre.
    pub concentration_mcg_per_ml: u32,
    /// `intrathecal` or `epidural`.
    pub route: String,
    /// Start of the baseline.
    pub baseline_start_utc_ms: i64,
    /// First therapeutic infusion.
    pub trial_start_utc_ms: Option<i64>,
    /// The trial was closed.
    pub closed: bool,
    /// Mean of the baseline's scores at rest, hundredths of a point.
    pub baseline_mean_centi: Option<u32>,
    /// Latest score at rest.
    pub pain: Option<At<ScoreNow>>,
    /// Latest score on movement.
    pub pain_movement: Option<At<ScoreNow>>,
    /// Delivery.
    pub delivery: Option<At<DeliveryNow>>,
    /// Boluses.
    pub bolus: BolusNow,
    /// Reservoir.
    pub reservoir: Option<At<ReservoirNow>>,
    /// Battery, percent.
    pub battery_percent: Option<At<u8>>,
    /// Rescue doses since the trial began, and the latest.
    pub rescues: u32,
    /// Latest observation of each kind: what, value times 1000.
    pub observations: Vec<(String, At<i64>)>,
    /// Events of the pump on disk here.
    pub stored_through_seq: u64,
    /// Newest seq that the pump spoke of.
    pub announced_seq: u64,
    /// On disk at the recorder, by its receipt.
    pub recorded_through_seq: u64,
    /// Seqs that are missing for ever.
    pub holes: Vec<(u64, u64)>,
    /// The trend, oldest first, at most [`TREND_MAX`] steps of [`TREND_STEP_MS`].
    pub trend: Vec<TrendStep>,
}

/// One alarm of a bed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRow {
    /// Which condition, such as `downstream_occlusion` or `link_lost`.
    pub alarm: String,
    /// Technical: about the system, not about patient or therapy.
    pub technical: bool,
    /// How urgent.
    pub priority: Priority,
    /// In words for people.
    pub text: String,
    /// Since when, trial time.
    pub since_utc_ms: i64,
    /// Ended, and not seen by anybody yet.
    pub ended: bool,
    /// Who acknowledged it.
    pub acknowledged_by: Option<String>,
}

/// A bed's alarms: all active, and those that ended unseen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarms {
    /// The gateway.
    pub gw: String,
    /// The bed.
    pub bed: String,
    /// Trial time at the sending.
    pub sent_at_utc_ms: i64,
    /// Most urgent first, then oldest first.
    pub alarms: Vec<AlarmRow>,
}

/// `cmd/entry`: what a person adds to the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryCommand {
    /// Of this entry: sent twice, it counts once.
    pub entry_id: String,
    /// The bed.
    pub bed: String,
    /// The trial.
    pub trial: String,
    /// Who.
    pub by: String,
    /// In what role.
    pub role: String,
    /// When it was so, as its author gives it.
    pub at_utc_ms: i64,
    /// What.
    pub entry: Entry,
}

/// What may be entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A reading or an assessment.
    Observation {
        /// A word of `docs/record.md`.
        what: String,
        /// Times 1000.
        value_milli: i64,
    },
    /// A dose outside the pump.
    Rescue {
        /// The drug's name.
        drug: String,
        /// Micrograms.
        dose_mcg: u64,
        /// Such as `oral`.
        route: String,
        /// `trial_pain`, `other_pain` or `not_pain`.
        reason: String,
        /// By the clock.
        scheduled: bool,
    },
    /// A score for a patient who cannot press keys.
    Score {
        /// 0 to 10; none where asleep or not answered.
        score: Option<u8>,
        /// Asleep.
        asleep: bool,
        /// At rest or on movement.
        condition: crate::event::Condition,
        /// `nurse` or `family`.
        scored_by: String,
    },
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandReply {
    /// `stored` or `refused`.
    pub result: String,
    /// Why it was refused, or which event it became.
    pub detail: String,
}

/// A dashboard lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashAlive {
    /// The dashboard.
    pub id: String,
    /// False where its terminal takes nothing.
    pub drawing: bool,
}

/// Whole hours in milliseconds, signed.
pub fn hours_ms(hours: u32) -> i64 {
    i64::from(hours).saturating_mul(i64::try_from(HOUR_MS).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_is_read_as_it_was_made_and_no_other_site_is_heard() {
        let topics = Topics::of_site("demo").unwrap();
        let ev = topics.ev("gw-07", "EP-0193");
        assert_eq!(ev, "thecal/v1/demo/gw/gw-07/ev/EP-0193");
        assert_eq!(
            topics.parse(&ev),
            Some(Topic::Ev {
                gw: "gw-07".into(),
                source: "EP-0193".into()
            })
        );
        assert_eq!(
            topics.parse(&topics.status("g")),
            Some(Topic::Status { gw: "g".into() })
        );
        for other in [
            "thecal/v1/other/gw/g/status",
            "thecal/v1/demo/gw/../status",
            "thecal/v1/demo/gw/g/ev/a/b",
            "thecal/v1/demox/gw/g/status",
        ] {
            assert_eq!(topics.parse(other), None, "{other}");
        }
    }
}
