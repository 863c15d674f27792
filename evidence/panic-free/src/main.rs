//! The decoder of the serial line as the pump has it, in a program that links only where no bytes
//! can make it panic.
//!
//! With the feature `prove` each function below ends in a call of one that does not exist, which is
//! reached by a panic alone. Where the optimizer sees that none is possible it drops the call and
//! the program links; else the linker names the function. `check.sh` beside this builds it so.
//! Without the feature this reads a line from standard input and counts what is in it.
#![forbid(unsafe_code)]

use protocol::event::{self, Body, Head, Raw};
use protocol::frame::{self, Deframer, Piece};
use protocol::link::{Receiver, Sender, Taken};
use protocol::message::{FromPump, ToPump};
use protocol::time::Uptime;
use std::io::Read;

/// Bytes of the line, cut at its zeros.
#[cfg_attr(feature = "prove", no_panic::no_panic)]
fn push(deframer: &mut Deframer, byte: u8) -> Option<Piece<'_>> {
    deframer.push(byte)
}

/// COBS, checksum, version, length, and the body of every message of a pump.
#[cfg_attr(feature = "prove", no_panic::no_panic)]
fn from_pump(piece: &[u8]) -> Result<FromPump, frame::Error> {
    frame::decode_from_pump(piece)
}

/// The same for the pump's own ear.
#[cfg_attr(feature = "prove", no_panic::no_panic)]
fn to_pump(piece: &[u8]) -> Result<ToPump, frame::Error> {
    frame::decode_to_pump(piece)
}

/// An event's bytes as journal and record hold them.
#[cfg_attr(feature = "prove", no_panic::no_panic)]
fn parse(bytes: &[u8]) -> Result<(Raw, Head), event::Error> {
    Raw::parse(bytes)
}

/// The body of every event of a pump.
#[cfg_attr(feature = "prove", no_panic::no_panic)]
fn body(raw: &Raw) -> Result<(Head, Body), event::Error> {
    event::decode(raw)
}

/// What a gateway's end of the line makes of a message.
#[cfg_attr(feature = "prove", no_panic::no_panic)]
fn gateway_hears(receiver: &mut Receiver, now: Uptime, message: FromPump) -> Taken {
    receiver.handle_message(now, message)
}

/// What a pump's end of the line makes of a message, acknowledgements among them.
#[cfg_attr(feature = "prove", no_panic::no_panic)]
fn pump_hears(sender: &mut Sender, now: Uptime, tick_ms: u64, message: &ToPump) {
    sender.handle_message(now, tick_ms, message);
}

#[cfg(feature = "planted")]
#[no_panic::no_panic]
#[expect(clippy::indexing_slicing, reason = "it is there to be found")]
fn planted(piece: &[u8]) -> u8 {
    piece[3]
}

fn main() -> std::io::Result<()> {
    let mut line = Vec::new();
    std::io::stdin().read_to_end(&mut line)?;
    let mut deframer = Deframer::default();
    let mut receiver = Receiver::new(Uptime::ZERO, 0, false);
    let mut sender = Sender::new(Uptime::ZERO, 0);
    let (mut messages, mut events, mut refused) = (0_u64, 0_u64, 0_u64);
    for byte in line {
        let Some(piece) = push(&mut deframer, byte) else {
            continue;
        };
        let Piece::Bytes(piece) = piece else {
            refused += 1;
            continue;
        };
        #[cfg(feature = "planted")]
        println!("{}", planted(piece));
        // Time passes with the number of what was heard.
        let now = Uptime::from_millis(messages + events);
        match (from_pump(piece), to_pump(piece)) {
            (Ok(message), _) => {
                if let FromPump::Event { raw, .. } = &message {
                    let decoded = parse(raw.as_bytes()).and_then(|(raw, _)| body(&raw));
                    println!("{decoded:?}");
                    events += 1;
                } else {
                    println!("{message:?}");
                    messages += 1;
                }
                if let Taken::Hello(_) = gateway_hears(&mut receiver, now, message) {
                    receiver.bind(0, false);
                }
            }
            (_, Ok(message)) => {
                println!("{message:?}");
                pump_hears(&mut sender, now, now.as_millis(), &message);
                messages += 1;
            }
            (Err(why), Err(_)) => {
                println!("refused: {why}");
                refused += 1;
            }
        }
    }
    println!(
        "{events} events, {messages} other messages, {refused} refused; heard through {}, acknowledged through {}",
        receiver.announced(),
        sender.acked()
    );
    Ok(())
}
