//! What the pump does about its sensors, its supervisor and the hour: conditions begin and end,
//! some stop delivery, readings are journaled.

use crate::alarms::{Change, by_sensors, forbids, priority_of};
use crate::board::{Board, Sensors};
use crate::dose::Fault;
use crate::motion::Moved;
use crate::pump::Pump;
use crate::recall::ends_with_start;
use crate::supervisor::Verdict;
use protocol::event::{
    Alarm, AlarmCode, Battery, Door, Key, KeyStuck, Phase, Purpose, Reservoir, ReservoirChange,
    SelfTest, StopReason,
};
use protocol::units::{FlowRate, Volume};

/// The sensors are looked at, at least so often.
pub(crate) const LOOK_MS: u64 = 60_000;
/// So many stops by a condition within this time latch the pump: who starts it again each time
/// has not found what is wrong (Open PCA requirements, alert-stop-start sequence).
const STOPS: usize = 3;
const STOPS_WITHIN_MS: u64 = 600_000;
/// So many gaps of the journal are declared at a start; what is left, a part a minute.
const DECLARED_AT_START: u8 = 16;
const JOURNAL_PART: u8 = 1;
pub(crate) const WATCHDOG_PART: u8 = 1 << 4;
/// Parts without which nothing may be infused: motor, encoder, watchdog, memory.
const VITAL_PARTS: u8 = 0b11_1100;

/// When conditions last stopped delivery.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct StopsByAlarm([Option<u64>; STOPS]);

impl StopsByAlarm {
    /// Another; true where there were too many lately. They begin to count anew then.
    fn note(&mut self, tick_ms: u64) -> bool {
        let [_, oldest, newest] = self.0;
        self.0 = [oldest, newest, Some(tick_ms)];
        let many = oldest.is_some_and(|at| tick_ms.saturating_sub(at) <= STOPS_WITHIN_MS);
        if many {
            *self = Self::default();
        }
        many
    }
}

impl<B: Board> Pump<B> {
    /// Reads the encoder, for the counters, the windows and the supervisor.
    pub(crate) fn observe(&mut self) {
        let encoder = self.board.encoder();
        let to_patient = !matches!(
            self.dose.following(),
            Some((Purpose::Prime | Purpose::Purge, _))
        );
        let known_ms = self.known_ms();
        let delivered = self.dose.observe(self.now, encoder);
        if to_patient {
            self.windows.add(known_ms, delivered);
        }
        let verdict = self
            .supervisor
            .observe(self.now, known_ms, encoder, to_patient);
        match verdict {
            Verdict::Agrees => {}
            Verdict::Over => {
                self.set_alarm(AlarmCode::OverDelivery, true);
                self.latch();
            }
            Verdict::Ceiling => self.latch(),
            Verdict::Under => self.set_alarm(AlarmCode::UnderDelivery, true),
            Verdict::UnderEnds => self.set_alarm(AlarmCode::UnderDelivery, false),
            Verdict::Damaged => {
                self.halt();
                return;
            }
        }
        match self.motion.observe(self.now, encoder) {
            Moved::AsTold => {}
            Moved::TooFar => {
                self.set_alarm(AlarmCode::OverDelivery, true);
                self.latch();
            }
            Moved::TooLittle => self.set_alarm(AlarmCode::UnderDelivery, true),
            Moved::Again => self.set_alarm(AlarmCode::UnderDelivery, false),
        }
    }

