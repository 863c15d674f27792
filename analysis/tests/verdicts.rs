//! Whole trials, made up and seeded, and the verdicts that fit them.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, and its figures are exact"
)]

mod common;

use analysis::decide::Verdict;
use analysis::{Assessment, Options, assess};
use common::{BASELINE_START, HOUR, Kind, MINUTE, Making, made_up};
use protocol::event::{CloseReason, Condition, PainScore, StopReason};

fn assessed(making: Making) -> Assessment {
    assess(&making.trial(), &Options::default()).unwrap()
}

fn codes(a: &Assessment) -> Vec<&str> {
    a.decision.reasons.iter().map(|r| r.code).collect()
}

#[test]
fn each_kind_of_patient_gets_the_verdict_that_fits() {
    let cases: &[(Kind, Verdict, &str)] = &[
        (Kind::Responder, Verdict::Supports, "relief_shown"),
        (
            Kind::NonResponder,
            Verdict::DoesNotSupport,
            "relief_not_shown",
        ),
        (Kind::Placebo, Verdict::DoesNotSupport, "relief_not_shown"),
        (Kind::Leak, Verdict::NotAssessable, "catheter_leak"),
        (
            Kind::LeakNobodyFound,
            Verdict::NotAssessable,
            "catheter_suspect",
        ),
        (
            Kind::SideEffects,
            Verdict::StoppedForSafety,
            "closed_for_safety",
        ),
        (
            Kind::PumpBlocked,
            Verdict::NotAssessable,
            "drug_not_delivered",
        ),
    ];
    for (kind, verdict, code) in cases {
        for seed in 1..=6 {
            let a = assessed(made_up(*kind, seed));
            assert_eq!(
                a.decision.verdict, *verdict,
                "{kind:?} seed {seed}: {:?}",
                a.decision.reasons
            );
            assert_eq!(codes(&a).first(), Some(code), "{kind:?} seed {seed}");
        }
    }
}

#[test]
fn a_leak_is_told_as_one_and_not_as_a_patient_who_did_not_respond() {
    for kind in [Kind::Leak, Kind::LeakNobodyFound] {
        let a = assessed(made_up(kind, 7));
        let text = &a.decision.reasons[0].text;
        assert!(text.to_lowercase().contains("catheter"), "{text}");
        assert!(!codes(&a).contains(&"relief_not_shown"));
    }
}

#[test]
fn an_interruption_is_named_and_never_called_a_failure_of_the_drug() {
    for seed in 1..=6 {
        let a = assessed(made_up(Kind::Withdrawal, seed));
        assert!(
            codes(&a).contains(&"delivery_interrupted"),
            "seed {seed}: {:?}",
            codes(&a)
        );
        assert_ne!(a.decision.verdict, Verdict::DoesNotSupport, "seed {seed}");
        let hours = a.measures.delivery.interrupted_h();
        assert!((hours - 12.0).abs() < 0.1, "seed {seed}: {hours}");
        let stops = &a
            .decision
            .reasons
            .iter()
            .find(|r| r.code == "delivery_interrupted")
            .unwrap()
            .events;
        assert!(
            stops.iter().all(|id| id.starts_with("EP-0193:1:")),
            "{stops:?}"
        );
    }
}

#[test]
fn a_failure_with_an_interruption_is_not_assessed_as_one() {
    let start = BASELINE_START + 24 * HOUR;
    let dry = (start + 42 * HOUR)..(start + 54 * HOUR);
    let mut m = made_up(Kind::NonResponder, 3);
    m.rows
        .retain(|row| row.kind != "delivered" || !dry.contains(&row.at_utc_ms));
    m.stop(dry.start, StopReason::Empty);
    m.infusion(dry.end, 60_000);
    let a = assessed(m);
    assert_eq!(a.decision.verdict, Verdict::NotAssessable);
    assert_eq!(codes(&a), ["delivery_interrupted"]);
}

