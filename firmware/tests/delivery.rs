//! Days of infusion on a board in memory: counters, boluses, limits, stops, starts.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "helper functions of a test stop it where they fail"
)]

mod common;

use common::{
    HOUR, MINUTE, MemoryBoard, act, after, begin, bodies, check_chain, events_of, formatted,
    infusing, kinds, nl, press, provision, rate, run_to, set_sensors, start, start_with,
};
use firmware::acts::{Act, Refused};
use firmware::program::{DayPart, Program};
use firmware::pump::{Input, Pump};
use proptest::prelude::*;
use protocol::event::{
    AlarmCode, Body, BolusDecision, BootReason, ChangedBy, CloseReason, Key, Phase, Priority,
    Purpose, Refusal, ReservoirChange, StopReason,
};

fn delivered(pump: &Pump<MemoryBoard>) -> Vec<(u64, u64, u64)> {
    let all = bodies(pump).into_iter();
    all.filter_map(|(head, body)| match body {
        Body::Delivered(d) => Some((head.tick_ms, d.delivered_nl, d.programmed_nl)),
        _ => None,
    })
    .collect()
}

fn decisions(bodies: &[Body]) -> Vec<BolusDecision> {
    let all = bodies.iter();
    all.filter_map(|body| match body {
        Body::BolusRequested(request) => Some(request.decision),
        _ => None,
    })
    .collect()
}

#[test]
fn three_days_add_up_to_the_counter_and_the_encoder_to_0_nl() {
    let mut given = provision();
    given.reservoir = nl(50_000_000);
    let mut pump = start_with(formatted(400), &given);
    begin(&mut pump, 0);
    for hour in 0..72 {
        press(&mut pump, hour * HOUR + 20 * MINUTE, &[Key::Bolus]);
    }
    act(&mut pump, 72 * HOUR, Act::Close(CloseReason::Planned));
    let reports = delivered(&pump);
    let last = reports.last().unwrap();
    let sum: u64 = reports.windows(2).map(|w| w[1].1 - w[0].1).sum();
    let encoder = pump.board().microsteps / 400 * 125 / 2;
    assert_eq!((sum, last.1), (encoder, encoder));
    let mut boluses = 0;
    for (_, body) in bodies(&pump) {
        if let Body::BolusDelivered(bolus) = body {
            assert!(bolus.complete);
            assert_eq!(bolus.delivered_nl, 50_000);
            boluses += bolus.delivered_nl;
        }
    }
    assert!(boluses > 60 * 50_000, "{boluses}");
    assert_eq!(last.2, 72 * 400_000 + boluses);
    assert!(last.2 - last.1 <= 5_000, "{last:?}");
    // At each stroke and at least every minute.
    assert!(reports.windows(2).all(|w| w[1].0 - w[0].0 <= MINUTE));
    assert!(check_chain(&events_of(&pump)).unwrap().closed());
}

#[test]
fn how_often_the_pump_is_called_makes_no_difference() {
    let story = |every: u64| {
        let mut pump = infusing();
        let mut at = 0;
        while at < 3 * HOUR {
            at += every;
            run_to(&mut pump, at);
            if at % (30 * MINUTE) == 0 {
                press(&mut pump, at, &[Key::Bolus, Key::Digit4, Key::Confirm]);
            }
        }
        events_of(&pump)
    };
    assert_eq!(story(1_000), story(30 * MINUTE));
}

