//! One bed's line, fed by hand: time and bytes are arguments.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "only the journal is used here")]
mod common;

use common::{Journal, PUMP, TRIAL};
use gateway::bedside::Bedside;
use gateway::clock::Mode;
use gateway::config::BedConfig;
use gateway::line::Line;
use gateway::store::Store;
use protocol::frame::{encode_event, encode_from_pump};
use protocol::keys::KeyPair;
use protocol::message::{FromPump, Heartbeat, Hello, ManifestPart, PART_MAX, Source};
use protocol::time::{Now, Timestamp, Uptime};
use record::Spool;

const HOUR_MS: i64 = 3_600_000;

struct Bed {
    line: Line,
    store: Store,
    wall_ms: u64,
    step_ms: i64,
    _folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&folder.path().join("gw.spool")).unwrap();
        let bed = BedConfig {
            port: "/dev/null".into(),
            bed: "07".into(),
            trial: TRIAL.into(),
            tag_key: None,
        };
        let now = now(0, 0);
        let beds = [bed];
        let bedside = Bedside::open(Box::new(spool), "gw-07", &beds, Mode::Wall, now).unwrap();
        let parts = bedside.beds.first().unwrap().clone();
        let pair = KeyPair::from_seed([8; 32]);
        let mut line = Line::new(parts, Mode::Wall, pair, now.uptime);
        line.reopen(now);
        Self {
            line,
            store: bedside.store,
            wall_ms: 0,
            step_ms: 0,
            _folder: folder,
        }
    }

    fn now(&self) -> Now {
        now(self.wall_ms, self.step_ms)
    }

    fn pass(&mut self, ms: u64) {
        self.wall_ms += ms;
        let now = self.now();
        self.line.tick(now, self.step_ms);
        self.line.collect_out(now, &mut Vec::new());
    }

    fn hear(&mut self, bytes: &[u8]) {
        let now = self.now();
        self.line.handle_bytes(now, bytes);
    }

    fn greet(&mut self, journal: &Journal, pump: &str) {
        let manifest = journal.signed.to_bytes();
        let hello = Hello {
            protocol_min: 1,
            protocol_max: 1,
            source: Source::new(pump).unwrap(),
            boot: 1,
            manifest: journal.signed.digest(),
            manifest_len: u16::try_from(manifest.len()).unwrap(),
            key: journal.pair.public(),
            simulated: true,
        };
        let hello = encode_from_pump(&FromPump::Hello(hello)).unwrap();
        self.hear(hello.as_bytes());
        for (i, part) in manifest.chunks(PART_MAX).enumerate() {
            let offset = u16::try_from(i * PART_MAX).unwrap();
            let part = FromPump::ManifestPart(ManifestPart::new(offset, part).unwrap());
            self.hear(encode_from_pump(&part).unwrap().as_bytes());
        }
    }

    fn tell(&mut self, journal: &Journal, events: std::ops::Range<usize>) {
        for (raw, tag) in journal.events.get(events).unwrap() {
            self.hear(encode_event(raw, tag).unwrap().as_bytes());
        }
    }

    fn beat(&mut self, last_seq: u64) {
        let beat = Heartbeat {
            boot: 1,
            tick_ms: self.wall_ms,
            last_seq,
            infusing: true,
        };
        let frame = encode_from_pump(&FromPump::Heartbeat(beat)).unwrap();
        self.hear(frame.as_bytes());
    }

    fn stored(&self, source: &str) -> Vec<protocol::topics::EventRow> {
        let rows = self.store.rows_after(TRIAL, source, 0, 100_000).unwrap();
        rows.into_iter().map(|stored| stored.row).collect()
    }

    fn facts(&self, kind: &str) -> Vec<serde_json::Value> {
        let rows = self.stored(&format!("gw-07.{TRIAL}")).into_iter();
        rows.filter(|row| row.kind == kind)
            .map(|row| row.body)
            .collect()
    }
}

fn now(wall_ms: u64, step_ms: i64) -> Now {
    Now {
        uptime: Uptime::from_millis(wall_ms),
        utc: Timestamp::from_unix_millis(
            1_772_438_400_000 + i64::try_from(wall_ms).unwrap() + step_ms,
        ),
    }
}

#[test]
fn a_clock_stepped_by_an_hour_is_a_fact_and_neither_age_nor_silence_notices() {
    for step in [HOUR_MS, -HOUR_MS] {
        let journal = Journal::new(40);
        let mut bed = Bed::new();
        bed.greet(&journal, PUMP);
        bed.tell(&journal, 0..10);
        bed.pass(1_000);
        bed.step_ms = step;
        for _ in 0..8 {
            bed.beat(10);
            bed.pass(1_000);
        }
        bed.tell(&journal, 10..20);
        let steps: Vec<_> = bed.facts("clock_stepped");
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert_eq!(steps.first().unwrap()["by_ms"], step);
        assert_eq!(bed.facts("link_changed"), Vec::<serde_json::Value>::new());
        let seqs: Vec<u64> = bed.stored(PUMP).iter().map(|row| row.seq).collect();
        assert_eq!(seqs, (1..=20).collect::<Vec<_>>(), "order is by identity");
        // Silence is measured on the monotonic clock alone.
        bed.pass(4_000);
        assert_eq!(bed.facts("link_changed").len(), 0);
        bed.pass(2_000);
        assert_eq!(bed.facts("link_changed").len(), 1);
    }
}

#[test]
fn after_silence_nothing_is_taken_before_the_pump_says_who_it_is() {
    let journal = Journal::new(40);
    let mut bed = Bed::new();
    bed.greet(&journal, PUMP);
    bed.tell(&journal, 0..10);
    assert_eq!(bed.stored(PUMP).len(), 10);
    // The port stays open, the pump behind it does not: another one goes on where this one was.
    bed.pass(6_000);
    let mut other = Journal::new(40);
    other.pair = KeyPair::from_seed([77; 32]);
    bed.beat(20);
    bed.tell(&other, 10..20);
    assert_eq!(bed.stored(PUMP).len(), 10, "taken from who was not asked");
    bed.greet(&other, "EP-0666");
    bed.tell(&other, 10..20);
    assert_eq!(bed.stored(PUMP).len(), 10, "taken from another pump");
    let told = bed.line.take_notices().join("\n");
    assert!(told.contains("EP-0666"), "{told}");
    bed.greet(&journal, PUMP);
    bed.tell(&journal, 10..20);
    assert_eq!(bed.stored(PUMP).len(), 20);
}

#[test]
fn any_bytes_on_the_line_are_counted_and_told_and_the_next_good_frame_is_taken() {
    let journal = Journal::new(40);
    let mut bed = Bed::new();
    bed.greet(&journal, PUMP);
    let seed = 7_u64;
    println!("seed {seed}");
    let mut state = seed;
    let mut noise = |n: usize| -> Vec<u8> {
        (0..n)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect()
    };
    // The pump's start is signed among these: what follows it is stored at once.
    bed.tell(&journal, 0..10);
    for i in 10..30 {
        let bytes = noise(50_000);
        bed.hear(&bytes);
        // One zero ends what noise began.
        bed.hear(&[0]);
        bed.tell(&journal, i..i + 1);
        assert_eq!(bed.stored(PUMP).len(), i + 1);
        bed.pass(600);
    }
    let raised = bed.facts("alarm_changed");
    assert!(
        raised.iter().any(|fact| fact["alarm"] == "line_bad"),
        "{raised:?}"
    );
}
