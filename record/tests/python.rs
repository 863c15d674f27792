//! `docs/verify.py`, written from the documents alone, says of records what `verify` says. The
//! `tamper` lane of `evidence` holds the two against each other on altered ones.
#![expect(clippy::unwrap_used, reason = "a test may panic; that is how it fails")]

mod golden;

use golden::{PUMP, pump_pair, write_golden, write_record};
use protocol::hex::Hex;
use protocol::keys::KeyPair;
use record::verify::{Evidence, Options, verify};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::tempdir;

/// The first `python3` that has the package for Ed25519.
fn python() -> Command {
    let has_package = |name: &&str| {
        let ask = Command::new(name)
            .args(["-c", "import cryptography"])
            .output();
        ask.is_ok_and(|out| out.status.success())
    };
    let name = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(has_package);
    let mut command = Command::new(name.expect("apt-get install python3-cryptography"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verify.py"));
    command
}

/// Exit code and what the script prints.
fn script(path: &Path, more: &[&str]) -> (i32, String) {
    let out = python().arg(path).args(more).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(err, "", "{}", path.display());
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    (out.status.code().unwrap(), said)
}

#[test]
#[ignore = "needs python3 with cryptography"]
fn the_script_gives_the_same_code_word_and_first_place() {
    let dir = tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    write_golden(&at("complete"));
    let (pump, gateway) = golden::rows(1, true);
    write_record(&at("gaps"), &[&pump, &gateway], true);
    let (pump, gateway) = golden::rows(1, false);
    write_record(&at("open"), &[&pump[..20], &gateway[..2]], false);
    write_record(&at("no gateway"), &[&pump], false);
    write_record(&at("tail cut"), &[&pump[..20], &gateway], false);
    write_record(&at("bent"), &[&pump, &gateway], true);
    let db = rusqlite::Connection::open(at("bent")).unwrap();
    db.execute_batch(
        "DROP TRIGGER event_no_update; UPDATE event SET at_utc_ms = 0 WHERE kind = 'pain_score';
         CREATE TRIGGER event_no_update BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'a record only grows'); END",
    )
    .unwrap();
    drop(db);
    std::fs::write(at("no record"), "Dear diary, ".repeat(99)).unwrap();
    let names = [
        "complete",
        "gaps",
        "open",
        "no gateway",
        "tail cut",
        "bent",
        "no record",
    ];
    let mut codes = Vec::new();
    for name in names {
        let (code, said) = script(&at(name), &[]);
        codes.push(code);
        let Ok(report) = verify(&at(name), &Options::default()) else {
            assert_eq!(code, 1, "{name}: {said}");
            continue;
        };
        assert_eq!(
            code,
            i32::from(report.evidence.exit_code()),
            "{name}: {said}"
        );
        assert!(said.contains(report.evidence.words()), "{name}: {said}");
        let wrong = report
            .wrong
            .first()
            .map(|w| w.split(": ").next().unwrap().to_owned());
        let missing = report.missing.first();
        let missing = missing.map(|m| format!("{} seq {} to {}", m.source, m.from_seq, m.to_seq));
        let rest = report
            .unsigned_from
            .iter()
            .chain(&report.times_not_proven_from);
        let rest = rest
            .map(|(source, seq)| format!("{source} seq {seq}"))
            .next();
        if let Some(first) = wrong.or(missing).or(rest) {
            assert!(
                said.contains(&format!("first: {first}")),
                "{name}: {first}: {said}"
            );
        }
    }
    assert_eq!(codes, [0, 3, 3, 3, 3, 4, 1]);
    let all: Vec<String> = names.iter().map(|n| at(n).display().to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).skip(1).collect();
    assert_eq!(script(&at("complete"), &all).0, 4, "the worst of all");
    assert_eq!(
        script(&at("complete"), &[all[0], all[5]]).0,
        1,
        "1 before 3"
    );
}

#[test]
#[ignore = "needs python3 with cryptography"]
fn the_script_takes_the_same_keys() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("r.thecal");
    write_golden(&path);
    let tag = dir.path().join("pump.tag");
    let tag_path = tag.display().to_string();
    for (pair, wanted) in [
        (pump_pair(), Evidence::Complete),
        (KeyPair::from_seed([9; 32]), Evidence::Altered),
    ] {
        let code = i32::from(wanted.exit_code());
        let key = pair.public().to_string();
        assert_eq!(script(&path, &["--key", &key]).0, code);
        std::fs::write(&tag, format!("{}\n", Hex(pair.tag_secret()))).unwrap();
        let (seen, said) = script(&path, &["--tag-key", &tag_path]);
        assert_eq!(seen, code, "{said}");
        if wanted == Evidence::Altered {
            assert!(said.contains(&format!("first: {PUMP}:1:1:")), "{said}");
        }
    }
}

#[test]
fn the_page_on_the_record_holds_the_schema_as_it_is_made() {
    let page = include_str!("../../docs/record.md");
    assert!(page.contains(include_str!("../src/schema.sql")));
}
