//! Counts what an event costs on the image's processor: the same library, compiled the same way,
//! called a hundred times over. `firmware/scripts/cost.sh` runs it where the emulator's counter goes
//! on by a nanosecond an instruction.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "the board's registers, memory and stack")
)]

#[cfg(target_os = "none")]
#[path = "../../boards/mps2/board.rs"]
mod board;

#[cfg(target_os = "none")]
mod cost {
    use super::board::Mps2;
    use core::fmt::Write;
    use core::hint::black_box;
    use firmware::program::Program;
    use firmware::provision::{Limits, Provision};
    use firmware::pump::{Input, Pump};
    use firmware::station::{Hardware, RigBoard};
    use protocol::chain::{ChainHead, TagKey};
    use protocol::event::{BootReason, Delivered, Head};
    use protocol::frame::encode_event;
    use protocol::message::Source;
    use protocol::units::{Concentration, FlowRate, Volume};

    const TIMES: u32 = 100;

    /// Instructions of one call, from so many: the counter counts microseconds, which are a
    /// thousand instructions.
    fn instructions(clock: &Mps2, mut call: impl FnMut(u32)) -> u64 {
        let begin = clock.micros();
        for turn in 0..TIMES {
            call(turn);
        }
        (clock.micros() - begin) * 1_000 / u64::from(TIMES)
    }

    fn provision() -> Option<Provision> {
        let limits = Limits {
            bolus: Volume::from_nanoliters(50_000),
            lockout_ms: 3_600_000,
            max_1h: Volume::from_nanoliters(200_000),
            max_4h: Volume::from_nanoliters(650_000),
            max_24h: Volume::from_nanoliters(3_500_000),
        };
        Provision::new(
            Source::new("COST")?,
            protocol::hex::Hex([0; 32]),
            &[b'm'; 1_000],
            limits,
            Program::constant(FlowRate::from_nanoliters_per_hour(100_000)),
            Concentration::from_micrograms_per_milliliter(500),
        )
    }

    pub(super) fn count() -> Option<()> {
        let clock = Mps2::start();
        let mut said = heapless::String::<512>::new();
        let head = ChainHead(protocol::hex::Hex([7; 32]));
        let key = TagKey::from_bytes([9; 32]);
        let body = Delivered {
            delivered_nl: 12_345_678,
            programmed_nl: 12_345_700,
            strokes: 246,
            encoder_counts: 197_530,
        };
        let of = |turn: u32| {
            let head = Head {
                boot: 3,
                seq: 18_274 + u64::from(turn),
                tick_ms: 86_400_000,
            };
            protocol::event::Body::Delivered(body).encode(head)
        };
        let raw = of(0).ok()?;
        let tag = key.tag(&head);
        let frame = instructions(&clock, |_| {
            black_box(encode_event(black_box(&raw), black_box(&tag)).is_ok());
        });
        let chain = instructions(&clock, |_| {
            black_box(key.tag(&black_box(&head).after(black_box(&raw))));
        });
        let mut signer = Mps2::start();
        signer.set_secret(&[5; 32]);
        let sign = instructions(&clock, |_| {
            black_box(signer.sign(black_box(&[1; 112])));
        });

        let provision = provision()?;
        let mut board = RigBoard::new(signer);
        Pump::format(&mut board, &provision, &[3; 32]).ok()?;
        let mut pump = Pump::start(board, &provision, BootReason::PowerOn, 0).ok()?;
        let before = pump.last_seq();
        let whole = instructions(&clock, |turn| {
            // One event: the counters, as where power is about to fail.
            let _ = pump.handle(1_000 + u64::from(turn), Input::PowerFailing);
        });
        if pump.last_seq() - before != u64::from(TIMES) {
            return None;
        }
        let figures = [
            ("frame", frame),
            ("tag", chain),
            ("journal", whole.saturating_sub(chain)),
            ("event", whole),
            ("signature", sign),
        ];
        for (name, figure) in figures {
            writeln!(said, "{name} {figure}").ok()?;
        }
        let mut port = Mps2::start();
        for byte in said.bytes() {
            while !port.line_put(byte) {}
        }
        Some(())
    }

    pub(super) fn end(well: bool) {
        let mut port = Mps2::start();
        for byte in if well { "end\n" } else { "failed\n" }.bytes() {
            while !port.line_put(byte) {}
        }
    }
}

#[cfg(target_os = "none")]
#[cortex_m_rt::entry]
fn main() -> ! {
    let well = cost::count().is_some();
    cost::end(well);
    loop {
        cortex_m::asm::wfi();
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("this is the image of a board: firmware/scripts/cost.sh");
}