#[test]
fn day_parts_change_the_rate_at_their_minute() {
    let mut given = provision();
    let part = |from_min, nl| DayPart {
        from_min,
        rate: rate(nl),
    };
    given.program = Program::new(&[part(7 * 60, 400_000), part(22 * 60, 300_000)]).unwrap();
    // The clock says 06:00 at tick 0.
    let mut pump = start_with(formatted(400), &given);
    begin(&mut pump, 0);
    act(&mut pump, 30 * HOUR, Act::Stop);
    let changes: Vec<_> = bodies(&pump)
        .into_iter()
        .filter_map(|(head, body)| match body {
            Body::RateChanged(c) => Some((head.tick_ms, c.programmed_nl_per_h, c.by)),
            _ => None,
        })
        .collect();
    let by = ChangedBy::DayPart;
    let wanted = [
        (HOUR, 400_000, by),
        (16 * HOUR, 300_000, by),
        (25 * HOUR, 400_000, by),
    ];
    assert_eq!(changes, wanted);
    let programmed = delivered(&pump).last().unwrap().2;
    assert_eq!(
        programmed,
        300_000 + 15 * 400_000 + 9 * 300_000 + 5 * 400_000
    );
    let mut board = formatted(8);
    board.clock = None;
    let mut pump = start_with(board, &given);
    let begin = Act::Start {
        purpose: Purpose::Therapy,
        until: None,
    };
    assert_eq!(pump.handle(1, Input::Act(begin)), Err(Refused::ClockNotSet));
}

#[test]
fn a_refused_bolus_names_the_reason_and_the_wait() {
    let mut pump = infusing();
    press(&mut pump, 10 * MINUTE, &[Key::Bolus]);
    assert_eq!(
        pump.face(10 * MINUTE + 100, true).message_text().unwrap(),
        "Bolus is being given."
    );
    let seq = pump.last_seq();
    press(&mut pump, 12 * MINUTE, &[Key::Bolus]);
    let face = pump.face(12 * MINUTE + 100, true);
    assert_eq!(
        face.message_text().unwrap(),
        "Bolus not given: too soon. Next in 8 min."
    );
    assert_eq!(face.lockout_left_ms, 480_000);
    let denied = |reason, wait_ms| BolusDecision::Denied { reason, wait_ms };
    assert_eq!(
        decisions(&after(&pump, seq)),
        [denied(Refusal::Lockout, Some(480_000))]
    );
    act(&mut pump, 13 * MINUTE, Act::Stop);
    let seq = pump.last_seq();
    press(&mut pump, 30 * MINUTE, &[Key::Bolus]);
    assert_eq!(
        decisions(&after(&pump, seq)),
        [denied(Refusal::Alarm, None)]
    );
}

#[test]
fn a_bolus_refused_by_a_limit_is_granted_after_the_wait_that_was_told() {
    // 0.4 mL/h and 0.05 mL boluses: 0.7 mL in an hour leaves room for five.
    let mut pump = infusing();
    let (mut granted, mut at) = (0, 10 * MINUTE);
    let wait = loop {
        let seq = pump.last_seq();
        press(&mut pump, at, &[Key::Bolus]);
        match decisions(&after(&pump, seq))[0] {
            BolusDecision::Granted { .. } => granted += 1,
            BolusDecision::Denied { reason, wait_ms } => {
                assert_eq!(reason, Refusal::Limit);
                break wait_ms.unwrap();
            }
        }
        at += 10 * MINUTE;
    };
    assert_eq!(granted, 5);
    let seq = pump.last_seq();
    press(&mut pump, at + u64::from(wait), &[Key::Bolus]);
    let granted = decisions(&after(&pump, seq));
    assert!(
        matches!(granted[..], [BolusDecision::Granted { .. }]),
        "{granted:?} after {wait}"
    );
}

#[test]
fn a_bolus_that_is_interrupted_says_what_was_delivered() {
    let mut pump = infusing();
    press(&mut pump, 10 * MINUTE, &[Key::Bolus]);
    let seq = pump.last_seq();
    set_sensors(&mut pump, 10 * MINUTE + 10_000, |s| {
        s.pressure_mbar = Some(900);
    });
    let seen = after(&pump, seq);
    let kinds = kinds(&seen);
    assert_eq!(
        kinds[kinds.len() - 4..],
        ["alarm", "delivered", "bolus_delivered", "infusion_stopped"]
    );
    let bolus = seen.iter().find_map(|b| match b {
        Body::BolusDelivered(b) => Some(*b),
        _ => None,
    });
    let bolus = bolus.unwrap();
    assert!(!bolus.complete);
    assert_eq!((bolus.requested_nl, bolus.delivered_nl), (50_000, 20_000));
    let moved = pump.board().commands.len();
    run_to(&mut pump, 2 * HOUR);
    assert_eq!(pump.board().commands.len(), moved);
}

