//! Lives a [`Scenario`] on a simulated pump, in virtual time, and holds what the pump journaled and
//! showed against what the story expects, and against what must be so in every story.

use crate::board::FLASH_SIZE;
use crate::fault::What;
use crate::patient::LocalClock;
use crate::patient::kind::Kind;
use crate::scenario::Scenario;
use crate::setup::{Setup, manifest_values};
use crate::sim::{Error, Simulation};
use protocol::chain::{ChainCheck, Finding};
use protocol::event::{Body, Raw, decode};
use protocol::hex::Tag;
use protocol::keys::KeyPair;
use protocol::manifest::{Manifest, SCHEMA, SignedManifest, Simulated};
use protocol::message::Source;

/// 2026-03-02T07:00:00Z, a Monday; 08:00 in the ward.
pub const CLOCK: LocalClock = LocalClock {
    origin_utc_ms: 1_772_434_800_000,
    offset_min: 60,
};
/// The pump's face is looked at each second for so long after the moment.
const WATCHED_MS: u64 = 900_000;
/// And this long before it.
const BEFORE_MS: u64 = 10_000;
/// After the trial's planned end.
const AFTER_MS: u64 = 3_600_000;
/// One encoder count of the usual mechanism, and a bit.
const COUNT_NL: f64 = 63.0;

/// Keys of a story's pump.
pub fn keys() -> KeyPair {
    KeyPair::from_seed([3; 32])
}

/// A pump, and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The pump's name.
    pub pump: &'a str,
    /// Its trial.
    pub trial: &'a str,
    /// Its bed.
    pub bed: &'a str,
}

/// Where a story's pump belongs.
pub const HERE: Place<'static> = Place {
    pump: "EP-0001",
    trial: "T-0001",
    bed: "01",
};

/// The signed manifest of a trial like the story's.
///
/// # Errors
/// Where its texts do not fit.
pub fn manifest(story: &Scenario, place: Place, speed: u32) -> Result<SignedManifest, Error> {
    let simulated = Simulated {
        patient: story.patient.name().into(),
        seed: story.seed,
        speed,
    };
    manifest_of(story.patient, place, simulated)
}

/// The signed manifest of a trial with the values of such a patient's, from [`CLOCK`]'s origin on.
///
/// # Errors
/// Where its texts do not fit.
pub fn manifest_of(
    kind: Kind,
    place: Place,
    simulated: Simulated,
) -> Result<SignedManifest, Error> {
    let values = manifest_values(kind);
    let wrong = |what: &str| Error::Setup(what.into());
    let manifest = Manifest {
        schema: SCHEMA.into(),
        trial_id: Some(place.trial.into()),
        bed: Some(place.bed.into()),
        pump: Source::new(place.pump).ok_or_else(|| wrong("the pump's name is no name"))?,
        pump_key: keys().public(),
        gateway_key: None,
        drug: values.drug.into(),
        concentration_mcg_per_ml: values.concentration_mcg_per_ml,
        route: values.route.into(),
        zone: "Europe/Vienna".into(),
        baseline_start_utc_ms: CLOCK.origin_utc_ms,
        run_in_h: None,
        protocol: "pain-50".into(),
        limits: values.limits,
        simulated: Some(simulated),
    };
    manifest
        .sign(&keys())
        .map_err(|_| wrong("the manifest is too long"))
}

/// A pump that lives the story, there.
///
/// # Errors
/// Where pump and trial do not fit together.
pub fn setup(story: &Scenario, place: Place, speed: u32) -> Result<Setup, Error> {
    let signed = manifest(story, place, speed)?;
    let setup = Setup::demo(0, story.patient, story.seed, 1, CLOCK, signed, keys())?;
    Ok(setup.in_scenario(story))
}

/// What came of a story.
#[derive(Clone, Debug)]
pub struct Lived {
    /// The journal, with its times since the origin.
    pub journal: Vec<(u64, Raw)>,
    /// What happened: events, acts that were refused, new lines on the face; with time, kind and
    /// fields.
    pub told: Vec<(u64, String, serde_json::Value)>,
    /// What is not as expected; empty where all is well.
    pub complaints: Vec<String>,
}

