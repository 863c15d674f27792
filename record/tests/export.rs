//! The dataset, read back with the Parquet crate and held against the record.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic; that is how it fails"
)]

mod golden;

use parquet::basic::{Compression, Encoding};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use record::Record;
use record::columns::{COLUMNS, Cell, row_cells};
use record::export::{DatasetManifest, export};
use std::fs::File;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

fn read_back(path: &Path) -> Vec<Vec<Cell>> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| {
        let row = row.unwrap();
        let cells = row.get_column_iter().zip(COLUMNS);
        cells
            .map(|((name, field), column)| {
                assert_eq!(name, column.name);
                match field {
                    Field::Null => Cell::Null,
                    Field::Long(value) => Cell::Int(*value),
                    Field::Bool(value) => Cell::Bool(*value),
                    Field::Str(value) => Cell::Text(value.clone()),
                    other => panic!("{name}: {other:?}"),
                }
            })
            .collect()
    })
    .collect()
}

fn manifest(dir: &Path) -> DatasetManifest {
    serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn every_event_is_one_row_with_the_values_of_the_record() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("T-0001.thecal");
    let (pump, gateway) = golden::rows(3, true);
    golden::write_record(&path, &[&pump, &gateway], true);
    let out = dir.path().join("data/set");
    let done = export(std::slice::from_ref(&path), &out).unwrap();
    let file = out.join("trial=T-0001/events.parquet");
    assert_eq!(done.files, std::slice::from_ref(&file));
    let mut wanted = Vec::new();
    Record::open_read_only(&path)
        .unwrap()
        .for_each_event(|stored| {
            wanted.push(row_cells(&stored.row));
            Ok(())
        })
        .unwrap();
    assert_eq!(read_back(&file), wanted);
    assert_eq!(done.events, u64::try_from(wanted.len()).unwrap());

    let reader = SerializedFileReader::new(File::open(&file).unwrap()).unwrap();
    let meta = reader.metadata();
    let words = meta.file_metadata().key_value_metadata().unwrap();
    let word = |key: &str| {
        let found = words.iter().find(|w| w.key == format!("thecal.{key}"));
        found.unwrap().value.clone().unwrap()
    };
    assert_eq!(word("schema"), "thecal.events/1");
    assert_eq!(word("trial"), "T-0001");
    assert_eq!(word("holes"), "1");
    assert_eq!(word("evidence"), "gaps");
    let last = pump[pump.len() - 1].seq;
    assert!(
        word("sources").contains(&format!("\"last_seq\":{last}")),
        "{}",
        word("sources")
    );
    let group = meta.row_group(0);
    let sorting = group.sorting_columns().unwrap();
    let sorted: Vec<&str> = sorting
        .iter()
        .map(|s| COLUMNS[usize::try_from(s.column_idx).unwrap()].name)
        .collect();
    assert_eq!(sorted, ["source", "seq"]);
    for (column, known) in group.columns().iter().zip(COLUMNS) {
        assert!(
            matches!(column.compression(), Compression::ZSTD(_)),
            "{}",
            known.name
        );
        let delta = column
            .encodings()
            .any(|e| e == Encoding::DELTA_BINARY_PACKED);
        assert_eq!(
            delta,
            known.kind == record::columns::Kind::Int,
            "{}",
            known.name
        );
    }

    let manifest = manifest(&out);
    assert_eq!(manifest.files.len(), 1);
    let entry = &manifest.files[0];
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(entry.sha256, protocol::keys::sha256(&bytes).to_string());
    assert_eq!((entry.rows, entry.holes), (done.events, 1));
    assert_eq!(entry.path, "trial=T-0001/events.parquet");
}

#[test]
fn the_same_record_gives_the_same_bytes_and_other_trials_stay() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("T-0001.thecal");
    golden::write_golden(&path);
    let out = dir.path().join("set");
    export(std::slice::from_ref(&path), &out).unwrap();
    let file = out.join("trial=T-0001/events.parquet");
    let first = (std::fs::read(&file).unwrap(), manifest(&out));
    export(std::slice::from_ref(&path), &out).unwrap();
    assert_eq!((std::fs::read(&file).unwrap(), manifest(&out)), first);

    let other = import_of(dir.path(), "T-0500");
    export(std::slice::from_ref(&other), &out).unwrap();
    let trials: Vec<String> = manifest(&out).files.into_iter().map(|f| f.trial).collect();
    assert_eq!(trials, ["T-0001", "T-0500"]);
    let text = std::fs::read(out.join("trial=T-0500/events.parquet")).unwrap();
    let holds = |part: &[u8]| text.windows(part.len()).any(|w| w == part);
    assert!(holds(b"thecal.import") && !holds(b"failed back surgery"));
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["manifest.json", "trial=T-0001", "trial=T-0500"]);
}

fn import_of(dir: &Path, trial: &str) -> PathBuf {
    let diary = dir.join("diary");
    std::fs::create_dir(&diary).unwrap();
    let text = format!(
        "trial_id = '{trial}'\nbed = '1'\ndrug = 'morphine'\nconcentration_mcg_per_ml = 500\n\
         route = 'intrathecal'\nzone = 'UTC'\nbaseline_start = 2026-03-01T00:00:00Z\n\
         trial_start = 2026-03-02T00:00:00Z\ntrial_end = 2026-03-05T00:00:00Z\n"
    );
    std::fs::write(diary.join("trial.toml"), text).unwrap();
    std::fs::write(
        diary.join("context.toml"),
        "diagnosis = 'failed back surgery'\n",
    )
    .unwrap();
    std::fs::write(
        diary.join("scores.csv"),
        "at,score\n2026-03-01T08:00:00Z,7\n2026-03-02T08:00:00Z,\n2026-03-03T08:00:00Z,S\n",
    )
    .unwrap();
    let out = dir.join(format!("{trial}.thecal"));
    record::import::import(&diary, &out, false).unwrap();
    out
}

#[test]
fn what_is_altered_or_twice_or_not_ours_is_refused_and_nothing_is_changed() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("T-0001.thecal");
    golden::write_golden(&path);
    let copy = dir.path().join("copy.thecal");
    std::fs::copy(&path, &copy).unwrap();
    let out = dir.path().join("set");
    let refused = |records: &[PathBuf], part: &str| {
        let error = export(records, &out).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(
        &[path.clone(), copy.clone()],
        "another record of this export",
    );
    rusqlite::Connection::open(&copy)
        .unwrap()
        .execute_batch("DROP TRIGGER event_no_update")
        .unwrap();
    refused(std::slice::from_ref(&copy), "not verified, so not exported");
    refused(&[dir.path().join("none")], "no such file");
    assert!(!out.exists());
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("manifest.json"), "{\"name\": \"a web app\"}").unwrap();
    refused(std::slice::from_ref(&path), "not a dataset's manifest");
    let names = std::fs::read_dir(&out).unwrap().count();
    assert_eq!(names, 1);
}
