//! Each story in `scenarios/` is lived at each of its moments and its journal held against what it
//! expects.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

use device_sim::scenario::Scenario;
use device_sim::story::live;
use protocol::event::{Body, decode};
use std::path::PathBuf;

fn stories() -> Vec<(PathBuf, Scenario)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .filter(|path| path.file_stem().is_some_and(|name| name != "faults"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let all = Scenario::parse_all(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(all[0].name, name, "a story has the name of its file");
        all.into_iter().map(move |story| (path.clone(), story))
    };
    files.into_iter().flat_map(read).collect()
}

#[test]
fn every_story_ends_as_it_expects() {
    let stories = stories();
    assert!(stories.len() >= 6);
    // One story needs nothing of another: half of them on each of two threads.
    let halves: Vec<Vec<String>> = std::thread::scope(|scope| {
        let stories = &stories;
        let half = |odd: usize| {
            scope.spawn(move || {
                let mine = stories.iter().enumerate().filter(|(i, _)| i % 2 == odd);
                mine.flat_map(|(_, (path, story))| complaints(path, story))
                    .collect()
            })
        };
        let threads = [half(0), half(1)];
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let complaints = halves.concat();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn complaints(path: &std::path::Path, story: &Scenario) -> Vec<String> {
    assert!(
        !story.expect.is_empty() || story.bedside.is_some(),
        "{} expects nothing",
        path.display()
    );
    let lived = live(story).unwrap();
    if !lived.complaints.is_empty() {
        for (at, raw) in &lived.journal {
            let body = decode(raw).unwrap().1;
            if !matches!(body, Body::Delivered(_) | Body::Checkpoint(_)) {
                println!("{} {:>8} s  {body:?}", story.title(), at / 1_000);
            }
        }
        let more = lived
            .told
            .iter()
            .filter(|(_, kind, _)| kind == "refused" || kind == "face");
        for (at, kind, fields) in more {
            println!("{} {:>8} s  {kind} {fields}", story.title(), at / 1_000);
        }
    }
    lived.complaints
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
    story.only_alarms = Some(vec!["air_in_line".into()]);
    let complaints = live(&story).unwrap().complaints;
    assert!(complaints[0].contains("door"), "{complaints:?}");
    assert!(
        complaints[1].contains("downstream_occlusion at"),
        "{complaints:?}"
    );
}
