//! A pump whose whole journal is known beforehand, on a pty, at a steady pace.
//!
//! The same frames in the same order for everybody. One that is asked to resume is acknowledged
//! and sends again what was not; one that nobody talks to writes each frame once, because nothing
//! tells it to do otherwise.

use anyhow::Context;
use device_sim::clock::{Wall, rest};
use device_sim::line::Pty;
use protocol::chain::{ChainHead, TagKey, checkpoint_message};
use protocol::event::{
    Body, BootReason, Checkpoint, CloseReason, Condition, Head, PainScore, PoweredOn, Raw,
    TrialClosed,
};
use protocol::frame::{Deframer, Piece, decode_from_pump, decode_to_pump, encode_event};
use protocol::frame::{Error as FrameError, encode_from_pump};
use protocol::hex::{Hex, Tag};
use protocol::keys::KeyPair;
use protocol::link::{Send, Sender};
use protocol::manifest::{Limits, Manifest, SCHEMA, SignedManifest, Simulated};
use protocol::message::{FromPump, Heartbeat, Hello, ManifestPart, PART_MAX, Source, TimeReply};
use protocol::time::Uptime;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Its serial number.
pub const PUMP: &str = "EP-0193";
/// Its trial.
pub const TRIAL: &str = "T-0001";
const CHECKPOINT_EVERY: u64 = 256;
/// Bytes that a line holds back while its reader is slow; beyond that the pump waits.
const UNSENT_MAX: usize = 4_096;

/// A whole trial of events.
#[derive(Debug)]
pub struct Journal {
    signed: SignedManifest,
    pair: KeyPair,
    events: Vec<(Raw, Tag)>,
}

impl Journal {
    /// So many events, the opening and the closing of the trial and its checkpoints among them.
    ///
    /// # Errors
    /// None that a name or a number of ours could cause.
    pub fn new(events: u64) -> anyhow::Result<Self> {
        let pair = KeyPair::from_seed([3; 32]);
        let source = Source::new(PUMP).context("the pump's name")?;
        let manifest = Manifest {
            schema: SCHEMA.into(),
            trial_id: Some(TRIAL.into()),
            bed: None,
            pump: source,
            pump_key: pair.public(),
            gateway_key: None,
            drug: "morphine".into(),
            concentration_mcg_per_ml: 500,
            route: "intrathecal".into(),
            zone: "UTC".into(),
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
        };
        let signed = manifest.sign(&KeyPair::from_seed([4; 32]))?;
        let genesis = ChainHead::genesis(signed.as_chain_root());
        let mut maker = Maker {
            genesis,
            head: genesis,
            key: TagKey::of_trial(&pair.tag_secret(), &genesis).next(),
            index: 1,
            events: Vec::new(),
        };
        maker.add(
            PoweredOn {
                reason: BootReason::PowerOn,
                firmware: [0, 1, 0],
                own_clock_utc_ms: None,
            }
            .into(),
        )?;
        maker.checkpoint(&pair)?;
        while maker.last() + 2 < events {
            if maker.last().is_multiple_of(CHECKPOINT_EVERY) {
                maker.checkpoint(&pair)?;
                continue;
            }
            let score = u8::try_from(maker.last() % 11)?;
            maker.add(
                PainScore {
                    score,
                    confirmed: true,
                    condition: Condition::Rest,
                    prompt_id: None,
                    answer_delay_ms: None,
                    corrects_seq: None,
                }
                .into(),
            )?;
        }
        maker.add(
            TrialClosed {
                reason: CloseReason::Planned,
            }
            .into(),
        )?;
        maker.checkpoint(&pair)?;
        Ok(Self {
            signed,
            pair,
            events: maker.events,
        })
    }

