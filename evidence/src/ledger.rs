//! The ledger: one line a run of a lane, only ever appended, summed into `docs/evidence.md`.
//!
//! `commit,lane,seeds,counts,violations,duration_s`, where `seeds` is `FIRST..LAST` and `counts` is
//! `NAME=N` joined by spaces. A line is a claim that anybody can repeat with the command that the
//! lane prints.

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// The ledger's place in the repository.
pub(crate) const LEDGER: &str = "evidence/ledger.csv";
/// The page of sums.
pub(crate) const PAGE: &str = "docs/evidence.md";
const HEADER: &str = "commit,lane,seeds,counts,violations,duration_s";

/// What one run of a lane says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The commit that was run, short; `-dirty` behind it where files differed.
    pub(crate) commit: String,
    /// Which lane.
    pub(crate) lane: String,
    /// First and last seed, both run.
    pub(crate) seeds: (u64, u64),
    /// What was counted.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Cases in which a promise did not hold.
    pub(crate) violations: u64,
    /// Wall seconds.
    pub(crate) duration_s: u64,
}

impl Run {
    /// As a line of the ledger.
    pub(crate) fn line(&self) -> String {
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|(k, n)| format!("{k}={n}"))
            .collect();
        let (from, to) = self.seeds;
        format!(
            "{},{},{from}..{to},{},{},{}",
            self.commit,
            self.lane,
            counts.join(" "),
            self.violations,
            self.duration_s
        )
    }

    fn parse(line: &str) -> anyhow::Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let &[commit, lane, seeds, counts, violations, duration_s] = fields.as_slice() else {
            bail!("{} fields, wanted 6", fields.len());
        };
        let (from, to) = seeds
            .split_once("..")
            .context("seeds are not FIRST..LAST")?;
        let mut all = BTreeMap::new();
        for count in counts.split(' ').filter(|c| !c.is_empty()) {
            let (name, number) = count.split_once('=').context("a count is not NAME=N")?;
            all.insert(
                name.to_owned(),
                number.parse().with_context(|| format!("count {name}"))?,
            );
        }
        Ok(Self {
            commit: commit.into(),
            lane: lane.into(),
            seeds: (
                from.parse().context("first seed")?,
                to.parse().context("last seed")?,
            ),
            counts: all,
            violations: violations.parse().context("violations")?,
            duration_s: duration_s.parse().context("duration_s")?,
        })
    }
}

/// Appends a run.
///
/// # Errors
/// Where the file cannot be written.
#[expect(dead_code, reason = "the first lane calls it")]
pub(crate) fn append(repository: &Path, run: &Run) -> anyhow::Result<()> {
    let path = repository.join(LEDGER);
    let fresh = !path.exists();
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let head = if fresh {
        format!("{HEADER}\n")
    } else {
        String::new()
    };
    write!(file, "{head}{}\n", run.line()).with_context(|| format!("writing {}", path.display()))
}

/// Reads the ledger.
///
/// # Errors
/// Names the first line that is none.
pub(crate) fn read(repository: &Path) -> anyhow::Result<Vec<Run>> {
    let path = repository.join(LEDGER);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
    };
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> anyhow::Result<Vec<Run>> {
    let mut lines = text.lines().enumerate();
    if !matches!(lines.next(), Some((_, HEADER))) {
        bail!("line 1: wanted {HEADER}");
    }
    lines
        .map(|(at, line)| Run::parse(line).with_context(|| format!("line {}", at + 1)))
        .collect()
}

/// Writes the sums to `docs/evidence.md`, or checks that they stand there.
///
/// # Errors
/// Where the ledger is damaged, or the page differs and was to be checked only.
pub(crate) fn sum(repository: &Path, check: bool) -> anyhow::Result<()> {
    let page = page(&read(repository)?);
    let path = repository.join(PAGE);
    if !check {
        return std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()));
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    if there != page {
        bail!("{PAGE} is not what {LEDGER} says: run `cargo run -p evidence -- sum`");
    }
    Ok(())
}

#[derive(Default)]
struct Sum {
    runs: u64,
    duration_s: u64,
    violations: u64,
    counts: BTreeMap<String, u64>,
}

fn page(runs: &[Run]) -> String {
    let mut lanes: BTreeMap<&str, Sum> = BTreeMap::new();
    for run in runs {
        let sum = lanes.entry(&run.lane).or_default();
        sum.runs += 1;
        sum.duration_s += run.duration_s;
        sum.violations += run.violations;
        for (name, n) in &run.counts {
            *sum.counts.entry(name.clone()).or_default() += n;
        }
    }
    let mut page = String::from(
        "# Evidence\n\n\
         Sums of `evidence/ledger.csv`, written by `cargo run -p evidence -- sum`. Each line of the ledger is one run of a lane on one\n\
         commit. No violation in N independent cases bounds the rate of violations below 3/N (95 %) for that mix of\n\
         faults, and says nothing about other faults.\n\n\
         | lane | runs | minutes | counted | violations | repeat it with |\n|---|---|---|---|---|---|\n",
    );
    for (lane, sum) in lanes {
        let counts: Vec<String> = sum
            .counts
            .iter()
            .map(|(name, n)| format!("{} {}", grouped(*n), name.replace('_', " ")))
            .collect();
        let _ = writeln!(
            page,
            "| {lane} | {} | {} | {} | {} | `cargo run --release -p evidence -- {lane}` |",
            sum.runs,
            sum.duration_s / 60,
            counts.join(", "),
            sum.violations
        );
    }
    page
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lane: &str, hours: u64) -> Run {
        Run {
            commit: "abc1234".into(),
            lane: lane.into(),
            seeds: (1, 20),
            counts: BTreeMap::from([("trial_hours".into(), hours), ("faults".into(), 7)]),
            violations: 0,
            duration_s: 90,
        }
    }

    #[test]
    fn a_line_reads_back_as_what_was_run() {
        let run = run("simulate", 1_234_567);
        assert_eq!(Run::parse(&run.line()).unwrap(), run);
    }

    #[test]
    fn the_page_sums_each_lane() {
        let page = page(&[
            run("simulate", 1_000_000),
            run("simulate", 500),
            run("model", 1),
        ]);
        assert!(
            page.contains("| simulate | 2 | 3 | 14 faults, 1,000,500 trial hours | 0 |"),
            "{page}"
        );
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = format!("{HEADER}\n{}\nabc,x,1..2,a=b,0,1\n", run("model", 1).line());
        let error = format!("{:#}", parse(&text).unwrap_err());
        assert!(error.starts_with("line 3: count a"), "{error}");
    }
}
