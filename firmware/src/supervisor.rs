//! A second pair of eyes: expects volume from the rates it is told, measures it by the encoder,
//! and stops the pump where the two disagree or an hour's ceiling is passed.
//!
//! It has an integrator, a counter and an hour of its own, and shares no state and no arithmetic
//! with [`crate::dose`]. It compares over epochs of ten to twenty pump strokes, so that an error must happen
//! within an epoch to count: more than one stroke too much stops the pump, more than two too
//! little is an alarm.

use crate::provision::Provision;

const MS_PER_HOUR: u128 = 3_600_000;
const MS_PER_MINUTE: u64 = 60_000;
/// Minutes of an hour, and the one that is not over.
const CELLS: usize = 61;
/// Strokes after which both integrators begin anew.
const EPOCH_STROKES: u128 = 10;

/// What the supervisor found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Agrees,
    /// More than one stroke more than expected: stop, latched.
    Over,
    /// More in an hour than its ceiling: stop, latched.
    Ceiling,
    /// More than two strokes less than expected.
    Under,
    /// A stroke came after [`Verdict::Under`].
    UnderEnds,
}

/// The integrators. Volumes are in nanolitres times milliseconds an hour, or in counts.
#[derive(Clone, Debug)]
pub struct Supervisor {
    stroke_nl: u64,
    counts_per_stroke: u64,
    ceiling_nl: u64,
    expected: u128,
    counts: u64,
    rate_nl_per_h: u32,
    bolus_nl_per_h: u32,
    bolus_left: u128,
    at_ms: u64,
    encoder_before: u64,
    under: bool,
    counts_since_under: u64,
    minute: u64,
    hour: [u64; CELLS],
}

impl Supervisor {
    /// Nothing expected yet. `encoder` is its present reading.
    pub fn new(provision: &Provision, tick_ms: u64, encoder: u64) -> Self {
        let (calibration, limits) = (&provision.calibration, &provision.limits);
        Self {
            stroke_nl: calibration.stroke.as_nanoliters().max(1),
            counts_per_stroke: u64::from(calibration.counts_per_stroke.max(1)),
            ceiling_nl: limits
                .max_1h
                .as_nanoliters()
                .saturating_add(calibration.stroke.as_nanoliters()),
            expected: 0,
            counts: 0,
            rate_nl_per_h: 0,
            bolus_nl_per_h: provision.bolus_rate.as_nanoliters_per_hour(),
            bolus_left: 0,
            at_ms: tick_ms,
            encoder_before: encoder,
            under: false,
            counts_since_under: 0,
            minute: 0,
            hour: [0; CELLS],
        }
    }

    /// From now on this rate is programmed; 0 where nothing is.
    pub fn expect_rate(&mut self, tick_ms: u64, nl_per_h: u32) {
        self.integrate(tick_ms);
        self.rate_nl_per_h = nl_per_h;
    }

    /// A bolus of this volume was granted; it is expected at the bolus rate.
    pub fn expect_bolus(&mut self, tick_ms: u64, nl: u64) {
        self.integrate(tick_ms);
        self.bolus_left = u128::from(nl) * MS_PER_HOUR;
    }

    /// Delivery was stopped: both integrators begin anew, and nothing is expected.
    pub fn expect_nothing(&mut self, tick_ms: u64) {
        self.integrate(tick_ms);
        (self.rate_nl_per_h, self.bolus_left) = (0, 0);
        self.under = false;
        self.begin_epoch();
    }

    fn integrate(&mut self, tick_ms: u64) {
        let ms = tick_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(tick_ms);
        let of_bolus = self
            .bolus_left
            .min(u128::from(ms) * u128::from(self.bolus_nl_per_h));
        self.bolus_left -= of_bolus;
        let more = u128::from(ms) * u128::from(self.rate_nl_per_h) + of_bolus;
        self.expected = self.expected.saturating_add(more);
    }

    fn begin_epoch(&mut self) {
        (self.expected, self.counts) = (0, 0);
    }

