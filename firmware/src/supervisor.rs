//! A second pair of eyes: expects volume from the rates it is told, measures it by the encoder,
//! and stops the pump where the two disagree or the ceiling of an hour or of four is passed.
//!
//! It has an integrator, a counter and hours of its own, and shares no state and no arithmetic
//! with [`crate::dose`]. It compares over epochs of ten to twenty pump strokes, so that an error must happen
//! within an epoch to count: more than one stroke too much stops the pump, more than two too
//! little is an alarm.

use crate::provision::Provision;
use crate::seal::Coded;

const MS_PER_HOUR: u64 = 3_600_000;
const MS_PER_MINUTE: u64 = 60_000;
/// Parts of a span, and the one that is not over.
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
    /// More in an hour, or in four, than its ceiling: stop, latched.
    Ceiling,
    /// What was measured before can no longer be read: stop, latched.
    Damaged,
    /// More than two strokes less than expected.
    Under,
    /// A stroke came after [`Verdict::Under`].
    UnderEnds,
}

/// The integrators. Volumes are in nanolitres times milliseconds an hour, or in counts.
#[derive(Clone, Debug, Hash)]
pub struct Supervisor {
    stroke_nl: u64,
    counts_per_stroke: u64,
    expected: u128,
    counts: u64,
    rate_nl_per_h: u32,
    bolus_nl_per_h: u32,
    bolus_left: u128,
    at_ms: u64,
    encoder_before: u64,
    under: bool,
    counts_since_under: u64,
    hour: Measured,
    four_hours: Measured,
}

