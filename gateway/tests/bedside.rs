//! Pump, gateway, broker and recorder with real parts on every hop: a pty opened by `serialport`,
//! SQLite on disk, MQTT over TCP.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]
#![expect(dead_code, reason = "common to several test programs")]

mod common;

use common::{
    Journal, PUMP, PtyPump, TRIAL, assert_same_events, gateway_config, recorder_config, until,
};
use gateway::gateway::Gateway;
use gateway::recorder::files::Files;
use gateway::recorder::folder::DiskFolder;
use gateway::recorder::{Recorder, record_path};
use gateway::{broker, mqtt, watch};
use protocol::keys::{KeyPair, open_json};
use protocol::time::{Now, Uptime};
use protocol::topics::{Alarms, Entry, EntryCommand, EvBatch, EventRow, LinkWord, State, Topic};
use record::verify::{Evidence, Options, verify};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

async fn local_broker(address: &str) -> (Box<dyn broker::EmbeddedBroker>, mqtt::Url) {
    let address: SocketAddr = address.parse().unwrap();
    let broker = broker::start(address, None).await.unwrap();
    let url = format!("mqtt://{}", broker.address()).parse().unwrap();
    (broker, url)
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
    let options = Options {
        key: None,
        tag_secret: Some(journal.pair.tag_secret()),
    };
    let report = verify(&record, &options).unwrap();
    assert_eq!(
        report.evidence,
        Evidence::Complete,
        "{}",
        report.line(&record)
    );
    let left: Vec<_> = std::fs::read_dir(folder.path().join("records"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("-wal") || name.contains("-shm"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "a closed record is one file");

    // What comes again after the close leaves it one file that anybody may read.
    let spool = record::Spool::open_read_only(&folder.path().join("gw-07.spool")).unwrap();
    let rows = spool.rows_after(TRIAL, PUMP, 0, 64).unwrap();
    let pair = KeyPair::from_seed([9; 32]);
    let again = EvBatch {
        trial: TRIAL.into(),
        bed: "07".into(),
        gw: "gw-07".into(),
        manifest: None,
        gateway_key: pair.public(),
        after_seq: Some(0),
        events: rows.into_iter().map(|stored| stored.row).collect(),
    };
    let records = Box::new(DiskFolder(folder.path().join("records")));
    let mut files = Files::open(records, "ward", pair).unwrap();
    let now = Now {
        uptime: Uptime::ZERO,
        utc: gateway::clock::wall_utc(),
    };
    let done = files.commit(now, vec![(again, 1)], false);
    assert_eq!((done.answered, done.failed), (vec![1], None));
    let read = record::Record::open_read_only(&record).unwrap();
    assert!(read.meta("closed").unwrap().is_some());
    assert!(!record.with_extension("thecal-wal").exists());
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
    until("the pump is acknowledged", || {
        pump.acked.load(Ordering::Relaxed) == all
    })
    .await;
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
    assert_eq!(
        report.evidence,
        Evidence::Complete,
        "{}",
        report.line(&record)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_lost_a_closed_record_is_sent_all_of_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::new(100));
    let pump = PtyPump::start(journal.clone());
    let (broker, url) = local_broker("127.0.0.1:0").await;
    let recorder = Recorder::start(recorder_config(folder.path(), &url)).unwrap();
    let gateway = Gateway::start(gateway_config(folder.path(), &pump.port, &url)).unwrap();
    until("both chains closed and recorded", || gateway.is_done()).await;
    recorder.stop().await.unwrap();
    let record = record_path(&folder.path().join("records"), TRIAL);
    std::fs::remove_file(&record).unwrap();
    let recorder = Recorder::start(recorder_config(folder.path(), &url)).unwrap();
    let whole = || {
        let report = verify(&record, &Options::default());
        report.is_ok_and(|report| report.evidence == Evidence::Complete)
    };
    until("the record is there again", whole).await;
    gateway.stop().await;
    recorder.stop().await.unwrap();
    broker.stop().await;
    assert_same_events(&record, &journal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_makes_room_where_a_recorder_has_had_a_closed_trial_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(30);
    journal.leave_open();
    let pump = PtyPump::start(Arc::new(journal));
    let url = "mqtt://127.0.0.1:9".parse().unwrap();
    let config = gateway_config(folder.path(), &pump.port, &url);
    let old = Journal::new(5);
    let all = u64::try_from(old.events.len()).unwrap();
    let received = gateway::clock::wall_utc().as_unix_millis() - 31 * 86_400_000;
    let mut spool = record::Spool::open(&config.spool).unwrap();
    for trial in ["T-OLD", "T-OPEN"] {
        for (raw, tag) in &old.events {
            let source = protocol::message::Source::new(PUMP).unwrap();
            let row = EventRow::new(source, raw, *tag, 0, None, 0).unwrap();
            spool.append([(trial, &row)]).unwrap();
        }
        spool
            .note_receipt(trial, PUMP, "ward", all, received)
            .unwrap();
    }
    spool.set_meta("T-OLD", "closed", "planned").unwrap();
    drop(spool);
    let path = config.spool.clone();
    let gateway = Gateway::start(config).unwrap();
    until("a first acknowledgement", || {
        pump.acked.load(Ordering::Relaxed) > 0
    })
    .await;
    gateway.stop().await;
    let spool = record::Spool::open_read_only(&path).unwrap();
    assert_eq!(spool.last_seq("T-OLD", PUMP).unwrap(), 0);
    assert_eq!(spool.last_seq("T-OPEN", PUMP).unwrap(), all);
    assert!(spool.last_seq(TRIAL, PUMP).unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_on_one_port_and_two_programs_on_one_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pump = PtyPump::start(Arc::new(Journal::new(1)));
    let first = gateway::serial::open(&pump.port).unwrap();
    let second = gateway::serial::open(&pump.port).unwrap_err().to_string();
    assert!(second.contains("another program holds it"), "{second}");
    drop(first);
    let missing = gateway::serial::open(Path::new("/dev/no-such-port"))
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("/dev/no-such-port") && missing.contains("no such port"),
        "{missing}"
    );
    let spool = folder.path().join("a.spool");
    let held = record::Spool::open(&spool).unwrap();
    let refused = record::Spool::open(&spool).unwrap_err().to_string();
    assert!(refused.contains("another program has it open"), "{refused}");
    drop(held);
}

/// What a dashboard heard last of a bed.
#[derive(Default)]
struct Heard {
    state: Option<State>,
    alarms: Option<Alarms>,
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_shown_as_lost_until_a_frame_comes_and_entries_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(30);
    journal.leave_open();
    let pump = PtyPump::start(Arc::new(journal));
    let (broker, url) = local_broker("127.0.0.1:0").await;
    let gateway = Gateway::start(gateway_config(folder.path(), &pump.port, &url)).unwrap();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let of_the_link = heard.clone();
    let hear = move |news| {
        if let watch::Heard::Payload { topic, payload, .. } = news {
            let text = String::from_utf8(payload).unwrap();
            let mut heard = of_the_link.lock().unwrap();
            match topic {
                Topic::State { .. } => {
                    heard.state = open_json(&text, |_| true).ok().map(|(s, _)| s);
                }
                Topic::Alarms { .. } => {
                    heard.alarms = open_json(&text, |_| true).ok().map(|(a, _)| a);
                }
                _ => {}
            }
        }
        true
    };
    let pair = KeyPair::from_seed([9; 32]);
    let _watch = watch::watch(url.clone(), "test", "d1", pair.clone(), hear).unwrap();
    let link = |word| {
        let heard = heard.clone();
        move || {
            heard
                .lock()
                .unwrap()
                .state
                .as_ref()
                .is_some_and(|s| s.link == word)
        }
    };
    until("the line is up", link(LinkWord::Up)).await;
    // The line is up with its first frame; an entry needs the manifest, which comes after it.
    let pump_is_known = || {
        let state = &heard.lock().unwrap().state;
        state.as_ref().is_some_and(|s| s.pump.is_some())
    };
    until("the pump is known", pump_is_known).await;

    let client = watch::EntryClient::connect(url.clone(), "test", "n1", pair).unwrap();
    let mut command = EntryCommand {
        entry_id: "e-1".into(),
        bed: "07".into(),
        trial: TRIAL.into(),
        by: "JM".into(),
        role: "nurse".into(),
        at_utc_ms: gateway::clock::wall_utc().as_unix_millis(),
        entry: Entry::Observation {
            what: "resp_rate".into(),
            value_milli: 14_000,
        },
    };
    let patience = Duration::from_mins(1);
    let first = client.enter("gw-07", &command, patience).await.unwrap();
    assert_eq!(first.result, "stored", "{}", first.detail);
    let again = client.enter("gw-07", &command, patience).await.unwrap();
    assert_eq!(again.detail, "stored before");
    command.entry_id = "e-2".into();
    command.entry = Entry::Observation {
        what: "resp_rate".into(),
        value_milli: 140_000,
    };
    let refused = client.enter("gw-07", &command, patience).await.unwrap();
    assert_eq!(
        refused.detail,
        "resp_rate is 140.000, it can be 0 to 80 breaths/min"
    );

    pump.silent.store(true, Ordering::Relaxed);
    until("the line is lost", link(LinkWord::Lost)).await;
    let lost = || {
        let heard = heard.lock().unwrap();
        let rows = heard
            .alarms
            .as_ref()
            .map(|a| a.alarms.clone())
            .unwrap_or_default();
        rows.iter()
            .any(|row| row.alarm == "link_lost" && row.technical && !row.ended)
    };
    until("the alarm stands", lost).await;
    assert!(heard.lock().unwrap().state.as_ref().unwrap().frame_age_ms >= 5_000);
    pump.silent.store(false, Ordering::Relaxed);
    until("the line is up again", link(LinkWord::Up)).await;
    gateway.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_without_a_trusted_key_counts_as_nobody_and_is_no_threat() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(3);
    journal.leave_open();
    let pump = PtyPump::start(Arc::new(journal));
    let (broker, url) = local_broker("127.0.0.1:0").await;
    let mut config = gateway_config(folder.path(), &pump.port, &url);
    let trust = folder.path().join("trust");
    std::fs::create_dir(&trust).unwrap();
    let nurse = KeyPair::from_seed([9; 32]);
    gateway::key_files::save(&trust.join("nurse"), &nurse, false).unwrap();
    config.trust = Some(trust);
    let gateway = Gateway::start(config).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    let hear = move |news| {
        if let watch::Heard::Payload {
            topic: Topic::Alarms { .. },
            payload,
            ..
        } = news
        {
            let text = String::from_utf8(payload).unwrap();
            told.lock().unwrap().push(text);
        }
        true
    };
    let stranger = KeyPair::from_seed([8; 32]);
    let dashboard = watch::watch(url.clone(), "test", "d1", stranger.clone(), hear).unwrap();
    let any = || !heard.lock().unwrap().is_empty();
    until("the gateway is there", any).await;
    for _ in 0..3 {
        dashboard.alive(true).await;
    }
    // What a stranger would enter is one, and comes behind its heartbeats.
    let client = watch::EntryClient::connect(url, "test", "n1", stranger).unwrap();
    let command = EntryCommand {
        entry_id: "e-1".into(),
        bed: "07".into(),
        trial: TRIAL.into(),
        by: "JM".into(),
        role: "nurse".into(),
        at_utc_ms: gateway::clock::wall_utc().as_unix_millis(),
        entry: Entry::Observation {
            what: "resp_rate".into(),
            value_milli: 14_000,
        },
    };
    let patience = Duration::from_mins(1);
    let reply = client.enter("gw-07", &command, patience).await.unwrap();
    assert_eq!(reply.result, "refused");
    let says = |words: &str| {
        heard
            .lock()
            .unwrap()
            .iter()
            .any(|text| text.contains(words))
    };
    until("the alarm", || says("PAYLOADS NOT BELIEVED")).await;
    assert!(says("SECURITY: 1 PAYLOADS"), "{heard:?}");
    gateway.stop().await;
    broker.stop().await;
}
