//! Every error of one and two bits and every burst of up to 16 bits in every shape of frame.

use crate::chance::Chance;
use crate::errors::{Contents, Shape, Tried, bursts, one_and_two_bits, shapes, shapes_of};
use crate::ledger::{Lane, LaneArgs};
use clap::Args;
use protocol::event::Head;
use std::sync::Mutex;

#[derive(Clone, Debug, Args)]
pub(crate) struct LineErrorsArgs {
    #[command(flatten)]
    lane: LaneArgs,
}

/// Tries all of them; each seed gives the frames other numbers, ticks, tags and keys, and with them
/// other checksums and codes.
///
/// # Errors
/// Where a damaged frame was taken.
pub(crate) fn run(args: &LineErrorsArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("line-errors", &args.lane)?;
    let mut seed = args.lane.seed;
    while lane.goes_on(seed == args.lane.seed) && !lane.has_violations() {
        everything(seed, &mut lane);
        seed += 1;
    }
    lane.finish(seed - 1)
}

fn everything(seed: u64, lane: &mut Lane) {
    // The first seed's are those of the test run.
    let mut shapes = match seed {
        1 => shapes(),
        _ => shapes_of(&contents(seed)),
    };
    // The longest first, so that all threads end together.
    shapes.sort_by_key(|shape| shape.bytes.len());
    let left = Mutex::new(shapes);
    let tried = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(shape) = next(&left) {
                    let both = (one_and_two_bits(&shape), bursts(&shape));
                    if let Ok(mut tried) = tried.lock() {
                        tried.push(both);
                    }
                }
            });
        }
    });
    let mut note = |name: &str, tried: Tried| {
        lane.count(name, tried.errors);
        for what in tried.taken {
            lane.violation(seed, &what);
        }
    };
    let tried = tried.into_inner().unwrap_or_default();
    let shapes = u64::try_from(tried.len()).unwrap_or(0);
    for (bits, bursts) in tried {
        note("one_and_two_bit_errors", bits);
        note("bursts", bursts);
    }
    lane.count("frame_shapes", shapes);
}

/// What stands in a seed's frames.
fn contents(seed: u64) -> Contents {
    let mut contents = Contents::plain();
    let mut chance = Chance::of(seed, 0);
    // Of every length that a number may have on the line.
    let mut number = |bits: u32| {
        let short = chance.next() % u64::from(bits);
        chance.next() >> (u64::from(u64::BITS - bits) + short)
    };
    let boot = u32::try_from(number(32)).unwrap_or(1);
    contents.head = Head {
        boot,
        seq: number(40).max(1),
        tick_ms: number(48),
    };
    contents.number = number(40);
    let mut bytes = |into: &mut [u8]| {
        for place in into {
            let [byte, ..] = chance.next().to_le_bytes();
            // Zeros are what codes stand for: many of them.
            *place = if chance.below(4) == 0 { 0 } else { byte };
        }
    };
    bytes(&mut contents.tag);
    bytes(&mut contents.key);
    bytes(&mut contents.text);
    contents
}

fn next(left: &Mutex<Vec<Shape>>) -> Option<Shape> {
    left.lock().ok()?.pop()
}
