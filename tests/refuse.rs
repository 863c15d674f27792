//! What the programs refuse, seen from outside: a port, a file or a folder that another one has, and
//! a pump of another protocol.
#![expect(clippy::unwrap_used, reason = "tests")]

use portable_pty::{MasterPty, PtySize, native_pty_system};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A program that runs, and what it says.
struct Running {
    child: Child,
    said: Receiver<String>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thecal"))
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (tell, said) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|l| tell.send(l)));
        Self { child, said }
    }

    /// Reads on until a line holds the words. A minute without a line is for ever.
    fn wait_for(&mut self, words: &str) -> String {
        let mut all = Vec::new();
        loop {
            let line = self.said.recv_timeout(Duration::from_mins(1));
            let line = line.unwrap_or_else(|e| panic!("{e} without {words:?}: {all:?}"));
            if line.contains(words) {
                return line;
            }
            all.push(line);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs to the end: exit code 1 and these words.
fn is_refused(args: &[&str], words: &[&str]) {
    let mut running = Running::start(args);
    let last = running.wait_for("thecal: ");
    assert_eq!(running.child.wait().unwrap().code(), Some(1), "{last}");
    for word in words {
        assert!(last.contains(word), "no {word:?} in {last}");
    }
}

/// A serial line; the port is the end for a gateway.
fn line() -> (Box<dyn MasterPty + Send>, PathBuf) {
    let pair = native_pty_system().openpty(PtySize::default()).unwrap();
    let port = pair.master.tty_name().unwrap();
    (pair.master, port)
}

fn gateway<'a>(port: &'a Path, spool: &'a Path) -> [&'a str; 11] {
    let port = port.to_str().unwrap();
    let spool = spool.to_str().unwrap();
    // Nobody listens there: the broker may come later.
    let broker = "mqtt://127.0.0.1:9";
    [
        "gateway", "--port", port, "--bed", "07", "--trial", "T-1", "--broker", broker, "--spool",
        spool,
    ]
}

#[test]
fn a_second_gateway_on_a_port_says_so_and_exits_1() {
    let folder = tempfile::tempdir().unwrap();
    let (_pump, port) = line();
    let (first, second) = (folder.path().join("a.spool"), folder.path().join("b.spool"));
    let mut holder = Running::start(&gateway(&port, &first));
    holder.wait_for("thecal gateway gw-07");
    let port_name = port.to_str().unwrap();
    let words = [port_name, "another program holds it"];
    is_refused(&gateway(&port, &second), &words);
    drop(holder);
    // What held it is gone: the port is free.
    Running::start(&gateway(&port, &second)).wait_for("thecal gateway gw-07");
}

#[test]
fn a_second_gateway_on_a_spool_says_so_and_exits_1() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("a.spool");
    let ((_one, first), (_other, second)) = (line(), line());
    let mut holder = Running::start(&gateway(&first, &spool));
    holder.wait_for("thecal gateway gw-07");
    let words = ["a.spool", "another program has it open"];
    is_refused(&gateway(&second, &spool), &words);
}

#[test]
fn a_second_recorder_on_a_folder_says_so_and_exits_1_also_before_there_is_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().to_str().unwrap();
    let named = |name| {
        [
            "recorder",
            "--broker",
            "mqtt://127.0.0.1:9",
            "--records",
            records,
            "--name",
            name,
        ]
    };
    let mut holder = Running::start(&named("one"));
    holder.wait_for("thecal recorder one");
    for name in ["one", "two"] {
        is_refused(&named(name), &[records, "another recorder has this folder"]);
    }
}

#[test]
fn a_pump_of_another_protocol_version_is_refused_with_both_versions_named() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("a.spool");
    let (pump, port) = line();
    let mut running = Running::start(&gateway(&port, &spool));
    running.wait_for("thecal gateway gw-07");
    // Version 9, type 2, four bytes of body, CRC-32C; made by hand from docs/protocol.md.
    let frame = [
        0x00, 0x0c, 0x09, 0x02, 0x04, 0x01, 0x02, 0x03, 0x04, 0xb6, 0x62, 0x8e, 0xc7, 0x00,
    ];
    pump.take_writer().unwrap().write_all(&frame).unwrap();
    let line = running.wait_for("protocol");
    for word in ["bed 07", "version 9", "this gateway 1"] {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
}
