//! Tamper matrix: golden records, altered byte by byte, row by row and cut by cut, by somebody with
//! SQLite and no key. `record::verify` and `docs/verify.py` must give the same answer, and name it.

mod change;
mod second;

use crate::chance::Chance;
use crate::golden;
use crate::ledger::{Lane, LaneArgs};
use anyhow::{Context, bail};
use change::Golden;
use clap::Args;
use protocol::hex::Hex;
use record::verify::{Options, Report, verify};
use second::{Answer, Second};
use std::path::Path;

/// What the lane is told.
#[derive(Debug, Args)]
pub(crate) struct TamperArgs {
    #[command(flatten)]
    lane: LaneArgs,
    /// Alterations of each golden record a seed, drawn by it; 0 for every single one.
    #[arg(long, default_value_t = CASES)]
    cases: usize,
    /// Draw from every byte and cut of the file, in place of one in some dozens: as `--cases 0`.
    #[arg(long)]
    every: bool,
    /// Leave out so many of what the seed draws first: a run of every single one in parts.
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// Only this golden record.
    #[arg(long)]
    record: Option<String>,
}

/// Of each golden record in CI.
const CASES: usize = 1_200;

/// Runs the lane.
///
/// # Errors
/// Where a golden record cannot be made, or an alteration is not named or the verifiers differ.
pub(crate) fn run(args: &TamperArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("tamper", &args.lane)?;
    let folder = tempfile::tempdir()?;
    let script = args.lane.repository.join("docs/verify.py");
    let mut pair = Pair::start(&script, folder.path())?;
    let mut goldens = Golden::all(folder.path())?;
    if let Some(name) = &args.record {
        goldens.retain(|golden| golden.name == name);
        anyhow::ensure!(!goldens.is_empty(), "no golden record is called {name}");
    }
    let mut seed = args.lane.seed;
    loop {
        for golden in &goldens {
            matrix(golden, args, seed, &mut pair, &mut lane)
                .with_context(|| format!("golden record {}", golden.name))?;
        }
        if !lane.goes_on(false) {
            return lane.finish(seed);
        }
        seed += 1;
    }
}

/// The two verifiers, each without a key and with the pump's.
struct Pair {
    plain: Second,
    keyed: Second,
}

impl Pair {
    fn start(script: &Path, folder: &Path) -> anyhow::Result<Self> {
        let pump = golden::pump_pair();
        let tag = folder.join("pump.tag");
        std::fs::write(&tag, Hex(pump.tag_secret()).to_string())?;
        let key = pump.public().to_string();
        let tag = tag.display().to_string();
        Ok(Self {
            plain: Second::start(script, &[])?,
            keyed: Second::start(script, &["--key", &key, "--tag-key", &tag])?,
        })
    }

    /// Both answers on one file.
    fn ask(
        &mut self,
        path: &Path,
        with_keys: bool,
    ) -> anyhow::Result<(Result<Report, ()>, Answer)> {
        let pump = golden::pump_pair();
        let options = if with_keys {
            Options {
                key: Some(pump.public()),
                tag_secret: Some(pump.tag_secret()),
            }
        } else {
            Options::default()
        };
        let second = if with_keys {
            &mut self.keyed
        } else {
            &mut self.plain
        };
        // Both at the same time.
        second.begin(path)?;
        let ours = verify(path, &options).map_err(|_| ());
        Ok((ours, second.answer()?))
    }
}

fn matrix(
    golden: &Golden,
    args: &TamperArgs,
    seed: u64,
    pair: &mut Pair,
    lane: &mut Lane,
) -> anyhow::Result<()> {
    for with_keys in [false, true] {
        let (ours, theirs) = pair.ask(&golden.path, with_keys)?;
        let ours = Answer::of(&ours);
        if ours != theirs || ours.exit != golden.exit {
            bail!("before any alteration: {ours:?}, the second verifier {theirs:?}");
        }
    }
    let mut all = golden.changes(args.every || args.cases == 0, seed);
    let mut deck = Chance::new(seed);
    for at in 0..all.len() {
        let other = at + deck.below(all.len() - at);
        all.swap(at, other);
    }
    let wanted = if args.cases == 0 {
        all.len()
    } else {
        args.cases
    };
    eprintln!(
        "{}: {} alterations to draw from, {} of these from number {}",
        golden.name,
        all.len(),
        wanted.min(all.len().saturating_sub(args.skip)),
        args.skip
    );
    for (change, n) in all.iter().zip(0..).skip(args.skip).take(wanted) {
        let mut chance = Chance::of(seed, n);
        let with_keys = chance.below(4) == 0;
        let Some((path, what)) = golden.altered(change, &mut chance)? else {
            lane.count("refused_by_sqlite", 1);
            continue;
        };
        let (ours, theirs) = pair.ask(&path, with_keys)?;
        let answer = Answer::of(&ours);
        let said = |problem: &str| {
            format!(
                "{} {what} (keys {with_keys}): {problem}: {answer:?}; second: {theirs:?}",
                golden.name
            )
        };
        if !answer.agrees(&theirs, change.is_of_file()) {
            lane.violation(seed, &said("the verifiers differ"));
        }
        let named = match &ours {
            Ok(report) => golden.names(report, change, &path)?,
            Err(()) => change.is_of_file(),
        };
        if !named {
            lane.violation(seed, &said("not named"));
        }
        lane.count(change.word(), 1);
        lane.count("alterations", 1);
        lane.count(&format!("exit_{}", answer.exit), 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    #[ignore = "needs python3 with cryptography"]
    fn a_sample_of_all_alterations_is_named_by_both_verifiers_and_they_agree() {
        let args = TamperArgs {
            lane: LaneArgs {
                ledger: false,
                repository: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".."),
                seed: 20_261_128,
                minutes: None,
            },
            cases: 60,
            every: false,
            skip: 0,
            record: None,
        };
        run(&args).unwrap();
    }
}
