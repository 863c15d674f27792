//! Events a second through both halves of the link engine and the frames between them, in one
//! thread, over a perfect wire.

use super::per_second;
use crate::doctor::MicroClock;
use protocol::event::{Body, Delivered, Head, Raw};
use protocol::frame::{
    Deframer, Piece, decode_from_pump, decode_to_pump, encode_event, encode_to_pump,
};
use protocol::hex::Hex;
use protocol::link::{Receiver, Send, Sender, Taken};
use protocol::time::Uptime;

const EVENTS: u64 = 200_000;

pub(crate) fn bench() -> anyhow::Result<()> {
    let journal: Vec<Raw> = (1..=EVENTS).map(event).collect::<Result<_, _>>()?;
    let clock = MicroClock::start();
    let (passed, bytes) = run(&journal)?;
    let micros = clock.micros();
    anyhow::ensure!(passed == EVENTS, "{passed} of {EVENTS} events came through");
    let rate = per_second(EVENTS, micros);
    let line = 11_520 * EVENTS / bytes.max(1);
    println!(
        "link     {rate} events/s through both ends ({} bytes a frame); a line of 115200 baud carries {line}/s",
        bytes / EVENTS
    );
    Ok(())
}

fn event(seq: u64) -> Result<Raw, protocol::event::Error> {
    let nl = seq * 1_000;
    let body = Delivered {
        delivered_nl: nl,
        programmed_nl: nl,
        strokes: seq,
        encoder_counts: seq * 16,
    };
    Body::from(body).encode(Head {
        boot: 1,
        seq,
        tick_ms: seq * 60_000,
    })
}

fn run(journal: &[Raw]) -> anyhow::Result<(u64, u64)> {
    let now = Uptime::ZERO;
    let mut pump = Sender::new(now, 0);
    pump.note_journaled(EVENTS);
    let mut gateway = Receiver::new(now, 0, false);
    gateway.bind(0, false);
    let (mut at_gateway, mut at_pump) = (Deframer::default(), Deframer::default());
    let (mut passed, mut bytes) = (0, 0);
    loop {
        let mut moved = false;
        while let Some(message) = gateway.poll_send(now) {
            let frame = encode_to_pump(&message)?;
            for byte in frame.as_bytes() {
                if let Some(Piece::Bytes(piece)) = at_pump.push(*byte) {
                    pump.handle_message(now, 0, &decode_to_pump(piece)?);
                    moved = true;
                }
            }
        }
        while let Some(send) = pump.poll_send(now) {
            let Send::Event { seq } = send else { continue };
            let place = usize::try_from(seq - 1)?;
            let Some(raw) = journal.get(place) else {
                continue;
            };
            let frame = encode_event(raw, &Hex([0; 16]))?;
            bytes += u64::try_from(frame.as_bytes().len())?;
            for byte in frame.as_bytes() {
                if let Some(Piece::Bytes(piece)) = at_gateway.push(*byte)
                    && let Taken::Event { head, .. } =
                        gateway.handle_message(now, decode_from_pump(piece)?)
                {
                    passed += 1;
                    moved = true;
                    gateway.note_stored(head.seq);
                }
            }
        }
        if !moved {
            return Ok((passed, bytes));
        }
    }
}
