//! A pump and a gateway, each around its half of the link engine, with a line between them that
//! loses, damages, cuts, repeats, delays and reorders, and with starts and failures of either
//! end. Time is a number that goes from one due thing to the next; all chance comes from one seed.

mod faults;

pub(crate) use faults::{Faults, Seen};
use protocol::event::{Delivered, Head, JournalLost, Raw, encode};
use protocol::frame::{
    Deframer, Piece, decode_from_pump, decode_to_pump, encode_event, encode_from_pump,
    encode_to_pump,
};
use protocol::hex::{Hex, Tag};
use protocol::link::{Receiver, Send, Sender, Taken};
use protocol::message::{
    Ack, FromPump, Heartbeat, Hello, ManifestPart, PART_MAX, Resume, Source, TimeReply, ToPump,
};
use protocol::time::Uptime;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// An event with its tag.
pub(crate) type Stored = (Head, Raw, Tag);

struct Pump {
    sender: Sender,
    started_at: u64,
    boot: u32,
    /// What the journal holds, by seq.
    journal: Vec<Stored>,
    last_seq: u64,
    heard: Deframer,
    /// The line toward the gateway is free again.
    free_at: u64,
}

struct Gateway {
    receiver: Receiver,
    started_at: u64,
    heard: Deframer,
    pending: Vec<Stored>,
    pending_holes: Vec<(u64, u64)>,
    commit_at: Option<u64>,
    manifest: Vec<u8>,
}

