//! Where the pump's ticks lie in the gateway's time: within what is stated, whatever the crystals,
//! the line and whoever sets a clock do.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use protocol::link::{Estimate, TimeSync};
use protocol::message::TimeReply;
use protocol::time::Timestamp;

const HOUR_MS: u64 = 3_600_000;
/// 2026-03-01 08:00 UTC.
const START: i64 = 1_772_352_000_000;

/// A pump whose crystal drifts, on a line that delays, and a gateway whose clock somebody sets.
struct World {
    sync: TimeSync,
    /// True UTC less tick at the start, and the pump's drift from it, parts per billion.
    drift_ppb: i64,
    /// The gateway's clock less true time.
    error_ms: i64,
    next_id: u32,
}

impl World {
    fn new(drift_ppb: i64) -> Self {
        Self {
            sync: TimeSync::default(),
            drift_ppb,
            error_ms: 0,
            next_id: 0,
        }
    }

    /// True time of a tick: one that is too fast counts more milliseconds than pass.
    fn true_ms(&self, tick_ms: u64) -> i64 {
        let tick = i64::try_from(tick_ms).unwrap();
        let gained = i128::from(tick) * i128::from(self.drift_ppb) / 1_000_000_000;
        START + tick - i64::try_from(gained).unwrap()
    }

    /// An exchange: the request takes `there`, the answer `back`.
    fn exchange(&mut self, tick_ms: u64, there: i64, back: i64) {
        self.next_id += 1;
        let at = self.true_ms(tick_ms) + self.error_ms;
        self.sync
            .note_asked(self.next_id, Timestamp::from_unix_millis(at - there));
        let reply = TimeReply {
            id: self.next_id,
            boot: 1,
            received_tick_ms: tick_ms,
            sent_tick_ms: tick_ms,
        };
        self.sync
            .handle_reply(Timestamp::from_unix_millis(at + back), &reply);
    }

    fn set_clock(&mut self, by_ms: i64) {
        self.error_ms += by_ms;
        self.sync.note_step(by_ms);
    }

    /// How far the estimate is off, in the gateway's present time, and what it states.
    fn off(&self, tick_ms: u64) -> (i64, Estimate) {
        let seen = self.sync.at(1, tick_ms).unwrap();
        let off = seen.at.as_unix_millis() - self.true_ms(tick_ms) - self.error_ms;
        (off, seen)
    }

    fn assert_within(&self, tick_ms: u64, what: &str) -> Estimate {
        let (off, seen) = self.off(tick_ms);
        assert!(
            off.abs() <= seen.uncertainty_ms,
            "{what}, tick {tick_ms}: off by {off} ms, stated {seen:?}"
        );
        seen
    }
}

#[test]
fn a_crystal_that_gains_four_seconds_a_day_moves_nothing_beyond_what_is_stated() {
    // 4 s a day are 46 ppm.
    for drift_ppb in [46_296, -46_296, 0] {
        let mut world = World::new(drift_ppb);
        for minute in 0..3 * 24 * 60 {
            let tick = minute * 60_000;
            world.exchange(tick, 2 + i64::try_from(minute % 7).unwrap(), 3);
            let seen = world.assert_within(tick, "now");
            assert!(seen.uncertainty_ms <= 8, "{seen:?}");
            let before = tick.saturating_sub(HOUR_MS);
            world.assert_within(before, "an hour ago");
        }
    }
}

#[test]
fn events_of_a_night_without_a_line_are_placed_by_the_drift_that_was_seen() {
    let mut world = World::new(40_000);
    for minute in 0..120 {
        world.exchange(minute * 60_000, 4, 4);
    }
    let pulled = 119 * 60_000;
    // The last word before the cable was pulled is all there is, for ten hours.
    for hour in 0..10 {
        let tick = pulled + hour * HOUR_MS;
        let seen = world.assert_within(tick, "the line is down");
        // Without the drift line it would be 50 ppm: 1,800 ms after ten hours.
        let most = 10 + i64::try_from(hour * HOUR_MS).unwrap() / 50_000;
        assert!(
            seen.uncertainty_ms <= most,
            "{hour} h: {seen:?}, wanted {most}"
        );
    }
}

#[test]
fn a_step_of_the_gateways_clock_shifts_what_is_told_and_not_what_is_known() {
    for by_ms in [
        3_600_000,
        -3_600_000,
        86_400_000,
        -86_400_000,
        -START,
        1_199_145_600_000 - START,
    ] {
        let mut world = World::new(20_000);
        for tick in (0..600_000).step_by(10_000) {
            world.exchange(tick, 5, 2);
        }
        let (_, before) = world.off(500_000);
        world.set_clock(by_ms);
        let after = world.assert_within(500_000, "after the step");
        assert_eq!(after.at - before.at, by_ms);
        assert_eq!(after.uncertainty_ms, before.uncertainty_ms);
        for tick in (600_000..900_000).step_by(10_000) {
            world.exchange(tick, 5, 2);
            world.assert_within(tick, "later");
            world.assert_within(500_000, "an old event that comes late");
        }
    }
}

#[test]
fn a_question_from_before_a_step_is_not_answered_after_it() {
    let mut world = World::new(0);
    world.exchange(1_000, 1, 1);
    world.sync.note_asked(9, Timestamp::from_unix_millis(START));
    world.set_clock(3_600_000);
    let reply = TimeReply {
        id: 9,
        boot: 1,
        received_tick_ms: 2_000,
        sent_tick_ms: 2_000,
    };
    world
        .sync
        .handle_reply(Timestamp::from_unix_millis(START + 3_602_000), &reply);
    assert!(world.assert_within(2_000, "now").uncertainty_ms <= 3);
}

#[test]
fn a_clock_that_is_slewed_is_followed_and_the_doubt_grows() {
    // Ten times what a crystal does: a time service pulls the gateway's clock.
    let mut world = World::new(-500_000);
    let mut widest = 0;
    for tick in (0..1_200_000).step_by(10_000) {
        world.exchange(tick, 1, 1);
        widest = widest.max(world.assert_within(tick, "now").uncertainty_ms);
    }
    assert!((5..60).contains(&widest), "{widest}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any constant drift that a crystal has, any delays, any gaps, steps of any size between.
    #[test]
    fn the_truth_is_within_what_is_stated(
        drift_ppb in -49_000i64..=49_000,
        steps in proptest::collection::vec(
            (1_000u64..7_200_000, 0i64..400, 0i64..400, prop_oneof![9 => Just(0i64), 1 => -100_000_000i64..100_000_000]),
            1..80),
        back in 0u64..90_000_000,
        on in 0u64..90_000_000,
    ) {
        let mut world = World::new(drift_ppb);
        let mut tick = 0;
        for (wait, there, home, step) in steps {
            tick += wait;
            world.exchange(tick, there, home);
            if step != 0 {
                world.set_clock(step);
            }
            for at in [tick, tick.saturating_sub(back), tick + on, 0] {
                let (off, seen) = world.off(at);
                prop_assert!(off.abs() <= seen.uncertainty_ms, "tick {at} of {tick}: off by {off} ms, stated {seen:?}");
            }
        }
    }
}
