//! Threats of `docs/threats.md` against the bedside box and the recorder, on their engines: bytes,
//! payloads and time as numbers.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]
#![expect(dead_code, reason = "common to several test programs")]

mod common;

use common::{Journal, PUMP, TRIAL, VirtualPump};
use gateway::bedside::Bedside;
use gateway::clock::Mode;
use gateway::config::BedConfig;
use gateway::key_files::{Trust, save};
use gateway::line::Line;
use gateway::recorder::files::Files;
use gateway::recorder::folder::DiskFolder;
use gateway::recorder::intake::{Refusals, open_batch};
use protocol::keys::KeyPair;
use protocol::message::Source;
use protocol::time::{Now, Timestamp, Uptime};
use protocol::topics::{EvBatch, EventRow, Topics};
use record::verify::{Evidence, Options, verify};
use record::{Record, Spool};
use std::path::Path;

/// 2026-03-02 08:00 UTC.
const START: i64 = 1_772_438_400_000;

fn at(ms: u64) -> Now {
    Now {
        uptime: Uptime::from_millis(ms),
        utc: Timestamp::from_unix_millis(START + i64::try_from(ms).unwrap()),
    }
}

/// A bedside box of one bed, without threads.
struct Box07 {
    bedside: Bedside,
    line: Line,
}

impl Box07 {
    fn new(folder: &Path, tag_secret: Option<[u8; 32]>) -> Self {
        let spool = Spool::open(&folder.join("gw-07.spool")).unwrap();
        let bed = BedConfig {
            port: "/dev/null".into(),
            bed: "07".into(),
            trial: TRIAL.into(),
            tag_key: None,
        };
        let mode = Mode::Wall;
        let bedside = Bedside::open(Box::new(spool), "gw-07", &[bed], mode, at(0)).unwrap();
        let pair = KeyPair::from_seed([5; 32]);
        let parts = bedside.beds[0].clone();
        let mut line = Line::new(parts, mode, pair, at(0).uptime);
        line.hold_tag_secret(tag_secret);
        Self { bedside, line }
    }

    /// Pump and box talk until this time, a look each 10 ms.
    fn talk(&mut self, pump: &mut VirtualPump<'_>, from_ms: u64, to_ms: u64) {
        for ms in (from_ms..to_ms).step_by(10) {
            let now = at(ms);
            let mut out = Vec::new();
            self.line.collect_out(now, &mut out);
            let said = pump.exchange(now.uptime, ms, &out);
            self.line.handle_bytes(now, &said);
            self.line.tick(now, 0);
        }
    }

    fn rows(&self, source: &str) -> Vec<EventRow> {
        let all = self
            .bedside
            .store
            .rows_after(TRIAL, source, 0, usize::MAX >> 1);
        all.unwrap().into_iter().map(|stored| stored.row).collect()
    }

    /// When the alarm that the pump is another one was raised, since the start.
    fn identity_alarm_ms(&self) -> Option<i64> {
        let own = self.rows(&format!("gw-07.{TRIAL}"));
        let raised = own.iter().find(|row| {
            row.kind == "alarm_changed"
                && row.body["alarm"] == "identity"
                && row.body["change"] == "raised"
        });
        raised.map(|row| row.at_utc_ms - START)
    }
}

#[test]
fn the_pump_itself_is_taken_and_raises_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::new(40);
    for (secret, name) in [(None, "a"), (Some(journal.pair.tag_secret()), "b")] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut bed = Box07::new(&folder, secret);
        bed.talk(&mut VirtualPump::new(&journal), 0, 5_000);
        assert_eq!(bed.rows(PUMP).len(), journal.events.len());
        assert_eq!(bed.identity_alarm_ms(), None);
    }
}

#[test]
fn a_cloned_pump_leaves_no_event_and_raises_the_alarm_within_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    // Serial number, manifest, public key and habits of the pump; its own secret.
    let clone = Journal::of_clone(40);
    // And one that never dares to sign.
    let mut shy = Journal::of_clone(40);
    shy.events.truncate(1);
    for (journal, name) in [(&clone, "a"), (&shy, "b")] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut bed = Box07::new(&folder, None);
        let mut pump = VirtualPump::new(journal);
        bed.talk(&mut pump, 0, 20_000);
        assert_eq!(bed.rows(PUMP), [], "{name}");
        let raised = bed.identity_alarm_ms().expect("the alarm");
        assert!(raised <= 5_000, "{name}: {raised} ms");
        assert_eq!(pump.acked, 0);
        // The pump itself comes back to its line, and all is as if nothing had been.
        let real = Journal::new(40);
        bed.line.reopen(at(20_000));
        bed.talk(&mut VirtualPump::new(&real), 20_000, 25_000);
        assert_eq!(bed.rows(PUMP).len(), real.events.len());
    }
}

