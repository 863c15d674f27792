//! Lives a story with everything behind the pump: two simulated pumps on pseudo-terminals, the
//! gateway in a process of its own, recorder and broker, and a dashboard that listens.
//!
//! The pumps live sixty times as fast as the wall; what happens behind them, and how soon it must be
//! seen, is wall time since the moment.

mod plan;
mod pump;
mod senses;
mod world;

pub(crate) use plan::Plan;

use super::{Outcome, span};
use anyhow::Context;
use clap::Args;
use device_sim::scenario::Scenario;
use gateway::config::{BedConfig, Config};
use gateway::gateway::Gateway;
use plan::{Must, What};
use std::path::PathBuf;
use std::time::Duration;
use world::World;

/// Longest wait for the moment, and for what must come in the end; a machine may be slow.
const PATIENCE_MS: u64 = 120_000;
const LOOK: Duration = Duration::from_millis(5);

/// The gateway's process.
#[derive(Clone, Debug, Args)]
pub(crate) struct BoxArgs {
    #[arg(long)]
    gw: String,
    #[arg(long)]
    broker: String,
    #[arg(long)]
    spool: PathBuf,
    #[arg(long)]
    trust: PathBuf,
    #[arg(long)]
    clock: String,
    /// `BED:TRIAL:PORT`, once a bed.
    #[arg(long)]
    bed: Vec<String>,
}

/// Runs a gateway until it is killed.
///
/// # Errors
/// Where it does not start.
pub(crate) fn run_box(args: &BoxArgs) -> anyhow::Result<()> {
    let beds = args.bed.iter().map(|text| {
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().context("a bed is BED:TRIAL:PORT");
        let (bed, trial) = (next()?.to_owned(), next()?.to_owned());
        Ok(BedConfig {
            port: next()?.into(),
            bed,
            trial,
            tag_key: None,
        })
    });
    let wrong = |e: String| anyhow::anyhow!(e);
    let config = Config {
        site: world::SITE.into(),
        gw: args.gw.clone(),
        beds: beds.collect::<anyhow::Result<_>>()?,
        broker: args.broker.parse().map_err(wrong)?,
        spool: args.spool.clone(),
        key: None,
        trust: Some(args.trust.clone()),
        clock: args.clock.parse().map_err(wrong)?,
    };
    let runtime = world::runtime()?;
    runtime.block_on(async {
        let running = Gateway::start(config).map_err(|e| anyhow::anyhow!("{e}"))?;
        std::future::pending::<()>().await;
        running.stop().await;
        Ok(())
    })
}

/// Lives it.
///
/// # Errors
/// Where the parts do not start or the moment never comes.
pub(super) fn live(story: &Scenario, slack: u64) -> anyhow::Result<Outcome> {
    let plan = Plan::of(story)?;
    let mut world = World::start(story, &plan)?;
    let moment = world.wait_for_moment(PATIENCE_MS)?;
    let mut complaints = Vec::new();
    let mut steps = plan.steps.clone();
    let mut open: Vec<Must> = plan.musts.clone();
    while !(steps.is_empty() && open.is_empty()) {
        let now = world.now_ms();
        let since = now - moment;
        while steps.first().is_some_and(|step| step.after_ms <= since) {
            let step = steps.remove(0);
            if let Err(e) = world.do_step(&step) {
                complaints.push(format!("{:?}: {e:#}", step.what));
            }
        }
        open.retain(|must| {
            if let Some(at) = world.met(must, moment) {
                if at > must.within_ms * slack {
                    complaints.push(format!("{}: came after {}", must.in_full(), span(at)));
                }
                return false;
            }
            // What comes late is told with how late it was; what never comes ends the wait.
            let over = since
                > must
                    .within_ms
                    .saturating_mul(3)
                    .max(must.within_ms + 10_000);
            if over {
                complaints.push(format!("{}: never", must.in_full()));
            }
            !over
        });
        std::thread::sleep(LOOK);
    }
    let over = world.now_ms();
    complaints.extend(world.finish(&plan, PATIENCE_MS)?);
    eprintln!(
        "{}: {} to its moment, {} of it, {} to the end of the records",
        story.title(),
        span(moment),
        span(over - moment),
        span(world.now_ms() - over)
    );
    complaints.extend(world.neighbor_complaints(&plan));
    complaints.extend(plan.nevers.iter().filter_map(|name| {
        let seen = world.saw_alarm_here_alone(name);
        seen.then(|| format!("{name} was raised and should not have been"))
    }));
    if !complaints.is_empty() {
        complaints.push(world.told());
    }
    // Of two that come together either may be first; the page names what the story names first.
    let seen = plan.musts.first().map(Must::in_full);
    Ok(Outcome {
        seen: seen.unwrap_or_else(|| "the record alone".into()),
        complaints,
    })
}

impl Must {
    fn in_full(&self) -> String {
        format!("{} within {}", self.words(), span(self.within_ms))
    }

    /// For people.
    fn words(&self) -> String {
        match &self.what {
            What::Alarm { name, .. } => format!("{} told", name.replace('_', " ")),
            What::AlarmEnds { name } => format!("{} over", name.replace('_', " ")),
            What::Offline => "gateway told offline".into(),
            What::LinkUp => "line up".into(),
            What::Face { line } => format!("pump shows {line:?}"),
        }
    }
}