/// Lives it to its end.
///
/// # Errors
/// Where pump and trial do not fit together.
pub fn live(story: &Scenario) -> Result<Lived, Error> {
    let setup = setup(story, HERE, 1)?;
    let mut check = ChainCheck::new(
        setup.manifest.as_chain_root(),
        setup.keys.public(),
        Some(&setup.keys.tag_secret()),
    );
    let mut sim = Simulation::new(setup)?;
    let mut face = Vec::new();
    let mut shown: Vec<String> = Vec::new();
    let begins = story.begins_ms();
    sim.step_until(begins.saturating_sub(BEFORE_MS));
    let watched = begins.saturating_add(WATCHED_MS);
    while sim.now_ms() < watched && !sim.closed() {
        let now = sim.face();
        for line in now.lines.iter().filter(|line| !shown.contains(line)) {
            let fields = serde_json::json!({ "line": line });
            face.push((sim.now_ms(), "face".to_owned(), fields));
        }
        shown = now.lines;
        sim.step_until(sim.now_ms() + 1_000);
    }
    sim.step_until(story.baseline_ms + story.therapy_ms + AFTER_MS);
    let journal = sim.journal();
    let mut told: Vec<_> = face;
    for (at, why) in &sim.refused {
        let fields = serde_json::json!({ "why": why });
        told.push((*at, "refused".into(), fields));
    }
    for event in &journal {
        if let Ok((_, body)) = decode(&event.raw) {
            told.push((event.trial_ms, body.kind().into(), body.to_json()));
        }
    }
    told.sort_by_key(|(at, ..)| *at);
    let mut complaints = story.complaints_of(&told);
    let events: Vec<_> = journal.iter().map(|e| (&e.raw, &e.tag)).collect();
    let always = what_is_always_so(story, &events, &mut check, sim.moved_nl());
    complaints.extend(
        always
            .into_iter()
            .map(|c| format!("{}: {c}", story.title())),
    );
    if !sim.closed() {
        complaints.push(format!("{}: the trial was not closed", story.title()));
    }
    let journal = journal.into_iter().map(|e| (e.trial_ms, e.raw)).collect();
    Ok(Lived {
        journal,
        told,
        complaints,
    })
}

/// No event is missing but where that is declared, each proves the ones before it, counters never
/// fall, and what they say is what the encoder was moved by.
fn what_is_always_so(
    story: &Scenario,
    journal: &[(&Raw, &Tag)],
    check: &mut ChainCheck,
    moved_nl: f64,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let damaged = |what: &What| matches!(what, What::FlashRot(_) | What::WornFlash);
    let may_miss = story.faults.iter().any(|f| damaged(&f.what))
        || story.flash_size.is_some_and(|size| size < FLASH_SIZE);
    let cut = |what: &What| matches!(what, What::PowerCut { .. } | What::ProgramHangs);
    let mut before = (0, 0, 0, 0);
    let mut boots = 0;
    let (mut missing, mut declared) = (Vec::new(), Vec::new());
    for (raw, tag) in journal {
        match check.next(raw, tag) {
            Finding::Good | Finding::Proven => {}
            Finding::NotProven | Finding::Hole { .. } if may_miss => {}
            finding @ (Finding::NotProven | Finding::Hole { .. } | Finding::Broken(_)) => {
                wrong.push(format!("{finding:?} at {:?}", raw.head()));
            }
        }
        let Ok((head, body)) = decode(raw) else {
            wrong.push("an event does not decode".into());
            continue;
        };
        if head.seq != before.0 + 1 && !may_miss {
            wrong.push(format!("seq {} follows {}", head.seq, before.0));
        }
        if head.seq > before.0 + 1 {
            missing.push(before.0 + 1..head.seq);
        }
        before.0 = head.seq;
        if let Body::JournalLost(lost) = body {
            declared.push(lost.from_seq..=lost.to_seq);
        }
        boots += u32::from(matches!(body, Body::PoweredOn(_)));
        if let Body::Delivered(d) = body {
            let now = (d.delivered_nl, d.programmed_nl, d.encoder_counts);
            if now.0 < before.1 || now.1 < before.2 || now.2 < before.3 {
                wrong.push(format!(
                    "counters fall at seq {}: {before:?}, {now:?}",
                    head.seq
                ));
            }
            (before.1, before.2, before.3) = now;
        }
    }
    let is_declared = |seq: &u64| declared.iter().any(|range| range.contains(seq));
    if let Some(seq) = missing.into_iter().flatten().find(|seq| !is_declared(seq)) {
        wrong.push(format!("seq {seq} is gone and nothing declares it lost"));
    }
    let told_nl = crate::math::float(before.1);
    let off = (told_nl - moved_nl).abs();
    let allowed = COUNT_NL * f64::from(boots.max(1));
    let was_cut = story.faults.iter().any(|f| cut(&f.what));
    if told_nl > moved_nl + allowed || off > allowed && !was_cut {
        wrong.push(format!(
            "the counter ends at {told_nl} nL, the encoder was moved by {moved_nl:.0} nL"
        ));
    }
    wrong
}
