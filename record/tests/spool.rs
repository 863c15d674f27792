//! The gateway's spool: what an append says, what receipts free, who may open it.
#![expect(clippy::unwrap_used, reason = "a test may panic; that is how it fails")]

mod golden;

use golden::{GATEWAY, PUMP, START, TRIAL};
use protocol::hex::Hex;
use record::spool::{KEPT_AFTER_RECEIPT_MS, Outcome};
use record::store::Error;
use record::{Record, Spool};
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

#[test]
fn an_append_says_of_each_row_what_became_of_it() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.spool");
    let (pump, _) = golden::rows(1, false);
    let mut spool = Spool::open(&path).unwrap();
    let outcomes = |spool: &mut Spool, rows: &[protocol::topics::EventRow]| {
        spool.append(rows.iter().map(|row| (TRIAL, row))).unwrap()
    };
    assert_eq!(
        outcomes(&mut spool, &pump[..3]),
        [const { Outcome::Stored }; 3]
    );
    let mut forged = pump[1].clone();
    forged.tag = Hex([7; 16]);
    let mut late = pump[2].clone();
    late.received_at_utc_ms += 900;
    let mixed = [pump[0].clone(), forged.clone(), late, pump[3].clone()];
    assert_eq!(
        outcomes(&mut spool, &mixed),
        [
            Outcome::Repeat,
            Outcome::Conflict,
            Outcome::Repeat,
            Outcome::Stored
        ]
    );
    let aside = spool.quarantined(TRIAL).unwrap();
    assert_eq!(aside.len(), 1);
    assert_eq!((aside[0].seq, &aside[0].tag), (2, &vec![7; 16]));
    // A repeat changes nothing, not even the time of receipt.
    drop(spool);
    let spool = Spool::open(&path).unwrap();
    let there = spool.rows_after(TRIAL, PUMP, 0, 99).unwrap();
    let there: Vec<_> = there.into_iter().map(|stored| stored.row).collect();
    assert_eq!(there, pump[..4]);
    assert_eq!(spool.last_seq(TRIAL, PUMP).unwrap(), 4);
    assert_eq!(spool.rows_after(TRIAL, PUMP, 2, 1).unwrap()[0].row, pump[2]);
    assert_eq!(spool.sources().unwrap(), [(TRIAL.into(), PUMP.into())]);
}

#[test]
fn what_a_killed_writer_left_in_the_log_is_written_anew_before_it_counts() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (pump, _) = golden::rows(1, false);
    let mut spool = Spool::open(&at("a.spool")).unwrap();
    spool.append(pump.iter().map(|row| (TRIAL, row))).unwrap();
    // What a kill leaves; then another process opens it.
    std::fs::copy(at("a.spool"), at("b.spool")).unwrap();
    std::fs::copy(at("a.spool-wal"), at("b.spool-wal")).unwrap();
    let opened = Spool::open(&at("b.spool")).unwrap();
    // The log's pages may be on no medium (a sync of them failed): the file must do without them.
    std::fs::copy(at("b.spool"), at("c.spool")).unwrap();
    let alone = Spool::open_read_only(&at("c.spool")).unwrap();
    let rows = |spool: &Spool| spool.rows_after(TRIAL, PUMP, 0, 9_999).unwrap().len();
    assert_eq!((rows(&alone), rows(&opened)), (pump.len(), pump.len()));
}

#[test]
fn words_and_sessions_stay_as_they_were_first_said() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.spool");
    let spool = Spool::open(&path).unwrap();
    spool.set_meta(TRIAL, "bed", "07").unwrap();
    spool.set_meta(TRIAL, "bed", "08").unwrap();
    assert_eq!(spool.begin_session(START).unwrap(), 1);
    drop(spool);
    let spool = Spool::open(&path).unwrap();
    assert_eq!(spool.begin_session(START).unwrap(), 2);
    assert_eq!(spool.meta(TRIAL, "bed").unwrap(), Some("07".into()));
    assert_eq!(spool.meta("T-0002", "bed").unwrap(), None);
    assert_eq!(spool.words(TRIAL).unwrap(), [("bed".into(), "07".into())]);
    assert_eq!(spool.trials().unwrap(), [TRIAL]);
}

#[test]
fn only_rows_of_closed_trials_with_an_old_receipt_are_pruned() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.spool");
    let (pump, gateway) = golden::rows(1, false);
    let mut spool = Spool::open(&path).unwrap();
    spool.append(pump.iter().map(|row| (TRIAL, row))).unwrap();
    spool
        .append(gateway.iter().map(|row| (TRIAL, row)))
        .unwrap();
    spool
        .append(pump.iter().map(|row| ("T-0002", row)))
        .unwrap();
    assert_eq!(spool.receipted(TRIAL, PUMP).unwrap(), 0);
    for trial in [TRIAL, "T-0002"] {
        spool
            .note_receipt(trial, PUMP, "ward-1", 10, START)
            .unwrap();
        let later = START + KEPT_AFTER_RECEIPT_MS;
        spool
            .note_receipt(trial, PUMP, "ward-1", 20, later)
            .unwrap();
    }
    assert_eq!(spool.receipted(TRIAL, PUMP).unwrap(), 20);
    let due = START + KEPT_AFTER_RECEIPT_MS;
    assert_eq!(spool.prune(due + 1, &[]).unwrap(), 0, "the trial is open");
    spool.set_meta(TRIAL, "closed", "planned").unwrap();
    assert_eq!(spool.prune(due, &[]).unwrap(), 0, "not quite 30 days");
    assert_eq!(spool.prune(due + 1, &[TRIAL]).unwrap(), 0, "it has a bed");
    assert_eq!(spool.prune(due + 1, &[]).unwrap(), 10);
    assert_eq!(spool.rows_after(TRIAL, PUMP, 0, 1).unwrap()[0].row.seq, 11);
    assert_eq!(
        spool.rows_after(TRIAL, GATEWAY, 0, 1).unwrap()[0].row.seq,
        1
    );
    assert_eq!(
        spool.rows_after("T-0002", PUMP, 0, 1).unwrap()[0].row.seq,
        1
    );
    // A recorder that lost its records says so with a lower receipt: everything is due again.
    spool
        .note_receipt(TRIAL, PUMP, "ward-1", 0, due + 2)
        .unwrap();
    assert_eq!(spool.receipted(TRIAL, PUMP).unwrap(), 0);
    let much_later = due + 2 * KEPT_AFTER_RECEIPT_MS;
    assert_eq!(spool.prune(much_later, &[]).unwrap(), 0, "it is due again");
}

