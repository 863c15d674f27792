//! Lane `model`: the way of an event as a transition system, searched to its end.
//!
//! Sizes of [`chain::Chain`] are searched exhaustively with all its properties; then each
//! [`chain::Plant`], a way to build the chain wrong, must be found by one of them; then the real
//! engines are held against it ([`mod@conform`]).

mod chain;
mod conform;

use crate::ledger::{Lane, LaneArgs};
use anyhow::{Context, bail, ensure};
use chain::{ALL_DELIVERED, Action, Chain, Plant, Size};
use clap::Args;
use stateright::{Checker, HasDiscoveries, Model};

/// What the lane is told.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// `ci` searches the small sizes, `all` the large ones too; `conform` none, and only holds the
    /// engines against the model; else the name of one.
    #[arg(long, default_value = "ci")]
    config: String,
    #[command(flatten)]
    lane: LaneArgs,
}

/// A size with a name.
struct Config {
    name: &'static str,
    /// Small enough for every run of the tests.
    ci: bool,
    size: Size,
}

const BASE: Size = Size {
    events: 3,
    window: 2,
    slots: 14,
    recorders: 1,
    crashes: 0,
    sync_errors: 0,
    starts: 0,
    write_errors: 0,
    forged_acks: 0,
    lost_records: 0,
    prunes: false,
};
const CRASHES: Size = Size {
    crashes: 2,
    sync_errors: 1,
    ..BASE
};
const PUMP: Size = Size {
    events: 4,
    starts: 1,
    write_errors: 1,
    forged_acks: 1,
    ..BASE
};
const LOST_RECORD: Size = Size {
    crashes: 1,
    lost_records: 1,
    prunes: true,
    ..BASE
};
const RING: Size = Size {
    events: 6,
    slots: 4,
    ..BASE
};
const TWO: Size = Size {
    recorders: 2,
    crashes: 1,
    sync_errors: 1,
    ..BASE
};

/// Searched to their end, small ones first.
const CONFIGS: &[Config] = &[
    config("crashes", true, CRASHES),
    config("lost-record", true, LOST_RECORD),
    config("pump", true, PUMP),
    config("two", true, TWO),
    config("ring", true, RING),
    config("ring-crash", false, Size { crashes: 1, ..RING }),
    config(
        "pump-crash",
        false,
        Size {
            crashes: 1,
            sync_errors: 1,
            ..PUMP
        },
    ),
    config(
        "crashes-3",
        false,
        Size {
            events: 4,
            crashes: 3,
            sync_errors: 2,
            ..BASE
        },
    ),
    config(
        "window-3",
        false,
        Size {
            events: 4,
            window: 3,
            ..CRASHES
        },
    ),
    config(
        "five",
        false,
        Size {
            events: 5,
            crashes: 1,
            sync_errors: 1,
            ..BASE
        },
    ),
];

const fn config(name: &'static str, ci: bool, size: Size) -> Config {
    Config { name, ci, size }
}

/// The size in which a plant shows.
fn size_for(plant: Plant) -> Size {
    match plant {
        Plant::AckBeforeSync
        | Plant::PubackAsDurable
        | Plant::RepeatsKept
        | Plant::GapTaken
        | Plant::ReceiptBeforeSync
        | Plant::ReceiptOfNewest
        | Plant::GatewayOpensUnsynced
        | Plant::RecorderOpensUnsynced
        | Plant::GatewayRetriesSync
        | Plant::RecorderRetriesSync
        | Plant::OpenTrustsCache
        | Plant::AckFreesJournal
        | Plant::ForgedReceiptTaken
        | Plant::ForeignReceiptTaken
        | Plant::ForgedEventTaken
        | Plant::PrunedWhenSent => CRASHES,
        Plant::BootNotRaised | Plant::SeqStartsAgain | Plant::FailedWriteSilent => PUMP,
        Plant::AckOfNewest
        | Plant::OverrunSilent
        | Plant::LossFromOne
        | Plant::DeclaredLossBelieved => RING,
        Plant::ReceiptNeverLess => LOST_RECORD,
    }
}

/// No way in a model of these sizes is longer.
const DEPTH_MAX: usize = 60;

/// The shortest way to a state that must not be, with the property that says so.
fn shortest_way(chain: Chain) -> Option<(&'static str, Vec<Action>)> {
    // A search stops some states after the one it looked for: the depth is raised step by step.
    (2..DEPTH_MAX).find_map(|depth| {
        let checker = chain
            .checker()
            .threads(1)
            .target_max_depth(depth)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let found = checker.discoveries().into_iter();
        found
            .filter(|(name, _)| *name != ALL_DELIVERED)
            .map(|(name, path)| (name, path.into_actions()))
            .min_by_key(|(name, way)| (way.len(), *name))
    })
}

