//! Three ways from one serial line to an MQTT broker, side by side, while things break: our gateway
//! with its recorder, pyserial with paho-mqtt, Node-RED with its serial node. Prints the table of
//! `docs/bridges.md`. `run.sh` beside it installs the other two and calls this.
#![forbid(unsafe_code)]

use anyhow::{Context, bail, ensure};
use bridges::process::{
    Part, find_mosquitto, free_port, mosquitto_as_debian_has_it, wait_listening,
};
use bridges::proxy::Proxy;
use bridges::pump::{Journal, PUMP, Pump, Seen, TRIAL, frames_in};
use bridges::subscriber::Subscriber;
use bridges::tally::Tally;
use clap::{Parser, ValueEnum};
use device_sim::clock::{Wall, rest};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The subscriber's filter and the bridges' topic.
const TOPIC: &str = "bridge/frames";
/// Nothing new for so long: all that comes has come.
const QUIET_MS: u64 = 6_000;
const LONGEST_MS: u64 = 120_000;

#[derive(Debug, Parser)]
struct Args {
    /// The product's binary
    #[arg(long)]
    thecal: PathBuf,
    /// A Python with pyserial and paho-mqtt
    #[arg(long)]
    python: PathBuf,
    /// The folder in which npm installed node-red and node-red-node-serialport
    #[arg(long)]
    node_red: PathBuf,
    /// Folder of scripts and flows
    #[arg(long, default_value = "bench/bridges")]
    scripts: PathBuf,
    /// Folder for what the runs leave
    #[arg(long, default_value = "target/bridges/runs")]
    out: PathBuf,
    /// Runs of each case
    #[arg(long, default_value_t = 5)]
    repeats: u32,
    /// Events of the pump
    #[arg(long, default_value_t = 1_200)]
    events: u64,
    /// Events a second
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Only these ways
    #[arg(long, value_enum)]
    way: Vec<Way>,
    /// Only these cases
    #[arg(long, value_enum)]
    case: Vec<Case>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Way {
    Thecal,
    Paho,
    NodeRed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Case {
    /// Nothing breaks.
    Calm,
    /// The link to the broker is cut for 4 s.
    Cut,
    /// The same, and the bridge is killed meanwhile and started again a second later.
    CutKilled,
    /// Mosquitto is killed and started again half a second later.
    Mosquitto,
    /// The embedded broker is killed and started again half a second later.
    Embedded,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thecal => "Thecal gateway + recorder",
            Self::Paho => "pyserial + paho-mqtt",
            Self::NodeRed => "Node-RED + serial node",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calm => "nothing breaks",
            Self::Cut => "(a) link cut 4 s",
            Self::CutKilled => "(b) link cut 4 s, bridge killed",
            Self::Mosquitto => "(c) mosquitto killed",
            Self::Embedded => "(c) embedded broker killed",
        })
    }
}