#[test]
fn a_second_opener_is_refused_and_the_next_one_after_it_is_not() {
    let dir = tempdir().unwrap();
    let (spool_path, record_path) = (dir.path().join("a.spool"), dir.path().join("a.thecal"));
    let spool = Spool::open(&spool_path).unwrap();
    let record = Record::open_or_create(&record_path).unwrap();
    for error in [
        Spool::open(&spool_path).unwrap_err(),
        Spool::open_read_only(&spool_path).unwrap_err(),
        Record::open_or_create(&record_path).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Busy(_)), "{error:?}");
        assert!(error.to_string().contains("another program has it open"));
    }
    // Refused openers of this process have not dropped the lock that keeps other processes out.
    assert_eq!(open_elsewhere(&spool_path), "busy");
    drop(spool);
    drop(record);
    assert_eq!(open_elsewhere(&spool_path), "opened");
    Spool::open(&spool_path).unwrap();
    Record::open_or_create(&record_path).unwrap();
}

const ELSEWHERE: &str = "THECAL_TEST_OPEN_SPOOL";

/// Opens a spool in a process of its own: this test file again, asked for one test.
fn open_elsewhere(path: &Path) -> String {
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process_opens", "--nocapture"])
        .env(ELSEWHERE, path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let word = said.split("said=").nth(1).unwrap_or(&said);
    word.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn another_process_opens() {
    let Some(path) = std::env::var_os(ELSEWHERE) else {
        return;
    };
    let said = match Spool::open(Path::new(&path)) {
        Ok(_) => "opened",
        Err(Error::Busy(_)) => "busy",
        Err(_) => "failed",
    };
    println!("said={said} ");
}

#[test]
fn a_record_sets_conflicts_aside_and_its_rows_cannot_be_changed() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.thecal");
    let (pump, _) = golden::rows(1, false);
    let mut record = Record::create(&path).unwrap();
    let first = record.append(&pump[..3], START).unwrap();
    assert_eq!((first.new, first.repeats, first.conflicts.len()), (3, 0, 0));
    let mut forged = pump[1].clone();
    forged.raw[5] ^= 1;
    let second = record
        .append(&[pump[0].clone(), forged, pump[3].clone()], START)
        .unwrap();
    assert_eq!((second.new, second.repeats), (1, 1));
    assert_eq!(second.conflicts, ["EP-0193:1:2"]);
    assert_eq!(record.quarantined().unwrap(), 1);
    record.set_meta("bed", "07").unwrap();
    record.set_meta("bed", "07").unwrap();
    assert!(record.set_meta("bed", "08").is_err());
    drop(record);
    let db = rusqlite::Connection::open(&path).unwrap();
    for sql in [
        "UPDATE event SET boot = 2",
        "DELETE FROM event",
        "DELETE FROM quarantine",
    ] {
        let error = db.execute(sql, []).unwrap_err();
        assert!(error.to_string().contains("a record only grows"), "{sql}");
    }
    assert!(matches!(Record::create(&path), Err(Error::Exists(_))));
}

/// A power cut between the making of a file and its first commit leaves SQLite's header alone.
fn bare_file(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .unwrap();
    drop(db);
    assert!(path.metadata().unwrap().len() > 0);
}

#[test]
fn a_file_whose_maker_lost_power_before_its_first_commit_is_made_anew() {
    let dir = tempdir().unwrap();
    let spool = dir.path().join("a.spool");
    bare_file(&spool);
    let (pump, _) = golden::rows(1, false);
    let mut opened = Spool::open(&spool).unwrap();
    opened.append(pump.iter().map(|row| (TRIAL, row))).unwrap();
    drop(opened);
    let opened = Spool::open(&spool).unwrap();
    let seq = opened.last_seq(TRIAL, PUMP).unwrap();
    assert_eq!(seq, pump.last().unwrap().seq);
    let record = dir.path().join("a.thecal");
    bare_file(&record);
    let mut opened = Record::open_or_create(&record).unwrap();
    assert_eq!(opened.append(&pump[..3], START).unwrap().new, 3);
    // A file with anything of anybody in it is not ours to take.
    let foreign = dir.path().join("b.spool");
    bare_file(&foreign);
    let db = rusqlite::Connection::open(&foreign).unwrap();
    db.execute_batch("CREATE TABLE theirs (a)").unwrap();
    drop(db);
    let refused = Spool::open(&foreign).unwrap_err();
    assert!(matches!(refused, Error::Foreign { .. }), "{refused}");
}