/// Searches a size to its end; gives how many states there are, and how many steps between them.
fn search(config: &Config) -> anyhow::Result<(u64, u64)> {
    let checker = Chain::of(config.size)
        .checker()
        .threads(2)
        .spawn_bfs()
        .join();
    if let Some((name, _)) = checker
        .discoveries()
        .into_iter()
        .find(|(name, _)| *name != ALL_DELIVERED)
    {
        // Once more by one thread: that gives the shortest way.
        let way = shortest_way(Chain::of(config.size)).map(|(_, way)| way);
        bail!("{}: not kept: {name}, after {way:?}", config.name);
    }
    let end = checker.discovery(ALL_DELIVERED);
    ensure!(end.is_some(), "{}: never {ALL_DELIVERED}", config.name);
    let states = u64::try_from(checker.unique_state_count())?;
    let steps = u64::try_from(checker.state_count())?;
    println!(
        "model {}: {states} states, {steps} steps, depth {}: all properties hold",
        config.name,
        checker.max_depth()
    );
    Ok((states, steps))
}

/// Runs the lane.
///
/// # Errors
/// The first property that does not hold with the steps that show it, or a plant that no property
/// finds.
pub(crate) fn run(args: &ModelArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("model", &args.lane)?;
    let wanted: Vec<&Config> = CONFIGS
        .iter()
        .filter(|c| match args.config.as_str() {
            "ci" => c.ci,
            "all" => true,
            name => c.name == name,
        })
        .collect();
    if args.config == "conform" {
        conform(args, &mut lane)?;
        return lane.finish(args.lane.seed);
    }
    let names: Vec<_> = CONFIGS.iter().map(|c| c.name).collect();
    ensure!(
        !wanted.is_empty(),
        "no config {:?}; there are ci, all, {}",
        args.config,
        names.join(", ")
    );
    for config in wanted {
        let (states, steps) = search(config)?;
        lane.count("states", states);
        lane.count("steps", steps);
    }
    for plant in Plant::ALL {
        let chain = Chain {
            size: size_for(*plant),
            plant: Some(*plant),
        };
        let Some((name, way)) = shortest_way(chain) else {
            bail!("the model does not find that {}", plant.words());
        };
        lane.count("planted_found", 1);
        println!(
            "model found in {} steps: {}; against: {name}",
            way.len(),
            plant.words()
        );
    }
    let last = conform(args, &mut lane)?;
    lane.finish(last)
}

/// Steps of the sequences that are all gone through.
const DEPTH: u32 = 5;
/// Sequences that are drawn, each of so many steps.
const SEQUENCES: u64 = 60;
const STEPS: u32 = 250;

/// Holds the engines against the model; gives the last seed.
fn conform(args: &ModelArgs, lane: &mut Lane) -> anyhow::Result<u64> {
    let made = conform::exhaustive(DEPTH, None).context("VIOLATION")?;
    lane.count("conformance_steps", made);
    let mut seed = args.lane.seed;
    while lane.goes_on(seed - args.lane.seed < SEQUENCES) {
        let made = conform::drawn(seed, STEPS, None).context("VIOLATION")?;
        lane.count("conformance_steps", made);
        lane.count("conformance_sequences", 1);
        seed += 1;
    }
    Ok(seed - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_size_holds_and_its_states_are_counted() {
        let (states, steps) = search(&CONFIGS[0]).unwrap();
        assert_eq!((states, steps), (14_619, 102_027));
    }

    #[test]
    fn every_way_to_build_the_chain_wrong_is_found() {
        for plant in Plant::ALL {
            let chain = Chain {
                size: size_for(*plant),
                plant: Some(*plant),
            };
            assert!(
                shortest_way(chain).is_some(),
                "not found: {}",
                plant.words()
            );
        }
    }

    #[test]
    fn an_acknowledgement_before_the_sync_is_found_in_four_steps() {
        let chain = Chain {
            size: CRASHES,
            plant: Some(Plant::AckBeforeSync),
        };
        let (name, way) = shortest_way(chain).unwrap();
        assert_eq!(name, "what was acknowledged is on the gateway's medium");
        let expected = [
            Action::Happens,
            Action::Sends(1),
            Action::GatewayTakes(1),
            Action::GatewayTells,
        ];
        assert_eq!(way, expected);
    }
}
