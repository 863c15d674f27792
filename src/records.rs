//! `verify`, `recover`, `import` and `export`.

use crate::args::{ImportArgs, RecoverArgs, VerifyArgs};
use anyhow::Context;
use gateway::key_files;
use record::verify::{Options, verify as check};

/// The worst of all records, in the order 4, 1, 3, 5, 0.
pub(crate) fn verify(args: &VerifyArgs) -> anyhow::Result<u8> {
    let key = args
        .key
        .as_deref()
        .map(key_files::load_public)
        .transpose()
        .context("--key")?;
    let tag_secret = args
        .tag_key
        .as_deref()
        .map(key_files::load_secret)
        .transpose()
        .context("--tag-key")?;
    let options = Options { key, tag_secret };
    let mut codes = Vec::new();
    for path in &args.records {
        match check(path, &options) {
            Ok(report) => {
                codes.push(report.evidence.exit_code());
                if args.json {
                    println!("{}", serde_json::to_string(&report)?);
                } else {
                    println!("{}", crate::shown(&report.line(path)));
                }
            }
            Err(error) => {
                codes.push(1);
                if args.json {
                    let line = serde_json::json!({ "record": path, "error": error.to_string() });
                    println!("{line}");
                }
                eprintln!("thecal verify: {}", crate::shown(&error.to_string()));
            }
        }
    }
    Ok([4, 1, 3, 5]
        .into_iter()
        .find(|code| codes.contains(code))
        .unwrap_or(0))
}

pub(crate) fn recover(args: &RecoverArgs) -> anyhow::Result<()> {
    let done = record::recover::recover(&args.spool, &args.trial, &args.out)?;
    println!(
        "{}: {} events of {} sources",
        args.out.display(),
        done.events,
        done.sources
    );
    for hole in &done.holes {
        println!("{}", crate::shown(hole));
    }
    Ok(())
}

/// 0, or 1 where rows were bad and not to be skipped.
pub(crate) fn import(args: &ImportArgs) -> u8 {
    match record::import::import(&args.dir, &args.out, args.skip_bad) {
        Ok(done) => {
            for bad in &done.skipped {
                eprintln!("skipped {}", crate::shown(bad));
            }
            println!(
                "{}: {} rows imported, {} skipped",
                args.out.display(),
                done.rows,
                done.skipped.len()
            );
            0
        }
        Err(errors) => {
            for line in errors.lines() {
                eprintln!("{}", crate::shown(&line));
            }
            1
        }
    }
}

#[cfg(feature = "analysis")]
pub(crate) fn export(args: &crate::args::ExportArgs) -> anyhow::Result<()> {
    let done = record::export::export(&args.records, &args.parquet)?;
    println!(
        "{}: {} trials, {} events",
        args.parquet.display(),
        done.trials,
        done.events
    );
    Ok(())
}
