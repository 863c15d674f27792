//! `report`: the physician's trial summary of a record.

use crate::args::ReportArgs;
use anyhow::Context;

pub(crate) fn report(args: &ReportArgs) -> anyhow::Result<()> {
    let options = analysis::Options {
        protocol: args.protocol.clone(),
    };
    let done = analysis::report(&args.record, &args.out, &options)
        .with_context(|| format!("report of {}", args.record.display()))?;
    if args.json {
        let path = args.out.join("verdict.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        println!("{text}");
    } else {
        println!("{}", line(&done));
    }
    Ok(())
}

/// The verdict line: trial, verdict, report.
pub(crate) fn line(done: &analysis::Outcome) -> String {
    crate::shown(&format!(
        "{} {} {}",
        done.trial_id,
        done.verdict,
        done.report.display()
    ))
}