#[test]
fn conditions_that_forbid_delivery_stop_it_until_a_clinician_starts_it() {
    type Set = fn(&mut firmware::board::Sensors);
    let cases: [(AlarmCode, Priority, Set, StopReason); 5] = [
        (
            AlarmCode::DownstreamOcclusion,
            Priority::High,
            |s| s.pressure_mbar = Some(700),
            StopReason::Alarm,
        ),
        (
            AlarmCode::UpstreamOcclusion,
            Priority::High,
            |s| s.upstream_blocked = true,
            StopReason::Alarm,
        ),
        (
            AlarmCode::AirInLine,
            Priority::High,
            |s| s.air = true,
            StopReason::Alarm,
        ),
        (
            AlarmCode::DoorOpen,
            Priority::Medium,
            |s| s.door_open = true,
            StopReason::Alarm,
        ),
        (
            AlarmCode::ReservoirEmpty,
            Priority::High,
            |s| s.measured_reservoir_nl = Some(0),
            StopReason::Empty,
        ),
    ];
    for (code, priority, set, reason) in cases {
        let mut pump = infusing();
        let seq = pump.last_seq();
        set_sensors(&mut pump, MINUTE + 1, set);
        let seen = after(&pump, seq);
        let alarm = seen.iter().find_map(|b| match b {
            Body::Alarm(a) if a.code == code => Some((a.priority, a.phase)),
            _ => None,
        });
        assert_eq!(alarm, Some((priority, Phase::Start)), "{code:?}");
        let stopped = protocol::event::InfusionStopped { reason };
        assert!(seen.contains(&Body::InfusionStopped(stopped)), "{code:?}");
        let face = pump.face(MINUTE + 2, true);
        assert_eq!(face.alarms[0].0, code);
        let begin = Act::Start {
            purpose: Purpose::Therapy,
            until: None,
        };
        let refused = pump.handle(2 * MINUTE, Input::Act(begin));
        assert_eq!(refused, Err(Refused::Condition(code)), "{code:?}");
        let well = firmware::board::Sensors {
            pressure_mbar: Some(20),
            ..Default::default()
        };
        set_sensors(&mut pump, 3 * MINUTE, |s| *s = well);
        assert_eq!(pump.infusing(), None, "{code:?}");
        assert_eq!(
            pump.handle(4 * MINUTE, Input::Act(begin)),
            Ok(()),
            "{code:?}"
        );
    }
}

#[test]
fn a_reservoir_is_low_then_empty_by_count_and_full_after_a_change() {
    let mut given = provision();
    given.reservoir = nl(2_000_000);
    let mut pump = start_with(formatted(64), &given);
    begin(&mut pump, 0);
    run_to(&mut pump, 5 * HOUR);
    let what: Vec<_> = bodies(&pump)
        .into_iter()
        .filter_map(|(_, body)| match body {
            Body::Reservoir(r) if r.what != ReservoirChange::Reading => {
                Some((r.what, r.computed_nl))
            }
            _ => None,
        })
        .collect();
    // Low by volume at 1 mL; empty at 0.5 mL.
    assert_eq!(
        what,
        [
            (ReservoirChange::Low, 995_000),
            (ReservoirChange::Empty, 495_000)
        ]
    );
    assert_eq!(pump.infusing(), None);
    let (volume, concentration) = (nl(20_000_000), given.concentration);
    act(
        &mut pump,
        6 * HOUR,
        Act::ChangeReservoir {
            volume,
            concentration,
        },
    );
    assert!(pump.face(6 * HOUR, true).alarms.is_empty());
    begin(&mut pump, 6 * HOUR + 1);
}