/// What one run showed.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    lost: u64,
    /// Of these, sent while no bridge had the port open.
    lost_while_away: u64,
    /// Of the lost, below a number that did arrive.
    gaps: u64,
    doubled: u64,
    reordered: u64,
    /// Holes that the receiver itself names.
    named: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bridges: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let pick = |given: &[Way]| -> Vec<Way> {
        let all = [Way::Thecal, Way::Paho, Way::NodeRed];
        if given.is_empty() {
            all.into()
        } else {
            given.into()
        }
    };
    let ways = pick(&args.way);
    let cases: &[Case] = if args.case.is_empty() {
        &[
            Case::Calm,
            Case::Cut,
            Case::CutKilled,
            Case::Mosquitto,
            Case::Embedded,
        ]
    } else {
        &args.case
    };
    let journal = Arc::new(Journal::new(args.events)?);
    ensure!(
        journal.last_seq() == args.events,
        "the journal is of another length"
    );
    let mut seen: BTreeMap<(Case, Way), Vec<Counts>> = BTreeMap::new();
    // All ways in turn, so that a busy hour of the machine meets each of them.
    for repeat in 1..=args.repeats {
        for case in cases {
            for way in &ways {
                let counts = one(args, &journal, *case, *way, repeat)
                    .with_context(|| format!("{way}, {case}, run {repeat}"))?;
                eprintln!("{case}; {way}; run {repeat}: {counts:?}");
                seen.entry((*case, *way)).or_default().push(counts);
            }
        }
    }
    println!(
        "{} events at {}/s, {} runs of each case; median (least to most)\n",
        args.events, args.rate, args.repeats
    );
    println!(
        "| case | way | lost | of these while no bridge ran | doubled | reordered | seen as a gap in our numbers | named by the receiver |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for ((case, way), runs) in &seen {
        let cell = |of: fn(&Counts) -> u64| spread(runs.iter().map(of).collect());
        let cells = [
            cell(|c| c.lost),
            cell(|c| c.lost_while_away),
            cell(|c| c.doubled),
            cell(|c| c.reordered),
            cell(|c| c.gaps),
            cell(|c| c.named),
        ];
        println!("| {case} | {way} | {} |", cells.join(" | "));
    }
    Ok(())
}

fn spread(mut runs: Vec<u64>) -> String {
    runs.sort_unstable();
    let middle = runs.get(runs.len() / 2).copied().unwrap_or(0);
    match (runs.first(), runs.last()) {
        (Some(least), Some(most)) if least != most => format!("{middle} ({least} to {most})"),
        _ => middle.to_string(),
    }
}

/// The parts of one run.
struct Bench {
    folder: PathBuf,
    broker: Part,
    broker_port: u16,
    proxy: Proxy,
    pump: Pump,
    bridge: Part,
    recorder: Option<Part>,
    subscriber: Option<Subscriber>,
}

fn one(
    args: &Args,
    journal: &Arc<Journal>,
    case: Case,
    way: Way,
    repeat: u32,
) -> anyhow::Result<Counts> {
    let mut bench = Bench::start(args, journal, case, way, repeat)?;
    bench.wait_ready(way)?;
    bench.pump.go();
    let wall = Wall::start();
    let at = |ms: u64| {
        while wall.uptime().as_millis() < ms {
            rest(2);
        }
    };
    at(4_000);
    match case {
        Case::Calm => {}
        Case::Cut => {
            bench.proxy.cut();
            at(8_000);
            bench.proxy.mend();
        }
        Case::CutKilled => {
            bench.proxy.cut();
            at(5_500);
            bench.bridge.kill();
            at(6_500);
            bench.bridge.start()?;
            at(8_000);
            bench.proxy.mend();
        }
        Case::Mosquitto | Case::Embedded => {
            bench.broker.kill();
            at(4_500);
            bench.broker.start()?;
            wait_listening(bench.broker_port)?;
        }
    }
    bench.wait_quiet(&wall)?;
    let counts = bench.counts(journal)?;
    Ok(counts)
}