    /// How many.
    pub fn last_seq(&self) -> u64 {
        u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    fn frame(&self, send: Send, tick_ms: u64, last_seq: u64) -> anyhow::Result<Vec<u8>> {
        let manifest = self.signed.to_bytes();
        let message = match send {
            Send::Hello => FromPump::Hello(Hello {
                protocol_min: protocol::PROTOCOL_VERSION,
                protocol_max: protocol::PROTOCOL_VERSION,
                source: Source::new(PUMP).context("the pump's name")?,
                boot: 1,
                manifest: self.signed.digest(),
                manifest_len: u16::try_from(manifest.len())?,
                key: self.pair.public(),
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
                let part = manifest.get(from..end).unwrap_or(&[]);
                let part = ManifestPart::new(offset, part).context("a part of the manifest")?;
                FromPump::ManifestPart(part)
            }
            Send::Event { seq } => {
                let place = usize::try_from(seq.saturating_sub(1))?;
                let (raw, tag) = self.events.get(place).context("an event of the journal")?;
                return Ok(encode_event(raw, tag)?.as_bytes().to_vec());
            }
        };
        Ok(encode_from_pump(&message)?.as_bytes().to_vec())
    }
}

struct Maker {
    genesis: ChainHead,
    head: ChainHead,
    key: TagKey,
    index: u32,
    events: Vec<(Raw, Tag)>,
}

impl Maker {
    fn last(&self) -> u64 {
        u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    fn add(&mut self, body: Body) -> anyhow::Result<()> {
        let seq = self.last() + 1;
        let raw = body.encode(Head {
            boot: 1,
            seq,
            tick_ms: seq * 10,
        })?;
        self.head = self.head.after(&raw);
        let tag = self.key.tag(&self.head);
        self.events.push((raw, tag));
        Ok(())
    }

    fn checkpoint(&mut self, pair: &KeyPair) -> anyhow::Result<()> {
        let through = self.last();
        let tick_ms = (through + 1) * 10;
        let message = checkpoint_message(
            &self.genesis,
            1,
            tick_ms,
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
        self.add(body.into())?;
        self.key = self.key.next();
        self.index += 1;
        Ok(())
    }
}

/// What stands between two zeros on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An event.
    Event(u64),
    /// Something else that is whole.
    Other,
    /// Damaged, or cut.
    Damaged,
}

/// What bytes from the line hold.
pub fn frames_in(bytes: &[u8]) -> Vec<Seen> {
    let pieces = bytes.split(|b| *b == 0).filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| match decode_from_pump(piece) {
            Ok(FromPump::Event { head, .. }) => Seen::Event(head.seq),
            Ok(
                FromPump::Hello(_)
                | FromPump::Heartbeat(_)
                | FromPump::TimeReply(_)
                | FromPump::ManifestPart(_)
                | FromPump::Unknown(_),
            ) => Seen::Other,
            Err(
                FrameError::Size(_)
                | FrameError::Cobs
                | FrameError::Crc { .. }
                | FrameError::Version(_)
                | FrameError::Body { .. }
                | FrameError::TooLong,
            ) => Seen::Damaged,
        })
        .collect()
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    go: AtomicBool,
    journaled: AtomicU64,
    acked: AtomicU64,
    heard: AtomicBool,
    to_nobody: Mutex<BTreeSet<u64>>,
}

/// A pump at work in a thread of its own, until dropped.
#[derive(Debug)]
pub struct Pump {
    /// Where its line is.
    pub port: PathBuf,
    last_seq: u64,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// On a pty that is found at `port`. Its events begin when [`Pump::go`] is called, so many a
    /// second.
    ///
    /// # Errors
    /// Where there is no pty.
    pub fn start(journal: Arc<Journal>, port: &Path, per_s: u64) -> anyhow::Result<Self> {
        let pty = Pty::open(port)?;
        let last_seq = journal.last_seq();
        let shared = Arc::new(Shared::default());
        let inner = shared.clone();
        let thread = std::thread::spawn(move || {
            if let Err(e) = run(&pty, &journal, &inner, per_s) {
                eprintln!("pump: {e:#}");
            }
        });
        Ok(Self {
            port: port.into(),
            last_seq,
            shared,
            thread: Some(thread),
        })
    }

    /// The first event is journaled now.
    pub fn go(&self) {
        self.shared.go.store(true, Ordering::SeqCst);
    }

    /// The last event that it will ever have.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The newest event.
    pub fn journaled(&self) -> u64 {
        self.shared.journaled.load(Ordering::SeqCst)
    }

    /// Acknowledged through.
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::SeqCst)
    }

