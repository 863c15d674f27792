//! A lost record, made again from the gateway's spool.
#![expect(clippy::unwrap_used, reason = "a test may panic; that is how it fails")]

mod golden;

use golden::{GATEWAY, PUMP, TRIAL, write_spool};
use record::Record;
use record::recover::recover;
use record::store::Error;
use record::verify::{Evidence, Options, verify};
use rusqlite::Connection;
use std::path::Path;
use tempfile::tempdir;

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_whole_spool_gives_a_complete_record_with_the_same_rows() {
    let dir = tempdir().unwrap();
    let (spool, out) = (dir.path().join("a.spool"), dir.path().join("r.thecal"));
    let (pump, gateway) = golden::rows(2, false);
    write_spool(&spool, &[&pump, &gateway]);
    let done = recover(&spool, TRIAL, &out).unwrap();
    let events = u64::try_from(pump.len() + gateway.len()).unwrap();
    assert_eq!((done.events, done.sources), (events, 2));
    assert_eq!(done.holes, Vec::<String>::new());
    let report = verify(&out, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Complete, "{report:?}");
    // Rows, and so the digest, are those of the record that the recorder made.
    let first = dir.path().join("first.thecal");
    golden::write_record(&first, &[&pump, &gateway], true);
    let first = verify(&first, &Options::default()).unwrap();
    assert_eq!(report.digest, first.digest);
    let record = Record::open_read_only(&out).unwrap();
    for (key, value) in golden::words() {
        assert_eq!(record.meta(&key).unwrap(), Some(value), "{key}");
    }
    assert_eq!(record.meta("closed").unwrap(), Some("planned".into()));
    drop(record);
    assert_eq!(files(dir.path()), ["a.spool", "first.thecal", "r.thecal"]);
}

#[test]
fn what_the_spool_lacks_is_a_named_hole() {
    let dir = tempdir().unwrap();
    let (spool, out) = (dir.path().join("a.spool"), dir.path().join("r.thecal"));
    let (pump, gateway) = golden::rows(2, true);
    let (from, to) = golden::hole_of(&pump);
    write_spool(&spool, &[&pump[2..9], &pump[10..], &gateway]);
    let done = recover(&spool, TRIAL, &out).unwrap();
    let why = "not in the spool that this was recovered from";
    assert_eq!(
        done.holes,
        [
            format!("{PUMP} seq 1 to 2 missing ({why})"),
            format!("{PUMP} seq 10 to 10 missing ({why})"),
            format!(
                "{PUMP} seq {from} to {to} missing (lost in the pump's journal, declared by the pump)"
            ),
        ]
    );
    let report = verify(&out, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Gaps, "{:?}", report.wrong);
    let named: Vec<String> = report.missing.iter().map(ToString::to_string).collect();
    assert_eq!(named, done.holes);
}

#[test]
fn a_spool_of_a_trial_that_still_runs_gives_an_open_record() {
    let dir = tempdir().unwrap();
    let (spool, out) = (dir.path().join("a.spool"), dir.path().join("r.thecal"));
    let (pump, gateway) = golden::rows(2, false);
    write_spool(&spool, &[&pump[..30], &gateway[..2]]);
    recover(&spool, TRIAL, &out).unwrap();
    let report = verify(&out, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Open);
    assert_eq!(report.times_not_proven_from, [(PUMP.to_owned(), 1)]);
}

#[test]
fn a_damaged_row_of_the_spool_is_left_out_and_named() {
    let dir = tempdir().unwrap();
    let (spool, out) = (dir.path().join("a.spool"), dir.path().join("r.thecal"));
    let (pump, gateway) = golden::rows(1, false);
    write_spool(&spool, &[&pump, &gateway]);
    let last = gateway[gateway.len() - 1].seq;
    let db = Connection::open(&spool).unwrap();
    db.execute_batch(&format!(
        "UPDATE event SET tag = x'00' WHERE trial = '{TRIAL}' AND source = '{PUMP}' AND seq = 4;
         UPDATE event SET body = 'no' WHERE trial = '{TRIAL}' AND source = '{GATEWAY}' AND seq = {last};"
    ))
    .unwrap();
    drop(db);
    let done = recover(&spool, TRIAL, &out).unwrap();
    assert_eq!(
        done.holes,
        [
            "EP-0193 seq 4 to 4 missing (a row of the spool is damaged: EP-0193:1:4: tag is not 16 bytes)".to_owned(),
            format!("{GATEWAY} seq {last} to {last} missing (a row of the spool is damaged: {GATEWAY}:1:{last}: body is no JSON)"),
        ]
    );
    let report = verify(&out, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Gaps, "{:?}", report.wrong);
    assert_eq!(report.missing.len(), 2, "{:?}", report.missing);
}

#[test]
fn nothing_is_written_over_and_an_unknown_trial_names_those_there_are() {
    let dir = tempdir().unwrap();
    let (spool, out) = (dir.path().join("a.spool"), dir.path().join("r.thecal"));
    let (pump, gateway) = golden::rows(1, false);
    write_spool(&spool, &[&pump, &gateway]);
    let error = recover(&spool, "T-0009", &out).unwrap_err().to_string();
    assert!(
        error.ends_with("trial T-0009: not in this spool, which holds T-0001, T-0002"),
        "{error}"
    );
    std::fs::write(&out, "mine").unwrap();
    assert!(matches!(
        recover(&spool, TRIAL, &out),
        Err(Error::Exists(_))
    ));
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    let missing = dir.path().join("none.spool");
    assert!(matches!(
        recover(&missing, TRIAL, &dir.path().join("x")),
        Err(Error::Missing(_))
    ));
    let nowhere = dir.path().join("no-folder").join("x.thecal");
    assert!(recover(&spool, TRIAL, &nowhere).is_err());
    assert_eq!(files(dir.path()), ["a.spool", "r.thecal"]);
}
