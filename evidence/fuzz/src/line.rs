//! A pump's and a gateway's end of the line with everything that can happen between them, in the
//! order that the input says; then the line is good again and everything must arrive.

use protocol::event::{Body, BolusDelivered, Head, Raw};
use protocol::frame::{
    Deframer, Piece, decode_from_pump, decode_to_pump, encode_event, encode_from_pump,
    encode_to_pump,
};
use protocol::hex::{Hex, Tag};
use protocol::link::{Receiver, Send, Sender, Taken};
use protocol::message::{Ack, FromPump, Heartbeat, Hello, Resume, Source, TimeReply, ToPump};
use protocol::time::Uptime;
use std::collections::VecDeque;
use std::sync::OnceLock;

/// Events of the pump.
const EVENTS: u64 = 96;
/// Steps of a tenth of a second in which a good line must bring everything.
const ROUNDS: u32 = 3_000;

fn journal() -> &'static [(Raw, Tag)] {
    static JOURNAL: OnceLock<Vec<(Raw, Tag)>> = OnceLock::new();
    JOURNAL.get_or_init(|| {
        let event = |seq: u64| {
            let body = Body::from(BolusDelivered {
                requested_nl: seq,
                delivered_nl: seq,
                complete: true,
            });
            let head = Head {
                boot: 1,
                seq,
                tick_ms: seq * 1_000,
            };
            let tag = Hex(u128::from(seq).to_le_bytes());
            (body.encode(head).expect("fits"), tag)
        };
        (1..=EVENTS).map(event).collect()
    })
}

struct World {
    now: Uptime,
    sender: Sender,
    receiver: Receiver,
    journaled: u64,
    to_gateway: VecDeque<Vec<u8>>,
    to_pump: VecDeque<Vec<u8>>,
    gateway_in: Deframer,
    pump_in: Deframer,
    /// Taken and not on disk yet.
    pending: Vec<Raw>,
    stored: Vec<Raw>,
}

impl World {
    fn new() -> Self {
        Self {
            now: Uptime::ZERO,
            sender: Sender::new(Uptime::ZERO, 0),
            receiver: Receiver::new(Uptime::ZERO, 0, false),
            journaled: 0,
            to_gateway: VecDeque::new(),
            to_pump: VecDeque::new(),
            gateway_in: Deframer::default(),
            pump_in: Deframer::default(),
            pending: Vec::new(),
            stored: Vec::new(),
        }
    }

    fn through(&self) -> u64 {
        u64::try_from(self.stored.len()).expect("few")
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + ms;
        self.sender.handle_timeout(self.now);
    }

    fn pump_speaks(&mut self) {
        let Some(send) = self.sender.poll_send(self.now) else {
            return;
        };
        let message = match send {
            Send::Hello => FromPump::Hello(Hello {
                protocol_min: 1,
                protocol_max: 1,
                source: Source::new("EP-1").expect("a name"),
                boot: 1,
                manifest: Hex([0; 32]),
                manifest_len: 0,
                key: Hex([0; 32]),
                simulated: true,
            }),
            Send::Heartbeat => FromPump::Heartbeat(Heartbeat {
                boot: 1,
                tick_ms: 0,
                last_seq: self.journaled,
                infusing: false,
            }),
            Send::TimeReply {
                id,
                received_tick_ms,
            } => FromPump::TimeReply(TimeReply {
                id,
                boot: 1,
                received_tick_ms,
                sent_tick_ms: received_tick_ms,
            }),
            Send::ManifestPart { .. } => return,
            Send::Event { seq } => {
                assert!(
                    seq >= 1 && seq <= self.journaled,
                    "sends {seq}, which is not there"
                );
                let (raw, tag) = &journal()[usize::try_from(seq - 1).expect("few")];
                let frame = encode_event(raw, tag).expect("fits");
                self.to_gateway.push_back(frame.as_bytes().to_vec());
                return;
            }
        };
        let frame = encode_from_pump(&message).expect("fits");
        self.to_gateway.push_back(frame.as_bytes().to_vec());
    }

    fn gateway_speaks(&mut self) {
        if let Some(message) = self.receiver.poll_send(self.now) {
            if let ToPump::Ack(ack) = &message {
                assert!(
                    ack.through_seq <= self.through(),
                    "acknowledges what is not on disk"
                );
            }
            let frame = encode_to_pump(&message).expect("fits");
            self.to_pump.push_back(frame.as_bytes().to_vec());
        }
    }

    fn gateway_hears(&mut self, bytes: &[u8]) {
        let mut heard = Vec::new();
        for byte in bytes {
            if let Some(Piece::Bytes(piece)) = self.gateway_in.push(*byte)
                && let Ok(message) = decode_from_pump(piece)
            {
                heard.push(message);
            }
        }
        for message in heard {
            match self.receiver.handle_message(self.now, message) {
                Taken::Event { raw, .. } => self.pending.push(raw),
                Taken::Hello(_) => {
                    self.pending.clear();
                    self.receiver.bind(self.through(), false);
                }
                Taken::Lost { .. }
                | Taken::Repeat { .. }
                | Taken::ManifestPart(_)
                | Taken::TimeReply(_)
                | Taken::Heartbeat(_)
                | Taken::Nothing => {}
            }
        }
    }

