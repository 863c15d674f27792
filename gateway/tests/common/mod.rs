//! A small pump for tests: a chain made beforehand, offered over a real pty.

use gateway::clock::Mode;
use gateway::config::{BedConfig, Config};
use gateway::{mqtt, recorder};
use protocol::chain::{ChainHead, TagKey, checkpoint_message};
use protocol::event::{
    Body, BootReason, Checkpoint, CloseReason, Condition, Delivered, Head, InfusionStarted,
    PainScore, PoweredOn, Purpose, Raw, TrialClosed,
};
use protocol::frame::{Deframer, Piece, decode_to_pump, encode_event, encode_from_pump};
use protocol::hex::{Hex, Tag};
use protocol::keys::KeyPair;
use protocol::link::{Send, Sender};
use protocol::manifest::{Limits, Manifest, SCHEMA, SignedManifest, Simulated};
use protocol::message::{
    FromPump, Heartbeat, Hello, ManifestPart, PART_MAX, Source, TimeReply, ToPump,
};
use protocol::time::Uptime;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const PUMP: &str = "EP-0193";
pub(crate) const TRIAL: &str = "T-0001";

/// A whole trial of events, made once.
pub(crate) struct Journal {
    pub(crate) signed: SignedManifest,
    pub(crate) pair: KeyPair,
    pub(crate) events: Vec<(Raw, Tag)>,
}

pub(crate) fn manifest(pump_key: &KeyPair) -> Manifest {
    manifest_of(TRIAL, pump_key)
}

fn manifest_of(trial: &str, pump_key: &KeyPair) -> Manifest {
    Manifest {
        schema: SCHEMA.into(),
        trial_id: Some(trial.into()),
        bed: Some("07".into()),
        pump: Source::new(PUMP).unwrap(),
        pump_key: pump_key.public(),
        gateway_key: None,
        drug: "morphine".into(),
        concentration_mcg_per_ml: 500,
        route: "intrathecal".into(),
        zone: "Europe/Vienna".into(),
        baseline_start_utc_ms: 1_772_438_400_000,
        run_in_h: None,
        protocol: "pain-50".into(),
        limits: Limits {
            bolus_nl: 50_000,
            lockout_ms: 3_600_000,
            max_1h_nl: 400_000,
            max_4h_nl: 1_200_000,
            max_24h_nl: 4_000_000,
        },
        simulated: Some(Simulated {
            patient: "scripted".into(),
            seed: 1,
            speed: 1,
        }),
    }
}

impl Journal {
    /// `scores` events between the opening and the closing of a trial.
    pub(crate) fn new(scores: u64) -> Self {
        Self::of_trial(TRIAL, scores)
    }

    /// The same pump in another trial.
    pub(crate) fn of_trial(trial: &str, scores: u64) -> Self {
        Self::made(trial, &KeyPair::from_seed([3; 32]), scores, 1_000, 60)
    }

    /// A trial with an event each so many milliseconds, and checkpoints each hour at least.
    pub(crate) fn spaced(scores: u64, step_ms: u64) -> Self {
        let a_checkpoint = (3_000_000 / (2 * step_ms)).max(1);
        Self::made(
            TRIAL,
            &KeyPair::from_seed([3; 32]),
            scores,
            step_ms,
            a_checkpoint,
        )
    }

    /// What a device says that knows all of the pump but its secret.
    pub(crate) fn of_clone(scores: u64) -> Self {
        Self::made(TRIAL, &KeyPair::from_seed([9; 32]), scores, 1_000, 60)
    }

    fn made(trial: &str, secret: &KeyPair, scores: u64, step_ms: u64, a_checkpoint: u64) -> Self {
        let pair = KeyPair::from_seed([3; 32]);
        let signed = manifest_of(trial, &pair)
            .sign(&KeyPair::from_seed([4; 32]))
            .unwrap();
        let genesis = ChainHead::genesis(signed.as_chain_root());
        let mut maker = Maker {
            head: genesis,
            key: TagKey::of_trial(&secret.tag_secret(), &genesis).next(),
            index: 1,
            tick_ms: 0,
            step_ms,
            events: Vec::new(),
        };
        let on = PoweredOn {
            reason: BootReason::PowerOn,
            firmware: [0, 1, 0],
            own_clock_utc_ms: None,
        };
        maker.add(on.into());
        maker.checkpoint(&genesis, secret);
        maker.add(
            InfusionStarted {
                purpose: Purpose::Therapy,
                programmed_nl_per_h: 40_000,
            }
            .into(),
        );
        for i in 0..scores {
            let score = PainScore {
                score: u8::try_from(i % 11).unwrap(),
                confirmed: true,
                condition: Condition::Rest,
                prompt_id: None,
                answer_delay_ms: None,
                corrects_seq: None,
            };
            maker.add(score.into());
            let nl = i * 1_000;
            let count = Delivered {
                delivered_nl: nl,
                programmed_nl: nl,
                strokes: i,
                encoder_counts: i,
            };
            maker.add(count.into());
            if i % a_checkpoint == a_checkpoint - 1 {
                maker.checkpoint(&genesis, secret);
            }
        }
        maker.add(
            TrialClosed {
                reason: CloseReason::Planned,
            }
            .into(),
        );
        maker.checkpoint(&genesis, secret);
        Self {
            signed,
            pair,
            events: maker.events,
        }
    }
}

