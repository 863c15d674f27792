//! Every row and every column of a sealed record, changed by somebody with a plain SQLite tool who
//! puts the triggers back: `verify` says so and names the place.
#![expect(clippy::unwrap_used, reason = "a test may panic; that is how it fails")]

mod golden;

use golden::{GATEWAY, PUMP, pump_pair, recorder_pair, write_golden};
use record::verify::{Evidence, Options, Report, verify};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// A record under attack, and what it was.
struct Attack {
    db: Connection,
    path: PathBuf,
    triggers: Vec<(String, String)>,
    _dir: TempDir,
}

impl Attack {
    fn on(write: impl FnOnce(&Path)) -> Self {
        let dir = tempdir().unwrap();
        let path = dir.path().join("r.thecal");
        write(&path);
        let db = Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA synchronous=OFF; PRAGMA journal_mode=DELETE;")
            .unwrap();
        let triggers = {
            let mut query = db
                .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
                .unwrap();
            let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
            rows.collect::<rusqlite::Result<Vec<_>>>().unwrap()
        };
        assert_eq!(triggers.len(), 10);
        Self {
            db,
            path,
            triggers,
            _dir: dir,
        }
    }

    fn golden() -> Self {
        Self::on(|path| {
            write_golden(path);
        })
    }

    /// Does as the SQL says, without triggers, and puts the same triggers back.
    fn change(&self, sql: &str) {
        self.db.execute_batch("BEGIN").unwrap();
        for (name, _) in &self.triggers {
            self.db
                .execute_batch(&format!("DROP TRIGGER {name}"))
                .unwrap();
        }
        self.db
            .execute_batch(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        for (_, sql) in &self.triggers {
            self.db.execute_batch(sql).unwrap();
        }
        self.db.execute_batch("COMMIT").unwrap();
    }

    fn check(&self) -> Report {
        verify(&self.path, &Options::default()).unwrap()
    }

    /// Does, checks, undoes.
    fn with(&self, sql: &str, undo: &str) -> Report {
        self.change(sql);
        let report = self.check();
        self.change(undo);
        report
    }

    /// Source, boot and seq of every event.
    fn identities(&self) -> Vec<(String, u32, u64)> {
        let mut query = self
            .db
            .prepare("SELECT source, boot, seq FROM event ORDER BY source, seq")
            .unwrap();
        let rows = query
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }
}

/// Whether a place speaks of this event: its own identity, or a range of seqs it lies in.
fn names(wrong: &str, (source, boot, seq): &(String, u32, u64)) -> bool {
    if wrong.starts_with(&format!("{source}:{boot}:{seq}: ")) {
        return true;
    }
    let words: Vec<&str> = wrong.split([' ', ':', ')', ',']).collect();
    words.windows(5).any(|w| match w {
        [who, "seq", from, "to", to] => {
            (*who == source || wrong.starts_with(&format!("{source}:")))
                && from.parse::<u64>().is_ok_and(|from| from <= *seq)
                && to.parse::<u64>().is_ok_and(|to| *seq <= to)
        }
        _ => false,
    })
}

/// An edit of a blob's last byte.
const FLIP_LAST: &str = "(SELECT CAST(substr(x, 1, length(x) - 1) AS BLOB) || CASE substr(x, -1) WHEN x'00' THEN x'01' ELSE x'00' END FROM (SELECT %c AS x))";

#[test]
fn every_column_of_every_row_is_guarded() {
    let attack = Attack::golden();
    let before = attack.check();
    assert_eq!(before.evidence, Evidence::Complete, "{:?}", before.wrong);
    let edits = [
        ("source", "'EP-0194'".to_owned()),
        ("boot", "boot + 1".into()),
        ("tick_ms", "tick_ms + 1".into()),
        ("at_utc_ms", "at_utc_ms + 1".into()),
        ("at_uncertainty_ms", "at_uncertainty_ms + 1".into()),
        ("at_uncertainty_ms", "NULL".into()),
        ("kind", "'pain_score '".into()),
        ("body", "replace(body, '}', ' }')".into()),
        ("body", "'{}'".into()),
        ("body", "'[1'".into()),
        (
            "raw",
            format!("CAST({} AS BLOB)", FLIP_LAST.replace("%c", "raw")),
        ),
        ("raw", "x''".into()),
        (
            "tag",
            format!("CAST({} AS BLOB)", FLIP_LAST.replace("%c", "tag")),
        ),
        ("tag", "x'00'".into()),
        ("received_at_utc_ms", "received_at_utc_ms - 60000".into()),
        ("boot", "-1".into()),
        ("tick_ms", "-5".into()),
        ("boot", "4294967296".into()),
        ("seq", "seq + 1000".into()),
        ("seq", "-seq".into()),
    ];
    let all = attack.identities();
    assert!(all.len() > 80);
    let mut tried = 0;
    for identity in &all {
        let (source, _, seq) = identity;
        let whole = "source, boot, seq, tick_ms, at_utc_ms, at_uncertainty_ms, kind, body, raw, tag, received_at_utc_ms";
        attack.change(&format!(
            "CREATE TEMP TABLE old AS SELECT {whole} FROM event WHERE source = '{source}' AND seq = {seq}"
        ));
        // Every edit on a few rows of each sort, a changing third of them on all others.
        for (n, (column, value)) in edits.iter().enumerate() {
            let every = *seq < 6 || (usize::try_from(*seq).unwrap() + n).is_multiple_of(3);
            if !every {
                continue;
            }
            let is = format!("source = '{source}' AND seq = {seq}");
            attack.change(&format!("UPDATE event SET {column} = {value} WHERE {is}"));
            let report = attack.check();
            let what = format!("{identity:?} {column} = {value}");
            assert_eq!(report.evidence, Evidence::Altered, "{what}");
            assert_eq!(report.evidence.exit_code(), 4);
            let moved = match *column {
                "source" => ("EP-0194".to_owned(), identity.1, *seq),
                "seq" if value == "-seq" => (source.clone(), identity.1, 0),
                "seq" => (source.clone(), identity.1, seq + 1000),
                "boot" if value == "boot + 1" => (source.clone(), identity.1 + 1, *seq),
                "boot" => (source.clone(), 0, *seq),
                _ => identity.clone(),
            };
            let named = report.wrong.iter().any(|wrong| {
                names(wrong, &moved) || (*column == "source" && wrong.starts_with("EP-0194: "))
            });
            assert!(named, "{what}: {:?}", report.wrong);
            let back = format!(
                "DELETE FROM event WHERE seq IN ({seq}, {seq} + 1000, -{seq}) AND (source = '{source}' OR source = 'EP-0194')
                   AND NOT (source = '{source}' AND seq <> {seq} AND seq > 0 AND seq < 1000);
                 INSERT INTO event SELECT {whole} FROM temp.old"
            );
            attack.change(&back);
            tried += 1;
        }
        attack.change("DROP TABLE temp.old");
    }
    assert!(tried > all.len() * 6, "{tried}");
    assert_eq!(attack.check().evidence, Evidence::Complete);
}

#[test]
fn a_row_that_was_written_anew_in_all_its_columns_is_found() {
    let (pump, gateway) = golden::rows(2, false);
    let attack = Attack::golden();
    for row in pump.iter().chain(&gateway) {
        let (raw, fact) = row.check().unwrap();
        let mut head = raw.head().unwrap();
        head.tick_ms += 1;
        let raw = fact.encode(head).unwrap();
        let hex = protocol::hex::vec::encode(raw.as_bytes());
        let old = protocol::hex::vec::encode(&row.raw);
        let is = format!("source = '{}' AND seq = {}", row.source, row.seq);
        let by = |step: &str, raw: &str| {
            let times = if row.source.as_str() == GATEWAY {
                format!(
                    ", at_utc_ms = at_utc_ms {step}, received_at_utc_ms = received_at_utc_ms {step}"
                )
            } else {
                String::new()
            };
            format!("UPDATE event SET raw = x'{raw}', tick_ms = tick_ms {step}{times} WHERE {is}")
        };
        let report = attack.with(&by("+ 1", &hex), &by("- 1", &old));
        assert_eq!(report.evidence, Evidence::Altered, "{is}");
        let id = (row.source.to_string(), row.boot, row.seq);
        assert!(
            report.wrong.iter().any(|wrong| names(wrong, &id)),
            "{is}: {:?}",
            report.wrong
        );
    }
    assert_eq!(attack.check().evidence, Evidence::Complete);
}

#[test]
fn bytes_that_decode_to_the_same_are_still_other_bytes() {
    let attack = Attack::golden();
    let (pump, gateway) = golden::rows(2, false);
    for row in [
        &pump[20],
        &pump[pump.len() - 1],
        &gateway[gateway.len() - 1],
    ] {
        // The boot, a varint, in one byte more than it needs.
        let mut raw = row.raw.clone();
        raw[2] += 1;
        raw[3] |= 0x80;
        raw.insert(4, 0);
        let is = format!("source = '{}' AND seq = {}", row.source, row.seq);
        let set = |raw: &[u8]| {
            let hex = protocol::hex::vec::encode(raw);
            format!("UPDATE event SET raw = x'{hex}' WHERE {is}")
        };
        let report = attack.with(&set(&raw), &set(&row.raw));
        let wanted = format!(
            "{}:{}:{}: raw is not written as its source writes it",
            row.source, row.boot, row.seq
        );
        assert_eq!(report.wrong[0], wanted, "{:?}", report.wrong);
    }
}

#[test]
fn what_was_changed_beside_a_removed_row_counts_as_not_proven() {
    let (pump, _) = golden::rows(2, false);
    let attack = Attack::golden();
    let score = pump.iter().find(|row| row.kind == "pain_score").unwrap();
    let (_, fact) = score.check().unwrap();
    let protocol::bedside::Fact::Pump(protocol::event::Body::PainScore(mut body)) = fact else {
        panic!("{fact:?}");
    };
    body.score = 1;
    let body = protocol::event::Body::from(body);
    let (raw, _) = score.check().unwrap();
    let raw = body.encode(raw.head().unwrap()).unwrap();
    let removed = score.seq - 2;
    attack.change(&format!(
        "UPDATE event SET raw = x'{}', body = '{}' WHERE source = '{PUMP}' AND seq = {};
         DELETE FROM event WHERE source = '{PUMP}' AND seq = {removed}",
        protocol::hex::vec::encode(raw.as_bytes()),
        record::store::canonical_json(&body.to_json()),
        score.seq
    ));
    let report = attack.check();
    assert_eq!(report.evidence, Evidence::Gaps, "{:?}", report.wrong);
    let checkpoints: Vec<u64> = pump
        .iter()
        .filter(|row| row.kind == "checkpoint")
        .map(|row| row.seq)
        .collect();
    let after = checkpoints.iter().find(|seq| **seq > score.seq).unwrap();
    let before = checkpoints.iter().rfind(|seq| **seq < removed).unwrap();
    assert_eq!(report.not_proven, after - before - 2);
    assert_eq!(report.times_not_proven_from, [(PUMP.to_owned(), 1)]);
}

#[test]
fn each_removed_row_is_named_as_missing() {
    let attack = Attack::golden();
    for (source, _, seq) in attack.identities() {
        attack.change(&format!(
            "CREATE TEMP TABLE old AS SELECT * FROM event WHERE source = '{source}' AND seq = {seq};
             DELETE FROM event WHERE source = '{source}' AND seq = {seq}"
        ));
        let report = attack.check();
        let what = format!("{source} {seq}: {:?}", report.wrong);
        assert_eq!(report.evidence, Evidence::Gaps, "{what}");
        assert_eq!(report.evidence.exit_code(), 3);
        let named: Vec<_> = report
            .missing
            .iter()
            .map(|m| (m.source.as_str(), m.from_seq, m.to_seq))
            .collect();
        assert_eq!(named, [(source.as_str(), seq, seq)], "{what}");
        attack.change("INSERT INTO event SELECT * FROM temp.old; DROP TABLE temp.old");
    }
    assert_eq!(attack.check().evidence, Evidence::Complete);
}

#[test]
fn two_swapped_tags_are_found_without_any_secret_and_named_with_it() {
    let attack = Attack::golden();
    let swap = |a: u64, b: u64| {
        format!(
            "CREATE TEMP TABLE tags AS SELECT seq, tag FROM event WHERE source = '{PUMP}' AND seq IN ({a}, {b});
             UPDATE event SET tag = (SELECT tag FROM temp.tags t WHERE t.seq = {a} + {b} - event.seq)
             WHERE source = '{PUMP}' AND seq IN ({a}, {b});
             DROP TABLE temp.tags"
        )
    };
    for (a, b) in [(1, 2), (5, 60), (63, 64), (10, 70)] {
        let report = attack.with(&swap(a, b), &swap(a, b));
        assert_eq!(report.evidence, Evidence::Altered);
        attack.change(&swap(a, b));
        let options = Options {
            key: None,
            tag_secret: Some(pump_pair().tag_secret()),
        };
        let report = verify(&attack.path, &options).unwrap();
        assert!(
            report.wrong[0].contains(&format!(":{a}: the tag is not by")),
            "{:?}",
            report.wrong
        );
        attack.change(&swap(a, b));
    }
    assert_eq!(attack.check().evidence, Evidence::Complete);
}

#[test]
fn rows_that_change_their_source_are_found() {
    let attack = Attack::golden();
    for seq in [1, 2, 5] {
        let exchange = format!(
            "UPDATE event SET source = 'x' WHERE source = '{PUMP}' AND seq = {seq};
             UPDATE event SET source = '{PUMP}' WHERE source = '{GATEWAY}' AND seq = {seq};
             UPDATE event SET source = '{GATEWAY}' WHERE source = 'x';"
        );
        let report = attack.with(&exchange, &exchange);
        assert_eq!(report.evidence, Evidence::Altered, "{seq}");
        let id = (GATEWAY.to_owned(), 1, seq);
        assert!(
            report.wrong.iter().any(|wrong| names(wrong, &id)),
            "{:?}",
            report.wrong
        );
    }
}

#[test]
fn the_trials_words_are_held_against_the_chains() {
    let attack = Attack::golden();
    let words = [
        ("trial_id", "'T-0002'"),
        ("origin", "'import'"),
        ("origin", "'gateway'"),
        ("zone", "'UTC'"),
        ("bed", "'08'"),
        ("gw", "'gw-08'"),
        ("manifest", "replace(value, 'morphine', 'baclofen')"),
        ("manifest", "replace(value, '\"sig\":\"', '\"sig\":\"00')"),
        ("manifest", "'{'"),
        ("gateway_key.gw-07.T-0001", "replace(value, '1', '2')"),
    ];
    for (key, value) in words {
        let old = format!("(SELECT v FROM temp.word WHERE k = '{key}')");
        attack.change(&format!(
            "CREATE TEMP TABLE word AS SELECT key AS k, value AS v FROM trial;
             UPDATE trial SET value = {value} WHERE key = '{key}'"
        ));
        let report = attack.check();
        let what = format!("{key} = {value}: {:?}", report.wrong);
        assert_eq!(report.evidence, Evidence::Altered, "{what}");
        attack.change(&format!(
            "UPDATE trial SET value = {old} WHERE key = '{key}'; DROP TABLE temp.word"
        ));
    }
    for key in ["trial_id", "origin", "manifest", "gateway_key.gw-07.T-0001"] {
        attack.change(&format!(
            "CREATE TEMP TABLE word AS SELECT * FROM trial WHERE key = '{key}';
             DELETE FROM trial WHERE key = '{key}'"
        ));
        assert_eq!(attack.check().evidence, Evidence::Altered, "{key}");
        attack.change("INSERT INTO trial SELECT * FROM temp.word; DROP TABLE temp.word");
    }
    assert_eq!(attack.check().evidence, Evidence::Complete);
}

#[test]
fn a_chained_record_does_not_pass_as_an_import() {
    let attack = Attack::golden();
    let words = serde_json::json!({
        "trial_id": golden::TRIAL, "bed": "07", "drug": "morphine", "concentration_mcg_per_ml": 500,
        "route": "intrathecal", "zone": "Europe/Berlin", "baseline_start_utc_ms": 0,
        "trial_start_utc_ms": 1, "trial_end_utc_ms": 2, "protocol": "pain-50", "run_in_h": 0,
        "accepts_implant": null, "also": [], "context": {},
    });
    attack.change("UPDATE trial SET value = 'import' WHERE key = 'origin'");
    assert_eq!(attack.check().evidence, Evidence::Altered);
    attack.change(&format!(
        "DELETE FROM trial WHERE key = 'manifest'; INSERT INTO trial VALUES ('import', '{words}')"
    ));
    let report = attack.check();
    assert_eq!(report.evidence, Evidence::Altered);
    assert!(
        report.wrong[0].starts_with("EP-0193:1:1: no row of an import"),
        "{:?}",
        report.wrong
    );
}

#[test]
fn a_missing_or_changed_trigger_and_anything_added_is_named() {
    let attack = Attack::golden();
    for (name, sql) in &attack.triggers {
        attack
            .db
            .execute_batch(&format!("DROP TRIGGER {name}"))
            .unwrap();
        let missing = format!("trigger {name}: is missing or changed");
        assert_eq!(attack.check().wrong, std::slice::from_ref(&missing));
        let idle = sql.replace("SELECT RAISE(ABORT, 'a record only grows')", "SELECT 1");
        attack.db.execute_batch(&idle).unwrap();
        assert_eq!(attack.check().wrong, [missing]);
        attack
            .db
            .execute_batch(&format!("DROP TRIGGER {name}; {sql}"))
            .unwrap();
    }
    attack
        .db
        .execute_batch("CREATE VIEW shown AS SELECT 1")
        .unwrap();
    assert_eq!(attack.check().wrong, ["view shown: was added to the file"]);
    attack.db.execute_batch("DROP VIEW shown").unwrap();
    attack.db.execute_batch("DROP TABLE hole").unwrap();
    let report = attack.check();
    assert_eq!(report.evidence, Evidence::Altered);
    assert_eq!(report.wrong[0], "table hole: is missing or changed");
}

#[test]
fn a_table_made_without_types_hides_nothing() {
    let attack = Attack::golden();
    // STRICT taken off, values of other types put in, STRICT put back.
    let strict = |on: bool| {
        let (from, to) = if on {
            ("WITHOUT ROWID", "STRICT, WITHOUT ROWID")
        } else {
            ("STRICT, WITHOUT ROWID", "WITHOUT ROWID")
        };
        format!(
            "PRAGMA writable_schema=ON;
             UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') WHERE name = 'event';
             PRAGMA writable_schema=RESET;"
        )
    };
    let values = [
        ("boot", "'one'"),
        ("boot", "1.5"),
        ("tick_ms", "x'00'"),
        ("at_utc_ms", "'yesterday'"),
        ("at_uncertainty_ms", "'a little'"),
        ("kind", "x'ff'"),
        ("body", "x'7b7d'"),
        ("raw", "'text'"),
        ("tag", "5"),
        ("received_at_utc_ms", "1.5"),
        ("source", "CAST(x'ff' AS TEXT)"),
    ];
    for (column, value) in values {
        let path = attack.path.with_extension("typeless");
        std::fs::copy(&attack.path, &path).unwrap();
        let db = Connection::open(&path).unwrap();
        db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)
            .unwrap();
        db.execute_batch(&strict(false)).unwrap();
        let name = &attack
            .triggers
            .iter()
            .find(|(n, _)| n == "event_no_UPDATE" || n == "event_no_update")
            .unwrap();
        db.execute_batch(&format!("DROP TRIGGER {}", name.0))
            .unwrap();
        db.execute_batch(&format!(
            "UPDATE event SET {column} = {value} WHERE source = '{PUMP}' AND seq = 7"
        ))
        .unwrap();
        db.execute_batch(&name.1).unwrap();
        db.execute_batch(&strict(true)).unwrap();
        drop(db);
        let report = verify(&path, &Options::default()).unwrap();
        assert_eq!(report.evidence, Evidence::Altered, "{column} = {value}");
        let named = format!(":7: {column} is no");
        assert!(
            report.wrong.iter().any(|wrong| wrong.contains(&named)),
            "{column} = {value}: {:?}",
            report.wrong
        );
    }
}

