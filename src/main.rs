//! The front door: one command a role. Reads the arguments, calls the crate that does the work,
//! turns its answer into text and an exit code.
#![forbid(unsafe_code)]

mod args;
mod bedside;
mod doctor;
mod keys;
mod records;
mod stop;

#[cfg(feature = "sim")]
mod bench;
#[cfg(all(feature = "sim", feature = "tui", feature = "analysis"))]
mod demo;
#[cfg(feature = "sim")]
mod face;
#[cfg(feature = "analysis")]
mod physician;
#[cfg(feature = "sim")]
mod provision;
#[cfg(feature = "sim")]
mod sim;
#[cfg(feature = "tui")]
mod watch;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // A reader that went away, such as `| head`, is no failure to talk about.
            let broken = error.chain().any(|cause| {
                cause
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            });
            if !broken {
                eprintln!("thecal: {}", shown(&format!("{error:#}")));
            }
            ExitCode::FAILURE
        }
    }
}

/// Text for the terminal: lines stay lines, nothing else moves the cursor.
fn shown(text: &str) -> String {
    text.lines()
        .map(|line| protocol::text::clean(line, 2_000))
        .collect::<Vec<_>>()
        .join("\n")
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    let Cli { common, command } = cli;
    match command {
        None => default_command(&common),
        Some(Command::Gateway(args)) => bedside::gateway(&common, args).map(|()| 0),
        Some(Command::Broker(args)) => bedside::broker(&args).map(|()| 0),
        Some(Command::Recorder(args)) => bedside::recorder(&common, args).map(|()| 0),
        Some(Command::Keys(args)) => keys::keys(&args).map(|()| 0),
        Some(Command::Verify(args)) => records::verify(&args),
        Some(Command::Recover(args)) => records::recover(&args).map(|()| 0),
        Some(Command::Import(args)) => Ok(records::import(&args)),
        #[cfg(feature = "analysis")]
        Some(Command::Export(args)) => records::export(&args).map(|()| 0),
        #[cfg(feature = "analysis")]
        Some(Command::Report(args)) => physician::report(&args).map(|()| 0),
        Some(Command::Doctor(args)) => doctor::doctor(&args),
        #[cfg(feature = "tui")]
        Some(Command::Watch(args)) => watch::watch(&common, &args).map(|()| 0),
        #[cfg(feature = "sim")]
        Some(Command::Sim(args)) => sim::sim(&common, &args).map(|()| 0),
        #[cfg(feature = "sim")]
        Some(Command::Bench(args)) => bench::bench(&args).map(|()| 0),
        #[cfg(all(feature = "sim", feature = "tui", feature = "analysis"))]
        Some(Command::Demo(args)) => demo::demo(&common, &args).map(|()| 0),
    }
}

#[cfg(all(feature = "sim", feature = "tui", feature = "analysis"))]
fn default_command(common: &args::Common) -> anyhow::Result<u8> {
    demo::demo(common, &args::DemoArgs::default()).map(|()| 0)
}

#[cfg(not(all(feature = "sim", feature = "tui", feature = "analysis")))]
fn default_command(_: &args::Common) -> anyhow::Result<u8> {
    anyhow::bail!("this is a bedside build without `demo`; `thecal --help` lists its commands")
}
