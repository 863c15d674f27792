//! Checks what a bedside box needs, and says what to mend.

use crate::args::DoctorArgs;
use crate::bedside::runtime;
use gateway::clock::Clock;
use gateway::mqtt::{self, Incoming};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Under this a sync is too quick to have reached any disk (`facts/reliability.md` §8).
const SYNC_SUSPICIOUS_US: u64 = 200;
/// Above this a bedside box falls behind with many pumps.
const SYNC_SLOW_US: u64 = 50_000;
const SYNCS: u32 = 50;

/// One finding: good, a warning, or something to mend.
enum Finding {
    Good(String),
    Note(String),
    Mend(String),
}

/// 0 where nothing is to be mended, else 1.
pub(crate) fn doctor(args: &DoctorArgs) -> anyhow::Result<u8> {
    let mut findings = ports(args.port.as_deref());
    findings.push(disk(&args.disk));
    findings.push(clock());
    findings.push(terminal());
    if let Some(url) = &args.broker {
        findings.push(runtime()?.block_on(broker(url.clone())));
    }
    let mut code = 0;
    for finding in findings {
        let (mark, text) = match finding {
            Finding::Good(text) => ("ok  ", text),
            Finding::Note(text) => ("note", text),
            Finding::Mend(text) => {
                code = 1;
                ("MEND", text)
            }
        };
        println!("{mark} {}", crate::shown(&text));
    }
    if args.broker.is_some() {
        println!(
            "note a broker needs: max packet 256 KiB or more, at least 64 messages in flight and 10000 queued a client, TCP_NODELAY; mosquitto: max_inflight_messages 64, max_queued_messages 10000, set_tcp_nodelay true"
        );
    }
    Ok(code)
}

fn ports(wanted: Option<&Path>) -> Vec<Finding> {
    if let Some(port) = wanted {
        return vec![match gateway::serial::open(port) {
            Ok(_) => Finding::Good(format!("port {} opens", port.display())),
            Err(why) => Finding::Mend(why.to_string()),
        }];
    }
    let stable = std::fs::read_dir("/dev/serial/by-id")
        .into_iter()
        .flatten()
        .flatten();
    let stable: Vec<_> = stable
        .map(|e| Finding::Good(format!("port {}", e.path().display())))
        .collect();
    if stable.is_empty() {
        return vec![Finding::Note(
            "no USB serial port is plugged in (/dev/serial/by-id is empty)".into(),
        )];
    }
    stable
}

/// Median microseconds of an append of 256 bytes and its sync, in a file of its own.
pub(crate) fn probe_sync(folder: &Path, syncs: u32) -> std::io::Result<u64> {
    let path = folder.join(format!(".thecal-doctor-{}", std::process::id()));
    let measured = (|| {
        let mut file = File::create_new(&path)?;
        let clock = MicroClock::start();
        let mut taken = Vec::new();
        for _ in 0..syncs {
            let before = clock.micros();
            file.write_all(&[0x5a; 256])?;
            file.sync_data()?;
            taken.push(clock.micros().saturating_sub(before));
        }
        taken.sort_unstable();
        Ok(taken.get(taken.len() / 2).copied().unwrap_or(0))
    })();
    let _ = std::fs::remove_file(&path);
    measured
}

/// A stopwatch for probes and benchmarks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MicroClock(std::time::Instant);

impl MicroClock {
    #[expect(clippy::disallowed_methods, reason = "measuring is this one's task")]
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Microseconds since the start.
    pub(crate) fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn disk(folder: &Path) -> Finding {
    match probe_sync(folder, SYNCS) {
        Err(e) => Finding::Mend(format!("disk at {}: {e}", folder.display())),
        Ok(us) if us < SYNC_SUSPICIOUS_US => Finding::Note(format!(
            "disk at {}: a sync takes {us} microseconds; so quick that a power cut may find it was not written. Ask the maker whether the disk has power-loss protection",
            folder.display()
        )),
        Ok(us) if us > SYNC_SLOW_US => Finding::Mend(format!(
            "disk at {}: a sync takes {us} microseconds; use a faster disk for the spool",
            folder.display()
        )),
        Ok(us) => Finding::Good(format!(
            "disk at {}: a sync takes {us} microseconds",
            folder.display()
        )),
    }
}

fn clock() -> Finding {
    let now = gateway::clock::wall_utc().as_unix_millis();
    match jiff::Timestamp::from_millisecond(now) {
        Ok(at) if at.to_zoned(jiff::tz::TimeZone::UTC).year() >= 2026 => {
            Finding::Good(format!("clock says {at:.0}"))
        }
        Ok(at) => Finding::Mend(format!(
            "clock says {at:.0}, which is before this program was made; set it"
        )),
        Err(e) => Finding::Mend(format!("clock cannot be read: {e}")),
    }
}

fn terminal() -> Finding {
    if !std::io::stdout().is_terminal() {
        return Finding::Note("no terminal here; `thecal watch --lines` needs none".into());
    }
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col >= 80 && size.ws_row >= 24 => Finding::Good(format!(
            "terminal has {} columns and {} rows",
            size.ws_col, size.ws_row
        )),
        Ok(size) => Finding::Note(format!(
            "terminal has {} columns and {} rows; 80 and 24 show the whole dashboard",
            size.ws_col, size.ws_row
        )),
        Err(e) => Finding::Note(format!("the terminal does not say its size: {e}")),
    }
}

async fn broker(url: mqtt::Url) -> Finding {
    let words = url.to_string();
    let clock = Clock::start(gateway::clock::Mode::Wall);
    let client_id = format!("thecal-doctor-{}", std::process::id());
    let options = mqtt::Options {
        url,
        client_id,
        will: None,
        manual_ack: false,
    };
    let (link, mut inbox) = match mqtt::connect(options) {
        Ok(connected) => connected,
        Err(why) => return Finding::Mend(format!("broker {words}: {why}")),
    };
    let answer = match tokio::time::timeout(Duration::from_secs(6), inbox.recv()).await {
        Ok(Some(Incoming::Connected)) => Finding::Good(format!(
            "broker {words} answers in {} ms",
            clock.now().uptime.as_millis()
        )),
        Ok(Some(Incoming::Disconnected(why))) => Finding::Mend(format!(
            "broker {words}: {why}; is it running, and is the address right?"
        )),
        Ok(Some(Incoming::Message(_)) | None) | Err(_) => {
            Finding::Mend(format!("broker {words} does not answer within 6 s"))
        }
    };
    link.disconnect().await;
    answer
}
