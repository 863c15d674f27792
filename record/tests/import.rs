//! Diaries, good and bad.
#![expect(clippy::unwrap_used, reason = "a test may panic; that is how it fails")]

use proptest::prelude::*;
use record::Record;
use record::import::{ImportErrors, Imported, ImportedTrial, import};
use record::store::Error;
use record::verify::{Evidence, Options, verify};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

const TRIAL: &str = "\
trial_id = \"T-0500\"
bed = \"07\"
drug = \"morphine\"
concentration_mcg_per_ml = 500
route = \"intrathecal\"
zone = \"Europe/Berlin\"
baseline_start = 2026-03-01T08:00:00
trial_start = \"2026-03-02T08:00:00+01:00\"
trial_end = 2026-03-06T08:00:00Z
";

struct Diary {
    dir: TempDir,
    out: PathBuf,
}

impl Diary {
    fn new(scores: impl AsRef<[u8]>) -> Self {
        let dir = tempdir().unwrap();
        let out = dir.path().join("out.thecal");
        let diary = Self { dir, out };
        diary.write("trial.toml", TRIAL);
        diary.write("scores.csv", scores);
        diary
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.dir.path().join("diary");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    fn import(&self, skip_bad: bool) -> Result<Imported, ImportErrors> {
        import(&self.dir.path().join("diary"), &self.out, skip_bad)
    }

    /// The faults, without the folder's name. Nothing is left behind.
    fn faults(&self) -> Vec<String> {
        let lines = self.import(false).unwrap_err().lines();
        assert_eq!(self.left(), ["diary"]);
        self.short(lines)
    }

    fn short(&self, lines: Vec<String>) -> Vec<String> {
        let folder = format!("{}/", self.dir.path().join("diary").display());
        let cut = |line: String| line.strip_prefix(&folder).map(String::from);
        lines.into_iter().map(|line| cut(line).unwrap()).collect()
    }

    fn left(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Kind, time after 2026-03-01T00:00Z in minutes, and body of each event.
    fn events(&self) -> Vec<(String, i64, serde_json::Value)> {
        let mut events = Vec::new();
        Record::open_read_only(&self.out)
            .unwrap()
            .for_each_event(|stored| {
                let row = stored.row;
                let number = u64::try_from(events.len()).unwrap() + 1;
                assert_eq!(
                    (row.source.as_str(), row.boot, row.seq),
                    ("import", 1, number)
                );
                let minutes = (row.at_utc_ms - 1_772_323_200_000) / 60_000;
                events.push((row.kind, minutes, row.body));
                Ok(())
            })
            .unwrap();
        events
    }
}

#[test]
fn a_whole_diary_becomes_a_record_in_order_of_time() {
    let diary = Diary::new(
        "\u{feff}at,score,source,prompted,condition\r\n\
         2026-03-03T08:00:00Z,3,patient,true,rest\r\n\
         2026-03-01 09:00,7,,,\r\n\
         2026-03-01T09:00:00,8,nurse,false,movement\r\n\
         \"2026-03-02T22:00:00+02:00\",,family,TRUE,rest\r\n\
         2026-03-03T03:00:00Z,S,,,\r\n\
         2027-01-01T00:00:00Z,2,,,\r\n",
    );
    diary.write(
        "delivery.csv",
        "programmed_nl,at,delivered_nl\n1000,2026-03-02T09:00:00Z,990\n0,2026-03-02T07:00:00Z,0\n1000,2026-03-02T10:00:00Z,990\n",
    );
    diary.write(
        "rescue.csv",
        "at,drug,dose_mg,route,reason,scheduled\n\
         2026-03-02T12:00:00Z,ibuprofen,400,oral,,\n\
         2026-03-02T12:00:00Z,morphine,2.5,iv,other_pain,true\n\
         2026-03-02T12:30:00Z,\"fentanyl, patch\",0.025,transdermal,not_pain,false\n",
    );
    diary.write(
        "observations.csv",
        "at,kind,value\n2026-03-02T12:00:00Z,temperature,36.65\n2026-03-02T12:00:00Z,sedation_poss,S\n\
         2026-03-02T12:00:00Z,ashworth_left_knee,1.5\n2026-03-02T12:00:00Z,accepts_implant,1\n",
    );
    diary.write(
        "trial.toml",
        format!("{TRIAL}protocol = \"pain-30\"\nrun_in_h = 24\naccepts_implant = true\n[[also]]\ndrug = \"bupivacaine\"\nconcentration_mcg_per_ml = 1000\n"),
    );
    diary.write(
        "context.toml",
        "diagnosis = \"failed back surgery\"\npsychology_date = 2026-02-01\noral = [\"oxycodone 80 mg\"]\n",
    );
    let done = diary.import(false).unwrap();
    assert_eq!((done.rows, done.outside, done.skipped.len()), (16, 1, 0));
    assert_eq!(diary.left(), ["diary", "out.thecal"]);
    let events = diary.events();
    let kinds: Vec<(&str, i64)> = events.iter().map(|(k, at, _)| (k.as_str(), *at)).collect();
    assert_eq!(
        kinds,
        [
            ("score_entry", 480),
            ("score_entry", 480),
            ("delivered", 1_860),
            ("delivered", 1_980),
            ("delivered", 2_040),
            ("rescue", 2_160),
            ("rescue", 2_160),
            ("observation", 2_160),
            ("observation", 2_160),
            ("observation", 2_160),
            ("observation", 2_160),
            ("rescue", 2_190),
            ("score_entry", 2_640),
            ("score_entry", 3_060),
            ("score_entry", 3_360),
            ("score_entry", 440_640),
        ]
    );
    let body = |n: usize| &events[n].2;
    assert_eq!(body(0)["scored_by"], "patient");
    assert_eq!(body(0)["entry_id"], "scores.csv:3");
    assert_eq!(
        (
            &body(1)["score"],
            &body(1)["condition"],
            &body(1)["prompted"]
        ),
        (&8.into(), &"movement".into(), &false.into())
    );
    assert_eq!(body(3)["delivered_nl"], 990);
    assert_eq!(body(5)["reason"], "trial_pain");
    assert_eq!(
        (&body(6)["dose_mcg"], &body(6)["scheduled"]),
        (&2_500.into(), &true.into())
    );
    assert_eq!(body(7)["value_milli"], 36_650);
    assert_eq!(body(8)["value_milli"], 0);
    assert_eq!(body(9)["value_milli"], 1_500);
    assert_eq!(body(11)["drug"], "fentanyl, patch");
    assert_eq!(
        (&body(12)["score"], &body(12)["asleep"]),
        (&serde_json::Value::Null, &false.into())
    );
    assert_eq!(
        (&body(13)["score"], &body(13)["asleep"]),
        (&serde_json::Value::Null, &true.into())
    );

    let record = Record::open_read_only(&diary.out).unwrap();
    let text = record.meta("import").unwrap().unwrap();
    let trial: ImportedTrial = serde_json::from_str(&text).unwrap();
    assert_eq!(trial.baseline_start_utc_ms, 1_772_348_400_000);
    assert_eq!(trial.trial_start_utc_ms, 1_772_434_800_000);
    assert_eq!(trial.trial_end_utc_ms, 1_772_784_000_000);
    assert_eq!((trial.protocol.as_str(), trial.run_in_h), ("pain-30", 24));
    assert_eq!(trial.accepts_implant, Some(true));
    assert_eq!(trial.also[0].drug, "bupivacaine");
    assert_eq!(trial.context["psychology_date"], "2026-02-01");
    assert_eq!(trial.context["oral"][0], "oxycodone 80 mg");
    for (key, value) in [
        ("origin", "import"),
        ("closed", "import"),
        ("zone", "Europe/Berlin"),
    ] {
        assert_eq!(record.meta(key).unwrap().as_deref(), Some(value));
    }
    let report = verify(&diary.out, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Imported, "{:?}", report.wrong);
    assert_eq!(report.evidence.exit_code(), 5);
}

#[test]
fn an_imported_record_that_was_changed_afterwards_is_altered() {
    let diary =
        Diary::new("at,score\n2026-03-01T09:00,7\n2026-03-01T10:00,6\n2026-03-01T11:00,5\n");
    diary.import(false).unwrap();
    let good = std::fs::read(&diary.out).unwrap();
    for sql in [
        "UPDATE event SET body = replace(body, '\"score\":6', '\"score\":1') WHERE seq = 2",
        "UPDATE event SET at_utc_ms = at_utc_ms + 1 WHERE seq = 2",
        "UPDATE event SET tag = x'01010101010101010101010101010101' WHERE seq = 2",
        "DELETE FROM event WHERE seq = 2",
        "DELETE FROM event WHERE seq = 3",
        "UPDATE trial SET value = 'UTC' WHERE key = 'zone'",
        "UPDATE trial SET value = 'T-9' WHERE key = 'trial_id'",
        "UPDATE trial SET value = '{}' WHERE key = 'import'",
        "DELETE FROM trial WHERE key = 'import'",
    ] {
        std::fs::write(&diary.out, &good).unwrap();
        let db = rusqlite::Connection::open(&diary.out).unwrap();
        let triggers: Vec<(String, String)> = db
            .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
            .unwrap()
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for (name, _) in &triggers {
            db.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
        }
        assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
        for (_, text) in &triggers {
            db.execute_batch(text).unwrap();
        }
        drop(db);
        let report = verify(&diary.out, &Options::default()).unwrap();
        assert_eq!(report.evidence, Evidence::Altered, "{sql}");
    }
}

#[test]
fn bad_scores_are_each_named_with_line_and_field_and_nothing_is_imported() {
    let cases: &[(&str, &[&str])] = &[
        (
            "",
            &["1:1: is empty; its first line is at,score,source,prompted,condition"],
        ),
        (
            "at,pain\n",
            &["1:2: unknown column \"pain\"; known are at,score,source,prompted,condition"],
        ),
        (
            "at;score\n",
            &[
                "1:1: unknown column \"at;score\"; fields are separated by commas only at,score,source,prompted,condition",
            ],
        ),
        ("at,score,at\n", &["1:3: column at stands there twice"]),
        (
            "at,score\n2026-03-01T09:00,\"7\n",
            &["2:2: a quote is opened and never closed"],
        ),
        ("at,source\n", &["1:1: column score is missing"]),
        (
            "at,score\n2026-03-01T09:00\n",
            &["2:1: 1 fields, the header has 2"],
        ),
        (
            "at,score\n2026-03-01T09:00,5,x\n",
            &["2:2: 3 fields, the header has 2"],
        ),
        (
            "at,score\n2026-03-01T09:00,11\n",
            &["2:2: score \"11\" is no whole number from 0 to 10, not empty, and not S"],
        ),
        (
            "at,score\n2026-03-01T09:00,+5\n",
            &["2:2: score \"+5\" is no whole number from 0 to 10, not empty, and not S"],
        ),
        (
            "at,score\n2026-03-01T09:00,-1\n",
            &["2:2: score \"-1\" is no whole number from 0 to 10, not empty, and not S"],
        ),
        (
            "at,score\n2026-03-01T09:00,5.5\n",
            &["2:2: score \"5.5\" is no whole number from 0 to 10, not empty, and not S"],
        ),
        (
            "at,score\n2026-03-01T09:00,s\n",
            &["2:2: score \"s\" is no whole number from 0 to 10, not empty, and not S"],
        ),
        (
            "score,at,prompted\n,2026-03-01T09:00,false\n",
            &["2:1: score is empty, though it was not asked for"],
        ),
        (
            "at,score,source\n2026-03-01T09:00,5,mother\n",
            &["2:3: source \"mother\" is none of patient, nurse, family"],
        ),
        (
            "at,score,prompted\n2026-03-01T09:00,5,1\n",
            &["2:3: prompted \"1\" is neither true nor false"],
        ),
        (
            "at,score,condition\n2026-03-01T09:00,5,walking\n",
            &["2:3: condition \"walking\" is none of rest, movement"],
        ),
        (
            "at,score\n01.03.2026 09:00,5\n",
            &["2:1: at \"01.03.2026 09:00\" is no date and time such as 2026-03-01T08:00:00+01:00"],
        ),
        (
            "at,score\n2026-10-25T02:30,5\n",
            &[
                "2:1: at \"2026-10-25T02:30\" is there twice in Europe/Berlin: the clocks were set back; write its offset",
            ],
        ),
        (
            "at,score\n2026-03-29T02:30,5\n",
            &[
                "2:1: at \"2026-03-29T02:30\" does not exist in Europe/Berlin: the clocks were set forward over it",
            ],
        ),
        (
            "at,score,source\n2026-03-01T09:00,5,\n2026-03-01T08:00Z,6,patient\n2026-03-01T09:00,6,nurse\n",
            &["3:1: at stands there already: line 2 has the same at and source"],
        ),
        (
            "at,score\n\n2026-03-01T09:00,12\n2026-03-01T10:00,5\nyesterday,5\n",
            &[
                "3:2: score \"12\" is no whole number from 0 to 10, not empty, and not S",
                "5:1: at \"yesterday\" is no date and time such as 2026-03-01T08:00:00+01:00",
            ],
        ),
        (
            "at,score\n2026-03-01T09:00,5\u{202e}\n",
            &["2:2: score holds control or invisible characters"],
        ),
    ];
    for (scores, wanted) in cases {
        let wanted: Vec<String> = wanted.iter().map(|w| format!("scores.csv:{w}")).collect();
        assert_eq!(Diary::new(scores).faults(), wanted, "{scores:?}");
    }
    let not_text = Diary::new(b"at,score\n2026-03-01T09:00,\xff\n");
    assert_eq!(not_text.faults(), ["scores.csv:2:2: score is not UTF-8"]);
    let wide = Diary::new(b"\xff\xfea\0t\0");
    assert_eq!(
        wide.faults(),
        ["scores.csv:1:1: is UTF-16; save it as UTF-8"]
    );
}

#[test]
fn bad_rows_of_the_other_tables_are_named_too() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "delivery.csv",
            "at,delivered_nl\n",
            "1:1: column programmed_nl is missing",
        ),
        (
            "delivery.csv",
            "at,delivered_nl,programmed_nl\n2026-03-02T09:00,1.5,2\n",
            "2:2: delivered_nl \"1.5\" is no whole number of nanoliters",
        ),
        (
            "delivery.csv",
            "at,delivered_nl,programmed_nl\n2026-03-02T09:00,1,9007199254740993\n",
            "2:3: programmed_nl \"9007199254740993\" is no whole number of nanoliters",
        ),
        (
            "delivery.csv",
            "at,delivered_nl,programmed_nl\n2026-03-02T10:00,5,9\n2026-03-02T09:00,6,6\n",
            "2:2: delivered_nl falls from 6 to 5; it is cumulative",
        ),
        (
            "delivery.csv",
            "at,delivered_nl,programmed_nl\n2026-03-02T09:00,5,9\n2026-03-02T10:00,6,8\n",
            "3:3: programmed_nl falls from 9 to 8; it is cumulative",
        ),
        (
            "delivery.csv",
            "at,delivered_nl,programmed_nl\n2026-03-02T09:00,5,9\n2026-03-02T09:00,5,9\n",
            "3:1: at stands there already: line 2 has the same at",
        ),
        (
            "rescue.csv",
            "at,drug,dose_mg,route\n2026-03-02T09:00,,5,oral\n",
            "2:2: drug \"\" is not 1 to 40 bytes of text",
        ),
        (
            "rescue.csv",
            "at,drug,dose_mg,route\n2026-03-02T09:00,morphine,0,oral\n",
            "2:3: dose_mg \"0\" is not above 0 and at most 10000 mg",
        ),
        (
            "rescue.csv",
            "at,drug,dose_mg,route\n2026-03-02T09:00,morphine,1e3,oral\n",
            "2:3: dose_mg \"1e3\" is no number such as 7.5",
        ),
        (
            "rescue.csv",
            "at,drug,dose_mg,route\n2026-03-02T09:00,morphine,0.0005,oral\n",
            "2:3: dose_mg \"0.0005\" has more than 3 decimals",
        ),
        (
            "rescue.csv",
            "at,drug,dose_mg,route,reason\n2026-03-02T09:00,morphine,5,oral,pain\n",
            "2:5: reason \"pain\" is none of trial_pain, other_pain, not_pain",
        ),
        (
            "observations.csv",
            "at,kind,value\n2026-03-02T09:00,mood,5\n",
            "2:2: kind \"mood\" is nothing that docs/record.md lists",
        ),
        (
            "observations.csv",
            "at,kind,value\n2026-03-02T09:00,spo2,101\n",
            "2:3: value 101 is not from 0 to 100 (%)",
        ),
        (
            "observations.csv",
            "at,kind,value\n2026-03-02T09:00,spo2,\n",
            "2:3: value \"\" is no number such as 7.5",
        ),
        (
            "observations.csv",
            "at,kind,value\n2026-03-02T09:00,temperature,-1\n",
            "2:3: value -1 is not from 25 to 45 (degrees Celsius)",
        ),
        (
            "observations.csv",
            "at,kind,value\n2026-03-02T09:00,asleep,0.5\n",
            "2:3: value 0.5 is neither 0 nor 1 (1 asleep, 0 awake)",
        ),
        (
            "observations.csv",
            "at,kind,value\n2026-03-02T09:00,spo2,98\n2026-03-02T09:00,spo2,98\n",
            "3:1: at stands there already: line 2 has the same at and kind",
        ),
    ];
    for (file, text, wanted) in cases {
        let diary = Diary::new("at,score\n2026-03-01T09:00,5\n");
        diary.write(file, text);
        assert_eq!(diary.faults(), [format!("{file}:{wanted}")], "{text:?}");
    }
}

