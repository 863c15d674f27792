//! The demo as a newcomer runs it, small: one command from keypad to verdict.
#![cfg(all(feature = "sim", feature = "tui", feature = "analysis"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn demo(out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thecal"))
        .args([
            "demo",
            "--headless",
            "--beds",
            "2",
            "--days",
            "2",
            "--seed",
            "7",
            "--speed",
            "20000",
            "--out",
        ])
        .arg(out)
        .args(more)
        .output()
        .unwrap()
}

/// The verdict without what the moments of a run decide: the digest of all rows, and the ids of the
/// gateway's own events.
fn numbers(out: &Path, trial: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(out.join(trial).join("verdict.json")).unwrap();
    let mut verdict: serde_json::Value = serde_json::from_str(&text).unwrap();
    verdict.as_object_mut().unwrap().remove("record_digest");
    drop_ids(&mut verdict);
    verdict
}

fn drop_ids(value: &mut serde_json::Value) {
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, member| name != "events" || !member.is_array());
        members.values_mut().for_each(drop_ids);
    } else if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(drop_ids);
    }
}

#[test]
fn the_same_seed_gives_the_same_numbers_records_that_verify_and_verdicts_of_the_published_form() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verdict.schema.json");
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for out in [&first, &second] {
        let done = demo(out, &[]);
        let (stdout, stderr) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(done.status.success(), "{stderr}");
        let lines: Vec<_> = stdout.lines().collect();
        assert_eq!(lines.len(), 2, "{stdout}");
        for (i, line) in lines.iter().enumerate() {
            let trial = format!("T-000{}", i + 1);
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words[0], trial);
            assert!(Path::new(words[2]).is_file(), "{line}");
            let verdict = numbers(out, &trial);
            assert_eq!(verdict["verdict"], words[1]);
            let whole = std::fs::read_to_string(out.join(&trial).join("verdict.json")).unwrap();
            let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
            if let Err(e) = validator.validate(&whole) {
                panic!("{trial}: {e}");
            }
            let record = out.join(format!("{trial}.thecal"));
            let report =
                record::verify::verify(&record, &record::verify::Options::default()).unwrap();
            assert_eq!(
                report.evidence,
                record::verify::Evidence::Complete,
                "{}",
                report.line(&record)
            );
        }
    }
    for trial in ["T-0001", "T-0002"] {
        assert_eq!(numbers(&first, trial), numbers(&second, trial), "{trial}");
    }
    // A lost record is made again from the bedside box.
    let recovered = folder.path().join("again.thecal");
    let done =
        record::recover::recover(&first.join("bedside/gw-01.spool"), "T-0001", &recovered).unwrap();
    assert_eq!(done.holes, Vec::<String>::new());
    let report = record::verify::verify(&recovered, &record::verify::Options::default()).unwrap();
    assert_eq!(
        report.evidence,
        record::verify::Evidence::Complete,
        "{}",
        report.line(&recovered)
    );
}

#[test]
fn a_folder_that_no_demo_made_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    let done = demo(folder.path(), &[]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("something else than a demo's results"));
    assert_eq!(
        std::fs::read_to_string(folder.path().join("thesis.txt")).unwrap(),
        "mine"
    );
}

#[test]
fn in_a_terminal_the_dashboard_is_shown_and_the_terminal_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let pty = portable_pty::native_pty_system();
    let (rows, columns) = (NonZero::new(40).unwrap(), NonZero::new(120).unwrap());
    let size = portable_pty::PtySize {
        rows: rows.get(),
        cols: columns.get(),
        pixel_width: 0,
        pixel_height: 0,
    };
    let pair = pty.openpty(size).unwrap();
    let mut command = portable_pty::CommandBuilder::new(env!("CARGO_BIN_EXE_thecal"));
    command.args([
        "demo", "--beds", "1", "--days", "1", "--speed", "3000", "--out",
    ]);
    command.arg(folder.path().join("out"));
    command.env("TERM", "xterm-256color");
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
    let (shown, mut reader) = (screen.clone(), pair.master.try_clone_reader().unwrap());
    let drawing = std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(n) = reader.read(&mut buffer) {
            if n == 0 {
                break;
            }
            shown.lock().unwrap().process(&buffer[..n]);
        }
    });
    let sees = |what: &str| screen.lock().unwrap().screen().contents().contains(what);
    let until = |what: &str| {
        for _ in 0..12_000 {
            if sees(what) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!(
            "{what:?} never came:\n{}",
            screen.lock().unwrap().screen().contents()
        );
    };
    until("SIMULATED, NOT A PATIENT");
    until("T-0001");
    let mut keys = pair.master.take_writer().unwrap();
    keys.write_all(b"\r").unwrap();
    until("BED 01");
    // By then the dashboard has said several times that it lives, and the gateway believes it.
    until("trial day 1 hour 0");
    assert!(!sees("NOT BELIEVED"));
    assert!(screen.lock().unwrap().screen().alternate_screen());
    // Ctrl-C ends everything, and nothing is left on the screen.
    keys.write_all(&[3]).unwrap();
    let status = child.wait().unwrap();
    drop(keys);
    drop(pair.master);
    let _ = drawing.join();
    assert!(!status.success());
    assert!(!screen.lock().unwrap().screen().alternate_screen());
    assert!(
        !folder.path().join("out/bedside/pump-01").is_symlink(),
        "no pty is left over"
    );
}
