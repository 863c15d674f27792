//! `sim`: one simulated pump on a pty. In a terminal it shows the pump's face and takes keys.

use crate::args::{Common, SimArgs};
use crate::face;
use crate::provision::Plan;
use crate::stop::Stop;
use anyhow::{Context, anyhow};
use device_sim::patient::LocalClock;
use device_sim::run::{Manners, Remote};
use device_sim::scenario::Scenario;
use gateway::clock::{Mode, wall_utc};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) fn sim(common: &Common, args: &SimArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    // An accelerated trial begins at its clock's origin, whenever the pump is switched on: the same
    // seed gives the same bytes.
    let origin = match common.clock {
        Mode::Wall => wall_utc(),
        Mode::Accelerated { origin, .. } => origin,
    }
    .as_unix_millis();
    let zone = jiff::tz::TimeZone::system();
    let offset = jiff::Timestamp::from_millisecond(origin)
        .map(|at| zone.to_offset(at).seconds() / 60)
        .context("the clock")?;
    let plan = Plan {
        bed_index: 0,
        trial: args.trial.clone(),
        bed: None,
        kind: args
            .patient
            .parse()
            .map_err(|e| anyhow!("--patient: {e}"))?,
        seed: args.seed,
        days: args.days,
        speed: common.clock.speed(),
        zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        clock: LocalClock {
            origin_utc_ms: origin,
            offset_min: i16::try_from(offset)?,
        },
    };
    let mut setup = plan.setup()?;
    setup.image = args.pump.image()?;
    if let Some(path) = &args.scenario {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| name.to_string())?;
        let scenario = Scenario::parse(&text).map_err(|e| anyhow!("{name}: {e}"))?;
        setup = setup.in_scenario(&scenario);
    }
    if let Some(folder) = &args.state {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        setup.memory = Some(folder.join("pump.nv"));
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let face = terminal && !args.headless;
    // Who sees the face is the patient, and nothing waits for a gateway.
    setup.quiet_patient |= face;
    let around = face::Around {
        pump: setup.source.to_string(),
        day_began_ms: u64::try_from((origin + i64::from(offset) * 60_000).rem_euclid(86_400_000))?,
        rate_nl_per_h: setup.plan.rates_nl_per_h.first().copied().unwrap_or(0),
    };
    let remote = Remote::new();
    let ended = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (remote, stop, ended) = (remote.clone(), stop.clone(), ended.clone());
        std::thread::spawn(move || {
            let _ends = Ends(remote.clone());
            let over = || stop.is_set() || ended.load(Ordering::Relaxed);
            if face {
                if let Err(e) = face::show(&remote, &around, &over) {
                    // The terminal may be what went away; then there is nobody to tell.
                    let _ = writeln!(std::io::stderr(), "thecal sim: {e:#}");
                }
            } else {
                while !over() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        })
    };
    eprintln!(
        "thecal sim: pump {} on {}",
        setup.source,
        args.link.display()
    );
    if common.clock == Mode::Wall && args.headless {
        eprintln!("thecal sim: at real speed; --clock RFC3339@N for N times as fast");
    }
    let manners = Manners {
        speed: common.clock.speed(),
        patience_ms: face.then_some(0),
    };
    let done = device_sim::run::run(setup, &args.link, manners, &remote, |_| {});
    ended.store(true, Ordering::Relaxed);
    let _ = watcher.join();
    done.map(|_| ()).map_err(|e| anyhow!("{e}"))
}

/// However the thread that holds this ends, the pump ends with it.
struct Ends(Remote);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.stop();
    }
}
