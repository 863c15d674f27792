//! Nothing on the serial line changes delivery or the journal, and what is in the journal reaches
//! an honest gateway.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helper functions of a test stop it where they fail"
)]

mod common;

use common::{
    HOUR, MANIFEST, MINUTE, MemoryBoard, act, begin, check_chain, events_of, formatted, press,
    run_to, start,
};
use firmware::acts::Act;
use firmware::line::Line;
use firmware::pump::Pump;
use protocol::event::{CloseReason, Key};
use protocol::frame::{Deframer, Piece, decode_from_pump, encode_from_pump, encode_to_pump};
use protocol::link::{Receiver, Taken};
use protocol::message::{Ack, FromPump, Resume, TimeRequest, ToPump};
use protocol::time::Uptime;

/// A small generator with a seed: `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A day at the bed; `at_line` is called each 10 minutes with the pump.
fn day(mut at_line: impl FnMut(u64, &Pump<MemoryBoard>)) -> (Vec<u8>, Vec<u32>) {
    let mut pump = start(formatted(200));
    begin(&mut pump, 1_000);
    for tens in 1..144u64 {
        let at = tens * 10 * MINUTE;
        run_to(&mut pump, at);
        at_line(at, &pump);
        match tens % 12 {
            3 => press(&mut pump, at, &[Key::Bolus]),
            7 => press(&mut pump, at, &[Key::Digit1, Key::Digit0, Key::Confirm]),
            _ => {}
        }
    }
    act(&mut pump, 24 * HOUR, Act::Close(CloseReason::Planned));
    let board = pump.into_board();
    (board.nv, board.commands)
}

fn hostile(random: &mut Random, last_seq: u64) -> Vec<u8> {
    let any = random.next();
    let message = match any % 7 {
        0 => ToPump::Ack(Ack {
            through_seq: any >> 8,
        }),
        1 => ToPump::Ack(Ack {
            through_seq: u64::MAX,
        }),
        2 => ToPump::Resume(Resume {
            last_contiguous_seq: any >> 40,
            want_hello: any & 256 != 0,
            want_manifest: any & 512 != 0,
        }),
        3 => ToPump::TimeRequest(TimeRequest {
            id: u32::try_from(any >> 32).unwrap(),
        }),
        4 => ToPump::Ack(Ack {
            through_seq: last_seq,
        }),
        _ => {
            let len = any % 600;
            return (0..len).map(|_| random.next().to_le_bytes()[0]).collect();
        }
    };
    encode_to_pump(&message).unwrap().as_bytes().to_vec()
}

#[test]
fn a_day_with_a_hostile_line_leaves_the_same_memory_byte_for_byte() {
    let quiet = day(|_, _| {});
    for seed in 1..=3u64 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut line: Option<Line> = None;
        let (mut sent, mut replayed) = (0, Vec::new());
        let mut faces = [false; 2];
        let noisy = day(|at, pump| {
            let now = Uptime::from_millis(at / 10);
            let line = line.get_or_insert_with(|| Line::new(now, pump));
            for _ in 0..40 {
                let bytes = hostile(&mut random, pump.last_seq());
                line.bytes_in(now, at, &bytes, pump);
                // What the pump itself said comes back as well.
                line.bytes_in(now, at, &replayed, pump);
                let mut buffer = [0; 700];
                let count = line.poll_out(now, at, pump, &mut buffer);
                replayed = buffer[..count].to_vec();
                sent += count;
            }
            let _ = line.next_timeout();
            faces[usize::from(pump.face(at, line.monitored(now)).monitored)] = true;
        });
        assert!(sent > 100_000, "{sent}");
        assert!(faces[1], "the line was never heard, so it tests nothing");
        assert!(noisy == quiet, "seed {seed}");
    }
}

/// An honest gateway at the other end of a good wire.
struct Gateway {
    receiver: Receiver,
    deframer: Deframer,
    events: Vec<(protocol::event::Raw, protocol::hex::Tag)>,
    lost: Vec<(u64, u64)>,
    manifest: Vec<u8>,
    times: u32,
}

impl Gateway {
    fn new(now: Uptime) -> Self {
        Self {
            receiver: Receiver::new(now, 0, true),
            deframer: Deframer::default(),
            events: Vec::new(),
            lost: Vec::new(),
            manifest: Vec::new(),
            times: 0,
        }
    }

