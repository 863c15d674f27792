//! What a seed is: how long, how fast, and what goes wrong how often.

use super::dice::Dice;
use super::{broker, disk, wire};

const HOUR_MS: u64 = 3_600_000;

/// Troubles that begin and end by the clock; each with the mean wall time between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// The cable is pulled and plugged in again.
    CablePulled,
    /// One direction of the line is dead and nobody sees it.
    HalfOpen,
    /// The pump's supply fails.
    PumpOff,
    /// The gateway is killed.
    GatewayKilled,
    /// The gateway's supply fails.
    GatewayOff,
    /// The recorder is killed.
    RecorderKilled,
    /// The recorder's supply fails.
    RecorderOff,
    /// The broker ends and forgets.
    BrokerEnds,
    /// The gateway's connection breaks.
    GatewayCut,
    /// The recorder's connection breaks.
    RecorderCut,
    /// Another client has the gateway's name; each throws the other out.
    GatewayNamesake,
    /// Another client has the recorder's name.
    RecorderNamesake,
    /// The broker answers nothing any more, on a connection that stands.
    BrokerMute,
    /// The gateway's clock is set.
    ClockSet,
    /// The gateway's disk is full.
    SpoolFull,
    /// The recorder's disk is full.
    RecordFull,
}

/// All of them.
pub(crate) const TROUBLES: [Trouble; 16] = [
    Trouble::CablePulled,
    Trouble::HalfOpen,
    Trouble::PumpOff,
    Trouble::GatewayKilled,
    Trouble::GatewayOff,
    Trouble::RecorderKilled,
    Trouble::RecorderOff,
    Trouble::BrokerEnds,
    Trouble::GatewayCut,
    Trouble::RecorderCut,
    Trouble::GatewayNamesake,
    Trouble::RecorderNamesake,
    Trouble::BrokerMute,
    Trouble::ClockSet,
    Trouble::SpoolFull,
    Trouble::RecordFull,
];

/// Everything that a seed decides before the trial begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Trial hours.
    pub(crate) hours: u64,
    /// Trial seconds a wall second.
    pub(crate) speed: u32,
    pub(crate) origin_utc_ms: i64,
    pub(crate) flash_bytes: u32,
    /// The shortest and the longest time without the cable, wall milliseconds.
    pub(crate) cable_off_ms: (u64, u64),
    /// Part of the time that is infused.
    pub(crate) infusion_part: f64,
    /// That power fails within a call of the pump.
    pub(crate) power_cut_a_call: f64,
    /// That power fails right behind an event.
    pub(crate) power_cut_after_event: f64,
    pub(crate) up: wire::Harm,
    pub(crate) down: wire::Harm,
    pub(crate) spool: disk::Harm,
    pub(crate) record: disk::Harm,
    pub(crate) broker: broker::Harm,
    /// That a process ends between two steps of its loop, outside its disk.
    pub(crate) crash_a_step: f64,
    /// Mean wall milliseconds between two of a trouble.
    pub(crate) troubles: Vec<(Trouble, u64)>,
    /// Wall milliseconds between two looks at the outbox.
    pub(crate) uplink_every_ms: u64,
    /// A disk here says that it synced what it did not.
    pub(crate) liar: bool,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let hours = dice.whole(36, 120);
        let clock_speed = dice.pick(&[900, 1_800, 3_600]);
        let wall_ms = hours * HOUR_MS / u64::from(clock_speed);
        // Critical steps in half of the seeds, with more or less of everything else.
        let critical = dice.happens(0.5);
        let level = dice.pick(&[0.3, 1.0, 2.0]);
        let step = |p: f64| if critical { p * level } else { 0.0 };
        let liar = dice.happens(0.05);
        let false_syncs = if liar { 0.05 } else { 0.0 };
        let small_ring = dice.happens(0.15);
        let sectors = if small_ring { dice.whole(10, 30) } else { 256 };
        // Long enough that a small ring turns over meanwhile.
        let cable_off_ms = if small_ring {
            (wall_ms / 8, wall_ms)
        } else {
            (50, 30_000)
        };
        let mut troubles = Vec::new();
        for trouble in TROUBLES {
            let most = match trouble {
                Trouble::GatewayKilled
                | Trouble::GatewayOff
                | Trouble::RecorderKilled
                | Trouble::RecorderOff
                | Trouble::PumpOff => 2,
                Trouble::SpoolFull | Trouble::RecordFull | Trouble::BrokerMute => 1,
                Trouble::CablePulled
                | Trouble::HalfOpen
                | Trouble::BrokerEnds
                | Trouble::GatewayCut
                | Trouble::RecorderCut
                | Trouble::GatewayNamesake
                | Trouble::RecorderNamesake
                | Trouble::ClockSet => 4,
            };
            let times = dice.whole(0, most);
            if let Some(apart) = wall_ms.checked_div(times) {
                troubles.push((trouble, apart));
            }
        }
        let wire = |dice: &mut Dice| {
            let bad = dice.pick(&[0.0, 0.002, 0.02, 0.1]);
            wire::Harm {
                lost: bad,
                bent: bad,
                cut_short: bad / 2.0,
                doubled: bad,
                noise: bad / 2.0,
                overtaken: bad / 2.0,
                late_ms: dice.pick(&[0, 20, 300]),
            }
        };
        let disk = |dice: &mut Dice| disk::Harm {
            crash: step(0.002),
            sync_fails: dice.pick(&[0.0, 0.0, 0.001]),
            sync_lies: false_syncs,
        };
        let bad = dice.pick(&[0.0, 0.01, 0.05]);
        Self {
            seed,
            hours,
            speed: clock_speed,
            origin_utc_ms: 1_772_409_600_000,
            cable_off_ms,
            flash_bytes: u32::try_from(sectors).unwrap_or(256) * 4_096,
            infusion_part: dice.pick(&[0.02, 0.05, 0.2]),
            power_cut_a_call: dice.pick(&[0.0, 0.000_5]),
            power_cut_after_event: step(0.005),
            up: wire(&mut dice),
            down: wire(&mut dice),
            spool: disk(&mut dice),
            record: disk(&mut dice),
            broker: broker::Harm {
                drops_and_says_yes: bad,
                refuses: bad / 2.0,
                doubles: bad,
                overtakes: bad,
                late_ms: dice.pick(&[5, 50, 1_000]),
            },
            crash_a_step: step(0.001),
            troubles,
            uplink_every_ms: dice.pick(&[100, 400, 1_000]),
            liar,
        }
    }
}