    /// Reads the encoder and compares. `to_patient` is false while a line is filled or flushed:
    /// then the hour's ceiling does not count it. `known_ms` is the known time for that hour.
    pub fn observe(
        &mut self,
        tick_ms: u64,
        known_ms: u64,
        encoder: u64,
        to_patient: bool,
    ) -> Verdict {
        self.integrate(tick_ms);
        let more = encoder.saturating_sub(self.encoder_before);
        self.encoder_before = encoder;
        self.counts = self.counts.saturating_add(more);
        if to_patient {
            self.add_to_hour(known_ms, self.nl_of(more).div_ceil(MS_PER_HOUR));
        }
        let stroke = u128::from(self.stroke_nl) * MS_PER_HOUR;
        let measured = self.nl_of(self.counts);
        if to_patient && more > 0 && self.hour.iter().sum::<u64>() > self.ceiling_nl {
            return Verdict::Ceiling;
        }
        if measured > self.expected.saturating_add(stroke) {
            self.begin_epoch();
            return Verdict::Over;
        }
        if self.under {
            self.counts_since_under = self.counts_since_under.saturating_add(more);
            if self.counts_since_under >= self.counts_per_stroke {
                self.under = false;
                self.begin_epoch();
                return Verdict::UnderEnds;
            }
        }
        if self.expected > measured.saturating_add(2 * stroke) {
            let news = !self.under;
            self.under = true;
            self.counts_since_under = 0;
            self.begin_epoch();
            return if news {
                Verdict::Under
            } else {
                Verdict::Agrees
            };
        }
        let level = self.expected.abs_diff(measured) < stroke / 2;
        // An epoch ends level where it can, so that an error that grows is not cut in two.
        let epoch = EPOCH_STROKES * stroke;
        if self.expected >= epoch && level {
            self.begin_epoch();
        } else if self.expected >= 2 * epoch {
            // What is still owed is not forgotten: its delivery would look like too much.
            let owed = self.expected.saturating_sub(measured);
            self.begin_epoch();
            self.expected = owed;
        }
        Verdict::Agrees
    }

    /// Delivered before this start, for the hour's ceiling.
    pub fn recall(&mut self, known_ms: u64, nl: u64) {
        self.add_to_hour(known_ms, u128::from(nl));
    }

    fn nl_of(&self, counts: u64) -> u128 {
        u128::from(counts) * u128::from(self.stroke_nl) * MS_PER_HOUR
            / u128::from(self.counts_per_stroke)
    }