impl Journal {
    /// Takes the closing away: a trial that goes on.
    pub(crate) fn leave_open(&mut self) {
        self.events.truncate(self.events.len() - 2);
    }
}

struct Maker {
    head: ChainHead,
    key: TagKey,
    index: u32,
    tick_ms: u64,
    step_ms: u64,
    events: Vec<(Raw, Tag)>,
}

impl Maker {
    fn add(&mut self, body: Body) {
        self.tick_ms += self.step_ms;
        let seq = u64::try_from(self.events.len()).unwrap() + 1;
        let raw = body
            .encode(Head {
                boot: 1,
                seq,
                tick_ms: self.tick_ms,
            })
            .unwrap();
        self.head = self.head.after(&raw);
        let tag = self.key.tag(&self.head);
        self.events.push((raw, tag));
    }

    fn checkpoint(&mut self, genesis: &ChainHead, pair: &KeyPair) {
        let through = u64::try_from(self.events.len()).unwrap();
        let message = checkpoint_message(
            genesis,
            1,
            self.tick_ms + self.step_ms,
            through,
            through,
            self.index,
            &self.head,
        );
        let body = Checkpoint {
            through_seq: through,
            count: through,
            key_index: self.index,
            head: self.head.0,
            signature: Hex(pair.sign(&message).0),
        };
        self.add(body.into());
        self.key = self.key.next();
        self.index += 1;
    }
}

/// The journal offered in no time at all: bytes in, bytes out, time as a number.
pub(crate) struct VirtualPump<'a> {
    journal: &'a Journal,
    manifest: Vec<u8>,
    sender: Sender,
    deframer: Deframer,
    /// All of the journal is there from the beginning; else each event at its tick.
    pub(crate) all_at_once: bool,
    pub(crate) acked: u64,
}

impl<'a> VirtualPump<'a> {
    pub(crate) fn new(journal: &'a Journal) -> Self {
        let manifest = journal.signed.to_bytes();
        Self {
            sender: Sender::new(Uptime::ZERO, u16::try_from(manifest.len()).unwrap()),
            journal,
            manifest,
            deframer: Deframer::default(),
            all_at_once: true,
            acked: 0,
        }
    }

    /// What it says at this time to what it is told.
    pub(crate) fn exchange(&mut self, now: Uptime, tick_ms: u64, told: &[u8]) -> Vec<u8> {
        let happened = |(raw, _): &(Raw, Tag)| raw.head().unwrap().tick_ms <= tick_ms;
        let last_seq = if self.all_at_once {
            self.journal.events.len()
        } else {
            self.journal.events.partition_point(happened)
        };
        let last_seq = u64::try_from(last_seq).unwrap();
        self.sender.note_journaled(last_seq);
        for byte in told {
            if let Some(Piece::Bytes(bytes)) = self.deframer.push(*byte)
                && let Ok(message) = decode_to_pump(bytes)
            {
                self.sender.handle_message(now, tick_ms, &message);
                if let ToPump::Ack(ack) = message {
                    self.acked = ack.through_seq;
                }
            }
        }
        self.sender.handle_timeout(now);
        let mut out = Vec::new();
        while let Some(send) = self.sender.poll_send(now) {
            out.extend(frame(send, self.journal, &self.manifest, tick_ms, last_seq));
        }
        out
    }
}

/// The journal offered on a pty, from a thread of its own, until dropped.
pub(crate) struct PtyPump {
    pub(crate) port: PathBuf,
    pub(crate) acked: Arc<AtomicU64>,
    /// Answers nothing and sends nothing while set.
    pub(crate) silent: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    _other_end: OwnedFd,
}

impl PtyPump {
    pub(crate) fn start(journal: Arc<Journal>) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let port = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        // Kept open, so that the pty lives while no gateway has it.
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let other = rustix::fs::open(&port, flags, rustix::fs::Mode::empty()).unwrap();
        let mut raw = rustix::termios::tcgetattr(&other).unwrap();
        raw.make_raw();
        rustix::termios::tcsetattr(&other, rustix::termios::OptionalActions::Now, &raw).unwrap();
        let (stop, silent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let acked = Arc::new(AtomicU64::new(0));
        let (s, q, a) = (stop.clone(), silent.clone(), acked.clone());
        let thread = std::thread::spawn(move || run(File::from(master), &journal, &s, &q, &a));
        Self {
            port,
            acked,
            silent,
            stop,
            thread: Some(thread),
            _other_end: other,
        }
    }
}

