//! The `[bedside]` part of a story.

use anyhow::{Context, bail};
use device_sim::scenario::{Scenario, span_ms};
use protocol::event::Priority;
use serde::Deserialize;

/// What happens behind the pump, and what must be seen there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Trial seconds in a second.
    pub(super) speed: u32,
    /// In the order of their times.
    pub(super) steps: Vec<Step>,
    pub(super) musts: Vec<Must>,
    /// Alarms that must never be raised on this bed.
    pub(super) nevers: Vec<String>,
    /// Alarms that every bed of the gateway has, the neighbor's too.
    pub(super) everywhere: Vec<String>,
    /// Facts that must be in the record: kind and fields.
    pub(super) facts: Vec<(String, toml::Table)>,
    /// Facts of the pump that were lost for ever are in the record as holes.
    pub(super) holes: bool,
    /// The pump's memory is not compared: a story about rotten flash.
    pub(super) sizes_only: bool,
}

/// Something that happens behind the pump.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Wall time since the moment.
    pub(super) after_ms: u64,
    pub(super) what: Do,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Do {
    /// Kill -9.
    KillGateway,
    StartGateway,
    StopBroker,
    StartBroker,
    PartNetwork,
    JoinNetwork,
    DashboardLeaves,
    DashboardReturns,
    /// No byte more can be written by the gateway.
    FillDisk,
    /// Another pump, or one of another trial, on the line of bed 01.
    Swap {
        pump: String,
        trial: String,
    },
    /// A pump of another protocol version on it.
    OtherVersion {
        version: u8,
    },
    SwapBack,
    /// A payload, as it stands, or signed by somebody.
    Publish {
        topic: String,
        text: String,
        signed_by: Option<Signer>,
        #[serde(default)]
        retained: bool,
    },
    /// An entry by a person: what must come of it.
    Enter {
        id: String,
        entry: toml::Table,
        reply: String,
    },
}

/// Whose key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Signer {
    /// One that nobody believes.
    Rogue,
    /// The nurse's.
    Nurse,
}

/// What must be seen, how soon.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Must {
    /// Wall time since the moment.
    pub(super) within_ms: u64,
    /// And not before.
    pub(super) after_ms: u64,
    pub(super) what: What,
}

/// What is seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// An alarm on bed 01.
    Alarm {
        name: String,
        priority: Option<Priority>,
        words: Option<String>,
    },
    /// It is over.
    AlarmEnds { name: String },
    /// The gateway's last will.
    Offline,
    /// The line of bed 01 is up, and a frame is fresh.
    LinkUp,
    /// The face of bed 01's pump has a line that holds this.
    Face { line: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default = "default_speed")]
    speed: u32,
    #[serde(default)]
    step: Vec<StepTable>,
    #[serde(default)]
    must: Vec<MustTable>,
    #[serde(default)]
    never: Vec<String>,
    #[serde(default)]
    everywhere: Vec<String>,
    #[serde(default)]
    fact: Vec<FactTable>,
    #[serde(default)]
    holes: bool,
    #[serde(default)]
    sizes_only: bool,
}

fn default_speed() -> u32 {
    60
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepTable {
    moment: Option<String>,
    after: String,
    what: Do,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MustTable {
    moment: Option<String>,
    within: String,
    #[serde(default = "default_after")]
    after: String,
    alarm: Option<String>,
    alarm_ends: Option<String>,
    priority: Option<Priority>,
    words: Option<String>,
    #[serde(default)]
    offline: bool,
    #[serde(default)]
    link_up: bool,
    face: Option<String>,
}

fn default_after() -> String {
    "0s".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FactTable {
    moment: Option<String>,
    kind: String,
    #[serde(default)]
    fields: toml::Table,
}

impl Plan {
    /// Of the story, at its moment.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn of(story: &Scenario) -> anyhow::Result<Self> {
        let table = story.bedside.clone().context("nothing behind the pump")?;
        let table: Table = table.try_into().context("bedside")?;
        let name = story.moment.as_ref().map(|m| m.name.clone());
        let here = |moment: &Option<String>| moment.is_none() || *moment == name;
        let mut steps = Vec::new();
        for step in table.step.iter().filter(|s| here(&s.moment)) {
            steps.push(Step {
                after_ms: span_ms(&step.after)?,
                what: step.what.clone(),
            });
        }
        steps.sort_by_key(|step| step.after_ms);
        let mut musts = Vec::new();
        for must in table.must.iter().filter(|m| here(&m.moment)) {
            musts.push(must.read()?);
        }
        let facts = table.fact.into_iter().filter(|f| here(&f.moment));
        Ok(Self {
            speed: table.speed,
            steps,
            musts,
            nevers: table.never,
            everywhere: table.everywhere,
            facts: facts.map(|f| (f.kind, f.fields)).collect(),
            holes: table.holes,
            sizes_only: table.sizes_only,
        })
    }
}

impl MustTable {
    fn read(&self) -> anyhow::Result<Must> {
        let mut whats = Vec::new();
        if let Some(name) = &self.alarm {
            whats.push(What::Alarm {
                name: name.clone(),
                priority: self.priority,
                words: self.words.clone(),
            });
        }
        if let Some(name) = &self.alarm_ends {
            whats.push(What::AlarmEnds { name: name.clone() });
        }
        if self.offline {
            whats.push(What::Offline);
        }
        if self.link_up {
            whats.push(What::LinkUp);
        }
        if let Some(line) = &self.face {
            whats.push(What::Face { line: line.clone() });
        }
        let (Some(what), true) = (whats.pop(), whats.is_empty()) else {
            bail!("a must is one of alarm, alarm_ends, offline, link_up, face");
        };
        Ok(Must {
            within_ms: span_ms(&self.within)?,
            after_ms: span_ms(&self.after)?,
            what,
        })
    }
}