#[test]
fn an_encoder_that_runs_away_latches_the_pump_off_also_over_a_start() {
    let mut pump = infusing();
    run_to(&mut pump, HOUR);
    pump.board_mut().extra_counts += 801;
    let seq = pump.last_seq();
    run_to(&mut pump, HOUR + MINUTE);
    let seen = after(&pump, seq);
    let alarms = seen.iter().filter_map(|b| match b {
        Body::Alarm(a) => Some(a.code),
        _ => None,
    });
    let alarms = alarms.collect::<Vec<_>>();
    assert_eq!(alarms, [AlarmCode::OverDelivery, AlarmCode::SupervisorStop]);
    assert_eq!(pump.infusing(), None);
    let mut pump = start(pump.into_board().powered_again());
    let begin = Act::Start {
        purpose: Purpose::Therapy,
        until: None,
    };
    let refused = Err(Refused::Condition(AlarmCode::OverDelivery));
    assert_eq!(pump.handle(1_000, Input::Act(begin)), refused);
    act(&mut pump, 2_000, Act::ReleaseLatch);
    assert_eq!(pump.handle(3_000, Input::Act(begin)), Ok(()));
}

#[test]
fn a_motor_that_slips_is_told_and_the_alarm_ends_with_the_flow() {
    let mut pump = infusing();
    run_to(&mut pump, HOUR);
    pump.board_mut().grip_percent = 0;
    let seq = pump.last_seq();
    run_to(&mut pump, HOUR + 20 * MINUTE);
    pump.board_mut().grip_percent = 100;
    run_to(&mut pump, HOUR + 40 * MINUTE);
    let alarms: Vec<_> = after(&pump, seq)
        .into_iter()
        .filter_map(|b| match b {
            Body::Alarm(a) => Some((a.code, a.phase)),
            _ => None,
        })
        .collect();
    let under = AlarmCode::UnderDelivery;
    assert_eq!(alarms, [(under, Phase::Start), (under, Phase::End)]);
    assert!(pump.infusing().is_some());
}

#[test]
fn filling_the_line_ends_by_itself_and_counts_for_no_window() {
    let mut pump = start(formatted(64));
    let prime = Act::Start {
        purpose: Purpose::Prime,
        until: Some(nl(1_000_000)),
    };
    act(&mut pump, 0, prime);
    run_to(&mut pump, 5 * MINUTE);
    assert_eq!(pump.infusing(), None);
    let primed = pump.delivered().as_nanoliters();
    assert!((1_000_000..1_020_000).contains(&primed), "{primed}");
    begin(&mut pump, 6 * MINUTE);
    let seq = pump.last_seq();
    press(&mut pump, 7 * MINUTE, &[Key::Bolus]);
    assert!(matches!(
        decisions(&after(&pump, seq))[..],
        [BolusDecision::Granted { .. }]
    ));
}

#[test]
fn the_counters_are_known_after_a_start_though_a_ring_turned_over_their_last_change() {
    let mut pump = start(formatted(8));
    begin(&mut pump, 0);
    act(&mut pump, HOUR, Act::Stop);
    let told = *delivered(&pump).last().unwrap();
    run_to(&mut pump, 72 * HOUR);
    assert!(pump.event(1).is_none(), "the ring did not turn over");
    let told_again = *delivered(&pump).last().unwrap();
    assert_eq!((told_again.1, told_again.2), (told.1, told.2));
    let before = pump.delivered();
    assert!(before > nl(0));
    let pump = start(pump.into_board().powered_again());
    assert_eq!(pump.delivered(), before);
}

#[test]
fn after_a_start_nothing_is_infused_and_the_stop_is_told() {
    let mut pump = infusing();
    press(&mut pump, 30 * MINUTE, &[Key::Bolus]);
    run_to(&mut pump, 30 * MINUTE + 5_000);
    let seq = pump.last_seq();
    let mut pump = start(pump.into_board().powered_again());
    let kinds = kinds(&after(&pump, seq));
    let wanted = [
        "powered_on",
        "bolus_delivered",
        "infusion_stopped",
        "self_test",
        "checkpoint",
    ];
    assert_eq!(kinds, wanted);
    run_to(&mut pump, 6 * HOUR);
    assert!(pump.board().commands.len() < 60);
    assert_eq!(pump.infusing(), None);
    assert_eq!(pump.boot(), 2);
}

