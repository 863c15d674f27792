//! `demo`: a whole trial on this machine, with real parts on every hop, then its reports.
//!
//! Everything runs in this process, in threads, so that nothing is left over however it ends; but
//! the parts talk over ptys, TCP and files as they would on a ward.

use crate::args::{Common, DemoArgs};
use crate::bedside::{runtime, said};
use crate::provision::Plan;
use crate::stop::Stop;
use crate::watch::{Dashboard, beds};
use anyhow::{Context, anyhow, bail};
use device_sim::nurse::NurseEntry;
use device_sim::patient::LocalClock;
use device_sim::patient::kind::Kind;
use device_sim::run::{Manners, Remote};
use gateway::broker::EmbeddedBroker;
use gateway::clock::{Clock, Mode, wall_utc};
use gateway::config::{BedConfig, Config};
use gateway::gateway::Gateway;
use gateway::key_files::{self, Trust};
use gateway::recorder::{self, Recorder};
use gateway::watch::EntryClient;
use protocol::keys::KeyPair;
use protocol::time::Timestamp;
use protocol::topics::EntryCommand;
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;
use tui::Incoming;

/// Monday, 2 March 2026, 08:00 in Vienna: the trial's clock at the start of each demo.
const ORIGIN_UTC_MS: i64 = 1_772_434_800_000;
const ZONE: &str = "Europe/Vienna";
/// Minutes east of UTC there until the end of March.
const OFFSET_MIN: i16 = 60;
const BASELINE_H: u32 = 24;
/// What the default speed aims at for pumps and patients; closing and reports come after.
const RUN_S: u32 = 75;
/// Names this folder as ours.
const MARK: &str = "demo.json";
/// An entry is tried for so long.
const ENTRY_PATIENCE: Duration = Duration::from_mins(2);

pub(crate) fn demo(common: &Common, args: &DemoArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let kinds = kinds(args)?;
    args.pump.image()?;
    let hours = BASELINE_H + args.days * 24;
    let speed = args
        .speed
        .unwrap_or_else(|| (hours * 3_600).div_ceil(RUN_S));
    let mode = Mode::Accelerated {
        origin: Timestamp::from_unix_millis(ORIGIN_UTC_MS),
        speed,
        anchor: Some(wall_utc()),
    };
    prepare(args, &kinds, speed)?;
    let runtime = runtime()?;
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let headless = args.headless || !terminal;
    let mut ward = runtime.block_on(Ward::start(common, args, &kinds, mode, speed))?;
    let end_ms = u64::from(hours) * 3_600_000;
    let done = if headless {
        wait_headless(&mut ward, &stop, end_ms)
    } else {
        with_dashboard(&runtime, &mut ward, &stop, common, args, mode, end_ms)
    };
    let closed = ward.is_done();
    runtime.block_on(ward.stop());
    done?;
    if !closed {
        bail!(
            "stopped before the trials were closed; what was recorded is in {}",
            args.out.display()
        );
    }
    report(args, kinds.len())
}

fn kinds(args: &DemoArgs) -> anyhow::Result<Vec<Kind>> {
    let one = args.patient.as_deref().map(str::parse::<Kind>).transpose();
    let one = one.map_err(|e| anyhow!("--patient: {e}"))?;
    Ok((0..usize::try_from(args.beds)?)
        .map(|i| one.unwrap_or_else(|| Kind::of_bed(i)))
        .collect())
}

fn bed_name(index: usize) -> String {
    format!("{:02}", index + 1)
}

fn trial_name(index: usize) -> String {
    format!("T-{:04}", index + 1)
}

/// The folder is empty, or not there, or one of ours: then it is made anew.
fn prepare(args: &DemoArgs, kinds: &[Kind], speed: u32) -> anyhow::Result<()> {
    let out = &args.out;
    let name = out.display();
    if out.exists() {
        let mut entries = std::fs::read_dir(out).with_context(|| name.to_string())?;
        if !out.join(MARK).is_file() && entries.next().is_some() {
            bail!(
                "{name} holds something else than a demo's results; name another folder with --out"
            );
        }
        std::fs::remove_dir_all(out).with_context(|| name.to_string())?;
    }
    std::fs::create_dir_all(out.join("bedside")).with_context(|| name.to_string())?;
    let beds: Vec<_> = kinds
        .iter()
        .enumerate()
        .map(|(i, kind)| serde_json::json!({"bed": bed_name(i), "trial": trial_name(i), "patient": kind.name()}))
        .collect();
    let mark = serde_json::json!({
        "schema": "thecal.demo/1", "software": gateway::SOFTWARE, "seed": args.seed,
        "days": args.days, "speed": speed, "beds": beds,
    });
    std::fs::write(out.join(MARK), format!("{mark:#}\n")).with_context(|| name.to_string())
}

