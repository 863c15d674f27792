//! Alarm conditions of the pump: when they begin and end, how urgent they are, which forbid
//! delivery.
//!
//! A condition begins at its mark and ends a little away from it, so that a value at the mark does
//! not make it come and go. No reading neither begins nor ends a condition.
//!
//! Priorities follow the rule of IEC 60601-1-8 as the Open PCA requirements reproduce it (Table 3):
//! harm and how soon it comes. Occlusion is high here: with a neuraxial opioid or baclofen the harm
//! is withdrawal (`facts/devices-and-faults.md` §3).

use crate::board::Sensors;
use crate::provision::Marks;
use protocol::event::{AlarmCode, Phase, Priority};
use protocol::units::{FlowRate, HOUR_MS, Volume};

/// How many conditions there are.
pub const CODES: usize = AlarmCode::ALL.len();

/// A condition that began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub code: AlarmCode,
    /// As it is told; the end has the priority of its start.
    pub priority: Priority,
    /// Start or end.
    pub phase: Phase,
}

/// The conditions that are active, with the priority that each began with.
#[derive(Clone, Debug, Default, Hash)]
pub struct Alarms {
    active: [Option<Priority>; CODES],
}

impl Alarms {
    /// Whether a condition is active.
    pub fn is_active(&self, code: AlarmCode) -> bool {
        self.priority(code).is_some()
    }

    /// Its priority, where it is active.
    pub fn priority(&self, code: AlarmCode) -> Option<Priority> {
        place(code).and_then(|p| self.active.get(p).copied().flatten())
    }

    /// All active ones in the order of their codes.
    pub fn active(&self) -> impl Iterator<Item = (AlarmCode, Priority)> + '_ {
        let codes = AlarmCode::ALL.iter();
        codes.filter_map(|code| self.priority(*code).map(|p| (*code, p)))
    }

    /// The first active condition that forbids delivery.
    pub fn forbids_delivery(&self) -> Option<AlarmCode> {
        self.active().map(|(code, _)| code).find(|c| forbids(*c))
    }

    /// The condition holds, or does not. Gives what is to be told, if anything.
    pub fn set(&mut self, code: AlarmCode, holds: bool, priority: Priority) -> Option<Change> {
        let cell = self.active.get_mut(place(code)?)?;
        let change = |priority, phase| Change {
            code,
            priority,
            phase,
        };
        match (*cell, holds) {
            (None, true) => {
                *cell = Some(priority);
                Some(change(priority, Phase::Start))
            }
            (Some(began), false) => {
                *cell = None;
                Some(change(began, Phase::End))
            }
            (None, false) | (Some(_), true) => None,
        }
    }

    /// As the journal tells it after a start.
    pub(crate) fn recall(&mut self, change: Change) {
        if let Some(cell) = place(change.code).and_then(|p| self.active.get_mut(p)) {
            *cell = (change.phase == Phase::Start).then_some(change.priority);
        }
    }
}

fn place(code: AlarmCode) -> Option<usize> {
    AlarmCode::ALL.iter().position(|c| *c == code)
}

/// Whether delivery stops when this condition begins, and cannot start while it is active.
pub fn forbids(code: AlarmCode) -> bool {
    match code {
        AlarmCode::DownstreamOcclusion
        | AlarmCode::UpstreamOcclusion
        | AlarmCode::AirInLine
        | AlarmCode::ReservoirEmpty
        | AlarmCode::OverDelivery
        | AlarmCode::DoorOpen
        | AlarmCode::SupervisorStop
        | AlarmCode::SelfTest => true,
        AlarmCode::ReservoirLow
        | AlarmCode::BatteryLow
        | AlarmCode::BatteryFlat
        | AlarmCode::UnderDelivery
        | AlarmCode::KeyStuck
        | AlarmCode::Storage => false,
    }
}

/// How urgent a condition is when it begins.
pub fn priority_of(code: AlarmCode, infusing: bool) -> Priority {
    match code {
        AlarmCode::DownstreamOcclusion
        | AlarmCode::UpstreamOcclusion
        | AlarmCode::AirInLine
        | AlarmCode::ReservoirEmpty
        | AlarmCode::BatteryFlat
        | AlarmCode::OverDelivery
        | AlarmCode::SupervisorStop
        | AlarmCode::SelfTest => Priority::High,
        AlarmCode::BatteryLow
        | AlarmCode::UnderDelivery
        | AlarmCode::KeyStuck
        | AlarmCode::Storage => Priority::Medium,
        AlarmCode::DoorOpen if infusing => Priority::Medium,
        AlarmCode::DoorOpen | AlarmCode::ReservoirLow => Priority::Low,
    }
}

