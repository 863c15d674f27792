//! `sim`: one simulated pump on a pty. In a terminal it shows the pump's face and takes keys.

use crate::args::{Common, SimArgs};
use crate::provision::Plan;
use crate::stop::Stop;
use anyhow::{Context, anyhow};
use device_sim::patient::LocalClock;
use device_sim::run::{Manners, Remote};
use device_sim::scenario::Scenario;
use gateway::clock::{Mode, wall_utc};
use protocol::event::Key;
use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A digit is held so long when a person types it, milliseconds.
const HOLD_MS: u32 = 150;

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
    let remote = Remote::new();
    let ended = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (remote, stop, ended) = (remote.clone(), stop.clone(), ended.clone());
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let face = terminal && !args.headless;
        std::thread::spawn(move || {
            let over = || stop.is_set() || ended.load(Ordering::Relaxed);
            if face {
                if let Err(e) = show_face(&remote, &over) {
                    eprintln!("thecal sim: {e:#}");
                }
            } else {
                while !over() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            remote.stop();
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
        patience_ms: None,
    };
    let done = device_sim::run::run(setup, &args.link, manners, &remote, |_| {});
    ended.store(true, Ordering::Relaxed);
    let _ = watcher.join();
    done.map(|_| ()).map_err(|e| anyhow!("{e}"))
}

/// The key of a typed character.
fn key_of(byte: u8) -> Option<Key> {
    match byte {
        b'0'..=b'9' => Key::ALL.get(usize::from(byte - b'0')).copied(),
        b'\r' | b'\n' => Some(Key::Confirm),
        0x7f | 0x08 => Some(Key::Clear),
        b'b' => Some(Key::Bolus),
        b'm' => Some(Key::Movement),
        _ => None,
    }
}

/// Draws the face whenever it changes; takes keys until `q` or a signal.
fn show_face(remote: &Remote, over: &dyn Fn() -> bool) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    let before = rustix::termios::tcgetattr(&stdin)?;
    let mut raw = before.clone();
    raw.local_modes
        .remove(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO);
    raw.special_codes[rustix::termios::SpecialCodeIndex::VMIN] = 0;
    raw.special_codes[rustix::termios::SpecialCodeIndex::VTIME] = 1;
    rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &raw)?;
    let shown = draw(remote, over);
    rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &before)?;
    println!();
    shown
}

fn draw(remote: &Remote, over: &dyn Fn() -> bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let mut last = Vec::new();
    let mut byte = [0];
    while !over() {
        // Waits a tenth of a second at most, by the terminal's own timer.
        if std::io::stdin().read(&mut byte)? == 1 {
            if byte[0] == b'q' {
                return Ok(());
            }
            if let Some(key) = key_of(byte[0]) {
                remote.press(key, HOLD_MS);
            }
        }
        let Some(face) = remote.face() else { continue };
        let lines: Vec<String> = face
            .lines
            .iter()
            .map(|line| protocol::text::clean(line, 60))
            .collect();
        if lines != last {
            write!(out, "\x1b[2J\x1b[H")?;
            for line in &lines {
                writeln!(out, "| {line:<60} |")?;
            }
            writeln!(
                out,
                "\n0-9 digits  Enter confirm  Backspace clear  m movement  b bolus  q quit"
            )?;
            out.flush()?;
            last = lines;
        }
    }
    Ok(())
}
