//! Pump, gateway, broker and recorder with real parts on every hop: a pty opened by `serialport`,
//! SQLite on disk, MQTT over TCP.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{Journal, PtyPump, TRIAL};
use gateway::clock::Mode;
use gateway::config::{BedConfig, Config};
use gateway::gateway::Gateway;
use gateway::recorder::{self, Recorder, record_path};
use gateway::{broker, mqtt};
use record::verify::{Evidence, Options, verify};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn gateway_config(folder: &Path, port: &Path, url: &mqtt::Url) -> Config {
    Config {
        site: "test".into(),
        gw: "gw-07".into(),
        beds: vec![BedConfig { port: port.into(), bed: "07".into(), trial: TRIAL.into() }],
        broker: url.clone(),
        spool: folder.join("gw-07.spool"),
        key: None,
        trust: None,
        clock: Mode::Wall,
    }
}

fn recorder_config(folder: &Path, url: &mqtt::Url) -> recorder::Config {
    recorder::Config {
        site: "test".into(),
        name: "ward".into(),
        broker: url.clone(),
        records: folder.join("records"),
        key: None,
        trust: None,
        clock: Mode::Wall,
    }
}

async fn local_broker(address: &str) -> (Box<dyn broker::EmbeddedBroker>, mqtt::Url) {
    let address: SocketAddr = address.parse().unwrap();
    let broker = broker::start(address, None).await.unwrap();
    let url = format!("mqtt://{}", broker.address()).parse().unwrap();
    (broker, url)
}

/// Waits until something is so, however long the machine takes; a minute is for ever.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

fn assert_same_events(record: &Path, journal: &Journal) {
    let opened = record::Record::open_read_only(record).unwrap();
    let rows = opened.events_of(common::PUMP, 0, u64::MAX >> 1).unwrap();
    assert_eq!(rows.len(), journal.events.len(), "each event exactly once");
    for (stored, (raw, tag)) in rows.iter().zip(&journal.events) {
        assert_eq!((stored.row.raw.as_slice(), stored.row.tag), (raw.as_bytes(), *tag));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_goes_from_the_line_to_a_record_that_verifies_as_complete() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::new(300));
    let pump = PtyPump::start(journal.clone());
    let (broker, url) = local_broker("127.0.0.1:0").await;
    let recorder = Recorder::start(recorder_config(folder.path(), &url)).unwrap();
    let gateway = Gateway::start(gateway_config(folder.path(), &pump.port, &url)).unwrap();
    until("both chains closed and recorded", || gateway.is_done()).await;
    gateway.stop().await;
    recorder.stop().await.unwrap();
    broker.stop().await;
    let record = record_path(&folder.path().join("records"), TRIAL);
    assert_same_events(&record, &journal);
    let options = Options { key: None, tag_secret: Some(journal.pair.tag_secret()) };
    let report = verify(&record, &options).unwrap();
    assert_eq!(report.evidence, Evidence::Complete, "{}", report.line(&record));
    let left: Vec<_> = std::fs::read_dir(folder.path().join("records"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("-wal") || name.contains("-shm"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "a closed record is one file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forgets_everything_and_a_recorder_that_starts_again_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::new(400));
    let pump = PtyPump::start(journal.clone());
    let (broker, url) = local_broker("127.0.0.1:0").await;
    let address = broker.address().to_string();
    let gateway = Gateway::start(gateway_config(folder.path(), &pump.port, &url)).unwrap();
    // Nobody records yet: the gateway stores and acknowledges all the same.
    let all = u64::try_from(journal.events.len()).unwrap();
    until("the pump is acknowledged", || pump.acked.load(Ordering::Relaxed) == all).await;
    broker.stop().await;
    let (broker, _) = local_broker(&address).await;
    let recorder = Recorder::start(recorder_config(folder.path(), &url)).unwrap();
    let records = folder.path().join("records");
    until("a record appears", || record_path(&records, TRIAL).exists()).await;
    recorder.stop().await.unwrap();
    broker.stop().await;
    let (broker, _) = local_broker(&address).await;
    let recorder = Recorder::start(recorder_config(folder.path(), &url)).unwrap();
    until("both chains closed and recorded", || gateway.is_done()).await;
    gateway.stop().await;
    recorder.stop().await.unwrap();
    broker.stop().await;
    let record = record_path(&records, TRIAL);
    assert_same_events(&record, &journal);
    let report = verify(&record, &Options::default()).unwrap();
    assert_eq!(report.evidence, Evidence::Complete, "{}", report.line(&record));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_on_one_port_and_two_programs_on_one_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pump = PtyPump::start(Arc::new(Journal::new(1)));
    let first = gateway::serial::open(&pump.port).unwrap();
    let second = gateway::serial::open(&pump.port).unwrap_err();
    assert!(second.contains("another program holds it"), "{second}");
    drop(first);
    let missing = gateway::serial::open(Path::new("/dev/no-such-port")).unwrap_err();
    assert!(missing.contains("/dev/no-such-port") && missing.contains("no such port"), "{missing}");
    let spool = folder.path().join("a.spool");
    let held = record::Spool::open(&spool).unwrap();
    let refused = record::Spool::open(&spool).unwrap_err().to_string();
    assert!(refused.contains("another program has it open"), "{refused}");
    drop(held);
}