/// A simulated pump in its thread.
struct Pump {
    remote: Remote,
    thread: JoinHandle<Result<(), String>>,
}

/// All parts of the demo.
struct Ward {
    broker: Box<dyn EmbeddedBroker>,
    recorder: Recorder,
    gateways: Vec<Gateway>,
    pumps: Vec<Pump>,
    nurse: tokio::task::JoinHandle<u64>,
    entries: tokio::sync::mpsc::UnboundedSender<(usize, NurseEntry)>,
}

impl Ward {
    async fn start(
        common: &Common,
        args: &DemoArgs,
        kinds: &[Kind],
        mode: Mode,
        speed: u32,
    ) -> anyhow::Result<Self> {
        let keys = Keys::make(&args.out, kinds.len())?;
        let listen = args
            .listen
            .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let broker = gateway::broker::start(listen, None).await?;
        let address = broker.address();
        eprintln!(
            "thecal demo: broker mqtt://{address}, trusted keys in {}",
            keys.trust.display()
        );
        let url: gateway::mqtt::Url = format!("mqtt://{address}")
            .parse()
            .map_err(|e| anyhow!("{e}"))?;
        let recorder = Recorder::start(recorder::Config {
            site: common.site.clone(),
            name: "ward".into(),
            broker: url.clone(),
            records: args.out.clone(),
            key: Some(keys.folder.join("recorder-ward")),
            trust: Some(keys.trust.clone()),
            clock: mode,
        })
        .map_err(said)
        .context("the recorder")?;
        let nurse = EntryClient::connect(url.clone(), &common.site, "nurse", keys.nurse.clone())
            .map_err(|e| anyhow!("{e}"))?;
        let (entries, inbox) = tokio::sync::mpsc::unbounded_channel();
        let nurse = tokio::spawn(nurse_at_work(nurse, inbox));
        let mut ward = Self {
            broker,
            recorder,
            gateways: Vec::new(),
            pumps: Vec::new(),
            nurse,
            entries,
        };
        for (i, kind) in kinds.iter().enumerate() {
            if let Err(e) = ward.add_bed(common, args, &keys, &url, mode, speed, (i, *kind)) {
                ward.stop().await;
                return Err(e);
            }
        }
        Ok(ward)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one bed, called once"
    )]
    fn add_bed(
        &mut self,
        common: &Common,
        args: &DemoArgs,
        keys: &Keys,
        url: &gateway::mqtt::Url,
        mode: Mode,
        speed: u32,
        (i, kind): (usize, Kind),
    ) -> anyhow::Result<()> {
        let bedside = args.out.join("bedside");
        let (bed, trial) = (bed_name(i), trial_name(i));
        let plan = Plan {
            bed_index: i,
            trial: Some(trial.clone()),
            bed: Some(bed.clone()),
            kind,
            seed: args.seed,
            days: args.days,
            speed,
            zone: ZONE.into(),
            clock: LocalClock {
                origin_utc_ms: ORIGIN_UTC_MS,
                offset_min: OFFSET_MIN,
            },
        };
        let mut setup = plan.setup()?;
        setup.image = args.pump.image()?;
        let port = bedside.join(format!("pump-{bed}"));
        let (remote, link, entries) = (Remote::new(), port.clone(), self.entries.clone());
        let runs = remote.clone();
        let thread = std::thread::Builder::new()
            .name(format!("pump {bed}"))
            .spawn(move || {
                let manners = Manners {
                    speed,
                    patience_ms: None,
                };
                device_sim::run::run(setup, &link, manners, &runs, |entry| {
                    // The receiver lives as long as the ward.
                    let _ = entries.send((i, entry));
                })
                .map(|_| ())
                .map_err(|e| e.to_string())
            })?;
        self.pumps.push(Pump { remote, thread });
        let gateway = Gateway::start(Config {
            site: common.site.clone(),
            gw: format!("gw-{bed}"),
            beds: vec![BedConfig {
                port,
                bed: bed.clone(),
                trial,
                tag_key: None,
            }],
            broker: url.clone(),
            spool: bedside.join(format!("gw-{bed}.spool")),
            key: Some(keys.folder.join(format!("gw-{bed}"))),
            trust: Some(keys.trust.clone()),
            clock: mode,
        })
        .map_err(said)
        .with_context(|| format!("the gateway of bed {bed}"))?;
        self.gateways.push(gateway);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.gateways.iter().all(Gateway::is_done)
    }

    /// The first part that failed.
    fn failure(&self) -> Option<String> {
        let ended = self
            .pumps
            .iter()
            .position(|pump| pump.thread.is_finished())?;
        Some(format!(
            "the pump of bed {} stopped by itself",
            bed_name(ended)
        ))
    }

    /// Trial milliseconds of the slowest pump that still runs, and events that are acknowledged, of all.
    fn progress(&self) -> (u64, u64) {
        let all: Vec<_> = self
            .pumps
            .iter()
            .map(|pump| pump.remote.progress())
            .collect();
        let open = all.iter().filter(|p| !p.closed).map(|p| p.trial_ms).min();
        let slowest = open
            .or_else(|| all.iter().map(|p| p.trial_ms).max())
            .unwrap_or(0);
        (slowest, all.iter().map(|p| p.acked_seq).sum())
    }

    /// Gateways first: what they took is on disk then, and what they did not take the pumps keep.
    async fn stop(self) {
        drop(self.entries);
        self.nurse.abort();
        let gateways: Vec<_> = self
            .gateways
            .into_iter()
            .map(|gateway| tokio::spawn(gateway.stop()))
            .collect();
        for gateway in gateways {
            let _ = gateway.await;
        }
        for pump in &self.pumps {
            pump.remote.stop();
        }
        for pump in self.pumps {
            let ended = tokio::task::spawn_blocking(move || pump.thread.join()).await;
            if let Ok(Ok(Err(why))) = ended {
                eprintln!("thecal demo: a pump: {}", crate::shown(&why));
            }
        }
        if let Err(why) = self.recorder.stop().await {
            eprintln!("thecal demo: the recorder: {}", crate::shown(&why));
        }
        self.broker.stop().await;
    }
}

