//! Seeded mutations of each fuzz target's seeds and corpus. libFuzzer finds more in less; this
//! repeats to the byte anywhere.

use crate::ledger::{Lane, LaneArgs};
use crate::promise::in_memory;
use anyhow::Context;
use clap::Args;
use fuzz_bodies::mutate::Mutator;
use fuzz_bodies::{TARGETS, Target};

/// CI's rounds.
const ROUNDS: u64 = 480;
/// Of a test run's mutations, this part is one round, so that each target gets its share of time.
const PART: u64 = 64;

#[derive(Clone, Debug, Args)]
pub(crate) struct FuzzArgs {
    #[command(flatten)]
    lane: LaneArgs,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
    /// Instead: write each target's own seeds into its corpus, where libFuzzer finds them.
    #[arg(long)]
    seeds: bool,
}

/// Mutates and runs; a body that panics is a violation.
///
/// # Errors
/// Where there is no such target, or a body panicked.
pub(crate) fn run(args: &FuzzArgs) -> anyhow::Result<()> {
    if args.seeds {
        return write_seeds(args);
    }
    let mut lane = Lane::start("fuzz", &args.lane)?;
    // Files of a body are gone before the next: what it waits for a disk finds nothing.
    let _ = tempfile::env::override_temp_dir(&in_memory());
    let named = |target: &&Target| args.target.as_ref().is_none_or(|name| name == target.name);
    let mut all = Vec::new();
    for target in TARGETS.iter().filter(named) {
        let mut pool = (target.seeds)();
        let folder = args.lane.repository.join("fuzz/corpus").join(target.name);
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            pool.push(std::fs::read(entry?.path())?);
        }
        pool.sort();
        all.push((target, pool, Mutator::new(args.lane.seed)));
    }
    let mut round = 0;
    while lane.goes_on(round < ROUNDS) {
        for (target, pool, mutator) in &mut all {
            let share = target.in_a_test.div_ceil(PART);
            for _ in 0..share {
                let input = mutator.next(pool);
                let body = target.body;
                if std::panic::catch_unwind(|| body(&input)).is_err() {
                    let what = format!("{}: {input:02x?}", target.name);
                    lane.violation(args.lane.seed, &what);
                }
            }
            lane.count(&format!("{}_inputs", target.name), share);
        }
        round += 1;
        if lane.has_violations() {
            break;
        }
    }
    lane.finish(args.lane.seed)
}

/// Named by whether the target takes them; the tests of the corpus hold that.
fn write_seeds(args: &FuzzArgs) -> anyhow::Result<()> {
    for target in TARGETS {
        let folder = args.lane.repository.join("fuzz/corpus").join(target.name);
        for (n, seed) in (target.seeds)().iter().enumerate() {
            let taken = (target.body)(seed);
            let word = if taken { "good" } else { "bad" };
            let path = folder.join(format!("{word}-seed-{n}"));
            std::fs::write(&path, seed).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
