//! Lane `kill`: real processes on real ptys, sockets and files, killed, stopped and unplugged at
//! seeded moments, many of them right after or before a tick of the pump; then the record is held
//! against the keys that were typed and the ticks that were seen.

mod line;
mod oracle;
mod person;
mod unplug;
mod ward;

pub(crate) use unplug::{UnplugArgs, run as unplug};

use crate::chance::Chance;
use crate::ledger::{Lane, LaneArgs, monotonic};
use crate::product;
use anyhow::{Context, ensure};
use clap::Args;
use device_sim::clock::rest;
use device_sim::wire::Damage;
use line::Harm;
use person::{Shown, Typed};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use ward::{Broker, PUMP, Plan, Ward, Who};

#[derive(Clone, Debug, Args)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    lane: LaneArgs,
    /// Cycles of a trial: one fault each
    #[arg(long, default_value_t = 24)]
    cycles: u32,
    /// Trials, where no minutes are given
    #[arg(long, default_value_t = 1)]
    trials: u64,
    /// Whose broker [default: the embedded one at odd seeds, mosquitto at even ones]
    #[arg(long, value_enum)]
    broker: Option<Broker>,
    /// Which pump
    #[arg(long, default_value = "sim", value_parser = ["sim", "qemu"])]
    pump: String,
    /// The image of a pump in QEMU [default: where `firmware/scripts/build.sh mps2` puts it]
    #[arg(long)]
    image: Option<PathBuf>,
    /// The product's binary [default: the one beside this program, else the one of the dev profile]
    #[arg(long)]
    thecal: Option<PathBuf>,
}

/// Trial seconds in one of the wall: a score is typed with real keys at this pace.
const SPEED: u32 = 2;
/// After the last cycle everything must have arrived within so long.
const SETTLE: Duration = Duration::from_mins(5);

/// Runs the lane.
///
/// # Errors
/// Where a promise did not hold.
pub(crate) fn run(args: &KillArgs) -> anyhow::Result<()> {
    let mut lane = Lane::start("kill", &args.lane)?;
    let thecal = product::find(args.thecal.as_deref())?;
    if args.broker != Some(Broker::Embedded) {
        bridges::process::find_mosquitto()?;
    }
    let mut pump = vec!["--pump".to_owned(), args.pump.clone()];
    if args.pump == "qemu" {
        let built = args.lane.repository.join(device_sim::qemu::IMAGE);
        let image = args.image.clone().unwrap_or(built);
        device_sim::qemu::check(&image)?;
        pump.extend(["--image".into(), image.display().to_string()]);
    }
    let mut seed = args.lane.seed;
    while lane.goes_on(seed - args.lane.seed < args.trials) && !lane.has_violations() {
        let broker = args.broker.unwrap_or(if seed.is_multiple_of(2) {
            Broker::Mosquitto
        } else {
            Broker::Embedded
        });
        let name = format!("thecal-kill-{}-{seed}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let plan = Plan {
            thecal: thecal.clone(),
            folder: folder.clone(),
            broker,
            pump: pump.clone(),
            seed,
            speed: SPEED,
        };
        println!(
            "kill: seed {seed}, {} broker, {} pump, {} cycles",
            word(broker),
            args.pump,
            args.cycles
        );
        match trial(plan, args.cycles, &mut lane) {
            Ok(()) => {
                lane.count(&format!("trials_{}_broker", word(broker)), 1);
                let _ = std::fs::remove_dir_all(&folder);
            }
            Err(e) => {
                let what = format!("{e:#}; what is left of it: {}", folder.display());
                lane.violation(seed, &what);
            }
        }
        seed += 1;
    }
    lane.finish(seed - 1)
}

fn word(broker: Broker) -> &'static str {
    match broker {
        Broker::Embedded => "embedded",
        Broker::Mosquitto => "mosquitto",
    }
}

