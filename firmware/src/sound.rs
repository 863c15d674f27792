//! Whether the delivery data in RAM are as they were left, and what the pump does where they are
//! not: it halts. A halted pump commands nothing, journals no counter and feeds no watchdog. The
//! reset that follows finds the counters in the journal and the latch set; what left the pump after
//! the last counters counts as after a power failure.

use crate::alarms::priority_of;
use crate::board::Board;
use crate::pump::Pump;
use crate::seal::sum_of;
use crate::watchdog::Watchdog;
use protocol::event::AlarmCode;

/// One checksum for each part whose numbers decide what is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    dose: u32,
    supervisor: u32,
    orders: u32,
}

impl<B: Board> Pump<B> {
    fn sums_now(&self) -> Sums {
        let given = &self.provision;
        let orders = (
            (
                &self.settings,
                &given.limits,
                given.bolus_rate,
                given.prime_rate,
            ),
            (&self.alarms, self.clock, self.windows.newest()),
            (
                self.start_tick,
                self.known_at_start,
                self.closed,
                &self.stops,
            ),
            (self.stop_at, self.part_at, self.last_grant_known_ms),
        );
        Sums {
            dose: sum_of(&(&self.dose, &self.motion)),
            supervisor: sum_of(&self.supervisor),
            orders: sum_of(&orders),
        }
    }

    /// The data are right as they are now: the pump has done its work.
    pub(crate) fn seal(&mut self) {
        if !self.halted {
            self.sums = self.sums_now();
        }
    }

    /// Whether the data are as they were left. Where not, the pump is halted.
    pub(crate) fn is_sound(&mut self) -> bool {
        if !self.halted && self.sums != self.sums_now() {
            self.halt();
        }
        !self.halted
    }