#[test]
fn lockout_and_windows_do_not_run_while_the_pump_is_off() {
    let mut pump = infusing();
    press(&mut pump, 30 * MINUTE, &[Key::Bolus]);
    run_to(&mut pump, 33 * MINUTE);
    let mut board = pump.into_board().powered_again();
    // A day later by its own clock, which could be wrong.
    board.clock = board.clock.map(|utc| utc + 24 * HOUR);
    let mut pump = start(board);
    begin(&mut pump, 1_000);
    let seq = pump.last_seq();
    press(&mut pump, 2_000, &[Key::Bolus]);
    let denied = decisions(&after(&pump, seq));
    let BolusDecision::Denied { reason, wait_ms } = denied[0] else {
        panic!("{denied:?}");
    };
    assert_eq!(reason, Refusal::Lockout);
    assert!(wait_ms.is_some_and(|ms| ms > 6 * 60_000), "{wait_ms:?}");
}

#[test]
fn what_may_have_left_the_pump_before_a_cut_counts_as_delivered() {
    let mut given = provision();
    given.program = Program::constant(rate(10_000));
    (given.limits.lockout_ms, given.limits.max_1h) = (1_000, nl(118_000));
    let mut pump = start_with(formatted(16), &given);
    begin(&mut pump, 0);
    press(&mut pump, 10 * MINUTE, &[Key::Bolus]);
    // Two groups leave the pump and are not journaled.
    run_to(&mut pump, 10 * MINUTE + 5_000);
    assert_eq!(pump.board().commands.len(), 2);
    let mut pump = start_with(pump.into_board().powered_again(), &given);
    begin(&mut pump, 1_000);
    let seq = pump.last_seq();
    press(&mut pump, 2_000, &[Key::Bolus]);
    press(&mut pump, 2 * MINUTE, &[Key::Bolus]);
    let seen = decisions(&after(&pump, seq));
    assert!(matches!(seen[0], BolusDecision::Granted { .. }), "{seen:?}");
    let by_limit = |d: &BolusDecision| {
        matches!(
            d,
            BolusDecision::Denied {
                reason: Refusal::Limit,
                ..
            }
        )
    };
    assert!(by_limit(&seen[1]), "{seen:?}");
}

#[test]
fn standing_still_for_minutes_stops_the_infusion() {
    let mut pump = infusing();
    run_to(&mut pump, HOUR);
    let moved = pump.board().commands.len();
    pump.handle_time(3 * HOUR);
    assert_eq!(pump.infusing(), None);
    assert_eq!(pump.board().commands.len(), moved);
    assert_eq!(
        pump.face(3 * HOUR, true).alarms[0].0,
        AlarmCode::SupervisorStop
    );
}

