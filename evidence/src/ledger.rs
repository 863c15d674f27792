//! The ledger: one line a run of a lane, only ever appended, summed into `docs/evidence.md`.
//!
//! `commit,lane,seeds,counts,violations,duration_s`, where `seeds` is `FIRST..LAST` and `counts` is
//! `NAME=N` joined by spaces. A line is a claim that anybody can repeat with the command that the
//! lane prints.

use anyhow::{Context, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The ledger's place in the repository.
pub(crate) const LEDGER: &str = "evidence/ledger.csv";
/// The page of sums.
pub(crate) const PAGE: &str = "docs/evidence.md";
const HEADER: &str = "commit,lane,seeds,counts,violations,duration_s";

/// What every lane is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct LaneArgs {
    /// Append what was counted to evidence/ledger.csv.
    #[arg(long)]
    pub(crate) ledger: bool,
    /// The repository that is run and whose ledger it is.
    #[arg(long, default_value = ".")]
    pub(crate) repository: PathBuf,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Instead of CI's fixed count: go on with further seeds for so many minutes.
    #[arg(long)]
    pub(crate) minutes: Option<u64>,
}

/// A lane that runs: counts, says what did not hold, and at its end prints its line and, with
/// `--ledger`, appends it.
///
/// ```text
/// let mut lane = Lane::start("simulate", &args.lane)?;
/// let mut seed = args.lane.seed;
/// while lane.goes_on(seed < args.lane.seed + 500) {
///     lane.count("trial_hours", 168);
///     lane.violation(seed, "event EP-0193:1:7 twice");
///     seed += 1;
/// }
/// lane.finish(seed - 1)
/// ```
#[derive(Debug)]
pub(crate) struct Lane {
    args: LaneArgs,
    started: Duration,
    run: Run,
}

impl Lane {
    /// Notes commit and time.
    ///
    /// # Errors
    /// Where the repository is none.
    pub(crate) fn start(name: &str, args: &LaneArgs) -> anyhow::Result<Self> {
        Ok(Self {
            args: args.clone(),
            started: monotonic(),
            run: Run {
                commit: commit_of(&args.repository)?,
                lane: name.into(),
                seeds: (args.seed, args.seed),
                counts: BTreeMap::new(),
                violations: 0,
                duration_s: 0,
            },
        })
    }

    /// How long it has run.
    pub(crate) fn elapsed(&self) -> Duration {
        monotonic().saturating_sub(self.started)
    }

    /// Whether another case is due: the minutes where some were given, else CI's fixed count.
    pub(crate) fn goes_on(&self, within_fixed_count: bool) -> bool {
        match self.args.minutes {
            Some(minutes) => self.elapsed() < Duration::from_secs(minutes.saturating_mul(60)),
            None => within_fixed_count,
        }
    }

    /// Whether it runs CI's fixed count.
    pub(crate) fn has_fixed_count(&self) -> bool {
        self.args.minutes.is_none()
    }

    /// Adds to a count; its name is in `snake_case`.
    pub(crate) fn count(&mut self, name: &str, n: u64) {
        *self.run.counts.entry(name.into()).or_default() += n;
    }

    /// A promise did not hold: counted, and said with the seed that repeats it.
    pub(crate) fn violation(&mut self, seed: u64, what: &str) {
        self.run.violations += 1;
        eprintln!("{} seed {seed}: VIOLATION: {what}", self.run.lane);
    }

    /// Whether anything did not hold so far.
    pub(crate) fn has_violations(&self) -> bool {
        self.run.violations > 0
    }

    /// Prints the run's line and, with `--ledger`, appends it.
    ///
    /// # Errors
    /// Where a promise did not hold, or the ledger cannot be written.
    pub(crate) fn finish(mut self, last_seed: u64) -> anyhow::Result<()> {
        self.run.seeds.1 = last_seed;
        self.run.duration_s = self.elapsed().as_secs();
        println!("{}", self.run.line());
        if self.args.ledger {
            append(&self.args.repository, &self.run)?;
        }
        match self.run.violations {
            0 => Ok(()),
            n => bail!("{}: {n} violations", self.run.lane),
        }
    }
}

/// Monotonic time; lanes measure how long they ran, nothing else.
pub(crate) fn monotonic() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(
        u64::try_from(t.tv_sec).unwrap_or(0),
        u32::try_from(t.tv_nsec).unwrap_or(0),
    )
}