#[test]
fn receipts_are_held_against_their_signature_and_the_rows() {
    let attack = Attack::golden();
    for (column, value) in [
        ("digest", "replace(digest, 'a', 'b')"),
        ("recorder", "'ward-2'"),
        ("from_seq", "2"),
        ("to_seq", "to_seq - 1"),
        ("to_seq", "-1"),
        ("made_at_utc_ms", "5"),
        ("key", "'zz'"),
        ("signature", "replace(signature, '0', '1')"),
        ("source", "'EP-0194'"),
    ] {
        attack.change(&format!(
            "CREATE TEMP TABLE old AS SELECT * FROM receipt; UPDATE receipt SET {column} = {value}"
        ));
        let report = attack.check();
        assert_eq!(report.evidence, Evidence::Altered, "{column} = {value}");
        assert!(
            report.wrong.iter().any(|wrong| wrong.contains("receipt")),
            "{:?}",
            report.wrong
        );
        attack.change(
            "DELETE FROM receipt; INSERT INTO receipt SELECT * FROM temp.old; DROP TABLE temp.old",
        );
    }
    // A receipt by anybody's own key holds; the report says whose it is.
    let report = attack.check();
    let key = protocol::keys::fingerprint(&recorder_pair().public());
    assert_eq!(report.sealed_by, [("ward-1".into(), key)]);
}

