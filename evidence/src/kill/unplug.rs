//! Lane `unplug`: what a gateway costs while its port is gone, and how long a day that nobody heard
//! takes once somebody listens again, at the pace of 115200 baud.

use crate::kill::line::{Cable, Harm};
use crate::kill::oracle;
use crate::kill::ward::{PUMP, closed};
use crate::ledger::{Lane, LaneArgs, monotonic};
use crate::product;
use anyhow::{Context, ensure};
use bridges::process::{Part, free_port, wait_listening};
use clap::Args;
use device_sim::clock::rest;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// 115200 baud, 8N1: ten bits a byte.
const BYTES_PER_S: u64 = 11_520;
/// A gateway without a port may use so much of a core, percent.
const CPU_PERCENT_MAX: u64 = 5;
/// So many windows are measured before a gateway is called too busy: one that spins is so in all of
/// them, and a machine that others use too is not.
const WINDOWS_MAX: usize = 3;
/// A day has at most so many events, one each ten seconds (`facts/firmware.md`).
const EVENTS_A_DAY_MAX: u32 = 8_640;
/// A day's backlog must be there within so long.
const BACKLOG_WITHIN: Duration = Duration::from_mins(1);
/// The gateway closes its chain so long after the pump's, to let the last entries in: a rule of its
/// own, not the line's.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Args)]
pub(crate) struct UnplugArgs {
    #[command(flatten)]
    lane: LaneArgs,
    /// Seconds over which the processor's time is measured
    #[arg(long, default_value_t = 10)]
    window_s: u64,
    /// Days of the trials whose events wait, after a day of baseline. Six leave more of them than a
    /// day of the most that a pump may have to say
    #[arg(long, value_delimiter = ',', default_value = "1,6")]
    days: Vec<u32>,
    /// The product's binary [default: as for `kill`]
    #[arg(long)]
    thecal: Option<PathBuf>,
}

/// Runs the lane.
///
/// # Errors
/// Where a promise did not hold.
pub(crate) fn run(args: &UnplugArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("unplug", &args.lane)?;
    let thecal = product::find(args.thecal.as_deref())?;
    let mut seed = args.lane.seed;
    while lane.goes_on(seed == args.lane.seed) && !lane.has_violations() {
        for days in &args.days {
            let folder = tempfile::tempdir()?;
            if let Err(e) = backlog(&thecal, folder.path(), seed, *days, &mut lane) {
                lane.violation(seed, &format!("{days} days: {e:#}"));
            }
        }
        let folder = tempfile::tempdir()?;
        if let Err(e) = idle(&thecal, folder.path(), seed, args.window_s, &mut lane) {
            lane.violation(seed, &format!("{e:#}"));
        }
        seed += 1;
    }
    lane.finish(seed - 1)
}

/// Broker, recorder and gateway in a folder, at one end of a cable.
struct Bedside {
    folder: PathBuf,
    gateway: Part,
    recorder: Part,
    broker: Part,
}

impl Bedside {
    fn start(thecal: &Path, folder: &Path, port: &Path, clock: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let log = |name: &str| folder.join(format!("{name}.log"));
        let text = |name: &str| folder.join(name).display().to_string();
        let listen = free_port()?;
        let words = [
            "broker".into(),
            "--listen".into(),
            format!("127.0.0.1:{listen}"),
        ];
        let mut broker = Part::new("the embedded broker", thecal, words.into(), &log("broker"));
        broker.start()?;
        wait_listening(listen)?;
        let url = format!("mqtt://127.0.0.1:{listen}");
        let records = text("records");
        let words = [
            "recorder",
            "--broker",
            &url,
            "--records",
            &records,
            "--clock",
            clock,
        ];
        let words = words.map(String::from);
        let mut recorder = Part::new("the recorder", thecal, words.into(), &log("recorder"));
        recorder.start()?;
        let (port, spool) = (port.display().to_string(), text("gw.spool"));
        let words = [
            "gateway", "--port", &port, "--bed", "01", "--trial", "T-1", "--broker", &url,
            "--spool", &spool, "--clock", clock,
        ];
        let words = words.map(String::from);
        let mut gateway = Part::new("the gateway", thecal, words.into(), &log("gateway"));
        gateway.start()?;
        Ok(Self {
            folder: folder.into(),
            gateway,
            recorder,
            broker,
        })
    }

    fn record(&self) -> PathBuf {
        self.folder.join("records").join("T-1.thecal")
    }

    /// Until its record is closed; how long that took.
    fn wait_closed(&mut self, at_most: Duration) -> anyhow::Result<Duration> {
        let began = monotonic();
        loop {
            let took = monotonic().saturating_sub(began);
            if closed(&self.record()).unwrap_or(false) {
                return Ok(took);
            }
            ensure!(took < at_most, "not closed within {} s", at_most.as_secs());
            ensure!(!self.gateway.has_ended(), "the gateway ended by itself");
            rest(100);
        }
    }

    fn end(&mut self) {
        self.gateway.end();
        self.recorder.end();
        self.broker.end();
    }
}

fn clock() -> String {
    let anchor = gateway::clock::wall_utc().as_unix_millis();
    format!("2026-03-02T07:00:00Z@20000@{anchor}")
}

fn pump(thecal: &Path, folder: &Path, seed: u64, days: u32, clock: &str) -> anyhow::Result<Part> {
    let (link, seed) = (folder.join("pump").display().to_string(), seed.to_string());
    let days = days.to_string();
    let words = [
        "sim",
        "--link",
        &link,
        "--headless",
        "--trial",
        "T-1",
        "--seed",
        &seed,
        "--days",
        &days,
        "--clock",
        clock,
    ];
    let words = words.map(String::from);
    let mut pump = Part::new("the pump", thecal, words.into(), &folder.join("pump.log"));
    pump.start()?;
    Ok(pump)
}