#[test]
fn a_score_at_the_start_of_the_drug_is_no_baseline() {
    let start = BASELINE_START + 24 * HOUR;
    let mut m = Making::new();
    m.start();
    m.score(start - 2 * HOUR, 8, None);
    m.score(start - HOUR, 8, None);
    m.infusion(start, 60_000);
    m.score(start, 0, None);
    m.stop(start + HOUR, StopReason::Keypad);
    let a = assessed(m);
    assert_eq!(a.measures.rest.baseline.len(), 2);
    assert_eq!(a.measures.rest.relief.baseline_mean, Some(8.0));
}

#[test]
fn the_same_record_gives_the_same_bytes() {
    let input = made_up(Kind::Withdrawal, 3).input();
    let once = assess(
        &analysis::load::from_rows(&input).unwrap(),
        &Options::default(),
    )
    .unwrap();
    for _ in 0..3 {
        let again = assess(
            &analysis::load::from_rows(&input).unwrap(),
            &Options::default(),
        )
        .unwrap();
        assert!(once.verdict_json == again.verdict_json && once.report_html == again.report_html);
    }
}

#[test]
fn jitter_of_the_gateway_changes_no_figure() {
    let input = made_up(Kind::Responder, 3).input();
    let mut late = input.clone();
    for (place, row) in late.rows.iter_mut().enumerate() {
        row.received_at_utc_ms += i64::try_from(place % 977).unwrap();
        if row.source.as_str() == common::PUMP {
            row.at_utc_ms += i64::try_from(place % 313).unwrap();
        }
    }
    let json = |input| {
        assess(
            &analysis::load::from_rows(input).unwrap(),
            &Options::default(),
        )
        .unwrap()
        .verdict_json
    };
    assert_eq!(json(&input), json(&late));
}

#[test]
fn an_altered_record_is_not_assessed_whatever_it_shows() {
    for kind in [Kind::Responder, Kind::SideEffects] {
        let mut input = made_up(kind, 1).input();
        input.proof.evidence = record::verify::Evidence::Altered;
        input.proof.wrong = vec!["EP-0193:1:77: body differs from raw".into()];
        let a = assess(
            &analysis::load::from_rows(&input).unwrap(),
            &Options::default(),
        )
        .unwrap();
        assert_eq!(a.decision.verdict, Verdict::NotAssessable);
        assert_eq!(codes(&a), ["record_altered"]);
        assert!(a.report_html.contains("NOT VERIFIED"));
    }
}

#[test]
fn too_little_is_not_assessable_and_says_what_is_missing() {
    let start = BASELINE_START + 24 * HOUR;
    // Nothing at all.
    let mut none = Making::new();
    none.start();
    assert_eq!(codes(&assessed(none)), ["no_trial"]);

    // One score before and one after.
    let mut one = Making::new();
    one.start();
    one.score(BASELINE_START + HOUR, 8, None);
    one.infusion(start, 60_000);
    one.score(start + 20 * HOUR, 2, None);
    one.close(start + 96 * HOUR, CloseReason::Planned);
    let a = assessed(one);
    assert_eq!(a.decision.verdict, Verdict::NotAssessable);
    for code in [
        "baseline_too_few_scores",
        "trial_too_few_scores",
        "delivery_unknown",
    ] {
        assert!(codes(&a).contains(&code), "{code} of {:?}", codes(&a));
    }
    assert!(a.measures.rest.relief.percent.is_none());

    // A short trial.
    let mut short = made_up(Kind::Responder, 1);
    let cut = start + 20 * HOUR;
    short.rows.retain(|row| row.at_utc_ms < cut);
    let a = assessed(short);
    assert!(codes(&a).contains(&"trial_too_short"), "{:?}", codes(&a));

    // A day and a half without any answer.
    let mut silent = made_up(Kind::Responder, 1);
    let hole = (start + 40 * HOUR)..(start + 76 * HOUR);
    silent
        .rows
        .retain(|row| row.kind != "pain_score" || !hole.contains(&row.at_utc_ms));
    let a = assessed(silent);
    assert!(codes(&a).contains(&"gaps_too_long"), "{:?}", codes(&a));
}