    /// Nothing is commanded any more; a start is needed, and then a clinician.
    pub(crate) fn halt(&mut self) {
        if self.halted {
            return;
        }
        self.halted = true;
        // What progress was made before no longer counts.
        self.watchdog = Watchdog::default();
        self.dose.abandon();
        let code = AlarmCode::SupervisorStop;
        if let Some(change) = self.alarms.set(code, true, priority_of(code, true)) {
            self.tell(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acts::{Act, Refused};
    use crate::board::{NvError, SECTOR, Sensors};
    use crate::dose::Dose;
    use crate::program::Program;
    use crate::provision::{Limits, Provision};
    use crate::pump::Input;
    use crate::supervisor::Supervisor;
    use protocol::event::{Body, BootReason, Key, Phase, Purpose, decode};
    use protocol::hex::PublicKey;
    use protocol::message::Source;
    use protocol::units::{Concentration, FlowRate, Volume};

    const MINUTE: u64 = 60_000;

    /// Four microsteps are one count, at once.
    #[derive(Debug)]
    struct Bench {
        nv: Vec<u8>,
        microsteps: u64,
        free_flow: u64,
        fed: u32,
    }

    impl Board for Bench {
        fn nv_size(&self) -> u32 {
            u32::try_from(self.nv.len()).unwrap()
        }
        fn nv_read(&self, at: u32, into: &mut [u8]) -> Result<(), NvError> {
            let at = usize::try_from(at).unwrap();
            into.copy_from_slice(&self.nv[at..at + into.len()]);
            Ok(())
        }
        fn nv_write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NvError> {
            let at = usize::try_from(at).unwrap();
            self.nv[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
        fn nv_erase(&mut self, sector: u32) -> Result<(), NvError> {
            let at = usize::try_from(sector * SECTOR).unwrap();
            self.nv[at..at + usize::try_from(SECTOR).unwrap()].fill(0xff);
            Ok(())
        }
        fn motor_advance(&mut self, microsteps: u32) {
            self.microsteps += u64::from(microsteps);
        }
        fn encoder(&self) -> u64 {
            self.microsteps / 4 + self.free_flow
        }
        fn sensors(&self) -> Sensors {
            Sensors::default()
        }
        fn keys_down(&self) -> u16 {
            0
        }
        fn failed_parts(&self) -> u8 {
            0
        }
        fn watchdog_test(&mut self) -> bool {
            true
        }
        fn watchdog_feed(&mut self) {
            self.fed += 1;
        }
        fn sign(&mut self, _: &[u8]) -> [u8; 64] {
            [0; 64]
        }
        fn own_clock_utc_ms(&self) -> Option<u64> {
            None
        }
        fn set_own_clock(&mut self, _: u64) {}
    }

    fn provision() -> Provision {
        let nl = Volume::from_nanoliters;
        let limits = Limits {
            bolus: nl(50_000),
            lockout_ms: 600_000,
            max_1h: nl(700_000),
            max_4h: nl(2_400_000),
            max_24h: nl(12_000_000),
        };
        Provision::new(
            Source::new("EP-1").unwrap(),
            PublicKey::default(),
            b"manifest",
            limits,
            Program::constant(FlowRate::from_nanoliters_per_hour(400_000)),
            Concentration::from_micrograms_per_milliliter(500),
        )
        .unwrap()
    }

    fn begun() -> Pump<Bench> {
        let size = usize::try_from(13 * SECTOR).unwrap();
        let mut board = Bench {
            nv: vec![0; size],
            microsteps: 0,
            free_flow: 0,
            fed: 0,
        };
        Pump::format(&mut board, &provision(), &[1; 32]).unwrap();
        let mut pump = Pump::start(board, &provision(), BootReason::PowerOn, 0).unwrap();
        let start = Act::Start {
            purpose: Purpose::Therapy,
            until: None,
        };
        pump.handle(0, Input::Act(start)).unwrap();
        pump
    }

    /// Turns the loop each second.
    fn run(pump: &mut Pump<Bench>, from: u64, to: u64) {
        for second in from / 1_000..to / 1_000 {
            pump.handle_time(second * 1_000);
            let _ = pump.serve_watchdog(u32::try_from(second).unwrap());
        }
        pump.handle_time(to);
    }

    fn press(pump: &mut Pump<Bench>, at: u64, key: Key) {
        for (ms, pressed) in [(0, true), (100, false)] {
            pump.handle(at + ms, Input::Key { key, pressed }).unwrap();
        }
    }

    /// Infusing, with a bolus under way and the motor told just now.
    fn busy() -> Pump<Bench> {
        let mut pump = begun();
        press(&mut pump, 5 * MINUTE, Key::Bolus);
        pump.handle_time(5 * MINUTE + 150);
        pump
    }

    fn stops(pump: &Pump<Bench>) -> usize {
        let events = (1..=pump.last_seq()).filter_map(|seq| pump.event(seq));
        events
            .filter(|(raw, _)| {
                matches!(
                    decode(raw).unwrap().1,
                    Body::Alarm(a) if a.code == AlarmCode::SupervisorStop && a.phase == Phase::Start
                )
            })
            .count()
    }

    fn assert_halts(mut pump: Pump<Bench>, what: &str) {
        let (microsteps, at) = (pump.board().microsteps, 5 * MINUTE + 151);
        pump.board_mut().fed = 0;
        pump.handle_time(at);
        run(&mut pump, 6 * MINUTE, 8 * MINUTE);
        assert_eq!(pump.board().microsteps, microsteps, "{what}");
        assert_eq!(pump.board().fed, 0, "{what}: the watchdog starves");
        assert_eq!((stops(&pump), pump.infusing()), (1, None), "{what}");
        let stopped = Refused::Condition(AlarmCode::SupervisorStop);
        let release = pump.handle(8 * MINUTE, Input::Act(Act::ReleaseLatch));
        assert_eq!(release, Err(stopped), "{what}: no release without a start");
    }

    #[test]
    fn a_pump_whose_data_are_sound_goes_on_and_feeds_its_watchdog() {
        let mut pump = busy();
        let before = pump.board().microsteps;
        run(&mut pump, 5 * MINUTE + 1_000, 20 * MINUTE);
        assert!(pump.board().microsteps > before + 10 * 320);
        assert_eq!((stops(&pump), pump.board().fed), (0, 899));
    }

    #[test]
    fn each_flipped_bit_of_dose_and_supervisor_latches_the_stop_before_the_motor_is_told_again() {
        let base = busy();
        let (doses, supervisors) = (base.dose.flips(), base.supervisor.flips());
        println!("{} flips", doses.len() + supervisors.len());
        for (what, dose) in doses {
            let mut pump = busy();
            pump.dose = dose;
            assert_halts(pump, &what);
        }
        for (what, supervisor) in supervisors {
            let mut pump = busy();
            pump.supervisor = supervisor;
            assert_halts(pump, &what);
        }
    }

    #[test]
    fn a_flipped_order_latches_the_stop() {
        type Change = fn(&mut Pump<Bench>);
        let cases: [(&str, Change); 8] = [
            ("program", |p| {
                p.settings.program = Program::constant(FlowRate::from_nanoliters_per_hour(400_001));
            }),
            ("bolus", |p| {
                p.settings.bolus = Volume::from_nanoliters(50_001);
            }),
            ("lockout", |p| p.settings.lockout_ms ^= 1 << 19),
            ("limit", |p| {
                p.provision.limits.max_1h = Volume::from_nanoliters(700_001);
            }),
            ("last grant", |p| p.last_grant_known_ms = None),
            ("known time", |p| p.known_at_start ^= 1 << 40),
            ("volume to stop at", |p| p.stop_at = Some(Volume::ZERO)),
            ("closed", |p| p.closed = true),
        ];
        for (what, change) in cases {
            let mut pump = busy();
            change(&mut pump);
            assert_halts(pump, what);
        }
    }

    #[test]
    fn a_flipped_minute_of_the_bolus_limits_is_found_when_a_bolus_is_asked_for() {
        let mut pump = begun();
        run(&mut pump, 0, 5 * MINUTE);
        pump.windows.flip(700);
        press(&mut pump, 5 * MINUTE, Key::Bolus);
        assert!(pump.halted && stops(&pump) == 1);
    }

    #[test]
    fn after_the_reset_the_counters_are_the_journals_and_the_latch_is_set() {
        let mut pump = busy();
        pump.dose = pump.dose.flips().remove(0).1;
        pump.handle_time(6 * MINUTE);
        assert!(pump.halted);
        let delivered = (1..=pump.last_seq()).rev().find_map(|seq| {
            let Body::Delivered(d) = decode(&pump.event(seq)?.0).ok()?.1 else {
                return None;
            };
            Some(d.delivered_nl)
        });
        let mut board = pump.into_board();
        board.fed = 0;
        let mut pump = Pump::start(board, &provision(), BootReason::Watchdog, 0).unwrap();
        assert_eq!(Some(pump.delivered().as_nanoliters()), delivered);
        let start = Act::Start {
            purpose: Purpose::Therapy,
            until: None,
        };
        let latched = Err(Refused::Condition(AlarmCode::SupervisorStop));
        assert_eq!(pump.handle(1, Input::Act(start)), latched);
        pump.handle(2, Input::Act(Act::ReleaseLatch)).unwrap();
        assert_eq!(pump.handle(3, Input::Act(start)), Ok(()));
    }

    // --- a fault planted in one is caught by the other ---

    #[test]
    fn a_dose_that_tells_the_motor_twice_as_much_is_stopped_by_the_supervisor() {
        let given = provision();
        let mut pump = begun();
        let mut wrong = given.calibration;
        wrong.stroke = Volume::from_nanoliters(25_000);
        pump.dose = Dose::new(wrong, &given.limits, given.bolus_rate, 0);
        pump.dose.follow(
            0,
            Purpose::Therapy,
            FlowRate::from_nanoliters_per_hour(400_000),
        );
        pump.seal();
        run(&mut pump, 0, 60 * MINUTE);
        assert_eq!((stops(&pump), pump.infusing()), (1, None));
        // One stroke too much, and the group that showed it.
        assert!(
            pump.board().microsteps <= 2 * 3_200 + 320 * 2,
            "{}",
            pump.board().microsteps
        );
    }

    /// Measures next to nothing and has no ceiling.
    fn blind() -> Supervisor {
        let mut wrong = provision();
        wrong.calibration.stroke = Volume::from_nanoliters(1);
        wrong.limits.max_1h = Volume::from_nanoliters(u64::MAX / 2);
        wrong.limits.max_4h = wrong.limits.max_1h;
        Supervisor::new(&wrong, 0, 0)
    }

    #[test]
    fn where_the_supervisor_is_blind_a_free_flow_is_stopped_by_the_motors_side() {
        let mut pump = begun();
        pump.supervisor = blind();
        pump.seal();
        run(&mut pump, 0, 5 * MINUTE);
        pump.board_mut().free_flow += 801;
        run(&mut pump, 5 * MINUTE, 7 * MINUTE);
        assert_eq!((stops(&pump), pump.infusing()), (1, None));
    }

    #[test]
    fn where_the_supervisor_is_blind_the_dose_stops_at_the_limit_of_an_hour() {
        let mut pump = begun();
        pump.supervisor = blind();
        // Nobody checks this rate any more.
        pump.settings.program = Program::constant(FlowRate::from_nanoliters_per_hour(4_000_000));
        pump.follow_program(protocol::event::ChangedBy::Keypad);
        pump.seal();
        run(&mut pump, 0, 60 * MINUTE);
        assert_eq!((stops(&pump), pump.infusing()), (1, None));
        let given = pump.board().microsteps * 50_000 / 3_200;
        assert!(given <= 700_000 * 61 / 60 + 50_000, "{given}");
    }

    #[test]
    fn dose_and_supervisor_know_nothing_of_each_other() {
        for (name, text, other) in [
            ("dose", include_str!("dose.rs"), "supervisor"),
            ("supervisor", include_str!("supervisor.rs"), "dose"),
        ] {
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let mut used = Vec::new();
            for line in lines {
                assert!(!line.to_lowercase().contains(other), "{name}: {line}");
                used.extend(
                    line.split("crate::")
                        .nth(1)
                        .map(|m| m.split("::").next().unwrap()),
                );
            }
            // What the pump was given, and the code of a single number.
            assert_eq!(used, ["provision", "seal"], "{name}");
            assert!(!code.contains("static "), "{name}");
        }
    }
}
