//! What `verify` says of whole, open, torn and foreign files.
#![expect(clippy::unwrap_used, reason = "a test may panic; that is how it fails")]

mod golden;

use golden::{GATEWAY, PUMP, TRIAL, gateway_pair, pump_pair, write_golden, write_record};
use protocol::keys::{KeyPair, fingerprint};
use record::store::Error;
use record::verify::{Evidence, Options, Report, verify};
use record::{Record, Spool};
use std::fmt::Write;
use std::path::Path;
use tempfile::tempdir;

fn plain(path: &Path) -> Report {
    verify(path, &Options::default()).unwrap()
}

#[test]
fn a_whole_sealed_record_is_complete_and_leaves_no_other_file() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("T-0001.thecal");
    let (pump, gateway) = write_golden(&path);
    let report = plain(&path);
    assert_eq!(report.evidence, Evidence::Complete, "{:?}", report.wrong);
    assert_eq!(
        report.events,
        u64::try_from(pump.len() + gateway.len()).unwrap()
    );
    assert_eq!(report.trial_id, TRIAL);
    assert_eq!(report.missing, []);
    assert_eq!(report.times_not_proven_from, []);
    assert_eq!(report.key, Some(fingerprint(&pump_pair().public())));
    assert!(report.key_from_record);
    let gateway_key = fingerprint(&gateway_pair().public());
    assert_eq!(report.gateway_keys, [(GATEWAY.into(), gateway_key)]);
    assert_eq!(report.sealed_by.len(), 1);
    let digest = Record::open_read_only(&path).unwrap().digest().unwrap();
    assert_eq!(report.digest, digest);
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let line = report.line(&path);
    assert!(
        line.contains("COMPLETE") && line.contains("key taken from the record"),
        "{line}"
    );
}

#[test]
fn the_right_key_and_the_right_tag_secret_hold_and_others_do_not() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    write_golden(&path);
    let other = KeyPair::from_seed([9; 32]);
    let cases = [
        (Some(pump_pair().public()), None, Evidence::Complete),
        (None, Some(pump_pair().tag_secret()), Evidence::Complete),
        (Some(other.public()), None, Evidence::Altered),
        (None, Some(other.tag_secret()), Evidence::Altered),
    ];
    for (key, tag_secret, wanted) in cases {
        let checked = verify(&path, &Options { key, tag_secret }).unwrap();
        assert_eq!(checked.evidence, wanted, "{key:?} {:?}", checked.wrong);
        assert_eq!(checked.key_from_record, key.is_none());
        assert_eq!(checked.tags_checked, tag_secret.is_some());
    }
}

#[test]
fn a_record_as_json_holds_what_the_line_says() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    write_golden(&path);
    let json = serde_json::to_value(plain(&path)).unwrap();
    assert_eq!(json["evidence"], "complete");
    assert_eq!(json["trial_id"], TRIAL);
    assert_eq!(json["sources"][0][0], PUMP);
    assert_eq!(json["digest"].as_str().unwrap().len(), 64);
}

#[test]
fn a_record_that_is_not_closed_is_unsigned_from_the_last_checkpoint_on() {
    let dir = tempdir().unwrap();
    let (pump, gateway) = golden::rows(2, false);
    let checkpoints: Vec<usize> = (0..pump.len())
        .filter(|i| pump[*i].kind == "checkpoint")
        .collect();
    assert!(checkpoints.len() > 4);
    for (n, at) in checkpoints.iter().enumerate().rev().skip(1) {
        for cut in [*at + 1, *at + 3] {
            let path = dir.path().join(format!("cut-{n}-{cut}.thecal"));
            write_record(&path, &[&pump[..cut], &gateway[..3]], false);
            let report = plain(&path);
            assert_eq!(report.evidence, Evidence::Open, "{cut}: {:?}", report.wrong);
            let last_proven = checkpoints
                .iter()
                .filter(|c| **c < cut)
                .max()
                .map(|c| pump[*c].seq)
                .unwrap();
            let wanted = (PUMP.to_owned(), last_proven + 1);
            assert!(report.unsigned_from.contains(&wanted), "{report:?}");
        }
    }
}

