//! Each story in `scenarios/` is lived and its journal held against what it expects.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use device_sim::patient::kind::Kind;
use device_sim::scenario::Scenario;
use device_sim::sim::Simulation;
use protocol::event::{Body, Raw, decode};
use std::path::PathBuf;

fn stories() -> Vec<(PathBuf, Scenario)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let story =
                Scenario::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path, story)
        })
        .collect()
}

/// What the journal told, and what the pump refused.
struct Told {
    journal: Vec<(u64, Raw)>,
    refused: Vec<(u64, String)>,
}

fn live(story: &Scenario) -> Told {
    let setup = common::setup(Kind::Responder, story.seed, 1).in_scenario(story);
    let mut sim = Simulation::new(setup).unwrap();
    sim.step_until(story.baseline_ms + story.therapy_ms + 3_600_000);
    Told {
        journal: sim
            .journal()
            .into_iter()
            .map(|e| (e.trial_ms, e.raw))
            .collect(),
        refused: sim.refused.clone(),
    }
}

#[test]
fn every_story_ends_as_it_expects() {
    let stories = stories();
    assert!(stories.len() >= 6);
    let mut complaints = Vec::new();
    for (path, story) in &stories {
        assert!(
            !story.expect.is_empty(),
            "{} expects nothing",
            path.display()
        );
        let Told { journal, refused } = live(story);
        for (at, raw) in &journal {
            let body = decode(raw).unwrap().1;
            if !matches!(body, Body::Delivered(_) | Body::Checkpoint(_)) {
                println!("{} {:>8} s  {body:?}", story.name, at / 1_000);
            }
        }
        println!("{} refused: {refused:?}", story.name);
        complaints.extend(story.complaints(&journal));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn an_expectation_that_is_not_met_is_named() {
    let mut story = stories()
        .into_iter()
        .find(|(_, story)| story.name == "occlusion")
        .unwrap()
        .1;
    story.expect.truncate(1);
    story.expect[0].kind = "door".into();
    let complaints = story.complaints(&live(&story).journal);
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].contains("door"), "{complaints:?}");
}

/// Counters never fall, whatever goes wrong, and delivered is what the encoder confirmed.
#[test]
fn in_every_story_the_counters_never_fall_and_seq_has_no_hole() {
    for (_, story) in stories() {
        let mut last = (0, 0, 0);
        for (i, (_, raw)) in live(&story).journal.iter().enumerate() {
            let (head, body) = decode(raw).unwrap();
            assert_eq!(head.seq, u64::try_from(i).unwrap() + 1, "{}", story.name);
            if let Body::Delivered(d) = body {
                let now = (d.delivered_nl, d.programmed_nl, d.encoder_counts);
                assert!(
                    now.0 >= last.0 && now.1 >= last.1 && now.2 >= last.2,
                    "{}",
                    story.name
                );
                last = now;
            }
        }
    }
}
