//! Threats against a record that are no edits of it: a gateway that drops events (S5), text that
//! is SQL (S16), another trial's events (S3, S20).
#![expect(clippy::unwrap_used, reason = "a test may panic; that is how it fails")]

mod golden;

use golden::{GATEWAY, PUMP, START, write_record};
use protocol::topics::EventRow;
use record::Record;
use record::trial_record::Hole;
use record::verify::{Evidence, Options, verify};
use std::path::Path;
use tempfile::tempdir;

#[test]
fn each_event_that_a_gateway_drops_is_named() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    let (pump, gateway) = golden::rows(2, false);
    let kept: Vec<EventRow> = pump
        .iter()
        .filter(|row| row.seq % 7 != 0)
        .cloned()
        .collect();
    write_record(&path, &[&kept, &gateway], true);
    let report = verify(&path, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Gaps, "{:?}", report.wrong);
    let named: Vec<u64> = report.missing.iter().map(|m| m.from_seq).collect();
    let dropped: Vec<u64> = pump
        .iter()
        .map(|r| r.seq)
        .filter(|seq| seq % 7 == 0)
        .collect();
    assert_eq!(named, dropped);
    assert!(
        report
            .missing
            .iter()
            .all(|m| m.from_seq == m.to_seq && m.source == PUMP)
    );
    assert!(report.line(&path).contains("present, not proven"));
}

/// Texts that a careless program would run.
const SQL: [&str; 8] = [
    "'); DROP TABLE event; --",
    "\"; DELETE FROM trial; --",
    "' OR '1'='1",
    "EP-0193'; UPDATE event SET kind = 'x'; --",
    "?1",
    ":name",
    "%_[]\\",
    "x\0y'; ATTACH DATABASE 'evil' AS e; --",
];

fn everything(path: &Path) -> (u64, u64, u64) {
    let db = rusqlite::Connection::open(path).unwrap();
    let count = |table: &str| {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0))
            .unwrap()
    };
    (count("event"), count("hole"), count("quarantine"))
}

#[test]
fn sql_in_any_text_is_text() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    let (pump, gateway) = golden::rows(1, false);
    let events = u64::try_from(pump.len() + gateway.len()).unwrap();
    write_record(&path, &[&pump, &gateway], false);
    let mut record = Record::open_or_create(&path).unwrap();
    for text in SQL {
        record.set_meta(&format!("note {text}"), text).unwrap();
        assert_eq!(
            record.meta(&format!("note {text}")).unwrap().as_deref(),
            Some(text)
        );
        assert_eq!(record.meta(text).unwrap(), None);
        let hole = Hole {
            source: text.into(),
            from_seq: 1,
            to_seq: 2,
            reason: text.into(),
            noted_at_utc_ms: START,
        };
        record.note_hole(&hole).unwrap();
        record.note_hole(&hole).unwrap();
        assert!(record.holes().unwrap().contains(&hole), "{text}");
        record.quarantine(&pump[0], text, START).unwrap();
        assert_eq!(record.events_of(text, 0, 9).unwrap(), []);
        // A body whose text is SQL, under an identity that is taken.
        let mut row = gateway[0].clone();
        row.kind = text.into();
        row.body = serde_json::json!({ "software": text });
        row.raw = text.as_bytes().to_vec();
        assert_eq!(record.append(&[row], START).unwrap().conflicts.len(), 1);
        assert_eq!(record.rows_digest(text, 0, 9).unwrap().1, 0);
    }
    drop(record);
    let holes = u64::try_from(SQL.len()).unwrap();
    assert_eq!(everything(&path), (events, holes, 2 * holes));
    let report = verify(&path, &Options::default()).unwrap();
    assert_ne!(report.evidence, Evidence::Altered, "{:?}", report.wrong);
}

#[test]
fn sql_is_never_made_of_values() {
    // Each `format!` in a statement holds one of these and nothing else.
    let constants = ["{COLUMNS}", "{VERSION}", "{name}", "{table}", "{act}", "{}"];
    for (file, text) in [
        ("trial_record.rs", include_str!("../src/trial_record.rs")),
        ("spool.rs", include_str!("../src/spool.rs")),
        ("store.rs", include_str!("../src/store.rs")),
        ("verify/check.rs", include_str!("../src/verify/check.rs")),
        ("recover.rs", include_str!("../src/recover.rs")),
    ] {
        for (line, words) in text.lines().enumerate() {
            let statement = ["SELECT ", "INSERT ", "DELETE FROM", "UPDATE ", "CREATE "];
            if !statement.iter().any(|word| words.contains(word)) || words.contains("//") {
                continue;
            }
            let mut rest = words;
            while let Some((_, behind)) = rest.split_once('{') {
                let (inside, after) = behind.split_once('}').unwrap_or((behind, ""));
                let hole = format!("{{{inside}}}");
                assert!(
                    constants.contains(&hole.as_str()),
                    "{file}:{}: {words}",
                    line + 1
                );
                rest = after;
            }
        }
    }
}

#[test]
fn a_trial_that_is_replayed_into_another_proves_nothing_there() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    let (pump, gateway) = golden::rows(1, false);
    write_record(&path, &[&pump, &gateway], false);
    // The same rows under the manifest of another trial, signed by the same people.
    let other = golden::manifest();
    let mut manifest = other.open().unwrap();
    manifest.trial_id = Some("T-0002".into());
    let signed = manifest
        .sign(&protocol::keys::KeyPair::from_seed([4; 32]))
        .unwrap();
    let replayed = dir.path().join("T-0002.thecal");
    let mut record = Record::create(&replayed).unwrap();
    for (key, value) in golden::words() {
        let value = match key.as_str() {
            "trial_id" => "T-0002".into(),
            "manifest" => serde_json::to_string(&signed).unwrap(),
            _ => value,
        };
        record.set_meta(&key, &value).unwrap();
    }
    record.append(&pump, START).unwrap();
    drop(record);
    let report = verify(&replayed, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Altered);
    assert!(
        report.wrong[0].starts_with(&format!("{PUMP}:1:2: the checkpoint's signature")),
        "{:?}",
        report.wrong
    );
    // The gateway's own events name their trial.
    let mut record = Record::open_or_create(&replayed).unwrap();
    record.append(&gateway, START).unwrap();
    drop(record);
    let report = verify(&replayed, &Options::default()).unwrap();
    let named = |w: &String| w.starts_with(&format!("{GATEWAY}: "));
    assert!(report.wrong.iter().any(named), "{:?}", report.wrong);
}
