//! The programs of a ward with one bed: broker, recorder, gateway and pump, each a process of its own,
//! and the cable between the last two.

use crate::kill::line::{Cable, Harm};
use crate::kill::person::PumpTerminal;
use anyhow::Context;
use bridges::process::{
    Part, find_mosquitto, free_port, mosquitto_as_debian_has_it, wait_listening,
};
use device_sim::clock::rest;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};

/// The simulated pump's serial number.
pub(crate) const PUMP: &str = "EP-0193";
const TRIAL: &str = "T-1";
/// Where the trial's clock begins.
const ORIGIN: &str = "2026-03-02T07:00:00Z";

/// Whose broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Broker {
    /// `thecal broker`.
    Embedded,
    /// Mosquitto as Debian configures it.
    Mosquitto,
}

/// One of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Pump,
    Gateway,
    Broker,
    Recorder,
}

impl Who {
    pub(crate) const ALL: [Self; 4] = [Self::Pump, Self::Gateway, Self::Broker, Self::Recorder];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pump => "pump",
            Self::Gateway => "gateway",
            Self::Broker => "broker",
            Self::Recorder => "recorder",
        }
    }
}

/// How a ward is set up.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) thecal: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) broker: Broker,
    /// Arguments that say where the pump's program runs.
    pub(crate) pump: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) speed: u32,
}

/// The processes. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Ward {
    plan: Plan,
    clock: String,
    broker: Part,
    recorder: Part,
    gateway: Part,
    pub(crate) pump: PumpTerminal,
    cable: Cable,
    /// Starts of the pump whose face was seen.
    pub(crate) pump_starts: u64,
}

impl Ward {
    pub(crate) fn start(plan: Plan) -> anyhow::Result<Self> {
        let folder = plan.folder.clone();
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        // Longer than any run: the trial goes on at its end.
        let scenario = format!(
            "name = \"kill\"
story = \"A person types, and processes are killed.\"
patient = \"responder\"
\
             seed = {}
baseline = \"60s\"
therapy = \"1d\"
quiet_patient = true
",
            plan.seed
        );
        std::fs::write(folder.join("scenario.toml"), scenario)?;
        // All processes, also those that start later, agree on when the trial's clock began.
        let anchor = gateway::clock::wall_utc().as_unix_millis();
        let clock = format!("{ORIGIN}@{}@{anchor}", plan.speed);
        let port = free_port()?;
        let log = |name: &str| folder.join(format!("{name}.log"));
        let text = |name: &str| folder.join(name).display().to_string();
        let mut broker = match plan.broker {
            Broker::Embedded => {
                let args = [
                    "broker".into(),
                    "--listen".into(),
                    format!("127.0.0.1:{port}"),
                ];
                Part::new(
                    "the embedded broker",
                    &plan.thecal,
                    args.into(),
                    &log("broker"),
                )
            }
            Broker::Mosquitto => {
                let config = mosquitto_as_debian_has_it(&folder, port)?;
                let args = ["-c".into(), config.display().to_string()];
                Part::new("mosquitto", &find_mosquitto()?, args.into(), &log("broker"))
            }
        };
        broker.start()?;
        wait_listening(port)?;
        let url = format!("mqtt://127.0.0.1:{port}");
        let records = text("records");
        let args = [
            "recorder",
            "--broker",
            &url,
            "--records",
            &records,
            "--clock",
            &clock,
        ];
        let args = args.map(String::from);
        let mut recorder = Part::new("the recorder", &plan.thecal, args.into(), &log("recorder"));
        recorder.start()?;
        let pump = PumpTerminal::start(&plan.thecal, &pump_args(&plan, &clock), &log("pump"))?;
        let cable = Cable::lay(&folder.join("pump"), &folder.join("port"), plan.seed, None)?;
        let (end, spool) = (text("port"), text("gw.spool"));
        let args = [
            "gateway", "--port", &end, "--bed", "01", "--trial", TRIAL, "--broker", &url,
            "--spool", &spool, "--clock", &clock,
        ];
        let args = args.map(String::from);
        let mut gateway = Part::new("the gateway", &plan.thecal, args.into(), &log("gateway"));
        gateway.start()?;
        let mut ward = Self {
            plan,
            clock,
            broker,
            recorder,
            gateway,
            pump,
            cable,
            pump_starts: 0,
        };
        ward.see_pump()?;
        Ok(ward)
    }