impl Bench {
    fn start(
        args: &Args,
        journal: &Arc<Journal>,
        case: Case,
        way: Way,
        repeat: u32,
    ) -> anyhow::Result<Self> {
        let folder = args
            .out
            .join(format!("{way:?}-{case:?}-{repeat}").to_lowercase());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let folder = folder.canonicalize()?;
        let log = |name: &str| folder.join(format!("{name}.log"));
        let broker_port = free_port()?;
        let mut broker = if case == Case::Embedded {
            let listen = [
                "broker".into(),
                "--listen".into(),
                format!("127.0.0.1:{broker_port}"),
            ];
            Part::new(
                "the embedded broker",
                &args.thecal,
                listen.into(),
                &log("broker"),
            )
        } else {
            let config = mosquitto_as_debian_has_it(&folder, broker_port)?;
            let config = ["-c".into(), config.display().to_string()];
            Part::new(
                "mosquitto",
                &find_mosquitto()?,
                config.into(),
                &log("broker"),
            )
        };
        broker.start()?;
        wait_listening(broker_port)?;
        let proxy = Proxy::start(broker_port)?;
        let pump = Pump::start(journal.clone(), &folder.join("pump"), args.rate)?;
        let port = pump.port.display().to_string();
        let mut recorder = None;
        let mut subscriber = None;
        if way == Way::Thecal {
            let records = folder.join("records").display().to_string();
            let url = format!("mqtt://127.0.0.1:{broker_port}");
            let args_of = ["recorder", "--broker", &url, "--records", &records].map(String::from);
            let mut made = Part::new(
                "the recorder",
                &args.thecal,
                args_of.into(),
                &log("recorder"),
            );
            made.start()?;
            recorder = Some(made);
        } else {
            let receiver = Subscriber::start(broker_port, "receiver", TOPIC)?;
            wait("the subscription", || receiver.listening() > 0)?;
            subscriber = Some(receiver);
        }
        let mut bridge = match way {
            Way::Thecal => {
                let url = format!("mqtt://127.0.0.1:{}", proxy.port);
                let spool = folder.join("gw.spool").display().to_string();
                let args_of = [
                    "gateway", "--port", &port, "--bed", "07", "--trial", TRIAL, "--broker", &url,
                    "--spool", &spool,
                ];
                Part::new(
                    "the gateway",
                    &args.thecal,
                    args_of.map(String::from).into(),
                    &log("bridge"),
                )
            }
            Way::Paho => {
                let script = args.scripts.join("paho_bridge.py").display().to_string();
                let mqtt_port = proxy.port.to_string();
                let args_of =
                    [script.as_str(), &port, "127.0.0.1", &mqtt_port, TOPIC].map(String::from);
                Part::new(
                    "the paho bridge",
                    &args.python,
                    args_of.into(),
                    &log("bridge"),
                )
            }
            Way::NodeRed => node_red(args, &folder, &port, proxy.port)?,
        };
        bridge.start()?;
        Ok(Self {
            folder,
            broker,
            broker_port,
            proxy,
            pump,
            bridge,
            recorder,
            subscriber,
        })
    }

    /// Until the pump's heartbeats, or its acknowledgements, go the whole way.
    fn wait_ready(&mut self, way: Way) -> anyhow::Result<()> {
        let ready = wait("the first heartbeat through the bridge", || {
            match &self.subscriber {
                Some(subscriber) => subscriber.count() > 0,
                None => self.pump.is_heard() && self.proxy.accepted() > 0,
            }
        });
        if ready.is_err() && self.bridge.has_ended() {
            bail!(
                "{way} ended by itself; see {}",
                self.folder.join("bridge.log").display()
            );
        }
        ready?;
        rest(1_000);
        Ok(())
    }

    /// Until the pump has nothing more to say, and the record is closed or nothing new has come for a
    /// while.
    fn wait_quiet(&self, wall: &Wall) -> anyhow::Result<()> {
        let (mut before, mut since) = (u64::MAX, 0);
        loop {
            let now = wall.uptime().as_millis();
            let done = self.pump.journaled() >= self.pump.last_seq();
            let Some(subscriber) = &self.subscriber else {
                // A record that is never closed is counted as it is then.
                if now >= LONGEST_MS || (done && is_closed(&self.record())) {
                    return Ok(());
                }
                rest(200);
                continue;
            };
            // Heartbeats go on for ever: only events count as new.
            let seen = tally(&subscriber.payloads()).distinct();
            if seen != before || !done {
                (before, since) = (seen, now);
            }
            if done && now - since >= QUIET_MS {
                return Ok(());
            }
            ensure!(now < LONGEST_MS, "it never became quiet");
            rest(50);
        }
    }

    fn record(&self) -> PathBuf {
        let records = self.folder.join("records");
        records.join(format!("{TRIAL}.thecal"))
    }