impl Supervisor {
    /// Nothing expected yet. `encoder` is its present reading.
    pub fn new(provision: &Provision, tick_ms: u64, encoder: u64) -> Self {
        let (calibration, limits) = (&provision.calibration, &provision.limits);
        let stroke_nl = calibration.stroke.as_nanoliters();
        let measured =
            |most_nl, cell_min| Measured::new(most_nl, stroke_nl, cell_min * MS_PER_MINUTE);
        Self {
            stroke_nl: calibration.stroke.as_nanoliters().max(1),
            counts_per_stroke: u64::from(calibration.counts_per_stroke.max(1)),
            expected: 0,
            counts: 0,
            rate_nl_per_h: 0,
            bolus_nl_per_h: provision.bolus_rate.as_nanoliters_per_hour(),
            bolus_left: 0,
            at_ms: tick_ms,
            encoder_before: encoder,
            under: false,
            counts_since_under: 0,
            hour: measured(limits.max_1h.as_nanoliters(), 1),
            four_hours: measured(limits.max_4h.as_nanoliters(), 4),
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
        self.bolus_left = u128::from(nl) * u128::from(MS_PER_HOUR);
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
            self.add(known_ms, rounded_up(self.nl_of(more), MS_PER_HOUR));
        }
        let stroke = u128::from(self.stroke_nl) * u128::from(MS_PER_HOUR);
        let measured = self.nl_of(self.counts);
        match (self.hour.passed(), self.four_hours.passed()) {
            (None, _) | (_, None) => return Verdict::Damaged,
            (Some(hour), Some(four_hours)) => {
                if to_patient && more > 0 && (hour || four_hours) {
                    return Verdict::Ceiling;
                }
            }
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

    /// Delivered before this start, for the ceilings.
    pub fn recall(&mut self, known_ms: u64, nl: u64) {
        self.add(known_ms, u128::from(nl));
    }

    fn add(&mut self, known_ms: u64, nl: u128) {
        let nl = u64::try_from(nl).unwrap_or(u64::MAX);
        self.hour.add(known_ms, nl);
        self.four_hours.add(known_ms, nl);
    }

    fn nl_of(&self, counts: u64) -> u128 {
        let product = u128::from(counts) * u128::from(self.stroke_nl) * u128::from(MS_PER_HOUR);
        parted(product, self.counts_per_stroke).0
    }
}

/// Whole parts and what is left, digit by digit from the top, where a digit is 32 bits. Not the
/// dose's arithmetic: what is wrong there is not wrong here.
#[inline(never)]
fn parted(whole: u128, by: u64) -> (u128, u64) {
    let by = by.clamp(1, u64::from(u32::MAX));
    let (mut parts, mut left) = (0_u128, 0_u64);
    for digit in whole.to_be_bytes().as_chunks::<4>().0 {
        let dividend = left << 32 | u64::from(u32::from_be_bytes(*digit));
        parts = parts << 32 | u128::from(dividend / by);
        left = dividend % by;
    }
    (parts, left)
}

fn rounded_up(whole: u128, by: u64) -> u128 {
    let (parts, left) = parted(whole, by);
    parts + u128::from(left > 0)
}

/// Measured volume of a span of known time, in parts. The part that is not over makes the span
/// longer than it should be by up to a sixtieth; the ceiling allows for that, and for a stroke.
#[derive(Clone, Debug)]
struct Measured {
    ceiling_nl: u64,
    cell_ms: u64,
    newest: u64,
    cells: [Coded; CELLS],
}

/// Its cells carry a code of their own.
impl core::hash::Hash for Measured {
    fn hash<H: core::hash::Hasher>(&self, sum: &mut H) {
        (self.ceiling_nl, self.cell_ms, self.newest).hash(sum);
    }
}

impl Measured {
    fn new(most_nl: u64, stroke_nl: u64, cell_ms: u64) -> Self {
        Self {
            ceiling_nl: most_nl
                .saturating_add(stroke_nl)
                .saturating_add(most_nl.div_ceil(60)),
            cell_ms,
            newest: 0,
            cells: [Coded::ZERO; CELLS],
        }
    }

    /// Whether the ceiling is passed; `None` where a part can no longer be read.
    fn passed(&self) -> Option<bool> {
        let parts = self.cells.iter().map(|cell| cell.get().map(u64::from));
        let sum: u64 = parts.sum::<Option<u64>>()?;
        Some(sum > self.ceiling_nl)
    }

    fn add(&mut self, known_ms: u64, nl: u64) {
        let now = known_ms / self.cell_ms;
        let cells = u64::try_from(CELLS).unwrap_or(u64::MAX);
        let first = now.saturating_sub(cells).max(self.newest) + 1;
        for skipped in first..=now {
            if let Some(cell) = self.cell(skipped) {
                *cell = Coded::ZERO;
            }
        }
        self.newest = self.newest.max(now);
        // What cannot be read stays so until it is asked for.
        if let Some(cell) = self.cell(self.newest)
            && let Some(before) = cell.get()
        {
            *cell = Coded::new(u64::from(before).saturating_add(nl));
        }
    }

    fn cell(&mut self, number: u64) -> Option<&mut Coded> {
        let cells = u64::try_from(CELLS).unwrap_or(u64::MAX);
        let place = usize::try_from(number % cells).ok()?;
        self.cells.get_mut(place)
    }
}

#[cfg(test)]
impl Supervisor {
    /// Copies of this, each with one bit of one field wrong, and the field's name. The pattern
    /// names all fields, so that a new one must be added here.
    pub(crate) fn flips(&self) -> Vec<(String, Self)> {
        use crate::seal::flip;
        type Change = fn(&mut Supervisor, u32);
        let Self {
            stroke_nl: _,
            counts_per_stroke: _,
            expected: _,
            counts: _,
            rate_nl_per_h: _,
            bolus_nl_per_h: _,
            bolus_left: _,
            at_ms: _,
            encoder_before: _,
            under: _,
            counts_since_under: _,
            hour:
                Measured {
                    ceiling_nl: _,
                    cell_ms: _,
                    newest: _,
                    cells: _,
                },
            four_hours: _,
        } = self;
        let fields: [(&str, u32, Change); 21] = [
            ("stroke_nl", 64, |s, b| s.stroke_nl ^= 1 << b),
            ("counts_per_stroke", 64, |s, b| {
                s.counts_per_stroke ^= 1 << b;
            }),
            ("expected", 128, |s, b| s.expected ^= 1 << b),
            ("counts", 64, |s, b| s.counts ^= 1 << b),
            ("rate", 32, |s, b| s.rate_nl_per_h ^= 1 << b),
            ("bolus rate", 32, |s, b| s.bolus_nl_per_h ^= 1 << b),
            ("bolus_left", 128, |s, b| s.bolus_left ^= 1 << b),
            ("at_ms", 64, |s, b| s.at_ms ^= 1 << b),
            ("encoder_before", 64, |s, b| s.encoder_before ^= 1 << b),
            ("under", 1, |s, _| s.under ^= true),
            ("counts_since_under", 64, |s, b| {
                s.counts_since_under ^= 1 << b;
            }),
            ("hour.ceiling", 64, |s, b| s.hour.ceiling_nl ^= 1 << b),
            ("hour.cell_ms", 64, |s, b| s.hour.cell_ms ^= 1 << b),
            ("hour.newest", 64, |s, b| s.hour.newest ^= 1 << b),
            ("hour.cells", 61, |s, b| flip(&mut s.hour.cells, b)),
            ("hour.cells again", 61, |s, b| {
                flip(&mut s.hour.cells, b + 61);
            }),
            ("four_hours.ceiling", 64, |s, b| {
                s.four_hours.ceiling_nl ^= 1 << b;
            }),
            ("four_hours.cell_ms", 64, |s, b| {
                s.four_hours.cell_ms ^= 1 << b;
            }),
            ("four_hours.newest", 64, |s, b| {
                s.four_hours.newest ^= 1 << b;
            }),
            ("four_hours.cells", 61, |s, b| {
                flip(&mut s.four_hours.cells, b);
            }),
            ("four_hours.cells again", 61, |s, b| {
                flip(&mut s.four_hours.cells, b + 61);
            }),
        ];
        let mut out = Vec::new();
        for (name, bits, change) in fields {
            for bit in 0..bits {
                let mut copy = self.clone();
                change(&mut copy, bit);
                out.push((format!("supervisor {name}, bit {bit}"), copy));
            }
        }
        out
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
        supervisor.recall(0, 466_668);
        let found = (1..=60u64).find_map(|minute| {
            let now = minute * 60_000;
            let verdict = supervisor.observe(now, now, minute * 160, true);
            (verdict != Verdict::Agrees).then_some((minute, verdict))
        });
        assert_eq!(found, Some((60, Verdict::Ceiling)));
    }

    #[test]
    fn the_ceiling_of_four_hours_holds_where_each_hour_is_within_its_own() {
        let mut supervisor = supervisor();
        supervisor.expect_rate(0, 900_000);
        let found = (1..=300u64).find_map(|minute| {
            let now = minute * 60_000;
            let verdict = supervisor.observe(now, now, minute * 240, true);
            (verdict != Verdict::Agrees).then_some((minute, verdict))
        });
        // 3 mL, a sixtieth and a stroke are 3.1 mL: 206.7 minutes.
        assert_eq!(found, Some((207, Verdict::Ceiling)));
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

    proptest::proptest! {
        #[test]
        fn parts_and_what_is_left_are_those_of_whole_numbers(whole: u128, shift in 0..128_u32, by: u32) {
            let whole = whole >> shift;
            let wide = u128::from(by.max(1));
            let (parts, left) = parted(whole, by.into());
            proptest::prop_assert_eq!((parts, u128::from(left)), (whole / wide, whole % wide));
            proptest::prop_assert_eq!(rounded_up(whole, by.into()), whole.div_ceil(wide));
        }
    }
}