#[test]
fn a_bad_trial_is_named_with_line_and_character() {
    let change = |from: &str, to: &str| TRIAL.replace(from, to);
    let cases = [
        (
            change("T-0500", "T 0500"),
            "1:12: trial_id is not 1 to 32 of A-Z a-z 0-9 . _ -",
        ),
        (
            change("\"07\"", "7"),
            "2:7: invalid type: integer `7`, expected a string",
        ),
        (
            change("= 500", "= 0"),
            "4:28: concentration_mcg_per_ml is no whole number above 0",
        ),
        (
            change("intrathecal", "oral"),
            "5:9: route \"oral\" is neither intrathecal nor epidural",
        ),
        (
            change("Europe/Berlin", "Mars/Base"),
            "6:8: zone \"Mars/Base\" is no IANA time zone, such as Europe/Berlin",
        ),
        (
            change("2026-03-01T08:00:00", "2026-03-29T02:30:00"),
            "7:18: baseline_start \"2026-03-29T02:30:00\" does not exist in Europe/Berlin: the clocks were set forward over it",
        ),
        (
            change("2026-03-01T08:00:00", "2026-03-01"),
            "7:18: baseline_start \"2026-03-01\" is no date and time such as 2026-03-01T08:00:00+01:00",
        ),
        (
            change("2026-03-02T08:00:00+01:00", "2026-02-02T08:00:00+01:00"),
            "8:15: trial_start is before baseline_start",
        ),
        (
            change("2026-03-06", "2026-03-01"),
            "9:13: trial_end is not after trial_start",
        ),
        (
            format!("{TRIAL}run_in_h = -1\n"),
            "10:12: run_in_h is not from 0 to 720",
        ),
        (
            format!("{TRIAL}protocol = \"../x\"\n"),
            "10:12: protocol is not 1 to 32 of A-Z a-z 0-9 . _ -",
        ),
    ];
    for (text, wanted) in cases {
        let diary = Diary::new("at,score\n");
        diary.write("trial.toml", &text);
        assert_eq!(diary.faults(), [format!("trial.toml:{wanted}")]);
    }
    let diary = Diary::new("at,score\n");
    diary.write("trial.toml", format!("{TRIAL}dose = 5\n"));
    assert!(diary.faults()[0].starts_with("trial.toml:10:1: unknown field `dose`"));
    diary.write("trial.toml", "bed = \n");
    assert!(
        diary.faults()[0].starts_with("trial.toml:1:7: "),
        "{:?}",
        diary.faults()
    );
    diary.write("trial.toml", TRIAL.replace("drug = \"morphine\"\n", ""));
    assert!(diary.faults()[0].contains("missing field `drug`"));
    diary.write("trial.toml", TRIAL);
    diary.write("context.toml", "diagnosis = [\n");
    assert!(diary.faults()[0].starts_with("context.toml:"));
}

