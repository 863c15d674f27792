//! The same with a broker that is not ours: mosquitto from Debian, on a free port.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(dead_code, reason = "common to several test programs")]

mod common;

use common::{Journal, PtyPump, TRIAL, assert_same_events, gateway_config, recorder_config, until};
use gateway::gateway::Gateway;
use gateway::mqtt;
use gateway::recorder::{Recorder, record_path};
use record::verify::{Evidence, Options, verify};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A mosquitto that ends with the test.
struct Mosquitto {
    child: Child,
    port: u16,
}

impl Mosquitto {
    fn start(folder: &Path) -> Self {
        // Bound and let go again: free a moment ago, and mosquitto takes no port 0.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 64\nmax_queued_messages 10000\nset_tcp_nodelay true\npersistence false\n"
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(&config)
            .env("PATH", path())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto; on Debian: apt-get install mosquitto mosquitto-clients");
        // Up to a minute; each try ends at once.
        let up = (0..6_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(up, "mosquitto never listened");
        Self { child, port }
    }

    fn url(&self) -> mqtt::Url {
        format!("mqtt://127.0.0.1:{}", self.port).parse().unwrap()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps servers in /usr/sbin.
fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mosquitto"]
async fn mosquitto_takes_the_embedded_brokers_place_and_its_death_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::new(300));
    let pump = PtyPump::start(journal.clone());
    let broker = Mosquitto::start(folder.path());
    let gateway = Gateway::start(gateway_config(folder.path(), &pump.port, &broker.url())).unwrap();
    let all = u64::try_from(journal.events.len()).unwrap();
    until("the pump is acknowledged", || {
        pump.acked.load(Ordering::Relaxed) == all
    })
    .await;
    let recorder = Recorder::start(recorder_config(folder.path(), &broker.url())).unwrap();
    until("both chains closed and recorded", || gateway.is_done()).await;
    gateway.stop().await;
    recorder.stop().await.unwrap();
    let record = record_path(&folder.path().join("records"), TRIAL);
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
#[ignore = "needs mosquitto"]
async fn mosquitto_sub_shows_readable_json_that_the_published_schemas_accept() {
    let folder = tempfile::tempdir().unwrap();
    let pump = PtyPump::start(Arc::new(Journal::new(70)));
    let broker = Mosquitto::start(folder.path());
    let mut sub = Command::new("mosquitto_sub")
        .args([
            "-p",
            &broker.port.to_string(),
            "-V",
            "mqttv5",
            "-q",
            "1",
            "-t",
            "thecal/v1/#",
            "-v",
        ])
        .env("PATH", path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub; on Debian: apt-get install mosquitto-clients");
    let out = sub.stdout.take().unwrap();
    // Read as it comes: a full pipe would stop it.
    let reader = std::thread::spawn(move || {
        BufReader::new(out)
            .lines()
            .map(Result::unwrap)
            .collect::<Vec<_>>()
    });
    let recorder = Recorder::start(recorder_config(folder.path(), &broker.url())).unwrap();
    let gateway = Gateway::start(gateway_config(folder.path(), &pump.port, &broker.url())).unwrap();
    until("both chains closed and recorded", || gateway.is_done()).await;
    gateway.stop().await;
    recorder.stop().await.unwrap();
    // Told to end, it prints what it still has.
    let pid = rustix::process::Pid::from_child(&sub);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
    let mut seen = std::collections::BTreeMap::new();
    let _ = sub.wait();
    for line in reader.join().unwrap() {
        let (topic, payload) = line.split_once(' ').unwrap();
        let kind = topic.split('/').nth(5).unwrap().to_owned();
        let schema = std::fs::read_to_string(docs.join(format!("{kind}.schema.json"))).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        let value: serde_json::Value = serde_json::from_str(payload).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        if let Err(e) = validator.validate(&value) {
            panic!("{topic}: {e}");
        }
        *seen.entry(kind).or_insert(0) += 1;
    }
    drop(broker);
    let kinds: Vec<_> = seen.keys().map(String::as_str).collect();
    assert_eq!(
        kinds,
        ["alarms", "ev", "receipt", "state", "status"],
        "{seen:?}"
    );
}