/// When something breaks.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Idle,
    /// Digits are on the face, confirm is not pressed.
    Typed,
    /// So long after confirm, milliseconds.
    AfterConfirm(u64),
    /// As soon as the tick is seen.
    AfterTick,
}

/// What breaks.
#[derive(Clone, Debug)]
enum Fault {
    /// Killed, and started again so much later, milliseconds, in this order.
    Kill(Vec<Who>, u64),
    /// Stopped for so long, milliseconds.
    Stop(Who, u64),
    /// The cable, for so long, milliseconds.
    Line(Harm, u64),
}

fn trial(plan: Plan, cycles: u32, lane: &mut Lane) -> anyhow::Result<()> {
    let thecal = plan.thecal.clone();
    let folder = plan.folder.clone();
    let mut chance = Chance::new(plan.seed);
    let mut ward = Ward::start(plan)?;
    let mut script = Vec::new();
    for cycle in 1..=cycles {
        for _ in 0..between(&mut chance, 0, 2) {
            type_score(&mut ward, &mut chance, &mut script);
        }
        rest(between(&mut chance, 0, 400));
        let (moment, fault) = (moment(&mut chance), fault(&mut chance));
        let said = format!("{moment:?}, {fault:?}");
        hit(&mut ward, &mut chance, &mut script, moment, fault, lane)
            .with_context(|| format!("cycle {cycle}: {said}"))?;
        let ended = ward.ended_by_itself();
        ensure!(
            ended.is_empty(),
            "cycle {cycle}: {said}: {} ended without being killed",
            ended.join(", ")
        );
        lane.count("cycles", 1);
    }
    for _ in 0..2 {
        type_score(&mut ward, &mut chance, &mut script);
    }
    let ended = ward.ended_by_itself();
    ensure!(
        ended.is_empty(),
        "{} ended without being killed",
        ended.join(", ")
    );
    let (record, starts) = (ward.record(), ward.pump_starts);
    let began = monotonic();
    loop {
        // A recorder that was told to end lets go of its files; the rest works on meanwhile.
        ward.end_recorder();
        let wrong = compare(&record, starts, &script)?;
        if wrong.is_empty() {
            break;
        }
        let waited = monotonic().saturating_sub(began);
        ensure!(waited < SETTLE, "{}", wrong.join("; "));
        ward.start_again(Who::Recorder)?;
        rest(3_000);
    }
    ward.end();
    judge(&thecal, &folder, &record, &script, lane)
}

/// What of the record does not fit the script.
fn compare(record: &Path, starts: u64, script: &[Typed]) -> anyhow::Result<Vec<String>> {
    if !record.exists() {
        return Ok(vec!["there is no record".into()]);
    }
    let seen = oracle::read(record, PUMP)?;
    let mut wrong = seen.wrong;
    wrong.extend(oracle::differs(script, &seen.scores));
    if seen.starts != starts {
        let there = seen.starts;
        wrong.push(format!(
            "the pump was started {starts} times, the record has {there}"
        ));
    }
    Ok(wrong)
}

/// From the least to the most, both possible.
fn between(chance: &mut Chance, least: u64, most: u64) -> u64 {
    least + chance.next() % (most - least + 1)
}

fn moment(chance: &mut Chance) -> Moment {
    match between(chance, 0, 9) {
        0..=1 => Moment::Idle,
        2 => Moment::Typed,
        3..=5 => Moment::AfterConfirm(between(chance, 0, 150)),
        _ => Moment::AfterTick,
    }
}

