//! From files to files: a diary becomes a record, a record a report and a dataset, and both ways
//! of reading give the same bytes.
#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test may stop at the first surprise, and its figures are exact"
)]

mod common;

use analysis::{Options, Verdict, assess, load, report};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
}

const TRIAL: &str = r#"
trial_id = "T-9001"
bed = "12"
drug = "morphine"
concentration_mcg_per_ml = 1000
route = "intrathecal"
zone = "Europe/Berlin"
baseline_start = 2026-03-02T08:00:00Z
trial_start = 2026-03-03T08:00:00Z
trial_end = 2026-03-04T08:00:00Z
accepts_implant = true
"#;

/// The worked day of `facts/clinical.md` §6.1 after a day at 8, as a record.
fn worked_day(folder: &Path) -> PathBuf {
    let diary = folder.join("diary");
    write(&diary, "trial.toml", TRIAL);
    let mut scores = String::from("at,score\n");
    for hour in (8..24).step_by(4) {
        let _ = writeln!(scores, "2026-03-02T{hour:02}:00:00Z,8");
    }
    let _ = writeln!(
        scores,
        "2026-03-03T00:00:00Z,8\n2026-03-03T04:00:00Z,8\n2026-03-03T07:59:00Z,8"
    );
    for (hour, score) in [(8, 8), (9, 6), (10, 5), (12, 7), (16, 3), (20, 4)] {
        let _ = writeln!(scores, "2026-03-03T{hour:02}:00:00Z,{score}");
    }
    for (hour, score) in [(0, 6), (4, 2), (8, 4)] {
        let _ = writeln!(scores, "2026-03-04T{hour:02}:00:00Z,{score}");
    }
    write(&diary, "scores.csv", &scores);
    write(
        &diary,
        "rescue.csv",
        "at,drug,dose_mg,route\n2026-03-03T12:00:00Z,oxycodone,5,oral\n2026-03-04T00:00:00Z,oxycodone,5,oral\n",
    );
    let record = folder.join("T-9001.thecal");
    record::import::import(&diary, &record, false).unwrap();
    record
}

#[test]
fn the_worked_day_keeps_its_published_figures_from_diary_to_json() {
    let folder = tempfile::tempdir().unwrap();
    let record = worked_day(folder.path());
    let out = folder.path().join("out/deeper");
    let outcome = report(&record, &out, &Options::default()).unwrap();
    assert_eq!(outcome.trial_id, "T-9001");
    assert_eq!(outcome.report, out.join("report.html"));
    let text = std::fs::read_to_string(&outcome.verdict_json).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |place: &str| json.pointer(place).unwrap().as_f64().unwrap();
    assert_eq!(number("/pain/baseline_mean"), 8.0);
    assert_eq!(number("/pain/trial_mean"), 4.4375);
    assert_eq!(number("/pain/relief_percent"), 44.531);
    assert_eq!(number("/estimands/composite/trial_mean"), 6.2708);
    assert_eq!(number("/estimands/composite/relief_percent"), 21.615);
    assert_eq!(number("/estimands/no_rescue/trial_mean"), 4.9375);
    assert_eq!(number("/pain/time_at_least_50_percent_percent"), 50.0);
    assert_eq!(
        number("/pain/time_at_least_50_percent_without_rescue_percent"),
        16.67
    );
    assert_eq!(number("/pain/worst"), 8.0);
    assert_eq!(json["evidence"]["chain"], "imported");
    assert_eq!(json["evidence"]["scores_asked"], 16);
    assert!(json["evidence"]["delivered_percent_of_programmed"].is_null());
    assert_eq!(json["accepts_implant"], true);
    assert_eq!(json["trial"]["run_in_h"], 0);
    assert!(
        matches!(
            outcome.verdict,
            Verdict::DoesNotSupport | Verdict::Inconclusive
        ),
        "{outcome:?}"
    );
    let page = std::fs::read_to_string(&outcome.report).unwrap();
    assert!(page.contains("IMPORTED, NOT CHAINED") && !page.contains("SIMULATED"));
    let left: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    // Again, over what is there: the same bytes.
    report(&record, &out, &Options::default()).unwrap();
    assert_eq!(
        std::fs::read_to_string(&outcome.verdict_json).unwrap(),
        text
    );
}

#[test]
fn the_dataset_gives_the_same_verdict_as_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let record = worked_day(folder.path());
    let exported =
        record::export::export(std::slice::from_ref(&record), &folder.path().join("set")).unwrap();
    let from_record = load::from_record(&record).unwrap();
    let from_set = load::from_dataset(
        &exported.files[0],
        from_record.header.clone(),
        from_record.proof.clone(),
    )
    .unwrap();
    let json = |trial| assess(trial, &Options::default()).unwrap().verdict_json;
    assert_eq!(json(&from_record), json(&from_set));
}

