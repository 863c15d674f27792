//! Breaks Thecal on purpose, counts what happened, and keeps the ledger.
//!
//! A lane is one way of breaking: it runs a fixed number of seeded cases, stops at the first
//! violation and names the seed that repeats it. `--ledger` appends what was counted to
//! `evidence/ledger.csv`; `evidence sum` writes the sums to `docs/evidence.md`. Nothing here is part of the product.
#![forbid(unsafe_code)]

mod chance;
#[path = "../../protocol/tests/errors/mod.rs"]
mod errors;
#[path = "../../protocol/tests/examples/mod.rs"]
mod examples;
mod faults;
mod fuzz;
#[path = "../../record/tests/golden/mod.rs"]
mod golden;
mod kill;
mod ledger;
mod line_errors;
mod model;
mod planted;
mod powercut;
mod product;
mod promise;
#[path = "../../gateway/tests/common/mod.rs"]
#[expect(
    clippy::unwrap_used,
    dead_code,
    reason = "a pump on a pty, as the gateway's tests have it"
)]
mod pty_pump;
mod simulate;
mod syscalls;
mod tamper;
mod writer;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(
    name = "evidence",
    about = "Breaks Thecal on purpose and counts what happened"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Whole trials in virtual time, from keypad to record, with everything breaking.
    Simulate(simulate::SimulateArgs),
    /// Write the sums of the ledger to docs/evidence.md.
    Sum(SumArgs),
    /// Search the model of the chain to its end, and demand that it finds each planted bug.
    Model(model::ModelArgs),
    /// Put known bugs into a copy of the tree and demand that each is found by its finder.
    Planted(planted::PlantedArgs),
    /// Kill, stop and unplug real processes while scores are typed; hold the record against keys and ticks.
    Kill(kill::KillArgs),
    /// Measure a gateway without its port, and the time until a backlog has arrived.
    Unplug(kill::UnplugArgs),
    /// Make disk images of what a power cut may leave, recover them, hold them against what was acknowledged.
    Powercut(powercut::PowercutArgs),
    /// Let the n-th system call of gateway, recorder and their writers fail, for n = 1 until none is left.
    Syscalls(syscalls::SyscallsArgs),
    /// Alter golden records in every way and see that two verifiers name it and agree.
    Tamper(tamper::TamperArgs),
    /// Live the stories of the fault table and write docs/faults.md.
    Faults(faults::FaultsArgs),
    /// Give seeded mutations to every fuzz target.
    Fuzz(fuzz::FuzzArgs),
    /// Try every error of one and two bits and every burst of 16 in every shape of frame.
    LineErrors(line_errors::LineErrorsArgs),
    /// The gateway of `faults`.
    #[command(hide = true)]
    Box(faults::BoxArgs),
    /// What the lanes record and disturb: writes in the current folder and says what it would acknowledge.
    #[command(hide = true)]
    Write(writer::WriterArgs),
}

#[derive(Debug, Args)]
struct SumArgs {
    /// The repository.
    #[arg(long, default_value = ".")]
    repository: PathBuf,
    /// Fail where docs/evidence.md is not what the ledger says; change nothing.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Simulate(args) => simulate::run(&args),
        Command::Sum(args) => ledger::sum(&args.repository, args.check),
        Command::Model(args) => model::run(&args),
        Command::Planted(args) => planted::run(&args),
        Command::Kill(args) => kill::run(&args),
        Command::Unplug(args) => kill::unplug(&args),
        Command::Powercut(args) => powercut::run(&args),
        Command::Syscalls(args) => syscalls::run(&args),
        Command::Tamper(args) => tamper::run(&args),
        Command::Write(args) => writer::run(args),
        Command::Faults(args) => faults::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::LineErrors(args) => line_errors::run(&args),
        Command::Box(args) => faults::run_box(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("evidence: {e:#}");
            ExitCode::FAILURE
        }
    }
}