    fn take(&mut self, now: Uptime, bytes: &[u8]) {
        for byte in bytes {
            let Some(Piece::Bytes(frame)) = self.deframer.push(*byte) else {
                continue;
            };
            let message = decode_from_pump(frame).unwrap();
            match self.receiver.handle_message(now, message) {
                Taken::Event {
                    raw,
                    tag,
                    head,
                    lost,
                } => {
                    self.lost.extend(lost);
                    self.events.push((raw, tag));
                    self.receiver.note_stored(head.seq);
                }
                Taken::Hello(hello) => {
                    assert_eq!(usize::from(hello.manifest_len), MANIFEST.len());
                    self.receiver
                        .bind(self.receiver.stored(), self.manifest.is_empty());
                }
                Taken::ManifestPart(part) => {
                    self.manifest.extend_from_slice(part.bytes());
                    self.receiver.note_manifest();
                }
                Taken::TimeReply(_) => self.times += 1,
                Taken::Lost { from_seq, to_seq } => {
                    self.lost.push((from_seq, to_seq));
                    self.receiver.note_stored(to_seq);
                }
                Taken::Repeat { .. } | Taken::Heartbeat(_) | Taken::Nothing => {}
            }
        }
    }
}

fn talk(
    line: &mut Line,
    gateway: &mut Gateway,
    pump: &Pump<MemoryBoard>,
    seconds: u64,
    buffer: usize,
) {
    for ms in (0..seconds * 1_000).step_by(50) {
        let now = Uptime::from_millis(ms);
        while let Some(message) = gateway.receiver.poll_send(now) {
            let frame = encode_to_pump(&message).unwrap();
            line.bytes_in(now, ms, frame.as_bytes(), pump);
        }
        let mut room = vec![0; buffer];
        loop {
            let count = line.poll_out(now, ms, pump, &mut room);
            if count == 0 {
                break;
            }
            gateway.take(now, &room[..count]);
        }
    }
}

#[test]
fn every_event_and_the_manifest_reach_a_gateway_that_comes_late() {
    for buffer in [1, 7, 4_096] {
        let mut pump = start(formatted(64));
        begin(&mut pump, 0);
        run_to(&mut pump, 6 * HOUR);
        let mut line = Line::new(Uptime::ZERO, &pump);
        assert!(!line.monitored(Uptime::ZERO));
        let mut gateway = Gateway::new(Uptime::ZERO);
        talk(&mut line, &mut gateway, &pump, 30, buffer);
        assert_eq!(gateway.events, events_of(&pump));
        check_chain(&gateway.events).unwrap();
        assert_eq!(gateway.manifest, MANIFEST);
        assert_eq!(line.unacknowledged(), 0);
        assert_eq!(line.acked(), pump.last_seq());
        assert!(gateway.times > 1);
        assert!(line.monitored(Uptime::from_millis(30_000)));
    }
}

#[test]
fn a_gateway_that_comes_after_the_ring_turned_over_learns_what_is_lost_and_goes_on() {
    let mut pump = start(formatted(4));
    begin(&mut pump, 0);
    run_to(&mut pump, 6 * HOUR);
    let mut line = Line::new(Uptime::ZERO, &pump);
    let mut gateway = Gateway::new(Uptime::ZERO);
    talk(&mut line, &mut gateway, &pump, 30, 4_096);
    let held = events_of(&pump);
    let first = gateway.events[0].0.head().unwrap().seq;
    assert_eq!(gateway.lost, [(1, first - 1)]);
    // Nothing is given up but what was written over.
    assert_eq!(gateway.events, held);
    assert_eq!(line.unacknowledged(), 0);
}

#[test]
fn the_first_byte_of_a_line_ends_what_noise_began() {
    let pump = start(formatted(8));
    let mut line = Line::new(Uptime::ZERO, &pump);
    let mut buffer = [0xAA; 300];
    let count = line.poll_out(Uptime::ZERO, 0, &pump, &mut buffer);
    assert_eq!(buffer[0], 0);
    let hello = encode_from_pump(&FromPump::Hello(pump.hello())).unwrap();
    assert!(buffer[1..count].starts_with(hello.as_bytes()));
}