/// Secrets in `OUT/keys`, public halves in `OUT/keys/trust`.
struct Keys {
    folder: PathBuf,
    trust: PathBuf,
    nurse: KeyPair,
}

impl Keys {
    fn make(out: &Path, beds: usize) -> anyhow::Result<Self> {
        let folder = out.join("keys");
        let trust = folder.join("trust");
        std::fs::create_dir_all(&trust).with_context(|| trust.display().to_string())?;
        let new = |name: &str| -> anyhow::Result<KeyPair> {
            let pair = key_files::generate()?;
            let secret = folder.join(name);
            key_files::save(&secret, &pair, false)?;
            let public = key_files::beside(&secret, "pub");
            std::fs::rename(&public, trust.join(format!("{name}.pub")))
                .with_context(|| public.display().to_string())?;
            Ok(pair)
        };
        for i in 0..beds {
            new(&format!("gw-{}", bed_name(i)))?;
        }
        new("recorder-ward")?;
        let nurse = new("nurse")?;
        Ok(Self {
            folder,
            trust,
            nurse,
        })
    }
}

/// Enters what the nurses wrote, each entry until it is stored. Gives how many were not.
async fn nurse_at_work(
    client: EntryClient,
    mut inbox: tokio::sync::mpsc::UnboundedReceiver<(usize, NurseEntry)>,
) -> u64 {
    let mut lost = 0;
    while let Some((i, entry)) = inbox.recv().await {
        let since = i64::try_from(entry.at_trial_ms).unwrap_or(i64::MAX);
        let command = EntryCommand {
            entry_id: entry.entry_id,
            bed: bed_name(i),
            trial: trial_name(i),
            by: entry.by,
            role: entry.role,
            at_utc_ms: ORIGIN_UTC_MS.saturating_add(since),
            entry: entry.entry,
        };
        let gw = format!("gw-{}", bed_name(i));
        let stored = loop {
            match client.enter(&gw, &command, ENTRY_PATIENCE).await {
                // The gateway has not heard its pump yet: it will.
                Some(reply) if reply.detail.contains("not heard yet") => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Some(reply) if reply.result == "stored" => break true,
                Some(reply) => {
                    eprintln!(
                        "thecal demo: entry {} refused: {}",
                        command.entry_id,
                        crate::shown(&reply.detail)
                    );
                    break false;
                }
                None => {
                    eprintln!("thecal demo: entry {} was never answered", command.entry_id);
                    break false;
                }
            }
        };
        lost += u64::from(!stored);
    }
    lost
}