    fn pump_hears(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(Piece::Bytes(piece)) = self.pump_in.push(*byte)
                && let Ok(message) = decode_to_pump(piece)
            {
                self.sender.handle_message(self.now, 0, &message);
            }
        }
        assert!(
            self.sender.acked() <= self.journaled,
            "an ack for what is not there"
        );
    }

    fn commit(&mut self) {
        self.stored.append(&mut self.pending);
        self.receiver.note_stored(self.through());
    }

    fn forged(message: &ToPump) -> Vec<u8> {
        encode_to_pump(message).expect("fits").as_bytes().to_vec()
    }

    fn act(&mut self, op: u8, arg: u8) {
        match op % 20 {
            0 => self.pass(u64::from(arg) * 50),
            1 | 2 => self.pump_speaks(),
            3 | 4 => {
                if let Some(bytes) = self.to_gateway.pop_front() {
                    self.gateway_hears(&bytes);
                }
            }
            5 => drop(self.to_gateway.pop_front()),
            6 => {
                if let Some(bytes) = self.to_gateway.front().cloned() {
                    self.to_gateway.push_back(bytes);
                }
            }
            7 => flip(self.to_gateway.front_mut(), arg),
            8 => cut(self.to_gateway.front_mut(), arg),
            9 => self.gateway_hears(&[arg, arg.rotate_left(3), 0]),
            10 | 11 => self.gateway_speaks(),
            12 => {
                if let Some(bytes) = self.to_pump.pop_front() {
                    self.pump_hears(&bytes);
                }
            }
            13 => drop(self.to_pump.pop_front()),
            14 => flip(self.to_pump.front_mut(), arg),
            15 => {
                let through_seq = u64::from(arg);
                let ack = Self::forged(&ToPump::Ack(Ack { through_seq }));
                self.pump_hears(&ack);
            }
            16 => {
                let resume = Self::forged(&ToPump::Resume(Resume {
                    last_contiguous_seq: u64::from(arg).saturating_mul(3),
                    want_hello: arg.is_multiple_of(2),
                    want_manifest: arg.is_multiple_of(3),
                }));
                self.pump_hears(&resume);
            }
            17 => self.commit(),
            18 => {
                self.pending.clear();
                self.receiver.forget_unstored();
            }
            _ => match arg % 3 {
                0 => {
                    self.journaled = (self.journaled + u64::from(arg)).min(EVENTS);
                    self.sender.note_journaled(self.journaled);
                }
                1 => {
                    self.pending.clear();
                    self.receiver.reopen(self.now);
                }
                _ => {
                    // The gateway starts again: only its disk is left.
                    self.pending.clear();
                    self.receiver = Receiver::new(self.now, self.through(), false);
                    self.gateway_in = Deframer::default();
                }
            },
        }
    }

    /// What is on disk is the beginning of the journal, in order, once each.
    fn check(&self) {
        for (stored, (raw, _)) in self.stored.iter().zip(journal()) {
            assert_eq!(stored, raw);
        }
        assert!(self.through() <= self.journaled);
    }

    fn is_complete(&self) -> bool {
        self.through() == EVENTS && self.sender.acked() == EVENTS
    }
}

fn flip(bytes: Option<&mut Vec<u8>>, arg: u8) {
    if let Some(bytes) = bytes
        && !bytes.is_empty()
    {
        let bit = usize::from(arg) * 7 % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

fn cut(bytes: Option<&mut Vec<u8>>, arg: u8) {
    if let Some(bytes) = bytes {
        bytes.truncate(usize::from(arg));
    }
}

/// Says whether any event arrived while anything could happen.
pub(crate) fn body(input: &[u8]) -> bool {
    let mut world = World::new();
    for op in input.chunks_exact(2).take(1_024) {
        world.act(op[0], op[1]);
        world.check();
    }
    let arrived = world.through() > 0;
    world.journaled = EVENTS;
    world.sender.note_journaled(EVENTS);
    for _ in 0..ROUNDS {
        if world.is_complete() {
            break;
        }
        world.pass(100);
        for _ in 0..8 {
            world.pump_speaks();
            world.gateway_speaks();
        }
        for bytes in core::mem::take(&mut world.to_gateway) {
            world.gateway_hears(&bytes);
        }
        world.commit();
        for bytes in core::mem::take(&mut world.to_pump) {
            world.pump_hears(&bytes);
        }
    }
    world.check();
    assert!(
        world.is_complete(),
        "a good line brought {} of {EVENTS}, acknowledged {}",
        world.through(),
        world.sender.acked()
    );
    arrived
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let talk = [
        19, 30, 10, 0, 12, 0, 1, 0, 3, 0, 1, 0, 3, 0, 17, 0, 10, 0, 12, 0, 0, 20,
    ];
    let long: Vec<u8> = talk.iter().copied().cycle().take(400).collect();
    let mut bad = long.clone();
    for (i, op) in bad.iter_mut().enumerate().filter(|(i, _)| i % 18 == 0) {
        *op = [5, 6, 7, 8, 9, 13, 14, 15, 16, 18, 19][i / 18 % 11];
    }
    vec![talk.to_vec(), long, bad]
}