    fn counts(mut self, journal: &Journal) -> anyhow::Result<Counts> {
        let all = 1..=journal.last_seq();
        let away = self.pump.sent_to_nobody();
        let Some(subscriber) = self.subscriber.take() else {
            self.bridge.end();
            if let Some(recorder) = &mut self.recorder {
                recorder.end();
            }
            return record_counts(&self.record(), journal);
        };
        let tally = tally(&subscriber.stop());
        let (lost, gaps) = tally.lost_of(all);
        let (lost_while_away, _) = tally.lost_of(away);
        Ok(Counts {
            lost,
            lost_while_away,
            gaps,
            doubled: tally.doubled,
            reordered: tally.reordered,
            named: 0,
        })
    }
}

fn node_red(args: &Args, folder: &Path, port: &str, mqtt_port: u16) -> anyhow::Result<Part> {
    for name in ["flows.json", "settings.js"] {
        std::fs::copy(args.scripts.join(name), folder.join(name))
            .with_context(|| name.to_owned())?;
    }
    let program = args.node_red.join("node_modules/node-red/red.js");
    let user = folder.display().to_string();
    let settings = folder.join("settings.js").display().to_string();
    // Where the serial node is looked for, besides the user's folder.
    let nodes = folder.join("node_modules");
    std::os::unix::fs::symlink(args.node_red.canonicalize()?.join("node_modules"), &nodes)?;
    let args_of = [
        &program.display().to_string(),
        "--userDir",
        &user,
        "--settings",
        &settings,
    ]
    .map(String::from);
    Ok(Part::new(
        "Node-RED",
        Path::new("node"),
        args_of.into(),
        &folder.join("bridge.log"),
    )
    .with_env("BRIDGE_PORT", port)
    .with_env("BRIDGE_HOST", "127.0.0.1")
    .with_env("BRIDGE_MQTT_PORT", &mqtt_port.to_string())
    .with_env("BRIDGE_TOPIC", TOPIC)
    .with_env("BRIDGE_UI_PORT", &free_port()?.to_string()))
}

fn tally(payloads: &[Vec<u8>]) -> Tally {
    let mut tally = Tally::default();
    for seen in payloads.iter().flat_map(|payload| frames_in(payload)) {
        if let Seen::Event(seq) = seen {
            tally.note(seq);
        }
    }
    tally
}

/// Whether the trial's record says that it is closed.
fn is_closed(path: &Path) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let asked = rusqlite::Connection::open_with_flags(path, flags).and_then(|db| {
        let sql = "SELECT count(*) FROM trial WHERE key = 'closed'";
        db.query_row(sql, [], |row| row.get::<_, u64>(0))
    });
    // Where the recorder still holds it, it is not.
    matches!(asked, Ok(1..))
}

/// The record, read with plain SQL.
fn record_counts(path: &Path, journal: &Journal) -> anyhow::Result<Counts> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(path, flags)
        .with_context(|| path.display().to_string())?;
    // In the order in which a reader gets them.
    let mut query = db.prepare("SELECT seq FROM event WHERE source = ?1 ORDER BY source, seq")?;
    let mut tally = Tally::default();
    for seq in query.query_map([PUMP], |row| row.get::<_, u64>(0))? {
        tally.note(seq?);
    }
    let named = "SELECT ifnull(sum(to_seq - from_seq + 1), 0) FROM hole h WHERE source = ?1 \
                 AND NOT EXISTS (SELECT 1 FROM event e WHERE e.source = h.source AND e.seq BETWEEN h.from_seq AND h.to_seq)";
    let named = db.query_row(named, [PUMP], |row| row.get::<_, u64>(0))?;
    let (lost, gaps) = tally.lost_of(1..=journal.last_seq());
    Ok(Counts {
        lost,
        lost_while_away: 0,
        gaps,
        doubled: tally.doubled,
        reordered: tally.reordered,
        named,
    })
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    for _ in 0..15_000 {
        if is_so() {
            return Ok(());
        }
        rest(20);
    }
    bail!("never within five minutes: {what}")
}
