//! Whether the mechanism does what the motor is told, step by step.
//!
//! The supervisor compares volumes over many strokes and knows nothing of the motor; at
//! intrathecal rates a stroke takes half an hour. Here each command is held against the encoder:
//! half a group of steps too far is known at the next reading, half a group missing for
//! [`PATIENCE_MS`] within the next command. Nothing here shares state with [`crate::supervisor`].

use crate::provision::Calibration;

/// What is missing may come so late, milliseconds, before it counts as missing.
pub const PATIENCE_MS: u64 = 30_000;
/// Groups of one pump stroke, as [`crate::dose`] commands them.
const GROUPS_A_STROKE: i64 = 10;
/// Of what was told since, that much must be seen before a mechanism counts as sound again.
const SOUND_PERCENT: i64 = 90;

/// What a reading showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Nothing new.
    AsTold,
    /// Further than it was told.
    TooFar,
    /// Less than it was told, for too long.
    TooLittle,
    /// As told again, after [`Moved::TooLittle`].
    Again,
}

/// The motor's commands against the encoder, in counts.
#[derive(Clone, Debug, Hash)]
pub struct Motion {
    counts_per_stroke: u64,
    microsteps_per_stroke: u64,
    group: i64,
    remainder: u64,
    encoder_before: u64,
    /// Seen beyond what was told; what is missing is remembered for two groups.
    ahead: i64,
    active: bool,
    short_since: Option<u64>,
    short: bool,
    told_since: i64,
    seen_since: i64,
}

impl Motion {
    /// At rest, with the encoder's present reading.
    pub fn new(calibration: &Calibration, encoder: u64) -> Self {
        let counts = i64::from(calibration.counts_per_stroke.max(1));
        Self {
            counts_per_stroke: u64::from(calibration.counts_per_stroke.max(1)),
            microsteps_per_stroke: u64::from(calibration.microsteps_per_stroke.max(1)),
            group: (counts / GROUPS_A_STROKE).max(2),
            remainder: 0,
            encoder_before: encoder,
            ahead: 0,
            active: false,
            short_since: None,
            short: false,
            told_since: 0,
            seen_since: 0,
        }
    }

    /// The motor was told to go on by so many microsteps.
    pub fn tell(&mut self, microsteps: u32) {
        if !core::mem::replace(&mut self.active, true) {
            // What was missing when it last stopped is long past.
            self.ahead = self.ahead.max(0);
        }
        let exact = u64::from(microsteps) * self.counts_per_stroke + self.remainder;
        self.remainder = exact % self.microsteps_per_stroke;
        let counts = i64::try_from(exact / self.microsteps_per_stroke).unwrap_or(i64::MAX);
        self.ahead = self.ahead.saturating_sub(counts).max(-2 * self.group);
        self.told_since = self.told_since.saturating_add(counts);
    }

    /// The motor is told nothing more; what is on its way still arrives.
    pub fn rest(&mut self) {
        (self.active, self.short_since, self.short) = (false, None, false);
    }

    /// Reads the encoder.
    pub fn observe(&mut self, tick_ms: u64, encoder: u64) -> Moved {
        let counts = encoder.saturating_sub(self.encoder_before);
        self.encoder_before = encoder;
        let counts = i64::try_from(counts).unwrap_or(i64::MAX);
        self.ahead = self.ahead.saturating_add(counts);
        self.seen_since = self.seen_since.saturating_add(counts);
        if self.ahead > self.group / 2 {
            self.ahead = 0;
            return Moved::TooFar;
        }
        if self.short {
            return self.look_for_the_end();
        }
        if !self.active || self.ahead >= -(self.group / 2) {
            self.short_since = None;
            return Moved::AsTold;
        }
        let since = *self.short_since.get_or_insert(tick_ms);
        if tick_ms < since.saturating_add(PATIENCE_MS) {
            return Moved::AsTold;
        }
        self.short_since = None;
        self.begin_trial(true);
        Moved::TooLittle
    }

