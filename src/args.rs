//! What may be said on the command line.

use clap::{Args, Parser, Subcommand};
use gateway::clock::Mode;
use gateway::mqtt::Url;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Watches over the trial phase of a pain pump, and says with evidence whether the patient should
/// get the permanent implant. Not a cleared medical device.
///
/// Without a command: `thecal demo`.
#[derive(Debug, Parser)]
#[command(
    name = "thecal",
    version,
    max_term_width = 100,
    after_help = "Examples:
  thecal                                   four simulated patients, four days, in this terminal
  thecal demo --headless --seed 7 --out out
  thecal verify out/*.thecal
  thecal report out/T-0001.thecal --out report
  thecal doctor --port /dev/serial/by-id/usb-pump"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Said with any command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The site, part of every topic
    #[arg(long, global = true, default_value = "demo", value_name = "NAME", value_parser = name)]
    pub(crate) site: String,
    /// The gateway's name [default: gw-BED]
    #[arg(long, global = true, value_name = "NAME", value_parser = name)]
    pub(crate) gw: Option<String>,
    /// The trial's clock: `wall`, or `RFC3339@N` for N times as fast from that instant on
    #[arg(long, global = true, default_value = "wall", value_name = "CLOCK")]
    pub(crate) clock: Mode,
}

fn name(text: &str) -> Result<String, String> {
    if protocol::text::is_name(text) {
        Ok(text.to_owned())
    } else {
        Err("wanted 1 to 32 of A-Z a-z 0-9 . _ -".into())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole trial on this machine: simulated pumps, gateways, broker, recorder, dashboard, reports
    #[cfg(all(feature = "sim", feature = "tui", feature = "analysis"))]
    Demo(DemoArgs),
    /// One simulated pump on a pty
    #[cfg(feature = "sim")]
    Sim(SimArgs),
    /// The bedside box: reads the pump's line, stores, acknowledges, publishes
    Gateway(GatewayArgs),
    /// The embedded MQTT broker alone
    Broker(BrokerArgs),
    /// The ward's trial records
    Recorder(RecorderArgs),
    /// The nurse's dashboard
    #[cfg(feature = "tui")]
    Watch(WatchArgs),
    /// Key pairs for pumps, gateways, recorders and people
    Keys(KeysArgs),
    /// Holds records against their own proof
    Verify(VerifyArgs),
    /// Makes a lost record again from a gateway's spool
    Recover(RecoverArgs),
    /// Makes a record from a diary kept without our pump
    Import(ImportArgs),
    /// Writes records as a Parquet dataset
    #[cfg(feature = "analysis")]
    Export(ExportArgs),
    /// The physician's trial summary
    #[cfg(feature = "analysis")]
    Report(ReportArgs),
    /// Checks ports, disk, broker, clock and terminal; says what to mend
    Doctor(DoctorArgs),
    /// Prints the product's own figures, with the limit of this machine beside them
    #[cfg(feature = "sim")]
    Bench(BenchArgs),
}

// Which pump it is. No doc comment: it would become the text about the whole command.
#[cfg(feature = "sim")]
#[derive(Debug, Args, Clone)]
pub(crate) struct PumpArgs {
    /// Where the pump's program runs: in this process, or as the real image in QEMU
    #[arg(long, default_value = "sim", value_parser = ["sim", "qemu"])]
    pub(crate) pump: String,
    /// The image for QEMU, as firmware/scripts/build.sh makes it
    #[arg(long, value_name = "FILE", default_value = device_sim::qemu::IMAGE)]
    pub(crate) image: PathBuf,
}

#[cfg(feature = "sim")]
impl Default for PumpArgs {
    fn default() -> Self {
        Self {
            pump: "sim".into(),
            image: device_sim::qemu::IMAGE.into(),
        }
    }
}

#[cfg(feature = "sim")]
impl PumpArgs {
    /// The image to run, where one is wanted; a clear word where it cannot be.
    pub(crate) fn image(&self) -> anyhow::Result<Option<PathBuf>> {
        if self.pump != "qemu" {
            return Ok(None);
        }
        device_sim::qemu::check(&self.image)?;
        Ok(Some(self.image.clone()))
    }
}

#[cfg(feature = "sim")]
#[derive(Debug, Args, Clone)]
#[command(after_help = "Examples:
  thecal demo
  thecal demo --headless --seed 7 --out out
  thecal demo --beds 1 --days 3 --patient leak")]
pub(crate) struct DemoArgs {
    /// Days of trial, after 24 h of baseline
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=14))]
    pub(crate) days: u32,
    /// Beds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) beds: u32,
    /// Ceiling of the trial's speed, times real time [default: aims at 90 s in all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) speed: Option<u32>,
    /// The kind of patient in every bed [default: one of each kind in turn]
    #[arg(long, value_name = "KIND")]
    pub(crate) patient: Option<String>,
    /// Of all chance
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) pump: PumpArgs,
    /// No dashboard
    #[arg(long)]
    pub(crate) headless: bool,
    /// Folder of the results; replaced only if a demo made it
    #[arg(long, default_value = "out")]
    pub(crate) out: PathBuf,
    /// Where the embedded broker listens [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
}

#[cfg(feature = "sim")]
impl Default for DemoArgs {
    fn default() -> Self {
        Self {
            days: 4,
            beds: 4,
            speed: None,
            patient: None,
            seed: 1,
            pump: PumpArgs::default(),
            headless: false,
            out: "out".into(),
            listen: None,
        }
    }
}

#[cfg(feature = "sim")]
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thecal sim --link /tmp/pump
  thecal sim --link /tmp/pump --patient leak --days 4 --headless
  thecal sim --link /tmp/pump --pump qemu
  thecal sim --link /tmp/pump --scenario scenarios/occlusion.toml --headless")]
pub(crate) struct SimArgs {
    /// The pty appears as this symbolic link
    #[arg(long, value_name = "PATH")]
    pub(crate) link: PathBuf,
    #[command(flatten)]
    pub(crate) pump: PumpArgs,
    /// The kind of patient
    #[arg(long, value_name = "KIND", default_value = "responder")]
    pub(crate) patient: String,
    /// A scenario: a timeline with faults
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// Of all chance
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Days of trial, after 24 h of baseline
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=14))]
    pub(crate) days: u32,
    /// Do not draw the pump's face
    #[arg(long)]
    pub(crate) headless: bool,
    /// The trial that the pump belongs to [default: any; its gateway binds it]
    #[arg(long, value_parser = name)]
    pub(crate) trial: Option<String>,
    /// Folder for the pump's memory and keys, so that it can be started again [default: none kept]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thecal gateway --port /dev/serial/by-id/usb-pump --bed 07 --trial T-0042 --broker mqtt://127.0.0.1 --spool gw-07.spool
  thecal gateway --config gateway.toml")]
pub(crate) struct GatewayArgs {
    /// All of it from a TOML file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["port", "bed", "trial", "broker", "spool"])]
    pub(crate) config: Option<PathBuf>,
    /// The serial port, by a stable name
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    pub(crate) port: Option<PathBuf>,
    /// The bed
    #[arg(long, value_parser = name, required_unless_present = "config")]
    pub(crate) bed: Option<String>,
    /// The trial
    #[arg(long, value_parser = name, required_unless_present = "config")]
    pub(crate) trial: Option<String>,
    /// The broker
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    pub(crate) broker: Option<Url>,
    /// The gateway's own store
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    pub(crate) spool: Option<PathBuf>,
    /// The pump's tag secret: looks at each event by itself before it is stored
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub(crate) tag_key: Option<PathBuf>,
    /// The gateway's secret key [default: SPOOL.key, made at the first start]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Folder of the public keys that are believed [default: each name's first key]
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// User names and passwords; without it the broker must stay on this machine
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RecorderArgs {
    /// The broker
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Url,
    /// Folder of the records
    #[arg(long, value_name = "DIR")]
    pub(crate) records: PathBuf,
    /// The recorder's name
    #[arg(long, default_value = "ward", value_name = "R", value_parser = name)]
    pub(crate) name: String,
    /// The recorder's secret key [default: RECORDS/NAME.key, made at the first start]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Folder of the public keys that are believed [default: each name's first key]
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: Option<PathBuf>,
}

#[cfg(feature = "tui")]
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The broker
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Url,
    /// One sentence a change instead of screens, for screen readers and logs
    #[arg(long)]
    pub(crate) lines: bool,
    /// Colours [default: by the terminal; `NO_COLOR` is respected]
    #[arg(long, value_parser = ["mono", "ansi16", "rgb"])]
    pub(crate) palette: Option<String>,
    /// No box drawing, ASCII alone
    #[arg(long)]
    pub(crate) ascii: bool,
    /// Folder of the public keys that are believed [default: everybody at this broker]
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: Option<PathBuf>,
    /// The secret key of this dashboard, whose public half gateways with `--trust` have: they count
    /// nobody else as watching [default: made for this run]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Write the screen as an SVG picture and end: the ward, or with --bed that bed
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// The bed of the picture
    #[arg(long, value_name = "BED", requires = "picture", value_parser = name)]
    pub(crate) bed: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) what: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Makes a pair: FILE (secret, for its owner alone) and FILE.pub
    New {
        /// The secret's file; must not be there yet
        file: PathBuf,
        /// For a pump: also FILE.tag, with which tags can be checked
        #[arg(long)]
        pump: bool,
    },
    /// Prints the public half and its fingerprint
    Show {
        /// A secret or a public file
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 complete and unaltered since the pump stored it, 3 holes or not closed,
4 altered or forged, 1 unreadable, 5 imported. The worst of all records, in the order 4, 1, 3, 5, 0."
)]
pub(crate) struct VerifyArgs {
    /// The records
    #[arg(required = true, value_name = "RECORD")]
    pub(crate) records: Vec<PathBuf>,
    /// The pump's public key, a file or 64 hex digits [default: the manifest's]
    #[arg(long, value_name = "PUB")]
    pub(crate) key: Option<String>,
    /// The pump's tag secret: checks every tag too
    #[arg(long, value_name = "FILE")]
    pub(crate) tag_key: Option<PathBuf>,
    /// One JSON object a record
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The gateway's spool
    pub(crate) spool: PathBuf,
    /// The trial
    #[arg(long)]
    pub(crate) trial: String,
    /// The record to make; must not be there yet
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Folder with trial.toml, scores.csv and the like
    pub(crate) dir: PathBuf,
    /// The record to make; must not be there yet
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Leave bad rows out, list and count them
    #[arg(long)]
    pub(crate) skip_bad: bool,
}

#[cfg(feature = "analysis")]
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The records
    #[arg(required = true, value_name = "RECORD")]
    pub(crate) records: Vec<PathBuf>,
    /// The dataset's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) parquet: PathBuf,
}

#[cfg(feature = "analysis")]
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The record
    pub(crate) record: PathBuf,
    /// Folder of report.html and verdict.json
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Decision protocol: a name, or a TOML file
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) protocol: Option<String>,
    /// Print verdict.json instead of the verdict line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A serial port to open
    #[arg(long, value_name = "PATH")]
    pub(crate) port: Option<PathBuf>,
    /// A broker to reach
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<Url>,
    /// Where the disk is probed
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) disk: PathBuf,
}

#[cfg(feature = "sim")]
#[derive(Debug, Args)]
#[command(
    after_help = "Figures that are written down come from the dist profile: cargo run --profile dist -- bench"
)]
pub(crate) struct BenchArgs {
    /// Which figure [default: all]
    #[arg(value_parser = ["link", "store", "latency", "report"])]
    pub(crate) name: Option<String>,
    /// Folder for the files of the benchmarks [default: a new one under the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