/// A pump that has a whole trial to tell and finds a gateway that knows nothing of it: what waits
/// after a gateway was away all the time, or was replaced.
fn backlog(
    thecal: &Path,
    folder: &Path,
    seed: u64,
    days: u32,
    lane: &mut Lane,
) -> anyhow::Result<()> {
    let clock = clock();
    let _pump = pump(thecal, folder, seed, days, &clock)?;
    // A first gateway lets the trial go by: a simulated pump waits while nobody listens.
    let first = folder.join("first-port");
    let cable = Cable::lay(&folder.join("pump"), &first, seed, None)?;
    let mut before = Bedside::start(thecal, &folder.join("before"), &first, &clock)?;
    before.wait_closed(Duration::from_mins(10))?;
    before.end();
    drop(cable);
    let port = folder.join("port");
    let cable = Cable::lay(&folder.join("pump"), &port, seed, Some(BYTES_PER_S))?;
    cable.harm(Harm::Unplug);
    let mut after = Bedside::start(thecal, &folder.join("after"), &port, &clock)?;
    rest(2_000);
    cable.harm(Harm::Mend);
    let took = after.wait_closed(Duration::from_mins(10))?;
    let took = took.saturating_sub(CLOSE_GRACE);
    after.end();
    let wanted = oracle::read(&before.record(), PUMP)?;
    let arrived = oracle::read(&after.record(), PUMP)?;
    let per_day = arrived.events / u64::from(days + 1);
    println!(
        "unplug: {} events of {} days ({per_day} a day) were recorded {:.1} s after the port came back, at 115200 baud",
        arrived.events,
        days + 1,
        took.as_secs_f64()
    );
    ensure!(arrived.wrong.is_empty(), "{}", arrived.wrong.join("; "));
    ensure!(
        arrived.scores == wanted.scores && arrived.events == wanted.events,
        "{} events through the first gateway, {} through the second",
        wanted.events,
        arrived.events
    );
    lane.count("backlogs", 1);
    lane.count("backlog_events", arrived.events);
    let within = backlog_within(arrived.events);
    ensure!(
        took <= within,
        "{} events took {:.1} s, wanted within {:.1} s",
        arrived.events,
        took.as_secs_f64(),
        within.as_secs_f64()
    );
    Ok(())
}

/// How long so many events may take: a minute up to a day's, and in proportion beyond.
fn backlog_within(events: u64) -> Duration {
    let events = u32::try_from(events).unwrap_or(u32::MAX);
    BACKLOG_WITHIN.saturating_mul(events.max(EVENTS_A_DAY_MAX)) / EVENTS_A_DAY_MAX
}

/// The gateway's share of a core while its port is gone, while a port is there and hung up, and
/// while it is there and silent.
fn idle(
    thecal: &Path,
    folder: &Path,
    seed: u64,
    window_s: u64,
    lane: &mut Lane,
) -> anyhow::Result<()> {
    // At real speed: a clock that runs faster makes a gateway sign its chain more often.
    let clock = "wall";
    let _pump = pump(thecal, folder, seed, 14, clock)?;
    let port = folder.join("port");
    let cable = Cable::lay(&folder.join("pump"), &port, seed, None)?;
    let parts = Bedside::start(thecal, &folder.join("box"), &port, clock)?;
    rest(3_000);
    let silent = Harm::Cut {
        from_pump: true,
        to_pump: true,
    };
    let cases = [
        ("unplugged", Harm::Unplug),
        ("hung up", Harm::HangUp),
        ("silent", silent),
    ];
    for (what, harm) in cases {
        cable.harm(harm);
        rest(1_000);
        let pid = parts.gateway.pid().context("the gateway's process")?;
        let mut least = u64::MAX;
        for _ in 0..WINDOWS_MAX {
            let share = share_of_core(pid, window_s)?;
            println!(
                "unplug: gateway with its port {what}: {}.{:02} % of a core over {window_s} s",
                share / 100,
                share % 100
            );
            lane.count("processor_times", 1);
            least = least.min(share);
            if least < CPU_PERCENT_MAX * 100 {
                break;
            }
        }
        ensure!(
            least < CPU_PERCENT_MAX * 100,
            "{what}: more than {CPU_PERCENT_MAX} % of a core in {WINDOWS_MAX} windows"
        );
        cable.harm(Harm::Mend);
        rest(1_500);
    }
    Ok(())
}

/// What a process uses of one core, hundredths of a percent, over so many seconds.
fn share_of_core(pid: u32, window_s: u64) -> anyhow::Result<u64> {
    let (before, began) = (cpu_ticks(pid)?, monotonic());
    rest(window_s * 1_000);
    let (used, took) = (cpu_ticks(pid)? - before, monotonic().saturating_sub(began));
    // Ticks of 10 ms.
    Ok(used * 100_000 / u64::try_from(took.as_millis())?.max(1))
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in parentheses may hold spaces; what follows it does not.
    let (_, rest) = text
        .rsplit_once(')')
        .context("a form of /proc that is not known")?;
    let field = |n: usize| -> anyhow::Result<u64> {
        let text = rest.split_whitespace().nth(n).context("a field of /proc")?;
        Ok(text.parse()?)
    };
    // utime and stime are fields 14 and 15 of the whole; the state, number 3, comes first here.
    Ok(field(11)? + field(12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_days_events_have_a_minute_and_more_of_them_their_share() {
        let minute = Duration::from_mins(1);
        assert_eq!(
            [0, 1_682, 8_640, 17_280].map(backlog_within),
            [minute, minute, minute, minute * 2]
        );
        assert!(backlog_within(8_641) < minute + Duration::from_millis(10));
    }
}