#[test]
fn every_other_table_is_guarded_by_the_seal() {
    let attack = Attack::on(|path| {
        let (pump, gateway) = golden::rows(1, false);
        golden::write_record(path, &[&pump, &gateway], false);
        let record = record::Record::open_or_create(path).unwrap();
        for from_seq in [3, 7] {
            let hole = record::trial_record::Hole {
                source: PUMP.into(),
                from_seq,
                to_seq: from_seq,
                reason: "not received".into(),
                noted_at_utc_ms: golden::START,
            };
            record.note_hole(&hole).unwrap();
        }
        record
            .quarantine(&pump[3], "another body", golden::START)
            .unwrap();
        let (by, key) = ("ward-1", recorder_pair());
        for source in [PUMP, GATEWAY] {
            record.seal(source, by, &key, golden::START).unwrap();
        }
        record
            .close_sealed("closed by pump and gateway", by, &key, golden::START)
            .unwrap();
    });
    let before = attack.check();
    assert_eq!(before.evidence, Evidence::Complete, "{:?}", before.wrong);
    assert!(before.tables_sealed && before.unsealed_rows == 0);
    let edits = [
        (
            "trial",
            "UPDATE trial SET value = 'planned' WHERE key = 'closed'",
        ),
        ("trial", "DELETE FROM trial WHERE key = 'closed'"),
        ("hole", "UPDATE hole SET reason = 'x' WHERE from_seq = 3"),
        ("hole", "UPDATE hole SET noted_at_utc_ms = 1"),
        ("hole", "DELETE FROM hole WHERE from_seq = 7"),
        ("quarantine", "UPDATE quarantine SET reason = 'x'"),
        ("quarantine", "UPDATE quarantine SET tag = x'00'"),
        ("quarantine", "DELETE FROM quarantine"),
        ("receipt", "DELETE FROM receipt WHERE source = 'EP-0193'"),
        (
            "receipt",
            "DELETE FROM receipt WHERE source = 'table receipt'",
        ),
        (
            "receipt",
            "DELETE FROM receipt WHERE source IN ('table trial', 'table receipt')",
        ),
        ("receipt", "UPDATE receipt SET key = upper(key)"),
        (
            "receipt",
            "UPDATE receipt SET signature = upper(signature) WHERE rowid = 1",
        ),
        (
            "trial",
            "UPDATE trial SET value = replace(value, ',\"key\"', ', \"key\"') WHERE key = 'manifest'",
        ),
        (
            "trial",
            "UPDATE trial SET value = CAST(x'ff' AS TEXT) WHERE key = 'zone'",
        ),
    ];
    let save = "CREATE TEMP TABLE t AS SELECT * FROM trial; CREATE TEMP TABLE h AS SELECT * FROM hole;
        CREATE TEMP TABLE q AS SELECT * FROM quarantine; CREATE TEMP TABLE r AS SELECT * FROM receipt";
    let back = "DELETE FROM trial; INSERT INTO trial SELECT * FROM temp.t; DROP TABLE temp.t;
        DELETE FROM hole; INSERT INTO hole SELECT * FROM temp.h; DROP TABLE temp.h;
        DELETE FROM quarantine; INSERT INTO quarantine SELECT * FROM temp.q; DROP TABLE temp.q;
        DELETE FROM receipt; INSERT INTO receipt SELECT * FROM temp.r; DROP TABLE temp.r";
    for (table, edit) in edits {
        attack.change(save);
        attack.change(edit);
        let report = attack.check();
        let what = format!("{edit}: {:?}", report.wrong);
        assert_eq!(report.evidence, Evidence::Altered, "{what}");
        assert!(report.wrong.iter().any(|w| w.contains(table)), "{what}");
        attack.change(back);
    }
    // What is added after the close is said; without any seal, that is said.
    attack.change("INSERT INTO quarantine SELECT * FROM quarantine");
    let added = attack.check();
    assert_eq!(
        (added.evidence, added.unsealed_rows),
        (Evidence::Complete, 1)
    );
    assert!(
        added
            .line(&attack.path)
            .contains("1 rows added after the seal")
    );
    attack.change("DELETE FROM receipt");
    let unsealed = attack.check();
    assert_eq!(unsealed.evidence, Evidence::Complete);
    assert!(
        unsealed
            .line(&attack.path)
            .contains("no recorder sealed it")
    );
}

