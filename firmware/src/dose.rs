//! From a rate to motor steps, and from encoder counts to delivered volume.
//!
//! The programmed volume is integrated exactly; the motor moves in groups of a tenth of a pump
//! stroke; the encoder says what became of it. Delivered volume is one function of all counts
//! since the trial began, so no remainder is ever lost and the sum of what events report is the
//! counter. What the motor could not do in time is not made up for.
//!
//! It counts the microsteps it commands and holds them against a limit for an hour and for four.
//! [`crate::supervisor`] does the like from the other end, from rates and the encoder alone, and
//! the two share no state and no arithmetic.

use crate::provision::{Calibration, Limits};
use crate::seal::Coded;
use protocol::event::Purpose;
use protocol::units::{FlowRate, HOUR_MS, Volume, divided};

/// The encoder shows a motor command within this time; until then no other is given.
pub const SETTLE_MS: u64 = 200;
/// Groups of one pump stroke.
const GROUPS_A_STROKE: u64 = 10;
const MINUTE_MS: u64 = 60_000;
/// So much of the program may wait for a motor that is told too late; more is given up.
const LATE_MS: u64 = 2_000;

/// Counters since the trial began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// What program and granted boluses asked for.
    pub programmed: Volume,
    /// Of the encoder.
    pub encoder_counts: u64,
}

/// A bolus that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BolusOutcome {
    /// As granted.
    pub requested: Volume,
    /// Confirmed by the encoder.
    pub delivered: Volume,
    /// Whole, or interrupted.
    pub complete: bool,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Following {
    purpose: Purpose,
    rate: FlowRate,
    since_ms: u64,
    remainder: u64,
}

#[derive(Clone, Copy, Debug, Hash)]
struct BolusRun {
    requested: Volume,
    left: Volume,
    delivered: Volume,
    next_at: u64,
}

#[derive(Clone, Copy, Debug, Hash)]
struct InFlight {
    bolus: bool,
    volume: Volume,
    until: u64,
}

/// Why no more is commanded until a clinician says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next command would pass the limit of an hour, or of four.
    Limit,
    /// What was commanded before can no longer be read.
    Damaged,
}

/// The motor's side of delivery.
#[derive(Clone, Debug, Hash)]
pub struct Dose {
    calibration: Calibration,
    bolus_rate: FlowRate,
    counters: Counters,
    following: Option<Following>,
    owed: Volume,
    bolus: Option<BolusRun>,
    step_remainder: u64,
    in_flight: Option<InFlight>,
    encoder_seen: u64,
    hour: Commanded,
    four_hours: Commanded,
}

impl Dose {
    /// Stopped, counting from the encoder's present reading.
    pub fn new(
        calibration: Calibration,
        limits: &Limits,
        bolus_rate: FlowRate,
        encoder: u64,
    ) -> Self {
        let commanded = |most: Volume, cell_ms| {
            Commanded::new(microsteps(&calibration, most), &calibration, cell_ms)
        };
        Self {
            hour: commanded(limits.max_1h, MINUTE_MS),
            four_hours: commanded(limits.max_4h, 4 * MINUTE_MS),
            calibration,
            bolus_rate,
            counters: Counters::default(),
            following: None,
            owed: Volume::ZERO,
            bolus: None,
            step_remainder: 0,
            in_flight: None,
            encoder_seen: encoder,
        }
    }

    /// Goes on from the counters of before this start.
    pub fn go_on_from(&mut self, counters: Counters) {
        self.counters = counters;
    }

    /// Delivered before this start, for the limits.
    pub fn recall(&mut self, known_ms: u64, volume: Volume) {
        self.count(known_ms, microsteps(&self.calibration, volume));
    }