fn fault(chance: &mut Chance) -> Fault {
    let noise = Damage {
        loss: 0.003,
        flip: 0.003,
        truncate: 0.02,
        duplicate: 0.02,
        delay_ms: 30,
    };
    let who = |chance: &mut Chance| {
        let place = usize::try_from(between(chance, 0, 3)).unwrap_or(0);
        Who::ALL.get(place).copied().unwrap_or(Who::Gateway)
    };
    // Mostly at once, as a supervisor does it; sometimes after the link is given up.
    let later = |chance: &mut Chance| match between(chance, 0, 5) {
        0 => between(chance, 500, 6_000),
        _ => between(chance, 0, 300),
    };
    match between(chance, 0, 19) {
        0..=9 => Fault::Kill(vec![who(chance)], later(chance)),
        10..=11 => {
            let mut all = Who::ALL.to_vec();
            let gone = usize::try_from(between(chance, 0, 2)).unwrap_or(0);
            for _ in 0..gone {
                let place = between(chance, 0, 3);
                let place = usize::try_from(place).unwrap_or(0) % all.len();
                all.remove(place);
            }
            Fault::Kill(all, later(chance))
        }
        12..=13 => Fault::Stop(who(chance), between(chance, 100, 7_000)),
        14 => Fault::Line(
            Harm::Cut {
                from_pump: true,
                to_pump: true,
            },
            between(chance, 100, 7_000),
        ),
        15 => Fault::Line(
            Harm::Cut {
                from_pump: false,
                to_pump: true,
            },
            between(chance, 100, 3_000),
        ),
        16..=17 => Fault::Line(Harm::Noise(noise), between(chance, 500, 4_000)),
        18 => Fault::Line(Harm::Unplug, between(chance, 0, 3_000)),
        _ => Fault::Line(Harm::HangUp, between(chance, 0, 2_000)),
    }
}

/// Types a score and waits for its tick.
fn type_score(ward: &mut Ward, chance: &mut Chance, script: &mut Vec<Typed>) {
    if ward.pump.shows_closed() {
        return;
    }
    let score = score(chance);
    if !ward.pump.type_digits(score) {
        script.extend(never_seen(score));
        return;
    }
    ward.pump.confirm();
    script.push(Typed {
        score,
        confirmed: true,
        shown: ward.pump.wait_tick(10_000),
    });
}

/// Digits that were pressed and did not come to the face as that score: each may have been stored as
/// a score of its own, not confirmed.
fn never_seen(score: u8) -> Vec<Typed> {
    let digits: &[u8] = if score == 10 { &[1, 0, 10] } else { &[score] };
    let press = |score: &u8| Typed {
        score: *score,
        confirmed: false,
        shown: Shown::NeverTyped,
    };
    digits.iter().map(press).collect()
}

fn score(chance: &mut Chance) -> u8 {
    u8::try_from(between(chance, 0, 10)).unwrap_or(0)
}

fn hit(
    ward: &mut Ward,
    chance: &mut Chance,
    script: &mut Vec<Typed>,
    moment: Moment,
    fault: Fault,
    lane: &mut Lane,
) -> anyhow::Result<()> {
    let closed = ward.pump.shows_closed();
    let score = score(chance);
    let mut press = None;
    if !closed && !matches!(moment, Moment::Idle) {
        if ward.pump.type_digits(score) {
            let mut now = Typed {
                score,
                confirmed: !matches!(moment, Moment::Typed),
                shown: Shown::Nothing,
            };
            if now.confirmed {
                ward.pump.confirm();
            }
            match moment {
                Moment::AfterConfirm(ms) => rest(ms),
                Moment::AfterTick => now.shown = ward.pump.wait_tick(10_000),
                Moment::Idle | Moment::Typed => {}
            }
            press = Some(now);
        } else {
            script.extend(never_seen(score));
        }
    }
    let pump_dies = matches!(&fault, Fault::Kill(who, _) if who.contains(&Who::Pump));
    match fault {
        Fault::Kill(who, later_ms) => {
            for who in &who {
                ward.kill(*who);
                lane.count(&format!("kills_of_{}", who.word()), 1);
            }
            if let Some(press) = &mut press
                && pump_dies
                && press.confirmed
                && press.shown == Shown::Nothing
            {
                // What it drew before its end counts: a person saw it.
                press.shown = ward.pump.wait_tick(0);
            }
            rest(later_ms);
            for who in who {
                ward.start_again(who)?;
            }
        }
        Fault::Stop(who, ms) => {
            ward.signal(who, Signal::STOP);
            lane.count("stops", 1);
            rest(ms);
            ward.signal(who, Signal::CONT);
        }
        Fault::Line(harm, ms) => {
            ward.harm(harm);
            lane.count(&format!("line_{}", harm.word()), 1);
            rest(ms);
            ward.harm(Harm::Mend);
        }
    }
    if let Some(mut press) = press {
        if !pump_dies && press.shown == Shown::Nothing {
            // Without confirm it is stored as unconfirmed a little later.
            press.shown = ward.pump.wait_tick(15_000);
        }
        script.push(press);
    }
    Ok(())
}