#[test]
fn a_trial_of_a_pump_reads_the_same_from_rows_and_from_parquet() {
    use polars::prelude::*;
    use record::columns::{COLUMNS, Cell, Kind, row_cells};
    let input = common::made_up(common::Kind::Withdrawal, 4).input();
    let cells: Vec<Vec<Cell>> = input.rows.iter().map(row_cells).collect();
    let columns: Vec<Column> = COLUMNS
        .iter()
        .enumerate()
        .map(|(i, column)| {
            let name = column.name.into();
            let values = cells.iter().map(|row| &row[i]);
            match column.kind {
                Kind::Int => Column::new(
                    name,
                    values
                        .map(|c| if let Cell::Int(v) = c { Some(*v) } else { None })
                        .collect::<Vec<_>>(),
                ),
                Kind::Bool => Column::new(
                    name,
                    values
                        .map(|c| {
                            if let Cell::Bool(v) = c {
                                Some(*v)
                            } else {
                                None
                            }
                        })
                        .collect::<Vec<_>>(),
                ),
                Kind::Text => Column::new(
                    name,
                    values
                        .map(|c| {
                            if let Cell::Text(v) = c {
                                Some(v.as_str())
                            } else {
                                None
                            }
                        })
                        .collect::<Vec<_>>(),
                ),
            }
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.parquet");
    let mut frame = DataFrame::new(cells.len(), columns).unwrap();
    ParquetWriter::new(std::fs::File::create(&file).unwrap())
        .finish(&mut frame)
        .unwrap();
    let from_file = load::from_dataset(&file, input.header.clone(), input.proof.clone()).unwrap();
    let from_rows = load::from_rows(&input).unwrap();
    let texts = |trial| {
        let a = assess(trial, &Options::default()).unwrap();
        (a.verdict_json, a.report_html)
    };
    assert!(texts(&from_file) == texts(&from_rows));
}

#[test]
fn the_order_of_rows_and_repeats_change_nothing() {
    let input = common::made_up(common::Kind::Leak, 4).input();
    let mut mixed = input.clone();
    mixed.rows.reverse();
    let some = mixed.rows.iter().step_by(7).cloned().collect::<Vec<_>>();
    mixed.rows.extend(some);
    let json = |input| {
        assess(&load::from_rows(input).unwrap(), &Options::default())
            .unwrap()
            .verdict_json
    };
    assert_eq!(json(&input), json(&mixed));
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.thecal");
    let error = report(&missing, folder.path(), &Options::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("none.thecal"), "{error}");
    let record = worked_day(folder.path());
    let options = Options {
        protocol: Some("pain-99".into()),
    };
    let error = report(&record, folder.path(), &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("pain-99") && error.contains("pain-50"),
        "{error}"
    );
    let file = folder.path().join("in-the-way");
    std::fs::write(&file, "").unwrap();
    let error = report(&record, &file.join("out"), &Options::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("in-the-way"), "{error}");
}

#[test]
#[ignore = "350,000 events; prints time and memory of the process"]
fn four_days_with_an_event_a_second() {
    let mut m = common::made_up(common::Kind::Responder, 1);
    let start = common::BASELINE_START + 24 * common::HOUR;
    m.rows.retain(|row| row.kind != "delivered");
    let input = m.input();
    let mut rows = input.rows.clone();
    let template = protocol::event::Delivered {
        delivered_nl: 0,
        programmed_nl: 0,
        strokes: 0,
        encoder_counts: 0,
    };
    let before = memory_kib();
    for second in 0..96 * 3_600u64 {
        let nl = second * 17;
        let body = protocol::event::Delivered {
            delivered_nl: nl,
            programmed_nl: nl,
            ..template
        };
        let at = start + i64::try_from(second).unwrap() * 1_000;
        let mut row = rows[0].clone();
        row.seq = 1_000_000 + second;
        row.kind = "delivered".into();
        row.tick_ms = u64::try_from(at - common::BASELINE_START + common::HOUR).unwrap();
        row.at_utc_ms = at;
        row.body = protocol::event::Body::from(body).to_json();
        rows.push(row);
    }
    println!(
        "rows {}, of which {} KiB",
        rows.len(),
        memory_kib() - before
    );
    let held = memory_kib();
    let input = analysis::input::TrialInput { rows, ..input };
    let trial = load::from_rows(&input).unwrap();
    let a = assess(&trial, &Options::default()).unwrap();
    println!(
        "{:?}; peak beyond the rows {} KiB",
        a.decision.verdict,
        memory_kib() - held
    );
}

/// Peak resident memory so far.
fn memory_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