#[test]
fn programs_and_boluses_beyond_the_limits_are_refused() {
    let mut pump = infusing();
    let try_act = |pump: &mut Pump<MemoryBoard>, act| pump.handle(1_000, Input::Act(act));
    let program = |nl_per_h, bolus, lockout_ms| Act::ChangeProgram {
        program: Program::constant(rate(nl_per_h)),
        bolus: nl(bolus),
        lockout_ms,
    };
    let over = Err(Refused::OverLimit);
    assert_eq!(try_act(&mut pump, Act::ChangeRate(rate(700_001))), over);
    assert_eq!(try_act(&mut pump, Act::ChangeRate(rate(600_001))), over);
    assert_eq!(try_act(&mut pump, Act::ChangeRate(rate(500_001))), over);
    assert_eq!(
        try_act(&mut pump, program(300_000, 50_001, 600_000)),
        Err(Refused::Value)
    );
    assert_eq!(
        try_act(&mut pump, program(300_000, 50_000, 599_999)),
        Err(Refused::Value)
    );
    let seq = pump.last_seq();
    assert_eq!(
        try_act(&mut pump, program(300_000, 40_000, 900_000)),
        Ok(())
    );
    assert_eq!(
        kinds(&after(&pump, seq)),
        ["program_changed", "rate_changed"]
    );
    let pump = start(pump.into_board().powered_again());
    assert_eq!(pump.settings().lockout_ms, 900_000);
    assert_eq!(pump.settings().program, Program::constant(rate(300_000)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The encoder's own trace, over starts, never passes a limit in any window of known time.
    #[test]
    fn no_window_of_the_encoder_passes_its_limit(
        presses in proptest::collection::vec(1u64..50, 40..160),
        cut_after in 5usize..40,
        rates in proptest::array::uniform3(100_000u32..450_000),
    ) {
        let mut given = provision();
        given.limits.lockout_ms = 60_000;
        let part = |from_min, at: usize| DayPart { from_min, rate: rate(rates[at]) };
        given.program = Program::new(&[part(0, 0), part(8 * 60, 1), part(16 * 60, 2)]).unwrap();
        let mut pump = start_with(formatted(200), &given);
        begin(&mut pump, 0);
        let (mut trace, mut base, mut at, mut before) = (Vec::new(), 0, 0, 0);
        for (n, minutes) in presses.into_iter().enumerate() {
            let end = at + minutes * MINUTE;
            while pump.next_wake() <= end {
                let due = pump.next_wake();
                pump.handle_time(due);
                let moved = pump.board().microsteps / 100;
                if moved > before {
                    trace.push((base + due, (moved - before) * 125 / 8));
                    before = moved;
                }
            }
            at = end;
            press(&mut pump, at, &[Key::Bolus]);
            if n % cut_after == cut_after - 1 {
                pump = start_with(pump.into_board().powered_again(), &given);
                // The pump was off for no time at all: the worst case for its windows.
                (base, at, before) = (base + at, 0, 0);
                let begin = Act::Start { purpose: Purpose::Therapy, until: None };
                let _ = pump.handle(0, Input::Act(begin));
            }
        }
        for (span, most) in [(HOUR, 700_000), (4 * HOUR, 2_400_000), (24 * HOUR, 12_000_000u64)] {
            let (mut first, mut sum) = (0, 0);
            for (when, volume) in &trace {
                sum += volume;
                while trace[first].0 + span <= *when {
                    sum -= trace[first].1;
                    first += 1;
                }
                prop_assert!(sum <= most, "{} nL in {} ms to {}", sum, span, when);
            }
        }
        prop_assert!(!kinds(&after(&pump, 0)).contains(&"supervisor_stop"));
    }
}

#[test]
fn a_pump_that_is_closed_stays_closed() {
    let mut pump = infusing();
    act(&mut pump, HOUR, Act::Close(CloseReason::PatientsWish));
    let (last, events) = (pump.last_seq(), events_of(&pump));
    assert_eq!(
        pump.handle(2 * HOUR, Input::Act(Act::Stop)),
        Err(Refused::Closed)
    );
    press(
        &mut pump,
        3 * HOUR,
        &[Key::Bolus, Key::Digit3, Key::Confirm],
    );
    let mut pump = start(pump.into_board().powered_again());
    press(&mut pump, HOUR, &[Key::Bolus]);
    assert_eq!((pump.last_seq(), pump.closed()), (last, true));
    assert_eq!(events_of(&pump), events);
    assert!(check_chain(&events).unwrap().closed());
}

#[test]
fn the_program_needs_little_memory() {
    // The budget of the image is 16 KiB; stack and buffers of the board come on top.
    let pump = size_of::<Pump<()>>();
    let line = size_of::<firmware::line::Line>();
    assert!(pump + line < 12 * 1_024, "pump {pump} B, line {line} B");
}

#[test]
fn the_first_start_is_boot_1_seq_1_key_1() {
    let board = formatted(8);
    let pump = Pump::start(board, &provision(), BootReason::PowerOn, 0).unwrap();
    let all = bodies(&pump);
    assert_eq!((all[0].0.boot, all[0].0.seq), (1, 1));
    assert_eq!(
        kinds(&after(&pump, 0)),
        ["powered_on", "self_test", "checkpoint"]
    );
    let Body::Checkpoint(checkpoint) = all[2].1 else {
        panic!("{all:?}");
    };
    assert_eq!(
        (
            checkpoint.key_index,
            checkpoint.through_seq,
            checkpoint.count
        ),
        (1, 2, 2)
    );
}
