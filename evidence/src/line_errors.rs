//! Every error of one and two bits and every burst of up to 16 bits in every shape of frame.

use crate::errors::{Shape, Tried, bursts, one_and_two_bits, shapes};
use crate::ledger::{Lane, LaneArgs};
use clap::Args;
use std::sync::Mutex;

#[derive(Clone, Debug, Args)]
pub(crate) struct LineErrorsArgs {
    #[command(flatten)]
    lane: LaneArgs,
}

/// Tries all of them; minutes and seeds change nothing, for it is everything.
///
/// # Errors
/// Where a damaged frame was taken.
pub(crate) fn run(args: &LineErrorsArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("line-errors", &args.lane)?;
    let mut shapes = shapes();
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
            lane.violation(args.lane.seed, &what);
        }
    };
    let tried = tried.into_inner().unwrap_or_default();
    let shapes = u64::try_from(tried.len()).unwrap_or(0);
    for (bits, bursts) in tried {
        note("one_and_two_bit_errors", bits);
        note("bursts", bursts);
    }
    lane.count("frame_shapes", shapes);
    lane.finish(args.lane.seed)
}

fn next(left: &Mutex<Vec<Shape>>) -> Option<Shape> {
    left.lock().ok()?.pop()
}