    fn count(&mut self, known_ms: u64, microsteps: u64) {
        self.hour.add(known_ms, microsteps);
        self.four_hours.add(known_ms, microsteps);
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Delivered since the trial began, cut to whole nanolitres.
    pub fn delivered(&self) -> Volume {
        let counts = u128::from(self.counters.encoder_counts);
        let stroke = u128::from(self.calibration.stroke.as_nanoliters());
        let (nl, _) = divided(counts * stroke, self.calibration.counts_per_stroke.into());
        Volume::from_nanoliters(u64::try_from(nl).unwrap_or(u64::MAX))
    }

    /// Turns of the mechanism since the trial began.
    pub fn strokes(&self) -> u64 {
        self.counters.encoder_counts / u64::from(self.calibration.counts_per_stroke.max(1))
    }

    /// What is infused now, and how fast.
    pub fn following(&self) -> Option<(Purpose, FlowRate)> {
        self.following.map(|f| (f.purpose, f.rate))
    }

    /// Whether a bolus is being given.
    pub fn giving_bolus(&self) -> bool {
        self.bolus.is_some()
    }

    /// Asked for and not yet confirmed.
    pub fn on_its_way(&self) -> Volume {
        let parts = [
            Some(self.owed),
            self.bolus.map(|b| b.left),
            self.in_flight.map(|f| f.volume),
        ];
        let sum = parts.into_iter().flatten().map(Volume::as_nanoliters).sum();
        Volume::from_nanoliters(sum)
    }

    /// From now on this rate.
    pub fn follow(&mut self, now_ms: u64, purpose: Purpose, rate: FlowRate) {
        self.accrue(now_ms);
        let remainder = self.following.map_or(0, |f| f.remainder);
        self.following = Some(Following {
            purpose,
            rate,
            since_ms: now_ms,
            remainder,
        });
    }

    /// No more commands. Gives the bolus that this interrupts.
    pub fn stop(&mut self, now_ms: u64) -> Option<BolusOutcome> {
        self.accrue(now_ms);
        self.following = None;
        self.owed = Volume::ZERO;
        self.bolus.take().map(|bolus| BolusOutcome {
            requested: bolus.requested,
            delivered: bolus.delivered,
            complete: false,
        })
    }

    /// No more commands, and nothing is said of what was: its numbers cannot be trusted.
    pub fn abandon(&mut self) {
        (self.following, self.bolus, self.in_flight) = (None, None, None);
        self.owed = Volume::ZERO;
    }

    /// A bolus begins, beside the rate.
    pub fn start_bolus(&mut self, now_ms: u64, volume: Volume) {
        self.accrue(now_ms);
        self.ask(volume);
        self.bolus = Some(BolusRun {
            requested: volume,
            left: volume,
            delivered: Volume::ZERO,
            next_at: now_ms,
        });
    }

    /// Integrates the program up to now.
    pub fn accrue(&mut self, now_ms: u64) {
        let Some(following) = &mut self.following else {
            return;
        };
        let ms = now_ms.saturating_sub(following.since_ms);
        let (volume, remainder) = following.rate.volume_in(ms, following.remainder);
        following.since_ms = following.since_ms.max(now_ms);
        following.remainder = remainder;
        self.owed = sum(self.owed, volume);
        self.ask(volume);
    }

    fn ask(&mut self, volume: Volume) {
        self.counters.programmed = sum(self.counters.programmed, volume);
    }

    /// Reads the encoder; gives what was delivered since the last reading.
    pub fn observe(&mut self, now_ms: u64, encoder: u64) -> Volume {
        let before = self.delivered();
        let counts = encoder.saturating_sub(self.encoder_seen);
        self.encoder_seen = encoder;
        self.counters.encoder_counts = self.counters.encoder_counts.saturating_add(counts);
        let delivered = self.delivered().saturating_sub(before);
        if let Some(flight) = self.in_flight {
            if let (true, Some(bolus)) = (flight.bolus, &mut self.bolus) {
                bolus.delivered = sum(bolus.delivered, delivered);
            }
            if flight.until <= now_ms {
                self.in_flight = None;
            }
        }
        delivered
    }

    /// When [`Self::step`] or [`Self::observe`] is next due.
    pub fn next_due(&self) -> Option<u64> {
        if let Some(flight) = self.in_flight {
            return Some(flight.until);
        }
        let bolus = self.bolus.filter(|b| b.left > Volume::ZERO);
        [bolus.map(|b| b.next_at), self.basal_due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn basal_due(&self) -> Option<u64> {
        let following = self.following.filter(|f| f.rate > FlowRate::ZERO)?;
        let missing = self.group().saturating_sub(self.owed).as_nanoliters();
        let exact = (missing * HOUR_MS).saturating_sub(following.remainder);
        let rate = u64::from(following.rate.as_nanoliters_per_hour());
        Some(following.since_ms.saturating_add(exact.div_ceil(rate)))
    }

    /// The microsteps to tell the motor now, where some are due. `known_ms` is the known time, for
    /// the limits.
    ///
    /// # Errors
    /// Where they would pass a limit; then nothing is to be told.
    pub fn step(&mut self, now_ms: u64, known_ms: u64) -> Result<Option<u32>, Fault> {
        self.accrue(now_ms);
        if self.in_flight.is_some() {
            return Ok(None);
        }
        self.give_up_what_is_late();
        let Some(microsteps) = self.due_now(now_ms) else {
            return Ok(None);
        };
        let commanded = u64::from(microsteps);
        let patient = !matches!(self.following(), Some((Purpose::Prime | Purpose::Purge, _)));
        if patient {
            self.hour.check(known_ms, commanded)?;
            self.four_hours.check(known_ms, commanded)?;
            self.count(known_ms, commanded);
        }
        Ok(Some(microsteps))
    }

    fn due_now(&mut self, now_ms: u64) -> Option<u32> {
        let group = self.group();
        let bolus = self.bolus.as_mut();
        if let Some(bolus) = bolus.filter(|b| b.left > Volume::ZERO && b.next_at <= now_ms) {
            let volume = group.min(bolus.left);
            bolus.left = bolus.left.saturating_sub(volume);
            let rate = u64::from(self.bolus_rate.as_nanoliters_per_hour().max(1));
            let pause = (volume.as_nanoliters() * HOUR_MS).div_ceil(rate);
            bolus.next_at = now_ms.saturating_add(pause);
            return Some(self.command(now_ms, volume, true));
        }
        if self.following.is_some() && self.owed >= group {
            self.owed = self.owed.saturating_sub(group);
            return Some(self.command(now_ms, group, false));
        }
        None
    }

    /// The bolus that is through: all of it told to the motor, and the encoder read after that.
    pub fn take_finished_bolus(&mut self) -> Option<BolusOutcome> {
        let bolus = self.bolus.filter(|b| b.left == Volume::ZERO)?;
        if self.in_flight.is_some() {
            return None;
        }
        self.bolus = None;
        // The encoder counts in steps of its own; a mechanism is allowed 6 % (CADD-Solis manual,
        // in `facts/firmware.md` §12). More than that missing is no whole bolus.
        let least = bolus.requested.as_nanoliters() / 100 * 94;
        Some(BolusOutcome {
            requested: bolus.requested,
            delivered: bolus.delivered,
            complete: bolus.delivered.as_nanoliters() >= least,
        })
    }

    fn group(&self) -> Volume {
        Volume::from_nanoliters((self.calibration.stroke.as_nanoliters() / GROUPS_A_STROKE).max(1))
    }

    fn give_up_what_is_late(&mut self) {
        let Some(following) = self.following else {
            return;
        };
        let (late, _) = following.rate.volume_in(LATE_MS, 0);
        let group = self.group();
        let most = sum(sum(group, group), late);
        if self.owed > most {
            self.owed = group;
        }
    }

    fn command(&mut self, now_ms: u64, volume: Volume, bolus: bool) -> u32 {
        let per_stroke = u64::from(self.calibration.microsteps_per_stroke);
        let exact = volume.as_nanoliters() * per_stroke + self.step_remainder;
        let stroke = self.calibration.stroke.as_nanoliters().max(1);
        self.step_remainder = exact % stroke;
        self.in_flight = Some(InFlight {
            bolus,
            volume,
            until: now_ms.saturating_add(SETTLE_MS),
        });
        u32::try_from(exact / stroke).unwrap_or(u32::MAX)
    }
}

/// The microsteps of a volume, rounded up.
fn microsteps(calibration: &Calibration, volume: Volume) -> u64 {
    let product =
        u128::from(volume.as_nanoliters()) * u128::from(calibration.microsteps_per_stroke);
    let (whole, left) = divided(product, calibration.stroke.as_nanoliters());
    let up = u64::from(left > 0);
    u64::try_from(whole).map_or(u64::MAX, |whole| whole.saturating_add(up))
}

/// Microsteps that were commanded, by parts of a span of known time: 60 and the one that is not
/// over. That one makes the span longer than it should be by up to a sixtieth, which the limit
/// allows for, and a stroke.
#[derive(Clone, Debug)]
struct Commanded {
    most: u64,
    cell_ms: u64,
    newest: u64,
    cells: [Coded; 61],
}

/// Its cells carry a code of their own.
impl core::hash::Hash for Commanded {
    fn hash<H: core::hash::Hasher>(&self, sum: &mut H) {
        (self.most, self.cell_ms, self.newest).hash(sum);
    }
}

impl Commanded {
    fn new(limit: u64, calibration: &Calibration, cell_ms: u64) -> Self {
        let stroke = u64::from(calibration.microsteps_per_stroke);
        Self {
            most: limit
                .saturating_add(limit.div_ceil(60))
                .saturating_add(stroke),
            cell_ms,
            newest: 0,
            cells: [Coded::ZERO; 61],
        }
    }

    fn turn_to(&mut self, known_ms: u64) {
        let now = known_ms / self.cell_ms;
        while self.newest < now {
            // After more than the whole span each cell was emptied once.
            self.newest = (self.newest + 1).max(now.saturating_sub(61));
            let place = usize::try_from(self.newest % 61).unwrap_or(0);
            if let Some(cell) = self.cells.get_mut(place) {
                *cell = Coded::ZERO;
            }
        }
    }

    /// Whether so many more are within the limit.
    fn check(&mut self, known_ms: u64, more: u64) -> Result<(), Fault> {
        self.turn_to(known_ms);
        let mut sum = more;
        for cell in &self.cells {
            sum = sum.saturating_add(u64::from(cell.get().ok_or(Fault::Damaged)?));
        }
        if sum > self.most {
            return Err(Fault::Limit);
        }
        Ok(())
    }

    fn add(&mut self, known_ms: u64, more: u64) {
        self.turn_to(known_ms);
        let place = usize::try_from(self.newest % 61).unwrap_or(0);
        if let Some(cell) = self.cells.get_mut(place)
            && let Some(before) = cell.get()
        {
            *cell = Coded::new(u64::from(before).saturating_add(more));
        }
    }
}

fn sum(a: Volume, b: Volume) -> Volume {
    a.checked_add(b)
        .unwrap_or(Volume::from_nanoliters(u64::MAX))
}

#[cfg(test)]
impl Dose {
    /// Copies of this, each with one bit of one field wrong, and the field's name. The patterns
    /// name all fields, so that a new one must be added here.
    pub(crate) fn flips(&self) -> Vec<(String, Self)> {
        use crate::seal::flip;
        type Change = fn(&mut Dose, u32);
        fn nl(v: &mut Volume, bit: u32) {
            *v = Volume::from_nanoliters(v.as_nanoliters() ^ (1 << bit));
        }
        fn rate(r: &mut FlowRate, bit: u32) {
            *r = FlowRate::from_nanoliters_per_hour(r.as_nanoliters_per_hour() ^ (1 << bit));
        }
        let Self {
            calibration:
                Calibration {
                    stroke: _,
                    microsteps_per_stroke: _,
                    counts_per_stroke: _,
                },
            bolus_rate: _,
            counters:
                Counters {
                    programmed: _,
                    encoder_counts: _,
                },
            following:
                Some(Following {
                    purpose: _,
                    rate: _,
                    since_ms: _,
                    remainder: _,
                }),
            owed: _,
            bolus:
                Some(BolusRun {
                    requested: _,
                    left: _,
                    delivered: _,
                    next_at: _,
                }),
            step_remainder: _,
            in_flight:
                Some(InFlight {
                    bolus: _,
                    volume: _,
                    until: _,
                }),
            encoder_seen: _,
            hour:
                Commanded {
                    most: _,
                    cell_ms: _,
                    newest: _,
                    cells: _,
                },
            four_hours: _,
        } = self
        else {
            panic!("all that can be under way is under way: {self:?}");
        };
        let fields: [(&str, u32, Change); 33] = [
            ("calibration.stroke", 64, |d, b| {
                nl(&mut d.calibration.stroke, b);
            }),
            ("calibration.microsteps", 32, |d, b| {
                d.calibration.microsteps_per_stroke ^= 1 << b;
            }),
            ("calibration.counts", 32, |d, b| {
                d.calibration.counts_per_stroke ^= 1 << b;
            }),
            ("bolus_rate", 32, |d, b| rate(&mut d.bolus_rate, b)),
            ("programmed", 64, |d, b| nl(&mut d.counters.programmed, b)),
            ("encoder_counts", 64, |d, b| {
                d.counters.encoder_counts ^= 1 << b;
            }),
            ("following none", 1, |d, _| d.following = None),
            ("following.purpose", 1, |d, _| {
                d.following.as_mut().unwrap().purpose = Purpose::Prime;
            }),
            ("following.rate", 32, |d, b| {
                rate(&mut d.following.as_mut().unwrap().rate, b);
            }),
            ("following.since", 64, |d, b| {
                d.following.as_mut().unwrap().since_ms ^= 1 << b;
            }),
            ("following.remainder", 64, |d, b| {
                d.following.as_mut().unwrap().remainder ^= 1 << b;
            }),
            ("owed", 64, |d, b| nl(&mut d.owed, b)),
            ("bolus none", 1, |d, _| d.bolus = None),
            ("bolus.requested", 64, |d, b| {
                nl(&mut d.bolus.as_mut().unwrap().requested, b);
            }),
            ("bolus.left", 64, |d, b| {
                nl(&mut d.bolus.as_mut().unwrap().left, b);
            }),
            ("bolus.delivered", 64, |d, b| {
                nl(&mut d.bolus.as_mut().unwrap().delivered, b);
            }),
            ("bolus.next_at", 64, |d, b| {
                d.bolus.as_mut().unwrap().next_at ^= 1 << b;
            }),
            ("step_remainder", 64, |d, b| d.step_remainder ^= 1 << b),
            ("in_flight none", 1, |d, _| d.in_flight = None),
            ("in_flight.bolus", 1, |d, _| {
                d.in_flight.as_mut().unwrap().bolus ^= true;
            }),
            ("in_flight.volume", 64, |d, b| {
                nl(&mut d.in_flight.as_mut().unwrap().volume, b);
            }),
            ("in_flight.until", 64, |d, b| {
                d.in_flight.as_mut().unwrap().until ^= 1 << b;
            }),
            ("encoder_seen", 64, |d, b| d.encoder_seen ^= 1 << b),
            ("hour.most", 64, |d, b| d.hour.most ^= 1 << b),
            ("hour.cell_ms", 64, |d, b| d.hour.cell_ms ^= 1 << b),
            ("hour.newest", 64, |d, b| d.hour.newest ^= 1 << b),
            ("hour.cells", 61, |d, b| flip(&mut d.hour.cells, b)),
            ("hour.cells again", 61, |d, b| {
                flip(&mut d.hour.cells, b + 61);
            }),
            ("four_hours.most", 64, |d, b| d.four_hours.most ^= 1 << b),
            ("four_hours.cell_ms", 64, |d, b| {
                d.four_hours.cell_ms ^= 1 << b;
            }),
            ("four_hours.newest", 64, |d, b| {
                d.four_hours.newest ^= 1 << b;
            }),
            ("four_hours.cells", 61, |d, b| {
                flip(&mut d.four_hours.cells, b);
            }),
            ("four_hours.cells again", 61, |d, b| {
                flip(&mut d.four_hours.cells, b + 61);
            }),
        ];
        let mut out = Vec::new();
        for (name, bits, change) in fields {
            for bit in 0..bits {
                let mut copy = self.clone();
                change(&mut copy, bit);
                out.push((format!("dose {name}, bit {bit}"), copy));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDE: Limits = Limits {
        bolus: Volume::from_nanoliters(1_000_000),
        lockout_ms: 0,
        max_1h: Volume::from_nanoliters(100_000_000),
        max_4h: Volume::from_nanoliters(100_000_000),
        max_24h: Volume::from_nanoliters(100_000_000),
    };

    fn nl(nl: u64) -> Volume {
        Volume::from_nanoliters(nl)
    }

    fn dose() -> Dose {
        let rate = FlowRate::from_nanoliters_per_hour(6_000_000);
        Dose::new(Calibration::default(), &WIDE, rate, 0)
    }

    /// Runs the motor ideally until `end_ms`; gives the microsteps told.
    fn run(dose: &mut Dose, encoder: &mut u64, end_ms: u64) -> u64 {
        let (mut steps, mut told) = (*encoder * 4, 0);
        while let Some(at) = dose.next_due().filter(|at| *at <= end_ms) {
            dose.observe(at, *encoder);
            if let Some(more) = dose.step(at, at).unwrap() {
                steps += u64::from(more);
                told += u64::from(more);
                *encoder = steps / 4;
            }
        }
        told
    }

    #[test]
    fn a_whole_day_is_delivered_to_within_one_group() {
        let (mut dose, mut encoder) = (dose(), 0);
        dose.follow(
            0,
            Purpose::Therapy,
            FlowRate::from_nanoliters_per_hour(417_331),
        );
        run(&mut dose, &mut encoder, 86_400_000);
        dose.accrue(86_400_000);
        assert_eq!(dose.counters().programmed, nl(417_331 * 24));
        let missing = dose.counters().programmed.as_nanoliters() - dose.delivered().as_nanoliters();
        assert!(missing <= 5_000 + 63, "{missing}");
    }

    #[test]
    fn a_bolus_is_told_apart_from_the_basal_flow_beside_it() {
        let (mut dose, mut encoder) = (dose(), 0);
        dose.follow(
            0,
            Purpose::Therapy,
            FlowRate::from_nanoliters_per_hour(2_000_000),
        );
        run(&mut dose, &mut encoder, 9_100);
        dose.start_bolus(9_100, nl(50_000));
        let mut ended = None;
        while let Some(at) = dose.next_due().filter(|at| *at <= 120_000) {
            dose.observe(at, encoder);
            ended = ended.or(dose.take_finished_bolus());
            if let Some(more) = dose.step(at, at).unwrap() {
                encoder += u64::from(more) / 4;
            }
        }
        let wanted = BolusOutcome {
            requested: nl(50_000),
            delivered: nl(50_000),
            complete: true,
        };
        assert_eq!(ended, Some(wanted));
    }

    #[test]
    fn a_program_that_was_not_served_in_time_is_not_made_up_for() {
        let (mut dose, mut encoder) = (dose(), 0);
        dose.follow(
            0,
            Purpose::Therapy,
            FlowRate::from_nanoliters_per_hour(1_000_000),
        );
        dose.observe(3_600_000, 0);
        let told = dose.step(3_600_000, 3_600_000).unwrap().unwrap();
        encoder += u64::from(told) / 4;
        assert_eq!(told, 320);
        assert!(run(&mut dose, &mut encoder, 3_601_000) <= 320);
        dose.accrue(3_601_000);
        assert_eq!(dose.counters().programmed, nl(1_000_277));
    }

    #[test]
    fn the_limits_of_an_hour_and_of_four_stop_the_motor_by_its_steps_alone() {
        let narrow = Limits {
            max_1h: nl(700_000),
            max_4h: nl(2_400_000),
            ..WIDE
        };
        // Twice the hour's limit; then a rate that only four hours forbid. The encoder shows nothing.
        for (rate, most) in [(1_400_000, 700_000), (690_000, 2_400_000)] {
            let bolus_rate = FlowRate::from_nanoliters_per_hour(6_000_000);
            let mut dose = Dose::new(Calibration::default(), &narrow, bolus_rate, 0);
            dose.follow(
                0,
                Purpose::Therapy,
                FlowRate::from_nanoliters_per_hour(rate),
            );
            let mut told = 0;
            let stopped = loop {
                let at = dose.next_due().unwrap();
                assert!(at < 5 * HOUR_MS, "{rate}");
                dose.observe(at, 0);
                match dose.step(at, at) {
                    Ok(more) => told += u64::from(more.unwrap_or(0)),
                    Err(fault) => break fault,
                }
            };
            assert_eq!(stopped, Fault::Limit);
            let given = told * 50_000 / 3_200;
            assert!((most..=most * 61 / 60 + 55_000).contains(&given), "{given}");
        }
    }

    #[test]
    fn a_program_at_its_limit_for_a_day_is_left_alone() {
        let narrow = Limits {
            max_1h: nl(6_000_000),
            max_4h: nl(24_000_000),
            ..WIDE
        };
        let bolus_rate = FlowRate::from_nanoliters_per_hour(6_000_000);
        let mut dose = Dose::new(Calibration::default(), &narrow, bolus_rate, 0);
        dose.follow(
            0,
            Purpose::Therapy,
            FlowRate::from_nanoliters_per_hour(6_000_000),
        );
        let mut encoder = 0;
        run(&mut dose, &mut encoder, 24 * HOUR_MS);
        assert!(encoder > 24 * 6_000_000 / 50_000 * 800 - 160, "{encoder}");
    }

    proptest! {
        #[test]
        fn what_is_reported_adds_up_to_the_counter(
            rates in proptest::collection::vec((0u32..3_000_000, 1u64..900_000), 1..30),
            slip in 1u64..9,
        ) {
            let mut dose = dose();
            let (mut now, mut encoder, mut reported) = (0, 0u64, 0);
            for (rate, ms) in rates {
                dose.follow(now, Purpose::Therapy, FlowRate::from_nanoliters_per_hour(rate));
                while let Some(at) = dose.next_due().filter(|at| *at <= now + ms) {
                    reported += dose.observe(at, encoder).as_nanoliters();
                    if let Some(more) = dose.step(at, at).unwrap() {
                        encoder += u64::from(more) / 4 * slip / 7;
                    }
                }
                now += ms;
                dose.stop(now);
                reported += dose.observe(now, encoder).as_nanoliters();
            }
            prop_assert_eq!(reported, dose.delivered().as_nanoliters());
            prop_assert_eq!(reported, encoder * 125 / 2);
        }
    }
}
