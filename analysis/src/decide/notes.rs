//! What a reader must know of a trial besides its verdict. Pure.

use super::{Reason, reason, several};
use crate::input::Origin;
use crate::measure::Measures;
use crate::protocols::Settings;

/// What a reader must know, whatever the verdict.
pub(super) fn notes(m: &Measures, settings: &Settings) -> Vec<Reason> {
    let mut out = Vec::new();
    let mut note = |code, text: String, events| out.push(reason(code, text, events));
    if let Some(simulated) = &m.header.simulated {
        note(
            "simulated",
            format!(
                "Simulated: there is no patient. Kind {}, seed {}.",
                simulated.patient, simulated.seed
            ),
            Vec::new(),
        );
    }
    if m.proof.missing > 0 {
        note(
            "holes",
            format!(
                "{} events are missing: {}. The report cannot be relied on for them.",
                m.proof.missing,
                m.proof.holes.join("; ")
            ),
            Vec::new(),
        );
    }
    if m.proof.not_proven > 0 {
        note(
            "not_proven",
            format!("{} events are present and not proven.", m.proof.not_proven),
            Vec::new(),
        );
    }
    for (source, seq) in &m.proof.unsigned_from {
        note(
            "unsigned",
            format!("{source} is unsigned from seq {seq} on."),
            Vec::new(),
        );
    }
    if m.header.origin == Origin::Import {
        note(
            "imported",
            "Imported from a diary: nothing in it was chained.".into(),
            Vec::new(),
        );
        if m.delivery.percent.is_none() {
            note(
                "delivery_unknown",
                "The diary holds no delivery: whether the drug was given as programmed is not \
                 known."
                    .into(),
                Vec::new(),
            );
        }
    }
    if m.phases.as_ref().is_some_and(|phases| !phases.ended) {
        note(
            "open",
            "The trial is not closed: the figures are of the record so far.".into(),
            Vec::new(),
        );
    }
    if !m.zone.1 {
        note(
            "zone_unknown",
            format!(
                "The time zone {:?} is not known: times are UTC.",
                protocol::text::clean(&m.header.zone, 40)
            ),
            Vec::new(),
        );
    }
    let c = &m.completeness;
    if c.unconfirmed > 0 {
        note(
            "unconfirmed",
            format!(
                "Never confirmed: {}; shown, not counted.",
                several(c.unconfirmed, "score")
            ),
            Vec::new(),
        );
    }
    if c.corrected > 0 {
        note(
            "corrected",
            format!(
                "Corrected by the patient: {}; what was given first is kept.",
                several(c.corrected, "score")
            ),
            Vec::new(),
        );
    }
    if !c.gaps.is_empty() {
        note(
            "gaps",
            format!(
                "{} of over {} h awake without a score; left out of every mean.",
                several(c.gaps.len(), "gap"),
                settings.longest_segment_h
            ),
            Vec::new(),
        );
    }
    if m.acceptance.0 == Some(false) {
        note(
            "implant_declined",
            "The patient does not accept the implant.".into(),
            m.acceptance.1.iter().cloned().collect(),
        );
    }
    note(
        "not_blinded",
        "This trial was not blinded; a placebo response, rest in hospital or a return from a flare \
         cannot be told from the drug."
            .into(),
        Vec::new(),
    );
    out
}