fn progress_line(ward: &Ward, end_ms: u64) -> String {
    let (trial_ms, events) = ward.progress();
    let percent = (trial_ms * 100).checked_div(end_ms).unwrap_or(0).min(100);
    let hours = trial_ms / 3_600_000;
    format!(
        "trial day {} hour {:02}, {percent} %, {events} events safe",
        hours / 24,
        hours % 24
    )
}

fn wait_headless(ward: &mut Ward, stop: &Stop, end_ms: u64) -> anyhow::Result<()> {
    let tty = std::io::stderr().is_terminal();
    let mut said = String::new();
    let mut round = 0u32;
    while !ward.is_done() {
        if stop.is_set() {
            bail!("stopped");
        }
        if let Some(why) = ward.failure() {
            bail!(why);
        }
        // On a terminal one line that changes, else a line every ten seconds.
        let due = if tty {
            round.is_multiple_of(5)
        } else {
            round.is_multiple_of(100)
        };
        if due {
            let line = progress_line(ward, end_ms);
            if line != said {
                let mut err = std::io::stderr();
                let _ = if tty {
                    write!(err, "\r{line}\x1b[K")
                } else {
                    writeln!(err, "{line}")
                };
                said = line;
            }
        }
        round = round.wrapping_add(1);
        std::thread::sleep(Duration::from_millis(100));
    }
    if tty {
        eprint!("\r\x1b[K");
    }
    Ok(())
}

fn with_dashboard(
    runtime: &tokio::runtime::Runtime,
    ward: &mut Ward,
    stop: &Stop,
    common: &Common,
    args: &DemoArgs,
    mode: Mode,
    end_ms: u64,
) -> anyhow::Result<()> {
    let url = format!("mqtt://{}", ward.broker.address())
        .parse()
        .map_err(|e| anyhow!("{e}"))?;
    // A key that the gateways trust, or to them nobody watches.
    let pair = key_files::load(&args.out.join("keys").join("nurse"))?;
    let dashboard = runtime.block_on(async { Dashboard::connect(&url, &common.site, pair) })?;
    let names: Vec<_> = (0..usize::try_from(args.beds)?)
        .map(|i| (format!("gw-{}", bed_name(i)), bed_name(i)))
        .collect();
    let trust = Trust::load(Some(&args.out.join("keys").join("trust")))?;
    let clock = Clock::start(mode);
    let options = tui::Options {
        site: common.site.clone(),
        id: dashboard.id.clone(),
        beds: beds(&names),
        trial_now: Box::new(move || clock.now().utc),
        speed: mode.speed(),
        trust: Box::new(move |key| trust.accepts_reader(key)),
        palette: tui::choose_palette(None),
        ascii: false,
        lines: false,
        stop: Some(stop.flag()),
    };
    let tell = dashboard.tell.clone();
    let over = std::sync::atomic::AtomicBool::new(false);
    let (over, watched) = (&over, &*ward);
    let shown = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut said = String::new();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let line = match watched.failure() {
                    Some(why) => why,
                    None if watched.is_done() => "the trials are closed; q for the reports".into(),
                    None => progress_line(watched, end_ms),
                };
                if line != said {
                    let _ = tell.send(Incoming::Notice(line.clone()));
                    said = line;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let shown = dashboard.show(runtime, options);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        shown
    })?;
    match shown {
        tui::Exit::Interrupted => bail!("stopped"),
        tui::Exit::Quit | tui::Exit::Told => wait_headless(ward, stop, end_ms),
    }
}

/// The physician's reports, and the last lines on stdout.
fn report(args: &DemoArgs, beds: usize) -> anyhow::Result<()> {
    eprintln!("thecal demo: writing the reports");
    let mut lines = Vec::new();
    for i in 0..beds {
        let trial = trial_name(i);
        let record = recorder::record_path(&args.out, &trial);
        let folder = args.out.join(&trial);
        let options = analysis::Options { protocol: None };
        let done = analysis::report(&record, &folder, &options)
            .with_context(|| format!("report of {}", record.display()))?;
        lines.push(crate::physician::line(&done));
    }
    for line in lines {
        println!("{line}");
    }
    Ok(())
}
