//! Every error of one and two bits and every burst of up to 16 bits in every shape of frame.

use crate::errors::{bursts, one_and_two_bits, shapes};
use crate::ledger::{Lane, LaneArgs};
use clap::Args;

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
    for shape in shapes() {
        for (name, tried) in [
            ("one_and_two_bit_errors", one_and_two_bits(&shape)),
            ("bursts", bursts(&shape)),
        ] {
            lane.count(name, tried.errors);
            for what in tried.taken {
                lane.violation(args.lane.seed, &what);
            }
        }
        lane.count("frame_shapes", 1);
    }
    lane.finish(args.lane.seed)
}
