//! The real engines against the model: the same steps in both, the same state after each.
//!
//! Driven are the true `Sender`, `Receiver`, `Outbox` and `Progress`, and on files the true `Spool`
//! and `Record` (`shelf`). What a step does to them is compared with what the model says of it;
//! a difference names the steps that led to it. Short sequences are all gone through, long ones
//! are drawn from a seed and end in a time without faults, in which everything must arrive. Real
//! stores write and sync in one call, so a kill here loses what was not committed: the model's
//! power cut that keeps nothing.

mod rig;
mod shelf;

use super::chain::Plant;
use crate::chance::Chance;
use anyhow::Context;
use rig::{Rig, Step};
use shelf::{Files, Memory};

const TRIAL: &str = "T-1";
const PUMP: &str = "EP-0193";
/// More faults than any sequence has steps.
const MANY: u8 = 250;
/// Long sequences end at this seq.
const EVENTS: u8 = 12;

/// Goes through all sequences of so many steps on from `rig`; gives how many steps were made.
fn all_from(rig: &Rig<Memory>, depth: u32, way: &mut Vec<Step>) -> anyhow::Result<u64> {
    let mut made = 0;
    for step in rig.menu() {
        let mut next = rig.clone();
        way.push(step);
        next.step(step).with_context(|| format!("after {way:?}"))?;
        made += 1;
        if depth > 1 {
            made += all_from(&next, depth - 1, way)?;
        }
        way.pop();
    }
    Ok(made)
}

/// All sequences of `depth` steps from three beginnings; gives how many steps were made.
pub(super) fn exhaustive(depth: u32, plant: Option<Plant>) -> anyhow::Result<u64> {
    let beginnings: [&[Step]; 3] = [
        &[],
        // Two events on the line, one stored.
        &[
            Step::Happens,
            Step::Happens,
            Step::GatewayTells,
            Step::PumpHears(0),
            Step::PumpSends,
            Step::PumpSends,
            Step::FrameArrives(1),
            Step::GatewayCommits,
        ],
        // Three stored, one of them recorded.
        &[
            Step::Happens,
            Step::Happens,
            Step::Happens,
            Step::GatewayTells,
            Step::PumpHears(0),
            Step::PumpSends,
            Step::PumpSends,
            Step::PumpSends,
            Step::FrameArrives(1),
            Step::FrameArrives(2),
            Step::FrameArrives(3),
            Step::GatewayCommits,
            Step::Publishes(3),
            Step::RowArrives(1),
            Step::RowArrives(3),
            Step::RecorderCommits,
            Step::RecorderReceipts,
        ],
    ];
    let mut made = 0;
    for beginning in beginnings {
        let mut rig = Rig::new(Memory::default(), plant, 4);
        for step in beginning {
            rig.step(*step)?;
        }
        made += all_from(&rig, depth, &mut beginning.to_vec())?;
    }
    Ok(made)
}

/// A long sequence drawn from a seed, on real files; gives how many steps were made.
pub(super) fn drawn(seed: u64, steps: u32, plant: Option<Plant>) -> anyhow::Result<u64> {
    let mut chance = Chance::of(seed, 0x636f_6e66);
    let mut rig = Rig::new(Files::new()?, plant, EVENTS);
    let mut way = Vec::new();
    for _ in 0..steps {
        let menu = if chance.below(3) > 0 {
            rig.onward(&mut chance)
        } else {
            rig.menu()
        };
        let Some(step) = menu.get(chance.below(menu.len())).copied() else {
            continue;
        };
        // Faults are a part of what happens, not most of it.
        let fault = matches!(
            step,
            Step::GatewayKilled
                | Step::RecorderKilled
                | Step::RecordDestroyed
                | Step::PumpStarts
                | Step::FindsNoRoom
                | Step::ForgedAck(_)
        );
        if fault && chance.below(4) > 0 {
            continue;
        }
        let step = if matches!(step, Step::Publishes(_)) {
            Step::Publishes(1 + chance.below(4))
        } else {
            step
        };
        way.push(step);
        rig.step(step)
            .with_context(|| format!("seed {seed}: after {way:?}"))?;
    }
    rig.finish()
        .with_context(|| format!("seed {seed}: at the end, after {way:?}"))?;
    Ok(u64::try_from(way.len())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_do_what_the_model_does_in_every_short_sequence() {
        assert!(exhaustive(4, None).unwrap() > 10_000);
    }

    #[test]
    fn the_engines_on_files_do_what_the_model_does_and_everything_arrives() {
        for seed in 1..=10 {
            drawn(seed, 150, None).unwrap();
        }
    }

    #[test]
    fn a_model_of_another_chain_is_told_apart_from_the_engines() {
        let others = [
            Plant::AckBeforeSync,
            Plant::GapTaken,
            Plant::ReceiptBeforeSync,
            Plant::ReceiptOfNewest,
            Plant::FailedWriteSilent,
            Plant::ReceiptNeverLess,
        ];
        for plant in others {
            let seen = (1..=40).any(|seed| drawn(seed, 150, Some(plant)).is_err());
            assert!(seen, "not told apart: {plant:?}");
        }
    }
}