#[test]
fn a_change_beside_a_noted_hole_is_found_by_whoever_signed_after_it() {
    let (pump, gateway) = golden::rows(1, true);
    let (hole_from, hole_to) = golden::hole_of(&pump);
    let attack = Attack::on(|path| golden::write_record(path, &[&pump, &gateway], true));
    let before = attack.check();
    assert_eq!(before.evidence, Evidence::Gaps, "{:?}", before.wrong);
    // No digest of the gateway and no checkpoint reaches these; the recorder's receipt does.
    for seq in [hole_from - 1, hole_to + 1, hole_to + 2] {
        let by = |step: &str| {
            let is = format!("source = '{PUMP}' AND seq = {seq}");
            format!("UPDATE event SET at_utc_ms = at_utc_ms {step} WHERE {is}")
        };
        let report = attack.with(&by("+ 1"), &by("- 1"));
        assert_eq!(report.evidence, Evidence::Altered, "{seq}");
        let id = (PUMP.to_owned(), 2, seq);
        let receipts = report.wrong.iter().filter(|w| w.contains("receipt by"));
        let named: Vec<_> = receipts.filter(|wrong| names(wrong, &id)).collect();
        assert_eq!(named.len(), 1, "{:?}", report.wrong);
    }
    // A row that is gone is one more that is missing: what the receipt said of it cannot be seen.
    let gone = hole_to + 3;
    attack.change(&format!(
        "DELETE FROM event WHERE source = '{PUMP}' AND seq = {gone}"
    ));
    let report = attack.check();
    assert_eq!(report.evidence, Evidence::Gaps, "{:?}", report.wrong);
    assert!(report.missing.iter().any(|m| m.from_seq == gone));
}

#[test]
fn a_gateways_chain_of_which_nothing_is_left_is_named() {
    let (pump, gateway) = golden::rows(1, false);
    let attack =
        Attack::on(|path| golden::write_record(path, &[&pump[..22], &gateway[..3]], false));
    attack.change(&format!("DELETE FROM event WHERE source = '{GATEWAY}'"));
    let report = attack.check();
    assert_eq!(report.evidence, Evidence::Open, "{:?}", report.wrong);
    let wanted = (GATEWAY.to_owned(), 1);
    assert!(report.unsigned_from.contains(&wanted), "{report:?}");
    let first = (PUMP.to_owned(), 1);
    assert_eq!(report.times_not_proven_from, [first]);
}