/// The commit that is checked out; `-dirty` behind it where a tracked file differs, but for the
/// ledger and its sums.
fn commit_of(repository: &Path) -> anyhow::Result<String> {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(repository).args(args);
        git.output().context("running git")
    };
    let hash = git(&["rev-parse", "--short=10", "HEAD"])?;
    if !hash.status.success() {
        bail!("{} is no git repository", repository.display());
    }
    let mut commit = String::from_utf8_lossy(&hash.stdout).trim().to_owned();
    let (ledger, page) = (format!(":!{LEDGER}"), format!(":!{PAGE}"));
    let differs = git(&["diff", "--quiet", "HEAD", "--", ".", &ledger, &page])?;
    if !differs.status.success() {
        commit.push_str("-dirty");
    }
    Ok(commit)
}

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

    fn parse(text: &str) -> anyhow::Result<Self> {
        let fields: Vec<&str> = text.split(',').collect();
        let &[commit, lane, seeds, counted, violations, duration_s] = fields.as_slice() else {
            bail!("{} fields, wanted 6", fields.len());
        };
        let (from, to) = seeds
            .split_once("..")
            .context("seeds are not FIRST..LAST")?;
        let mut all = BTreeMap::new();
        for count in counted.split(' ').filter(|c| !c.is_empty()) {
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
    writeln!(file, "{head}{}", run.line()).with_context(|| format!("writing {}", path.display()))
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
    counts: BTreeMap<String, u64>,
}

fn page(runs: &[Run]) -> String {
    let (good, bad): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| run.violations == 0);
    let mut lanes: BTreeMap<&str, Sum> = BTreeMap::new();
    for run in good {
        let sum = lanes.entry(&run.lane).or_default();
        sum.runs += 1;
        sum.duration_s += run.duration_s;
        for (name, n) in &run.counts {
            *sum.counts.entry(name.clone()).or_default() += n;
        }
    }
    let mut page = String::from(
        "# Evidence\n\n\
         Sums of `evidence/ledger.csv`, written by `cargo run -p evidence -- sum`. Each line of the ledger is one run of a lane on one\n\
         commit; summed are the runs without a violation. No violation in N independent cases bounds the rate of violations below\n\
         3/N (95 %) for that mix of faults, and says nothing about other faults.\n\n\
         | lane | runs | minutes | counted | repeat it with |\n|---|---|---|---|---|\n",
    );
    for (lane, sum) in lanes {
        let _ = writeln!(
            page,
            "| {lane} | {} | {} | {} | `cargo run --release -p evidence -- {lane}` |",
            sum.runs,
            sum.duration_s / 60,
            words(&sum.counts)
        );
    }
    if !bad.is_empty() {
        page.push_str(
            "\nRuns that saw a violation, each of which ended its run and was mended in a later commit:\n\n\
             | commit | lane | seeds | violations | counted |\n|---|---|---|---|---|\n",
        );
    }
    for run in bad {
        let (from, to) = run.seeds;
        let _ = writeln!(
            page,
            "| {} | {} | {from} to {to} | {} | {} |",
            run.commit,
            run.lane,
            run.violations,
            words(&run.counts)
        );
    }
    page
}

fn words(counts: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> = counts
        .iter()
        .map(|(name, n)| format!("{} {}", grouped(*n), name.replace('_', " ")))
        .collect();
    words.join(", ")
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
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
    fn the_page_sums_each_lane_and_names_apart_what_saw_a_violation() {
        let bad = Run {
            violations: 2,
            ..run("simulate", 3)
        };
        let page = page(&[
            run("simulate", 1_000_000),
            run("simulate", 500),
            bad,
            run("model", 1),
        ]);
        for line in [
            "| simulate | 2 | 3 | 14 faults, 1,000,500 trial hours | `cargo",
            "| abc1234 | simulate | 1 to 20 | 2 | 7 faults, 3 trial hours |",
        ] {
            assert!(page.contains(line), "{page}");
        }
    }

    #[test]
    fn a_lane_counts_appends_and_fails_where_a_promise_did_not_hold() {
        let dir = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(dir.path()).args(args);
            assert!(git.output().unwrap().status.success(), "{args:?}");
        };
        std::fs::create_dir(dir.path().join("evidence")).unwrap();
        std::fs::write(dir.path().join("a"), "1").unwrap();
        git(&["init", "-q"]);
        git(&["add", "."]);
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        git(&[&who[..], &["commit", "-q", "-m", "a"]].concat());
        let args = LaneArgs {
            ledger: true,
            repository: dir.path().into(),
            seed: 5,
            minutes: None,
        };
        let mut lane = Lane::start("simulate", &args).unwrap();
        assert!(lane.goes_on(true) && !lane.goes_on(false));
        lane.count("faults", 3);
        lane.count("faults", 4);
        lane.finish(9).unwrap();
        std::fs::write(dir.path().join("a"), "2").unwrap();
        let mut lane = Lane::start("simulate", &args).unwrap();
        lane.violation(7, "event 3 twice");
        assert!(lane.finish(9).is_err());
        let runs = read(dir.path()).unwrap();
        assert_eq!((runs[0].seeds, runs[0].counts["faults"]), ((5, 9), 7));
        assert_eq!((runs[0].violations, runs[1].violations), (0, 1));
        assert_eq!(runs[1].commit, format!("{}-dirty", runs[0].commit));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = format!("{HEADER}\n{}\nabc,x,1..2,a=b,0,1\n", run("model", 1).line());
        let error = format!("{:#}", parse(&text).unwrap_err());
        assert!(error.starts_with("line 3: count a"), "{error}");
    }
}