    /// The dose refused to command more.
    pub(crate) fn take_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Limit => self.latch(),
            Fault::Damaged => self.halt(),
        }
    }

    /// The pump stops itself, and a clinician must release it.
    pub(crate) fn latch(&mut self) {
        self.set_alarm(AlarmCode::SupervisorStop, true);
        self.stop(StopReason::Alarm);
    }

    pub(crate) fn end_under_delivery(&mut self) {
        self.set_alarm(AlarmCode::UnderDelivery, false);
    }

    /// Looks at the sensors and the memory.
    pub(crate) fn look(&mut self) {
        self.look_at = self.now.saturating_add(LOOK_MS);
        let sensors = self.board.sensors();
        if sensors.door_open != self.door_open {
            self.door_open = sensors.door_open;
            self.log(Door {
                open: sensors.door_open,
            });
        }
        let left = self.left(&sensors);
        // How long it lasts is asked of therapy; a line is filled within minutes.
        let rate = match self.dose.following() {
            Some((Purpose::Therapy, rate)) => rate,
            Some((Purpose::Prime | Purpose::Purge, _)) | None => FlowRate::ZERO,
        };
        let found = by_sensors(&self.alarms, &self.provision.marks, &sensors, left, rate);
        for (code, holds) in found {
            self.set_alarm(code, holds);
        }
        self.look_at_memory();
    }

    /// What reading the journal at the start showed to be gone is declared before anything else.
    fn declare_damage(&mut self) {
        for _ in 0..DECLARED_AT_START {
            if !self.ledger.scrub_all(&mut self.board, self.now) {
                return;
            }
        }
    }

    fn look_at_memory(&mut self) {
        self.damaged |= self.ledger.scrub_if_due(&mut self.board, self.now);
        let failing = self.ledger.failing();
        let told = self.alarms.is_active(AlarmCode::Storage);
        if failing || self.damaged == told {
            return;
        }
        self.set_alarm(AlarmCode::Storage, self.damaged);
    }

    /// A condition holds or does not: tells what changed, and stops delivery where it must.
    pub(crate) fn set_alarm(&mut self, code: AlarmCode, holds: bool) {
        let infusing = self.dose.following().is_some();
        let priority = priority_of(code, infusing);
        let Some(change) = self.alarms.set(code, holds, priority) else {
            return;
        };
        self.tell(change);
        if change.phase == Phase::Start && forbids(code) {
            self.stop(if code == AlarmCode::ReservoirEmpty {
                StopReason::Empty
            } else {
                StopReason::Alarm
            });
            if infusing && self.stops.note(self.now) {
                self.latch();
            }
        }
    }

    pub(crate) fn tell(&mut self, change: Change) {
        let what = match change.code {
            AlarmCode::ReservoirLow => Some(ReservoirChange::Low),
            AlarmCode::ReservoirEmpty => Some(ReservoirChange::Empty),
            AlarmCode::DownstreamOcclusion
            | AlarmCode::UpstreamOcclusion
            | AlarmCode::AirInLine
            | AlarmCode::BatteryLow
            | AlarmCode::BatteryFlat
            | AlarmCode::OverDelivery
            | AlarmCode::UnderDelivery
            | AlarmCode::DoorOpen
            | AlarmCode::KeyStuck
            | AlarmCode::SupervisorStop
            | AlarmCode::Storage
            | AlarmCode::SelfTest => None,
        };
        if let (Some(what), Phase::Start) = (what, change.phase) {
            self.log_reservoir(what);
        }
        self.log(Alarm {
            code: change.code,
            priority: change.priority,
            phase: change.phase,
        });
    }

    /// What the reservoir holds: by its sensor or by count, whichever is less.
    pub(crate) fn left(&self, sensors: &Sensors) -> Volume {
        let computed = self.computed_left();
        let measured = sensors.measured_reservoir_nl;
        measured.map_or(computed, |nl| computed.min(Volume::from_nanoliters(nl)))
    }

    fn computed_left(&self) -> Volume {
        let since = self
            .dose
            .delivered()
            .saturating_sub(self.settings.delivered_at_change);
        self.settings.reservoir.saturating_sub(since)
    }

    pub(crate) fn log_reservoir(&mut self, what: ReservoirChange) {
        let measured_nl = self.board.sensors().measured_reservoir_nl;
        self.log(Reservoir {
            what,
            measured_nl,
            computed_nl: self.computed_left().as_nanoliters(),
        });
    }

    /// Readings and a checkpoint. Where nothing is infused, the counters too: a ring that turns over
    /// must hold them, since a start knows them from the journal alone.
    pub(crate) fn each_hour(&mut self) {
        if self.dose.following().is_none() {
            self.report();
        }
        self.log_reservoir(ReservoirChange::Reading);
        let sensors = self.board.sensors();
        self.log(Battery {
            percent: sensors.battery_percent,
            minutes_left: sensors.battery_minutes,
        });
        self.checkpoint();
    }

    /// After a start: what was left open ends, parts are tested, sensors looked at.
    pub(crate) fn after_start(&mut self) {
        for key in Key::ALL {
            if self.stuck & crate::recall::bit_of(*key) != 0 {
                let (key, phase) = (*key, Phase::End);
                self.log(KeyStuck { key, phase });
            }
        }
        self.stuck = 0;
        for code in AlarmCode::ALL {
            if ends_with_start(*code) {
                self.set_alarm(*code, false);
            }
        }
        if self.damaged {
            self.failed_parts |= JOURNAL_PART;
            self.declare_damage();
        }
        self.log(SelfTest {
            passed: self.failed_parts == 0,
            failed_parts: self.failed_parts,
        });
        if self.failed_parts & VITAL_PARTS != 0 {
            self.set_alarm(AlarmCode::SelfTest, true);
        }
        self.look();
    }
}