/// Both ends and the line.
pub(crate) struct World {
    pub(crate) now: u64,
    rng: ChaCha8Rng,
    pub(crate) faults: Faults,
    pump: Pump,
    gateway: Gateway,
    /// On disk at the gateway: survives every start of it.
    pub(crate) store: Vec<Stored>,
    pub(crate) holes: Vec<(u64, u64)>,
    pub(crate) manifest_stored: bool,
    /// Every event that the pump ever journaled, and those that never found room.
    pub(crate) truth: Vec<Option<Stored>>,
    manifest: Vec<u8>,
    to_gateway: Vec<(u64, Vec<u8>)>,
    to_pump: Vec<(u64, Vec<u8>)>,
    pub(crate) seen: Seen,
    next_second: u64,
    next_event: u64,
    /// How many events are still to happen.
    pub(crate) to_come: u32,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, events: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let manifest: Vec<u8> = (0..700).map(|_| rng.random()).collect();
        Self {
            now: 0,
            faults,
            pump: Pump {
                sender: Sender::new(Uptime::ZERO, length_of(&manifest)),
                started_at: 0,
                boot: 1,
                journal: Vec::new(),
                last_seq: 0,
                heard: Deframer::default(),
                free_at: 0,
            },
            gateway: Gateway {
                receiver: Receiver::new(Uptime::ZERO, 0, true),
                started_at: 0,
                heard: Deframer::default(),
                pending: Vec::new(),
                pending_holes: Vec::new(),
                commit_at: None,
                manifest: Vec::new(),
            },
            store: Vec::new(),
            holes: Vec::new(),
            manifest_stored: false,
            truth: Vec::new(),
            manifest,
            to_gateway: Vec::new(),
            to_pump: Vec::new(),
            seen: Seen::default(),
            next_second: 1_000,
            next_event: rng.random_range(0..2_000),
            to_come: events,
            rng,
        }
    }

    /// Runs until `until` in milliseconds, or until `done`.
    pub(crate) fn run(&mut self, until: u64, done: impl Fn(&Self) -> bool) {
        while self.now < until && !done(self) {
            self.step();
        }
    }

    /// The newest seq on disk at the gateway.
    pub(crate) fn stored(&self) -> u64 {
        self.store.last().map_or(0, |(head, ..)| head.seq)
    }

    /// Nothing is left to be sent, stored or acknowledged.
    pub(crate) fn settled(&self) -> bool {
        self.to_come == 0
            && self.manifest_stored
            && self.stored() == self.pump.last_seq
            && self.pump.sender.unacknowledged() == 0
    }

    /// What each end knows, for the message of a failed test.
    pub(crate) fn describe(&self) -> String {
        format!(
            "at {} ms: journal through {}, pump believes {} acknowledged, stored through {}, \
             manifest stored {}, {:?}, {:?}",
            self.now,
            self.pump.last_seq,
            self.pump.sender.acked(),
            self.stored(),
            self.manifest_stored,
            self.pump.sender,
            self.gateway.receiver,
        )
    }

    fn by_chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.random_range(0..1_000) < per_mille
    }

    fn pump_uptime(&self) -> Uptime {
        Uptime::from_millis(self.now - self.pump.started_at)
    }

    fn gateway_uptime(&self) -> Uptime {
        Uptime::from_millis(self.now - self.gateway.started_at)
    }

    fn step(&mut self) {
        let arrivals = self.to_gateway.iter().chain(&self.to_pump);
        let due = arrivals
            .map(|(at, _)| *at)
            .chain([
                self.pump
                    .free_at
                    .max(self.pump.sender.poll_timeout().as_millis() + self.pump.started_at),
                self.gateway.receiver.poll_timeout().as_millis() + self.gateway.started_at,
                self.next_second,
            ])
            .chain((self.pump.free_at > self.now).then_some(self.pump.free_at))
            .chain((self.to_come > 0).then_some(self.next_event))
            .chain(self.gateway.commit_at)
            .min()
            .unwrap_or(self.now);
        // What is due since before is done now; two things at one time are two steps.
        self.now = due.max(self.now + u64::from(due <= self.now));
        if self.next_second <= self.now {
            self.next_second += 1_000;
            self.a_second_passed();
        }
        if self.to_come > 0 && self.next_event <= self.now {
            self.to_come -= 1;
            // Bursts and pauses.
            let pause = if self.by_chance(800) { 20 } else { 3_000 };
            self.next_event = self.now + self.rng.random_range(0..pause);
            self.something_happens();
        }
        self.arrive();
        if self.gateway.commit_at.is_some_and(|at| at <= self.now) {
            self.commit();
        }
        self.pump_speaks();
        self.gateway_speaks();
    }

    fn a_second_passed(&mut self) {
        if self.by_chance(self.faults.pump_starts) {
            self.start_pump();
        }
        if self.by_chance(self.faults.journal_wiped) && self.pump.last_seq > 0 {
            self.pump.journal.clear();
            self.start_pump();
            self.declare_lost(1);
        }
        if self.by_chance(self.faults.journal_full) {
            let from = self.pump.last_seq + 1;
            for _ in 0..self.rng.random_range(1..90) {
                self.pump.last_seq += 1;
                self.truth.push(None);
            }
            self.declare_lost(from);
        }
        if self.by_chance(self.faults.gateway_starts) {
            self.start_gateway();
        }
        if self.by_chance(self.faults.reopens) {
            self.seen.reopened += 1;
            self.drop_pending();
            self.gateway.receiver.reopen(self.gateway_uptime());
        }
    }

    pub(crate) fn start_pump(&mut self) {
        self.seen.pump_started += 1;
        self.seen.impossible_acks += u64::from(self.pump.sender.impossible_acks);
        self.pump.started_at = self.now;
        self.pump.boot += 1;
        self.pump.sender = Sender::new(Uptime::ZERO, length_of(&self.manifest));
        self.pump.sender.note_journaled(self.pump.last_seq);
        self.pump.heard = Deframer::default();
        self.pump.free_at = self.now;
    }

    pub(crate) fn start_gateway(&mut self) {
        self.seen.gateway_started += 1;
        self.drop_pending();
        self.seen.repeats += self.gateway.receiver.repeats;
        self.seen.gaps += self.gateway.receiver.gaps;
        self.gateway.started_at = self.now;
        self.gateway.heard = Deframer::default();
        self.gateway.manifest.clear();
        self.gateway.receiver = Receiver::new(Uptime::ZERO, self.stored(), !self.manifest_stored);
    }

    fn drop_pending(&mut self) {
        self.seen.uncommitted_lost += u64::try_from(self.gateway.pending.len()).unwrap_or(0);
        self.gateway.pending.clear();
        self.gateway.pending_holes.clear();
        self.gateway.commit_at = None;
    }

    fn journal(&mut self, make: impl FnOnce(Head, &mut ChaCha8Rng) -> Raw) {
        self.pump.last_seq += 1;
        let head = Head {
            boot: self.pump.boot,
            seq: self.pump.last_seq,
            tick_ms: self.now - self.pump.started_at,
        };
        let raw = make(head, &mut self.rng);
        let stored = (head, raw, Hex(self.rng.random()));
        self.pump.journal.push(stored.clone());
        self.truth.push(Some(stored));
        self.pump.sender.note_journaled(self.pump.last_seq);
    }

    fn declare_lost(&mut self, from_seq: u64) {
        let to_seq = self.pump.last_seq;
        self.journal(|head, _| {
            encode(0x51, head, &JournalLost { from_seq, to_seq }).expect("fits")
        });
    }

    fn something_happens(&mut self) {
        self.journal(|head, rng| {
            if rng.random_range(0..10) == 0 {
                // Of a later program: a type and a body that this one does not know.
                let body: [u8; 20] = rng.random();
                encode(0x7e, head, &body).expect("fits")
            } else {
                let delivered = Delivered {
                    delivered_nl: rng.random(),
                    programmed_nl: rng.random(),
                    strokes: rng.random_range(0..1_000),
                    encoder_counts: rng.random_range(0..1_000),
                };
                encode(0x44, head, &delivered).expect("fits")
            }
        });
    }

    fn pump_speaks(&mut self) {
        let uptime = self.pump_uptime();
        self.pump.sender.handle_timeout(uptime);
        while self.pump.free_at <= self.now {
            let Some(what) = self.pump.sender.poll_send(uptime) else {
                assert!(
                    self.pump.sender.poll_timeout() > uptime,
                    "a loop around it would never rest"
                );
                return;
            };
            let Some(bytes) = self.frame_of(what, uptime.as_millis()) else {
                continue;
            };
            // 115200 baud are 11.52 bytes a millisecond.
            self.pump.free_at = self.now + u64::try_from(bytes.len()).unwrap_or(0) / 11 + 1;
            let at = self.pump.free_at;
            let sent = self.through_the_line(at, bytes);
            self.to_gateway.extend(sent);
        }
    }

    fn frame_of(&self, what: Send, tick_ms: u64) -> Option<Vec<u8>> {
        let message = match what {
            Send::Hello => FromPump::Hello(Hello {
                protocol_min: 1,
                protocol_max: 1,
                source: Source::new("EP-0193")?,
                boot: self.pump.boot,
                manifest: protocol::keys::sha256(&self.manifest),
                manifest_len: length_of(&self.manifest),
                key: Hex([0; 32]),
                simulated: true,
            }),
            Send::Heartbeat => FromPump::Heartbeat(Heartbeat {
                boot: self.pump.boot,
                tick_ms,
                last_seq: self.pump.last_seq,
                infusing: true,
            }),
            Send::TimeReply {
                id,
                received_tick_ms,
            } => FromPump::TimeReply(TimeReply {
                id,
                boot: self.pump.boot,
                received_tick_ms,
                sent_tick_ms: tick_ms,
            }),
            Send::ManifestPart { offset } => {
                let rest = self.manifest.get(usize::from(offset)..)?;
                let part = rest.get(..PART_MAX).unwrap_or(rest);
                FromPump::ManifestPart(ManifestPart::new(offset, part)?)
            }
            Send::Event { seq } => {
                // Where it is gone, the next that is there says so.
                let at = self.pump.journal.partition_point(|(h, ..)| h.seq < seq);
                let (_, raw, tag) = self.pump.journal.get(at)?;
                return Some(encode_event(raw, tag).expect("fits").as_bytes().to_vec());
            }
        };
        Some(
            encode_from_pump(&message)
                .expect("fits")
                .as_bytes()
                .to_vec(),
        )
    }

    fn gateway_speaks(&mut self) {
        let uptime = self.gateway_uptime();
        while let Some(message) = self.gateway.receiver.poll_send(uptime) {
            self.toward_pump(&message);
        }
        assert!(
            self.gateway.receiver.poll_timeout() > uptime,
            "a loop around it would never rest"
        );
        if self.by_chance(self.faults.forge) {
            self.seen.forged += 1;
            let most = self.pump.last_seq + 50;
            let seq = self.rng.random_range(0..=most);
            let message = if self.rng.random() {
                ToPump::Ack(Ack { through_seq: seq })
            } else {
                ToPump::Resume(Resume {
                    last_contiguous_seq: seq,
                    want_hello: self.rng.random(),
                    want_manifest: false,
                })
            };
            self.toward_pump(&message);
        }
    }

    pub(crate) fn toward_pump(&mut self, message: &ToPump) {
        let bytes = encode_to_pump(message).expect("fits").as_bytes().to_vec();
        let at = self.now + 1;
        let sent = self.through_the_line(at, bytes);
        self.to_pump.extend(sent);
    }

    /// What of a frame arrives, and when.
    fn through_the_line(&mut self, at: u64, mut bytes: Vec<u8>) -> Vec<(u64, Vec<u8>)> {
        if self.by_chance(self.faults.lose) {
            self.seen.lost += 1;
            return Vec::new();
        }
        if self.by_chance(self.faults.damage) {
            self.seen.damaged += 1;
            for _ in 0..self.rng.random_range(1..5) {
                let place = self.rng.random_range(0..bytes.len());
                let by: u8 = self.rng.random_range(1..=255);
                bytes.iter_mut().skip(place).take(1).for_each(|b| *b ^= by);
            }
        }
        if self.by_chance(self.faults.cut) {
            self.seen.cut += 1;
            let keep = self.rng.random_range(0..bytes.len());
            bytes.truncate(keep);
        }
        let mut out = vec![(at, bytes.clone())];
        if self.by_chance(self.faults.repeat) {
            self.seen.repeated += 1;
            out.push((at + self.rng.random_range(0..3_000), bytes));
        }
        if self.by_chance(self.faults.delay) {
            // Those behind it overtake it.
            self.seen.delayed += 1;
            let late = self.rng.random_range(1..2_000);
            for (at, _) in &mut out {
                *at += late;
            }
        }
        out
    }

    fn arrive(&mut self) {
        for bytes in due(&mut self.to_gateway, self.now) {
            for byte in bytes {
                let message = match self.gateway.heard.push(byte) {
                    Some(Piece::Bytes(piece)) => decode_from_pump(piece).ok(),
                    Some(Piece::TooLong) => None,
                    None => continue,
                };
                match message {
                    Some(message) => self.gateway_hears(message),
                    None => self.seen.refused_frames += 1,
                }
            }
        }
        for bytes in due(&mut self.to_pump, self.now) {
            for byte in bytes {
                let message = match self.pump.heard.push(byte) {
                    Some(Piece::Bytes(piece)) => decode_to_pump(piece).ok(),
                    Some(Piece::TooLong) => None,
                    None => continue,
                };
                let uptime = self.pump_uptime();
                match message {
                    Some(message) => {
                        self.pump
                            .sender
                            .handle_message(uptime, uptime.as_millis(), &message);
                    }
                    None => self.seen.refused_frames += 1,
                }
            }
        }
    }

    fn gateway_hears(&mut self, message: FromPump) {
        let uptime = self.gateway_uptime();
        match self.gateway.receiver.handle_message(uptime, message) {
            Taken::Event {
                raw,
                head,
                tag,
                lost,
            } => {
                self.gateway.pending_holes.extend(lost);
                self.gateway.pending.push((head, raw, tag));
                let at = self.now + self.rng.random_range(2..60);
                self.gateway.commit_at.get_or_insert(at);
                if self.gateway.pending.len() >= 32 {
                    self.commit();
                }
            }
            // This pump says what it lost right behind it.
            Taken::Lost { from_seq, to_seq } => panic!("{from_seq} to {to_seq} said out of turn"),
            Taken::Repeat { raw, head, tag } => {
                let known = self.store.iter().chain(&self.gateway.pending);
                let first = known.rev().find(|(h, ..)| h.seq == head.seq);
                match first {
                    Some(first) => assert_eq!(first, &(head, raw, tag), "a repeat is the same"),
                    // A copy that was still on its way when the pump declared it gone.
                    None => assert!(self.in_a_hole(head.seq), "a repeat was taken before"),
                }
            }
            Taken::Hello(hello) => {
                // Either is right, as long as what is not on disk is not thought taken.
                if self.rng.random() {
                    self.commit();
                } else {
                    self.drop_pending();
                }
                assert_eq!(hello.manifest, protocol::keys::sha256(&self.manifest));
                self.gateway
                    .receiver
                    .bind(self.stored(), !self.manifest_stored);
            }
            Taken::ManifestPart(part) => {
                if usize::from(part.offset) == self.gateway.manifest.len() {
                    self.gateway.manifest.extend_from_slice(part.bytes());
                } else if part.offset == 0 {
                    self.gateway.manifest = part.bytes().to_vec();
                }
                if self.gateway.manifest.len() == self.manifest.len() {
                    assert_eq!(self.gateway.manifest, self.manifest);
                    self.manifest_stored = true;
                    self.gateway.receiver.note_manifest();
                }
            }
            Taken::TimeReply(_) | Taken::Heartbeat(_) | Taken::Nothing => {}
        }
    }

    fn commit(&mut self) {
        self.gateway.commit_at = None;
        if self.gateway.pending.is_empty() {
            return;
        }
        if self.by_chance(self.faults.store_fails) {
            self.seen.store_failed += 1;
            self.drop_pending();
            self.gateway.receiver.forget_unstored();
            return;
        }
        self.store.append(&mut self.gateway.pending);
        self.holes.append(&mut self.gateway.pending_holes);
        self.gateway.receiver.note_stored(self.stored());
    }

    fn in_a_hole(&self, seq: u64) -> bool {
        let holes = self.holes.iter().chain(&self.gateway.pending_holes);
        holes
            .into_iter()
            .any(|(from, to)| (*from..=*to).contains(&seq))
    }

    /// The state of the line at the gateway.
    pub(crate) fn receiver(&self) -> (&Receiver, Uptime) {
        (&self.gateway.receiver, self.gateway_uptime())
    }

    /// The pump's half.
    pub(crate) fn sender(&self) -> &Sender {
        &self.pump.sender
    }

    /// Counters of both ends, those of the present start included.
    pub(crate) fn totals(&self) -> Seen {
        let mut seen = self.seen;
        seen.repeats += self.gateway.receiver.repeats;
        seen.gaps += self.gateway.receiver.gaps;
        seen.impossible_acks += u64::from(self.pump.sender.impossible_acks);
        seen.journal_lost = u64::try_from(self.holes.len()).unwrap_or(0);
        seen
    }
}

fn length_of(manifest: &[u8]) -> u16 {
    u16::try_from(manifest.len()).unwrap_or(u16::MAX)
}

/// Takes out what is due, in order of arrival; of two at one time the first sent comes first.
fn due(queue: &mut Vec<(u64, Vec<u8>)>, now: u64) -> Vec<Vec<u8>> {
    let mut arrived: Vec<_> = queue.extract_if(.., |(at, _)| *at <= now).collect();
    arrived.sort_by_key(|(at, _)| *at);
    arrived.into_iter().map(|(_, bytes)| bytes).collect()
}