    fn add_to_hour(&mut self, known_ms: u64, nl: u128) {
        let minute = known_ms / MS_PER_MINUTE;
        let cells = u64::try_from(CELLS).unwrap_or(u64::MAX);
        let first = minute.saturating_sub(cells).max(self.minute) + 1;
        for skipped in first..=minute.max(self.minute) {
            if let Some(cell) = usize::try_from(skipped % cells)
                .ok()
                .and_then(|c| self.hour.get_mut(c))
            {
                *cell = 0;
            }
        }
        self.minute = self.minute.max(minute);
        let nl = u64::try_from(nl).unwrap_or(u64::MAX);
        if let Some(cell) = usize::try_from(self.minute % cells)
            .ok()
            .and_then(|c| self.hour.get_mut(c))
        {
            *cell = cell.saturating_add(nl);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;
    use crate::provision::Limits;
    use protocol::hex::PublicKey;
    use protocol::message::Source;
    use protocol::units::{Concentration, FlowRate, Volume};

    fn supervisor() -> Supervisor {
        let limits = Limits {
            bolus: Volume::from_nanoliters(50_000),
            lockout_ms: 600_000,
            max_1h: Volume::from_nanoliters(1_000_000),
            max_4h: Volume::from_nanoliters(3_000_000),
            max_24h: Volume::from_nanoliters(15_000_000),
        };
        let provision = Provision::new(
            Source::new("EP-1").unwrap(),
            PublicKey::default(),
            b"manifest",
            limits,
            Program::constant(FlowRate::ZERO),
            Concentration::from_micrograms_per_milliliter(500),
        );
        Supervisor::new(&provision.unwrap(), 0, 0)
    }

    /// Runs for `minutes` at 0.6 mL/h, with an encoder that turns so many counts a minute; 160
    /// would be right. Gives the first finding.
    fn run(
        supervisor: &mut Supervisor,
        minutes: u64,
        counts_a_minute: u64,
    ) -> Option<(u64, Verdict)> {
        supervisor.expect_rate(0, 600_000);
        (1..=minutes).find_map(|minute| {
            let now = minute * 60_000;
            let verdict = supervisor.observe(now, now, minute * counts_a_minute, true);
            (verdict != Verdict::Agrees).then_some((minute, verdict))
        })
    }

    #[test]
    fn a_motor_that_is_behind_at_the_end_of_an_epoch_and_catches_up_is_left_alone() {
        let mut supervisor = supervisor();
        supervisor.expect_rate(0, 600_000);
        for minute in 1..=120 {
            // Behind by one and a half strokes, until the hundred and fifth minute.
            let behind = if minute < 105 { 1_200 } else { 0 };
            let counts = (minute * 160u64).saturating_sub(behind);
            let now = minute * 60_000;
            let verdict = supervisor.observe(now, now, counts, true);
            assert_eq!(verdict, Verdict::Agrees, "minute {minute}");
        }
        // A bolus on top of it, granted while an epoch ends.
        supervisor.expect_bolus(120 * 60_000, 50_000);
        for second in 1..=120u64 {
            let now = 120 * 60_000 + second * 1_000;
            let counts = 120 * 160 + second * 160 / 60 + (second.saturating_sub(20) * 40).min(800);
            assert_eq!(
                supervisor.observe(now, now, counts, true),
                Verdict::Agrees,
                "{second}"
            );
        }
    }

    #[test]
    fn a_right_pump_is_left_alone_for_four_days() {
        assert_eq!(run(&mut supervisor(), 4 * 1_440, 160), None);
        // A few lost counts at each turn are no disagreement.
        assert_eq!(run(&mut supervisor(), 4 * 1_440, 155), None);
    }

    #[test]
    fn too_much_stops_within_ten_strokes_and_too_little_is_told() {
        // A fifth too much: one stroke too much after five.
        let found = run(&mut supervisor(), 600, 192).unwrap();
        assert_eq!(found.1, Verdict::Over);
        assert!(found.0 <= 30, "{found:?}");
        let found = run(&mut supervisor(), 600, 0).unwrap();
        assert_eq!(found, (11, Verdict::Under));
        // Nothing programmed, and the encoder turns: free flow.
        let mut free = supervisor();
        assert_eq!(free.observe(10, 10, 800, true), Verdict::Agrees);
        assert_eq!(free.observe(20, 20, 801, true), Verdict::Over);
    }

    #[test]
    fn a_bolus_of_many_strokes_is_expected_as_it_comes() {
        let mut supervisor = supervisor();
        // 0.5 mL at 6 mL/h: ten strokes in 300 s.
        supervisor.expect_bolus(0, 500_000);
        for second in 0..=400u64 {
            let (now, counts) = (second * 1_000, second.min(300) * 8_000 / 300);
            let verdict = supervisor.observe(now, now, counts, true);
            assert_eq!(verdict, Verdict::Agrees, "{second}");
        }
        assert_eq!(
            supervisor.observe(401_000, 401_000, 8_801, true),
            Verdict::Over
        );
    }

    #[test]
    fn the_ceiling_of_an_hour_holds_also_where_all_was_programmed() {
        let mut supervisor = supervisor();
        supervisor.expect_rate(0, 600_000);
        supervisor.recall(0, 450_001);
        let found = (1..=60u64).find_map(|minute| {
            let now = minute * 60_000;
            let verdict = supervisor.observe(now, now, minute * 160, true);
            (verdict != Verdict::Agrees).then_some((minute, verdict))
        });
        assert_eq!(found, Some((60, Verdict::Ceiling)));
    }

    #[test]
    fn under_delivery_ends_with_a_stroke() {
        let mut supervisor = supervisor();
        assert_eq!(run(&mut supervisor, 11, 0), Some((11, Verdict::Under)));
        let mut found = Vec::new();
        for minute in 12..=30u64 {
            let now = minute * 60_000;
            let verdict = supervisor.observe(now, now, (minute - 11) * 160, true);
            if verdict != Verdict::Agrees {
                found.push((minute, verdict));
            }
        }
        assert_eq!(found, [(16, Verdict::UnderEnds)]);
    }
}