#[test]
fn a_tail_that_was_cut_from_a_sealed_record_is_named() {
    let dir = tempdir().unwrap();
    let (pump, gateway) = golden::rows(2, false);
    let last = pump[pump.len() - 1].seq;
    for cut in [1, 2, 30, pump.len() - 1] {
        let path = dir.path().join(format!("{cut}.thecal"));
        let rest = &pump[..pump.len() - cut];
        write_record(&path, &[rest, &gateway], false);
        let report = plain(&path);
        assert_eq!(report.evidence, Evidence::Gaps, "{cut}");
        let from = rest[rest.len() - 1].seq + 1;
        let named = report.missing.iter().find(|m| m.source == PUMP).unwrap();
        assert_eq!((named.from_seq, named.to_seq), (from, last), "{cut}");
        assert_eq!(report.missing.len(), 1);
    }
}

#[test]
fn without_a_gateways_chain_no_time_is_proven() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    let (pump, _) = golden::rows(2, false);
    write_record(&path, &[&pump], true);
    let report = plain(&path);
    assert_eq!(report.evidence, Evidence::Open, "{:?}", report.wrong);
    assert_eq!(report.times_not_proven_from, [(PUMP.to_owned(), 1)]);
    assert!(
        report
            .line(&path)
            .contains("EP-0193 times not proven from seq 1")
    );
}

#[test]
fn rows_after_the_last_digest_are_without_proven_times() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    let (pump, gateway) = golden::rows(2, false);
    let digests = gateway
        .iter()
        .filter(|row| row.kind == "stored" && row.body["source"] == PUMP);
    let first = digests.clone().next().unwrap().body["to_seq"]
        .as_u64()
        .unwrap();
    let until = gateway.iter().position(|row| row.kind == "stored").unwrap();
    assert!(digests.count() >= 2);
    // The gateway's chain ends after its first digest.
    write_record(&path, &[&pump, &gateway[..=until]], false);
    let report = plain(&path);
    assert_eq!(report.evidence, Evidence::Open);
    assert_eq!(report.times_not_proven_from, [(PUMP.to_owned(), first + 1)]);
    assert!(
        report
            .unsigned_from
            .iter()
            .any(|(source, _)| source == GATEWAY)
    );
}

#[test]
fn a_hole_that_the_pump_declared_is_named_with_its_reason_and_a_digest_over_it_holds() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    let (pump, gateway) = golden::rows(2, true);
    let (from_seq, to_seq) = golden::hole_of(&pump);
    for sealed in [true, false] {
        let _ = std::fs::remove_file(&path);
        write_record(&path, &[&pump, &gateway], sealed);
        for tag_secret in [None, Some(pump_pair().tag_secret())] {
            let key = None;
            let report = verify(&path, &Options { key, tag_secret }).unwrap();
            assert_eq!(report.evidence, Evidence::Gaps, "{:?}", report.wrong);
            assert_eq!(report.missing.len(), 1);
            let hole = &report.missing[0];
            assert_eq!((hole.from_seq, hole.to_seq), (from_seq, to_seq));
            assert_eq!(
                hole.reason,
                "lost in the pump's journal, declared by the pump"
            );
            assert_eq!(report.times_not_proven_from, []);
            assert!(report.not_proven > 0);
        }
    }
}

#[test]
fn a_hole_that_was_noted_and_filled_later_counts_no_more() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    let (pump, gateway) = golden::rows(1, false);
    write_record(&path, &[&pump[..5], &pump[9..], &gateway], false);
    let record = Record::open_or_create(&path).unwrap();
    let hole = record::trial_record::Hole {
        source: PUMP.into(),
        from_seq: 6,
        to_seq: 9,
        reason: "not received".into(),
        noted_at_utc_ms: golden::START,
    };
    record.note_hole(&hole).unwrap();
    drop(record);
    let torn = plain(&path);
    assert_eq!((torn.evidence, torn.missing.len()), (Evidence::Gaps, 1));
    assert_eq!(
        torn.missing[0].to_string(),
        "EP-0193 seq 6 to 9 missing (not received)"
    );
    let mut record = Record::open_or_create(&path).unwrap();
    record.append(&pump[5..9], golden::START).unwrap();
    drop(record);
    assert_eq!(plain(&path).evidence, Evidence::Complete);
}