    /// Somebody talks to it.
    pub fn is_heard(&self) -> bool {
        self.shared.heard.load(Ordering::SeqCst)
    }

    /// Events whose every copy left while nobody had the port open.
    pub fn sent_to_nobody(&self) -> BTreeSet<u64> {
        let set = self.shared.to_nobody.lock();
        set.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(pty: &Pty, journal: &Journal, shared: &Shared, per_s: u64) -> anyhow::Result<()> {
    let wall = Wall::start();
    let last = journal.last_seq();
    let manifest_len = u16::try_from(journal.signed.to_bytes().len())?;
    let mut sender = Sender::new(wall.uptime(), manifest_len);
    let mut deframer = Deframer::default();
    let mut unsent: Vec<u8> = Vec::new();
    let mut buffer = [0; 4_096];
    let mut began: Option<Uptime> = None;
    // Of a pump that nobody talks to: the next event to write, once.
    let (mut next, mut beat_ms) = (1, 0);
    while !shared.stop.load(Ordering::SeqCst) {
        let now = wall.uptime();
        let tick_ms = now.as_millis();
        let n = pty.read(&mut buffer);
        for byte in buffer.iter().take(n) {
            if let Some(Piece::Bytes(bytes)) = deframer.push(*byte)
                && let Ok(message) = decode_to_pump(bytes)
            {
                sender.handle_message(now, tick_ms, &message);
                shared.heard.store(true, Ordering::SeqCst);
            }
        }
        if shared.go.load(Ordering::SeqCst) {
            let since = now.millis_since(*began.get_or_insert(now));
            let journaled = (since * per_s / 1_000 + 1).min(last);
            sender.note_journaled(journaled);
            shared.journaled.store(journaled, Ordering::SeqCst);
        }
        shared.acked.store(sender.acked(), Ordering::SeqCst);
        let journaled = shared.journaled.load(Ordering::SeqCst);
        if !pty.attached() {
            unsent.clear();
        }
        if shared.heard.load(Ordering::SeqCst) {
            sender.handle_timeout(now);
            while unsent.len() < UNSENT_MAX
                && let Some(send) = sender.poll_send(now)
            {
                unsent.extend(journal.frame(send, tick_ms, journaled)?);
            }
        } else {
            if tick_ms >= beat_ms {
                beat_ms = tick_ms + 1_000;
                unsent.extend(journal.frame(Send::Heartbeat, tick_ms, journaled)?);
            }
            while next <= journaled && unsent.len() < UNSENT_MAX {
                if !pty.attached() {
                    let to_nobody = shared.to_nobody.lock();
                    to_nobody
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(next);
                }
                unsent.extend(journal.frame(Send::Event { seq: next }, tick_ms, journaled)?);
                next += 1;
            }
        }
        let taken = pty.write(&unsent);
        unsent.drain(..taken);
        rest(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_has_as_many_events_as_were_asked_for_and_its_frames_are_seen() {
        let journal = Journal::new(600).unwrap();
        assert_eq!(journal.last_seq(), 600);
        let mut bytes = journal.frame(Send::Heartbeat, 5, 0).unwrap();
        bytes.extend(journal.frame(Send::Event { seq: 7 }, 5, 9).unwrap());
        let cut = bytes.len() - 3;
        assert_eq!(frames_in(&bytes), [Seen::Other, Seen::Event(7)]);
        assert_eq!(frames_in(&bytes[..cut]), [Seen::Other, Seen::Damaged]);
    }
}
