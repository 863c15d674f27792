//! What people type, and what they get: exit codes, and messages that name what and where.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

fn thecal(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thecal"))
        .args(args)
        .output()
        .unwrap()
}

/// Exit code, and what stderr must hold.
fn fails(args: &[&str], code: i32, words: &[&str]) {
    let out = thecal(args);
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
    for word in words {
        assert!(err.contains(word), "{args:?}: {word:?} is not in {err}");
    }
}

#[test]
fn wrong_usage_is_2_and_names_the_argument() {
    fails(&["verify"], 2, &["<RECORD>"]);
    fails(&["gateway", "--bed", "07"], 2, &["--port"]);
    fails(
        &["broker", "--site", "a/b"],
        2,
        &["--site", "A-Z a-z 0-9 . _ -"],
    );
    fails(
        &["recorder", "--broker", "http://x", "--records", "r"],
        2,
        &["mqtt://HOST"],
    );
    fails(&["broker", "--clock", "yesterday"], 2, &["RFC3339@N"]);
}

#[test]
fn help_is_complete_and_has_examples() {
    let out = thecal(&["--help"]);
    let text = String::from_utf8(out.stdout).unwrap();
    for word in [
        "Examples:",
        "gateway",
        "recorder",
        "verify",
        "Not a cleared medical device",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn files_that_are_no_records_are_named_and_give_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        path("text.thecal"),
        "not a database, but long enough to look like a file\n".repeat(40),
    )
    .unwrap();
    std::fs::write(path("empty.thecal"), "").unwrap();
    fails(
        &["verify", &path("none.thecal")],
        1,
        &["none.thecal", "no such file"],
    );
    fails(&["verify", &path("text.thecal")], 1, &["text.thecal"]);
    fails(&["verify", &path("empty.thecal")], 1, &["empty.thecal"]);
    fails(
        &[
            "recover",
            &path("text.thecal"),
            "--trial",
            "T",
            "--out",
            &path("o"),
        ],
        1,
        &["text.thecal"],
    );
    let spool = record::Spool::open(&folder.path().join("a.spool")).unwrap();
    drop(spool);
    fails(
        &["verify", &path("a.spool")],
        1,
        &["a.spool", "gateway's spool"],
    );
}

#[test]
fn a_record_of_another_version_names_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later.thecal");
    drop(record::Record::create(&path).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 9).unwrap();
    drop(db);
    fails(
        &["verify", path.to_str().unwrap()],
        1,
        &["version 9", "version 1"],
    );
}

#[test]
fn a_gateway_with_a_bad_file_or_key_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    std::fs::write(
        &config,
        "gw = \"g\"\nbroker = \"mqtt://127.0.0.1\"\nspool = 7\n",
    )
    .unwrap();
    let config = config.to_str().unwrap().to_owned();
    fails(
        &["gateway", "--config", &config],
        1,
        &["gateway.toml", "line 3"],
    );
    fails(
        &["gateway", "--config", "/nowhere/g.toml"],
        1,
        &["/nowhere/g.toml"],
    );
    let key = folder.path().join("key");
    assert!(
        thecal(&["keys", "new", key.to_str().unwrap()])
            .status
            .success()
    );
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fails(&["keys", "new", key.to_str().unwrap()], 1, &["key"]);
    let spool = folder.path().join("s.spool");
    let args = [
        "gateway",
        "--port",
        "/dev/none",
        "--bed",
        "07",
        "--trial",
        "T",
        "--broker",
        "mqtt://127.0.0.1:1",
        "--spool",
        spool.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    fails(&args, 1, &["others can read this secret", "chmod 600"]);
}

#[test]
fn a_broker_does_not_open_itself_to_the_network_and_names_a_taken_port() {
    fails(
        &["broker", "--listen", "0.0.0.0:0"],
        1,
        &["other machines", "127.0.0.1"],
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&["broker", "--listen", &address], 1, &[&address]);
}

#[test]
fn names_from_outside_cannot_move_the_cursor() {
    let out = thecal(&["verify", "no\u{1b}[2Jsuch\u{202e}.thecal"]);
    let err = String::from_utf8(out.stderr).unwrap();
    assert!(
        !err.contains('\u{1b}') && !err.contains('\u{202e}'),
        "{err:?}"
    );
}

#[cfg(feature = "sim")]
#[test]
fn a_bad_patient_or_scenario_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("pump").to_str().unwrap().to_owned();
    fails(
        &["sim", "--link", &link, "--patient", "cat"],
        1,
        &["--patient", "cat"],
    );
    let scenario = folder.path().join("s.toml");
    std::fs::write(&scenario, "days = \"many\"\n").unwrap();
    fails(
        &[
            "sim",
            "--link",
            &link,
            "--scenario",
            scenario.to_str().unwrap(),
        ],
        1,
        &["s.toml"],
    );
    assert!(!Path::new(&link).exists());
}