/// What the sensors make of each condition that they decide: its code, and whether it holds.
/// `left` is what the reservoir holds, by sensor or by count, whichever is less.
pub fn by_sensors(
    alarms: &Alarms,
    marks: &Marks,
    sensors: &Sensors,
    left: Volume,
    rate: FlowRate,
) -> [(AlarmCode, bool); 8] {
    let was = |code| alarms.is_active(code);
    // Between the mark and a little away from it, what was holds.
    let below = |code, value: u64, mark: u64, away: u64| {
        value < mark || was(code) && value < mark.saturating_add(away)
    };
    let occluded = sensors
        .pressure_mbar
        .map_or(was(AlarmCode::DownstreamOcclusion), |mbar| {
            mbar >= marks.occlusion_mbar
                || was(AlarmCode::DownstreamOcclusion) && mbar >= marks.occlusion_mbar / 4 * 3
        });
    let (left, tenth_ml) = (left.as_nanoliters(), 100_000);
    let lasts_ms = match u64::from(rate.as_nanoliters_per_hour()) {
        0 => u64::MAX,
        rate => left.saturating_mul(HOUR_MS) / rate,
    };
    let empty = below(
        AlarmCode::ReservoirEmpty,
        left,
        marks.reservoir_empty.as_nanoliters(),
        tenth_ml,
    );
    let low = below(
        AlarmCode::ReservoirLow,
        left,
        marks.reservoir_low.as_nanoliters(),
        tenth_ml,
    ) || below(
        AlarmCode::ReservoirLow,
        lasts_ms,
        marks.reservoir_low_ms,
        marks.reservoir_low_ms / 10,
    );
    let minutes = u64::from(sensors.battery_minutes);
    let percent = u64::from(sensors.battery_percent);
    let flat = below(AlarmCode::BatteryFlat, percent, 1, 2)
        || below(
            AlarmCode::BatteryFlat,
            minutes,
            u64::from(marks.battery_flat_min) + 1,
            2,
        );
    let battery_low = below(
        AlarmCode::BatteryLow,
        percent,
        u64::from(marks.battery_low_percent) + 1,
        2,
    ) || below(
        AlarmCode::BatteryLow,
        minutes,
        u64::from(marks.battery_low_min) + 1,
        5,
    );
    [
        (AlarmCode::DoorOpen, sensors.door_open),
        (AlarmCode::DownstreamOcclusion, occluded),
        (AlarmCode::UpstreamOcclusion, sensors.upstream_blocked),
        (AlarmCode::AirInLine, sensors.air),
        (AlarmCode::ReservoirLow, low),
        (AlarmCode::ReservoirEmpty, empty),
        (AlarmCode::BatteryLow, battery_low),
        (AlarmCode::BatteryFlat, flat),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Volume = Volume::from_nanoliters(20_000_000);
    const RATE: FlowRate = FlowRate::from_nanoliters_per_hour(400_000);

    fn active(alarms: &mut Alarms, sensors: Sensors, left: Volume) -> Vec<AlarmCode> {
        for (code, holds) in by_sensors(alarms, &Marks::default(), &sensors, left, RATE) {
            alarms.set(code, holds, priority_of(code, true));
        }
        alarms.active().map(|(code, _)| code).collect()
    }

    #[test]
    fn zero_percent_is_flat_and_not_a_missing_reading() {
        let sensors = Sensors {
            battery_percent: 0,
            battery_minutes: 600,
            ..Sensors::default()
        };
        assert_eq!(
            active(&mut Alarms::default(), sensors, PLENTY),
            [AlarmCode::BatteryLow, AlarmCode::BatteryFlat]
        );
    }

    #[test]
    fn a_value_at_its_mark_does_not_make_an_alarm_come_and_go() {
        let mut alarms = Alarms::default();
        let at = |mbar| Sensors {
            pressure_mbar: mbar,
            ..Sensors::default()
        };
        assert!(active(&mut alarms, at(Some(688)), PLENTY).is_empty());
        let occluded = [AlarmCode::DownstreamOcclusion];
        assert_eq!(active(&mut alarms, at(Some(689)), PLENTY), occluded);
        assert_eq!(active(&mut alarms, at(Some(688)), PLENTY), occluded);
        assert_eq!(active(&mut alarms, at(None), PLENTY), occluded);
        assert!(active(&mut alarms, at(Some(500)), PLENTY).is_empty());
        assert!(active(&mut alarms, at(None), PLENTY).is_empty());
    }

    #[test]
    fn a_reservoir_is_low_by_volume_or_by_time_left() {
        let mut alarms = Alarms::default();
        let left = Volume::from_nanoliters(999_999);
        let well = Sensors::default();
        assert_eq!(active(&mut alarms, well, left), [AlarmCode::ReservoirLow]);
        let left = Volume::from_nanoliters(499_999);
        assert_eq!(
            active(&mut alarms, well, left),
            [AlarmCode::ReservoirLow, AlarmCode::ReservoirEmpty]
        );
        let fast = FlowRate::from_nanoliters_per_hour(2_000_000);
        let left = Volume::from_nanoliters(3_900_000);
        let low = by_sensors(&Alarms::default(), &Marks::default(), &well, left, fast);
        assert!(low.contains(&(AlarmCode::ReservoirLow, true)));
    }

    #[test]
    fn an_end_has_the_priority_of_its_start() {
        let mut alarms = Alarms::default();
        let door = AlarmCode::DoorOpen;
        let start = alarms.set(door, true, priority_of(door, true)).unwrap();
        assert_eq!(
            (start.priority, start.phase),
            (Priority::Medium, Phase::Start)
        );
        assert_eq!(alarms.set(door, true, Priority::Low), None);
        let end = alarms.set(door, false, priority_of(door, false)).unwrap();
        assert_eq!((end.priority, end.phase), (Priority::Medium, Phase::End));
    }
}
