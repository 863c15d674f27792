//! Any diary: imported whole, or refused with file, line and field, and then nothing is left behind.

use record::import::{ImportErrors, import};
use record::verify::{Evidence, Options, verify};

/// Between the files of an input, in this order.
const BETWEEN: u8 = 0x1e;
const FILES: [&str; 5] = [
    "scores.csv",
    "delivery.csv",
    "rescue.csv",
    "observations.csv",
    "trial.toml",
];
const TRIAL: &str = "trial_id = \"T-0500\"\nbed = \"07\"\ndrug = \"morphine\"\n\
concentration_mcg_per_ml = 500\nroute = \"intrathecal\"\nzone = \"Europe/Berlin\"\n\
baseline_start = 2026-03-01T08:00:00\ntrial_start = \"2026-03-02T08:00:00+01:00\"\n\
trial_end = 2026-03-06T08:00:00Z\n";

pub(crate) fn body(input: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let diary = folder.path().join("diary");
    std::fs::create_dir(&diary).expect("a folder");
    std::fs::write(diary.join("trial.toml"), TRIAL).expect("a file");
    let parts = input.split(|byte| *byte == BETWEEN);
    for (name, part) in FILES.iter().zip(parts) {
        if !part.is_empty() || *name == "scores.csv" {
            std::fs::write(diary.join(name), part).expect("a file");
        }
    }
    let out = folder.path().join("out.thecal");
    let taken = match import(&diary, &out, false) {
        Ok(imported) => {
            let report = verify(&out, &Options::default()).expect("made just now");
            assert_eq!(report.evidence, Evidence::Imported, "{}", report.line(&out));
            assert!(imported.skipped.is_empty() && imported.outside <= imported.rows);
            true
        }
        Err(why) => {
            assert!(!why.lines().is_empty());
            let left = std::fs::read_dir(folder.path()).expect("a folder").count();
            assert_eq!(left, 1, "something is left behind");
            if let ImportErrors::Record(error) = why {
                panic!("the record cannot be written: {error}");
            }
            false
        }
    };
    // What can be saved of it is saved, or the diary is refused.
    let saved = folder.path().join("saved.thecal");
    if import(&diary, &saved, true).is_ok() {
        assert!(verify(&saved, &Options::default()).is_ok());
    }
    taken
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let scores = "at,score,source,prompted,condition\n2026-03-01T09:00:00,7,patient,true,rest\n\
2026-03-02T10:00:00+01:00,,patient,true,rest\n2026-03-02T23:00:00Z,S,nurse,false,rest\n2026-03-03T09:00:00,3,nurse,false,movement\n";
    let delivery =
        "at,delivered_nl,programmed_nl\n2026-03-02T08:00:00,0,0\n2026-03-02T09:00:00,80000,80000\n";
    let rescue = "at,drug,dose_mg,route,reason,scheduled\n2026-03-02T12:00:00,oxycodone,5,oral,trial_pain,false\n";
    let seen = "at,kind,value\n2026-03-02T12:00:00,resp_rate,14\n2026-03-02T12:30:00,ashworth_left_leg,2\n";
    let all = [scores, delivery, rescue, seen].join("\u{1e}");
    let texts = [
        scores.to_owned(),
        all,
        "\u{feff}at,score\r\n2026-03-29T02:30:00,5\r\n2026-03-01T09:00,\"7\"\r\n".into(),
        "at;score\n2026-03-01T09:00:00;7,5\n".into(),
        "at,score\n2026-03-01T09:00:00,-1\n2026-03-01T09:00:00,NaN\n9999999-01-01T00:00:00Z,1e9\n"
            .into(),
        format!("at,score\n\u{1e}\u{1e}\u{1e}\u{1e}{TRIAL}"),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