#[test]
fn a_percentage_of_a_low_baseline_is_not_given() {
    let mut low = made_up(Kind::Responder, 1);
    low.rows.retain(|row| row.kind != "pain_score");
    for hour in (1..24).step_by(2) {
        low.score(BASELINE_START + hour * HOUR, 3, None);
    }
    for hour in (25..118).step_by(2) {
        low.score(BASELINE_START + hour * HOUR, 1, None);
    }
    let a = assessed(low);
    assert!(codes(&a).contains(&"baseline_too_low"), "{:?}", codes(&a));
    let json: serde_json::Value = serde_json::from_str(&a.verdict_json).unwrap();
    assert!(json["pain"]["relief_percent"].is_null());
    assert_eq!(json["pain"]["relief_points"].as_f64(), Some(2.0));
}

#[test]
fn a_correction_replaces_in_place_and_an_unconfirmed_score_does_not_count() {
    let mut m = Making::new();
    m.start();
    m.infusion(BASELINE_START + 24 * HOUR, 60_000);
    let first = m.score(BASELINE_START + HOUR, 9, Some(1));
    m.pump(
        BASELINE_START + HOUR + MINUTE,
        PainScore {
            score: 6,
            confirmed: true,
            condition: Condition::Rest,
            prompt_id: Some(1),
            answer_delay_ms: None,
            corrects_seq: Some(first),
        },
    );
    m.pump(
        BASELINE_START + 3 * HOUR,
        PainScore {
            score: 1,
            confirmed: false,
            condition: Condition::Rest,
            prompt_id: Some(2),
            answer_delay_ms: None,
            corrects_seq: None,
        },
    );
    m.score(BASELINE_START + 5 * HOUR, 8, Some(3));
    m.stop(BASELINE_START + 30 * HOUR, StopReason::Keypad);
    let a = assessed(m);
    let c = &a.measures.completeness;
    assert_eq!(
        (c.asked, c.answered, c.corrected, c.unconfirmed),
        (3, 2, 1, 1)
    );
    assert_eq!(
        a.measures.rest.baseline,
        [
            (BASELINE_START + HOUR, 6.0),
            (BASELINE_START + 5 * HOUR, 8.0)
        ]
    );
    assert_eq!(a.measures.rest.relief.baseline_mean, Some(7.0));
}

#[test]
fn a_score_in_a_run_in_is_shown_and_not_evaluated() {
    let a = assessed(made_up(Kind::Responder, 2));
    let start = BASELINE_START + 24 * HOUR;
    assert!(
        a.measures
            .diary
            .scores
            .iter()
            .any(|s| s.at_ms > start && s.at_ms < start + 12 * HOUR)
    );
    assert!(
        a.measures
            .rest
            .evaluated
            .iter()
            .all(|(at, _)| *at >= start + 12 * HOUR)
    );
    assert_eq!(a.measures.phases.as_ref().unwrap().run_in_h, 12);
}

#[test]
fn what_is_noted_twice_under_one_entry_counts_once() {
    let mut twice = made_up(Kind::Responder, 2);
    twice.rescue(BASELINE_START + 60 * HOUR);
    let mut again = twice.rows.last().unwrap().clone();
    again.seq += 1;
    twice.rows.push(again);
    let a = assessed(twice);
    let at = a
        .measures
        .doses
        .iter()
        .filter(|d| d.at_ms == BASELINE_START + 60 * HOUR);
    assert_eq!(at.count(), 1);
}

#[test]
#[ignore = "writes a page for each kind into the folder that PAGES names, for people to look at"]
fn pages_to_look_at() {
    let gone = tempfile::tempdir().unwrap();
    let folder =
        std::env::var_os("PAGES").map_or_else(|| gone.path().into(), std::path::PathBuf::from);
    for kind in [
        Kind::Responder,
        Kind::NonResponder,
        Kind::Leak,
        Kind::SideEffects,
        Kind::Placebo,
        Kind::Withdrawal,
    ] {
        let a = assessed(made_up(kind, 7));
        std::fs::write(folder.join(format!("{kind:?}.html")), &a.report_html).unwrap();
        std::fs::write(folder.join(format!("{kind:?}.json")), &a.verdict_json).unwrap();
    }
}
