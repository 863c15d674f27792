//! What this crate's files may know of each other, and what the files for others must look like.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, and its figures are exact"
)]

mod common;

use analysis::{Options, assess};
use common::{Kind, made_up};
use std::path::Path;

#[test]
fn only_the_reading_of_tables_knows_polars() {
    let may = [
        "anchor.rs",
        "entered.rs",
        "load.rs",
        "pain.rs",
        "dose.rs",
        "rescue.rs",
        "safety.rs",
    ];
    let mut seen = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                if text.contains("polars::") {
                    seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
    }
    seen.sort();
    let mut may = may.map(String::from);
    may.sort();
    assert_eq!(seen, may);
}

fn schema() -> jsonschema::Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verdict.schema.json");
    let text = std::fs::read_to_string(path).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn every_verdict_has_the_form_that_is_published() {
    let schema = schema();
    let mut nothing = common::Making::new();
    nothing.start();
    let mut trials = vec![nothing.trial()];
    for kind in [
        Kind::Responder,
        Kind::NonResponder,
        Kind::Leak,
        Kind::SideEffects,
        Kind::Placebo,
        Kind::Withdrawal,
        Kind::PumpBlocked,
    ] {
        trials.push(made_up(kind, 5).trial());
    }
    for trial in trials {
        let a = assess(&trial, &Options::default()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&a.verdict_json).unwrap();
        let errors: Vec<String> = schema
            .iter_errors(&json)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn the_form_refuses_a_verdict_without_one_of_its_keys() {
    let schema = schema();
    let a = assess(&made_up(Kind::Responder, 5).trial(), &Options::default()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&a.verdict_json).unwrap();
    assert!(schema.is_valid(&json));
    for key in json.as_object().unwrap().keys() {
        let mut less = json.clone();
        less.as_object_mut().unwrap().remove(key);
        assert!(!schema.is_valid(&less), "{key}");
    }
}

#[test]
fn the_page_is_whole_and_says_what_it_must() {
    let a = assess(&made_up(Kind::Responder, 5).trial(), &Options::default()).unwrap();
    let page = &a.report_html;
    for words in [
        "SIMULATED, NOT A PATIENT",
        "decision rests with the physician",
        "not blinded",
        "not proof that it reached the spine",
        "Not a cleared medical device",
        "Europe/Berlin",
        "500 mcg/mL",
        "RECORD COMPLETE",
        "Supports the implant",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for never in [
        "<script", "<link", "<img", "src=", "url(", "@import", "µg", "NaN", "inf ",
    ] {
        assert!(!page.contains(never), "{never}");
    }
    // The only address is the name of SVG itself, which nothing fetches.
    assert_eq!(
        page.matches("http").count(),
        page.matches("http://www.w3.org/2000/svg").count() + page.matches("http-equiv").count()
    );
}

#[test]
fn text_from_outside_cannot_leave_its_place_on_the_page() {
    let hostile = "<script>alert(1)</script>\u{202e}\u{1b}[2J\"'&";
    let mut m = made_up(Kind::Leak, 5);
    m.header.trial_id = hostile.into();
    m.header.drug = hostile.into();
    m.header.bed = Some(hostile.into());
    m.header.zone = hostile.into();
    m.header.route = hostile.into();
    m.header.context = vec![("diagnosis".into(), hostile.into())];
    m.observed(common::BASELINE_START + 60 * common::HOUR, hostile, 2.0);
    let mut input = m.input();
    input.proof.holes = vec![hostile.into()];
    input.proof.missing = 1;
    input.proof.wrong = vec![hostile.into()];
    let a = assess(
        &analysis::load::from_rows(&input).unwrap(),
        &Options::default(),
    )
    .unwrap();
    let page = &a.report_html;
    assert!(!page.contains("<script") && !page.contains('\u{202e}') && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;"));
    assert!(
        page.contains("times in UTC"),
        "an unknown zone is not shown as if it were used"
    );
    assert!(serde_json::from_str::<serde_json::Value>(&a.verdict_json).is_ok());
}