#[test]
fn files_that_are_no_record_are_named_for_what_they_are() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_golden(&at("good.thecal"));
    let good = std::fs::read(at("good.thecal")).unwrap();
    std::fs::write(at("empty"), b"").unwrap();
    std::fs::write(at("text"), "Dear diary, ".repeat(200)).unwrap();
    std::fs::write(at("short"), &good[..good.len() / 2]).unwrap();
    std::fs::write(at("header"), &good[..100]).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    drop(Spool::open(&at("a.spool")).unwrap());
    rusqlite::Connection::open(at("other.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t(a)")
        .unwrap();
    std::fs::copy(at("good.thecal"), at("later")).unwrap();
    rusqlite::Connection::open(at("later"))
        .unwrap()
        .execute_batch("PRAGMA user_version=2")
        .unwrap();
    let cases = [
        ("none", "no such file"),
        ("empty", "the file is empty"),
        ("text", "no SQLite database"),
        ("short", "damaged or cut short"),
        ("header", ""),
        ("folder", "it is a folder"),
        ("a.spool", "it is a gateway's spool"),
        ("other.db", "application_id is 0x0"),
        ("later", "record of version 2, this program reads version 1"),
    ];
    for (name, wanted) in cases {
        let error = verify(&at(name), &Options::default()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains(wanted),
            "{name}: {text}"
        );
        assert!(!text.contains('\n'), "{text}");
    }
    assert!(matches!(
        Record::open_or_create(&at("folder")),
        Err(Error::Foreign { .. })
    ));
    assert!(matches!(
        Record::open_or_create(&at("a.spool")),
        Err(Error::Foreign { .. })
    ));
}

#[test]
fn a_record_whose_writer_was_killed_is_read_with_its_wal() {
    let dir = tempdir().unwrap();
    let (path, copy) = (
        dir.path().join("r.thecal"),
        dir.path().join("odd #1?%.thecal"),
    );
    let (pump, gateway) = golden::rows(1, false);
    let mut record = Record::create(&path).unwrap();
    for (key, value) in golden::words() {
        record.set_meta(&key, &value).unwrap();
    }
    record.append(&pump, golden::START).unwrap();
    record.append(&gateway, golden::START).unwrap();
    // A copy of both files now is what a power cut would leave.
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", path.display());
        std::fs::copy(from, format!("{}{suffix}", copy.display())).unwrap();
    }
    drop(record);
    let report = plain(&copy);
    assert_eq!(report.evidence, Evidence::Complete, "{:?}", report.wrong);
}

#[test]
fn any_flipped_byte_is_found_or_changes_nothing_that_is_read() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    let (pump, gateway) = golden::rows(1, false);
    write_record(&path, &[&pump, &gateway], true);
    let good = std::fs::read(&path).unwrap();
    let whole = dump(&path).unwrap();
    let step = 97;
    let mut found = 0;
    for at in (0..good.len()).step_by(step) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        std::fs::write(&path, &bytes).unwrap();
        let evidence = verify(&path, &Options::default()).map(|report| report.evidence);
        match evidence {
            Ok(Evidence::Complete) => {
                assert_eq!(dump(&path).unwrap(), whole, "byte {at}");
            }
            Ok(Evidence::Altered) | Err(_) => found += 1,
            Ok(other) => panic!("byte {at}: {other:?}"),
        }
    }
    let tried = good.len().div_ceil(step);
    println!("{found} of {tried} flips found, the others hit bytes that nothing reads");
    assert!(found * 3 > tried, "{found} of {tried}");
}

/// All that a reader of the record can see, but for the words that nothing proves.
fn dump(path: &Path) -> rusqlite::Result<String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=1", path.display());
    let db = rusqlite::Connection::open_with_flags(uri, flags)?;
    let mut out = String::new();
    for sql in [
        "SELECT * FROM event ORDER BY source, seq",
        "SELECT * FROM trial WHERE key <> 'closed' ORDER BY key",
        "SELECT * FROM receipt ORDER BY rowid",
    ] {
        let mut query = db.prepare(sql)?;
        let columns = query.column_count();
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                write!(out, "{:?}|", row.get_ref(column)?).expect("a text always takes more");
            }
            out.push('\n');
        }
    }
    Ok(out)
}
