//! Kill -9 of gateway, broker or recorder at seeded moments of a run, and their restart: the
//! pump's events in the record are those of an undisturbed run, with no hole and no repeat.
#![cfg(feature = "sim")]
#![expect(clippy::unwrap_used, reason = "tests")]

use record::Record;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const KILLS: u32 = 30;
const SPEED: u32 = 12_000;
const ORIGIN: &str = "2026-03-02T07:00:00Z";

/// The processes of a ward with one bed.
struct Ward {
    folder: PathBuf,
    port: u16,
    clock: String,
    parts: Vec<(&'static str, Child)>,
}

impl Ward {
    fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let anchor = gateway::clock::wall_utc().as_unix_millis();
        let clock = format!("{ORIGIN}@{SPEED}@{anchor}");
        let mut ward = Self {
            folder: folder.into(),
            port,
            clock,
            parts: Vec::new(),
        };
        for part in ["broker", "recorder", "sim", "gateway"] {
            ward.spawn(part);
        }
        ward
    }

    fn spawn(&mut self, part: &'static str) {
        let path = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        let url = format!("mqtt://127.0.0.1:{}", self.port);
        let args: Vec<String> = match part {
            "broker" => vec!["--listen".into(), format!("127.0.0.1:{}", self.port)],
            "recorder" => vec!["--broker".into(), url, "--records".into(), path("records")],
            "sim" => [
                "--link",
                &path("pump"),
                "--headless",
                "--trial",
                "T-1",
                "--seed",
                "7",
                "--days",
                "1",
            ]
            .map(String::from)
            .to_vec(),
            _ => [
                "--port",
                &path("pump"),
                "--bed",
                "01",
                "--trial",
                "T-1",
                "--broker",
                &url,
                "--spool",
                &path("gw.spool"),
            ]
            .map(String::from)
            .to_vec(),
        };
        let child = Command::new(env!("CARGO_BIN_EXE_thecal"))
            .arg(part)
            .args(args)
            .args(["--clock", &self.clock])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.parts.push((part, child));
    }

    /// Kill -9, and at once a new one.
    fn kill(&mut self, part: &'static str) {
        let place = self
            .parts
            .iter()
            .position(|(name, _)| *name == part)
            .unwrap();
        let (_, mut child) = self.parts.swap_remove(place);
        child.kill().unwrap();
        child.wait().unwrap();
        self.spawn(part);
    }

    fn record(&self) -> PathBuf {
        self.folder.join("records").join("T-1.thecal")
    }

    /// The recorder has folded the record: the trial is closed on both chains.
    fn is_closed(&self) -> bool {
        Record::open_read_only(&self.record())
            .ok()
            .and_then(|record| record.meta("closed").ok().flatten())
            .is_some()
    }

    /// Waits for the close, however long the machine takes; ten minutes are for ever.
    fn wait_closed(&self) {
        for _ in 0..6_000 {
            if self.is_closed() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the trial was never closed");
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        for (_, child) in &mut self.parts {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the pump said: identity, bytes, tag.
fn pump_events(record: &Path) -> Vec<(u32, u64, Vec<u8>, [u8; 16])> {
    let record = Record::open_read_only(record).unwrap();
    let rows = record.events_of("EP-0193", 0, u64::MAX >> 1).unwrap();
    rows.into_iter()
        .map(|s| (s.row.boot, s.row.seq, s.row.raw, s.row.tag.0))
        .collect()
}

/// A small generator of its own: the moments are the test's, not the product's.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn kills_at_any_moment_leave_the_record_of_an_undisturbed_run() {
    let calm_folder = tempfile::tempdir().unwrap();
    let calm = Ward::start(calm_folder.path());
    calm.wait_closed();
    let wanted = pump_events(&calm.record());
    drop(calm);

    let seed = 20_260_302;
    println!("seed {seed}");
    let mut chance = seed;
    let folder = tempfile::tempdir().unwrap();
    let mut ward = Ward::start(folder.path());
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(next(&mut chance) % 700));
        let parts = ["gateway", "broker", "recorder"];
        let part = parts
            .get(usize::try_from(next(&mut chance) % 3).unwrap())
            .unwrap();
        let moment = pump_events_so_far(&ward);
        println!("kill {kill}: {part} after {moment:?} recorded events");
        ward.kill(part);
    }
    ward.wait_closed();
    let kept = pump_events(&ward.record());
    assert_eq!(kept.len(), wanted.len(), "each event exactly once");
    let differs = kept.iter().zip(&wanted).find(|(a, b)| a != b);
    assert!(differs.is_none(), "{differs:?}");
    let report =
        record::verify::verify(&ward.record(), &record::verify::Options::default()).unwrap();
    let line = report.line(&ward.record());
    assert_eq!(
        report.evidence,
        record::verify::Evidence::Complete,
        "{line}"
    );
}

fn pump_events_so_far(ward: &Ward) -> Option<usize> {
    let record = Record::open_read_only(&ward.record()).ok()?;
    Some(record.events_of("EP-0193", 0, u64::MAX >> 1).ok()?.len())
}