#[test]
fn missing_files_are_named() {
    let diary = Diary::new("at,score\n");
    let folder = diary.dir.path().join("diary");
    std::fs::remove_file(folder.join("scores.csv")).unwrap();
    assert_eq!(
        diary.faults(),
        ["scores.csv:1:1: no such file; a diary has one"]
    );
    std::fs::remove_file(folder.join("trial.toml")).unwrap();
    assert_eq!(
        diary.faults(),
        ["trial.toml:1:1: no such file; a diary has one"]
    );
    let none = import(Path::new("/nonexistent"), &diary.out, false).unwrap_err();
    assert_eq!(
        none.lines(),
        ["/nonexistent/trial.toml:1:1: no such file; a diary has one"]
    );
}

#[test]
fn bad_rows_can_be_skipped_and_are_listed_but_bad_files_cannot() {
    let diary =
        Diary::new("at,score\n2026-03-01T09:00,5\n2026-03-01T10:00,50\n2026-03-01T09:00,6\n");
    diary.write("delivery.csv", "at,delivered_nl,programmed_nl\n2026-03-02T09:00,9,9\n2026-03-02T10:00,8,9\n2026-03-02T11:00,10,10\n");
    let done = diary.import(true).unwrap();
    assert_eq!(done.rows, 3);
    assert_eq!(
        diary.short(done.skipped),
        [
            "delivery.csv:3:2: delivered_nl falls from 9 to 8; it is cumulative",
            "scores.csv:3:2: score \"50\" is no whole number from 0 to 10, not empty, and not S",
            "scores.csv:4:1: at stands there already: line 2 has the same at and source",
        ]
    );
    assert!(matches!(
        diary.import(true),
        Err(ImportErrors::Record(Error::Exists(_)))
    ));
    std::fs::remove_file(&diary.out).unwrap();
    diary.write("delivery.csv", "at;delivered_nl;programmed_nl\n");
    let lines = diary.import(true).unwrap_err().lines();
    assert!(
        lines[0].contains("delivery.csv:1:1: unknown column"),
        "{lines:?}"
    );
    assert_eq!(diary.left(), ["diary"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_in_a_diary_can_panic_the_import(
        scores in prop::collection::vec(any::<u8>(), 0..200),
        rows in prop::collection::vec("[0-9TZ:,S.\"\n\r+ -]{0,60}", 0..8),
        trial in "[a-z_=\"\n\\[\\]0-9-]{0,80}",
    ) {
        let mut text = b"at,score\n".to_vec();
        text.extend(rows.join("\n").into_bytes());
        for bytes in [scores.clone(), text] {
            let diary = Diary::new(bytes);
            let first = diary.import(false).is_ok();
            if !first {
                prop_assert_eq!(diary.left(), ["diary"]);
                let _ = diary.import(true);
            }
        }
        let diary = Diary::new("at,score\n");
        diary.write("trial.toml", trial);
        let _ = diary.import(true);
        diary.write("trial.toml", scores);
        let _ = diary.import(true);
    }
}