/// Counts what a record that fits its script holds, tries the oracle itself, and asks the product
/// what it says of the record.
fn judge(
    thecal: &Path,
    folder: &Path,
    record: &Path,
    script: &[Typed],
    lane: &mut Lane,
) -> anyhow::Result<()> {
    let seen = oracle::read(record, PUMP)?;
    let ticked = |press: &&Typed| matches!(press.shown, Shown::Saved | Shown::SavedUnconfirmed);
    let ticks = u64::try_from(script.iter().filter(ticked).count())?;
    println!(
        "  {} events of the pump, {ticks} ticks seen, {} scores recorded, {} starts of the pump",
        seen.events,
        seen.scores.len(),
        seen.starts
    );
    ensure!(ticks > 0, "no tick was ever seen: nothing was tried");
    let tried = oracle::blind_to(record, PUMP, script)?;
    let blind: Vec<_> = tried.iter().filter(|(_, seen)| !seen).collect();
    ensure!(blind.is_empty(), "the oracle does not see {blind:?}");
    lane.count("plants_found", u64::try_from(tried.len())?);
    let mut verify = Command::new(thecal);
    let verify = verify
        .arg("verify")
        .arg(record)
        .output()
        .context("thecal verify")?;
    let said = String::from_utf8_lossy(&verify.stdout).trim().to_owned();
    // The trial goes on: complete as far as it is, and not closed.
    ensure!(
        said.contains("OPEN, not closed") || said.contains("COMPLETE, unaltered"),
        "thecal verify: {said}"
    );
    if product::has_command(thecal, "report")? {
        let out = folder.join("report");
        let mut report = Command::new(thecal);
        let report = report.arg("report").arg(record).arg("--out").arg(&out);
        let made = report.output().context("thecal report")?;
        let complaint = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "thecal report: {complaint}");
        let verdict = std::fs::read(out.join("verdict.json")).context("verdict.json")?;
        let verdict: serde_json::Value = serde_json::from_slice(&verdict)?;
        let said = |name: &str| {
            let place = verdict.pointer(&format!("/evidence/{name}"));
            place.and_then(serde_json::Value::as_u64)
        };
        let (events, holes) = (said("events"), said("holes"));
        ensure!(
            (events, holes) == (Some(seen.events), Some(0)),
            "the report counts {events:?} events and {holes:?} holes, the record {} and none",
            seen.events
        );
        let page = std::fs::read_to_string(out.join("report.html")).context("report.html")?;
        let drawn = oracle::shown_in(&page);
        let wanted: Vec<_> = seen.scores.iter().map(|s| (s.score, s.confirmed)).collect();
        ensure!(
            drawn == wanted,
            "the report draws the scores {drawn:?}, the record has {wanted:?}"
        );
        // A trial that the last power cut ended has scores behind its end; they are not counted.
        let counted = ["answered", "spontaneous", "unconfirmed"]
            .map(|name| said(&format!("scores_{name}")).unwrap_or(u64::MAX));
        let scores = u64::try_from(seen.scores.len())?;
        ensure!(
            counted.iter().fold(0, |sum, n| n.saturating_add(sum)) <= scores,
            "the report counts {counted:?} scores answered, spontaneous and unconfirmed, the record {scores}"
        );
        lane.count("reports", 1);
    }
    lane.count("ticks", ticks);
    lane.count("events", seen.events);
    Ok(())
}
