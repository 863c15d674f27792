//! Old events rot in the memory while the pump runs, and while it is off: what can be read no more
//! is declared, within the hour, and nobody waits for it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helper functions of a test stop it where they fail"
)]

mod common;

use common::{HOUR, MINUTE, MemoryBoard, after, begin, bodies, formatted, kinds, run_to, start};
use firmware::line::Line;
use firmware::pump::Pump;
use protocol::event::{AlarmCode, Body, JournalLost, Raw};
use protocol::frame::{Deframer, Piece, decode_from_pump, encode_to_pump};
use protocol::link::{Receiver, Taken};
use protocol::message::FromPump;
use protocol::time::Uptime;

/// Turns a bit over in the middle of an event.
fn rot(board: &mut MemoryBoard, raw: &Raw) {
    let bytes = raw.as_bytes();
    let at = board.nv.windows(bytes.len()).position(|w| w == bytes);
    board.nv[at.unwrap() + bytes.len() / 2] ^= 1;
}

fn rot_seqs(pump: &mut Pump<MemoryBoard>, seqs: &[u64]) {
    for seq in seqs {
        let (raw, _) = pump.event(*seq).unwrap();
        rot(pump.board_mut(), &raw);
        assert_eq!(pump.event(*seq), None);
    }
}

fn declared(bodies: &[Body]) -> Vec<(u64, u64)> {
    let mut lost = Vec::new();
    for body in bodies {
        if let Body::JournalLost(JournalLost { from_seq, to_seq }) = body {
            lost.push((*from_seq, *to_seq));
        }
    }
    lost
}

/// What a gateway that has nothing yet takes until nothing more comes, and what it was told is lost.
fn fetch(pump: &Pump<MemoryBoard>) -> (Vec<u64>, Vec<(u64, u64)>) {
    let mut line = Line::new(Uptime::ZERO, pump);
    let mut receiver = Receiver::new(Uptime::ZERO, 0, false);
    let (mut to_gateway, mut seqs, mut lost) = (Deframer::default(), Vec::new(), Vec::new());
    for ms in (0..60_000).step_by(20) {
        let now = Uptime::from_millis(ms);
        let mut bytes = [0; 4_096];
        let count = line.poll_out(now, pump.last_seq(), pump, &mut bytes);
        for byte in &bytes[..count] {
            let Some(Piece::Bytes(frame)) = to_gateway.push(*byte) else {
                continue;
            };
            let message = decode_from_pump(frame).unwrap();
            if matches!(message, FromPump::Hello(_)) {
                receiver.bind(receiver.stored(), false);
            }
            match receiver.handle_message(now, message) {
                Taken::Event {
                    head, lost: gone, ..
                } => {
                    lost.extend(gone);
                    seqs.push(head.seq);
                    receiver.note_stored(head.seq);
                }
                Taken::Lost { from_seq, to_seq } => {
                    lost.push((from_seq, to_seq));
                    receiver.note_stored(to_seq);
                }
                Taken::Repeat { .. }
                | Taken::Hello(_)
                | Taken::ManifestPart(_)
                | Taken::TimeReply(_)
                | Taken::Heartbeat(_)
                | Taken::Nothing => {}
            }
        }
        while let Some(message) = receiver.poll_send(now) {
            let frame = encode_to_pump(&message).unwrap();
            line.bytes_in(now, 0, frame.as_bytes(), pump);
        }
    }
    (seqs, lost)
}

#[test]
fn an_event_that_rots_while_the_pump_runs_is_declared_within_the_hour_and_no_line_waits_for_it() {
    let mut pump = start(formatted(64));
    begin(&mut pump, 0);
    run_to(&mut pump, 3 * HOUR);
    let newest = pump.last_seq();
    rot_seqs(&mut pump, &[1, 40, 41, 42, 90, newest]);
    run_to(&mut pump, 4 * HOUR + 10 * MINUTE);
    let new = after(&pump, newest);
    let mut named = declared(&new);
    named.sort_unstable();
    assert_eq!(named, [(1, 1), (40, 42), (90, 90), (newest, newest)]);
    let storage = new
        .iter()
        .any(|body| matches!(body, Body::Alarm(alarm) if alarm.code == AlarmCode::Storage));
    assert!(storage, "and the pump says that its memory is damaged");
    let (seqs, mut lost) = fetch(&pump);
    let all: Vec<u64> = (1..=pump.last_seq()).collect();
    let held: Vec<u64> = all
        .into_iter()
        .filter(|seq| ![1, 40, 41, 42, 90, newest].contains(seq))
        .collect();
    assert_eq!(seqs, held);
    lost.sort_unstable();
    assert_eq!(lost, named);
    // Once is enough.
    let newest = pump.last_seq();
    run_to(&mut pump, 7 * HOUR);
    assert_eq!(declared(&after(&pump, newest)), []);
}

#[test]
fn what_rotted_while_the_pump_was_off_is_declared_at_its_start() {
    let mut pump = start(formatted(64));
    begin(&mut pump, 0);
    run_to(&mut pump, 2 * HOUR);
    rot_seqs(&mut pump, &[7, 30, 31]);
    let newest = pump.last_seq();
    let pump = start(pump.into_board().powered_again());
    let new = after(&pump, newest);
    assert_eq!(declared(&new), [(7, 7), (30, 31)]);
    assert_eq!(
        kinds(&new).last(),
        Some(&"checkpoint"),
        "and signed at once"
    );
    let (seqs, lost) = fetch(&pump);
    assert_eq!(seqs.last(), Some(&pump.last_seq()));
    assert_eq!(lost, [(7, 7), (30, 31)]);
    // The next start finds nothing new.
    let newest = pump.last_seq();
    let pump = start(pump.into_board().powered_again());
    assert_eq!(declared(&after(&pump, newest)), []);
}

#[test]
fn a_sound_journal_declares_nothing_however_often_it_turns_over() {
    let mut pump = start(formatted(4));
    begin(&mut pump, 0);
    for hour in 1..=30 {
        run_to(&mut pump, hour * HOUR);
        let first = bodies(&pump)[0].0.seq;
        for (from, to) in declared(&after(&pump, 0)) {
            assert!(
                from == 1 && to < first,
                "{from}..={to}, held from {first} on"
            );
        }
    }
}

#[test]
fn events_from_before_a_long_failure_of_the_memory_are_still_found_and_the_rest_is_declared() {
    let mut pump = start(formatted(64));
    begin(&mut pump, 0);
    run_to(&mut pump, HOUR);
    let newest = pump.last_seq();
    pump.board_mut().failing = true;
    run_to(&mut pump, 6 * HOUR);
    pump.board_mut().failing = false;
    run_to(&mut pump, 8 * HOUR);
    let lost = declared(&after(&pump, newest));
    let [(from, to)] = lost[..] else {
        panic!("{lost:?}");
    };
    assert!(from == newest + 1 && to - from > 100, "{lost:?}");
    for seq in 1..=pump.last_seq() {
        let is_held = pump.event(seq).is_some();
        assert_eq!(is_held, !(from..=to).contains(&seq), "{seq} of {lost:?}");
    }
}