#[test]
fn a_clone_that_goes_on_where_the_pump_was_leaves_no_event_where_the_tag_secret_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let real = Journal::new(200);
    let mut begun = Journal::new(200);
    begun.events.truncate(50);
    let mut bed = Box07::new(folder.path(), Some(real.pair.tag_secret()));
    bed.talk(&mut VirtualPump::new(&begun), 0, 3_000);
    assert_eq!(bed.rows(PUMP).len(), 50);
    // The same 50 events, then its own.
    let mut clone = Journal::of_clone(200);
    clone.events.splice(..50, begun.events.iter().cloned());
    bed.line.reopen(at(3_000));
    bed.talk(&mut VirtualPump::new(&clone), 3_000, 13_000);
    assert_eq!(bed.rows(PUMP).len(), 50);
    assert!(bed.identity_alarm_ms().unwrap() <= 3_000 + 5_000);
}

#[test]
fn a_whole_trial_that_is_replayed_into_another_stores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // The pump's own events of another trial, played by a device that says it is in this one.
    let mut replay = Journal::of_trial("T-0002", 100);
    replay.signed = Journal::new(0).signed;
    let mut bed = Box07::new(folder.path(), None);
    bed.talk(&mut VirtualPump::new(&replay), 0, 10_000);
    assert_eq!(bed.rows(PUMP), []);
    assert!(bed.identity_alarm_ms().unwrap() <= 5_000);
}

#[test]
fn a_pump_of_another_trial_is_not_taken_and_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let other = Journal::of_trial("T-0002", 100);
    let mut bed = Box07::new(folder.path(), None);
    bed.talk(&mut VirtualPump::new(&other), 0, 5_000);
    assert_eq!(bed.rows(PUMP), []);
    let notices = bed.line.take_notices().join("; ");
    assert!(
        notices.contains("belongs to another trial than T-0001"),
        "{notices}"
    );
    // A trial that runs is not left for another one's pump.
    let real = Journal::new(20);
    bed.line.reopen(at(5_000));
    bed.talk(&mut VirtualPump::new(&real), 5_000, 8_000);
    let stored = bed.rows(PUMP);
    assert_eq!(stored.len(), real.events.len());
    bed.line.reopen(at(8_000));
    bed.talk(&mut VirtualPump::new(&other), 8_000, 13_000);
    assert_eq!(bed.rows(PUMP), stored);
    assert!(bed.identity_alarm_ms().unwrap() <= 8_000 + 5_000);
}

/// A batch as a gateway would send it, rows of a real pump.
fn batch(journal: &Journal, seqs: impl Iterator<Item = usize>) -> EvBatch {
    let gateway = KeyPair::from_seed([5; 32]);
    let source = Source::new(PUMP).unwrap();
    let rows = seqs.map(|seq| {
        let (raw, tag) = &journal.events[seq - 1];
        EventRow::new(source, raw, *tag, START, Some(5), START + 20).unwrap()
    });
    EvBatch {
        trial: TRIAL.into(),
        bed: "07".into(),
        gw: "gw-07".into(),
        manifest: Some(journal.signed.clone()),
        gateway_key: gateway.public(),
        after_seq: None,
        events: rows.collect(),
    }
}

fn files(folder: &Path) -> Files {
    let folder = Box::new(DiskFolder(folder.into()));
    Files::open(folder, "ward", KeyPair::from_seed([6; 32])).unwrap()
}

/// A folder that trusts the gateway of these tests alone.
fn trust(folder: &Path) -> Trust {
    let folder = folder.join("trust");
    save(&folder.join("gw-07"), &KeyPair::from_seed([5; 32]), false).unwrap();
    Trust::load(Some(&folder)).unwrap()
}

#[test]
fn a_hundred_thousand_forged_publishes_store_nothing_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (trust, topics) = (trust(folder.path()), Topics::of_site("test").unwrap());
    let records = folder.path().join("records");
    std::fs::create_dir(&records).unwrap();
    let mut files = files(&records);
    let (journal, thief) = (Journal::new(40), KeyPair::from_seed([9; 32]));
    let real = batch(&journal, 1..=20);
    let topic = topics.ev("gw-07", PUMP);
    let honest = KeyPair::from_seed([5; 32]).sign_json(&real);
    let mut forged = real.clone();
    forged.gateway_key = thief.public();
    let by_thief = thief.sign_json(&forged);
    let own_name = topics.ev("gw-66", PUMP);
    let mut refusals = Refusals::default();
    let mut taken = Vec::new();
    for n in 0..100_000u32 {
        // Right topic, right names, the next seqs; the text differs from one to the next.
        let mark = format!("\"trial\":\"T-{n:04}\"");
        let renamed = |text: &str| text.replacen("\"trial\":\"T-0001\"", &mark, 1);
        let (topic, payload) = match n % 5 {
            0 => (&topic, by_thief.clone()),
            1 => (&topic, renamed(&by_thief)),
            2 => (&topic, renamed(&honest)),
            3 => (&own_name, honest.clone()),
            _ => (
                &topic,
                honest[..honest.len() - 1 - usize::try_from(n % 900).unwrap()].to_owned(),
            ),
        };
        match open_batch(&topics, &trust, topic, payload.as_bytes()) {
            Ok(batch) => taken.push((batch, n)),
            Err(why) => drop(refusals.note(topic, &why)),
        }
    }
    assert_eq!(refusals.count(), 100_000);
    assert!(taken.is_empty());
    let done = files.commit(at(0), taken, false);
    assert_eq!(done.answered, Vec::<u32>::new());
    assert_eq!(std::fs::read_dir(&records).unwrap().count(), 0);
    // The gateway's own is taken, so what was refused was refused for what it is.
    let batch = open_batch(&topics, &trust, &topic, honest.as_bytes()).unwrap();
    let done = files.commit(at(10), vec![(batch, 1)], false);
    assert_eq!((done.answered, done.failed), (vec![1], None));
    drop(files);
    let record = Record::open_read_only(&records.join("T-0001.thecal")).unwrap();
    assert_eq!(record.sources().unwrap(), [(PUMP.to_owned(), 20, 20)]);
}