    /// Two groups that come back as told end it.
    fn look_for_the_end(&mut self) -> Moved {
        if self.told_since < 2 * self.group {
            return Moved::AsTold;
        }
        let sound =
            self.seen_since.saturating_mul(100) >= self.told_since.saturating_mul(SOUND_PERCENT);
        if sound {
            self.begin_trial(false);
            Moved::Again
        } else if self.told_since >= 3 * self.group {
            self.begin_trial(true);
            Moved::AsTold
        } else {
            Moved::AsTold
        }
    }

    fn begin_trial(&mut self, short: bool) {
        self.short = short;
        (self.ahead, self.told_since, self.seen_since) = (0, 0, 0);
    }

    /// When [`Self::observe`] is due, where nothing else reads the encoder before.
    pub fn next_due(&self) -> Option<u64> {
        self.short_since.map(|at| at.saturating_add(PATIENCE_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands of one group each, `every` milliseconds, and what the encoder makes of a group.
    /// Gives the first finding and its time.
    fn run(groups: u64, every: u64, seen: impl Fn(u64) -> u64) -> Option<(u64, Moved)> {
        let mut motion = Motion::new(&Calibration::default(), 0);
        let mut encoder = 0;
        for group in 0..groups {
            let at = group * every;
            motion.tell(320);
            encoder += seen(group);
            for later in [200, 30_200, every - 1] {
                let moved = motion.observe(at + later, encoder);
                if moved != Moved::AsTold {
                    return Some((at + later, moved));
                }
            }
        }
        None
    }

    #[test]
    fn a_sound_mechanism_is_left_alone_and_so_is_one_of_a_few_percent() {
        assert_eq!(run(10_000, 225_000, |_| 80), None);
        // The encoder cuts to whole counts: one more here, one less there.
        assert_eq!(run(10_000, 225_000, |i| 80 + i % 2 * 2 - 1), None);
    }

    #[test]
    fn one_group_too_far_is_known_at_once_and_one_missing_within_half_a_minute() {
        assert_eq!(run(9, 225_000, |_| 240), Some((200, Moved::TooFar)));
        assert_eq!(run(9, 225_000, |_| 120), Some((225_200, Moved::TooFar)));
        assert_eq!(run(9, 225_000, |_| 0), Some((30_200, Moved::TooLittle)));
    }

    #[test]
    fn what_nobody_told_the_motor_is_too_far_also_at_rest() {
        let mut motion = Motion::new(&Calibration::default(), 5_000);
        assert_eq!(motion.observe(10, 5_040), Moved::AsTold);
        assert_eq!(motion.observe(20, 5_041), Moved::TooFar);
    }

    #[test]
    fn what_arrives_after_the_last_command_is_not_too_far() {
        let mut motion = Motion::new(&Calibration::default(), 0);
        motion.tell(320);
        motion.rest();
        assert_eq!(motion.observe(200, 80), Moved::AsTold);
        // A command that never arrived does not excuse what runs by itself later.
        motion.tell(320);
        motion.rest();
        motion.tell(320);
        assert_eq!(motion.observe(400_000, 80 + 121), Moved::TooFar);
    }

    #[test]
    fn two_sound_groups_end_it_and_one_that_slips_again_does_not() {
        let mut motion = Motion::new(&Calibration::default(), 0);
        let mut encoder = 0;
        let mut seen = Vec::new();
        for (group, counts) in [0, 0, 80, 20, 80, 20, 80, 80, 80].into_iter().enumerate() {
            let at = u64::try_from(group).unwrap() * 225_000;
            motion.tell(320);
            encoder += counts;
            for later in [200, 30_200] {
                let moved = motion.observe(at + later, encoder);
                if moved != Moved::AsTold {
                    seen.push((group, moved));
                }
            }
        }
        assert_eq!(seen, [(0, Moved::TooLittle), (8, Moved::Again)]);
    }
}