impl Drop for PtyPump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    mut line: File,
    journal: &Journal,
    stop: &AtomicBool,
    silent: &AtomicBool,
    acked: &AtomicU64,
) {
    rustix::io::ioctl_fionbio(&line, true).unwrap();
    let manifest = journal.signed.to_bytes();
    let last_seq = u64::try_from(journal.events.len()).unwrap();
    let mut sender = Sender::new(Uptime::ZERO, u16::try_from(manifest.len()).unwrap());
    sender.note_journaled(last_seq);
    let mut deframer = Deframer::default();
    let started = now();
    let mut buffer = [0; 4096];
    let mut unsent: Vec<u8> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let elapsed = u64::try_from(now().saturating_sub(started).as_millis()).unwrap();
        let at = Uptime::from_millis(elapsed);
        if let Ok(n) = line.read(&mut buffer) {
            for byte in buffer.iter().take(n) {
                if let Some(Piece::Bytes(bytes)) = deframer.push(*byte)
                    && let Ok(message) = decode_to_pump(bytes)
                    && !silent.load(Ordering::Relaxed)
                {
                    sender.handle_message(at, elapsed, &message);
                    if let ToPump::Ack(ack) = message {
                        acked.store(ack.through_seq, Ordering::Relaxed);
                    }
                }
            }
        }
        sender.handle_timeout(at);
        while unsent.len() < 2_000 && !silent.load(Ordering::Relaxed) {
            let Some(send) = sender.poll_send(at) else {
                break;
            };
            unsent.extend_from_slice(&frame(send, journal, &manifest, elapsed, last_seq));
        }
        match line.write(&unsent) {
            Ok(n) => drop(unsent.drain(..n)),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => unsent.clear(),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Monotonic time, for the pump's own loop.
fn now() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(
        u64::try_from(t.tv_sec).unwrap(),
        u32::try_from(t.tv_nsec).unwrap(),
    )
}

fn frame(send: Send, journal: &Journal, manifest: &[u8], tick_ms: u64, last_seq: u64) -> Vec<u8> {
    let message = match send {
        Send::Hello => FromPump::Hello(Hello {
            protocol_min: 1,
            protocol_max: 1,
            source: Source::new(PUMP).unwrap(),
            boot: 1,
            manifest: journal.signed.digest(),
            manifest_len: u16::try_from(manifest.len()).unwrap(),
            key: journal.pair.public(),
            simulated: true,
        }),
        Send::Heartbeat => FromPump::Heartbeat(Heartbeat {
            boot: 1,
            tick_ms,
            last_seq,
            infusing: true,
        }),
        Send::TimeReply {
            id,
            received_tick_ms,
        } => FromPump::TimeReply(TimeReply {
            id,
            boot: 1,
            received_tick_ms,
            sent_tick_ms: tick_ms,
        }),
        Send::ManifestPart { offset } => {
            let from = usize::from(offset);
            let end = (from + PART_MAX).min(manifest.len());
            let part = manifest.get(from..end).unwrap();
            FromPump::ManifestPart(ManifestPart::new(offset, part).unwrap())
        }
        Send::Event { seq } => {
            let (raw, tag) = journal
                .events
                .get(usize::try_from(seq - 1).unwrap())
                .unwrap();
            return encode_event(raw, tag).unwrap().as_bytes().to_vec();
        }
    };
    encode_from_pump(&message).unwrap().as_bytes().to_vec()
}

pub(crate) fn gateway_config(folder: &Path, port: &Path, url: &mqtt::Url) -> Config {
    Config {
        site: "test".into(),
        gw: "gw-07".into(),
        beds: vec![BedConfig {
            port: port.into(),
            bed: "07".into(),
            trial: TRIAL.into(),
            tag_key: None,
        }],
        broker: url.clone(),
        spool: folder.join("gw-07.spool"),
        key: None,
        trust: None,
        clock: Mode::Wall,
    }
}

pub(crate) fn recorder_config(folder: &Path, url: &mqtt::Url) -> recorder::Config {
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

/// Waits until something is so, however long the machine takes; a minute is for ever.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

pub(crate) fn assert_same_events(record: &Path, journal: &Journal) {
    let opened = record::Record::open_read_only(record).unwrap();
    let rows = opened.events_of(PUMP, 0, u64::MAX >> 1).unwrap();
    assert_eq!(rows.len(), journal.events.len(), "each event exactly once");
    for (stored, (raw, tag)) in rows.iter().zip(&journal.events) {
        assert_eq!(
            (stored.row.raw.as_slice(), stored.row.tag),
            (raw.as_bytes(), *tag)
        );
    }
}