#[test]
fn what_is_refused_is_counted_in_bounded_memory_and_said_now_and_then() {
    let mut refusals = Refusals::default();
    let mut said = 0;
    for n in 0..10_000 {
        said += usize::from(refusals.note("t", &format!("signed by {n}")).is_some());
    }
    assert_eq!(refusals.count(), 10_000);
    assert!((10..150).contains(&said), "{said}");
}

#[test]
fn a_batch_that_comes_again_and_again_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = files(folder.path());
    let journal = Journal::new(40);
    for n in 0..50 {
        let done = files.commit(at(n), vec![(batch(&journal, 1..=40), n)], false);
        assert_eq!(done.failed, None);
        assert_eq!(done.conflicts, Vec::<String>::new());
    }
    drop(files);
    let record = Record::open_read_only(&folder.path().join("T-0001.thecal")).unwrap();
    assert_eq!(record.sources().unwrap(), [(PUMP.to_owned(), 40, 40)]);
    assert_eq!(record.quarantined().unwrap(), 0);
}

#[test]
fn a_gateway_that_drops_every_seventh_event_leaves_named_holes() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = files(folder.path());
    let journal = Journal::new(40);
    let kept = (1..=journal.events.len()).filter(|seq| seq % 7 != 0);
    let done = files.commit(at(0), vec![(batch(&journal, kept.take(60)), 1)], false);
    let source = &done.receipts[0].sources[0];
    assert_eq!(
        source.stored_through_seq, 6,
        "nothing beyond the hole is confirmed"
    );
    // It stands for ten seconds: noted. The recorder looks twice a second.
    for ms in (500..12_000).step_by(500) {
        let done = files.commit(at(ms), Vec::<(EvBatch, u32)>::new(), false);
        assert_eq!(done.failed, None);
    }
    drop(files);
    let path = folder.path().join("T-0001.thecal");
    let record = Record::open_read_only(&path).unwrap();
    let noted = record.holes().unwrap();
    assert_eq!((noted[0].from_seq, noted[0].to_seq), (7, 7));
    let report = verify(&path, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Gaps, "{:?}", report.wrong);
    let named: Vec<u64> = report.missing.iter().map(|m| m.from_seq).collect();
    assert_eq!(named, (1..=9).map(|n| n * 7).collect::<Vec<u64>>());
}

#[test]
fn a_hostile_trial_never_becomes_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let (trust, topics) = (trust(folder.path()), Topics::of_site("test").unwrap());
    let records = folder.path().join("records");
    std::fs::create_dir(&records).unwrap();
    let journal = Journal::new(10);
    let topic = topics.ev("gw-07", PUMP);
    let count = |path: &Path| std::fs::read_dir(path).unwrap().count();
    for bad in [
        "../evil",
        "..",
        ".",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "",
        "T-1\0",
        "\u{202e}T",
        "T 1",
        "CON:",
        "~root",
        "$(id)",
        "T-1\n",
        "a very long name of more than thirty-two characters",
    ] {
        let mut batch = batch(&journal, 1..=5);
        batch.trial = bad.into();
        let payload = KeyPair::from_seed([5; 32]).sign_json(&batch);
        let refused = open_batch(&topics, &trust, &topic, payload.as_bytes());
        assert!(refused.is_err(), "{bad:?}");
        // And behind the door the folder itself makes no such file.
        let mut files = files(&records);
        let done = files.commit(at(0), vec![(batch, 1)], false);
        assert_eq!(done.answered, Vec::<i32>::new(), "{bad:?}");
        assert_eq!(count(&records), 0, "{bad:?}");
        assert_eq!(count(folder.path()), 2, "{bad:?}");
    }
}