    fn see_pump(&mut self) -> anyhow::Result<()> {
        let seen = self.pump.wait_face(60_000, |face| !face.is_empty());
        anyhow::ensure!(seen, "the pump shows no face within a minute");
        self.pump_starts += 1;
        Ok(())
    }

    fn part(&mut self, who: Who) -> Option<&mut Part> {
        match who {
            Who::Pump => None,
            Who::Gateway => Some(&mut self.gateway),
            Who::Broker => Some(&mut self.broker),
            Who::Recorder => Some(&mut self.recorder),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, who: Who) {
        if let Some(part) = self.part(who) {
            part.kill();
            return;
        }
        self.pump.kill();
        wait_no_emulator(&self.plan.folder.join("pump-state"));
        // It leads to a terminal whose number the next one may get.
        let _ = std::fs::remove_file(self.plan.folder.join("pump"));
    }

    /// Starts again what was killed.
    pub(crate) fn start_again(&mut self, who: Who) -> anyhow::Result<()> {
        if let Some(part) = self.part(who) {
            return part.start();
        }
        let args = pump_args(&self.plan, &self.clock);
        let log = self.plan.folder.join("pump.log");
        self.pump = PumpTerminal::start(&self.plan.thecal, &args, &log)?;
        self.see_pump()
    }

    /// A signal such as SIGSTOP.
    pub(crate) fn signal(&mut self, who: Who, signal: Signal) {
        match self.part(who) {
            Some(part) => part.signal(signal),
            None => {
                let _ = kill_process(Pid::from_child(self.pump.child()), signal);
            }
        }
    }

    /// Does something to the cable.
    pub(crate) fn harm(&self, harm: Harm) {
        self.cable.harm(harm);
    }

    /// Who ended without being killed.
    pub(crate) fn ended_by_itself(&mut self) -> Vec<&'static str> {
        let mut ended = Vec::new();
        for who in Who::ALL {
            let is_gone = match self.part(who) {
                Some(part) => part.has_ended(),
                None => self.pump.has_ended(),
            };
            if is_gone {
                ended.push(who.word());
            }
        }
        ended
    }

    /// The trial's record.
    pub(crate) fn record(&self) -> PathBuf {
        let records = self.plan.folder.join("records");
        records.join(format!("{TRIAL}.thecal"))
    }

    /// SIGTERM to the recorder: it commits what came and closes its files.
    pub(crate) fn end_recorder(&mut self) {
        self.recorder.end();
    }

    /// SIGTERM to everybody.
    pub(crate) fn end(&mut self) {
        self.gateway.end();
        self.recorder.end();
        self.broker.end();
        self.pump.kill();
    }
}

/// Waits until no emulator has the pump's memory open any more: it dies a moment after its program,
/// and two pumps on one memory are not what a power cut is.
fn wait_no_emulator(state: &Path) {
    let state = state.display().to_string();
    let is_there = || {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .any(|words| {
                let words = String::from_utf8_lossy(&words);
                words.contains(device_sim::qemu::PROGRAM) && words.contains(&state)
            })
    };
    for _ in 0..2_000 {
        if !is_there() {
            return;
        }
        rest(5);
    }
}

/// Whether a record is closed, by plain SQL.
pub(crate) fn closed(record: &Path) -> anyhow::Result<bool> {
    let db = Connection::open_with_flags(record, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT value FROM trial WHERE key = 'closed'";
    let value: Option<String> = db.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(value.is_some())
}

fn pump_args(plan: &Plan, clock: &str) -> Vec<String> {
    let text = |name: &str| plan.folder.join(name).display().to_string();
    let (link, scenario, state) = (text("pump"), text("scenario.toml"), text("pump-state"));
    let args = [
        "sim",
        "--link",
        &link,
        "--scenario",
        &scenario,
        "--state",
        &state,
        "--trial",
        TRIAL,
        "--clock",
        clock,
    ];
    let mut args: Vec<String> = args.map(String::from).into();
    args.extend(plan.pump.iter().cloned());
    args
}
